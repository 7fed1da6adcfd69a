//! Provider failures: stored once, withdrawn by a success.

use recording_harvester::model::{EventClass, Format, Kind, Origin};
use recording_harvester::store::JobStore;

use super::build::*;
use super::{Backend, on_every_backend};

on_every_backend! {
    a_failure_is_stored_once_a_loss_key,
    a_later_success_withdraws_the_loss,
    only_what_was_lost_withdraws_it,
    a_partial_result_leaves_the_loss_that_its_event_reports,
    the_event_and_inline_bytes_withdraw_nothing,
    a_later_event_that_names_an_archived_file_withdraws_the_loss,
    a_failure_that_comes_after_its_cure_is_withdrawn_at_once,
    a_failure_without_a_recording_is_withdrawn_by_the_recording_of_its_room,
    failures_filter_by_time,
}

async fn losses(store: &dyn JobStore) -> Vec<String> {
    let found = store.provider_failures(None).await.unwrap();
    found
        .into_iter()
        .map(|loss| loss.failure.event_id)
        .collect()
}

async fn a_failure_is_stored_once_a_loss_key(backend: &dyn Backend) {
    let store = backend.open().await;
    let first = event("e1", "r1").time(-5).losing(None, "bot-failed");
    let recorded = store.record(first.received(0)).await.unwrap();
    let second = event("e2", "r1")
        .losing(None, "bot-failed")
        .losing(Some(Kind::Chat), "chat");
    store.record(second.received(1)).await.unwrap();
    store
        .record(event("e3", "r3").losing(None, "bot-failed").received(2))
        .await
        .unwrap();
    assert_eq!(losses(&*store).await, ["e1", "e2", "e3"]);
    let contents = store
        .contents(recorded.recording_id.unwrap())
        .await
        .unwrap()
        .unwrap();
    let told: Vec<_> = contents
        .provider_failures
        .iter()
        .map(|loss| (&*loss.event_id, loss.at))
        .collect();
    assert_eq!(told, [("e1", at(-5)), ("e2", at(1))]);
    assert_eq!(
        contents.provider_failures[0].code.as_deref(),
        Some("UPLOAD_ERROR")
    );
}

async fn a_later_success_withdraws_the_loss(backend: &dyn Backend) {
    let store = backend.open().await;
    let recorded = store
        .record(event("e1", "r1").losing(None, "k").received(0))
        .await
        .unwrap();
    store
        .record(event("e2", "r1").with(video("v", Some(3600))).received(60))
        .await
        .unwrap();
    assert_eq!(losses(&*store).await, ["e1"], "announced is not archived");
    archive_all(&*store, 61).await;
    assert_eq!(losses(&*store).await, [""; 0]);
    let contents = store
        .contents(recorded.recording_id.unwrap())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(contents.provider_failures, []);
}

async fn only_what_was_lost_withdraws_it(backend: &dyn Backend) {
    let store = backend.open().await;
    store
        .record(
            event("e1", "r1")
                .losing(Some(Kind::Transcript), "k")
                .received(0),
        )
        .await
        .unwrap();
    store
        .record(event("e2", "r1").with(video("v", Some(3600))).received(1))
        .await
        .unwrap();
    store
        .record(event("e3", "r2").with(transcript("t")).received(1))
        .await
        .unwrap();
    archive_all(&*store, 2).await;
    assert_eq!(losses(&*store).await, ["e1"]);
    store
        .record(event("e4", "r1").with(transcript("t")).received(3))
        .await
        .unwrap();
    archive_all(&*store, 4).await;
    assert_eq!(losses(&*store).await, [""; 0]);
}

async fn a_partial_result_leaves_the_loss_that_its_event_reports(backend: &dyn Backend) {
    let store = backend.open().await;
    let partial = event("e1", "r1")
        .with(transcript("t"))
        .losing(Some(Kind::Transcript), "k");
    store.record(partial.received(0)).await.unwrap();
    archive_all(&*store, 1).await;
    assert_eq!(losses(&*store).await, ["e1"]);
}

