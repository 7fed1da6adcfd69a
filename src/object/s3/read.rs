//! The calls that only look.

use aws_sdk_s3::config::ResponseChecksumValidation;
use aws_sdk_s3::types::ChecksumMode;
use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use reqwest::Method;
use reqwest::header::HeaderMap;

use super::call::{incomplete_answer, repeated, unquoted, within};
use super::classify::{S3Refusal, failure};
use super::direct::{self, DirectAnswer, Left, METADATA, text};
use super::{S3Store, on};
use crate::error::{Class, Error, Result};
use crate::object::{ListedPart, ListedUpload, ObjectInfo};

/// A store that pages for ever (each page S3 gives holds up to 1,000 entries) is broken.
const PAGES_MAX: usize = 10_000;

/// What a HEAD tells.
pub(super) enum Looked {
    There(ObjectInfo),
    Missing,
    /// 403: it is forbidden, or is not there and only who may list the bucket would hear so.
    Forbidden(Error),
}

impl S3Store {
    /// A bucket that is missing reads as "nothing is there": the answer to a HEAD has no body that
    /// would tell the two apart.
    pub(super) async fn head_object(&self, key: &str) -> Result<Option<ObjectInfo>> {
        match self.look_at(key).await? {
            Looked::There(info) => Ok(Some(info)),
            Looked::Missing => Ok(None),
            Looked::Forbidden(_) if self.learned.get().takes_403_for_missing() => Ok(None),
            Looked::Forbidden(error) => Err(error),
        }
    }

    /// As [`head_object`](S3Store::head_object), whatever is known of the store.
    pub(super) async fn look_at(&self, key: &str) -> Result<Looked> {
        let call = direct::DirectCall {
            method: Method::HEAD,
            key,
            query: &[],
            headers: vec![("x-amz-checksum-mode".to_owned(), "ENABLED".to_owned())],
            payload: None,
            sha256: None,
            limit: self.limit_for(0),
        };
        let left = match self.send(call).await {
            Ok(DirectAnswer::Missing) => return Ok(Looked::Missing),
            Ok(DirectAnswer::Done(headers)) => match told(&headers) {
                Some(info) => return Ok(Looked::There(self.believable(info))),
                None => Left::once(),
            },
            Ok(_) => Left::once(),
            Err(left) => left,
        };
        let sent = self
            .client
            .head_object()
            .bucket(&self.bucket)
            .key(key)
            .checksum_mode(ChecksumMode::Enabled)
            .customize()
            .config_override(repeated(self.limit_for(0), left))
            .send()
            .await;
        if sent.is_ok() {
            self.note_taken(left);
        }
        let head = match sent {
            Ok(head) => head,
            Err(error) => {
                let status = S3Refusal::of(&error).map(|refusal| refusal.status);
                let error = || failure(on("HeadObject", key), error);
                return match status {
                    Some(404) => Ok(Looked::Missing),
                    Some(403) => Ok(Looked::Forbidden(forbidden(&error()))),
                    _ => Err(error()),
                };
            }
        };
        let size = head
            .content_length
            .and_then(|length| u64::try_from(length).ok())
            .ok_or_else(|| incomplete_answer("HeadObject", key, "length"))?;
        Ok(Looked::There(ObjectInfo {
            size_bytes: size,
            etag: head.e_tag.map(unquoted),
            version_id: head.version_id,
            crc64nvme: self.told_crc64nvme(head.checksum_crc64_nvme),
            metadata: sorted(head.metadata.unwrap_or_default()),
        }))
    }

    fn believable(&self, mut info: ObjectInfo) -> ObjectInfo {
        info.crc64nvme = self.told_crc64nvme(info.crc64nvme);
        info
    }

    fn listed(&self, part: aws_sdk_s3::types::Part) -> Option<ListedPart> {
        Some(ListedPart {
            number: u32::try_from(part.part_number?).ok()?,
            size_bytes: u64::try_from(part.size?).ok()?,
            etag: part.e_tag?,
            crc64nvme: self.told_crc64nvme(part.checksum_crc64_nvme),
        })
    }

