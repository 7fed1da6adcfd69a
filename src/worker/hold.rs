//! The leases that this worker holds: given back by `Drop`, lost when another worker has the job or an operator has cancelled
//! it, and stuck when an attempt tells no progress.
//!
//! A lost lease stops its transfer at once. The store refuses every write under it anyway; stopping keeps the bucket
//! out of it too.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::taken::ClaimTime;
use crate::model::{JobId, Lease};
use crate::source::Waits;

/// How much longer a stuck attempt may take to stop by itself, before it is dropped.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// The leases that this worker holds now.
#[derive(Debug)]
pub(super) struct Leases {
    held: Mutex<HashMap<JobId, HeldJob>>,
    /// How long an attempt may tell no progress.
    silence: Duration,
}

#[derive(Clone, Debug)]
struct HeldJob {
    lease: Lease,
    is_lost: Arc<AtomicBool>,
    is_stuck: Arc<AtomicBool>,
    cancel: CancellationToken,
    pulse: Pulse,
}

impl HeldJob {
    fn lose(&self) {
        self.is_lost.store(true, Ordering::Release);
        self.cancel.cancel();
    }
}

/// When an attempt last told that it moves: bytes, a try, an answer; or until when it said that it waits.
#[derive(Clone, Debug)]
pub(super) struct Pulse(Arc<Mutex<Instant>>);

impl Pulse {
    fn new() -> Pulse {
        Pulse(Arc::new(Mutex::new(Instant::now())))
    }

    /// The attempt moves.
    pub(super) fn tell(&self) {
        self.expect_until(Instant::now());
    }

    /// The attempt waits, and may be silent until `end`: the silence counts from there.
    fn expect_until(&self, end: Instant) {
        let mut last = self.0.lock().expect("no holder of this lock panics");
        *last = end.max(*last);
    }

    /// Where the attempt's waits are declared.
    pub(super) fn waits(&self) -> Waits {
        let pulse = self.clone();
        Waits::heard_by(move |end| pulse.expect_until(end))
    }

    fn silent_for(&self) -> Duration {
        let last = *self.0.lock().expect("no holder of this lock panics");
        last.elapsed()
    }
}

/// One held lease; dropping it ends the heartbeats for it.
#[derive(Debug)]
#[must_use = "the lease is renewed only while this lives"]
pub(super) struct LeaseGuard {
    leases: Arc<Leases>,
    held: HeldJob,
    taken: ClaimTime,
}

impl Leases {
    /// None yet. An attempt that tells no progress for longer than `silence` is cancelled.
    pub(super) fn new(silence: Duration) -> Leases {
        Leases {
            held: Mutex::default(),
            silence,
        }
    }

    /// Begins to renew `lease`, which was asked for when `taken` says; `cancel` is cancelled when it is lost.
    pub(super) fn hold(
        self: &Arc<Self>,
        lease: Lease,
        taken: ClaimTime,
        cancel: CancellationToken,
    ) -> LeaseGuard {
        let hold = self.unrenewed(lease, taken, cancel);
        let held = hold.held.clone();
        let earlier = self.lock().insert(held.lease.job, held);
        if let Some(earlier) = earlier {
            // Another worker had the job in between.
            earlier.lose();
        }
        hold
    }

    /// To write under `lease` once more. It is not renewed, and ends no other attempt at the job.
    pub(super) fn unrenewed(
        self: &Arc<Self>,
        lease: Lease,
        taken: ClaimTime,
        cancel: CancellationToken,
    ) -> LeaseGuard {
        let held = HeldJob {
            lease,
            is_lost: Arc::default(),
            is_stuck: Arc::default(),
            cancel,
            pulse: Pulse::new(),
        };
        LeaseGuard {
            leases: Arc::clone(self),
            held,
            taken,
        }
    }

    /// All that are held, those of stuck attempts too.
    pub(super) fn current(&self) -> Vec<Lease> {
        self.lock()
            .values()
            .map(|held| held.lease.clone())
            .collect()
    }

    /// How long an attempt may tell no progress.
    pub(super) fn silence(&self) -> Duration {
        self.silence
    }

    /// Cancels the attempts that have told no progress for too long; their jobs.
    pub(super) fn cancel_stuck(&self) -> Vec<JobId> {
        let mut stuck = Vec::new();
        for held in self.lock().values() {
            if held.pulse.silent_for() > self.silence && !held.is_stuck.swap(true, Ordering::AcqRel)
            {
                // Marked before, so that who is woken by this sees why.
                held.cancel.cancel();
                stuck.push(held.lease.job);
            }
        }
        stuck
    }

    /// Ends the attempts whose leases are lost, as the store answered to `asked`.
    pub(super) fn lose(&self, asked: &[Lease], lost: &[JobId]) {
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

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<JobId, HeldJob>> {
        self.held.lock().expect("no holder of this lock panics")
    }
}

impl LeaseGuard {
    /// When it was asked for.
    pub(super) fn taken(&self) -> ClaimTime {
        self.taken
    }

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

    /// Whether the attempt was cancelled because it told no progress for too long.
    pub(super) fn is_stuck(&self) -> bool {
        self.held.is_stuck.load(Ordering::Acquire)
    }

