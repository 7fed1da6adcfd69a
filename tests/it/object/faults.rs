//! What faults between us and the bucket become (faults.md, "Object store").

use std::time::{Duration, Instant};

use recording_harvester::error::Class;
use recording_harvester::object::{Condition, ObjectAttributes, ObjectStore, WriteEnd};

use crate::harness::s3::{Fault, Kind, Op, TestS3, payload};

const ABSENT: Option<&Condition> = Some(&Condition::Absent);

async fn one_part_upload(store: &dyn ObjectStore, key: &str) -> (String, WriteEndOf) {
    let id = store
        .create_upload(key, &ObjectAttributes::default())
        .await
        .unwrap();
    let part = payload(b"the part");
    let finished = store.upload_part(key, &id, 1, &part).await.unwrap();
    let end = WriteEndOf {
        key: key.to_owned(),
        id: id.clone(),
        finished,
        crc64nvme: part.crc64nvme,
    };
    (id, end)
}

/// What is needed to complete the one-part upload.
struct WriteEndOf {
    key: String,
    id: String,
    finished: recording_harvester::model::job::FinishedPart,
    crc64nvme: u64,
}

impl WriteEndOf {
    async fn complete(
        &self,
        store: &dyn ObjectStore,
    ) -> recording_harvester::error::Result<WriteEnd> {
        let parts = std::slice::from_ref(&self.finished);
        store
            .complete(&self.key, &self.id, parts, 8, self.crc64nvme, ABSENT)
            .await
    }
}

#[tokio::test]
async fn f54_a_lost_answer_to_create_leaves_an_upload_that_can_be_found_and_aborted() {
    let s3 = TestS3::start().await;
    let store = s3.store().await;
    s3.fail(Fault::once(Op::CreateUpload, Kind::ResetAfter));
    let id = store
        .create_upload("r/a", &ObjectAttributes::default())
        .await
        .unwrap();
    let open = s3.open_uploads().await;
    assert_eq!(open.len(), 2, "the SDK began a second one");
    for orphan in open.iter().filter(|upload| upload.upload_id != id) {
        store.abort(&orphan.key, &orphan.upload_id).await.unwrap();
    }
    let left = store.list_uploads("r/").await.unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].upload_id, id);
}

#[tokio::test]
async fn f55_one_refused_or_cut_part_is_sent_again_by_itself() {
    let s3 = TestS3::start().await;
    let store = s3.store().await;
    let id = store
        .create_upload("a", &ObjectAttributes::default())
        .await
        .unwrap();
    let faults = [
        Kind::SlowDown,
        Kind::InternalError,
        Kind::ResetBefore,
        Kind::ResetAfter,
    ];
    for (number, kind) in (1..).zip(faults) {
        s3.fail(Fault::once(Op::UploadPart, kind));
        let part = payload(&vec![7; 300_000]);
        let sent = store.upload_part("a", &id, number, &part).await;
        sent.unwrap_or_else(|error| panic!("{kind:?}: {error}"));
    }
    assert_eq!(s3.count(Op::UploadPart), 8);
    assert_eq!(store.list_parts("a", &id).await.unwrap().unwrap().len(), 4);
}

#[tokio::test]
async fn f55_a_part_that_keeps_failing_is_the_callers_after_two_sends() {
    let s3 = TestS3::start().await;
    let store = s3.store().await;
    let id = store
        .create_upload("a", &ObjectAttributes::default())
        .await
        .unwrap();
    s3.fail(Fault::always(Op::UploadPart, Kind::SlowDown));
    let error = store
        .upload_part("a", &id, 1, &payload(b"x"))
        .await
        .unwrap_err();
    assert_eq!(error.class(), Class::UploadFailed);
    assert!(error.is_transient());
    assert_eq!(error.retry_after(), Some(Duration::from_secs(1)));
    assert_eq!(
        error.to_string(),
        "UploadPart a: SlowDown (status 503): scripted"
    );
    assert_eq!(s3.count(Op::UploadPart), 2);
}

#[tokio::test]
async fn f55_a_part_that_was_damaged_on_the_way_is_refused_and_transient() {
    let s3 = TestS3::start().await;
    let store = s3.store().await;
    let id = store
        .create_upload("a", &ObjectAttributes::default())
        .await
        .unwrap();
    s3.fail(Fault::always(Op::UploadPart, Kind::BadDigest));
    let error = store
        .upload_part("a", &id, 1, &payload(b"x"))
        .await
        .unwrap_err();
    assert_eq!(
        (error.class(), error.is_transient()),
        (Class::UploadFailed, true)
    );
    assert!(error.to_string().contains("BadDigest"), "{error}");
}

