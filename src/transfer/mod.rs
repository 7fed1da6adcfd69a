//! One artifact, from its origin to a sealed object.
//!
//! Memory is a number: what is read and not yet acknowledged by the object store is held under one byte
//! budget for the whole process, whatever the objects' sizes. Nothing touches the disk.
//!
//! *Retries.* A part is sent again from its own buffer, a cut body is resumed where it stopped, a
//! content that changed is begun again; each a few times. All else is the scheduler's decision, unless
//! the URL would be dead by then: such bodies are held open while the bucket is tried for some minutes.
//! *Cancellation.* Takes effect at any await. What the bucket has by then is noted, and the next attempt
//! goes on with it.
//! *Crash consistency.* An object appears under its key only complete and checked. A kill leaves at
//! most an unfinished upload that its checkpoint names; one that no checkpoint names is for the sweep.

mod attempt;
mod content;
pub mod digest;
pub mod download;
mod existing;
mod free_name;
pub mod hls;
pub mod memory;
pub mod plan;
mod progress;
mod resume;
pub mod upload;
mod validate;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::clock::{SharedClock, SystemClock};
use crate::error::{Class, Error, Result};
use crate::model::progress::Emit;
use crate::model::{Archived, Checkpoint, Format, Job, Kind, Origin};
pub use crate::object::owned::JOB_METADATA_KEY;
use crate::object::owned::Owner;
use crate::object::{ObjectAttributes, ObjectStore};
use crate::signed_url::SignedUrl;
use crate::source::{Source, Waits};
use crate::transfer::memory::budget::Budget;
use attempt::TransferAttempt;
use hls::HlsSettings;

/// The smallest part but the last that S3 takes.
const MIN_PART_BYTES: u64 = 5 * 1024 * 1024;

/// The limits of the engine.
#[derive(Clone, Debug, PartialEq)]
pub struct TransferSettings {
    /// Bytes held in memory by all transfers together.
    pub memory_bytes: u64,
    /// The smallest part; objects below it go up in one PUT. At least 5 MiB (S3 API).
    pub part_size_bytes: u64,
    /// Connections to the origin for one artifact.
    pub lanes: u32,
    /// Connections beyond the first of each artifact, all transfers together.
    pub all_lanes: u32,
    /// How many more there may be for URLs that are about to die.
    pub surge: u32,
    /// How long a part is sent again to a bucket that fails, while its origin is held open.
    pub upload_patience: Duration,
    /// The same, and for whole objects too, when the origin's URL is dead, or will be before another attempt.
    pub held_patience: Duration,
    /// Under which all keys of ours lie.
    pub prefix: String,
    /// A larger object is refused, declared or real.
    pub max_object_bytes: u64,
    /// Whether to compute SHA-256 as well. It needs the bytes in order: one lane, and no going on in the
    /// middle after a stop.
    pub sha256: bool,
    /// Content-Disposition of recordings: `attachment` or `inline`; the file name is added.
    pub disposition: Option<String>,
    /// How HLS recordings are archived, by source; a source that is not here has the defaults.
    pub hls: BTreeMap<String, HlsSettings>,
}

impl Default for TransferSettings {
    fn default() -> Self {
        TransferSettings {
            memory_bytes: 256 * 1024 * 1024,
            part_size_bytes: 5 * 1024 * 1024,
            lanes: 24,
            all_lanes: 64,
            surge: 32,
            upload_patience: Duration::from_secs(30),
            held_patience: Duration::from_secs(600),
            prefix: String::new(),
            max_object_bytes: 64 * 1024 * 1024 * 1024,
            sha256: false,
            disposition: None,
            hls: BTreeMap::new(),
        }
    }
}

/// Where the engine notes what the bucket has acknowledged, under the job's lease.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// Notes the checkpoint.
    ///
    /// # Errors
    /// When the lease is lost (`internal`): the transfer must stop without touching the bucket again.
    async fn save(&self, checkpoint: Option<&Checkpoint>, bytes_done: u64) -> Result<()>;

    /// Whether the lease is still ours, asked just before an upload is completed.
    async fn is_held(&self) -> bool;

    /// Where the transfer declares that it waits, so that it is not taken for one that hangs.
    fn waits(&self) -> Waits {
        Waits::default()
    }
}

/// Carries artifacts. Cheap to clone; clones share the budget.
#[derive(Clone)]
pub struct Engine {
    source: Arc<dyn Source>,
    objects: Arc<dyn ObjectStore>,
    settings: TransferSettings,
    budget: Budget,
    // What an object is stored with and whose it is, when not what its job says.
    stored_as: Option<Arc<(ObjectAttributes, Owner)>>,
    clock: SharedClock,
    lanes: Arc<Semaphore>,
    surge: Arc<Semaphore>,
}

