//! Writes that may happen only under a condition, and how they end when they do not simply succeed.

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use super::S3Store;
use super::classify::{NamedCall, S3Refusal, failure};
use crate::error::{Error, Result};
use crate::object::{Capabilities, Condition, ConditionSupport, PutEnd, WriteEnd};

impl S3Store {
    /// Writes under a condition, also where the store refuses or ignores conditions, and before it is known whether it
    /// does: then it is looked first what is under the key. Two writers at the same instant could both find nothing;
    /// the keys of different jobs differ, so it would take a stranger.
    ///
    /// `is_probed`: whether a probe tells of this kind of write. Of a Complete it does not: some stores know conditions
    /// for PutObject alone.
    pub(super) async fn under_condition<W, F>(
        &self,
        key: &str,
        condition: Option<&Condition>,
        is_probed: bool,
        write: W,
    ) -> Result<PutEnd>
    where
        W: Fn(Option<Condition>) -> F,
        F: Future<Output = Result<PutEnd, Failed>>,
    {
        let plain = |ended: Result<PutEnd, Failed>| ended.map_err(|failed| failed.error);
        let Some(condition) = condition else {
            return plain(write(None).await);
        };
        let seen = self.learned.get().of(condition);
        let is_kept = is_probed && seen == ConditionSupport::Kept;
        if !is_kept {
            match self.holds(key, condition).await {
                Ok(true) => {}
                Ok(false) => return Ok(WriteEnd::Taken.into()),
                // Who may not look hears from the write itself what is wrong: other than a HEAD it tells a code. But a
                // Complete may take the condition for nothing, and go over what could not be seen.
                Err(error)
                    if is_probed && !error.is_transient() && seen != ConditionSupport::Refused => {}
                Err(error) => return Err(error),
            }
        }
        if seen != ConditionSupport::Refused {
            match write(Some(condition.clone())).await {
                // One that was seen to keep them is not doubted for one refusal, which may have had another reason.
                Err(failed) if failed.may_lack_headers && !is_kept => {}
                ended => {
                    let is_refusal = matches!(&ended, Ok(put) if put.end == WriteEnd::Taken);
                    if is_refusal && is_probed && seen == ConditionSupport::Unknown {
                        self.note(|known| *known.of_mut(condition) = ConditionSupport::Kept);
                    }
                    return plain(ended);
                }
            }
        }
        let end = plain(write(None).await)?;
        if seen != ConditionSupport::Kept {
            self.note(|known| *known.of_mut(condition) = ConditionSupport::Refused);
        }
        Ok(end)
    }

    /// Whether the condition holds at this moment.
    async fn holds(&self, key: &str, condition: &Condition) -> Result<bool> {
        let there = self.head_object(key).await?;
        Ok(match (condition, there) {
            (Condition::Absent, there) => there.is_none(),
            (Condition::Matches(_), None) => false,
            (Condition::Matches(etag), Some(there)) => there
                .etag
                .is_some_and(|found| found == etag.trim_matches('"')),
        })
    }

    /// Notes what the store was seen to do, and says what a user should know of it.
    pub(super) fn note(&self, change: impl FnOnce(&mut Capabilities)) {
        for warning in self.learned.note(change) {
            tracing::warn!(bucket = self.bucket, "{warning}");
        }
    }
}

/// How a write under a condition ended when it did not simply succeed.
pub(super) fn conditional_end<E>(
    call: NamedCall<'_>,
    error: SdkError<E, HttpResponse>,
    condition: Option<&Condition>,
) -> Result<WriteEnd, Failed>
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let Some(refusal) = S3Refusal::of(&error) else {
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

impl Failed {
    /// What is wrong, once the write has failed without the headers as well (`bare`): its first failure, unless the
    /// second shows that the headers are not all, as where the bucket is missing too.
    pub(super) fn or(self, bare: Failed) -> Failed {
        match bare.may_lack_headers {
            true => self,
            false => bare,
        }
    }
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
