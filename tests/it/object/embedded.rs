//! What only the embedded server promises: plain files, restarts, strictness beyond the contract.

use std::sync::Arc;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart, Delete, ObjectIdentifier,
};
use futures::StreamExt as _;
use recording_harvester::clock::SystemClock;
use recording_harvester::error::Class;
use recording_harvester::object::embedded::{Abilities, EmbeddedS3, EmbeddedSettings};
use recording_harvester::object::s3::S3Store;
use recording_harvester::object::{Condition, ObjectAttributes, ObjectStore, WriteEnd};
use secrecy::ExposeSecret as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::s3::{
    BUCKET, TestS3, direct_settings, direct_store, payload, raw_client, start_embedded,
};

async fn put(store: &dyn ObjectStore, key: &str, content: &[u8]) {
    let end = store
        .put(key, &payload(content), &ObjectAttributes::default(), None)
        .await
        .unwrap();
    assert_eq!(end, WriteEnd::Done, "{key}");
}

#[tokio::test]
async fn an_object_is_a_plain_file_under_its_key() {
    let s3 = TestS3::start().await;
    let store = s3.store().await;
    put(&*store, "daily/2026/r/recording.mp4", b"content").await;
    let file = s3.root().join(BUCKET).join("daily/2026/r/recording.mp4");
    assert_eq!(std::fs::read(file).unwrap(), b"content");
}

