//! The object store as S3 speaks it, through the AWS SDK.
//!
//! The SDK signs, sends and parses; what it would decide is decided here instead. Checksums are given
//! by hand (they were computed while the bytes arrived), each attempt has a time limit made from its
//! size, and two attempts at most are the SDK's: the caller has a retry budget of its own, and the
//! SDK's retry quota is shared by the whole client. The calls that are made all the time are first made without it.

mod body;
mod call;
mod checksum;
mod classify;
mod condition;
mod connect;
mod direct;
mod endpoint;
mod identity;
mod options;
mod probe;
mod read;
mod signed;
mod write;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use bytes::Bytes;
use secrecy::SecretString;

use self::classify::NamedCall;
use self::direct::{Direct, DirectAnswer, Left};
pub use self::options::{Retention, UploadOptions};
use super::capability::LearnedCapabilities;
use super::{
    Capabilities, Condition, ListedPart, ListedUpload, ObjectAttributes, ObjectInfo, ObjectStore,
    Payload, PutEnd, WriteEnd,
};
use crate::clock::{SharedClock, SystemClock};
use crate::error::Result;
use crate::model::job::FinishedPart;

/// A call that carries no payload is answered within this, or the attempt has failed.
const DEFAULT_ATTEMPT_LIMIT: Duration = Duration::from_secs(30);

/// S3 documents that completing a large upload "can take several minutes".
const COMPLETE_FACTOR: u32 = 10;

/// An access key of our own instead of the AWS chain.
#[derive(Clone, Debug)]
pub struct StaticCredentials {
    /// The access key's id.
    pub access_key: String,
    /// Its secret.
    pub secret_key: SecretString,
}

/// Which bucket, and how to reach it.
#[derive(Clone, Debug)]
pub struct S3Settings {
    /// The bucket.
    pub bucket: String,
    /// The region; else the AWS chain decides, and `us-east-1` for an endpoint that has none.
    pub region: Option<String>,
    /// An S3-compatible store's address.
    pub endpoint: Option<String>,
    /// Bucket in the path instead of the host name.
    pub path_style: bool,
    /// `None`: the AWS chain.
    pub credentials: Option<StaticCredentials>,
    /// An upload slower than this (bytes per second) has failed. It makes each part's time limit.
    pub slowest_bytes_per_second: u64,
}

/// A bucket behind the S3 API. Clones share one connection pool.
#[derive(Clone)]
pub struct S3Store {
    client: Client,
    direct: Option<Direct>,
    /// Whether somebody on the way to the store could change what is sent.
    is_exposed: bool,
    bucket: String,
    slowest_bytes_per_second: u64,
    attempt_limit: Duration,
    options: UploadOptions,
    clock: SharedClock,
    /// What it was seen to do.
    learned: Arc<LearnedCapabilities>,
    /// One probe at a time.
    probing: Arc<tokio::sync::Mutex<()>>,
    /// Whether it takes CRC64NVME, once that was seen.
    is_crc64nvme_known: Arc<OnceLock<bool>>,
}

impl std::fmt::Debug for S3Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("S3Store")
            .field("bucket", &self.bucket)
            .finish_non_exhaustive()
    }
}

impl S3Store {
    /// Sets up the client and resolves the credentials once. Does not talk to the bucket.
    ///
    /// # Errors
    /// `upload_denied` when no credentials or region can be found.
    pub async fn connect(settings: S3Settings) -> Result<S3Store> {
        let (client, direct, is_exposed) = connect::client(&settings).await?;
        Ok(S3Store {
            client,
            direct,
            is_exposed,
            bucket: settings.bucket,
            slowest_bytes_per_second: settings.slowest_bytes_per_second.max(1),
            attempt_limit: DEFAULT_ATTEMPT_LIMIT,
            options: UploadOptions::default(),
            clock: Arc::new(SystemClock),
            learned: Arc::default(),
            probing: Arc::default(),
            is_crc64nvme_known: Arc::default(),
        })
    }

    /// The same bucket with these options for what is uploaded; `clock` tells from when on it is retained.
    #[must_use]
    pub fn with_options(mut self, options: UploadOptions, clock: SharedClock) -> S3Store {
        self.options = options;
        self.clock = clock;
        self
    }

