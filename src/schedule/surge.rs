//! Holding the door open. Pure.
//!
//! S3, GCS, CloudFront and Azure check a signature when a request arrives; what flows already is not
//! cut. So what counts is to have *opened* everything before the deadline. Every lane is one long request
//! to the end of its run, so what is left is always opened; but one slow body for all of it lives long,
//! and a body that breaks after the deadline is lost. So when the time will not do, as many lanes as the
//! surge allows are opened before the deadline, and none is planned after it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::model::Deadline;
use crate::schedule::order::ASSUMED_BYTES_PER_SECOND;

/// What opening a lane may take: one that is begun later may arrive too late.
const OPENING: SignedDuration = SignedDuration::from_millis(250);

/// How far the predicted time is stretched: rates sink more often than they rise.
const CAUTION: f64 = 1.5;

/// What is known when lanes are planned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SurgeFacts {
    /// The present.
    pub(crate) now: Timestamp,
    /// Until when the origin can be opened.
    pub(crate) deadline: Deadline,
    /// Bytes that have not come in.
    pub(crate) bytes_left: u64,
    /// Bytes per second of all lanes together, once measured.
    pub(crate) rate: Option<f64>,
}

/// What may be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Surge {
    /// There is time: as many lanes as are worth it.
    Open,
    /// It closes before the end is here: all lanes now, up to the surge.
    Hold,
    /// It is closed: what flows is drained, nothing new is planned.
    Closed,
}

/// How the door stands.
pub(crate) fn door(facts: &SurgeFacts) -> Surge {
    let Some(left) = facts.deadline.time_left(facts.now) else {
        return Surge::Open;
    };
    if left <= OPENING {
        return Surge::Closed;
    }
    let left = Duration::try_from(left - OPENING).unwrap_or_default();
    let rate = facts.rate.unwrap_or(ASSUMED_BYTES_PER_SECOND as f64);
    let needed = facts.bytes_left as f64 / rate.max(1.0) * CAUTION;
    if needed > left.as_secs_f64() {
        Surge::Hold
    } else {
        Surge::Open
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::DeadlineFrom;

    const MIB: u64 = 1024 * 1024;

    fn at(seconds: i64, deadline: Option<i64>, bytes_left: u64, rate: Option<f64>) -> Surge {
        let second = |s| Timestamp::from_second(1_800_000_000 + s).unwrap();
        door(&SurgeFacts {
            now: second(seconds),
            deadline: deadline.map_or(Deadline::NONE, |s| {
                Deadline::at(second(s), DeadlineFrom::Query)
            }),
            bytes_left,
            rate,
        })
    }

    #[test]
    fn the_door_is_held_when_the_rest_takes_longer_than_the_url_lives() {
        let slow = Some(MIB as f64);
        assert_eq!(at(0, Some(2), 20 * MIB, slow), Surge::Hold);
        assert_eq!(at(0, Some(25), 20 * MIB, slow), Surge::Hold);
        assert_eq!(at(0, Some(60), 20 * MIB, slow), Surge::Open);
        assert_eq!(at(0, Some(2), 20 * MIB, Some(1e9)), Surge::Open);
    }

    #[test]
    fn before_anything_was_measured_the_usual_rate_is_assumed() {
        assert_eq!(at(0, Some(2), 200 * MIB, None), Surge::Hold);
        assert_eq!(at(0, Some(2), MIB, None), Surge::Open);
    }

    #[test]
    fn no_request_is_planned_after_the_deadline() {
        assert_eq!(at(2, Some(2), MIB, None), Surge::Closed);
        assert_eq!(at(900, Some(2), MIB, Some(1e9)), Surge::Closed);
        assert_eq!(at(900, None, u64::MAX, None), Surge::Open);
    }
}
