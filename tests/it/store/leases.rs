//! From the claim to the end of an attempt: order, leases, fencing, what an attempt leaves behind.

use std::collections::HashSet;
use std::sync::Arc;

use recording_harvester::error::Class;
use recording_harvester::model::job::FinishedPart;
use recording_harvester::model::{Checkpoint, Deadline, JobId, Lease, Outcome, State};
use recording_harvester::store::{Claimed, JobStore, Written};

use super::build::*;
use super::{Backend, on_every_backend};

on_every_backend! {
    claims_go_by_latest_start_then_session_signed_then_oldest_and_no_deadline_last,
    a_small_artifact_waits_in_a_lane_of_its_own,
    a_job_is_not_due_before_its_time,
    a_claim_in_the_foreground_takes_only_its_own_jobs,
    jobs_that_are_named_come_in_the_queues_order_and_one_that_kills_workers_does_not,
    concurrent_claimers_never_get_the_same_job,
    every_write_under_an_old_lease_is_refused,
    a_lease_that_ran_out_is_claimed_by_another_and_counts,
    a_heartbeat_keeps_the_lease,
    an_uncounted_retry_gives_the_attempt_back,
    a_checkpoint_goes_to_the_next_attempt,
    archiving_keeps_what_the_bucket_confirmed,
    artifacts_that_are_settled_together_are_each_settled_once_under_their_own_lease,
    a_job_that_kills_every_worker_is_given_up,
    of_jobs_whose_workers_died_one_runs_at_a_time_and_only_the_guilty_one_is_given_up,
    a_checkpoint_with_more_bytes_clears_a_suspect_and_the_next_one_may_run,
    a_claim_extends_what_its_worker_holds_and_takes_what_another_has_let_lapse,
    the_lapsed_leases_of_others_are_left_alone_where_the_claim_says_so,
    what_was_written_by_a_clock_that_was_set_back_since_is_due_now,
    time_in_which_the_bucket_refused_does_not_count_as_time_of_retrying,
    reorigin_replaces_origin_and_deadline_under_the_lease,
    a_pause_moves_pending_jobs_and_counts_nothing,
    next_due_is_the_earliest_of_due_times_and_lease_ends,
}

async fn claims_go_by_latest_start_then_session_signed_then_oldest_and_no_deadline_last(
    backend: &dyn Backend,
) {
    let store = backend.open().await;
    let mut huge = video("huge", Some(7200));
    huge.size_bytes = Some(1 << 36);
    let mut session_signed = video("session", Some(3600));
    session_signed.deadline.is_upper_bound = true;
    let queue = [
        ("none", video("none", None)),
        ("later", video("later", Some(7200))),
        ("older", video("older", Some(3600))),
        ("younger", video("younger", Some(3600))),
        ("session", session_signed),
        ("huge", huge),
    ];
    for (second, (name, artifact)) in (0..).zip(queue) {
        let new = event(name, name).with(artifact);
        store.record(new.received(second)).await.unwrap();
    }
    let mut order = Vec::new();
    // One at a time and several at once give the same order.
    for limit in [1, 2, 9] {
        for claimed in store.claim(claim_at(10, false, limit)).await.unwrap() {
            order.push(claimed.job.recording.recording_id.unwrap());
        }
    }
    assert_eq!(
        order,
        ["huge", "session", "older", "younger", "later", "none"]
    );
}

async fn a_small_artifact_waits_in_a_lane_of_its_own(backend: &dyn Backend) {
    let store = backend.open().await;
    let new = event("e1", "r1")
        .with(video("v", Some(1)))
        .with(transcript("t"));
    store.record(new.received(0)).await.unwrap();
    let names = async |is_small| {
        let claimed = store.claim(claim_at(1, is_small, 9)).await.unwrap();
        claimed
            .into_iter()
            .map(|one| one.job.name)
            .collect::<Vec<_>>()
    };
    assert_eq!(names(true).await, ["transcript.json", "event-e1.json"]);
    assert_eq!(names(false).await, ["recording.mp4"]);
}

