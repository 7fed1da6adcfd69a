//! The real program as its operator sees it: while it stops, and before a bucket that refuses.

use std::path::Path;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use recording_harvester::clock::{Clock as _, SystemClock};
use recording_harvester::ingest::{self, Delivery};
use recording_harvester::model::{Layout, Provider, key};
use recording_harvester::source::client::local_client;
use recording_harvester::store::sqlite::SqliteStore;
use recording_harvester::store::*;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};

use crate::harness::binary::{self, Running};
use crate::harness::origin::{Behaviour, Fault, TestOrigin};
use crate::harness::overdue::settle_without_manifest;
use crate::harness::s3::TestS3;

const PATIENCE: Duration = Duration::from_secs(60);

/// An event with one transcript-like file at the origin.
fn event(id: &str, url: &str) -> String {
    json!({
        "version": "2.0", "id": id, "type": "recording.success",
        "timestamp": "2026-03-02T10:33:20Z",
        "data": { "session_id": id, "chat_recording_presigned_url": url },
    })
    .to_string()
}

async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let wait = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, wait).await;
    assert!(waited.is_ok(), "never: {what}");
}

// N1
#[tokio::test(flavor = "multi_thread")]
async fn webhooks_are_taken_in_while_a_stop_waits_for_a_transfer() {
    let folder = tempfile::tempdir().unwrap();
    let config = binary::configure(folder.path(), "");
    let origin = TestOrigin::start().await;
    let csv = "name,message\n".repeat(400);
    let slow = Fault::Trickle(csv.len() / 40, Duration::from_millis(100));
    origin.serve("/slow.csv", csv.clone(), Behaviour::fault(slow));
    origin.serve("/next.csv", csv, Behaviour::default());

    let running = Running::start(&config, &[]).await;
    let client = local_client(Some(Duration::from_secs(10))).unwrap();
    let url = running.webhook("100ms");
    let post = async |id: &str, path: &str| {
        let body = event(id, &origin.url(path));
        let answer = client.post(&url).body(body).send().await;
        answer.map(|answer| answer.status().as_u16())
    };
    assert_eq!(post("slow", "/slow.csv").await.unwrap(), 200);
    until("the slow file is asked for", async || {
        !origin.requests("/slow.csv").is_empty()
    })
    .await;
    running.signal_term();
    let log = folder.path().join("log");
    until("it says that it ends", async || {
        let log = std::fs::read_to_string(&log).unwrap_or_default();
        log.contains("ending cleanly")
    })
    .await;
    let answered = post("next", "/next.csv").await;
    assert_eq!(answered.expect("the listener is open"), 200);
    assert!(
        origin.requests("/next.csv").is_empty(),
        "it takes no new work"
    );
    assert_eq!(running.ended().await, Some(0));

    let state = async |session: &str| {
        let records = binary::records(&config).await;
        let is_it = |record: &&Value| {
            record["name"] == "chat.csv"
                && record["key"]
                    .as_str()
                    .unwrap()
                    .contains(&format!("/{session}/"))
        };
        let found = records.iter().find(is_it).unwrap();
        found["state"].as_str().unwrap().to_owned()
    };
    assert_eq!(state("slow").await, "archived");
    assert_eq!(state("next").await, "pending");
    let again = Running::start(&config, &[]).await;
    until("what came in at the end is archived", async || {
        state("next").await == "archived"
    })
    .await;
    assert_eq!(again.terminate().await, Some(0));
}

// S19: every user of the machine could retry, cancel and read all records.
#[tokio::test(flavor = "multi_thread")]
async fn the_api_of_a_worker_on_loopback_wants_the_token_that_lies_in_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let config = binary::configure(folder.path(), "");
    let running = Running::start(&config, &[]).await;
    let client = local_client(Some(Duration::from_secs(10))).unwrap();
    let url = format!("http://{}/api/v1/artifacts", running.admin);
    let ask = async |token: Option<&str>| {
        let request = client.get(&url).header("x-harvester", "1");
        let request = match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        request.send().await.unwrap().status().as_u16()
    };
    let token = running.admin_token(&config);
    assert_eq!(ask(Some(&token)).await, 200);
    assert_eq!(ask(Some("another")).await, 401);
    assert_eq!(ask(None).await, 401);
    assert_eq!(running.terminate().await, Some(0));
}

