//! One budget of API calls for a source: lookups, fresh URLs and walks share it.
//!
//! A provider limits calls by key, not by job. So a 429 of one call holds all calls of the source back
//! for as long as the provider asks, instead of letting each job find out for itself.

use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::source::Waits;

/// A `Retry-After` beyond this is not waited for at once: the next call asks again.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// How long a 429 without a `Retry-After` holds the source back.
const USUAL_PAUSE: Duration = Duration::from_secs(5);

/// How fast a source's API may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PaceSettings {
    /// Calls at once.
    pub at_once: u32,
    /// The least time between the starts of two calls.
    pub spacing: Duration,
}

impl Default for PaceSettings {
    fn default() -> Self {
        PaceSettings {
            at_once: 4,
            // No provider documents its limit for these calls; ten a second is slower than any has been seen to refuse.
            spacing: Duration::from_millis(100),
        }
    }
}

/// Whose turn it is to ask.
#[derive(Debug)]
pub struct ApiPace {
    settings: PaceSettings,
    slots: Semaphore,
    /// When the next call may start.
    next: Mutex<Option<Instant>>,
}

impl Default for ApiPace {
    fn default() -> Self {
        ApiPace::new(PaceSettings::default())
    }
}

impl ApiPace {
    /// A budget with nothing spent of it.
    pub fn new(settings: PaceSettings) -> ApiPace {
        ApiPace {
            settings,
            slots: Semaphore::new(settings.at_once.max(1) as usize),
            next: Mutex::new(None),
        }
    }

    /// Waits until a call may start; the call holds the permit until it is answered. The wait is declared to `waits`.
    ///
    /// # Errors
    /// `internal`, after a panic while the budget was held.
    pub async fn turn(&self, waits: &Waits) -> Result<SemaphorePermit<'_>> {
        let broken = || Error::internal("wait for a turn at the provider's API");
        let permit = waits.during(self.slots.acquire()).await;
        let permit = permit.map_err(|_| broken())?;
        loop {
            let start = {
                let mut next = self.next.lock().map_err(|_| broken())?;
                let now = Instant::now();
                match *next {
                    Some(start) if start > now => start,
                    _ => {
                        *next = Some(now + self.settings.spacing);
                        return Ok(permit);
                    }
                }
            };
            waits.until(start);
            // Looked at again after the wait: a 429 may have moved it meanwhile.
            tokio::time::sleep_until(start).await;
        }
    }

    /// The provider asks us to slow down: nobody calls before that time is over.
    pub fn hold(&self, retry_after: Option<Duration>) {
        let pause = retry_after.unwrap_or(USUAL_PAUSE).min(LONGEST_PAUSE);
        let until = Instant::now() + pause;
        if let Ok(mut next) = self.next.lock() {
            *next = Some(next.map_or(until, |next| next.max(until)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(at_once: u32, spacing_ms: u64) -> ApiPace {
        ApiPace::new(PaceSettings {
            at_once,
            spacing: Duration::from_millis(spacing_ms),
        })
    }

    #[tokio::test(start_paused = true)]
    async fn calls_start_at_least_a_spacing_apart() {
        let pace = pace(10, 100);
        let began = Instant::now();
        for _ in 0..5 {
            let _permit = pace.turn(&Waits::default()).await.unwrap();
        }
        assert_eq!(began.elapsed().as_millis(), 400);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_calls_than_allowed_are_on_their_way_at_once() {
        let pace = pace(2, 0);
        let first = pace.turn(&Waits::default()).await.unwrap();
        let _second = pace.turn(&Waits::default()).await.unwrap();
        let third =
            tokio::time::timeout(Duration::from_secs(1), pace.turn(&Waits::default())).await;
        assert!(third.is_err());
        drop(first);
        let third =
            tokio::time::timeout(Duration::from_secs(1), pace.turn(&Waits::default())).await;
        assert!(third.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_429_holds_the_whole_source_back_and_not_for_ever() {
        let pace = pace(4, 0);
        let began = Instant::now();
        pace.hold(Some(Duration::from_secs(45)));
        let _permit = pace.turn(&Waits::default()).await.unwrap();
        assert_eq!(began.elapsed().as_secs(), 45);
        pace.hold(Some(Duration::from_secs(86_400)));
        let _permit = pace.turn(&Waits::default()).await.unwrap();
        assert_eq!(began.elapsed().as_secs(), 345);
    }
}
