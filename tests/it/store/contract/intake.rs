//! What comes in: deduplication, joining, names, dates.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::SignedDuration;
use recording_harvester::error::Class;
use recording_harvester::model::{Artifact, Deadline, DeadlineFrom, EventClass, Kind, Origin};

use super::build::*;
use super::{Backend, on_every_backend};

on_every_backend! {
    a_delivery_that_comes_64_times_at_once_is_one_event,
    an_event_without_a_recording_is_kept_and_makes_no_job,
    two_events_of_one_recording_join_and_fill_in_what_was_missing,
    an_artifact_announced_twice_in_one_event_is_one_job,
    a_taken_name_gets_a_number,
    the_sessions_first_event_fixes_the_date,
    reopening_keeps_everything,
    text_with_nul_is_stored,
    a_caller_that_goes_away_leaves_its_write_whole,
    a_raw_event_reads_back_byte_for_byte,
    a_receipt_tells_of_new_jobs_what_the_store_tells,
}

async fn a_delivery_that_comes_64_times_at_once_is_one_event(backend: &dyn Backend) {
    let store = backend.open().await;
    let mut senders = tokio::task::JoinSet::new();
    for second in 0..64 {
        let store = Arc::clone(&store);
        let new = event("e1", "r1")
            .with(video("v", Some(3600)))
            .received(second);
        senders.spawn(async move { store.record(new).await.unwrap() });
    }
    let receipts = senders.join_all().await;
    let firsts = receipts.iter().filter(|receipt| !receipt.is_duplicate);
    assert_eq!(firsts.count(), 1);
    let distinct: HashSet<_> = receipts
        .iter()
        .map(|receipt| (receipt.event_id, receipt.recording_id, receipt.jobs.clone()))
        .collect();
    assert_eq!(
        distinct.len(),
        1,
        "every sender got the first receipt's ids"
    );
    assert_eq!(store.events(None, 10).await.unwrap().len(), 1);
    assert_eq!(records(&*store).await.len(), 2, "the video and the event");
}

async fn an_event_without_a_recording_is_kept_and_makes_no_job(backend: &dyn Backend) {
    let store = backend.open().await;
    for (key, class) in [("i", EventClass::Ignored), ("u", EventClass::Unknown)] {
        let recorded = store
            .record(event(key, "r").class(class).received(0))
            .await
            .unwrap();
        assert_eq!(recorded.recording_id, None);
        assert_eq!(recorded.jobs, []);
    }
    assert_eq!(records(&*store).await, []);
    let events = store.events(None, 10).await.unwrap();
    let classes: Vec<_> = events.iter().map(|event| event.class).collect();
    assert_eq!(classes, [EventClass::Ignored, EventClass::Unknown]);
}

async fn two_events_of_one_recording_join_and_fill_in_what_was_missing(backend: &dyn Backend) {
    let store = backend.open().await;
    let first = event("e1", "r1")
        .told(|recording| recording.room_name = Some("first".into()))
        .with(video("v", Some(3600)));
    let second = event("e2", "r1")
        .told(|recording| {
            recording.room_name = Some("second".into());
            recording.session_id = Some("s".into());
            recording.ended_at = Some(at(-60));
        })
        .with(transcript("t"));
    let one = store.record(first.received(0)).await.unwrap();
    let two = store.record(second.received(1)).await.unwrap();
    assert_eq!(one.recording_id, two.recording_id);
    let contents = store
        .contents(one.recording_id.unwrap())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(contents.recording.room_name.as_deref(), Some("first"));
    assert_eq!(contents.recording.session_id.as_deref(), Some("s"));
    assert_eq!(contents.recording.ended_at, Some(at(-60)));
    assert_eq!(contents.event_ids, ["e1", "e2"]);
    let names: Vec<_> = contents
        .artifacts
        .iter()
        .map(|record| &*record.name)
        .collect();
    assert_eq!(
        names,
        [
            "event-e1.json",
            "event-e2.json",
            "recording.mp4",
            "transcript.json"
        ]
    );
    assert!(
        contents
            .artifacts
            .iter()
            .all(|record| record.key == format!("{}/{}", contents.folder, record.name))
    );
    assert_eq!(
        contents.folder, "hms/2026/03/02/r1",
        "the first event had no session"
    );
}

async fn an_artifact_announced_twice_in_one_event_is_one_job(backend: &dyn Backend) {
    let store = backend.open().await;
    let new = event("e1", "r1")
        .with(video("v", Some(3600)))
        .with(video("v", Some(3600)));
    let recorded = store.record(new.received(0)).await.unwrap();
    assert_eq!(recorded.jobs.len(), 2, "the video once, and the event");
    assert_eq!(states(&*store).await, ["recording.mp4 pending"]);
}

async fn a_taken_name_gets_a_number(backend: &dyn Backend) {
    let store = backend.open().await;
    let first = event("e1", "r1")
        .with(video("a", Some(1)))
        .with(video("b", Some(1)));
    store.record(first.received(0)).await.unwrap();
    store
        .record(event("e2", "r1").with(video("c", Some(1))).received(1))
        .await
        .unwrap();
    assert_eq!(
        states(&*store).await,
        [
            "recording-2.mp4 pending",
            "recording-3.mp4 pending",
            "recording.mp4 pending"
        ]
    );
}

