//! The engine against an S3 server that fails on the wire, as the SDK meets it.

use std::sync::Arc;
use std::time::Duration;

use recording_harvester::error::{Class, Result};
use recording_harvester::model::progress::Emit;
use recording_harvester::model::{Archived, Format, Origin};
use recording_harvester::signed_url::SignedUrl;
use recording_harvester::transfer::Engine;
use tokio_util::sync::CancellationToken;

use super::patient_source;
use super::world::{MIB, TestLedger, job, mp4, small_parts};
use crate::harness::origin::{Behaviour, TestOrigin};
use crate::harness::s3::{Fault, Kind, Op, TestS3};
use crate::harness::stores::StoreKind;

/// Where it is tried what the store can do, as a worker does at its start.
const PROBE: &str = ".harvester-probe";

/// Carries a file of `size` bytes while `fault` lasts; whatever happens, no upload is left open.
async fn carry(s3: &TestS3, origin: &TestOrigin, size: u64, fault: Fault) -> Result<Archived> {
    let store = s3.store_within(Duration::from_secs(2)).await;
    // What a store lacks it lacked at the start as well.
    let is_lacking = matches!(fault.kind, Kind::NoConditions | Kind::NoCrc64);
    if is_lacking {
        s3.fail(fault);
    }
    store.probe(PROBE).await.unwrap();
    if !is_lacking {
        s3.fail(fault);
    }
    let mut path = format!("/{:?}-{:?}-{}-{size}", fault.op, fault.kind, fault.times);
    path.retain(|c| !"\"()=".contains(c));
    origin.serve(&path, mp4(size), Behaviour::default());
    let mut job = job(Origin::Url(SignedUrl::new(origin.url(&path))), Format::Mp4);
    job.key = format!("wire{path}/recording.mp4");
    let source = Arc::new(patient_source(Vec::new()));
    let engine = Engine::new(source, store, small_parts());
    let emit: Emit = Arc::new(|_| ());
    let ledger = TestLedger::default();
    let cancel = CancellationToken::new();
    let carrying = engine.carry(&job, &[], &ledger, &emit, &cancel);
    let result = tokio::time::timeout(Duration::from_secs(90), carrying)
        .await
        .expect("every wait ends");
    s3.heal();
    match &result {
        Ok(archived) => {
            assert_eq!(archived.key, job.key, "{fault:?}");
            let bytes = s3.object(&job.key).await.unwrap();
            assert!(bytes == mp4(size), "{fault:?}: the bytes differ");
        }
        Err(_) => {
            // What could not be confirmed may be there, but only as it was sent.
            let is_unconfirmed = fault.op == Op::HeadObject;
            let bytes = s3.object(&job.key).await;
            let is_fine = bytes.is_none_or(|bytes| is_unconfirmed && bytes == mp4(size));
            assert!(is_fine, "{fault:?}: it is in the bucket");
        }
    }
    // What is left is what the next attempt goes on with.
    job.checkpoint = ledger.last.lock().unwrap().clone();
    if result.is_err() && job.checkpoint.is_some() {
        let again = engine.carry(&job, &[], &ledger, &emit, &cancel).await;
        again.unwrap_or_else(|e| panic!("{fault:?}, again: {}", e.full_message()));
        assert!(s3.object(&job.key).await.unwrap() == mp4(size));
    }
    let left = s3.open_uploads().await;
    assert!(left.is_empty(), "{fault:?} left {left:?}");
    result
}

#[tokio::test]
async fn faults_that_pass_end_in_the_whole_object() {
    let s3 = TestS3::start().await;
    let origin = TestOrigin::start().await;
    let large = 7 * MIB;
    let small = 90_000;
    let cases = [
        (large, Fault::times(Op::UploadPart, 3, Kind::SlowDown)),
        (large, Fault::times(Op::UploadPart, 3, Kind::InternalError)),
        (large, Fault::once(Op::UploadPart, Kind::ResetBefore)),
        (large, Fault::once(Op::UploadPart, Kind::ResetAfter)),
        (large, Fault::once(Op::UploadPart, Kind::Stall)),
        (large, Fault::times(Op::Complete, 3, Kind::SlowDown)),
        (large, Fault::once(Op::Complete, Kind::ErrorIn200)),
        (large, Fault::once(Op::Complete, Kind::ResetBefore)),
        (large, Fault::once(Op::Complete, Kind::ResetAfter)),
        (large, Fault::once(Op::Complete, Kind::CutXml)),
        (large, Fault::once(Op::Complete, Kind::AbortedUpload)),
        (large, Fault::once(Op::UploadPart, Kind::AbortedUpload)),
        (large, Fault::once(Op::Complete, Kind::Conflict)),
        (large, Fault::times(Op::Complete, 2, Kind::Conflict)),
        (small, Fault::once(Op::PutObject, Kind::Conflict)),
        (large, Fault::times(Op::UploadPart, 3, Kind::ExpiredToken)),
        (small, Fault::times(Op::PutObject, 3, Kind::ExpiredToken)),
        (large, Fault::once(Op::CreateUpload, Kind::InternalError)),
        (large, Fault::once(Op::HeadObject, Kind::SlowDown)),
        // Down from the first look on, and for three of them.
        (large, Fault::times(Op::HeadObject, 6, Kind::InternalError)),
        (large, Fault::always(Op::Complete, Kind::NoConditions)),
        (large, Fault::once(Op::UploadPart, Kind::BadDigest)),
        (large, Fault::once(Op::UploadPart, Kind::FlippedByte)),
        (small, Fault::once(Op::PutObject, Kind::FlippedByte)),
        (small, Fault::always(Op::PutObject, Kind::NoConditions)),
        (small, Fault::times(Op::PutObject, 3, Kind::SlowDown)),
        (small, Fault::once(Op::PutObject, Kind::ResetBefore)),
        (small, Fault::once(Op::PutObject, Kind::ResetAfter)),
        (small, Fault::once(Op::PutObject, Kind::Stall)),
    ];
    for (size, fault) in cases {
        let archived = carry(&s3, &origin, size, fault).await;
        archived.unwrap_or_else(|e| panic!("{fault:?}: {}", e.full_message()));
    }
}

