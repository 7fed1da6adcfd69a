//! What waits for a turn that others have is no attempt that hangs.

use std::sync::Arc;
use std::time::Duration;

use recording_harvester::model::{Deadline, ProgressEvent, State};
use recording_harvester::signed_url::SignedUrl;
use recording_harvester::source::guard::{Guard, GuardSettings};
use recording_harvester::source::http::{HttpSettings, HttpSource};
use recording_harvester::source::{OpenRequest, Source, Waits};
use recording_harvester::transfer::{Engine, TransferSettings};
use recording_harvester::worker::Worker;

use super::world::{self, World, file, kind_of};
use crate::harness::api::Answer;
use crate::harness::s3::{Fault, Kind as FaultKind, Op};

/// Longer than any wait for a disk here.
const SILENCE: Duration = Duration::from_millis(500);

/// The worker with one connection to a host at a time, and the source that it shares.
fn in_single_file(world: &World, mut worker: Worker) -> (Worker, Arc<dyn Source>) {
    let guard = Guard::new(GuardSettings {
        allow_networks: vec!["127.0.0.0/8".parse().unwrap()],
        allow_http: true,
        forbidden: Vec::new(),
    });
    let settings = HttpSettings {
        per_host: 1,
        ..HttpSettings::default()
    };
    let source: Arc<dyn Source> = Arc::new(HttpSource::new(Arc::new(guard), settings).unwrap());
    let (engine_source, objects) = (Arc::clone(&source), Arc::clone(&world.objects));
    worker.engine = Engine::new(engine_source, objects, TransferSettings::default());
    worker.source = Arc::clone(&source);
    (worker, source)
}

/// How often the event's own document was tried when it is settled.
async fn settled_document(world: &World) -> u32 {
    let settled = world
        .wait_for(|event| {
            matches!(event, ProgressEvent::Settled { record } if record.name.starts_with("event"))
        })
        .await;
    let ProgressEvent::Settled { record } = settled else {
        unreachable!("it was waited for")
    };
    record.attempts
}

// R10
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_that_waits_for_a_connection_to_the_host_is_not_taken_for_one_that_hangs() {
    let world = World::start().await;
    let (mut worker, source) = in_single_file(&world, world.worker());
    world::set_silence(&mut worker, SILENCE);
    world
        .api
        .script("/first.bin", [Answer::stalled(vec![7; 1000])]);
    world.api.script("/a.bin", [Answer::file(vec![7; 1000])]);
    let first = OpenRequest {
        url: SignedUrl::new(world.url("/first.bin")),
        range: None,
        validator: None,
        allow_hosts: Vec::new(),
        deadline: Deadline::NONE,
        waits: Waits::default(),
    };
    let first = source.open(&first).await.unwrap();
    // What really hangs beside it shows how much time goes by: two attempts at it are cancelled.
    world
        .s3
        .fail(Fault::times(Op::PutObject, 2, FaultKind::Held));
    let jobs = world
        .record("w1", vec![file("a.bin", &world.url("/a.bin"))])
        .await;
    let running = world.run(worker);
    assert_eq!(settled_document(&world).await, 3);
    drop(first);
    world
        .wait_for(
            |event| matches!(event, ProgressEvent::Settled { record } if record.name == "a.bin"),
        )
        .await;
    running.stop().await;
    let records = world.records(&jobs).await;
    let waited = records.iter().find(|one| one.name == "a.bin").unwrap();
    assert_eq!(
        (waited.state, waited.attempts),
        (State::Archived, 1),
        "{waited:#?}"
    );
}

// R10
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lookup_that_waits_for_the_providers_pause_is_not_taken_for_one_that_hangs() {
    let world = World::start().await;
    let mut worker = world.worker_with_key();
    world::set_silence(&mut worker, SILENCE);
    for access in worker.access.values() {
        access.pace.hold(Some(4 * SILENCE));
    }
    world.script_daily_transcript();
    world.record_daily_transcript().await;
    let running = world.run(worker);
    world
        .wait_for(|event| {
            matches!(event, ProgressEvent::Settled { record } if record.name.ends_with(".vtt"))
        })
        .await;
    running.stop().await;
    let retried: Vec<_> = world
        .events()
        .into_iter()
        .filter(|event| kind_of(event) == "retrying")
        .collect();
    assert!(retried.is_empty(), "{retried:#?}");
}
