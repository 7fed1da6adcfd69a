//! No signed query, token or key is ever shown: a run of the real program with canaries in every place
//! that holds a secret, and then a search through everything that it wrote.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use recording_harvester::clock::{Clock, SystemClock};
use recording_harvester::ingest::{self, Delivery};
use recording_harvester::model::api::{ApiResponse, Credentials};
use recording_harvester::model::{Layout, Lookup, Provider};
use recording_harvester::object::s3::{S3Settings, StaticCredentials};
use recording_harvester::signed_url::SignedUrl;
use recording_harvester::source::client::local_client;
use recording_harvester::source::{OpenRequest, Waits};
use recording_harvester::store::NewEvent;
use secrecy::SecretString;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::api::{Answer, TestApi};
use crate::harness::binary::{self, Running};
use crate::harness::origin::{Behaviour, Fault, TestOrigin};
use crate::harness::s3;

/// In every secret here, and in nothing else.
const CANARY: &str = "canary";

/// Until every artifact was tried at least once.
const PATIENCE: Duration = Duration::from_secs(60);

/// The keys of the bucket.
const KEYS: [(&str, &str); 4] = [
    ("AWS_ACCESS_KEY_ID", "CANARYACCESSKEY"),
    ("AWS_SECRET_ACCESS_KEY", "canary-secret-access-key"),
    ("RUST_LOG", "trace"),
    ("RUST_BACKTRACE", "full"),
];

struct World {
    folder: TempDir,
    config: PathBuf,
    origin: TestOrigin,
    api: TestApi,
    now: Timestamp,
}

impl World {
    async fn new(endpoint: &str) -> World {
        let folder = tempfile::tempdir().unwrap();
        let api = TestApi::start().await;
        let api_url = api.url();
        let more = format!(
            r#"
[sources.100ms]
header = "X-Passcode"
secrets = ["canary-old-secret", "canary-webhook-secret"]
[sources.refreshed]
provider = "100ms"
header = "X-Passcode"
secrets = ["canary-webhook-secret"]
api_key = "canary-management-token"
api_secret = "canary-app-secret"
base_url = "{api_url}"
[sources.daily]
header = "X-Passcode"
secrets = ["canary-webhook-secret"]
api_key = "canary-daily-key"
base_url = "{api_url}"
[sources.meetingbaas]
secrets = ["canary-webhook-secret"]
"#
        );
        let config = binary::configure(folder.path(), &more);
        let text = std::fs::read_to_string(&config).unwrap();
        let bucket = format!(
            "[archive]\nbucket = \"{}\"\nendpoint = \"{endpoint}\"\nregion = \"us-east-1\"",
            s3::BUCKET
        );
        let text = text
            .replace("[archive]", &bucket)
            .replace("[admin]", "[admin]\ntoken = \"canary-admin-token\"");
        std::fs::write(&config, text).unwrap();
        let world = World {
            folder,
            config,
            origin: TestOrigin::start().await,
            api,
            now: SystemClock.now(),
        };
        world.serve();
        world
    }

    /// `path` at the origin, signed as S3 does and living for another `seconds`.
    fn signed(&self, path: &str, seconds: i64) -> String {
        self.signed_at(&self.origin.url(path), seconds)
    }

    fn signed_at(&self, url: &str, seconds: i64) -> String {
        let since = self.now + SignedDuration::from_secs(seconds - 3600);
        let date = since.strftime("%Y%m%dT%H%M%SZ");
        format!(
            "{url}?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=CANARYCREDENTIAL%2F20260302%2Fus-east-1%2Fs3%2Faws4_request\
             &X-Amz-Date={date}&X-Amz-Expires=3600&X-Amz-Security-Token=canary-session-token&X-Amz-SignedHeaders=host\
             &X-Amz-Signature=canary-signature"
        )
    }

