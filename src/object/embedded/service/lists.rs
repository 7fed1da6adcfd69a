//! The listings: objects, parts, uploads. Sorted and paged as S3 does it.

use std::ops::Bound;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::S3Result;
use s3s::dto::*;

use super::{Service, checksum_type, size, timestamp, with_checksums};
use crate::object::embedded::checksum::Algorithm;
use crate::object::embedded::conditions::strong;
use crate::object::embedded::listing::{
    After, ListingLine, ListingQuery, page, page_size, parse_token, token,
};
use crate::object::embedded::object_meta::ObjectMeta;
use crate::object::embedded::uploads::PartMeta;

/// What S3 leaves as it is in `encoding-type=url`.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'/');

impl Service {
    pub(super) async fn do_list_objects(
        &self,
        input: ListObjectsV2Input,
    ) -> S3Result<ListObjectsV2Output> {
        let after = match (&input.continuation_token, &input.start_after) {
            (Some(token), _) => Some(parse_token(token)?),
            (None, Some(key)) => Some(After::Key(key.clone())),
            (None, None) => None,
        };
        let query = ListingQuery {
            prefix: input.prefix.clone().unwrap_or_default(),
            delimiter: input.delimiter.clone(),
            after,
            max: page_size(input.max_keys)?,
        };
        let bucket = input.bucket.clone();
        let max = query.max;
        let page = self
            .blocking(move |service| {
                service
                    .disk
                    .with_objects(&bucket, query.start(), |objects| {
                        page(
                            &query,
                            objects.map(|object| (object.key.clone(), object.clone())),
                        )
                    })
            })
            .await?;
        let encode = encoder(input.encoding_type.as_ref());
        let mut contents = Vec::new();
        let mut prefixes = Vec::new();
        for line in page.lines {
            match line {
                ListingLine::Item(object) => contents.push(listed_object(&object, encode)),
                ListingLine::CommonPrefix(prefix) => prefixes.push(CommonPrefix {
                    prefix: Some(encode(&prefix)),
                }),
            }
        }
        Ok(ListObjectsV2Output {
            key_count: i32::try_from(contents.len() + prefixes.len()).ok(),
            max_keys: i32::try_from(max).ok(),
            is_truncated: Some(page.next.is_some()),
            next_continuation_token: page.next.as_ref().map(token),
            continuation_token: input.continuation_token,
            contents: Some(contents),
            common_prefixes: Some(prefixes),
            delimiter: input.delimiter.as_deref().map(encode),
            prefix: Some(encode(input.prefix.as_deref().unwrap_or_default())),
            start_after: input.start_after.as_deref().map(encode),
            encoding_type: input.encoding_type,
            name: Some(input.bucket),
            ..ListObjectsV2Output::default()
        })
    }

