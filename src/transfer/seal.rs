//! The end of an upload, and the proof of it.
//!
//! An answer to a Complete is no proof: a 200 may be cut short, an error may come after the
//! write, a conflict may be our own earlier try. That to a Put is one when it tells the checksum of what was
//! stored. After all others the bucket is asked what is there; the job id in the object's metadata tells
//! whose it is, and its length and checksum whether it is what was sent. What is about to be sent is noted first, so that after a kill, too, an object of ours is taken
//! for the artifact only if it is that.

use std::sync::PoisonError;

use super::JOB_METADATA_KEY;
use super::attempt::Attempt;
use super::digest::ObjectDigest;
use super::names::Names;
use super::open_upload::abort;
use super::patience::{TRIES, wait_after};
use super::reader::Stop;
use super::refused::Remedy;
use crate::error::{Class, Error, Result};
use crate::model::Archived;
use crate::model::job::{Fingerprint, FinishedPart};
use crate::object::{
    Attributes, Condition, ObjectInfo, Payload, PutEnd, WriteEnd, encode_crc64nvme,
};

/// The metadata keys under which an object that goes up in one request tells what it should be.
const SIZE_METADATA_KEY: &str = "harvester-size";
const CRC_METADATA_KEY: &str = "harvester-crc64nvme";
const SHA256_METADATA_KEY: &str = "harvester-sha256";

/// What was carried, as its object must show it.
#[derive(Clone)]
pub(super) struct Sealed {
    size_bytes: u64,
    crc64nvme: u64,
    print: Fingerprint,
}

impl Sealed {
    /// Of the bytes that a digest has seen.
    pub(super) fn of(digest: &ObjectDigest) -> Sealed {
        Sealed {
            size_bytes: digest.size_bytes(),
            crc64nvme: digest.crc64nvme(),
            print: Fingerprint {
                size_bytes: digest.size_bytes(),
                crc64nvme: encode_crc64nvme(digest.crc64nvme()),
                sha256: digest.sha256(),
            },
        }
    }
}

impl Fingerprint {
    /// The artifact whose object shows this.
    pub(super) fn archived(&self, key: &str, info: ObjectInfo) -> Archived {
        Archived {
            key: key.to_owned(),
            size_bytes: self.size_bytes,
            crc64nvme: self.crc64nvme.clone(),
            sha256: self.sha256.clone(),
            etag: info.etag,
            version_id: info.version_id,
        }
    }

    /// A store may keep no checksum.
    fn fits(&self, info: &ObjectInfo) -> bool {
        let is_same_crc = info
            .crc64nvme
            .as_ref()
            .is_none_or(|crc| *crc == self.crc64nvme);
        info.size_bytes == self.size_bytes && is_same_crc
    }

    fn of_metadata(info: &ObjectInfo) -> Option<Fingerprint> {
        Some(Fingerprint {
            size_bytes: info.metadata(SIZE_METADATA_KEY)?.parse().ok()?,
            crc64nvme: info.metadata(CRC_METADATA_KEY)?.to_owned(),
            sha256: info.metadata(SHA256_METADATA_KEY).map(str::to_owned),
        })
    }

    fn add_to(&self, attributes: &mut Attributes) {
        let pairs = [
            (SIZE_METADATA_KEY, Some(self.size_bytes.to_string())),
            (CRC_METADATA_KEY, Some(self.crc64nvme.clone())),
            (SHA256_METADATA_KEY, self.sha256.clone()),
        ];
        let told = pairs
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value?)));
        attributes.metadata.extend(told);
    }
}

/// What is under a key after a write.
enum Found {
    Ours(Archived),
    Others,
    Nothing,
    /// It is ours, and not what was sent.
    Wrong(Error),
}

