//! A worker in the background: the whole queue until a shutdown, and beside it the manifests and the sweep.

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::destination::BucketTrust;
use super::feed::queue::QueueFeed;
use super::runner::{Runner, STOP_TIMEOUT};
use super::supervise::{flattened, keep_going};
use super::{Worker, manifest, sweep};
use crate::error::Result;

/// Works on everything until `shutdown`, then drains and seals.
///
/// # Errors
/// `internal`, after the drain, when one of the tasks that go on beside the work panics again and again.
pub(super) async fn run(worker: &Worker, shutdown: &CancellationToken) -> Result<()> {
    // Ended by a shutdown, and by a task that can't be kept going.
    let stop = shutdown.child_token();
    let stop_sealing = CancellationToken::new();
    let bucket = Arc::<BucketTrust>::default();
    let feed = QueueFeed::new(worker, Arc::clone(&bucket));
    let mut runner = Runner::new(worker, feed, Arc::clone(&bucket), &stop);
    let settled = runner.settled();
    let (sealing, sealed) = (worker.clone(), stop_sealing.clone());
    let mut beside = JoinSet::new();
    beside.spawn(keep_going(
        "sealer",
        worker,
        &stop_sealing,
        &stop,
        move || manifest::keep(sealing.clone(), Arc::clone(&settled), sealed.clone()),
    ));
    let (sweeping, swept) = (worker.clone(), stop.clone());
    beside.spawn(keep_going("sweep", worker, &stop, &stop, move || {
        sweep::keep(sweeping.clone(), swept.clone())
    }));
    let asking = worker.clone();
    beside.spawn(async move {
        bucket.refuses_all(&asking).await;
        Ok(())
    });
    runner.work(&stop).await;
    let mut ended = runner.drain().await;
    stop_sealing.cancel();
    let all = async {
        while let Some(one) = beside.join_next().await {
            ended = std::mem::replace(&mut ended, Ok(())).and(flattened(one));
        }
    };
    if tokio::time::timeout(STOP_TIMEOUT, all).await.is_err() {
        tracing::warn!("stopped before all manifests were written: the next start writes them");
    }
    ended
}