    /// The SDK shows the headers of a refusal only, so one is asked for.
    pub(super) async fn date_of_refusal(&self, missing_key: &str) -> Result<Option<Timestamp>> {
        let sent = self
            .client
            .head_object()
            .bucket(&self.bucket)
            .key(missing_key)
            .customize()
            .config_override(within(self.limit_for(0)))
            .send()
            .await;
        let Err(error) = sent else { return Ok(None) };
        let Some(response) = error.raw_response() else {
            return Err(failure(on("HeadObject", missing_key), error));
        };
        let date = response.headers().get("date");
        Ok(date.and_then(|text| Some(jiff::fmt::rfc2822::parse(text).ok()?.timestamp())))
    }

    /// `is_checked`: whether content that has not the checksum that the store tells is an error.
    pub(super) async fn get_object(
        &self,
        key: &str,
        max_bytes: u64,
        is_checked: bool,
    ) -> Result<Option<(Bytes, ObjectInfo)>> {
        let mut config = within(self.limit_for(0));
        if !is_checked {
            config = config.response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        }
        let sent = self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(key)
            .set_checksum_mode(is_checked.then_some(ChecksumMode::Enabled))
            .customize()
            .config_override(config)
            .send()
            .await;
        let mut object = match sent {
            Ok(object) => object,
            Err(error) if S3Refusal::of(&error).is_some_and(|r| r.is("NoSuchKey")) => {
                return Ok(None);
            }
            Err(error) => {
                // Other codes are about who asks: then the HEAD, which tells none, would be refused for that as well.
                let is_denied = |refusal: S3Refusal| {
                    refusal.status == 403 && (refusal.code.is_none() || refusal.is("AccessDenied"))
                };
                if S3Refusal::of(&error).is_some_and(is_denied)
                    && self.head_object(key).await?.is_none()
                {
                    return Ok(None);
                }
                return Err(failure(on("GetObject", key), error));
            }
        };
        let read = read_capped(key, &mut object.body, max_bytes);
        let content = tokio::time::timeout(self.limit_for(max_bytes), read)
            .await
            .map_err(|_| {
                let text = format!("GetObject {key}: the body did not end within the time limit");
                Error::transient(Class::UploadFailed, text)
            })??;
        let info = ObjectInfo {
            size_bytes: content.len() as u64,
            etag: object.e_tag.map(unquoted),
            version_id: object.version_id,
            crc64nvme: self.told_crc64nvme(object.checksum_crc64_nvme),
            metadata: sorted(object.metadata.unwrap_or_default()),
        };
        Ok(Some((content, info)))
    }

    pub(super) async fn get_object_range(
        &self,
        key: &str,
        etag: Option<&str>,
        start: u64,
        length: u64,
    ) -> Result<Bytes> {
        let end = start.saturating_add(length).saturating_sub(1);
        // A checksum that a store tells is the whole object's.
        let config = within(self.limit_for(length))
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        let sent = self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(key)
            .range(format!("bytes={start}-{end}"))
            .set_if_match(etag.map(|etag| format!("\"{}\"", etag.trim_matches('"'))))
            .customize()
            .config_override(config)
            .send()
            .await;
        let mut object = sent.map_err(|error| failure(on("GetObject", key), error))?;
        let read = read_capped(key, &mut object.body, length);
        let content = tokio::time::timeout(self.limit_for(length), read).await;
        let content = content.map_err(|_| {
            let text = format!("GetObject {key}: the body did not end within the time limit");
            Error::transient(Class::UploadFailed, text)
        })??;
        if content.len() as u64 != length {
            return Err(incomplete_answer("GetObject", key, "whole range"));
        }
        Ok(content)
    }