    pub(super) fn do_list_parts(&self, input: ListPartsInput) -> S3Result<ListPartsOutput> {
        self.check_bucket(&input.bucket)?;
        let upload = self
            .uploads
            .find(&input.bucket, &input.key, &input.upload_id)?;
        let marker = input.part_number_marker.unwrap_or(0);
        let after = u32::try_from(marker).unwrap_or(0);
        let max = page_size(input.max_parts)?;
        let algorithm = upload.meta.algorithm;
        let mut rest = upload
            .parts
            .range((Bound::Excluded(after), Bound::Unbounded));
        let parts: Vec<&PartMeta> = rest.by_ref().take(max).map(|(_, part)| part).collect();
        let is_truncated = max > 0 && rest.next().is_some();
        let last = parts
            .last()
            .and_then(|part| i32::try_from(part.number).ok());
        Ok(ListPartsOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(input.upload_id),
            part_number_marker: Some(marker),
            next_part_number_marker: last,
            max_parts: i32::try_from(max).ok(),
            is_truncated: Some(is_truncated),
            parts: Some(
                parts
                    .into_iter()
                    .map(|part| self.listed_part(part, algorithm))
                    .collect(),
            ),
            checksum_algorithm: self
                .abilities
                .checksums
                .then(|| ChecksumAlgorithm::from_static(algorithm.as_str())),
            checksum_type: Some(checksum_type(upload.meta.is_composite)),
            storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
            ..ListPartsOutput::default()
        })
    }

    fn listed_part(&self, part: &PartMeta, algorithm: Algorithm) -> Part {
        let mut checksums = part.checksums.clone();
        checksums.retain(|kept, _| *kept == algorithm);
        with_checksums!(
            &self.abilities.told(&checksums),
            Part {
                part_number: i32::try_from(part.number).ok(),
                size: Some(size(part.size_bytes)),
                e_tag: Some(strong(&part.etag)),
                last_modified: Some(timestamp(part.last_modified)),
            }
        )
    }

    /// Sorted by key, then by the time of their beginning, which their ids follow.
    pub(super) fn do_list_uploads(
        &self,
        input: ListMultipartUploadsInput,
    ) -> S3Result<ListMultipartUploadsOutput> {
        self.check_bucket(&input.bucket)?;
        let encode = encoder(input.encoding_type.as_ref());
        let mut uploads = self.uploads.all(&input.bucket);
        uploads.sort_by(|a, b| (&a.key, &a.id).cmp(&(&b.key, &b.id)));
        let key_marker = input.key_marker.clone().unwrap_or_default();
        let id_marker = input.upload_id_marker.clone().unwrap_or_default();
        // With an id marker the marker's own key goes on; without one it has been told whole.
        uploads.retain(|upload| {
            let is_later_of_key =
                !id_marker.is_empty() && upload.key == key_marker && upload.id > id_marker;
            key_marker.is_empty() || upload.key > key_marker || is_later_of_key
        });
        let query = ListingQuery {
            prefix: input.prefix.clone().unwrap_or_default(),
            delimiter: input.delimiter.clone(),
            after: None,
            max: page_size(input.max_uploads)?,
        };
        uploads.retain(|upload| upload.key.starts_with(&query.prefix));
        let page = page(
            &query,
            uploads
                .into_iter()
                .map(|upload| (upload.key.clone(), upload)),
        );
        let mut listed = Vec::new();
        let mut prefixes = Vec::new();
        let mut last_id = None;
        for line in page.lines {
            match line {
                ListingLine::Item(upload) => {
                    last_id = Some(upload.id.clone());
                    listed.push(MultipartUpload {
                        key: Some(encode(&upload.key)),
                        upload_id: Some(upload.id),
                        initiated: Some(timestamp(upload.initiated)),
                        checksum_algorithm: Some(ChecksumAlgorithm::from_static(
                            upload.algorithm.as_str(),
                        )),
                        checksum_type: Some(checksum_type(upload.is_composite)),
                        storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
                        ..MultipartUpload::default()
                    });
                }
                ListingLine::CommonPrefix(prefix) => prefixes.push(CommonPrefix {
                    prefix: Some(encode(&prefix)),
                }),
            }
        }
        let (next_key, next_id) = match page.next {
            None => (None, None),
            Some(After::Key(key)) => (Some(key), last_id),
            // A key after every key of the folder, so that the next page goes on behind it.
            Some(After::Prefix(prefix)) => (Some(format!("{prefix}\u{10ffff}")), None),
        };
        Ok(ListMultipartUploadsOutput {
            is_truncated: Some(next_key.is_some()),
            next_key_marker: next_key.as_deref().map(encode),
            next_upload_id_marker: next_id,
            key_marker: Some(encode(&key_marker)),
            upload_id_marker: Some(id_marker),
            uploads: Some(listed),
            common_prefixes: Some(prefixes),
            delimiter: input.delimiter.as_deref().map(encode),
            prefix: input.prefix.as_deref().map(encode),
            max_uploads: i32::try_from(query.max).ok(),
            encoding_type: input.encoding_type,
            bucket: Some(input.bucket),
            ..ListMultipartUploadsOutput::default()
        })
    }
}

fn encoder(asked: Option<&EncodingType>) -> fn(&str) -> String {
    match asked.map(EncodingType::as_str) {
        Some(EncodingType::URL) => |text| utf8_percent_encode(text, PLAIN).to_string(),
        _ => str::to_owned,
    }
}

fn listed_object(object: &ObjectMeta, encode: fn(&str) -> String) -> Object {
    let algorithms = object
        .checksums
        .keys()
        .map(|a| ChecksumAlgorithm::from_static(a.as_str()));
    Object {
        key: Some(encode(&object.key)),
        size: Some(size(object.size_bytes)),
        e_tag: Some(strong(&object.etag)),
        last_modified: Some(timestamp(object.last_modified)),
        checksum_algorithm: Some(algorithms.collect()),
        checksum_type: Some(checksum_type(object.is_composite)),
        storage_class: Some(ObjectStorageClass::from_static(
            ObjectStorageClass::STANDARD,
        )),
        ..Object::default()
    }
}
