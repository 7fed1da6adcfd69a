//! Which parts are still to be fetched, and which lane fetches which of them. Pure.
//!
//! A lane has one run of parts and fetches it with one long request, part after part. A further lane
//! takes a run that nobody has, else it wishes for the later half of the longest one. The lane that has
//! that half keeps it until the further one is really open: opening takes its time, may be refused, and
//! after the URL's deadline the open body is all there is. From then on it goes on until it meets the
//! other's beginning, and drops the rest of its body there.

use std::collections::{BTreeMap, BTreeSet};

/// Names a lane within one transfer.
pub(in crate::transfer) type LaneId = u32;

/// Parts from `next` to before `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::transfer) struct LaneRange {
    /// The part that is being read, or is next.
    pub(in crate::transfer) next: u32,
    /// One past the last.
    pub(in crate::transfer) end: u32,
    /// One past the last that the lane's body may be asked for: it can go on into what comes after its own
    /// parts up to here.
    pub(in crate::transfer) reach: u32,
}

impl LaneRange {
    fn new(next: u32, end: u32) -> LaneRange {
        LaneRange {
            next,
            end,
            reach: end,
        }
    }

    fn len(self) -> u32 {
        self.end.saturating_sub(self.next)
    }
}

/// The parts of one object that are not fetched.
#[derive(Clone, Debug, Default)]
pub(in crate::transfer) struct RangeQueue {
    lanes: BTreeMap<LaneId, LaneRange>,
    /// What lanes that are being opened would take from others.
    wishes: BTreeMap<LaneId, LaneRange>,
    free: Vec<LaneRange>,
    /// Whether a body is asked for as far as it could ever be of use.
    is_far_reaching: bool,
}

impl RangeQueue {
    /// Parts 1 to `last` but those that are `done`.
    pub(in crate::transfer) fn new(last: u32, done: &BTreeSet<u32>) -> RangeQueue {
        let mut free: Vec<LaneRange> = Vec::new();
        for number in (1..=last).filter(|number| !done.contains(number)) {
            match free.last_mut() {
                Some(run) if run.end == number => *run = LaneRange::new(run.next, number + 1),
                _ => free.push(LaneRange::new(number, number + 1)),
            }
        }
        RangeQueue {
            free,
            ..RangeQueue::default()
        }
    }

    /// From now on every lane's body is asked for up to the end of the gap that it lies in, not just of its
    /// own run: where nothing can be asked for later, a lane can then go on into the run of one that broke.
    #[must_use]
    pub(in crate::transfer) fn far_reaching(mut self, is_far_reaching: bool) -> RangeQueue {
        self.is_far_reaching = is_far_reaching;
        self
    }

    /// Whether there are parts that nobody has.
    pub(in crate::transfer) fn has_free(&self) -> bool {
        !self.free.is_empty()
    }

    /// Whether all parts are read.
    pub(in crate::transfer) fn is_empty(&self) -> bool {
        self.free.is_empty() && self.lanes.is_empty()
    }

    /// What `lane` should open, where one more lane helps most; `None` when none is worth it. Parts that
    /// nobody has are the lane's at once; others when it [is open](RangeQueue::open).
    pub(in crate::transfer) fn take(&mut self, lane: LaneId) -> Option<LaneRange> {
        if self.has_free() {
            let run = self.free.remove(0);
            self.lanes.insert(lane, run);
            return Some(run);
        }
        let (longest, whole) = self.longest()?;
        // The part that is being read stays where it is. A single part is worth a request: over a slow connection it
        // takes longer than that, and what the last lanes have left is what everybody waits for.
        let half = longest.len().saturating_sub(1) / 2;
        if half == 0 {
            return None;
        }
        let wish = LaneRange {
            next: longest.end - half,
            end: whole.end,
            reach: if self.is_far_reaching {
                whole.reach
            } else {
                whole.end
            },
        };
        self.wishes.insert(lane, wish);
        Some(wish)
    }

