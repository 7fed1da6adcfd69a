//! A delivery under an id that is known, whose URLs were signed anew.

use recording_harvester::error::Class;
use recording_harvester::model::{Artifact, Deadline, DeadlineFrom, State};
use recording_harvester::store::{JobStore, LeaseWrite, NewEvent, Recorded};

use super::build::*;
use super::{Backend, on_every_backend};

on_every_backend! {
    a_url_that_lives_longer_is_taken_over_by_what_waits,
    a_url_that_lives_longer_wakes_what_was_lost,
    the_same_urls_after_a_loss_change_nothing,
    an_older_url_that_comes_again_is_not_put_back,
    a_fresh_url_wakes_what_was_lost_after_a_guessed_end,
    a_fresh_url_that_comes_again_during_an_attempt_survives_its_failure,
    what_is_archived_or_cancelled_is_left_alone,
    deliveries_that_are_written_together_leave_the_url_that_lives_longest,
    a_delivery_that_comes_again_makes_no_jobs,
}

fn signed(signature: &str, until: i64) -> Artifact {
    let mut artifact = video("v", Some(until));
    artifact.origin = url("v", signature);
    artifact
}

/// The event `e1`, of a time of its own, with a video.
fn delivery(signature: &str, until: i64, received: i64) -> NewEvent {
    let new = event("e1", "r1").time(0).with(signed(signature, until));
    new.received(received)
}

async fn send(store: &dyn JobStore, signature: &str, until: i64, received: i64) -> Recorded {
    let new = delivery(signature, until, received);
    store.record(new).await.unwrap()
}

async fn generation(store: &dyn JobStore, recorded: &Recorded) -> i64 {
    let recording = recorded.recording_id.unwrap();
    store.contents(recording).await.unwrap().unwrap().generation
}

async fn a_url_that_lives_longer_is_taken_over_by_what_waits(backend: &dyn Backend) {
    let store = backend.open().await;
    let first = send(&*store, "old", 100, 1).await;
    for time in [2, 3] {
        let tried = claim_one(&*store, time).await;
        let again = retry_at(time, true);
        let settled = store.settle(&tried.lease, &again, at(time)).await;
        assert_eq!(settled.unwrap(), LeaseWrite::Yes);
    }
    let again = send(&*store, "new", 7200, 50).await;
    assert!(again.is_duplicate);
    assert_eq!(again.jobs, first.jobs, "those of the first receipt");
    assert_eq!(again.made, []);
    assert_eq!(again.renewed, [first.jobs[0]]);
    assert_eq!(store.events(None, 10).await.unwrap().len(), 1);
    let claimed = claim_one(&*store, 51).await;
    assert_eq!(claimed.job.origin, url("v", "new"));
    assert_eq!(claimed.record.deadline, Some(at(7200)));
    let tried = (claimed.job.attempts, claimed.job.first_attempt_at);
    assert_eq!(tried, (1, at(51)), "all attempts anew");
}

async fn a_url_that_lives_longer_wakes_what_was_lost(backend: &dyn Backend) {
    let store = backend.open().await;
    let first = send(&*store, "0", 100, 1).await;
    let lost = [
        expired(),
        failed(Class::Denied),
        failed(Class::Gone),
        failed(Class::Partial),
    ];
    for (number, outcome) in (1_i64..).zip(lost) {
        let time = 1000 * number;
        let tried = claim_one(&*store, time).await;
        let settled = store.settle(&tried.lease, &outcome, at(time + 1)).await;
        assert_eq!(settled.unwrap(), LeaseWrite::Yes);
        let before = generation(&*store, &first).await;
        let again = send(&*store, &number.to_string(), time + 5000, time + 2).await;
        assert!(again.is_duplicate);
        assert_eq!(again.renewed, [first.jobs[0]], "{outcome:?}");
        let record = record_of(&*store, first.jobs[0]).await;
        let stands = (record.state, record.attempts, record.class);
        assert_eq!(stands, (State::Pending, 0, None), "{outcome:?}");
        let after = generation(&*store, &first).await;
        assert!(
            after > before,
            "manifest and report have to be written anew"
        );
    }
    archive_all(&*store, 9000).await;
    assert_eq!(states(&*store).await, ["recording.mp4 archived"]);
    assert_eq!(open_jobs(&*store).await, 0);
}

