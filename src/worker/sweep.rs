//! The sweep: multipart uploads that we began and that nobody will finish are aborted, at start and every
//! hour. They cost money and do not show in a bucket's listing.
//!
//! An upload is ours if a checkpoint in the store names it. If the answer that told us its id was lost, no
//! checkpoint does, and none names those of an HLS recording's files, which are begun anew after a stop.
//! Then the key tells, and a day's patience, since that alone is no proof: another harvester may use the
//! same bucket. Everything else is somebody else's and is not touched.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::Worker;
use crate::error::Result;
use crate::model::State;
use crate::object::ListedUpload;
use crate::store::UploadOwner;
use crate::transfer::hls::entries_of;

/// How often the bucket is looked through.
const EVERY: Duration = Duration::from_secs(3600);

/// How old an upload must be that is known by its key alone. Far older than any lease.
const KEY_AGE: SignedDuration = SignedDuration::from_hours(24);

/// What an upload in the bucket is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UploadVerdict {
    /// Not ours.
    Foreign,
    /// Ours, and a job will go on with it, or might.
    InUse,
    /// Ours, and nobody's work.
    Orphan,
}

/// Sweeps now and then until `stop`.
pub(super) async fn keep(worker: Worker, stop: CancellationToken) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        let swept = tokio::select! {
            () = stop.cancelled() => return,
            swept = sweep(&worker) => swept,
        };
        match swept {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "aborted uploads that nobody would have finished"),
            // The bucket may not allow it; the lifecycle rule is the second net.
            Err(error) => tracing::info!(
                "failed to look for orphaned uploads: {}",
                error.full_message()
            ),
        }
    }
}

/// Aborts what is orphaned; answers how many.
pub(super) async fn sweep(worker: &Worker) -> Result<usize> {
    let uploads = worker.objects.list_uploads(worker.engine.prefix()).await?;
    if uploads.is_empty() {
        return Ok(0);
    }
    let keys: Vec<String> = uploads
        .iter()
        .flat_map(|upload| owners_of(&upload.key))
        .collect();
    // Read after the listing: what was begun before the listing is in the store by now, or very young.
    let owners = worker.store.upload_owners(&keys).await?;
    let now = worker.clock.now();
    let mut count = 0;
    for upload in &uploads {
        let is_orphan = judge(upload, &owners, now) == UploadVerdict::Orphan;
        let engine = &worker.engine;
        if is_orphan && engine.abort_upload(&upload.key, &upload.upload_id).await {
            count += 1;
        }
    }
    Ok(count)
}

fn judge(upload: &ListedUpload, owners: &[UploadOwner], now: Timestamp) -> UploadVerdict {
    let by_id = owners
        .iter()
        .find(|owner| owner.upload_id.as_deref() == Some(&upload.upload_id));
    if let Some(owner) = by_id {
        return match owner.state.is_settled() {
            true => UploadVerdict::Orphan,
            false => UploadVerdict::InUse,
        };
    }
    let keys = owners_of(&upload.key);
    let mut by_key = owners
        .iter()
        .filter(|owner| keys.contains(&owner.key))
        .peekable();
    if by_key.peek().is_none() {
        return UploadVerdict::Foreign;
    }
    // A running attempt may have an upload that it could not note.
    let is_idle = by_key.all(|owner| owner.state != State::Running);
    let is_old = upload
        .initiated
        .is_some_and(|at| now.duration_since(at) >= KEY_AGE);
    if is_idle && is_old {
        UploadVerdict::Orphan
    } else {
        UploadVerdict::InUse
    }
}

/// The planned keys of jobs that may have begun an upload under `key`: its own, and those whose files lie in
/// a folder above it.
fn owners_of(key: &str) -> Vec<String> {
    let mut owners = vec![key.to_owned()];
    let mut rest = key;
    while let Some((folder, _)) = rest.rsplit_once('/') {
        owners.extend(entries_of(folder));
        rest = folder;
    }
    let planned: Vec<_> = owners.iter().filter_map(|key| unnumbered(key)).collect();
    owners.extend(planned);
    owners
}

