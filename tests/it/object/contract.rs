//! What any S3 has to do for us. The same cases run on the embedded server and on moto; where moto is
//! laxer than S3, a case asks `Server::is_strict`.

use std::sync::Arc;

use recording_harvester::error::Class;
use recording_harvester::model::job::FinishedPart;
use recording_harvester::object::s3::{S3Settings, S3Store, StaticCredentials};
use recording_harvester::object::{
    Condition, ObjectAttributes, ObjectStore, Payload, WriteEnd, encode_crc64nvme,
};
use secrecy::SecretString;

use super::moto::Moto;
use crate::harness::s3::{BUCKET, direct_settings, payload, raw_client, start_embedded};

const PART: usize = 5 << 20;

/// A server under test.
struct Server {
    settings: S3Settings,
    /// False for moto, which does not check everything that S3 checks.
    is_strict: bool,
}

impl Server {
    /// How a completion that worked ends. moto answers with a root element of its own, which the SDK
    /// can't read, so the caller is told to look.
    fn completed(&self) -> WriteEnd {
        if self.is_strict {
            WriteEnd::Done
        } else {
            WriteEnd::Unclear
        }
    }

    async fn store(&self) -> Arc<dyn ObjectStore> {
        Arc::new(S3Store::connect(self.settings.clone()).await.unwrap())
    }
}

#[tokio::test]
async fn the_embedded_server_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let embedded = start_embedded(folder.path()).await;
    let server = Server {
        settings: direct_settings(&embedded),
        is_strict: true,
    };
    keeps_the_contract(&server).await;
    embedded.stop().await;
}

#[tokio::test]
async fn a_server_that_we_did_not_write_keeps_the_contract() {
    let Some(moto) = Moto::start().await else {
        return;
    };
    let server = Server {
        settings: moto.settings(),
        is_strict: false,
    };
    keeps_the_contract(&server).await;
}

async fn keeps_the_contract(server: &Server) {
    an_object_comes_back_as_it_was_put(server).await;
    an_empty_object_is_an_object(server).await;
    what_is_not_there_is_none(server).await;
    an_object_over_the_cap_is_an_error(server).await;
    an_absent_condition_protects_what_is_there(server).await;
    an_etag_condition_lets_only_the_right_one_be_replaced(server).await;
    a_multipart_upload_becomes_the_whole_object(server).await;
    a_multipart_completion_respects_its_condition(server).await;
    parts_are_listed_in_order_and_replaced_by_number(server).await;
    an_aborted_upload_is_gone_and_may_be_aborted_again(server).await;
    open_uploads_are_listed_under_their_prefix(server).await;
    a_wrong_checksum_is_refused(server).await;
    wrong_parts_are_refused(server).await;
    odd_keys_are_only_names(server).await;
    a_missing_bucket_is_denied(server).await;
    wrong_credentials_are_denied(server).await;
}

fn bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| random.u8(..)).take(len).collect()
}

fn attributes() -> ObjectAttributes {
    ObjectAttributes {
        content_type: "video/mp4".to_owned(),
        metadata: vec![("harvester-job".to_owned(), "0190-abc".to_owned())],
        ..ObjectAttributes::default()
    }
}

/// Uploads `parts`, and what Complete needs of them.
async fn upload(
    store: &dyn ObjectStore,
    key: &str,
    parts: &[&[u8]],
) -> (String, Vec<FinishedPart>) {
    let id = store.create_upload(key, &attributes()).await.unwrap();
    let mut finished = Vec::new();
    for (number, part) in (1..).zip(parts) {
        finished.push(
            store
                .upload_part(key, &id, number, &payload(part))
                .await
                .unwrap(),
        );
    }
    (id, finished)
}

