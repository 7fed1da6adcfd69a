//! What an engine of the store has to offer besides the [statements](super::tx).

use futures::future::BoxFuture;

use super::tx::{Settlement, StoreRead, StoreTx};
use super::{LeaseWrite, NewEvent, ProcessLock, Recorded};
use crate::error::{Error, Result};

/// A database that keeps the store.
pub(super) trait StoreEngine: Send + Sync + 'static {
    /// Runs `work` in a transaction, which other callers may share; answers when it is durable. An error of `work` undoes
    /// what it did, and nothing else. It runs to its end even when the caller has gone away.
    fn write<T, W>(&self, work: W) -> impl Future<Output = Result<T>> + Send
    where
        T: Send + 'static,
        W: for<'c> FnOnce(&'c mut dyn StoreTx) -> BoxFuture<'c, Result<T>> + Send + 'static;

    /// Runs `read` on what is committed. Each of its statements sees one snapshot.
    fn read<T, R>(&self, read: R) -> impl Future<Output = Result<T>> + Send
    where
        T: Send + 'static,
        R: for<'c> FnOnce(&'c mut dyn StoreRead) -> BoxFuture<'c, Result<T>> + Send + 'static;

    /// As [`EventIntake::record`](super::EventIntake::record). Events that wait are recorded together, by [`record_all`](super::record::record_all).
    fn record(&self, new: NewEvent) -> impl Future<Output = Result<Recorded>> + Send;

    /// Settles an artifact that is in the bucket. Those that wait are settled together, by [`archive`](super::archive::archive).
    fn archive(&self, settlement: Settlement) -> impl Future<Output = Result<LeaseWrite>> + Send;

    /// Makes unreadable what was erased, wherever the engine may still have it.
    fn scrub(&self) -> impl Future<Output = Result<()>> + Send;

    /// As [`StoreLifecycle::lock_worker`](super::StoreLifecycle::lock_worker).
    fn lock_worker(&self) -> impl Future<Output = Result<ProcessLock>> + Send;

    /// As [`StoreLifecycle::show_alive`](super::StoreLifecycle::show_alive).
    fn show_alive(&self, name: &str) -> impl Future<Output = Result<ProcessLock>> + Send;

    /// Whether the process that has shown itself alive under `name` is dead. In doubt it is not: then the lease's time
    /// decides. What it has left is removed.
    fn bury(&self, name: &str) -> impl Future<Output = bool> + Send;

    /// As [`StoreLifecycle::lost`](super::StoreLifecycle::lost).
    fn lost(&self) -> impl Future<Output = Error> + Send;

    /// As [`StoreLifecycle::close`](super::StoreLifecycle::close).
    fn close(&self) -> impl Future<Output = ()> + Send;
}
