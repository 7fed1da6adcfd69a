//! Jobs whose workers died: which of them did it.

use recording_harvester::error::Class;
use recording_harvester::model::State;
use recording_harvester::store::LeaseWrite;

use super::build::*;
use super::{Backend, on_every_backend};

on_every_backend! {
    a_job_that_kills_every_worker_is_given_up,
    jobs_that_are_named_come_in_the_queues_order_and_one_that_kills_workers_does_not,
    of_jobs_whose_workers_died_one_runs_at_a_time_and_only_the_guilty_one_is_given_up,
    a_checkpoint_with_more_bytes_clears_a_suspect_and_the_next_one_may_run,
}

async fn a_job_that_kills_every_worker_is_given_up(backend: &dyn Backend) {
    let store = backend.open().await;
    let recorded = store
        .record(event("e1", "r1").with(video("v", None)).received(0))
        .await
        .unwrap();
    archive_small_at(&*store, 0).await;
    let mut leases = 0;
    while let Some(claimed) = store
        .claim(claim_at(60 * leases, false, 1))
        .await
        .unwrap()
        .pop()
    {
        leases += 1;
        assert_eq!(claimed.job.id, recorded.jobs[0]);
        assert!(leases <= 20, "it is given up after 20");
    }
    assert_eq!(leases, 20);
    let record = record_of(&*store, recorded.jobs[0]).await;
    assert_eq!(
        (record.state, record.class),
        (State::Failed, Some(Class::Internal))
    );
    assert_eq!(
        store.unsealed(9).await.unwrap(),
        [recorded.recording_id.unwrap()],
        "it is reported"
    );
}

async fn jobs_that_are_named_come_in_the_queues_order_and_one_that_kills_workers_does_not(
    backend: &dyn Backend,
) {
    let store = backend.open().await;
    let mut named = Vec::new();
    for (number, deadline) in [(0, None), (1, Some(9000)), (2, Some(8000))] {
        let new = event(&format!("e{number}"), &format!("r{number}")).with(video("v", deadline));
        named.push(store.record(new.received(0)).await.unwrap().jobs[0]);
    }
    let deadly = named[0];
    for minute in 0..20 {
        let mut claim = claim_at(60 * minute, false, 1);
        claim.only = Some(vec![deadly]);
        assert_eq!(store.claim(claim).await.unwrap().len(), 1);
    }
    let mut claim = claim_at(60 * 20, false, 3);
    claim.only = Some(named.clone());
    let claimed = store.claim(claim.clone()).await.unwrap();
    let ids: Vec<_> = claimed.iter().map(|one| one.job.id).collect();
    assert_eq!(ids, [named[2], named[1]]);
    assert_eq!(
        store.claim(claim).await.unwrap().len(),
        0,
        "they are leased"
    );
    assert_eq!(record_of(&*store, deadly).await.state, State::Failed);
}

async fn of_jobs_whose_workers_died_one_runs_at_a_time_and_only_the_guilty_one_is_given_up(
    backend: &dyn Backend,
) {
    let store = backend.open().await;
    let jobs = videos(&*store, 5).await;
    let guilty = jobs[2];
    // Whoever works on it dies at once; whoever does not settles all that it has.
    for minute in 0..40 {
        let now = 60 * minute;
        let claimed = store.claim(claim_at(now, false, 9)).await.unwrap();
        if minute >= 2 {
            assert!(claimed.len() <= 1, "suspects run alone");
        }
        if claimed.iter().any(|one| one.job.id == guilty) {
            continue;
        }
        for one in claimed {
            let outcome = archived(&one.job.key);
            let settled = store.settle(&one.lease, &outcome, at(now)).await.unwrap();
            assert_eq!(settled, LeaseWrite::Yes);
        }
    }
    for job in jobs {
        let record = record_of(&*store, job).await;
        let expected = match job == guilty {
            true => (State::Failed, Some(Class::Internal)),
            false => (State::Archived, None),
        };
        assert_eq!((record.state, record.class), expected);
    }
}

async fn a_checkpoint_with_more_bytes_clears_a_suspect_and_the_next_one_may_run(
    backend: &dyn Backend,
) {
    let store = backend.open().await;
    videos(&*store, 2).await;
    for minute in 0..2 {
        let claimed = store.claim(claim_at(60 * minute, false, 9)).await.unwrap();
        assert_eq!(claimed.len(), 2);
    }
    let claim = async |second| store.claim(claim_at(second, false, 9)).await.unwrap();
    let first = claim(120).await.remove(0);
    assert_eq!(claim(121).await.len(), 0, "a suspect is on its way");
    let checkpoint = async |bytes_done| {
        let saved = store.checkpoint(&first.lease, None, bytes_done).await;
        assert_eq!(saved.unwrap(), LeaseWrite::Yes);
    };
    checkpoint(0).await;
    assert_eq!(claim(122).await.len(), 0, "nothing new is in the bucket");
    checkpoint(7).await;
    let second = claim(123).await.remove(0);
    assert_ne!(first.job.id, second.job.id);
    assert_eq!(second.unsettled_attempts, 2);
}