async fn an_object_comes_back_as_it_was_put(server: &Server) {
    let store = server.store().await;
    let content = bytes(300_000, 1);
    let end = store
        .put("put/a.mp4", &payload(&content), &attributes(), None)
        .await
        .unwrap();
    assert_eq!(end, WriteEnd::Done);

    let head = store.head("put/a.mp4").await.unwrap().unwrap();
    assert_eq!(head.size_bytes, 300_000);
    assert_eq!(head.metadata("harvester-job"), Some("0190-abc"));
    if server.is_strict {
        // moto keeps no CRC64NVME.
        assert_eq!(
            head.crc64nvme,
            Some(encode_crc64nvme(payload(&content).crc64nvme))
        );
    }
    assert!(head.etag.as_ref().is_some_and(|etag| !etag.contains('"')));

    let (got, info) = store.get("put/a.mp4", 300_000).await.unwrap().unwrap();
    assert_eq!(got, content);
    assert_eq!(info.etag, head.etag);
    assert_eq!(info.metadata, head.metadata);
}

async fn an_empty_object_is_an_object(server: &Server) {
    let store = server.store().await;
    let end = store
        .put(
            "put/empty",
            &payload(b""),
            &ObjectAttributes::default(),
            None,
        )
        .await
        .unwrap();
    assert_eq!(end, WriteEnd::Done);
    let (got, info) = store.get("put/empty", 0).await.unwrap().unwrap();
    assert!(got.is_empty());
    assert_eq!(info.size_bytes, 0);
}

async fn what_is_not_there_is_none(server: &Server) {
    let store = server.store().await;
    assert_eq!(store.head("nothing/here").await.unwrap(), None);
    assert!(store.get("nothing/here", 10).await.unwrap().is_none());
    assert_eq!(
        store
            .list_parts("nothing/here", "no-such-id")
            .await
            .unwrap(),
        None
    );
    store.check_bucket().await.unwrap();
}

async fn an_object_over_the_cap_is_an_error(server: &Server) {
    let store = server.store().await;
    let end = store
        .put("put/big", &payload(&bytes(2000, 2)), &attributes(), None)
        .await
        .unwrap();
    assert_eq!(end, WriteEnd::Done);
    let error = store.get("put/big", 1999).await.unwrap_err();
    assert!(error.to_string().contains("over 1999 bytes"), "{error}");
    assert!(!error.is_transient());
}

async fn an_absent_condition_protects_what_is_there(server: &Server) {
    let store = server.store().await;
    let absent = Some(&Condition::Absent);
    let put = async |content: &[u8]| {
        let payload = payload(content);
        store
            .put("if/absent", &payload, &attributes(), absent)
            .await
            .unwrap()
    };
    assert_eq!(put(b"first").await, WriteEnd::Done);
    assert_eq!(put(b"second").await, WriteEnd::Taken);
    assert_eq!(
        store.get("if/absent", 100).await.unwrap().unwrap().0,
        "first"
    );
}

async fn an_etag_condition_lets_only_the_right_one_be_replaced(server: &Server) {
    let store = server.store().await;
    let put = async |content: &[u8], condition: Option<Condition>| {
        let payload = payload(content);
        let end = store
            .put("if/match", &payload, &attributes(), condition.as_ref())
            .await;
        end.unwrap()
    };
    let matches = |etag: &str| Some(Condition::Matches(etag.to_owned()));
    // S3 answers 404 to If-Match on nothing, which means that the condition does not hold.
    assert_eq!(put(b"zero", matches("abc")).await, WriteEnd::Taken);
    assert_eq!(put(b"one", None).await, WriteEnd::Done);
    let etag = store.head("if/match").await.unwrap().unwrap().etag.unwrap();
    assert_eq!(put(b"two", matches(&etag)).await, WriteEnd::Done);
    assert_eq!(put(b"three", matches(&etag)).await, WriteEnd::Taken);
    assert_eq!(store.get("if/match", 100).await.unwrap().unwrap().0, "two");
}

