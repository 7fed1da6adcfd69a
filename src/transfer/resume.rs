//! What an earlier attempt left in the bucket, and how much of it can be trusted.
//!
//! A part that was noted counts only if the bucket agrees on its number, length and checksum (or ETag, where it tells no
//! checksum); one that was not, if the bucket itself tells the right length and a checksum. The origin must still have
//! the same version; that shows when it is opened.

use std::collections::BTreeSet;
use std::sync::PoisonError;

use super::attempt::TransferAttempt;
use super::plan::Plan;
use crate::error::{Error, Result};
use crate::format::check::ContentCheck;
use crate::model::job::FinishedPart;
use crate::model::{Checkpoint, Format, ProgressEvent};
use crate::object::{ListedPart, decode_crc64nvme, encode_crc64nvme};
use crate::transfer::download::ranges::RangeQueue;
use crate::transfer::download::reader::ContentVersion;
use crate::transfer::upload::open::{OpenUpload, abort};

/// An upload to go on with.
pub(super) struct Earlier {
    pub(super) key: String,
    pub(super) upload_id: String,
    pub(super) version: ContentVersion,
    pub(super) plan: Plan,
    pub(super) spans: RangeQueue,
    pub(super) check: Option<String>,
    pub(super) done_bytes: u64,
}

impl TransferAttempt<'_> {
    /// Looks at what an earlier attempt left, once. What can't be used is aborted, and it is said why.
    pub(super) async fn find_earlier(&self, key: &str) -> Result<Option<Earlier>> {
        let earlier = self
            .earlier
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(mut checkpoint) = earlier else {
            return Ok(None);
        };
        let upload_key = checkpoint.key.clone();
        let upload_key = upload_key.unwrap_or_else(|| self.job.key.clone());
        let objects = &self.engine.objects;
        let listed = objects
            .list_parts(&upload_key, &checkpoint.upload_id)
            .await?;
        let useless = match &listed {
            None => Some("the bucket no longer knows the upload"),
            Some(_) if upload_key != key => Some("other content has taken its name"),
            Some(_)
                if self
                    .job
                    .size_bytes
                    .is_some_and(|told| checkpoint.length_bytes != Some(told)) =>
            {
                Some("the event tells another length now")
            }
            Some(_) if self.needs_order() || checkpoint.validator.is_none() => {
                Some("this content can't be read from the middle")
            }
            Some(listed) => {
                checkpoint.parts = trusted(&checkpoint, listed, self.job.format);
                checkpoint
                    .parts
                    .is_empty()
                    .then_some("no part of it is complete")
            }
        };
        if let Some(why) = useless {
            if !checkpoint.parts.is_empty() {
                self.tell_resumed(0, checkpoint.length_bytes, Some(why.to_owned()));
            }
            if listed.is_some() && self.ledger.is_held().await {
                abort(&**objects, &upload_key, &checkpoint.upload_id).await;
            }
            self.ledger.save(None, 0).await?;
            return Ok(None);
        }
        Ok(Some(self.adopt(upload_key, checkpoint)))
    }

    /// Says that what was carried is worth nothing, if anything was.
    pub(super) fn tell_restart(&self, why: &Error) {
        tracing::debug!(job = %self.job.id, cause = %why.full_message(), "beginning again");
        let length = {
            let upload = self.upload.lock().unwrap_or_else(PoisonError::into_inner);
            let upload = upload.as_ref().map(|upload| &upload.checkpoint);
            upload
                .filter(|checkpoint| !checkpoint.parts.is_empty())
                .map(|checkpoint| checkpoint.length_bytes)
        };
        if let Some(length) = length {
            self.tell_resumed(0, length, Some(why.full_message()));
        }
    }

    fn adopt(&self, key: String, checkpoint: Checkpoint) -> Earlier {
        let plan = Plan::Equal {
            length: checkpoint.length_bytes.unwrap_or(0),
            part_bytes: checkpoint.part_size_bytes,
        };
        let done: BTreeSet<u32> = checkpoint.parts.iter().map(|part| part.number).collect();
        let done_bytes = checkpoint.parts.iter().map(|part| part.size_bytes).sum();
        let earlier = Earlier {
            key: key.clone(),
            upload_id: checkpoint.upload_id.clone(),
            version: ContentVersion {
                length: checkpoint.length_bytes,
                validator: checkpoint.validator.clone(),
            },
            plan,
            spans: plan.spans(&done),
            check: checkpoint.check.clone(),
            done_bytes,
        };
        self.tell_resumed(done_bytes, checkpoint.length_bytes, None);
        self.adopt_upload(OpenUpload { key, checkpoint });
        earlier
    }

    fn tell_resumed(&self, done: u64, total: Option<u64>, message: Option<String>) {
        self.progress.tell_event(ProgressEvent::Resumed {
            id: self.job.id,
            done,
            total,
            message,
        });
    }
}

