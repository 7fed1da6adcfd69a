//! Events that nobody can make out: told, counted, listed, and read again after a change.

use recording_harvester::source::client::local_client;
use serde_json::Value;

use crate::harness::binary::{self, Running};

const DAILY: &str = r#"{"version":"1.0.0","type":"recording.ready-to-download","id":"rec-1","payload":{"recording_id":"r-1","room_name":"standup"},"event_ts":1772447600}"#;

const NEW_TYPE: &str =
    r#"{"type":"file.ready","id":"e-1","recording":"r-1","link":"http://127.0.0.1:1/a.mp4?id=1"}"#;

/// A definition that knows events of `types`.
fn definition(types: &str) -> String {
    format!(
        "provider = \"acme\"\n[event]\ntype = \"$.type\"\nid = \"$.id\"\n[recording]\nrecording_id = \"$.recording\"\n\
         [[artifacts]]\ntypes = [\"{types}\"]\nurl = \"$.link\"\nkind = \"video\"\nformat = \"mp4\"\n"
    )
}

async fn post(running: &Running, source: &str, body: &str) {
    let client = local_client(None).unwrap();
    let request = client.post(running.webhook(source)).body(body.to_owned());
    assert_eq!(request.send().await.unwrap().status(), 200);
}

async fn listed(config: &std::path::Path) -> Vec<Value> {
    let (printed, code) = binary::finish(config, &["--json", "events", "--unknown"]).await;
    assert_eq!(code, Some(0), "{printed}");
    serde_json::from_str(&printed).unwrap()
}

// N3
#[tokio::test(flavor = "multi_thread")]
async fn an_event_at_a_source_of_another_provider_is_told_counted_and_listed() {
    let folder = tempfile::tempdir().unwrap();
    let sources = "[sources.rooms]\nprovider = \"100ms\"\ninsecure = true\n[sources.eu]\nprovider = \"daily\"\ninsecure = true\n";
    let config = binary::configure(folder.path(), sources);
    let running = Running::start(&config, &[]).await;
    post(&running, "rooms", DAILY).await;
    let client = local_client(None).unwrap();
    let get = async |path: &str| {
        let url = format!("http://{}{path}", running.admin);
        let token = format!("data/admin-{}.token", running.admin.port());
        let token = std::fs::read_to_string(folder.path().join(token)).unwrap();
        let request = client.get(url).header("x-harvester", "1");
        let request = request.header("authorization", format!("Bearer {}", token.trim()));
        request.send().await.unwrap().text().await.unwrap()
    };
    let metrics = get("/metrics").await;
    assert!(
        metrics.contains("harvester_events_misdirected_total{source=\"rooms\"} 1"),
        "{metrics}"
    );
    let answered: Value = serde_json::from_str(&get("/api/v1/events?class=unknown").await).unwrap();
    assert_eq!(running.terminate().await, Some(0));
    let expected = "looks like daily; post it to /webhooks/eu";
    let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
    let warning = log.lines().find(|line| line.contains(expected));
    assert!(warning.is_some_and(|line| line.contains("WARN")), "{log}");
    let events = listed(&config).await;
    assert_eq!(events.len(), 1);
    assert_eq!(answered["events"], Value::Array(events.clone()));
    assert_eq!(
        (&events[0]["source"], &events[0]["alert"]),
        (&"rooms".into(), &expected.into())
    );
    let (printed, _) = binary::finish(&config, &["--json", "doctor"]).await;
    assert!(
        printed.contains("1 events came in") || printed.contains("store.unknown_events"),
        "{printed}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loss_that_an_event_brings_is_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let sources = "[sources.100ms]\ninsecure = true\n";
    let config = binary::configure(folder.path(), sources);
    let running = Running::start(&config, &[]).await;
    let failed = include_str!("../../../fixtures/events/100ms/recording.failed.json");
    post(&running, "100ms", failed).await;
    // Its URLs are placeholders.
    let unusable = include_str!("../../../fixtures/events/100ms/recording.success.json");
    post(&running, "100ms", unusable).await;
    assert_eq!(running.terminate().await, Some(0));
    let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
    for event_type in ["\"recording.failed\"", "\"recording.success\""] {
        let line = log.lines().find(|line| line.contains(event_type));
        let line = line.unwrap_or_else(|| panic!("{log}"));
        assert!(
            line.contains("WARN") && line.contains("harvester failures"),
            "{line}"
        );
    }
}

// N3
#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_understood_is_read_again_after_a_change_and_once() {
    let folder = tempfile::tempdir().unwrap();
    let source =
        "[sources.acme]\nprovider = \"custom\"\ndefinition = \"acme.toml\"\ninsecure = true\n";
    let write = |types: &str| {
        std::fs::write(folder.path().join("acme.toml"), definition(types)).unwrap();
    };
    write("file.old");
    let config = binary::configure(folder.path(), source);
    let running = Running::start(&config, &[]).await;
    post(&running, "acme", NEW_TYPE).await;
    assert_eq!(running.terminate().await, Some(0));
    assert_eq!(listed(&config).await.len(), 1);
    let retry = async || {
        let (printed, code) = binary::finish(&config, &["--json", "retry", "--unknown"]).await;
        assert_eq!(code, Some(0));
        let records: Vec<Value> = serde_json::from_str(&printed).unwrap();
        records
    };
    assert!(retry().await.is_empty(), "nothing has changed yet");
    assert_eq!(listed(&config).await.len(), 1);

    write("file.ready");
    let records = retry().await;
    let mut names: Vec<_> = records
        .iter()
        .map(|record| record["name"].as_str().unwrap())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["event-e-1.json", "recording.mp4"]);
    assert!(listed(&config).await.is_empty());
    assert!(retry().await.is_empty());

    // The provider sends it again: it is known.
    let running = Running::start(&config, &[]).await;
    post(&running, "acme", NEW_TYPE).await;
    assert_eq!(running.terminate().await, Some(0));
    assert_eq!(binary::records(&config).await.len(), 2);
}
