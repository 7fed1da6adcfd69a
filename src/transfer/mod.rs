//! One artifact, from its origin to a sealed object.
//!
//! Memory is a number: what is read and not yet acknowledged by the object store is held under one byte
//! budget for the whole process, whatever the objects' sizes. Nothing touches the disk.

use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::error::Result;
use crate::model::progress::Emit;
use crate::model::{Archived, Checkpoint, Job};
use crate::object::ObjectStore;
use crate::source::Source;

/// The metadata key (`x-amz-meta-harvester-job`) under which an object carries our job id.
pub const JOB_METADATA_KEY: &str = "harvester-job";

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
}

impl Default for TransferSettings {
    fn default() -> Self {
        TransferSettings {
            memory_bytes: 256 * 1024 * 1024,
            part_size_bytes: 8 * 1024 * 1024,
            lanes: 4,
            max_object_bytes: 64 * 1024 * 1024 * 1024,
            sha256: false,
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
}

impl Engine {
    /// An engine from `source` to `objects`.
    pub fn new(
        source: Arc<dyn Source>,
        objects: Arc<dyn ObjectStore>,
        settings: TransferSettings,
    ) -> Engine {
        Engine {
            source,
            objects,
            settings,
        }
    }

    /// Carries the artifact of `job`, which has a URL or inline origin, to its key and proves that it
    /// landed. Emits [`ProgressEvent::Bytes`](crate::model::ProgressEvent) as bytes pass.
    ///
    /// # Errors
    /// Classified; after `cancel` the error is transient and `internal`, and what the checkpoint names is kept.
    pub async fn carry(
        &self,
        _job: &Job,
        _allow_hosts: &[String],
        _ledger: &dyn Ledger,
        _emit: &Emit,
        _cancel: &CancellationToken,
    ) -> Result<Archived> {
        let _ = (&self.source, &self.objects, &self.settings);
        todo!()
    }
}
