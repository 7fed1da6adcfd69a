//! What a start does about writes that an earlier process may have lost.
//!
//! After a sync that failed, the kernel keeps the pages in its cache but counts them as written: a later sync succeeds and
//! proves nothing. Two things follow. A WAL with such a hole must not be appended to, since a recovery ends at the
//! hole. And the index of the WAL, which the processes on the file share and which says what of the WAL is in the database
//! already, must not be believed.
//!
//! So each start that has the file for itself reads the WAL anew, copies *all* of it into the database, syncs that, and
//! begins an empty WAL, before anybody is answered. While another process has the file open, the shared index is older than this
//! start: then the start goes on without, unless a note beside the database tells of a lost write.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteLockingMode};
use sqlx::{ConnectOptions as _, Connection as _};

use super::error;
use super::open::{beside, cannot_open, check_owner};
use crate::error::{Error, Result};

/// The note that a process leaves beside the database when the disk has lost a write.
#[derive(Clone, Debug)]
pub(super) struct LostWriteNote(PathBuf);

impl LostWriteNote {
    pub(super) fn beside(database: &Path) -> LostWriteNote {
        LostWriteNote(beside(database, ".lost-write"))
    }

    /// Leaves the note. The disk is in trouble, so this may fail too; a start that is alone on the file needs no note.
    pub(super) fn leave(&self, why: &str) {
        if let Err(cause) = std::fs::write(&self.0, format!("{why}\n")) {
            tracing::warn!(%cause, "failed to note that the disk has lost a write");
        }
    }

    fn read(&self) -> Option<String> {
        let why = std::fs::read_to_string(&self.0).ok()?;
        Some(why.trim_end().to_owned())
    }

    fn remove(&self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Copies the whole WAL into the database at `path` and empties it, if no other process has it open.
///
/// # Errors
/// When the copy can't be made durable, or when a write was lost and another process has the file open.
pub(super) async fn copy_whole_wal(path: &Path, connect: &SqliteConnectOptions) -> Result<()> {
    let is_new = path.metadata().is_ok_and(|file| file.len() == 0);
    if is_new {
        return Ok(());
    }
    let note = LostWriteNote::beside(path);
    match copy(path, connect).await? {
        Copied::Whole => note.remove(),
        Copied::NotAlone => {
            if let Some(why) = note.read() {
                return Err(Error::internal(format!(
                    "open the store {}: the disk has lost a write ({why}), and another harvester still has the store open; \
                     stop all of them, then start again",
                    path.display()
                )));
            }
        }
    }
    Ok(())
}

enum Copied {
    Whole,
    NotAlone,
}

async fn copy(path: &Path, connect: &SqliteConnectOptions) -> Result<Copied> {
    // An exclusive connection shares no index: it reads the WAL from the beginning.
    let alone = connect
        .clone()
        .locking_mode(SqliteLockingMode::Exclusive)
        .busy_timeout(Duration::ZERO);
    let failed = |cause| cannot_open(path, cause);
    let mut conn = match alone.connect().await {
        Ok(conn) => conn,
        Err(cause) if error::is_busy(&cause) => return Ok(Copied::NotAlone),
        Err(cause) => return Err(failed(cause)),
    };
    // The first read takes the lock.
    let first_read: Result<i64, _> = sqlx::query_scalar("SELECT count(*) FROM sqlite_master")
        .fetch_one(&mut conn)
        .await;
    if first_read.is_err_and(|cause| error::is_busy(&cause)) {
        return Ok(Copied::NotAlone);
    }
    check_owner(path, &mut conn).await?;
    let copied = sqlx::query_as("PRAGMA wal_checkpoint(TRUNCATE)")
        .fetch_one(&mut conn)
        .await;
    let (busy, _, _): (i64, i64, i64) = match copied {
        Ok(copied) => copied,
        Err(cause) if error::is_busy(&cause) => return Ok(Copied::NotAlone),
        Err(cause) => {
            // Closing would try again, and believe a second sync.
            std::mem::forget(conn);
            return Err(failed(cause));
        }
    };
    conn.close().await.map_err(failed)?;
    Ok(match busy {
        0 => Copied::Whole,
        _ => Copied::NotAlone,
    })
}
