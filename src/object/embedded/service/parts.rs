//! The multipart operations.

use std::fs::File;
use std::io;

use s3s::dto::*;
use s3s::{S3Request, S3Result, s3_error};
use tempfile::NamedTempFile;

use super::{
    Service, check_key, check_metadata, checksum_type, expected, io_error, kept, refuse_options,
    with_checksums,
};
use crate::object::embedded::checksum::{Algorithm, ExpectedBody};
use crate::object::embedded::complete::{ClaimedWhole, PART_NUMBER_MAX, WholeObject, seal};
use crate::object::embedded::conditions::{WriteConditions, strong};
use crate::object::embedded::files;
use crate::object::embedded::object_meta::{ObjectDescription, ObjectMeta};
use crate::object::embedded::receive::receive;
use crate::object::embedded::uploads::{PartMeta, UploadMeta};

impl Service {
    pub(super) async fn do_create_upload(
        &self,
        input: CreateMultipartUploadInput,
    ) -> S3Result<CreateMultipartUploadOutput> {
        self.check_bucket(&input.bucket)?;
        check_key(&input.key)?;
        check_metadata(&input.metadata)?;
        refuse_options!(input);
        let named = input
            .checksum_algorithm
            .as_ref()
            .map(|a| Algorithm::parse(a.as_str()));
        let named = named.transpose()?;
        let algorithm = named.unwrap_or(Algorithm::Crc64nvme);
        let is_composite = is_composite(algorithm, input.checksum_type.as_ref())?;
        let meta = UploadMeta {
            id: uuid::Uuid::now_v7().simple().to_string(),
            bucket: input.bucket.clone(),
            key: input.key.clone(),
            initiated: self.clock.now(),
            algorithm,
            is_algorithm_named: named.is_some(),
            is_composite,
            description: ObjectDescription {
                content_type: input.content_type,
                cache_control: input.cache_control,
                content_disposition: input.content_disposition,
                content_encoding: input.content_encoding,
                content_language: input.content_language,
                metadata: input.metadata.unwrap_or_default().into_iter().collect(),
            },
        };
        let id = meta.id.clone();
        self.blocking(move |service| service.uploads.create(meta))
            .await?;
        Ok(CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(id),
            checksum_algorithm: named.map(|a| ChecksumAlgorithm::from_static(a.as_str())),
            checksum_type: named.map(|_| checksum_type(is_composite)),
            ..CreateMultipartUploadOutput::default()
        })
    }

    pub(super) async fn do_upload_part(
        &self,
        request: S3Request<UploadPartInput>,
    ) -> S3Result<UploadPartOutput> {
        let mut expected = expected!(request)?;
        let trailers = request.trailing_headers;
        let input = request.input;
        self.check_bucket(&input.bucket)?;
        let number = u32::try_from(input.part_number).unwrap_or(0);
        if !(1..=PART_NUMBER_MAX).contains(&number) {
            return Err(s3_error!(
                InvalidArgument,
                "Part number must be an integer between 1 and 10000, inclusive"
            ));
        }
        let upload = self
            .uploads
            .find(&input.bucket, &input.key, &input.upload_id)?
            .meta;
        check_algorithm(&upload, &expected)?;
        expected.announced.push(upload.algorithm);
        let scratch = self.disk.scratch();
        let (content, digested) = receive(
            input.body,
            input.content_length,
            expected,
            trailers,
            &scratch,
        )
        .await?;
        let shown = kept(&digested.checksums, Some(&upload.algorithm));
        let part = PartMeta {
            number,
            size_bytes: digested.size_bytes,
            etag: format!("{:016x}-{}", digested.crc64nvme, digested.size_bytes),
            checksums: digested.checksums,
            last_modified: self.clock.now(),
            file: format!("{number}-{}.part", uuid::Uuid::now_v7().simple()),
        };
        let etag = strong(&part.etag);
        self.blocking(move |service| service.uploads.put_part(&upload.id, content, part))
            .await?;
        Ok(with_checksums!(
            &self.abilities.told(&shown),
            UploadPartOutput {
                e_tag: Some(etag),
                ..UploadPartOutput::default()
            }
        ))
    }

    pub(super) async fn do_complete_upload(
        &self,
        input: CompleteMultipartUploadInput,
    ) -> S3Result<CompleteMultipartUploadOutput> {
        self.check_bucket(&input.bucket)?;
        let (bucket, key) = (input.bucket.clone(), input.key.clone());
        let object = self
            .blocking(move |service| service.complete(input))
            .await?;
        Ok(with_checksums!(
            &self.abilities.told(&object.checksums),
            CompleteMultipartUploadOutput {
                location: Some(format!("/{bucket}/{key}")),
                bucket: Some(bucket),
                key: Some(key),
                checksum_type: Some(checksum_type(object.is_composite)),
                e_tag: Some(strong(&object.etag)),
                ..CompleteMultipartUploadOutput::default()
            }
        ))
    }

    /// A crash after the commit leaves the upload open beside the finished object: a repeated
    /// completion is then decided by its own condition.
    fn complete(
        &self,
        input: CompleteMultipartUploadInput,
    ) -> S3Result<std::sync::Arc<ObjectMeta>> {
        let (bucket, key, id) = (&input.bucket, &input.key, &input.upload_id);
        let completion = self.uploads.begin_completion(bucket, key, id)?;
        let upload = &completion.upload;
        let claim = claim(&input)?;
        let asked = input
            .multipart_upload
            .as_ref()
            .and_then(|list| list.parts.as_deref());
        let whole = seal(upload, asked.unwrap_or_default(), &claim)?;
        let conditions = WriteConditions {
            if_none_match: input.if_none_match.clone(),
            if_match: input.if_match.clone(),
        };
        conditions.check(self.disk.find(bucket, key)?.as_deref())?;
        let content = self.join_parts(id, &whole).map_err(io_error)?;
        let object = ObjectMeta {
            key: key.clone(),
            size_bytes: whole.size_bytes,
            etag: whole.etag,
            checksums: whole.checksums,
            is_composite: upload.meta.is_composite,
            parts: u32::try_from(whole.parts.len()).ok(),
            last_modified: self.clock.now(),
            description: upload.meta.description.clone(),
        };
        let object = self.disk.commit(bucket, content, object, &conditions)?;
        self.uploads.remove(bucket, key, id)?;
        Ok(object)
    }

    /// Parts into one file; on Linux the kernel copies without passing the bytes through us.
    fn join_parts(&self, upload_id: &str, whole: &WholeObject) -> io::Result<NamedTempFile> {
        let mut content = files::temporary(&self.disk.scratch())?;
        let mut copied = 0;
        for part in &whole.parts {
            let mut source = File::open(self.uploads.part_path(upload_id, part))?;
            copied += io::copy(&mut source, content.as_file_mut())?;
        }
        if copied != whole.size_bytes {
            return Err(io::Error::other("a part's file has changed its length"));
        }
        content.as_file().sync_data()?;
        Ok(content)
    }

    pub(super) async fn do_abort_upload(
        &self,
        input: AbortMultipartUploadInput,
    ) -> S3Result<AbortMultipartUploadOutput> {
        self.check_bucket(&input.bucket)?;
        let abort = move |service: &Service| {
            service
                .uploads
                .remove(&input.bucket, &input.key, &input.upload_id)
        };
        self.blocking(abort).await?;
        Ok(AbortMultipartUploadOutput::default())
    }
}

