//! Checksums of what comes in: computed while the bytes pass, compared with what the client said.
//!
//! CRC64NVME is computed of everything, since it costs next to nothing and makes the ETag; any other
//! algorithm only when the request names it.

use std::collections::BTreeMap;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crc_fast::{CrcAlgorithm, checksum_combine};
use md5::{Digest as _, Md5};
use s3s::{S3Result, s3_error};
use serde::{Deserialize, Serialize};

use crate::object::crc64nvme;

/// A checksum algorithm of S3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Algorithm {
    Crc32,
    Crc32c,
    Crc64nvme,
    Sha1,
    Sha256,
}

/// Values as S3 writes them: base64, big-endian.
pub(super) type Checksums = BTreeMap<Algorithm, String>;

impl Algorithm {
    pub(super) const ALL: [Algorithm; 5] = [
        Algorithm::Crc32,
        Algorithm::Crc32c,
        Algorithm::Crc64nvme,
        Algorithm::Sha1,
        Algorithm::Sha256,
    ];

    /// The name in S3's documents, such as `CRC64NVME`.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Algorithm::Crc32 => "CRC32",
            Algorithm::Crc32c => "CRC32C",
            Algorithm::Crc64nvme => "CRC64NVME",
            Algorithm::Sha1 => "SHA1",
            Algorithm::Sha256 => "SHA256",
        }
    }

    pub(super) fn parse(name: &str) -> S3Result<Algorithm> {
        Algorithm::ALL
            .into_iter()
            .find(|algorithm| algorithm.as_str().eq_ignore_ascii_case(name))
            .ok_or_else(|| s3_error!(InvalidRequest, "unknown checksum algorithm"))
    }

    /// The header that carries its value.
    pub(super) fn header(self) -> String {
        format!("x-amz-checksum-{}", self.as_str().to_ascii_lowercase())
    }

    /// The length of its value in bytes.
    pub(super) fn len(self) -> usize {
        match self {
            Algorithm::Crc32 | Algorithm::Crc32c => 4,
            Algorithm::Crc64nvme => 8,
            Algorithm::Sha1 => 20,
            Algorithm::Sha256 => 32,
        }
    }

    fn crc(self) -> Option<CrcAlgorithm> {
        match self {
            Algorithm::Crc32 => Some(CrcAlgorithm::Crc32IsoHdlc),
            Algorithm::Crc32c => Some(CrcAlgorithm::Crc32Iscsi),
            Algorithm::Crc64nvme => Some(CrcAlgorithm::Crc64Nvme),
            Algorithm::Sha1 | Algorithm::Sha256 => None,
        }
    }

    /// Whether the value of a whole can be folded from the values of its parts.
    pub(super) fn is_foldable(self) -> bool {
        self.crc().is_some()
    }

    fn encode_crc(self, value: u64) -> String {
        let bytes = value.to_be_bytes();
        STANDARD.encode(&bytes[bytes.len() - self.len()..])
    }
}

/// What the client said about a body.
#[derive(Debug, Default)]
pub(super) struct ExpectedBody {
    pub(super) md5: Option<Vec<u8>>,
    pub(super) checksums: Checksums,
    /// Algorithms whose value comes after the body, or that are to be stored without one.
    pub(super) announced: Vec<Algorithm>,
}

impl ExpectedBody {
    /// Reads `Content-MD5`.
    pub(super) fn with_md5(mut self, header: Option<&str>) -> S3Result<ExpectedBody> {
        if let Some(text) = header {
            let bytes = STANDARD.decode(text).ok().filter(|bytes| bytes.len() == 16);
            let bytes = bytes.ok_or_else(|| {
                s3_error!(InvalidDigest, "The Content-MD5 you specified is not valid.")
            })?;
            self.md5 = Some(bytes);
        }
        Ok(self)
    }

