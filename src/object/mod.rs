//! Bytes out: the object store that recordings are archived in.
//!
//! Only this room knows the AWS SDK. Each call is one S3 operation with its own attempt time limit;
//! the SDK's own retries are few, and retrying beyond them is the caller's decision.

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::Result;
use crate::model::job::FinishedPart;

mod capability;
pub(crate) mod crc64nvme;
pub mod embedded;
pub mod owned;
pub mod s3;

pub use capability::{
    CHECKSUM_WARNING, CONDITIONS_WARNING, Capabilities, ChecksumSupport, ConditionSupport,
    LIST_WARNING, WRONG_CHECKSUM_WARNING, probe_key,
};

/// The bytes of one part or small object, in the buffers that they were read into.
#[derive(Clone, Debug, Default)]
pub struct Payload {
    /// The buffers in order.
    pub chunks: std::sync::Arc<Vec<Bytes>>,
    /// Their whole length in bytes.
    pub size_bytes: u64,
    /// CRC64NVME over them, so that S3 itself refuses damage.
    pub crc64nvme: u64,
}

/// What an object is stored with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectAttributes {
    /// Media type.
    pub content_type: String,
    /// User metadata (`x-amz-meta-*`): ASCII keys and values.
    pub metadata: Vec<(String, String)>,
    /// Content-Disposition.
    pub disposition: Option<String>,
    /// Whether it is one of our own documents, which are read and written again: no storage class that
    /// must be thawed, no retention.
    pub is_rewritten: bool,
}

/// When a write may happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Only if nothing is under the key (`If-None-Match: *`).
    Absent,
    /// Only over what has this ETag (`If-Match`).
    Matches(String),
}

/// What a completed write or a HEAD says about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Length in bytes.
    pub size_bytes: u64,
    /// ETag without quotes.
    pub etag: Option<String>,
    /// Version, in a versioned bucket.
    pub version_id: Option<String>,
    /// Full-object CRC64NVME as S3 writes it (base64 of big-endian), when the store keeps one.
    pub crc64nvme: Option<String>,
    /// User metadata.
    pub metadata: Vec<(String, String)>,
}

impl ObjectInfo {
    /// The value of a user metadata key.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata
            .iter()
            .find(|(k, _)| k == key)
            .map(|(_, v)| v.as_str())
    }
}

/// How a conditional write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a write that was not made needs a look at what is there"]
pub enum WriteEnd {
    /// The store says that it is done. Proof is a HEAD, or the answer to a Put that shows a checksum.
    Done,
    /// The condition does not hold (412): something else is there.
    Taken,
    /// NoSuchUpload on completion, or an answer that can't be read: look before deciding.
    Unclear,
    /// 409, another write was on its way: look before deciding. If it stays so, S3 wants a new upload with all
    /// parts.
    Conflict,
}

/// How a PutObject ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a write that was not made needs a look at what is there"]
pub struct PutEnd {
    /// How it ended.
    pub end: WriteEnd,
    /// What is stored now, from an answer that is proof of it: it tells the checksum of what the store has taken. Other
    /// than that to a Complete, it has no document that could be cut short.
    pub shown: Option<ObjectInfo>,
}

impl From<WriteEnd> for PutEnd {
    fn from(end: WriteEnd) -> PutEnd {
        PutEnd { end, shown: None }
    }
}

/// A part as `list_parts` tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedPart {
    /// From 1.
    pub number: u32,
    /// Length in bytes.
    pub size_bytes: u64,
    /// ETag as S3 gave it.
    pub etag: String,
    /// The part's CRC64NVME, when the store keeps it.
    pub crc64nvme: Option<String>,
}

/// A multipart upload that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedUpload {
    /// The key it is for.
    pub key: String,
    /// Its id.
    pub upload_id: String,
    /// When it was begun.
    pub initiated: Option<jiff::Timestamp>,
}

