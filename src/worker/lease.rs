//! Leases are renewed on a task of their own, so that a transfer that blocks does not lose them, and everything that a
//! transfer notes is written under them.

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::Worker;
use super::hold::{LeaseGuard, Leases};
use super::taken::ClaimTime;
use crate::error::{Error, Result};
use crate::model::Checkpoint;
use crate::source::Waits;
use crate::store::LeaseWrite;
use crate::transfer::Ledger;

/// Renews all held leases until `stop`, and cancels the attempts that tell no progress.
pub(super) async fn keep(worker: Worker, leases: Arc<Leases>, stop: CancellationToken) {
    // Looked at more often than renewed where patience is shorter than that.
    let every = worker.settings.heartbeat.min(leases.silence());
    let mut beat = tokio::time::interval(every.max(Duration::from_millis(1)));
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = beat.tick() => {}
        }
        for job in leases.cancel_stuck() {
            tracing::error!(%job, "an attempt told no progress for {:?}: cancelled", leases.silence());
        }
        renew(&worker, &leases).await;
    }
}

/// Renews all held leases.
pub(super) async fn renew(worker: &Worker, leases: &Leases) {
    let held = leases.current();
    if held.is_empty() {
        return;
    }
    match worker.store.heartbeat(&held, lease_until(worker)).await {
        Ok(lost) => leases.lose(&held, &lost),
        Err(error) => tracing::warn!(
            leases = held.len(),
            "failed to renew leases: {}",
            error.full_message()
        ),
    }
}

/// Until when a lease that is taken or renewed now lives.
pub(super) fn lease_until(worker: &Worker) -> Timestamp {
    let lease = SignedDuration::try_from(worker.settings.lease).unwrap_or(SignedDuration::MAX);
    worker
        .clock
        .now()
        .saturating_add(lease)
        .unwrap_or(Timestamp::MAX)
}

/// The first wait after the store has failed.
const STORE_DELAY: Duration = Duration::from_millis(50);

/// The longest wait between two tries of the store.
const STORE_MAX_DELAY: Duration = Duration::from_secs(5);

/// Tries a write again while the store fails, for as long as a lease lives: after that the job is
/// anyone's.
pub(super) async fn persist<T, Fut>(worker: &Worker, call: impl Fn() -> Fut) -> Result<T>
where
    Fut: Future<Output = Result<T>>,
{
    let patience = Instant::now() + worker.settings.lease;
    let mut delay = STORE_DELAY;
    loop {
        match call().await {
            Err(error) if Instant::now() + delay < patience => {
                tracing::warn!("the store failed, trying again: {}", error.full_message());
            }
            end => return end,
        }
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(STORE_MAX_DELAY);
    }
}

/// The transfer's notes, written under the lease.
pub(super) struct LeaseLedger<'a> {
    worker: &'a Worker,
    hold: &'a LeaseGuard,
    last: Mutex<Option<Checkpoint>>,
}

impl<'a> LeaseLedger<'a> {
    /// A ledger that begins with what the claim found.
    pub(super) fn new(worker: &'a Worker, hold: &'a LeaseGuard, last: Option<Checkpoint>) -> Self {
        LeaseLedger {
            worker,
            hold,
            last: Mutex::new(last),
        }
    }

    /// The checkpoint as it was last noted.
    pub(super) fn into_last(self) -> Option<Checkpoint> {
        self.last
            .into_inner()
            .expect("no holder of this lock panics")
    }
}

#[async_trait]
impl Ledger for LeaseLedger<'_> {
    async fn save(&self, checkpoint: Option<&Checkpoint>, bytes_done: u64) -> Result<()> {
        if self.hold.is_lost() {
            return Err(lost());
        }
        self.hold.pulse().tell();
        *self.last.lock().expect("no holder of this lock panics") = checkpoint.cloned();
        let lease = self.hold.lease();
        match self
            .worker
            .store
            .checkpoint(lease, checkpoint, bytes_done)
            .await
        {
            Ok(LeaseWrite::Yes) => Ok(()),
            Ok(LeaseWrite::Stale) => {
                self.hold.lose();
                Err(lost())
            }
            // An open origin is worth more than the note: without it a part goes up twice at worst.
            Err(error) => {
                tracing::warn!(job = %lease.job, "failed to note a checkpoint: {}", error.full_message());
                Ok(())
            }
        }
    }

    async fn is_held(&self) -> bool {
        if self.hold.is_lost() {
            return false;
        }
        self.hold.pulse().tell();
        let (taken, lease) = (self.hold.taken(), self.worker.settings.lease);
        if taken.is_young(ClaimTime::now(self.worker), lease) {
            return true;
        }
        // Asked of the store, not of our memory: a machine that was frozen believes what is long past.
        let lease = std::slice::from_ref(self.hold.lease());
        let asked = persist(self.worker, || {
            self.worker.store.heartbeat(lease, lease_until(self.worker))
        });
        match asked.await {
            Ok(lost) if lost.is_empty() => true,
            Ok(_) => {
                self.hold.lose();
                false
            }
            Err(error) => {
                tracing::warn!(
                    job = %self.hold.lease().job,
                    "failed to ask whether the lease is held: {}",
                    error.full_message()
                );
                false
            }
        }
    }

    fn waits(&self) -> Waits {
        self.hold.pulse().waits()
    }
}

fn lost() -> Error {
    Error::internal("go on: the lease is lost, the job belongs to another worker or is cancelled")
}
