//! A provider's public keys, fetched from its well-known address when they are needed and kept.
//!
//! A delivery waits for them, so a fetch is short, is done once for all that wait, and is not repeated
//! for every forgery that somebody sends.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Semaphore;

use crate::error::{Error, Result};
use crate::ingest::signature::{PublicKey, read_key_answer};

/// Below the patience of the providers, who wait 3 s for an answer.
const FETCH_TIMEOUT: Duration = Duration::from_secs(2);

/// Between fetches while there is a key: rotations are rare, forgeries may not be.
const RENEW_AFTER: SignedDuration = SignedDuration::from_mins(5);

/// Between fetches while there is none, and after one that failed.
const RETRY_AFTER: SignedDuration = SignedDuration::from_secs(10);

/// Gets the answer of a provider's well-known address.
#[async_trait]
pub trait FetchKeys: Send + Sync + 'static {
    /// GET, without redirects; the body of a 200.
    async fn fetch(&self, url: &str) -> Result<Bytes>;
}

/// The keys of one provider.
pub struct KeyRing {
    url: String,
    fetcher: Arc<dyn FetchKeys>,
    known: Mutex<CachedKeys>,
    one_at_a_time: Semaphore,
}

#[derive(Default)]
struct CachedKeys {
    keys: Option<Arc<[PublicKey]>>,
    asked_at: Option<Timestamp>,
    /// Whether the last fetch brought nothing.
    has_failed: bool,
}

impl CachedKeys {
    fn is_asked_enough(&self, now: Timestamp) -> bool {
        let is_settled = self.keys.is_some() && !self.has_failed;
        let pause = if is_settled { RENEW_AFTER } else { RETRY_AFTER };
        self.asked_at
            .is_some_and(|at| now.duration_since(at) < pause)
    }
}

/// What a look for other keys brought.
#[derive(Clone, Debug)]
pub enum Renewal {
    /// Other keys.
    Fresh(Arc<[PublicKey]>),
    /// The same, now or a short while ago.
    Same,
    /// Nothing: whether there are others can't be known now.
    Failed,
}

impl KeyRing {
    /// The keys at `url`.
    pub fn new(url: impl Into<String>, fetcher: Arc<dyn FetchKeys>) -> KeyRing {
        KeyRing {
            url: url.into(),
            fetcher,
            known: Mutex::default(),
            one_at_a_time: Semaphore::new(1),
        }
    }

    /// The keys, fetched if there are none yet; `None` when they can't be had now.
    pub async fn current(&self, now: Timestamp) -> Option<Arc<[PublicKey]>> {
        if let Some(keys) = self.known().keys.clone() {
            return Some(keys);
        }
        self.fetch(now).await;
        self.known().keys.clone()
    }

    /// Looks for other keys than those that were `tried`, unless that was done a short while ago.
    pub async fn renewed(&self, tried: &Arc<[PublicKey]>, now: Timestamp) -> Renewal {
        self.fetch(now).await;
        let known = self.known();
        match &known.keys {
            // Another delivery may have brought them since.
            Some(keys) if keys != tried => Renewal::Fresh(Arc::clone(keys)),
            _ if known.has_failed => Renewal::Failed,
            _ => Renewal::Same,
        }
    }

    async fn fetch(&self, now: Timestamp) {
        let Ok(_turn) = self.one_at_a_time.acquire().await else {
            return;
        };
        {
            let mut known = self.known();
            // Who waited for the turn finds what the one before has fetched.
            if known.is_asked_enough(now) {
                return;
            }
            known.asked_at = Some(now);
        }
        let asked = self.ask().await;
        let mut known = self.known();
        known.has_failed = asked.is_err();
        match asked {
            Ok(keys) => known.keys = Some(keys.into()),
            Err(error) => {
                tracing::warn!(url = self.url, error = %error.full_message(), "can't fetch the provider's public key");
            }
        }
    }

    async fn ask(&self) -> Result<Vec<PublicKey>> {
        let answer = tokio::time::timeout(FETCH_TIMEOUT, self.fetcher.fetch(&self.url))
            .await
            .map_err(|_| Error::internal(format!("get an answer within {FETCH_TIMEOUT:?}")))??;
        read_key_answer(&answer)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, CachedKeys> {
        // Nothing that holds the lock can leave it half-written.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing").field("url", &self.url).finish()
    }
}
