//! An operator's words: list, retry, cancel.

use recording_harvester::error::Class;
use recording_harvester::model::{Artifact, Origin, State};
use recording_harvester::store::{Filter, JobStore, LeaseWrite, Selection};

use super::build::*;
use super::{Backend, on_every_backend};

on_every_backend! {
    retry_wakes_what_its_selection_names,
    cancel_ends_open_jobs_and_takes_the_lease_away,
    lists_and_events_filter,
    pages_of_a_list_follow_each_other,
    a_webhook_gets_in_while_thousands_are_retried_or_cancelled,
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
            LeaseWrite::Yes
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
        LeaseWrite::Stale
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

/// R21
async fn pages_of_a_list_follow_each_other(backend: &dyn Backend) {
    let store = backend.open().await;
    for number in 0..5 {
        let name = format!("e{number}");
        store
            .record(event(&name, &name).received(number))
            .await
            .unwrap();
    }
    let all: Vec<_> = records(&*store).await;
    let ids: Vec<_> = all.iter().map(|record| record.id.0).collect();
    let mut pages = Vec::new();
    let mut filter = Filter {
        limit: Some(2),
        ids: Vec::new(),
        ..Filter::default()
    };
    loop {
        let page = store.list(&filter).await.unwrap();
        assert!(page.len() <= 2);
        let Some(last) = page.last() else { break };
        filter.after = Some(last.id.0);
        pages.extend(page.into_iter().map(|record| record.id.0));
    }
    assert_eq!(pages, ids);
    let of = Filter {
        ids: all.iter().map(|record| record.recording_id.0).collect(),
        after: Some(ids[1]),
        limit: Some(1),
        ..Filter::default()
    };
    assert_eq!(store.list(&of).await.unwrap()[0].id.0, ids[2]);
}

async fn count(store: &dyn JobStore, state: State) -> u64 {
    let stats = store.stats().await.unwrap();
    let found = stats.jobs.iter().find(|(of, _)| *of == state);
    found.map_or(0, |(_, count)| *count)
}

/// Drives `work` on 2,000 jobs, a step at a time, until some of them are done and not all, as `done`
/// counts them.
async fn in_the_middle<T, Fut: Future<Output = u64>>(
    work: &mut (impl Future<Output = T> + Unpin),
    done: impl Fn() -> Fut,
) {
    loop {
        let is_over = futures::poll!(&mut *work).is_ready();
        assert!(!is_over, "nobody got in between");
        if (1..2000).contains(&done().await) {
            return;
        }
    }
}

/// R21
async fn a_webhook_gets_in_while_thousands_are_retried_or_cancelled(backend: &dyn Backend) {
    let store = backend.open().await;
    let lost = |number: usize| Artifact {
        identity: format!("lost:{number}"),
        name: format!("lost-{number}.mp4"),
        origin: Origin::Unusable(Class::Gone, "gone".to_owned()),
        ..video("v", None)
    };
    let new = (0..2000).fold(event("e1", "r1"), |new, number| new.with(lost(number)));
    let recording = store
        .record(new.received(0))
        .await
        .unwrap()
        .recording_id
        .unwrap();
    let mut retrying = std::pin::pin!(store.retry(&Selection::All, at(1)));
    let woken = || async { 2000 - count(&*store, State::Failed).await };
    in_the_middle(&mut retrying, woken).await;
    let recorded = store.record(event("e2", "r2").received(2)).await;
    assert!(!recorded.unwrap().is_duplicate);
    assert!(
        woken().await < 2000,
        "the webhook had to wait for all of them"
    );
    assert_eq!(retrying.await.unwrap().len(), 2000);
    assert_eq!(open_jobs(&*store).await, 2002);

    let ids = [recording.0];
    let mut cancelling = std::pin::pin!(store.cancel(&ids, at(3)));
    let cancelled = || count(&*store, State::Cancelled);
    in_the_middle(&mut cancelling, cancelled).await;
    let recorded = store.record(event("e3", "r3").received(4)).await;
    assert!(!recorded.unwrap().is_duplicate);
    assert!(
        cancelled().await < 2000,
        "the webhook had to wait for all of them"
    );
    assert_eq!(cancelling.await.unwrap().len(), 2001, "its own event too");
    assert_eq!(store.unsealed(9).await.unwrap(), [recording]);
}
