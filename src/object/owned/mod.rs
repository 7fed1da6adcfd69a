//! Our objects: what marks them as ours, what proves that they are what was sent, and the one way to write them.
//!
//! *Marks.* Every object carries in its metadata whose it is: a job's, a recording's documents'. One that goes
//! up in one request also carries its size and checksums, so that it tells itself what it should be.
//! *Proof.* After a write the bucket is asked what is there; only the answer to a Put that tells the
//! checksum of what was stored is as good. An object is what it should be when size and CRC64NVME are those of
//! what was sent. Where the store tells no CRC64NVME, or one that is not to be believed, the proof is that the
//! object is ours, has the size, and carries no other checksum in its metadata.

mod write;

pub use write::{
    OwnedObject, OwnedWrite, UploadEnd, complete_owned, find_owned, missing, put_owned, replacing,
    wrong,
};

use crate::model::job::Fingerprint;
use crate::model::{Archived, Job, JobId, RecordingId};
use crate::object::{Capabilities, ObjectAttributes, ObjectInfo, Payload, encode_crc64nvme};

/// The metadata key (`x-amz-meta-harvester-job`) of the job that an object belongs to.
pub const JOB_METADATA_KEY: &str = "harvester-job";
/// Of the recording that a document tells of.
pub const RECORDING_METADATA_KEY: &str = "harvester-recording";
/// Of the configured source that the job came through. An object of another source is never ours.
pub const SOURCE_METADATA_KEY: &str = "harvester-source";
/// Of the provider.
pub const PROVIDER_METADATA_KEY: &str = "harvester-provider";
/// Of a hash of where one file of a playlist came from.
pub const ORIGIN_METADATA_KEY: &str = "harvester-origin";
/// Of where the list of a playlist's files is.
pub const RESOURCES_METADATA_KEY: &str = "harvester-resources";
/// Of the size in bytes that an object should have.
pub const SIZE_METADATA_KEY: &str = "harvester-size";
/// Of its CRC64NVME, as S3 writes it.
pub const CRC_METADATA_KEY: &str = "harvester-crc64nvme";
/// Of its SHA-256 in hex.
pub const SHA256_METADATA_KEY: &str = "harvester-sha256";

/// Whose objects are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    whose: (&'static str, String),
    /// The source and the provider, as the metadata has them.
    source: Option<(String, String)>,
    /// A hash of where the object came from; none: from anywhere.
    origin: Option<String>,
}

/// Whose an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// The owner's own.
    Ours,
    /// Another job's of the same source: a harvester put it there, maybe for a job that the store has
    /// forgotten, as after a restored backup.
    Sibling,
    /// Somebody else's.
    Foreign,
}

impl Owner {
    /// What a job puts into the bucket.
    pub fn of_job(job: &Job) -> Owner {
        // What a header can't carry is left out.
        let source = job.source.chars().filter(char::is_ascii_graphic).collect();
        Owner {
            whose: (JOB_METADATA_KEY, job.id.to_string()),
            source: Some((source, job.provider.to_string())),
            origin: None,
        }
    }

    /// What a job has put there, for those who know no more than its id.
    pub fn of_job_id(job: JobId) -> Owner {
        Owner {
            whose: (JOB_METADATA_KEY, job.to_string()),
            source: None,
            origin: None,
        }
    }

    /// The documents about a recording.
    pub fn of_recording(recording: RecordingId) -> Owner {
        Owner {
            whose: (RECORDING_METADATA_KEY, recording.to_string()),
            source: None,
            origin: None,
        }
    }

    /// Only what came from where this hash tells.
    #[must_use]
    pub fn from_origin(mut self, hash: Option<String>) -> Owner {
        self.origin = hash;
        self
    }

    /// The marks that its objects carry.
    pub fn metadata(&self) -> Vec<(String, String)> {
        let (key, id) = &self.whose;
        let source = self.source.as_ref();
        let pairs = [
            (*key, Some(id)),
            (PROVIDER_METADATA_KEY, source.map(|(_, provider)| provider)),
            (SOURCE_METADATA_KEY, source.map(|(source, _)| source)),
            (ORIGIN_METADATA_KEY, self.origin.as_ref()),
        ];
        pairs
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value?.clone())))
            .collect()
    }

    /// Whose the object is.
    pub fn ownership(&self, info: &ObjectInfo) -> Ownership {
        let (key, id) = &self.whose;
        let has = |key, value: Option<&String>| {
            value.is_none_or(|value| info.metadata(key) == Some(value.as_str()))
        };
        let is_origin = has(ORIGIN_METADATA_KEY, self.origin.as_ref());
        if info.metadata(key) == Some(id.as_str()) {
            return match is_origin {
                true => Ownership::Ours,
                false => Ownership::Foreign,
            };
        }
        let source = self.source.as_ref().map(|(source, _)| source);
        let is_sibling = source.is_some()
            && has(SOURCE_METADATA_KEY, source)
            && is_origin
            && info.metadata(JOB_METADATA_KEY).is_some();
        match is_sibling {
            true => Ownership::Sibling,
            false => Ownership::Foreign,
        }
    }
}

