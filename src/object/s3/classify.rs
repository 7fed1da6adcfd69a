//! What a failed S3 call means: the place where the SDK's errors become ours.
//!
//! A destination that refuses (`upload_denied`) is paused and costs no attempt; everything else
//! (`upload_failed`) is worth another try. Messages name the operation, the key and S3's own code.

use std::error::Error as StdError;
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use crate::error::{Class, Error};

/// S3's message is quoted up to here: some stores answer with whole pages.
const MESSAGE_MAX_CHARS: usize = 300;

/// Codes with which a store refuses us until somebody changes bucket, rights, key or quota.
const DENIED_CODES: [&str; 23] = [
    "AccessDenied",
    "AccountProblem",
    "AllAccessDisabled",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
    "InvalidAccessKeyId",
    "InvalidBucketName",
    "InvalidObjectState",
    "InvalidSecurity",
    "InvalidToken",
    "KMS.DisabledException",
    "KMS.InvalidStateException",
    "KMS.NotFoundException",
    "NoSuchBucket",
    "NotSignedUp",
    "PermanentRedirect",
    "QuotaExceeded",
    "RequestTimeTooSkewed",
    "ServiceQuotaExceededException",
    "SignatureDoesNotMatch",
    "UnauthorizedAccess",
    "XMinioAdminBucketQuotaExceeded",
    "XMinioStorageFull",
];

/// Codes with which it refuses credentials of a session that is over: the provider of credentials gives
/// fresh ones in time, or somebody has to.
const RAN_OUT_CODES: [&str; 2] = ["ExpiredToken", "TokenRefreshRequired"];

/// Codes with which it refuses options of an upload.
const OPTION_CODES: [&str; 7] = [
    "InvalidArgument",
    "InvalidEncryptionAlgorithmError",
    "InvalidRequest",
    "InvalidStorageClass",
    "InvalidTag",
    "NotImplemented",
    "ObjectLockConfigurationNotFoundError",
];

/// How long a store is left alone that asks us to slow down.
const SLOW_DOWN_WAIT: Duration = Duration::from_secs(1);

/// One call, as messages name it.
#[derive(Clone, Copy, Debug)]
pub(super) struct NamedCall<'a> {
    /// The S3 operation.
    pub(super) operation: &'static str,
    /// The key, or the bucket where there is none.
    pub(super) subject: &'a str,
}

/// What S3 said when it said no.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct S3Refusal {
    pub(super) status: u16,
    /// S3's error code; a HEAD has none, since it has no body.
    pub(super) code: Option<String>,
    pub(super) message: Option<String>,
    pub(super) retry_after: Option<Duration>,
}

impl S3Refusal {
    /// Reads the refusal out of an SDK error; `None` when there was no answer.
    pub(super) fn of<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Option<Self> {
        let response = error.raw_response()?;
        Some(S3Refusal {
            status: response.status().as_u16(),
            code: error.code().map(str::to_owned),
            message: error.message().map(str::to_owned),
            retry_after: response.headers().get("retry-after").and_then(seconds),
        })
    }

    pub(super) fn is(&self, code: &str) -> bool {
        self.code.as_deref() == Some(code)
    }

    /// 412: the condition does not hold.
    pub(super) fn is_precondition_failed(&self) -> bool {
        self.status == 412 || self.is("PreconditionFailed")
    }

    /// 409: another conditional write is on its way.
    pub(super) fn is_conflict(&self) -> bool {
        self.status == 409 || self.is("ConditionalRequestConflict")
    }

    pub(super) fn is_no_such_upload(&self) -> bool {
        self.is("NoSuchUpload")
    }

    /// Whether it may be about how an object is to be stored: a class that does not exist, a key that is none, a
    /// bucket without object lock.
    pub(super) fn is_bad_option(&self) -> bool {
        let code = self.code.as_deref();
        let is_named =
            code.is_some_and(|code| OPTION_CODES.contains(&code) || code.starts_with("KMS."));
        matches!(self.status, 400 | 501) && is_named
    }

    fn is_denial(&self) -> bool {
        let status_denies = matches!(self.status, 301 | 401 | 403 | 507);
        let code_denies = self
            .code
            .as_deref()
            .is_some_and(|code| DENIED_CODES.contains(&code));
        status_denies || code_denies
    }

    fn has_run_out(&self) -> bool {
        let code = self.code.as_deref();
        code.is_some_and(|code| RAN_OUT_CODES.contains(&code))
    }

    /// A store that asks to be spared need not say for how long.
    fn wait(&self) -> Option<Duration> {
        self.retry_after
            .or_else(|| self.is("SlowDown").then_some(SLOW_DOWN_WAIT))
    }

    /// This refusal as our error.
    pub(super) fn into_error(self, call: NamedCall<'_>) -> Error {
        let code = self.code.as_deref().unwrap_or("no code");
        let mut text = format!(
            "{} {}: {code} (status {})",
            call.operation, call.subject, self.status
        );
        if let Some(message) = self.message.as_deref().filter(|m| !m.is_empty()) {
            text.push_str(": ");
            text.push_str(&printable(message));
        }
        if self.is("InvalidPart") {
            Error::transient(Class::UploadFailed, text).with_refused_parts()
        } else if self.has_run_out() {
            Error::transient(Class::UploadDenied, text).with_retry_after(self.retry_after)
        } else if self.is_denial() {
            Error::new(Class::UploadDenied, text).with_retry_after(self.retry_after)
        } else {
            Error::transient(Class::UploadFailed, text).with_retry_after(self.wait())
        }
    }
}