async fn the_same_urls_after_a_loss_change_nothing(backend: &dyn Backend) {
    let store = backend.open().await;
    let unsigned = |received: i64| {
        let mut artifact = signed("x", 0);
        artifact.deadline = Deadline::NONE;
        artifact.identity = "url:/unsigned".to_owned();
        let new = event("e2", "r1").time(0).with(artifact);
        new.received(received)
    };
    let documented = |received: i64| {
        let mut artifact = signed("y", 0);
        artifact.deadline = Deadline::at(at(received + 5000), DeadlineFrom::Documented);
        artifact.identity = "url:/documented".to_owned();
        event("e3", "r1").with(artifact).received(received)
    };
    let first = send(&*store, "one", 5000, 1).await;
    store.record(unsigned(1)).await.unwrap();
    store.record(documented(1)).await.unwrap();
    for outcome in [failed(Class::Denied), failed(Class::Gone), expired()] {
        let tried = claim_one(&*store, 2).await;
        let settled = store.settle(&tried.lease, &outcome, at(3)).await;
        assert_eq!(settled.unwrap(), LeaseWrite::Yes);
    }
    let before = generation(&*store, &first).await;
    let of_before = states(&*store).await;
    for received in [4, 6000] {
        for again in [
            delivery("one", 5000, received),
            unsigned(received),
            documented(received),
        ] {
            let again = store.record(again).await.unwrap();
            assert_eq!((again.is_duplicate, again.renewed), (true, Vec::new()));
        }
    }
    assert_eq!(states(&*store).await, of_before);
    assert_eq!(generation(&*store, &first).await, before);
}

async fn an_older_url_that_comes_again_is_not_put_back(backend: &dyn Backend) {
    let store = backend.open().await;
    send(&*store, "a", 100, 1).await;
    send(&*store, "b", 7200, 2).await;
    let again = send(&*store, "a", 100, 3).await;
    assert_eq!(again.renewed, []);
    let newer = event("e2", "r1").time(10).with(signed("c", 9000));
    store.record(newer.received(11)).await.unwrap();
    for (signature, until) in [("a", 100), ("b", 7200), ("d", 8000)] {
        assert_eq!(send(&*store, signature, until, 20).await.renewed, []);
    }
    let claimed = claim_one(&*store, 30).await;
    assert_eq!(claimed.job.origin, url("v", "c"));
    let denied = failed(Class::Denied);
    let settled = store.settle(&claimed.lease, &denied, at(31)).await;
    assert_eq!(settled.unwrap(), LeaseWrite::Yes);
    // Of what is lost it may be the last one that lives.
    assert_eq!(send(&*store, "a", 20, 32).await.renewed, []);
    assert_eq!(send(&*store, "b", 7200, 32).await.renewed.len(), 1);
    let claimed = claim_one(&*store, 32).await;
    assert_eq!(claimed.job.origin, url("v", "b"));
    let settled = store.settle(&claimed.lease, &expired(), at(32)).await;
    assert_eq!(settled.unwrap(), LeaseWrite::Yes);
    // Younger than that of the newer event, and alive.
    assert_eq!(send(&*store, "e", 9500, 33).await.renewed.len(), 1);
    let claimed = claim_one(&*store, 34).await;
    assert_eq!(claimed.job.origin, url("v", "e"));
}

