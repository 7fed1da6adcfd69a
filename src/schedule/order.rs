//! Who goes first. One rule of urgency, which the index of the store, a run in the foreground and the tests all share.
//! Pure.

use jiff::{SignedDuration, Timestamp};

use crate::model::{Deadline, Job, JobId, Record};

/// The rate, in bytes per second, by which a transfer's length is guessed before anything was measured: 8 MiB/s.
pub const ASSUMED_BYTES_PER_SECOND: u64 = 8 * 1024 * 1024;

/// The size, in bytes, of an artifact whose size nobody told: a quarter of an hour of video.
pub const ASSUMED_SIZE_BYTES: u64 = 256 * 1024 * 1024;

/// A job's place in the order: the lesser is the more urgent. First comes the transfer that has to begin first, among
/// equals one whose deadline is only an upper bound, then the older job.
///
/// The fields stand in the order in which they are compared. The store keeps the first two in columns, and its index
/// repeats this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Urgency {
    latest_start_ms: i64,
    is_deadline_sure: bool,
    job: JobId,
}

impl Urgency {
    /// The urgency of `job`, whose origin lives until `deadline`. A size that nobody told counts as
    /// [`ASSUMED_SIZE_BYTES`].
    pub fn of(job: JobId, deadline: Deadline, size_bytes: Option<u64>) -> Urgency {
        let latest_start = latest_start(deadline, size_bytes);
        Urgency::stored(job, latest_start.as_millisecond(), deadline.is_upper_bound)
    }

    /// The urgency of a claimed job.
    pub fn of_job(job: &Job) -> Urgency {
        Urgency::of(job.id, job.deadline, job.size_bytes)
    }

    /// The urgency of a job by its record.
    pub fn of_record(record: &Record) -> Urgency {
        let deadline = Deadline {
            at: record.deadline,
            from: record.deadline_from,
            is_upper_bound: record.is_upper_bound,
        };
        Urgency::of(record.id, deadline, record.size_bytes)
    }

    /// The urgency of `job` from what the store keeps of it: its [`latest_start_ms`](Urgency::latest_start_ms), and
    /// whether its deadline is only an upper bound.
    pub fn stored(job: JobId, latest_start_ms: i64, is_upper_bound: bool) -> Urgency {
        Urgency {
            latest_start_ms,
            is_deadline_sure: !is_upper_bound,
            job,
        }
    }

    /// When the transfer has to begin to end by the deadline, in milliseconds since 1970; without a deadline those of
    /// [`Timestamp::MAX`].
    pub fn latest_start_ms(self) -> i64 {
        self.latest_start_ms
    }

    /// Whose urgency it is.
    pub fn job(self) -> JobId {
        self.job
    }
}

fn latest_start(deadline: Deadline, size_bytes: Option<u64>) -> Timestamp {
    let Some(at) = deadline.at else {
        return Timestamp::MAX;
    };
    let size = size_bytes.unwrap_or(ASSUMED_SIZE_BYTES);
    let seconds = i64::try_from(size / ASSUMED_BYTES_PER_SECOND).unwrap_or(i64::MAX);
    at.saturating_sub(SignedDuration::from_secs(seconds))
        .unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::model::DeadlineFrom;

    fn urgency(job: u128, second: Option<i64>, size_bytes: Option<u64>) -> Urgency {
        Urgency::of(JobId(Uuid::from_u128(job)), deadline(second), size_bytes)
    }

    fn deadline(second: Option<i64>) -> Deadline {
        second.map_or(Deadline::NONE, |second| {
            let at = Timestamp::from_second(second).unwrap();
            Deadline::at(at, DeadlineFrom::Query)
        })
    }

    #[test]
    fn the_transfer_that_takes_longer_goes_first_and_what_has_no_deadline_goes_last() {
        let (long, short) = (Some(8 << 30), Some(1));
        assert!(urgency(2, Some(5000), long) < urgency(1, Some(4500), short));
        assert!(urgency(2, Some(5000), short) < urgency(1, None, long));
        assert_eq!(
            urgency(1, Some(5000), None),
            urgency(1, Some(5000), Some(ASSUMED_SIZE_BYTES))
        );
    }

    #[test]
    fn among_equals_an_upper_bound_goes_first_and_then_the_older_job() {
        let bound = Deadline {
            is_upper_bound: true,
            ..deadline(Some(5000))
        };
        let bound = Urgency::of(JobId(Uuid::from_u128(9)), bound, Some(1));
        let sure = |job| urgency(job, Some(5000), Some(1));
        assert!(bound < sure(1) && sure(1) < sure(2));
        assert!(urgency(2, Some(4999), Some(1)) < bound);
    }

    #[test]
    fn no_size_and_no_deadline_leads_beyond_the_ends_of_time() {
        let endless = urgency(1, Some(5000), Some(u64::MAX));
        assert_eq!(
            endless.latest_start_ms(),
            Timestamp::MIN.as_millisecond(),
            "{endless:?}"
        );
        let never = urgency(1, None, Some(u64::MAX));
        assert_eq!(never.latest_start_ms(), Timestamp::MAX.as_millisecond());
    }
}