#[tokio::test]
async fn keys_that_could_escape_stay_inside_and_read_back() {
    let parent = tempfile::tempdir().unwrap();
    let root = parent.path().join("s3");
    let server = start_embedded(&root).await;
    let client = raw_client(&server.endpoint(), &server.credentials());
    let long = "x".repeat(400);
    // The client would fold `..` away before signing, so these go as encoded keys where they can.
    let keys = [
        "a",
        "a/b",
        "a/b/c",
        "A",
        "trailing/",
        "double//slash",
        ".hidden",
        ".meta/x",
        "dots/.../x",
        "back\\..\\slash",
        "colon:name",
        "new\nline",
        "tab\tname",
        long.as_str(),
        "nul-free",
    ];
    for key in keys {
        let body = ByteStream::from(key.as_bytes().to_vec());
        let sent = client
            .put_object()
            .bucket(BUCKET)
            .key(key)
            .body(body)
            .send()
            .await;
        sent.unwrap_or_else(|error| panic!("{key:?}: {error:?}"));
    }
    for key in keys {
        let got = client
            .get_object()
            .bucket(BUCKET)
            .key(key)
            .send()
            .await
            .unwrap();
        assert_eq!(
            got.body.collect().await.unwrap().to_vec(),
            key.as_bytes(),
            "{key:?}"
        );
    }
    let mut beside: Vec<_> = std::fs::read_dir(parent.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    beside.sort();
    assert_eq!(beside, ["s3"]);
    server.stop().await;

    let server = start_embedded(&root).await;
    let store = direct_store(&server).await;
    for key in keys {
        assert_eq!(
            store.get(key, 1000).await.unwrap().unwrap().0,
            key.as_bytes(),
            "{key:?}"
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn threat_12_dot_segments_on_the_wire_do_not_leave_the_folder() {
    let parent = tempfile::tempdir().unwrap();
    let root = parent.path().join("s3");
    let server = start_embedded(&root).await;
    std::fs::write(parent.path().join("victim"), "untouched").unwrap();
    let client = raw_client(&server.endpoint(), &server.credentials());
    for key in [
        "../../victim",
        "../credentials",
        "x/../../../victim",
        "/etc/hostname",
    ] {
        // Refused or stored under an inner name: either is fine.
        let body = ByteStream::from_static(b"attack");
        let _ = client
            .put_object()
            .bucket(BUCKET)
            .key(key)
            .body(body)
            .send()
            .await;
        let got = client.get_object().bucket(BUCKET).key(key).send().await;
        if let Ok(got) = got {
            assert_eq!(got.body.collect().await.unwrap().to_vec(), b"attack");
        }
    }
    assert_eq!(
        std::fs::read(parent.path().join("victim")).unwrap(),
        b"untouched"
    );
    let credentials = std::fs::read_to_string(root.join("credentials")).unwrap();
    assert!(credentials.starts_with("[default]"));
    server.stop().await;
}

#[cfg(unix)]
#[tokio::test]
async fn credentials_are_private_and_kept_across_starts() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("s3");
    let first = start_embedded(&root).await;
    let made = first.credentials();
    let file = root.join("credentials");
    assert_eq!(
        std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(
        std::fs::metadata(&root).unwrap().permissions().mode() & 0o777,
        0o700
    );
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains(&format!("aws_access_key_id = {}\n", made.access_key)));
    first.stop().await;

    let second = start_embedded(&root).await;
    let kept = second.credentials();
    assert_eq!(kept.access_key, made.access_key);
    assert_eq!(
        kept.secret_key.expose_secret(),
        made.secret_key.expose_secret()
    );
    second.stop().await;
}

#[tokio::test]
async fn a_restart_keeps_objects_and_open_uploads() {
    let s3 = TestS3::start().await;
    let store = s3.store().await;
    let attributes = ObjectAttributes {
        content_type: "text/vtt".to_owned(),
        metadata: vec![("harvester-job".to_owned(), "j".to_owned())],
        ..ObjectAttributes::default()
    };
    let end = store
        .put("a/b", &payload(b"kept"), &attributes, None)
        .await
        .unwrap();
    assert_eq!(end, WriteEnd::Done);
    let before = store.head("a/b").await.unwrap();
    let id = store.create_upload("up", &attributes).await.unwrap();
    let part = payload(b"half");
    let finished = store.upload_part("up", &id, 1, &part).await.unwrap();
    let folder = s3.stop().await;

    let server = start_embedded(folder.path()).await;
    let store = direct_store(&server).await;
    assert_eq!(store.head("a/b").await.unwrap(), before);
    assert_eq!(store.get("a/b", 100).await.unwrap().unwrap().0, "kept");
    let parts = store.list_parts("up", &id).await.unwrap().unwrap();
    assert_eq!(parts[0].etag, finished.etag);
    let end = store
        .complete("up", &id, &[finished], 4, part.crc64nvme, None)
        .await
        .unwrap();
    assert_eq!(end, WriteEnd::Done);
    let head = store.head("up").await.unwrap().unwrap();
    assert_eq!(head.metadata("harvester-job"), Some("j"));
    server.stop().await;
}

#[tokio::test]
async fn a_second_server_in_the_same_folder_refuses_to_start() {
    let s3 = TestS3::start().await;
    let settings = EmbeddedSettings {
        root: s3.root().to_owned(),
        listen: "127.0.0.1:0".parse().unwrap(),
        bucket: BUCKET.to_owned(),
        abilities: Abilities::default(),
    };
    let error = EmbeddedS3::start(settings, Arc::new(SystemClock))
        .await
        .err()
        .unwrap();
    assert!(
        error.to_string().contains("another process uses it"),
        "{error}"
    );
}

#[tokio::test]
async fn it_listens_on_loopback_only() {
    let folder = tempfile::tempdir().unwrap();
    let settings = EmbeddedSettings {
        root: folder.path().to_owned(),
        listen: "0.0.0.0:0".parse().unwrap(),
        bucket: BUCKET.to_owned(),
        abilities: Abilities::default(),
    };
    let error = EmbeddedS3::start(settings, Arc::new(SystemClock))
        .await
        .err()
        .unwrap();
    assert!(
        error.to_string().contains("not a loopback address"),
        "{error}"
    );
}

#[tokio::test]
async fn of_two_racing_completions_exactly_one_wins() {
    let folder = tempfile::tempdir().unwrap();
    let server = start_embedded(folder.path()).await;
    let store = direct_store(&server).await;
    for round in 0..10 {
        let key = format!("race/{round}");
        let contents = [b"the first".to_vec(), b"a second".to_vec()];
        let mut uploads = Vec::new();
        for content in &contents {
            let id = store
                .create_upload(&key, &ObjectAttributes::default())
                .await
                .unwrap();
            let part = payload(content);
            let finished = store.upload_part(&key, &id, 1, &part).await.unwrap();
            uploads.push((id, finished, part));
        }
        let ends = futures::future::join_all(uploads.iter().map(async |(id, finished, part)| {
            let parts = std::slice::from_ref(finished);
            let absent = Some(&Condition::Absent);
            let end = store.complete(&key, id, parts, part.size_bytes, part.crc64nvme, absent);
            end.await.unwrap()
        }))
        .await;
        let winners: Vec<_> = (0..2).filter(|i| ends[*i] == WriteEnd::Done).collect();
        assert_eq!(winners.len(), 1, "{ends:?}");
        assert!(ends.contains(&WriteEnd::Taken), "{ends:?}");
        let (got, _) = store.get(&key, 100).await.unwrap().unwrap();
        assert_eq!(got, contents[winners[0]]);
    }
    server.stop().await;
}

#[tokio::test]
async fn of_two_completions_of_one_upload_the_object_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let server = start_embedded(folder.path()).await;
    let store = direct_store(&server).await;
    let id = store
        .create_upload("twice", &ObjectAttributes::default())
        .await
        .unwrap();
    let part = payload(b"content");
    let finished = [store.upload_part("twice", &id, 1, &part).await.unwrap()];
    let complete = || store.complete("twice", &id, &finished, 7, part.crc64nvme, None);
    let (one, other) = tokio::join!(complete(), complete());
    let ends = [one.unwrap(), other.unwrap()];
    assert!(ends.contains(&WriteEnd::Done), "{ends:?}");
    // The second finds the first under way, or the upload gone.
    let is_loser = |end: &WriteEnd| matches!(end, WriteEnd::Unclear | WriteEnd::Conflict);
    assert!(ends.iter().any(is_loser), "{ends:?}");
    assert_eq!(store.get("twice", 100).await.unwrap().unwrap().0, "content");
    server.stop().await;
}

#[tokio::test]
async fn listing_pages_through_more_than_a_thousand_keys_in_byte_order() {
    let s3 = TestS3::start().await;
    let client = s3.client();
    let mut expected: Vec<String> = (0..1203).map(|n| format!("page/{n}")).collect();
    expected.extend(["page/Z", "page/é", "other"].map(str::to_owned));
    futures::stream::iter(&expected)
        .for_each_concurrent(8, async |key| {
            let body = ByteStream::from_static(b"x");
            client
                .put_object()
                .bucket(BUCKET)
                .key(key)
                .body(body)
                .send()
                .await
                .unwrap();
        })
        .await;
    expected.sort();
    assert_eq!(s3.keys().await, expected);

    let page = client
        .list_objects_v2()
        .bucket(BUCKET)
        .prefix("page/")
        .send()
        .await
        .unwrap();
    assert_eq!(page.key_count(), Some(1000));
    assert_eq!(page.is_truncated(), Some(true));
    let folders = client
        .list_objects_v2()
        .bucket(BUCKET)
        .delimiter("/")
        .send()
        .await
        .unwrap();
    assert_eq!(folders.common_prefixes()[0].prefix(), Some("page/"));
    assert_eq!(folders.contents()[0].key(), Some("other"));

    let objects = ["page/Z", "other", "never-was"];
    let objects = objects.map(|key| ObjectIdentifier::builder().key(key).build().unwrap());
    let delete = Delete::builder()
        .set_objects(Some(objects.to_vec()))
        .build()
        .unwrap();
    let deleted = client
        .delete_objects()
        .bucket(BUCKET)
        .delete(delete)
        .send()
        .await
        .unwrap();
    assert_eq!(deleted.deleted().len(), 3);
    assert_eq!(s3.keys().await.len(), expected.len() - 2);
}

#[tokio::test]
async fn open_uploads_and_parts_are_paged() {
    let s3 = TestS3::start().await;
    let store = s3.store().await;
    let client = s3.client();
    let mut ids = Vec::new();
    for key in ["b", "a", "a", "c", "a"] {
        ids.push((
            key.to_owned(),
            store
                .create_upload(key, &ObjectAttributes::default())
                .await
                .unwrap(),
        ));
    }
    let (mut key_marker, mut id_marker, mut told) = (None, None, Vec::new());
    loop {
        let page = client
            .list_multipart_uploads()
            .bucket(BUCKET)
            .max_uploads(2)
            .set_key_marker(key_marker)
            .set_upload_id_marker(id_marker)
            .send()
            .await
            .unwrap();
        assert!(page.uploads().len() <= 2);
        let uploads = page.uploads().iter();
        told.extend(uploads.map(|u| {
            (
                u.key().unwrap().to_owned(),
                u.upload_id().unwrap().to_owned(),
            )
        }));
        if page.is_truncated() != Some(true) {
            break;
        }
        key_marker = page.next_key_marker;
        id_marker = page.next_upload_id_marker;
    }
    ids.sort();
    assert_eq!(told, ids);

    let (key, id) = &ids[0];
    for number in [4, 1, 9, 2, 3] {
        store
            .upload_part(key, id, number, &payload(b"x"))
            .await
            .unwrap();
    }
    let mut pages = client
        .list_parts()
        .bucket(BUCKET)
        .key(key)
        .upload_id(id)
        .max_parts(2)
        .into_paginator()
        .send();
    let mut numbers = Vec::new();
    while let Some(page) = pages.next().await {
        numbers.extend(
            page.unwrap()
                .parts()
                .iter()
                .map(|part| part.part_number().unwrap()),
        );
    }
    assert_eq!(numbers, [1, 2, 3, 4, 9]);
}

#[tokio::test]
async fn ranges_and_conditions_read_as_on_s3() {
    let s3 = TestS3::start().await;
    let store = s3.store().await;
    put(&*store, "r", b"0123456789").await;
    let client = s3.client();
    for (range, expected, told) in [
        ("bytes=2-4", &b"234"[..], "bytes 2-4/10"),
        ("bytes=7-", b"789", "bytes 7-9/10"),
        ("bytes=-3", b"789", "bytes 7-9/10"),
        ("bytes=8-100", b"89", "bytes 8-9/10"),
    ] {
        let got = client
            .get_object()
            .bucket(BUCKET)
            .key("r")
            .range(range)
            .send()
            .await
            .unwrap();
        assert_eq!(got.content_range(), Some(told));
        assert_eq!(got.body.collect().await.unwrap().to_vec(), expected);
    }
    let status =
        async |send: aws_sdk_s3::operation::get_object::builders::GetObjectFluentBuilder| {
            let error = send.bucket(BUCKET).key("r").send().await.unwrap_err();
            error.raw_response().unwrap().status().as_u16()
        };
    let etag = store.head("r").await.unwrap().unwrap().etag.unwrap();
    assert_eq!(status(client.get_object().range("bytes=10-")).await, 416);
    assert_eq!(status(client.get_object().if_match("\"other\"")).await, 412);
    assert_eq!(
        status(client.get_object().if_none_match(format!("\"{etag}\""))).await,
        304
    );
}

#[tokio::test]
async fn every_checksum_algorithm_is_verified() {
    let s3 = TestS3::start().await;
    let client = s3.client();
    for algorithm in [
        ChecksumAlgorithm::Crc32,
        ChecksumAlgorithm::Crc32C,
        ChecksumAlgorithm::Crc64Nvme,
        ChecksumAlgorithm::Sha1,
        ChecksumAlgorithm::Sha256,
    ] {
        // The SDK computes it, and sends it behind the body.
        let body = ByteStream::from_static(b"checked");
        let sent = client.put_object().bucket(BUCKET).key("c").body(body);
        sent.checksum_algorithm(algorithm.clone())
            .send()
            .await
            .unwrap();
        assert_eq!(
            s3.object("c").await.as_deref(),
            Some(&b"checked"[..]),
            "{algorithm}"
        );
    }
    let refused =
        async |send: aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder| {
            let body = ByteStream::from_static(b"damaged");
            let error = send
                .bucket(BUCKET)
                .key("d")
                .body(body)
                .send()
                .await
                .unwrap_err();
            error.into_service_error().meta().code().unwrap().to_owned()
        };
    let put = || client.put_object();
    assert_eq!(refused(put().checksum_crc32("AAAAAA==")).await, "BadDigest");
    assert_eq!(
        refused(put().checksum_crc32_c("AAAAAA==")).await,
        "BadDigest"
    );
    assert_eq!(
        refused(put().checksum_crc64_nvme("AAAAAAAAAAA=")).await,
        "BadDigest"
    );
    let sha256 = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    assert_eq!(refused(put().checksum_sha256(sha256)).await, "BadDigest");
    assert_eq!(
        refused(put().content_md5("AAAAAAAAAAAAAAAAAAAAAA==")).await,
        "BadDigest"
    );
    assert_eq!(
        refused(put().content_md5("nonsense")).await,
        "InvalidDigest"
    );
    assert_eq!(s3.object("d").await, None);
}

#[tokio::test]
async fn composite_uploads_need_every_parts_checksum() {
    let s3 = TestS3::start().await;
    let client = s3.client();
    let created = client.create_multipart_upload().bucket(BUCKET).key("c");
    let created = created
        .checksum_algorithm(ChecksumAlgorithm::Sha256)
        .send()
        .await
        .unwrap();
    let id = created.upload_id().unwrap();
    let body = ByteStream::from_static(b"part");
    let sent = client
        .upload_part()
        .bucket(BUCKET)
        .key("c")
        .upload_id(id)
        .part_number(1);
    let sent = sent
        .checksum_algorithm(ChecksumAlgorithm::Sha256)
        .body(body)
        .send()
        .await
        .unwrap();
    let complete = async |sha256: Option<&str>| {
        let part = CompletedPart::builder()
            .part_number(1)
            .e_tag(sent.e_tag().unwrap());
        let part = part.set_checksum_sha256(sha256.map(str::to_owned)).build();
        let list = CompletedMultipartUpload::builder().parts(part).build();
        let complete = client
            .complete_multipart_upload()
            .bucket(BUCKET)
            .key("c")
            .upload_id(id);
        complete.multipart_upload(list).send().await
    };
    assert!(complete(None).await.is_err());
    let done = complete(sent.checksum_sha256()).await.unwrap();
    assert!(done.checksum_sha256().unwrap().ends_with("-1"));
}

#[tokio::test]
async fn a_file_deleted_by_hand_is_an_object_that_is_gone() {
    let s3 = TestS3::start().await;
    let store = s3.store().await;
    put(&*store, "a", b"here").await;
    std::fs::remove_file(s3.root().join(BUCKET).join("a")).unwrap();
    assert_eq!(store.head("a").await.unwrap(), None);
    put(&*store, "a", b"again").await;
    assert_eq!(s3.object("a").await.as_deref(), Some(&b"again"[..]));
}

#[tokio::test]
async fn what_a_crash_left_half_done_is_finished_or_removed_at_the_next_start() {
    let s3 = TestS3::start().await;
    let store = s3.store().await;
    put(&*store, "a/b", b"content").await;
    let folder = s3.stop().await;
    let root = folder.path();
    // As if the crash came after the note and before the move.
    let note = std::fs::read_dir(root.join(".meta").join(BUCKET))
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    let note: serde_json::Value =
        serde_json::from_slice(&std::fs::read(note.path()).unwrap()).unwrap();
    let staged = root.join(".staged").join(note["staged"].as_str().unwrap());
    std::fs::rename(root.join(BUCKET).join("a/b"), &staged).unwrap();
    std::fs::remove_dir(root.join(BUCKET).join("a")).unwrap();
    // And others before their notes.
    std::fs::write(root.join(".staged/orphan"), "x").unwrap();
    std::fs::write(root.join(".tmp/half"), "x").unwrap();
    std::fs::create_dir(root.join(".uploads/unborn")).unwrap();

    let server = start_embedded(root).await;
    let store = direct_store(&server).await;
    assert_eq!(store.get("a/b", 100).await.unwrap().unwrap().0, "content");
    assert!(root.join(BUCKET).join("a/b").exists());
    for rubbish in [".staged/orphan", ".tmp/half", ".uploads/unborn"] {
        assert!(!root.join(rubbish).exists(), "{rubbish}");
    }
    server.stop().await;
}

#[tokio::test]
async fn threat_22_a_browser_page_gets_nothing() {
    let s3 = TestS3::start().await;
    let server = start_embedded(&s3.root().join("second")).await;
    let ask = async |head: &str| {
        let mut stream = tokio::net::TcpStream::connect(server.address())
            .await
            .unwrap();
        let request = format!("GET /{BUCKET}/a HTTP/1.1\r\n{head}Connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let rebound = ask("Host: evil.example\r\n").await;
    assert!(rebound.starts_with("HTTP/1.1 403"), "{rebound}");
    let cross = ask("Host: 127.0.0.1\r\nOrigin: http://evil.example\r\n").await;
    assert!(cross.starts_with("HTTP/1.1 403"), "{cross}");
    let unsigned = ask("Host: 127.0.0.1\r\n").await;
    assert!(unsigned.contains("AccessDenied"), "{unsigned}");
    server.stop().await;
}

#[tokio::test]
async fn an_endpoint_that_is_no_url_is_told_before_the_first_call() {
    let folder = tempfile::tempdir().unwrap();
    let server = start_embedded(folder.path()).await;
    let mut settings = direct_settings(&server);
    settings.endpoint = Some("not a url".to_owned());
    let error = S3Store::connect(settings).await.unwrap_err();
    assert_eq!(error.class(), Class::UploadDenied);
    server.stop().await;
}

#[tokio::test]
async fn buckets_are_made_listed_and_told_apart() {
    let s3 = TestS3::start().await;
    let client = s3.client();
    client
        .create_bucket()
        .bucket("another")
        .send()
        .await
        .unwrap();
    let again = client
        .create_bucket()
        .bucket("another")
        .send()
        .await
        .unwrap_err();
    assert!(again.into_service_error().is_bucket_already_owned_by_you());
    let listed = client.list_buckets().send().await.unwrap();
    let names: Vec<_> = listed.buckets().iter().filter_map(|b| b.name()).collect();
    assert_eq!(names, ["another", BUCKET]);
    // The AWS command line can't list buckets that have no date.
    assert!(listed.buckets().iter().all(|b| b.creation_date().is_some()));
    put(&*s3.store().await, "here", b"x").await;
    let other = client
        .list_objects_v2()
        .bucket("another")
        .send()
        .await
        .unwrap();
    assert_eq!(other.key_count(), Some(0));
}

/// R22
#[tokio::test]
async fn a_damaged_note_costs_its_own_object_only() {
    let parent = tempfile::tempdir().unwrap();
    let root = parent.path().join("s3");
    let server = start_embedded(&root).await;
    let store = direct_store(&server).await;
    put(&store, "r/first.txt", b"first").await;
    server.stop().await;
    let notes = root.join(".meta").join(BUCKET);
    let note = std::fs::read_dir(&notes).unwrap().next().unwrap().unwrap();
    std::fs::write(note.path(), b"{\"object\":").unwrap();
    std::fs::write(root.join(".staged").join("somebodys"), b"content").unwrap();

    for _ in 0..2 {
        let server = start_embedded(&root).await;
        let store = direct_store(&server).await;
        put(&store, "r/second.txt", b"second").await;
        assert!(store.head("r/first.txt").await.unwrap().is_none());
        let (second, _) = store.get("r/second.txt", 100).await.unwrap().unwrap();
        assert_eq!(&second[..], b"second");
        server.stop().await;
        assert_eq!(
            std::fs::read(root.join(BUCKET).join("r/first.txt")).unwrap(),
            b"first",
            "the content is left for a person"
        );
        assert!(root.join(".staged").join("somebodys").exists());
    }
    // The object can be written again.
    let server = start_embedded(&root).await;
    let store = direct_store(&server).await;
    put(&store, "r/first.txt", b"again").await;
    let (first, _) = store.get("r/first.txt", 100).await.unwrap().unwrap();
    assert_eq!(&first[..], b"again");
    server.stop().await;
}
