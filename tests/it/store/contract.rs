//! What comes in: deduplication, joining, names, dates, lookups, an operator's words.

use std::collections::HashSet;
use std::sync::Arc;

use recording_harvester::error::Class;
use recording_harvester::model::{EventClass, Kind, Origin, State};
use recording_harvester::store::{Filter, Selection, Written};

use super::build::*;
use super::{Backend, on_every_backend};

on_every_backend! {
    a_delivery_that_comes_64_times_at_once_is_one_event,
    an_event_without_a_recording_is_kept_and_makes_no_job,
    two_events_of_one_recording_join_and_fill_in_what_was_missing,
    an_artifact_announced_twice_in_one_event_is_one_job,
    a_fresh_event_gives_a_waiting_job_its_origin_and_wakes_a_lost_one,
    a_fresh_event_changes_nothing_about_an_archived_job,
    an_older_event_that_comes_late_brings_no_fresh_origin,
    a_fresh_origin_during_an_attempt_survives_its_failure,
    a_taken_name_gets_a_number,
    the_sessions_first_event_fixes_the_date,
    an_unusable_artifact_is_a_failed_job_until_a_usable_one_comes,
    an_answered_lookup_becomes_its_artifacts_and_leaves_the_records,
    an_answered_lookup_is_asked_again_only_for_what_was_lost,
    reopening_keeps_everything,
    retry_wakes_what_its_selection_names,
    cancel_ends_open_jobs_and_takes_the_lease_away,
    lists_and_events_filter,
    text_with_nul_is_stored,
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
        contents.folder, "100ms/2026/03/02/r1",
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

async fn a_fresh_event_gives_a_waiting_job_its_origin_and_wakes_a_lost_one(backend: &dyn Backend) {
    let store = backend.open().await;
    let first = store
        .record(event("e1", "r1").with(video("v", Some(100))).received(0))
        .await
        .unwrap();
    let mut fresh = video("v", Some(7200));
    fresh.origin = url("v", "second");
    let second = store
        .record(event("e2", "r1").with(fresh.clone()).received(10))
        .await
        .unwrap();
    assert_eq!(second.jobs[0], first.jobs[0]);
    let claimed = claim_one(&*store, 20).await;
    assert_eq!(claimed.job.origin, fresh.origin);
    assert_eq!(claimed.record.deadline, Some(at(7200)));

    for (number, outcome) in [expired(), failed(Class::Denied)].into_iter().enumerate() {
        let claimed = match number {
            0 => claimed.clone(),
            _ => claim_one(&*store, 200).await,
        };
        assert_eq!(
            store
                .settle(&claimed.lease, &outcome, at(30))
                .await
                .unwrap(),
            Written::Yes
        );
        assert_eq!(
            states(&*store).await,
            [format!("recording.mp4 {}", outcome.state())]
        );
        let again = event(&format!("again-{number}"), "r1")
            .with(fresh.clone())
            .received(100 + number as i64);
        let woken = store.record(again).await.unwrap();
        assert_eq!(woken.jobs[0], first.jobs[0]);
        let record = record_of(&*store, first.jobs[0]).await;
        assert_eq!(
            (record.state, record.attempts, record.class),
            (State::Pending, 0, None)
        );
    }
}

async fn a_fresh_event_changes_nothing_about_an_archived_job(backend: &dyn Backend) {
    let store = backend.open().await;
    let first = store
        .record(event("e1", "r1").with(video("v", Some(100))).received(0))
        .await
        .unwrap();
    archive_all(&*store, 1).await;
    let before = record_of(&*store, first.jobs[0]).await;
    assert_eq!(before.state, State::Archived);
    let second = store
        .record(event("e2", "r1").with(video("v", Some(9000))).received(10))
        .await
        .unwrap();
    assert!(!second.jobs.contains(&first.jobs[0]));
    assert_eq!(record_of(&*store, first.jobs[0]).await, before);
}

async fn an_older_event_that_comes_late_brings_no_fresh_origin(backend: &dyn Backend) {
    let store = backend.open().await;
    let mut newer = video("v", Some(7200));
    newer.origin = url("v", "newer");
    store
        .record(event("e2", "r1").time(0).with(newer.clone()).received(1))
        .await
        .unwrap();
    store
        .record(
            event("e1", "r1")
                .time(-60)
                .with(video("v", Some(60)))
                .received(2),
        )
        .await
        .unwrap();
    let claimed = claim_one(&*store, 3).await;
    assert_eq!(claimed.job.origin, newer.origin);
    assert_eq!(claimed.job.deadline, newer.deadline);
}

async fn a_fresh_origin_during_an_attempt_survives_its_failure(backend: &dyn Backend) {
    let store = backend.open().await;
    store
        .record(event("e1", "r1").with(video("v", Some(10))).received(0))
        .await
        .unwrap();
    let running = claim_one(&*store, 1).await;
    let mut fresh = video("v", Some(7200));
    fresh.origin = url("v", "second");
    store
        .record(event("e2", "r1").with(fresh.clone()).received(5))
        .await
        .unwrap();
    assert_eq!(states(&*store).await, ["recording.mp4 running"]);
    assert_eq!(
        store
            .settle(&running.lease, &expired(), at(11))
            .await
            .unwrap(),
        Written::Yes
    );
    let next = claim_one(&*store, 12).await;
    assert_eq!(next.job.origin, fresh.origin);
    assert_eq!(
        store.settle(&next.lease, &expired(), at(13)).await.unwrap(),
        Written::Yes
    );
    assert_eq!(states(&*store).await, ["recording.mp4 expired"]);
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
            "100ms/2026/03/01/s/r1",
            "100ms/2026/03/01/s/r2",
            "100ms/2026/03/02/other/r3",
            "100ms/2026/03/01/s/r1",
        ]
    );
}

