//! The bucket: everything that archiving does to it, tried on an object of our own.

use std::sync::Arc;

use bytes::Bytes;
use tracing::instrument::WithSubscriber as _;
use tracing::subscriber::NoSubscriber;
use uuid::Uuid;

use super::checkup::Checkup;
use crate::app::{BucketConnector, Embedded};
use crate::clock::SharedClock;
use crate::config::Config;
use crate::error::{Class, Error};
use crate::object::{
    CHECKSUM_WARNING, CONDITIONS_WARNING, Capabilities, ChecksumSupport, Condition, LIST_WARNING,
    ObjectAttributes, ObjectStore, Payload, WRONG_CHECKSUM_WARNING, WriteEnd, probe_key,
};
use crate::transfer::digest::PartDigest;

const CONTENT: &[u8] = b"harvester doctor was here and should have removed this\n";

const REACH_FIX: &str = "check archive.bucket, archive.region, archive.endpoint and the AWS credentials \
                         (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, profile or role)";

/// The rights that archiving needs, as a policy names them.
const RIGHTS_FIX: &str = "allow s3:PutObject, s3:GetObject, s3:AbortMultipartUpload, s3:ListMultipartUploadParts on its \
                          objects and s3:ListBucket, s3:ListBucketMultipartUploads on it";

/// How the right to list the bucket is granted.
const LIST_FIX: &str =
    "allow s3:ListBucket on the bucket itself (not on its objects), as deploy/aws/policy.json does";

/// What helps where a store lets us in and answers otherwise than S3.
const PARTS_FIX: &str = "if it happens again, use another version of the store: without parts and their list no large file \
                         is archived, or none goes on where it was interrupted";

pub(super) async fn examine(config: &Config, clock: &SharedClock, checkup: &mut Checkup) {
    let places = BucketConnector { config, clock };
    let destination = match places.destination(Embedded::MayShare).await {
        Ok(destination) => destination,
        Err(error) => {
            checkup.fault("bucket", &error, REACH_FIX);
            return;
        }
    };
    let prefix = config.archive.prefix.trim_matches('/');
    let slash = if prefix.is_empty() { "" } else { "/" };
    let probe = Probe {
        objects: Arc::clone(&destination.objects),
        try_key: probe_key(prefix),
        key: format!(
            "{prefix}{slash}.harvester-doctor-{}",
            Uuid::from_u128(fastrand::u128(..))
        ),
    };
    let missing = format!("{}-missing", probe.key);
    if let Ok(theirs) = probe.objects.server_time(&missing).await {
        checkup.clock("bucket.clock", "the object store", theirs, clock.now());
    }
    match destination.check().await {
        Ok(()) => checkup.good(
            "bucket",
            format!("it is there: {}", destination.description),
        ),
        Err(error) => checkup.fault("bucket", &error, REACH_FIX),
    }
    // What the store logs of itself is told here in lines of its own.
    probe
        .examine(checkup)
        .with_subscriber(NoSubscriber::default())
        .await;
    destination.close().await;
}

struct Probe {
    objects: Arc<dyn ObjectStore>,
    key: String,
    /// Where it is tried what the store can do, as at every start.
    try_key: String,
}

impl Probe {
    async fn examine(&self, checkup: &mut Checkup) {
        // Before all else, as at a start: what is known of conditions decides how the rest is written.
        let probed = self.objects.probe(&self.try_key).await;
        if self.put(checkup).await {
            if self.look(checkup).await {
                self.look_for_nothing(checkup).await;
                self.capabilities(probed, checkup).await;
            }
            self.remove(&self.key, checkup).await;
        }
        if self.multipart(checkup).await {
            self.complete(checkup).await;
        }
    }

    async fn put(&self, checkup: &mut Checkup) -> bool {
        match self.write(&payload(CONTENT), &self.key).await {
            Ok(WriteEnd::Done) => {
                checkup.good("bucket.put", "objects can be written");
                true
            }
            Ok(end) => {
                let message = format!("writing a new object ended as {end:?}");
                checkup.bad("bucket.put", message, "check the store: the name was free");
                false
            }
            Err(error) => {
                checkup.fault("bucket.put", &error, put_fix(&error));
                false
            }
        }
    }

