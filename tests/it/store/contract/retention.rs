//! What leaves the store after a while, and what must not (S9).

use recording_harvester::model::{EventClass, Kind, State};
use recording_harvester::store::NewEvent;

use super::build::*;
use super::{Backend, on_every_backend};

on_every_backend! {
    after_its_retention_a_recording_leaves_whole_and_a_repeated_delivery_is_known,
    events_that_nobody_understood_stay_readable_and_those_that_carry_nothing_are_forgotten,
}

const DAY: i64 = 86_400;

fn days(days: i64) -> Option<jiff::SignedDuration> {
    Some(jiff::SignedDuration::from_hours(24 * days))
}

fn with_video(key: &str, recording: &str) -> NewEvent {
    let new = event(key, recording).with(video(recording, Some(3600)));
    new.received(0)
}

async fn after_its_retention_a_recording_leaves_whole_and_a_repeated_delivery_is_known(
    backend: &dyn Backend,
) {
    let store = backend.open().await;
    let old = store.record(with_video("old", "r1")).await.unwrap();
    store
        .record(
            event("lost", "r2")
                .losing(Some(Kind::Video), "video")
                .received(0),
        )
        .await
        .unwrap();
    store.record(with_video("unsealed", "r3")).await.unwrap();
    archive_all(&*store, 1).await;
    let unsealed = store.unsealed(9).await.unwrap();
    let seal = async |recording| {
        let contents = store.contents(recording).await.unwrap().unwrap();
        let generation = contents.generation;
        store
            .sealed(recording, generation, Some("m"), None)
            .await
            .unwrap();
    };
    for recording in &unsealed[..2] {
        seal(*recording).await;
    }
    // One with a part that is news is kept whole.
    let new = event("young", "r4").with(video("v", Some(60))).received(0);
    let kept = store.record(new).await.unwrap().recording_id.unwrap();
    archive_all(&*store, 1).await;
    let later = event("young-2", "r4")
        .with(transcript("t"))
        .received(5 * DAY);
    store.record(later).await.unwrap();
    archive_all(&*store, 5 * DAY).await;
    seal(kept).await;

    let purged = store.purge(at(8 * DAY), None).await.unwrap();
    assert_eq!(purged.recordings, 0, "for ever, unless it is said");
    let purged = store.purge(at(8 * DAY), days(7)).await.unwrap();
    assert_eq!(purged.recordings, 2);
    let left = records(&*store).await;
    assert!(left.iter().all(|record| record.state == State::Archived));
    assert!(
        left.iter()
            .all(|record| Some(record.recording_id) != old.recording_id)
    );
    let contents = store.contents(kept).await.unwrap().unwrap();
    assert_eq!(
        contents.archived().count(),
        4,
        "a manifest never gets shorter"
    );
    assert!(
        store
            .contents(old.recording_id.unwrap())
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(store.provider_failures(None).await.unwrap(), []);

    let again = store.record(with_video("old", "r1")).await.unwrap();
    assert!(again.is_duplicate);
    assert_eq!((again.recording_id, again.jobs.len()), (None, 0));
    // Other news of it begin a recording of their own, which replaces no manifest of the old one.
    let news = event("news", "r1").with(transcript("t2")).received(9 * DAY);
    let news = store.record(news).await.unwrap().recording_id.unwrap();
    assert_ne!(Some(news), old.recording_id);
    let contents = store.contents(news).await.unwrap().unwrap();
    assert_eq!(contents.manifest_etag, None);

    // In the end the keys leave, too.
    let purged = store.purge(at(99 * DAY), days(7)).await.unwrap();
    assert_eq!((purged.recordings, purged.events), (1, 3));
    let events = store.events(None, 99).await.unwrap();
    let left: Vec<_> = events
        .iter()
        .filter_map(|event| event.event_id.as_deref())
        .collect();
    assert_eq!(left, ["unsealed", "young-2", "news"]);
}

async fn events_that_nobody_understood_stay_readable_and_those_that_carry_nothing_are_forgotten(
    backend: &dyn Backend,
) {
    let store = backend.open().await;
    let mut ids = Vec::new();
    for (key, class) in [("u", EventClass::Unknown), ("i", EventClass::Ignored)] {
        let new = event(key, key).class(class).received(0);
        ids.push(store.record(new).await.unwrap().event_id);
    }
    let (unknown, ignored) = (ids[0], ids[1]);
    assert_eq!(store.purge(at(6 * DAY), None).await.unwrap().bodies, 0);
    assert_eq!(store.purge(at(8 * DAY), None).await.unwrap().bodies, 1);
    assert_eq!(store.raw_event(ignored).await.unwrap(), None);
    assert!(store.raw_event(unknown).await.unwrap().is_some());
    assert_eq!(store.purge(at(20 * DAY), days(30)).await.unwrap().bodies, 0);
    assert_eq!(store.purge(at(31 * DAY), days(30)).await.unwrap().bodies, 1);
    assert_eq!(store.raw_event(unknown).await.unwrap(), None);
    assert_eq!(
        store.events(None, 9).await.unwrap().len(),
        2,
        "that they came stays known"
    );
}
