//! Making commits durable: what a commit has appended to the WAL is synced before anyone hears of it.
//!
//! SQLite can do that itself (`synchronous=FULL`), but then its one writer stands still for the milliseconds that a
//! disk takes. Here it appends only (`NORMAL`, which keeps the file consistent through a power loss), and the sync that
//! FULL would make follows at once on another thread, while the next transaction is under way already. A sync covers all that
//! was appended before it began, so whoever is answered after it is answered no sooner than with FULL.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::Durability;
use super::open::beside;

/// Syncs under way at once at most. Disks take several together in hardly more time than one; with more of
/// them, transactions get too small to share their cost.
const SYNCS: usize = 4;

/// Makes durable what has been written so far.
pub(super) type Sync = Box<dyn FnMut() -> io::Result<()> + Send>;

/// As many as may be under way at once, for the database at `path`, which is open. All their descriptors are opened now: to
/// run out of descriptors later must not look like a write that was lost.
pub(super) fn syncs(path: &Path, durability: Durability) -> io::Result<Vec<Sync>> {
    let sync = |_| -> io::Result<Sync> {
        Ok(match durability {
            Durability::Full => {
                let wal = Wal::open(path)?;
                Box::new(move || wal.sync())
            }
            Durability::Off => Box::new(|| Ok(())),
        })
    };
    (0..SYNCS).map(sync).collect()
}

/// A WAL through a descriptor of its own that stays open: the kernel tells each open descriptor once of a write
/// that failed, and may tell nothing to one that is opened later.
///
/// While the writer lives, SQLite neither removes nor replaces the WAL or the database. Another file under one of their
/// names was put there by somebody else (a backup restored under a running worker): what is committed goes to a file
/// without a name then, and nobody may be told that it is safe.
struct Wal {
    file: File,
    places: [OpenedFile; 2],
}

impl Wal {
    fn open(database: &Path) -> io::Result<Wal> {
        let wal = beside(database, "-wal");
        Ok(Wal {
            file: File::open(&wal)?,
            // The database is looked at by its name only: closing a descriptor of it would drop SQLite's locks.
            places: [OpenedFile::of(database.to_owned())?, OpenedFile::of(wal)?],
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()?;
        self.places.iter().try_for_each(OpenedFile::check)
    }
}

/// A name and the file that was there at first, by device and inode.
struct OpenedFile {
    path: PathBuf,
    id: (u64, u64),
}

impl OpenedFile {
    fn of(path: PathBuf) -> io::Result<OpenedFile> {
        let id = file_id(&path)?;
        Ok(OpenedFile { path, id })
    }

    fn check(&self) -> io::Result<()> {
        if file_id(&self.path).is_ok_and(|id| id == self.id) {
            return Ok(());
        }
        Err(io::Error::other(format!(
            "{} was removed or replaced under the running harvester; stop all harvesters on it before files are restored",
            self.path.display()
        )))
    }
}

fn file_id(path: &Path) -> io::Result<(u64, u64)> {
    let there = std::fs::metadata(path)?;
    Ok((there.dev(), there.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(folder: &Path) -> (PathBuf, PathBuf) {
        let database = folder.join("db");
        let wal = folder.join("db-wal");
        std::fs::write(&database, "one").unwrap();
        std::fs::write(&wal, "one").unwrap();
        (database, wal)
    }

    /// R19: what follows a restore under a running worker is never called safe.
    #[test]
    fn a_wal_or_database_that_is_replaced_or_gone_is_a_final_refusal() {
        for name in ["db", "db-wal"] {
            let folder = tempfile::tempdir().unwrap();
            let (database, wal) = files(folder.path());
            let synced = Wal::open(&database).unwrap();
            synced.sync().unwrap();
            std::fs::write(&wal, "more").unwrap();
            synced.sync().unwrap();

            let path = folder.path().join(name);
            let other = folder.path().join("other");
            std::fs::write(&other, "two").unwrap();
            std::fs::rename(&other, &path).unwrap();
            for _ in 0..2 {
                let error = synced.sync().unwrap_err().to_string();
                assert!(error.contains("removed or replaced"), "{error}");
            }
            std::fs::remove_file(&path).unwrap();
            assert!(synced.sync().is_err());
        }
    }

    #[test]
    fn a_wal_that_is_not_there_is_told_at_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let (database, wal) = files(folder.path());
        assert_eq!(syncs(&database, Durability::Full).unwrap().len(), SYNCS);
        std::fs::remove_file(wal).unwrap();
        let error = syncs(&database, Durability::Full).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(syncs(&database, Durability::Off).is_ok());
    }
}
