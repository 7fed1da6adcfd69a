//! The S3 operations this server knows, on top of the s3s front, which parses, checks signatures and
//! serialises. What is not here answers NotImplemented.

mod buckets;
mod lists;
mod objects;
mod parts;

use std::io;
use std::sync::Arc;

use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};

use super::EmbeddedSettings;
use super::abilities::Abilities;
use super::answers::{io_error, timestamp, timestamp_seconds};
use super::checksum::{Algorithm, Checksums, ExpectedBody};
use super::disk::Disk;
use super::names;
use super::uploads::OpenUploads;
use crate::clock::SharedClock;

/// S3's limit of user metadata, names and values together.
const METADATA_MAX_BYTES: usize = 2048;

/// The backend behind the front.
#[derive(Clone)]
pub(super) struct Service {
    pub(super) disk: Arc<Disk>,
    pub(super) uploads: Arc<OpenUploads>,
    pub(super) clock: SharedClock,
    pub(super) abilities: Abilities,
}

impl Service {
    /// Opens what is under the root and makes sure that the bucket is there.
    pub(super) fn open(settings: EmbeddedSettings, clock: SharedClock) -> io::Result<Service> {
        let disk = Disk::open(&settings.root)?;
        let uploads = OpenUploads::open(disk.root(), disk.scratch())?;
        disk.create_bucket(&settings.bucket)?;
        Ok(Service {
            disk: Arc::new(disk),
            uploads: Arc::new(uploads),
            clock,
            abilities: settings.abilities,
        })
    }

    /// Runs what touches the disk where it may block.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Service) -> S3Result<T> + Send + 'static,
    ) -> S3Result<T> {
        let service = self.clone();
        tokio::task::spawn_blocking(move || work(&service))
            .await
            .map_err(|error| s3_error!(error, InternalError))?
    }

    fn check_bucket(&self, bucket: &str) -> S3Result<()> {
        if self.disk.has_bucket(bucket) {
            return Ok(());
        }
        Err(s3_error!(
            NoSuchBucket,
            "The specified bucket does not exist"
        ))
    }
}

fn check_key(key: &str) -> S3Result<()> {
    if key.is_empty() || key.len() > names::KEY_MAX_BYTES {
        return Err(s3_error!(KeyTooLongError, "Your key is too long"));
    }
    Ok(())
}

fn check_metadata(metadata: &Option<Metadata>) -> S3Result<()> {
    let pairs = metadata.iter().flatten();
    let size: usize = pairs.map(|(name, value)| name.len() + value.len()).sum();
    if size > METADATA_MAX_BYTES {
        return Err(s3_error!(
            MetadataTooLarge,
            "Your metadata headers exceed the maximum allowed metadata size"
        ));
    }
    Ok(())
}

