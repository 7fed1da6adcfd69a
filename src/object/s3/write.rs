//! The calls that change the bucket.

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::create_multipart_upload::CreateMultipartUploadError;
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CompletedPart};
use reqwest::Method;
use reqwest::header::HeaderMap;

use super::call::{incomplete_answer, repeated, unquoted, within};
use super::checksum::{CRC64NVME, Checksum};
use super::classify::{S3Refusal, failure};
use super::condition::{Failed, conditional_end, headers};
use super::direct::{self, DirectAnswer, Left, METADATA, text};
use super::signed::Signed;
use super::{S3Store, body, on};
use crate::error::{Error, Result};
use crate::model::job::FinishedPart;
use crate::object::{
    Condition, ObjectAttributes, ObjectInfo, Payload, PutEnd, WriteEnd, encode_crc64nvme,
};

/// What Complete says of the whole object, so that S3 checks it.
#[derive(Clone, Copy, Debug)]
pub(super) struct ExpectedWhole {
    pub(super) size_bytes: u64,
    pub(super) crc64nvme: u64,
}

impl S3Store {
    pub(super) async fn put_object(
        &self,
        key: &str,
        payload: &Payload,
        attributes: &ObjectAttributes,
        condition: Option<&Condition>,
    ) -> Result<PutEnd, Failed> {
        let put = async |uses_crc64nvme| {
            let checksum = self.checksum(payload, uses_crc64nvme).await?;
            self.put_checked(key, (payload, checksum), attributes, condition)
                .await
        };
        let knows_crc64nvme = self.knows_crc64nvme();
        match put(knows_crc64nvme).await {
            Err(failed) if knows_crc64nvme && failed.may_lack_headers => {
                let end = put(false).await.map_err(|bare| failed.or(bare))?;
                self.note_no_crc64nvme();
                Ok(end)
            }
            end => end,
        }
    }

    async fn put_checked(
        &self,
        key: &str,
        (payload, checksum): (&Payload, Checksum),
        attributes: &ObjectAttributes,
        condition: Option<&Condition>,
    ) -> Result<PutEnd, Failed> {
        let call = self.direct_put(key, (payload, &checksum), attributes, condition);
        let left = match self.send(call).await {
            Ok(DirectAnswer::Done(headers)) => {
                self.note_crc64nvme(&checksum, text(&headers, CRC64NVME).as_deref());
                let shown = self.shown(&headers, payload, attributes);
                let end = WriteEnd::Done;
                return Ok(PutEnd { end, shown });
            }
            Ok(DirectAnswer::Taken) => return Ok(WriteEnd::Taken.into()),
            Ok(DirectAnswer::Conflict) => return Ok(WriteEnd::Conflict.into()),
            Ok(DirectAnswer::Missing) => Left::default(),
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
            .set_checksum_crc64_nvme(checksum.crc64nvme.clone())
            .set_content_md5(checksum.md5.clone())
            .set_if_none_match(if_none_match)
            .set_if_match(if_match)
            .body(body::stream(payload))
            .customize()
            .config_override(repeated(self.limit_for(payload.size_bytes), left))
            .interceptor(Signed(checksum.sha256.clone()))
            .send()
            .await;
        match sent {
            Ok(put) => {
                self.note_crc64nvme(&checksum, put.checksum_crc64_nvme());
                self.note_taken(left);
                Ok(WriteEnd::Done.into())
            }
            Err(error) => conditional_end(on("PutObject", key), error, condition).map(Into::into),
        }
    }

    /// What the answer to a Put is proof of: nothing, when it does not tell the checksum of what was stored.
    fn shown(
        &self,
        headers: &HeaderMap,
        payload: &Payload,
        attributes: &ObjectAttributes,
    ) -> Option<ObjectInfo> {
        Some(ObjectInfo {
            size_bytes: payload.size_bytes,
            etag: Some(unquoted(text(headers, "etag")?)),
            version_id: text(headers, "x-amz-version-id"),
            crc64nvme: Some(self.told_crc64nvme(text(headers, CRC64NVME))?),
            metadata: attributes.metadata.clone(),
        })
    }

    fn direct_put<'a>(
        &self,
        key: &'a str,
        (payload, checksum): (&'a Payload, &Checksum),
        attributes: &ObjectAttributes,
        condition: Option<&Condition>,
    ) -> direct::DirectCall<'a> {
        let (if_none_match, if_match) = headers(condition);
        let named = [
            ("content-type", content_type(attributes)),
            ("content-disposition", attributes.disposition.clone()),
            ("if-none-match", if_none_match),
            ("if-match", if_match),
        ];
        let named = named.into_iter().chain(checksum.named());
        let named = named.chain(self.headers(attributes).named());
        let metadata = attributes.metadata.iter();
        let metadata = metadata.map(|(name, value)| (format!("{METADATA}{name}"), value.clone()));
        direct::DirectCall {
            method: Method::PUT,
            key,
            query: &[],
            headers: direct::some(named).into_iter().chain(metadata).collect(),
            payload: Some(payload),
            sha256: checksum.sha256.clone(),
            limit: self.limit_for(payload.size_bytes),
        }
    }

