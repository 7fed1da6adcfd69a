//! A bucket that does not take the list of parts which it has itself.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use recording_harvester::error::{Class, Result};
use recording_harvester::model::progress::Emit;
use recording_harvester::model::{Archived, Format, Job, Origin, ProgressEvent};
use recording_harvester::object::ObjectStore as _;
use recording_harvester::signed_url::SignedUrl;
use recording_harvester::transfer::Engine;
use tokio_util::sync::CancellationToken;

use super::patient_source;
use super::world::{MIB, TestLedger, job, mp4, small_parts};
use crate::harness::origin::{Behaviour, TestOrigin};
use crate::harness::s3::{Fault, Kind, Op, TestS3, payload};
use crate::harness::stores::StoreKind;

/// An origin, a bucket, and what is told and noted of the way from one to the other.
struct Stage {
    s3: TestS3,
    origin: TestOrigin,
    engine: Engine,
    ledger: TestLedger,
    told: Arc<Mutex<Vec<String>>>,
}

impl Stage {
    async fn new() -> Stage {
        let s3 = TestS3::start().await;
        let store = s3.store_within(Duration::from_secs(10)).await;
        StoreKind::of_this_run().make_known(&*store).await;
        Stage {
            engine: Engine::new(Arc::new(patient_source(Vec::new())), store, small_parts()),
            s3,
            origin: TestOrigin::start().await,
            ledger: TestLedger::default(),
            told: Arc::default(),
        }
    }

    /// A job for `content`, which the origin has from now on.
    fn job(&self, content: &[u8], behaviour: Behaviour) -> Job {
        self.origin.serve("/file", content.to_vec(), behaviour);
        let url = self.origin.url("/file?X-Amz-Signature=CANARY");
        job(Origin::Url(SignedUrl::new(url)), Format::Mp4)
    }

    async fn carry(&self, job: &Job) -> Result<Archived> {
        let told = Arc::clone(&self.told);
        let emit: Emit = Arc::new(move |event| {
            if let ProgressEvent::Resumed {
                message: Some(why), ..
            } = event
            {
                told.lock().unwrap().push(why);
            }
        });
        let cancel = CancellationToken::new();
        let carrying = self.engine.carry(job, &[], &self.ledger, &emit, &cancel);
        let carried = tokio::time::timeout(Duration::from_secs(60), carrying).await;
        carried.expect("every wait ends")
    }

    /// Carries, and looks whether that has led to `content`, and to nothing else.
    async fn archive(&self, job: &Job, content: &[u8]) {
        let archived = self.carry(job).await;
        let archived = archived.unwrap_or_else(|e| panic!("{}", e.full_message()));
        assert_eq!(archived.key, job.key);
        assert!(self.s3.object(&job.key).await.unwrap() == content);
        let left = self.s3.open_uploads().await;
        assert!(left.is_empty(), "{left:?}");
    }

    /// The job as the next attempt finds it.
    fn again(&self, job: &Job) -> Job {
        Job {
            attempts: job.attempts + 1,
            checkpoint: self.ledger.last.lock().unwrap().clone(),
            ..job.clone()
        }
    }

    fn asked(&self) -> usize {
        self.origin.requests("/file").len()
    }
}

// R23
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_whose_parts_the_bucket_lists_and_refuses_is_given_up_for_a_new_one() {
    let content = mp4(12 * MIB);
    let stage = Stage::new().await;
    let job = stage.job(&content, Behaviour::default());
    stage
        .s3
        .fail(Fault::always(Op::Complete, Kind::BrokenUpload));
    stage.archive(&job, &content).await;
    assert_eq!(stage.s3.count(Op::CreateUpload), 2);
    assert_eq!(stage.asked(), 2);
    let told = stage.told.lock().unwrap().clone();
    assert!(
        told.len() == 1 && told[0].contains("InvalidPart"),
        "{told:?}"
    );
    assert!(told[0].contains("as they were sent"), "{told:?}");

    // The same where an earlier attempt has left all of its parts.
    let stage = Stage::new().await;
    let job = stage.job(&content, Behaviour::default());
    stage
        .s3
        .fail(Fault::always(Op::Complete, Kind::InternalError));
    let error = stage.carry(&job).await.unwrap_err();
    assert_eq!(error.class(), Class::UploadFailed, "{error}");
    stage.s3.heal();
    stage
        .s3
        .fail(Fault::always(Op::Complete, Kind::BrokenUpload));
    stage.archive(&stage.again(&job), &content).await;
    assert_eq!(stage.s3.count(Op::CreateUpload), 2);
    assert_eq!(stage.asked(), 2, "only the new upload needs the origin");
}

// R23
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_the_bucket_refuses_is_kept_while_the_origin_gives_no_other() {
    let content = mp4(12 * MIB);
    let stage = Stage::new().await;
    let once = Behaviour {
        valid_for_requests: Some(1),
        ..Behaviour::default()
    };
    let job = stage.job(&content, once);
    stage
        .s3
        .fail(Fault::always(Op::Complete, Kind::BrokenUpload));
    let error = stage.carry(&job).await.unwrap_err();
    let text = error.full_message();
    assert_eq!(error.class(), Class::UploadFailed, "{text}");
    assert!(error.is_transient() && error.has_stale_url(), "{text}");
    assert!(
        text.contains("InvalidPart") && text.contains("expired"),
        "{text}"
    );
    assert!(!text.contains("CANARY"), "{text}");
    assert_eq!(stage.s3.open_uploads().await.len(), 1);
    // The bucket has come to itself.
    stage.s3.heal();
    stage.archive(&stage.again(&job), &content).await;
    assert_eq!(stage.s3.count(Op::CreateUpload), 1);
}

