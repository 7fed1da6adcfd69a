//! The operator's listener: who is let in, what is shown, what can be done.

use std::sync::atomic::{AtomicBool, Ordering};

use recording_harvester::clock::ManualClock;
use recording_harvester::error::Class;
use recording_harvester::model::progress::Emit;
use recording_harvester::model::{JobId, ProgressEvent};
use recording_harvester::report::progress::ProgressStream;
use recording_harvester::server::admin::{self, Admin};
use tokio::sync::Notify;

use super::intake::{World, hms_event};
use super::*;
use crate::harness::overdue::settle_without_manifest;

const TOKEN: &str = "canary-token";

/// The operator's listener beside a webhook listener on the same store.
struct Desk {
    world: World,
    served: Served,
    emit: Emit,
    ready: Arc<AtomicBool>,
    bell: Arc<Notify>,
}

impl Desk {
    async fn start(token: Option<&str>) -> Desk {
        Desk::start_with(token, None).await
    }

    /// With a token of this start besides.
    async fn start_with(token: Option<&str>, own_token: Option<&str>) -> Desk {
        let world = World::start().await;
        let progress = ProgressStream::new(64);
        let emit = progress.emit();
        let ready = Arc::new(AtomicBool::new(true));
        let bell = Arc::new(Notify::new());
        let shutdown = CancellationToken::new();
        let limits = HttpLimits {
            write_timeout: Duration::from_millis(500),
            ..HttpLimits::default()
        };
        let router = |address| {
            admin::router(Arc::new(Admin {
                store: world.store.clone(),
                progress,
                metrics: Arc::clone(&world.metrics),
                clock: ManualClock::at("2026-03-02T10:40:00Z".parse().unwrap()),
                token: token.map(Into::into),
                own_token: own_token.map(Into::into),
                address,
                ready: Arc::clone(&ready),
                bell: Arc::clone(&bell),
                shutdown: shutdown.clone(),
            }))
        };
        let served = Served::start_with(limits, shutdown.clone(), router).await;
        Desk {
            served,
            emit,
            ready,
            bell,
            world,
        }
    }

    fn host(&self) -> String {
        self.served.address.to_string()
    }

    /// A request with these headers and no others but a right Host.
    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let host = self.host();
        let mut all = headers.to_vec();
        if !headers.iter().any(|(name, _)| *name == "host") {
            all.push(("host", &host));
        }
        let answer = self
            .served
            .exchange(request(method, path, &all, body))
            .await;
        assert_eq!(
            answer.header("content-security-policy"),
            Some("default-src 'none'; frame-ancestors 'none'")
        );
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("access-control-allow-origin"), None);
        answer
    }

    /// A request of our own command line.
    async fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        self.send(method, path, &[("x-harvester", "1")], body).await
    }

    async fn artifacts(&self, query: &str) -> Vec<serde_json::Value> {
        let answer = self
            .ask("GET", &format!("/api/v1/artifacts{query}"), "")
            .await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["artifacts"].as_array().unwrap().clone()
    }
}

const API: [(&str, &str); 7] = [
    ("GET", "/api/v1/events"),
    ("GET", "/api/v1/artifacts"),
    ("GET", "/api/v1/failures"),
    (
        "GET",
        "/api/v1/recordings/0190c1de-0000-7000-8000-000000000000",
    ),
    ("GET", "/api/v1/progress"),
    ("POST", "/api/v1/retry"),
    ("POST", "/api/v1/cancel"),
];

