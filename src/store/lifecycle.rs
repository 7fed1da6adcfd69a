//! What a process does to the store as a whole: it takes its place beside others, keeps the store small, and leaves.

use std::fmt;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

use super::Purged;
use crate::error::{Error, Result};

/// A process and its store, from the start to the end.
#[async_trait]
pub trait StoreLifecycle: Send + Sync + 'static {
    /// Makes this process the only worker on the store.
    ///
    /// # Errors
    /// When another process is the worker.
    async fn lock_worker(&self) -> Result<ProcessLock>;

    /// Shows the other processes on the store that the holder of leases under `name` is alive. The name must
    /// be one that no process has had before, made of characters that a file name may have.
    async fn show_alive(&self, name: &str) -> Result<ProcessLock>;

    /// Ends the leases of processes that have died, so that their jobs can be claimed at once.
    /// Answers how many there were. The attempts stay counted.
    async fn free_leases_of_the_dead(&self) -> Result<u64>;

    /// Erases what is of no more use: the URLs of lost jobs that are dead, or were given up a month ago, and what events that carried
    /// nothing said. With a `retention`, all rows of sealed recordings that have not changed for so long leave as well; of their
    /// events the keys stay for 90 days more, so that a repeated delivery is known.
    async fn purge(&self, now: Timestamp, retention: Option<SignedDuration>) -> Result<Purged>;

    /// Waits until the store has lost a write, after which nothing is certain and nothing is written any more; for
    /// ever when it never does. Only a new start reads what is really there.
    async fn lost(&self) -> Error;

    /// Writes what waits and closes the store. Calls that come later fail.
    async fn close(&self);
}

/// What a process holds as long as it lives. It is given back when this is dropped, and by the death of the process.
#[must_use = "the lock ends when this is dropped"]
pub struct ProcessLock {
    _held: Box<dyn Send + Sync>,
}

impl ProcessLock {
    /// A lock that ends when `held` is dropped.
    pub(super) fn new(held: impl Send + Sync + 'static) -> ProcessLock {
        ProcessLock {
            _held: Box::new(held),
        }
    }
}

impl fmt::Debug for ProcessLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProcessLock")
    }
}
