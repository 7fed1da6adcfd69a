//! The jobs that a run in the foreground still has to claim, and which of them are due.
//!
//! A claim names the jobs that it chooses from. To name all each time would cost the more the longer the list is, also
//! when nearly all of them only wait for their next attempt.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::model::JobId;
use crate::schedule::order::Urgency;

/// How often those are named too that should not be due yet: a fresh URL or an operator may have woken them.
const LOOK_AT_ALL: Duration = Duration::from_secs(1);

/// Those that are not on their way now, and not known to be in the bucket.
#[derive(Debug, Default)]
pub(super) struct WaitingJobs {
    due: BTreeSet<Urgency>,
    /// By the time of their next attempt, on the clock that nobody sets.
    resting: BTreeMap<(Instant, JobId), Urgency>,
    /// Given up, and not due before somebody wakes them.
    lost: BTreeSet<Urgency>,
    /// When all were named last: for large ones, for small ones.
    all_named_at: [Option<Instant>; 2],
}

impl WaitingJobs {
    /// Adds what may be claimed at once.
    pub(super) fn add(&mut self, jobs: impl IntoIterator<Item = Urgency>) {
        self.due.extend(jobs);
    }

    /// Adds what is not due before `until`.
    pub(super) fn rest(&mut self, job: Urgency, until: Instant) {
        self.resting.insert((until, job.job()), job);
    }

    /// Adds what was given up, and is not due before somebody wakes it.
    pub(super) fn lose(&mut self, job: Urgency) {
        self.lost.insert(job);
    }

    /// Takes out what was claimed.
    pub(super) fn remove(&mut self, job: Urgency) {
        if self.due.remove(&job) {
            return;
        }
        // It was woken before its time, or a fresh URL has moved it meanwhile.
        self.due.retain(|other| other.job() != job.job());
        self.resting.retain(|_, other| other.job() != job.job());
        self.lost.retain(|other| other.job() != job.job());
    }

    /// Those to name in a claim for a lane at `now`, in the order of slack, and after them now and then all others.
    pub(super) fn named(&mut self, is_small: bool, now: Instant) -> Vec<JobId> {
        while let Some(first) = self.resting.first_entry()
            && first.key().0 <= now
        {
            self.due.insert(first.remove());
        }
        let last = self.all_named_at[usize::from(is_small)].get_or_insert(now);
        let mut named: Vec<_> = self.due.iter().map(|job| job.job()).collect();
        if now.saturating_duration_since(*last) >= LOOK_AT_ALL {
            *last = now;
            named.extend(self.resting.keys().map(|(_, job)| *job));
            named.extend(self.lost.iter().map(|job| job.job()));
        }
        named
    }

    /// When the next one is due that is not yet; `None` when none will be by itself.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.resting.keys().next().map(|(until, _)| *until)
    }

    /// All of them.
    pub(super) fn jobs(&self) -> impl Iterator<Item = JobId> {
        let settled = self.due.iter().chain(&self.lost).map(|job| job.job());
        settled.chain(self.resting.keys().map(|(_, job)| *job))
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn job(latest_start: i64, job: u128) -> Urgency {
        Urgency::stored(JobId(Uuid::from_u128(job)), latest_start, false)
    }

    /// So many milliseconds after the first time that it was asked for.
    fn instant(millisecond: u64) -> Instant {
        static BEGIN: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
        *BEGIN + Duration::from_millis(millisecond)
    }

    fn named_small(waiting: &mut WaitingJobs, now: u64) -> Vec<u128> {
        let jobs = waiting.named(true, instant(now));
        jobs.into_iter().map(|job| job.0.as_u128()).collect()
    }

    #[test]
    fn what_rests_is_named_when_it_is_due_in_the_order_of_slack() {
        let mut waiting = WaitingJobs::default();
        waiting.add([job(500, 1), job(300, 2)]);
        waiting.rest(job(400, 3), instant(12));
        waiting.rest(job(200, 4), instant(11));
        assert_eq!(waiting.next_due(), Some(instant(11)));
        assert_eq!(named_small(&mut waiting, 10), [2, 1]);
        assert_eq!(named_small(&mut waiting, 11), [4, 2, 1]);
        assert_eq!(named_small(&mut waiting, 12), [4, 2, 3, 1]);
        assert_eq!(waiting.next_due(), None);
    }

    #[test]
    fn what_rests_is_named_now_and_then_for_it_may_have_been_woken() {
        let mut waiting = WaitingJobs::default();
        waiting.add([job(500, 1)]);
        waiting.rest(job(400, 2), instant(9_000));
        waiting.lose(job(300, 3));
        assert_eq!(named_small(&mut waiting, 0), [1]);
        assert_eq!(named_small(&mut waiting, 999), [1]);
        assert_eq!(named_small(&mut waiting, 1000), [1, 2, 3]);
        assert_eq!(named_small(&mut waiting, 1001), [1]);
        // The other lane has its own turn.
        assert_eq!(waiting.named(false, instant(1001)).len(), 1);
        assert_eq!(waiting.named(false, instant(2001)).len(), 3);
        assert_eq!(named_small(&mut waiting, 2000), [1, 2, 3]);
        assert_eq!(waiting.next_due(), Some(instant(9_000)));
        waiting.remove(job(400, 2));
        assert_eq!(waiting.next_due(), None);
    }

    #[test]
    fn what_was_claimed_is_gone_wherever_it_was() {
        let mut waiting = WaitingJobs::default();
        waiting.add([job(500, 1), job(300, 2)]);
        waiting.rest(job(400, 3), instant(12));
        waiting.remove(job(500, 1));
        waiting.remove(job(400, 3));
        // A fresh URL has given it another latest start.
        waiting.remove(job(900, 2));
        assert_eq!(waiting.jobs().count(), 0);
    }
}