    /// The longest run as it will be when all wishes have come true, and the run that it is cut from now.
    fn longest(&self) -> Option<(LaneRange, LaneRange)> {
        let pieces = self.lanes.values().flat_map(|run| {
            let cuts = self.wishes.values().map(|wish| wish.next);
            let mut ends: Vec<u32> = cuts.filter(|at| run.next < *at && *at < run.end).collect();
            ends.push(run.end);
            ends.sort_unstable();
            let starts = std::iter::once(run.next).chain(ends.clone());
            let piece = |(next, end)| (LaneRange { next, end, ..*run }, *run);
            starts.zip(ends).map(piece).collect::<Vec<_>>()
        });
        pieces.max_by_key(|(piece, _)| piece.len())
    }

    /// The run of `lane`, whose body is open now; `None` when those who have its parts need no help any more.
    pub(in crate::transfer) fn open(&mut self, lane: LaneId) -> Option<LaneRange> {
        let Some(wish) = self.wishes.remove(&lane) else {
            return self.run(lane);
        };
        let whole = self
            .lanes
            .values_mut()
            .find(|run| run.next < wish.next && wish.next < run.end)?;
        if whole.end > wish.reach {
            return None;
        }
        let run = LaneRange {
            end: whole.end,
            ..wish
        };
        whole.end = run.next;
        self.lanes.insert(lane, run);
        Some(run)
    }

    /// Notes that `lane` has read its part; gives the next one, `None` when its run is at its end.
    pub(in crate::transfer) fn advance(&mut self, lane: LaneId) -> Option<u32> {
        let run = self.lanes.get_mut(&lane)?;
        run.next += 1;
        if run.next < run.end {
            return Some(run.next);
        }
        self.lanes.remove(&lane);
        None
    }

    /// The run of a lane.
    pub(in crate::transfer) fn run(&self, lane: LaneId) -> Option<LaneRange> {
        self.lanes.get(&lane).copied()
    }

    /// Takes the rest of its run from a lane that broke, or could not be opened. The lane before it goes
    /// on into it, if there is one that has not ended and whose body reaches that far.
    pub(in crate::transfer) fn give_back(&mut self, lane: LaneId) {
        self.wishes.remove(&lane);
        let Some(run) = self.lanes.remove(&lane) else {
            return;
        };
        let before = self.lanes.values_mut().find(|other| other.end == run.next);
        match before {
            Some(before) if before.reach >= run.end => before.end = run.end,
            _ => {
                self.free.push(LaneRange::new(run.next, run.end));
                self.free.sort_by_key(|run| run.next);
            }
        }
    }