async fn the_event_and_inline_bytes_withdraw_nothing(backend: &dyn Backend) {
    let store = backend.open().await;
    store
        .record(
            event("e1", "r1")
                .losing(Some(Kind::Transcript), "k")
                .received(0),
        )
        .await
        .unwrap();
    let mut inline = transcript("inline");
    inline.origin = Origin::Inline("[]".to_owned());
    inline.format = Format::Json;
    store
        .record(event("e2", "r1").with(inline).received(1))
        .await
        .unwrap();
    archive_all(&*store, 2).await;
    assert_eq!(losses(&*store).await, ["e1"]);
}

async fn a_later_event_that_names_an_archived_file_withdraws_the_loss(backend: &dyn Backend) {
    let store = backend.open().await;
    let partial = event("e1", "r1")
        .with(transcript("t"))
        .losing(Some(Kind::Transcript), "k");
    let recorded = store.record(partial.received(0)).await.unwrap();
    archive_all(&*store, 1).await;
    store
        .record(event("e2", "r1").with(transcript("t")).received(60))
        .await
        .unwrap();
    assert_eq!(losses(&*store).await, [""; 0]);
    archive_all(&*store, 61).await;
    assert_eq!(
        store.unsealed(9).await.unwrap(),
        [recorded.recording_id.unwrap()]
    );
}

async fn a_failure_that_comes_after_its_cure_is_withdrawn_at_once(backend: &dyn Backend) {
    let store = backend.open().await;
    store
        .record(
            event("e2", "r1")
                .time(60)
                .with(video("v", Some(3600)))
                .received(61),
        )
        .await
        .unwrap();
    archive_all(&*store, 62).await;
    store
        .record(event("e1", "r1").time(0).losing(None, "early").received(63))
        .await
        .unwrap();
    assert_eq!(losses(&*store).await, [""; 0]);
    store
        .record(event("e3", "r1").time(70).losing(None, "late").received(71))
        .await
        .unwrap();
    assert_eq!(
        losses(&*store).await,
        ["e3"],
        "what is lost after the success is lost"
    );
}

async fn a_failure_without_a_recording_is_withdrawn_by_the_recording_of_its_room(
    backend: &dyn Backend,
) {
    let store = backend.open().await;
    let error = |key: &str, seconds: i64| {
        event(key, "unused")
            .class(EventClass::Failure)
            .time(seconds)
            .losing(None, "recording.error")
            .told(|told| {
                told.recording_id = None;
                told.room_name = Some("room".into());
            })
    };
    let lost = store.record(error("near", 0).received(0)).await.unwrap();
    store.record(error("far", -7200).received(0)).await.unwrap();
    archive_all(&*store, 1).await;
    let generation = |contents: Option<recording_harvester::model::manifest::RecordingContents>| {
        contents.unwrap().generation
    };
    let before = generation(store.contents(lost.recording_id.unwrap()).await.unwrap());
    let saved = event("e2", "r1")
        .time(300)
        .with(video("v", Some(3600)))
        .told(|told| {
            told.room_name = Some("room".into());
            told.started_at = Some(at(60));
        });
    store.record(saved.received(300)).await.unwrap();
    archive_all(&*store, 301).await;
    assert_eq!(losses(&*store).await, ["far"]);
    assert!(generation(store.contents(lost.recording_id.unwrap()).await.unwrap()) > before);
    // The same news in the other order.
    store
        .record(error("late-delivery", 30).received(400))
        .await
        .unwrap();
    store
        .record(error("after", 500).received(500))
        .await
        .unwrap();
    assert_eq!(losses(&*store).await, ["far", "after"]);
}

async fn failures_filter_by_time(backend: &dyn Backend) {
    let store = backend.open().await;
    for (second, key) in [(0, "e1"), (10, "e2")] {
        store
            .record(event(key, key).losing(None, "k").received(second))
            .await
            .unwrap();
    }
    let found = store.provider_failures(Some(at(10))).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].recording.recording_id.as_deref(), Some("e2"));
}
