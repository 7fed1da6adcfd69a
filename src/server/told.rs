//! What is told again and again is told seldom: anyone who reaches the listener could fill the log otherwise.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Between two tellings of the same thing.
const PAUSE: Duration = Duration::from_secs(10);

/// Lets a message through once in a while, and counts those that it holds back.
#[derive(Debug, Default)]
pub(super) struct Seldom(Mutex<Turns>);

#[derive(Debug, Default)]
struct Turns {
    last: Option<Instant>,
    held_back: u64,
}

impl Seldom {
    /// Whether it is time to tell it again; then with how many were held back since the last time.
    pub(super) fn turn(&self, now: Instant) -> Option<u64> {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if turns
            .last
            .is_some_and(|last| now.duration_since(last) < PAUSE)
        {
            turns.held_back += 1;
            return None;
        }
        turns.last = Some(now);
        Some(std::mem::take(&mut turns.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_the_next_with_the_number_of_those_between() {
        let seldom = Seldom::default();
        let now = Instant::now();
        assert_eq!(seldom.turn(now), Some(0));
        assert_eq!(seldom.turn(now), None);
        assert_eq!(seldom.turn(now + PAUSE / 2), None);
        assert_eq!(seldom.turn(now + PAUSE), Some(2));
        assert_eq!(seldom.turn(now + PAUSE * 3), Some(0));
    }
}