    /// Ends everything: the content ended before its last part.
    pub(in crate::transfer) fn clear(&mut self) {
        self.lanes.clear();
        self.wishes.clear();
        self.free.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(next: u32, end: u32) -> LaneRange {
        LaneRange::new(next, end)
    }

    /// The parts that a lane has, whatever its body reaches to.
    fn parts(spans: &RangeQueue, lane: LaneId) -> Option<(u32, u32)> {
        spans.run(lane).map(|run| (run.next, run.end))
    }

    fn begin(last: u32) -> RangeQueue {
        let mut spans = RangeQueue::new(last, &BTreeSet::new());
        spans.take(0);
        spans
    }

    #[test]
    fn the_gaps_between_finished_parts_are_what_is_left() {
        let mut spans = RangeQueue::new(9, &BTreeSet::from([1, 2, 5, 9]));
        assert_eq!(spans.free, [run(3, 5), run(6, 9)]);
        assert_eq!(spans.take(0), Some(run(3, 5)));
        assert!(spans.has_free());
        assert!(RangeQueue::new(2, &BTreeSet::from([1, 2])).is_empty());
    }

    #[test]
    fn a_further_lane_takes_the_later_half_of_the_longest_run_once_it_is_open() {
        let mut spans = begin(100);
        assert_eq!(spans.take(1), Some(run(52, 101)));
        assert_eq!(spans.take(2).map(|run| run.next), Some(27));
        assert_eq!(parts(&spans, 0), Some((1, 101)));
        spans.open(2);
        assert_eq!(parts(&spans, 0), Some((1, 27)));
        assert_eq!(parts(&spans, 2), Some((27, 101)));
        spans.open(1);
        assert_eq!(parts(&spans, 2), Some((27, 52)));
        assert_eq!(parts(&spans, 1), Some((52, 101)));
        assert!(RangeQueue::new(4, &BTreeSet::new()).take(0).is_some());
    }

    #[test]
    fn the_last_parts_are_shared_too() {
        let mut spans = begin(3);
        assert_eq!(spans.take(1), Some(run(3, 4)));
        assert_eq!(spans.open(1), Some(run(3, 4)));
        assert_eq!(spans.take(2), None);
    }

    #[test]
    fn a_lane_keeps_its_parts_until_another_has_opened_them() {
        let mut spans = begin(10);
        assert_eq!(spans.take(1), Some(run(7, 11)));
        for next in 2..=10 {
            assert_eq!(spans.advance(0), Some(next));
        }
        // It has come past the other's beginning meanwhile: the help is not needed.
        assert_eq!(spans.open(1), None);
        assert_eq!(spans.advance(0), None);
        assert!(spans.is_empty());
    }

    #[test]
    fn a_lane_goes_on_into_what_another_could_not_open_or_finish() {
        let mut spans = begin(10);
        spans.take(1);
        spans.give_back(1);
        assert_eq!(parts(&spans, 0), Some((1, 11)));
        spans.take(2);
        spans.open(2);
        assert_eq!(parts(&spans, 0), Some((1, 7)));
        spans.give_back(2);
        assert_eq!(parts(&spans, 0), Some((1, 11)));
        assert!(!spans.has_free());
        spans.give_back(0);
        assert!(spans.has_free());
    }

    #[test]
    fn a_lane_goes_on_only_as_far_as_its_body_reaches() {
        for is_far_reaching in [false, true] {
            let mut spans = begin(100).far_reaching(is_far_reaching);
            for lane in [1, 2, 3] {
                spans.take(lane);
                spans.open(lane);
            }
            // 0: 1-26, 2: 27-51, 1 and 3: the second half.
            assert_eq!(parts(&spans, 2), Some((27, 52)));
            assert_eq!(parts(&spans, 1), Some((52, 77)));
            spans.give_back(1);
            assert_eq!(spans.has_free(), !is_far_reaching);
            let end = if is_far_reaching { 77 } else { 52 };
            assert_eq!(parts(&spans, 2), Some((27, end)));
        }
    }

    #[test]
    fn every_part_is_read_once_however_lanes_come_and_break() {
        let seed = fastrand::u64(..);
        let mut random = fastrand::Rng::with_seed(seed);
        let mut spans = RangeQueue::new(200, &BTreeSet::new()).far_reaching(random.bool());
        let mut read = BTreeSet::new();
        let mut lanes: Vec<LaneId> = Vec::new();
        let mut opening: Vec<LaneId> = Vec::new();
        let mut id = 0;
        while read.len() < 200 {
            let choice = random.u32(0..10);
            if choice == 0 || (lanes.is_empty() && opening.is_empty()) {
                id += 1;
                opening.extend(spans.take(id).map(|_| id));
            }
            if !opening.is_empty() && (choice == 2 || lanes.is_empty()) {
                let lane = opening.swap_remove(random.usize(0..opening.len()));
                match random.u32(0..4) {
                    0 => spans.give_back(lane),
                    _ => lanes.extend(spans.open(lane).map(|_| lane)),
                }
                continue;
            }
            assert!(!lanes.is_empty(), "seed {seed}: {spans:?}");
            let at = random.usize(0..lanes.len());
            let lane = lanes[at];
            if choice == 1 {
                spans.give_back(lane);
                lanes.remove(at);
                continue;
            }
            let run = spans.run(lane).unwrap();
            assert!(run.end <= run.reach, "seed {seed}: {spans:?}");
            assert!(
                read.insert(run.next),
                "seed {seed}: part {} twice",
                run.next
            );
            if spans.advance(lane).is_none() {
                lanes.remove(at);
            }
        }
        assert!(spans.is_empty(), "seed {seed}");
    }
}
