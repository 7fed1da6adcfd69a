//! Under a lease: fencing, what an attempt leaves behind, how it ends.

use std::collections::HashSet;
use std::sync::Arc;

use recording_harvester::error::Class;
use recording_harvester::model::job::FinishedPart;
use recording_harvester::model::{Checkpoint, Deadline, Lease, Outcome, State};
use recording_harvester::store::{Claimed, LeaseWrite};

use super::build::*;
use super::{Backend, on_every_backend};

on_every_backend! {
    every_write_under_an_old_lease_is_refused,
    a_lease_that_ran_out_is_claimed_by_another_and_counts,
    a_heartbeat_keeps_the_lease,
    an_uncounted_retry_gives_the_attempt_back,
    a_checkpoint_goes_to_the_next_attempt,
    archiving_keeps_what_the_bucket_confirmed,
    artifacts_that_are_settled_together_are_each_settled_once_under_their_own_lease,
    time_in_which_the_bucket_refused_does_not_count_as_time_of_retrying,
    reorigin_replaces_origin_and_deadline_under_the_lease,
    a_fresh_url_without_a_size_keeps_the_place_that_the_known_size_gives,
}

async fn every_write_under_an_old_lease_is_refused(backend: &dyn Backend) {
    let store = backend.open().await;
    let recorded = store
        .record(event("e1", "r1").with(video("v", Some(3600))).received(0))
        .await
        .unwrap();
    let old = claim_one(&*store, 0).await.lease;
    let current = claim_one(&*store, 61).await.lease;
    assert!(current.token > old.token);
    let before = record_of(&*store, recorded.jobs[0]).await;
    let forged = Lease {
        token: current.token + 1,
        ..current.clone()
    };
    let unknown = Lease {
        job: recording_harvester::model::JobId(uuid::Uuid::nil()),
        token: 1,
    };
    for stale in [&old, &forged, &unknown] {
        for outcome in [
            archived("k"),
            retry_at(99, true),
            expired(),
            failed(Class::Gone),
        ] {
            assert_eq!(
                store.settle(stale, &outcome, at(62)).await.unwrap(),
                LeaseWrite::Stale
            );
        }
        assert_eq!(
            store.checkpoint(stale, None, 7).await.unwrap(),
            LeaseWrite::Stale
        );
        assert_eq!(
            store
                .resolve(stale, vec![transcript("t")], at(62))
                .await
                .unwrap(),
            LeaseWrite::Stale
        );
        assert_eq!(
            store.reorigin(stale, &video("w", None)).await.unwrap(),
            LeaseWrite::Stale
        );
        assert_eq!(
            store
                .heartbeat(std::slice::from_ref(stale), at(999))
                .await
                .unwrap(),
            [stale.job]
        );
    }
    assert_eq!(record_of(&*store, recorded.jobs[0]).await, before);
    assert_eq!(
        store
            .settle(&current, &archived("k"), at(63))
            .await
            .unwrap(),
        LeaseWrite::Yes
    );
    assert_eq!(
        store
            .settle(&current, &archived("k"), at(63))
            .await
            .unwrap(),
        LeaseWrite::Stale,
        "once only"
    );
}

async fn a_lease_that_ran_out_is_claimed_by_another_and_counts(backend: &dyn Backend) {
    let store = backend.open().await;
    store
        .record(event("e1", "r1").with(video("v", Some(3600))).received(0))
        .await
        .unwrap();
    let first = claim_one(&*store, 0).await;
    assert_eq!(
        store.claim(claim_at(59, false, 1)).await.unwrap().len(),
        0,
        "the lease holds"
    );
    let second = claim_one(&*store, 60).await;
    assert_eq!(second.job.id, first.job.id);
    assert_eq!((first.job.attempts, second.job.attempts), (1, 2));
    assert_eq!(second.record.state, State::Running);
}

async fn a_heartbeat_keeps_the_lease(backend: &dyn Backend) {
    let store = backend.open().await;
    store
        .record(event("e1", "r1").with(video("v", Some(3600))).received(0))
        .await
        .unwrap();
    let claimed = claim_one(&*store, 0).await;
    let lost = store
        .heartbeat(std::slice::from_ref(&claimed.lease), at(100))
        .await
        .unwrap();
    assert_eq!(lost, []);
    assert_eq!(store.claim(claim_at(99, false, 1)).await.unwrap().len(), 0);
    assert_eq!(claim_one(&*store, 100).await.job.id, claimed.job.id);
}

async fn an_uncounted_retry_gives_the_attempt_back(backend: &dyn Backend) {
    let store = backend.open().await;
    store
        .record(event("e1", "r1").with(video("v", Some(3600))).received(0))
        .await
        .unwrap();
    let first = claim_one(&*store, 0).await;
    assert_eq!(
        store
            .settle(&first.lease, &retry_at(5, false), at(1))
            .await
            .unwrap(),
        LeaseWrite::Yes
    );
    assert_eq!(record_of(&*store, first.job.id).await.attempts, 0);
    let second = claim_one(&*store, 5).await;
    assert_eq!(
        (second.job.attempts, second.job.first_attempt_at),
        (1, at(5))
    );
    assert!(
        second.lease.token > first.lease.token,
        "the token never goes back"
    );
}