async fn a_job_is_not_due_before_its_time(backend: &dyn Backend) {
    let store = backend.open().await;
    store
        .record(event("e1", "r1").with(video("v", Some(3600))).received(0))
        .await
        .unwrap();
    let claimed = claim_one(&*store, 1).await;
    assert_eq!(
        store
            .settle(&claimed.lease, &retry_at(30, true), at(2))
            .await
            .unwrap(),
        Written::Yes
    );
    let record = record_of(&*store, claimed.job.id).await;
    assert_eq!(
        (record.state, record.class),
        (State::Pending, Some(Class::Unreachable))
    );
    assert_eq!(record.message.as_deref(), Some("the origin hung up"));
    assert_eq!(store.claim(claim_at(29, false, 9)).await.unwrap().len(), 0);
    let again = claim_one(&*store, 30).await;
    assert_eq!((again.job.attempts, again.job.first_attempt_at), (2, at(1)));
}

async fn a_claim_in_the_foreground_takes_only_its_own_jobs(backend: &dyn Backend) {
    let store = backend.open().await;
    store
        .record(event("e1", "r1").with(video("v", Some(1))).received(0))
        .await
        .unwrap();
    let mine = store
        .record(event("e2", "r2").with(video("v", None)).received(0))
        .await
        .unwrap();
    let mut claim = claim_at(1, false, 9);
    claim.only = Some(mine.jobs.clone());
    let claimed = store.claim(claim.clone()).await.unwrap();
    let ids: Vec<_> = claimed.iter().map(|one| one.job.id).collect();
    assert_eq!(ids, [mine.jobs[0]]);
    claim.only = Some(Vec::new());
    assert_eq!(store.claim(claim).await.unwrap().len(), 0);
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

async fn concurrent_claimers_never_get_the_same_job(backend: &dyn Backend) {
    // Two processes on one database, several claims at once in each.
    let stores = [backend.open().await, backend.open().await];
    for number in 0..120 {
        let new = event(&format!("e{number}"), &format!("r{number}")).with(video("v", Some(3600)));
        stores[0].record(new.received(0)).await.unwrap();
    }
    let mut claimers = tokio::task::JoinSet::new();
    for number in 0..8 {
        let store = Arc::clone(&stores[number % 2]);
        claimers.spawn(async move {
            let mut got = Vec::new();
            loop {
                let claimed = store.claim(claim_at(1, false, 7)).await.unwrap();
                if claimed.is_empty() {
                    return got;
                }
                got.extend(claimed.into_iter().map(|one| one.job.id));
            }
        });
    }
    let got: Vec<_> = claimers.join_all().await.concat();
    let distinct: HashSet<_> = got.iter().collect();
    assert_eq!((got.len(), distinct.len()), (120, 120));
}

async fn every_write_under_an_old_lease_is_refused(backend: &dyn Backend) {
    let store = backend.open().await;
    let recorded = store
        .record(event("e1", "r1").with(video("v", Some(3600))).received(0))
        .await
        .unwrap();
    let old = claim_one(&*store, 0).await.lease;
    let current = claim_one(&*store, 61).await.lease;
    assert!(current.token > old.token);
    let before = record_of(&*store, recorded.jobs[0]).await;
    let forged = Lease {
        token: current.token + 1,
        ..current.clone()
    };
    let unknown = Lease {
        job: recording_harvester::model::JobId(uuid::Uuid::nil()),
        token: 1,
    };
    for stale in [&old, &forged, &unknown] {
        for outcome in [
            archived("k"),
            retry_at(99, true),
            expired(),
            failed(Class::Gone),
        ] {
            assert_eq!(
                store.settle(stale, &outcome, at(62)).await.unwrap(),
                Written::Stale
            );
        }
        assert_eq!(
            store.checkpoint(stale, None, 7).await.unwrap(),
            Written::Stale
        );
        assert_eq!(
            store
                .resolve(stale, vec![transcript("t")], at(62))
                .await
                .unwrap(),
            Written::Stale
        );
        assert_eq!(
            store.reorigin(stale, &video("w", None)).await.unwrap(),
            Written::Stale
        );
        assert_eq!(
            store
                .heartbeat(std::slice::from_ref(stale), at(999))
                .await
                .unwrap(),
            [stale.job]
        );
    }
    assert_eq!(record_of(&*store, recorded.jobs[0]).await, before);
    assert_eq!(
        store
            .settle(&current, &archived("k"), at(63))
            .await
            .unwrap(),
        Written::Yes
    );
    assert_eq!(
        store
            .settle(&current, &archived("k"), at(63))
            .await
            .unwrap(),
        Written::Stale,
        "once only"
    );
}

async fn a_lease_that_ran_out_is_claimed_by_another_and_counts(backend: &dyn Backend) {
    let store = backend.open().await;
    store
        .record(event("e1", "r1").with(video("v", Some(3600))).received(0))
        .await
        .unwrap();
    let first = claim_one(&*store, 0).await;
    assert_eq!(
        store.claim(claim_at(59, false, 1)).await.unwrap().len(),
        0,
        "the lease holds"
    );
    let second = claim_one(&*store, 60).await;
    assert_eq!(second.job.id, first.job.id);
    assert_eq!((first.job.attempts, second.job.attempts), (1, 2));
    assert_eq!(second.record.state, State::Running);
}

async fn a_heartbeat_keeps_the_lease(backend: &dyn Backend) {
    let store = backend.open().await;
    store
        .record(event("e1", "r1").with(video("v", Some(3600))).received(0))
        .await
        .unwrap();
    let claimed = claim_one(&*store, 0).await;
    let lost = store
        .heartbeat(std::slice::from_ref(&claimed.lease), at(100))
        .await
        .unwrap();
    assert_eq!(lost, []);
    assert_eq!(store.claim(claim_at(99, false, 1)).await.unwrap().len(), 0);
    assert_eq!(claim_one(&*store, 100).await.job.id, claimed.job.id);
}

async fn an_uncounted_retry_gives_the_attempt_back(backend: &dyn Backend) {
    let store = backend.open().await;
    store
        .record(event("e1", "r1").with(video("v", Some(3600))).received(0))
        .await
        .unwrap();
    let first = claim_one(&*store, 0).await;
    assert_eq!(
        store
            .settle(&first.lease, &retry_at(5, false), at(1))
            .await
            .unwrap(),
        Written::Yes
    );
    assert_eq!(record_of(&*store, first.job.id).await.attempts, 0);
    let second = claim_one(&*store, 5).await;
    assert_eq!(
        (second.job.attempts, second.job.first_attempt_at),
        (1, at(5))
    );
    assert!(
        second.lease.token > first.lease.token,
        "the token never goes back"
    );
}

async fn a_checkpoint_goes_to_the_next_attempt(backend: &dyn Backend) {
    let store = backend.open().await;
    store
        .record(event("e1", "r1").with(video("v", Some(3600))).received(0))
        .await
        .unwrap();
    let first = claim_one(&*store, 0).await;
    assert_eq!(first.job.checkpoint, None);
    let checkpoint = Checkpoint {
        upload_id: "upload".to_owned(),
        part_size_bytes: 8 << 20,
        length_bytes: Some(9 << 20),
        validator: Some("\"etag\"".to_owned()),
        parts: vec![FinishedPart {
            number: 1,
            size_bytes: 8 << 20,
            etag: "p1".to_owned(),
            crc64nvme: u64::MAX,
        }],
        key: None,
        check: None,
        sealed: None,
    };
    let stored = store
        .checkpoint(&first.lease, Some(&checkpoint), 8 << 20)
        .await
        .unwrap();
    assert_eq!(stored, Written::Yes);
    let second = claim_one(&*store, 60).await;
    assert_eq!(second.job.checkpoint, Some(checkpoint));
    assert_eq!(second.record.bytes_done, 8 << 20);
    // A fresh event keeps it; forgetting is the worker's word.
    store
        .record(event("e2", "r1").with(video("v", Some(9000))).received(61))
        .await
        .unwrap();
    assert_eq!(
        store
            .settle(&second.lease, &retry_at(62, true), at(62))
            .await
            .unwrap(),
        Written::Yes
    );
    let third = claim_one(&*store, 62).await;
    assert!(third.job.checkpoint.is_some());
    assert_eq!(
        store.checkpoint(&third.lease, None, 0).await.unwrap(),
        Written::Yes
    );
    let fourth = claim_one(&*store, 200).await;
    assert_eq!((fourth.job.checkpoint, fourth.record.bytes_done), (None, 0));
}

async fn archiving_keeps_what_the_bucket_confirmed(backend: &dyn Backend) {
    let store = backend.open().await;
    store
        .record(event("e1", "r1").with(video("v", Some(3600))).received(0))
        .await
        .unwrap();
    let claimed = claim_one(&*store, 0).await;
    let Outcome::Archived(mut object) = archived("elsewhere/recording-2.mp4") else {
        unreachable!()
    };
    object.size_bytes = 77;
    object.sha256 = Some("ab".to_owned());
    object.version_id = Some("v1".to_owned());
    let outcome = Outcome::Archived(object);
    assert_eq!(
        store.settle(&claimed.lease, &outcome, at(5)).await.unwrap(),
        Written::Yes
    );
    let record = record_of(&*store, claimed.job.id).await;
    assert_eq!(record.state, State::Archived);
    assert_eq!(record.key, "elsewhere/recording-2.mp4");
    assert_eq!((record.size_bytes, record.bytes_done), (Some(77), 77));
    assert_eq!(record.crc64nvme.as_deref(), Some("AAAAAAAAAAA="));
    assert_eq!(record.sha256.as_deref(), Some("ab"));
    assert_eq!(record.etag.as_deref(), Some("etag-1"));
    assert_eq!(record.version_id.as_deref(), Some("v1"));
    assert_eq!(record.archived_at, Some(at(5)));
    assert_eq!(
        (record.class, record.message, record.action),
        (None, None, None)
    );
    assert_eq!(
        store
            .retry(
                &recording_harvester::store::Selection::Ids(vec![claimed.job.id.0]),
                at(6)
            )
            .await
            .unwrap(),
        []
    );
}

async fn artifacts_that_are_settled_together_are_each_settled_once_under_their_own_lease(
    backend: &dyn Backend,
) {
    let store = backend.open().await;
    let lost = event("lost", "r1").losing(None, "bot-failed");
    store.record(lost.received(0)).await.unwrap();
    let mut recordings = Vec::new();
    for recording in ["r1", "r2"] {
        let videos = (0..20).map(|number| video(&format!("{recording}-{number}"), Some(3600)));
        let all = videos.fold(
            event(&format!("e-{recording}"), recording),
            |event, video| event.with(video),
        );
        let recorded = store.record(all.received(1)).await.unwrap();
        recordings.push(recorded.recording_id.unwrap());
    }
    let claimed = store.claim(claim_at(2, false, 99)).await.unwrap();
    assert_eq!(claimed.len(), 40);
    // Each is told twice, and beside it somebody tells of an earlier lease.
    let mut settling = tokio::task::JoinSet::new();
    for one in claimed.iter().chain(&claimed) {
        for token in [one.lease.token, one.lease.token - 1] {
            let (store, outcome) = (Arc::clone(&store), archived(&one.job.key));
            let job = one.job.id;
            let is_stale = token != one.lease.token;
            settling.spawn(async move {
                let lease = Lease { job, token };
                let written = store.settle(&lease, &outcome, at(3)).await.unwrap();
                (is_stale, job, written)
            });
        }
    }
    let ended = settling.join_all().await;
    let written = ended.iter().filter(|(_, _, end)| *end == Written::Yes);
    let jobs: Vec<_> = written.clone().map(|(_, job, _)| *job).collect();
    assert!(written.clone().all(|(is_stale, _, _)| !is_stale));
    assert_eq!(jobs.len(), 40, "each once");
    assert_eq!(jobs.iter().collect::<HashSet<_>>().len(), 40);
    archive_small_at(backend, 4).await;
    assert_eq!(open_jobs(&*store).await, 0);
    let mut unsealed = store.unsealed(9).await.unwrap();
    unsealed.sort_unstable();
    recordings.sort_unstable();
    assert_eq!(unsealed, recordings, "nothing is open in either");
    assert!(store.provider_failures(None).await.unwrap().is_empty());
}

async fn a_job_that_kills_every_worker_is_given_up(backend: &dyn Backend) {
    let store = backend.open().await;
    let recorded = store
        .record(event("e1", "r1").with(video("v", None)).received(0))
        .await
        .unwrap();
    archive_small_at(backend, 0).await;
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

/// Videos of recordings `0`, `1` and so on, without a deadline; their jobs.
async fn videos(store: &dyn JobStore, count: usize) -> Vec<JobId> {
    let mut jobs = Vec::new();
    for number in 0..count {
        let new = event(&format!("e{number}"), &format!("r{number}")).with(video("v", None));
        jobs.push(store.record(new.received(0)).await.unwrap().jobs[0]);
    }
    jobs
}

// R11
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
            assert_eq!(settled, Written::Yes);
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

// R11
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
        assert_eq!(saved.unwrap(), Written::Yes);
    };
    checkpoint(0).await;
    assert_eq!(claim(122).await.len(), 0, "nothing new is in the bucket");
    checkpoint(7).await;
    let second = claim(123).await.remove(0);
    assert_ne!(first.job.id, second.job.id);
    assert_eq!(second.unsettled_attempts, 2);
}

