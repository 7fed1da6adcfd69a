//! What is told again and again is told seldom: anyone who reaches the listener could fill the log otherwise.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Between two tellings of the same thing.
const PAUSE: Duration = Duration::from_secs(10);

/// Lets a message of each kind through once in a while, and counts those that it holds back.
#[derive(Debug, Default)]
pub(super) struct Seldom(Mutex<HashMap<&'static str, Turns>>);

#[derive(Debug, Default)]
struct Turns {
    last: Option<Instant>,
    held_back: u64,
}

impl Seldom {
    /// Whether it is time to tell of this kind again; then with how many of it were held back since the last time.
    pub(super) fn turn(&self, kind: &'static str, now: Instant) -> Option<u64> {
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let turns = kinds.entry(kind).or_default();
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

/// Segments of a path that are longer are not told whole.
const SEGMENT_MAX_CHARS: usize = 32;
const SEGMENT_SHOWN_CHARS: usize = 8;

/// A path as it is told: enough to see a slip in it, and not whole where it may hold a secret.
pub(super) fn shown_path(path: &str) -> String {
    let mut segments = path.split('/').skip(1);
    let mut shown = String::new();
    for segment in segments.by_ref().take(2) {
        shown.push('/');
        match segment.chars().nth(SEGMENT_MAX_CHARS) {
            None => shown.push_str(segment),
            Some(_) => {
                shown.extend(segment.chars().take(SEGMENT_SHOWN_CHARS));
                shown.push_str("...");
            }
        }
    }
    if segments.next().is_some() {
        shown.push_str("/...");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_in_a_path_is_seen_and_a_long_name_is_not_told() {
        for (path, expected) in [
            ("/webhook/100ms", "/webhook/100ms"),
            ("/", "/"),
            ("//webhooks/100ms", "//webhooks/..."),
            ("/webhooks/100ms/token", "/webhooks/100ms/..."),
        ] {
            assert_eq!(shown_path(path), expected);
        }
        let long = format!("/webhooks/{}", "x".repeat(40));
        assert_eq!(shown_path(&long), "/webhooks/xxxxxxxx...");
    }

    #[test]
    fn the_first_is_told_at_once_and_the_next_with_the_number_of_those_between() {
        let seldom = Seldom::default();
        let now = Instant::now();
        assert_eq!(seldom.turn("a", now), Some(0));
        assert_eq!(seldom.turn("a", now), None);
        assert_eq!(seldom.turn("b", now), Some(0), "it is of another kind");
        assert_eq!(seldom.turn("a", now + PAUSE / 2), None);
        assert_eq!(seldom.turn("a", now + PAUSE), Some(2));
        assert_eq!(seldom.turn("a", now + PAUSE * 3), Some(0));
    }
}