async fn an_unusable_artifact_is_a_failed_job_until_a_usable_one_comes(backend: &dyn Backend) {
    let store = backend.open().await;
    let mut unusable = video("v", None);
    unusable.origin = Origin::Unusable(Class::Invalid, "`ftp:` is no http(s) URL".to_owned());
    let recorded = store
        .record(event("e1", "r1").with(unusable.clone()).received(0))
        .await
        .unwrap();
    let record = record_of(&*store, recorded.jobs[0]).await;
    assert_eq!(
        (record.state, record.class),
        (State::Failed, Some(Class::Invalid))
    );
    assert_eq!(record.message.as_deref(), Some("`ftp:` is no http(s) URL"));
    assert_eq!(record.action.as_deref(), Some(Class::Invalid.action()));

    store
        .record(event("e2", "r1").with(video("v", Some(60))).received(1))
        .await
        .unwrap();
    assert_eq!(
        record_of(&*store, recorded.jobs[0]).await.state,
        State::Pending
    );
    store
        .record(event("e3", "r1").with(unusable).received(2))
        .await
        .unwrap();
    let claimed = claim_one(&*store, 3).await;
    assert_eq!(
        claimed.job.origin,
        url("v", "first"),
        "the usable origin is kept"
    );
}

async fn an_answered_lookup_becomes_its_artifacts_and_leaves_the_records(backend: &dyn Backend) {
    let store = backend.open().await;
    let asked = event("e1", "r1")
        .class(EventClass::Lookup)
        .with(lookup("r1"));
    let recorded = store.record(asked.received(0)).await.unwrap();
    let only = Some(vec![recorded.jobs[0]]);
    let mut claim = claim_at(1, true, 8);
    claim.only = only;
    let claimed = store.claim(claim).await.unwrap().remove(0);
    assert!(matches!(claimed.job.origin, Origin::Lookup(_)));
    let found = vec![video("v", Some(60)), transcript("t")];
    assert_eq!(
        store
            .resolve(&claimed.lease, found.clone(), at(2))
            .await
            .unwrap(),
        Written::Yes
    );
    assert_eq!(
        states(&*store).await,
        ["recording.mp4 pending", "transcript.json pending"]
    );
    assert_eq!(
        store.resolve(&claimed.lease, found, at(2)).await.unwrap(),
        Written::Stale
    );
    assert_eq!(
        store
            .settle(&claimed.lease, &expired(), at(2))
            .await
            .unwrap(),
        Written::Stale
    );
    archive_all(&*store, 3).await;
    let contents = store
        .contents(recorded.recording_id.unwrap())
        .await
        .unwrap()
        .unwrap();
    assert!(
        contents
            .artifacts
            .iter()
            .all(|record| record.state == State::Archived)
    );
    assert_eq!(contents.artifacts.len(), 3);
}