    /// Another time limit for an attempt that carries no payload. A part's limit is this and the time
    /// that its bytes take at the slowest accepted rate.
    #[must_use]
    pub fn with_attempt_limit(mut self, limit: Duration) -> S3Store {
        self.attempt_limit = limit;
        self
    }

    fn limit_for(&self, size_bytes: u64) -> Duration {
        self.attempt_limit + Duration::from_secs(size_bytes.div_ceil(self.slowest_bytes_per_second))
    }

    fn complete_limit(&self) -> Duration {
        self.attempt_limit * COMPLETE_FACTOR
    }

    /// Makes a call without the SDK, if that works.
    async fn send(&self, call: direct::DirectCall<'_>) -> Result<DirectAnswer, Left> {
        match &self.direct {
            Some(direct) => direct.send(call).await,
            None => Err(Left::default()),
        }
    }

    fn note_taken(&self, left: Left) {
        if let Some(direct) = &self.direct {
            direct.note_taken(left);
        }
    }

    fn on_bucket(&self, operation: &'static str) -> NamedCall<'_> {
        NamedCall {
            operation,
            subject: &self.bucket,
        }
    }
}

fn on<'a>(operation: &'static str, key: &'a str) -> NamedCall<'a> {
    NamedCall {
        operation,
        subject: key,
    }
}

#[async_trait]
impl ObjectStore for S3Store {
    async fn put_shown(
        &self,
        key: &str,
        payload: &Payload,
        attributes: &ObjectAttributes,
        condition: Option<&Condition>,
    ) -> Result<PutEnd> {
        let write = move |condition: Option<Condition>| async move {
            let condition = condition.as_ref();
            self.put_object(key, payload, attributes, condition).await
        };
        self.under_condition(key, condition, true, write).await
    }

    async fn create_upload(&self, key: &str, attributes: &ObjectAttributes) -> Result<String> {
        self.create_multipart_upload(key, attributes).await
    }

    async fn upload_part(
        &self,
        key: &str,
        upload_id: &str,
        number: u32,
        payload: &Payload,
    ) -> Result<FinishedPart> {
        self.send_part(key, upload_id, number, payload).await
    }

    async fn list_parts(&self, key: &str, upload_id: &str) -> Result<Option<Vec<ListedPart>>> {
        self.all_parts(key, upload_id).await
    }

    async fn complete(
        &self,
        key: &str,
        upload_id: &str,
        parts: &[FinishedPart],
        size_bytes: u64,
        crc64nvme: u64,
        condition: Option<&Condition>,
    ) -> Result<WriteEnd> {
        let whole = write::ExpectedWhole {
            size_bytes,
            crc64nvme,
        };
        let write = move |condition: Option<Condition>| async move {
            let condition = condition.as_ref();
            let ended = self.complete_multipart_upload(key, upload_id, parts, whole, condition);
            ended.await.map(PutEnd::from)
        };
        let ended = self.under_condition(key, condition, false, write).await?;
        Ok(ended.end)
    }

    async fn abort(&self, key: &str, upload_id: &str) -> Result<()> {
        self.abort_multipart_upload(key, upload_id).await
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectInfo>> {
        self.head_object(key).await
    }

    async fn get(&self, key: &str, max_bytes: u64) -> Result<Option<(Bytes, ObjectInfo)>> {
        let is_checked = self.learned.get().tells_checksums();
        self.get_object(key, max_bytes, is_checked).await
    }

    async fn get_range(
        &self,
        key: &str,
        etag: Option<&str>,
        start: u64,
        length: u64,
    ) -> Result<Bytes> {
        self.get_object_range(key, etag, start, length).await
    }

    async fn list_uploads(&self, prefix: &str) -> Result<Vec<ListedUpload>> {
        self.all_uploads(prefix).await
    }

    async fn check_bucket(&self) -> Result<()> {
        self.head_bucket().await?;
        self.probe_options().await
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.delete_object(key).await
    }

    fn capabilities(&self) -> Capabilities {
        self.learned.get()
    }

    async fn probe(&self, probe_key: &str) -> Result<Capabilities> {
        self.probe_capabilities(probe_key).await
    }

    fn clock_offset(&self) -> Option<jiff::SignedDuration> {
        self.direct.as_ref()?.clock_offset()
    }

    async fn server_time(&self, missing_key: &str) -> Result<Option<jiff::Timestamp>> {
        self.date_of_refusal(missing_key).await
    }
}
