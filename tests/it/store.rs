//! The store's contract, as cases that every back end runs, and what only SQLite promises.

mod build;
mod cures;
mod fresh;
mod intake;
mod leases;
mod migration;
mod operator;
mod purge;
mod random;
mod redelivered;
mod sealing;
mod sqlite;
mod unreadable;
mod upgrade;
mod walks;

use std::sync::Arc;

use async_trait::async_trait;
use recording_harvester::store::JobStore;
use recording_harvester::store::sqlite::SqliteStore;

/// One back end with a database of its own, which can be opened several times.
#[async_trait]
pub trait Backend: Send + Sync {
    async fn open(&self) -> Arc<dyn JobStore>;
}

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

/// Makes one test of each case and back end; a case is `async fn(&dyn Backend)`.
macro_rules! on_every_backend {
    ($($case:ident),+ $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test]
            async fn $case() {
                super::$case(&crate::store::Sqlite::new()).await;
            })+
        }
    };
}
use on_every_backend;
