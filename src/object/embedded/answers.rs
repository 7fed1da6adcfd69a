//! Times and failures of the disk as S3's answers have them.

use std::io;
use std::time::SystemTime;

use http::StatusCode;
use jiff::Timestamp;
use s3s::{S3Error, S3ErrorCode};

/// A disk that is full refuses the way MinIO does, so that clients pause instead of trying on.
pub(super) fn io_error(error: io::Error) -> S3Error {
    let is_full = matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    );
    if !is_full {
        tracing::error!(%error, "the embedded S3 server failed to use its disk");
        return S3Error::with_source(S3ErrorCode::InternalError, Box::new(error));
    }
    let mut refusal = S3Error::with_message(
        S3ErrorCode::Custom("XMinioStorageFull".into()),
        "the disk of the embedded S3 server is full: make room, what waits then goes on",
    );
    refusal.set_status_code(StatusCode::INSUFFICIENT_STORAGE);
    refusal
}

pub(super) fn timestamp(at: Timestamp) -> s3s::dto::Timestamp {
    SystemTime::from(at).into()
}

/// As HTTP dates tell it.
pub(super) fn timestamp_seconds(at: Timestamp) -> s3s::dto::Timestamp {
    let whole = Timestamp::from_second(at.as_second()).unwrap_or(at);
    timestamp(whole)
}