/// The SDK's error as ours.
pub(super) fn failure<E>(call: NamedCall<'_>, error: SdkError<E, HttpResponse>) -> Error
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    let NamedCall { operation, subject } = call;
    if let Some(refusal) = S3Refusal::of(&error) {
        let is_success = (200..300).contains(&refusal.status);
        if is_success && refusal.code.is_none() {
            // The store did it and says so in words that are not S3's: no right and no quota is missing.
            return Error::transient(
                Class::UploadFailed,
                format!(
                    "{operation} {subject}: the store's answer (status {}) is not that of S3: {}",
                    refusal.status,
                    chain(&error)
                ),
            );
        }
        return refusal.into_error(call);
    }
    if let Some(reason) = missing_credentials(&error) {
        return Error::new(
            Class::UploadDenied,
            format!("{operation} {subject}: no usable AWS credentials: {reason}"),
        );
    }
    if matches!(error, SdkError::TimeoutError(_)) {
        return Error::transient(
            Class::UploadFailed,
            format!("{operation} {subject}: no answer within the time limit"),
        );
    }
    let text = format!("{operation} {subject}: {}", chain(&error));
    if matches!(error, SdkError::ConstructionFailure(_)) {
        return Error::new(Class::UploadDenied, text);
    }
    Error::transient(Class::UploadFailed, text)
}

/// The reason when credentials could not be had. Only their absence and a broken configuration deny;
/// a credentials service that is down for a moment does not.
fn missing_credentials(error: &(dyn StdError + 'static)) -> Option<String> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(credentials) = error.downcast_ref::<CredentialsError>() {
            let is_lasting = matches!(
                credentials,
                CredentialsError::CredentialsNotLoaded(_)
                    | CredentialsError::InvalidConfiguration(_)
            );
            return is_lasting.then(|| chain(credentials));
        }
        cause = error.source();
    }
    None
}

/// An error and its causes in one line, each said once.
pub(super) fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    printable(&text)
}

/// The other side's words without control characters, and not endless.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MESSAGE_MAX_CHARS)
        .collect()
}

/// Retry-After as S3 sends it: whole seconds.
fn seconds(value: &str) -> Option<Duration> {
    value.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_s3::operation::list_parts::ListPartsError;
    use aws_sdk_s3::primitives::SdkBody;

    const CALL: NamedCall<'static> = NamedCall {
        operation: "UploadPart",
        subject: "a/b.mp4",
    };

    fn refusal(status: u16, code: &str) -> S3Refusal {
        S3Refusal {
            status,
            code: (!code.is_empty()).then(|| code.to_owned()),
            ..S3Refusal::default()
        }
    }

    #[test]
    fn f60_a_refusing_destination_is_denied_and_the_rest_is_transient() {
        let denied = [
            (404, "NoSuchBucket"),
            (403, "AccessDenied"),
            (403, "InvalidAccessKeyId"),
            (403, "SignatureDoesNotMatch"),
            (403, ""),
            (400, "QuotaExceeded"),
            (301, "PermanentRedirect"),
            (507, "XMinioStorageFull"),
        ];
        for (status, code) in denied {
            let error = refusal(status, code).into_error(CALL);
            assert_eq!(error.class(), Class::UploadDenied, "{status} {code}");
            assert!(!error.is_transient(), "{status} {code}");
        }
        let transient = [
            (503, "SlowDown"),
            (500, "InternalError"),
            (200, "InternalError"),
            (400, "BadDigest"),
            (404, "NoSuchUpload"),
            (400, "RequestTimeout"),
            (502, ""),
        ];
        for (status, code) in transient {
            let error = refusal(status, code).into_error(CALL);
            assert_eq!(error.class(), Class::UploadFailed, "{status} {code}");
            assert!(error.is_transient(), "{status} {code}");
        }
    }

    #[test]
    fn f61_credentials_that_ran_out_are_tried_again_before_the_destination_is_paused() {
        for code in RAN_OUT_CODES {
            let error = refusal(400, code).into_error(CALL);
            assert_eq!(error.class(), Class::UploadDenied);
            assert!(error.is_transient());
        }
    }

    // moto's ListParts has a root element of its own.
    #[test]
    fn an_answer_that_is_not_s3s_is_quoted_and_blamed_on_no_right() {
        let raw = HttpResponse::new(200.try_into().unwrap(), SdkBody::empty());
        let error = SdkError::<ListPartsError, _>::response_error("unexpected root", raw);
        let error = failure(CALL, error);
        assert_eq!(error.class(), Class::UploadFailed);
        assert!(error.is_transient());
        let told = error.to_string();
        assert!(told.contains("the store's answer (status 200)"), "{told}");
        assert!(told.contains("unexpected root"), "{told}");
    }

    #[test]
    fn a_message_names_operation_key_and_code() {
        let refusal = S3Refusal {
            status: 503,
            code: Some("SlowDown".to_owned()),
            message: Some("Reduce\nyour request rate".to_owned()),
            retry_after: Some(Duration::from_secs(7)),
        };
        let error = refusal.into_error(CALL);
        assert_eq!(
            error.to_string(),
            "UploadPart a/b.mp4: SlowDown (status 503): Reduce your request rate"
        );
        assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
    }
}