#[tokio::test]
async fn f57_an_upload_that_vanished_is_noticed() {
    let s3 = TestS3::start().await;
    let store = s3.store().await;
    let (id, upload) = one_part_upload(&*store, "a").await;
    s3.fail(Fault::once(Op::ListParts, Kind::AbortedUpload));
    assert_eq!(store.list_parts("a", &id).await.unwrap(), None);
    assert_eq!(upload.complete(&*store).await.unwrap(), WriteEnd::Unclear);
    assert_eq!(s3.object("a").await, None);
}

#[tokio::test]
async fn f58_an_error_inside_a_200_is_an_error() {
    let s3 = TestS3::start().await;
    let store = s3.store().await;
    let (_, upload) = one_part_upload(&*store, "a").await;
    s3.fail(Fault::times(Op::Complete, 2, Kind::ErrorIn200));
    let error = upload.complete(&*store).await.unwrap_err();
    assert_eq!(
        (error.class(), error.is_transient()),
        (Class::UploadFailed, true)
    );
    assert!(error.to_string().contains("InternalError"), "{error}");
    assert_eq!(s3.object("a").await, None);
    assert_eq!(upload.complete(&*store).await.unwrap(), WriteEnd::Done);
}

#[tokio::test]
async fn f58_a_completion_whose_answer_was_lost_is_never_reported_as_failed_for_good() {
    let s3 = TestS3::start().await;
    let store = s3.store().await;
    let (_, upload) = one_part_upload(&*store, "a").await;
    s3.fail(Fault::once(Op::Complete, Kind::ResetAfter));
    // The SDK sends again, and finds the upload gone.
    assert_eq!(upload.complete(&*store).await.unwrap(), WriteEnd::Unclear);
    assert!(store.head("a").await.unwrap().is_some());
    assert_eq!(s3.object("a").await.as_deref(), Some(&b"the part"[..]));
}

#[tokio::test]
async fn f58_a_put_whose_answer_was_lost_finds_its_own_object() {
    let s3 = TestS3::start().await;
    let store = s3.store().await;
    s3.fail(Fault::once(Op::PutObject, Kind::ResetAfter));
    let end = store
        .put("a", &payload(b"mine"), &ObjectAttributes::default(), ABSENT)
        .await
        .unwrap();
    assert_eq!(
        end,
        WriteEnd::Taken,
        "a HEAD tells the caller that it is its own"
    );
    assert_eq!(s3.object("a").await.as_deref(), Some(&b"mine"[..]));
}

#[tokio::test]
async fn f58_a_completion_with_a_cut_answer_needs_a_look() {
    let s3 = TestS3::start().await;
    let store = s3.store().await;
    let (_, upload) = one_part_upload(&*store, "a").await;
    s3.fail(Fault::always(Op::Complete, Kind::CutXml));
    let end = upload.complete(&*store).await.unwrap();
    assert!(matches!(end, WriteEnd::Done | WriteEnd::Unclear), "{end:?}");
    assert!(store.head("a").await.unwrap().is_some());
}

#[tokio::test]
async fn f60_a_bucket_that_refuses_is_denied_at_every_call() {
    let s3 = TestS3::start().await;
    let store = s3.store().await;
    let id = store
        .create_upload("a", &ObjectAttributes::default())
        .await
        .unwrap();
    for kind in [Kind::AccessDenied, Kind::NoSuchBucket] {
        for op in [
            Op::PutObject,
            Op::CreateUpload,
            Op::UploadPart,
            Op::ListUploads,
        ] {
            s3.fail(Fault::always(op, kind));
        }
        let part = payload(&vec![1; 1 << 20]);
        let errors = [
            store
                .put("a", &part, &ObjectAttributes::default(), None)
                .await
                .unwrap_err(),
            store
                .create_upload("b", &ObjectAttributes::default())
                .await
                .unwrap_err(),
            store.upload_part("a", &id, 1, &part).await.unwrap_err(),
            store.list_uploads("").await.unwrap_err(),
        ];
        for error in errors {
            assert_eq!(
                (error.class(), error.is_transient()),
                (Class::UploadDenied, false),
                "{error}"
            );
        }
        s3.heal();
    }
    // Each was sent once, and once more by the SDK to learn why it was refused.
    assert_eq!(s3.count(Op::PutObject), 4);
}

