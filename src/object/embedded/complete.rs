//! The rules of CompleteMultipartUpload: pure decisions over the parts that came and the list that is asked for.

use std::collections::BTreeMap;

use s3s::dto::{CompletedPart, ETag};
use s3s::{S3Result, s3_error};

use super::checksum::{Algorithm, Checksums, composite, decode_crc, fold};
use super::uploads::{PartMeta, Upload};

/// Each part but the last has at least this (S3 limits).
const PART_MIN_BYTES: u64 = 5 << 20;

/// S3's highest part number.
pub(super) const PART_NUMBER_MAX: u32 = 10_000;

/// What a client says of the whole.
#[derive(Clone, Debug, Default)]
pub(super) struct ClaimedWhole {
    pub(super) checksums: Checksums,
    pub(super) is_composite: Option<bool>,
    pub(super) size_bytes: Option<i64>,
}

/// What the whole is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WholeObject {
    pub(super) parts: Vec<PartMeta>,
    pub(super) size_bytes: u64,
    pub(super) etag: String,
    pub(super) checksums: Checksums,
}

/// Checks the list and the claim, and computes the whole.
pub(super) fn seal(
    upload: &Upload,
    asked: &[CompletedPart],
    claim: &ClaimedWhole,
) -> S3Result<WholeObject> {
    let parts = select(&upload.parts, asked)?;
    let size_bytes = check_sizes(&parts, claim.size_bytes)?;
    let checksums = whole_checksums(upload, &parts, asked, claim)?;
    let values = parts
        .iter()
        .map(|part| (part.checksums.get(&Algorithm::Crc64nvme), part.size_bytes));
    let crc64nvme = fold(Algorithm::Crc64nvme, values)
        .and_then(|value| decode_crc(&value))
        .unwrap_or_default();
    Ok(WholeObject {
        etag: format!("{crc64nvme:016x}-{}", parts.len()),
        parts,
        size_bytes,
        checksums,
    })
}

/// The parts that the list names, in its order, which has to ascend.
fn select(parts: &BTreeMap<u32, PartMeta>, asked: &[CompletedPart]) -> S3Result<Vec<PartMeta>> {
    if asked.is_empty() {
        return Err(s3_error!(
            MalformedXML,
            "The XML you provided was not well-formed or did not validate against our published schema"
        ));
    }
    let mut selected: Vec<PartMeta> = Vec::with_capacity(asked.len());
    for wanted in asked {
        let number = wanted.part_number.and_then(|n| u32::try_from(n).ok());
        let number = number.filter(|n| (1..=PART_NUMBER_MAX).contains(n));
        let number = number.ok_or_else(|| {
            s3_error!(
                InvalidArgument,
                "Part number must be an integer between 1 and 10000, inclusive"
            )
        })?;
        if selected
            .last()
            .is_some_and(|previous| previous.number >= number)
        {
            return Err(s3_error!(
                InvalidPartOrder,
                "The list of parts was not in ascending order. Parts must be ordered by part number."
            ));
        }
        let part = parts.get(&number).filter(|part| is_meant(part, wanted));
        selected.push(part.ok_or_else(invalid_part)?.clone());
    }
    Ok(selected)
}

fn is_meant(part: &PartMeta, wanted: &CompletedPart) -> bool {
    let has_etag = wanted.e_tag.as_ref().and_then(ETag::as_strong) == Some(&part.etag);
    let checksums_agree = given(wanted)
        .iter()
        .all(|(algorithm, value)| part.checksums.get(algorithm) == Some(value));
    has_etag && checksums_agree
}

fn given(part: &CompletedPart) -> Checksums {
    [
        (Algorithm::Crc32, &part.checksum_crc32),
        (Algorithm::Crc32c, &part.checksum_crc32c),
        (Algorithm::Crc64nvme, &part.checksum_crc64nvme),
        (Algorithm::Sha1, &part.checksum_sha1),
        (Algorithm::Sha256, &part.checksum_sha256),
    ]
    .into_iter()
    .filter_map(|(algorithm, value)| Some((algorithm, value.clone()?)))
    .collect()
}

fn check_sizes(parts: &[PartMeta], claimed: Option<i64>) -> S3Result<u64> {
    let all_but_last = &parts[..parts.len().saturating_sub(1)];
    if let Some(small) = all_but_last.iter().find(|p| p.size_bytes < PART_MIN_BYTES) {
        return Err(s3_error!(
            EntityTooSmall,
            "Your proposed upload is smaller than the minimum allowed size: part {} has {} bytes",
            small.number,
            small.size_bytes
        ));
    }
    let size_bytes: u64 = parts.iter().map(|part| part.size_bytes).sum();
    if claimed.is_some_and(|claimed| u64::try_from(claimed) != Ok(size_bytes)) {
        return Err(s3_error!(
            InvalidRequest,
            "The provided 'x-amz-mp-object-size' header value does not match what was computed: {size_bytes}"
        ));
    }
    Ok(size_bytes)
}

