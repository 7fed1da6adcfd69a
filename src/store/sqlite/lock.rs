//! One worker on one file.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::error::{Error, Result};

/// Proof that no other process works on the file. The kernel takes the lock back when the holder
/// drops it or dies, so that no stale lock can be left behind.
#[derive(Debug)]
#[must_use = "the lock ends when this is dropped"]
pub struct WorkerLock {
    _file: File,
}

pub(super) fn lock(path: &Path) -> Result<WorkerLock> {
    let failed = |cause: std::io::Error| {
        Error::internal(format!("lock {}", path.display())).with_source(cause)
    };
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(WorkerLock { _file: file }),
        Err(TryLockError::WouldBlock) => Err(Error::internal(format!(
            "start a worker: another one runs on this store (it holds {}); stop it first, or use Postgres for several",
            path.display()
        ))),
        Err(TryLockError::Error(cause)) => Err(failed(cause)),
    }
}