    fn serve(&self) {
        let media = include_bytes!("../../fixtures/media/recording.mp4");
        let origin = &self.origin;
        origin.serve("/good.mp4", &media[..], Behaviour::default());
        let echo = "<Error><Code>SignatureDoesNotMatch</Code><SignatureProvided>canary-signature</SignatureProvided>\
                    <StringToSign>https://x/?X-Amz-Signature=canary-signature</StringToSign></Error>";
        let refusal = |code| {
            let status = Fault::Status(
                code,
                vec![("X-Amz-Request", CANARY.to_owned())],
                echo.to_owned(),
            );
            Behaviour::fault(status)
        };
        origin.serve("/denied.mp4", "", refusal(403));
        origin.serve("/gone.mp4", "", refusal(410));
        origin.serve("/broken.mp4", "", refusal(500));
        origin.serve(
            "/page.mp4",
            format!("<html>{echo}</html>"),
            Behaviour::default(),
        );
        origin.serve(
            "/cut.mp4",
            &media[..],
            Behaviour::fault(Fault::ResetAfter(100)),
        );
        let redirect = |to: String| Behaviour::fault(Fault::Redirect(to));
        origin.serve("/moved.mp4", "", redirect(self.signed("/good.mp4", 600)));
        origin.serve(
            "/inward.mp4",
            "",
            redirect("http://10.0.0.1/a?sig=canary".to_owned()),
        );
        origin.serve(
            "/nowhere.mp4",
            "",
            redirect("http://[canary/?sig=canary".to_owned()),
        );
        origin.serve(
            "/other.mp4",
            "",
            redirect("file:///etc/passwd?sig=canary".to_owned()),
        );
        origin.serve("/loop.mp4", "", redirect(self.signed("/loop.mp4", 600)));
        let api = &self.api;
        let link = json!({"download_link": self.signed("/good.mp4", 600), "expires": self.now.as_second() + 600});
        api.script("/recordings/found/access-link", [Answer::json(200, link)]);
        let echo = json!({"error": "authentication-error", "info": "bad key canary-daily-key at https://x/?a=canary"});
        api.script(
            "/recordings/refused/access-link",
            [Answer::json(401, &echo)],
        );
        api.script("/recordings/broken/access-link", [Answer::json(500, &echo)]);
        let nonsense = json!({"download_link": "ftp://canary:canary@x/?sig=canary"});
        api.script(
            "/recordings/nonsense/access-link",
            [Answer::json(200, nonsense)],
        );
        let inward = json!({"download_link": "http://10.0.0.1/x?sig=canary"});
        api.script(
            "/recordings/inward/access-link",
            [Answer::json(200, inward)],
        );
    }

    fn recording(&self, id: &str, url: &str) -> Value {
        json!({
            "version": "2.0", "id": id, "type": "recording.success", "timestamp": self.now.to_string(),
            "data": {"session_id": id, "recording_presigned_url": url},
        })
    }