    pub(super) async fn create_multipart_upload(
        &self,
        key: &str,
        attributes: &ObjectAttributes,
    ) -> Result<String> {
        let knows_crc64nvme = self.knows_crc64nvme();
        let failed = match self.begin(key, attributes, knows_crc64nvme).await {
            Err(error) if knows_crc64nvme && is_bad_option(&error) => error,
            begun => return begun.map_err(|error| self.begin_failure(key, error))?,
        };
        match self.begin(key, attributes, false).await {
            Ok(id) => {
                self.note_no_crc64nvme();
                id
            }
            Err(bare) if is_bad_option(&bare) => Err(self.begin_failure(key, failed)),
            Err(bare) => Err(self.begin_failure(key, bare)),
        }
    }

    /// The upload's id, or that the answer has none.
    async fn begin(
        &self,
        key: &str,
        attributes: &ObjectAttributes,
        uses_crc64nvme: bool,
    ) -> Result<Result<String>, SdkError<CreateMultipartUploadError, HttpResponse>> {
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
            .set_checksum_algorithm(uses_crc64nvme.then_some(ChecksumAlgorithm::Crc64Nvme))
            .set_checksum_type(uses_crc64nvme.then_some(ChecksumType::FullObject))
            .customize()
            .config_override(within(self.limit_for(0)))
            .send()
            .await?;
        let id = created.upload_id.filter(|id| !id.is_empty());
        Ok(id.ok_or_else(|| incomplete_answer("CreateMultipartUpload", key, "upload id")))
    }

    pub(super) async fn send_part(
        &self,
        key: &str,
        upload_id: &str,
        number: u32,
        payload: &Payload,
    ) -> Result<FinishedPart> {
        let send = async |uses_crc64nvme| {
            let checksum = self.checksum(payload, uses_crc64nvme).await?;
            self.send_checked(key, upload_id, number, (payload, checksum))
                .await
        };
        let knows_crc64nvme = self.knows_crc64nvme();
        match send(knows_crc64nvme).await {
            Err(failed) if knows_crc64nvme && failed.may_lack_headers => {
                let part = send(false).await.map_err(|bare| failed.or(bare).error)?;
                self.note_no_crc64nvme();
                Ok(part)
            }
            sent => sent.map_err(|failed| failed.error),
        }
    }

    async fn send_checked(
        &self,
        key: &str,
        upload_id: &str,
        number: u32,
        (payload, checksum): (&Payload, Checksum),
    ) -> Result<FinishedPart, Failed> {
        let part_text = number.to_string();
        let call = direct::DirectCall {
            method: Method::PUT,
            key,
            query: &[("partNumber", &part_text), ("uploadId", upload_id)],
            headers: direct::some(checksum.named()),
            payload: Some(payload),
            sha256: checksum.sha256.clone(),
            limit: self.limit_for(payload.size_bytes),
        };
        let finished = |etag| FinishedPart {
            number,
            size_bytes: payload.size_bytes,
            etag,
            crc64nvme: payload.crc64nvme,
        };
        let left = match self.send(call).await {
            Ok(DirectAnswer::Done(headers)) => {
                self.note_crc64nvme(&checksum, text(&headers, CRC64NVME).as_deref());
                if let Some(etag) = text(&headers, "etag") {
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
            .set_checksum_crc64_nvme(checksum.crc64nvme.clone())
            .set_content_md5(checksum.md5.clone())
            .body(body::stream(payload))
            .customize()
            .config_override(repeated(self.limit_for(payload.size_bytes), left))
            .interceptor(Signed(checksum.sha256.clone()))
            .send()
            .await
            .map_err(|error| Failed {
                may_lack_headers: is_bad_option(&error),
                error: failure(on("UploadPart", key), error),
            })?;
        self.note_crc64nvme(&checksum, sent.checksum_crc64_nvme());
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
        whole: ExpectedWhole,
        condition: Option<&Condition>,
    ) -> Result<WriteEnd, Failed> {
        let (if_none_match, if_match) = headers(condition);
        let knows_crc64nvme = self.knows_crc64nvme();
        let sent = self
            .client
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(key)
            .upload_id(upload_id)
            .multipart_upload(part_list(parts, knows_crc64nvme)?)
            .set_checksum_type(knows_crc64nvme.then_some(ChecksumType::FullObject))
            .set_checksum_crc64_nvme(knows_crc64nvme.then(|| encode_crc64nvme(whole.crc64nvme)))
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
            Err(error) if S3Refusal::of(&error).is_some_and(|r| r.is_no_such_upload()) => Ok(()),
            Err(error) => Err(failure(on("AbortMultipartUpload", key), error)),
        }
    }
}

/// Whether a call may have been refused for a header that the store does not know.
fn is_bad_option<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    S3Refusal::of(error).is_some_and(|refusal| refusal.is_bad_option())
}

fn part_list(parts: &[FinishedPart], has_crc64nvme: bool) -> Result<CompletedMultipartUpload> {
    let mut list = CompletedMultipartUpload::builder();
    for part in parts {
        list = list.parts(
            CompletedPart::builder()
                .part_number(part_number(part.number)?)
                .e_tag(&part.etag)
                .set_checksum_crc64_nvme(has_crc64nvme.then(|| encode_crc64nvme(part.crc64nvme)))
                .build(),
        );
    }
    Ok(list.build())
}

fn content_type(attributes: &ObjectAttributes) -> Option<String> {
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
