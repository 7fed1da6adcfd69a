//! Writes that may happen only under a condition, and how they end when they do not simply succeed.

use std::sync::atomic::Ordering;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use super::S3Store;
use super::classify::{Call, Refusal, failure};
use crate::error::{Error, Result};
use crate::object::{Condition, WriteEnd};

impl S3Store {
    /// Writes under a condition, also where the store does not know conditions: then it is looked first
    /// whether something is there. Two writers at the same instant could both find nothing; the keys of
    /// different jobs differ, so it would take a stranger.
    pub(super) async fn under_condition<W, F, T>(
        &self,
        key: &str,
        condition: Option<&Condition>,
        write: W,
    ) -> Result<T>
    where
        W: Fn(Option<Condition>) -> F,
        F: Future<Output = Result<T, Failed>>,
        T: From<WriteEnd>,
    {
        let is_absent = condition == Some(&Condition::Absent);
        if !is_absent || !self.lacks_conditions.load(Ordering::Relaxed) {
            match write(condition.cloned()).await {
                Err(failed) if is_absent && failed.may_lack_headers => {}
                end => return end.map_err(|failed| failed.error),
            }
        }
        if self.head_object(key).await?.is_some() {
            return Ok(WriteEnd::Taken.into());
        }
        let end = write(None).await.map_err(|failed| failed.error)?;
        if !self.lacks_conditions.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                bucket = self.bucket,
                "the object store does not know If-None-Match: it is looked before each write instead"
            );
        }
        Ok(end)
    }
}

/// How a write under a condition ended when it did not simply succeed.
pub(super) fn conditional_end<E>(
    call: Call<'_>,
    error: SdkError<E, HttpResponse>,
    condition: Option<&Condition>,
) -> Result<WriteEnd, Failed>
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let Some(refusal) = Refusal::of(&error) else {
        return Err(failure(call, error).into());
    };
    // S3 answers 404 NoSuchKey when `If-Match` names an object that has gone.
    let has_gone = matches!(condition, Some(Condition::Matches(_))) && refusal.is("NoSuchKey");
    if refusal.is_precondition_failed() || has_gone {
        return Ok(WriteEnd::Taken);
    }
    // A success whose document can't be read is no refusal: the write may well have been made.
    let is_unreadable_success = (200..300).contains(&refusal.status) && refusal.code.is_none();
    if refusal.is_conflict() {
        return Ok(WriteEnd::Conflict);
    }
    if refusal.is_no_such_upload() || is_unreadable_success {
        return Ok(WriteEnd::Unclear);
    }
    // Stores that do not know the header say so in many ways; whether it was that shows without it.
    let may_lack_headers = refusal.status == 501
        || (refusal.status == 400
            && ["NotImplemented", "InvalidArgument", "InvalidRequest"]
                .iter()
                .any(|code| refusal.is(code)));
    Err(Failed {
        error: refusal.into_error(call),
        may_lack_headers,
    })
}

/// A write that failed.
pub(super) struct Failed {
    pub(super) error: Error,
    /// Whether it could be that the store does not know a header: that of a condition or of a checksum.
    pub(super) may_lack_headers: bool,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Failed {
        Failed {
            error,
            may_lack_headers: false,
        }
    }
}

/// The values of `If-None-Match` and `If-Match`.
pub(super) fn headers(condition: Option<&Condition>) -> (Option<String>, Option<String>) {
    match condition {
        None => (None, None),
        Some(Condition::Absent) => (Some("*".to_owned()), None),
        Some(Condition::Matches(etag)) => (None, Some(format!("\"{}\"", etag.trim_matches('"')))),
    }
}
