//! What the walks over providers' lists need of the store.

use recording_harvester::model::State;
use recording_harvester::store::WalkTurn;

use super::build::*;
use super::{Backend, on_every_backend};

on_every_backend! {
    what_is_known_are_jobs_and_answered_lookups_of_the_recordings_asked_for,
    one_holder_walks_at_a_time_until_its_lease_runs_out,
    what_was_reached_never_goes_back,
}

async fn what_is_known_are_jobs_and_answered_lookups_of_the_recordings_asked_for(
    backend: &dyn Backend,
) {
    let store = backend.open().await;
    let asked = event("e1", "r1").with(lookup("l1"));
    store.record(asked.received(0)).await.unwrap();
    store
        .record(event("e2", "r2").with(video("v2", None)).received(0))
        .await
        .unwrap();
    store
        .record(event("e3", "r3").with(video("v3", None)).received(0))
        .await
        .unwrap();
    let known = |keys: &[&str]| {
        let keys: Vec<_> = keys.iter().map(|key| (*key).to_owned()).collect();
        let store = &store;
        async move {
            let known = store.known("hms", &keys).await.unwrap();
            let mut known: Vec<_> = known
                .into_iter()
                .filter(|one| !one.identity.starts_with("event:"))
                .map(|one| {
                    (
                        one.recording_key,
                        one.identity,
                        one.state,
                        one.job.is_some(),
                    )
                })
                .collect();
            known.sort();
            known
        }
    };
    let job = |key: &str, identity: &str| {
        (
            key.to_owned(),
            identity.to_owned(),
            Some(State::Pending),
            true,
        )
    };
    let question = lookup("l1").identity;
    assert_eq!(
        known(&["r1", "r3", "nobody"]).await,
        [job("r1", &question), job("r3", "url:/v3")]
    );
    assert_eq!(
        store.known("elsewhere", &["r1".to_owned()]).await.unwrap(),
        []
    );

    let claimed = store.claim(claim_at(1, true, 10)).await.unwrap();
    let is_question = |one: &recording_harvester::store::Claimed| one.job.name == "recording.mp4";
    let claimed = claimed.into_iter().find(is_question).unwrap();
    let found = vec![video("found", None)];
    let _ = store.resolve(&claimed.lease, found, at(3)).await.unwrap();
    let answered = ("r1".to_owned(), question, None, false);
    assert_eq!(known(&["r1"]).await, [answered, job("r1", "url:/found")]);
}

async fn one_holder_walks_at_a_time_until_its_lease_runs_out(backend: &dyn Backend) {
    let (one, other) = (backend.open().await, backend.open().await);
    let ours = WalkTurn::Ours { reached: None };
    assert_eq!(one.begin_walk("s", "a", at(0), at(60)).await.unwrap(), ours);
    assert_eq!(
        one.begin_walk("s", "a", at(30), at(90)).await.unwrap(),
        ours
    );
    let refused = other.begin_walk("s", "b", at(89), at(200)).await.unwrap();
    assert_eq!(refused, WalkTurn::Others);
    // Another source is another walk.
    assert_eq!(
        other.begin_walk("t", "b", at(0), at(60)).await.unwrap(),
        ours
    );
    // Its holder has died.
    assert_eq!(
        other.begin_walk("s", "b", at(90), at(150)).await.unwrap(),
        ours
    );
    // R3b: it was held by a clock that was set back since.
    let ahead = one.begin_walk("u", "a", at(7200), at(7260)).await.unwrap();
    assert_eq!(ahead, ours);
    let back = other.begin_walk("u", "b", at(0), at(60)).await.unwrap();
    assert_eq!(back, ours);
    // Who comes back late neither ends the walk of another nor says how far it came.
    one.end_walk("s", "a", Some(at(99))).await.unwrap();
    assert_eq!(
        one.begin_walk("s", "a", at(100), at(160)).await.unwrap(),
        WalkTurn::Others
    );
    other.end_walk("s", "b", None).await.unwrap();
    assert_eq!(
        one.begin_walk("s", "a", at(101), at(160)).await.unwrap(),
        ours
    );
}

async fn what_was_reached_never_goes_back(backend: &dyn Backend) {
    let store = backend.open().await;
    for (reached, expected) in [
        (Some(50), Some(50)),
        (None, Some(50)),
        (Some(40), Some(50)),
        (Some(70), Some(70)),
    ] {
        let _ = store.begin_walk("s", "a", at(0), at(60)).await.unwrap();
        store.end_walk("s", "a", reached.map(at)).await.unwrap();
        let turn = store.begin_walk("s", "a", at(0), at(60)).await.unwrap();
        let reached = expected.map(at);
        assert_eq!(turn, WalkTurn::Ours { reached });
    }
}
