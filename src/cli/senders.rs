//! The configured sources as the webhook listener has to know them: how each one's deliveries are checked.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::app::App;
use crate::clock::SharedClock;
use crate::config::{Config, SourceConfig};
use crate::error::{Class, Error, Result};
use crate::ingest::signature::{
    SenderCheck, Trust, check_secret, custom_check, own_account, provider_check, read_key_answer,
};
use crate::model::Provider;
use crate::model::api::{ApiRequest, Credentials, Method};
use crate::server::keys::{FetchKeys, KeyRing};
use crate::server::webhook::{WebhookSource, usual_body_limit_bytes};
use crate::source::Source;
use crate::source::http::{HttpSettings, HttpSource};

/// All sources by name.
///
/// # Errors
/// `invalid`, naming the setting: see [`provider_check`].
pub(crate) fn webhook_sources(
    config: &Config,
    clock: &SharedClock,
) -> Result<HashMap<String, WebhookSource>> {
    let mut fetch = None;
    let mut sources = HashMap::new();
    for (name, (provider, source)) in config.resolved_sources() {
        let check = check(&name, provider, &source, may_be_open(config))?;
        let event_rate = source.event_rate;
        let key_url = check.key_url().map(str::to_owned);
        let usual = usual_body_limit_bytes(provider);
        let max_body = source.max_body.map(|limit| limit.0.try_into());
        let mut source = WebhookSource::new(source.adapter(provider), check)
            .with_accounts(trust(provider, &source).account)
            .with_body_limit(max_body.and_then(|limit| limit.ok()).unwrap_or(usual));
        if let Some(url) = key_url {
            let fetch = match &fetch {
                Some(fetch) => Arc::clone(fetch),
                None => Arc::clone(fetch.insert(key_fetcher(config, clock)?)),
            };
            source = source.with_keys(Arc::new(KeyRing::new(url, fetch)));
        }
        if let Some(per_second) = event_rate {
            source = source.with_event_rate(per_second);
        }
        sources.insert(name, source);
    }
    Ok(sources)
}

/// Whether sources may do without secrets: with no configuration at all, while nobody else reaches the listener.
pub(super) fn may_be_open(config: &Config) -> bool {
    config.sources.is_empty() && config.listen.ip().is_loopback()
}

/// What `run` tells at its start: who is let in without proof, and what would be lost of each event.
pub(super) fn warnings(config: &Config, sources: &HashMap<String, WebhookSource>) -> Vec<String> {
    let listen = config.listen;
    let mut warnings = Vec::new();
    let mut names: Vec<_> = sources.keys().map(String::as_str).collect();
    names.sort_unstable();
    if config.sources.is_empty() && sources.values().any(WebhookSource::is_open) {
        let names = names.join(", ");
        warnings.push(format!(
            "no source is configured: {names} take events from every program on this machine, without a secret; \
             configure [sources.NAME] before anything else reaches {listen}"
        ));
    }
    for (name, (provider, source)) in config.resolved_sources() {
        let Some(known) = sources.get(&name) else {
            continue;
        };
        if known.is_open() && source.insecure {
            warnings.push(format!(
                "sources.{name}.insecure is true: whoever reaches {listen} can post events to it"
            ));
        }
        let is_configured = config.sources.contains_key(&name);
        if provider == Provider::Daily && source.api_key.is_none() && is_configured {
            warnings.push(format!(
                "sources.{name}.api_key is missing: Daily's events hold no URLs, so nothing of them can be archived"
            ));
        }
        let types = source.definition().map(|found| found.types_without_id());
        let types = types.unwrap_or_default().join(", ");
        if !types.is_empty() {
            warnings.push(format!(
                "sources.{name}: the definition names no id for the files of {types}, so path and query tell them apart: a \
                 query that is no signature and changes with each event makes another file of the same one; set \
                 artifacts.id"
            ));
        }
        let has_secret = source.header.is_some() && !source.secrets.is_empty();
        let trust = trust(provider, &source);
        if trust.public_key.is_some() && trust.account.is_empty() && !has_secret {
            warnings.push(format!(
                "sources.{name}: {provider} signs the events of all its customers with one key, so theirs are taken for \
                 yours; set sources.{name}.account to your organization's id"
            ));
        }
    }
    let admin = &config.admin;
    if admin.token.is_some() && !admin.listen.ip().is_loopback() {
        warnings.push(format!(
            "admin.token goes over plain http to {}: put TLS before it, or listen on loopback",
            admin.listen
        ));
    }
    warnings
}

/// How the deliveries of the source called `name` are checked.
///
/// # Errors
/// As [`webhook_sources`]; also for a secret that can be guessed.
pub(super) fn check(
    name: &str,
    provider: Provider,
    source: &SourceConfig,
    may_be_open: bool,
) -> Result<SenderCheck> {
    let trust = trust(provider, source);
    // Where everybody is let in anyway, a short one of a test system costs nothing.
    for secret in trust.secrets.iter().filter(|_| !trust.insecure) {
        check_secret(&format!("sources.{name}.secrets"), secret)?;
    }
    match source.definition() {
        Some(definition) => custom_check(name, &definition.scheme, &trust, may_be_open),
        None => provider_check(name, provider, &trust, may_be_open),
    }
}

/// Tries a provider's well-known address once.
///
/// # Errors
/// As the fetch and [`read_key_answer`].
pub(super) async fn try_keys(config: &Config, clock: &SharedClock, url: &str) -> Result<()> {
    let answer = key_fetcher(config, clock)?.fetch(url).await?;
    read_key_answer(&answer).map(drop)
}

fn trust(provider: Provider, source: &SourceConfig) -> Trust {
    let credentials = Credentials {
        api_key: source.api_key.clone(),
        api_secret: source.api_secret.clone(),
        base_url: None,
    };
    let account = match source.account.is_empty() {
        true => own_account(provider, &credentials).into_iter().collect(),
        false => source.account.clone(),
    };
    Trust {
        account,
        secrets: source.secrets.clone(),
        header: source.header.clone(),
        public_key: source.public_key.clone(),
        allow_senders: source.allow_senders.clone(),
        insecure: source.insecure,
    }
}

/// Fetches public keys through the guard, like everything that is fetched.
fn key_fetcher(config: &Config, clock: &SharedClock) -> Result<Arc<dyn FetchKeys>> {
    let settings = HttpSettings {
        clock: Arc::clone(clock),
        ..HttpSettings::default()
    };
    let source = HttpSource::new(Arc::new(App::guard(config, &[])), settings)?;
    Ok(Arc::new(GuardedFetch(source)))
}

struct GuardedFetch(HttpSource);

#[async_trait]
impl FetchKeys for GuardedFetch {
    async fn fetch(&self, url: &str) -> Result<Bytes> {
        let request = ApiRequest {
            method: Method::Get,
            url: url.to_owned(),
            headers: Vec::new(),
            body: None,
        };
        let answer = self.0.call(&request).await?;
        match answer.status {
            200 => Ok(answer.body),
            status => Err(Error::transient(
                Class::Unreachable,
                format!("fetch the provider's public key: it answered {status}"),
            )),
        }
    }
}