/// An S3 bucket. Every method is one S3 operation (S3 API reference); keys are whole keys.
///
/// Errors are classified here: `upload_denied` for a bucket, right, key or quota that refuses
/// (not transient, unless it is a session's credentials that ran out), `upload_failed` for everything else
/// (transient).
#[async_trait]
pub trait ObjectStore: Send + Sync + 'static {
    /// PutObject, with what its answer shows.
    async fn put_shown(
        &self,
        key: &str,
        payload: &Payload,
        attributes: &ObjectAttributes,
        condition: Option<&Condition>,
    ) -> Result<PutEnd>;

    /// PutObject.
    async fn put(
        &self,
        key: &str,
        payload: &Payload,
        attributes: &ObjectAttributes,
        condition: Option<&Condition>,
    ) -> Result<WriteEnd> {
        let put = self.put_shown(key, payload, attributes, condition).await?;
        Ok(put.end)
    }

    /// CreateMultipartUpload with a full-object CRC64NVME. Gives the upload's id.
    async fn create_upload(&self, key: &str, attributes: &ObjectAttributes) -> Result<String>;

    /// UploadPart. Gives what Complete needs to know of it.
    async fn upload_part(
        &self,
        key: &str,
        upload_id: &str,
        number: u32,
        payload: &Payload,
    ) -> Result<FinishedPart>;

    /// ListParts, all pages, ascending; `None` when the upload does not exist.
    async fn list_parts(&self, key: &str, upload_id: &str) -> Result<Option<Vec<ListedPart>>>;

    /// CompleteMultipartUpload with the whole size and the whole checksum, which S3 checks.
    async fn complete(
        &self,
        key: &str,
        upload_id: &str,
        parts: &[FinishedPart],
        size_bytes: u64,
        crc64nvme: u64,
        condition: Option<&Condition>,
    ) -> Result<WriteEnd>;

    /// AbortMultipartUpload; an upload that does not exist is fine.
    async fn abort(&self, key: &str, upload_id: &str) -> Result<()>;

    /// HeadObject with checksums; `None` when nothing is there, or when it is told so as to who may not list the bucket
    /// and no write could go over it.
    async fn head(&self, key: &str) -> Result<Option<ObjectInfo>>;

    /// GetObject, whole, for our own small documents; an object over `max_bytes` is an error.
    async fn get(&self, key: &str, max_bytes: u64) -> Result<Option<(Bytes, ObjectInfo)>>;

    /// GetObject of `length` bytes from byte `start` on, of the object that has this ETag. An object that is gone,
    /// another one or too short is an error.
    async fn get_range(
        &self,
        key: &str,
        etag: Option<&str>,
        start: u64,
        length: u64,
    ) -> Result<Bytes>;

    /// ListMultipartUploads under a prefix, all pages.
    async fn list_uploads(&self, prefix: &str) -> Result<Vec<ListedUpload>>;

    /// HeadBucket: is it there, and may we. Where uploads have options, an upload with them is begun and
    /// aborted as well, which leaves nothing.
    async fn check_bucket(&self) -> Result<()>;

    /// DeleteObject; an object that does not exist is fine.
    async fn delete(&self, key: &str) -> Result<()>;

    /// What the store is known to do.
    fn capabilities(&self) -> Capabilities;

    /// Finds out what the store can do, with a few requests for a small object under `probe_key` (and under a name that
    /// begins like it), which is removed again where that is allowed. What a user should know is logged, once.
    ///
    /// # Errors
    /// When the bucket does not answer, or does not let an object be written. It is known as much as before then.
    async fn probe(&self, probe_key: &str) -> Result<Capabilities>;

    /// By how much our clock is ahead of the store's, as its last answers told; `None` when they told nothing.
    fn clock_offset(&self) -> Option<jiff::SignedDuration> {
        None
    }

    /// What time it is at the store, from the `Date` of its answer about `missing_key`, under which nothing is; `None`
    /// when it does not tell.
    async fn server_time(&self, _missing_key: &str) -> Result<Option<jiff::Timestamp>> {
        Ok(None)
    }
}

/// A CRC64NVME value that S3 wrote; `None` when it is none.
pub fn decode_crc64nvme(text: &str) -> Option<u64> {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(text)
        .ok()?;
    bytes.try_into().ok().map(u64::from_be_bytes)
}

/// A CRC64NVME value as S3 writes it: base64 of its big-endian bytes.
pub fn encode_crc64nvme(value: u64) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(value.to_be_bytes())
}
