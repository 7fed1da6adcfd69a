//! What an earlier attempt has left of a piece: taken only if the origin still has the same file.
//!
//! A provider may make a recording anew between two attempts, under the same names: then one half of it would be of
//! another encoding. So each piece carries what the origin told of its content, and the origin is asked for one byte of
//! it before it is taken. An origin that no longer answers has nothing better: what is there is kept.

use futures::StreamExt;

use super::context::Context;
use super::piece::Piece;
use crate::error::Result;
use crate::model::Archived;
use crate::model::key::short_hash;
use crate::object::ObjectInfo;
use crate::object::owned::{UnderKey, judge};
use crate::source::Opened;
use crate::transfer::names::Names;

/// The metadata key of the length of what the origin had.
const LENGTH_METADATA_KEY: &str = "harvester-origin-length";

/// The metadata key of a hash of the validator (ETag, else Last-Modified) of what the origin had.
const VALIDATOR_METADATA_KEY: &str = "harvester-origin-validator";

/// What tells the content of a file from another content of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Version {
    /// Bytes, if told.
    pub(super) length: Option<u64>,
    validator: Option<String>,
}

impl Version {
    /// What the origin's answer tells.
    pub(super) fn of(opened: &Opened) -> Version {
        let hash = |validator: &String| short_hash(validator.as_bytes());
        Version {
            length: opened.length,
            validator: opened.validator.as_ref().map(hash),
        }
    }

    /// What a piece's object tells of its origin.
    fn of_object(info: &ObjectInfo) -> Version {
        Version {
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
    fn may_be(&self, other: &Version) -> bool {
        fn agree<T: PartialEq>(one: Option<&T>, other: Option<&T>) -> bool {
            one.zip(other).is_none_or(|(one, other)| one == other)
        }
        agree(self.length.as_ref(), other.length.as_ref())
            && agree(self.validator.as_ref(), other.validator.as_ref())
    }
}

/// The piece as an earlier attempt has left it; `None` when it has to be fetched, under the name that `names` has then.
pub(super) async fn find(
    context: &Context,
    piece: &Piece,
    names: &mut Names,
) -> Result<Option<Archived>> {
    let owner = context.owner(Some(&piece.origin()));
    let objects = &context.engine.objects;
    loop {
        let key = names.key();
        let Some(info) = objects.head(&key).await? else {
            return Ok(None);
        };
        let left = Version::of_object(&info);
        match judge(&key, info, &owner, None, objects.capabilities()) {
            UnderKey::Whole(archived) if context.is_of_this_attempt(&key) => {
                return Ok(Some(archived));
            }
            UnderKey::Whole(archived) => {
                let Some(now) = ask(context, piece).await else {
                    return Ok(Some(archived));
                };
                let plain = Version {
                    length: Some(archived.size_bytes).filter(|_| piece.cipher.is_none()),
                    validator: None,
                };
                if now.may_be(&left) && now.may_be(&plain) {
                    return Ok(Some(archived));
                }
                tracing::info!(
                    key,
                    "the origin has another file than an earlier attempt: fetching it again"
                );
                // A small one is replaced under its name. A large one would be found there by who carries it.
                let part_bytes = context.engine.settings.part_size_bytes;
                let largest = now.length.map(|length| length.max(archived.size_bytes));
                if largest.is_none_or(|largest| largest > part_bytes) {
                    names.next()?;
                    continue;
                }
                return Ok(None);
            }
            UnderKey::Others => names.next()?,
            // What is ours and not known to be whole is found equal or replaced when it is put.
            UnderKey::Nothing | UnderKey::Wrong(_) | UnderKey::Unproven(_) => return Ok(None),
        }
    }
}

/// What the origin has now; `None` when it does not say.
async fn ask(context: &Context, piece: &Piece) -> Option<Version> {
    let asked = context.open_byte(&piece.url, piece.is_relative, &piece.token);
    match asked.await {
        Ok(mut opened) => {
            let version = Version::of(&opened);
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
        let version = |length, validator: Option<&str>| Version {
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
        assert_eq!(Version::of_object(&info), left);
    }
}
