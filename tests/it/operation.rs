//! The real program as its operator sees it: while it stops, and before a bucket that refuses.

use std::time::Duration;

use recording_harvester::source::client::local_client;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use crate::harness::binary::{self, Running};
use crate::harness::origin::{Behaviour, Fault, TestOrigin};
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
