//! What an earlier attempt has left of a piece: taken only if the origin still has the same file.
//!
//! A provider may make a recording anew between two attempts, under the same names: then one half of it would be of
//! another encoding. So each piece carries what the origin told of its content, and the origin is asked for one byte of
//! it before it is taken. An origin that no longer answers has nothing better: what is there is kept.
//!
//! A large piece went up in parts, so that it does not carry its checksum. Where the store tells none either, it is read
//! back for it.

use futures::StreamExt;

use super::context::HlsAttempt;
use super::piece::HlsFile;
use crate::error::Result;
use crate::model::Archived;
use crate::model::job::Fingerprint;
use crate::model::key::short_hash;
use crate::object::owned::{UnderKey, judge};
use crate::object::{ObjectInfo, encode_crc64nvme};
use crate::source::Opened;
use crate::transfer::digest::PartDigest;
use crate::transfer::free_name::FreeNames;

/// The metadata key of the length of what the origin had.
const LENGTH_METADATA_KEY: &str = "harvester-origin-length";

/// The metadata key of a hash of the validator (ETag, else Last-Modified) of what the origin had.
const VALIDATOR_METADATA_KEY: &str = "harvester-origin-validator";

/// What is read of an object at once.
const READ_BYTES: u64 = 1 << 20;

/// What tells the content of a file from another content of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FileVersion {
    /// Bytes, if told.
    pub(super) length: Option<u64>,
    validator: Option<String>,
}

impl FileVersion {
    /// What the origin's answer tells.
    pub(super) fn of(opened: &Opened) -> FileVersion {
        let hash = |validator: &String| short_hash(validator.as_bytes());
        FileVersion {
            length: opened.length,
            validator: opened.validator.as_ref().map(hash),
        }
    }

    /// What a piece's object tells of its origin.
    fn of_object(info: &ObjectInfo) -> FileVersion {
        FileVersion {
            length: info
                .metadata(LENGTH_METADATA_KEY)
                .and_then(|text| text.parse().ok()),
            validator: info.metadata(VALIDATOR_METADATA_KEY).map(str::to_owned),
        }
    }

    /// What the object is stored with.
    pub(super) fn metadata(&self) -> Vec<(String, String)> {
        let pairs = [
            (
                LENGTH_METADATA_KEY,
                self.length.map(|bytes| bytes.to_string()),
            ),
            (VALIDATOR_METADATA_KEY, self.validator.clone()),
        ];
        let told = pairs
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value?)));
        told.collect()
    }

    /// Whether both may be of one content. What only one of them tells says nothing.
    fn may_be(&self, other: &FileVersion) -> bool {
        fn agree<T: PartialEq>(one: Option<&T>, other: Option<&T>) -> bool {
            one.zip(other).is_none_or(|(one, other)| one == other)
        }
        agree(self.length.as_ref(), other.length.as_ref())
            && agree(self.validator.as_ref(), other.validator.as_ref())
    }
}

/// The piece as an earlier attempt has left it; `None` when it has to be fetched, under the name that `names` has then.
pub(super) async fn find(
    context: &HlsAttempt,
    piece: &HlsFile,
    names: &mut FreeNames,
) -> Result<Option<Archived>> {
    let owner = context.owner(Some(&piece.origin()));
    let objects = &context.engine.objects;
    loop {
        let key = names.key();
        let Some(info) = objects.head(&key).await? else {
            return Ok(None);
        };
        let left = FileVersion::of_object(&info);
        let size_bytes = info.size_bytes;
        let there = judge(&key, info, &owner, None, objects.capabilities());
        match there {
            UnderKey::Whole(_) | UnderKey::Unproven(_) => {}
            UnderKey::Others => {
                names.next()?;
                continue;
            }
            // What is ours and wrong is replaced when it is put.
            UnderKey::Nothing | UnderKey::Wrong(_) => return Ok(None),
        }
        let now = match context.is_of_this_attempt(&key) {
            true => None,
            false => ask(context, piece).await,
        };
        let plain = FileVersion {
            length: Some(size_bytes).filter(|_| piece.cipher.is_none()),
            validator: None,
        };
        let other = now.filter(|now| !now.may_be(&left) || !now.may_be(&plain));
        let Some(other) = other else {
            return Ok(match there {
                UnderKey::Whole(archived) => Some(archived),
                UnderKey::Unproven(info) => read_back(context, &key, info).await,
                UnderKey::Others | UnderKey::Nothing | UnderKey::Wrong(_) => None,
            });
        };
        tracing::info!(
            key,
            "the origin has another file than an earlier attempt: fetching it again"
        );
        // A small one is replaced under its name. A large one would be found there by who carries it.
        let part_bytes = context.engine.settings.part_size_bytes;
        let largest = other.length.map(|length| length.max(size_bytes));
        if largest.is_some_and(|largest| largest <= part_bytes) {
            return Ok(None);
        }
        names.next()?;
    }
}

/// A piece of ours that nothing tells the checksum of. What was completed came whole, since its parts were checked on
/// their way; `None` when it can't be read: then it is fetched again.
async fn read_back(context: &HlsAttempt, key: &str, info: ObjectInfo) -> Option<Archived> {
    let mut digest = PartDigest::new();
    let mut start = 0;
    while start < info.size_bytes {
        if context.stop.is_cancelled() {
            return None;
        }
        let length = READ_BYTES.min(info.size_bytes - start);
        let objects = &context.engine.objects;
        let read = objects.get_range(key, info.etag.as_deref(), start, length);
        match read.await {
            Ok(bytes) => digest.update(&bytes),
            Err(error) => {
                tracing::debug!(key, cause = %error.full_message(), "a piece can't be read back");
                return None;
            }
        }
        start += length;
        context.waits.end();
    }
    let print = Fingerprint {
        size_bytes: info.size_bytes,
        crc64nvme: encode_crc64nvme(digest.crc64nvme()),
        sha256: None,
    };
    Some(print.archived(key, info))
}

/// What the origin has now; `None` when it does not say.
async fn ask(context: &HlsAttempt, piece: &HlsFile) -> Option<FileVersion> {
    let asked = context.open_byte(&piece.url, piece.is_relative, &piece.token);
    match asked.await {
        Ok(mut opened) => {
            let version = FileVersion::of(&opened);
            // To its end, so that the connection can be used again; a whole file is let go.
            let is_byte = opened.accepts_ranges && version.length.is_some();
            while is_byte && matches!(opened.body.next().await, Some(Ok(chunk)) if chunk.len() <= 1)
            {
            }
            Some(version)
        }
        Err(error) => {
            let cause = error.full_message();
            tracing::debug!(
                key = piece.key,
                cause,
                "the origin does not say whether it has the same"
            );
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_both_tell_tells_two_contents_apart() {
        let version = |length, validator: Option<&str>| FileVersion {
            length,
            validator: validator.map(str::to_owned),
        };
        let left = version(Some(5), Some("a"));
        for (now, is_same) in [
            (version(Some(5), Some("a")), true),
            (version(Some(5), None), true),
            (version(None, Some("a")), true),
            (version(None, None), true),
            (version(Some(6), Some("a")), false),
            (version(Some(5), Some("b")), false),
        ] {
            assert_eq!(now.may_be(&left), is_same, "{now:?}");
            assert_eq!(left.may_be(&now), is_same, "{now:?}");
        }
        let info = ObjectInfo {
            size_bytes: 1,
            etag: None,
            version_id: None,
            crc64nvme: None,
            metadata: left.metadata(),
        };
        assert_eq!(FileVersion::of_object(&info), left);
    }
}