// R3a
async fn a_claim_extends_what_its_worker_holds_and_takes_what_another_has_let_lapse(
    backend: &dyn Backend,
) {
    let store = backend.open().await;
    let jobs = videos(&*store, 3).await;
    let mut own = store.claim(claim_at(0, false, 2)).await.unwrap();
    let others = own.pop().unwrap();
    let own = own.pop().unwrap();
    let mut claim = claim_at(3600, false, 9);
    claim.held = vec![own.lease.clone()];
    let claimed = store.claim(claim.clone()).await.unwrap();
    let mut ids: Vec<_> = claimed.iter().map(|one| one.job.id).collect();
    ids.sort_unstable();
    let mut expected: Vec<_> = jobs.into_iter().filter(|job| *job != own.job.id).collect();
    expected.sort_unstable();
    assert_eq!(ids, expected);
    assert!(ids.contains(&others.job.id));
    // Extended in the same transaction: nobody else gets it either.
    let found = store.claim(claim_at(3601, false, 9)).await.unwrap();
    assert_eq!(found.len(), 0);
    let settled = store.settle(&own.lease, &archived("k"), at(3602)).await;
    assert_eq!(settled.unwrap(), Written::Yes);
    // A lease that another has had in between is not held any more.
    let mut late = claim_at(9000, false, 9);
    late.held = vec![others.lease];
    assert_eq!(store.claim(late).await.unwrap().len(), 2);
}

