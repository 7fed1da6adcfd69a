//! Small objects into the bucket, each proved by asking what is there.

use std::sync::Arc;

use super::context::HlsAttempt;
use super::piece::Landed;
use crate::error::{Class, Error, Result};
use crate::model::Archived;
use crate::model::job::Fingerprint;
use crate::object::owned::{OwnedObject, OwnedWrite, UnderKey, find_owned, put_owned, replacing};
use crate::object::{Condition, ObjectAttributes, Payload};
use crate::transfer::digest::PartDigest;
use crate::transfer::free_name::FreeNames;
use crate::transfer::upload::retry::{TRIES, UploadRetry, wait_after};
use crate::transfer::upload::single_put::Placing;

/// Puts `payload`, which came from `origin`, under the first name that is free or ours. `version` is metadata that tells
/// what the origin had.
pub(super) async fn put(
    context: &HlsAttempt,
    names: &mut FreeNames,
    payload: &Payload,
    origin: &str,
    version: Vec<(String, String)>,
) -> Result<Landed> {
    let mut attributes = context.attributes(&names.key(), Some(origin));
    attributes.metadata.extend(version);
    let placing = Placing {
        engine: &context.engine,
        owner: &context.owner(Some(origin)),
        attributes,
        payload,
        expected: &Fingerprint::of(payload),
        ledger: None,
        patience: UploadRetry::new(&context.engine, context.job.deadline).unheld(),
    };
    placing.put(names).await.map(Landed::from)
}

/// Puts a document over an earlier one of ours, else under the first free name from `key` on: unlike a piece, it
/// tells what is so now.
pub(super) async fn put_over(
    context: &HlsAttempt,
    key: &str,
    payload: &Payload,
    content_type: Option<&str>,
) -> Result<Landed> {
    let mut names = FreeNames::of(key);
    loop {
        let key = names.key();
        let mut attributes = context.attributes(&key, None);
        if let Some(content_type) = content_type {
            attributes.content_type = content_type.to_owned();
        }
        match put_document(context, &key, payload, attributes).await? {
            Some(archived) => return Ok(archived.into()),
            None => names.next()?,
        }
    }
}

/// Puts a document over an earlier one of ours; `None` when somebody else's has the name.
pub(super) async fn put_document(
    context: &HlsAttempt,
    key: &str,
    payload: &Payload,
    mut attributes: ObjectAttributes,
) -> Result<Option<Archived>> {
    let objects = &*context.engine.objects;
    let owner = context.owner(None);
    let expected = Fingerprint::of(payload);
    expected.add_to(&mut attributes);
    let look = || find_owned(objects, key, &owner, Some(&expected));
    let mut found = look().await?;
    let mut tried = 0;
    loop {
        let condition = match found {
            UnderKey::Whole(archived) => return Ok(Some(archived)),
            UnderKey::Others => return Ok(None),
            UnderKey::Nothing => Condition::Absent,
            UnderKey::Wrong(info) | UnderKey::Unproven(info) => replacing(key, &info)?,
        };
        tried += 1;
        let object = OwnedObject {
            key,
            owner: &owner,
            expected: &expected,
            condition: &condition,
        };
        let (failure, there) = match put_owned(objects, object, payload, &attributes).await {
            Ok(OwnedWrite {
                found: there @ (UnderKey::Whole(_) | UnderKey::Others),
                ..
            }) => {
                found = there;
                continue;
            }
            Ok(OwnedWrite { answer, found }) => {
                (answer.err().unwrap_or_else(|| not_there(key)), Some(found))
            }
            Err(error) => (error, None),
        };
        if !failure.is_transient() || tried >= TRIES {
            return Err(failure);
        }
        wait_after(tried).await;
        found = match there {
            Some(there) => there,
            None => look().await?,
        };
    }
}

fn not_there(key: &str) -> Error {
    Error::transient(
        Class::UploadFailed,
        format!("{key} is not in the bucket, or not as it was written"),
    )
}

/// A payload of bytes that are here.
pub(super) fn payload_of(bytes: Vec<u8>) -> Payload {
    let mut digest = PartDigest::new();
    digest.update(&bytes);
    Payload {
        size_bytes: bytes.len() as u64,
        crc64nvme: digest.crc64nvme(),
        chunks: Arc::new(vec![bytes.into()]),
    }
}