/// Many parts are on their way when the bucket goes down, and it is not asked by all of them again and again.
#[tokio::test]
async fn a_bucket_that_is_down_is_asked_again_by_one_part() {
    let s3 = TestS3::start().await;
    let origin = TestOrigin::start().await;
    let parts: usize = 8;
    let fault = Fault::always(Op::UploadPart, Kind::InternalError);
    let error = carry(&s3, &origin, parts as u64 * 5 * MIB, fault).await;
    assert_eq!(error.unwrap_err().class(), Class::UploadFailed);
    // Each part once; then one of them three times more; and each call is sent twice.
    let sent = s3.count(Op::UploadPart);
    assert!((2..=2 * (parts + 3)).contains(&sent), "{sent}");
}

#[tokio::test]
async fn faults_that_stay_end_in_their_class() {
    let s3 = TestS3::start().await;
    let origin = TestOrigin::start().await;
    let large = 7 * MIB;
    let small = 90_000;
    let cases = [
        (large, Op::UploadPart, Kind::SlowDown, Class::UploadFailed),
        (
            large,
            Op::UploadPart,
            Kind::FlippedByte,
            Class::UploadFailed,
        ),
        (small, Op::PutObject, Kind::FlippedByte, Class::UploadFailed),
        (
            large,
            Op::UploadPart,
            Kind::AccessDenied,
            Class::UploadDenied,
        ),
        (
            large,
            Op::CreateUpload,
            Kind::AccessDenied,
            Class::UploadDenied,
        ),
        (
            large,
            Op::Complete,
            Kind::InternalError,
            Class::UploadFailed,
        ),
        (
            small,
            Op::PutObject,
            Kind::AccessDenied,
            Class::UploadDenied,
        ),
        (
            small,
            Op::PutObject,
            Kind::InternalError,
            Class::UploadFailed,
        ),
        (
            large,
            Op::HeadObject,
            Kind::AccessDenied,
            Class::UploadDenied,
        ),
    ];
    for (size, op, kind, class) in cases {
        let error = carry(&s3, &origin, size, Fault::always(op, kind)).await;
        let error = error.expect_err("the fault stays");
        assert_eq!(
            error.class(),
            class,
            "{op:?} {kind:?}: {}",
            error.full_message()
        );
        assert_eq!(error.is_transient(), class == Class::UploadFailed);
    }
}

#[tokio::test]
async fn where_conditions_are_unknown_somebody_elses_object_is_still_not_overwritten() {
    let s3 = TestS3::start().await;
    let origin = TestOrigin::start().await;
    let store = s3.store_within(Duration::from_secs(2)).await;
    for (size, op) in [(90_000, Op::PutObject), (7 * MIB, Op::Complete)] {
        let path = format!("/taken-{size}");
        origin.serve(&path, mp4(size), Behaviour::default());
        let mut job = job(Origin::Url(SignedUrl::new(origin.url(&path))), Format::Mp4);
        job.key = format!("taken/{size}.mp4");
        let other = crate::harness::s3::payload(b"somebody else's");
        s3.fail(Fault::always(op, Kind::NoConditions));
        let end = store
            .put(&job.key, &other, &Default::default(), None)
            .await
            .unwrap();
        assert_eq!(end, recording_harvester::object::WriteEnd::Done);
        let source = Arc::new(patient_source(Vec::new()));
        let engine = Engine::new(source, store.clone(), small_parts());
        let (ledger, cancel) = (TestLedger::default(), CancellationToken::new());
        let emit: Emit = Arc::new(|_| ());
        let archived = engine.carry(&job, &[], &ledger, &emit, &cancel).await;
        assert_eq!(archived.unwrap().key, format!("taken/{size}-2.mp4"));
        let kept = s3.object(&job.key).await.unwrap();
        assert_eq!(kept, b"somebody else's");
        s3.heal();
    }
}

#[tokio::test]
async fn the_answer_to_a_put_is_proof_only_when_it_shows_the_checksum_of_what_was_sent() {
    let s3 = TestS3::start().await;
    let origin = TestOrigin::start().await;
    let kind = StoreKind::of_this_run();
    let mut heads = 0;
    for (times, shown, proofs) in [(0, None, 0), (1, None, 1), (1, Some("AAAAAAAAAAA="), 1)] {
        // Where conditions are not kept, it is looked before the write as well.
        let before = usize::from(!kind.keeps_conditions());
        // Where no checksum is told, no answer is proof.
        let looks = before + if kind.tells_checksums() { proofs } else { 1 };
        let fault = Fault::times(Op::PutObject, times, Kind::ShownCrc64(shown));
        let archived = carry(&s3, &origin, 90_000 + proofs as u64 + heads as u64, fault);
        let archived = archived.await.unwrap();
        assert!(archived.etag.is_some(), "{fault:?}");
        let seen = s3.requests();
        let seen = seen.iter().filter(|seen| !seen.key.starts_with(PROBE));
        let looked = seen.filter(|seen| seen.op == Op::HeadObject).count();
        assert_eq!(looked - heads, looks, "{fault:?}");
        heads += looks;
    }
}