// R3a
async fn the_lapsed_leases_of_others_are_left_alone_where_the_claim_says_so(backend: &dyn Backend) {
    let store = backend.open().await;
    videos(&*store, 1).await;
    let first = claim_one(&*store, 0).await;
    let mut claim = claim_at(3600, false, 9);
    claim.takes_lapsed = false;
    assert_eq!(store.claim(claim.clone()).await.unwrap().len(), 0);
    claim.takes_lapsed = true;
    assert_eq!(store.claim(claim).await.unwrap()[0].job.id, first.job.id);
}

// R3b
async fn what_was_written_by_a_clock_that_was_set_back_since_is_due_now(backend: &dyn Backend) {
    let store = backend.open().await;
    videos(&*store, 1).await;
    let hours = 7200;
    let first = claim_one(&*store, hours).await;
    let retry = retry_at(hours + 90, true);
    let settled = store.settle(&first.lease, &retry, at(hours)).await.unwrap();
    assert_eq!(settled, Written::Yes);
    // The clock is set back by two hours: the wait, and then the lease of a worker that has died.
    claim_one(&*store, hours - 3600).await;
    claim_one(&*store, 0).await;
    let paused = store.pause(at(60), Class::UploadDenied, "no bucket").await;
    assert!(paused.unwrap() > 0);
    assert_eq!(store.claim(claim_at(59, false, 9)).await.unwrap().len(), 0);
    // No wait is longer than this, whatever is asked for.
    let current = claim_one(&*store, 60).await;
    let far = retry_at(100_000, true);
    let settled = store.settle(&current.lease, &far, at(61)).await.unwrap();
    assert_eq!(settled, Written::Yes);
    assert_eq!(store.claim(claim_at(360, false, 9)).await.unwrap().len(), 0);
    claim_one(&*store, 361).await;
}

