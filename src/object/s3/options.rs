//! What uploads are made with beyond their content, by configuration, and the probe that tells at start
//! whether the bucket takes it.

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::create_multipart_upload::CreateMultipartUploadError;
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat as Format};
use aws_sdk_s3::types::{ObjectLockMode, ServerSideEncryption, StorageClass};
use jiff::{SignedDuration, Timestamp};

use super::classify::{S3Refusal, failure};
use super::{S3Store, on};
use crate::error::{Class, Error, Result};
use crate::object::{ObjectAttributes, ObjectStore as _};

/// How objects are stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UploadOptions {
    /// Such as `STANDARD_IA`.
    pub storage_class: Option<String>,
    /// SSE-KMS with this key.
    pub kms_key_id: Option<String>,
    /// Tags.
    pub tags: Vec<(String, String)>,
    /// Object lock.
    pub retention: Option<Retention>,
    /// Under which key an upload is begun and aborted to see whether the bucket takes these options.
    pub probe_key: String,
}

/// How long an object can't be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Whether nobody at all can (COMPLIANCE), or only who has the right to (GOVERNANCE).
    pub is_compliance: bool,
    /// From the upload on.
    pub days: u32,
}

/// The options of one upload, as the SDK wants them.
#[derive(Default)]
pub(super) struct UploadHeaders {
    pub(super) storage_class: Option<StorageClass>,
    pub(super) encryption: Option<ServerSideEncryption>,
    pub(super) kms_key_id: Option<String>,
    pub(super) tagging: Option<String>,
    pub(super) lock_mode: Option<ObjectLockMode>,
    pub(super) retain_until: Option<DateTime>,
}

impl UploadHeaders {
    /// The options as they travel (S3 API reference, PutObject).
    pub(super) fn named(self) -> [(&'static str, Option<String>); 6] {
        let retain_until = self
            .retain_until
            .and_then(|at| at.fmt(Format::DateTime).ok());
        let encryption = self.encryption.map(|way| way.as_str().to_owned());
        let storage_class = self.storage_class.map(|class| class.as_str().to_owned());
        let lock_mode = self.lock_mode.map(|mode| mode.as_str().to_owned());
        [
            ("x-amz-storage-class", storage_class),
            ("x-amz-server-side-encryption", encryption),
            (
                "x-amz-server-side-encryption-aws-kms-key-id",
                self.kms_key_id,
            ),
            ("x-amz-tagging", self.tagging),
            ("x-amz-object-lock-mode", lock_mode),
            ("x-amz-object-lock-retain-until-date", retain_until),
        ]
    }
}

impl UploadOptions {
    /// Whether there is anything that a bucket could refuse.
    pub fn are_set(&self) -> bool {
        !self.names().is_empty()
    }

    /// The settings that are set, as the configuration calls them.
    pub(super) fn names(&self) -> Vec<&'static str> {
        let settings = [
            ("archive.storage_class", self.storage_class.is_some()),
            ("archive.kms_key_id", self.kms_key_id.is_some()),
            ("archive.tags", !self.tags.is_empty()),
            ("archive.lock_mode", self.retention.is_some()),
        ];
        let set = settings.into_iter().filter(|(_, is_set)| *is_set);
        set.map(|(name, _)| name).collect()
    }

    /// The options for an object with `attributes` that is written at `now`.
    fn headers(&self, attributes: &ObjectAttributes, now: Timestamp) -> UploadHeaders {
        let is_kept = !attributes.is_rewritten;
        let retention = self.retention.filter(|_| is_kept);
        UploadHeaders {
            storage_class: self
                .storage_class
                .as_deref()
                .filter(|_| is_kept)
                .map(StorageClass::from),
            encryption: self
                .kms_key_id
                .as_ref()
                .map(|_| ServerSideEncryption::AwsKms),
            kms_key_id: self.kms_key_id.clone(),
            tagging: (!self.tags.is_empty()).then(|| query(&self.tags)),
            lock_mode: retention.map(|retention| match retention.is_compliance {
                true => ObjectLockMode::Compliance,
                false => ObjectLockMode::Governance,
            }),
            retain_until: retention.map(|retention| {
                let kept = SignedDuration::from_hours(24 * i64::from(retention.days));
                let until = now.saturating_add(kept).unwrap_or(Timestamp::MAX);
                DateTime::from_secs(until.as_second())
            }),
        }
    }
}

impl S3Store {
    pub(super) fn headers(&self, attributes: &ObjectAttributes) -> UploadHeaders {
        self.options.headers(attributes, self.clock.now())
    }

    /// What it means that an upload with these options could not be begun.
    pub(super) fn begin_failure(
        &self,
        key: &str,
        error: SdkError<CreateMultipartUploadError, HttpResponse>,
    ) -> Error {
        let names = self.options.names();
        let is_of_options = S3Refusal::of(&error).is_some_and(|refusal| refusal.is_bad_option());
        let error = failure(on("CreateMultipartUpload", key), error);
        if names.is_empty() || !is_of_options {
            return error;
        }
        Error::new(
            Class::UploadDenied,
            format!(
                "{error}; the bucket does not take uploads with {}",
                names.join(", ")
            ),
        )
    }

    /// Begins an upload with the options and aborts it.
    pub(super) async fn probe_options(&self) -> Result<()> {
        if !self.options.are_set() {
            return Ok(());
        }
        let key = &self.options.probe_key;
        let id = self
            .create_upload(key, &ObjectAttributes::default())
            .await?;
        self.abort(key, &id).await
    }
}

/// Tags travel as a URL query.
fn query(tags: &[(String, String)]) -> String {
    let mut pairs = url::form_urlencoded::Serializer::new(String::new());
    for (key, value) in tags {
        pairs.append_pair(key, value);
    }
    pairs.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_documents_are_neither_frozen_nor_locked() {
        let options = UploadOptions {
            storage_class: Some("GLACIER".to_owned()),
            kms_key_id: Some("key".to_owned()),
            tags: vec![("team".to_owned(), "a & b".to_owned())],
            retention: Some(Retention {
                is_compliance: true,
                days: 2,
            }),
            probe_key: String::new(),
        };
        let now = Timestamp::from_second(1_000).unwrap();
        let recording = options.headers(&ObjectAttributes::default(), now);
        assert_eq!(recording.storage_class, Some(StorageClass::Glacier));
        assert_eq!(recording.lock_mode, Some(ObjectLockMode::Compliance));
        let until = DateTime::from_secs(1_000 + 2 * 86_400);
        assert_eq!(recording.retain_until, Some(until));
        assert_eq!(recording.tagging.as_deref(), Some("team=a+%26+b"));
        let manifest = ObjectAttributes {
            is_rewritten: true,
            ..ObjectAttributes::default()
        };
        let manifest = options.headers(&manifest, now);
        assert_eq!(manifest.storage_class, None);
        assert_eq!(manifest.lock_mode, None);
        assert_eq!(manifest.kms_key_id.as_deref(), Some("key"));
    }
}