/// The parts that the bucket has for sure, and that need not be seen again to check the content: those of
/// the checkpoint that it confirms, and those that landed before they could be noted.
fn trusted(checkpoint: &Checkpoint, listed: &[ListedPart], format: Format) -> Vec<FinishedPart> {
    let (Some(length), 1..) = (checkpoint.length_bytes, checkpoint.part_size_bytes) else {
        return Vec::new();
    };
    let part_bytes = checkpoint.part_size_bytes;
    let plan = Plan::Equal { length, part_bytes };
    let end_of = |part: &FinishedPart| {
        u64::from(part.number.saturating_sub(1)) * part_bytes + part.size_bytes
    };
    let seen_until = ContentCheck::unstored_from(format, length);
    let mut check = ContentCheck::of_length(format, length);
    check.restore(checkpoint.check.as_deref());
    let is_usable = |part: &FinishedPart| {
        // The beginning is judged as it passes, which the check's state remembers. Other lanes may have been faster.
        let is_judged = part.number > 1 || check.is_head_judged();
        part.number > 0
            && part.size_bytes == plan.part_len(part.number)
            && end_of(part) <= seen_until
            && is_judged
    };
    let is_noted = |number| checkpoint.parts.iter().any(|part| part.number == number);
    // What the check has not come to it would have to ask for bit by bit: that is fetched whole.
    let walked_until = check.wanted().map_or(length, |(at, _)| at);
    let noted = checkpoint
        .parts
        .iter()
        .filter_map(|part| listed.iter().find_map(|listed| confirmed(part, listed)));
    let landed = listed
        .iter()
        .filter(|listed| !is_noted(listed.number))
        .filter_map(landed)
        .filter(|part| end_of(part) <= walked_until);
    noted.chain(landed).filter(is_usable).collect()
}

/// A part that the bucket has and no note names: the process ended in between. The upload is ours and of one
/// plan and one version of the content, so that its number says which bytes it is; S3 has compared them
/// with the checksum that they were sent with, and keeps it.
fn landed(listed: &ListedPart) -> Option<FinishedPart> {
    Some(FinishedPart {
        number: listed.number,
        size_bytes: listed.size_bytes,
        etag: listed.etag.clone(),
        crc64nvme: decode_crc64nvme(listed.crc64nvme.as_deref()?)?,
    })
}

