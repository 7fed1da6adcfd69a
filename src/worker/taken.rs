//! When something was asked for, by both clocks: the one that others read and can set, and the one that nobody sets.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::Worker;

/// A lease that was taken less than this part of its life ago is held without asking: a small file then costs no write
/// for it.
const YOUNG_PART: u32 = 60;

/// When a claim was sent, by the clock that others read and by the one that nobody sets.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClaimTime {
    at: Timestamp,
    instant: Instant,
}

impl ClaimTime {
    /// Of a claim that is about to be sent.
    pub(super) fn now(worker: &Worker) -> ClaimTime {
        ClaimTime {
            at: worker.clock.now(),
            instant: Instant::now(),
        }
    }

    /// By the clock that nobody sets.
    pub(super) fn instant(self) -> Instant {
        self.instant
    }

    /// Whether a lease that was asked for then can't have run out by `now`. By two clocks: one of them stands still
    /// while the machine is suspended, the other may be set back.
    pub(super) fn is_young(self, now: ClaimTime, lease: Duration) -> bool {
        let young = lease / YOUNG_PART;
        let age = Duration::try_from(now.at.duration_since(self.at));
        age.is_ok_and(|age| age < young) && now.instant.duration_since(self.instant) < young
    }

    /// By how much the two clocks have moved differently since then.
    pub(super) fn disagreement(self, now: ClaimTime) -> Duration {
        let steady = now.instant.duration_since(self.instant);
        let steady = SignedDuration::try_from(steady).unwrap_or(SignedDuration::MAX);
        let shown = now.at.duration_since(self.at);
        shown.saturating_sub(steady).unsigned_abs()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// At so many seconds by the one clock, and now by the other.
    pub(in crate::worker) fn taken(second: i64) -> ClaimTime {
        ClaimTime {
            at: Timestamp::from_second(second).unwrap(),
            instant: Instant::now(),
        }
    }

    // R20
    #[tokio::test(start_paused = true)]
    async fn f87_a_lease_is_young_by_both_clocks_from_when_it_was_asked_for() {
        let claimed = taken(1000);
        let lease = Duration::from_secs(60);
        let young = |now: ClaimTime| claimed.is_young(now, lease);
        assert!(young(taken(1000)));
        assert!(!young(taken(1001)), "the machine was suspended");
        assert!(
            !young(taken(999)),
            "a clock that was set back tells nothing"
        );
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(
            !young(taken(1000)),
            "a clock that stands still tells nothing"
        );
    }

    // R3a
    #[tokio::test(start_paused = true)]
    async fn a_jump_of_one_clock_in_either_direction_shows_beside_the_other() {
        let before = taken(1000);
        tokio::time::advance(Duration::from_secs(10)).await;
        for (second, expected) in [(1010, 0), (1100, 90), (900, 110)] {
            let found = before.disagreement(taken(second));
            assert_eq!(found.as_secs(), expected, "{second}");
        }
    }
}
