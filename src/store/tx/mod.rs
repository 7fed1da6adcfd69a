//! One transaction as typed statements: all that the algorithms of the store ask of an engine.
//!
//! The algorithms stand beside this module ([`record`](super::record), [`lease`](super::lease),
//! [`settle`](super::settle), ...) and are the same for every engine: they decide what happens and in which order.
//! A statement takes and gives plain data. How it is done, in which dialect and with which indexes, is the engine's.
//! A statement that concerns several rows takes all of them, so that an engine needs one way to its database for each.
//!
//! # Async, and a trait object
//!
//! The statements are async, and an algorithm takes `&mut dyn StoreTx`. Both engines that matter need that:
//!
//! - SQLite: one writer task owns the connection and shares a transaction among many callers (group commit).
//!   It runs each algorithm on its connection, in a savepoint where several share the transaction. The connection
//!   itself works on a thread of its own, so each statement is a message there and back, which is a wait.
//! - Postgres: an algorithm runs on a connection of a pool between `BEGIN` and `COMMIT`, and each statement is a round trip.
//!   Nothing here lives longer than the transaction, so a pooler in transaction mode may stand in between: no session locks,
//!   no `LISTEN` and no prepared names across transactions. Jobs are chosen and leased by two statements of one transaction;
//!   [`QueueTx::due_jobs`] is where `FOR UPDATE SKIP LOCKED` belongs.
//!
//! A trait of blocking statements would fit only SQLite, with its loop on a thread of ours, and would need an
//! adapter that blocks a thread for each transaction of Postgres. A box for each statement costs far less than the
//! statement, and callers box the whole algorithm in any case.
//!
//! An algorithm runs once: a transaction that fails is the caller's error, and transient errors are tried again
//! by the caller. An engine whose transactions can fail by conflict (Postgres above `READ COMMITTED`) answers
//! with a transient error.

mod intake;
mod manifest;
mod operator;
mod purge;
mod queue;
mod read;

pub(super) use intake::{FailureRow, IntakeTx, JobRow, Pair, Receipt, SavedInRoom};
pub(super) use manifest::ManifestTx;
pub(super) use operator::{OperatorTx, ScanTx};
pub(super) use purge::{PurgeTx, StaleAges, StaleOrigin, Upkeep};
pub(super) use queue::{
    ArchivedJob, Candidate, DueJobs, DueTimes, FailureToCure, GiveUp, LeaseJobs, LeasedJob,
    QueueTx, Requeue, Settlement, UnreadableJob, by_recording,
};
pub(super) use read::StoreRead;

/// All statements of one transaction.
pub(super) trait StoreTx:
    StoreRead + IntakeTx + QueueTx + ManifestTx + OperatorTx + ScanTx + PurgeTx
{
}

impl<T> StoreTx for T where
    T: StoreRead + IntakeTx + QueueTx + ManifestTx + OperatorTx + ScanTx + PurgeTx
{
}
