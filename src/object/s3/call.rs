//! What calls that read and calls that write have in common: time limits, and flaws of answers.

use std::time::Duration;

use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;

use super::connect::SDK_ATTEMPTS;
use super::direct::Left;
use crate::error::{Class, Error};

/// The time limit of one attempt. Without it an upload from memory waits for ever.
pub(super) fn within(limit: Duration) -> aws_sdk_s3::config::Builder {
    aws_sdk_s3::Config::builder().timeout_config(
        TimeoutConfig::builder()
            .operation_attempt_timeout(limit)
            .build(),
    )
}

/// The time limit of an attempt at a call that may have been sent before.
pub(super) fn repeated(limit: Duration, left: Left) -> aws_sdk_s3::config::Builder {
    let attempts = SDK_ATTEMPTS.saturating_sub(left.sent).max(1);
    within(limit).retry_config(RetryConfig::standard().with_max_attempts(attempts))
}

pub(super) fn incomplete_answer(operation: &str, key: &str, missing: &str) -> Error {
    Error::transient(
        Class::UploadFailed,
        format!("{operation} {key}: the answer has no {missing}"),
    )
}

pub(super) fn unquoted(etag: String) -> String {
    etag.trim_matches('"').to_owned()
}
