//! The webhook listener: every answer that DESIGN promises, and what is in the store after it.

use std::collections::HashMap;
use std::path::Path;

use recording_harvester::clock::ManualClock;
use recording_harvester::ingest::Adapter;
use recording_harvester::ingest::signature::{Trust, provider_check};
use recording_harvester::model::{EventClass, Layout, Provider, key};
use recording_harvester::report::metrics::Metrics;
use recording_harvester::server::webhook::{self, Intake, WebhookSource};
use recording_harvester::store::sqlite::{SqliteOptions, SqliteStore};
use recording_harvester::store::{EventRecord, JobStore};
use sqlx::Connection;
use tokio::sync::Notify;

use super::*;

const SECRET: &str = "canary-secret-1";
pub(super) const STORE_FILE: &str = "harvester.db";
const SECOND_SECRET: &str = "canary-secret-2";

/// The webhook listener over a store of its own.
pub(super) struct World {
    pub(super) served: Served,
    pub(super) store: Arc<dyn JobStore>,
    pub(super) metrics: Arc<Metrics>,
    bell: Arc<Notify>,
    pub(super) folder: tempfile::TempDir,
}

impl World {
    pub(super) async fn start() -> World {
        World::start_with(SqliteOptions::default(), |_| ()).await
    }

    /// With such a store, and an intake that is changed before it is served.
    pub(super) async fn start_with(
        options: SqliteOptions,
        change: impl FnOnce(&mut Intake),
    ) -> World {
        let folder = tempfile::tempdir().unwrap();
        let store = open_store(folder.path(), options).await;
        let metrics = Arc::new(Metrics::new("test"));
        let bell = Arc::new(Notify::new());
        let mut intake = Intake {
            store: store.clone(),
            layout: Layout::new("", key::DEFAULT_TEMPLATE).unwrap(),
            sources: sources(),
            clock: ManualClock::at("2026-03-02T10:40:00Z".parse().unwrap()),
            bell: Arc::clone(&bell),
            metrics: Arc::clone(&metrics),
            trusted_proxies: Vec::new(),
            body_timeout: PATIENCE,
            commit_timeout: PATIENCE,
        };
        change(&mut intake);
        let router = webhook::router(Arc::new(intake));
        World {
            served: Served::start(HttpLimits::default(), |_| router).await,
            store,
            metrics,
            bell,
            folder,
        }
    }

    /// Posts an event to the open source.
    pub(super) async fn post(&self, body: impl AsRef<[u8]>) -> Answer {
        self.post_to("hms", &[], body).await
    }

    pub(super) async fn post_to(
        &self,
        source: &str,
        headers: &[(&str, &str)],
        body: impl AsRef<[u8]>,
    ) -> Answer {
        let path = format!("/webhooks/{source}");
        self.served
            .exchange(request("POST", &path, headers, body))
            .await
    }

    pub(super) async fn events(&self) -> Vec<EventRecord> {
        self.store.events(None, 1000).await.unwrap()
    }

    #[track_caller]
    pub(super) fn assert_counted(&self, line: &str) {
        let text = self.metrics.render(&[], None);
        assert!(text.lines().any(|l| l == line), "missing {line} in\n{text}");
    }
}

fn sources() -> HashMap<String, WebhookSource> {
    let source = |provider, secrets: &[&str], header: Option<&str>| {
        let trust = Trust {
            secrets: secrets.iter().map(|secret| (*secret).into()).collect(),
            header: header.map(str::to_owned),
            insecure: secrets.is_empty(),
            ..Trust::default()
        };
        WebhookSource::new(
            Adapter::BuiltIn(provider),
            provider_check("x", provider, &trust, false).unwrap(),
        )
    };
    HashMap::from([
        ("hms".to_owned(), source(Provider::Hms, &[], None)),
        (
            "signed".to_owned(),
            source(Provider::Hms, &[SECRET, SECOND_SECRET], Some("X-Hook-Key")),
        ),
        (
            "baas".to_owned(),
            source(Provider::MeetingBaas, &[SECRET], None),
        ),
        (
            "daily".to_owned(),
            source(Provider::Daily, &[SECRET], Some("X-Hook-Key")),
        ),
    ])
}

async fn open_store(folder: &Path, options: SqliteOptions) -> Arc<dyn JobStore> {
    let store = SqliteStore::open_with(&folder.join(STORE_FILE), &options).await;
    Arc::new(store.unwrap())
}

