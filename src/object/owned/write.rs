//! The one way in which our objects are written: under a condition, and then asked for.

use super::{Owner, UnderKey, judge, prove};
use crate::error::{Class, Error, Result};
use crate::model::job::{Fingerprint, FinishedPart};
use crate::object::{Condition, ObjectAttributes, ObjectInfo, ObjectStore, Payload, WriteEnd};

/// Asks what is under `key`, and judges it as [`judge`] does.
///
/// # Errors
/// As [`ObjectStore::head`].
pub async fn find_owned(
    objects: &dyn ObjectStore,
    key: &str,
    owner: &Owner,
    expected: Option<&Fingerprint>,
) -> Result<UnderKey> {
    Ok(match objects.head(key).await? {
        None => UnderKey::Nothing,
        Some(info) => judge(key, info, owner, expected, objects.capabilities()),
    })
}

/// The condition under which an object of ours is replaced.
///
/// # Errors
/// `upload_failed` when the store tells no ETag of it.
pub fn replacing(key: &str, info: &ObjectInfo) -> Result<Condition> {
    let etag = info.etag.clone().map(Condition::Matches);
    etag.ok_or_else(|| {
        Error::new(
            Class::UploadFailed,
            format!("replace {key}: the object store tells no ETag of it"),
        )
    })
}

/// What a write led to.
#[derive(Debug)]
pub struct OwnedWrite {
    /// How the store answered.
    pub answer: Result<WriteEnd>,
    /// What is under the key now.
    pub found: UnderKey,
}

/// One object to write.
#[derive(Clone, Copy)]
pub struct OwnedObject<'a> {
    /// Where it goes.
    pub key: &'a str,
    /// Whose it is.
    pub owner: &'a Owner,
    /// What it should be.
    pub expected: &'a Fingerprint,
    /// When it may be written.
    pub condition: &'a Condition,
}

/// Puts an object in one request and proves what is there then.
///
/// # Errors
/// The write's own when it was refused for good, or when nothing shows that it was made all the same.
pub async fn put_owned(
    objects: &dyn ObjectStore,
    object: OwnedObject<'_>,
    payload: &Payload,
    attributes: &ObjectAttributes,
) -> Result<OwnedWrite> {
    let condition = Some(object.condition);
    let put = objects
        .put_shown(object.key, payload, attributes, condition)
        .await;
    if let Ok(put) = &put
        && let Some(info) = &put.shown
        && prove(info, object.expected, objects.capabilities())
    {
        return Ok(OwnedWrite {
            answer: Ok(put.end),
            found: UnderKey::Whole(object.expected.archived(object.key, info.clone())),
        });
    }
    settle(objects, object, put.map(|put| put.end)).await
}

/// The end of an upload.
#[derive(Clone, Copy)]
pub struct UploadEnd<'a> {
    /// The upload's id.
    pub upload_id: &'a str,
    /// Its parts in order.
    pub parts: &'a [FinishedPart],
    /// CRC64NVME of all of them.
    pub crc64nvme: u64,
}

/// Completes an upload and proves what is there then.
///
/// # Errors
/// As [`put_owned`].
pub async fn complete_owned(
    objects: &dyn ObjectStore,
    object: OwnedObject<'_>,
    upload: UploadEnd<'_>,
) -> Result<OwnedWrite> {
    let (size_bytes, condition) = (object.expected.size_bytes, Some(object.condition));
    let UploadEnd {
        upload_id,
        parts,
        crc64nvme,
    } = upload;
    let ended = objects
        .complete(
            object.key, upload_id, parts, size_bytes, crc64nvme, condition,
        )
        .await;
    settle(objects, object, ended).await
}

/// What a write led to. Its own error comes first when nothing is there.
async fn settle(
    objects: &dyn ObjectStore,
    object: OwnedObject<'_>,
    answer: Result<WriteEnd>,
) -> Result<OwnedWrite> {
    let look = || find_owned(objects, object.key, object.owner, Some(object.expected));
    let found = match &answer {
        Err(error) if !error.is_transient() => None,
        Err(_) => match look().await {
            Ok(UnderKey::Nothing) | Err(_) => None,
            Ok(found) => Some(found),
        },
        Ok(_) => Some(look().await?),
    };
    match (answer, found) {
        (answer, Some(found)) => Ok(OwnedWrite { answer, found }),
        (Err(error), None) => Err(error),
        (Ok(_), None) => Err(missing(object.key)),
    }
}

/// That a write was acknowledged and nothing is there.
pub fn missing(key: &str) -> Error {
    Error::transient(
        Class::UploadFailed,
        format!("{key} is not in the bucket after it was written"),
    )
}

/// That what is there, and ours, is not what was sent. `is_again`: also after it was replaced.
pub fn wrong(key: &str, info: &ObjectInfo, expected: &Fingerprint, is_again: bool) -> Error {
    let shown = info.crc64nvme.as_deref().unwrap_or("no checksum");
    let (there, sent) = (info.size_bytes, expected.size_bytes);
    let crc64nvme = &expected.crc64nvme;
    let again = match is_again {
        true => {
            ", also after it was written once more: the store's checksums are not to be believed, or it damages what it \
             is given; try another version of it"
        }
        false => "",
    };
    Error::transient(
        Class::UploadFailed,
        format!(
            "{key} is not what was sent: the store shows {there} bytes and {shown}, sent were {sent} bytes of {crc64nvme}{again}"
        ),
    )
}
