//! What an adapter makes of an event before it is one.

use jiff::Timestamp;

use crate::error::Class;
use crate::ingest::Delivery;
use crate::model::{
    Artifact, Event, EventClass, Kind, Lookup, Origin, Provider, ProviderFailure, Recording,
};
use crate::signed_url::redact_urls;

/// An event as its provider's adapter has read it.
pub(super) struct Draft {
    pub(super) event_id: Option<String>,
    pub(super) event_type: Option<String>,
    pub(super) dedupe_key: String,
    pub(super) event_time: Option<Timestamp>,
    pub(super) recording: Recording,
    pub(super) says: EventContent,
}

/// What an event says.
pub(super) enum EventContent {
    /// Are you there?
    Handshake,
    /// Nothing that concerns an archive.
    Nothing,
    /// Something that we can't make out; for a known type, why.
    Unknown(Option<String>),
    /// Here are files, here are losses.
    Files(Vec<Artifact>, Vec<ProviderFailure>),
}

impl EventContent {
    /// A loss and no file.
    pub(super) fn loss(failure: ProviderFailure) -> EventContent {
        EventContent::Files(Vec::new(), vec![failure])
    }

    /// A known type that can't be read.
    pub(super) fn unreadable(why: impl Into<String>) -> EventContent {
        EventContent::Unknown(Some(why.into()))
    }
}

impl Draft {
    /// The event; `redacted` is what it shows of itself where that is not for its body to tell.
    pub(super) fn finish(self, provider: Provider, redacted: Option<String>) -> Event {
        let (class, artifacts, failures, alert) = match self.says {
            EventContent::Handshake => (EventClass::Handshake, Vec::new(), Vec::new(), None),
            EventContent::Nothing => (EventClass::Ignored, Vec::new(), Vec::new(), None),
            EventContent::Unknown(alert) => (EventClass::Unknown, Vec::new(), Vec::new(), alert),
            EventContent::Files(artifacts, failures) => {
                let class = class_of(&artifacts, &failures);
                let alert = (class == EventClass::Unknown).then(|| {
                    format!(
                        "the event names no file and no loss: {}",
                        self.event_type.as_deref().unwrap_or("no type")
                    )
                });
                (class, artifacts, failures, alert)
            }
        };
        Event {
            provider,
            event_id: self.event_id,
            event_type: self.event_type,
            dedupe_key: self.dedupe_key,
            class,
            event_time: self.event_time,
            recording: self.recording,
            artifacts,
            failures,
            alert,
            redacted,
        }
    }
}

fn class_of(artifacts: &[Artifact], failures: &[ProviderFailure]) -> EventClass {
    let is_lookup = |artifact: &Artifact| matches!(artifact.origin, Origin::Lookup(_));
    match (artifacts.is_empty(), failures.is_empty()) {
        (true, true) => EventClass::Unknown,
        (true, false) => EventClass::Failure,
        (false, false) => EventClass::ArtifactsAndFailure,
        (false, true) if artifacts.iter().all(is_lookup) => EventClass::Lookup,
        (false, true) => EventClass::Artifacts,
    }
}

/// A loss in the provider's words, which may quote a URL.
pub(super) fn loss(
    code: Option<String>,
    message: Option<String>,
    kind: Option<Kind>,
    loss_key: impl Into<String>,
) -> ProviderFailure {
    let message = message
        .or_else(|| code.clone())
        .unwrap_or_else(|| "the provider gave no reason".to_owned());
    ProviderFailure {
        class: Class::ProviderFailed,
        code,
        message: redact_urls(&message),
        kind,
        loss_key: loss_key.into(),
    }
}

/// A call of the provider's API, by its name in the adapter.
pub(super) fn lookup(call: &str, id: impl Into<String>) -> Lookup {
    Lookup {
        call: call.to_owned(),
        id: id.into(),
    }
}

/// The event's id as a header tells it, fit to be shown.
pub(super) fn header_id(delivery: &Delivery<'_>) -> Option<String> {
    let id = redact_urls(delivery.id_header?.trim());
    (!id.is_empty()).then_some(id)
}

/// The dedupe key of an event without an id: its body. A retry repeats it byte for byte.
pub(super) fn body_key(parts: &[Option<&str>], body: &[u8]) -> String {
    let known: Vec<_> = parts.iter().flatten().copied().collect();
    format!("{}:{}", known.join(":"), hash(body))
}

/// SHA-256 in hex, whole: senders choose what goes in, so no shorter one will do.
pub(super) fn hash(bytes: &[u8]) -> String {
    hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes))
}