impl Engine {
    /// An engine from `source` to `objects`. The part size is raised to S3's minimum, and lowered to
    /// what fits into the memory.
    pub fn new(
        source: Arc<dyn Source>,
        objects: Arc<dyn ObjectStore>,
        settings: TransferSettings,
    ) -> Engine {
        let memory_bytes = settings.memory_bytes.max(MIN_PART_BYTES);
        let part_size_bytes = settings.part_size_bytes.clamp(MIN_PART_BYTES, memory_bytes);
        Engine {
            source,
            objects,
            budget: Budget::new(memory_bytes),
            stored_as: None,
            clock: Arc::new(SystemClock),
            lanes: Arc::new(Semaphore::new(settings.all_lanes as usize)),
            surge: Arc::new(Semaphore::new(settings.surge as usize)),
            settings: TransferSettings {
                memory_bytes,
                part_size_bytes,
                ..settings
            },
        }
    }

    /// The same engine by another clock: deadlines are compared with it.
    #[must_use]
    pub fn with_clock(mut self, clock: SharedClock) -> Engine {
        self.clock = clock;
        self
    }

    /// Under which all keys of ours lie.
    pub fn prefix(&self) -> &str {
        &self.settings.prefix
    }

    /// The memory that transfers hold.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Carries the artifact of `job`, which has a URL or inline origin, to its key and proves that it
    /// landed. Emits [`ProgressEvent::Bytes`](crate::model::ProgressEvent) as bytes pass.
    ///
    /// # Errors
    /// Classified; after `cancel` the error is transient and `internal`, and what the checkpoint names is kept.
    pub async fn carry(
        &self,
        job: &Job,
        allow_hosts: &[String],
        ledger: &dyn Ledger,
        emit: &Emit,
        cancel: &CancellationToken,
    ) -> Result<Archived> {
        if let (Format::M3u8, Origin::Url(url)) = (job.format, &job.origin) {
            return tokio::select! {
                biased;
                () = cancel.cancelled() => Err(interrupted()),
                result = hls::carry(self, job, url, allow_hosts, ledger, emit) => result,
            };
        }
        let attempt = TransferAttempt::new(self, job, allow_hosts, ledger, emit);
        let result = tokio::select! {
            biased;
            () = cancel.cancelled() => Err(interrupted()),
            result = attempt.run() => result,
        };
        if let Err(error) = &result {
            attempt.leave(error).await;
        }
        if let (Err(error), Format::Bin, Origin::Url(url)) = (&result, job.format, &job.origin)
            && error.class() == Class::Corrupt
        {
            // Nobody had told that it is a playlist, and archived as a file it would be nothing.
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Err(interrupted()),
                carried = hls::carry_unnamed(self, job, url, allow_hosts, ledger, emit) => {
                    return carried.unwrap_or(result);
                }
            }
        }
        if let (Ok(archived), Some(url)) = (&result, self.to_unpack(job)) {
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Err(interrupted()),
                unpacked = hls::unpack(self, job, url, archived, allow_hosts, ledger) => unpacked?,
            }
        }
        result
    }

    /// Where the archive is that has to be unpacked as well, if it is one.
    fn to_unpack<'j>(&self, job: &'j Job) -> Option<&'j SignedUrl> {
        let settings = self.settings.hls.get(&job.source)?;
        let is_archive = job.kind == Kind::Hls && job.format == Format::Zip;
        match &job.origin {
            Origin::Url(url) if is_archive && settings.unpack => Some(url),
            _ => None,
        }
    }

    /// The same engine, whose objects are `owner`'s and are stored with `attributes`.
    fn storing_as(&self, attributes: ObjectAttributes, owner: Owner) -> Engine {
        Engine {
            stored_as: Some(Arc::new((attributes, owner))),
            ..self.clone()
        }
    }

    /// Aborts what an attempt left in the bucket: the job has come to its end without it.
    pub async fn abandon(&self, job: &Job, checkpoint: &Checkpoint) {
        let key = checkpoint.key.as_ref().unwrap_or(&job.key);
        self.abort_upload(key, &checkpoint.upload_id).await;
    }

    /// Aborts an upload until nothing of it is left; whether that is so. A failure is only logged.
    pub async fn abort_upload(&self, key: &str, upload_id: &str) -> bool {
        crate::transfer::upload::open::abort(&*self.objects, key, upload_id).await
    }

    /// A connection beyond the first of a transfer, if there is one to spare.
    fn spare_lane(&self, is_urgent: bool) -> Option<OwnedSemaphorePermit> {
        let take = |lanes: &Arc<Semaphore>| Arc::clone(lanes).try_acquire_owned().ok();
        take(&self.lanes).or_else(|| take(&self.surge).filter(|_| is_urgent))
    }
}

fn interrupted() -> Error {
    Error::transient(Class::Internal, "the transfer was interrupted")
}
