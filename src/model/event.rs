//! One webhook delivery, understood.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::artifact::{Artifact, Kind};
use super::recording::{Provider, Recording};
use crate::error::Class;

/// What an event asks of us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EventClass {
    /// It names files to fetch.
    #[serde(rename = "artifacts")]
    Artifacts,
    /// It reports a loss and names no file.
    #[serde(rename = "failure")]
    Failure,
    /// It names files and reports a loss.
    #[serde(rename = "artifacts+failure")]
    ArtifactsAndFailure,
    /// Its URLs must be asked for.
    #[serde(rename = "lookup")]
    Lookup,
    /// The provider checks that we are there; nothing to store.
    #[serde(rename = "handshake")]
    Handshake,
    /// A type that carries nothing to archive.
    #[serde(rename = "ignored")]
    Ignored,
    /// A type that we don't know, or a known one that can't be read: kept raw.
    #[serde(rename = "unknown")]
    Unknown,
}

impl EventClass {
    /// The public name.
    pub fn as_str(self) -> &'static str {
        match self {
            EventClass::Artifacts => "artifacts",
            EventClass::Failure => "failure",
            EventClass::ArtifactsAndFailure => "artifacts+failure",
            EventClass::Lookup => "lookup",
            EventClass::Handshake => "handshake",
            EventClass::Ignored => "ignored",
            EventClass::Unknown => "unknown",
        }
    }

    /// Whether events of this class belong to a recording in the archive.
    pub fn has_recording(self) -> bool {
        use EventClass::*;
        matches!(self, Artifacts | Failure | ArtifactsAndFailure | Lookup)
    }

    /// The class of that public name.
    pub fn parse(name: &str) -> Option<EventClass> {
        use EventClass::*;
        [
            Artifacts,
            Failure,
            ArtifactsAndFailure,
            Lookup,
            Handshake,
            Ignored,
            Unknown,
        ]
        .into_iter()
        .find(|class| class.as_str() == name)
    }
}

/// A loss that the provider itself reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderFailure {
    /// Almost always `provider_failed`.
    pub class: Class,
    /// The provider's code, as it is.
    pub code: Option<String>,
    /// The provider's words, or ours where it has none.
    pub message: String,
    /// What was lost, where the event tells: an artifact of this kind withdraws the report.
    pub kind: Option<Kind>,
    /// Two reports of one recording with the same key are one loss (a MeetingBaaS bot reports
    /// by `failed` and by `bot.status_change`).
    pub loss_key: String,
}

/// A parsed event. What it holds came from outside: ids and names are data, never paths or markup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Who sent it.
    pub provider: Provider,
    /// The provider's id of the event, where it has one.
    pub event_id: Option<String>,
    /// The provider's name of the type of event.
    pub event_type: Option<String>,
    /// What is the same in every delivery of one event: the event id, or the documented substitute.
    pub dedupe_key: String,
    /// What it asks of us.
    pub class: EventClass,
    /// The event's own time.
    pub event_time: Option<Timestamp>,
    /// What its artifacts belong to.
    pub recording: Recording,
    /// The files that it names.
    pub artifacts: Vec<Artifact>,
    /// The losses that it reports.
    pub failures: Vec<ProviderFailure>,
    /// For a known type that can't be read: why, so that the operator hears of it.
    pub alert: Option<String>,
    /// The event as JSON without secrets, where nobody sent a body.
    pub redacted: Option<String>,
}
