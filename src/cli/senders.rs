//! The configured sources as the webhook listener has to know them: how each one's deliveries are checked.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::wire::House;
use crate::clock::SharedClock;
use crate::config::{Config, SourceConfig};
use crate::error::{Class, Error, Result};
use crate::ingest::signature::{Check, Trust, custom_check, provider_check, read_key_answer};
use crate::model::Provider;
use crate::model::api::{ApiRequest, Method};
use crate::server::keys::{FetchKeys, KeyRing};
use crate::server::webhook::WebhookSource;
use crate::source::Source;
use crate::source::http::{HttpSettings, HttpSource};

/// All sources by name. `is_loopback` says whether only this machine can reach the listener.
///
/// # Errors
/// `invalid`, naming the setting: see [`provider_check`].
pub(super) fn webhook_sources(
    config: &Config,
    clock: &SharedClock,
    is_loopback: bool,
) -> Result<HashMap<String, WebhookSource>> {
    let mut fetch = None;
    let mut sources = HashMap::new();
    for (name, (provider, source)) in config.resolved_sources() {
        let check = check(&name, provider, &source, is_loopback)?;
        let event_rate = source.event_rate;
        let key_url = check.key_url().map(str::to_owned);
        let mut source = WebhookSource::new(source.adapter(provider), check);
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

/// How the deliveries of the source called `name` are checked.
///
/// # Errors
/// As [`webhook_sources`].
pub(super) fn check(
    name: &str,
    provider: Provider,
    source: &SourceConfig,
    is_loopback: bool,
) -> Result<Check> {
    let trust = trust(source);
    match source.definition() {
        Some(definition) => custom_check(name, &definition.scheme, &trust, is_loopback),
        None => provider_check(name, provider, &trust, is_loopback),
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

fn trust(source: &SourceConfig) -> Trust {
    Trust {
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
    let source = HttpSource::new(Arc::new(House::guard(config, &[])), settings)?;
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