// R22
async fn time_in_which_the_bucket_refused_does_not_count_as_time_of_retrying(
    backend: &dyn Backend,
) {
    let store = backend.open().await;
    videos(&*store, 1).await;
    let settle = async |claimed: &Claimed, outcome, seconds| {
        let settled = store.settle(&claimed.lease, &outcome, at(seconds)).await;
        assert_eq!(settled.unwrap(), Written::Yes);
    };
    let first = claim_one(&*store, 0).await;
    settle(&first, retry_at(10, true), 5).await;
    let denied = claim_one(&*store, 10).await;
    assert_eq!(denied.job.first_attempt_at, at(0));
    settle(&denied, retry_at(70, false), 11).await;
    for minute in 1..100 {
        let until = at(70 + 60 * minute);
        let moved = store.pause(until, Class::UploadDenied, "no bucket").await;
        assert!(moved.unwrap() > 0);
    }
    let after = claim_one(&*store, 70 + 60 * 99).await;
    assert_eq!(after.job.attempts, 2);
    let tried_for = at(70 + 60 * 99).duration_since(after.job.first_attempt_at);
    assert_eq!(
        tried_for.as_secs(),
        10,
        "as when the bucket was refused first"
    );
}

async fn reorigin_replaces_origin_and_deadline_under_the_lease(backend: &dyn Backend) {
    let store = backend.open().await;
    store
        .record(event("e1", "r1").with(video("v", Some(10))).received(0))
        .await
        .unwrap();
    let claimed = claim_one(&*store, 0).await;
    let mut minted = video("v", Some(9000));
    minted.origin = url("v", "minted");
    assert_eq!(
        store.reorigin(&claimed.lease, &minted).await.unwrap(),
        Written::Yes
    );
    let record = record_of(&*store, claimed.job.id).await;
    assert_eq!(
        (record.state, record.deadline),
        (State::Running, minted.deadline.at)
    );
    assert_eq!(
        store
            .settle(&claimed.lease, &retry_at(1, true), at(1))
            .await
            .unwrap(),
        Written::Yes
    );
    let again = claim_one(&*store, 1).await;
    assert_eq!(again.job.origin, minted.origin);
    assert_eq!(again.job.deadline, minted.deadline);
    assert_ne!(again.job.deadline, Deadline::NONE);
}

