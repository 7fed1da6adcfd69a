//! What walks remember of each other: what a provider was asked for in vain (the chat of a silent session need not be
//! asked for at every walk), and which lost files were tried again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};

use crate::model::{JobId, Lookup};

/// A transcript or summary may come hours after its meeting.
const ASK_AGAIN: SignedDuration = SignedDuration::from_hours(1);

/// Walks that try a lost file again one after the other; later ones wait, twice as long each time.
const QUICK_TRIES: u32 = 3;

/// The first of these waits.
const FIRST_REST: SignedDuration = SignedDuration::from_hours(1);

/// The longest of these waits.
const LONGEST_REST: SignedDuration = SignedDuration::from_hours(24);

/// Entries that are remembered before those that are old enough are dropped.
const REMEMBERED: usize = 10_000;

/// Remembers for a while. Clones remember the same.
#[derive(Clone, Debug, Default)]
pub struct Absent {
    asked: Arc<Mutex<HashMap<Lookup, Timestamp>>>,
    woken: Arc<Mutex<HashMap<JobId, Woken>>>,
}

/// How often a job was tried again, and when last.
#[derive(Clone, Copy, Debug)]
struct Woken {
    times: u32,
    at: Timestamp,
}

impl Woken {
    /// A file that stays lost must not turn its recording's report over at every walk.
    fn rest(self) -> SignedDuration {
        match self.times.checked_sub(QUICK_TRIES) {
            None => SignedDuration::ZERO,
            Some(doublings) => {
                let rest = FIRST_REST.checked_mul(1 << doublings.min(10));
                rest.unwrap_or(LONGEST_REST).min(LONGEST_REST)
            }
        }
    }
}

impl Absent {
    /// Whether `lookup` was answered with nothing not long ago.
    pub(super) fn is_fresh(&self, lookup: &Lookup, now: Timestamp) -> bool {
        let Ok(asked) = self.asked.lock() else {
            return false;
        };
        asked
            .get(lookup)
            .is_some_and(|at| now.duration_since(*at) < ASK_AGAIN)
    }

    /// Notes that it was.
    pub(super) fn note(&self, lookup: &Lookup, now: Timestamp) {
        let Ok(mut asked) = self.asked.lock() else {
            return;
        };
        if asked.len() >= REMEMBERED {
            asked.retain(|_, at| now.duration_since(*at) < ASK_AGAIN);
        }
        // Full of what is fresh: then this one is asked for again, which costs a call.
        if asked.len() < REMEMBERED {
            asked.insert(lookup.clone(), now);
        }
    }

    /// Whether a lost job may be tried again now, which counts as done if so.
    pub(super) fn may_wake(&self, job: JobId, now: Timestamp) -> bool {
        let Ok(mut woken) = self.woken.lock() else {
            return false;
        };
        if woken.len() >= REMEMBERED {
            woken.retain(|_, one| now.duration_since(one.at) < LONGEST_REST);
        }
        let before = woken.get(&job).copied();
        let is_due = before.is_none_or(|one| now.duration_since(one.at) >= one.rest());
        if is_due && (before.is_some() || woken.len() < REMEMBERED) {
            let times = before.map_or(1, |one| one.times.saturating_add(1));
            woken.insert(job, Woken { times, at: now });
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_there_is_asked_for_again_after_a_while() {
        let lookup = Lookup {
            call: "dyte-chat".to_owned(),
            id: "s".to_owned(),
        };
        let at = |second| Timestamp::from_second(second).unwrap();
        let absent = Absent::default();
        assert!(!absent.is_fresh(&lookup, at(0)));
        absent.note(&lookup, at(0));
        assert!(absent.clone().is_fresh(&lookup, at(3599)));
        assert!(!absent.is_fresh(&lookup, at(3600)));
    }

    // R9
    #[test]
    fn a_lost_file_is_tried_again_at_some_walks_and_then_ever_more_rarely() {
        let hour = 3600;
        let at = |second| Timestamp::from_second(second).unwrap();
        let job = JobId(uuid::Uuid::from_u128(1));
        let absent = Absent::default();
        // A walk every ten minutes for two days.
        let woken: Vec<_> = (0..288)
            .map(|walk| walk * 600)
            .filter(|second| absent.may_wake(job, at(*second)))
            .collect();
        assert_eq!(woken[..4], [0, 600, 1200, 1200 + hour]);
        assert_eq!(woken.len(), 8, "{woken:?}");
        let other = JobId(uuid::Uuid::from_u128(2));
        assert!(absent.may_wake(other, at(0)));
    }
}