/// The server refuses what is signed wrongly, and then the SDK would have sent it once more.
#[tokio::test]
async fn every_key_and_attribute_is_signed_right_at_the_first_send() {
    let s3 = TestS3::start().await;
    let store = s3.store().await;
    store.probe(".harvester-probe").await.unwrap();
    let keys = [
        "plain/recording.mp4",
        "two words/a+b=c&d.txt",
        "ünïcode/記録.vtt",
        "a//b/c",
        "(100%)*'!~_-;:@,$.json",
    ];
    let attributes = ObjectAttributes {
        content_type: "video/mp4; codecs=\"a  b\"".to_owned(),
        metadata: vec![("harvester-job".to_owned(), "a  b".to_owned())],
        disposition: Some("attachment; filename=\"a b.mp4\"".to_owned()),
        is_rewritten: false,
    };
    let ops = [Op::PutObject, Op::HeadObject, Op::UploadPart];
    let sent = || ops.map(|op| s3.count(op)).iter().sum::<usize>();
    for key in keys {
        let before = sent();
        let part = payload(key.as_bytes());
        let put = store.put(key, &part, &attributes, ABSENT).await.unwrap();
        assert_eq!(put, WriteEnd::Done, "{key}");
        let info = store.head(key).await.unwrap().unwrap();
        assert_eq!(info.metadata("harvester-job"), Some("a  b"), "{key}");
        let (id, end) = one_part_upload(&*store, &format!("{key}.parts")).await;
        assert!(!id.is_empty());
        assert_eq!(end.complete(&*store).await.unwrap(), WriteEnd::Done);
        // Before an upload is completed it is looked what is there.
        assert_eq!(sent(), before + 4, "{key}");
    }
}

#[tokio::test]
async fn a_store_that_takes_calls_only_from_the_sdk_gets_them_from_it_alone_from_then_on() {
    let s3 = TestS3::start().await;
    let store = s3.store().await;
    let part = payload(b"x");
    let attributes = ObjectAttributes::default();
    for times in 1..=3 {
        s3.fail(Fault::once(Op::PutObject, Kind::Refused("InvalidRequest")));
        let put = store.put("a", &part, &attributes, None).await.unwrap();
        assert_eq!((put, s3.count(Op::PutObject)), (WriteEnd::Done, 2 * times));
    }
    s3.fail(Fault::once(Op::PutObject, Kind::AccessDenied));
    let error = store.put("b", &part, &attributes, None).await.unwrap_err();
    assert_eq!(error.class(), Class::UploadDenied);
    assert_eq!(s3.count(Op::PutObject), 7);
}

#[tokio::test]
async fn a_store_that_knows_no_crc64nvme_refuses_damage_by_md5() {
    let ops = [
        Op::PutObject,
        Op::CreateUpload,
        Op::UploadPart,
        Op::Complete,
    ];
    // Whatever comes first tells it, and a part of an upload that another process has begun, too.
    for first in [Op::PutObject, Op::CreateUpload, Op::UploadPart] {
        let s3 = TestS3::start().await;
        let store = s3.store().await;
        let begun = match first {
            Op::UploadPart => Some(store.create_upload("a", &ObjectAttributes::default()).await),
            _ => None,
        };
        for op in ops {
            s3.fail(Fault::always(op, Kind::NoCrc64));
        }
        let part = payload(b"the part");
        if first == Op::PutObject {
            let put = store
                .put("p", &part, &ObjectAttributes::default(), ABSENT)
                .await;
            assert_eq!(put.unwrap(), WriteEnd::Done);
            assert_eq!(s3.object("p").await.unwrap(), b"the part");
        }
        let id = match begun {
            Some(id) => id.unwrap(),
            None => {
                let id = store.create_upload("a", &ObjectAttributes::default()).await;
                id.unwrap()
            }
        };
        let finished = store.upload_part("a", &id, 1, &part).await.unwrap();
        let end = WriteEndOf {
            key: "a".to_owned(),
            id,
            finished,
            crc64nvme: part.crc64nvme,
        };
        let completed = end.complete(&*store).await;
        if first != Op::UploadPart {
            assert_eq!(completed.unwrap(), WriteEnd::Done);
            assert_eq!(s3.object("a").await.unwrap(), b"the part");
        }

        s3.heal();
        s3.fail(Fault::always(Op::PutObject, Kind::FlippedByte));
        let damaged = store
            .put("d", &part, &ObjectAttributes::default(), None)
            .await;
        let error = damaged.unwrap_err();
        assert_eq!(error.class(), Class::UploadFailed);
        assert!(error.to_string().contains("BadDigest"), "{error}");
        assert_eq!(s3.object("d").await, None);
    }
}

