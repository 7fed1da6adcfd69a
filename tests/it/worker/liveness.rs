//! What the worker does when the clock jumps, when its own tasks panic, when an attempt hangs, and when workers died.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use jiff::SignedDuration;
use recording_harvester::clock::{Clock as _, ManualClock, SystemClock};
use recording_harvester::error::{Class, Error, Result};
use recording_harvester::model::api::{ApiRequest, ApiResponse, Credentials};
use recording_harvester::model::{Kind, Layout, ProgressEvent, Provider, State, key};
use recording_harvester::source::{OpenRequest, Opened, Source};
use recording_harvester::worker::reconcile::{ReconcileStep, Reconciled, Reconciler};
use recording_harvester::worker::scan::{Absent, ScannedSource, Walker};
use recording_harvester::worker::{SourceAccess, Worker};
use tokio::sync::Notify;

use super::world::{self, PATIENCE, TRANSCRIPT, World, file, transcript};
use crate::harness::api::Answer;
use crate::harness::origin::{Behaviour, Fault as OriginFault, TestOrigin};

/// A worker that goes by `clock`, and beats too seldom for a heartbeat to come before its next look at the queue.
fn by_clock(world: &World, clock: &Arc<ManualClock>) -> Worker {
    let mut worker = world.worker();
    worker.clock = clock.clone();
    worker.settings.heartbeat = Duration::from_secs(3600);
    worker
}

// R3a
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f94_a_clock_that_jumps_ahead_takes_no_job_from_the_worker_that_holds_it() {
    let world = World::start().await;
    let slow = Answer::stalled(vec![7; 1000]);
    world.api.script("/slow.bin", [slow]);
    world.api.script("/next.bin", [Answer::file(vec![7; 1000])]);
    let clock = ManualClock::at(SystemClock.now());
    let jobs = world
        .record("c1", vec![file("a.bin", &world.url("/slow.bin"))])
        .await;
    let running = world.run(by_clock(&world, &clock));
    world.api.wait_for(1).await;
    clock.set(SystemClock.now() + SignedDuration::from_hours(1));
    // In the same lane: once this one is archived, the queue has been looked at by the new time.
    world
        .record("c2", vec![file("b.bin", &world.url("/next.bin"))])
        .await;
    world
        .wait_for(
            |event| matches!(event, ProgressEvent::Settled { record } if record.name == "b.bin"),
        )
        .await;
    let records = world.records(&jobs).await;
    let slow = records.iter().find(|one| one.name == "a.bin").unwrap();
    assert_eq!((slow.state, slow.attempts), (State::Running, 1));
    assert_eq!(world::count(&world.asked_paths(), "/slow.bin"), 1);
    running.stop().await;
}

// R3b
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f94_what_was_recorded_before_the_clock_was_set_back_is_worked_on_at_once() {
    let world = World::start().await;
    world.api.script("/a.vtt", [Answer::file(TRANSCRIPT)]);
    world
        .record("c3", vec![transcript(&world.url("/a.vtt"))])
        .await;
    let clock = ManualClock::at(SystemClock.now() - SignedDuration::from_hours(2));
    let running = world.run(by_clock(&world, &clock));
    world.wait_for_seal().await;
    running.stop().await;
}

// R3b
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f94_in_the_foreground_a_retry_does_not_wait_for_a_clock_that_was_set_back() {
    let world = World::start().await;
    let answers = [Answer::json(503, "{}"), Answer::file(TRANSCRIPT)];
    world.api.script("/a.vtt", answers);
    let jobs = world
        .record("c4", vec![transcript(&world.url("/a.vtt"))])
        .await;
    let clock = ManualClock::at(SystemClock.now());
    let mut worker = by_clock(&world, &clock);
    let (inner, back) = (Arc::clone(&worker.emit), clock.clone());
    worker.emit = Arc::new(move |event| {
        if matches!(event, ProgressEvent::Retrying { .. }) {
            back.set(SystemClock.now() - SignedDuration::from_hours(2));
        }
        inner(event);
    });
    let run = worker.run_jobs(jobs, world.never());
    let records = tokio::time::timeout(PATIENCE, run).await;
    let records = records.expect("the retry comes in time").unwrap();
    assert!(records.iter().all(|one| one.state == State::Archived));
}

// R11
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f85_attempts_whose_worker_died_do_not_use_up_the_budget_of_retries() {
    let world = World::start().await;
    let answers = [Answer::json(503, "{}"), Answer::file(TRANSCRIPT)];
    world.api.script("/a.vtt", answers);
    let jobs = world
        .record("c5", vec![transcript(&world.url("/a.vtt"))])
        .await;
    let worker = world.worker();
    for _ in 0..worker.settings.retry.max_attempts + 2 {
        world.claim_and_die(true).await;
    }
    let records = worker.run_jobs(jobs, world.never()).await.unwrap();
    let transcript = records.iter().find(|one| one.kind == Kind::Transcript);
    let transcript = transcript.unwrap();
    assert_eq!(transcript.state, State::Archived, "{transcript:#?}");
}

// R15
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f89_a_sealer_that_panics_is_started_again() {
    let world = World::start().await;
    let mut worker = world.worker();
    let (inner, panics) = (Arc::clone(&worker.emit), AtomicU32::new(0));
    worker.emit = Arc::new(move |event| {
        let is_sealed = matches!(event, ProgressEvent::Sealed { .. });
        assert!(
            !is_sealed || panics.fetch_add(1, Ordering::Relaxed) > 0,
            "planted by the test"
        );
        inner(event);
    });
    world.record("c6", Vec::new()).await;
    let running = world.run(worker);
    world.wait_for_nothing_unsealed(1).await;
    world.record("c7", Vec::new()).await;
    world.wait_for_seal().await;
    running.stop().await;
}

