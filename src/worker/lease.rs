//! Leases while they are held: renewed on a task of their own, so that a transfer that blocks does not
//! lose them, and given back by `Drop`.
//!
//! A lease that is lost (another worker has the job, or an operator cancelled it) stops its transfer
//! at once. The store refuses every write under it anyway; stopping keeps the bucket out of it too.

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::Worker;
use crate::error::{Error, Result};
use crate::model::{Checkpoint, JobId, Lease};
use crate::store::Written;
use crate::transfer::Ledger;

/// The leases that this worker holds now.
#[derive(Debug, Default)]
pub(super) struct Leases(Mutex<HashMap<JobId, Held>>);

#[derive(Clone, Debug)]
struct Held {
    lease: Lease,
    is_lost: Arc<AtomicBool>,
    cancel: CancellationToken,
}

impl Held {
    fn lose(&self) {
        self.is_lost.store(true, Ordering::Release);
        self.cancel.cancel();
    }
}

/// One held lease; dropping it ends the heartbeats for it.
#[derive(Debug)]
#[must_use = "the lease is renewed only while this lives"]
pub(super) struct Hold {
    leases: Arc<Leases>,
    held: Held,
}

impl Leases {
    /// Begins to renew `lease`; `cancel` is cancelled when it is lost.
    pub(super) fn hold(self: &Arc<Self>, lease: Lease, cancel: CancellationToken) -> Hold {
        let held = Held {
            lease,
            is_lost: Arc::default(),
            cancel,
        };
        let earlier = self.lock().insert(held.lease.job, held.clone());
        if let Some(earlier) = earlier {
            // We have claimed our own job anew: its lease had run out before we noticed.
            earlier.lose();
        }
        Hold {
            leases: Arc::clone(self),
            held,
        }
    }

    fn current(&self) -> Vec<Lease> {
        self.lock()
            .values()
            .map(|held| held.lease.clone())
            .collect()
    }

    fn lose(&self, asked: &[Lease], lost: &[JobId]) {
        let leases = self.lock();
        for job in lost {
            let Some(held) = leases.get(job) else {
                continue;
            };
            // Claimed anew since we asked: the answer was about the earlier lease.
            if asked.contains(&held.lease) {
                held.lose();
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<JobId, Held>> {
        self.0.lock().expect("no holder of this lock panics")
    }
}

impl Hold {
    /// The lease.
    pub(super) fn lease(&self) -> &Lease {
        &self.held.lease
    }

    /// Cancelled when the lease is lost, or with the token that it was given.
    pub(super) fn cancel(&self) -> &CancellationToken {
        &self.held.cancel
    }

    /// Whether it is known that the lease is no longer ours.
    pub(super) fn is_lost(&self) -> bool {
        self.held.is_lost.load(Ordering::Acquire)
    }

    /// Notes that a write under the lease was refused.
    pub(super) fn lose(&self) {
        self.held.lose();
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut leases = self.leases.lock();
        if leases
            .get(&self.held.lease.job)
            .is_some_and(|held| held.lease == self.held.lease)
        {
            leases.remove(&self.held.lease.job);
        }
    }
}

/// Renews all held leases until `stop`.
pub(super) async fn keep(worker: Worker, leases: Arc<Leases>, stop: CancellationToken) {
    let mut beat = tokio::time::interval(worker.settings.heartbeat);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = beat.tick() => {}
        }
        let held = leases.current();
        if held.is_empty() {
            continue;
        }
        match worker.store.heartbeat(&held, lease_until(&worker)).await {
            Ok(lost) => leases.lose(&held, &lost),
            Err(error) => tracing::warn!(
                leases = held.len(),
                "failed to renew leases: {}",
                error.full_message()
            ),
        }
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

/// An attempt younger than this part of a lease holds it without asking: a small file then costs no write for it.
const YOUNG_PART: u32 = 60;

/// The transfer's notes, written under the lease.
pub(super) struct LeaseLedger<'a> {
    worker: &'a Worker,
    hold: &'a Hold,
    last: Mutex<Option<Checkpoint>>,
    begun: (Timestamp, Instant),
}

impl<'a> LeaseLedger<'a> {
    /// A ledger that begins with what the claim found.
    pub(super) fn new(worker: &'a Worker, hold: &'a Hold, last: Option<Checkpoint>) -> Self {
        LeaseLedger {
            worker,
            hold,
            last: Mutex::new(last),
            begun: (worker.clock.now(), Instant::now()),
        }
    }

    /// Whether the attempt began so short a time ago that its lease can't have run out. By two clocks: one of
    /// them stands still while the machine is suspended, the other may be set back.
    fn is_young(&self) -> bool {
        let young = self.worker.settings.lease / YOUNG_PART;
        let (at, instant) = self.begun;
        let age = Duration::try_from(self.worker.clock.now().duration_since(at));
        age.is_ok_and(|age| age < young) && instant.elapsed() < young
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
        *self.last.lock().expect("no holder of this lock panics") = checkpoint.cloned();
        let lease = self.hold.lease();
        match self
            .worker
            .store
            .checkpoint(lease, checkpoint, bytes_done)
            .await
        {
            Ok(Written::Yes) => Ok(()),
            Ok(Written::Stale) => {
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
        if self.is_young() {
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
}

fn lost() -> Error {
    Error::internal("go on: the lease is lost, the job belongs to another worker or is cancelled")
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn lease(token: i64) -> Lease {
        Lease {
            job: JobId(Uuid::from_u128(1)),
            token,
        }
    }

    #[test]
    fn a_lease_is_renewed_until_its_hold_is_dropped() {
        let leases = Arc::new(Leases::default());
        let hold = leases.hold(lease(1), CancellationToken::new());
        assert_eq!(leases.current(), [lease(1)]);
        drop(hold);
        assert_eq!(leases.current(), []);
    }

    #[test]
    fn a_lost_lease_cancels_its_transfer() {
        let leases = Arc::new(Leases::default());
        let hold = leases.hold(lease(1), CancellationToken::new());
        leases.lose(&[lease(1)], &[lease(1).job]);
        assert!(hold.is_lost());
        assert!(hold.cancel().is_cancelled());
    }

    #[test]
    fn f87_our_own_later_claim_ends_the_earlier_attempt_and_outlives_its_drop() {
        let leases = Arc::new(Leases::default());
        let frozen = leases.hold(lease(1), CancellationToken::new());
        let asked = leases.current();
        let current = leases.hold(lease(2), CancellationToken::new());
        assert!(frozen.is_lost());
        // The answer to a heartbeat of before must not hit the new lease.
        leases.lose(&asked, &[lease(1).job]);
        assert!(!current.is_lost());
        drop(frozen);
        assert_eq!(leases.current(), [lease(2)]);
    }

    #[test]
    fn cancelling_the_parent_stops_the_transfer_without_losing_the_lease() {
        let leases = Arc::new(Leases::default());
        let abandon = CancellationToken::new();
        let hold = leases.hold(lease(1), abandon.child_token());
        abandon.cancel();
        assert!(hold.cancel().is_cancelled());
        assert!(!hold.is_lost());
    }
}