async fn a_multipart_upload_becomes_the_whole_object(server: &Server) {
    let store = server.store().await;
    let content = bytes(2 * PART + 12_345, 3);
    let parts: Vec<&[u8]> = content.chunks(PART).collect();
    let (id, finished) = upload(&*store, "multi/a", &parts).await;
    assert_eq!(store.head("multi/a").await.unwrap(), None);

    let whole = payload(&content);
    let end = store
        .complete(
            "multi/a",
            &id,
            &finished,
            whole.size_bytes,
            whole.crc64nvme,
            Some(&Condition::Absent),
        )
        .await
        .unwrap();
    assert_eq!(end, server.completed());
    let head = store.head("multi/a").await.unwrap().unwrap();
    assert_eq!(head.size_bytes, whole.size_bytes);
    assert_eq!(head.metadata("harvester-job"), Some("0190-abc"));
    if server.is_strict {
        // moto answers with the composite form even when the full object's was asked for.
        assert_eq!(head.crc64nvme, Some(encode_crc64nvme(whole.crc64nvme)));
    }
    // Not through the store, which would refuse the wrong checksum that moto tells of a multipart object.
    let raw = raw_client(
        server.settings.endpoint.as_deref().unwrap(),
        server.settings.credentials.as_ref().unwrap(),
    );
    let get = raw
        .get_object()
        .bucket(BUCKET)
        .key("multi/a")
        .range("bytes=0-");
    let got = get.send().await.unwrap().body.collect().await.unwrap();
    assert!(got.to_vec() == content);
    if server.is_strict {
        let again = store
            .complete(
                "multi/a",
                &id,
                &finished,
                whole.size_bytes,
                whole.crc64nvme,
                None,
            )
            .await
            .unwrap();
        assert_eq!(again, WriteEnd::Unclear);
    }
    assert_eq!(store.list_parts("multi/a", &id).await.unwrap(), None);
}

async fn a_multipart_completion_respects_its_condition(server: &Server) {
    let store = server.store().await;
    let end = store
        .put("multi/taken", &payload(b"here first"), &attributes(), None)
        .await
        .unwrap();
    assert_eq!(end, WriteEnd::Done);
    let content = bytes(1000, 4);
    let (id, finished) = upload(&*store, "multi/taken", &[&content]).await;
    let crc = payload(&content).crc64nvme;
    let end = store
        .complete(
            "multi/taken",
            &id,
            &finished,
            1000,
            crc,
            Some(&Condition::Absent),
        )
        .await
        .unwrap();
    assert_eq!(end, WriteEnd::Taken);
    assert_eq!(
        store.get("multi/taken", 100).await.unwrap().unwrap().0,
        "here first"
    );
    store.abort("multi/taken", &id).await.unwrap();
}

async fn parts_are_listed_in_order_and_replaced_by_number(server: &Server) {
    if !server.is_strict {
        // moto's ListParts has a root element of its own, which the SDK can't read.
        return;
    }
    let store = server.store().await;
    let id = store
        .create_upload("multi/parts", &attributes())
        .await
        .unwrap();
    assert_eq!(
        store.list_parts("multi/parts", &id).await.unwrap(),
        Some(vec![])
    );
    for (number, content) in [(3, &b"three"[..]), (1, b"one"), (2, b"two"), (1, b"ONE!")] {
        let sent = store
            .upload_part("multi/parts", &id, number, &payload(content))
            .await
            .unwrap();
        assert_eq!(sent.number, number);
    }
    let listed = store.list_parts("multi/parts", &id).await.unwrap().unwrap();
    let told: Vec<_> = listed
        .iter()
        .map(|part| (part.number, part.size_bytes))
        .collect();
    assert_eq!(told, [(1, 4), (2, 3), (3, 5)]);
    let sent = store
        .upload_part("multi/parts", &id, 2, &payload(b"two"))
        .await
        .unwrap();
    assert_eq!(listed[1].etag, sent.etag);
    assert_eq!(
        listed[1].crc64nvme,
        Some(encode_crc64nvme(payload(b"two").crc64nvme))
    );
    store.abort("multi/parts", &id).await.unwrap();
}

