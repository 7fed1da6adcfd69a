//! What a store can do is tried once, cheaply, and nothing is left of that (faults.md, 63).

use std::sync::Arc;

use recording_harvester::error::{Class, Result};
use recording_harvester::object::s3::{S3Settings, S3Store};
use recording_harvester::object::{
    CHECKSUM_WARNING, CONDITIONS_WARNING, Capabilities, ChecksumSupport, Condition,
    ConditionSupport, ObjectAttributes, ObjectStore, WriteEnd,
};

use crate::harness::s3::{Fault, Kind, Op, TestS3, payload};
use crate::harness::stores::{StoreKind, on_every_store};

const KEY: &str = "meetings/.harvester-probe";

fn expected(kind: StoreKind) -> Capabilities {
    use StoreKind::*;
    let conditions = match kind {
        Full | NoChecksums => ConditionSupport::Kept,
        NoConditions | Neither => ConditionSupport::Refused,
        IgnoresConditions | IgnoresConditionsNoChecksums => ConditionSupport::Ignored,
    };
    Capabilities {
        if_none_match: conditions,
        if_match: conditions,
        checksum: match kind.abilities().checksums {
            true => ChecksumSupport::Told,
            false => ChecksumSupport::Untold,
        },
        hides_missing: false,
        ..Capabilities::default()
    }
}

on_every_store! {
    async fn a_probe_tells_what_the_store_can_do_and_leaves_nothing(kind: StoreKind) {
        let s3 = TestS3::of_kind(kind).await;
        let store = s3.store().await;
        assert!(!store.capabilities().are_known());
        assert_eq!(store.probe(KEY).await.unwrap(), expected(kind));
        assert_eq!(store.capabilities(), expected(kind));
        assert!(s3.keys().await.is_empty());
        assert!(s3.requests().len() <= 20, "it is cheap: {}", s3.requests().len());
        let warnings = store.capabilities().warnings();
        assert_eq!(warnings.contains(&CONDITIONS_WARNING), !matches!(kind, StoreKind::Full | StoreKind::NoChecksums));
        assert_eq!(warnings.contains(&CHECKSUM_WARNING), !kind.abilities().checksums);
    }

    // R6, R17: whether it was probed or not.
    async fn no_write_under_a_condition_goes_over_what_is_there(kind: StoreKind) {
        let s3 = TestS3::of_kind(kind).await;
        for is_probed in [false, true] {
            let store = s3.store().await;
            if is_probed {
                store.probe(KEY).await.unwrap();
            }
            let put = async |content: &[u8], condition| {
                let payload = payload(content);
                let attributes = ObjectAttributes::default();
                let put = store.put("k", &payload, &attributes, condition).await;
                put.unwrap()
            };
            assert_eq!(put(b"one", None).await, WriteEnd::Done);
            assert_eq!(put(b"two", Some(&Condition::Absent)).await, WriteEnd::Taken);
            let other = Condition::Matches("something".to_owned());
            assert_eq!(put(b"two", Some(&other)).await, WriteEnd::Taken);
            assert_eq!(s3.object("k").await.unwrap(), b"one");
            let etag = store.head("k").await.unwrap().unwrap().etag.unwrap();
            let matches = Condition::Matches(etag);
            assert_eq!(put(b"three", Some(&matches)).await, WriteEnd::Done);
            assert_eq!(put(b"four", Some(&matches)).await, WriteEnd::Taken);
            assert_eq!(s3.object("k").await.unwrap(), b"three");
            store.delete("k").await.unwrap();
            assert_eq!(put(b"five", Some(&matches)).await, WriteEnd::Taken, "nothing is there");
            assert_eq!(put(b"six", Some(&Condition::Absent)).await, WriteEnd::Done);
        }
    }
}

#[tokio::test]
async fn where_the_probe_may_not_be_removed_one_is_left_and_no_more() {
    let s3 = TestS3::start().await;
    s3.fail(Fault::always(Op::DeleteObject, Kind::AccessDenied));
    let full = expected(StoreKind::Full);
    for _ in 0..3 {
        let store = s3.store().await;
        assert_eq!(store.probe(KEY).await.unwrap(), full);
        assert_eq!(s3.keys().await, [KEY]);
    }
}

#[tokio::test]
async fn a_bucket_that_is_down_is_probed_when_it_is_back() {
    let s3 = TestS3::start().await;
    let store = s3.store().await;
    s3.fail(Fault::always(Op::PutObject, Kind::AccessDenied));
    store.probe(KEY).await.unwrap_err();
    assert!(!store.capabilities().are_known());
    s3.heal();
    store.probe(KEY).await.unwrap();
    assert!(store.capabilities().are_known());
}

#[tokio::test]
async fn probes_of_several_workers_do_not_mislead_each_other() {
    let s3 = TestS3::start().await;
    let full = expected(StoreKind::Full);
    for _ in 0..10 {
        let stores = [s3.store().await, s3.store().await, s3.store().await];
        let probes = stores.iter().map(|store| store.probe(KEY));
        for probed in futures::future::join_all(probes).await {
            // It may find its object removed, and tries again later. It never takes that for a condition ignored.
            assert!(
                probed.is_err() || probed.as_ref().unwrap() == &full,
                "{probed:?}"
            );
        }
    }
}

