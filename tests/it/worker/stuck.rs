//! Recordings whose manifest can't be written, and events that can't be read for a while: others go on.

use recording_harvester::error::Class;
use recording_harvester::model::{ProgressEvent, State};

use super::world::{World, file, kind_of};
use crate::harness::api::Answer;

/// R6: so many are looked at together.
const BATCH: usize = 256;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recordings_that_cannot_be_sealed_do_not_keep_others_from_it() {
    let world = World::start().await;
    for number in 0..BATCH {
        world.record(&format!("stuck-{number}"), Vec::new()).await;
    }
    world.archive_without_a_worker().await;
    // What a manifest is made from can't be read of any of them.
    world
        .change_store("UPDATE recordings SET provider = ''")
        .await;
    let healthy = world.record("healthy", Vec::new()).await;
    world.archive_without_a_worker().await;
    let healthy = world.records(&healthy).await[0].recording_id;
    let running = world.run(world.worker());
    world
        .wait_for(|event| {
            matches!(event, ProgressEvent::Sealed { recording_id, .. } if *recording_id == healthy)
        })
        .await;
    running.stop().await;

    // Nor in the foreground those whose files an earlier run had archived.
    let own = world.record("own", Vec::new()).await;
    world.archive_without_a_worker().await;
    let records = world.worker().run_jobs(own, world.never()).await.unwrap();
    let own = records[0].recording_id;
    let is_own = |event: &ProgressEvent| match event {
        ProgressEvent::Sealed { recording_id, .. } => *recording_id == own,
        _ => false,
    };
    assert!(world.events().iter().any(is_own));
}

/// R14
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_cannot_be_read_now_is_archived_later() {
    let world = World::start().await;
    let jobs = world.record_as_sent("late").await;
    world
        .change_store("ALTER TABLE events RENAME TO events_away")
        .await;
    let running = world.run(world.worker());
    world.wait_for(|event| kind_of(event) == "retrying").await;
    world
        .change_store("ALTER TABLE events_away RENAME TO events")
        .await;
    world.wait_for_seal().await;
    running.stop().await;
    let record = &world.records(&jobs).await[0];
    assert_eq!(
        (record.state, record.class),
        (State::Archived, None::<Class>)
    );
}

/// R7
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_jobs_that_cannot_be_claimed_do_not_keep_large_ones_from_it() {
    let world = World::start().await;
    world
        .change_store(
            "CREATE TRIGGER planted BEFORE UPDATE ON jobs WHEN NEW.state = 'running' AND NEW.is_small = 1
             BEGIN SELECT RAISE(ABORT, 'planted by the test'); END",
        )
        .await;
    world.api.script("/a.bin", [Answer::file(vec![7; 1000])]);
    world
        .record("c1", vec![file("a.bin", &world.url("/a.bin"))])
        .await;
    let running = world.run(world.worker());
    world
        .wait_for(
            |event| matches!(event, ProgressEvent::Settled { record } if record.name == "a.bin"),
        )
        .await;
    running.stop().await;
}