/// Which forms S3 allows: CRC64NVME only of the whole, SHA only composite, the others both.
fn is_composite(algorithm: Algorithm, asked: Option<&ChecksumType>) -> S3Result<bool> {
    let is_composite = match asked.map(ChecksumType::as_str) {
        Some(ChecksumType::COMPOSITE) => true,
        Some(ChecksumType::FULL_OBJECT) => false,
        Some(_) => return Err(s3_error!(InvalidRequest, "unknown checksum type")),
        None => algorithm != Algorithm::Crc64nvme,
    };
    let is_possible = if is_composite {
        algorithm != Algorithm::Crc64nvme
    } else {
        algorithm.is_foldable()
    };
    if !is_possible {
        return Err(s3_error!(
            InvalidRequest,
            "The checksum type cannot be used with the {} checksum algorithm.",
            algorithm.as_str()
        ));
    }
    Ok(is_composite)
}

fn check_algorithm(upload: &UploadMeta, expected: &ExpectedBody) -> S3Result<()> {
    let other = expected
        .algorithms()
        .into_iter()
        .find(|a| *a != upload.algorithm);
    match other {
        Some(other) if upload.is_algorithm_named => Err(s3_error!(
            InvalidRequest,
            "Checksum Type mismatch occurred, expected checksum Type: {}, actual checksum Type: {}",
            upload.algorithm.as_str(),
            other.as_str()
        )),
        _ => Ok(()),
    }
}

fn claim(input: &CompleteMultipartUploadInput) -> S3Result<ClaimedWhole> {
    let expected = ExpectedBody::default()
        .with(Algorithm::Crc64nvme, input.checksum_crc64nvme.as_deref())?
        .with(Algorithm::Crc32, input.checksum_crc32.as_deref())?
        .with(Algorithm::Crc32c, input.checksum_crc32c.as_deref())?;
    let mut checksums = expected.checksums;
    // The composite form has the number of parts behind it, so it is compared as text.
    let composites = [
        (Algorithm::Sha1, &input.checksum_sha1),
        (Algorithm::Sha256, &input.checksum_sha256),
    ];
    for (algorithm, value) in composites {
        checksums.extend(value.clone().map(|value| (algorithm, value)));
    }
    let is_composite = input
        .checksum_type
        .as_ref()
        .map(|form| form.as_str() == ChecksumType::COMPOSITE);
    Ok(ClaimedWhole {
        checksums,
        is_composite,
        size_bytes: input.mpu_object_size,
    })
}
