//! What people, the manifests and the scans ask for, and what they see.

use jiff::Timestamp;

use crate::error::Class;
use crate::model::manifest::{ProviderFailureRecord, RecordingRecord};
use crate::model::{EventClass, EventId, JobId, Provider, RecordingId, State};

/// A recording whose manifest is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealable {
    /// The recording.
    pub id: RecordingId,
    /// How often in a row its manifest could not be written.
    pub failures: u32,
}

/// Which records to list. Empty: all.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only in these states.
    pub states: Vec<State>,
    /// Only of this provider.
    pub provider: Option<Provider>,
    /// Only made or changed since.
    pub since: Option<Timestamp>,
    /// Only these jobs or recordings.
    pub ids: Vec<uuid::Uuid>,
    /// Only jobs after this one, in the order of the list.
    pub after: Option<uuid::Uuid>,
    /// So many at most.
    pub limit: Option<u32>,
}

/// What has left the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// URLs of lost jobs.
    pub origins: u64,
    /// Bodies of events without a recording.
    pub bodies: u64,
    /// Recordings with all that belonged to them.
    pub recordings: u64,
    /// Keys of events.
    pub events: u64,
}

/// Which jobs to retry.
#[derive(Clone, Debug)]
pub enum Selection {
    /// Jobs, or all jobs of recordings, by id.
    Ids(Vec<uuid::Uuid>),
    /// All of a failure class.
    Class(Class),
    /// All that failed or expired (not those that an operator cancelled).
    All,
}

/// An artifact that the store knows of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownArtifact {
    /// Its recording.
    pub recording_key: String,
    /// What makes it the same.
    pub identity: String,
    /// Its job; `None` for a lookup that was answered.
    pub job: Option<JobId>,
    /// Where that stands.
    pub state: Option<State>,
    /// Why, where it is lost.
    pub class: Option<Class>,
    /// Whether there is anything to try again: not where the provider itself says that there is no file.
    pub has_origin: bool,
}

/// Whose turn it is to walk over a source's lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "another worker may be walking"]
pub enum WalkTurn {
    /// Ours.
    Ours {
        /// Up to when everything had been seen; `None` before the first whole walk.
        reached: Option<Timestamp>,
    },
    /// Another worker walks.
    Others,
}

/// A provider failure with its recording, for `failures`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ProviderLoss {
    /// The loss.
    #[serde(flatten)]
    pub failure: ProviderFailureRecord,
    /// Its recording.
    pub recording: RecordingRecord,
}

/// An event without its body.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct EventRecord {
    /// Our id.
    pub id: EventId,
    /// The source.
    pub source: String,
    /// The provider.
    pub provider: Provider,
    /// The provider's id.
    pub event_id: Option<String>,
    /// The provider's type.
    pub event_type: Option<String>,
    /// What it asked of us.
    pub class: EventClass,
    /// For `unknown`: why.
    pub alert: Option<String>,
    /// When it came in.
    pub received_at: Timestamp,
    /// Its recording.
    pub recording_id: Option<RecordingId>,
}

/// The state of the queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Jobs in each state.
    pub jobs: Vec<(State, u64)>,
    /// The earliest latest-start among open jobs that have a deadline: slack is this minus now.
    pub least_latest_start: Option<Timestamp>,
}

impl Stats {
    /// How many jobs are pending.
    pub fn pending(&self) -> u64 {
        let pending = self.jobs.iter().find(|(state, _)| *state == State::Pending);
        pending.map_or(0, |(_, count)| *count)
    }
}
