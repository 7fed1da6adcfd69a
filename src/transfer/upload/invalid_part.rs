//! A bucket that refuses the parts of an upload (InvalidPart) although it has been sent them all.
//!
//! What it lists decides. A part that it lists under another ETag is what another sending of the same bytes has become:
//! its ETag is taken over. A part that it lists otherwise, or not at all, is sent again. Where list and notes agree, the
//! upload itself is broken: some stores lose their way in one whose part was sent again while the first sending was
//! still worked on, and refuse it for ever. Then a new one is begun, if the origin still gives the content.

use std::sync::atomic::Ordering;

use crate::error::{Class, Error};
use crate::model::Origin;
use crate::model::job::FinishedPart;
use crate::object::ListedPart;
use crate::transfer::attempt::TransferAttempt;
use crate::transfer::download::reader::Stop;
use crate::transfer::resume::confirmed;

/// What a bucket lists, beside what was noted of the parts it refuses.
#[derive(Debug, PartialEq, Eq)]
enum PartListing {
    /// Exactly that.
    Agrees,
    /// The same bytes, some of them under another ETag.
    Renamed(Vec<FinishedPart>),
    /// Something else, or nothing, under these numbers.
    Differs(Vec<u32>),
}

/// What to do about an upload whose parts were refused.
pub(in crate::transfer) enum Remedy {
    /// To complete it with these.
    Parts(Vec<FinishedPart>),
    /// Nothing that could be done to it.
    None,
}

impl TransferAttempt<'_> {
    /// Compares the `parts` that the bucket has refused with what it lists.
    ///
    /// # Errors
    /// `Restart` when the upload has gone, `Resend` when only some of its parts have.
    pub(in crate::transfer) async fn remedy(
        &self,
        (key, upload_id): (&str, &str),
        parts: &[FinishedPart],
        refusal: &Error,
    ) -> Result<Remedy, Stop> {
        let listed = match self.engine.objects.list_parts(key, upload_id).await {
            Ok(listed) => listed,
            Err(error) => {
                tracing::debug!(key, cause = %error.full_message(), "the parts could not be listed");
                return Ok(Remedy::Parts(parts.to_vec()));
            }
        };
        let Some(listed) = listed else {
            return Err(Stop::Restart {
                why: explained(key, "the bucket no longer knows the upload", refusal),
                opened: None,
            });
        };
        match compare(parts, &listed) {
            PartListing::Agrees => Ok(Remedy::None),
            PartListing::Renamed(parts) => {
                tracing::info!(job = %self.job.id, key, "the bucket has parts under other ETags than it told");
                Ok(Remedy::Parts(parts))
            }
            PartListing::Differs(numbers) => {
                let why = format!(
                    "the bucket does not have these parts as they were sent: {numbers:?}; they are sent again"
                );
                Err(Stop::Resend(explained(key, &why, refusal)))
            }
        }
    }

    /// How to go on without an upload that the bucket refuses although it lists all parts as they were sent: with a new
    /// one, once in an attempt, and only with an origin that is open. Else this one is all that there is.
    pub(in crate::transfer) async fn give_up_upload(&self, key: &str, refusal: Error) -> Stop {
        let Origin::Url(url) = &self.job.origin else {
            return Stop::Fail(refusal);
        };
        let why =
            "the bucket refuses parts that it lists as they were sent: the upload is broken there";
        if self.has_given_up.swap(true, Ordering::Relaxed) {
            let why = format!("{why}, as was the one before");
            return Stop::Fail(explained(key, &why, &refusal));
        }
        match self.remote(url).reopen().await {
            Ok(opened) => Stop::Restart {
                why: explained(
                    key,
                    &format!("{why}, and is given up for a new one"),
                    &refusal,
                ),
                opened: Some(Box::new(opened)),
            },
            Err(error) => {
                let told = error.full_message();
                let why = format!("{why}, and the origin can't be opened for a new one ({told})");
                let why = explained(key, &why, &refusal);
                let is_stale = matches!(error.class(), Class::Denied | Class::Expired);
                Stop::Fail(match is_stale {
                    true => why.with_stale_url(),
                    false => why,
                })
            }
        }
    }
}

fn explained(key: &str, why: &str, refusal: &Error) -> Error {
    let refusal = refusal.full_message();
    let message = format!("complete {key}: {why}: {refusal}");
    Error::transient(Class::UploadFailed, message)
}

fn compare(noted: &[FinishedPart], listed: &[ListedPart]) -> PartListing {
    let mut parts = Vec::with_capacity(noted.len());
    let mut missing = Vec::new();
    for part in noted {
        match listed.iter().find_map(|listed| confirmed(part, listed)) {
            Some(part) => parts.push(part),
            None => missing.push(part.number),
        }
    }
    match (missing.is_empty(), parts == noted) {
        (false, _) => PartListing::Differs(missing),
        (true, true) => PartListing::Agrees,
        (true, false) => PartListing::Renamed(parts),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::encode_crc64nvme;

    fn part(number: u32, etag: &str) -> FinishedPart {
        FinishedPart {
            number,
            size_bytes: 5,
            etag: etag.to_owned(),
            crc64nvme: 1,
        }
    }

    fn listed(number: u32, etag: &str, crc64nvme: u64) -> ListedPart {
        ListedPart {
            number,
            size_bytes: 5,
            etag: etag.to_owned(),
            crc64nvme: Some(encode_crc64nvme(crc64nvme)),
        }
    }

    #[test]
    fn f56_what_the_bucket_lists_decides_what_is_done() {
        let noted = [part(1, "\"a\""), part(2, "\"b\"")];
        let agreed = [listed(2, "b", 1), listed(1, "a", 1), listed(3, "c", 1)];
        assert_eq!(compare(&noted, &agreed), PartListing::Agrees);
        let renamed = [listed(1, "a", 1), listed(2, "other", 1)];
        let adopted = vec![part(1, "\"a\""), part(2, "other")];
        assert_eq!(compare(&noted, &renamed), PartListing::Renamed(adopted));
        let differing = [listed(1, "a", 7)];
        assert_eq!(
            compare(&noted, &differing),
            PartListing::Differs(vec![1, 2])
        );
    }
}
