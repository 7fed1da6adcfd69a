//! The calls that change the bucket.

use std::sync::atomic::Ordering;
use std::time::Duration;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CompletedPart};
use reqwest::Method;

use super::classify::{Call, Refusal, failure};
use super::connect::SDK_ATTEMPTS;
use super::direct::{self, Answer, Left, METADATA};
use super::{S3Store, body, on};
use crate::error::{Class, Error, Result};
use crate::model::job::FinishedPart;
use crate::object::{Attributes, Condition, Payload, WriteEnd, encode_crc64nvme};

/// What Complete says of the whole object, so that S3 checks it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Whole {
    pub(super) size_bytes: u64,
    pub(super) crc64nvme: u64,
}

impl S3Store {
    /// Writes under a condition, also where the store does not know conditions: then it is looked first
    /// whether something is there. Two writers at the same instant could both find nothing; the keys of
    /// different jobs differ, so it would take a stranger.
    pub(super) async fn under_condition<W, F>(
        &self,
        key: &str,
        condition: Option<&Condition>,
        write: W,
    ) -> Result<WriteEnd>
    where
        W: Fn(Option<Condition>) -> F,
        F: Future<Output = Result<WriteEnd, Failed>>,
    {
        let is_absent = condition == Some(&Condition::Absent);
        if !is_absent || !self.lacks_conditions.load(Ordering::Relaxed) {
            match write(condition.cloned()).await {
                Err(failed) if is_absent && failed.may_lack_conditions => {}
                end => return end.map_err(|failed| failed.error),
            }
        }
        if self.head_object(key).await?.is_some() {
            return Ok(WriteEnd::Taken);
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

    pub(super) async fn put_object(
        &self,
        key: &str,
        payload: &Payload,
        attributes: &Attributes,
        condition: Option<&Condition>,
    ) -> Result<WriteEnd, Failed> {
        let call = self.direct_put(key, payload, attributes, condition);
        let left = match self.send(call).await {
            Ok(Answer::Done(_)) => return Ok(WriteEnd::Done),
            Ok(Answer::Taken) => return Ok(WriteEnd::Taken),
            Ok(Answer::Conflict) => return Ok(WriteEnd::Conflict),
            Ok(Answer::Missing) => Left::default(),
            Err(left) => left,
        };
        let (if_none_match, if_match) = headers(condition);
        let options = self.headers(attributes);
        let sent = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(key)
            .set_content_type(content_type(attributes))
            .set_content_disposition(attributes.disposition.clone())
            .set_storage_class(options.storage_class)
            .set_server_side_encryption(options.encryption)
            .set_ssekms_key_id(options.kms_key_id)
            .set_tagging(options.tagging)
            .set_object_lock_mode(options.lock_mode)
            .set_object_lock_retain_until_date(options.retain_until)
            .set_metadata(Some(attributes.metadata.iter().cloned().collect()))
            .content_length(length(payload.size_bytes)?)
            .checksum_crc64_nvme(encode_crc64nvme(payload.crc64nvme))
            .set_if_none_match(if_none_match)
            .set_if_match(if_match)
            .body(body::stream(payload))
            .customize()
            .config_override(repeated(self.limit_for(payload.size_bytes), left))
            .send()
            .await;
        match sent {
            Ok(_) => {
                self.note_taken(left);
                Ok(WriteEnd::Done)
            }
            Err(error) => conditional_end(on("PutObject", key), error, condition),
        }
    }

    fn direct_put<'a>(
        &self,
        key: &'a str,
        payload: &'a Payload,
        attributes: &Attributes,
        condition: Option<&Condition>,
    ) -> direct::Call<'a> {
        let (if_none_match, if_match) = headers(condition);
        let named = [
            ("content-type", content_type(attributes)),
            ("content-disposition", attributes.disposition.clone()),
            ("if-none-match", if_none_match),
            ("if-match", if_match),
        ];
        let named = named.into_iter().chain(self.headers(attributes).named());
        let named = named.filter_map(|(name, value)| Some((name.to_owned(), value?)));
        let metadata = attributes.metadata.iter();
        let metadata = metadata.map(|(name, value)| (format!("{METADATA}{name}"), value.clone()));
        direct::Call {
            method: Method::PUT,
            key,
            query: &[],
            headers: named.chain(metadata).chain([checksum(payload)]).collect(),
            payload: Some(payload),
            limit: self.limit_for(payload.size_bytes),
        }
    }