// R23
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_takes_no_parts_at_all_is_given_one_upload_more_an_attempt() {
    let stage = Stage::new().await;
    let job = stage.job(&mp4(12 * MIB), Behaviour::default());
    let refused = Kind::Refused("InvalidPart");
    stage.s3.fail(Fault::always(Op::Complete, refused));
    let error = stage.carry(&job).await.unwrap_err();
    assert_eq!(error.class(), Class::UploadFailed, "{error}");
    assert!(error.is_transient());
    assert_eq!(stage.s3.count(Op::CreateUpload), 2);
    assert_eq!(stage.s3.open_uploads().await.len(), 1);
}

// R23
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f56_parts_that_the_bucket_has_otherwise_than_they_were_sent_are_sent_again_alone() {
    let content = mp4(17 * MIB);
    let stage = Stage::new().await;
    let job = stage.job(&content, Behaviour::default());
    stage.s3.fail(Fault::once(Op::Complete, Kind::Held));
    let spoil = async {
        stage.s3.wait_for(Op::Complete, 1).await;
        let upload = stage.s3.open_uploads().await.remove(0);
        let wrong = payload(&vec![7; 5 << 20]);
        let behind = stage.s3.behind().await;
        let sent = behind.upload_part(&upload.key, &upload.upload_id, 2, &wrong);
        sent.await.unwrap();
        stage.s3.heal();
    };
    let ((), ()) = tokio::join!(stage.archive(&job, &content), spoil);
    assert_eq!(stage.s3.count(Op::CreateUpload), 1);
    let parts: Vec<_> = stage
        .s3
        .requests()
        .into_iter()
        .filter_map(|r| r.part)
        .collect();
    assert_eq!(
        parts.iter().filter(|part| **part == 2).count(),
        2,
        "{parts:?}"
    );
    assert_eq!(parts.len(), 5, "{parts:?}");
}

// R13
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f64_a_part_that_the_bucket_shows_under_another_etag_is_the_same_if_its_checksum_is() {
    let content = mp4(12 * MIB);
    // What was told of the second sending, and what the first one has become after it: under SSE-KMS each has an ETag
    // of its own.
    let stage = Stage::new().await;
    let job = stage.job(&content, Behaviour::default());
    let other = Kind::ShownEtag("\"0123456789abcdef0123456789abcdef\"");
    stage.s3.fail(Fault::once(Op::UploadPart, other));
    stage.archive(&job, &content).await;
    // Without a checksum nothing but the ETag tells what a part is: this one is carried once more.
    let is_told = StoreKind::of_this_run().tells_checksums();
    assert_eq!(stage.asked(), if is_told { 1 } else { 2 });
    assert_eq!(stage.s3.count(Op::CreateUpload), 1);
    assert_eq!(stage.s3.count(Op::Complete), 2);

    // Left by an attempt that has ended, it needs no origin.
    let stage = Stage::new().await;
    let once = Behaviour {
        valid_for_requests: Some(1),
        ..Behaviour::default()
    };
    let job = stage.job(&content, once);
    stage.s3.fail(Fault::once(Op::UploadPart, other));
    stage
        .s3
        .fail(Fault::always(Op::Complete, Kind::InternalError));
    stage.carry(&job).await.unwrap_err();
    stage.s3.heal();
    if !is_told {
        let error = stage.carry(&stage.again(&job)).await.unwrap_err();
        assert_eq!(error.class(), Class::Denied, "{error}");
        return;
    }
    let completed = stage.s3.count(Op::Complete);
    stage.archive(&stage.again(&job), &content).await;
    assert_eq!(stage.asked(), 1);
    assert_eq!(
        stage.s3.count(Op::Complete),
        completed + 1,
        "it was listed before"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f64_an_etag_is_no_md5_and_is_kept_as_it_was_told() {
    // As under SSE-KMS, or where the store makes its own.
    let told = "\"0123456789abcdef0123456789abcdef-2\"";
    for size in [90_000, 12 * MIB] {
        let content = mp4(size);
        let stage = Stage::new().await;
        let job = stage.job(&content, Behaviour::default());
        for op in [Op::PutObject, Op::HeadObject] {
            stage.s3.fail(Fault::always(op, Kind::ShownEtag(told)));
        }
        let archived = stage.carry(&job).await.unwrap();
        assert_eq!(archived.etag.as_deref(), Some(told.trim_matches('"')));
        assert_eq!(archived.size_bytes, size);
        // And the next attempt takes it for what it is.
        let again = stage.carry(&stage.again(&job)).await.unwrap();
        assert_eq!(again.key, archived.key);
        assert_eq!(stage.asked(), 1);
    }
}