async fn an_answered_lookup_is_asked_again_only_for_what_was_lost(backend: &dyn Backend) {
    let store = backend.open().await;
    let ask = |key: &str| {
        event(key, "r1")
            .class(EventClass::Lookup)
            .with(lookup("r1"))
    };
    store.record(ask("e1").received(0)).await.unwrap();
    let answer = async |seconds: i64| {
        for claimed in store.claim(claim_at(seconds, true, 8)).await.unwrap() {
            let written = match claimed.job.origin {
                Origin::Lookup(_) => {
                    let found = vec![video("v", Some(60))];
                    store.resolve(&claimed.lease, found, at(seconds)).await
                }
                _ => {
                    store
                        .settle(&claimed.lease, &archived(&claimed.job.key), at(seconds))
                        .await
                }
            };
            assert_eq!(written.unwrap(), Written::Yes);
        }
    };
    answer(1).await;
    let running = claim_one(&*store, 2).await;
    store.record(ask("e2").received(2)).await.unwrap();
    assert_eq!(
        states(&*store).await,
        ["recording.mp4 running"],
        "its artifact is on its way"
    );
    assert_eq!(
        store
            .settle(&running.lease, &expired(), at(3))
            .await
            .unwrap(),
        Written::Yes
    );

    store.record(ask("e3").received(4)).await.unwrap();
    assert_eq!(
        states(&*store).await,
        ["recording-2.mp4 pending", "recording.mp4 expired"]
    );
    answer(5).await;
    assert_eq!(
        states(&*store).await,
        ["recording.mp4 pending"],
        "the answer woke the lost one"
    );
    archive_all(&*store, 6).await;
    store.record(ask("e4").received(7)).await.unwrap();
    assert_eq!(
        states(&*store).await,
        ["recording.mp4 archived"],
        "nothing is left to ask for"
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

async fn retry_wakes_what_its_selection_names(backend: &dyn Backend) {
    let store = backend.open().await;
    let mut jobs = Vec::new();
    for (number, outcome) in [failed(Class::Gone), failed(Class::Denied), expired()]
        .iter()
        .enumerate()
    {
        let new = event(&format!("e{number}"), &format!("r{number}")).with(video("v", Some(3600)));
        let recorded = store.record(new.received(0)).await.unwrap();
        let claimed = claim_one(&*store, 1).await;
        assert_eq!(
            store.settle(&claimed.lease, outcome, at(2)).await.unwrap(),
            Written::Yes
        );
        jobs.push((recorded.jobs[0], recorded.recording_id.unwrap()));
    }
    let stopped = store
        .record(event("e9", "r9").with(video("v", None)).received(0))
        .await
        .unwrap();
    store.cancel(&[stopped.jobs[0].0], at(3)).await.unwrap();

    let woken = store
        .retry(&Selection::Class(Class::Denied), at(4))
        .await
        .unwrap();
    assert_eq!(
        woken.iter().map(|record| record.id).collect::<Vec<_>>(),
        [jobs[1].0]
    );
    assert_eq!(
        (woken[0].state, woken[0].attempts, woken[0].class),
        (State::Pending, 0, None)
    );
    let claimed = claim_one(&*store, 5).await;
    assert_eq!(
        (claimed.job.attempts, claimed.job.first_attempt_at),
        (1, at(5))
    );

    let woken = store
        .retry(&Selection::Ids(vec![jobs[0].1.0]), at(6))
        .await
        .unwrap();
    assert_eq!(
        woken.iter().map(|record| record.id).collect::<Vec<_>>(),
        [jobs[0].0],
        "by its recording"
    );
    let woken = store.retry(&Selection::All, at(7)).await.unwrap();
    assert_eq!(
        woken.iter().map(|record| record.id).collect::<Vec<_>>(),
        [jobs[2].0],
        "not the cancelled one"
    );
    let woken = store
        .retry(&Selection::Ids(vec![stopped.jobs[0].0]), at(8))
        .await
        .unwrap();
    assert_eq!(woken[0].state, State::Pending);
    assert_eq!(store.retry(&Selection::All, at(9)).await.unwrap(), []);
    assert_eq!(
        store
            .retry(&Selection::Ids(vec![uuid::Uuid::nil()]), at(9))
            .await
            .unwrap(),
        []
    );
}

async fn cancel_ends_open_jobs_and_takes_the_lease_away(backend: &dyn Backend) {
    let store = backend.open().await;
    let recorded = store
        .record(event("e1", "r1").with(video("v", Some(60))).received(0))
        .await
        .unwrap();
    let claimed = claim_one(&*store, 1).await;
    let ended = store
        .cancel(&[recorded.recording_id.unwrap().0], at(2))
        .await
        .unwrap();
    assert_eq!(ended.len(), 2, "the video and the event");
    assert!(ended.iter().all(|record| record.state == State::Cancelled));
    assert_eq!(
        store
            .heartbeat(std::slice::from_ref(&claimed.lease), at(90))
            .await
            .unwrap(),
        [claimed.lease.job]
    );
    assert_eq!(
        store
            .settle(&claimed.lease, &archived("k"), at(3))
            .await
            .unwrap(),
        Written::Stale
    );
    assert_eq!(store.claim(claim_at(999, false, 9)).await.unwrap().len(), 0);
    assert_eq!(
        store.cancel(&[recorded.jobs[0].0], at(4)).await.unwrap(),
        [],
        "it has settled"
    );
}

async fn lists_and_events_filter(backend: &dyn Backend) {
    let store = backend.open().await;
    for number in 0..3 {
        let new = event(&format!("e{number}"), &format!("r{number}")).with(video("v", Some(3600)));
        store.record(new.received(number * 10)).await.unwrap();
    }
    let claimed = claim_one(&*store, 100).await;
    let list = async |filter: Filter| store.list(&filter).await.unwrap();
    let running = list(Filter {
        states: vec![State::Running],
        ..Filter::default()
    })
    .await;
    assert_eq!(
        running.iter().map(|record| record.id).collect::<Vec<_>>(),
        [claimed.lease.job]
    );
    assert_eq!(
        list(Filter {
            since: Some(at(20)),
            ..Filter::default()
        })
        .await
        .len(),
        3,
        "two new, one changed"
    );
    let other = Some(recording_harvester::model::Provider::Daily);
    assert_eq!(
        list(Filter {
            provider: other,
            ..Filter::default()
        })
        .await,
        []
    );
    let both = vec![State::Pending, State::Running];
    assert_eq!(
        list(Filter {
            states: both,
            ..Filter::default()
        })
        .await
        .len(),
        6
    );
    let by_recording = Filter {
        ids: vec![running[0].recording_id.0],
        ..Filter::default()
    };
    assert_eq!(list(by_recording).await.len(), 2);
    let ids: Vec<_> = records(&*store)
        .await
        .iter()
        .map(|record| record.id)
        .collect();
    assert!(ids.is_sorted(), "oldest first");
    let events = store.events(Some(at(10)), 1).await.unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].event_id.as_deref(), Some("e1"));
    let stats = store.stats().await.unwrap();
    assert_eq!(stats.jobs[..2], [(State::Pending, 5), (State::Running, 1)]);
    assert!(stats.least_latest_start.is_some());
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
