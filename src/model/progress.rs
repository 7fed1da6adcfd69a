//! The one stream of what happens, which terminal, `watch`, dashboard and metrics read.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::job::{JobId, RecordingId};
use super::manifest::Record;
use crate::error::Class;

/// Something that happened to an artifact or a recording.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ProgressEvent {
    /// An attempt began.
    Started {
        /// The artifact as it stands now.
        record: Arc<Record>,
    },
    /// Bytes have moved. Sent a few times a second for each transfer, not for each chunk.
    Bytes {
        /// The artifact.
        id: JobId,
        /// Bytes that S3 has acknowledged or that are on their way there.
        done: u64,
        /// The length, once known.
        total: Option<u64>,
    },
    /// What an earlier attempt left in the bucket was looked at.
    Resumed {
        /// The artifact.
        id: JobId,
        /// Bytes that need not be transferred again; 0 when it begins from zero.
        done: u64,
        /// The length, once known.
        total: Option<u64>,
        /// Why it begins from zero, if it does.
        message: Option<String>,
    },
    /// An attempt failed and there will be another.
    Retrying {
        /// The artifact.
        id: JobId,
        /// What went wrong.
        class: Class,
        /// In words.
        message: String,
        /// When the next attempt is due.
        at: Timestamp,
    },
    /// A job has come to its end.
    Settled {
        /// The artifact as it stands now.
        record: Arc<Record>,
    },
    /// A recording's manifest (and report) is written.
    Sealed {
        /// Our id of the recording.
        recording_id: RecordingId,
        /// The manifest's key.
        manifest_key: String,
        /// Artifacts in the manifest.
        archived: usize,
        /// Losses in the report.
        lost: usize,
    },
    /// The bucket refuses everything: nothing is carried until it is asked again.
    BucketRefuses {
        /// What went wrong.
        class: Class,
        /// In words.
        message: String,
        /// Jobs that wait for it.
        waiting: u64,
        /// When it is asked again.
        until: Timestamp,
    },
    /// The bucket takes objects again.
    BucketAccepts,
    /// A task of the worker panicked, and is started again or given up.
    TaskRestarted {
        /// Its name.
        task: String,
    },
    /// The clock of this machine and that of another are known to differ by this now.
    ClockOffset {
        /// The source whose origins told it, or the bucket.
        peer: String,
        /// By how much ours is ahead.
        seconds: i64,
    },
}

/// Where events go: the holder decides (a broadcast channel, a test's list). Must not block.
pub type Emit = Arc<dyn Fn(ProgressEvent) + Send + Sync>;
