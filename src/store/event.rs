//! An event as it goes into the store, and its receipt.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;

use crate::model::{
    Artifact, Deadline, Event, EventId, Folder, Format, JobId, Kind, Layout, Origin, Record,
    RecordingId, key,
};

/// An event to record. `Debug` leaves the raw body out: its URLs are signed.
#[derive(Clone)]
pub struct NewEvent {
    /// The source it came through.
    pub source: String,
    /// What it says.
    pub event: Event,
    /// The body, byte for byte.
    pub raw: bytes::Bytes,
    /// `{recording}`: what joins it to a recording.
    pub recording_key: String,
    /// Where that recording would be archived.
    pub folder: Folder,
    /// When it came in.
    pub received_at: Timestamp,
    /// The memory that is counted for it, held until the event is dropped: that is, until it is written, however long
    /// the disk takes and whoever still waits for it.
    memory: Option<Arc<dyn Any + Send + Sync>>,
}

impl fmt::Debug for NewEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewEvent")
            .field("source", &self.source)
            .field("event", &self.event)
            .field("raw_bytes", &self.raw.len())
            .field("recording_key", &self.recording_key)
            .field("folder", &self.folder)
            .field("received_at", &self.received_at)
            .finish()
    }
}

impl NewEvent {
    /// An event as it came in. One that belongs to a recording gains an artifact: itself, redacted.
    pub fn new(
        source: impl Into<String>,
        mut event: Event,
        raw: bytes::Bytes,
        layout: &Layout,
        received_at: Timestamp,
    ) -> NewEvent {
        if event.class.has_recording() {
            event.artifacts.push(event_artifact(&event));
        }
        NewEvent::found(source, event, raw, layout, received_at)
    }

    /// An event that nobody sent: what a provider's list tells. There is nothing of it to archive but its files.
    pub fn found(
        source: impl Into<String>,
        event: Event,
        raw: bytes::Bytes,
        layout: &Layout,
        received_at: Timestamp,
    ) -> NewEvent {
        let source = source.into();
        let folder = layout.folder(
            &source,
            event.provider,
            &event.recording,
            &event.dedupe_key,
            event.event_time,
            received_at,
        );
        let recording_key = key::recording_variable(&event.recording, &event.dedupe_key);
        NewEvent {
            source,
            event,
            raw,
            recording_key,
            folder,
            received_at,
            memory: None,
        }
    }

    /// With the memory that is counted for it.
    #[must_use]
    pub fn holding(mut self, memory: impl Any + Send + Sync) -> NewEvent {
        self.memory = Some(Arc::new(memory));
        self
    }

    /// Bytes of it that are in memory, as far as senders choose them.
    pub fn size_bytes(&self) -> usize {
        let content = |artifact: &Artifact| match &artifact.origin {
            Origin::Inline(text) => text.len(),
            _ => 0,
        };
        let files: usize = self.event.artifacts.iter().map(content).sum();
        self.raw.len() + files + self.event.redacted.as_ref().map_or(0, String::len)
    }
}

fn event_artifact(event: &Event) -> Artifact {
    let id = match &event.event_id {
        Some(id) => key::safe(id),
        None => key::short_hash(event.dedupe_key.as_bytes()),
    };
    Artifact {
        identity: format!("event:{}", event.dedupe_key),
        name: format!("event-{id}.json"),
        kind: Kind::Event,
        format: Format::Json,
        origin: Origin::Event,
        remint: None,
        deadline: Deadline::NONE,
        size_bytes: None,
    }
}

/// What became of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Our id of the event (of its first receipt).
    pub event_id: EventId,
    /// Our id of its recording; `None` for an event without one (`ignored`, `unknown`).
    pub recording_id: Option<RecordingId>,
    /// The jobs that it made or woke; on a duplicate, those of its first receipt.
    pub jobs: Vec<JobId>,
    /// The records of those that it made, as the store tells them from then on: who works on them at once need not ask.
    pub made: Vec<Record>,
    /// Whether it had been recorded before.
    pub is_duplicate: bool,
    /// On a duplicate: the jobs that were given a fresh URL by it.
    pub renewed: Vec<JobId>,
}