    /// Whether what was written is there.
    async fn look(&self, checkup: &mut Checkup) -> bool {
        let expected = payload(CONTENT);
        let info = match self.objects.head(&self.key).await {
            Ok(Some(info)) => info,
            Ok(None) => {
                let message = "an object that was just written is not there";
                checkup.bad(
                    "bucket.head",
                    message,
                    "archiving needs a store that reads its own writes",
                );
                return false;
            }
            Err(error) => {
                checkup.fault("bucket.head", &error, RIGHTS_FIX);
                return false;
            }
        };
        if info.size_bytes != expected.size_bytes {
            let message = format!(
                "an object of {} bytes shows {}",
                expected.size_bytes, info.size_bytes
            );
            checkup.bad(
                "bucket.head",
                message,
                "use another store: this one does not keep what it is given",
            );
            return false;
        }
        checkup.good("bucket.head", "objects can be looked at");
        true
    }

    /// Whether it is told that an object is not there: without a right that nothing else needs, it is called forbidden.
    async fn look_for_nothing(&self, checkup: &mut Checkup) {
        let key = format!("{}-nothing", self.key);
        let looked = self.objects.head(&key).await;
        let is_denied =
            |error: &Error| error.class() == Class::UploadDenied && !error.is_transient();
        match looked {
            _ if self.objects.capabilities().hides_missing => {
                checkup.bad("bucket.list", LIST_WARNING, LIST_FIX);
            }
            Ok(_) => checkup.good(
                "bucket.list",
                "what is not there is told from what is forbidden",
            ),
            Err(error) if is_denied(&error) => checkup.bad("bucket.list", LIST_WARNING, LIST_FIX),
            Err(error) => checkup.fault("bucket.list", &error, RIGHTS_FIX),
        }
    }

    /// What the store can do beyond keeping objects, as every start finds it out.
    async fn capabilities(
        &self,
        probed: crate::error::Result<Capabilities>,
        checkup: &mut Checkup,
    ) {
        let capabilities = match probed {
            Ok(capabilities) => capabilities,
            Err(error) => {
                checkup.fault("bucket.condition", &error, RIGHTS_FIX);
                return;
            }
        };
        self.checksum(capabilities, checkup).await;
        match capabilities.warnings().contains(&CONDITIONS_WARNING) {
            true => checkup.warn(
                "bucket.condition",
                CONDITIONS_WARNING,
                "use a store or version with conditional writes, or give the harvester a prefix of its own",
            ),
            false => checkup.good("bucket.condition", "nothing is overwritten (If-None-Match)"),
        }
    }

    /// Whether the store tells the checksum, and refuses content that does not have it.
    async fn checksum(&self, capabilities: Capabilities, checkup: &mut Checkup) {
        let expected = payload(CONTENT);
        let wrong = Payload {
            crc64nvme: !expected.crc64nvme,
            ..expected.clone()
        };
        let key = format!("{}-wrong", self.key);
        let is_checked = self.write(&wrong, &key).await.is_err();
        if !is_checked {
            let _ = self.objects.delete(&key).await;
        }
        const NEWER: &str = "a newer version of the store may tell it";
        match (capabilities.checksum, is_checked) {
            (ChecksumSupport::Untold, _) => {
                checkup.warn("bucket.checksum", CHECKSUM_WARNING, NEWER);
            }
            (ChecksumSupport::Wrong, _) => {
                checkup.warn("bucket.checksum", WRONG_CHECKSUM_WARNING, NEWER);
            }
            (_, false) => checkup.warn(
                "bucket.checksum",
                "content with a wrong CRC64NVME is taken",
                "damage on the way would not be noticed by this store; a newer version may check it",
            ),
            (_, true) => checkup.good("bucket.checksum", "CRC64NVME is checked and told"),
        }
    }

