//! One retry budget, bounded by count, by time and by the deadline; exponential with full jitter.
//!
//! Only the origin's answer says `expired`: a refusal (401, 403) near or after the deadline, or no
//! answer at all until the deadline has passed. A documented deadline is a guess: past it there are retries as without one.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::error::{Class, Error};
use crate::model::{Deadline, Outcome};

/// How far our clock and the origin's may be apart: a refusal this shortly before the deadline is
/// taken as the deadline's.
pub const CLOCK_DOUBT: SignedDuration = SignedDuration::from_secs(60);

/// When the next try would come after the deadline, a last one begins this much before it.
const LAST_TRY: SignedDuration = SignedDuration::from_secs(5);

/// A 404 just after the event is often a file that has not arrived yet. Nobody at a terminal waits for longer than
/// about a minute; in the background it is asked for as often as anything else.
const WATCHED_GONE_ATTEMPTS: u32 = 5;

/// Files arrive more slowly than servers recover: waits for a 404 are this many times longer.
const GONE_PATIENCE: u32 = 4;

/// Damage that a second and a third reading repeat is in the file.
const CORRUPT_ATTEMPTS: u32 = 3;

/// At a terminal, an object that a bucket denies is tried so often: who waits there can change that, and try again.
const WATCHED_DENIED_ATTEMPTS: u32 = 3;

/// The bounds of retrying.
#[derive(Clone, Debug, PartialEq)]
pub struct RetrySettings {
    /// Attempts at most.
    pub max_attempts: u32,
    /// The first wait is drawn from zero to this.
    pub base_delay: Duration,
    /// No wait is longer, a server's Retry-After included.
    pub max_delay: Duration,
    /// No retry begins later than this after the first attempt.
    pub max_elapsed: Duration,
    /// How long the destination is left alone after it refused.
    pub destination_pause: Duration,
}

impl Default for RetrySettings {
    fn default() -> Self {
        RetrySettings {
            max_attempts: 12,
            base_delay: Duration::from_secs(1),
            max_delay: Duration::from_secs(300),
            max_elapsed: Duration::from_secs(24 * 3600),
            destination_pause: Duration::from_secs(60),
        }
    }
}

/// What is known about a failed attempt.
#[derive(Clone, Copy, Debug)]
pub struct FailedAttempt {
    /// Its number, from 1.
    pub number: u32,
    /// When the first one began.
    pub first_at: Timestamp,
    /// The origin's deadline.
    pub deadline: Deadline,
    /// Whether the source could give a fresh URL.
    pub can_remint: bool,
    /// Whether somebody waits for it at a terminal.
    pub is_watched: bool,
    /// By how much our clock is ahead of the origin's, as far as that is known.
    pub ahead: SignedDuration,
    /// The present.
    pub now: Timestamp,
    /// A number from 0 to 1, for the jitter.
    pub jitter: f64,
}

/// What a failed attempt leads to.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// The attempt ends in this.
    Settle(Outcome),
    /// Ask the provider for a fresh URL, then go on at once.
    Remint,
    /// The destination refuses: nothing more is sent there until then.
    PauseDestination {
        /// Until when.
        until: Timestamp,
        /// Why.
        class: Class,
    },
}

/// Decides what `error` leads to.
pub fn decide(error: &Error, attempt: &FailedAttempt, settings: &RetrySettings) -> Decision {
    if error.is_held_back() {
        return Decision::Settle(held_back(error, attempt, settings));
    }
    match error.class() {
        Class::UploadDenied => Decision::PauseDestination {
            until: pause_until(attempt.now, settings),
            class: Class::UploadDenied,
        },
        Class::Expired => fresh_url_or(expired(error, attempt), attempt),
        Class::Denied if is_at_its_end(attempt) => fresh_url_or(expired(error, attempt), attempt),
        Class::Denied => fresh_url_or(failed(error), attempt),
        // Of a recording of many files some were refused: all of them are named anew by a fresh playlist.
        _ if error.has_stale_url() && attempt.can_remint => Decision::Remint,
        _ if error.is_transient() => Decision::Settle(retry(error, attempt, settings)),
        _ => Decision::Settle(failed(error)),
    }
}

/// What it leads to when the bucket denies one object and lets others in: that is this job's own trouble.
pub fn decide_own_denial(
    error: &Error,
    attempt: &FailedAttempt,
    settings: &RetrySettings,
) -> Outcome {
    retry(error, attempt, settings)
}

/// Until when a destination that refuses is left alone.
pub fn pause_until(now: Timestamp, settings: &RetrySettings) -> Timestamp {
    later(now, settings.destination_pause)
}

fn fresh_url_or(outcome: Outcome, attempt: &FailedAttempt) -> Decision {
    if attempt.can_remint {
        Decision::Remint
    } else {
        Decision::Settle(outcome)
    }
}

fn is_at_its_end(attempt: &FailedAttempt) -> bool {
    let there = attempt.now.saturating_sub(attempt.ahead);
    attempt
        .deadline
        .time_left(there.unwrap_or(attempt.now))
        .is_some_and(|left| left <= CLOCK_DOUBT)
}