/// What is under a key before anything was carried.
pub(super) enum Known {
    /// Our own, and what it should be.
    Whole(Fingerprint),
    /// It may be what is to be carried.
    Perhaps,
    /// Something else, which keeps its name.
    Other,
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
        let mut attributes = self.attributes();
        sealed.print.add_to(&mut attributes);
        loop {
            self.check_lease().await?;
            let key = names.key();
            self.expect(&key, sealed);
            let objects = &self.engine.objects;
            let put = objects
                .put_shown(&key, payload, &attributes, Some(&Condition::Absent))
                .await;
            let end = match put {
                Ok(PutEnd {
                    shown: Some(info), ..
                }) if sealed.print.fits(&info) => return Ok(sealed.print.archived(&key, info)),
                put => put.map(|put| put.end),
            };
            let is_earlier = tries.count() == 0 && matches!(end, Ok(WriteEnd::Taken));
            let failure = match self.settle_write(&key, sealed, end).await {
                Ok(Found::Ours(archived)) => return Ok(archived),
                Ok(Found::Wrong(error)) if !is_earlier => error,
                Ok(Found::Others | Found::Wrong(_)) => {
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
        self.expect(key, sealed);
        self.note_sealed(sealed.print.clone()).await?;
        let mut parts = parts.to_vec();
        let mut tried = 0;
        let mut conflicts = 0;
        let mut refusals = 0;
        loop {
            self.check_lease().await?;
            tried += 1;
            let (size_bytes, crc64nvme) = (sealed.size_bytes, sealed.crc64nvme);
            let condition = Some(&Condition::Absent);
            let end = objects
                .complete(key, upload_id, &parts, size_bytes, crc64nvme, condition)
                .await;
            let answer = end.as_ref().ok().copied();
            conflicts += u32::from(answer == Some(WriteEnd::Conflict));
            let found = self.settle_write(key, sealed, end).await;
            let failure = match found {
                Ok(Found::Ours(archived)) => {
                    if answer != Some(WriteEnd::Done) {
                        // It may be another upload that has become the object.
                        abort(&**objects, key, upload_id).await;
                    }
                    return Ok(archived);
                }
                Ok(Found::Others) => return Err(Stop::Taken),
                // It was there before we came: an earlier attempt's, of other content.
                Ok(Found::Wrong(_)) if tried == 1 && answer == Some(WriteEnd::Taken) => {
                    return Err(Stop::Taken);
                }
                Ok(Found::Wrong(error)) => error,
                Ok(Found::Nothing) => {
                    self.check_usable(key, upload_id, answer, conflicts).await?;
                    missing(key)
                }
                Err(error) if error.has_refused_parts() => {
                    match self.remedy((key, upload_id), &parts, &error).await? {
                        Remedy::Parts(listed) => parts = listed,
                        // The first one may have come before the bucket had taken note of all parts.
                        Remedy::None if refusals == 0 => refusals += 1,
                        Remedy::None => return Err(self.give_up_upload(key, error).await),
                    }
                    error
                }
                Err(error) => error,
            };
            if !failure.is_transient() || tried >= TRIES {
                return Err(failure.into());
            }
            wait_after(tried).await;
        }
    }

    /// Whether there is a point in completing an upload once more of which nothing has come.
    ///
    /// # Errors
    /// `Restart` when it takes a new one with all parts.
    async fn check_usable(
        &self,
        key: &str,
        upload_id: &str,
        answer: Option<WriteEnd>,
        conflicts: u32,
    ) -> Result<(), Stop> {
        // Once the origin is dead, all parts can't be had again: then only this upload may still do.
        let is_dead = self.job.deadline.is_past(self.engine.clock.now());
        let why = match answer {
            // The first one may have met our own request whose answer was lost, and which is still worked on.
            Some(WriteEnd::Conflict) if conflicts > 1 && !is_dead => {
                "another write was on its way, and nothing came of it"
            }
            Some(WriteEnd::Unclear) => {
                let listed = self.engine.objects.list_parts(key, upload_id).await?;
                match listed {
                    Some(_) => return Ok(()),
                    None => "the bucket no longer knows the upload",
                }
            }
            _ => return Ok(()),
        };
        let why = Error::transient(Class::UploadFailed, format!("complete {key}: {why}"));
        Err(Stop::Restart { why, opened: None })
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
        let print = &sealed.print;
        if !self.is_ours(&info) {
            let is_equal = print.fits(&info) && info.crc64nvme.is_some();
            return Ok(match is_equal && is_archived(&info) {
                true => Found::Ours(print.archived(key, info)),
                false => Found::Others,
            });
        }
        if !print.fits(&info) {
            return Ok(Found::Wrong(Error::transient(
                Class::UploadFailed,
                format!(
                    "{key} has {} bytes or a checksum that are not those of the {} bytes sent",
                    info.size_bytes, sealed.size_bytes
                ),
            )));
        }
        Ok(Found::Ours(print.archived(key, info)))
    }

    /// What the object under `key` is to this job.
    pub(super) fn recognise(&self, key: &str, info: &ObjectInfo) -> Known {
        let is_told_size = self
            .job
            .size_bytes
            .is_none_or(|size| size == info.size_bytes);
        if !is_told_size {
            return Known::Other;
        }
        if !self.is_ours(info) {
            // A harvester may have put it there for a job that the store no longer knows, as after a restored
            // backup. Only its content tells.
            return match is_archived(info) && info.crc64nvme.is_some() {
                true => Known::Perhaps,
                false => Known::Other,
            };
        }
        match self.expected(key, info) {
            Some(print) if print.fits(info) => Known::Whole(print),
            Some(_) => {
                tracing::warn!(
                    job = %self.job.id,
                    key,
                    size_bytes = info.size_bytes,
                    "an object of ours is not what was sent: it is carried again under another name"
                );
                Known::Other
            }
            None => Known::Perhaps,
        }
    }

    /// What our object under `key` should be, as far as that was noted.
    fn expected(&self, key: &str, info: &ObjectInfo) -> Option<Fingerprint> {
        let sealed = self.sealed.lock().unwrap_or_else(PoisonError::into_inner);
        let noted = sealed.as_ref().filter(|(noted, _)| noted == key);
        noted
            .map(|(_, print)| print.clone())
            .or_else(|| Fingerprint::of_metadata(info))
    }

    fn expect(&self, key: &str, sealed: &Sealed) {
        let expected = (key.to_owned(), sealed.print.clone());
        *self.sealed.lock().unwrap_or_else(PoisonError::into_inner) = Some(expected);
    }

    /// Whether an object carries this job's id.
    fn is_ours(&self, info: &ObjectInfo) -> bool {
        info.metadata(JOB_METADATA_KEY) == Some(self.job.id.to_string().as_str())
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