async fn the_sessions_first_event_fixes_the_date(backend: &dyn Backend) {
    let store = backend.open().await;
    let day = 24 * 3600;
    let mut folders = Vec::new();
    for (number, (recording, session, start)) in [
        ("r1", Some("s"), -day),
        ("r2", Some("s"), 0),
        ("r3", Some("other"), 0),
        ("r1", Some("s"), 3 * day),
    ]
    .into_iter()
    .enumerate()
    {
        let new = event(&format!("e{number}"), recording).told(|told| {
            told.session_id = session.map(str::to_owned);
            told.started_at = Some(at(start));
        });
        let recorded = store.record(new.received(number as i64)).await.unwrap();
        let contents = store
            .contents(recorded.recording_id.unwrap())
            .await
            .unwrap()
            .unwrap();
        folders.push(contents.folder);
    }
    assert_eq!(
        folders,
        [
            "hms/2026/03/01/s/r1",
            "hms/2026/03/01/s/r2",
            "hms/2026/03/02/other/r3",
            "hms/2026/03/01/s/r1",
        ]
    );
}

async fn reopening_keeps_everything(backend: &dyn Backend) {
    let store = backend.open().await;
    let mut with_remint = video("v", Some(60));
    with_remint.remint = match lookup("x").origin {
        Origin::Lookup(lookup) => Some(lookup),
        _ => None,
    };
    let recorded = store
        .record(event("e1", "r1").with(with_remint.clone()).received(0))
        .await
        .unwrap();
    let before = (records(&*store).await, store.events(None, 9).await.unwrap());
    drop(store);
    let store = backend.open().await;
    assert_eq!(
        (records(&*store).await, store.events(None, 9).await.unwrap()),
        before
    );
    let claimed = claim_one(&*store, 1).await;
    assert_eq!(claimed.job.origin, with_remint.origin);
    assert_eq!(claimed.job.remint, with_remint.remint);
    assert_eq!(claimed.job.deadline, with_remint.deadline);
    assert_eq!(claimed.job.id, recorded.jobs[0]);
}

async fn text_with_nul_is_stored(backend: &dyn Backend) {
    let store = backend.open().await;
    let new = event("e\0", "r1")
        .told(|told| told.room_name = Some("a\0b".into()))
        .with(transcript("t"));
    let one = store.record(new.received(0)).await.unwrap();
    let again = store.record(event("e\0", "r1").received(0)).await.unwrap();
    assert!(again.is_duplicate);
    let contents = store
        .contents(one.recording_id.unwrap())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(contents.recording.room_name.as_deref(), Some("a\u{fffd}b"));
    assert_eq!(
        contents
            .artifacts
            .iter()
            .filter(|record| record.kind == Kind::Transcript)
            .count(),
        1
    );
}

async fn a_receipt_tells_of_new_jobs_what_the_store_tells(backend: &dyn Backend) {
    let store = backend.open().await;
    let between_milliseconds = at(3600) + SignedDuration::from_nanos(1_234_567);
    let first = event("e1", "r1")
        .with(Artifact {
            deadline: Deadline::at(between_milliseconds, DeadlineFrom::Field),
            ..video("v", None)
        })
        .with(Artifact {
            origin: Origin::Unusable(Class::ProviderFailed, "the file\0 is gone".into()),
            size_bytes: None,
            ..video("w", None)
        })
        .with(lookup("l"));
    let one = store.record(first.received(0)).await.unwrap();
    assert_eq!(one.made.len(), 4, "all three and the event");
    assert_eq!(one.made, records(&*store).await);

    // Of a known recording only what is new; the video is known and gets a fresh origin.
    let second = || {
        event("e2", "r1")
            .with(video("v", Some(7200)))
            .with(transcript("t"))
    };
    let two = store.record(second().received(1)).await.unwrap();
    let made: Vec<_> = two.made.iter().map(|record| record.id).collect();
    assert_eq!(two.jobs.len(), 3);
    assert_eq!(made, two.jobs[1..]);
    let mut listed = records(&*store).await;
    listed.retain(|record| made.contains(&record.id));
    assert_eq!(two.made, listed);
    let again = store.record(second().received(2)).await.unwrap();
    assert_eq!((again.is_duplicate, again.made), (true, Vec::new()));
}

async fn a_raw_event_reads_back_byte_for_byte(backend: &dyn Backend) {
    let store = backend.open().await;
    for (number, body) in [&b"{\"b\": 1,\r\n\"a\":2}  "[..], b"\xff\0\xfe"]
        .into_iter()
        .enumerate()
    {
        let mut new = event(&format!("e{number}"), "r1").received(0);
        new.raw = bytes::Bytes::copy_from_slice(body);
        let recorded = store.record(new).await.unwrap();
        assert_eq!(
            store.raw_event(recorded.event_id).await.unwrap().unwrap(),
            body
        );
    }
    let unknown = recording_harvester::model::EventId(uuid::Uuid::nil());
    assert!(store.raw_event(unknown).await.unwrap().is_none());
}

async fn a_caller_that_goes_away_leaves_its_write_whole(backend: &dyn Backend) {
    let store = backend.open().await;
    for number in 0..50 {
        let new = event(&format!("e{number}"), "r1")
            .with(video("v", Some(60)))
            .received(0);
        let recording = store.record(new);
        // Polled once, so that it is on its way, then dropped.
        let _ = futures::poll!(std::pin::pin!(recording));
    }
    store.record(event("last", "r1").received(0)).await.unwrap();
    assert_eq!(store.events(None, 99).await.unwrap().len(), 51);
}