/// A 100ms event as it comes in, with two artifacts behind signed URLs.
pub(super) fn hms_event(id: &str) -> String {
    let signed = |file: &str| {
        format!(
            "https://bucket.s3.amazonaws.com/{id}/{file}?X-Amz-Algorithm=AWS4-HMAC-SHA256\
             &X-Amz-Date=20260302T103320Z&X-Amz-Expires=86400&X-Amz-Signature={CANARY}"
        )
    };
    serde_json::json!({
        "version": "1.0",
        "id": id,
        "timestamp": "2026-03-02T10:33:20Z",
        "type": "recording.success",
        "data": {
            "room_id": "room-1",
            "session_id": format!("session-{id}"),
            "room_name": "standup",
            "recording_presigned_url": signed("rec.mp4"),
            "chat_recording_presigned_url": signed("chat.csv"),
            "session_started_at": "2026-03-02T10:00:00Z",
        },
    })
    .to_string()
}

#[tokio::test]
async fn an_event_is_answered_with_an_empty_200_once_it_is_in_the_store() {
    let world = World::start().await;
    let answer = world.post(hms_event("e-1")).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    let events = world.events().await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].event_id.as_deref(), Some("e-1"));
    assert_eq!(events[0].class, EventClass::Artifacts);
    assert_eq!(events[0].source, "hms");
    let records = world.store.list(&Default::default()).await.unwrap();
    let mut names: Vec<_> = records.iter().map(|record| record.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["chat.csv", "event-e-1.json", "recording.mp4"]);
    tokio::time::timeout(PATIENCE, world.bell.notified())
        .await
        .expect("the worker is told");
    world.assert_counted("harvester_events_received_total{source=\"hms\",class=\"artifacts\"} 1");
    world.assert_counted("harvester_webhook_duration_seconds_count 1");
}

#[tokio::test]
async fn put_is_taken_like_post_and_no_other_method() {
    let world = World::start().await;
    let send = async |method: &str| {
        let request = request(method, "/webhooks/hms", &[], hms_event("e-1"));
        world.served.exchange(request).await.status
    };
    assert_eq!(send("PUT").await, 200);
    for method in ["GET", "DELETE", "PATCH"] {
        assert_eq!(send(method).await, 405, "{method}");
    }
    assert_eq!(world.events().await.len(), 1);
}

#[tokio::test]
async fn an_unknown_source_is_404_and_its_name_is_no_label() {
    let world = World::start().await;
    for source in ["nobody", "HMS", "hms%00", "..%2fhms", "%ff"] {
        assert_eq!(
            world.post_to(source, &[], "{}").await.status,
            404,
            "{source}"
        );
    }
    world.assert_counted(
        "harvester_webhooks_rejected_total{source=\"unknown\",reason=\"unknown_source\"} 5",
    );
}

