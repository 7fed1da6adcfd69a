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

/// Syncs under way at once at most. Disks take several together in hardly more time than one; with more of
/// them, transactions get too small to share their cost.
const SYNCS: usize = 4;

/// Makes durable what has been written so far.
pub(super) type Sync = Box<dyn FnMut() -> io::Result<()> + Send>;

/// As many as may be under way at once, for the WAL at `wal`.
pub(super) fn syncs(wal: &Path, durability: Durability) -> Vec<Sync> {
    let sync = |_| -> Sync {
        match durability {
            Durability::Full => {
                let mut wal = Wal::new(wal);
                Box::new(move || wal.sync())
            }
            Durability::Off => Box::new(|| Ok(())),
        }
    };
    (0..SYNCS).map(sync).collect()
}

/// A WAL through a descriptor of its own that stays open: the kernel tells each open descriptor once of a write
/// that failed, and may tell nothing to one that is opened later.
struct Wal {
    path: PathBuf,
    open: Option<File>,
}

impl Wal {
    fn new(path: &Path) -> Wal {
        Wal {
            path: path.to_owned(),
            open: File::open(path).ok(),
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        let there = std::fs::metadata(&self.path)?;
        let file = match self.open.take() {
            Some(file) if file.metadata()?.ino() == there.ino() => file,
            _ => File::open(&self.path)?,
        };
        self.open.insert(file).sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wal_that_was_made_anew_is_opened_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db-wal");
        let mut wal = Wal::new(&path);
        assert_eq!(wal.sync().unwrap_err().kind(), io::ErrorKind::NotFound);
        std::fs::write(&path, "one").unwrap();
        wal.sync().unwrap();
        let first = wal.open.as_ref().unwrap().metadata().unwrap().ino();
        // A name of its own, so that the number of the first is not given out again.
        std::fs::write(folder.path().join("other"), "two").unwrap();
        std::fs::rename(folder.path().join("other"), &path).unwrap();
        wal.sync().unwrap();
        let second = wal.open.as_ref().unwrap().metadata().unwrap().ino();
        assert_ne!(first, second);
    }
}