// S19: neither setting was there.
#[tokio::test(flavor = "multi_thread")]
async fn downloads_keep_to_the_configured_bandwidth_and_to_the_bytes_of_a_day() {
    let folder = tempfile::tempdir().unwrap();
    let limits = "[limits]\nbandwidth = \"64 KiB\"\nmax_per_day = \"100 KiB\"\n";
    let config = binary::configure(folder.path(), limits);
    let origin = TestOrigin::start().await;
    let csv = "name,message\n".repeat(16_000);
    let running = Running::start(&config, &[]).await;
    let client = local_client(Some(Duration::from_secs(10))).unwrap();
    let file_of = async |id: &str| {
        let records = binary::records(&config).await;
        let is_it = |record: &&Value| {
            let key = record["key"].as_str().unwrap();
            record["name"] == "chat.csv" && key.contains(&format!("/{id}/"))
        };
        records.iter().find(is_it).unwrap().clone()
    };
    let post = async |id: &str, sent_at: Timestamp| {
        let path = format!("/{id}.csv");
        origin.serve(&path, csv.clone(), Behaviour::default());
        let at = sent_at.to_string();
        let body = event(id, &origin.url(&path)).replace("2026-03-02T10:33:20Z", &at);
        let answer = client.post(running.webhook("100ms")).body(body).send();
        assert_eq!(answer.await.unwrap().status().as_u16(), 200);
    };
    let began = Instant::now();
    post("first", SystemClock.now()).await;
    until("the first one is archived", async || {
        file_of("first").await["state"] == "archived"
    })
    .await;
    // Three seconds' worth; for what comes after the last chunk nobody waits.
    assert!(
        began.elapsed() > Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
    // The lifetime that is documented for the URL of the second one is over; but only its origin knows that.
    let days_ago = SystemClock.now() - SignedDuration::from_hours(72);
    for (id, sent_at) in [("second", days_ago), ("third", SystemClock.now())] {
        post(id, sent_at).await;
        until("it was tried", async || {
            file_of(id).await["message"].is_string()
        })
        .await;
        let held = file_of(id).await;
        let stands = (held["state"].as_str(), held["class"].as_str());
        assert_eq!(stands, (Some("pending"), Some("throttled")), "{held}");
        let why = held["message"].to_string();
        assert!(why.contains("limits.max_per_day"), "{held}");
        assert!(origin.requests(&format!("/{id}.csv")).is_empty());
    }
    assert_eq!(running.terminate().await, Some(0));
}

// N19
#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_a_bucket_refuses_says_whether_a_worker_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let s3 = TestS3::start().await;
    let config = binary::configure(folder.path(), "");
    let text = std::fs::read_to_string(&config).unwrap();
    let bucket = format!(
        "[archive]\nbucket = \"forgotten\"\nregion = \"us-east-1\"\nendpoint = \"{}\"\n",
        s3.endpoint()
    );
    std::fs::write(&config, text.replace("[archive]\n", &bucket)).unwrap();
    let credentials = s3.credentials();
    let env = [
        ("AWS_ACCESS_KEY_ID", credentials.access_key.as_str()),
        (
            "AWS_SECRET_ACCESS_KEY",
            credentials.secret_key.expose_secret(),
        ),
    ];
    let origin = TestOrigin::start().await;
    origin.serve("/a.csv", "a,b\n1,2\n", Behaviour::default());
    let url = origin.url("/a.csv");
    let (_, code) = binary::finish_with(&config, &["archive", &url], &env).await;
    let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("no worker is running"), "{log}");
    assert!(!log.contains("a running worker goes on"), "{log}");
}

/// Leaves a database with a WAL of `bytes` that nobody has copied into it, as a crash does.
async fn leave_wal(database: &Path, bytes: u64) {
    let folder = tempfile::tempdir().unwrap();
    let before = folder.path().join("harvester.db");
    SqliteStore::open(&before).await.unwrap().close().await;
    let options = SqliteConnectOptions::new().filename(&before);
    let mut conn = options.connect().await.unwrap();
    let statements = [
        "PRAGMA wal_autocheckpoint = 0".to_owned(),
        "CREATE TABLE planted (text TEXT)".to_owned(),
        format!("INSERT INTO planted VALUES (hex(zeroblob({})))", bytes / 2),
    ];
    for statement in statements {
        let statement = sqlx::AssertSqlSafe(statement);
        sqlx::query(statement).execute(&mut conn).await.unwrap();
    }
    let beside = |path: &Path| path.with_file_name("harvester.db-wal");
    std::fs::create_dir_all(database.parent().unwrap()).unwrap();
    std::fs::copy(&before, database).unwrap();
    std::fs::copy(beside(&before), beside(database)).unwrap();
    conn.close().await.unwrap();
}

