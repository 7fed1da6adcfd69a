//! The end of an upload, and the proof of it.
//!
//! An answer to a Complete is no proof: a 200 may be cut short, an error may come after the
//! write, a conflict may be our own earlier try. So the bucket is asked what is there (`object/owned`). What is
//! about to be sent is noted first, so that after a kill, too, an object of ours is taken for the artifact only
//! if it is that.

use std::sync::PoisonError;

use crate::error::{Class, Error, Result};
use crate::model::Archived;
use crate::model::job::{Fingerprint, FinishedPart};
use crate::object::owned::{
    OwnedObject, OwnedWrite, Ownership, UnderKey, UploadEnd, complete_owned, missing, prove,
    replacing, wrong,
};
use crate::object::{Condition, ObjectInfo, Payload, WriteEnd, encode_crc64nvme};
use crate::transfer::attempt::TransferAttempt;
use crate::transfer::digest::ObjectDigest;
use crate::transfer::download::reader::Stop;
use crate::transfer::free_name::FreeNames;
use crate::transfer::upload::invalid_part::Remedy;
use crate::transfer::upload::open::abort;
use crate::transfer::upload::retry::{TRIES, wait_after};
use crate::transfer::upload::single_put::{
    Placing, check_lease, doubt, is_kept_from_replacing, is_replaced,
};

/// What was carried, as its object must show it.
#[derive(Clone)]
pub(in crate::transfer) struct Sealed {
    crc64nvme: u64,
    print: Fingerprint,
}

impl Sealed {
    /// Of the bytes that a digest has seen.
    pub(in crate::transfer) fn of(digest: &ObjectDigest) -> Sealed {
        Sealed {
            crc64nvme: digest.crc64nvme(),
            print: Fingerprint {
                size_bytes: digest.size_bytes(),
                crc64nvme: encode_crc64nvme(digest.crc64nvme()),
                sha256: digest.sha256(),
            },
        }
    }
}

/// What is under a key before anything was carried.
pub(in crate::transfer) enum KnownObject {
    /// Our own, and what it should be.
    Whole(Fingerprint),
    /// It may be what is to be carried.
    Perhaps,
    /// Something else, which keeps its name.
    Other,
}

impl TransferAttempt<'_> {
    /// Puts a small object under the first free name.
    pub(in crate::transfer) async fn put(
        &self,
        names: &mut FreeNames,
        payload: &Payload,
        sealed: &Sealed,
    ) -> Result<Archived> {
        let placing = Placing {
            engine: self.engine,
            owner: &self.owner,
            attributes: self.attributes(),
            payload,
            expected: &sealed.print,
            ledger: Some(self.ledger),
            patience: self.patience().brief(),
        };
        placing.put(names).await
    }

    /// Completes an upload.
    pub(in crate::transfer) async fn complete(
        &self,
        key: &str,
        upload_id: &str,
        parts: &[FinishedPart],
        sealed: &Sealed,
    ) -> Result<Archived, Stop> {
        let objects = &*self.engine.objects;
        self.expect(key, sealed);
        self.note_sealed(sealed.print.clone()).await?;
        let mut parts = parts.to_vec();
        let mut tried = 0;
        let mut conflicts = 0;
        let mut refusals = 0;
        let mut condition = Condition::Absent;
        let mut was_replaced = false;
        loop {
            check_lease(self.ledger).await?;
            tried += 1;
            let object = OwnedObject {
                key,
                owner: &self.owner,
                expected: &sealed.print,
                condition: &condition,
            };
            let upload = UploadEnd {
                upload_id,
                parts: &parts,
                crc64nvme: sealed.crc64nvme,
            };
            let failure = match complete_owned(objects, object, upload).await {
                Err(error)
                | Ok(OwnedWrite {
                    answer: Err(error),
                    found: UnderKey::Wrong(_),
                }) if error.has_refused_parts() => {
                    match self.remedy((key, upload_id), &parts, &error).await? {
                        Remedy::Parts(listed) => parts = listed,
                        // The first one may have come before the bucket had taken note of all parts.
                        Remedy::None if refusals == 0 => refusals += 1,
                        Remedy::None => return Err(self.give_up_upload(key, error).await),
                    }
                    error
                }
                // A policy lets nothing be replaced: the next name is taken.
                Err(error) if is_kept_from_replacing(&condition, &error) => {
                    return Err(Stop::Taken);
                }
                Err(error) => error,
                Ok(OwnedWrite { answer, found }) => {
                    let answer = answer.ok();
                    conflicts += u32::from(answer == Some(WriteEnd::Conflict));
                    match found {
                        UnderKey::Whole(archived) => {
                            if answer != Some(WriteEnd::Done) {
                                // It may be another upload that has become the object.
                                abort(objects, key, upload_id).await;
                            }
                            return Ok(archived);
                        }
                        UnderKey::Others => return Err(Stop::Taken),
                        // An earlier attempt's of other content, or damaged: the upload may replace it.
                        UnderKey::Wrong(info) => {
                            let is_again = is_replaced(&condition, answer.as_ref());
                            if is_again
                                && !was_replaced
                                && let Some(archived) = doubt(self.engine, object).await
                            {
                                return Ok(archived);
                            }
                            was_replaced |= is_again;
                            condition = replacing(key, &info)?;
                            wrong(key, &info, &sealed.print, was_replaced)
                        }
                        UnderKey::Nothing | UnderKey::Unproven(_) => {
                            self.check_usable(key, upload_id, answer, conflicts).await?;
                            condition = Condition::Absent;
                            missing(key)
                        }
                    }
                }
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

    /// What the object under `key` is to this job.
    pub(in crate::transfer) fn recognise(&self, key: &str, info: &ObjectInfo) -> KnownObject {
        let told = self.job.size_bytes;
        let is_told_size = told.is_none_or(|size| size == info.size_bytes);
        let capabilities = self.engine.objects.capabilities();
        match self.owner.ownership(info) {
            Ownership::Foreign => KnownObject::Other,
            // A harvester may have put it there for a job that the store no longer knows, as after a restored
            // backup. Only its content tells.
            Ownership::Sibling => {
                let is_told = Fingerprint::told(info, capabilities).is_some();
                match is_told && is_told_size {
                    true => KnownObject::Perhaps,
                    false => KnownObject::Other,
                }
            }
            Ownership::Ours => match self.expected(key, info) {
                Some(print) if is_told_size && prove(info, &print, capabilities) => {
                    KnownObject::Whole(print)
                }
                Some(_) => {
                    tracing::warn!(
                        job = %self.job.id,
                        key,
                        size_bytes = info.size_bytes,
                        "an object of ours is not what was sent: it is carried again and replaced"
                    );
                    KnownObject::Perhaps
                }
                None => KnownObject::Perhaps,
            },
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
}
