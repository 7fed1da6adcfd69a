//! How fast all downloads together may be, and how much they may be in a day.
//!
//! A chunk is handed on as it comes; the next one is asked for only when the rate has caught up, so that the origin is
//! slowed down by its own socket. Who waits for us is not judged slow: the watched body inside is not polled meanwhile.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use jiff::Timestamp;
use tokio::time::{Instant, Sleep};

use super::waits::Waits;
use crate::clock::SharedClock;
use crate::error::{Class, Error, Result};

const DAY_SECONDS: i64 = 24 * 60 * 60;

/// A rate for a time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateWindow {
    /// The first minute of the day (UTC).
    pub from_minute: u16,
    /// The minute after the last one; before `from_minute` when it ends the next day.
    pub to_minute: u16,
    /// All downloads together, in bytes per second.
    pub bytes_per_second: u64,
}

impl RateWindow {
    fn holds(&self, minute: u16) -> bool {
        match self.from_minute <= self.to_minute {
            true => (self.from_minute..self.to_minute).contains(&minute),
            false => minute >= self.from_minute || minute < self.to_minute,
        }
    }
}

/// What all downloads together may take. By default everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThrottleSettings {
    /// Rates by time of day: the first one that holds counts, outside of all there is none.
    pub windows: Vec<RateWindow>,
    /// Bytes in a day (UTC): after them no request begins before the next one.
    pub max_per_day: Option<u64>,
}

impl ThrottleSettings {
    fn rate_at(&self, now: Timestamp) -> Option<u64> {
        let minute = now.as_second().rem_euclid(DAY_SECONDS) / 60;
        let minute = u16::try_from(minute).unwrap_or_default();
        let window = self.windows.iter().find(|window| window.holds(minute))?;
        Some(window.bytes_per_second.max(1))
    }
}

/// Shared by all bodies of a source.
pub(super) struct Throttle {
    settings: ThrottleSettings,
    clock: SharedClock,
    used: Mutex<Used>,
}

#[derive(Debug, Default)]
struct Used {
    /// When what was taken so far would be here at the rate.
    free_at: Option<Instant>,
    /// The day, counted from 1970.
    day: i64,
    /// Bytes of that day.
    bytes: u64,
}

impl Throttle {
    /// `None` when nothing is limited.
    pub(super) fn new(settings: &ThrottleSettings, clock: &SharedClock) -> Option<Arc<Throttle>> {
        let is_limited = !settings.windows.is_empty() || settings.max_per_day.is_some();
        is_limited.then(|| {
            Arc::new(Throttle {
                settings: settings.clone(),
                clock: Arc::clone(clock),
                used: Mutex::default(),
            })
        })
    }

    /// Whether a request may begin.
    ///
    /// # Errors
    /// `throttled`, held back until the next day begins.
    pub(super) fn admit(&self) -> Result<()> {
        let now = self.clock.now();
        let Some(max_per_day) = self.settings.max_per_day else {
            return Ok(());
        };
        if self.used_at(now).bytes < max_per_day {
            return Ok(());
        }
        let until_midnight = DAY_SECONDS - now.as_second().rem_euclid(DAY_SECONDS);
        let wait = Duration::from_secs(until_midnight.unsigned_abs());
        Err(Error::transient(
            Class::Throttled,
            format!("download more today: limits.max_per_day, {max_per_day} bytes, is used up until 00:00 UTC"),
        )
        .held_back(wait))
    }

    /// Notes `bytes` that have come; says when to ask for more.
    fn take(&self, bytes: u64) -> Option<Instant> {
        let now = self.clock.now();
        let mut used = self.used_at(now);
        used.bytes = used.bytes.saturating_add(bytes);
        let rate = self.settings.rate_at(now)?;
        let free_at = reserved(used.free_at, Instant::now(), bytes, rate);
        used.free_at = Some(free_at);
        Some(free_at)
    }

    fn used_at(&self, now: Timestamp) -> MutexGuard<'_, Used> {
        let day = now.as_second().div_euclid(DAY_SECONDS);
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.day != day {
            used.day = day;
            used.bytes = 0;
        }
        used
    }
}

