//! Transfers that are done and only wait until the store has noted it: each keeps its lease, but not its place in the
//! lane, so that the next one need not wait for a sync of the disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::Notify;

use crate::schedule::QueueSlots;

/// How many of each lane have stepped aside.
#[derive(Debug)]
pub(super) struct Aside {
    limits: QueueSlots,
    small: AtomicU32,
    large: AtomicU32,
    /// Rings when the places that were left are worth a look at the queue.
    pub(super) bell: Notify,
}

impl Aside {
    /// Of lanes that hold so many.
    pub(super) fn new(limits: QueueSlots) -> Aside {
        Aside {
            limits,
            small: AtomicU32::new(0),
            large: AtomicU32::new(0),
            bell: Notify::new(),
        }
    }

    /// Leaves the lane until what this gives is dropped.
    pub(super) fn step(self: &Arc<Aside>, is_small: bool) -> SteppedAside {
        let (count, limit) = self.of(is_small);
        if count.fetch_add(1, Ordering::Relaxed) + 1 >= limit.div_ceil(4) {
            self.bell.notify_one();
        }
        SteppedAside {
            aside: Arc::clone(self),
            is_small,
        }
    }

    /// What is left in the lanes of `underway`. Of those aside no more are counted than a lane holds: a store that is
    /// slow is not to get more and more to note.
    pub(super) fn left_of(&self, underway: QueueSlots) -> QueueSlots {
        let aside = |is_small| {
            let (count, limit) = self.of(is_small);
            count.load(Ordering::Relaxed).min(limit)
        };
        QueueSlots {
            small: underway.small.saturating_sub(aside(true)),
            large: underway.large.saturating_sub(aside(false)),
        }
    }

    fn of(&self, is_small: bool) -> (&AtomicU32, u32) {
        match is_small {
            true => (&self.small, self.limits.small),
            false => (&self.large, self.limits.large),
        }
    }
}

/// One that has left its place in the lane.
#[derive(Debug)]
#[must_use = "it is aside only while this lives"]
pub(super) struct SteppedAside {
    aside: Arc<Aside>,
    is_small: bool,
}

impl Drop for SteppedAside {
    fn drop(&mut self) {
        let (count, _) = self.aside.of(self.is_small);
        count.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_aside_takes_no_place_until_a_whole_lane_is() {
        let lanes = |small, large| QueueSlots { small, large };
        let aside = Arc::new(Aside::new(lanes(2, 1)));
        assert_eq!(aside.left_of(lanes(2, 1)), lanes(2, 1));
        let first = aside.step(true);
        assert_eq!(aside.left_of(lanes(2, 1)), lanes(1, 1));
        let _others = [aside.step(true), aside.step(true), aside.step(false)];
        assert_eq!(aside.left_of(lanes(4, 1)), lanes(2, 0));
        assert_eq!(aside.left_of(lanes(0, 0)), lanes(0, 0));
        drop(first);
        assert_eq!(aside.left_of(lanes(3, 1)), lanes(1, 0));
    }
}
