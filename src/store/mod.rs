//! The durable state: events, recordings and jobs, and the contract that every engine keeps.
//!
//! # The contract
//!
//! *Atomic.* Each call is one transaction: after an error nothing of it is stored, after `Ok` all of
//! it survives power loss.
//! *Deduplicated.* One `(source, dedupe_key)` is one event, however often and however concurrently it
//! is recorded. Within a recording one `identity` is one job.
//! *Fenced.* A write about a running job takes its [`Lease`](crate::model::Lease); when another claim has
//! happened since, or the job is not running any more, nothing is written and the answer is [`LeaseWrite::Stale`].
//! *Time.* `now` is always an argument; the store has no clock.
//! *Missing.* A job, recording or event that is not there is an empty answer, not an error.
//!
//! Each user of the store has a trait of its own, and [`JobStore`] is all of them in one object.

mod recovery;
pub mod sqlite;

mod archive;
mod body;
mod calls;
#[cfg(test)]
#[path = "../../tests/it/store/contract/mod.rs"]
mod cases;
mod claim;
mod contract;
mod engine;
mod event;
mod ids;
mod intake;
mod lease;
mod lifecycle;
#[cfg(test)]
mod memory;
mod operate;
mod purge;
mod record;
mod renewal;
mod seal;
mod settle;
mod stored;
mod tx;
mod views;

#[cfg(test)]
use memory::MemoryBackend as EngineUnderTest;

pub use body::KeptBody;
pub use claim::{ClaimRequest, Claimed, LONGEST_WAIT, LeaseWrite, UploadOwner};
pub use contract::{EventIntake, JobQueue, JobStore, ManifestQueue, OperatorAccess, ScanStore};
pub use event::{NewEvent, Recorded};
pub use lifecycle::{ProcessLock, StoreLifecycle};
pub use views::{
    EventRecord, Filter, KnownArtifact, ProviderLoss, Purged, Sealable, Selection, Stats, WalkTurn,
};
