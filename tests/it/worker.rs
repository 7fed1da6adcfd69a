//! The worker on the real store, the real engine and a real S3 API, against origins and provider APIs
//! that misbehave on script.

mod answers;
mod denials;
mod fresh;
mod frozen;
mod liveness;
mod secrets;
mod sources;
mod stores;
mod stuck;
mod waits;
mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use recording_harvester::clock::{Clock as _, SystemClock};
use recording_harvester::error::Class;
use recording_harvester::model::{
    Artifact, Deadline, Format, Kind, Outcome, ProgressEvent, Provider, State,
};
use recording_harvester::object::{ObjectAttributes, Payload};
use recording_harvester::store::{ClaimRequest, LeaseWrite, Selection};
use serde_json::json;
use world::{TRANSCRIPT, World, artifact, file, transcript};

use crate::harness::api::Answer;
use crate::harness::origin::{Behaviour, Fault as OriginFault, TestOrigin};
use crate::harness::s3::{Fault, Kind as FaultKind, Op};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_ends_with_its_artifacts_archived_and_the_manifest_last() {
    let world = World::start().await;
    world.api.script("/a.vtt", [Answer::file(TRANSCRIPT)]);
    let url = world.url("/a.vtt?X-Amz-Signature=canary");
    world.record("m1", vec![transcript(&url)]).await;
    let running = world.run(world.worker());
    let sealed = world.wait_for_seal().await;
    running.stop().await;

    let ProgressEvent::Sealed {
        manifest_key,
        archived,
        lost,
        ..
    } = sealed
    else {
        panic!("{sealed:?}");
    };
    assert_eq!((archived, lost), (2, 0));
    let manifest = world.document(&manifest_key).await.unwrap();
    let listed: Vec<_> = manifest["artifacts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|artifact| {
            assert_eq!(artifact["state"], "archived");
            artifact["name"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(listed, ["event-m1.json", "transcript.vtt"]);
    let key = manifest["artifacts"][1]["key"].as_str().unwrap();
    assert_eq!(world.object(key).await.unwrap(), TRANSCRIPT.as_bytes());
    assert_eq!(
        world
            .document(&manifest_key.replace("manifest", "report"))
            .await,
        None
    );
    assert!(!manifest.to_string().contains("canary"));

    let kinds: Vec<_> = world.events().iter().map(world::kind_of).collect();
    let first_seal = kinds.iter().position(|kind| *kind == "sealed").unwrap();
    let settled = kinds[..first_seal]
        .iter()
        .filter(|kind| **kind == "settled");
    assert_eq!(
        settled.count(),
        2,
        "sealed before all had settled: {kinds:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_lost_stands_in_the_report_until_a_retry_brings_it() {
    let world = World::start().await;
    world.api.script("/gone.vtt", [Answer::json(410, "{}")]);
    let url = world.url("/gone.vtt");
    world.record("m2", vec![transcript(&url)]).await;
    let running = world.run(world.worker());
    let ProgressEvent::Sealed {
        manifest_key,
        archived,
        lost,
        ..
    } = world.wait_for_seal().await
    else {
        unreachable!()
    };
    assert_eq!((archived, lost), (1, 1));
    let report_key = manifest_key.replace("manifest", "report");
    let report = world.document(&report_key).await.unwrap();
    assert_eq!(report["failures"][0]["name"], "transcript.vtt");
    assert_eq!(report["failures"][0]["class"], "gone");

    world.api.script("/gone.vtt", [Answer::file(TRANSCRIPT)]);
    world.forget_events();
    let now = SystemClock.now();
    let woken = world
        .store
        .retry(&Selection::Class(Class::Gone), now)
        .await
        .unwrap();
    assert_eq!(woken.len(), 1);
    world.bell.notify_one();
    world.wait_for_seal().await;
    running.stop().await;
    let report = world.document(&report_key).await.unwrap();
    assert_eq!(report["failures"], json!([]), "the loss must be withdrawn");
    let manifest = world.document(&manifest_key).await.unwrap();
    assert_eq!(manifest["artifacts"].as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loss_is_withdrawn_also_when_its_retry_came_between_manifest_and_report() {
    let world = World::start().await;
    let gone = Answer::json(410, "{}");
    world.api.script("/gone.vtt", [gone.clone()]);
    let jobs = world
        .record("m3", vec![transcript(&world.url("/gone.vtt"))])
        .await;
    let running = world.run(world.worker());
    let ProgressEvent::Sealed { manifest_key, .. } = world.wait_for_seal().await else {
        unreachable!()
    };
    let report_key = manifest_key.replace("manifest", "report");
    assert!(world.document(&report_key).await.is_some());

    // It is lost once more, and while the manifest that says so is on its way it is tried again.
    let retry = async || {
        let gone = Selection::Class(Class::Gone);
        let woken = world.store.retry(&gone, SystemClock.now()).await.unwrap();
        assert_eq!(woken.len(), 1);
        world.bell.notify_one();
    };
    let asked = world.api.asked().len();
    let puts = world.s3.count(Op::PutObject);
    let stalled = Answer::stalled(TRANSCRIPT);
    world.api.script("/gone.vtt", [gone, stalled]);
    world.s3.fail(Fault::once(Op::PutObject, FaultKind::Held));
    retry().await;
    world.s3.wait_for(Op::PutObject, puts + 1).await;
    retry().await;
    world.api.wait_for(asked + 2).await;
    world.s3.heal();
    running.stop().await;
    assert_eq!(world.records(&jobs[..1]).await[0].state, State::Pending);

    world.api.script("/gone.vtt", [Answer::file(TRANSCRIPT)]);
    world.forget_events();
    let running = world.run(world.worker());
    world.wait_for_seal().await;
    running.stop().await;
    let report = world.document(&report_key).await.unwrap();
    assert_eq!(report["failures"], json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_in_the_foreground_goes_on_with_what_was_lost_when_somebody_wakes_it() {
    let world = World::start().await;
    world.api.script("/gone.vtt", [Answer::json(410, "{}")]);
    world.api.script("/b.vtt", [Answer::file(TRANSCRIPT)]);
    let other = artifact("b.vtt", Kind::Transcript, Format::Vtt, &world.url("/b.vtt"));
    let artifacts = vec![transcript(&world.url("/gone.vtt")), other];
    let jobs = world.record("m4", artifacts).await;
    // So that the run does not end before.
    world.s3.fail(Fault::always(Op::PutObject, FaultKind::Held));
    let worker = world.worker();
    let waking = async {
        world
            .wait_for(|event| world::kind_of(event) == "settled")
            .await;
        world.api.script("/gone.vtt", [Answer::file(TRANSCRIPT)]);
        let gone = Selection::Class(Class::Gone);
        let woken = world.store.retry(&gone, SystemClock.now()).await.unwrap();
        assert_eq!(woken.len(), 1);
        world.s3.heal();
    };
    let (records, ()) = tokio::join!(worker.run_jobs(jobs, world.never()), waking);
    let states: Vec<_> = records.unwrap().iter().map(|found| found.state).collect();
    assert_eq!(states, [State::Archived; 3]);
}

// House: the order of the foreground did not know whose deadline is an upper bound only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_in_the_foreground_opens_first_what_may_die_before_its_equals() {
    let world = World::start().await;
    let deadline = world::deadline_in(3600);
    let mut artifacts = Vec::new();
    for name in ["sure", "session"] {
        world
            .api
            .script(&format!("/{name}"), [Answer::file("bytes")]);
        let mut artifact = file(name, &world.url(&format!("/{name}")));
        artifact.deadline = Deadline {
            is_upper_bound: name == "session",
            ..deadline
        };
        artifacts.push(artifact);
    }
    let jobs = world.record("m30", artifacts).await;
    let mut worker = world.worker();
    worker.settings.transfers = 1;
    let records = worker.run_jobs(jobs, world.never()).await.unwrap();
    let states: Vec<_> = records.iter().map(|found| found.state).collect();
    assert_eq!(states, [State::Archived; 3]);
    assert_eq!(world.asked_paths(), ["/session", "/sure"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daily_transcript_is_looked_up_with_the_sources_credentials() {
    let world = World::start().await;
    world.script_daily_transcript();
    let jobs = world.record_daily_transcript().await;
    let records = world
        .worker_with_key()
        .run_jobs(jobs, world.never())
        .await
        .unwrap();
    let states: Vec<_> = records.iter().map(|r| (r.kind, r.state)).collect();
    assert!(
        states.contains(&(Kind::Transcript, State::Archived)),
        "{records:#?}"
    );
    assert!(records.iter().all(|record| record.state == State::Archived));
    let asked = world.api.asked();
    assert_eq!(asked[0].method, "GET");
    assert_eq!(asked[0].header("authorization"), "Bearer key-canary");
    assert!(asked[0].body.is_empty());
    assert!(
        world
            .events()
            .iter()
            .any(|event| world::kind_of(event) == "sealed")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lookup_without_credentials_says_which_setting_and_a_later_retry_works() {
    let world = World::start().await;
    world.script_daily_transcript();
    let jobs = world.record_daily_transcript().await;
    let records = world
        .worker()
        .run_jobs(jobs.clone(), world.never())
        .await
        .unwrap();
    let lookup = records
        .iter()
        .find(|record| record.state != State::Archived)
        .unwrap();
    assert_eq!(
        (lookup.state, lookup.class),
        (State::Failed, Some(Class::Denied))
    );
    let message = lookup.message.as_deref().unwrap();
    assert!(message.contains("sources.daily-eu.api_key"), "{message}");
    assert_eq!(
        world.api.asked().len(),
        0,
        "nothing may be asked without a key"
    );

    let now = SystemClock.now();
    world.store.retry(&Selection::All, now).await.unwrap();
    let records = world
        .worker_with_key()
        .run_jobs(jobs, world.never())
        .await
        .unwrap();
    assert!(
        records.iter().all(|record| record.state == State::Archived),
        "{records:#?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f15_a_403_before_the_deadline_is_answered_with_a_fresh_url() {
    let world = World::start().await;
    world.api.script("/dead.vtt", [Answer::json(403, "{}")]);
    world.script_daily_transcript();
    let mut transcript = transcript(&world.url("/dead.vtt?sig=old"));
    transcript.deadline = world::deadline_in(3600);
    transcript.remint = Some(world.daily_transcript_lookup());
    let jobs = world
        .record_for("m5", Provider::Daily, vec![transcript])
        .await;
    let records = world
        .worker_with_key()
        .run_jobs(jobs, world.never())
        .await
        .unwrap();
    let transcript = records.iter().find(|r| r.kind == Kind::Transcript).unwrap();
    assert_eq!(transcript.state, State::Archived, "{transcript:#?}");
    assert_eq!(
        transcript.attempts, 1,
        "a fresh URL goes on in the same attempt"
    );
    let paths = world.asked_paths();
    assert_eq!(paths[0], "/dead.vtt?sig=old");
    assert_eq!(
        world::count(&paths, "/dead.vtt?sig=old"),
        1,
        "never again with this URL"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f14_past_its_deadline_a_url_gets_one_request_and_only_the_origin_says_expired() {
    let world = World::start().await;
    world.api.script("/dead.vtt", [Answer::json(403, "{}")]);
    world.api.script("/alive.vtt", [Answer::file(TRANSCRIPT)]);
    let vtt = |name: &str, path: &str| {
        let mut artifact = artifact(name, Kind::Transcript, Format::Vtt, &world.url(path));
        artifact.deadline = world::deadline_in(-60);
        artifact
    };
    let artifacts = vec![vtt("a.vtt", "/dead.vtt"), vtt("b.vtt", "/alive.vtt")];
    let jobs = world.record("m6", artifacts).await;
    let records = world.worker().run_jobs(jobs, world.never()).await.unwrap();
    let state = |name: &str| records.iter().find(|r| r.name == name).unwrap().state;
    assert_eq!(state("a.vtt"), State::Expired);
    assert_eq!(state("b.vtt"), State::Archived, "our clock may be wrong");
    assert_eq!(world::count(&world.asked_paths(), "/dead.vtt"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f60_a_missing_bucket_pauses_the_work_burns_no_attempts_and_is_resumed_by_itself() {
    let world = World::without_bucket().await;
    world.api.script("/a.vtt", [Answer::file(TRANSCRIPT)]);
    let url = world.url("/a.vtt");
    let jobs = world.record("m7", vec![transcript(&url)]).await;
    let running = world.run(world.worker());
    for job in &jobs {
        world
            .wait_for(|event| matches!(event, ProgressEvent::Retrying { id, .. } if id == job))
            .await;
    }
    for record in world.records(&jobs).await {
        assert_eq!(
            record.attempts, 0,
            "a bucket that refuses costs no attempt: {record:#?}"
        );
        assert!(!record.state.is_settled());
    }
    world.create_bucket().await;
    world.wait_for_seal().await;
    running.stop().await;
    for record in world.records(&jobs).await {
        assert_eq!((record.state, record.attempts), (State::Archived, 1));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_the_foreground_a_missing_bucket_ends_the_run_with_the_reason() {
    let world = World::without_bucket().await;
    let jobs = world.record("m8", Vec::new()).await;
    let run = world.worker().run_jobs(jobs, world.never()).await;
    let records = run.unwrap();
    assert_eq!(records[0].state, State::Pending);
    assert_eq!(records[0].class, Some(Class::UploadDenied));
    assert_eq!(records[0].attempts, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f86_a_shutdown_hands_back_what_does_not_finish_and_counts_nothing() {
    let world = World::start().await;
    world
        .api
        .script("/slow.bin", [Answer::stalled(vec![7; 1000])]);
    let slow = file("a.bin", &world.url("/slow.bin"));
    let jobs = world.record("m9", vec![slow]).await;
    let running = world.run(world.worker());
    world.api.wait_for(1).await;
    running.stop().await;
    let records = world.records(&jobs).await;
    let slow = records.iter().find(|r| r.name == "a.bin").unwrap();
    assert_eq!(
        (slow.state, slow.attempts),
        (State::Pending, 0),
        "{slow:#?}"
    );

    world.api.script("/slow.bin", [Answer::file(vec![7; 1000])]);
    let running = world.run(world.worker());
    world.wait_for_seal().await;
    running.stop().await;
    let records = world.records(&jobs).await;
    assert!(records.iter().all(|record| record.state == State::Archived));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f77_a_second_worker_takes_over_and_the_first_ones_late_writes_are_refused() {
    let world = World::start().await;
    world.api.script("/a.bin", [Answer::file(vec![7; 1000])]);
    let file = file("a.bin", &world.url("/a.bin"));
    let jobs = world.record("m10", vec![file]).await;
    // The first worker claims and is never heard of again.
    let now = SystemClock.now();
    let claim = |is_small| ClaimRequest {
        worker: "dead".to_owned(),
        is_small,
        limit: 10,
        now,
        lease_until: now + Duration::from_millis(300),
        only: None,
        held: Vec::new(),
        takes_lapsed: true,
    };
    let mut dead = world.store.claim(claim(false)).await.unwrap();
    dead.extend(world.store.claim(claim(true)).await.unwrap());
    assert_eq!(dead.len(), 2);

    let running = world.run(world.worker());
    world.wait_for_seal().await;
    running.stop().await;
    for claimed in &dead {
        let late = Outcome::Failed {
            class: Class::Internal,
            message: "late".to_owned(),
        };
        let now = SystemClock.now();
        let written = world
            .store
            .settle(&claimed.lease, &late, now)
            .await
            .unwrap();
        assert_eq!(written, LeaseWrite::Stale);
    }
    for record in world.records(&jobs).await {
        assert_eq!((record.state, record.attempts), (State::Archived, 2));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heartbeats_keep_a_lease_for_as_long_as_a_transfer_takes() {
    let world = World::start().await;
    world
        .api
        .script("/slow.bin", [Answer::stalled(vec![7; 1000])]);
    world.api.script("/next.bin", [Answer::file(vec![7; 1000])]);
    let slow = file("a.bin", &world.url("/slow.bin"));
    let jobs = world.record("m11", vec![slow]).await;
    let mut first = world.worker();
    first.settings.name = "first".to_owned();
    first.settings.lease = Duration::from_millis(400);
    first.settings.heartbeat = Duration::from_millis(100);
    let first = world.run(first);
    world.api.wait_for(1).await;
    let second = world.run(world.worker());
    // Three leases' time, measured by work that passes meanwhile.
    let started = tokio::time::Instant::now();
    let mut round = 0;
    while started.elapsed() < Duration::from_millis(1200) {
        round += 1;
        world.forget_events();
        let next = file("b.bin", &world.url("/next.bin"));
        world.record(&format!("m11-{round}"), vec![next]).await;
        world.wait_for_seal().await;
    }
    let records = world.records(&jobs).await;
    let slow = records.iter().find(|r| r.name == "a.bin").unwrap();
    assert_eq!((slow.state, slow.attempts), (State::Running, 1));
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_job_stops_its_transfer_at_the_next_heartbeat() {
    let world = World::start().await;
    world
        .api
        .script("/slow.bin", [Answer::stalled(vec![7; 1000])]);
    let slow = file("a.bin", &world.url("/slow.bin"));
    let jobs = world.record("m12", vec![slow]).await;
    let running = world.run(world.worker());
    world.api.wait_for(1).await;
    let ids: Vec<_> = jobs.iter().map(|job| job.0).collect();
    world.store.cancel(&ids, SystemClock.now()).await.unwrap();
    world
        .wait_for(|event| {
            matches!(event, ProgressEvent::Settled { record } if record.state == State::Cancelled)
        })
        .await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f89_a_panic_costs_one_attempt_and_nothing_else() {
    let world = World::start().await;
    for path in ["/a.bin", "/b.bin"] {
        world.api.script(path, [Answer::file(vec![7; 1000])]);
    }
    let files = ["a", "b"].map(|name| {
        let url = world.url(&format!("/{name}.bin"));
        file(&format!("{name}.bin"), &url)
    });
    let jobs = world.record("m13", files.into()).await;
    let mut worker = world.worker();
    let (inner, has_panicked) = (Arc::clone(&worker.emit), AtomicBool::new(false));
    // A watcher of progress with a bug: it runs inside the attempt's task.
    worker.emit = Arc::new(move |event| {
        if let ProgressEvent::Started { record } = &event
            && record.name == "a.bin"
            && !has_panicked.swap(true, Ordering::Relaxed)
        {
            panic!("planted by the test");
        }
        inner(event);
    });
    let running = world.run(worker);
    world.wait_for_seal().await;
    running.stop().await;
    let attempts: Vec<_> = world
        .records(&jobs)
        .await
        .into_iter()
        .map(|record| (record.name, record.state, record.attempts))
        .collect();
    assert!(
        attempts.contains(&("a.bin".to_owned(), State::Archived, 2)),
        "{attempts:?}"
    );
    assert!(
        attempts.contains(&("b.bin".to_owned(), State::Archived, 1)),
        "{attempts:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_artifact_does_not_wait_behind_videos() {
    let world = World::start().await;
    world
        .api
        .script("/slow.bin", [Answer::stalled(vec![7; 1000])]);
    world.api.script("/a.vtt", [Answer::file(TRANSCRIPT)]);
    let slots = world.worker().settings.transfers as usize;
    let videos = (0..slots + 2).map(|number| {
        let url = world.url(&format!("/slow.bin?{number}"));
        artifact(&format!("{number}.bin"), Kind::Video, Format::Bin, &url)
    });
    world.record("m14", videos.collect()).await;
    let running = world.run(world.worker());
    world.api.wait_for(slots).await;

    let url = world.url("/a.vtt");
    let small = transcript(&url);
    world.record("m15", vec![small]).await;
    world.wait_for_seal().await;
    assert_eq!(
        world
            .asked_paths()
            .iter()
            .filter(|path| path.contains("slow"))
            .count(),
        slots
    );
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f82_a_manifest_whose_note_was_lost_is_replaced_and_another_ones_is_left_alone() {
    for (owner, expected) in [
        (None, "manifest.json"),
        (Some("another"), "manifest-2.json"),
    ] {
        let world = World::start().await;
        let jobs = world.record("m16", Vec::new()).await;
        let record = world.records(&jobs).await.remove(0);
        let folder = record.key.rsplit_once('/').unwrap().0.to_owned();
        let owner = owner.map_or_else(|| record.recording_id.to_string(), str::to_owned);
        let earlier = ObjectAttributes {
            content_type: "application/json".to_owned(),
            metadata: vec![("harvester-recording".to_owned(), owner)],
            ..ObjectAttributes::default()
        };
        let key = format!("{folder}/manifest.json");
        let empty = Payload::default();
        let _ = world
            .objects
            .put(&key, &empty, &earlier, None)
            .await
            .unwrap();

        let running = world.run(world.worker());
        let ProgressEvent::Sealed { manifest_key, .. } = world.wait_for_seal().await else {
            unreachable!()
        };
        running.stop().await;
        assert_eq!(manifest_key, format!("{folder}/{expected}"));
        let manifest = world.document(&manifest_key).await.unwrap();
        assert_eq!(manifest["recording"]["id"], record.recording_id.to_string());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f85_a_job_that_no_attempt_ever_settles_is_given_up() {
    let world = World::start().await;
    let jobs = world.record("m17", Vec::new()).await;
    let worker = world.worker();
    for _ in 0..20 {
        let now = SystemClock.now();
        let claim = ClaimRequest {
            worker: "killed".to_owned(),
            is_small: true,
            limit: 1,
            now,
            lease_until: now,
            only: None,
            held: Vec::new(),
            takes_lapsed: true,
        };
        assert_eq!(world.store.claim(claim).await.unwrap().len(), 1);
    }
    let records = worker.run_jobs(jobs, world.never()).await.unwrap();
    assert_eq!(records[0].state, State::Failed);
    assert_eq!(records[0].class, Some(Class::Internal));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn past_the_deadline_a_fresh_url_is_asked_for_before_the_dead_one_is_tried() {
    let world = World::start().await;
    world.script_daily_transcript();
    let mut artifact = transcript(&world.url("/dead.vtt"));
    artifact.deadline = world::deadline_in(-60);
    artifact.remint = Some(world.daily_transcript_lookup());
    let jobs = world
        .record_for("m18", Provider::Daily, vec![artifact])
        .await;
    let worker = world.worker_with_key();
    let records = worker.run_jobs(jobs, world.never()).await.unwrap();
    assert!(records.iter().all(|record| record.state == State::Archived));
    assert_eq!(world::count(&world.asked_paths(), "/dead.vtt"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f17_an_api_that_throttles_is_asked_again() {
    let world = World::start().await;
    world.script_daily_transcript();
    let path = world.access_link_path();
    let link = world.access_link();
    let slow_down = Answer::json(429, "{}").retry_after(1);
    world
        .api
        .script(&path, [slow_down.clone(), slow_down, link]);
    let jobs = world.record_daily_transcript().await;
    let worker = world.worker_with_key();
    let records = worker.run_jobs(jobs, world.never()).await.unwrap();
    assert!(records.iter().any(|record| record.kind == Kind::Transcript));
    assert!(records.iter().all(|record| record.state == State::Archived));
    let paths = world.asked_paths();
    assert_eq!(
        paths
            .iter()
            .filter(|asked| asked.starts_with(&path))
            .count(),
        3
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f18_an_origin_that_recovers_is_retried_until_it_does() {
    let world = World::start().await;
    let broken = Answer::json(503, "{}");
    let answers = [broken.clone(), broken, Answer::file(TRANSCRIPT)];
    world.api.script("/a.vtt", answers);
    let jobs = world
        .record("m19", vec![transcript(&world.url("/a.vtt"))])
        .await;
    let records = world.worker().run_jobs(jobs, world.never()).await.unwrap();
    let transcript = records.iter().find(|r| r.kind == Kind::Transcript).unwrap();
    assert_eq!(
        (transcript.state, transcript.attempts),
        (State::Archived, 3)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f62_an_object_store_that_is_down_is_waited_for_and_burns_no_attempts() {
    let world = World::start().await;
    world.stop_s3();
    let jobs = world.record("m20", Vec::new()).await;
    let running = world.run(world.worker());
    world
        .wait_for(|event| world::kind_of(event) == "retrying")
        .await;
    assert_eq!(world.records(&jobs).await[0].attempts, 0);
    world.s3.heal();
    world.wait_for_seal().await;
    running.stop().await;
    let record = &world.records(&jobs).await[0];
    assert_eq!((record.state, record.attempts), (State::Archived, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f79_what_a_dead_worker_was_carrying_is_carried_by_the_next() {
    let world = World::start().await;
    let stalled = Answer::stalled(vec![7; 1000]);
    world
        .api
        .script("/a.bin", [stalled, Answer::file(vec![7; 1000])]);
    let jobs = world
        .record("m21", vec![file("a.bin", &world.url("/a.bin"))])
        .await;
    let mut doomed = world.worker();
    doomed.settings.lease = Duration::from_millis(400);
    let doomed = world.run(doomed);
    world.api.wait_for(1).await;
    doomed.kill();
    let running = world.run(world.worker());
    world.wait_for_seal().await;
    running.stop().await;
    let records = world.records(&jobs).await;
    let file = records
        .iter()
        .find(|record| record.name == "a.bin")
        .unwrap();
    assert_eq!((file.state, file.attempts), (State::Archived, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_workers_share_a_queue_and_each_manifest_is_whole() {
    let world = World::start().await;
    world.api.script("/a.vtt", [Answer::file(TRANSCRIPT)]);
    let mut jobs = Vec::new();
    for number in 0..20 {
        let artifacts = vec![transcript(&world.url(&format!("/a.vtt?{number}")))];
        jobs.extend(world.record(&format!("m22-{number}"), artifacts).await);
    }
    let running = [world.run(world.worker()), world.run(world.worker())];
    world.wait_for_all_sealed(20).await;
    for worker in running {
        worker.stop().await;
    }
    for record in world.records(&jobs).await {
        assert_eq!((record.state, record.attempts), (State::Archived, 1));
        let (folder, _) = record.key.rsplit_once('/').unwrap();
        let manifest = world
            .document(&format!("{folder}/manifest.json"))
            .await
            .unwrap();
        assert_eq!(manifest["artifacts"].as_array().unwrap().len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f55_an_upload_that_fails_while_the_bucket_answers_is_the_jobs_own_trouble_and_counts() {
    let world = World::start().await;
    world
        .s3
        .fail(Fault::always(Op::PutObject, FaultKind::InternalError));
    let jobs = world.record("m23", Vec::new()).await;
    let running = world.run(world.worker());
    world
        .wait_for(|event| world::kind_of(event) == "settled")
        .await;
    running.stop().await;
    let record = &world.records(&jobs).await[0];
    let end = (record.state, record.class, record.attempts);
    assert_eq!(end, (State::Failed, Some(Class::UploadFailed), 4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f58_a_manifest_whose_answer_was_lost_is_found_and_noted() {
    for lost in [FaultKind::ResetAfter, FaultKind::InternalError] {
        let world = World::start().await;
        let fault = Fault::times(Op::PutObject, 2, lost);
        world.s3.fail(fault.of("/manifest.json"));
        world.record("m24", Vec::new()).await;
        let running = world.run(world.worker());
        world.wait_for_seal().await;
        let unsealed = world.store.unsealed(10).await.unwrap();
        running.stop().await;
        assert_eq!(unsealed, []);
        let keys = world.s3.keys().await;
        let names: Vec<_> = keys
            .iter()
            .map(|key| key.rsplit_once('/').unwrap().1)
            .collect();
        assert_eq!(names, ["event-m24.json", "manifest.json"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_archive_hands_back_and_the_next_run_goes_on_at_once() {
    let world = World::start().await;
    let stalled = Answer::stalled(vec![7; 1000]);
    let whole = Answer::file(vec![7; 1000]);
    world.api.script("/a.bin", [stalled, whole]);
    let jobs = world
        .record("m25", vec![file("a.bin", &world.url("/a.bin"))])
        .await;
    let (worker, interrupt) = (world.worker(), world.never());
    let (records, ()) = tokio::join!(worker.run_jobs(jobs.clone(), interrupt.clone()), async {
        world.api.wait_for(1).await;
        interrupt.cancel();
    });
    let records = records.unwrap();
    let file = records
        .iter()
        .find(|record| record.name == "a.bin")
        .unwrap();
    assert_eq!((file.state, file.attempts), (State::Pending, 0));

    let records = worker.run_jobs(jobs, world.never()).await.unwrap();
    assert!(records.iter().all(|record| record.state == State::Archived));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f16_a_file_that_is_not_there_yet_is_asked_for_again_and_in_the_end_gone() {
    let world = World::start().await;
    let missing = || Answer::json(404, "{}");
    world.api.script(
        "/late.bin",
        [missing(), missing(), Answer::file(vec![7; 9])],
    );
    world.api.script("/never.bin", [missing()]);
    let files = ["late.bin", "never.bin"];
    let files = files.map(|name| file(name, &world.url(&format!("/{name}"))));
    let jobs = world.record("m31", files.to_vec()).await;
    let records = world.worker().run_jobs(jobs, world.never()).await.unwrap();
    let of = |name: &str| records.iter().find(|record| record.name == name).unwrap();
    assert_eq!(of("late.bin").state, State::Archived);
    let never = of("never.bin");
    assert_eq!(
        (never.state, never.class),
        (State::Failed, Some(Class::Gone))
    );
    let asked = |path: &str| world.asked_paths().iter().filter(|t| *t == path).count();
    assert_eq!((asked("/late.bin"), asked("/never.bin")), (3, 4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f67_a_store_that_fails_does_not_hang_the_drain() {
    let world = World::start().await;
    let stalled = Answer::stalled(vec![7; 1000]);
    world.api.script("/a.bin", [stalled]);
    world
        .record("m26", vec![file("a.bin", &world.url("/a.bin"))])
        .await;
    let running = world.run(world.worker());
    world.api.wait_for(1).await;
    world.store.close().await;
    world.bell.notify_one();
    // It fails to read the queue now, and to settle what it was carrying.
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f54_the_sweep_aborts_our_orphans_and_nothing_of_anybody_else() {
    let world = World::start().await;
    let origin = TestOrigin::start().await;
    let slow = Behaviour::fault(OriginFault::Trickle(16 * 1024, Duration::from_millis(5)));
    origin.serve("/a.bin", vec![7; 64 << 20], slow.clone());
    origin.serve("/b.bin", vec![8; 64 << 20], slow);
    let large = |name: &str| Artifact {
        size_bytes: None,
        ..artifact(
            name,
            Kind::Video,
            Format::Bin,
            &origin.url(&format!("/{name}")),
        )
    };
    let jobs = world
        .record("m30", vec![large("a.bin"), large("b.bin")])
        .await;
    let running = world.run(world.worker());
    let orphans = async |count: usize| {
        let reached = async {
            while world.s3.open_uploads().await.len() != count {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let reached = tokio::time::timeout(Duration::from_secs(20), reached).await;
        reached.unwrap_or_else(|_| panic!("there are never {count} uploads"));
    };
    // What the bucket has of both is noted, and neither is near its end.
    let noted = async {
        while !(world.records(&jobs).await[..2].iter()).all(|record| record.bytes_done > 0) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let noted = tokio::time::timeout(Duration::from_secs(20), noted).await;
    noted.expect("no part of each came to the bucket");
    // An operator cancels: the lease is lost, and who has lost it leaves the bucket alone.
    let ids: Vec<_> = jobs.iter().map(|job| job.0).collect();
    world.store.cancel(&ids, SystemClock.now()).await.unwrap();
    running.stop().await;
    orphans(2).await;

    let foreign = world
        .objects
        .create_upload("backup/disk.img", &ObjectAttributes::default())
        .await
        .unwrap();
    // One that can't be aborted does not keep the other.
    world
        .s3
        .fail(Fault::once(Op::Abort, FaultKind::AccessDenied));
    let running = world.run(world.worker());
    orphans(2).await;
    running.stop().await;
    let running = world.run(world.worker());
    orphans(1).await;
    running.stop().await;
    let left = world.s3.open_uploads().await;
    assert_eq!(left[0].upload_id, foreign);
}
