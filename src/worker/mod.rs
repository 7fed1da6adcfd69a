//! Claims jobs, runs them under leases, settles them, seals recordings, and drains on shutdown.
//!
//! A `runner` is one run of the worker: it claims what its `feed` has (the whole queue in the background, a list in the
//! foreground), starts each job as an `attempt` in a task of its own, and drains. Beside it, and independent of what
//! it waits for, the leases are renewed and the manifests of the recordings whose jobs have settled are written.
//!
//! Trouble stays where it arises: a panic costs one attempt, a store that fails is waited for, a
//! bucket that refuses everything pauses the claiming and costs no attempts, one that denies an object costs that
//! object's attempts alone.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::SharedClock;
use crate::error::Result;
use crate::model::api::Credentials;
use crate::model::progress::Emit;
use crate::model::{JobId, Record};
use crate::object::ObjectStore;
use crate::schedule::retry::RetrySettings;
use crate::source::Source;
use crate::store::JobStore;
use crate::transfer::Engine;

mod attempt;
mod background;
mod clocks;
mod completing;
mod destination;
mod document;
mod feed;
mod foreground;
mod hold;
mod lease;
mod lookup;
mod manifest;
mod pace;
pub mod purge;
mod question;
pub mod reconcile;
mod renewal;
mod runner;
pub mod scan;
mod settle;
mod supervise;
mod sweep;
mod taken;

pub use document::EventDocuments;
pub use pace::{ApiPace, PaceSettings};

/// How a worker works.
#[derive(Clone, Debug)]
pub struct WorkerSettings {
    /// The name under which it holds leases.
    pub name: String,
    /// Large transfers at once.
    pub transfers: u32,
    /// Small ones at once, in a lane of their own.
    pub small_transfers: u32,
    /// How long a lease lives without a heartbeat.
    pub lease: Duration,
    /// How often it is renewed.
    pub heartbeat: Duration,
    /// How long an attempt may tell no progress before it is cancelled.
    pub silence: Duration,
    /// How long a shutdown waits for parts on their way.
    pub grace: Duration,
    /// The longest time between two looks at the queue.
    pub poll: Duration,
    /// The bounds of retrying.
    pub retry: RetrySettings,
}

/// What the worker has to know of a source.
#[derive(Clone, Debug, Default)]
pub struct SourceAccess {
    /// For lookups and fresh URLs.
    pub credentials: Credentials,
    /// Hosts that its URLs may name; empty means any public one.
    pub allow_hosts: Vec<String>,
    /// How fast its API may be asked, by everybody together.
    pub pace: Arc<ApiPace>,
    /// Who counts its fresh URLs.
    pub on_remint: OnRemint,
    /// What its events are as files.
    pub documents: EventDocuments,
}

/// Hears of each fresh URL that was asked for: whether there was one.
#[derive(Clone, Default)]
pub struct OnRemint(pub Option<Arc<dyn Fn(bool) + Send + Sync>>);

impl std::fmt::Debug for OnRemint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OnRemint")
    }
}

/// Everything that a worker needs.
#[derive(Clone)]
pub struct Worker {
    /// The queue.
    pub store: Arc<dyn JobStore>,
    /// The carrier.
    pub engine: Engine,
    /// For lookups.
    pub source: Arc<dyn Source>,
    /// For manifests and reports.
    pub objects: Arc<dyn ObjectStore>,
    /// What time it is.
    pub clock: SharedClock,
    /// Per source, by name.
    pub access: Arc<HashMap<String, SourceAccess>>,
    /// Who hears of progress.
    pub emit: Emit,
    /// How to work.
    pub settings: WorkerSettings,
    /// Rings when new jobs were recorded in this process.
    pub bell: Arc<tokio::sync::Notify>,
}

impl Worker {
    /// Works until `shutdown`, then drains: stops claiming, lets transfers finish within the grace
    /// period, hands the rest back.
    ///
    /// # Errors
    /// `internal` when one of its tasks panics again and again: only a new start may help. All else that fails is
    /// logged, waited for and tried again.
    pub async fn run(&self, shutdown: CancellationToken) -> Result<()> {
        background::run(self, &shutdown).await
    }

    /// Works on these jobs (and what their lookups lead to) until they have settled or `shutdown`; answers with
    /// their final records. For `archive` in the foreground.
    ///
    /// A bucket that refuses ends it early: the jobs stay `pending`, with the reason in their records.
    ///
    /// # Errors
    /// When the store can't tell the records at the end.
    pub async fn run_jobs(
        &self,
        jobs: Vec<JobId>,
        shutdown: CancellationToken,
    ) -> Result<Vec<Record>> {
        let records = feed::list::records_of(self, jobs.into_iter()).await?;
        self.run_records(records, shutdown).await
    }

    /// As [`run_jobs`](Worker::run_jobs), by their records as they stand now.
    ///
    /// # Errors
    /// When the store can't tell the records at the end.
    pub async fn run_records(
        &self,
        records: Vec<Record>,
        shutdown: CancellationToken,
    ) -> Result<Vec<Record>> {
        foreground::run(self, records, &shutdown).await
    }
}
