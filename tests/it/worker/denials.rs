//! A bucket that refuses one object, and one that refuses all.

use std::time::Duration;

use recording_harvester::clock::{Clock as _, SystemClock};
use recording_harvester::error::Class;
use recording_harvester::model::{ProgressEvent, State};
use recording_harvester::store::Selection;

use super::world::{World, file, kind_of, transcript};
use crate::harness::api::Answer;
use crate::harness::s3::{Fault, Kind as FaultKind, Op};
use crate::harness::stores::StoreKind;

// R2
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_that_alone_is_denied_keeps_nothing_waiting_and_fails_by_itself() {
    let world = World::start().await;
    world
        .s3
        .fail(Fault::always(Op::UploadPart, FaultKind::AccessDenied));
    world
        .api
        .script("/video.bin", [Answer::file(vec![7; 12 << 20])]);
    let video = file("video.bin", &world.url("/video.bin"));
    let video = world.record("d1", vec![video]).await[0];
    let mut worker = world.worker();
    worker.settings.retry.destination_pause = Duration::from_secs(60);
    let running = world.run(worker);
    world
        .wait_for(|event| matches!(event, ProgressEvent::Retrying { id, .. } if *id == video))
        .await;
    for number in 0..10 {
        let path = format!("/{number}.vtt");
        let whole = Answer::file(super::world::TRANSCRIPT);
        world.api.script(&path, [whole]);
        let small = transcript(&world.url(&path));
        world.record(&format!("d1-{number}"), vec![small]).await;
    }
    world.wait_for_all_sealed(11).await;
    running.stop().await;
    let video = &world.records(&[video]).await[0];
    let end = (video.state, video.class, video.attempts);
    assert_eq!(end, (State::Failed, Some(Class::UploadDenied), 4));
    let message = video.message.as_deref().unwrap();
    assert!(message.contains("UploadPart"), "{message}");
}

// R2: without the right to list a bucket, its own check is always refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_that_lacks_a_right_stops_nothing_that_may_be_written() {
    let world = World::start().await;
    for op in [Op::UploadPart, Op::HeadBucket] {
        world.s3.fail(Fault::always(op, FaultKind::AccessDenied));
    }
    world
        .api
        .script("/video.bin", [Answer::file(vec![7; 12 << 20])]);
    let video = file("video.bin", &world.url("/video.bin"));
    let video = world.record("d2", vec![video]).await[0];
    let running = world.run(world.worker());
    let is_over = |event: &ProgressEvent| matches!(event, ProgressEvent::Settled { record } if record.id == video);
    for number in 0..5 {
        world.record(&format!("d2-{number}"), Vec::new()).await;
    }
    world.wait_for(is_over).await;
    world.wait_for_all_sealed(6).await;
    running.stop().await;
    let video = &world.records(&[video]).await[0];
    let end = (video.state, video.class);
    assert_eq!(end, (State::Failed, Some(Class::UploadDenied)));
}

/// About what is not there such a bucket answers 403, and what goes up in parts looks first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_recording_is_archived_without_the_right_to_list_the_bucket() {
    let world = World::start().await;
    world.s3.forbid_listing();
    // As `run` does at its start.
    world.objects.probe(".harvester-probe").await.unwrap();
    world
        .api
        .script("/video.bin", [Answer::file(vec![7; 12 << 20])]);
    let video = file("video.bin", &world.url("/video.bin"));
    let video = world.record("d5", vec![video]).await[0];
    let running = world.run(world.worker());
    if !StoreKind::of_this_run().keeps_conditions() {
        // What the 403 hides could be overwritten there: it is refused, and the missing right is named.
        let names_the_right = |event: &ProgressEvent| matches!(event, ProgressEvent::Retrying { id, message, .. } if *id == video && message.contains("s3:ListBucket"));
        world.wait_for(names_the_right).await;
        running.stop().await;
        let video = &world.records(&[video]).await[0];
        assert_eq!(video.state, State::Pending, "{video:#?}");
        return;
    }
    let is_over = |event: &ProgressEvent| matches!(event, ProgressEvent::Settled { record } if record.id == video);
    world.wait_for(is_over).await;
    world.wait_for_all_sealed(1).await;
    running.stop().await;
    let video = &world.records(&[video]).await[0];
    assert_eq!(video.state, State::Archived, "{video:#?}");
}

// N4
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_refuses_is_told_with_what_waits_and_when_it_is_over() {
    let world = World::without_bucket().await;
    world.record("d3", Vec::new()).await;
    let mut worker = world.worker();
    // Long enough for what was refused not to be claimed again before it is counted.
    worker.settings.retry.destination_pause = Duration::from_secs(3);
    let running = world.run(worker);
    let told = |event: &ProgressEvent| kind_of(event) == "bucket_refuses";
    let ProgressEvent::BucketRefuses {
        class,
        message,
        waiting,
        ..
    } = world.wait_for(told).await
    else {
        unreachable!()
    };
    assert_eq!((class, waiting), (Class::UploadDenied, 1));
    assert!(message.contains("NoSuchBucket"), "{message}");
    world.create_bucket().await;
    world
        .wait_for(|event| kind_of(event) == "bucket_accepts")
        .await;
    world.wait_for_seal().await;
    running.stop().await;
}

// N4
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operators_retry_asks_a_bucket_that_refused_at_once() {
    let world = World::without_bucket().await;
    world.record("d4", Vec::new()).await;
    let mut worker = world.worker();
    worker.settings.retry.destination_pause = Duration::from_secs(200);
    let running = world.run(worker);
    world
        .wait_for(|event| kind_of(event) == "bucket_refuses")
        .await;
    world.create_bucket().await;
    let denied = Selection::Class(Class::UploadDenied);
    let now = SystemClock.now();
    let retried = world.store.retry(&denied, now).await.unwrap();
    assert_eq!(retried.len(), 1);
    world.wait_for_seal().await;
    running.stop().await;
}
