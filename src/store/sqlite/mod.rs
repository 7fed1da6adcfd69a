//! The store in one SQLite file: WAL, synced at each commit, one connection that writes and a few that read.

use std::path::{Path, PathBuf};

use futures::future::BoxFuture;
use sqlx::SqlitePool;

use super::engine::StoreEngine;
use super::tx::{Settlement, StoreRead, StoreTx};
use super::{LeaseWrite, NewEvent, ProcessLock, Recorded};
use crate::error::{Error, Result};
use writer::WriterHandle;

mod batch;
mod connection;
#[cfg(test)]
mod crash_images;
mod disk;
mod durable;
mod error;
mod gather;
mod identities;
mod intake;
mod lock;
mod lost_write;
mod manifest;
mod open;
mod operator;
#[cfg(test)]
mod plans;
mod purge;
mod queue;
mod read;
mod record_json;
mod rows;
mod sql;
#[cfg(test)]
mod statements;
mod wal;
mod work;
mod writer;

/// What a commit waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// For the disk: what is acknowledged survives power loss.
    #[default]
    Full,
    /// For nothing: only to measure what durability costs.
    Off,
}

/// How a file is opened.
#[derive(Clone, Debug, Default)]
pub struct SqliteOptions {
    /// What a commit waits for.
    pub durability: Durability,
    /// How many pages of 4 KiB the file may have; by default SQLite's own limit.
    pub max_pages: Option<u32>,
}

/// The store in one SQLite file. Several processes may open it; one of them may be a worker, and
/// proves it by [`lock_worker`](super::StoreLifecycle::lock_worker).
#[derive(Debug)]
pub struct SqliteStore {
    path: PathBuf,
    writer: WriterHandle,
    readers: SqlitePool,
}

impl SqliteStore {
    /// Opens the file, making it (0600) and its folder (0700) if they are missing. Refuses a file that is no
    /// database, is damaged, is another program's, or is of a newer schema.
    pub async fn open(path: &Path) -> Result<SqliteStore> {
        SqliteStore::open_with(path, &SqliteOptions::default()).await
    }

    /// As [`open`](SqliteStore::open), with options.
    pub async fn open_with(path: &Path, options: &SqliteOptions) -> Result<SqliteStore> {
        let syncs = || disk::syncs(path, options.durability);
        SqliteStore::open_synced_by(path, options, syncs).await
    }

    async fn open_synced_by(
        path: &Path,
        options: &SqliteOptions,
        syncs: impl FnOnce() -> std::io::Result<Vec<disk::Sync>>,
    ) -> Result<SqliteStore> {
        let (writer, readers) = open::open(path, options, syncs).await?;
        Ok(SqliteStore {
            path: path.to_owned(),
            writer,
            readers,
        })
    }

    fn seats(&self) -> PathBuf {
        open::beside(&self.path, ".seats")
    }
}

impl StoreEngine for SqliteStore {
    async fn write<T, W>(&self, work: W) -> Result<T>
    where
        T: Send + 'static,
        W: for<'c> FnOnce(&'c mut dyn StoreTx) -> BoxFuture<'c, Result<T>> + Send + 'static,
    {
        self.writer.write(move |conn| work(conn)).await
    }

    async fn read<T, R>(&self, read: R) -> Result<T>
    where
        T: Send + 'static,
        R: for<'c> FnOnce(&'c mut dyn StoreRead) -> BoxFuture<'c, Result<T>> + Send + 'static,
    {
        let mut conn = read::reader(&self.readers).await?;
        read(&mut *conn).await
    }

    async fn record(&self, new: NewEvent) -> Result<Recorded> {
        self.writer.record(new).await
    }

    async fn archive(&self, settlement: Settlement) -> Result<LeaseWrite> {
        self.writer.archive(settlement).await
    }

    /// In the WAL all of it can still be read, and what was forgotten when recordings were sealed as well: where
    /// nothing else happens it would stay there for ever.
    async fn scrub(&self) -> Result<()> {
        self.writer.copy_wal().await
    }

    async fn lock_worker(&self) -> Result<ProcessLock> {
        lock::lock(&open::beside(&self.path, ".lock")).map(ProcessLock::new)
    }

    async fn show_alive(&self, name: &str) -> Result<ProcessLock> {
        lock::take_seat(&self.seats(), name).map(ProcessLock::new)
    }

    async fn bury(&self, name: &str) -> bool {
        let is_dead = lock::is_vacant(&self.seats(), name);
        if is_dead {
            lock::clear_seat(&self.seats(), name);
        }
        is_dead
    }

    async fn lost(&self) -> Error {
        self.writer.lost().await
    }

    async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}
