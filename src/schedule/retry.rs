//! One retry budget, bounded by count, by time and by the deadline; exponential with full jitter.
//!
//! Only the origin's answer says `expired`: a refusal (401, 403) near or after the deadline, or no
//! answer at all until the deadline has passed.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::error::{Class, Error};
use crate::model::{Deadline, Outcome};

/// How far our clock and the origin's may be apart: a refusal this shortly before the deadline is
/// taken as the deadline's.
pub const CLOCK_DOUBT: SignedDuration = SignedDuration::from_secs(60);

/// When the next try would come after the deadline, a last one begins this much before it.
const LAST_TRY: SignedDuration = SignedDuration::from_secs(5);

/// A 404 just after the event is often a file that has not arrived yet, but not for long.
const GONE_ATTEMPTS: u32 = 5;

/// Files arrive more slowly than servers recover: waits for a 404 are this many times longer.
const GONE_PATIENCE: u32 = 4;

/// Damage that a second and a third reading repeat is in the file.
const CORRUPT_ATTEMPTS: u32 = 3;

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
pub struct Attempt {
    /// Its number, from 1.
    pub number: u32,
    /// When the first one began.
    pub first_at: Timestamp,
    /// The origin's deadline.
    pub deadline: Deadline,
    /// Whether the source could give a fresh URL.
    pub can_remint: bool,
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
pub fn decide(error: &Error, attempt: &Attempt, settings: &RetrySettings) -> Decision {
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

/// Until when a destination that refuses is left alone.
pub fn pause_until(now: Timestamp, settings: &RetrySettings) -> Timestamp {
    later(now, settings.destination_pause)
}

fn fresh_url_or(outcome: Outcome, attempt: &Attempt) -> Decision {
    if attempt.can_remint {
        Decision::Remint
    } else {
        Decision::Settle(outcome)
    }
}

fn is_at_its_end(attempt: &Attempt) -> bool {
    attempt
        .deadline
        .time_left(attempt.now)
        .is_some_and(|left| left <= CLOCK_DOUBT)
}

fn retry(error: &Error, attempt: &Attempt, settings: &RetrySettings) -> Outcome {
    let (max_attempts, base_delay) = match error.class() {
        Class::Gone => (GONE_ATTEMPTS, settings.base_delay * GONE_PATIENCE),
        Class::Corrupt => (CORRUPT_ATTEMPTS, settings.base_delay),
        _ => (settings.max_attempts, settings.base_delay),
    };
    if attempt.number >= max_attempts.min(settings.max_attempts) {
        return given_up(error, attempt);
    }
    let backoff = full_jitter(base_delay, settings.max_delay, attempt);
    let asked = error.retry_after().unwrap_or_default();
    let at = later(attempt.now, asked.max(backoff).min(settings.max_delay));
    if at > later(attempt.first_at, settings.max_elapsed) {
        return given_up(error, attempt);
    }
    match attempt.deadline.at {
        Some(deadline) if at >= deadline && !attempt.can_remint => {
            beyond_the_deadline(error, attempt, deadline, at)
        }
        // A source that can give a fresh URL is asked for one at the start of that attempt.
        _ => again(error, at),
    }
}

/// What a retry at `at`, after the deadline, becomes when no fresh URL can be had.
fn beyond_the_deadline(
    error: &Error,
    attempt: &Attempt,
    deadline: Timestamp,
    at: Timestamp,
) -> Outcome {
    let edge = deadline.saturating_sub(LAST_TRY).unwrap_or(deadline);
    if attempt.now < edge {
        return again(error, edge);
    }
    match error.class() {
        Class::Unreachable | Class::Throttled => expired(error, attempt),
        // All the bytes may be in the bucket already: the origin is asked only if not.
        Class::UploadFailed | Class::Internal => again(error, at),
        _ => failed(error),
    }
}

/// A limit of our own costs no attempt. It is looked at again now and then, since the configuration may change, and once
/// more just before the URL's end.
fn held_back(error: &Error, attempt: &Attempt, settings: &RetrySettings) -> Outcome {
    let wait = error.retry_after().unwrap_or(settings.max_delay);
    let at = later(attempt.now, wait.min(settings.max_delay));
    let end = attempt.deadline.at.filter(|_| !attempt.can_remint);
    let edge = end.map(|end| end.saturating_sub(LAST_TRY).unwrap_or(end));
    if end.is_some() && edge.is_some_and(|edge| attempt.now >= edge) {
        return expired(error, attempt);
    }
    Outcome::Retry {
        at: edge.map_or(at, |edge| at.min(edge)),
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

fn given_up(error: &Error, attempt: &Attempt) -> Outcome {
    let tries = match attempt.number {
        1 => "1 attempt".to_owned(),
        number => format!("{number} attempts"),
    };
    Outcome::Failed {
        class: error.class(),
        message: format!("{} (given up after {tries})", error.full_message()),
    }
}

fn expired(error: &Error, attempt: &Attempt) -> Outcome {
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
fn full_jitter(base: Duration, max: Duration, attempt: &Attempt) -> Duration {
    let doublings = attempt.number.saturating_sub(1).min(31);
    let bound = base.saturating_mul(1 << doublings).min(max);
    bound.mul_f64(attempt.jitter.clamp(0.0, 1.0))
}

fn later(from: Timestamp, wait: Duration) -> Timestamp {
    SignedDuration::try_from(wait)
        .ok()
        .and_then(|wait| from.checked_add(wait).ok())
        .unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::DeadlineFrom;

    const NOW: i64 = 1_000_000;

    // S19
    #[test]
    fn what_we_hold_back_ourselves_costs_no_attempt() {
        let error = Error::transient(Class::Throttled, "x").held_back(Duration::from_secs(7_200));
        let settings = RetrySettings::default();
        let decided = |deadline| decide(&error, &attempt(12, deadline), &settings);
        let retry = |at| {
            Decision::Settle(Outcome::Retry {
                at: second(NOW + at),
                class: Class::Throttled,
                message: "x".to_owned(),
                is_counted: false,
            })
        };
        assert_eq!(decided(Deadline::NONE), retry(300));
        let last_try = LAST_TRY.as_secs();
        assert_eq!(decided(deadline_in(100 + last_try)), retry(100));
        let ended = decided(deadline_in(0));
        assert!(
            matches!(ended, Decision::Settle(Outcome::Expired { .. })),
            "{ended:?}"
        );
    }

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn deadline_in(seconds: i64) -> Deadline {
        Deadline::at(second(NOW + seconds), DeadlineFrom::Query)
    }

    fn attempt(number: u32, deadline: Deadline) -> Attempt {
        Attempt {
            number,
            first_at: second(NOW - 100),
            deadline,
            can_remint: false,
            now: second(NOW),
            jitter: 1.0,
        }
    }

    /// A decision in one short word: waits in seconds from now.
    fn word(decision: &Decision) -> String {
        let wait = |at: &Timestamp| at.as_second() - NOW;
        match decision {
            Decision::Remint => "remint".to_owned(),
            Decision::PauseDestination { until, .. } => format!("pause+{}", wait(until)),
            Decision::Settle(Outcome::Retry { at, .. }) => format!("retry+{}", wait(at)),
            Decision::Settle(Outcome::Expired { .. }) => "expired".to_owned(),
            Decision::Settle(Outcome::Failed { .. }) => "failed".to_owned(),
            Decision::Settle(Outcome::Archived(_)) => "archived?!".to_owned(),
        }
    }

    fn decided(error: &Error, attempt: &Attempt) -> String {
        word(&decide(error, attempt, &RetrySettings::default()))
    }

    #[test]
    fn the_whole_table() {
        let settings = RetrySettings::default();
        let deadlines = [
            ("none", Deadline::NONE),
            ("far", deadline_in(3600)),
            ("near", deadline_in(30)),
            ("past", deadline_in(-1)),
        ];
        let mut table = format!("{:<26}", "");
        for (name, _) in deadlines {
            for column in ["first", "last", "remint"] {
                table.push_str(&format!("{:<12}", format!("{name} {column}")));
            }
        }
        for class in Class::ALL {
            for is_transient in [false, true] {
                let error = if is_transient {
                    Error::transient(class, "open it").with_retry_after(Some(
                        // Longer than the backoff, and than what is left of a near deadline.
                        Duration::from_secs(40),
                    ))
                } else {
                    Error::new(class, "open it")
                };
                let transient = if is_transient { " transient" } else { "" };
                table = format!(
                    "{}\n{:<26}",
                    table.trim_end(),
                    format!("{class}{transient}")
                );
                for (_, deadline) in deadlines {
                    let first = attempt(1, deadline);
                    let last = attempt(settings.max_attempts, deadline);
                    let remint = Attempt {
                        can_remint: true,
                        ..first
                    };
                    for situation in [first, last, remint] {
                        table.push_str(&format!("{:<12}", decided(&error, &situation)));
                    }
                }
            }
        }
        insta::assert_snapshot!(table.trim_end(), @r"
                                  none first  none last   none remint far first   far last    far remint  near first  near last   near remint past first  past last   past remint
        provider_failed           failed      failed      failed      failed      failed      failed      failed      failed      failed      failed      failed      failed
        provider_failed transient retry+40    failed      retry+40    retry+40    failed      retry+40    retry+25    failed      retry+40    failed      failed      retry+40
        expired                   expired     expired     remint      expired     expired     remint      expired     expired     remint      expired     expired     remint
        expired transient         expired     expired     remint      expired     expired     remint      expired     expired     remint      expired     expired     remint
        denied                    failed      failed      remint      failed      failed      remint      expired     expired     remint      expired     expired     remint
        denied transient          failed      failed      remint      failed      failed      remint      expired     expired     remint      expired     expired     remint
        gone                      failed      failed      failed      failed      failed      failed      failed      failed      failed      failed      failed      failed
        gone transient            retry+40    failed      retry+40    retry+40    failed      retry+40    retry+25    failed      retry+40    failed      failed      retry+40
        refused                   failed      failed      failed      failed      failed      failed      failed      failed      failed      failed      failed      failed
        refused transient         retry+40    failed      retry+40    retry+40    failed      retry+40    retry+25    failed      retry+40    failed      failed      retry+40
        corrupt                   failed      failed      failed      failed      failed      failed      failed      failed      failed      failed      failed      failed
        corrupt transient         retry+40    failed      retry+40    retry+40    failed      retry+40    retry+25    failed      retry+40    failed      failed      retry+40
        unreachable               failed      failed      failed      failed      failed      failed      failed      failed      failed      failed      failed      failed
        unreachable transient     retry+40    failed      retry+40    retry+40    failed      retry+40    retry+25    failed      retry+40    expired     failed      retry+40
        throttled                 failed      failed      failed      failed      failed      failed      failed      failed      failed      failed      failed      failed
        throttled transient       retry+40    failed      retry+40    retry+40    failed      retry+40    retry+25    failed      retry+40    expired     failed      retry+40
        upload_denied             pause+60    pause+60    pause+60    pause+60    pause+60    pause+60    pause+60    pause+60    pause+60    pause+60    pause+60    pause+60
        upload_denied transient   pause+60    pause+60    pause+60    pause+60    pause+60    pause+60    pause+60    pause+60    pause+60    pause+60    pause+60    pause+60
        upload_failed             failed      failed      failed      failed      failed      failed      failed      failed      failed      failed      failed      failed
        upload_failed transient   retry+40    failed      retry+40    retry+40    failed      retry+40    retry+25    failed      retry+40    retry+40    failed      retry+40
        partial                   failed      failed      failed      failed      failed      failed      failed      failed      failed      failed      failed      failed
        partial transient         retry+40    failed      retry+40    retry+40    failed      retry+40    retry+25    failed      retry+40    failed      failed      retry+40
        invalid                   failed      failed      failed      failed      failed      failed      failed      failed      failed      failed      failed      failed
        invalid transient         retry+40    failed      retry+40    retry+40    failed      retry+40    retry+25    failed      retry+40    failed      failed      retry+40
        internal                  failed      failed      failed      failed      failed      failed      failed      failed      failed      failed      failed      failed
        internal transient        retry+40    failed      retry+40    retry+40    failed      retry+40    retry+25    failed      retry+40    retry+40    failed      retry+40
        ");
    }

    #[test]
    fn waits_double_up_to_the_longest_and_jitter_takes_any_part_of_them() {
        let error = Error::transient(Class::Unreachable, "connect");
        let waits: Vec<_> = (1..12)
            .map(|number| decided(&error, &attempt(number, Deadline::NONE)))
            .collect();
        assert_eq!(
            waits.join(" "),
            "retry+1 retry+2 retry+4 retry+8 retry+16 retry+32 retry+64 retry+128 retry+256 \
             retry+300 retry+300"
        );
        let at_once = Attempt {
            jitter: 0.0,
            ..attempt(9, Deadline::NONE)
        };
        assert_eq!(decided(&error, &at_once), "retry+0");
    }

    #[test]
    fn retry_after_is_honoured_up_to_the_longest_wait() {
        for (asked, expected) in [(0, "retry+1"), (40, "retry+40"), (86_400, "retry+300")] {
            let error = Error::transient(Class::Throttled, "open it")
                .with_retry_after(Some(Duration::from_secs(asked)));
            assert_eq!(decided(&error, &attempt(1, Deadline::NONE)), expected);
        }
    }

    #[test]
    fn f16_a_404_is_retried_a_few_times_and_then_gone() {
        let error = Error::transient(Class::Gone, "open it: 404");
        let decisions: Vec<_> = (1..=5)
            .map(|number| decided(&error, &attempt(number, Deadline::NONE)))
            .collect();
        assert_eq!(
            decisions,
            ["retry+4", "retry+8", "retry+16", "retry+32", "failed"]
        );
    }

    #[test]
    fn damage_is_read_three_times() {
        let error = Error::transient(Class::Corrupt, "check it: no moov box");
        assert_eq!(decided(&error, &attempt(2, Deadline::NONE)), "retry+2");
        assert_eq!(decided(&error, &attempt(3, Deadline::NONE)), "failed");
    }

    #[test]
    fn the_budget_ends_by_time_too() {
        let error = Error::transient(Class::Unreachable, "connect");
        let yesterday = Attempt {
            first_at: second(NOW - 24 * 3600),
            ..attempt(3, Deadline::NONE)
        };
        assert_eq!(decided(&error, &yesterday), "failed");
    }

    #[test]
    fn the_last_try_before_the_deadline_is_not_skipped() {
        let error = Error::transient(Class::Unreachable, "connect");
        // The backoff of attempt 8 is 128 s; the URL lives 100 s.
        assert_eq!(decided(&error, &attempt(8, deadline_in(100))), "retry+95");
        // A wait that still fits is taken even in the last seconds.
        assert_eq!(decided(&error, &attempt(1, deadline_in(3))), "retry+1");
        assert_eq!(decided(&error, &attempt(8, deadline_in(3))), "expired");
    }

    #[test]
    fn f46_pieces_whose_signatures_ended_lead_to_a_fresh_url_where_one_can_be_had() {
        let error = Error::new(Class::Partial, "archive all of the playlist").with_stale_url();
        let attempt = attempt(1, deadline_in(3600));
        assert_eq!(decided(&error, &attempt), "failed");
        let remint = Attempt {
            can_remint: true,
            ..attempt
        };
        assert_eq!(decided(&error, &remint), "remint");
        let lost = Error::new(Class::Partial, "archive all of the playlist");
        assert_eq!(decided(&lost, &remint), "failed");
    }

    #[test]
    fn messages_keep_the_cause() {
        let error = Error::transient(Class::Unreachable, "connect to cdn.example")
            .with_source(std::io::Error::other("connection refused"));
        let settings = RetrySettings::default();
        let message = |attempt: &Attempt| match decide(&error, attempt, &settings) {
            Decision::Settle(
                Outcome::Retry { message, .. }
                | Outcome::Expired { message }
                | Outcome::Failed { message, .. },
            ) => message,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            message(&attempt(1, Deadline::NONE)),
            "connect to cdn.example: connection refused"
        );
        assert_eq!(
            message(&attempt(12, Deadline::NONE)),
            "connect to cdn.example: connection refused (given up after 12 attempts)"
        );
        assert_eq!(
            message(&attempt(1, deadline_in(-1))),
            "connect to cdn.example: connection refused \
             (the URL could be opened until 1970-01-12T13:46:39Z)"
        );
    }
}
