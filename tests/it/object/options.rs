//! How objects are to be stored: what goes over the wire, and what it means when a bucket refuses it.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use recording_harvester::clock::{Clock, SystemClock};
use recording_harvester::error::Class;
use recording_harvester::object::s3::{Retention, S3Store, UploadOptions};
use recording_harvester::object::{ObjectAttributes, ObjectStore};

use crate::harness::s3::{Fault, Kind, Op, TestS3, payload};

struct Standing;

impl Clock for Standing {
    fn now(&self) -> Timestamp {
        "2026-03-02T10:33:20Z".parse().unwrap()
    }
}

fn all() -> UploadOptions {
    UploadOptions {
        storage_class: Some("STANDARD_IA".to_owned()),
        kms_key_id: Some("arn:aws:kms:eu-central-1:1:key/a".to_owned()),
        tags: vec![
            ("team".to_owned(), "a & b".to_owned()),
            ("cost".to_owned(), "7".to_owned()),
        ],
        retention: Some(Retention {
            is_compliance: false,
            days: 2,
        }),
        probe_key: "p/.harvester-probe".to_owned(),
    }
}

async fn store(s3: &TestS3, options: UploadOptions) -> S3Store {
    let store = S3Store::connect(s3.settings()).await.unwrap();
    store.with_options(options, Arc::new(Standing))
}

#[tokio::test]
async fn options_go_with_every_upload_and_to_our_own_documents_only_what_can_be_read_again() {
    let s3 = TestS3::start().await;
    let store = store(&s3, all()).await;
    let attributes = |is_rewritten| ObjectAttributes {
        disposition: Some("attachment; filename=\"a.mp4\"".to_owned()),
        is_rewritten,
        ..ObjectAttributes::default()
    };
    // Whether the server behind takes them is not the question: they reached it.
    s3.fail(Fault::always(
        Op::PutObject,
        Kind::Refused("InvalidRequest"),
    ));
    s3.fail(Fault::always(
        Op::CreateUpload,
        Kind::Refused("InvalidRequest"),
    ));
    let part = payload(b"x");
    let kept = [
        store
            .put("a", &part, &attributes(false), None)
            .await
            .map(drop),
        store.create_upload("a", &attributes(false)).await.map(drop),
        store
            .put("manifest.json", &part, &attributes(true), None)
            .await
            .map(drop),
    ];
    assert!(kept.iter().all(Result::is_err));
    let seen = s3.requests();
    let kms = [
        ("content-disposition", "attachment; filename=\"a.mp4\""),
        ("x-amz-server-side-encryption", "aws:kms"),
        (
            "x-amz-server-side-encryption-aws-kms-key-id",
            "arn:aws:kms:eu-central-1:1:key/a",
        ),
        ("x-amz-tagging", "team=a+%26+b&cost=7"),
    ];
    let locked = [
        ("x-amz-object-lock-mode", "GOVERNANCE"),
        (
            "x-amz-object-lock-retain-until-date",
            "2026-03-04T10:33:20Z",
        ),
        ("x-amz-storage-class", "STANDARD_IA"),
    ];
    let map = |pairs: Vec<(&str, &str)>| -> BTreeMap<String, String> {
        let owned = pairs.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned()));
        owned.collect()
    };
    let recording = map([kms.to_vec(), locked.to_vec()].concat());
    let manifest = map(kms.to_vec());
    // Refused, each is sent in other ways too: by the SDK, and with another checksum.
    assert!(seen.len() > 3);
    for seen in seen {
        let expected = match seen.key.ends_with("manifest.json") {
            true => &manifest,
            false => &recording,
        };
        assert_eq!(seen.options, *expected, "{seen:?}");
    }
}

#[tokio::test]
async fn options_that_the_bucket_refuses_are_named_at_the_start() {
    let s3 = TestS3::start().await;
    for code in [
        "InvalidStorageClass",
        "InvalidArgument",
        "InvalidRequest",
        "KMS.NotFoundException",
    ] {
        s3.fail(Fault::always(Op::CreateUpload, Kind::Refused(code)));
        let error = store(&s3, all()).await.check_bucket().await.unwrap_err();
        assert_eq!(error.class(), Class::UploadDenied, "{error}");
        assert!(!error.is_transient());
        let text = error.to_string();
        assert!(
            text.contains(code) && text.contains("archive.storage_class"),
            "{text}"
        );
        s3.heal();
    }
    // Without options there is nothing to try, and the same answer may pass.
    let plain = store(&s3, UploadOptions::default()).await;
    plain.check_bucket().await.unwrap();
    s3.fail(Fault::always(
        Op::CreateUpload,
        Kind::Refused("InvalidRequest"),
    ));
    let error = plain
        .create_upload("a", &ObjectAttributes::default())
        .await
        .unwrap_err();
    assert_eq!(error.class(), Class::UploadFailed);
}

#[tokio::test]
async fn the_probe_of_options_leaves_nothing() {
    let s3 = TestS3::start().await;
    let named = UploadOptions {
        storage_class: Some("STANDARD".to_owned()),
        probe_key: "p/.harvester-probe".to_owned(),
        ..UploadOptions::default()
    };
    let store = S3Store::connect(s3.settings()).await.unwrap();
    let store = store.with_options(named, Arc::new(SystemClock));
    store.check_bucket().await.unwrap();
    assert_eq!(s3.count(Op::CreateUpload), 1);
    assert!(s3.open_uploads().await.is_empty());
}