fn retry(error: &Error, attempt: &FailedAttempt, settings: &RetrySettings) -> Outcome {
    let (max_attempts, base_delay) = match error.class() {
        Class::Gone if attempt.is_watched => (WATCHED_GONE_ATTEMPTS, settings.base_delay),
        Class::Corrupt => (CORRUPT_ATTEMPTS, settings.base_delay),
        Class::UploadDenied if attempt.is_watched => (WATCHED_DENIED_ATTEMPTS, settings.base_delay),
        _ => (settings.max_attempts, settings.base_delay),
    };
    if attempt.number >= max_attempts.min(settings.max_attempts) {
        return given_up(error, attempt);
    }
    let backoff = match error.class() {
        Class::Gone => half_jitter(base_delay * GONE_PATIENCE, settings.max_delay, attempt),
        _ => full_jitter(base_delay, settings.max_delay, attempt),
    };
    let asked = error.retry_after().unwrap_or_default();
    let at = later(attempt.now, asked.max(backoff).min(settings.max_delay));
    if at > later(attempt.first_at, settings.max_elapsed) {
        return given_up(error, attempt);
    }
    match deadline_here(attempt) {
        Some(deadline) if at >= deadline && !attempt.can_remint => {
            beyond_the_deadline(error, attempt, deadline, at)
        }
        // A source that can give a fresh URL is asked for one at the start of that attempt.
        _ => again(error, at),
    }
}

/// The deadline by our clock. One that is ahead would call a URL dead that lives; one that is behind only tries once
/// more than it has to.
fn deadline_here(attempt: &FailedAttempt) -> Option<Timestamp> {
    let ahead = attempt.ahead.max(SignedDuration::ZERO);
    let deadline = attempt.deadline.at?;
    Some(deadline.saturating_add(ahead).unwrap_or(deadline))
}

/// What a retry at `at`, after the deadline, becomes when no fresh URL can be had.
fn beyond_the_deadline(
    error: &Error,
    attempt: &FailedAttempt,
    deadline: Timestamp,
    at: Timestamp,
) -> Outcome {
    let edge = deadline.saturating_sub(LAST_TRY).unwrap_or(deadline);
    if attempt.now < edge {
        return again(error, edge);
    }
    if attempt.deadline.certain().is_none() {
        return again(error, at);
    }
    let certain = beyond_doubt(deadline);
    match error.class() {
        // No answer is not the origin's word, and our clock may be wrong.
        Class::Unreachable | Class::Throttled if attempt.now < certain => {
            again(error, at.min(certain))
        }
        Class::Unreachable | Class::Throttled => expired(error, attempt),
        // All the bytes may be in the bucket already: the origin is asked only if not.
        Class::UploadFailed | Class::Internal => again(error, at),
        _ => failed(error),
    }
}

/// When the deadline is past by any clock.
fn beyond_doubt(deadline: Timestamp) -> Timestamp {
    deadline.saturating_add(CLOCK_DOUBT).unwrap_or(deadline)
}

/// A limit of our own costs no attempt. It is looked at again now and then, since the configuration may change, and once
/// more just before the URL's end. Only an end that is certain gives up what the origin was never asked for.
fn held_back(error: &Error, attempt: &FailedAttempt, settings: &RetrySettings) -> Outcome {
    let wait = error.retry_after().unwrap_or(settings.max_delay);
    let at = later(attempt.now, wait.min(settings.max_delay));
    let end = deadline_here(attempt).filter(|_| !attempt.can_remint);
    let edge = end.map(|end| end.saturating_sub(LAST_TRY).unwrap_or(end));
    let last = end.map(beyond_doubt);
    let is_certain = attempt.deadline.certain().is_some();
    if is_certain && last.is_some_and(|last| attempt.now >= last) {
        return expired(error, attempt);
    }
    let looks = [edge, last].into_iter().flatten();
    let next_look = looks.filter(|look| *look > attempt.now).min();
    Outcome::Retry {
        at: next_look.map_or(at, |look| at.min(look)),
        class: error.class(),
        message: error.full_message(),
        is_counted: false,
    }
}

fn again(error: &Error, at: Timestamp) -> Outcome {
    Outcome::Retry {
        at,
        class: error.class(),
        message: error.full_message(),
        is_counted: true,
    }
}

fn failed(error: &Error) -> Outcome {
    Outcome::Failed {
        class: error.class(),
        message: error.full_message(),
    }
}

fn given_up(error: &Error, attempt: &FailedAttempt) -> Outcome {
    let tries = match attempt.number {
        1 => "1 attempt".to_owned(),
        number => format!("{number} attempts"),
    };
    Outcome::Failed {
        class: error.class(),
        message: format!("{} (given up after {tries})", error.full_message()),
    }
}

fn expired(error: &Error, attempt: &FailedAttempt) -> Outcome {
    let message = error.full_message();
    Outcome::Expired {
        message: match attempt.deadline.at {
            Some(deadline) => format!("{message} (the URL could be opened until {deadline})"),
            None => message,
        },
    }
}

/// A wait between zero and a bound that doubles with each attempt, so that many jobs which failed
/// together do not come back together.
fn full_jitter(base: Duration, max: Duration, attempt: &FailedAttempt) -> Duration {
    let doublings = attempt.number.saturating_sub(1).min(31);
    let bound = base.saturating_mul(1 << doublings).min(max);
    bound.mul_f64(attempt.jitter.clamp(0.0, 1.0))
}

/// The same, but at least half of that bound: what has to arrive is not asked for many times at once.
fn half_jitter(base: Duration, max: Duration, attempt: &FailedAttempt) -> Duration {
    let whole = FailedAttempt {
        jitter: f64::midpoint(1.0, attempt.jitter.clamp(0.0, 1.0)),
        ..*attempt
    };
    full_jitter(base, max, &whole)
}

fn later(from: Timestamp, wait: Duration) -> Timestamp {
    SignedDuration::try_from(wait)
        .ok()
        .and_then(|wait| from.checked_add(wait).ok())
        .unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
#[path = "retry_tests.rs"]
mod tests;