async fn a_checkpoint_goes_to_the_next_attempt(backend: &dyn Backend) {
    let store = backend.open().await;
    store
        .record(event("e1", "r1").with(video("v", Some(3600))).received(0))
        .await
        .unwrap();
    let first = claim_one(&*store, 0).await;
    assert_eq!(first.job.checkpoint, None);
    let checkpoint = Checkpoint {
        upload_id: "upload".to_owned(),
        part_size_bytes: 8 << 20,
        length_bytes: Some(9 << 20),
        validator: Some("\"etag\"".to_owned()),
        parts: vec![FinishedPart {
            number: 1,
            size_bytes: 8 << 20,
            etag: "p1".to_owned(),
            crc64nvme: u64::MAX,
        }],
        key: None,
        check: None,
        sealed: None,
    };
    let stored = store
        .checkpoint(&first.lease, Some(&checkpoint), 8 << 20)
        .await
        .unwrap();
    assert_eq!(stored, LeaseWrite::Yes);
    let second = claim_one(&*store, 60).await;
    assert_eq!(second.job.checkpoint, Some(checkpoint));
    assert_eq!(second.record.bytes_done, 8 << 20);
    // A fresh event keeps it; forgetting is the worker's word.
    store
        .record(event("e2", "r1").with(video("v", Some(9000))).received(61))
        .await
        .unwrap();
    assert_eq!(
        store
            .settle(&second.lease, &retry_at(62, true), at(62))
            .await
            .unwrap(),
        LeaseWrite::Yes
    );
    let third = claim_one(&*store, 62).await;
    assert!(third.job.checkpoint.is_some());
    assert_eq!(
        store.checkpoint(&third.lease, None, 0).await.unwrap(),
        LeaseWrite::Yes
    );
    let fourth = claim_one(&*store, 200).await;
    assert_eq!((fourth.job.checkpoint, fourth.record.bytes_done), (None, 0));
}

async fn archiving_keeps_what_the_bucket_confirmed(backend: &dyn Backend) {
    let store = backend.open().await;
    store
        .record(event("e1", "r1").with(video("v", Some(3600))).received(0))
        .await
        .unwrap();
    let claimed = claim_one(&*store, 0).await;
    let Outcome::Archived(mut object) = archived("elsewhere/recording-2.mp4") else {
        unreachable!()
    };
    object.size_bytes = 77;
    object.sha256 = Some("ab".to_owned());
    object.version_id = Some("v1".to_owned());
    let outcome = Outcome::Archived(object);
    assert_eq!(
        store.settle(&claimed.lease, &outcome, at(5)).await.unwrap(),
        LeaseWrite::Yes
    );
    let record = record_of(&*store, claimed.job.id).await;
    assert_eq!(record.state, State::Archived);
    assert_eq!(record.key, "elsewhere/recording-2.mp4");
    assert_eq!((record.size_bytes, record.bytes_done), (Some(77), 77));
    assert_eq!(record.crc64nvme.as_deref(), Some("AAAAAAAAAAA="));
    assert_eq!(record.sha256.as_deref(), Some("ab"));
    assert_eq!(record.etag.as_deref(), Some("etag-1"));
    assert_eq!(record.version_id.as_deref(), Some("v1"));
    assert_eq!(record.archived_at, Some(at(5)));
    assert_eq!(
        (record.class, record.message, record.action),
        (None, None, None)
    );
    assert_eq!(
        store
            .retry(
                &recording_harvester::store::Selection::Ids(vec![claimed.job.id.0]),
                at(6)
            )
            .await
            .unwrap(),
        []
    );
}

