//! By which checksum the store itself refuses damage: CRC64NVME, or Content-MD5 where it does not know that one.
//!
//! MD5 costs more than all the rest, so it is computed only for a store that has refused the other.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};

use super::S3Store;
use crate::error::{Error, Result};
use crate::object::{ChecksumSupport, Payload, decode_crc64nvme, encode_crc64nvme};

/// The header of a CRC64NVME, in a request and in its answer.
pub(super) const CRC64NVME: &str = "x-amz-checksum-crc64nvme";

/// What goes along with a payload: one of the first two, and the third where the signature has to cover it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Checksum {
    pub(super) crc64nvme: Option<String>,
    pub(super) md5: Option<String>,
    /// In hex.
    pub(super) sha256: Option<String>,
}

impl Checksum {
    /// As it travels (S3 API reference, PutObject).
    pub(super) fn named(&self) -> [(&'static str, Option<String>); 2] {
        [
            (CRC64NVME, self.crc64nvme.clone()),
            ("content-md5", self.md5.clone()),
        ]
    }
}

impl S3Store {
    /// Whether the store knows CRC64NVME, as far as that was seen.
    pub(super) fn knows_crc64nvme(&self) -> bool {
        self.is_crc64nvme_known.get() != Some(&false)
    }

    /// What the store has told of what it took with `sent`. One that has answered a CRC64NVME with a CRC64NVME is not
    /// doubted for one refusal, which may have had another reason.
    pub(super) fn note_crc64nvme(&self, sent: &Checksum, shown: Option<&str>) {
        if sent.crc64nvme.is_some() && shown.and_then(decode_crc64nvme).is_some() {
            let _ = self.is_crc64nvme_known.set(true);
        }
    }

    /// The store has taken without CRC64NVME what it had refused with it.
    pub(super) fn note_no_crc64nvme(&self) {
        if self.is_crc64nvme_known.set(false).is_ok() {
            self.note(|known| known.checksum = ChecksumSupport::Untold);
        }
    }

    /// The CRC64NVME that the store tells. What can't be one counts as none: moto without its CRC library tells a CRC32
    /// in its place, and whoever takes that for a checksum finds every object wrong.
    pub(super) fn told_crc64nvme(&self, told: Option<String>) -> Option<String> {
        let told = told?;
        if decode_crc64nvme(&told).is_some() {
            return Some(told);
        }
        self.note(|known| {
            if known.checksum != ChecksumSupport::Wrong {
                known.checksum = ChecksumSupport::Untold;
            }
        });
        None
    }

    /// The checksum of a payload.
    pub(super) async fn checksum(
        &self,
        payload: &Payload,
        uses_crc64nvme: bool,
    ) -> Result<Checksum> {
        let sha256 = self.sha256_to_sign(payload).await?;
        if uses_crc64nvme {
            return Ok(Checksum {
                crc64nvme: Some(encode_crc64nvme(payload.crc64nvme)),
                md5: None,
                sha256,
            });
        }
        let chunks = Arc::clone(&payload.chunks);
        let digest = tokio::task::spawn_blocking(move || {
            let mut digest = Md5::new();
            chunks.iter().for_each(|chunk| digest.update(chunk));
            digest.finalize()
        });
        let digest = digest
            .await
            .map_err(|error| Error::internal("compute an MD5").with_source(error))?;
        Ok(Checksum {
            crc64nvme: None,
            md5: Some(STANDARD.encode(digest)),
            sha256,
        })
    }
}
