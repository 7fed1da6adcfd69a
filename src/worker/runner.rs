//! One run of the worker: claim what its feed has while there is room, start it, listen, and in the end drain.

mod queues;

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::error::Result;
use crate::model::Lease;
use crate::schedule::QueueSlots;
use crate::schedule::order::Urgency;
use crate::worker::Worker;
use crate::worker::attempt::{Ended, Surroundings};
use crate::worker::clocks::Clocks;
use crate::worker::completing::Aside;
use crate::worker::destination::{Admission, BucketTrust};
use crate::worker::feed::{ClaimPause, EndedAttempt, Feed};
use crate::worker::renewal::LeaseRenewal;
use crate::worker::settle::{JobFacts, settle_panicked};
use crate::worker::taken::ClaimTime;

/// After the grace period transfers are told to stop; one that has not stopped this long after is dropped.
pub(super) const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Leases the jobs of one feed, runs an attempt at each, and drains.
pub(super) struct Runner<'a, F> {
    worker: &'a Worker,
    feed: F,
    leases: LeaseRenewal,
    attempts: JoinSet<Ended>,
    underway: HashMap<Id, Underway>,
    /// What all attempts have in common.
    around: Surroundings,
    /// Rings when a recording may have become complete.
    settled: Arc<Notify>,
    failed_claims: u32,
}

/// What is kept of a running attempt in case its task panics.
struct Underway {
    urgency: Urgency,
    lease: Lease,
    taken: ClaimTime,
    facts: JobFacts,
    is_small: bool,
}

impl<'a, F: Feed> Runner<'a, F> {
    /// A run over the jobs of `feed`, whose attempts share what is known of the `bucket`. `stop` ends the work; it is
    /// cancelled when the leases can't be renewed any more.
    pub(super) fn new(
        worker: &'a Worker,
        feed: F,
        bucket: Arc<BucketTrust>,
        stop: &CancellationToken,
    ) -> Runner<'a, F> {
        let around = Surroundings {
            abandon: CancellationToken::new(),
            is_foreground: feed.is_watched(),
            aside: Arc::new(Aside::new(limits(worker))),
            bucket,
            clocks: Arc::<Clocks>::default(),
            is_small: false,
        };
        Runner {
            worker,
            feed,
            leases: LeaseRenewal::start(worker, stop),
            attempts: JoinSet::new(),
            underway: HashMap::new(),
            around,
            settled: Arc::new(Notify::new()),
            failed_claims: 0,
        }
    }

    /// Rings when a recording may have become complete.
    pub(super) fn settled(&self) -> Arc<Notify> {
        Arc::clone(&self.settled)
    }

    /// Its feed, after the run.
    pub(super) fn into_feed(self) -> F {
        self.feed
    }

    /// Works until the feed is finished or `shutdown`.
    pub(super) async fn work(&mut self, shutdown: &CancellationToken) {
        while !shutdown.is_cancelled() {
            // Registered before the queue is read, so that a ring in between is not missed.
            let mut bell = pin!(self.worker.bell.notified());
            bell.as_mut().enable();
            let ClaimPause::Wait(wait) = self.claim_next(shutdown).await else {
                return;
            };
            let ended = tokio::select! {
                () = shutdown.cancelled() => return,
                () = bell => None,
                () = self.around.aside.bell.notified() => None,
                () = tokio::time::sleep(wait) => None,
                Some(ended) = self.attempts.join_next_with_id() => Some(ended),
            };
            if let Some(ended) = ended {
                self.note_all(ended).await;
            }
        }
    }

    /// Stops claiming: transfers get the grace period to finish, then a moment to stop.
    ///
    /// # Errors
    /// When the leases could not be renewed.
    pub(super) async fn drain(&mut self) -> Result<()> {
        if !self.attempts.is_empty() {
            tracing::info!(transfers = self.attempts.len(), "draining");
        }
        let grace = self.worker.settings.grace;
        if tokio::time::timeout(grace, self.join_all()).await.is_err() {
            self.around.abandon.cancel();
            if tokio::time::timeout(STOP_TIMEOUT, self.join_all())
                .await
                .is_err()
            {
                tracing::warn!(
                    transfers = self.attempts.len(),
                    "dropped transfers that did not stop: their leases run out"
                );
                self.attempts.shutdown().await;
            }
        }
        self.leases.end().await
    }

    async fn join_all(&mut self) {
        while let Some(ended) = self.attempts.join_next_with_id().await {
            self.note_all(ended).await;
        }
    }

    /// Claims what there is room for, as far as the destination lets anything in; when to look again.
    async fn claim_next(&mut self, shutdown: &CancellationToken) -> ClaimPause {
        let admission = tokio::select! {
            admission = self.feed.admission() => admission,
            () = shutdown.cancelled() => return ClaimPause::Finished,
        };
        let filled = match admission {
            Admission::Open => self.try_fill_queues().await,
            Admission::One => self.try_one().await,
            Admission::Closed(wait) => return ClaimPause::Wait(wait),
            Admission::Over => return ClaimPause::Finished,
        };
        match filled {
            Ok(pause) => {
                self.failed_claims = 0;
                pause
            }
            Err(error) => {
                self.failed_claims = self.failed_claims.saturating_add(1);
                let wait = self.claim_backoff();
                tracing::error!(
                    "failed to read the queue, trying again in {wait:?}: {}",
                    error.full_message()
                );
                ClaimPause::Wait(wait)
            }
        }
    }

    /// Notes an ended attempt, and those that ended at the same time: one look at the queue serves all.
    async fn note_all(&mut self, ended: Result<(Id, Ended), JoinError>) {
        self.note(ended).await;
        while let Some(ended) = self.attempts.try_join_next_with_id() {
            self.note(ended).await;
        }
        self.settled.notify_one();
    }

    async fn note(&mut self, ended: Result<(Id, Ended), JoinError>) {
        let (id, how) = match ended {
            Ok((id, how)) => (id, Some(how)),
            Err(error) => (error.id(), None),
        };
        let Some(underway) = self.underway.remove(&id) else {
            return;
        };
        let has_panicked = how.is_none();
        let ended = EndedAttempt {
            urgency: underway.urgency,
            looked_up_for: underway.facts.looked_up_for,
            how,
        };
        self.feed.note_ended(ended).await;
        if has_panicked {
            self.settle_panicked(underway).await;
        }
    }

    async fn settle_panicked(&self, underway: Underway) {
        tracing::error!(job = %underway.lease.job, "an attempt panicked");
        // Not held anew: a newer attempt of ours may be under way.
        let cancel = self.around.abandon.child_token();
        let leases = &self.leases.leases;
        let hold = leases.unrenewed(underway.lease, underway.taken, cancel);
        settle_panicked(self.worker, &hold, underway.facts).await;
    }
}

fn limits(worker: &Worker) -> QueueSlots {
    QueueSlots {
        small: worker.settings.small_transfers,
        large: worker.settings.transfers,
    }
}
