//! A configured source, as the webhook listener has to know it.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::Notify;

use super::keys::{KeyRing, Renewal};
use super::rate::{DEFAULT_EVENT_RATE, EventRate};
use super::rejection::Rejection;
use super::streak::Streak;
use super::told::Seldom;
use crate::ingest::signature::{SenderCheck, SenderProof, SenderRefusal, UnprovenDelivery};
use crate::ingest::{Adapter, calls_for_a_walk};
use crate::model::{Event, Provider};

/// The largest body of a provider's events, unless the configuration says otherwise. An event is some kilobytes; those
/// of MeetingBaaS v1 hold the transcript, with times for every word: some 100 bytes each, so that these are ten hours.
pub fn usual_body_limit_bytes(provider: Provider) -> usize {
    match provider {
        Provider::MeetingBaas => 8 << 20,
        _ => 1 << 20,
    }
}

/// What a tree of an event may take, for each byte that its source's bodies may have. A few hundred bytes of JSON with
/// its names take three times as much; the words of a transcript, each an object, up to fourteen times.
const TREE_BYTES_PER_BYTE: usize = 16;

/// A configured source, as the listener has to know it.
#[derive(Clone, Debug)]
pub struct WebhookSource {
    pub(super) adapter: Adapter,
    pub(super) check: SenderCheck,
    pub(super) body_limit_bytes: usize,
    pub(super) streak: Arc<Streak>,
    pub(super) told: Arc<Seldom>,
    pub(super) rate: Arc<EventRate>,
    keys: Option<Arc<KeyRing>>,
    accounts: Arc<[String]>,
    alarm: Option<Arc<Notify>>,
}

impl WebhookSource {
    /// A source whose deliveries `check` has to let in and `adapter` reads.
    pub fn new(adapter: Adapter, check: SenderCheck) -> WebhookSource {
        WebhookSource {
            body_limit_bytes: usual_body_limit_bytes(adapter.provider()),
            adapter,
            check,
            streak: Arc::default(),
            told: Arc::default(),
            rate: Arc::new(EventRate::new(DEFAULT_EVENT_RATE)),
            keys: None,
            accounts: Arc::default(),
            alarm: None,
        }
    }

    /// With a bell that rings when the provider alerts that something may not have arrived.
    #[must_use]
    pub fn with_alarm(mut self, alarm: Arc<Notify>) -> WebhookSource {
        self.alarm = Some(alarm);
        self
    }

    /// Rings it, where `event` is such an alert.
    pub(super) fn heed(&self, name: &str, event: &Event) {
        if let Some(alarm) = &self.alarm
            && calls_for_a_walk(event)
        {
            let alert = event.event_type.as_deref();
            tracing::warn!(
                source = name,
                alert,
                "the provider alerts: something may not have arrived"
            );
            alarm.notify_one();
        }
    }

    /// Takes in so many deliveries of a second on average, and a minute's worth at once.
    #[must_use]
    pub fn with_event_rate(mut self, per_second: u32) -> WebhookSource {
        self.rate = Arc::new(EventRate::new(per_second));
        self
    }

    /// With `keys` to check signatures with, where the check asks for fetched ones
    /// ([`SenderCheck::key_url`]).
    #[must_use]
    pub fn with_keys(mut self, keys: Arc<KeyRing>) -> WebhookSource {
        self.keys = Some(keys);
        self
    }

    /// With another limit for bodies than the provider's usual one.
    #[must_use]
    pub fn with_body_limit(mut self, limit_bytes: usize) -> WebhookSource {
        self.body_limit_bytes = limit_bytes;
        self
    }

    /// Only for events of these accounts at the provider; of none: for all.
    #[must_use]
    pub fn with_accounts(mut self, accounts: Vec<String>) -> WebhookSource {
        self.accounts = accounts.into();
        self
    }

    /// Whether nothing proves its senders.
    pub fn is_open(&self) -> bool {
        self.check.is_open()
    }

    /// What the tree of one event may take.
    pub(super) fn tree_max_bytes(&self) -> usize {
        self.body_limit_bytes * TREE_BYTES_PER_BYTE
    }

    /// Daily checks a new endpoint before anyone can know its secret, and gives up the endpoint
    /// unless it gets its 200.
    pub(super) fn has_unsigned_handshake(&self) -> bool {
        self.adapter.provider() == Provider::Daily
    }

    /// Whether the body proves what the headers claim. A wrong signature may be one of a key that the
    /// provider has just changed, so the key is fetched anew first, now and then.
    pub(super) async fn prove<'a>(
        &'a self,
        claim: &UnprovenDelivery<'a>,
        body: &[u8],
        now: Timestamp,
    ) -> Result<SenderProof<'a>, Rejection> {
        let Some(ring) = &self.keys else {
            return claim.finish(body, &[]).map_err(Rejection::Unauthorized);
        };
        let keys = ring.current(now).await.ok_or(Rejection::NoKey)?;
        match claim.finish(body, &keys) {
            Err(SenderRefusal::Wrong) => {}
            decided => return decided.map_err(Rejection::Unauthorized),
        }
        match ring.renewed(&keys, now).await {
            Renewal::Fresh(keys) => claim.finish(body, &keys).map_err(Rejection::Unauthorized),
            Renewal::Same => Err(Rejection::Unauthorized(SenderRefusal::Wrong)),
            // It may be signed with a key that we can't see: a 401 would be the end of it at some providers.
            Renewal::Failed => Err(Rejection::NoKey),
        }
    }

    /// Whether an event whose signature is good is one for this customer. Some providers sign everybody's events with
    /// one key.
    pub(super) fn check_account(&self, body: &[u8]) -> Result<(), Rejection> {
        if self.accounts.is_empty() {
            return Ok(());
        }
        let named = self.adapter.accounts(body);
        let is_ours = |account: &String| self.accounts.contains(account);
        match !named.is_empty() && named.iter().all(is_ours) {
            true => Ok(()),
            false => Err(Rejection::Unauthorized(SenderRefusal::Account)),
        }
    }
}