    pub(super) async fn create_multipart_upload(
        &self,
        key: &str,
        attributes: &Attributes,
    ) -> Result<String> {
        let options = self.headers(attributes);
        let created = self
            .client
            .create_multipart_upload()
            .bucket(&self.bucket)
            .key(key)
            .set_content_type(content_type(attributes))
            .set_content_disposition(attributes.disposition.clone())
            .set_storage_class(options.storage_class)
            .set_server_side_encryption(options.encryption)
            .set_ssekms_key_id(options.kms_key_id)
            .set_tagging(options.tagging)
            .set_object_lock_mode(options.lock_mode)
            .set_object_lock_retain_until_date(options.retain_until)
            .set_metadata(Some(attributes.metadata.iter().cloned().collect()))
            .checksum_algorithm(ChecksumAlgorithm::Crc64Nvme)
            .checksum_type(ChecksumType::FullObject)
            .customize()
            .config_override(within(self.limit_for(0)))
            .send()
            .await
            .map_err(|error| self.begin_failure(key, error))?;
        created
            .upload_id
            .filter(|id| !id.is_empty())
            .ok_or_else(|| incomplete_answer("CreateMultipartUpload", key, "upload id"))
    }

    pub(super) async fn send_part(
        &self,
        key: &str,
        upload_id: &str,
        number: u32,
        payload: &Payload,
    ) -> Result<FinishedPart> {
        let part_text = number.to_string();
        let call = direct::Call {
            method: Method::PUT,
            key,
            query: &[("partNumber", &part_text), ("uploadId", upload_id)],
            headers: vec![checksum(payload)],
            payload: Some(payload),
            limit: self.limit_for(payload.size_bytes),
        };
        let finished = |etag| FinishedPart {
            number,
            size_bytes: payload.size_bytes,
            etag,
            crc64nvme: payload.crc64nvme,
        };
        let left = match self.send(call).await {
            Ok(Answer::Done(headers)) => {
                if let Some(etag) = direct::text(&headers, "etag") {
                    return Ok(finished(etag));
                }
                Left::once()
            }
            Ok(_) => Left::once(),
            Err(left) => left,
        };
        let sent = self
            .client
            .upload_part()
            .bucket(&self.bucket)
            .key(key)
            .upload_id(upload_id)
            .part_number(part_number(number)?)
            .content_length(length(payload.size_bytes)?)
            .checksum_crc64_nvme(encode_crc64nvme(payload.crc64nvme))
            .body(body::stream(payload))
            .customize()
            .config_override(repeated(self.limit_for(payload.size_bytes), left))
            .send()
            .await
            .map_err(|error| failure(on("UploadPart", key), error))?;
        self.note_taken(left);
        let etag = sent
            .e_tag
            .ok_or_else(|| incomplete_answer("UploadPart", key, "ETag"))?;
        Ok(finished(etag))
    }

    pub(super) async fn complete_multipart_upload(
        &self,
        key: &str,
        upload_id: &str,
        parts: &[FinishedPart],
        whole: Whole,
        condition: Option<&Condition>,
    ) -> Result<WriteEnd, Failed> {
        let (if_none_match, if_match) = headers(condition);
        let sent = self
            .client
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(key)
            .upload_id(upload_id)
            .multipart_upload(part_list(parts)?)
            .checksum_type(ChecksumType::FullObject)
            .checksum_crc64_nvme(encode_crc64nvme(whole.crc64nvme))
            .mpu_object_size(length(whole.size_bytes)?)
            .set_if_none_match(if_none_match)
            .set_if_match(if_match)
            .customize()
            .config_override(within(self.complete_limit()))
            .send()
            .await;
        match sent {
            // A 200 whose document was cut reads as success too, without an ETag. Only a HEAD is proof,
            // and the caller makes one in any case.
            Ok(_) => Ok(WriteEnd::Done),
            Err(error) => conditional_end(on("CompleteMultipartUpload", key), error, condition),
        }
    }

