//! The end of an attempt: decide, write it under the lease, log it once, tell those who watch.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::Worker;
use super::hold::LeaseGuard;
use super::lease::persist;
use crate::error::{Class, Error};
use crate::model::{Deadline, JobId, Origin, Outcome, ProgressEvent, Record, RecordingId};
use crate::schedule::retry::{self, Decision};
use crate::store::{Claimed, Filter, LeaseWrite};

/// What the retry decision needs of a job; outlives the attempt's task, which may panic.
#[derive(Clone, Copy, Debug)]
pub(super) struct JobFacts {
    number: u32,
    first_at: Timestamp,
    deadline: Deadline,
    /// Whose files a lookup may have led to already.
    pub(super) looked_up_for: Option<RecordingId>,
    is_watched: bool,
}

impl JobFacts {
    /// Of a job as it was claimed; `is_watched` when somebody waits for it at a terminal. Attempts whose worker died are
    /// not its fault.
    pub(super) fn of(claimed: &Claimed, is_watched: bool) -> JobFacts {
        let job = &claimed.job;
        let number = job.attempts.saturating_sub(claimed.unsettled_attempts);
        JobFacts {
            number: number.max(1),
            first_at: job.first_attempt_at,
            deadline: job.deadline,
            looked_up_for: matches!(job.origin, Origin::Lookup(_)).then_some(job.recording_id),
            is_watched,
        }
    }

    /// The same job with the origin that failed living until `deadline`.
    pub(super) fn with_deadline(self, deadline: Deadline) -> JobFacts {
        JobFacts { deadline, ..self }
    }

    /// What `error` leads to now.
    pub(super) fn decide(&self, worker: &Worker, error: &Error, at: Circumstances) -> Decision {
        retry::decide(error, &self.attempt(worker, at), &worker.settings.retry)
    }

    /// What `error`, a denial of this object alone, leads to now.
    pub(super) fn decide_own_denial(&self, worker: &Worker, error: &Error) -> Outcome {
        let attempt = self.attempt(worker, Circumstances::default());
        retry::decide_own_denial(error, &attempt, &worker.settings.retry)
    }

    fn attempt(&self, worker: &Worker, at: Circumstances) -> retry::FailedAttempt {
        retry::FailedAttempt {
            number: self.number,
            first_at: self.first_at,
            deadline: self.deadline,
            can_remint: at.can_remint,
            is_watched: self.is_watched,
            ahead: at.ahead,
            now: worker.clock.now(),
            jitter: fastrand::f64(),
        }
    }
}

/// What was true when an attempt failed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Circumstances {
    /// Whether the source could give a fresh URL.
    pub(super) can_remint: bool,
    /// By how much our clock is ahead of the origin's.
    pub(super) ahead: SignedDuration,
}

/// Settles an attempt whose task has panicked: that attempt is lost, nothing else.
pub(super) async fn settle_panicked(worker: &Worker, hold: &LeaseGuard, facts: JobFacts) {
    let error = Error::transient(
        Class::Internal,
        "finish the attempt: it panicked (the log has the message)",
    );
    if let Decision::Settle(outcome) = facts.decide(worker, &error, Circumstances::default()) {
        settle(worker, hold, &outcome, None).await;
    }
}

/// Writes how the attempt ended and tells those who watch.
///
/// If the store can't be written while the lease lives, the lease runs out and the job is claimed
/// again; what is in the bucket already is found there.
/// `claimed` is how its record stood when it was claimed, unless it has changed since. Answers with the record of what
/// has settled, if that was written.
pub(super) async fn settle(
    worker: &Worker,
    hold: &LeaseGuard,
    outcome: &Outcome,
    claimed: Option<Arc<Record>>,
) -> Option<Arc<Record>> {
    let (store, lease) = (&worker.store, hold.lease());
    let now = worker.clock.now();
    match persist(worker, || store.settle(lease, outcome, now)).await {
        Ok(LeaseWrite::Yes) => {
            log(lease.job, outcome);
            if let (Outcome::Archived(archived), Some(record)) = (outcome, claimed) {
                let record = Arc::unwrap_or_clone(record).archived(archived, now);
                let record = Arc::new(record);
                let settled = Arc::clone(&record);
                (worker.emit)(ProgressEvent::Settled { record });
                return Some(settled);
            }
        }
        Ok(LeaseWrite::Stale) => hold.lose(),
        Err(error) => {
            complain(lease.job, &error);
            return None;
        }
    }
    tell(worker, lease.job, outcome).await
}

/// Says that how an attempt ended could not be stored.
pub(super) fn complain(job: JobId, error: &Error) {
    tracing::error!(
        %job,
        "failed to store how the attempt ended, it will be made again: {}",
        error.full_message()
    );
}

fn log(job: JobId, outcome: &Outcome) {
    match outcome {
        Outcome::Archived(archived) => {
            tracing::info!(%job, key = archived.key, size_bytes = archived.size_bytes, "archived");
        }
        Outcome::Retry {
            at, class, message, ..
        } => {
            tracing::info!(%job, %class, next_attempt_at = %at, "attempt failed: {message}");
        }
        Outcome::Expired { message } => {
            tracing::warn!(%job, class = %Class::Expired, "artifact lost: {message}");
        }
        Outcome::Failed { class, message } => {
            tracing::warn!(%job, %class, "artifact lost: {message}");
        }
    }
}

/// Tells those who watch how the job stands after `outcome`, or after what overtook it. Answers with the record of a
/// job that has settled.
pub(super) async fn tell(worker: &Worker, id: JobId, outcome: &Outcome) -> Option<Arc<Record>> {
    let filter = Filter {
        ids: vec![id.0],
        ..Filter::default()
    };
    let record = match persist(worker, || worker.store.list(&filter)).await {
        Ok(records) => records.into_iter().find(|record| record.id == id),
        Err(error) => {
            tracing::warn!(job = %id, "failed to read a record: {}", error.full_message());
            None
        }
    };
    let settled = record.filter(|record| record.state.is_settled());
    let settled = settled.map(Arc::new);
    let event = match (settled.clone(), outcome) {
        (Some(record), _) => ProgressEvent::Settled { record },
        (
            _,
            Outcome::Retry {
                at, class, message, ..
            },
        ) => ProgressEvent::Retrying {
            id,
            class: *class,
            message: message.clone(),
            at: *at,
        },
        _ => return None,
    };
    (worker.emit)(event);
    settled
}

/// Back to `pending`, due at `at`.
pub(super) fn again(error: &Error, at: Timestamp, is_counted: bool) -> Outcome {
    Outcome::Retry {
        at,
        class: error.class(),
        message: error.full_message(),
        is_counted,
    }
}
