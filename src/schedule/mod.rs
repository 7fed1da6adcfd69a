//! Pure decisions of the race: what an attempt's failure leads to, when to look again, and how much
//! each lane may take.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::model::Deadline;

pub(crate) mod lanes;
pub mod order;
pub mod retry;
pub(crate) mod surge;

/// A number for each lane: the small artifacts have one of their own, so that a transcript never
/// waits behind a video.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueSlots {
    /// Transcripts, chats, thumbnails, lookups.
    pub small: u32,
    /// Videos, audio, archives.
    pub large: u32,
}

impl QueueSlots {
    /// How many more each lane can take while `running` are on their way.
    #[must_use]
    pub fn room(self, running: QueueSlots) -> QueueSlots {
        QueueSlots {
            small: self.small.saturating_sub(running.small),
            large: self.large.saturating_sub(running.large),
        }
    }

    /// Whether both lanes have something left.
    pub fn is_open(self) -> bool {
        self.small > 0 && self.large > 0
    }
}

/// A look at the queue that found less than it expected is repeated this soon.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How long to wait before the next look at the queue, when neither a new job nor a finished one
/// wakes the worker earlier.
///
/// `due_in` is how long it is until the next job is due, `None` when there is none. Zero means that what is due
/// waits for a lane: with a full lane the end of a transfer wakes us, so that looking again at once would only spin.
pub fn next_look(due_in: Option<Duration>, room: QueueSlots, poll: Duration) -> Duration {
    match due_in {
        None => poll,
        Some(wait) if !wait.is_zero() => wait.min(poll),
        Some(_) if room.is_open() => LOOK_AGAIN.min(poll),
        Some(_) => poll,
    }
}

/// How long it is from `now` until `then`; zero when that is past.
pub fn time_until(then: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(then.duration_since(now)).unwrap_or_default()
}

/// So close to its deadline a URL that has not been opened yet is better replaced: connecting, a slow
/// answer or one retry may cost the rest of its life.
pub const NEAR_DEADLINE: SignedDuration = SignedDuration::from_mins(2);

/// Whether an attempt begins by asking the provider for a fresh URL: the source can give another, and the one
/// we have is past its deadline, or near it while nothing of the file has been carried yet.
pub fn needs_fresh_url(
    deadline: Deadline,
    now: Timestamp,
    can_remint: bool,
    is_started: bool,
) -> bool {
    let soon = now.saturating_add(NEAR_DEADLINE).unwrap_or(Timestamp::MAX);
    can_remint && (deadline.is_past(now) || (!is_started && deadline.is_past(soon)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLL: Duration = Duration::from_secs(5);
    const FREE: QueueSlots = QueueSlots { small: 1, large: 1 };
    const FULL: QueueSlots = QueueSlots { small: 4, large: 0 };

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_url_near_its_end_is_replaced_unless_its_transfer_has_started() {
        let deadline = Deadline::at(second(1000), crate::model::DeadlineFrom::Query);
        for (now, is_started, expected) in [
            (second(100), false, false),
            (second(900), false, true),
            (second(900), true, false),
            (second(1001), true, true),
        ] {
            let needs = needs_fresh_url(deadline, now, true, is_started);
            assert_eq!(needs, expected, "{now} {is_started}");
            assert!(!needs_fresh_url(deadline, now, false, is_started));
        }
        assert!(!needs_fresh_url(Deadline::NONE, second(900), true, false));
    }

    #[test]
    fn a_full_lane_leaves_the_other_one_its_room() {
        let limits = QueueSlots { small: 2, large: 8 };
        let running = QueueSlots { small: 1, large: 9 };
        assert_eq!(limits.room(running), QueueSlots { small: 1, large: 0 });
        assert!(!limits.room(running).is_open());
    }

    #[test]
    fn the_next_look_is_when_something_is_due_and_never_later_than_the_poll() {
        assert_eq!(next_look(None, FREE, POLL), POLL);
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(next_look(seconds(2), FULL, POLL), Duration::from_secs(2));
        assert_eq!(next_look(seconds(400), FREE, POLL), POLL);
    }

    #[test]
    fn work_that_waits_for_a_full_lane_does_not_make_us_spin() {
        let now = second(100);
        let late = Some(time_until(second(90), now));
        assert_eq!(next_look(late, FULL, POLL), POLL);
        let just_due = Some(time_until(now, now));
        assert_eq!(next_look(just_due, FREE, POLL), LOOK_AGAIN);
    }
}
