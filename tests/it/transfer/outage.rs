//! The bucket fails while an origin is open that can't be opened again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use recording_harvester::error::Class;
use recording_harvester::model::progress::Emit;
use recording_harvester::model::{Format, Job, Origin};
use recording_harvester::signed_url::SignedUrl;
use recording_harvester::transfer::{Engine, TransferSettings};
use tokio_util::sync::CancellationToken;

use super::door::deadline_in;
use super::patient_source;
use super::world::{MIB, TestLedger, job, mp4, small_parts};
use crate::harness::origin::{Behaviour, TestOrigin};
use crate::harness::s3::{Fault, Kind, Op, TestS3};

/// Waits until `is_so`, for at most half a minute.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Carries `content`, whose URL dies in one to two seconds, into a bucket that fails (`kind`) at `op` until
/// then, and for some tries more.
async fn outlives(op: Op, kind: Kind, content: Vec<u8>) {
    let s3 = TestS3::start().await;
    let origin = TestOrigin::start().await;
    let (deadline, dies) = deadline_in(1);
    let behaviour = Behaviour {
        valid_until: Some(dies),
        ..Behaviour::default()
    };
    origin.serve("/file", content.clone(), behaviour);
    let url = SignedUrl::new(origin.url("/file"));
    let job = Job {
        deadline,
        ..job(Origin::Url(url), Format::Mp4)
    };
    let settings = TransferSettings {
        // Less than the content: the rest of it is held in the origin's sockets.
        memory_bytes: 10 * MIB,
        lanes: 1,
        ..small_parts()
    };
    let source = Arc::new(patient_source(Vec::new()));
    let store = s3.store_within(Duration::from_secs(2)).await;
    let engine = Engine::new(source, store, settings);
    let (ledger, cancel) = (TestLedger::default(), CancellationToken::new());
    let emit: Emit = Arc::new(|_| ());
    s3.fail(Fault::always(op, kind));
    let outage = async {
        until("the URL dies", || Instant::now() > dies).await;
        let tried = s3.count(op);
        until("the bucket is tried after that", || s3.count(op) > tried).await;
        s3.heal();
    };
    let carrying = engine.carry(&job, &[], &ledger, &emit, &cancel);
    let (carried, ()) = tokio::join!(carrying, outage);
    carried.unwrap_or_else(|e| panic!("{op:?} {kind:?}: {}", e.full_message()));
    assert!(s3.object(&job.key).await.unwrap() == content);
    assert_eq!(origin.requests("/file").len(), 1, "{op:?} {kind:?}");
    assert!(s3.open_uploads().await.len() <= usize::from(op == Op::CreateUpload));
}

#[tokio::test]
async fn f62_what_was_opened_in_time_is_held_while_the_bucket_is_down() {
    let (large, small) = (mp4(36 * MIB), mp4(90_000));
    for kind in [Kind::InternalError, Kind::SlowDown, Kind::ResetBefore] {
        outlives(Op::UploadPart, kind, large.clone()).await;
    }
    outlives(Op::CreateUpload, Kind::InternalError, large).await;
    outlives(Op::PutObject, Kind::InternalError, small).await;
}

#[tokio::test]
async fn f61_credentials_that_ran_out_are_waited_for_while_the_origin_is_open() {
    outlives(Op::UploadPart, Kind::ExpiredToken, mp4(36 * MIB)).await;
    outlives(Op::PutObject, Kind::ExpiredToken, mp4(90_000)).await;
}

#[tokio::test]
async fn f61_credentials_that_stay_expired_are_the_destinations_fault() {
    let s3 = TestS3::start().await;
    let origin = TestOrigin::start().await;
    origin.serve("/file", mp4(7 * MIB), Behaviour::default());
    let url = SignedUrl::new(origin.url("/file"));
    let job = job(Origin::Url(url), Format::Mp4);
    let source = Arc::new(patient_source(Vec::new()));
    let engine = Engine::new(source, s3.store().await, small_parts());
    let (ledger, cancel) = (TestLedger::default(), CancellationToken::new());
    let emit: Emit = Arc::new(|_| ());
    s3.fail(Fault::always(Op::UploadPart, Kind::ExpiredToken));
    let error = engine
        .carry(&job, &[], &ledger, &emit, &cancel)
        .await
        .unwrap_err();
    assert_eq!(error.class(), Class::UploadDenied, "{error}");
    assert!(s3.count(Op::UploadPart) >= 4, "it is tried again");
}