    /// Source and body of each delivery.
    fn deliveries(&self) -> Vec<(&'static str, String)> {
        let mut events = Vec::new();
        for (name, seconds) in [
            ("good", 600),
            ("denied", 600),
            ("gone", 600),
            ("broken", 600),
            ("page", 600),
            ("cut", 600),
            ("moved", 600),
            ("inward", 600),
            ("nowhere", 600),
            ("other", 600),
            ("loop", 600),
            ("denied", -600),
        ] {
            let url = self.signed(&format!("/{name}.mp4"), seconds);
            events.push(self.recording(&format!("{name}{seconds}"), &url));
        }
        let address = self.origin.address();
        for (number, url) in [
            self.signed_at("http://169.254.169.254/latest/meta-data", 600),
            self.signed_at("http://127.0.0.1:1/nobody.mp4", 600),
            format!("http://canary:canary@{address}/good.mp4?sig=canary#canary"),
            "ftp://host.example/a?sig=canary".to_owned(),
            "not a url ?sig=canary".to_owned(),
            "http://host.example\\@other.example/?sig=canary".to_owned(),
            "https://no-such-host.invalid/a.mp4?sig=canary".to_owned(),
        ]
        .iter()
        .enumerate()
        {
            events.push(self.recording(&format!("odd{number}"), url));
        }
        events.push(json!({
            "version": "1.0", "id": "failed", "type": "recording.failed", "timestamp": self.now.to_string(),
            "data": {"session_id": "failed", "error_type": "UPLOAD_ERROR",
                     "error": "PUT https://b.s3.amazonaws.com/k?X-Amz-Signature=canary-signature: 403"},
        }));
        // Known types that can't be read, and unknown ones.
        let url = self.signed("/good.mp4", 600);
        events
            .push(json!({"id": "unknown", "type": "brand.new", "data": {"deep": [{"link": url}]}}));
        events.push(json!({"id": "wrong", "type": "recording.success", "data": [url]}));
        events.push(json!({"id": "typed", "type": url, "data": {}}));
        let mut room = self.recording("room", &url);
        room["data"]["room_name"] = url.clone().into();
        events.push(room);
        let mut deliveries: Vec<_> = events
            .into_iter()
            .map(|event| ("100ms", event.to_string()))
            .collect();
        let denied = self.signed("/denied.mp4", 600);
        let denied = self.recording("refreshed", &denied);
        deliveries.push(("refreshed", denied.to_string()));
        for id in ["found", "refused", "broken", "nonsense", "inward"] {
            let event = json!({
                "version": "1.0.0", "type": "recording.ready-to-download", "id": id,
                "payload": {"type": "cloud", "recording_id": id, "room_name": id,
                            "share_token": "canary-share-token", "status": "finished"},
                "event_ts": self.now.as_second(),
            });
            deliveries.push(("daily", event.to_string()));
        }
        let inline = json!({"event": "complete", "data": {"bot_id": "b", "mp4": url, "speakers": ["Ada"],
            "transcript": [{"speaker": "Ada", "words": [{"start": 1, "end": 2, "word": "Hello"}]}]}});
        deliveries.push(("meetingbaas", inline.to_string()));
        deliveries.push(("100ms", format!("{{\"url\": \"{url}\"")));
        deliveries
    }

    /// What commands print with these arguments; their logs are in the log.
    async fn told(&self, arguments: &[&str]) -> String {
        binary::finish_with(&self.config, arguments, &KEYS).await.0
    }

    async fn records(&self) -> Vec<Value> {
        serde_json::from_str(&self.told(&["list", "--json"]).await).unwrap()
    }

