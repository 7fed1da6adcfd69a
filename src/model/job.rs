//! The durable work of archiving one artifact: its states, its lease, how an attempt ends.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::artifact::{Format, Kind, Lookup, Origin};
use super::deadline::Deadline;
use super::recording::{Provider, Recording};
use crate::error::Class;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map($name)
            }
        }
    };
}

id!(
    /// A job's id (uuid v7); the same as its artifact's id in records.
    JobId
);
id!(
    /// A recording's id in our store (uuid v7).
    RecordingId
);
id!(
    /// An event's id in our store (uuid v7).
    EventId
);

/// Where a job stands. `can_become` is the only transition table; SQL repeats it as CHECKs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Due now or at `next_attempt_at`.
    Pending,
    /// Leased by a worker.
    Running,
    /// In the bucket, verified.
    Archived,
    /// The origin died before it could be opened.
    Expired,
    /// Given up, with a class.
    Failed,
    /// Given up by an operator's word.
    Cancelled,
}

impl State {
    /// Every state, in the order of a job's life.
    pub const ALL: [State; 6] = [
        State::Pending,
        State::Running,
        State::Archived,
        State::Expired,
        State::Failed,
        State::Cancelled,
    ];

    /// The public name.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Pending => "pending",
            State::Running => "running",
            State::Archived => "archived",
            State::Expired => "expired",
            State::Failed => "failed",
            State::Cancelled => "cancelled",
        }
    }

    /// The state of that public name.
    pub fn parse(name: &str) -> Option<State> {
        State::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Whether nothing more happens to the job by itself.
    pub fn is_settled(self) -> bool {
        !matches!(self, State::Pending | State::Running)
    }

    /// The transition table. Who moves: the worker claims (`pending` to `running`) and settles
    /// (`running` to anything but `cancelled`); an operator cancels; an operator's retry, a fresh
    /// event or a re-mint brings `expired`, `failed` and `cancelled` back to `pending`.
    pub fn can_become(self, next: State) -> bool {
        use State::*;
        matches!(
            (self, next),
            (Pending, Running | Cancelled | Expired | Failed)
                | (Running, Pending | Archived | Expired | Failed | Cancelled)
                | (Expired | Failed | Cancelled, Pending)
        )
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A job as its worker needs it.
#[derive(Clone, Debug)]
pub struct Job {
    /// The job's id, which is also the artifact's.
    pub id: JobId,
    /// Our id of the recording.
    pub recording_id: RecordingId,
    /// The recording as its events told it.
    pub recording: Recording,
    /// The provider.
    pub provider: Provider,
    /// The configured source that the event came through.
    pub source: String,
    /// The file name in the archive.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// How it is written.
    pub format: Format,
    /// Where its bytes are.
    pub origin: Origin,
    /// How a fresh URL can be had.
    pub remint: Option<Lookup>,
    /// Until when the origin can be opened.
    pub deadline: Deadline,
    /// The length that the event told.
    pub size_bytes: Option<u64>,
    /// The object's key in the bucket, with the prefix.
    pub key: String,
    /// Attempts so far, this one included.
    pub attempts: u32,
    /// The fencing token of the present lease: 1 when nobody has ever held one before. It never goes back, other than
    /// the attempts.
    pub lease_token: i64,
    /// When its first attempt (of this round) began: bounds the retries by time.
    pub first_attempt_at: Timestamp,
    /// What an earlier attempt left in the bucket.
    pub checkpoint: Option<Checkpoint>,
}

impl Job {
    /// Whether nobody has worked on it before, so that nothing of it can be in the bucket.
    pub fn is_untouched(&self) -> bool {
        self.lease_token <= 1 && self.attempts <= 1 && self.checkpoint.is_none()
    }
}

/// Proof that a worker holds the current attempt of a job. Every write about the job takes it;
/// the store refuses a stale one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The job.
    pub job: JobId,
    /// The fencing token: grows with every claim of the job, never goes back.
    pub token: i64,
}

/// Upload id and finished parts, stored so that another process can go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The multipart upload's id.
    pub upload_id: String,
    /// The length of every part but the last, in bytes; 0 when parts grow.
    pub part_size_bytes: u64,
    /// The whole length, when the origin told it.
    pub length_bytes: Option<u64>,
    /// The origin's validator at the time: a resume needs the same.
    pub validator: Option<String>,
    /// The parts that S3 has acknowledged.
    pub parts: Vec<FinishedPart>,
    /// The key that the upload is for: differs from the job's when other content held the name.
    #[serde(default)]
    pub key: Option<String>,
    /// How far the check of the content is, for the transfer to read.
    #[serde(default)]
    pub check: Option<String>,
    /// What the object is once the upload is complete: noted just before that is asked for.
    #[serde(default)]
    pub sealed: Option<Fingerprint>,
}

/// What is known of an object's content beforehand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// The length in bytes.
    pub size_bytes: u64,
    /// CRC64NVME of the whole, base64 of its big-endian bytes, as S3 writes it.
    pub crc64nvme: String,
    /// SHA-256 in hex, where the configuration asks for it.
    #[serde(default)]
    pub sha256: Option<String>,
}

/// One part that S3 has acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinishedPart {
    /// From 1.
    pub number: u32,
    /// Its length in bytes.
    pub size_bytes: u64,
    /// As S3 gave it.
    pub etag: String,
    /// CRC64NVME of its bytes.
    pub crc64nvme: u64,
}

/// What landed, as the object store confirmed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archived {
    /// The final key: differs from the planned one when other content held the name.
    pub key: String,
    /// The length in bytes.
    pub size_bytes: u64,
    /// CRC64NVME of the whole object, base64 of its big-endian bytes, as S3 writes it.
    pub crc64nvme: String,
    /// SHA-256 in hex, where the configuration asks for it.
    pub sha256: Option<String>,
    /// The object's ETag, as S3 gave it, without quotes. Never compared with an MD5.
    pub etag: Option<String>,
    /// The object's version, in a versioned bucket.
    pub version_id: Option<String>,
}

/// How an attempt ends: decided by a pure function, written by the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// In the bucket and verified.
    Archived(Archived),
    /// Back to `pending`, due at the instant.
    Retry {
        /// When it is due.
        at: Timestamp,
        /// What went wrong.
        class: Class,
        /// In words.
        message: String,
        /// Whether the attempt counts: a paused destination and a shutdown cost nothing.
        is_counted: bool,
    },
    /// The origin died. Final.
    Expired {
        /// In words.
        message: String,
    },
    /// Given up. Final.
    Failed {
        /// What went wrong.
        class: Class,
        /// In words.
        message: String,
    },
}

impl Outcome {
    /// The state that it leads to.
    pub fn state(&self) -> State {
        match self {
            Outcome::Archived(_) => State::Archived,
            Outcome::Retry { .. } => State::Pending,
            Outcome::Expired { .. } => State::Expired,
            Outcome::Failed { .. } => State::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_transition_table() {
        let mut table = String::new();
        for from in State::ALL {
            let next: Vec<_> = State::ALL
                .into_iter()
                .filter(|to| from.can_become(*to))
                .map(State::as_str)
                .collect();
            table.push_str(&format!("{from}: {}\n", next.join(" ")));
        }
        assert_eq!(
            table,
            "pending: running expired failed cancelled\n\
             running: pending archived expired failed cancelled\n\
             archived: \n\
             expired: pending\n\
             failed: pending\n\
             cancelled: pending\n"
        );
    }
}
