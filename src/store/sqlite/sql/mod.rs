//! The statements, in one place, but for the inserts, whose columns stand with their values. What is asked for goes in
//! as one JSON text, so that a batch of any length is one statement.
//!
//! They are written for SQLite and its planner: `INDEXED BY` and the unary pluses name the index to go by, `max` and
//! `min` of two values are what others call `greatest` and `least`, and `jsonb_each` hands out parsed rows, where
//! `json_each` would write each as text for `->>` to parse again.

/// What people see of a job, for `records::record`.
macro_rules! record_json {
    () => {
        "json_array(jobs.id, jobs.recording_id, jobs.name, jobs.kind, jobs.format, jobs.state, jobs.class, \
         jobs.message, jobs.key, jobs.size_bytes, jobs.announced_size, jobs.crc64nvme, jobs.sha256, jobs.etag, \
         jobs.version_id, jobs.deadline, jobs.deadline_from, jobs.is_upper_bound, jobs.attempts, jobs.bytes_done, jobs.archived_at, \
         r.source, r.provider)"
    };
}

macro_rules! records {
    ($rest:literal) => {
        concat!(
            "SELECT ",
            record_json!(),
            " AS record FROM jobs JOIN recordings r ON r.id = jobs.recording_id ",
            $rest
        )
    };
}

mod intake;
mod operator;
mod purge;
mod queue;
mod read;
mod upkeep;

pub(super) use intake::*;
pub(super) use operator::*;
pub(super) use purge::*;
pub(super) use queue::*;
pub(super) use read::*;
pub(super) use upkeep::*;