    /// Reads a checksum header or trailer.
    pub(super) fn with(
        mut self,
        algorithm: Algorithm,
        value: Option<&str>,
    ) -> S3Result<ExpectedBody> {
        let Some(value) = value else { return Ok(self) };
        let is_valid = STANDARD
            .decode(value)
            .is_ok_and(|bytes| bytes.len() == algorithm.len());
        if !is_valid {
            return Err(s3_error!(
                InvalidRequest,
                "Value for {} header is invalid.",
                algorithm.header()
            ));
        }
        self.checksums.insert(algorithm, value.to_owned());
        if self.checksums.len() > 1 {
            return Err(s3_error!(
                InvalidRequest,
                "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed."
            ));
        }
        Ok(self)
    }

    /// The algorithms to compute beside CRC64NVME.
    pub(super) fn algorithms(&self) -> Vec<Algorithm> {
        let mut all = self.announced.clone();
        all.extend(self.checksums.keys());
        all.sort();
        all.dedup();
        all
    }

    /// Compares with what came.
    pub(super) fn verify(&self, digested: &Digested) -> S3Result<()> {
        if self.md5.is_some() && self.md5 != digested.md5 {
            return Err(s3_error!(
                BadDigest,
                "The Content-MD5 you specified did not match what we received."
            ));
        }
        for (algorithm, expected) in &self.checksums {
            if digested.checksums.get(algorithm) != Some(expected) {
                return Err(s3_error!(
                    BadDigest,
                    "The {} you specified did not match the calculated checksum.",
                    algorithm.as_str()
                ));
            }
        }
        Ok(())
    }
}

/// What a body turned out to be.
#[derive(Clone, Debug)]
pub(super) struct Digested {
    pub(super) size_bytes: u64,
    pub(super) crc64nvme: u64,
    /// CRC64NVME and every other that was asked for.
    pub(super) checksums: Checksums,
    pub(super) md5: Option<Vec<u8>>,
}

/// Computes while the bytes pass.
pub(super) struct Hasher {
    size_bytes: u64,
    crcs: Vec<(Algorithm, crc_fast::Digest)>,
    shas: Vec<(Algorithm, digest::Context)>,
    md5: Option<Md5>,
}