impl Fingerprint {
    /// Of a payload.
    pub fn of(payload: &Payload) -> Fingerprint {
        Fingerprint {
            size_bytes: payload.size_bytes,
            crc64nvme: encode_crc64nvme(payload.crc64nvme),
            sha256: None,
        }
    }

    /// The artifact whose object shows this.
    pub fn archived(&self, key: &str, info: ObjectInfo) -> Archived {
        Archived {
            key: key.to_owned(),
            size_bytes: self.size_bytes,
            crc64nvme: self.crc64nvme.clone(),
            sha256: self.sha256.clone(),
            etag: info.etag,
            version_id: info.version_id,
        }
    }

    /// What an object of ours tells in its metadata that it should be.
    pub fn of_metadata(info: &ObjectInfo) -> Option<Fingerprint> {
        Some(Fingerprint {
            size_bytes: info.metadata(SIZE_METADATA_KEY)?.parse().ok()?,
            crc64nvme: info.metadata(CRC_METADATA_KEY)?.to_owned(),
            sha256: info.metadata(SHA256_METADATA_KEY).map(str::to_owned),
        })
    }

    /// What an object of ours is, by its own metadata or else by the store's checksum.
    pub fn told(info: &ObjectInfo, capabilities: Capabilities) -> Option<Fingerprint> {
        let shown = || {
            Some(Fingerprint {
                size_bytes: info.size_bytes,
                crc64nvme: shown_crc64nvme(info, capabilities)?.to_owned(),
                sha256: None,
            })
        };
        Fingerprint::of_metadata(info).or_else(shown)
    }

    /// Lets an object tell itself what it should be.
    pub fn add_to(&self, attributes: &mut ObjectAttributes) {
        let pairs = [
            (SIZE_METADATA_KEY, Some(self.size_bytes.to_string())),
            (CRC_METADATA_KEY, Some(self.crc64nvme.clone())),
            (SHA256_METADATA_KEY, self.sha256.clone()),
        ];
        let told = pairs
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value?)));
        attributes.metadata.extend(told);
    }
}

/// The checksum that the store tells, if it is to be believed.
fn shown_crc64nvme(info: &ObjectInfo, capabilities: Capabilities) -> Option<&str> {
    let shown = info.crc64nvme.as_deref();
    shown.filter(|_| capabilities.believes_checksums())
}

/// Whether an object of ours is what is expected.
pub fn prove(info: &ObjectInfo, expected: &Fingerprint, capabilities: Capabilities) -> bool {
    let is_same_crc = match shown_crc64nvme(info, capabilities) {
        Some(shown) => shown == expected.crc64nvme,
        // One that went up in parts can't carry what was not known when it was begun.
        None => Fingerprint::of_metadata(info).is_none_or(|told| {
            told.size_bytes == expected.size_bytes && told.crc64nvme == expected.crc64nvme
        }),
    };
    info.size_bytes == expected.size_bytes && is_same_crc
}

/// What is under a key, to an owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnderKey {
    /// Nothing.
    Nothing,
    /// What should be there.
    Whole(Archived),
    /// The owner's own, and not what it should be: it may be replaced.
    Wrong(ObjectInfo),
    /// The owner's own, and nothing tells what it should be.
    Unproven(ObjectInfo),
    /// Somebody else's, which keeps its name.
    Others,
}

