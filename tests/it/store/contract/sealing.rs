//! When a recording's manifest is due, and the race between writing it and news.

use recording_harvester::error::Class;
use recording_harvester::model::{Kind, State};
use recording_harvester::store::{LeaseWrite, Selection};

use super::build::*;
use super::{Backend, on_every_backend};

on_every_backend! {
    a_recording_is_sealed_when_all_its_jobs_have_settled,
    a_manifest_of_an_old_generation_leaves_the_recording_unsealed,
    any_news_unseals_a_recording,
    contents_of_an_unknown_recording_are_nothing,
    unsealed_answers_with_no_more_than_it_was_asked_for,
    recordings_that_wait_do_not_stand_before_those_that_are_due,
    a_manifest_that_cannot_be_written_for_an_hour_is_told,
}

async fn a_recording_is_sealed_when_all_its_jobs_have_settled(backend: &dyn Backend) {
    let store = backend.open().await;
    let recorded = store
        .record(event("e1", "r1").with(video("v", Some(3600))).received(0))
        .await
        .unwrap();
    let recording = recorded.recording_id.unwrap();
    assert_eq!(store.unsealed(9).await.unwrap(), []);
    let running = claim_one(&*store, 1).await;
    archive_all(&*store, 1).await;
    assert_eq!(
        store.unsealed(9).await.unwrap(),
        [],
        "the video is on its way"
    );
    let failure = failed(Class::Gone);
    assert_eq!(
        store.settle(&running.lease, &failure, at(2)).await.unwrap(),
        LeaseWrite::Yes
    );
    assert_eq!(
        store.unsealed(9).await.unwrap(),
        [recording],
        "a loss is an end, too"
    );

    let contents = store.contents(recording).await.unwrap().unwrap();
    assert_eq!(contents.manifest_etag, None);
    store
        .sealed(recording, contents.generation, Some("m1"), Some("r1"))
        .await
        .unwrap();
    assert_eq!(store.unsealed(9).await.unwrap(), []);
    let contents = store.contents(recording).await.unwrap().unwrap();
    assert_eq!(contents.manifest_etag.as_deref(), Some("m1"));
    assert_eq!(contents.report_etag.as_deref(), Some("r1"));
    let manifest = contents.manifest(at(3));
    assert!(
        manifest
            .artifacts
            .iter()
            .all(|record| record.state == State::Archived)
    );
    assert_eq!(manifest.artifacts.len(), 1);
}

async fn a_manifest_of_an_old_generation_leaves_the_recording_unsealed(backend: &dyn Backend) {
    let store = backend.open().await;
    let recorded = store
        .record(event("e1", "r1").with(video("v", Some(3600))).received(0))
        .await
        .unwrap();
    let recording = recorded.recording_id.unwrap();
    archive_all(&*store, 1).await;
    let old = store.contents(recording).await.unwrap().unwrap().generation;
    store
        .record(event("e2", "r1").with(transcript("t")).received(2))
        .await
        .unwrap();
    archive_all(&*store, 3).await;
    store
        .sealed(recording, old, Some("m1"), None)
        .await
        .unwrap();
    assert_eq!(store.unsealed(9).await.unwrap(), [recording]);
    let now = store.contents(recording).await.unwrap().unwrap();
    assert!(now.generation > old);
    assert_eq!(
        now.manifest_etag.as_deref(),
        Some("m1"),
        "it was written all the same"
    );
    store
        .sealed(recording, now.generation, Some("m2"), None)
        .await
        .unwrap();
    assert_eq!(store.unsealed(9).await.unwrap(), []);
    store
        .sealed(recording, old, Some("late"), None)
        .await
        .unwrap();
    let contents = store.contents(recording).await.unwrap().unwrap();
    assert_eq!(
        contents.manifest_etag.as_deref(),
        Some("m2"),
        "an older word than the last is no news"
    );
}