/// When `bytes` more would be here at `rate` after what was taken before.
fn reserved(free_at: Option<Instant>, now: Instant, bytes: u64, rate: u64) -> Instant {
    let begin = free_at.map_or(now, |free_at| free_at.max(now));
    begin + Duration::from_secs_f64(bytes as f64 / rate as f64)
}

/// `body` at the pace of `throttle`.
pub(super) fn throttled(
    body: BoxStream<'static, Result<Bytes>>,
    throttle: Arc<Throttle>,
    waits: Waits,
) -> BoxStream<'static, Result<Bytes>> {
    Throttled {
        body,
        throttle,
        waits,
        pause: None,
    }
    .boxed()
}

struct Throttled {
    body: BoxStream<'static, Result<Bytes>>,
    throttle: Arc<Throttle>,
    waits: Waits,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Stream for Throttled {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        let next = ready!(self.body.poll_next_unpin(cx));
        if let Some(Ok(chunk)) = &next {
            let until = self.throttle.take(chunk.len() as u64);
            if let Some(until) = until {
                self.waits.until(until);
            }
            self.pause = until.map(|until| Box::pin(tokio::time::sleep_until(until)));
        }
        Poll::Ready(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    fn settings(windows: &[(u16, u16, u64)], max_per_day: Option<u64>) -> ThrottleSettings {
        let windows = windows.iter();
        ThrottleSettings {
            windows: windows
                .map(|&(from_minute, to_minute, bytes_per_second)| RateWindow {
                    from_minute,
                    to_minute,
                    bytes_per_second,
                })
                .collect(),
            max_per_day,
        }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    // S19
    #[test]
    fn the_first_window_that_holds_gives_the_rate() {
        let day = settings(&[(8 * 60, 18 * 60, 10), (22 * 60, 6 * 60, 20)], None);
        for (time, rate) in [
            ("2026-03-02T08:00:00Z", Some(10)),
            ("2026-03-02T17:59:59Z", Some(10)),
            ("2026-03-02T18:00:00Z", None),
            ("2026-03-02T22:00:00Z", Some(20)),
            ("2026-03-02T00:00:00Z", Some(20)),
            ("2026-03-02T06:00:00Z", None),
        ] {
            assert_eq!(day.rate_at(at(time)), rate, "{time}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn all_bodies_together_keep_the_rate() {
        let clock: SharedClock = ManualClock::at(at("2026-03-02T10:00:00Z"));
        let throttle = Throttle::new(&settings(&[(0, 24 * 60, 1000)], None), &clock).unwrap();
        let body = || {
            let chunks = (0..10).map(|_| Ok(Bytes::from_static(&[0; 500])));
            throttled(
                futures::stream::iter(chunks).boxed(),
                Arc::clone(&throttle),
                Waits::default(),
            )
        };
        let began = Instant::now();
        let (one, other) = tokio::join!(body().count(), body().count());
        assert_eq!((one, other), (10, 10));
        // 10,000 bytes at 1,000 a second; nobody waits for what comes after the last chunk of all.
        let took = began.elapsed().as_secs_f64();
        assert!((9.0..=10.5).contains(&took), "{took}");
    }

    #[tokio::test]
    async fn after_the_days_bytes_no_request_begins_until_the_next_day() {
        let clock = ManualClock::at(at("2026-03-02T23:00:00Z"));
        let shared: SharedClock = clock.clone();
        let throttle = Throttle::new(&settings(&[], Some(1000)), &shared).unwrap();
        assert!(throttle.admit().is_ok());
        assert_eq!(throttle.take(999), None);
        assert!(throttle.admit().is_ok());
        assert_eq!(throttle.take(1), None);
        let error = throttle.admit().unwrap_err();
        assert_eq!(error.class(), Class::Throttled);
        assert!(error.is_held_back() && error.is_transient());
        assert_eq!(error.retry_after(), Some(Duration::from_secs(3600)));
        clock.set(at("2026-03-03T00:00:00Z"));
        assert!(throttle.admit().is_ok());
    }

    #[test]
    fn without_a_limit_there_is_nothing_to_pay() {
        let clock: SharedClock = ManualClock::at(at("2026-03-02T10:00:00Z"));
        assert!(Throttle::new(&ThrottleSettings::default(), &clock).is_none());
    }
}
