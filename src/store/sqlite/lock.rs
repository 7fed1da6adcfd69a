//! One worker on one file, and who of those that hold leases is still alive.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Makes this process the only worker on the file, for as long as it holds the answer. The kernel takes the lock back
/// when the holder drops it or dies, so that no stale lock can be left behind.
pub(super) fn lock(path: &Path) -> Result<File> {
    let failed = |cause: std::io::Error| {
        Error::internal(format!("lock {}", path.display())).with_source(cause)
    };
    let file = open(path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::internal(format!(
            "start a worker: another one runs on this store (it holds {}), and one store has one worker; stop that one first, or give this one a `data_dir` of its own; `limits.transfers` lets one worker do more at once",
            path.display()
        ))),
        Err(TryLockError::Error(cause)) => Err(failed(cause)),
    }
}

/// Proof that the process that holds leases under a name is alive.
///
/// A lease outlives its holder's death by up to a minute, which near a deadline is a minute too
/// long. All processes of one SQLite file are on one machine, so there the kernel knows better:
/// each holder keeps a lock on a file of its name, and a lock that can be taken is a dead man's.
pub(super) struct PidLock {
    file: PathBuf,
    _lock: File,
}

impl Drop for PidLock {
    fn drop(&mut self) {
        // A file that stays behind unlocked says the same as none.
        let _ = std::fs::remove_file(&self.file);
    }
}

/// Takes the seat of `name`, which no other process has ever had.
pub(super) fn take_seat(folder: &Path, name: &str) -> Result<PidLock> {
    let file = folder.join(name);
    let failed = |cause: std::io::Error| {
        Error::internal(format!("take the seat {}", file.display())).with_source(cause)
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(failed)?;
    let lock = open(&file).map_err(failed)?;
    lock.lock().map_err(failed)?;
    Ok(PidLock { file, _lock: lock })
}

/// Whether nobody sits on the seat of `name`. In doubt somebody does: then the lease's time decides.
pub(super) fn is_vacant(folder: &Path, name: &str) -> bool {
    match OpenOptions::new().write(true).open(folder.join(name)) {
        Ok(file) => file.try_lock().is_ok(),
        Err(cause) => cause.kind() == std::io::ErrorKind::NotFound,
    }
}

/// Removes what the dead have left.
pub(super) fn clear_seat(folder: &Path, name: &str) {
    let _ = std::fs::remove_file(folder.join(name));
}

fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}