/// The guess is counted from the event's time: it is the same, and as past, in each delivery.
async fn a_fresh_url_wakes_what_was_lost_after_a_guessed_end(backend: &dyn Backend) {
    let store = backend.open().await;
    let guessed = async |signature: &str, received: i64| {
        let mut artifact = signed(signature, 100);
        artifact.deadline.from = DeadlineFrom::Documented;
        let new = event("e1", "r1").time(0).with(artifact);
        store.record(new.received(received)).await.unwrap()
    };
    let first = guessed("old", 1).await;
    let tried = claim_one(&*store, 200).await;
    let settled = store.settle(&tried.lease, &expired(), at(201)).await;
    assert_eq!(settled.unwrap(), LeaseWrite::Yes);
    assert_eq!(guessed("old", 202).await.renewed, [], "the very same");
    assert_eq!(guessed("new", 203).await.renewed, [first.jobs[0]]);
    assert_eq!(guessed("newer", 204).await.renewed, [first.jobs[0]]);
    let claimed = claim_one(&*store, 205).await;
    assert_eq!(claimed.job.origin, url("v", "newer"));
    archive_all(&*store, 206).await;
}

async fn a_fresh_url_that_comes_again_during_an_attempt_survives_its_failure(
    backend: &dyn Backend,
) {
    let store = backend.open().await;
    send(&*store, "old", 10, 1).await;
    let running = claim_one(&*store, 2).await;
    assert_eq!(send(&*store, "new", 7200, 5).await.renewed.len(), 1);
    assert_eq!(states(&*store).await, ["recording.mp4 running"]);
    let settled = store.settle(&running.lease, &expired(), at(11)).await;
    assert_eq!(settled.unwrap(), LeaseWrite::Yes);
    let next = claim_one(&*store, 12).await;
    assert_eq!(next.job.origin, url("v", "new"));
    assert_eq!(next.job.attempts, 1);
}

async fn what_is_archived_or_cancelled_is_left_alone(backend: &dyn Backend) {
    for is_archived in [true, false] {
        let store = backend.open().await;
        let id = format!("e{is_archived}");
        let send = async |signature: &str, until: i64, received: i64| {
            let new = event(&id, &id).time(0).with(signed(signature, until));
            store.record(new.received(received)).await.unwrap()
        };
        let first = send("old", 100, 1).await;
        match is_archived {
            true => archive_all(&*store, 2).await,
            false => {
                store.cancel(&[first.jobs[0].0], at(2)).await.unwrap();
            }
        }
        let before = record_of(&*store, first.jobs[0]).await;
        assert_eq!(send("new", 7200, 3).await.renewed, []);
        assert_eq!(record_of(&*store, first.jobs[0]).await, before);
    }
}

async fn deliveries_that_are_written_together_leave_the_url_that_lives_longest(
    backend: &dyn Backend,
) {
    let store = backend.open().await;
    let mut senders = tokio::task::JoinSet::new();
    for number in 0..64 {
        let store = std::sync::Arc::clone(&store);
        // In no order.
        let until = 1000 + number * 37 % 64;
        let new = delivery(&until.to_string(), until, 1);
        senders.spawn(async move { store.record(new).await.unwrap() });
    }
    let receipts = senders.join_all().await;
    let firsts = receipts.iter().filter(|receipt| !receipt.is_duplicate);
    assert_eq!(firsts.count(), 1);
    let claimed = claim_one(&*store, 2).await;
    assert_eq!(claimed.job.origin, url("v", "1063"));
    assert_eq!(records(&*store).await.len(), 2, "the video and the event");
}

async fn a_delivery_that_comes_again_makes_no_jobs(backend: &dyn Backend) {
    let store = backend.open().await;
    send(&*store, "old", 100, 1).await;
    let mut more = transcript("t");
    more.identity = "url:/more".to_owned();
    let again = event("e1", "r1")
        .time(0)
        .with(signed("new", 7200))
        .with(more);
    let again = store.record(again.received(2)).await.unwrap();
    assert_eq!(again.renewed.len(), 1);
    assert_eq!(states(&*store).await, ["recording.mp4 pending"]);
    // Nor does one that names another recording.
    let elsewhere = event("e1", "r2").time(0).with(signed("newer", 9000));
    let again = store.record(elsewhere.received(3)).await.unwrap();
    assert_eq!(again.renewed, []);
    assert_eq!(states(&*store).await, ["recording.mp4 pending"]);
}
