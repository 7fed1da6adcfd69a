//! A recording that is complete, and whose manifest the bucket refuses.

use jiff::{SignedDuration, Timestamp};
use recording_harvester::error::Class;
use recording_harvester::model::{Archived, Outcome, RecordingId};
use recording_harvester::store::{ClaimRequest, JobStore, LeaseWrite};

/// Settles all open jobs as archived, and notes that no manifest could be written for this long.
pub async fn settle_without_manifest(
    store: &dyn JobStore,
    now: Timestamp,
    since: SignedDuration,
) -> RecordingId {
    for is_small in [true, false] {
        let claim = ClaimRequest {
            worker: "nobody".to_owned(),
            is_small,
            limit: 99,
            now,
            lease_until: now + SignedDuration::from_mins(1),
            only: None,
            held: Vec::new(),
            takes_lapsed: true,
        };
        for claimed in store.claim(claim).await.unwrap() {
            let outcome = Outcome::Archived(Archived {
                key: claimed.job.key.clone(),
                size_bytes: 1,
                crc64nvme: "AAAAAAAAAAA=".to_owned(),
                sha256: None,
                etag: None,
                version_id: None,
            });
            let settled = store.settle(&claimed.lease, &outcome, now).await;
            assert_eq!(settled.unwrap(), LeaseWrite::Yes);
        }
    }
    let unsealed = store.unsealed(9).await.unwrap();
    let [recording] = unsealed[..] else {
        panic!("one recording waits for its manifest: {unsealed:?}");
    };
    let message = "put manifest.json: 403 AccessDenied \u{1b}[31m";
    let class = Class::UploadDenied;
    let noted = store.put_off_seal(recording, class, message, now - since, now);
    noted.await.unwrap();
    recording
}