// R15
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f89_a_sealer_that_always_panics_ends_the_worker_with_an_error() {
    let world = World::start().await;
    let mut worker = world.worker();
    let inner = Arc::clone(&worker.emit);
    worker.emit = Arc::new(move |event| {
        let is_sealed = matches!(event, ProgressEvent::Sealed { .. });
        assert!(!is_sealed, "planted by the test");
        inner(event);
    });
    // Each panic takes those along that are on their way at the same time, of which there may be 16.
    for number in 0..100 {
        world.record(&format!("c8-{number}"), Vec::new()).await;
    }
    let ended = tokio::time::timeout(PATIENCE, worker.run(world.never())).await;
    let error = ended.expect("the worker ends").unwrap_err();
    assert!(error.full_message().contains("sealer"), "{error:?}");
}

// R10
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f88_an_attempt_that_tells_no_progress_is_cancelled_and_in_the_end_given_up() {
    let world = World::start().await;
    world.api.script("/a.bin", [Answer::stalled(vec![7; 1000])]);
    let jobs = world
        .record("c9", vec![file("a.bin", &world.url("/a.bin"))])
        .await;
    let mut worker = world.worker();
    world::set_silence(&mut worker, Duration::from_millis(300));
    let running = world.run(worker);
    world
        .wait_for(
            |event| matches!(event, ProgressEvent::Settled { record } if record.name == "a.bin"),
        )
        .await;
    running.stop().await;
    let records = world.records(&jobs).await;
    let hung = records.iter().find(|one| one.name == "a.bin").unwrap();
    let end = (hung.state, hung.class, hung.attempts);
    assert_eq!(end, (State::Failed, Some(Class::Internal), 4), "{hung:#?}");
    let message = hung.message.as_deref().unwrap();
    assert!(message.contains("no progress"), "{message}");
}

/// A provider's API that panics when it is asked first.
#[derive(Default)]
struct PanickingSource {
    calls: AtomicU32,
    bell: Notify,
}

#[async_trait]
impl Source for PanickingSource {
    async fn open(&self, _: &OpenRequest) -> Result<Opened> {
        unreachable!("no file is opened")
    }

    async fn try_open(&self, _: &OpenRequest) -> Result<Option<Opened>> {
        unreachable!("no file is opened")
    }

    async fn call(&self, _: &ApiRequest) -> Result<ApiResponse> {
        let before = self.calls.fetch_add(1, Ordering::Relaxed);
        self.bell.notify_one();
        assert!(before > 0, "planted by the test");
        Err(Error::transient(Class::Unreachable, "ask the API"))
    }
}

// R15
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f89_a_source_whose_walk_panicked_is_reconciled_again() {
    let world = World::start().await;
    let source = Arc::new(PanickingSource::default());
    let access = SourceAccess {
        credentials: Credentials {
            api_key: Some("key-canary".into()),
            api_secret: None,
            base_url: None,
        },
        ..SourceAccess::default()
    };
    let restarts = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&restarts);
    let reconciler = Reconciler {
        walker: Walker {
            store: Some(Arc::clone(&world.store)),
            source: source.clone(),
            clock: Arc::new(SystemClock),
            layout: Layout::new("", key::DEFAULT_TEMPLATE).unwrap(),
        },
        store: world.store.clone(),
        name: "worker".to_owned(),
        sources: vec![Reconciled {
            subject: ScannedSource {
                name: "daily".to_owned(),
                provider: Provider::Daily,
                access,
                absent: Absent::default(),
            },
            every: Duration::from_secs(3600),
            reactivate_webhook: false,
            alarm: Arc::default(),
        }],
        bell: Arc::clone(&world.bell),
        on_done: Arc::new(move |_, done| {
            let is_restart = done == ReconcileStep::Restarted;
            counted.fetch_add(u32::from(is_restart), Ordering::Relaxed);
        }),
    };
    let shutdown = world.never();
    let twice = async {
        while source.calls.load(Ordering::Relaxed) < 2 {
            source.bell.notified().await;
        }
        shutdown.cancel();
    };
    let both = async { tokio::join!(reconciler.run(shutdown.clone()), twice) };
    let (ended, ()) = tokio::time::timeout(PATIENCE, both).await.unwrap();
    ended.unwrap();
    assert_eq!(restarts.load(Ordering::Relaxed), 1);
}

/// As an HTTP header writes it.
fn http_date(at: jiff::Timestamp) -> String {
    at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

// R3c
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f94_a_clock_that_is_ahead_of_the_origins_is_told_and_gives_no_url_up() {
    let world = World::start().await;
    let origin = TestOrigin::start().await;
    let there = http_date(SystemClock.now() - SignedDuration::from_mins(10));
    let busy = OriginFault::Status(503, vec![("date", there)], String::new());
    origin.serve("/a.vtt", TRANSCRIPT, Behaviour::fault_at_first(2, busy));
    let mut transcript = transcript(&origin.url("/a.vtt"));
    // Five minutes ago by our clock; there it lives for five minutes more.
    transcript.deadline = world::deadline_in(-300);
    let jobs = world.record("c11", vec![transcript]).await;
    let records = world.worker().run_jobs(jobs, world.never()).await.unwrap();
    assert!(
        records.iter().all(|one| one.state == State::Archived),
        "{records:#?}"
    );
    let told = world.wait_for(|event| {
        matches!(event, ProgressEvent::ClockOffset { peer, seconds }
            if peer == "100ms" && (600..660).contains(seconds))
    });
    told.await;
}
