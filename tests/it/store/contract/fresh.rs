//! The same artifact again: fresh origins, unusable ones, answered lookups.

use recording_harvester::error::Class;
use recording_harvester::model::{EventClass, Lookup, Origin, State};
use recording_harvester::signed_url::{SignedUrl, UrlHeader};
use recording_harvester::store::{Claimed, JobStore, LeaseWrite};

use super::build::*;
use super::{Backend, on_every_backend};

on_every_backend! {
    a_fresh_event_gives_a_waiting_job_its_origin_and_wakes_a_lost_one,
    a_fresh_origin_has_all_attempts,
    an_older_event_with_a_living_url_wakes_what_was_lost,
    a_fresh_event_changes_nothing_about_an_archived_job,
    an_older_event_that_comes_late_brings_no_fresh_origin,
    a_fresh_origin_during_an_attempt_survives_its_failure,
    an_event_without_what_opens_the_file_does_not_take_the_url_away,
    an_unusable_artifact_is_a_failed_job_until_a_usable_one_comes,
    an_answered_lookup_becomes_its_artifacts_and_leaves_the_records,
    an_answered_lookup_is_asked_again_only_for_what_was_lost,
    a_url_that_comes_while_its_place_is_tried_is_not_lost_with_the_answer,
    an_event_that_comes_while_its_lookup_is_asked_has_it_asked_again,
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
            LeaseWrite::Yes
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

/// Those before were made at another URL: with what was left of them one passing error would lose the fresh one.
async fn a_fresh_origin_has_all_attempts(backend: &dyn Backend) {
    let store = backend.open().await;
    let send = async |key: &str, seconds: i64| {
        let mut fresh = video("v", Some(7200));
        fresh.origin = url("v", key);
        let new = event(key, "r1").with(fresh).received(seconds);
        store.record(new).await.unwrap();
    };
    send("e1", 0).await;
    for time in [1, 2] {
        let tried = claim_one(&*store, time).await;
        let again = retry_at(time, true);
        let settled = store.settle(&tried.lease, &again, at(time)).await;
        assert_eq!(settled.unwrap(), LeaseWrite::Yes);
    }
    send("e2", 10).await;
    let tried = claim_one(&*store, 11).await.job;
    assert_eq!((tried.attempts, tried.first_attempt_at), (1, at(11)));

    for (number, outcome) in [retry_at(99, true), retry_at(99, false), expired()]
        .into_iter()
        .enumerate()
    {
        let time = 100 * (number as i64 + 1);
        let running = claim_one(&*store, time).await;
        send(&format!("during-{number}"), time + 1).await;
        let settled = store.settle(&running.lease, &outcome, at(time + 2)).await;
        assert_eq!(settled.unwrap(), LeaseWrite::Yes);
        let tried = claim_one(&*store, time + 3).await;
        let of = (tried.job.attempts, tried.job.first_attempt_at);
        assert_eq!(of, (1, at(time + 3)), "after {outcome:?}");
        let again = retry_at(time + 4, false);
        let settled = store.settle(&tried.lease, &again, at(time + 4)).await;
        assert_eq!(settled.unwrap(), LeaseWrite::Yes);
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

/// Deliveries are repeated for hours, each with a URL of its own.
async fn an_older_event_with_a_living_url_wakes_what_was_lost(backend: &dyn Backend) {
    let store = backend.open().await;
    let send = async |key: &str, made: i64, deadline: i64, received: i64| {
        let mut artifact = video("v", Some(deadline));
        artifact.origin = url("v", key);
        let mut new = event(key, "r1").with(artifact.clone()).received(received);
        new.event.event_time = Some(at(made));
        let recorded = store.record(new).await.unwrap();
        (recorded.jobs[0], artifact.origin)
    };
    let (video, _) = send("newer", 50, 100, 60).await;
    let lost = claim_one(&*store, 61).await;
    let settled = store.settle(&lost.lease, &expired(), at(101)).await;
    assert_eq!(settled.unwrap(), LeaseWrite::Yes);

    send("dead", 20, 90, 110).await;
    assert_eq!(record_of(&*store, video).await.state, State::Expired);
    let (woken, origin) = send("alive", 20, 900, 120).await;
    assert_eq!(woken, video);
    assert_eq!(claim_one(&*store, 121).await.job.origin, origin);
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
        LeaseWrite::Yes
    );
    let next = claim_one(&*store, 12).await;
    assert_eq!(next.job.origin, fresh.origin);
    assert_eq!(
        store.settle(&next.lease, &expired(), at(13)).await.unwrap(),
        LeaseWrite::Yes
    );
    assert_eq!(states(&*store).await, ["recording.mp4 expired"]);
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
        LeaseWrite::Yes
    );
    assert_eq!(
        states(&*store).await,
        ["recording.mp4 pending", "transcript.json pending"]
    );
    assert_eq!(
        store.resolve(&claimed.lease, found, at(2)).await.unwrap(),
        LeaseWrite::Stale
    );
    assert_eq!(
        store
            .settle(&claimed.lease, &expired(), at(2))
            .await
            .unwrap(),
        LeaseWrite::Stale
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
            assert_eq!(written.unwrap(), LeaseWrite::Yes);
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
        LeaseWrite::Yes
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

async fn an_event_without_what_opens_the_file_does_not_take_the_url_away(backend: &dyn Backend) {
    let store = backend.open().await;
    let mut good = video("v", Some(100));
    let header = UrlHeader::new("authorization", "Bearer t", vec!["h".to_owned()]);
    good.origin = Origin::Url(SignedUrl::new("https://h/v").with_header(header));
    let mut poor = good.clone();
    poor.origin = Origin::Lookup(Lookup {
        call: Lookup::NO_CALL.to_owned(),
        id: "https://h/v".to_owned(),
    });
    store
        .record(event("e1", "r1").with(good.clone()).received(0))
        .await
        .unwrap();
    store
        .record(event("e2", "r1").with(poor).received(10))
        .await
        .unwrap();
    let claimed = claim_one(&*store, 20).await;
    assert_eq!(claimed.job.origin, good.origin);
}

/// Claims the small job of the recording that is a lookup.
async fn claim_lookup(store: &dyn JobStore, seconds: i64) -> Claimed {
    let claimed = store.claim(claim_at(seconds, true, 8)).await.unwrap();
    let mut lookups = claimed
        .into_iter()
        .filter(|claimed| matches!(claimed.job.origin, Origin::Lookup(_)));
    lookups.next().expect("a lookup is due")
}

/// The answer about a place is the place without a signature.
async fn a_url_that_comes_while_its_place_is_tried_is_not_lost_with_the_answer(
    backend: &dyn Backend,
) {
    let store = backend.open().await;
    let mut unsigned = video("v", None);
    unsigned.origin = Origin::Lookup(Lookup {
        call: Lookup::PLACE.to_owned(),
        id: "https://cdn.example/v".to_owned(),
    });
    let first = event("e1", "r1").with(unsigned);
    store.record(first.received(0)).await.unwrap();
    let asked = claim_lookup(&*store, 1).await;
    let second = event("e2", "r1").with(video("v", Some(7200)));
    store.record(second.received(2)).await.unwrap();
    let mut at_place = video("v", None);
    at_place.origin = Origin::Url(SignedUrl::new("https://cdn.example/v"));
    let resolved = store.resolve(&asked.lease, vec![at_place], at(3)).await;
    assert_eq!(resolved.unwrap(), LeaseWrite::Yes);

    assert_eq!(states(&*store).await, ["recording.mp4 pending"]);
    let tried = claim_one(&*store, 4).await;
    assert_eq!(tried.job.origin, url("v", "first"));
    assert_eq!(tried.record.deadline, Some(at(7200)));
    assert_eq!(tried.job.attempts, 1);
    archive_all(&*store, 100).await;
    assert_eq!(open_jobs(&*store).await, 0);
}

/// The answer may be older than the event.
async fn an_event_that_comes_while_its_lookup_is_asked_has_it_asked_again(backend: &dyn Backend) {
    let store = backend.open().await;
    let ask = |key: &str| {
        event(key, "r1")
            .class(EventClass::Lookup)
            .with(lookup("r1"))
    };
    store.record(ask("e1").received(0)).await.unwrap();
    let asked = claim_lookup(&*store, 1).await;
    store.record(ask("e2").received(2)).await.unwrap();
    let found = vec![video("v", Some(60))];
    let resolved = store.resolve(&asked.lease, found, at(3)).await;
    assert_eq!(resolved.unwrap(), LeaseWrite::Yes);
    let stale = store.resolve(&asked.lease, Vec::new(), at(3)).await;
    assert_eq!(stale.unwrap(), LeaseWrite::Stale);

    let asked = claim_lookup(&*store, 4).await;
    assert_eq!(asked.job.attempts, 1);
    let found = vec![video("v", Some(60)), transcript("t")];
    let resolved = store.resolve(&asked.lease, found, at(5)).await;
    assert_eq!(resolved.unwrap(), LeaseWrite::Yes);
    assert_eq!(
        states(&*store).await,
        ["recording.mp4 pending", "transcript.json pending"]
    );
    archive_all(&*store, 200).await;
    assert_eq!(store.unsealed(9).await.unwrap().len(), 1, "nothing is open");
}