    pub(super) async fn delete_object(&self, key: &str) -> Result<()> {
        let sent = self
            .client
            .delete_object()
            .bucket(&self.bucket)
            .key(key)
            .customize()
            .config_override(within(self.limit_for(0)))
            .send()
            .await;
        sent.map(drop)
            .map_err(|error| failure(on("DeleteObject", key), error))
    }

    pub(super) async fn abort_multipart_upload(&self, key: &str, upload_id: &str) -> Result<()> {
        let sent = self
            .client
            .abort_multipart_upload()
            .bucket(&self.bucket)
            .key(key)
            .upload_id(upload_id)
            .customize()
            .config_override(within(self.limit_for(0)))
            .send()
            .await;
        match sent {
            Ok(_) => Ok(()),
            Err(error) if Refusal::of(&error).is_some_and(|r| r.is_no_such_upload()) => Ok(()),
            Err(error) => Err(failure(on("AbortMultipartUpload", key), error)),
        }
    }
}

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

/// The checksum by which the store itself refuses damage.
fn checksum(payload: &Payload) -> (String, String) {
    let value = encode_crc64nvme(payload.crc64nvme);
    ("x-amz-checksum-crc64nvme".to_owned(), value)
}

/// How a write under a condition ended when it did not simply succeed.
fn conditional_end<E>(
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
    let may_lack_conditions = refusal.status == 501
        || (refusal.status == 400
            && ["NotImplemented", "InvalidArgument", "InvalidRequest"]
                .iter()
                .any(|code| refusal.is(code)));
    Err(Failed {
        error: refusal.into_error(call),
        may_lack_conditions,
    })
}

/// A write that failed.
pub(super) struct Failed {
    error: Error,
    /// Whether it could be that the store does not know conditions.
    may_lack_conditions: bool,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Failed {
        Failed {
            error,
            may_lack_conditions: false,
        }
    }
}

/// The values of `If-None-Match` and `If-Match`.
fn headers(condition: Option<&Condition>) -> (Option<String>, Option<String>) {
    match condition {
        None => (None, None),
        Some(Condition::Absent) => (Some("*".to_owned()), None),
        Some(Condition::Matches(etag)) => (None, Some(format!("\"{}\"", etag.trim_matches('"')))),
    }
}

fn part_list(parts: &[FinishedPart]) -> Result<CompletedMultipartUpload> {
    let mut list = CompletedMultipartUpload::builder();
    for part in parts {
        list = list.parts(
            CompletedPart::builder()
                .part_number(part_number(part.number)?)
                .e_tag(&part.etag)
                .checksum_crc64_nvme(encode_crc64nvme(part.crc64nvme))
                .build(),
        );
    }
    Ok(list.build())
}

fn content_type(attributes: &Attributes) -> Option<String> {
    Some(attributes.content_type.clone()).filter(|text| !text.is_empty())
}

fn part_number(number: u32) -> Result<i32> {
    i32::try_from(number)
        .map_err(|_| Error::internal(format!("send part {number}: S3 ends at part 10000")))
}

fn length(size_bytes: u64) -> Result<i64> {
    i64::try_from(size_bytes)
        .map_err(|_| Error::internal(format!("send {size_bytes} bytes: more than S3 can count")))
}

pub(super) fn incomplete_answer(operation: &str, key: &str, missing: &str) -> Error {
    Error::transient(
        Class::UploadFailed,
        format!("{operation} {key}: the answer has no {missing}"),
    )
}