async fn an_aborted_upload_is_gone_and_may_be_aborted_again(server: &Server) {
    let store = server.store().await;
    let (id, finished) = upload(&*store, "multi/abort", &[b"part"]).await;
    store.abort("multi/abort", &id).await.unwrap();
    store.abort("multi/abort", &id).await.unwrap();
    assert_eq!(store.list_parts("multi/abort", &id).await.unwrap(), None);
    if !server.is_strict {
        // moto fails inside with 500 where S3 says NoSuchUpload.
        return;
    }
    let crc = payload(b"part").crc64nvme;
    let end = store
        .complete("multi/abort", &id, &finished, 4, crc, None)
        .await
        .unwrap();
    assert_eq!(end, WriteEnd::Unclear);
    let error = store
        .upload_part("multi/abort", &id, 2, &payload(b"x"))
        .await
        .unwrap_err();
    assert_eq!(error.class(), Class::UploadFailed);
    assert!(error.to_string().contains("NoSuchUpload"), "{error}");
}

async fn open_uploads_are_listed_under_their_prefix(server: &Server) {
    let store = server.store().await;
    let first = store.create_upload("sweep/a", &attributes()).await.unwrap();
    let second = store.create_upload("sweep/b", &attributes()).await.unwrap();
    let other = store.create_upload("swept/c", &attributes()).await.unwrap();
    let mut listed = store.list_uploads("sweep/").await.unwrap();
    listed.sort_by(|a, b| a.key.cmp(&b.key));
    let told: Vec<_> = listed
        .iter()
        .map(|u| (u.key.as_str(), u.upload_id.as_str()))
        .collect();
    assert_eq!(
        told,
        [("sweep/a", first.as_str()), ("sweep/b", second.as_str())]
    );
    assert!(listed.iter().all(|upload| upload.initiated.is_some()));
    for (key, id) in [("sweep/a", first), ("sweep/b", second), ("swept/c", other)] {
        store.abort(key, &id).await.unwrap();
    }
    assert_eq!(store.list_uploads("sweep/").await.unwrap(), []);
}

async fn a_wrong_checksum_is_refused(server: &Server) {
    if !server.is_strict {
        // moto stores whatever checksum it is told.
        return;
    }
    let store = server.store().await;
    let damaged = Payload {
        crc64nvme: payload(b"what was meant").crc64nvme,
        ..payload(b"what has come ")
    };
    let error = store
        .put("bad/put", &damaged, &attributes(), None)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("BadDigest"), "{error}");
    assert!(error.is_transient());
    assert_eq!(store.head("bad/put").await.unwrap(), None);

    let (id, finished) = upload(&*store, "bad/multi", &[b"a part"]).await;
    let error = store
        .upload_part("bad/multi", &id, 1, &damaged)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("BadDigest"), "{error}");
    let parts = store.list_parts("bad/multi", &id).await.unwrap().unwrap();
    assert_eq!(
        parts[0].etag, finished[0].etag,
        "the good part is still there"
    );

    let crc = payload(b"a part").crc64nvme;
    let error = store
        .complete("bad/multi", &id, &finished, 6, crc ^ 1, None)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("BadDigest"), "{error}");
    let error = store
        .complete("bad/multi", &id, &finished, 7, crc, None)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("InvalidRequest"), "{error}");
    assert_eq!(store.head("bad/multi").await.unwrap(), None);
    let end = store
        .complete("bad/multi", &id, &finished, 6, crc, None)
        .await
        .unwrap();
    assert_eq!(
        end,
        WriteEnd::Done,
        "the refusals left the upload as it was"
    );
}

