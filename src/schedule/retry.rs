//! One retry budget, bounded by count, by time and by the deadline; exponential with full jitter.

use std::time::Duration;

use jiff::Timestamp;

use crate::error::{Class, Error};
use crate::model::{Deadline, Outcome};

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
pub fn decide(_error: &Error, _attempt: &Attempt, _settings: &RetrySettings) -> Decision {
    todo!()
}
