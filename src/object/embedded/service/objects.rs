//! PutObject, GetObject, HeadObject, DeleteObject(s).

use std::fs::File;
use std::io::{Seek as _, SeekFrom};
use std::ops::Range as Span;
use std::sync::Arc;

use s3s::dto::*;
use s3s::{S3Request, S3Result, s3_error};
use tokio::io::AsyncReadExt as _;
use tokio_util::io::ReaderStream;

use super::{
    Service, check_key, check_metadata, checksum_type, expected, io_error, kept, refuse_options,
    size, timestamp_seconds, with_checksums,
};
use crate::object::embedded::checksum::{Algorithm, Checksums};
use crate::object::embedded::conditions::{ReadConditions, WriteConditions, strong};
use crate::object::embedded::object_meta::{ObjectDescription, ObjectMeta};
use crate::object::embedded::receive::receive;

/// What is read from disk at once when an object is sent.
const READ_BUFFER_BYTES: usize = 256 * 1024;

/// S3 takes this many keys in one DeleteObjects.
const DELETE_MAX_KEYS: usize = 1000;

impl Service {
    pub(super) async fn do_put_object(
        &self,
        request: S3Request<PutObjectInput>,
    ) -> S3Result<PutObjectOutput> {
        let expected = expected!(request)?;
        let algorithms = expected.algorithms();
        let trailers = request.trailing_headers;
        let input = request.input;
        self.check_bucket(&input.bucket)?;
        check_key(&input.key)?;
        check_metadata(&input.metadata)?;
        refuse_options!(input);
        let conditions = WriteConditions {
            if_none_match: input.if_none_match,
            if_match: input.if_match,
        };
        self.check_early(&input.bucket, &input.key, &conditions)
            .await?;
        let scratch = self.disk.scratch();
        let (content, digested) = receive(
            input.body,
            input.content_length,
            expected,
            trailers,
            &scratch,
        )
        .await?;
        let object = ObjectMeta {
            key: input.key,
            size_bytes: digested.size_bytes,
            etag: format!("{:016x}-{}", digested.crc64nvme, digested.size_bytes),
            checksums: kept(&digested.checksums, algorithms.first()),
            is_composite: false,
            parts: None,
            last_modified: self.clock.now(),
            description: ObjectDescription {
                content_type: input.content_type,
                cache_control: input.cache_control,
                content_disposition: input.content_disposition,
                content_encoding: input.content_encoding,
                content_language: input.content_language,
                metadata: input.metadata.unwrap_or_default().into_iter().collect(),
            },
        };
        let bucket = input.bucket;
        let commit =
            move |service: &Service| service.disk.commit(&bucket, content, object, &conditions);
        let object = self.blocking(commit).await?;
        Ok(with_checksums!(
            &self.abilities.told(&object.checksums),
            PutObjectOutput {
                e_tag: Some(strong(&object.etag)),
                checksum_type: Some(checksum_type(false)),
                ..PutObjectOutput::default()
            }
        ))
    }

    /// Spares a body that would be refused in the end; the commit asks again.
    pub(super) async fn check_early(
        &self,
        bucket: &str,
        key: &str,
        conditions: &WriteConditions,
    ) -> S3Result<()> {
        let (bucket, key, conditions) = (bucket.to_owned(), key.to_owned(), conditions.clone());
        self.blocking(move |service| {
            let current = service.disk.find(&bucket, &key)?;
            conditions.check(current.as_deref())
        })
        .await
    }

    pub(super) async fn do_head_object(
        &self,
        input: HeadObjectInput,
    ) -> S3Result<HeadObjectOutput> {
        let (bucket, key) = (input.bucket, input.key);
        let object = self
            .blocking(move |service| service.disk.find(&bucket, &key))
            .await?
            .ok_or_else(no_such_key)?;
        let conditions = ReadConditions {
            if_match: input.if_match,
            if_none_match: input.if_none_match,
            if_modified_since: input.if_modified_since,
            if_unmodified_since: input.if_unmodified_since,
        };
        conditions.check(&object)?;
        let (span, content_range) = span(input.range.as_ref(), object.size_bytes)?;
        let mode = input.checksum_mode.filter(|_| content_range.is_none());
        let (checksums, checksum_type) = shown_checksums(&object, mode.as_ref());
        let description = object.description.clone();
        Ok(with_checksums!(
            &self.abilities.told(&checksums),
            HeadObjectOutput {
                accept_ranges: Some("bytes".to_owned()),
                cache_control: description.cache_control,
                checksum_type,
                content_disposition: description.content_disposition,
                content_encoding: description.content_encoding,
                content_language: description.content_language,
                content_length: Some(size(span.end - span.start)),
                content_range,
                content_type: description.content_type.or_else(default_type),
                e_tag: Some(strong(&object.etag)),
                last_modified: Some(timestamp_seconds(object.last_modified)),
                metadata: Some(description.metadata.into_iter().collect()),
                ..HeadObjectOutput::default()
            }
        ))
    }