#[tokio::test]
async fn every_failed_check_gets_the_same_401_and_each_secret_opens() {
    let world = World::start().await;
    let event = hms_event("e-1");
    let near = format!("{SECRET}x");
    let refused: [(&[(&str, &str)], &str); 6] = [
        (&[], &event),
        (&[("x-hook-key", "wrong")], &event),
        (&[("x-hook-key", &near)], &event),
        (&[("x-hook-key", "")], &event),
        (&[("x-mb-secret", SECRET)], &event),
        (&[("x-hook-key", "wrong")], "not json"),
    ];
    let mut answers = Vec::new();
    for (headers, body) in refused {
        let answer = world.post_to("signed", headers, body).await;
        assert_eq!(answer.status, 401, "{headers:?}");
        answers.push(answer.body);
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert!(world.events().await.is_empty());
    for (id, secret) in [("e-1", SECRET), ("e-2", SECOND_SECRET)] {
        let answer = world
            .post_to("signed", &[("X-Hook-Key", secret)], hms_event(id))
            .await;
        assert_eq!(answer.status, 200);
    }
    assert_eq!(world.events().await.len(), 2);
}

#[tokio::test]
async fn meetingbaas_is_known_by_its_own_headers() {
    let world = World::start().await;
    let failed = |bot: &str| {
        serde_json::json!({"event": "failed", "data": {"bot_id": bot, "error": "BotRemoved"}})
            .to_string()
    };
    for (header, value, status) in [
        ("x-meeting-baas-api-key", SECRET, 200),
        ("x-mb-secret", SECRET, 200),
        ("x-mb-secret", "wrong", 401),
        ("x-hook-key", SECRET, 401),
    ] {
        let answer = world
            .post_to("baas", &[(header, value)], failed("bot-1"))
            .await;
        assert_eq!(answer.status, status, "{header}");
    }
}

#[tokio::test]
async fn a_body_that_is_no_json_object_is_400_and_leaves_nothing() {
    let world = World::start().await;
    let cut = hms_event("e-1");
    let deep_array = "[".repeat(100_000);
    let deep_object = format!("{{\"a\":{}", "{\"a\":".repeat(100_000));
    for body in [
        "",
        " ",
        "not json",
        "[1]",
        "\"text\"",
        "7",
        "null",
        "\u{0}",
        &cut[..cut.len() / 2],
        &deep_array,
        &deep_object,
    ] {
        let answer = world.post(body).await;
        assert_eq!(answer.status, 400, "{}", &body[..body.len().min(40)]);
    }
    let not_utf8 = b"{\"type\":\"\xff\xfe\"}";
    assert_eq!(world.post(not_utf8).await.status, 400);
    assert!(world.events().await.is_empty());
}

#[tokio::test]
async fn f07_an_unknown_type_is_kept_and_answered_200() {
    let world = World::start().await;
    let body =
        r#"{"id":"e-9","type":"recording.sung","timestamp":"2026-03-02T10:33:20Z","data":{}}"#;
    assert_eq!(world.post(body).await.status, 200);
    let events = world.events().await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].class, EventClass::Unknown);
    assert!(
        world
            .store
            .list(&Default::default())
            .await
            .unwrap()
            .is_empty()
    );
    world.assert_counted("harvester_events_received_total{source=\"hms\",class=\"unknown\"} 1");
}

#[tokio::test]
async fn f07_a_known_type_that_cannot_be_read_is_kept_with_an_alert_and_answered_200() {
    let world = World::start().await;
    let body = r#"{"id":"e-9","type":"recording.success","timestamp":"2026-03-02T10:33:20Z","data":"none"}"#;
    assert_eq!(world.post(body).await.status, 200);
    let events = world.events().await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].class, EventClass::Unknown);
    assert!(events[0].alert.is_some());
}

#[tokio::test]
async fn f01_a_repeated_delivery_is_200_and_changes_nothing() {
    let world = World::start().await;
    for _ in 0..3 {
        assert_eq!(world.post(hms_event("e-1")).await.status, 200);
    }
    assert_eq!(world.events().await.len(), 1);
    assert_eq!(
        world.store.list(&Default::default()).await.unwrap().len(),
        3
    );
}

#[tokio::test]
async fn f01_sixty_four_deliveries_at_once_are_one_event() {
    let world = World::start().await;
    let event = hms_event("e-1");
    let answers = futures::future::join_all((0..64).map(|_| world.post(&event))).await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!(world.events().await.len(), 1);
    assert_eq!(
        world.store.list(&Default::default()).await.unwrap().len(),
        3
    );
}

#[tokio::test]
async fn f04_a_full_disk_is_503_with_retry_after_and_loses_nothing_that_was_acknowledged() {
    let options = SqliteOptions {
        max_pages: Some(100),
        ..SqliteOptions::default()
    };
    let world = World::start_with(options, |_| ()).await;
    let mut acknowledged = Vec::new();
    let refusal = loop {
        let id = format!("e-{}", acknowledged.len());
        let answer = world.post(hms_event(&id)).await;
        if answer.status != 200 {
            break answer;
        }
        acknowledged.push(Some(id));
        assert!(acknowledged.len() < 1000, "the store is never full");
    };
    assert_eq!(refusal.status, 503);
    assert_eq!(refusal.header("retry-after"), Some("5"));
    let stored: Vec<_> = world
        .events()
        .await
        .into_iter()
        .map(|event| event.event_id)
        .collect();
    assert_eq!(stored, acknowledged);
    let records = world.store.list(&Default::default()).await.unwrap();
    assert_eq!(
        records.len(),
        3 * acknowledged.len(),
        "something is half stored"
    );
    world.assert_counted(
        "harvester_webhooks_rejected_total{source=\"hms\",reason=\"not_stored\"} 1",
    );
}

