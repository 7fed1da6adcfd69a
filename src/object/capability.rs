//! What an object store can do, as far as that was seen, and what it means for the user where it is less than S3 does.

use std::sync::{Mutex, PoisonError};

use super::Condition;

/// The warning for a store that refuses or ignores conditional writes. `doctor` and the documents use the same words.
pub const CONDITIONS_WARNING: &str = "the object store does not honor If-None-Match and If-Match: the harvester looks at the \
     key before each write, but overwrites what another program writes to it in that moment; give the harvester a prefix \
     of its own";

/// The warning for a store that returns no checksum.
pub const CHECKSUM_WARNING: &str = "the object store returns no CRC64NVME: an archived object is confirmed by its size and by the \
     checksum in its metadata, so damage inside the store goes unnoticed";

/// The warning for a store whose checksums do not match its content.
pub const WRONG_CHECKSUM_WARNING: &str = "the object store returns a CRC64NVME that does not match the content: its checksums \
     are ignored, and an archived object is confirmed by its size and by the checksum in its metadata";

/// The warning for a bucket that the harvester may not list.
pub const LIST_WARNING: &str = "the right s3:ListBucket on the bucket is missing, so the object store answers 403 instead of 404 \
     for a missing object: if it honors If-None-Match, the harvester takes such a name as free; otherwise recordings that are \
     uploaded in parts end as upload_denied";

/// Whether a store keeps a condition on a write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConditionSupport {
    /// Nobody has seen it yet.
    #[default]
    Unknown,
    /// A write is refused when its condition does not hold.
    Kept,
    /// The store does not take requests with a condition.
    Refused,
    /// The store takes it for nothing.
    Ignored,
}

/// Whether a store tells the CRC64NVME of an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChecksumSupport {
    /// Nobody has seen it yet.
    #[default]
    Unknown,
    /// It does.
    Told,
    /// It does not.
    Untold,
    /// It tells one that is not that of the content.
    Wrong,
}

/// What a store can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// `If-None-Match: *` on writes.
    pub if_none_match: ConditionSupport,
    /// `If-None-Match: *` at the end of an upload in parts, which some stores keep on other writes alone. Tried only where a
    /// 403 hides what is missing: elsewhere each such write looks first.
    pub if_none_match_in_parts: ConditionSupport,
    /// `If-Match` on writes.
    pub if_match: ConditionSupport,
    /// The checksum of the whole object.
    pub checksum: ChecksumSupport,
    /// Whether it answers 403 about an object that is not there, other than about one that is.
    pub hides_missing: bool,
}

impl Capabilities {
    /// Whether a probe has told what has to be known before anything is written without looking first.
    pub fn are_known(self) -> bool {
        self.if_none_match != ConditionSupport::Unknown
    }

    /// Whether a checksum that the store tells proves anything.
    pub fn believes_checksums(self) -> bool {
        self.checksum != ChecksumSupport::Wrong
    }

    /// Whether a 403 about an object may be taken for its absence: should it be there all the same, no write goes over it.
    pub(super) fn takes_403_for_missing(self) -> bool {
        let is_kept = |support| support == ConditionSupport::Kept;
        self.hides_missing && is_kept(self.if_none_match) && is_kept(self.if_none_match_in_parts)
    }

    /// Whether the store tells checksums that what is read can be held against, as far as is known.
    pub(super) fn tells_checksums(self) -> bool {
        matches!(
            self.checksum,
            ChecksumSupport::Unknown | ChecksumSupport::Told
        )
    }

    /// What is known about conditions of this kind.
    pub(super) fn of(mut self, condition: &Condition) -> ConditionSupport {
        *self.of_mut(condition)
    }

    /// The same, to be changed.
    pub(super) fn of_mut(&mut self, condition: &Condition) -> &mut ConditionSupport {
        match condition {
            Condition::Absent => &mut self.if_none_match,
            Condition::Matches(_) => &mut self.if_match,
        }
    }

    /// What the user should know.
    pub fn warnings(self) -> Vec<&'static str> {
        let lacks = |support| {
            matches!(
                support,
                ConditionSupport::Refused | ConditionSupport::Ignored
            )
        };
        let checksum = match self.checksum {
            ChecksumSupport::Unknown | ChecksumSupport::Told => None,
            ChecksumSupport::Untold => Some(CHECKSUM_WARNING),
            ChecksumSupport::Wrong => Some(WRONG_CHECKSUM_WARNING),
        };
        let lacks_conditions = lacks(self.if_none_match) || lacks(self.if_match);
        let conditions = lacks_conditions.then_some(CONDITIONS_WARNING);
        let listing = self.hides_missing.then_some(LIST_WARNING);
        let all = conditions.into_iter().chain(checksum);
        all.chain(listing).collect()
    }
}

/// What was learned about one store, shared by everybody who uses it.
#[derive(Debug, Default)]
pub(super) struct LearnedCapabilities(Mutex<Capabilities>);

impl LearnedCapabilities {
    /// What is known now.
    pub(super) fn get(&self) -> Capabilities {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes something. Gives the warnings that were not due before.
    pub(super) fn note(&self, change: impl FnOnce(&mut Capabilities)) -> Vec<&'static str> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = known.warnings();
        change(&mut known);
        let mut warnings = known.warnings();
        warnings.retain(|warning| !before.contains(warning));
        warnings
    }
}

/// The key under which it is tried what a store can do.
pub fn probe_key(prefix: &str) -> String {
    match prefix.trim_matches('/') {
        "" => ".harvester-probe".to_owned(),
        prefix => format!("{prefix}/.harvester-probe"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_due_once() {
        let learned = LearnedCapabilities::default();
        let refused = |known: &mut Capabilities| known.if_match = ConditionSupport::Refused;
        assert_eq!(learned.note(refused), [CONDITIONS_WARNING]);
        assert!(learned.note(refused).is_empty());
        let rest = learned.note(|known| {
            known.if_none_match = ConditionSupport::Ignored;
            known.checksum = ChecksumSupport::Untold;
        });
        assert_eq!(rest, [CHECKSUM_WARNING]);
        assert!(learned.get().are_known());
    }

    #[test]
    fn the_probe_lies_under_the_prefix() {
        assert_eq!(probe_key(""), ".harvester-probe");
        assert_eq!(probe_key("/meetings/"), "meetings/.harvester-probe");
    }
}
