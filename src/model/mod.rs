//! The nouns of the harvester: plain data without I/O, async or a clock.

pub mod api;
pub mod artifact;
pub mod deadline;
pub mod event;
pub mod job;
pub mod json_weight;
pub mod key;
pub mod manifest;
pub mod progress;
pub mod recording;

pub use artifact::{Artifact, Format, Kind, Lookup, Origin};
pub use deadline::{Deadline, DeadlineFrom};
pub use event::{Event, EventClass, ProviderFailure};
pub use job::{Archived, Checkpoint, EventId, Job, JobId, Lease, Outcome, RecordingId, State};
pub use json_weight::JsonWeight;
pub use key::{Folder, Layout};
pub use manifest::{Manifest, Record, Report};
pub use progress::ProgressEvent;
pub use recording::{Provider, Recording};
