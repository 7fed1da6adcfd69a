//! What a provider was asked for in vain: the chat of a silent session need not be asked for at every walk.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};

use crate::model::Lookup;

/// A transcript or summary may come hours after its meeting.
const ASK_AGAIN: SignedDuration = SignedDuration::from_hours(1);

/// Entries that are remembered before those that are old enough are dropped.
const REMEMBERED: usize = 10_000;

/// Remembers for a while. Clones remember the same.
#[derive(Clone, Debug, Default)]
pub struct Absent(Arc<Mutex<HashMap<Lookup, Timestamp>>>);

impl Absent {
    /// Whether `lookup` was answered with nothing not long ago.
    pub(super) fn is_fresh(&self, lookup: &Lookup, now: Timestamp) -> bool {
        let Ok(asked) = self.0.lock() else {
            return false;
        };
        asked
            .get(lookup)
            .is_some_and(|at| now.duration_since(*at) < ASK_AGAIN)
    }

    /// Notes that it was.
    pub(super) fn note(&self, lookup: &Lookup, now: Timestamp) {
        let Ok(mut asked) = self.0.lock() else { return };
        if asked.len() >= REMEMBERED {
            asked.retain(|_, at| now.duration_since(*at) < ASK_AGAIN);
        }
        // Full of what is fresh: then this one is asked for again, which costs a call.
        if asked.len() < REMEMBERED {
            asked.insert(lookup.clone(), now);
        }
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
}