    pub(super) async fn do_get_object(&self, input: GetObjectInput) -> S3Result<GetObjectOutput> {
        if input.part_number.is_some() || input.version_id.is_some() {
            return Err(s3_error!(
                NotImplemented,
                "partNumber and versionId are not implemented"
            ));
        }
        let (object, file) = self.open_content(input.bucket, input.key).await?;
        let conditions = ReadConditions {
            if_match: input.if_match,
            if_none_match: input.if_none_match,
            if_modified_since: input.if_modified_since,
            if_unmodified_since: input.if_unmodified_since,
        };
        conditions.check(&object)?;
        let (span, content_range) = span(input.range.as_ref(), object.size_bytes)?;
        let mode = input.checksum_mode.filter(|_| content_range.is_none());
        let (checksums, checksum_type) = shown_checksums(&object, mode.as_ref());
        let description = object.description.clone();
        Ok(with_checksums!(
            &self.abilities.told(&checksums),
            GetObjectOutput {
                accept_ranges: Some("bytes".to_owned()),
                body: Some(content(file, &span)?),
                cache_control: description.cache_control,
                checksum_type,
                content_disposition: description.content_disposition,
                content_encoding: description.content_encoding,
                content_language: description.content_language,
                content_length: Some(size(span.end - span.start)),
                content_range,
                content_type: description.content_type.or_else(default_type),
                e_tag: Some(strong(&object.etag)),
                last_modified: Some(timestamp_seconds(object.last_modified)),
                metadata: Some(description.metadata.into_iter().collect()),
                ..GetObjectOutput::default()
            }
        ))
    }

    pub(super) async fn do_delete_object(
        &self,
        input: DeleteObjectInput,
    ) -> S3Result<DeleteObjectOutput> {
        let is_conditional = input.if_match.is_some()
            || input.if_match_size.is_some()
            || input.if_match_last_modified_time.is_some();
        if is_conditional {
            return Err(s3_error!(
                NotImplemented,
                "conditional deletes are not implemented"
            ));
        }
        let (bucket, key) = (input.bucket, input.key);
        self.blocking(move |service| service.disk.remove(&bucket, &key))
            .await?;
        Ok(DeleteObjectOutput::default())
    }

    pub(super) async fn do_delete_objects(
        &self,
        input: DeleteObjectsInput,
    ) -> S3Result<DeleteObjectsOutput> {
        self.check_bucket(&input.bucket)?;
        let keys: Vec<String> = input
            .delete
            .objects
            .into_iter()
            .map(|object| object.key)
            .collect();
        if keys.len() > DELETE_MAX_KEYS {
            return Err(s3_error!(
                MalformedXML,
                "more than 1000 keys in one request"
            ));
        }
        let is_quiet = input.delete.quiet.unwrap_or(false);
        let bucket = input.bucket;
        let results = self
            .blocking(move |service| {
                let remove = |key: String| (service.disk.remove(&bucket, &key), key);
                Ok(keys.into_iter().map(remove).collect::<Vec<_>>())
            })
            .await?;
        let mut output = DeleteObjectsOutput::default();
        for (result, key) in results {
            match result {
                Ok(()) if is_quiet => {}
                Ok(()) => output.deleted.get_or_insert_default().push(DeletedObject {
                    key: Some(key),
                    ..DeletedObject::default()
                }),
                Err(error) => output.errors.get_or_insert_default().push(Error {
                    code: Some(error.code().as_str().to_owned()),
                    message: error.message().map(str::to_owned),
                    key: Some(key),
                    version_id: None,
                }),
            }
        }
        Ok(output)
    }

    async fn open_content(&self, bucket: String, key: String) -> S3Result<(Arc<ObjectMeta>, File)> {
        self.blocking(move |service| service.disk.open_object(&bucket, &key))
            .await?
            .ok_or_else(no_such_key)
    }
}

/// The bytes to send, and the `Content-Range` when they are not all.
fn span(range: Option<&Range>, size_bytes: u64) -> S3Result<(Span<u64>, Option<String>)> {
    let Some(range) = range else {
        return Ok((0..size_bytes, None));
    };
    let span = range.check(size_bytes)?;
    let header = format!("bytes {}-{}/{size_bytes}", span.start, span.end - 1);
    Ok((span, Some(header)))
}

fn content(mut file: File, span: &Span<u64>) -> S3Result<StreamingBlob> {
    file.seek(SeekFrom::Start(span.start)).map_err(io_error)?;
    let reader = tokio::fs::File::from_std(file).take(span.end - span.start);
    let stream = ReaderStream::with_capacity(reader, READ_BUFFER_BYTES);
    Ok(StreamingBlob::wrap(stream))
}

/// Checksums are told only when asked for, and only with the whole object.
fn shown_checksums(
    object: &ObjectMeta,
    mode: Option<&ChecksumMode>,
) -> (Checksums, Option<ChecksumType>) {
    if mode.map(ChecksumMode::as_str) != Some(ChecksumMode::ENABLED) {
        return (Checksums::new(), None);
    }
    let form = checksum_type(object.is_composite);
    (object.checksums.clone(), Some(form))
}

fn default_type() -> Option<String> {
    Some("binary/octet-stream".to_owned())
}

fn no_such_key() -> s3s::S3Error {
    s3_error!(NoSuchKey, "The specified key does not exist.")
}
