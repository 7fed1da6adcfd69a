//! The leases of one run: renewed on a task of their own, and before anything else after a jump of the clock.

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::hold::Leases;
use super::supervise::{flattened, keep_going};
use super::taken::ClaimTime;
use super::{Worker, lease};
use crate::error::Result;

/// The leases that a run holds, and the task that renews them.
pub(super) struct LeaseRenewal {
    pub(super) leases: Arc<Leases>,
    heartbeats: JoinSet<Result<()>>,
    stop: CancellationToken,
    /// When the queue was looked at last, by both clocks.
    last_look: ClaimTime,
    /// Before this the leases of others are left alone: after a jump of the clock they look older than they are.
    lapses_from: Instant,
}

impl LeaseRenewal {
    /// Begins to renew. Cancels `stop_work` when that can't be kept going.
    pub(super) fn start(worker: &Worker, stop_work: &CancellationToken) -> LeaseRenewal {
        let leases = Arc::new(Leases::new(worker.settings.silence));
        let stop = CancellationToken::new();
        let mut heartbeats = JoinSet::new();
        let (beating, kept, until) = (worker.clone(), Arc::clone(&leases), stop.clone());
        heartbeats.spawn(keep_going(
            "heartbeats",
            worker,
            &stop,
            stop_work,
            move || lease::keep(beating.clone(), Arc::clone(&kept), until.clone()),
        ));
        LeaseRenewal {
            leases,
            heartbeats,
            stop,
            last_look: ClaimTime::now(worker),
            lapses_from: Instant::now(),
        }
    }

    /// After a jump of the clock, or a time in which the machine stood still, our own leases are renewed before anybody
    /// claims, and other processes get the time to do the same.
    pub(super) async fn heed_clock(&mut self, worker: &Worker, now: ClaimTime) {
        let heartbeat = worker.settings.heartbeat;
        let apart = self.last_look.disagreement(now);
        self.last_look = now;
        if apart <= heartbeat {
            return;
        }
        tracing::warn!(
            "the clock jumped by {} s, or this machine stood still: renewing all leases first",
            apart.as_secs()
        );
        self.lapses_from = now.instant() + 2 * heartbeat;
        lease::renew(worker, &self.leases).await;
    }

    /// Whether a claim at `now` may take over the leases of others that have run out.
    pub(super) fn takes_lapsed(&self, now: ClaimTime) -> bool {
        now.instant() >= self.lapses_from
    }

    /// Stops renewing.
    ///
    /// # Errors
    /// When the heartbeats could not be kept going.
    pub(super) async fn end(&mut self) -> Result<()> {
        self.stop.cancel();
        let mut kept = Ok(());
        while let Some(ended) = self.heartbeats.join_next().await {
            kept = kept.and(flattened(ended));
        }
        kept
    }
}