async fn any_news_unseals_a_recording(backend: &dyn Backend) {
    let store = backend.open().await;
    let recorded = store
        .record(event("e1", "r1").with(video("v", Some(3600))).received(0))
        .await
        .unwrap();
    let recording = recorded.recording_id.unwrap();
    let running = claim_one(&*store, 0).await;
    assert_eq!(
        store
            .settle(&running.lease, &expired(), at(0))
            .await
            .unwrap(),
        LeaseWrite::Yes
    );
    archive_all(&*store, 1).await;
    let seal = async || {
        assert_eq!(store.unsealed(9).await.unwrap(), [recording]);
        let contents = store.contents(recording).await.unwrap().unwrap();
        store
            .sealed(recording, contents.generation, Some("m"), None)
            .await
            .unwrap();
        assert_eq!(store.unsealed(9).await.unwrap(), []);
    };
    seal().await;
    assert!(
        store
            .record(event("e1", "r1").received(2))
            .await
            .unwrap()
            .is_duplicate
    );
    assert_eq!(
        store.unsealed(9).await.unwrap(),
        [],
        "a duplicate is no news"
    );

    store
        .record(
            event("e2", "r1")
                .losing(Some(Kind::Chat), "chat")
                .received(3),
        )
        .await
        .unwrap();
    archive_all(&*store, 4).await;
    seal().await;
    store.retry(&Selection::All, at(5)).await.unwrap();
    assert_eq!(store.unsealed(9).await.unwrap(), [], "it is open again");
    store.cancel(&[recording.0], at(6)).await.unwrap();
    seal().await;
    store
        .retry(&Selection::Ids(vec![recording.0]), at(7))
        .await
        .unwrap();
    archive_all(&*store, 8).await;
    seal().await;
}

async fn contents_of_an_unknown_recording_are_nothing(backend: &dyn Backend) {
    let store = backend.open().await;
    let unknown = recording_harvester::model::RecordingId(uuid::Uuid::nil());
    assert!(store.contents(unknown).await.unwrap().is_none());
    store.sealed(unknown, 1, None, None).await.unwrap();
}

/// R6
async fn recordings_that_wait_do_not_stand_before_those_that_are_due(backend: &dyn Backend) {
    let store = backend.open().await;
    for number in 0..5 {
        let name = format!("r{number}");
        store
            .record(event(&name, &name).received(number))
            .await
            .unwrap();
    }
    archive_all(&*store, 9).await;
    let all = store.sealable(at(10), 99).await.unwrap();
    assert_eq!(all.len(), 5);
    let class = Class::UploadFailed;
    for (one, wait) in all[..4].iter().zip([300, 100, 200, 300]) {
        let until = at(10 + wait);
        let put_off = store.put_off_seal(one.id, class, "501", at(10), until);
        put_off.await.unwrap();
    }
    let due = async |seconds, limit| {
        let due = store.sealable(at(seconds), limit).await.unwrap();
        due.iter().map(|one| one.id).collect::<Vec<_>>()
    };
    assert_eq!(due(10, 2).await, [all[4].id], "the one that never failed");
    assert_eq!(due(110, 2).await, [all[4].id, all[1].id]);
    assert_eq!(due(310, 99).await.len(), 5);
    let again = store.sealable(at(310), 99).await.unwrap();
    assert_eq!(again[0].failures, 0);
    assert_eq!(again[1].failures, 1);
    // They still count as unsealed, for those who want to know whether all is done.
    assert_eq!(store.unsealed(99).await.unwrap().len(), 5);
    assert_eq!(store.unsealed_of(&[all[0].id]).await.unwrap(), [all[0].id]);
    // A clock that has been set back by a day hides nothing.
    assert_eq!(due(10 - 86_400, 99).await.len(), 5);
}

async fn a_manifest_that_cannot_be_written_for_an_hour_is_told(backend: &dyn Backend) {
    let store = backend.open().await;
    let recorded = store.record(event("e1", "r1").received(0)).await.unwrap();
    let recording = recorded.recording_id.unwrap();
    archive_all(&*store, 1).await;
    let class = Class::UploadDenied;
    for minute in [0, 59] {
        let seconds = minute * 60;
        let put_off = store.put_off_seal(recording, class, "403", at(seconds), at(seconds + 300));
        put_off.await.unwrap();
    }
    let overdue = async |seconds| store.overdue_manifests(at(seconds), 9).await.unwrap();
    assert_eq!(overdue(3599).await, []);
    let told = overdue(3600).await;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].recording.id, recording);
    assert_eq!((told[0].class, &*told[0].message), (class, "403"));
    assert_eq!(told[0].failing_since, at(0));
    let generation = store.contents(recording).await.unwrap().unwrap().generation;
    store
        .sealed(recording, generation, Some("m"), None)
        .await
        .unwrap();
    assert_eq!(overdue(3600).await, []);
}

async fn unsealed_answers_with_no_more_than_it_was_asked_for(backend: &dyn Backend) {
    let store = backend.open().await;
    for name in ["a", "b", "c"] {
        store.record(event(name, name).received(0)).await.unwrap();
    }
    archive_all(&*store, 1).await;
    assert_eq!(store.unsealed(2).await.unwrap().len(), 2);
    assert_eq!(open_jobs(&*store).await, 0);
}
