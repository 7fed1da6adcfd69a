//! Small objects into the bucket, each proved by asking what is there.

use std::sync::Arc;

use super::context::{Context, Found};
use super::piece::Landed;
use crate::error::{Class, Error, Result};
use crate::model::Archived;
use crate::object::{Attributes, Condition, Payload, encode_crc64nvme};
use crate::transfer::digest::PartDigest;
use crate::transfer::names::Names;
use crate::transfer::patience::{TRIES, wait_after};

/// Puts `payload` under the first name that is free or has it already.
pub(super) async fn put(
    context: &Context,
    names: &mut Names,
    payload: &Payload,
    origin: Option<&str>,
) -> Result<Landed> {
    let crc64nvme = encode_crc64nvme(payload.crc64nvme);
    let objects = &context.engine.objects;
    let mut tried = 0;
    loop {
        tried += 1;
        let key = names.key();
        let attributes = context.attributes(&key, origin);
        let put = objects
            .put(&key, payload, &attributes, Some(&Condition::Absent))
            .await;
        let put = match put {
            Err(error) if !error.is_transient() => return Err(error),
            put => put,
        };
        let is_same = |there: &Archived| {
            there.size_bytes == payload.size_bytes && there.crc64nvme == crc64nvme
        };
        let failure = match (context.find(&key, origin).await, put) {
            (Ok(Found::Ours(there)), _) if is_same(&there) => return Ok(there.into()),
            (Ok(Found::Nothing), Ok(_)) => Error::transient(
                Class::UploadFailed,
                format!("{key} is not in the bucket after it was written"),
            ),
            (Ok(Found::Nothing) | Err(_), Err(error)) | (Err(error), Ok(_)) => error,
            // Another's, or an earlier content of the same place.
            (Ok(Found::Others | Found::Ours(_)), _) => {
                names.next()?;
                tried = 0;
                continue;
            }
        };
        if !failure.is_transient() || tried >= TRIES {
            return Err(failure);
        }
        wait_after(tried).await;
    }
}

/// Puts a document over an earlier one of ours, else under the first free name from `key` on: unlike a piece, it
/// tells what is so now.
pub(super) async fn put_over(
    context: &Context,
    key: &str,
    payload: &Payload,
    content_type: Option<&str>,
) -> Result<Landed> {
    let mut names = Names::of(key);
    let mut tried = 0;
    loop {
        tried += 1;
        let key = names.key();
        let condition = match context.find(&key, None).await? {
            Found::Nothing => Condition::Absent,
            Found::Others => {
                names.next()?;
                continue;
            }
            Found::Ours(there) if is_same(&there, payload) => return Ok(there.into()),
            Found::Ours(there) => Condition::Matches(there.etag.unwrap_or_default()),
        };
        let mut attributes = context.attributes(&key, None);
        if let Some(content_type) = content_type {
            attributes.content_type = content_type.to_owned();
        }
        let ended = put_once(context, &key, payload, &attributes, &condition).await;
        match ended {
            Err(error) if error.is_transient() && tried < TRIES => wait_after(tried).await,
            ended => return ended.map(Landed::from),
        }
    }
}

/// Puts `payload` under `key` and looks whether it is there.
pub(super) async fn put_once(
    context: &Context,
    key: &str,
    payload: &Payload,
    attributes: &Attributes,
    condition: &Condition,
) -> Result<Archived> {
    let objects = &context.engine.objects;
    let ended = objects.put(key, payload, attributes, Some(condition)).await;
    match context.find(key, None).await {
        Ok(Found::Ours(there)) if is_same(&there, payload) => Ok(there),
        _ => Err(ended.err().unwrap_or_else(|| {
            Error::transient(
                Class::UploadFailed,
                format!("{key} is not in the bucket, or not as it was written"),
            )
        })),
    }
}

fn is_same(there: &Archived, payload: &Payload) -> bool {
    there.size_bytes == payload.size_bytes && there.crc64nvme == encode_crc64nvme(payload.crc64nvme)
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
