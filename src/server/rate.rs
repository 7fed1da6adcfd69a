//! How many deliveries of a source are taken in: a bucket that holds a minute's worth and fills at the source's rate.

use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

/// Deliveries of a second, by default: more than any provider sends, and what the store still takes easily.
pub(super) const DEFAULT_EVENT_RATE: u32 = 1000;

/// How many seconds' worth may come at once: providers send in bursts what they could not deliver.
const BURST_SECONDS: f64 = 60.0;

/// What a source may still send.
#[derive(Debug)]
pub(super) struct EventRate {
    per_second: f64,
    level: Mutex<Option<Level>>,
}

#[derive(Clone, Copy, Debug)]
struct Level {
    left: f64,
    at: Instant,
}

impl EventRate {
    pub(super) fn new(per_second: u32) -> EventRate {
        EventRate {
            per_second: f64::from(per_second.max(1)),
            level: Mutex::new(None),
        }
    }

    /// Whether one more may be taken at `now`.
    pub(super) fn take(&self, now: Instant) -> bool {
        let mut level = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        let most = self.per_second * BURST_SECONDS;
        let left = level.map_or(most, |level| {
            let waited = now.saturating_duration_since(level.at).as_secs_f64();
            (level.left + waited * self.per_second).min(most)
        });
        let is_enough = left >= 1.0;
        *level = Some(Level {
            left: if is_enough { left - 1.0 } else { left },
            at: now,
        });
        is_enough
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_minutes_worth_at_once_and_then_the_rate() {
        let rate = EventRate::new(2);
        let began = Instant::now();
        let taken = |seconds| {
            let now = began + Duration::from_secs(seconds);
            (0..1000).filter(|_| rate.take(now)).count()
        };
        assert_eq!(taken(0), 120);
        assert_eq!(taken(0), 0);
        assert_eq!(taken(10), 20);
        assert_eq!(taken(10_000), 120);
    }
}