/// One refusal that is about something else must not cost all that comes after it its checksum.
#[tokio::test]
async fn a_store_that_has_shown_a_crc64nvme_keeps_being_given_them() {
    let s3 = TestS3::start().await;
    let store = s3.store().await;
    let part = payload(b"the part");
    let attributes = ObjectAttributes::default();
    let first = store.put("a", &part, &attributes, None).await;
    assert_eq!(first.unwrap(), WriteEnd::Done);
    let id = store.create_upload("u", &attributes).await.unwrap();

    // Each call is made twice before it is made without.
    s3.fail(Fault::times(Op::PutObject, 2, Kind::NoCrc64));
    let rescued = store.put("b", &part, &attributes, None).await;
    assert_eq!(rescued.unwrap(), WriteEnd::Done);
    assert_eq!(s3.object("b").await.unwrap(), b"the part");
    s3.fail(Fault::times(Op::UploadPart, 2, Kind::NoCrc64));
    let finished = store.upload_part("u", &id, 1, &part).await.unwrap();
    let end = WriteEndOf {
        key: "u".to_owned(),
        id,
        finished,
        crc64nvme: part.crc64nvme,
    };
    assert_eq!(end.complete(&*store).await.unwrap(), WriteEnd::Done);

    let sent = s3.count(Op::PutObject);
    s3.fail(Fault::always(Op::PutObject, Kind::NoCrc64));
    let again = store.put("c", &part, &attributes, None).await;
    assert_eq!(again.unwrap(), WriteEnd::Done);
    assert_eq!(s3.count(Op::PutObject) - sent, 3, "it went without at once");
}

#[tokio::test]
async fn f62_a_store_that_is_down_is_a_transient_failure() {
    let s3 = TestS3::start().await;
    let settings = s3.settings();
    let store = recording_harvester::object::s3::S3Store::connect(settings)
        .await
        .unwrap();
    drop(s3);
    let error = store.head("a").await.unwrap_err();
    assert_eq!(
        (error.class(), error.is_transient()),
        (Class::UploadFailed, true),
        "{error}"
    );
}

#[tokio::test]
async fn a_server_that_never_answers_ends_within_the_limit() {
    let s3 = TestS3::start().await;
    let store = s3.store_within(Duration::from_millis(200)).await;
    for op in [
        Op::PutObject,
        Op::HeadObject,
        Op::UploadPart,
        Op::ListUploads,
    ] {
        s3.fail(Fault::always(op, Kind::Stall));
    }
    let part = payload(b"x");
    let started = Instant::now();
    let errors = [
        store
            .put("a", &part, &ObjectAttributes::default(), None)
            .await
            .unwrap_err(),
        store.head("a").await.unwrap_err(),
        store.upload_part("a", "id", 1, &part).await.unwrap_err(),
        store.list_uploads("").await.unwrap_err(),
    ];
    // Two attempts each, a second more for the bytes of a part, and the SDK's pause in between.
    assert!(
        started.elapsed() < Duration::from_secs(20),
        "{:?}",
        started.elapsed()
    );
    for error in errors {
        assert_eq!(
            (error.class(), error.is_transient()),
            (Class::UploadFailed, true)
        );
        assert!(
            error.to_string().contains("within the time limit"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn threat_15_errors_and_debug_output_show_no_secret() {
    let s3 = TestS3::start().await;
    let store = s3.store().await;
    let secret = {
        use secrecy::ExposeSecret as _;
        s3.credentials().secret_key.expose_secret().to_owned()
    };
    s3.fail(Fault::always(Op::PutObject, Kind::AccessDenied));
    let error = store
        .put("a", &payload(b"x"), &ObjectAttributes::default(), None)
        .await
        .unwrap_err();
    for text in [
        error.full_message(),
        format!("{error:?}"),
        format!("{:?}", s3.settings()),
        format!("{:?}", s3.credentials()),
    ] {
        assert!(!text.contains(&secret), "{text}");
        assert!(!text.contains("Signature="), "{text}");
    }
}
