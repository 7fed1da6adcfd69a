//! Claims for each lane what it has room for, and starts it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::Result;
use crate::model::JobId;
use crate::schedule::order::Urgency;
use crate::schedule::{self, QueueSlots};
use crate::store::{ClaimRequest, Claimed};
use crate::worker::attempt::{AttemptContext, Surroundings};
use crate::worker::lease;
use crate::worker::runner::{ClaimPause, FOREGROUND_POLL, Filled, Runner, Underway, limits};
use crate::worker::settle::JobFacts;
use crate::worker::taken::ClaimTime;

/// The first wait after a claim has failed; doubles up to the poll or a minute, whichever is longer.
const CLAIM_DELAY: Duration = Duration::from_millis(200);

/// A lane that is full but for a few places is filled this long after the last time.
const REST: Duration = Duration::from_millis(20);

/// In the foreground, a lane for which there was too little is looked after this often.
const DRY_REST: Duration = Duration::from_millis(200);

impl Runner<'_> {
    /// Claims what there is room for; when to look again.
    pub(super) async fn try_fill_lanes(&mut self) -> Result<ClaimPause> {
        let settings = &self.worker.settings;
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
            match self.rest_of(is_small, room, limit) {
                // The other queue is asked all the same.
                None => failed = self.claim(is_small, room).await.err().or(failed),
                Some(of_lane) => rest = Some(rest.map_or(of_lane, |rest| rest.min(of_lane))),
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        if let Some(rest) = rest {
            return Ok(ClaimPause::Wait(rest));
        }
        if self.is_foreground() && self.attempts.is_empty() && self.all_settled().await? {
            return Ok(ClaimPause::Finished);
        }
        let room = limits.room(self.running());
        let now = self.worker.clock.now();
        let (due_in, poll) = if self.is_foreground() {
            let next_due = self.waiting.next_due();
            let due_in = next_due.map(|due| due.saturating_duration_since(Instant::now()));
            (due_in, settings.poll.min(FOREGROUND_POLL))
        } else {
            let next_due = self.worker.store.next_due().await?;
            (
                next_due.map(|due| schedule::time_until(due, now)),
                settings.poll,
            )
        };
        let wait = schedule::next_look(due_in, room, poll);
        // Retries become due one by one, and each look costs something.
        Ok(ClaimPause::Wait(match self.is_foreground() {
            true => wait.max(REST),
            false => wait,
        }))
    }

    /// Claims one job, of whatever lane, unless some are on their way.
    pub(super) async fn try_one(&mut self) -> Result<ClaimPause> {
        let mut failed = None;
        for is_small in [true, false] {
            if self.attempts.is_empty() {
                failed = self.claim_of(None, is_small, 1).await.err().or(failed);
            }
        }
        match failed {
            Some(error) => Err(error),
            None => Ok(ClaimPause::Wait(self.worker.settings.poll)),
        }
    }

    /// How long a lane waits before it is filled again; `None` when it is time. While others of it are on
    /// their way, the places that became free are filled together.
    fn rest_of(&self, is_small: bool, room: u32, limit: u32) -> Option<Duration> {
        let filled = self.filled[usize::from(is_small)]?;
        let rest = match filled.is_dry {
            true if self.is_foreground() && !self.attempts.is_empty() => DRY_REST,
            false if room < limit.div_ceil(4) => REST,
            _ => return None,
        };
        rest.checked_sub(filled.at.elapsed())
            .filter(|rest| !rest.is_zero())
    }

    async fn claim(&mut self, is_small: bool, room: u32) -> Result<()> {
        let wanted = room as usize;
        let mut started = 0;
        if self.only.is_none() {
            started = self.claim_of(None, is_small, room).await?;
        } else {
            let waiting = self.waiting.named(is_small, Instant::now());
            // Mostly the first of them will do, and a long list would be looked up again for every few of it.
            let (mut rest, mut count) = (&*waiting, wanted);
            while started < wanted && !rest.is_empty() {
                let (some, others) = rest.split_at(count.min(rest.len()));
                let missing = room.saturating_sub(u32::try_from(started).unwrap_or(room));
                let some = Some(some.to_vec());
                started += self.claim_of(some, is_small, missing).await?;
                (rest, count) = (others, count.saturating_mul(4));
            }
        }
        self.filled[usize::from(is_small)] = Some(Filled {
            at: Instant::now(),
            is_dry: started < wanted,
        });
        Ok(())
    }

    async fn claim_of(
        &mut self,
        only: Option<Vec<JobId>>,
        is_small: bool,
        limit: u32,
    ) -> Result<usize> {
        // Before the claim is sent: what happens to this process from then on makes the lease older.
        let taken = ClaimTime::now(self.worker);
        self.heed_clock(taken).await;
        let claim = ClaimRequest {
            worker: self.worker.settings.name.clone(),
            is_small,
            limit,
            now: self.worker.clock.now(),
            lease_until: lease::lease_until(self.worker),
            only,
            held: self.leases.current(),
            takes_lapsed: taken.instant() >= self.lapses_from,
        };
        let claimed = self.worker.store.claim(claim).await?;
        let started = claimed.len();
        for claimed in claimed {
            self.start(claimed, taken, is_small);
        }
        Ok(started)
    }

    /// After a jump of the clock, or a time in which the machine stood still, our own leases are renewed before
    /// anybody claims, and other processes get the time to do the same.
    async fn heed_clock(&mut self, now: ClaimTime) {
        let heartbeat = self.worker.settings.heartbeat;
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
        lease::renew(self.worker, &self.leases).await;
    }

    fn start(&mut self, claimed: Claimed, taken: ClaimTime, is_small: bool) {
        if self.is_foreground() {
            self.worked_on.insert(claimed.job.recording_id);
        }
        let urgency = Urgency::of_job(&claimed.job);
        self.waiting.remove(urgency);
        let facts = JobFacts::of(&claimed, self.is_foreground());
        let underway = Underway {
            urgency,
            lease: claimed.lease.clone(),
            taken,
            facts,
            is_small,
        };
        let cancel = self.abandon.child_token();
        let hold = self.leases.hold(claimed.lease, taken, cancel);
        let surroundings = Surroundings {
            abandon: self.abandon.clone(),
            is_foreground: self.is_foreground(),
            aside: Arc::clone(&self.aside),
            bucket: Arc::clone(&self.bucket),
            clocks: Arc::clone(&self.clocks),
            is_small,
        };
        let attempt =
            AttemptContext::new(self.worker.clone(), hold, claimed.job, facts, surroundings);
        let task = self.attempts.spawn(attempt.run(claimed.record));
        self.underway.insert(task.id(), underway);
    }

    fn running(&self) -> QueueSlots {
        let small = self.underway.values().filter(|one| one.is_small).count();
        let large = self.underway.len() - small;
        self.aside.left_of(QueueSlots {
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
