//! What the configuration of a source must hold beyond its types.

use secrecy::ExposeSecret;

use super::faults::Faults;
use super::{SourceConfig, definition};
use crate::ingest::list;
use crate::model::Provider;

/// Less holds no event.
const MIN_BODY_BYTES: u64 = 1024;

/// Half of the memory that is there for bodies.
const MAX_BODY_BYTES: u64 = 32 << 20;

/// What is wrong with one source.
pub(super) fn validate_source(name: &str, source: &SourceConfig, found: &mut Faults) {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    if name.is_empty() || name.len() > 64 || !name.chars().all(is_plain) {
        found.add(format!(
            "sources.{}: a source's name has 1 to 64 letters, digits, dashes and underscores",
            name.escape_debug()
        ));
        return;
    }
    if let Err(error) = definition::validate(name, source) {
        found.add_error(Some(error));
        return;
    }
    let provider = source.provider_under(name);
    if provider.is_none_or(|provider| provider == Provider::Adhoc) {
        found.add(format!(
            "sources.{name}.provider is missing: one of 100ms, meetingbaas, daily, dyte, realtimekit, or custom with a definition"
        ));
        return;
    }
    if source
        .secrets
        .iter()
        .any(|secret| secret.expose_secret().is_empty())
    {
        found.add(format!("sources.{name}.secrets holds an empty secret"));
    }
    if let Some(header) = &source.header {
        if http::HeaderName::try_from(header.as_str()).is_err() {
            found.add(format!(
                "sources.{name}.header is no name of an HTTP header"
            ));
        }
        if source.secrets.is_empty() {
            found.add(format!(
                "sources.{name}.secrets is missing: sources.{name}.header is to carry one of them"
            ));
        }
    }
    if source
        .max_body
        .is_some_and(|limit| !(MIN_BODY_BYTES..=MAX_BODY_BYTES).contains(&limit.0))
    {
        found.add(format!(
            "sources.{name}.max_body must be from 1 KiB to 32 MiB"
        ));
    }
    let signs_for_all = matches!(provider, Some(Provider::Dyte | Provider::RealtimeKit));
    if !source.account.is_empty() && !signs_for_all {
        found.add(format!(
            "sources.{name}.account is for dyte and realtimekit, whose events name it: remove it"
        ));
    }
    if let Some(url) = &source.base_url {
        validate_http_url(&format!("sources.{name}.base_url"), url, found);
    }
    if source
        .api_rate
        .is_some_and(|rate| !(1..=10_000).contains(&rate))
    {
        found.add(format!(
            "sources.{name}.api_rate must be from 1 to 10000 calls a second"
        ));
    }
    if source
        .event_rate
        .is_some_and(|rate| !(1..=100_000).contains(&rate))
    {
        found.add(format!(
            "sources.{name}.event_rate must be from 1 to 100000 deliveries a second"
        ));
    }
    let has_list = provider.is_none_or(|provider| !list::lists(provider).is_empty());
    if source.reconcile.is_some() && !has_list {
        found.add(format!(
            "sources.{name}.reconcile is set, and its provider has no list that could be asked: remove it"
        ));
    }
    if source.reconcile.is_some() && source.api_key.is_none() {
        found.add(format!(
            "sources.{name}.reconcile is set: set sources.{name}.api_key as well"
        ));
    }
    for host in &source.allow_hosts {
        let plain = host.strip_prefix("*.").unwrap_or(host);
        if plain.is_empty() || plain.contains(['*', '/', ':', '@', '?']) {
            found.add(format!(
                "sources.{name}.allow_hosts: `{}` is neither a host nor `*.` and a domain",
                host.escape_debug()
            ));
        }
    }
}

/// What is wrong with the URL of a server.
pub(super) fn validate_http_url(key: &str, text: &str, found: &mut Faults) {
    let is_right = url::Url::parse(text).is_ok_and(|url| {
        let is_plain = url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        is_plain && matches!(url.scheme(), "http" | "https") && url.has_host()
    });
    if !is_right {
        // Not repeated in the message: somebody may have put a password in it.
        found.add(format!(
            "{key} must be an http or https URL without user, query or fragment"
        ));
    }
}