#[tokio::test]
async fn t22_a_foreign_page_gets_nothing_from_any_route() {
    let desk = Desk::start(None).await;
    let host = desk.host();
    let own_origin = format!("http://{host}");
    for (method, path) in API
        .into_iter()
        .chain([("GET", "/metrics"), ("GET", "/readyz")])
    {
        let is_api = path.starts_with("/api/");
        let foreign: [&[(&str, &str)]; 4] = [
            &[("host", "attacker.example"), ("x-harvester", "1")],
            &[("origin", "https://attacker.example"), ("x-harvester", "1")],
            &[("origin", "null"), ("x-harvester", "1")],
            &[("origin", &own_origin)],
        ];
        for headers in &foreign[..if is_api { 4 } else { 3 }] {
            let answer = desk.send(method, path, headers, r#"{"all":true}"#).await;
            assert_eq!(answer.status, 403, "{method} {path} {headers:?}");
            let json = answer.json();
            assert_eq!(json["error"]["class"], "refused", "{json}");
            assert!(json["error"]["message"].is_string(), "{json}");
        }
    }
    // A preflight is never answered with a permission.
    let preflight = [
        ("origin", own_origin.as_str()),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "x-harvester"),
    ];
    let answer = desk.send("OPTIONS", "/api/v1/retry", &preflight, "").await;
    assert_eq!(answer.status, 403);
}

#[tokio::test]
async fn t24_with_a_token_every_route_but_the_probes_needs_it() {
    let desk = Desk::start(Some(TOKEN)).await;
    let wrong = format!("Bearer {TOKEN}x");
    for (method, path) in API
        .into_iter()
        .chain([("GET", "/metrics"), ("GET", "/nowhere")])
    {
        for presented in [
            None,
            Some(wrong.as_str()),
            Some(TOKEN),
            Some("Bearer "),
            Some("Basic eDp5"),
        ] {
            let mut headers = vec![("x-harvester", "1")];
            headers.extend(presented.map(|value| ("authorization", value)));
            let answer = desk.send(method, path, &headers, "{}").await;
            assert_eq!(answer.status, 401, "{method} {path} {presented:?}");
            assert_eq!(answer.json()["error"]["class"], "denied");
        }
    }
    let right = format!("bearer {TOKEN}");
    let headers = [("x-harvester", "1"), ("authorization", right.as_str())];
    assert_eq!(
        desk.send("GET", "/api/v1/artifacts", &headers, "")
            .await
            .status,
        200
    );
    assert_eq!(desk.send("GET", "/metrics", &headers, "").await.status, 200);
    for path in ["/healthz", "/readyz", "/"] {
        assert_eq!(desk.send("GET", path, &[], "").await.status, 200, "{path}");
    }
}

// S19
#[tokio::test]
async fn on_loopback_other_users_need_the_token_of_this_start() {
    let desk = Desk::start_with(None, Some(TOKEN)).await;
    for (method, path) in API.into_iter().chain([("GET", "/nowhere")]) {
        let answer = desk.send(method, path, &[("x-harvester", "1")], "{}").await;
        assert_eq!(answer.status, 401, "{method} {path}");
    }
    let right = format!("Bearer {TOKEN}");
    let headers = [("x-harvester", "1"), ("authorization", right.as_str())];
    let answer = desk.send("GET", "/api/v1/artifacts", &headers, "").await;
    assert_eq!(answer.status, 200);
    // Counts and probes name nobody.
    for path in ["/healthz", "/readyz", "/", "/metrics"] {
        assert_eq!(desk.send("GET", path, &[], "").await.status, 200, "{path}");
    }

    let desk = Desk::start_with(Some("configured"), Some(TOKEN)).await;
    for (token, status) in [("configured", 200), (TOKEN, 200), ("other", 401)] {
        let token = format!("Bearer {token}");
        let headers = [("x-harvester", "1"), ("authorization", token.as_str())];
        for path in ["/api/v1/artifacts", "/metrics"] {
            let answer = desk.send("GET", path, &headers, "").await;
            assert_eq!(answer.status, status, "{path}");
        }
    }
}

#[tokio::test]
async fn nothing_changes_by_get_and_unknown_pages_are_404() {
    let desk = Desk::start(None).await;
    for path in ["/api/v1/retry", "/api/v1/cancel"] {
        assert_eq!(desk.ask("GET", path, "").await.status, 405, "{path}");
    }
    for path in ["/nowhere", "/api/v1/nowhere", "/webhooks/hms"] {
        let answer = desk.ask("GET", path, "").await;
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.json()["error"]["class"], "gone", "{path}");
    }
}