/// The part as the bucket lists it, if that is what was noted. The checksum tells it, whatever the ETag: that of a part
/// sent twice may be the other sending's (under SSE-KMS no two are the same). Without a checksum the ETag has to.
pub(super) fn confirmed(part: &FinishedPart, listed: &ListedPart) -> Option<FinishedPart> {
    let is_same_etag = part.etag.trim_matches('"') == listed.etag.trim_matches('"');
    let is_same = match &listed.crc64nvme {
        Some(crc64nvme) => *crc64nvme == encode_crc64nvme(part.crc64nvme),
        None => is_same_etag,
    };
    let is_placed = part.number == listed.number && part.size_bytes == listed.size_bytes;
    (is_same && is_placed).then(|| FinishedPart {
        etag: match is_same_etag {
            true => part.etag.clone(),
            false => listed.etag.clone(),
        },
        ..part.clone()
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const PART: u64 = 8 << 20;

    fn part(number: u32, size_bytes: u64) -> FinishedPart {
        FinishedPart {
            number,
            size_bytes,
            etag: format!("\"e{number}\""),
            crc64nvme: u64::from(number),
        }
    }

    fn listed(number: u32, size_bytes: u64) -> ListedPart {
        ListedPart {
            number,
            size_bytes,
            etag: format!("e{number}"),
            crc64nvme: Some(encode_crc64nvme(u64::from(number))),
        }
    }

    fn checkpoint(parts: Vec<FinishedPart>) -> Checkpoint {
        Checkpoint {
            upload_id: "id".to_owned(),
            part_size_bytes: PART,
            length_bytes: Some(3 * PART + 5),
            validator: Some("\"v\"".to_owned()),
            parts,
            key: None,
            check: judged(),
            sealed: None,
        }
    }

    /// The state of a check that has seen the beginning of a file of no format in particular.
    fn judged() -> Option<String> {
        let mut check = ContentCheck::of_length(Format::Bin, 3 * PART + 5);
        let chunk = Bytes::from_static(&[7; 2048]);
        check.feed_part(0, &[chunk]).unwrap();
        check.state()
    }

    fn numbers(checkpoint: &Checkpoint, in_bucket: &[ListedPart], format: Format) -> Vec<u32> {
        let trusted = trusted(checkpoint, in_bucket, format);
        trusted.iter().map(|part| part.number).collect()
    }

    #[test]
    fn f56_only_parts_that_note_and_bucket_agree_on_are_trusted() {
        let noted = checkpoint(vec![
            part(1, PART),
            part(2, PART),
            part(3, PART),
            part(4, 5),
        ]);
        let all = [
            listed(1, PART),
            listed(2, PART),
            listed(3, PART),
            listed(4, 5),
        ];
        assert_eq!(numbers(&noted, &all, Format::Mp4), [1, 2, 3, 4]);
        assert_eq!(numbers(&noted, &all[1..3], Format::Mp4), [2, 3]);
        assert!(numbers(&noted, &[], Format::Mp4).is_empty());
        let mut other = all.clone();
        other[0].etag = "else".to_owned();
        other[0].crc64nvme = None;
        other[1].crc64nvme = Some("else".to_owned());
        other[2].size_bytes = 5;
        assert_eq!(numbers(&noted, &other, Format::Mp4), [4]);
        let odd = checkpoint(vec![part(0, PART), part(2, 7), part(5, PART)]);
        let odd_listed = [listed(0, PART), listed(2, 7), listed(5, PART)];
        assert!(numbers(&odd, &odd_listed, Format::Mp4).is_empty());
    }

    #[test]
    fn f79_a_part_that_landed_before_it_was_noted_is_trusted_when_the_bucket_tells_all_of_it() {
        let noted = checkpoint(vec![part(2, PART)]);
        let mut all = [
            listed(1, PART),
            listed(2, PART),
            listed(3, PART),
            listed(4, 5),
        ];
        assert_eq!(numbers(&noted, &all, Format::Webm), [2, 1, 3, 4]);
        all[0].crc64nvme = None;
        all[2].size_bytes -= 1;
        all[3].crc64nvme = Some("no checksum".to_owned());
        assert_eq!(numbers(&noted, &all, Format::Webm), [2]);
        // A check that has not come so far has to see it.
        let mut unwalked = checkpoint(Vec::new());
        unwalked.check = None;
        let all = [listed(2, PART), listed(3, PART)];
        assert!(numbers(&unwalked, &all, Format::Mp4).is_empty());
        assert_eq!(numbers(&unwalked, &all, Format::Webm), [2, 3]);
    }

    // R13
    #[test]
    fn f56_another_etag_of_the_same_bytes_is_adopted() {
        let noted = checkpoint(vec![part(1, PART), part(2, PART), part(3, PART)]);
        let mut all = [listed(1, PART), listed(2, PART), listed(3, PART)];
        all[0].etag = "\"other\"".to_owned();
        // Without a checksum nothing but the ETag tells.
        all[1].etag = "other".to_owned();
        all[1].crc64nvme = None;
        all[2].crc64nvme = None;
        let trusted = trusted(&noted, &all, Format::Mp4);
        let found: Vec<_> = trusted
            .iter()
            .map(|p| (p.number, p.etag.as_str()))
            .collect();
        assert_eq!(found, [(1, "\"other\""), (3, "\"e3\"")]);
    }

    // R13
    #[test]
    fn f79_a_first_part_that_landed_before_it_was_read_whole_is_fetched_again() {
        let length = 3 * PART + 5;
        for format in [Format::Webm, Format::Mp3, Format::Ogg, Format::Wav] {
            let noted = Checkpoint {
                // Lane two was faster: nobody has seen the beginning yet.
                check: ContentCheck::of_length(format, length).state(),
                ..checkpoint(vec![part(2, PART)])
            };
            let all = [listed(1, PART), listed(2, PART), listed(3, PART)];
            assert_eq!(numbers(&noted, &all, format), [2, 3], "{format:?}");
        }
    }

    #[test]
    fn what_the_check_must_see_again_is_fetched_again() {
        let noted = checkpoint(vec![
            part(1, PART),
            part(2, PART),
            part(3, PART),
            part(4, 5),
        ]);
        let all = [
            listed(1, PART),
            listed(2, PART),
            listed(3, PART),
            listed(4, 5),
        ];
        assert_eq!(numbers(&noted, &all, Format::Zip), [1, 2]);
        let unjudged = Checkpoint {
            check: None,
            ..noted
        };
        assert_eq!(numbers(&unjudged, &all, Format::Mp4), [2, 3, 4]);
    }
}