// D10
#[tokio::test]
async fn checksums_that_are_not_those_of_the_content_are_not_believed() {
    let s3 = TestS3::start().await;
    let store = s3.store().await;
    let bogus = Kind::ShownCrc64(Some("AAAAAAAAAAE="));
    s3.fail(Fault::always(Op::HeadObject, bogus));
    s3.fail(Fault::always(Op::GetObject, bogus));
    let seen = store.probe(KEY).await.unwrap();
    assert_eq!(seen.checksum, ChecksumSupport::Wrong);
    assert!(!seen.believes_checksums());
    // What is read is not refused for it either.
    let document = payload(b"a document");
    let attributes = ObjectAttributes::default();
    let end = store.put("d", &document, &attributes, None).await;
    assert_eq!(end.unwrap(), WriteEnd::Done);
    let (content, _) = store.get("d", 100).await.unwrap().unwrap();
    assert_eq!(&content[..], b"a document");
}

// D10: moto without its CRC library tells the CRC32 of an object as its CRC64NVME.
#[tokio::test]
async fn what_is_too_short_to_be_a_checksum_counts_as_none_told() {
    let s3 = TestS3::start().await;
    let short = Kind::ShownCrc64(Some("Wv7AmA=="));
    for op in [Op::PutObject, Op::HeadObject, Op::GetObject] {
        s3.fail(Fault::always(op, short));
    }
    let store = s3.store().await;
    let seen = store.probe(KEY).await.unwrap();
    assert_eq!(seen.checksum, ChecksumSupport::Untold);
    let document = payload(b"a document");
    let attributes = ObjectAttributes::default();
    let put = store.put_shown("d", &document, &attributes, None).await;
    assert_eq!(put.unwrap().shown, None, "it is no proof");
    let info = store.head("d").await.unwrap().unwrap();
    assert_eq!(info.crc64nvme, None);
    let (content, _) = store.get("d", 100).await.unwrap().unwrap();
    assert_eq!(&content[..], b"a document");
}

// The same where only uploads in parts are told that way: the probe can't see it.
#[tokio::test]
async fn a_store_that_tells_half_a_checksum_later_on_is_noted_as_one_that_tells_none() {
    let s3 = TestS3::start().await;
    let store = s3.store().await;
    assert_eq!(
        store.probe(KEY).await.unwrap().checksum,
        ChecksumSupport::Told
    );
    let document = payload(b"a document");
    let attributes = ObjectAttributes::default();
    let put = store.put("d", &document, &attributes, None).await;
    assert_eq!(put.unwrap(), WriteEnd::Done);
    let short = Kind::ShownCrc64(Some("Wv7AmA=="));
    s3.fail(Fault::always(Op::HeadObject, short));
    let info = store.head("d").await.unwrap().unwrap();
    assert_eq!(info.crc64nvme, None);
    assert_eq!(store.capabilities().checksum, ChecksumSupport::Untold);
    assert!(store.capabilities().warnings().contains(&CHECKSUM_WARNING));
}

// The first answer is about the checksum, and only the second about what is wrong.
#[tokio::test]
async fn where_checksums_are_refused_first_it_is_told_what_is_wrong_beside_them() {
    for kind in [StoreKind::NoChecksums, StoreKind::Neither] {
        let s3 = TestS3::of_kind(kind).await;
        let settings = S3Settings {
            bucket: "forgotten".to_owned(),
            ..s3.settings()
        };
        let store = S3Store::connect(settings).await.unwrap();
        let (bytes, attributes) = (payload(b"bytes"), ObjectAttributes::default());
        let condition = Some(&Condition::Absent);
        let put = store.put("key", &bytes, &attributes, condition).await;
        let begun = store.create_upload("key", &attributes).await;
        let sent = store.upload_part("key", &"0".repeat(32), 1, &bytes).await;
        let probed = store.probe("probe").await;
        for error in [
            put.unwrap_err(),
            begun.unwrap_err(),
            sent.unwrap_err(),
            probed.unwrap_err(),
        ] {
            let text = error.full_message();
            assert!(text.contains("NoSuch"), "{kind:?}: {text}");
            assert!(!text.contains("checksums"), "{kind:?}: {text}");
        }
    }
}