#[tokio::test]
async fn readiness_follows_its_flag() {
    let desk = Desk::start(None).await;
    assert_eq!(desk.send("GET", "/readyz", &[], "").await.status, 200);
    desk.ready.store(false, Ordering::Release);
    assert_eq!(desk.send("GET", "/readyz", &[], "").await.status, 503);
    assert_eq!(desk.send("GET", "/healthz", &[], "").await.status, 200);
}

// N4
#[tokio::test]
async fn readiness_tells_a_bucket_that_refuses_and_stays_for_the_webhooks() {
    let desk = Desk::start(None).await;
    (desk.emit)(ProgressEvent::BucketRefuses {
        class: Class::UploadDenied,
        message: "check bucket b: NoSuchBucket (status 404)".to_owned(),
        waiting: 3,
        until: "2026-03-02T10:40:42Z".parse().unwrap(),
    });
    let answer = desk.send("GET", "/readyz", &[], "").await;
    assert_eq!(answer.status, 200);
    let told = "refuses (check bucket b: NoSuchBucket (status 404)): 3 waiting, next try in 42";
    let told = format!("ready; bucket {told}");
    assert!(answer.body.starts_with(&told), "{}", answer.body);
    (desk.emit)(ProgressEvent::BucketAccepts);
    let answer = desk.send("GET", "/readyz", &[], "").await;
    assert!(!answer.body.contains("refuses"), "{}", answer.body);
}

