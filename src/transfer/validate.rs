//! The judgement of content as a whole, before it gets its final name.

use bytes::Bytes;

use crate::error::{Class, Error};
use crate::format::check::{ContentCheck, ContentProof};
use crate::transfer::attempt::{TransferAttempt, wrong_size};
use crate::transfer::content::ObservedContent;
use crate::transfer::digest::PartDigest;
use crate::transfer::download::reader::{ContentVersion, OriginReader, Remote, Stop};

/// Places that are asked for again because their part came before it was known that they matter. A
/// recording has a handful of boxes; one in fragments is walked as it passes.
const MAX_PEEKS: u32 = 16;

impl TransferAttempt<'_> {
    /// Judges content of (length, checksum) `found`.
    pub(super) async fn check_content(
        &self,
        remote: Remote<'_>,
        version: &ContentVersion,
        is_end_certain: bool,
        content: &mut ObservedContent,
        found: (u64, u64),
    ) -> Result<(), Stop> {
        let (size_bytes, _) = found;
        if let Some(told) = self.job.size_bytes.filter(|told| *told != size_bytes) {
            return Err(wrong_size(told, size_bytes).into());
        }
        if size_bytes == 0 {
            return match self.job.size_bytes {
                Some(0) => Ok(()),
                _ => Err(Stop::Fail(Error::new(
                    Class::Corrupt,
                    "the origin sent an empty file",
                ))),
            };
        }
        let proof = match self.peek(remote, version, &mut content.check).await? {
            true => content.check.finish()?,
            false => ContentProof::None,
        };
        let is_proven =
            is_end_certain || self.job.size_bytes.is_some() || proof == ContentProof::Whole;
        if !is_proven {
            compare_with_second_reading(remote, found).await?;
        }
        Ok(())
    }

    /// Looks at what the check still has to see. Whether it has seen all.
    ///
    /// What can't be had any more does not condemn the content: length and checksum are the origin's. It is
    /// said, though.
    async fn peek(
        &self,
        remote: Remote<'_>,
        version: &ContentVersion,
        check: &mut ContentCheck,
    ) -> Result<bool, Stop> {
        for _ in 0..MAX_PEEKS {
            let Some((start, end)) = check.wanted() else {
                return Ok(true);
            };
            match read_range(remote, version, start, end).await {
                Ok(chunks) => check.feed_part(start, &chunks)?,
                Err(Stop::Fail(error)) => {
                    tracing::warn!(job = %self.job.id, cause = %error.full_message(), "the container could not be checked, length and checksum are right");
                    return Ok(false);
                }
                Err(stop) => return Err(stop),
            }
        }
        if check.wanted().is_none() {
            return Ok(true);
        }
        tracing::warn!(job = %self.job.id, "the container has too many boxes to check, length and checksum are right");
        Ok(false)
    }
}

async fn read_range(
    remote: Remote<'_>,
    version: &ContentVersion,
    start: u64,
    end: u64,
) -> Result<Vec<Bytes>, Stop> {
    let mut reader = OriginReader::open_range(remote, version, start, end).await?;
    let mut chunks = Vec::new();
    while let Some(chunk) = reader.next().await? {
        chunks.push(chunk);
    }
    Ok(chunks)
}

/// A body without a length that was cut looks like one that ended: it is read a second time.
async fn compare_with_second_reading(
    remote: Remote<'_>,
    (size_bytes, crc64nvme): (u64, u64),
) -> Result<(), Stop> {
    let mut reader = OriginReader::open_again(remote).await?;
    let mut digest = PartDigest::new();
    while let Some(chunk) = reader.next().await? {
        digest.update(&chunk);
    }
    if reader.position() == size_bytes && digest.crc64nvme() == crc64nvme {
        return Ok(());
    }
    Err(Stop::Fail(Error::transient(
        Class::Corrupt,
        format!(
            "the origin tells no length, and sent {size_bytes} bytes the first time and {} the second",
            reader.position()
        ),
    )))
}