/// S3 tells only those who may list a bucket that an object is not there.
#[tokio::test]
async fn who_may_not_list_the_bucket_is_told_so_and_takes_a_403_for_a_free_name() {
    let s3 = TestS3::start().await;
    let lacks_right = |store: &Arc<dyn ObjectStore>| {
        let mut warnings = store.capabilities().warnings().into_iter();
        warnings.any(|warning| warning.contains("s3:ListBucket"))
    };
    s3.forbid_listing();
    let store = s3.store().await;
    // Nothing is known yet: a 403 may be a lack of any right.
    let denied = store.head("nothing").await.unwrap_err();
    assert_eq!(denied.class(), Class::UploadDenied);
    let told = denied.full_message();
    assert!(told.contains("s3:ListBucket"), "{told}");
    for _ in 0..2 {
        store.probe(KEY).await.unwrap();
        assert!(lacks_right(&store));
        assert_eq!(store.head("nothing").await.unwrap(), None);
        assert_eq!(store.get("nothing", 100).await.unwrap(), None);
    }
    let put = async |content: &[u8]| {
        let (payload, attributes) = (payload(content), ObjectAttributes::default());
        let condition = Some(&Condition::Absent);
        let put = store.put("k", &payload, &attributes, condition).await;
        put.unwrap()
    };
    assert_eq!(put(b"one").await, WriteEnd::Done);
    assert_eq!(put(b"two").await, WriteEnd::Taken);
    assert_eq!(store.head("k").await.unwrap().unwrap().size_bytes, 3);

    s3.heal();
    store.probe(KEY).await.unwrap();
    assert!(!lacks_right(&store), "it was granted");
    assert_eq!(store.head("nothing").await.unwrap(), None);
}

/// Completes an upload of `key` if nothing is there.
async fn complete(store: &dyn ObjectStore, key: &str) -> Result<WriteEnd> {
    let bytes = payload(b"ours");
    let upload = store
        .create_upload(key, &ObjectAttributes::default())
        .await?;
    let part = store.upload_part(key, &upload, 1, &bytes).await?;
    let (size, crc, absent) = (bytes.size_bytes, bytes.crc64nvme, Condition::Absent);
    let parts = [part];
    let ended = store.complete(key, &upload, &parts, size, crc, Some(&absent));
    let ended = ended.await;
    store.abort(key, &upload).await.unwrap();
    ended
}

/// Somebody else's object that may not be looked at, on stores that keep conditions of both kinds of write, and of Put alone.
#[tokio::test]
async fn what_a_403_hides_is_never_overwritten_by_an_upload_in_parts() {
    for is_kept_by_complete in [true, false] {
        let s3 = TestS3::of_kind(StoreKind::Full).await;
        let (theirs, attributes) = (payload(b"theirs"), ObjectAttributes::default());
        let put = s3.behind().await;
        let put = put.put("theirs", &theirs, &attributes, None).await;
        assert_eq!(put.unwrap(), WriteEnd::Done);
        s3.fail(Fault::always(Op::HeadObject, Kind::AccessDenied).of("theirs"));
        s3.forbid_listing();
        if !is_kept_by_complete {
            s3.fail(Fault::always(Op::Complete, Kind::Overwrites));
        }
        let store = s3.store().await;
        store.probe(KEY).await.unwrap();
        assert_eq!(s3.keys().await, ["theirs"], "the probe leaves nothing");
        assert!(s3.open_uploads().await.is_empty());
        let ended = [
            complete(&*store, "theirs").await,
            complete(&*store, "free").await,
        ];
        assert_eq!(s3.object("theirs").await.unwrap(), b"theirs");
        match is_kept_by_complete {
            true => assert!(
                matches!(ended, [Ok(WriteEnd::Taken), Ok(WriteEnd::Done)]),
                "{ended:?}"
            ),
            false => {
                for ended in ended {
                    assert_eq!(ended.unwrap_err().class(), Class::UploadDenied);
                }
                // One request with a condition that is kept needs no look.
                let condition = Some(&Condition::Absent);
                let small = store.put("small", &theirs, &attributes, condition).await;
                assert_eq!(small.unwrap(), WriteEnd::Done);
            }
        }
    }
}

/// The keys of the account were taken away: that says nothing about an object.
#[tokio::test]
async fn credentials_that_are_refused_do_not_make_an_object_missing() {
    let s3 = TestS3::of_kind(StoreKind::Full).await;
    s3.forbid_listing();
    let store = s3.store().await;
    store.probe(KEY).await.unwrap();
    s3.heal();
    for code in [
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "RequestTimeTooSkewed",
        "ExpiredToken",
    ] {
        s3.fail(Fault::times(Op::GetObject, 2, Kind::Forbidden(code)));
        s3.fail(Fault::times(Op::HeadObject, 2, Kind::AccessDenied));
        let denied = store.get("nothing", 100).await.unwrap_err();
        assert_eq!(denied.class(), Class::UploadDenied, "{code}");
        s3.heal();
    }
}

/// What a 403 hides would be overwritten there.
#[tokio::test]
async fn a_403_is_no_free_name_where_no_condition_is_kept() {
    let s3 = TestS3::of_kind(StoreKind::NoConditions).await;
    s3.forbid_listing();
    let store = s3.store().await;
    store.probe(KEY).await.unwrap();
    let denied = store.head("nothing").await.unwrap_err();
    assert_eq!(denied.class(), Class::UploadDenied);
    let told = denied.full_message();
    assert!(told.contains("s3:ListBucket"), "{told}");
}