#[tokio::test]
async fn what_came_in_is_shown_without_its_secrets() {
    let desk = Desk::start(None).await;
    for id in ["e-1", "e-2"] {
        assert_eq!(desk.world.post(hms_event(id)).await.status, 200);
    }
    assert_eq!(desk.artifacts("").await.len(), 6);
    assert_eq!(
        desk.artifacts("?state=pending&provider=100ms").await.len(),
        6
    );
    assert!(desk.artifacts("?state=failed,expired").await.is_empty());
    assert!(desk.artifacts("?provider=daily").await.is_empty());
    assert!(
        desk.artifacts("?since=2026-03-02T10:40:01Z")
            .await
            .is_empty()
    );

    let events = desk.ask("GET", "/api/v1/events", "").await.json();
    assert_eq!(events["events"][1]["event_id"], "e-2", "{events}");
    let id = events["events"][0]["recording_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let recording = desk
        .ask("GET", &format!("/api/v1/recordings/{id}"), "")
        .await
        .json();
    assert_eq!(recording["recording"]["id"], id.as_str(), "{recording}");
    assert_eq!(recording["artifacts"].as_array().unwrap().len(), 3);
    for missing in ["0190c1de-0000-7000-8000-000000000000", "no-uuid"] {
        let path = format!("/api/v1/recordings/{missing}");
        assert_eq!(desk.ask("GET", &path, "").await.status, 404, "{missing}");
    }
    let metrics = desk.send("GET", "/metrics", &[], "").await;
    assert!(
        metrics.body.contains("harvester_jobs{state=\"pending\"} 6"),
        "{metrics:?}"
    );
}

#[tokio::test]
async fn pages_of_artifacts_lead_to_each_other() {
    let desk = Desk::start(None).await;
    for id in ["e-1", "e-2"] {
        assert_eq!(desk.world.post(hms_event(id)).await.status, 200);
    }
    let mut seen = std::collections::BTreeSet::new();
    let mut query = "?limit=4".to_owned();
    for expected in [4, 2] {
        let page = desk
            .ask("GET", &format!("/api/v1/artifacts{query}"), "")
            .await
            .json();
        let artifacts = page["artifacts"].as_array().unwrap();
        assert_eq!(artifacts.len(), expected);
        seen.extend(artifacts.iter().map(|artifact| artifact["id"].to_string()));
        query = format!(
            "?limit=4&after={}",
            page["next"].as_str().unwrap_or_default()
        );
    }
    assert_eq!(seen.len(), 6);
}

#[tokio::test]
async fn a_query_or_body_that_is_not_understood_is_400_with_a_reason() {
    let desk = Desk::start(None).await;
    for (method, path, body) in [
        ("GET", "/api/v1/artifacts?state=lost", ""),
        ("GET", "/api/v1/artifacts?provider=nobody", ""),
        ("GET", "/api/v1/artifacts?since=yesterday", ""),
        ("GET", "/api/v1/artifacts?sort=key;drop", ""),
        ("POST", "/api/v1/retry", "not json"),
        ("POST", "/api/v1/retry", "{}"),
        ("POST", "/api/v1/retry", r#"{"all":true,"class":"gone"}"#),
        ("POST", "/api/v1/retry", r#"{"class":"lost"}"#),
        ("POST", "/api/v1/retry", r#"{"every":true}"#),
        ("POST", "/api/v1/cancel", r#"{"ids":["no-uuid"]}"#),
        ("POST", "/api/v1/cancel", "{}"),
    ] {
        let answer = desk.ask(method, path, body).await;
        assert_eq!(answer.status, 400, "{method} {path} {body}");
        assert_eq!(answer.json()["error"]["class"], "invalid");
    }
    let large = format!(r#"{{"ids":[],"x":"{}"}}"#, "x".repeat(100_000));
    assert_eq!(desk.ask("POST", "/api/v1/cancel", &large).await.status, 413);
}

#[tokio::test]
async fn cancelled_work_is_put_back_by_a_retry_that_wakes_the_worker() {
    let desk = Desk::start(None).await;
    assert_eq!(desk.world.post(hms_event("e-1")).await.status, 200);
    let ids: Vec<_> = desk
        .artifacts("")
        .await
        .iter()
        .map(|artifact| artifact["id"].clone())
        .collect();
    let body = serde_json::json!({ "ids": ids }).to_string();
    let cancelled = desk.ask("POST", "/api/v1/cancel", &body).await.json();
    assert_eq!(cancelled["cancelled"].as_array().unwrap().len(), 3);
    assert_eq!(desk.artifacts("?state=cancelled").await.len(), 3);
    // All that failed: what an operator cancelled stays so.
    let none = desk
        .ask("POST", "/api/v1/retry", r#"{"all":true}"#)
        .await
        .json();
    assert_eq!(none["retried"], serde_json::json!([]));
    let retried = desk.ask("POST", "/api/v1/retry", &body).await.json();
    assert_eq!(retried["retried"][0]["state"], "pending", "{retried}");
    tokio::time::timeout(PATIENCE, desk.bell.notified())
        .await
        .expect("the worker is told");
}

#[tokio::test]
async fn failures_are_the_providers_and_ours() {
    let desk = Desk::start(None).await;
    let mut unusable: serde_json::Value = serde_json::from_str(&hms_event("e-1")).unwrap();
    unusable["data"]["recording_presigned_url"] = "ftp://example.com/rec.mp4".into();
    assert_eq!(desk.world.post(unusable.to_string()).await.status, 200);
    let failed = r#"{"id":"e-2","type":"recording.failed","timestamp":"2026-03-02T10:33:20Z",
        "data":{"room_id":"r","session_id":"s","error":"upload","error_type":"CLOUD_ACCESS_ERROR"}}"#;
    assert_eq!(desk.world.post(failed).await.status, 200);
    let failures = desk.ask("GET", "/api/v1/failures", "").await.json();
    assert_eq!(
        failures["failures"][0]["name"], "recording.mp4",
        "{failures}"
    );
    assert!(failures["failures"][0]["action"].is_string(), "{failures}");
    assert_eq!(
        failures["provider_failures"][0]["class"], "provider_failed",
        "{failures}"
    );
    let elsewhere = desk
        .ask("GET", "/api/v1/failures?provider=daily", "")
        .await
        .json();
    assert_eq!(elsewhere["failures"], serde_json::json!([]));
    assert_eq!(elsewhere["provider_failures"], serde_json::json!([]));
}

fn bytes(done: u64) -> ProgressEvent {
    ProgressEvent::Bytes {
        id: JobId(uuid::Uuid::nil()),
        done,
        total: None,
    }
}

/// The stream after its first event, and that event: somebody has to be under way.
async fn open_stream(desk: &Desk, mut stream: TcpStream) -> (TcpStream, String) {
    let host = desk.host();
    // With the end of the answer the connection ends too.
    let head = format!(
        "GET /api/v1/progress HTTP/1.1\r\nhost: {host}\r\nx-harvester: 1\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let begun = read_until(&mut stream, "\"bytes\"").await;
    assert!(begun.starts_with("HTTP/1.1 200"), "{begun}");
    assert!(begun.contains("content-type: text/event-stream"), "{begun}");
    assert!(!begun.contains(CANARY), "{begun}");
    (stream, begun)
}

/// Lets a transfer begin, as the worker tells it; answers with its id.
async fn begin_transfer(desk: &Desk) -> JobId {
    assert_eq!(desk.world.post(hms_event("e-1")).await.status, 200);
    let record = desk
        .world
        .store
        .list(&Default::default())
        .await
        .unwrap()
        .remove(0);
    let id = record.id;
    (desk.emit)(ProgressEvent::Started {
        record: record.into(),
    });
    id
}

#[tokio::test]
async fn the_progress_stream_begins_with_what_is_under_way_and_ends_at_shutdown() {
    let mut desk = Desk::start(None).await;
    let id = begin_transfer(&desk).await;
    let (mut stream, begun) = open_stream(&desk, desk.served.connect().await).await;
    assert!(begun.contains(r#"data: {"type":"started""#), "{begun}");
    assert!(begun.contains(&id.to_string()), "{begun}");
    (desk.emit)(bytes(4711));
    read_until(&mut stream, "4711").await;
    desk.served.shutdown.cancel();
    Answer::read_rest(&mut stream).await;
    desk.served.ended().await;
}

#[tokio::test]
async fn f93_a_reader_that_stops_reading_is_dropped_and_slows_nobody() {
    let desk = Desk::start(None).await;
    begin_transfer(&desk).await;
    let narrow = tokio::net::TcpSocket::new_v4().unwrap();
    narrow.set_recv_buffer_size(16 * 1024).unwrap();
    let narrow = narrow.connect(desk.served.address).await.unwrap();
    let (mut lazy, _) = open_stream(&desk, narrow).await;
    let (mut eager, _) = open_stream(&desk, desk.served.connect().await).await;
    let weighty = |number: u32| ProgressEvent::Retrying {
        id: JobId(uuid::Uuid::nil()),
        class: Class::Unreachable,
        message: format!("{} number {number}.", "x".repeat(16 * 1024)),
        at: "2026-03-02T10:40:00Z".parse().unwrap(),
    };
    // Far more bytes than the sockets' buffers hold, never more events at once than the channel holds.
    let last = 640;
    for number in 1..=last {
        (desk.emit)(weighty(number));
        if number % 32 == 0 {
            read_until(&mut eager, &format!("number {number}.")).await;
        }
    }
    let rest = Answer::read_rest(&mut lazy).await;
    assert!(
        !rest.contains(&format!("number {last}.")),
        "nobody was dropped"
    );
    (desk.emit)(bytes(4711));
    read_until(&mut eager, "4711").await;
}

// R6
#[tokio::test]
async fn a_manifest_that_could_not_be_written_for_an_hour_is_told_with_the_failures() {
    let desk = Desk::start(None).await;
    assert_eq!(desk.world.post(hms_event("e-1")).await.status, 200);
    let now = "2026-03-02T10:40:00Z".parse().unwrap();
    let hour = jiff::SignedDuration::from_hours(1);
    let recording = settle_without_manifest(&*desk.world.store, now, hour).await;
    let told = desk.ask("GET", "/api/v1/failures", "").await.json();
    let manifest = &told["manifests"][0];
    assert_eq!(
        manifest["recording"]["id"],
        recording.to_string().as_str(),
        "{told}"
    );
    assert_eq!(manifest["class"], "upload_denied", "{told}");
    assert_eq!(manifest["failing_since"], "2026-03-02T09:40:00Z", "{told}");
    let elsewhere = "/api/v1/failures?provider=daily";
    let elsewhere = desk.ask("GET", elsewhere, "").await.json();
    assert_eq!(elsewhere["manifests"], serde_json::json!([]));
    let metrics = desk.send("GET", "/metrics", &[], "").await;
    let metrics = metrics.body;
    assert!(
        metrics.contains("harvester_manifests_overdue 1"),
        "{metrics}"
    );
}