fn whole_checksums(
    upload: &Upload,
    parts: &[PartMeta],
    asked: &[CompletedPart],
    claim: &ClaimedWhole,
) -> S3Result<Checksums> {
    let meta = &upload.meta;
    if claim
        .is_composite
        .is_some_and(|is_composite| is_composite != meta.is_composite)
    {
        return Err(s3_error!(
            InvalidRequest,
            "The complete request must use the checksum type that the upload was created with."
        ));
    }
    let algorithm = meta.algorithm;
    let values = parts.iter().map(|part| part.checksums.get(&algorithm));
    let value = if meta.is_composite {
        if asked
            .iter()
            .any(|part| !given(part).contains_key(&algorithm))
        {
            return Err(s3_error!(
                InvalidRequest,
                "The complete request must include the {} checksum for each part.",
                algorithm.as_str()
            ));
        }
        composite(algorithm, values)
    } else {
        fold(
            algorithm,
            values.zip(parts.iter().map(|part| part.size_bytes)),
        )
    };
    let value = value.ok_or_else(invalid_part)?;
    for (claimed_algorithm, claimed) in &claim.checksums {
        if *claimed_algorithm != algorithm || *claimed != value {
            return Err(s3_error!(
                BadDigest,
                "The {} you specified did not match the calculated checksum.",
                claimed_algorithm.as_str()
            ));
        }
    }
    Ok(Checksums::from([(algorithm, value)]))
}

fn invalid_part() -> s3s::S3Error {
    s3_error!(
        InvalidPart,
        "One or more of the specified parts could not be found. The part may not have been uploaded, or the specified entity tag may not match the part's entity tag."
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::embedded::checksum::{ExpectedBody, Hasher};
    use crate::object::embedded::object_meta::ObjectDescription;
    use crate::object::embedded::uploads::UploadMeta;
    use jiff::Timestamp;

    fn part(number: u32, size_bytes: u64) -> PartMeta {
        let mut hasher = Hasher::new(&ExpectedBody::default());
        hasher.update(&vec![0; usize::try_from(size_bytes).unwrap()]);
        PartMeta {
            number,
            size_bytes,
            etag: format!("etag-{number}"),
            checksums: hasher.finish().checksums,
            last_modified: Timestamp::UNIX_EPOCH,
            file: String::new(),
        }
    }

    fn upload(parts: Vec<PartMeta>) -> Upload {
        let meta = UploadMeta {
            id: String::new(),
            bucket: String::new(),
            key: String::new(),
            initiated: Timestamp::UNIX_EPOCH,
            algorithm: Algorithm::Crc64nvme,
            is_algorithm_named: true,
            is_composite: false,
            description: ObjectDescription::default(),
        };
        Upload::new(meta, parts)
    }

    fn ask(numbers: &[i32]) -> Vec<CompletedPart> {
        let part = |number: &i32| CompletedPart {
            part_number: Some(*number),
            e_tag: Some(ETag::Strong(format!("etag-{number}"))),
            ..CompletedPart::default()
        };
        numbers.iter().map(part).collect()
    }

    #[test]
    fn each_rule_of_the_list_has_its_own_code() {
        let upload = upload(vec![
            part(1, PART_MIN_BYTES),
            part(2, PART_MIN_BYTES - 1),
            part(5, 3),
        ]);
        let cases: [(&[i32], Result<u64, &str>); 9] = [
            (&[1], Ok(PART_MIN_BYTES)),
            (&[1, 5], Ok(PART_MIN_BYTES + 3)),
            (&[1, 2], Ok(2 * PART_MIN_BYTES - 1)),
            (&[], Err("MalformedXML")),
            (&[1, 2, 5], Err("EntityTooSmall")),
            (&[5, 1], Err("InvalidPartOrder")),
            (&[1, 1], Err("InvalidPartOrder")),
            (&[1, 3], Err("InvalidPart")),
            (&[0], Err("InvalidArgument")),
        ];
        for (numbers, expected) in cases {
            let sealed = seal(&upload, &ask(numbers), &ClaimedWhole::default());
            let sealed = sealed.map(|whole| whole.size_bytes);
            let sealed = sealed.map_err(|error| error.code().as_str().to_owned());
            assert_eq!(sealed, expected.map_err(str::to_owned), "{numbers:?}");
        }
    }

    #[test]
    fn what_the_client_says_of_the_whole_has_to_be_true() {
        let upload = upload(vec![part(1, 10)]);
        let whole = seal(&upload, &ask(&[1]), &ClaimedWhole::default()).unwrap();
        let right = ClaimedWhole {
            checksums: whole.checksums.clone(),
            is_composite: Some(false),
            size_bytes: Some(10),
        };
        assert_eq!(seal(&upload, &ask(&[1]), &right).unwrap(), whole);
        let other = Checksums::from([(Algorithm::Crc64nvme, "AAAAAAAAAAA=".to_owned())]);
        let wrong = [
            ClaimedWhole {
                checksums: other,
                ..right.clone()
            },
            ClaimedWhole {
                size_bytes: Some(11),
                ..right.clone()
            },
            ClaimedWhole {
                is_composite: Some(true),
                ..right
            },
        ];
        for claim in wrong {
            assert!(seal(&upload, &ask(&[1]), &claim).is_err(), "{claim:?}");
        }
    }
}
