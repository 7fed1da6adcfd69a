//! Claims for each queue what it has room for, and starts it.

use std::time::Duration;

use crate::error::Result;
use crate::model::JobId;
use crate::schedule::QueueSlots;
use crate::schedule::order::Urgency;
use crate::store::{ClaimRequest, Claimed};
use crate::worker::attempt::{AttemptContext, Surroundings};
use crate::worker::feed::{ClaimPause, Feed, QueueRoom};
use crate::worker::lease;
use crate::worker::runner::{Runner, Underway, limits};
use crate::worker::settle::JobFacts;
use crate::worker::taken::ClaimTime;

/// The first wait after a claim has failed; doubles up to the poll or a minute, whichever is longer.
const CLAIM_DELAY: Duration = Duration::from_millis(200);

impl<F: Feed> Runner<'_, F> {
    /// Claims what there is room for; when to look again.
    pub(super) async fn try_fill_queues(&mut self) -> Result<ClaimPause> {
        let limits = limits(self.worker);
        let room = limits.room(self.running());
        let mut rest = None::<Duration>;
        let mut failed = None;
        for (is_small, room, limit) in [
            (true, room.small, limits.small),
            (false, room.large, limits.large),
        ] {
            if room == 0 {
                continue;
            }
            let queue = QueueRoom {
                is_small,
                room,
                limit,
                is_idle: self.attempts.is_empty(),
            };
            match self.feed.rest(queue) {
                // The other queue is asked all the same.
                None => failed = self.fill(is_small, room).await.err().or(failed),
                Some(of_queue) => rest = Some(rest.map_or(of_queue, |rest| rest.min(of_queue))),
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        if let Some(rest) = rest {
            return Ok(ClaimPause::Wait(rest));
        }
        let room = limits.room(self.running());
        self.feed.next_look(room, self.attempts.is_empty()).await
    }

    /// Claims one job, of whatever queue, unless some are on their way.
    pub(super) async fn try_one(&mut self) -> Result<ClaimPause> {
        let mut failed = None;
        for is_small in [true, false] {
            if self.attempts.is_empty() {
                failed = self.claim(is_small, 1).await.err().or(failed);
            }
        }
        match failed {
            Some(error) => Err(error),
            None => Ok(ClaimPause::Wait(self.worker.settings.poll)),
        }
    }

    async fn fill(&mut self, is_small: bool, room: u32) -> Result<()> {
        let started = self.claim(is_small, room).await?;
        self.feed.note_filled(is_small, started < room);
        Ok(())
    }

    /// Claims and starts up to `wanted` jobs of those that the feed chooses; how many there were.
    async fn claim(&mut self, is_small: bool, wanted: u32) -> Result<u32> {
        let mut started = 0;
        for choice in self.feed.choices(is_small, wanted as usize) {
            let missing = wanted.saturating_sub(started);
            if missing == 0 {
                break;
            }
            started += self.claim_of(choice, is_small, missing).await?;
        }
        Ok(started)
    }

    async fn claim_of(
        &mut self,
        only: Option<Vec<JobId>>,
        is_small: bool,
        limit: u32,
    ) -> Result<u32> {
        // Before the claim is sent: what happens to this process from then on makes the lease older.
        let taken = ClaimTime::now(self.worker);
        self.leases.heed_clock(self.worker, taken).await;
        let claim = ClaimRequest {
            worker: self.worker.settings.name.clone(),
            is_small,
            limit,
            now: self.worker.clock.now(),
            lease_until: lease::lease_until(self.worker),
            only,
            held: self.leases.leases.current(),
            takes_lapsed: self.leases.takes_lapsed(taken),
        };
        let claimed = self.worker.store.claim(claim).await?;
        let started = u32::try_from(claimed.len()).unwrap_or(u32::MAX);
        for claimed in claimed {
            self.start(claimed, taken, is_small);
        }
        Ok(started)
    }

    fn start(&mut self, claimed: Claimed, taken: ClaimTime, is_small: bool) {
        let urgency = Urgency::of_job(&claimed.job);
        self.feed.note_claimed(&claimed.job, urgency);
        let facts = JobFacts::of(&claimed, self.feed.is_watched());
        let underway = Underway {
            urgency,
            lease: claimed.lease.clone(),
            taken,
            facts,
            is_small,
        };
        let cancel = self.around.abandon.child_token();
        let hold = self.leases.leases.hold(claimed.lease, taken, cancel);
        let around = Surroundings {
            is_small,
            ..self.around.clone()
        };
        let attempt = AttemptContext::new(self.worker.clone(), hold, claimed.job, facts, around);
        let task = self.attempts.spawn(attempt.run(claimed.record));
        self.underway.insert(task.id(), underway);
    }

    fn running(&self) -> QueueSlots {
        let small = self.underway.values().filter(|one| one.is_small).count();
        let large = self.underway.len() - small;
        self.around.aside.left_of(QueueSlots {
            small: u32::try_from(small).unwrap_or(u32::MAX),
            large: u32::try_from(large).unwrap_or(u32::MAX),
        })
    }

    /// How long to wait after a claim has failed.
    pub(super) fn claim_backoff(&self) -> Duration {
        let doublings = self.failed_claims.saturating_sub(1).min(16);
        let longest = self.worker.settings.poll.max(Duration::from_secs(60));
        CLAIM_DELAY.saturating_mul(1 << doublings).min(longest)
    }
}