    async fn all_tried(&self) -> Vec<Value> {
        let tried = async {
            loop {
                let records = self.records().await;
                let waits = |record: &&Value| {
                    record["state"] == "running"
                        || record["state"] == "pending" && record["attempts"] == 0
                };
                if !records.iter().any(|record| waits(&record)) {
                    return records;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(PATIENCE, tried)
            .await
            .expect("everything is tried in time")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t15_no_secret_is_in_anything_that_a_run_wrote() {
    let bucket = tempfile::tempdir().unwrap();
    let [(_, access), (_, secret), ..] = KEYS;
    let credentials =
        format!("[default]\naws_access_key_id = {access}\naws_secret_access_key = {secret}\n");
    std::fs::write(bucket.path().join("credentials"), credentials).unwrap();
    let server = s3::start_embedded(bucket.path()).await;
    let world = World::new(&server.endpoint()).await;
    let mut written = String::new();

    let running = Running::start_with(&world.config, &["-vvv"], &KEYS).await;
    let client = local_client(None).unwrap();
    let admin = format!("http://{}", running.admin);
    let ask = |path: &str| {
        client
            .get(format!("{admin}{path}"))
            .header("X-Harvester", "1")
    };
    let stream = ask("/api/v1/progress").bearer_auth("canary-admin-token");
    let stream = stream.send().await.unwrap();
    assert_eq!(stream.status(), 200);
    let admin_setting = format!("admin.listen={}", running.admin);
    let watching = ["watch", "--json", "-vvv", "--set", &admin_setting];
    let mut watching = binary::harvester(&world.config, &watching)
        .envs(KEYS)
        .spawn()
        .unwrap();

    for (source, body) in world.deliveries() {
        for secret in ["canary-webhook-secret", "canary-wrong-secret"] {
            let url = format!("{}?token=canary-query", running.webhook(source));
            let header = match source {
                "meetingbaas" => "x-meeting-baas-api-key",
                _ => "X-Passcode",
            };
            let request = client.post(url).header(header, secret).body(body.clone());
            let answer = request.send().await.unwrap();
            let is_readable = serde_json::from_str::<Value>(&body).is_ok();
            let expected = match (secret, is_readable) {
                ("canary-wrong-secret", _) => 401,
                (_, true) => 200,
                (_, false) => 400,
            };
            assert_eq!(answer.status(), expected, "{body}");
            written.push_str(&answer.text().await.unwrap());
        }
    }
    // The name of a source is told; what comes after it is not.
    for source in ["no-source", "100ms/canary", "%63anary-source"] {
        let answer = client
            .post(running.webhook(source))
            .body("{}")
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 404);
        written.push_str(&answer.text().await.unwrap());
    }

    let records = world.all_tried().await;
    assert_outcomes(&records);
    for path in [
        "/",
        "/metrics",
        "/healthz",
        "/readyz",
        "/api/v1/events",
        "/api/v1/artifacts",
        "/api/v1/failures",
        "/api/v1/canary?sig=canary",
        "/api/v1/artifacts?state=canary",
    ] {
        for token in ["canary-admin-token", "canary-wrong-token"] {
            let answer = ask(path).bearer_auth(token).send().await.unwrap();
            let _ = writeln!(written, "{:?}", answer.headers());
            written.push_str(&answer.text().await.unwrap());
        }
    }
    for recording in records
        .iter()
        .map(|record| record["recording_id"].as_str().unwrap())
    {
        let path = format!("/api/v1/recordings/{recording}");
        let answer = ask(&path)
            .bearer_auth("canary-admin-token")
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
        written.push_str(&answer.text().await.unwrap());
    }
    assert_eq!(running.terminate().await, Some(0));
    let told = stream.text().await.unwrap();
    assert!(told.contains("\"settled\""), "{told}");
    written.push_str(&told);
    watching.start_kill().unwrap();
    let watched = watching.wait_with_output().await.unwrap();
    let watched = String::from_utf8(watched.stdout).unwrap();
    assert!(watched.contains("\"settled\""), "{watched}");
    written.push_str(&watched);

    written.push_str(&commands(&world).await);
    let log = std::fs::read_to_string(world.folder.path().join("log")).unwrap();
    assert!(
        log.contains("TRACE") || log.contains("DEBUG"),
        "it was to log all"
    );
    written.push_str(&log);
    let mut objects = 0;
    for file in files(bucket.path()) {
        if file != bucket.path().join("credentials") {
            let _ = writeln!(written, "{}", file.display());
            written.push_str(&String::from_utf8_lossy(&std::fs::read(file).unwrap()));
            objects += 1;
        }
    }
    assert!(objects > 20, "{objects}");
    for document in ["manifest.json", "report.json", "event-failed.json"] {
        assert!(written.contains(document), "{document} was not written");
    }
    assert_clean(&written);
    server.stop().await;
}

/// The run was worth searching: all kinds of endings are there.
fn assert_outcomes(records: &[Value]) {
    for class in [
        "expired",
        "denied",
        "gone",
        "refused",
        "corrupt",
        "invalid",
        "unreachable",
    ] {
        let has = records.iter().any(|record| record["class"] == class);
        assert!(has, "no {class} among {records:#?}");
    }
    let video = |session: &str| {
        let of = |record: &&Value| {
            record["kind"] == "video" && record["key"].as_str().unwrap().contains(session)
        };
        records
            .iter()
            .find(of)
            .unwrap_or_else(|| panic!("{session}"))
    };
    for session in ["good600", "moved600", "found", "room"] {
        assert_eq!(
            video(session)["state"],
            "archived",
            "{session}: {}",
            video(session)
        );
    }
}

/// What the other commands say, in text and JSON.
async fn commands(world: &World) -> String {
    let mut told = String::new();
    let url = world.signed("/good.mp4", 600);
    let dead = world.signed("/denied.mp4", -600);
    let event = world.folder.path().join("event.json");
    std::fs::write(&event, world.recording("file", &url).to_string()).unwrap();
    let event = event.to_str().unwrap();
    let broken = world.folder.path().join("broken.json");
    std::fs::write(&broken, format!("{{\"url\": \"{url}\", }}")).unwrap();
    let broken = broken.to_str().unwrap();
    for arguments in [
        &["list"][..],
        &["list", "--json"],
        &["failures"],
        &["failures", "--json"],
        &["inspect", event, &url, &dead, broken],
        &["inspect", "--json", event, &url, &dead, broken],
        &[
            "archive",
            event,
            &dead,
            "http://10.0.0.1/a?sig=canary",
            broken,
            "ftp://x/?sig=canary",
        ],
        &["archive", "--json", "--recording", "again", &url],
        &["retry", "--class", "denied", "--json"],
        &["retry", &url],
        &["list", &url],
        &[
            "list",
            "--set",
            "sources.100ms.secrets=canary",
            "--set",
            "archive.endpoint=http://canary:canary@x/?canary",
        ],
        &[
            "list",
            "--set",
            "admin.token=canary",
            "--set",
            "limits.lanes=canary-not-shown-as-it-could-be-a-secret",
        ],
    ] {
        let arguments = [&["-vvv"], arguments].concat();
        told.push_str(&world.told(&arguments).await);
    }
    // The bucket knows another secret.
    let mut env = KEYS;
    env[1].1 = "canary-wrong";
    let arguments = ["archive", "-vvv", &url, "--recording", "wrong-key"];
    let (out, code) = binary::finish_with(&world.config, &arguments, &env).await;
    assert_eq!(code, Some(1));
    told.push_str(&out);
    told
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found
}

fn assert_clean(written: &str) {
    let lower = written.to_lowercase();
    let found: Vec<_> = lower
        .lines()
        .filter(|line| line.contains(CANARY) || line.contains("y2fuyxj5"))
        .take(20)
        .map(|line| {
            let at = line.find(CANARY).unwrap_or_default();
            let start = line.floor_char_boundary(at.saturating_sub(300));
            let end = line.ceil_char_boundary((at + 100).min(line.len()));
            line[start..end].to_owned()
        })
        .collect();
    assert!(found.is_empty(), "secrets are shown:\n{}", found.join("\n"));
}

/// A panic prints what it was told to: the types themselves keep their secrets.
#[test]
fn t15_what_holds_a_secret_does_not_show_it_to_a_panic() {
    let url = "https://host.example/a.mp4?X-Amz-Signature=canary-signature";
    let now = Timestamp::UNIX_EPOCH;
    let body = json!({"id": "e", "type": "recording.success", "timestamp": "2026-03-02T10:33:20Z",
        "data": {"session_id": "s", "recording_presigned_url": url}})
    .to_string();
    let delivery = Delivery {
        body: body.as_bytes(),
        id_header: None,
        received_at: now,
    };
    let event = ingest::parse(Provider::Hms, &delivery).unwrap();
    assert_eq!(event.artifacts.len(), 1);
    let secret = || Some(SecretString::from("canary-key"));
    let credentials = Credentials {
        api_key: secret(),
        api_secret: secret(),
        base_url: None,
    };
    let lookup = Lookup {
        call: "daily-recording".to_owned(),
        id: "id".to_owned(),
    };
    let request = ingest::lookup_request(Provider::Daily, &lookup, &credentials, now).unwrap();
    let response = ApiResponse {
        status: 200,
        retry_after: None,
        date: None,
        body: body.clone().into(),
    };
    let settings = S3Settings {
        bucket: "b".to_owned(),
        region: None,
        endpoint: None,
        path_style: false,
        credentials: Some(StaticCredentials {
            access_key: "id".to_owned(),
            secret_key: SecretString::from("canary-key"),
        }),
        slowest_bytes_per_second: 1,
    };
    let open = OpenRequest {
        url: SignedUrl::new(url),
        range: None,
        validator: None,
        allow_hosts: Vec::new(),
        deadline: recording_harvester::model::Deadline::NONE,
        waits: Waits::default(),
    };
    let layout = Layout::new("", "{provider}/{recording}/{name}").unwrap();
    let new = NewEvent::new("100ms", event.clone(), body.clone().into(), &layout, now);
    for shown in [
        format!("{delivery:?}"),
        format!("{event:?}"),
        format!("{credentials:?}"),
        format!("{request:?}"),
        format!("{response:?}"),
        format!("{settings:?}"),
        format!("{open:?}"),
        format!("{new:?}"),
    ] {
        assert!(!shown.contains(CANARY), "{shown}");
    }
}