/// The key that was planned, if this one has a number because that was taken.
fn unnumbered(key: &str) -> Option<String> {
    let (folder, name) = key.rsplit_once('/').unwrap_or(("", key));
    let (stem, extension) = name.rsplit_once('.').unwrap_or((name, ""));
    let (stem, number) = stem.rsplit_once('-')?;
    number.parse::<u64>().ok()?;
    let dot = if extension.is_empty() { "" } else { "." };
    let slash = if folder.is_empty() { "" } else { "/" };
    Some(format!("{folder}{slash}{stem}{dot}{extension}"))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::model::JobId;

    fn now() -> Timestamp {
        "2026-03-02T10:00:00Z".parse().unwrap()
    }

    fn upload(key: &str, id: &str, hours: i64) -> ListedUpload {
        ListedUpload {
            key: key.to_owned(),
            upload_id: id.to_owned(),
            initiated: Some(now() - SignedDuration::from_hours(hours)),
        }
    }

    fn owner(key: &str, state: State, upload_id: Option<&str>) -> UploadOwner {
        UploadOwner {
            job: JobId(Uuid::from_u128(1)),
            key: key.to_owned(),
            state,
            upload_id: upload_id.map(str::to_owned),
        }
    }

    #[test]
    fn f54_only_what_is_surely_ours_and_nobodys_work_is_aborted() {
        let owners = [
            owner("r/open.mp4", State::Pending, Some("open")),
            owner("r/lost.mp4", State::Failed, Some("lost")),
            owner("r/cancelled.mp4", State::Cancelled, Some("cancelled")),
            owner("r/running.mp4", State::Running, Some("running")),
            owner("r/done.mp4", State::Archived, None),
            owner("r/hls/master.m3u8", State::Pending, None),
            owner("live/hls/master.m3u8", State::Running, None),
            owner("z/hls.zip", State::Archived, None),
        ];
        let cases = [
            ("r/open.mp4", "open", 100, UploadVerdict::InUse),
            ("r/lost.mp4", "lost", 0, UploadVerdict::Orphan),
            ("r/cancelled.mp4", "cancelled", 0, UploadVerdict::Orphan),
            ("r/running.mp4", "running", 100, UploadVerdict::InUse),
            // Ids that no checkpoint names.
            ("r/running.mp4", "other", 100, UploadVerdict::InUse),
            ("r/open.mp4", "other", 1, UploadVerdict::InUse),
            ("r/open.mp4", "other", 25, UploadVerdict::Orphan),
            ("r/done.mp4", "other", 25, UploadVerdict::Orphan),
            ("r/done-2.mp4", "other", 25, UploadVerdict::Orphan),
            // Files of a recording in many: no checkpoint names their uploads.
            ("r/hls/video/seg-1.ts", "x", 25, UploadVerdict::Orphan),
            ("r/hls/video/seg-1-2.ts", "x", 25, UploadVerdict::Orphan),
            ("r/hls/master-2/v/seg-1.ts", "x", 25, UploadVerdict::Orphan),
            ("r/hls/video/seg-1.ts", "x", 23, UploadVerdict::InUse),
            ("live/hls/v/seg-1.ts", "x", 25, UploadVerdict::InUse),
            ("z/hls/deep/er/a.ts", "x", 25, UploadVerdict::Orphan),
            ("r/video/seg-1.ts", "x", 1000, UploadVerdict::Foreign),
            ("r/hls-old/seg-1.ts", "x", 1000, UploadVerdict::Foreign),
            ("r/open.mp4/x", "x", 1000, UploadVerdict::Foreign),
            ("r/other.mp4", "other", 1000, UploadVerdict::Foreign),
            ("backup/disk.img", "x", 1000, UploadVerdict::Foreign),
        ];
        for (key, id, hours, expected) in cases {
            let verdict = judge(&upload(key, id, hours), &owners, now());
            assert_eq!(verdict, expected, "{key} {id} {hours} h");
        }
        let undated = ListedUpload {
            initiated: None,
            ..upload("r/done.mp4", "other", 0)
        };
        assert_eq!(judge(&undated, &owners, now()), UploadVerdict::InUse);
    }

    #[test]
    fn numbered_names_belong_to_the_planned_ones() {
        assert_eq!(unnumbered("a/b-2.mp4").as_deref(), Some("a/b.mp4"));
        assert_eq!(unnumbered("b-12").as_deref(), Some("b"));
        assert_eq!(unnumbered("a/b.mp4"), None);
        assert_eq!(unnumbered("a/track-x.webm"), None);
    }
}
