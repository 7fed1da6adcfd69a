//! Claims jobs, runs them under leases, settles them, seals recordings, and drains on shutdown.

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
    pub async fn run(&self, _shutdown: CancellationToken) -> Result<()> {
        todo!()
    }

    /// Works on these jobs (and what their lookups lead to) until they have settled or `shutdown`; answers with
    /// their final records. For `archive` in the foreground.
    pub async fn run_jobs(
        &self,
        _jobs: Vec<JobId>,
        _shutdown: CancellationToken,
    ) -> Result<Vec<Record>> {
        todo!()
    }
}
