//! What a failed attempt failed of, a fresh URL or the lack of one included.

use crate::error::{Class, Error};
use crate::model::Deadline;

/// A failed attempt, with what was true for the origin that failed.
pub(super) struct AttemptFailure {
    /// What went wrong.
    pub(super) error: Error,
    /// Until when that origin could be opened.
    pub(super) deadline: Deadline,
    /// Whether a fresh URL may help.
    pub(super) can_remint: bool,
}

impl AttemptFailure {
    /// Of something that has no deadline and no other place to ask.
    pub(super) fn of(error: Error) -> AttemptFailure {
        AttemptFailure {
            error,
            deadline: Deadline::NONE,
            can_remint: false,
        }
    }
}

/// Whether the origin refused the URL.
pub(super) fn is_refusal(error: &Error) -> bool {
    matches!(error.class(), Class::Denied | Class::Expired) || error.has_stale_url()
}

/// What a failure is when a fresh URL was asked for in vain. If asking may work later, that is what
/// the job waits for; otherwise the origin's own answer stands.
pub(super) fn without_fresh_url(
    error: Error,
    refusal: Error,
    deadline: Deadline,
) -> AttemptFailure {
    let message = format!(
        "{}; failed to get a fresh URL: {}",
        error.full_message(),
        refusal.full_message()
    );
    let is_unopened =
        is_refusal(&error) || matches!(error.class(), Class::Unreachable | Class::Throttled);
    if is_unopened && refusal.is_transient() {
        let wait = refusal.retry_after();
        return AttemptFailure::of(
            Error::transient(refusal.class(), message).with_retry_after(wait),
        );
    }
    let combined = if error.is_transient() {
        Error::transient(error.class(), message).with_retry_after(error.retry_after())
    } else {
        Error::new(error.class(), message)
    };
    AttemptFailure {
        error: combined,
        deadline,
        can_remint: false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use super::*;
    use crate::model::DeadlineFrom;

    fn deadline() -> Deadline {
        Deadline::at(Timestamp::UNIX_EPOCH, DeadlineFrom::Query)
    }

    #[test]
    fn when_asking_for_a_fresh_url_may_work_later_the_job_waits_for_that() {
        let refusal = Error::transient(Class::Throttled, "ask the API: 429")
            .with_retry_after(Some(Duration::from_secs(7)));
        let failure = without_fresh_url(
            Error::new(Class::Denied, "open the file: 403"),
            refusal,
            deadline(),
        );
        assert_eq!(failure.error.class(), Class::Throttled);
        assert!(failure.error.is_transient());
        assert_eq!(failure.error.retry_after(), Some(Duration::from_secs(7)));
        assert_eq!(failure.deadline, Deadline::NONE);
        assert_eq!(
            failure.error.full_message(),
            "open the file: 403; failed to get a fresh URL: ask the API: 429"
        );
    }

    #[test]
    fn when_no_fresh_url_will_ever_come_the_origins_answer_stands() {
        let failure = without_fresh_url(
            Error::new(Class::Denied, "open the file: 403"),
            Error::new(Class::Gone, "ask the API: 404"),
            deadline(),
        );
        assert_eq!(failure.error.class(), Class::Denied);
        assert_eq!(failure.deadline, deadline());
        assert!(!failure.can_remint);
    }

    #[test]
    fn a_bucket_that_refuses_is_not_mistaken_for_a_dead_url() {
        let failure = without_fresh_url(
            Error::new(Class::UploadDenied, "put the object: 403"),
            Error::transient(Class::Unreachable, "ask the API: 503"),
            deadline(),
        );
        assert_eq!(failure.error.class(), Class::UploadDenied);
    }
}