fn size(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// Refuses what an upload asks for beyond its content: a promise that is not kept would be worse.
macro_rules! refuse_options {
    ($input:expr) => {{
        let is_standard = $input
            .storage_class
            .as_ref()
            .is_none_or(|class| class.as_str() == StorageClass::STANDARD);
        if !is_standard {
            return Err(s3_error!(
                InvalidStorageClass,
                "The embedded server has the storage class STANDARD only"
            ));
        }
        let has_options = $input.tagging.is_some()
            || $input.server_side_encryption.is_some()
            || $input.object_lock_mode.is_some()
            || $input.object_lock_legal_hold_status.is_some();
        if has_options {
            return Err(s3_error!(
                NotImplemented,
                "The embedded server has no tags, no encryption and no object lock"
            ));
        }
    }};
}

/// Reads the checksum headers of an input that has them all.
macro_rules! expected {
    ($request:expr) => {{
        let input = &$request.input;
        let named = input.checksum_algorithm.as_ref().map(|a| a.as_str());
        crate::object::embedded::service::announced(named, &$request.headers)
            .and_then(|expected| expected.with_md5(input.content_md5.as_deref()))
            .and_then(|e| e.with(Algorithm::Crc32, input.checksum_crc32.as_deref()))
            .and_then(|e| e.with(Algorithm::Crc32c, input.checksum_crc32c.as_deref()))
            .and_then(|e| e.with(Algorithm::Crc64nvme, input.checksum_crc64nvme.as_deref()))
            .and_then(|e| e.with(Algorithm::Sha1, input.checksum_sha1.as_deref()))
            .and_then(|e| e.with(Algorithm::Sha256, input.checksum_sha256.as_deref()))
    }};
}
use expected;
use refuse_options;

/// Fills the checksum fields of an output that has them all.
macro_rules! with_checksums {
    ($checksums:expr, $output:ident { $($rest:tt)* }) => {{
        let checksums: &crate::object::embedded::checksum::Checksums = $checksums;
        $output {
            checksum_crc32: checksums.get(&Algorithm::Crc32).cloned(),
            checksum_crc32c: checksums.get(&Algorithm::Crc32c).cloned(),
            checksum_crc64nvme: checksums.get(&Algorithm::Crc64nvme).cloned(),
            checksum_sha1: checksums.get(&Algorithm::Sha1).cloned(),
            checksum_sha256: checksums.get(&Algorithm::Sha256).cloned(),
            $($rest)*
        }
    }};
}
use with_checksums;

/// What the request says of checksums whose values come after the body.
fn announced(named: Option<&str>, headers: &http::HeaderMap) -> S3Result<ExpectedBody> {
    let mut expected = ExpectedBody::default();
    let trailers = headers.get("x-amz-trailer").and_then(|v| v.to_str().ok());
    for name in trailers.unwrap_or_default().split(',').map(str::trim) {
        let has_name = |algorithm: &Algorithm| algorithm.header().eq_ignore_ascii_case(name);
        expected
            .announced
            .extend(Algorithm::ALL.into_iter().find(has_name));
    }
    if let Some(name) = named {
        expected.announced.push(Algorithm::parse(name)?);
    }
    Ok(expected)
}

fn checksum_type(is_composite: bool) -> ChecksumType {
    ChecksumType::from_static(if is_composite {
        ChecksumType::COMPOSITE
    } else {
        ChecksumType::FULL_OBJECT
    })
}

/// Of what was computed, what S3 would keep: the algorithm that the client used, or CRC64NVME.
fn kept(computed: &Checksums, used: Option<&Algorithm>) -> Checksums {
    let chosen = used.copied().unwrap_or(Algorithm::Crc64nvme);
    let value = computed.get(&chosen).cloned();
    value.map(|value| (chosen, value)).into_iter().collect()
}

#[async_trait::async_trait]
impl S3 for Service {
    async fn put_object(
        &self,
        mut request: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        self.abilities.check_headers(&request.headers)?;
        let input = &mut request.input;
        self.abilities
            .take_conditions(&mut input.if_none_match, &mut input.if_match)?;
        self.do_put_object(request).await.map(S3Response::new)
    }

    async fn get_object(
        &self,
        request: S3Request<GetObjectInput>,
    ) -> S3Result<S3Response<GetObjectOutput>> {
        self.do_get_object(request.input).await.map(S3Response::new)
    }

    async fn head_object(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        self.do_head_object(request.input)
            .await
            .map(S3Response::new)
    }

    async fn delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        self.do_delete_object(request.input)
            .await
            .map(S3Response::new)
    }

    async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        self.do_delete_objects(request.input)
            .await
            .map(S3Response::new)
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        self.abilities.check_headers(&request.headers)?;
        self.do_create_upload(request.input)
            .await
            .map(S3Response::new)
    }

    async fn upload_part(
        &self,
        request: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        self.abilities.check_headers(&request.headers)?;
        self.do_upload_part(request).await.map(S3Response::new)
    }

    async fn complete_multipart_upload(
        &self,
        mut request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        self.abilities.check_headers(&request.headers)?;
        let input = &mut request.input;
        self.abilities
            .take_conditions(&mut input.if_none_match, &mut input.if_match)?;
        self.do_complete_upload(request.input)
            .await
            .map(S3Response::new)
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        self.do_abort_upload(request.input)
            .await
            .map(S3Response::new)
    }

    async fn list_parts(
        &self,
        request: S3Request<ListPartsInput>,
    ) -> S3Result<S3Response<ListPartsOutput>> {
        self.do_list_parts(request.input).map(S3Response::new)
    }

    async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        self.do_list_uploads(request.input).map(S3Response::new)
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        self.do_list_objects(request.input)
            .await
            .map(S3Response::new)
    }

    async fn head_bucket(
        &self,
        request: S3Request<HeadBucketInput>,
    ) -> S3Result<S3Response<HeadBucketOutput>> {
        self.do_head_bucket(&request.input).map(S3Response::new)
    }

    async fn create_bucket(
        &self,
        request: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        self.do_create_bucket(request.input)
            .await
            .map(S3Response::new)
    }

    async fn list_buckets(
        &self,
        request: S3Request<ListBucketsInput>,
    ) -> S3Result<S3Response<ListBucketsOutput>> {
        self.do_list_buckets(request.input).map(S3Response::new)
    }

    async fn get_bucket_location(
        &self,
        request: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        self.check_bucket(&request.input.bucket)?;
        Ok(S3Response::new(GetBucketLocationOutput::default()))
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use s3s::S3ErrorCode;

    use super::*;

    // N19
    #[test]
    fn a_full_disk_is_told_in_a_sentence_and_pauses_who_writes() {
        for kind in [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded] {
            let refusal = io_error(kind.into());
            assert_eq!(
                refusal.status_code(),
                Some(StatusCode::INSUFFICIENT_STORAGE)
            );
            assert!(
                refusal
                    .message()
                    .unwrap()
                    .contains("disk of the embedded S3 server is full")
            );
        }
        let other = io_error(io::ErrorKind::PermissionDenied.into());
        assert_eq!(other.code(), &S3ErrorCode::InternalError);
    }
}