#[tokio::test]
async fn f05_a_commit_that_takes_too_long_is_503_and_the_repeat_is_one_event() {
    let world = World::start_with(SqliteOptions::default(), |intake| {
        intake.commit_timeout = Duration::from_millis(200);
    })
    .await;
    let file =
        sqlx::sqlite::SqliteConnectOptions::new().filename(world.folder.path().join(STORE_FILE));
    let mut other = sqlx::SqliteConnection::connect_with(&file).await.unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE")
        .execute(&mut other)
        .await
        .unwrap();
    assert_eq!(world.post(hms_event("e-1")).await.status, 503);
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    eventually("the store takes events again", async || {
        world.post(hms_event("e-1")).await.status == 200
    })
    .await;
    assert_eq!(world.events().await.len(), 1);
}

#[tokio::test]
async fn f09_a_body_of_five_megabytes_is_413_before_it_is_read() {
    let world = World::start().await;
    let mut stream = world.served.connect().await;
    let head = "POST /webhooks/hms HTTP/1.1\r\nhost: a\r\ncontent-length: 5000000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = read_until(&mut stream, "\r\n\r\n").await;
    assert_eq!(Answer::parse(&answer).status, 413);
    // And one that is sent whole: the sender must see the answer, not a reset.
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(5_000_000));
    assert_eq!(world.post(&large).await.status, 413);
    assert!(world.events().await.is_empty());
}

#[tokio::test]
async fn f09_a_body_that_does_not_say_its_length_is_413_at_the_limit() {
    let world = World::start_with(SqliteOptions::default(), |intake| {
        let hms = intake.sources.remove("hms").unwrap();
        let hms = hms.with_body_limit(10_000);
        intake.sources.insert("hms".to_owned(), hms);
    })
    .await;
    let chunked = |bytes: usize| {
        let mut request =
            b"POST /webhooks/hms HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        for _ in 0..bytes / 1000 {
            request.extend_from_slice(b"3e8\r\n");
            request.extend_from_slice(&[b' '; 1000]);
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"0\r\n\r\n");
        request
    };
    assert_eq!(world.served.exchange(chunked(20_000)).await.status, 413);
    // Blanks only: within the limit, and no JSON.
    assert_eq!(world.served.exchange(chunked(10_000)).await.status, 400);
}

#[tokio::test]
async fn f09_a_body_that_dawdles_is_408() {
    let world = World::start_with(SqliteOptions::default(), |intake| {
        intake.body_timeout = Duration::from_millis(200)
    })
    .await;
    let mut stream = world.served.connect().await;
    let part = "POST /webhooks/hms HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n{\"id\":";
    stream.write_all(part.as_bytes()).await.unwrap();
    let answer = read_until(&mut stream, "\r\n\r\n").await;
    assert_eq!(Answer::parse(&answer).status, 408);
    world.assert_counted("harvester_webhooks_rejected_total{source=\"hms\",reason=\"too_slow\"} 1");
}

#[tokio::test]
async fn f10_dailys_endpoint_check_is_answered_without_a_secret_and_not_stored() {
    let world = World::start().await;
    let check = r#"{"test":"test"}"#;
    let answer = world.post_to("daily", &[], check).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    assert!(world.events().await.is_empty());
    // Nothing else passes without the secret, whatever it looks like.
    let large = format!("{{\"test\":\"test\",\"x\":\"{}\"}}", "x".repeat(10_000));
    for body in [
        "{}",
        "not json",
        r#"{"type":"recording.error","id":"e-1"}"#,
        &large,
    ] {
        assert_eq!(
            world.post_to("daily", &[], body).await.status,
            401,
            "{body}"
        );
    }
    assert_eq!(world.post_to("signed", &[], check).await.status, 401);
    assert!(world.events().await.is_empty());
}

#[tokio::test]
async fn health_is_answered_on_the_public_listener_and_nothing_of_the_operators() {
    let world = World::start().await;
    let get = async |path: &str| {
        world
            .served
            .exchange(request("GET", path, &[], ""))
            .await
            .status
    };
    assert_eq!(get("/healthz").await, 200);
    for path in ["/", "/metrics", "/readyz", "/api/v1/artifacts", "/webhooks"] {
        assert_eq!(get(path).await, 404, "{path}");
    }
}
