//! Where a runner's jobs come from: the whole queue, or a list that somebody waits for. A feed knows which jobs are
//! meant, how long a queue that was just filled rests, and when the next look is worth it. The runner knows leases and
//! attempts, and not which feed it has.

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::attempt::Ended;
use super::destination::Admission;
use crate::error::Result;
use crate::model::{Job, JobId, RecordingId};
use crate::schedule::QueueSlots;
use crate::schedule::order::Urgency;

pub(super) mod list;
pub(super) mod queue;
mod waiting;

/// A queue that is full but for a few places is filled this long after the last time.
const REST: Duration = Duration::from_millis(20);

/// A source of jobs for one runner.
#[async_trait]
pub(super) trait Feed: Send + Sync {
    /// Whether somebody waits for these jobs at a terminal.
    fn is_watched(&self) -> bool;

    /// How many jobs may be claimed now, as far as the destination is concerned.
    async fn admission(&mut self) -> Admission;

    /// How long a queue with room is left alone before it is filled again; `None` when it is time.
    fn rest(&self, queue: QueueRoom) -> Option<Duration>;

    /// From which jobs to claim, the most urgent first, where `wanted` are wanted: each choice in turn, until there are
    /// enough. `None` is the whole queue.
    fn choices(&mut self, is_small: bool, wanted: usize) -> Vec<Option<Vec<JobId>>>;

    /// Notes that a job was claimed.
    fn note_claimed(&mut self, job: &Job, urgency: Urgency);

    /// Notes that a queue was filled; it is dry when there was less to claim than it had room for.
    fn note_filled(&mut self, is_small: bool, is_dry: bool);

    /// Notes how an attempt ended.
    async fn note_ended(&mut self, ended: EndedAttempt);

    /// When to look for jobs again after a look that found no more than there was. `room` is what the queues have left,
    /// and the runner is idle when no attempt is under way.
    ///
    /// # Errors
    /// When the store can't tell.
    async fn next_look(&mut self, room: QueueSlots, is_idle: bool) -> Result<ClaimPause>;
}

/// Why the claiming stops for a while, or for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClaimPause {
    Wait(Duration),
    Finished,
}

/// One of the two queues, as the runner sees it before it claims.
#[derive(Clone, Copy, Debug)]
pub(super) struct QueueRoom {
    pub(super) is_small: bool,
    /// How many more jobs it can take now.
    pub(super) room: u32,
    /// How many it can take in all.
    pub(super) limit: u32,
    /// Whether no attempt at all is under way.
    pub(super) is_idle: bool,
}

/// An attempt that has ended.
#[derive(Debug)]
pub(super) struct EndedAttempt {
    pub(super) urgency: Urgency,
    /// Whose files it may have found, when it was a lookup.
    pub(super) looked_up_for: Option<RecordingId>,
    /// `None` when it panicked.
    pub(super) how: Option<Ended>,
}

/// When each queue was last filled: the large one, the small one.
#[derive(Debug, Default)]
struct LastFills([Option<LastFill>; 2]);

#[derive(Clone, Copy, Debug)]
struct LastFill {
    at: Instant,
    is_dry: bool,
}

impl LastFills {
    fn note(&mut self, is_small: bool, is_dry: bool, at: Instant) {
        self.0[usize::from(is_small)] = Some(LastFill { at, is_dry });
    }

    /// Every queue is filled at once.
    fn forget(&mut self) {
        self.0 = [None; 2];
    }

    /// How long a queue rests from `now` on. While others of it are under way, the places that became free are filled
    /// together. One for which there was too little rests for `dry_rest` after it was filled.
    fn rest(&self, queue: QueueRoom, dry_rest: Duration, now: Instant) -> Option<Duration> {
        let last = self.0[usize::from(queue.is_small)]?;
        let rest = match last.is_dry {
            true => dry_rest,
            false if queue.room < queue.limit.div_ceil(4) => REST,
            false => return None,
        };
        let left = rest.saturating_sub(now.saturating_duration_since(last.at));
        Some(left).filter(|left| !left.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRY: Duration = Duration::from_millis(200);

    fn queue(is_small: bool, room: u32) -> QueueRoom {
        QueueRoom {
            is_small,
            room,
            limit: 8,
            is_idle: false,
        }
    }

    #[test]
    fn a_queue_with_a_few_free_places_rests_and_one_with_many_does_not() {
        let mut fills = LastFills::default();
        let now = Instant::now();
        assert_eq!(fills.rest(queue(true, 1), DRY, now), None, "never filled");
        fills.note(true, false, now);
        let soon = now + REST / 4;
        assert_eq!(fills.rest(queue(true, 1), DRY, soon), Some(REST * 3 / 4));
        assert_eq!(fills.rest(queue(true, 2), DRY, soon), None);
        assert_eq!(fills.rest(queue(false, 1), DRY, soon), None);
        assert_eq!(fills.rest(queue(true, 1), DRY, now + REST), None);
    }

    #[test]
    fn a_queue_for_which_there_was_too_little_rests_as_long_as_its_feed_says() {
        let mut fills = LastFills::default();
        let now = Instant::now();
        fills.note(false, true, now);
        assert_eq!(fills.rest(queue(false, 8), DRY, now), Some(DRY));
        assert_eq!(fills.rest(queue(false, 8), Duration::ZERO, now), None);
        fills.forget();
        assert_eq!(fills.rest(queue(false, 8), DRY, now), None);
    }
}
