//! The store in memory: an engine without durability, for the suite of cases that every engine passes. Its statements are
//! the plainest form of what those of the other engines mean.
//!
//! One transaction at a time has the rows; what it has changed is taken back when it fails.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::future::BoxFuture;
use tokio::sync::Mutex as AsyncMutex;
use uuid::Uuid;

use super::archive::archive;
use super::cases::Backend;
use super::engine::StoreEngine;
use super::ids::Ids;
use super::tx::{Settlement, StoreRead, StoreTx};
use super::{JobStore, LeaseWrite, NewEvent, ProcessLock, Recorded, record};
use crate::error::{Class, Error, Result};
use crate::model::{EventId, JobId, RecordingId};
use rows::{StoredEvent, StoredFailure, StoredJob, StoredRecording, StoredScan};
use table::UndoTable;

mod intake;
mod queue;
mod read;
mod rows;
mod table;
mod upkeep;

/// All rows.
#[derive(Debug, Default)]
struct Rows {
    recordings: UndoTable<RecordingId, StoredRecording>,
    jobs: UndoTable<JobId, StoredJob>,
    events: UndoTable<EventId, StoredEvent>,
    failures: UndoTable<Uuid, StoredFailure>,
    answers: UndoTable<(RecordingId, String), JobId>,
    scans: UndoTable<String, StoredScan>,
    ids: Ids,
}

impl Rows {
    fn commit(&mut self) {
        self.recordings.commit();
        self.jobs.commit();
        self.events.commit();
        self.failures.commit();
        self.answers.commit();
        self.scans.commit();
    }

    fn roll_back(&mut self) {
        self.recordings.roll_back();
        self.jobs.roll_back();
        self.events.roll_back();
        self.failures.roll_back();
        self.answers.roll_back();
        self.scans.roll_back();
    }
}

/// What several handles share, as processes share a file.
#[derive(Debug, Default)]
struct SharedRows {
    rows: AsyncMutex<Rows>,
    /// The names of what is locked.
    locks: Arc<Mutex<HashSet<String>>>,
}

/// A handle on the rows.
#[derive(Debug, Default)]
struct MemoryStore {
    shared: Arc<SharedRows>,
    is_closed: AtomicBool,
}

impl MemoryStore {
    /// Another handle on the same rows, as another process has it.
    fn again(&self) -> MemoryStore {
        MemoryStore {
            shared: Arc::clone(&self.shared),
            is_closed: AtomicBool::new(false),
        }
    }

    fn check_open(&self) -> Result<()> {
        match self.is_closed.load(Ordering::Relaxed) {
            true => Err(Error::transient(
                Class::Internal,
                "use the store: it is closed",
            )),
            false => Ok(()),
        }
    }

    fn lock(&self, name: String) -> Option<HeldLock> {
        let locks = Arc::clone(&self.shared.locks);
        let is_free = with(&locks, |held| held.insert(name.clone()));
        is_free.then_some(HeldLock { name, locks })
    }
}

impl StoreEngine for MemoryStore {
    async fn write<T, W>(&self, work: W) -> Result<T>
    where
        T: Send + 'static,
        W: for<'c> FnOnce(&'c mut dyn StoreTx) -> BoxFuture<'c, Result<T>> + Send + 'static,
    {
        self.check_open()?;
        // Others get in between two transactions of a caller, as they do where a commit waits for a disk.
        tokio::task::yield_now().await;
        // No statement ever waits, so that nobody can go away in the middle.
        let mut rows = self.shared.rows.lock().await;
        let result = work(&mut *rows).await;
        match result {
            Ok(_) => rows.commit(),
            Err(_) => rows.roll_back(),
        }
        result
    }

    async fn read<T, R>(&self, read: R) -> Result<T>
    where
        T: Send + 'static,
        R: for<'c> FnOnce(&'c mut dyn StoreRead) -> BoxFuture<'c, Result<T>> + Send + 'static,
    {
        self.check_open()?;
        read(&mut *self.shared.rows.lock().await).await
    }

    async fn record(&self, mut new: NewEvent) -> Result<Recorded> {
        self.check_open()?;
        record::clean(&mut new);
        let mut rows = self.shared.rows.lock().await;
        let mut ids = std::mem::take(&mut rows.ids);
        let recorded = record::record_all(&mut *rows, &mut ids, std::slice::from_ref(&new)).await;
        rows.ids = ids;
        match recorded {
            Ok(mut recorded) => {
                rows.commit();
                Ok(recorded.remove(0))
            }
            Err(error) => {
                rows.roll_back();
                Err(error)
            }
        }
    }

    async fn archive(&self, settlement: Settlement) -> Result<LeaseWrite> {
        let archived = self.write(move |tx| {
            Box::pin(async move { archive(tx, std::slice::from_ref(&settlement)).await })
        });
        Ok(archived.await?.remove(0))
    }

    async fn scrub(&self) -> Result<()> {
        Ok(())
    }

    async fn lock_worker(&self) -> Result<ProcessLock> {
        let lock = self.lock("the worker".to_owned()).ok_or_else(|| {
            Error::internal("start a worker: another one runs on this store".to_owned())
        })?;
        Ok(ProcessLock::new(lock))
    }

    async fn show_alive(&self, name: &str) -> Result<ProcessLock> {
        let lock = self
            .lock(format!("process {name}"))
            .ok_or_else(|| Error::internal(format!("show {name} alive: another one is")))?;
        Ok(ProcessLock::new(lock))
    }

    async fn bury(&self, name: &str) -> bool {
        let name = format!("process {name}");
        !with(&self.shared.locks, |held| held.contains(&name))
    }

    async fn lost(&self) -> Error {
        std::future::pending().await
    }

    async fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
    }
}

/// Rows in memory of which each process has a handle.
pub(super) struct MemoryBackend(MemoryStore);

impl MemoryBackend {
    pub(super) fn new() -> MemoryBackend {
        MemoryBackend(MemoryStore::default())
    }
}

#[async_trait]
impl Backend for MemoryBackend {
    async fn open(&self) -> Arc<dyn JobStore> {
        Arc::new(self.0.again())
    }
}

/// A name that is locked until this is dropped.
struct HeldLock {
    name: String,
    locks: Arc<Mutex<HashSet<String>>>,
}

impl Drop for HeldLock {
    fn drop(&mut self) {
        with(&self.locks, |held| held.remove(&self.name));
    }
}

fn with<T>(locks: &Mutex<HashSet<String>>, act: impl FnOnce(&mut HashSet<String>) -> T) -> T {
    act(&mut locks.lock().unwrap_or_else(PoisonError::into_inner))
}