async fn artifacts_that_are_settled_together_are_each_settled_once_under_their_own_lease(
    backend: &dyn Backend,
) {
    let store = backend.open().await;
    let lost = event("lost", "r1").losing(None, "bot-failed");
    store.record(lost.received(0)).await.unwrap();
    let mut recordings = Vec::new();
    for recording in ["r1", "r2"] {
        let videos = (0..20).map(|number| video(&format!("{recording}-{number}"), Some(3600)));
        let all = videos.fold(
            event(&format!("e-{recording}"), recording),
            |event, video| event.with(video),
        );
        let recorded = store.record(all.received(1)).await.unwrap();
        recordings.push(recorded.recording_id.unwrap());
    }
    let claimed = store.claim(claim_at(2, false, 99)).await.unwrap();
    assert_eq!(claimed.len(), 40);
    // Each is told twice, and beside it somebody tells of an earlier lease.
    let mut settling = tokio::task::JoinSet::new();
    for one in claimed.iter().chain(&claimed) {
        for token in [one.lease.token, one.lease.token - 1] {
            let (store, outcome) = (Arc::clone(&store), archived(&one.job.key));
            let job = one.job.id;
            let is_stale = token != one.lease.token;
            settling.spawn(async move {
                let lease = Lease { job, token };
                let written = store.settle(&lease, &outcome, at(3)).await.unwrap();
                (is_stale, job, written)
            });
        }
    }
    let ended = settling.join_all().await;
    let written = ended.iter().filter(|(_, _, end)| *end == LeaseWrite::Yes);
    let jobs: Vec<_> = written.clone().map(|(_, job, _)| *job).collect();
    assert!(written.clone().all(|(is_stale, _, _)| !is_stale));
    assert_eq!(jobs.len(), 40, "each once");
    assert_eq!(jobs.iter().collect::<HashSet<_>>().len(), 40);
    archive_small_at(&*store, 4).await;
    assert_eq!(open_jobs(&*store).await, 0);
    let mut unsealed = store.unsealed(9).await.unwrap();
    unsealed.sort_unstable();
    recordings.sort_unstable();
    assert_eq!(unsealed, recordings, "nothing is open in either");
    assert!(store.provider_failures(None).await.unwrap().is_empty());
}

async fn time_in_which_the_bucket_refused_does_not_count_as_time_of_retrying(
    backend: &dyn Backend,
) {
    let store = backend.open().await;
    videos(&*store, 1).await;
    let settle = async |claimed: &Claimed, outcome, seconds| {
        let settled = store.settle(&claimed.lease, &outcome, at(seconds)).await;
        assert_eq!(settled.unwrap(), LeaseWrite::Yes);
    };
    let first = claim_one(&*store, 0).await;
    settle(&first, retry_at(10, true), 5).await;
    let denied = claim_one(&*store, 10).await;
    assert_eq!(denied.job.first_attempt_at, at(0));
    settle(&denied, retry_at(70, false), 11).await;
    for minute in 1..100 {
        let until = at(70 + 60 * minute);
        let moved = store.pause(until, Class::UploadDenied, "no bucket").await;
        assert!(moved.unwrap() > 0);
    }
    let after = claim_one(&*store, 70 + 60 * 99).await;
    assert_eq!(after.job.attempts, 2);
    let tried_for = at(70 + 60 * 99).duration_since(after.job.first_attempt_at);
    assert_eq!(
        tried_for.as_secs(),
        10,
        "as when the bucket was refused first"
    );
}

// House: as with a resend.
async fn a_fresh_url_without_a_size_keeps_the_place_that_the_known_size_gives(
    backend: &dyn Backend,
) {
    let store = backend.open().await;
    let (huge, soon) = huge_and_soon();
    for (second, (name, artifact)) in (0..).zip([("huge", huge.clone()), ("soon", soon)]) {
        let new = event(name, name).with(artifact);
        store.record(new.received(second)).await.unwrap();
    }
    let claimed = claim_one(&*store, 10).await;
    let mut minted = huge;
    minted.origin = url("huge", "minted");
    minted.size_bytes = None;
    let written = store.reorigin(&claimed.lease, &minted).await.unwrap();
    assert_eq!(written, LeaseWrite::Yes);
    let outcome = retry_at(20, true);
    let written = store
        .settle(&claimed.lease, &outcome, at(11))
        .await
        .unwrap();
    assert_eq!(written, LeaseWrite::Yes);
    let again = claim_one(&*store, 20).await;
    assert_eq!(again.job.recording.recording_id.as_deref(), Some("huge"));
    assert_eq!(again.job.size_bytes, Some(1 << 36));
    assert_eq!(again.job.origin, url("huge", "minted"));
}

async fn reorigin_replaces_origin_and_deadline_under_the_lease(backend: &dyn Backend) {
    let store = backend.open().await;
    store
        .record(event("e1", "r1").with(video("v", Some(10))).received(0))
        .await
        .unwrap();
    let claimed = claim_one(&*store, 0).await;
    let mut minted = video("v", Some(9000));
    minted.origin = url("v", "minted");
    assert_eq!(
        store.reorigin(&claimed.lease, &minted).await.unwrap(),
        LeaseWrite::Yes
    );
    let record = record_of(&*store, claimed.job.id).await;
    assert_eq!(
        (record.state, record.deadline),
        (State::Running, minted.deadline.at)
    );
    assert_eq!(
        store
            .settle(&claimed.lease, &retry_at(1, true), at(1))
            .await
            .unwrap(),
        LeaseWrite::Yes
    );
    let again = claim_one(&*store, 1).await;
    assert_eq!(again.job.origin, minted.origin);
    assert_eq!(again.job.deadline, minted.deadline);
    assert_ne!(again.job.deadline, Deadline::NONE);
}