/// Judges what was found under `key`. Without `expected` the object itself has to tell what it should be.
pub fn judge(
    key: &str,
    info: ObjectInfo,
    owner: &Owner,
    expected: Option<&Fingerprint>,
    capabilities: Capabilities,
) -> UnderKey {
    match (owner.ownership(&info), expected) {
        (Ownership::Foreign, _) | (Ownership::Sibling, None) => UnderKey::Others,
        (Ownership::Sibling, Some(expected)) => {
            let is_told = Fingerprint::told(&info, capabilities).is_some();
            match is_told && prove(&info, expected, capabilities) {
                true => UnderKey::Whole(expected.archived(key, info)),
                false => UnderKey::Others,
            }
        }
        (Ownership::Ours, expected) => {
            let told = || Fingerprint::told(&info, capabilities);
            match expected.cloned().or_else(told) {
                None => UnderKey::Unproven(info),
                Some(print) if prove(&info, &print, capabilities) => {
                    UnderKey::Whole(print.archived(key, info))
                }
                Some(_) => UnderKey::Wrong(info),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::object::ChecksumSupport;

    fn owner(id: u128, source: &str) -> Owner {
        Owner {
            source: Some((source.to_owned(), "100ms".to_owned())),
            ..Owner::of_job_id(JobId(Uuid::from_u128(id)))
        }
    }

    fn info(size_bytes: u64, crc64nvme: Option<&str>, owner: &Owner) -> ObjectInfo {
        ObjectInfo {
            size_bytes,
            etag: Some("e".to_owned()),
            version_id: None,
            crc64nvme: crc64nvme.map(str::to_owned),
            metadata: owner.metadata(),
        }
    }

    fn print(size_bytes: u64, crc64nvme: &str) -> Fingerprint {
        Fingerprint {
            size_bytes,
            crc64nvme: crc64nvme.to_owned(),
            sha256: None,
        }
    }

    #[test]
    fn whose_an_object_is_has_three_answers() {
        let ours = owner(1, "a");
        let piece = ours.clone().from_origin(Some("h1".to_owned()));
        let other_piece = ours.clone().from_origin(Some("h2".to_owned()));
        let document = Owner::of_recording(RecordingId(Uuid::from_u128(1)));
        for (theirs, expected) in [
            (&ours, Ownership::Ours),
            (&piece, Ownership::Ours),
            (&owner(2, "a"), Ownership::Sibling),
            (&owner(2, "b"), Ownership::Foreign),
            (&document, Ownership::Foreign),
        ] {
            assert_eq!(
                ours.ownership(&info(1, None, theirs)),
                expected,
                "{theirs:?}"
            );
        }
        assert_eq!(piece.ownership(&info(1, None, &piece)), Ownership::Ours);
        let others = piece.ownership(&info(1, None, &other_piece));
        assert_eq!(others, Ownership::Foreign, "of another origin");
        let nobodys = ObjectInfo {
            metadata: Vec::new(),
            ..info(1, None, &ours)
        };
        assert_eq!(ours.ownership(&nobodys), Ownership::Foreign);
    }

    // R4
    #[test]
    fn without_a_checksum_of_the_store_the_metadata_is_the_proof() {
        let ours = owner(1, "a");
        let full = Capabilities::default();
        let judged = |info, expected: Option<&Fingerprint>, capabilities| match judge(
            "k",
            info,
            &ours,
            expected,
            capabilities,
        ) {
            UnderKey::Whole(archived) => archived.crc64nvme,
            other => format!("{other:?}").split('(').next().unwrap().to_owned(),
        };
        let carrying = |size, told: &Fingerprint, crc| {
            let mut attributes = ObjectAttributes::default();
            told.add_to(&mut attributes);
            let mut info = info(size, crc, &ours);
            info.metadata.extend(attributes.metadata);
            info
        };
        let right = print(5, "right");
        for expected in [Some(&right), None] {
            assert_eq!(judged(carrying(5, &right, None), expected, full), "right");
            assert_eq!(judged(carrying(4, &right, None), expected, full), "Wrong");
            let told = carrying(5, &right, Some("else"));
            assert_eq!(judged(told.clone(), expected, full), "Wrong");
            let distrusted = Capabilities {
                checksum: ChecksumSupport::Wrong,
                ..full
            };
            assert_eq!(judged(told, expected, distrusted), "right");
        }
        let earlier = carrying(5, &print(5, "earlier"), None);
        assert_eq!(judged(earlier, Some(&right), full), "Wrong");
        // In parts: nothing but its size is known, and what was noted before it was completed.
        let parts = info(5, None, &ours);
        assert_eq!(judged(parts.clone(), Some(&right), full), "right");
        assert_eq!(judged(parts, None, full), "Unproven");
        let told = info(5, Some("right"), &ours);
        assert_eq!(judged(told, None, full), "right");
    }

    #[test]
    fn another_jobs_object_must_tell_its_content() {
        let (ours, theirs) = (owner(1, "a"), owner(2, "a"));
        let right = print(5, "right");
        let judged = |crc| {
            let info = info(5, crc, &theirs);
            judge("k", info, &ours, Some(&right), Capabilities::default())
        };
        assert!(matches!(judged(Some("right")), UnderKey::Whole(_)));
        assert_eq!(judged(Some("else")), UnderKey::Others);
        assert_eq!(judged(None), UnderKey::Others);
    }
}