async fn wrong_parts_are_refused(server: &Server) {
    let store = server.store().await;
    let refused = async |parts: &[FinishedPart], id: &str, size: u64, code: &str| {
        let end = store.complete("bad/parts", id, parts, size, 0, None).await;
        let error = end.unwrap_err();
        assert!(error.to_string().contains(code), "{error}");
    };
    let (id, parts) = upload(&*store, "bad/parts", &[b"too small", b"the end"]).await;
    refused(&parts, &id, 16, "EntityTooSmall").await;
    if server.is_strict {
        // moto looks at the sizes before it looks at the order.
        let swapped: Vec<_> = parts.iter().rev().cloned().collect();
        refused(&swapped, &id, 16, "InvalidPartOrder").await;
    }
    let mut foreign = parts[..1].to_vec();
    foreign[0].etag = "\"0123456789abcdef0123456789abcdef\"".to_owned();
    refused(&foreign, &id, 9, "InvalidPart").await;
    let mut missing = parts[..1].to_vec();
    missing[0].number = 7;
    refused(&missing, &id, 9, "InvalidPart").await;
    if server.is_strict {
        // moto does not compare the checksums in the list.
        let mut other = parts[..1].to_vec();
        other[0].crc64nvme ^= 1;
        refused(&other, &id, 9, "InvalidPart").await;
        let error = store
            .upload_part("bad/parts", &id, 10_001, &payload(b"x"))
            .await;
        assert!(error.unwrap_err().to_string().contains("InvalidArgument"));
    }
    store.abort("bad/parts", &id).await.unwrap();
}

async fn odd_keys_are_only_names(server: &Server) {
    let store = server.store().await;
    let keys = [
        "odd/a b+c&d=e%20.mp4",
        "odd/ü/日本.txt",
        "odd/x",
        "odd/x/y",
        "odd/semi;colon:*?",
    ];
    for key in keys {
        let end = store
            .put(key, &payload(key.as_bytes()), &attributes(), None)
            .await
            .unwrap();
        assert_eq!(end, WriteEnd::Done, "{key}");
    }
    for key in keys {
        assert_eq!(
            store.get(key, 100).await.unwrap().unwrap().0,
            key.as_bytes(),
            "{key}"
        );
    }
}

async fn a_missing_bucket_is_denied(server: &Server) {
    let settings = S3Settings {
        bucket: "not-there-at-all".to_owned(),
        ..server.settings.clone()
    };
    let store = S3Store::connect(settings).await.unwrap();
    let errors = [
        store.check_bucket().await.unwrap_err(),
        store
            .put("a", &payload(b"x"), &attributes(), None)
            .await
            .unwrap_err(),
        store.create_upload("a", &attributes()).await.unwrap_err(),
        store.list_uploads("").await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.class(), Class::UploadDenied, "{error}");
        assert!(!error.is_transient());
    }
}

async fn wrong_credentials_are_denied(server: &Server) {
    if !server.is_strict {
        // moto lets everybody in.
        return;
    }
    let right = server.settings.credentials.clone().unwrap();
    let secret = SecretString::from("not-the-secret-that-was-made");
    let wrong_secret = StaticCredentials {
        secret_key: secret.clone(),
        ..right
    };
    let unknown = StaticCredentials {
        access_key: "HARVESTERUNKNOWN".to_owned(),
        secret_key: secret,
    };
    for credentials in [wrong_secret, unknown] {
        let settings = S3Settings {
            credentials: Some(credentials),
            ..server.settings.clone()
        };
        let store = S3Store::connect(settings).await.unwrap();
        let part = payload(&bytes(PART, 5));
        for error in [
            store.check_bucket().await.unwrap_err(),
            store.head("a").await.unwrap_err(),
            store
                .put("a", &part, &attributes(), None)
                .await
                .unwrap_err(),
        ] {
            assert_eq!(error.class(), Class::UploadDenied, "{error}");
            assert!(!error.full_message().contains("not-the-secret"), "{error}");
        }
    }
}
