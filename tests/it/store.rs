//! The store: the cases that every engine passes, here over SQLite, and what only SQLite promises.

mod contract;
mod migration;
mod purge;
mod sqlite;
mod sqlite_disk;
mod unreadable;
mod upgrade;

use std::sync::Arc;

use async_trait::async_trait;
use recording_harvester::store::JobStore;
use recording_harvester::store::sqlite::SqliteStore;

use Sqlite as EngineUnderTest;
use contract::Backend;

pub struct Sqlite {
    folder: tempfile::TempDir,
}

impl Sqlite {
    pub fn new() -> Sqlite {
        Sqlite {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("state").join("harvester.db")
    }
}

#[async_trait]
impl Backend for Sqlite {
    async fn open(&self) -> Arc<dyn JobStore> {
        Arc::new(SqliteStore::open(&self.path()).await.unwrap())
    }
}
