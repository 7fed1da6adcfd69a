//! What the server may be told not to do, to see how the harvester does on stores that do less than S3.

use s3s::dto::ETagCondition;
use s3s::{S3Result, s3_error};

use super::checksum::Checksums;

/// What the server does beyond keeping bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// Whether it knows S3's checksums. Without them it refuses requests that carry one, checks
    /// Content-MD5 only and tells nothing.
    pub checksums: bool,
    /// What it does with `If-None-Match` and `If-Match` on writes.
    pub conditions: WriteConditionSupport,
}

impl Default for Abilities {
    fn default() -> Self {
        Abilities {
            checksums: true,
            conditions: WriteConditionSupport::Kept,
        }
    }
}

/// What a server does with a condition on a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteConditionSupport {
    /// As S3 does.
    Kept,
    /// It answers 501.
    Refused,
    /// It writes as if nothing had been asked, as Garage does.
    Ignored,
}

impl Abilities {
    /// Lets the conditions of a write through, takes them away or refuses them.
    pub(super) fn take_conditions(
        self,
        if_none_match: &mut Option<ETagCondition>,
        if_match: &mut Option<ETagCondition>,
    ) -> S3Result<()> {
        match self.conditions {
            WriteConditionSupport::Kept => {}
            WriteConditionSupport::Ignored => {
                *if_none_match = None;
                *if_match = None;
            }
            WriteConditionSupport::Refused if if_none_match.is_none() && if_match.is_none() => {}
            WriteConditionSupport::Refused => {
                return Err(s3_error!(
                    NotImplemented,
                    "A header you provided implies functionality that is not implemented"
                ));
            }
        }
        Ok(())
    }

    /// Refuses a request that carries or asks to keep a checksum, where there are none.
    pub(super) fn check_headers(self, headers: &http::HeaderMap) -> S3Result<()> {
        let is_checksum = |name: &str| {
            name == "x-amz-sdk-checksum-algorithm"
                || name
                    .strip_prefix("x-amz-checksum-")
                    .is_some_and(|rest| rest != "mode")
        };
        if self.checksums || !headers.keys().any(|name| is_checksum(name.as_str())) {
            return Ok(());
        }
        Err(s3_error!(
            InvalidArgument,
            "This store does not know checksums of this kind"
        ))
    }

    /// Of the checksums that are kept, those that are told.
    pub(super) fn told(self, checksums: &Checksums) -> Checksums {
        match self.checksums {
            true => checksums.clone(),
            false => Checksums::new(),
        }
    }
}