impl Hasher {
    pub(super) fn new(expected: &ExpectedBody) -> Hasher {
        let mut crcs = vec![(
            Algorithm::Crc64nvme,
            crc_fast::Digest::new(CrcAlgorithm::Crc64Nvme),
        )];
        let mut shas = Vec::new();
        for algorithm in expected.algorithms() {
            match (algorithm, algorithm.crc()) {
                (Algorithm::Crc64nvme, _) => {}
                (_, Some(crc)) => crcs.push((algorithm, crc_fast::Digest::new(crc))),
                (Algorithm::Sha1, None) => {
                    let sha1 = &digest::SHA1_FOR_LEGACY_USE_ONLY;
                    shas.push((algorithm, digest::Context::new(sha1)));
                }
                (_, None) => shas.push((algorithm, digest::Context::new(&digest::SHA256))),
            }
        }
        Hasher {
            size_bytes: 0,
            crcs,
            shas,
            md5: expected.md5.as_ref().map(|_| Md5::new()),
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.size_bytes += bytes.len() as u64;
        for (_, crc) in &mut self.crcs {
            crc.update(bytes);
        }
        for (_, sha) in &mut self.shas {
            sha.update(bytes);
        }
        if let Some(md5) = &mut self.md5 {
            md5.update(bytes);
        }
    }

    pub(super) fn finish(self) -> Digested {
        let mut checksums = Checksums::new();
        let mut crc64nvme = 0;
        for (algorithm, crc) in self.crcs {
            let value = crc.finalize();
            if algorithm == Algorithm::Crc64nvme {
                crc64nvme = value;
            }
            checksums.insert(algorithm, algorithm.encode_crc(value));
        }
        for (algorithm, sha) in self.shas {
            checksums.insert(algorithm, STANDARD.encode(sha.finish()));
        }
        Digested {
            size_bytes: self.size_bytes,
            crc64nvme,
            checksums,
            md5: self.md5.map(|md5| md5.finalize().to_vec()),
        }
    }
}

/// The checksum of a whole, folded from its parts' values and lengths. `None` if it can't be folded or a
/// part has no value.
pub(super) fn fold<'a>(
    algorithm: Algorithm,
    parts: impl Iterator<Item = (Option<&'a String>, u64)>,
) -> Option<String> {
    let crc = algorithm.crc()?;
    let mut whole = 0;
    let mut is_first = true;
    for (value, size_bytes) in parts {
        let value = decode_crc(value?)?;
        whole = if is_first {
            value
        } else {
            match crc {
                CrcAlgorithm::Crc64Nvme => crc64nvme::combine(whole, value, size_bytes),
                crc => checksum_combine(crc, whole, value, size_bytes),
            }
        };
        is_first = false;
    }
    Some(algorithm.encode_crc(whole))
}

/// The number in a base64 CRC.
pub(super) fn decode_crc(value: &str) -> Option<u64> {
    let bytes = STANDARD.decode(value).ok().filter(|b| b.len() <= 8)?;
    Some(bytes.iter().fold(0, |n, byte| n << 8 | u64::from(*byte)))
}

/// The composite form: the hash over the parts' hashes, then the number of parts.
pub(super) fn composite<'a>(
    algorithm: Algorithm,
    parts: impl Iterator<Item = Option<&'a String>>,
) -> Option<String> {
    let mut hasher = Hasher::new(&ExpectedBody {
        announced: vec![algorithm],
        ..ExpectedBody::default()
    });
    let mut count = 0;
    for value in parts {
        hasher.update(&STANDARD.decode(value?).ok()?);
        count += 1;
    }
    let value = hasher.finish().checksums.remove(&algorithm)?;
    Some(format!("{value}-{count}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digested(bytes: &[u8]) -> Digested {
        let mut hasher = Hasher::new(&ExpectedBody {
            announced: Algorithm::ALL.to_vec(),
            md5: Some(vec![0; 16]),
            ..ExpectedBody::default()
        });
        hasher.update(bytes);
        hasher.finish()
    }

    #[test]
    fn values_are_those_of_the_published_check_input() {
        let digested = digested(b"123456789");
        let hex_of =
            |algorithm| hex::encode(STANDARD.decode(&digested.checksums[&algorithm]).unwrap());
        assert_eq!(hex_of(Algorithm::Crc32), "cbf43926");
        assert_eq!(hex_of(Algorithm::Crc32c), "e3069283");
        assert_eq!(hex_of(Algorithm::Crc64nvme), "ae8b14860a799888");
        assert_eq!(
            hex_of(Algorithm::Sha1),
            "f7c3bc1d808e04732adf679965ccc34ca7ae3441"
        );
        assert_eq!(
            hex::encode(digested.md5.unwrap()),
            "25f9e794323b453885f5181f1b624d0b"
        );
    }

    #[test]
    fn the_fold_of_parts_is_the_checksum_of_the_whole() {
        let parts: [&[u8]; 4] = [b"rec", b"ordi", b"", b"ng"];
        let whole = digested(b"recording");
        let parts = parts.map(digested);
        for algorithm in [Algorithm::Crc32, Algorithm::Crc32c, Algorithm::Crc64nvme] {
            let values = parts
                .iter()
                .map(|p| (p.checksums.get(&algorithm), p.size_bytes));
            assert_eq!(
                fold(algorithm, values),
                whole.checksums.get(&algorithm).cloned()
            );
        }
        assert_eq!(fold(Algorithm::Sha256, std::iter::empty()), None);
    }

    #[test]
    fn a_header_that_is_no_checksum_is_refused() {
        let expected = || ExpectedBody::default();
        assert!(expected().with_md5(Some("AAAA")).is_err());
        assert!(expected().with(Algorithm::Crc64nvme, Some("AAAA")).is_err());
        assert!(expected().with(Algorithm::Crc32, Some("AAAAAA==")).is_ok());
        let two = expected()
            .with(Algorithm::Crc32, Some("AAAAAA=="))
            .and_then(|e| e.with(Algorithm::Crc32c, Some("AAAAAA==")));
        assert!(two.is_err());
    }
}
