//! Processes that share a store: who works, and who of those that hold leases is alive.

use super::build::*;
use super::{Backend, on_every_backend};

on_every_backend! {
    one_process_is_the_worker_until_it_gives_its_lock_back,
    leases_of_a_dead_process_end_at_once_and_those_of_a_living_one_do_not,
    a_closed_store_answers_with_an_error,
}

async fn one_process_is_the_worker_until_it_gives_its_lock_back(backend: &dyn Backend) {
    let (worker, other) = (backend.open().await, backend.open().await);
    let lock = worker.lock_worker().await.unwrap();
    let error = other.lock_worker().await.unwrap_err().full_message();
    assert!(error.contains("another one runs on this store"), "{error}");
    other.record(event("e1", "r1").received(0)).await.unwrap();
    assert_eq!(worker.events(None, 9).await.unwrap().len(), 1);
    drop(lock);
    let _lock = other.lock_worker().await.unwrap();
}

async fn leases_of_a_dead_process_end_at_once_and_those_of_a_living_one_do_not(
    backend: &dyn Backend,
) {
    let store = backend.open().await;
    for name in ["dead", "alive"] {
        let new = event(name, name).with(video(name, None));
        store.record(new.received(0)).await.unwrap();
        let mut claim = claim_at(1, false, 1);
        claim.worker = name.to_owned();
        assert_eq!(store.claim(claim).await.unwrap().len(), 1);
    }
    let alive = store.show_alive("alive").await.unwrap();
    drop(store.show_alive("dead").await.unwrap());

    let other = backend.open().await;
    assert_eq!(other.free_leases_of_the_dead().await.unwrap(), 1);
    let again = other.claim(claim_at(2, false, 9)).await.unwrap();
    assert_eq!(again.len(), 1);
    let freed = again[0].job.recording.recording_id.as_deref();
    assert_eq!(freed, Some("dead"));
    assert_eq!(again[0].job.attempts, 2, "the attempt that died counts");
    drop(alive);
    assert_eq!(other.free_leases_of_the_dead().await.unwrap(), 2);
}

async fn a_closed_store_answers_with_an_error(backend: &dyn Backend) {
    let (closed, other) = (backend.open().await, backend.open().await);
    closed.close().await;
    assert!(closed.record(event("e1", "r1").received(0)).await.is_err());
    assert!(closed.events(None, 9).await.is_err());
    assert_eq!(other.events(None, 9).await.unwrap().len(), 0);
}
