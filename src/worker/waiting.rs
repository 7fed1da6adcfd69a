//! The jobs that a run in the foreground still has to claim, and which of them are due.
//!
//! A claim names the jobs that it chooses from. To name all each time would cost the more the longer the list is, also
//! when nearly all of them only wait for their next attempt.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::model::JobId;

/// A place in the queue: when the transfer should begin at the latest.
pub(super) type QueuePlace = (Timestamp, JobId);

/// How often those are named too that should not be due yet: a fresh URL or an operator may have woken them.
const LOOK_AT_ALL: Duration = Duration::from_secs(1);

/// Those that are not on their way now, and not known to be in the bucket.
#[derive(Debug, Default)]
pub(super) struct WaitingJobs {
    due: BTreeSet<QueuePlace>,
    /// By the time of their next attempt, on the clock that nobody sets.
    resting: BTreeMap<(Instant, JobId), QueuePlace>,
    /// Given up, and not due before somebody wakes them.
    lost: BTreeSet<QueuePlace>,
    /// When all were named last: for large ones, for small ones.
    all_named_at: [Option<Instant>; 2],
}

impl WaitingJobs {
    /// Adds what may be claimed at once.
    pub(super) fn add(&mut self, places: impl IntoIterator<Item = QueuePlace>) {
        self.due.extend(places);
    }

    /// Adds what is not due before `until`.
    pub(super) fn rest(&mut self, place: QueuePlace, until: Instant) {
        self.resting.insert((until, place.1), place);
    }

    /// Adds what was given up, and is not due before somebody wakes it.
    pub(super) fn lose(&mut self, place: QueuePlace) {
        self.lost.insert(place);
    }

    /// Takes out what was claimed.
    pub(super) fn remove(&mut self, place: QueuePlace) {
        if self.due.remove(&place) {
            return;
        }
        // It was woken before its time, or a fresh URL has moved it meanwhile.
        self.due.retain(|(_, job)| *job != place.1);
        self.resting.retain(|(_, job), _| *job != place.1);
        self.lost.retain(|(_, job)| *job != place.1);
    }

    /// Those to name in a claim for a lane at `now`, in the order of slack, and after them now and then all others.
    pub(super) fn named(&mut self, is_small: bool, now: Instant) -> Vec<JobId> {
        while let Some(first) = self.resting.first_entry()
            && first.key().0 <= now
        {
            self.due.insert(first.remove());
        }
        let last = self.all_named_at[usize::from(is_small)].get_or_insert(now);
        let mut named: Vec<_> = self.due.iter().map(|(_, job)| *job).collect();
        if now.saturating_duration_since(*last) >= LOOK_AT_ALL {
            *last = now;
            named.extend(self.resting.keys().map(|(_, job)| *job));
            named.extend(self.lost.iter().map(|(_, job)| *job));
        }
        named
    }

    /// When the next one is due that is not yet; `None` when none will be by itself.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.resting.keys().next().map(|(until, _)| *until)
    }

    /// All of them.
    pub(super) fn jobs(&self) -> impl Iterator<Item = JobId> {
        let settled = self.due.iter().chain(&self.lost).map(|(_, job)| *job);
        settled.chain(self.resting.keys().map(|(_, job)| *job))
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn at(millisecond: i64) -> Timestamp {
        Timestamp::from_millisecond(millisecond).unwrap()
    }

    fn place(latest_start: i64, job: u128) -> QueuePlace {
        (at(latest_start), JobId(Uuid::from_u128(job)))
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
        waiting.add([place(500, 1), place(300, 2)]);
        waiting.rest(place(400, 3), instant(12));
        waiting.rest(place(200, 4), instant(11));
        assert_eq!(waiting.next_due(), Some(instant(11)));
        assert_eq!(named_small(&mut waiting, 10), [2, 1]);
        assert_eq!(named_small(&mut waiting, 11), [4, 2, 1]);
        assert_eq!(named_small(&mut waiting, 12), [4, 2, 3, 1]);
        assert_eq!(waiting.next_due(), None);
    }

    #[test]
    fn what_rests_is_named_now_and_then_for_it_may_have_been_woken() {
        let mut waiting = WaitingJobs::default();
        waiting.add([place(500, 1)]);
        waiting.rest(place(400, 2), instant(9_000));
        waiting.lose(place(300, 3));
        assert_eq!(named_small(&mut waiting, 0), [1]);
        assert_eq!(named_small(&mut waiting, 999), [1]);
        assert_eq!(named_small(&mut waiting, 1000), [1, 2, 3]);
        assert_eq!(named_small(&mut waiting, 1001), [1]);
        // The other lane has its own turn.
        assert_eq!(waiting.named(false, instant(1001)).len(), 1);
        assert_eq!(waiting.named(false, instant(2001)).len(), 3);
        assert_eq!(named_small(&mut waiting, 2000), [1, 2, 3]);
        assert_eq!(waiting.next_due(), Some(instant(9_000)));
        waiting.remove(place(400, 2));
        assert_eq!(waiting.next_due(), None);
    }

    #[test]
    fn what_was_claimed_is_gone_wherever_it_was() {
        let mut waiting = WaitingJobs::default();
        waiting.add([place(500, 1), place(300, 2)]);
        waiting.rest(place(400, 3), instant(12));
        waiting.remove(place(500, 1));
        waiting.remove(place(400, 3));
        // A fresh URL has given it another latest start.
        waiting.remove(place(900, 2));
        assert_eq!(waiting.jobs().count(), 0);
    }
}