    async fn multipart(&self, checkup: &mut Checkup) -> bool {
        let key = format!("{}-parts", self.key);
        let upload = match self.objects.create_upload(&key, &attributes()).await {
            Ok(upload) => upload,
            Err(error) => {
                checkup.fault("bucket.multipart", &error, put_fix(&error));
                return false;
            }
        };
        let sent = self
            .objects
            .upload_part(&key, &upload, 1, &payload(CONTENT))
            .await;
        let listed = self.objects.list_parts(&key, &upload).await;
        let aborted = self.objects.abort(&key, &upload).await;
        let in_parts = match (sent, listed) {
            (Err(error), _) => Err((error, "bucket.multipart")),
            (Ok(_), Err(error)) => Err((error, "bucket.parts")),
            (Ok(_), Ok(parts)) if parts.as_ref().is_some_and(|parts| parts.len() == 1) => Ok(()),
            (Ok(_), Ok(_)) => Err((
                Error::internal("find the part that was sent in the list of parts"),
                "bucket.parts",
            )),
        };
        let is_good = in_parts.is_ok();
        match in_parts {
            Ok(()) => checkup.good("bucket.multipart", "objects can be written in parts"),
            Err((error, check)) if error.is_transient() => checkup.fault(check, &error, PARTS_FIX),
            Err((error, check)) => checkup.fault(check, &error, RIGHTS_FIX),
        }
        match aborted {
            Ok(()) => checkup.good("bucket.abort", "uploads can be aborted"),
            Err(error) => checkup.fault(
                "bucket.abort",
                &error,
                format!("allow s3:AbortMultipartUpload, and abort the upload of {key}"),
            ),
        }
        is_good
    }

    /// An upload is completed as archiving does it: only where nothing is, and with the checksum of the whole.
    async fn complete(&self, checkup: &mut Checkup) {
        let key = format!("{}-complete", self.key);
        let completed = self.upload_and_complete(&key).await;
        let there = self.objects.head(&key).await.ok().flatten();
        match (&completed, &there) {
            (Ok(WriteEnd::Done), Some(_)) => {
                let capabilities = self.objects.capabilities();
                let message = match capabilities.warnings().is_empty() {
                    true => "uploads are completed with If-None-Match and CRC64NVME",
                    false => "uploads are completed",
                };
                checkup.good("bucket.complete", message);
            }
            (Ok(end), _) => checkup.bad(
                "bucket.complete",
                format!("completing an upload under a free name ended as {end:?}, and nothing is there"),
                "use a store or version that completes uploads with If-None-Match and a checksum of the whole",
            ),
            (Err(error), _) => checkup.fault("bucket.complete", error, RIGHTS_FIX),
        }
        if there.is_some() {
            self.remove(&key, checkup).await;
        }
    }

    async fn upload_and_complete(&self, key: &str) -> crate::error::Result<WriteEnd> {
        let content = payload(CONTENT);
        let upload = self.objects.create_upload(key, &attributes()).await?;
        let completed = async {
            let part = self.objects.upload_part(key, &upload, 1, &content).await?;
            let (size, checksum) = (content.size_bytes, content.crc64nvme);
            let condition = Some(&Condition::Absent);
            let parts = [part];
            self.objects
                .complete(key, &upload, &parts, size, checksum, condition)
                .await
        };
        let completed = completed.await;
        if !matches!(completed, Ok(WriteEnd::Done)) {
            // What it failed of is told; an upload that is left over is swept later.
            let _ = self.objects.abort(key, &upload).await;
        }
        completed
    }

    /// Archiving deletes no recording, so that this right is not needed.
    async fn remove(&self, key: &str, checkup: &mut Checkup) {
        if let Err(error) = self.objects.delete(key).await {
            checkup.warn(
                "bucket.probe",
                format!("failed to {}", error.full_message()),
                format!("remove {key} by hand; archiving itself needs no s3:DeleteObject"),
            );
        }
    }

    async fn write(&self, payload: &Payload, key: &str) -> crate::error::Result<WriteEnd> {
        let condition = Some(&Condition::Absent);
        self.objects
            .put(key, payload, &attributes(), condition)
            .await
    }
}

fn put_fix(error: &Error) -> String {
    match error.is_transient() {
        true => REACH_FIX.to_owned(),
        false => format!("{REACH_FIX}; {RIGHTS_FIX}"),
    }
}

fn attributes() -> ObjectAttributes {
    ObjectAttributes {
        content_type: "text/plain".to_owned(),
        metadata: Vec::new(),
        // Probes are removed again: nothing may lock them.
        is_rewritten: true,
        ..ObjectAttributes::default()
    }
}

fn payload(content: &'static [u8]) -> Payload {
    let mut digest = PartDigest::new();
    digest.update(content);
    Payload {
        chunks: Arc::new(vec![Bytes::from_static(content)]),
        size_bytes: content.len() as u64,
        crc64nvme: digest.crc64nvme(),
    }
}
