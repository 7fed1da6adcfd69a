//! Until when an origin can be opened, and how urgent that makes it.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// How a deadline is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeadlineFrom {
    /// An expiry field in the event or in the provider's API answer.
    Field,
    /// The URL's own query.
    Query,
    /// The `exp` claim of a token.
    Token,
    /// The shortest lifetime that the provider documents, counted from the event's time.
    Documented,
    /// Nothing tells: there may be no deadline at all.
    None,
}

impl DeadlineFrom {
    /// The public name.
    pub fn as_str(self) -> &'static str {
        match self {
            DeadlineFrom::Field => "field",
            DeadlineFrom::Query => "query",
            DeadlineFrom::Token => "token",
            DeadlineFrom::Documented => "documented",
            DeadlineFrom::None => "none",
        }
    }

    /// The reason of that public name.
    pub fn parse(name: &str) -> Option<DeadlineFrom> {
        use DeadlineFrom::*;
        [Field, Query, Token, Documented, None]
            .into_iter()
            .find(|from| from.as_str() == name)
    }
}

/// The UTC instant, in whole seconds, after which the origin can no longer be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// The instant; `None` when nothing tells.
    pub at: Option<Timestamp>,
    /// How it is known.
    pub from: DeadlineFrom,
    /// Signed with session credentials, which may end earlier: among equals those go first.
    pub is_upper_bound: bool,
}

impl Deadline {
    /// No deadline is known.
    pub const NONE: Deadline = Deadline {
        at: None,
        from: DeadlineFrom::None,
        is_upper_bound: false,
    };

    /// A deadline at `at`, rounded down to whole seconds.
    pub fn at(at: Timestamp, from: DeadlineFrom) -> Deadline {
        let whole = Timestamp::from_second(at.as_nanosecond().div_euclid(1_000_000_000) as i64)
            .unwrap_or(at);
        Deadline {
            at: Some(whole),
            from,
            is_upper_bound: false,
        }
    }

    /// The earlier of two deadlines; an unknown one never wins over a known one. That either URL
    /// is signed with session credentials is kept.
    #[must_use]
    pub fn earliest(self, other: Deadline) -> Deadline {
        let is_upper_bound = self.is_upper_bound || other.is_upper_bound;
        let winner = match (self.at, other.at) {
            (Some(mine), Some(theirs)) if theirs < mine => other,
            (None, Some(_)) => other,
            _ => self,
        };
        Deadline {
            is_upper_bound,
            ..winner
        }
    }

    /// When it is certain that the origin can't be opened any longer. A documented lifetime is a guess: it makes
    /// urgent, but what it says is lost may live.
    pub fn certain(&self) -> Option<Timestamp> {
        self.at.filter(|_| self.from != DeadlineFrom::Documented)
    }

    /// Whether `now` is past it.
    pub fn is_past(&self, now: Timestamp) -> bool {
        self.at.is_some_and(|at| now >= at)
    }

    /// Time left from `now`, negative when past; `None` without a deadline.
    pub fn time_left(&self, now: Timestamp) -> Option<SignedDuration> {
        self.at.map(|at| at.duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn fractions_of_a_second_are_rounded_down() {
        let deadline = Deadline::at(at("2026-03-09T10:31:00.9Z"), DeadlineFrom::Field);
        assert_eq!(deadline.at, Some(at("2026-03-09T10:31:00Z")));
    }

    #[test]
    fn the_earlier_known_deadline_wins() {
        let field = Deadline::at(at("2026-03-09T10:00:00Z"), DeadlineFrom::Field);
        let query = Deadline::at(at("2026-03-09T09:00:00Z"), DeadlineFrom::Query);
        assert_eq!(field.earliest(query), query);
        assert_eq!(query.earliest(field), query);
        assert_eq!(Deadline::NONE.earliest(field), field);
        assert_eq!(field.earliest(Deadline::NONE), field);
    }
}