    pub(super) async fn all_parts(
        &self,
        key: &str,
        upload_id: &str,
    ) -> Result<Option<Vec<ListedPart>>> {
        let mut parts = Vec::new();
        let mut marker: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let sent = self
                .client
                .list_parts()
                .bucket(&self.bucket)
                .key(key)
                .upload_id(upload_id)
                .set_part_number_marker(marker.take())
                .customize()
                .config_override(within(self.limit_for(0)))
                .send()
                .await;
            let page = match sent {
                Ok(page) => page,
                Err(error) if S3Refusal::of(&error).is_some_and(|r| r.is_no_such_upload()) => {
                    return Ok(None);
                }
                Err(error) => return Err(failure(on("ListParts", key), error)),
            };
            parts.extend(
                page.parts
                    .unwrap_or_default()
                    .into_iter()
                    .filter_map(|part| self.listed(part)),
            );
            marker = page.next_part_number_marker;
            if !page.is_truncated.unwrap_or(false) || marker.is_none() {
                parts.sort_by_key(|part| part.number);
                return Ok(Some(parts));
            }
        }
        Err(incomplete_answer("ListParts", key, "last page"))
    }

    pub(super) async fn all_uploads(&self, prefix: &str) -> Result<Vec<ListedUpload>> {
        let mut uploads = Vec::new();
        let mut markers: (Option<String>, Option<String>) = (None, None);
        for _ in 0..PAGES_MAX {
            let page = self
                .client
                .list_multipart_uploads()
                .bucket(&self.bucket)
                .prefix(prefix)
                .set_key_marker(markers.0.take())
                .set_upload_id_marker(markers.1.take())
                .customize()
                .config_override(within(self.limit_for(0)))
                .send()
                .await
                .map_err(|error| failure(self.on_bucket("ListMultipartUploads"), error))?;
            for upload in page.uploads.unwrap_or_default() {
                let (Some(key), Some(upload_id)) = (upload.key, upload.upload_id) else {
                    continue;
                };
                let initiated = upload
                    .initiated
                    .and_then(|at| Timestamp::from_millisecond(at.to_millis().ok()?).ok());
                uploads.push(ListedUpload {
                    key,
                    upload_id,
                    initiated,
                });
            }
            markers = (page.next_key_marker, page.next_upload_id_marker);
            if !page.is_truncated.unwrap_or(false) || markers.0.is_none() {
                return Ok(uploads);
            }
        }
        Err(incomplete_answer(
            "ListMultipartUploads",
            prefix,
            "last page",
        ))
    }

    pub(super) async fn head_bucket(&self) -> Result<()> {
        let call = self.on_bucket("HeadBucket");
        let sent = self
            .client
            .head_bucket()
            .bucket(&self.bucket)
            .customize()
            .config_override(within(self.limit_for(0)))
            .send()
            .await;
        match sent {
            Ok(_) => Ok(()),
            Err(error) if S3Refusal::of(&error).is_some_and(|r| r.status == 404) => {
                let text = format!("HeadBucket {}: the bucket does not exist", self.bucket);
                Err(Error::new(Class::UploadDenied, text))
            }
            Err(error) => Err(failure(call, error)),
        }
    }
}

/// The answer to a HEAD has no words: these are the rights that may be missing.
fn forbidden(error: &Error) -> Error {
    let text = format!(
        "{error}; allow s3:GetObject on it, and s3:ListBucket on the bucket, without which a store answers so where nothing \
         is there"
    );
    Error::new(error.class(), text).with_retry_after(error.retry_after())
}

async fn read_capped(
    key: &str,
    body: &mut aws_sdk_s3::primitives::ByteStream,
    max_bytes: u64,
) -> Result<Bytes> {
    let mut content = BytesMut::new();
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|error| {
            let text = format!("GetObject {key}: {}", super::classify::chain(&error));
            Error::transient(Class::UploadFailed, text)
        })?;
        if content.len() as u64 + chunk.len() as u64 > max_bytes {
            let text = format!("GetObject {key}: the object is over {max_bytes} bytes");
            return Err(Error::new(Class::UploadFailed, text));
        }
        content.extend_from_slice(&chunk);
    }
    Ok(content.freeze())
}

/// What the answer to a HEAD tells of an object (S3 API reference, HeadObject).
fn told(headers: &HeaderMap) -> Option<ObjectInfo> {
    let metadata = headers.iter().filter_map(|(name, value)| {
        let name = name.as_str().strip_prefix(METADATA)?;
        Some((name.to_owned(), value.to_str().ok()?.to_owned()))
    });
    Some(ObjectInfo {
        size_bytes: text(headers, "content-length")?.parse().ok()?,
        etag: text(headers, "etag").map(unquoted),
        version_id: text(headers, "x-amz-version-id"),
        crc64nvme: text(headers, "x-amz-checksum-crc64nvme"),
        metadata: sorted(metadata.collect()),
    })
}

fn sorted(metadata: std::collections::HashMap<String, String>) -> Vec<(String, String)> {
    let mut pairs: Vec<_> = metadata.into_iter().collect();
    pairs.sort();
    pairs
}