    /// To see from beside the attempt whether it is stuck.
    pub(super) fn watch(&self) -> StuckWatch {
        StuckWatch(self.held.clone())
    }

    /// How long an attempt may tell no progress.
    pub(super) fn silence(&self) -> Duration {
        self.leases.silence
    }

    /// Where the attempt tells that it moves.
    pub(super) fn pulse(&self) -> &Pulse {
        &self.held.pulse
    }

    /// Notes that a write under the lease was refused.
    pub(super) fn lose(&self) {
        self.held.lose();
    }
}

/// Sees whether an attempt is stuck.
#[derive(Debug)]
pub(super) struct StuckWatch(HeldJob);

impl StuckWatch {
    /// Ends when the attempt is stuck and did not stop by itself in time.
    pub(super) async fn is_stuck_for_good(&self) {
        self.0.cancel.cancelled().await;
        // A shutdown cancels too: then the drain decides how long to wait.
        if !self.0.is_stuck.load(Ordering::Acquire) {
            return std::future::pending().await;
        }
        tokio::time::sleep(STOP_LIMIT).await;
    }
}

impl Drop for LeaseGuard {
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

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::super::taken;
    use super::*;

    fn lease(token: i64) -> Lease {
        Lease {
            job: JobId(Uuid::from_u128(1)),
            token,
        }
    }

    fn taken() -> ClaimTime {
        taken::tests::taken(0)
    }

    fn leases() -> Arc<Leases> {
        Arc::new(Leases::new(Duration::from_secs(60)))
    }

    fn hold(leases: &Arc<Leases>, token: i64) -> LeaseGuard {
        leases.hold(lease(token), taken(), CancellationToken::new())
    }

    #[test]
    fn a_lease_is_renewed_until_its_hold_is_dropped() {
        let leases = leases();
        let hold = hold(&leases, 1);
        assert_eq!(leases.current(), [lease(1)]);
        drop(hold);
        assert_eq!(leases.current(), []);
    }

    #[test]
    fn a_lost_lease_cancels_its_transfer() {
        let leases = leases();
        let hold = hold(&leases, 1);
        leases.lose(&[lease(1)], &[lease(1).job]);
        assert!(hold.is_lost());
        assert!(hold.cancel().is_cancelled());
    }

    // The store gives no lease away that we hold (R3a): only a job that another worker had meanwhile comes twice.
    #[test]
    fn f87_a_job_that_another_worker_had_in_between_ends_its_earlier_attempt_here() {
        let leases = leases();
        let frozen = hold(&leases, 1);
        let asked = leases.current();
        let current = hold(&leases, 3);
        assert!(frozen.is_lost());
        // The answer to a heartbeat of before must not hit the new lease.
        leases.lose(&asked, &[lease(1).job]);
        assert!(!current.is_lost());
        drop(frozen);
        assert_eq!(leases.current(), [lease(3)]);
    }

    // R15
    #[test]
    fn writing_once_more_under_an_old_lease_leaves_a_newer_attempt_alone() {
        let leases = leases();
        let current = hold(&leases, 2);
        let old = leases.unrenewed(lease(1), taken(), CancellationToken::new());
        assert!(!current.is_lost());
        drop(old);
        assert_eq!(leases.current(), [lease(2)]);
    }

    #[test]
    fn cancelling_the_parent_stops_the_transfer_without_losing_the_lease() {
        let leases = leases();
        let abandon = CancellationToken::new();
        let hold = leases.hold(lease(1), taken(), abandon.child_token());
        abandon.cancel();
        assert!(hold.cancel().is_cancelled());
        assert!(!hold.is_lost());
    }

    // R10
    #[tokio::test(start_paused = true)]
    async fn an_attempt_that_tells_nothing_for_too_long_is_cancelled_once_and_stays_ours() {
        let leases = leases();
        let silent = hold(&leases, 1);
        let second = Duration::from_secs(1);
        tokio::time::advance(60 * second).await;
        assert_eq!(leases.cancel_stuck(), []);
        silent.pulse().tell();
        tokio::time::advance(60 * second).await;
        assert_eq!(leases.cancel_stuck(), []);
        tokio::time::advance(second).await;
        assert_eq!(leases.cancel_stuck(), [lease(1).job]);
        assert!(silent.is_stuck() && silent.cancel().is_cancelled() && !silent.is_lost());
        assert_eq!(leases.cancel_stuck(), []);
        assert_eq!(leases.current(), [lease(1)]);
    }

    // R10
    #[tokio::test(start_paused = true)]
    async fn an_attempt_that_waits_is_given_until_the_end_of_its_wait_and_no_longer() {
        let leases = leases();
        let waiting = hold(&leases, 1);
        let second = Duration::from_secs(1);
        let waits = waiting.pulse().waits();
        waits.until(Instant::now() + 300 * second);
        // What moves meanwhile does not shorten it.
        waiting.pulse().tell();
        tokio::time::advance(360 * second).await;
        assert_eq!(leases.cancel_stuck(), []);
        tokio::time::advance(second).await;
        assert_eq!(leases.cancel_stuck(), [lease(1).job]);
    }
}
