//! Checksums of what passes: CRC64NVME of each part, combined for the whole; SHA-256 by setting.

use aws_lc_rs::digest::{Context, SHA256};
use crc_fast::CrcAlgorithm::Crc64Nvme;

use crate::object::crc64nvme;

/// The checksum of a part while it is read.
pub struct PartDigest(crc_fast::Digest);

impl Default for PartDigest {
    fn default() -> Self {
        PartDigest::new()
    }
}

impl PartDigest {
    /// Of nothing yet.
    pub fn new() -> PartDigest {
        PartDigest(crc_fast::Digest::new(Crc64Nvme))
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// CRC64NVME of what was added.
    pub fn crc64nvme(&self) -> u64 {
        self.0.finalize()
    }
}

/// The checksums of a whole object, part after part.
pub struct ObjectDigest {
    crc64nvme: u64,
    size_bytes: u64,
    sha256: Option<Context>,
}

impl ObjectDigest {
    /// Of nothing yet; with SHA-256 when asked for.
    pub fn new(with_sha256: bool) -> ObjectDigest {
        ObjectDigest {
            crc64nvme: 0,
            size_bytes: 0,
            sha256: with_sha256.then(|| Context::new(&SHA256)),
        }
    }

    /// Adds bytes to SHA-256, which unlike the CRC can't be combined from parts.
    pub fn update_sha256(&mut self, bytes: &[u8]) {
        if let Some(context) = &mut self.sha256 {
            context.update(bytes);
        }
    }

    /// Adds the next part's checksum.
    pub fn append(&mut self, crc64nvme: u64, size_bytes: u64) {
        if size_bytes > 0 {
            self.crc64nvme = match self.size_bytes {
                0 => crc64nvme,
                _ => crc64nvme::combine(self.crc64nvme, crc64nvme, size_bytes),
            };
        }
        self.size_bytes += size_bytes;
    }

    /// CRC64NVME of all parts.
    pub fn crc64nvme(&self) -> u64 {
        match self.size_bytes {
            0 => PartDigest::new().crc64nvme(),
            _ => self.crc64nvme,
        }
    }

    /// The length of all parts in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// SHA-256 in hex, where it was asked for.
    pub fn sha256(&self) -> Option<String> {
        let context = self.sha256.clone()?;
        Some(hex::encode(context.finish()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_combine_to_the_checksum_of_the_whole() {
        let data: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
        let mut whole = ObjectDigest::new(true);
        for part in data.chunks(77_777) {
            let mut digest = PartDigest::new();
            part.chunks(1000).for_each(|chunk| {
                digest.update(chunk);
                whole.update_sha256(chunk);
            });
            whole.append(digest.crc64nvme(), part.len() as u64);
        }
        assert_eq!(whole.crc64nvme(), crc_fast::checksum(Crc64Nvme, &data));
        assert_eq!(whole.size_bytes(), data.len() as u64);
        let sha = aws_lc_rs::digest::digest(&SHA256, &data);
        assert_eq!(whole.sha256(), Some(hex::encode(sha)));
    }

    #[test]
    fn the_checksum_of_the_check_string_is_the_published_one() {
        let mut digest = PartDigest::new();
        digest.update(b"123456789");
        assert_eq!(digest.crc64nvme(), 0xAE8B_1486_0A79_9888);
        assert_eq!(ObjectDigest::new(false).crc64nvme(), 0);
    }
}
