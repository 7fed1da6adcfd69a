//! What the store can do, tried on a small object of our own (faults.md, 63).
//!
//! The object's name is always the same: where it may not be removed, one is left and not one for each start. The
//! probe of another worker may remove it at any moment, so what looks as if a condition was ignored is tried once more
//! under a name that nobody else has.

use std::sync::Arc;

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, checksum};
use uuid::Uuid;

use super::S3Store;
use super::condition::Failed;
use super::read::Looked;
use super::write::ExpectedWhole;
use crate::error::{Class, Error, Result};
use crate::object::{
    Capabilities, ChecksumSupport, Condition, ConditionSupport, ObjectAttributes, ObjectInfo,
    Payload, PutEnd, WriteEnd, decode_crc64nvme,
};

/// What it says in it, for a person who finds it.
const CONTENT: &[u8] =
    b"recording-harvester tries here what this object store can do. It may be deleted.\n";

/// An ETag that no object has.
const NO_ETAG: &str = "00000000000000000000000000000000";

/// A probe that an earlier version left may be larger, but not much.
const MAX_BYTES: u64 = 4096;

impl S3Store {
    pub(super) async fn probe_capabilities(&self, key: &str) -> Result<Capabilities> {
        let _turn = self.probing.lock().await;
        let mut seen = self.probe_under(key).await?;
        if [seen.if_none_match, seen.if_none_match_in_parts].contains(&ConditionSupport::Ignored) {
            let own = format!("{key}-{}", Uuid::now_v7());
            seen = self.probe_under(&own).await?;
        }
        self.note(|known| *known = seen);
        Ok(seen)
    }

    async fn probe_under(&self, key: &str) -> Result<Capabilities> {
        let absent = self.try_condition(key, &Condition::Absent).await;
        let (first, is_written) = match absent? {
            ConditionSupport::Refused => {
                let put = self.put_object(key, &payload(), &attributes(), None).await;
                let _: PutEnd = put.map_err(|failed| failed.error)?;
                (ConditionSupport::Refused, true)
            }
            // One is left from before.
            ConditionSupport::Kept => (ConditionSupport::Kept, false),
            _ => (ConditionSupport::Unknown, true),
        };
        let seen = self.look_around(key, first).await;
        // Archiving itself deletes nothing, so that this may not be allowed.
        if let Err(error) = self.delete_object(key).await {
            tracing::debug!(key, is_written, cause = %error.full_message(), "the probe is left");
        }
        seen
    }

    /// What the store can do, now that there is an object under `key`.
    async fn look_around(&self, key: &str, first: ConditionSupport) -> Result<Capabilities> {
        let if_none_match = match first {
            ConditionSupport::Unknown => self.try_condition(key, &Condition::Absent).await?,
            known => known,
        };
        if if_none_match == ConditionSupport::Kept {
            // Sure by now, whatever comes of the rest.
            self.note(|known| known.if_none_match = ConditionSupport::Kept);
        }
        let other = Condition::Matches(NO_ETAG.to_owned());
        // A policy may forbid what has no `If-None-Match`: then nothing is known.
        let if_match = self.try_condition(key, &other).await.unwrap_or_default();
        let Some(info) = self.head_object(key).await? else {
            return Err(Error::transient(
                Class::UploadFailed,
                format!("look at {key}, which was just written: it is not there"),
            ));
        };
        // Of an object of the same sort that is there, it was just told.
        let missing = format!("{key}-missing-{}", Uuid::now_v7());
        let missing = self.look_at(&missing).await?;
        let hides_missing = matches!(missing, Looked::Forbidden(_));
        let checksum = self.try_checksum(key, &info).await?;
        let if_none_match_in_parts = match if_none_match {
            ConditionSupport::Kept if hides_missing => match self.try_in_parts(key).await {
                Err(error) if error.is_transient() => return Err(error),
                tried => tried.unwrap_or_default(),
            },
            _ => ConditionSupport::Unknown,
        };
        Ok(Capabilities {
            if_none_match,
            if_none_match_in_parts,
            if_match,
            checksum,
            hides_missing,
        })
    }

    /// Ends an upload in parts under a condition that does not hold.
    async fn try_in_parts(&self, key: &str) -> Result<ConditionSupport> {
        let payload = payload();
        let upload_id = self.create_multipart_upload(key, &attributes()).await?;
        let ended = async {
            let part = self.send_part(key, &upload_id, 1, &payload).await?;
            let whole = ExpectedWhole {
                size_bytes: payload.size_bytes,
                crc64nvme: payload.crc64nvme,
            };
            let (parts, condition) = ([part], Some(&Condition::Absent));
            self.complete_multipart_upload(key, &upload_id, &parts, whole, condition)
                .await
        };
        let support = support(ended.await);
        if let Err(error) = self.abort_multipart_upload(key, &upload_id).await {
            tracing::debug!(key, cause = %error.full_message(), "the probe's upload is left");
        }
        support
    }

    /// Writes under a condition that does not hold once the object is there.
    async fn try_condition(&self, key: &str, condition: &Condition) -> Result<ConditionSupport> {
        let put = self
            .put_object(key, &payload(), &attributes(), Some(condition))
            .await;
        support(put.map(|put| put.end))
    }

    /// Compares the checksum that the store tells with that of the content that it gives back.
    async fn try_checksum(&self, key: &str, info: &ObjectInfo) -> Result<ChecksumSupport> {
        let Some(told) = &info.crc64nvme else {
            return Ok(ChecksumSupport::Untold);
        };
        let told = decode_crc64nvme(told);
        if told == Some(payload().crc64nvme) {
            return Ok(ChecksumSupport::Told);
        }
        Ok(match self.get_object(key, MAX_BYTES, false).await? {
            Some((content, _)) if told == Some(crc64nvme(&content)) => ChecksumSupport::Told,
            Some((content, _)) if content == CONTENT => ChecksumSupport::Wrong,
            // Damage, or another worker's doing: no word about the checksums.
            _ => ChecksumSupport::Unknown,
        })
    }
}

/// What the end of a write shows whose condition does not hold.
fn support(ended: Result<WriteEnd, Failed>) -> Result<ConditionSupport> {
    match ended {
        Ok(WriteEnd::Done) => Ok(ConditionSupport::Ignored),
        Ok(WriteEnd::Taken | WriteEnd::Conflict) => Ok(ConditionSupport::Kept),
        Ok(WriteEnd::Unclear) => Ok(ConditionSupport::Unknown),
        Err(Failed {
            may_lack_headers: true,
            ..
        }) => Ok(ConditionSupport::Refused),
        Err(failed) => Err(failed.error),
    }
}

fn payload() -> Payload {
    Payload {
        chunks: Arc::new(vec![Bytes::from_static(CONTENT)]),
        size_bytes: CONTENT.len() as u64,
        crc64nvme: crc64nvme(CONTENT),
    }
}

fn crc64nvme(content: &[u8]) -> u64 {
    checksum(CrcAlgorithm::Crc64Nvme, content)
}

/// Nothing may lock it, or put it where it must be thawed.
fn attributes() -> ObjectAttributes {
    ObjectAttributes {
        content_type: "text/plain".to_owned(),
        is_rewritten: true,
        ..ObjectAttributes::default()
    }
}
