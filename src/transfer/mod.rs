//! One artifact, from its origin to a sealed object.
//!
//! Memory is a number: what is read and not yet acknowledged by the object store is held under one byte
//! budget for the whole process, whatever the objects' sizes. Nothing touches the disk.
//!
//! *Retries.* A part is sent again from its own buffer, a cut body is resumed where it stopped, a
//! content that changed is begun again; each a few times. All else is the scheduler's decision.
//! *Cancellation.* Takes effect at any await; the upload is aborted before `carry` returns.
//! *Crash consistency.* An object appears under its key only complete and checked. A kill leaves at
//! most an unfinished upload, which the sweep and the bucket's lifecycle rule find.

mod attempt;
pub mod budget;
pub mod digest;
pub mod hls;
mod names;
mod part;
pub mod plan;
mod progress;
mod reader;
mod seal;
mod upload;
pub mod verify;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::error::{Class, Error, Result};
use crate::model::progress::Emit;
use crate::model::{Archived, Checkpoint, Format, Job, Kind, Origin};
use crate::object::{Attributes, ObjectStore};
use crate::signed_url::SignedUrl;
use crate::source::Source;
use attempt::Attempt;
use budget::Budget;
use hls::HlsSettings;

/// The metadata key (`x-amz-meta-harvester-job`) under which an object carries our job id.
pub const JOB_METADATA_KEY: &str = "harvester-job";

/// The smallest part but the last that S3 takes.
const MIN_PART_BYTES: u64 = 5 * 1024 * 1024;

/// The limits of the engine.
#[derive(Clone, Debug, PartialEq)]
pub struct TransferSettings {
    /// Bytes held in memory by all transfers together.
    pub memory_bytes: u64,
    /// The smallest part; objects below it go up in one PUT. At least 5 MiB (S3 API).
    pub part_size_bytes: u64,
    /// Parts of one artifact on their way at once.
    pub lanes: u32,
    /// A larger object is refused, declared or real.
    pub max_object_bytes: u64,
    /// Whether to compute SHA-256 as well.
    pub sha256: bool,
    /// How HLS recordings are archived, by source; a source that is not here has the defaults.
    pub hls: BTreeMap<String, HlsSettings>,
}

impl Default for TransferSettings {
    fn default() -> Self {
        TransferSettings {
            memory_bytes: 256 * 1024 * 1024,
            part_size_bytes: 8 * 1024 * 1024,
            lanes: 4,
            max_object_bytes: 64 * 1024 * 1024 * 1024,
            sha256: false,
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
}

/// Carries artifacts. Cheap to clone; clones share the budget.
#[derive(Clone)]
pub struct Engine {
    source: Arc<dyn Source>,
    objects: Arc<dyn ObjectStore>,
    settings: TransferSettings,
    budget: Budget,
    // What an object is stored with, when not what its job says.
    attributes: Option<Arc<Attributes>>,
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
            attributes: None,
            settings: TransferSettings {
                memory_bytes,
                part_size_bytes,
                ..settings
            },
        }
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
        let attempt = Attempt::new(self, job, allow_hosts, ledger, emit);
        let result = tokio::select! {
            biased;
            () = cancel.cancelled() => Err(interrupted()),
            result = attempt.run() => result,
        };
        if result.is_err() {
            attempt.abandon_upload().await;
        }
        if let (Ok(archived), Some(url)) = (&result, self.to_unpack(job)) {
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Err(interrupted()),
                unpacked = hls::unpack(self, job, url, archived, allow_hosts) => unpacked?,
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

    /// The same engine, whose objects are stored with `attributes`.
    fn dressed(&self, attributes: Attributes) -> Engine {
        Engine {
            attributes: Some(Arc::new(attributes)),
            ..self.clone()
        }
    }
}

fn interrupted() -> Error {
    Error::transient(Class::Internal, "the transfer was interrupted")
}
