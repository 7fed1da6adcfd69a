//! The real program, and a provider that signs the URLs of an event anew when it sends that again under the same id.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use recording_harvester::clock::{Clock as _, SystemClock};
use recording_harvester::source::client::local_client;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use crate::harness::binary::{self, Running};
use crate::harness::daily::mp4;
use crate::harness::origin::{Behaviour, TestOrigin};
use crate::harness::s3::{BUCKET, TestS3};

const PATIENCE: Duration = Duration::from_secs(60);

/// A URL of `path` that S3 would take for an hour from `signed_at`.
fn signed(url: &str, signed_at: Timestamp) -> String {
    let date = signed_at.strftime("%Y%m%dT%H%M%SZ");
    format!(
        "{url}?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDEXAMPLE%2F20260302%2Fus-east-1%2Fs3%2Faws4_request\
         &X-Amz-Date={date}&X-Amz-Expires=3600&X-Amz-SignedHeaders=host&X-Amz-Signature={:064x}",
        signed_at.as_second()
    )
}

fn event_of_100ms(video: &str) -> String {
    json!({
        "version": "2.0", "id": "event-1", "type": "recording.success",
        "timestamp": "2026-03-02T10:33:20Z",
        "data": {
            "room_id": "room-1", "session_id": "session-1", "recording_id": "recording-1",
            "recording_path": "s3://b/v.mp4", "recording_presigned_url": video,
        },
    })
    .to_string()
}

fn event_of_meetingbaas(video: &str) -> String {
    json!({
        "event": "bot.completed",
        "data": {
            "bot_id": "bot-1", "event_id": null, "sent_at": "2026-03-02T10:33:20Z",
            "video": video, "participants": [], "speakers": [],
            "joined_at": "2026-03-02T10:00:00Z", "exited_at": "2026-03-02T10:30:00Z",
        },
        "extra": null,
    })
    .to_string()
}

async fn until<T>(what: &str, look: impl AsyncFn() -> Option<T>) -> T {
    let wait = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, wait).await;
    waited.unwrap_or_else(|_| panic!("never: {what}"))
}

/// A webhook whose URL dies, its loss, the same id with the same URL, and with a fresh one.
async fn is_woken(source: &str, headers: &[(&str, &str)], event: fn(&str) -> String) {
    let folder = tempfile::tempdir().unwrap();
    let s3 = TestS3::start().await;
    let config = binary::configure(folder.path(), "");
    let text = std::fs::read_to_string(&config).unwrap();
    let bucket = format!(
        "[archive]\nbucket = \"{BUCKET}\"\nregion = \"us-east-1\"\nendpoint = \"{}\"\n",
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
    origin.serve("/v.mp4", mp4("once"), Behaviour::status(403));

    let running = Running::start_with(&config, &[], &env).await;
    let client = local_client(Some(PATIENCE)).unwrap();
    let post = async |url: &str| {
        let mut request = client.post(running.webhook(source)).body(event(url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        assert_eq!(request.send().await.unwrap().status().as_u16(), 200);
    };
    let objects = s3.client();
    let document = async |name: &str| -> Option<Value> {
        let listed = objects.list_objects_v2().bucket(BUCKET).send().await;
        let listed = listed.unwrap().contents.unwrap_or_default();
        let keys = listed.iter().filter_map(|object| object.key());
        let key = keys.into_iter().find(|key| key.ends_with(name))?;
        let object = objects.get_object().bucket(BUCKET).key(key).send().await;
        let bytes = object.ok()?.body.collect().await.unwrap().into_bytes();
        Some(serde_json::from_slice(&bytes).unwrap())
    };
    // Only what is in the bucket is in the manifest.
    let video_of = |manifest: &Value| {
        let artifacts = manifest["artifacts"].as_array().unwrap().clone();
        let mut artifacts = artifacts.into_iter();
        artifacts.find(|record| record["kind"] == "video")
    };

    let now = SystemClock.now();
    let dead = signed(&origin.url("/v.mp4"), now - SignedDuration::from_hours(2));
    post(&dead).await;
    let report = until("the loss is reported", async || {
        document("report.json").await
    })
    .await;
    assert!(report.to_string().contains("recording.mp4"), "{report}");
    let asked = origin.requests("/v.mp4").len();

    // The very same again is hopeless.
    post(&dead).await;
    let records = binary::records(&config).await;
    let video = records.iter().find(|record| record["kind"] == "video");
    assert_eq!(video.unwrap()["state"], "expired", "{records:#?}");

    let content = mp4("once");
    origin.serve("/v.mp4", content.clone(), Behaviour::default());
    post(&signed(&origin.url("/v.mp4"), now)).await;
    let video = until("the manifest tells of the video", async || {
        video_of(&document("manifest.json").await?)
    })
    .await;
    assert_eq!(video["state"], "archived", "{video:#}");
    assert_eq!(video["size_bytes"], content.len(), "{video:#}");
    until("the loss is withdrawn", async || {
        let report = document("report.json").await?;
        (report["failures"] == json!([])).then_some(())
    })
    .await;
    let key = video["key"].as_str().unwrap();
    let object = objects.get_object().bucket(BUCKET).key(key).send().await;
    let bytes = object.unwrap().body.collect().await.unwrap().into_bytes();
    assert!(bytes == content, "other bytes");
    let fresh = origin.requests("/v.mp4").len();
    assert!(fresh > asked, "the fresh URL was asked");
    let (printed, _) = binary::finish(&config, &["--json", "failures"]).await;
    assert!(!printed.contains("recording.mp4"), "{printed}");
    assert_eq!(running.terminate().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_100ms_that_comes_again_with_a_fresh_url_saves_what_was_lost() {
    is_woken("100ms", &[], event_of_100ms).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_meetingbaas_that_comes_again_with_a_fresh_url_saves_what_was_lost() {
    let id = [("svix-id", "msg_1")];
    is_woken("meetingbaas", &id, event_of_meetingbaas).await;
}
