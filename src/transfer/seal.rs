//! The end of an upload, and the proof of it.
//!
//! An answer to a Put or Complete is no proof: a 200 may be cut short, an error may come after the
//! write, a conflict may be our own earlier try. So after each the bucket is asked what is there, and
//! the job id in the object's metadata tells whose it is.

use super::JOB_METADATA_KEY;
use super::attempt::Attempt;
use super::digest::ObjectDigest;
use super::names::Names;
use super::patience::{TRIES, wait_after};
use super::reader::Stop;
use crate::error::{Class, Error, Result};
use crate::model::Archived;
use crate::model::job::FinishedPart;
use crate::object::{Condition, ObjectInfo, Payload, WriteEnd, encode_crc64nvme};

/// What was carried, as its object must show it.
pub(super) struct Sealed {
    size_bytes: u64,
    crc64nvme: u64,
    sha256: Option<String>,
}

impl Sealed {
    /// Of the bytes that a digest has seen.
    pub(super) fn of(digest: &ObjectDigest) -> Sealed {
        Sealed {
            size_bytes: digest.size_bytes(),
            crc64nvme: digest.crc64nvme(),
            sha256: digest.sha256(),
        }
    }

    fn archived(&self, key: &str, info: ObjectInfo) -> Archived {
        Archived {
            key: key.to_owned(),
            size_bytes: self.size_bytes,
            crc64nvme: encode_crc64nvme(self.crc64nvme),
            sha256: self.sha256.clone(),
            etag: info.etag,
            version_id: info.version_id,
        }
    }
}

/// What is under a key.
enum Found {
    Ours(Archived),
    Others,
    Nothing,
}

impl Attempt<'_> {
    /// Puts a small object under the first free name.
    pub(super) async fn put(
        &self,
        names: &mut Names,
        payload: &Payload,
        sealed: &Sealed,
    ) -> Result<Archived> {
        let patience = self.patience().brief();
        let mut tries = patience.tries();
        loop {
            self.check_lease().await?;
            let key = names.key();
            let objects = &self.engine.objects;
            let end = objects
                .put(&key, payload, &self.attributes(), Some(&Condition::Absent))
                .await;
            let failure = match self.settle_write(&key, sealed, end).await {
                Ok(Found::Ours(archived)) => return Ok(archived),
                Ok(Found::Others) => {
                    names.next()?;
                    tries = patience.tries();
                    continue;
                }
                Ok(Found::Nothing) => missing(&key),
                Err(error) => error,
            };
            if !tries.wait_after(&failure).await {
                return Err(failure);
            }
        }
    }

    /// Completes an upload.
    pub(super) async fn complete(
        &self,
        key: &str,
        upload_id: &str,
        parts: &[FinishedPart],
        sealed: &Sealed,
    ) -> Result<Archived, Stop> {
        let objects = &self.engine.objects;
        let mut tried = 0;
        loop {
            self.check_lease().await?;
            tried += 1;
            let end = objects
                .complete(
                    key,
                    upload_id,
                    parts,
                    sealed.size_bytes,
                    sealed.crc64nvme,
                    Some(&Condition::Absent),
                )
                .await;
            let is_unclear = matches!(end, Ok(WriteEnd::Unclear));
            let failure = match self.settle_write(key, sealed, end).await {
                Ok(Found::Ours(archived)) => return Ok(archived),
                Ok(Found::Others) => return Err(Stop::Taken),
                Ok(Found::Nothing) => missing(key),
                Err(error) => error,
            };
            if is_unclear && objects.list_parts(key, upload_id).await?.is_none() {
                let why = Error::transient(
                    Class::UploadFailed,
                    format!("complete {key}: the bucket no longer knows the upload"),
                );
                return Err(Stop::Restart { why, opened: None });
            }
            if !failure.is_transient() || tried >= TRIES {
                return Err(failure.into());
            }
            wait_after(tried).await;
        }
    }

    /// What a write led to. The write's own error comes first when nothing of ours is there.
    async fn settle_write(
        &self,
        key: &str,
        sealed: &Sealed,
        end: Result<WriteEnd>,
    ) -> Result<Found> {
        match end {
            Err(error) if !error.is_transient() => Err(error),
            Err(error) => match self.look(key, sealed).await {
                Ok(Found::Nothing) | Err(_) => Err(error),
                Ok(found) => Ok(found),
            },
            Ok(_) => self.look(key, sealed).await,
        }
    }

    async fn look(&self, key: &str, sealed: &Sealed) -> Result<Found> {
        let Some(info) = self.engine.objects.head(key).await? else {
            return Ok(Found::Nothing);
        };
        let crc64nvme = encode_crc64nvme(sealed.crc64nvme);
        if !self.is_ours(&info) {
            let is_equal =
                info.size_bytes == sealed.size_bytes && info.crc64nvme.as_ref() == Some(&crc64nvme);
            return Ok(match is_equal && is_archived(&info) {
                true => Found::Ours(sealed.archived(key, info)),
                false => Found::Others,
            });
        }
        let is_same_crc = info.crc64nvme.as_ref().is_none_or(|crc| *crc == crc64nvme);
        if info.size_bytes != sealed.size_bytes || !is_same_crc {
            return Err(Error::transient(
                Class::UploadFailed,
                format!(
                    "{key} has {} bytes or a checksum that are not those of the {} bytes sent",
                    info.size_bytes, sealed.size_bytes
                ),
            ));
        }
        Ok(Found::Ours(sealed.archived(key, info)))
    }

    /// Whether an object carries this job's id.
    pub(super) fn is_ours(&self, info: &ObjectInfo) -> bool {
        info.metadata(JOB_METADATA_KEY) == Some(self.job.id.to_string().as_str())
    }

    /// Whether an object under our name may hold what we would carry: a harvester has put it there for a job that the
    /// store no longer knows, as after a restored backup. Only its content tells.
    pub(super) fn may_be_equal(&self, info: &ObjectInfo) -> bool {
        let is_expected_size = self
            .job
            .size_bytes
            .is_none_or(|size| size == info.size_bytes);
        is_archived(info) && is_expected_size && info.crc64nvme.is_some()
    }

    /// A worker that was frozen for minutes must not seal what another one now works on.
    async fn check_lease(&self) -> Result<()> {
        if self.ledger.is_held().await {
            return Ok(());
        }
        Err(Error::transient(
            Class::Internal,
            "the lease is lost: the job belongs to another worker",
        ))
    }
}

/// Whether a harvester has put it there.
fn is_archived(info: &ObjectInfo) -> bool {
    info.metadata(JOB_METADATA_KEY).is_some()
}

fn missing(key: &str) -> Error {
    Error::transient(
        Class::UploadFailed,
        format!("{key} is not in the bucket after it was written"),
    )
}
