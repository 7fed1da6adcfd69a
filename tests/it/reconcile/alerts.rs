//! MeetingBaaS's alerts, and keys that can't read.

use recording_harvester::source::client::local_client;
use serde_json::json;

use crate::harness::api::{Answer, TestApi};
use crate::harness::binary::{self, Running};

const SECRET: &str = "a-secret-of-alert-callbacks";

fn configure(folder: &std::path::Path, api: &TestApi) -> std::path::PathBuf {
    let source = format!(
        "[sources.meetingbaas]\napi_key = \"key\"\nbase_url = \"{}\"\nsecrets = [\"{SECRET}\"]\nreconcile = \"1h\"\n",
        api.url()
    );
    binary::configure(folder, &source)
}

fn script(api: &TestApi, status: u16) {
    let empty = json!({"success": true, "data": [], "bots": []});
    for list in ["/v2/bots", "/bots/bots_with_metadata"] {
        api.script(list, [Answer::json(status, &empty)]);
    }
}

// D3
#[tokio::test(flavor = "multi_thread")]
async fn an_alert_of_meetingbaas_starts_a_walk_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let api = TestApi::start().await;
    script(&api, 200);
    let config = configure(folder.path(), &api);
    let running = Running::start(&config, &[]).await;
    // The walk at the start.
    api.wait_for(2).await;
    let alert = json!({"alert_type": "webhook_delivery_exhausted", "message": "gave up"});
    let client = local_client(None).unwrap();
    let post = client.post(running.webhook("meetingbaas"));
    let post = post.header("x-mb-alert-secret", SECRET);
    let answer = post.body(alert.to_string()).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    api.wait_for(4).await;
    assert_eq!(running.terminate().await, Some(0));
    let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
    assert!(log.contains("webhook_delivery_exhausted"), "{log}");
}

// D3
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_can_only_send_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let api = TestApi::start().await;
    script(&api, 403);
    let config = configure(folder.path(), &api);
    let (printed, _) = binary::finish(&config, &["--json", "doctor"]).await;
    assert!(printed.contains("Sending Access"), "{printed}");
}