// R12: what is only in the WAL may be lost with the next crash, so nobody is answered before it is copied.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_cannot_copy_what_a_crash_has_left_is_refused_and_loses_nothing() {
    const WAL_BYTES: u64 = 8_000_000;
    let folder = tempfile::tempdir().unwrap();
    let config = binary::configure(folder.path(), "");
    let database = folder.path().join("data/harvester.db");
    leave_wal(&database, WAL_BYTES).await;
    let before = std::fs::metadata(&database).unwrap().len();
    assert!(before < WAL_BYTES / 4, "{before}");
    let mut command = binary::with_file_size(&config, WAL_BYTES / 4, &["run"]);
    let ended = tokio::time::timeout(PATIENCE, command.status()).await;
    let ended = ended.expect("it does not go on").unwrap();
    let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
    assert!(ended.code().is_some_and(|code| code != 0), "{ended}: {log}");
    assert!(log.contains("open the store"), "{log}");

    let running = Running::start(&config, &[]).await;
    assert_eq!(running.terminate().await, Some(0));
    let options = SqliteConnectOptions::new().filename(&database);
    let mut conn = options.connect().await.unwrap();
    let query = sqlx::query_scalar("SELECT length(text) FROM planted");
    let found: i64 = query.fetch_one(&mut conn).await.unwrap();
    assert_eq!(u64::try_from(found).unwrap(), WAL_BYTES);
    conn.close().await.unwrap();
}

/// Records an event with one file as if it had come in then.
async fn record(store: &SqliteStore, id: &str, now: Timestamp) {
    let body = event(id, "https://example.com/a.csv").into_bytes();
    let delivery = Delivery {
        body: &body,
        id_header: None,
        received_at: now,
    };
    let parsed = ingest::parse(Provider::Hms, &delivery).unwrap();
    let layout = Layout::new("", key::DEFAULT_TEMPLATE).unwrap();
    let new = NewEvent::new("100ms", parsed, body.into(), &layout, now);
    store.record(new).await.unwrap();
}

// S9: nothing ever left the store.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_removes_what_is_older_than_store_retention_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let config = binary::configure(folder.path(), "");
    let database = folder.path().join("data/harvester.db");
    std::fs::create_dir_all(database.parent().unwrap()).unwrap();
    let store = SqliteStore::open(&database).await.unwrap();
    let now = SystemClock.now();
    for (id, age_days) in [("old", 10), ("young", 5)] {
        let then = now - SignedDuration::from_hours(24 * age_days);
        record(&store, id, then).await;
        let recording = settle_without_manifest(&store, then, SignedDuration::ZERO).await;
        let contents = store.contents(recording).await.unwrap().unwrap();
        let sealed = store.sealed(recording, contents.generation, Some("etag"), None);
        sealed.await.unwrap();
    }
    store.close().await;
    let kept = async || {
        let records = binary::records(&config).await;
        let keys = records.iter().map(|record| record["key"].to_string());
        let is_of = |id: &str, key: &String| key.contains(&format!("/{id}/"));
        let (old, young): (Vec<_>, Vec<_>) = keys.partition(|key| is_of("old", key));
        (old.len(), young.len())
    };
    assert_eq!(kept().await, (2, 2));
    let forever = Running::start(&config, &[]).await;
    assert_eq!(forever.terminate().await, Some(0));
    assert_eq!(kept().await, (2, 2), "unless it is asked for");
    let running = Running::start(&config, &["--set", "store.retention=7d"]).await;
    until("the old recording is gone", async || kept().await.0 == 0).await;
    assert_eq!(kept().await, (0, 2));
    assert_eq!(running.terminate().await, Some(0));
}

// R6
#[tokio::test(flavor = "multi_thread")]
async fn failures_tells_of_a_manifest_that_could_not_be_written_for_an_hour() {
    let folder = tempfile::tempdir().unwrap();
    let config = binary::configure(folder.path(), "");
    let database = folder.path().join("data/harvester.db");
    std::fs::create_dir_all(database.parent().unwrap()).unwrap();
    let store = SqliteStore::open(&database).await.unwrap();
    let now = SystemClock.now();
    record(&store, "e-1", now).await;
    let hour = SignedDuration::from_hours(1);
    let recording = settle_without_manifest(&store, now, hour).await;
    store.close().await;
    let (printed, code) = binary::finish(&config, &["--json", "failures"]).await;
    let told: Value = serde_json::from_str(&printed).unwrap();
    let group = &told["groups"][0];
    assert_eq!(
        (code, &group["class"], &group["count"]),
        (Some(0), &json!("upload_denied"), &json!(1)),
        "{told}"
    );
    assert!(group["action"].is_string(), "{told}");
    let manifest = &group["manifests"][0];
    assert_eq!(manifest["recording"]["id"], json!(recording.to_string()));
    assert!(manifest["failing_since"].is_string(), "{told}");
    let (printed, _) = binary::finish(&config, &["failures"]).await;
    let line = format!("recording {recording}  100ms  no manifest since ");
    assert!(printed.contains(&line), "{printed}");
    assert!(
        printed.contains("403 AccessDenied") && !printed.contains('\u{1b}'),
        "{printed}"
    );
}
