//! One object in one request, under the first name that is free or ours already.

use crate::error::{Class, Error, Result};
use crate::model::Archived;
use crate::model::job::Fingerprint;
use crate::object::owned::{
    OwnedObject, Owner, UnderKey, find_owned, missing, put_owned, replacing, wrong,
};
use crate::object::{Condition, ObjectAttributes, Payload, WriteEnd, probe_key};
use crate::transfer::free_name::FreeNames;
use crate::transfer::upload::retry::UploadRetry;
use crate::transfer::{Engine, Ledger};

/// What is to be put, and for whom.
pub(in crate::transfer) struct Placing<'a> {
    pub(in crate::transfer) engine: &'a Engine,
    pub(in crate::transfer) owner: &'a Owner,
    /// What it is stored with, but for its fingerprint.
    pub(in crate::transfer) attributes: ObjectAttributes,
    pub(in crate::transfer) payload: &'a Payload,
    pub(in crate::transfer) expected: &'a Fingerprint,
    /// Who knows whether the lease is held; none: it is asked for elsewhere.
    pub(in crate::transfer) ledger: Option<&'a dyn Ledger>,
    pub(in crate::transfer) patience: UploadRetry,
}

impl Placing<'_> {
    /// Puts it. What is ours and something else, as from an attempt that found other content, is replaced where that
    /// is allowed: it keeps its name, and no copies pile up.
    pub(in crate::transfer) async fn put(mut self, names: &mut FreeNames) -> Result<Archived> {
        self.expected.add_to(&mut self.attributes);
        let mut tries = self.patience.tries();
        let mut condition = Condition::Absent;
        let mut was_replaced = false;
        loop {
            if let Some(ledger) = self.ledger {
                check_lease(ledger).await?;
            }
            let key = names.key();
            let object = OwnedObject {
                key: &key,
                owner: self.owner,
                expected: self.expected,
                condition: &condition,
            };
            let objects = &*self.engine.objects;
            let written = put_owned(objects, object, self.payload, &self.attributes).await;
            let failure = match written {
                // A policy lets nothing be replaced.
                Err(error) if is_kept_from_replacing(&condition, &error) => {
                    names.next()?;
                    condition = Condition::Absent;
                    continue;
                }
                Err(error) => error,
                Ok(written) => match written.found {
                    UnderKey::Whole(archived) => return Ok(archived),
                    UnderKey::Others => {
                        names.next()?;
                        condition = Condition::Absent;
                        tries = self.patience.tries();
                        continue;
                    }
                    UnderKey::Wrong(info) => {
                        let is_again = is_replaced(&condition, written.answer.as_ref().ok());
                        if is_again
                            && !was_replaced
                            && let Some(archived) = doubt(self.engine, object).await
                        {
                            return Ok(archived);
                        }
                        was_replaced |= is_again;
                        let failure = wrong(&key, &info, self.expected, was_replaced);
                        condition = replacing(&key, &info)?;
                        failure
                    }
                    UnderKey::Nothing | UnderKey::Unproven(_) => {
                        condition = Condition::Absent;
                        missing(&key)
                    }
                },
            };
            if !tries.wait_after(&failure).await {
                return Err(failure);
            }
        }
    }
}

/// Whether a write has replaced what was ours.
pub(in crate::transfer) fn is_replaced(condition: &Condition, answer: Option<&WriteEnd>) -> bool {
    matches!(condition, Condition::Matches(_)) && answer == Some(&WriteEnd::Done)
}

/// Whether an object of ours may not be replaced: a policy of the bucket allows no overwriting, or it is locked.
pub(in crate::transfer) fn is_kept_from_replacing(condition: &Condition, error: &Error) -> bool {
    let is_denied = error.class() == Class::UploadDenied && !error.is_transient();
    matches!(condition, Condition::Matches(_)) && is_denied
}

/// What is wrong after it was written a second time: the object, or what the store says of it? That is tried on the
/// probe, which is read back. Gives the object when it is whole by all that can be believed.
pub(in crate::transfer) async fn doubt(
    engine: &Engine,
    object: OwnedObject<'_>,
) -> Option<Archived> {
    let key = object.key;
    tracing::warn!(
        key,
        "the store shows another checksum than that of what was sent, twice: trying whether its checksums are right"
    );
    let objects = &*engine.objects;
    let probed = objects.probe(&probe_key(engine.prefix())).await;
    if let Err(error) = probed {
        tracing::warn!(key, cause = %error.full_message(), "the store's checksums could not be tried");
        return None;
    }
    match find_owned(objects, key, object.owner, Some(object.expected)).await {
        Ok(UnderKey::Whole(archived)) => Some(archived),
        _ => None,
    }
}

/// A worker that was frozen for minutes must not seal what another one now works on.
pub(in crate::transfer) async fn check_lease(ledger: &dyn Ledger) -> Result<()> {
    if ledger.is_held().await {
        return Ok(());
    }
    Err(Error::transient(
        Class::Internal,
        "the lease is lost: the job belongs to another worker",
    ))
}
