//! Which parts are still to be fetched, and which lane fetches which of them. Pure.
//!
//! A lane has one run of parts and fetches it with one long request, part after part. A further lane
//! takes a run that nobody has, else the later half of the longest one. The lane that loses it goes on
//! until it meets the other's beginning and drops the rest of its body there.

use std::collections::{BTreeMap, BTreeSet};

/// Names a lane within one transfer.
pub(super) type LaneId = u32;

/// The least number of parts that is worth a request of its own.
const MIN_RUN_PARTS: u32 = 2;

/// Parts from `next` to before `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// The part that is being read, or is next.
    pub(super) next: u32,
    /// One past the last.
    pub(super) end: u32,
}

impl Run {
    fn len(self) -> u32 {
        self.end.saturating_sub(self.next)
    }
}

/// The parts of one object that are not fetched.
#[derive(Clone, Debug, Default)]
pub(super) struct Spans {
    lanes: BTreeMap<LaneId, Run>,
    free: Vec<Run>,
}

impl Spans {
    /// Parts 1 to `last` but those that are `done`.
    pub(super) fn new(last: u32, done: &BTreeSet<u32>) -> Spans {
        let mut free: Vec<Run> = Vec::new();
        for number in (1..=last).filter(|number| !done.contains(number)) {
            match free.last_mut() {
                Some(run) if run.end == number => run.end += 1,
                _ => free.push(Run {
                    next: number,
                    end: number + 1,
                }),
            }
        }
        Spans {
            lanes: BTreeMap::new(),
            free,
        }
    }

    /// Whether there are parts that nobody has.
    pub(super) fn has_free(&self) -> bool {
        !self.free.is_empty()
    }

    /// Whether all parts are read.
    pub(super) fn is_empty(&self) -> bool {
        self.free.is_empty() && self.lanes.is_empty()
    }

    /// Gives `lane` the parts where one more lane helps most; `None` when none is worth it.
    pub(super) fn take(&mut self, lane: LaneId) -> Option<Run> {
        let run = match self.free.first() {
            Some(_) => self.free.remove(0),
            None => {
                let longest = self.lanes.values_mut().max_by_key(|run| run.len())?;
                // The part that is being read stays where it is.
                let half = longest.len().saturating_sub(1) / 2;
                if half < MIN_RUN_PARTS {
                    return None;
                }
                let end = longest.end;
                longest.end -= half;
                Run {
                    next: longest.end,
                    end,
                }
            }
        };
        self.lanes.insert(lane, run);
        Some(run)
    }

    /// Notes that `lane` has read its part; gives the next one, `None` when its run is at its end.
    pub(super) fn advance(&mut self, lane: LaneId) -> Option<u32> {
        let run = self.lanes.get_mut(&lane)?;
        run.next += 1;
        if run.next < run.end {
            return Some(run.next);
        }
        self.lanes.remove(&lane);
        None
    }

    /// The run of a lane.
    pub(super) fn run(&self, lane: LaneId) -> Option<Run> {
        self.lanes.get(&lane).copied()
    }

    /// Takes the rest of its run from a lane that broke, or could not be opened. The lane before it goes
    /// on into it, if there is one that has not ended: its body reaches that far.
    pub(super) fn give_back(&mut self, lane: LaneId) {
        let Some(run) = self.lanes.remove(&lane) else {
            return;
        };
        match self.lanes.values_mut().find(|other| other.end == run.next) {
            Some(before) => before.end = run.end,
            None => {
                self.free.push(run);
                self.free.sort_by_key(|run| run.next);
            }
        }
    }

    /// Ends everything: the content ended before its last part.
    pub(super) fn clear(&mut self) {
        self.lanes.clear();
        self.free.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(next: u32, end: u32) -> Run {
        Run { next, end }
    }

    #[test]
    fn the_gaps_between_finished_parts_are_what_is_left() {
        let mut spans = Spans::new(9, &BTreeSet::from([1, 2, 5, 9]));
        assert_eq!(spans.free, [run(3, 5), run(6, 9)]);
        assert_eq!(spans.take(0), Some(run(3, 5)));
        assert!(spans.has_free());
        assert!(Spans::new(2, &BTreeSet::from([1, 2])).is_empty());
    }

    #[test]
    fn a_further_lane_takes_the_later_half_of_the_longest_run() {
        let mut spans = Spans::new(100, &BTreeSet::new());
        spans.take(0);
        assert_eq!(spans.take(1), Some(run(52, 101)));
        assert_eq!(spans.run(0), Some(run(1, 52)));
        assert_eq!(spans.take(2), Some(run(77, 101)));
        assert!(Spans::new(4, &BTreeSet::new()).take(0).is_some());
    }

    #[test]
    fn a_lane_goes_on_into_what_another_could_not_open() {
        let mut spans = Spans::new(10, &BTreeSet::new());
        spans.take(0);
        assert_eq!(spans.take(1), Some(run(7, 11)));
        spans.give_back(1);
        assert_eq!(spans.run(0), Some(run(1, 11)));
        assert!(!spans.has_free());
        spans.give_back(0);
        assert!(spans.has_free());
    }

    #[test]
    fn every_part_is_read_once_however_lanes_come_and_break() {
        let seed = fastrand::u64(..);
        let mut random = fastrand::Rng::with_seed(seed);
        let mut spans = Spans::new(200, &BTreeSet::new());
        let mut read = BTreeSet::new();
        let mut lanes: Vec<LaneId> = Vec::new();
        let mut id = 0;
        while read.len() < 200 {
            let choice = random.u32(0..10);
            if choice == 0 || lanes.is_empty() {
                id += 1;
                lanes.extend(spans.take(id).map(|_| id));
            }
            assert!(!lanes.is_empty(), "seed {seed}: {spans:?}");
            let at = random.usize(0..lanes.len());
            let lane = lanes[at];
            if choice == 1 {
                spans.give_back(lane);
                lanes.remove(at);
                continue;
            }
            let number = spans.run(lane).unwrap().next;
            assert!(read.insert(number), "seed {seed}: part {number} twice");
            if spans.advance(lane).is_none() {
                lanes.remove(at);
            }
        }
        assert!(spans.is_empty(), "seed {seed}");
    }
}