async fn a_pause_moves_pending_jobs_and_counts_nothing(backend: &dyn Backend) {
    let store = backend.open().await;
    for name in ["a", "b"] {
        store
            .record(event(name, name).with(video("v", Some(9000))).received(0))
            .await
            .unwrap();
    }
    let running = claim_one(&*store, 1).await;
    let moved = store
        .pause(at(60), Class::UploadDenied, "the bucket is missing")
        .await
        .unwrap();
    assert_eq!(moved, 3, "the other video and both events");
    assert_eq!(store.claim(claim_at(59, false, 9)).await.unwrap().len(), 0);
    assert_eq!(
        store.pause(at(50), Class::UploadDenied, "x").await.unwrap(),
        0,
        "never earlier"
    );
    let resumed = claim_one(&*store, 60).await;
    assert_eq!(resumed.job.attempts, 1);
    assert_ne!(resumed.job.id, running.job.id);
    let record = record_of(&*store, resumed.job.id).await;
    assert_eq!(record.class, Some(Class::UploadDenied));
    assert_eq!(record.message.as_deref(), Some("the bucket is missing"));
}

async fn next_due_is_the_earliest_of_due_times_and_lease_ends(backend: &dyn Backend) {
    let store = backend.open().await;
    assert_eq!(store.next_due().await.unwrap(), None);
    store
        .record(event("e1", "r1").with(video("v", Some(9000))).received(5))
        .await
        .unwrap();
    // Whenever it was received: a clock may have been set back since.
    let always = Some(jiff::Timestamp::UNIX_EPOCH);
    assert_eq!(store.next_due().await.unwrap(), always);
    archive_small_at(backend, 6).await;
    let claimed = claim_one(&*store, 6).await;
    assert_eq!(
        store.next_due().await.unwrap(),
        Some(at(66)),
        "the lease's end"
    );
    assert_eq!(
        store
            .settle(&claimed.lease, &retry_at(200, true), at(7))
            .await
            .unwrap(),
        Written::Yes
    );
    assert_eq!(store.next_due().await.unwrap(), Some(at(200)));
    archive_all(&*store, 200).await;
    assert_eq!(store.next_due().await.unwrap(), None);
}

async fn archive_small_at(backend: &dyn Backend, seconds: i64) {
    let store = backend.open().await;
    for claimed in store.claim(claim_at(seconds, true, 99)).await.unwrap() {
        let outcome = archived(&claimed.job.key);
        assert_eq!(
            store
                .settle(&claimed.lease, &outcome, at(seconds))
                .await
                .unwrap(),
            Written::Yes
        );
    }
}
