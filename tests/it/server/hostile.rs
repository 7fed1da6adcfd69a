//! Senders who mean no good, or are somebody else's: what they send costs little and holds up nobody.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use recording_harvester::ingest::Adapter;
use recording_harvester::ingest::signature::{Trust, provider_check};
use recording_harvester::model::Provider;
use recording_harvester::server::webhook::WebhookSource;
use recording_harvester::store::sqlite::SqliteOptions;
use sqlx::Connection as _;

use super::intake::{STORE_FILE, World, hms_event};
use super::*;

const MIB: usize = 1 << 20;

fn source(provider: Provider, trust: &Trust) -> WebhookSource {
    let check = provider_check("x", provider, trust, true).unwrap();
    WebhookSource::new(Adapter::BuiltIn(provider), check)
}

async fn with_source(name: &str, source: WebhookSource) -> World {
    let name = name.to_owned();
    World::start_with(SqliteOptions::default(), |intake| {
        intake.sources.insert(name, source);
    })
    .await
}

// S2: both were taken in, with jobs for whatever they named.
#[tokio::test]
async fn a_source_without_secrets_takes_nothing_from_a_proxy_or_a_page() {
    let world = with_source("open", source(Provider::Hms, &Trust::default())).await;
    let local = ("host", "127.0.0.1:8080");
    for (headers, reason) in [
        (vec![local, ("x-forwarded-for", "203.0.113.9")], "proxied"),
        (vec![local, ("via", "1.1 caddy")], "proxied"),
        (vec![("host", "harvester.example")], "proxied"),
        (vec![local, ("origin", "https://evil.example")], "browser"),
        (vec![local, ("sec-fetch-site", "cross-site")], "browser"),
    ] {
        let answer = world.post_to("open", &headers, hms_event("e-1")).await;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (401, "not authorized\n"),
            "{headers:?}"
        );
        let text = world.metrics.render(&[], None);
        let row = format!("rejected_total{{source=\"open\",reason=\"{reason}\"}}");
        assert!(text.contains(&row), "{row}\n{text}");
    }
    // nginx, as it comes: it adds nothing, and speaks HTTP/1.0.
    let body = hms_event("e-1");
    let length = body.len();
    let old = format!(
        "POST /webhooks/open HTTP/1.0\r\nhost: 127.0.0.1:8080\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    assert_eq!(world.served.exchange(old).await.status, 401);
    assert!(world.events().await.is_empty());
    let answer = world.post_to("open", &[local], hms_event("e-1")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(world.events().await.len(), 1);
}

// S3: the provider signs the events of all its customers with one key.
#[tokio::test]
async fn a_good_signature_on_another_customers_event_is_401() {
    let key = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let der = key.public_key().as_der().unwrap();
    let pem = BASE64_STANDARD.encode(der.as_ref());
    let trust = Trust {
        public_key: Some(format!(
            "-----BEGIN PUBLIC KEY-----\n{pem}\n-----END PUBLIC KEY-----"
        )),
        ..Trust::default()
    };
    let ours = source(Provider::RealtimeKit, &trust).with_accounts(vec!["org-ours".to_owned()]);
    let world = with_source("rtk", ours).await;
    let body = |organization: &str, organizer: &str| {
        serde_json::json!({
            "event": "recording.statusUpdate",
            "recording": {
                "recordingId": "r-1", "status": "UPLOADED", "organizationId": organization,
                "downloadUrl": "https://files.example/r-1.mp4?sig=x",
            },
            "meeting": {"id": "m-1", "sessionId": "s-1", "organizedBy": {"id": organizer}},
        })
        .to_string()
    };
    let post = async |body: &str| {
        let mut signature = vec![0; key.public_modulus_len()];
        let random = rand::SystemRandom::new();
        key.sign(&RSA_PKCS1_SHA256, &random, body.as_bytes(), &mut signature)
            .unwrap();
        let signature = BASE64_STANDARD.encode(signature);
        let headers = [("rtk-signature", signature.as_str())];
        world.post_to("rtk", &headers, body).await.status
    };
    for foreign in [
        body("org-theirs", "org-theirs"),
        body("org-ours", "org-theirs"),
        r#"{"event":"recording.statusUpdate","recording":{"status":"UPLOADED"}}"#.to_owned(),
    ] {
        assert_eq!(post(&foreign).await, 401, "{foreign}");
    }
    world.assert_counted("harvester_webhooks_rejected_total{source=\"rtk\",reason=\"account\"} 3");
    assert!(world.events().await.is_empty());
    assert_eq!(post(&body("org-ours", "org-ours")).await, 200);
    assert_eq!(world.events().await.len(), 1);
}

// S1: 4 MiB of these became gigabytes.
#[tokio::test]
async fn json_that_would_grow_is_400_before_anything_is_built_of_it() {
    let world = World::start().await;
    let deep = format!(
        r#"{{"id":"e-1","z":{}{}0{}}}"#,
        "[".repeat(100),
        "0,".repeat(200_000),
        "]".repeat(100)
    );
    let maps = format!(r#"{{"id":"e-2","z":[{}0]}}"#, r#"{"":0},"#.repeat(140_000));
    for body in [deep, maps] {
        assert!(body.len() < MIB);
        assert_eq!(world.post(&body).await.status, 400);
    }
    world.assert_counted(
        "harvester_webhooks_rejected_total{source=\"hms\",reason=\"too_complex\"} 2",
    );
    // As deep as allowed: kept, and as long as it was.
    let fits = format!(
        r#"{{"id":"e-3","type":"x","z":{}{}0{}}}"#,
        "[".repeat(30),
        "0,".repeat(10_000),
        "]".repeat(30)
    );
    assert_eq!(world.post(&fits).await.status, 200);
}

// R22: the event of a long meeting was refused for ever, and its video lost with it.
#[tokio::test]
async fn a_meetings_inline_transcript_of_megabytes_is_taken_and_its_limit_is_a_setting() {
    let world = World::start().await;
    let words: Vec<_> = (0..75_000)
        .map(|n| serde_json::json!({"word": "recording", "start": f64::from(n) + 0.123_456, "end": f64::from(n) + 0.654_321}))
        .collect();
    let event = serde_json::json!({"event": "complete", "data": {
        "bot_id": "bot-1", "mp4": "https://files.example/bot-1.mp4?sig=x",
        "transcript": [{"speaker": "Ada", "words": words}],
    }})
    .to_string();
    assert!(event.len() > 4 * MIB, "{} bytes", event.len());
    let secret = [("x-meeting-baas-api-key", "canary-secret-1")];
    assert_eq!(world.post_to("baas", &secret, &event).await.status, 200);
    let records = world.store.list(&Default::default()).await.unwrap();
    let mut names: Vec<_> = records.iter().map(|record| record.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names.len(), 4, "{names:?}");
    assert_eq!(world.post(&event).await.status, 413);
    world
        .assert_counted("harvester_webhooks_rejected_total{source=\"hms\",reason=\"too_large\"} 1");
}

// S6: sixteen held bodies with a garbage signature refused every delivery to every source.
#[tokio::test]
async fn bodies_that_are_held_back_refuse_nobody_elses() {
    let secret = BASE64_STANDARD.encode(b"canary key");
    let trust = Trust {
        secrets: vec![secret.into()],
        ..Trust::default()
    };
    let world = with_source("signed-daily", source(Provider::Daily, &trust)).await;
    let garbage = BASE64_STANDARD.encode([7; 32]);
    let head = format!(
        "POST /webhooks/signed-daily HTTP/1.1\r\nhost: a\r\nx-webhook-timestamp: 1772448000\r\n\
         x-webhook-signature: {garbage}\r\ncontent-length: {MIB}\r\n\r\n"
    );
    let part = vec![b' '; MIB - 1];
    let mut holders = Vec::new();
    for _ in 0..32 {
        let mut stream = world.served.connect().await;
        let _ = stream.write_all(head.as_bytes()).await;
        let _ = stream.write_all(&part).await;
        holders.push(stream);
    }
    // Other sources at once, also one that trusts everybody.
    let header = [("x-hook-key", "canary-secret-1")];
    for (source, headers) in [("signed", &header[..]), ("hms", &[])] {
        let answer = world.post_to(source, headers, hms_event(source)).await;
        assert_eq!(answer.status, 200, "{source}");
    }
    // The source itself as soon as what is held back shows as that.
    let body = serde_json::json!({"version": "1.0.0", "type": "recording.started", "id": "d-1", "event_ts": 1772447600.5, "payload": {}}).to_string();
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, b"canary key");
    let digest = aws_lc_rs::hmac::sign(&key, format!("1772448000.{body}").as_bytes());
    let digest = BASE64_STANDARD.encode(digest);
    let good = [
        ("x-webhook-timestamp", "1772448000"),
        ("x-webhook-signature", digest.as_str()),
    ];
    eventually("the source itself takes its events", async || {
        world.post_to("signed-daily", &good, &body).await.status == 200
    })
    .await;
}

// R21: the memory was given back when the sender stopped waiting, and the event was still in the queue.
#[tokio::test]
async fn events_that_wait_for_the_disk_stay_counted() {
    let world = World::start_with(SqliteOptions::default(), |intake| {
        intake.commit_timeout = Duration::from_millis(50);
    })
    .await;
    let file =
        sqlx::sqlite::SqliteConnectOptions::new().filename(world.folder.path().join(STORE_FILE));
    let mut other = sqlx::SqliteConnection::connect_with(&file).await.unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE")
        .execute(&mut other)
        .await
        .unwrap();
    let large = |id: usize| {
        let padding = "x".repeat(MIB - 10_000);
        format!(r#"{{"id":"e-{id}","type":"other","x":"{padding}"}}"#)
    };
    // None is answered with 200, and after 8 MiB there is no room for another of this source.
    for id in 0..40 {
        assert_eq!(world.post(large(id)).await.status, 503, "{id}");
    }
    let overloaded = "harvester_webhooks_rejected_total{source=\"hms\",reason=\"overloaded\"} ";
    let text = world.metrics.render(&[], None);
    let count = text.lines().find_map(|line| line.strip_prefix(overloaded));
    let count: u32 = count.map_or(0, |count| count.parse().unwrap());
    assert!((28..=34).contains(&count), "{count} were refused for room");
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    eventually("there is room again", async || {
        world.post(large(0)).await.status == 200
    })
    .await;
}

// N2: both were 404, in no log and no counter.
#[tokio::test]
async fn a_slash_at_the_end_is_the_same_address_and_other_paths_are_counted() {
    let world = World::start().await;
    let post = async |path: &str| {
        let request = request("POST", path, &[], hms_event("e-1"));
        world.served.exchange(request).await.status
    };
    assert_eq!(post("/webhooks/hms/").await, 200);
    for path in [
        "/webhook/hms",
        "/webhooks/hms/x",
        "/",
        "/webhooks",
        "//webhooks/hms",
    ] {
        assert_eq!(post(path).await, 404, "{path}");
    }
    assert_eq!(world.events().await.len(), 1);
    world.assert_counted(
        "harvester_webhooks_rejected_total{source=\"unknown\",reason=\"unknown_path\"} 5",
    );
}
