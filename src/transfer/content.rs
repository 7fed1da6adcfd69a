//! What is learnt of content as its parts pass: whether it is what it should be, and SHA-256 by setting.

use super::digest::ObjectDigest;
use crate::error::Result;
use crate::format::check::ContentCheck;
use crate::model::Format;
use crate::model::job::FinishedPart;
use crate::object::Payload;

/// What is learnt of one object's content.
pub(super) struct ObservedContent {
    /// Whether it is what its name says.
    pub(super) check: ContentCheck,
    sha256: ObjectDigest,
    has_length: bool,
}

impl ObservedContent {
    /// Nothing is known yet of content of `length` bytes.
    pub(super) fn new(format: Format, length: Option<u64>, with_sha256: bool) -> ObservedContent {
        ObservedContent {
            check: match length {
                Some(length) => ContentCheck::of_length(format, length),
                None => ContentCheck::new(format),
            },
            sha256: ObjectDigest::new(with_sha256),
            has_length: length.is_some(),
        }
    }

    /// Whether parts must come in order, and from the first.
    pub(super) fn needs_order(format: Format, with_sha256: bool) -> bool {
        with_sha256 || ContentCheck::needs_order(format)
    }

    /// Looks at the part that begins at `offset`.
    ///
    /// # Errors
    /// `corrupt` as soon as the content can't be what it should be.
    pub(super) fn take(&mut self, offset: u64, part: &Payload) -> Result<()> {
        for chunk in part.chunks.iter() {
            self.sha256.update_sha256(chunk);
        }
        if self.has_length {
            return self.check.feed_part(offset, &part.chunks);
        }
        part.chunks
            .iter()
            .try_for_each(|chunk| self.check.feed(chunk))
    }

    /// The checksums of the whole, which is made of `parts`.
    pub(super) fn digest(self, parts: &[FinishedPart]) -> ObjectDigest {
        let mut digest = self.sha256;
        for part in parts {
            digest.append(part.crc64nvme, part.size_bytes);
        }
        digest
    }
}
