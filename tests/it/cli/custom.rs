//! Providers that the program does not know, with nothing but configuration: JaaS and Zoom, from the signed
//! event to the verified object, through the real binary.

use std::path::Path;
use std::time::Duration;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use recording_harvester::clock::{Clock, SystemClock};
use recording_harvester::source::client::local_client;
use serde_json::{Value, json};

use crate::harness::binary::{self, Running};
use crate::harness::origin::{Behaviour, TestOrigin};

const PATIENCE: Duration = Duration::from_secs(90);

const SECRET: &str = "canary-webhook-secret";

/// The events' own time: all that follows from it (deadlines, tokens) has to lie ahead of the real clock.
const SENT_AT_MS: &str = "1772447600000";

/// Configures both sources by the files of `deploy/sources`; Zoom's token may go to loopback instead of zoom.us.
pub(super) fn configure(folder: &Path) -> std::path::PathBuf {
    std::fs::create_dir(folder.join("sources")).unwrap();
    for name in ["jaas", "zoom", "livekit"] {
        let text = std::fs::read_to_string(format!("deploy/sources/{name}.toml")).unwrap();
        let text = text.replace(
            r#"hosts = ["zoom.us", "*.zoom.us"]"#,
            r#"hosts = ["http://127.0.0.1"]"#,
        );
        std::fs::write(folder.join(format!("sources/{name}.toml")), text).unwrap();
    }
    let sources = ["jaas", "zoom", "livekit"].map(|name| {
        format!(
            "[sources.{name}]\nprovider = \"custom\"\ndefinition = \"sources/{name}.toml\"\nsecrets = [\"{SECRET}\"]\n"
        )
    });
    binary::configure(folder, &sources.concat())
}

pub(super) fn sample(file: &str, origin: &TestOrigin) -> String {
    let text = std::fs::read_to_string(format!("fixtures/events/{file}.json")).unwrap();
    let now = SystemClock.now();
    let text = text.replace("{{ORIGIN}}", &origin.url(""));
    let text = text.replace(SENT_AT_MS, &now.as_millisecond().to_string());
    let mut event: Value = serde_json::from_str(&text).unwrap();
    if event.get("download_token").is_some() {
        event["download_token"] = json!(token());
    }
    let files = event.pointer_mut("/payload/object/recording_files");
    for (number, file) in files
        .into_iter()
        .flat_map(|files| files.as_array_mut().unwrap())
        .enumerate()
    {
        file["file_size"] = json!(zoom_file(number).len());
    }
    event.to_string()
}

/// What Zoom has under its n-th download URL.
fn zoom_file(number: usize) -> Vec<u8> {
    match number {
        0 => media("recording.mp4"),
        // Any MP4 container will do for sound.
        1 => media("layer-0.mp4"),
        2 => b"10:00 Ada: hello".to_vec(),
        _ => b"{}".to_vec(),
    }
}

/// A token like Zoom's, good for a day from now.
fn token() -> String {
    let part = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let expires = SystemClock.now().as_second() + 86_400;
    let (head, claims) = (part(json!({"alg": "HS512"})), part(json!({"exp": expires})));
    format!(
        "{head}.{claims}.{}",
        BASE64_URL_SAFE_NO_PAD.encode("canary-token")
    )
}

fn digest(text: &str) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
}

pub(super) fn headers(source: &str, body: &str) -> Vec<(&'static str, String)> {
    let now = SystemClock.now().as_second();
    match source {
        "jaas" => {
            let signature = BASE64_STANDARD.encode(digest(&format!("{now}.{body}")));
            vec![("x-jaas-signature", format!("t={now},v1={signature}"))]
        }
        _ => {
            let signature = hex::encode(digest(&format!("v0:{now}:{body}")));
            vec![
                ("x-zm-request-timestamp", now.to_string()),
                ("x-zm-signature", format!("v0={signature}")),
            ]
        }
    }
}

pub(super) async fn post(
    running: &Running,
    source: &str,
    body: &str,
    headers: &[(&str, String)],
) -> (u16, String) {
    let client = local_client(Some(Duration::from_secs(10))).unwrap();
    let mut request = client.post(running.webhook(source)).body(body.to_owned());
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

pub(super) async fn settled(config: &Path) -> Vec<Value> {
    let wait = async {
        loop {
            let records = binary::records(config).await;
            let is_open =
                |record: &Value| matches!(record["state"].as_str(), Some("pending" | "running"));
            if !records.iter().any(is_open) {
                return records;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait)
        .await
        .expect("everything settles")
}

pub(super) fn media(name: &str) -> Vec<u8> {
    std::fs::read(format!("fixtures/media/{name}")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn jaas_and_zoom_are_archived_with_nothing_but_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let config = configure(folder.path());
    let origin = TestOrigin::start().await;
    let jaas = "/jaas/weekly_2026-03-02-10-00-00.mp4";
    origin.serve(jaas, media("recording.mp4"), Behaviour::default());
    for number in 0..4 {
        let path = format!("/zoom/rec/webhook_download/{number}");
        origin.serve(&path, zoom_file(number), Behaviour::default());
    }
    let running = Running::start(&config, &[]).await;
    for (source, file) in [
        ("jaas", "jaas/RECORDING_UPLOADED"),
        ("zoom", "zoom/recording.completed"),
        ("zoom", "zoom/recording.completed-no-token"),
    ] {
        let body = sample(file, &origin);
        assert_eq!(post(&running, source, &body, &[]).await.0, 401, "{file}");
        let good = headers(source, &body);
        let altered = body
            .replace("Weekly", "Altered")
            .replace("weekly", "altered");
        assert_eq!(
            post(&running, source, &altered, &good).await.0,
            401,
            "{file}"
        );
        // The second is a retry, and nothing new.
        for _ in 0..2 {
            let answer = post(&running, source, &body, &good).await;
            assert_eq!(answer, (200, String::new()), "{file}");
        }
        // The event without a token is another one about the first file, so that has to be through.
        settled(&config).await;
    }
    let check = sample("zoom/endpoint.url_validation", &origin);
    let (status, answer) = post(&running, "zoom", &check, &headers("zoom", &check)).await;
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(status, 200);
    assert_eq!(
        answer["encryptedToken"],
        hex::encode(digest("qgg8vlvZRS6UYooatFL8Aw"))
    );

    let records = settled(&config).await;
    let mut told: Vec<_> = records
        .iter()
        .map(|record| {
            let of = |name: &str| record[name].as_str().unwrap_or("-").to_owned();
            format!(
                "{} {} {} {}",
                of("provider"),
                of("name"),
                of("state"),
                of("deadline_from")
            )
        })
        .filter(|line| !line.contains(" event-"))
        .collect();
    told.sort();
    assert_eq!(
        told,
        [
            "jaas recording.mp4 archived documented",
            "zoom audio.m4a archived token",
            "zoom chat.txt archived token",
            "zoom recording.mp4 archived token",
            "zoom timeline.json archived token",
        ]
    );
    assert!(records.iter().all(|record| {
        record["key"]
            .as_str()
            .unwrap()
            .starts_with(&format!("{}/", record["provider"].as_str().unwrap()))
    }));
    for seen in origin.log() {
        let carries = seen
            .header("authorization")
            .is_some_and(|value| value.starts_with("Bearer ey"));
        assert_eq!(carries, seen.path.starts_with("/zoom/"), "{}", seen.path);
    }
    assert_eq!(running.terminate().await, Some(0));
    // What is shown and written for people holds neither the token nor the secret.
    let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
    let shown = format!("{log}{}", serde_json::to_string(&records).unwrap());
    for canary in [
        SECRET.to_owned(),
        BASE64_URL_SAFE_NO_PAD.encode("canary-token"),
    ] {
        assert!(!shown.contains(&canary), "{canary} is shown");
    }
}

/// LiveKit's token: a JWT that holds the body's hash, without "Bearer".
fn livekit_headers(body: &str) -> [(&'static str, String); 1] {
    let part = |text: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(text);
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, body.as_bytes());
    let expires = SystemClock.now().as_second() + 300;
    let claims = json!({"iss": "key", "exp": expires, "sha256": BASE64_STANDARD.encode(hash)});
    let signed = format!(
        "{}.{}",
        part(br#"{"alg":"HS256","typ":"JWT"}"#),
        part(claims.to_string().as_bytes())
    );
    let token = format!("{signed}.{}", part(&digest(&signed)));
    [("authorization", token)]
}

/// Places that can be read from here are archived, others are told with what to do.
#[tokio::test(flavor = "multi_thread")]
async fn a_livekit_egress_is_archived_where_its_place_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let config = configure(folder.path());
    let origin = TestOrigin::start().await;
    origin.serve(
        "/bucket/rec.mp4",
        media("recording.mp4"),
        Behaviour::default(),
    );
    origin.serve("/private/rec.mp4", "", Behaviour::status(403));
    let running = Running::start(&config, &[]).await;
    let places = [
        origin.url("/bucket/rec.mp4"),
        origin.url("/private/rec.mp4"),
        "s3://acme-bucket/weekly/rec.mp4".to_owned(),
        "/out/rec.mp4".to_owned(),
    ];
    for (number, place) in places.iter().enumerate() {
        let text =
            std::fs::read_to_string("fixtures/events/livekit/egress_ended-complete-file.json");
        let mut event: Value = serde_json::from_str(&text.unwrap()).unwrap();
        event["id"] = json!(format!("EV_{number}"));
        event["egressInfo"]["egressId"] = json!(format!("EG_{number}"));
        event["egressInfo"]["fileResults"][0]["location"] = json!(place);
        event["egressInfo"]["fileResults"][0]["size"] = Value::Null;
        let body = event.to_string();
        let headers = livekit_headers(&body);
        assert_eq!(post(&running, "livekit", &body, &headers).await.0, 200);
    }
    let records = settled(&config).await;
    assert_eq!(running.terminate().await, Some(0));
    let video = |number: usize| {
        let is_it = |record: &&Value| {
            record["kind"] == "video"
                && record["key"]
                    .as_str()
                    .unwrap()
                    .contains(&format!("EG_{number}/"))
        };
        let found: Vec<_> = records.iter().filter(is_it).collect();
        assert_eq!(found.len(), 1, "{records:#?}");
        found[0].clone()
    };
    let size = media("recording.mp4").len();
    assert_eq!(
        (&video(0)["state"], &video(0)["size_bytes"]),
        (&json!("archived"), &json!(size))
    );
    assert_eq!(
        (&video(1)["state"], &video(1)["class"]),
        (&json!("failed"), &json!("denied"))
    );
    assert!(
        video(1)["action"]
            .as_str()
            .unwrap()
            .contains("read the bucket")
    );
    for number in [2, 3] {
        let video = video(number);
        assert_eq!(
            (&video["state"], &video["class"]),
            (&json!("failed"), &json!("denied"))
        );
        let message = video["message"].as_str().unwrap();
        assert!(
            message.contains(&places[number]) && message.contains("copy it"),
            "{message}"
        );
    }
}

#[tokio::test]
async fn inspect_reads_events_of_defined_sources() {
    let folder = tempfile::tempdir().unwrap();
    let config = configure(folder.path());
    let origin = TestOrigin::start().await;
    for (source, file, class, name) in [
        ("jaas", "jaas/CHAT_UPLOADED", "artifacts", "chat.json"),
        (
            "zoom",
            "zoom/session.recording_completed",
            "artifacts",
            "recording.mp4",
        ),
        (
            "zoom",
            "zoom/recording.completed-no-token",
            "lookup",
            "recording.mp4",
        ),
        (
            "livekit",
            "livekit/egress_ended-complete-file",
            "lookup",
            "recording.mp4",
        ),
    ] {
        let event = folder.path().join("event.json");
        std::fs::write(&event, sample(file, &origin)).unwrap();
        let event = event.to_str().unwrap();
        let by_source = ["--json", "inspect", "--source", source, event];
        let by_provider = ["--json", "inspect", "--provider", source, event];
        for arguments in [by_source, by_provider] {
            let (printed, code) = binary::finish(&config, &arguments).await;
            assert_eq!(code, Some(0), "{file}: {printed}");
            let told: Value = serde_json::from_str(&printed).unwrap();
            assert_eq!(
                (&told["provider"], &told["class"]),
                (&json!(source), &json!(class))
            );
            let artifacts = told["artifacts"].as_array().unwrap();
            assert!(artifacts.iter().any(|a| a["name"] == name), "{printed}");
            assert!(!printed.contains("eyJ"), "{printed}");
        }
    }
    let (_, code) = binary::finish(&config, &["inspect", "--provider", "zomo", "x.json"]).await;
    assert_eq!(code, Some(1), "the file is missing, which comes first");
    let (_, code) = binary::finish(&config, &["list", "--provider", "zomo"]).await;
    assert_eq!(code, Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_key_is_fetched_through_the_guard() {
    let key = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let der = key.public_key().as_der().unwrap();
    let text = BASE64_STANDARD.encode(der.as_ref());
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----");
    let origin = TestOrigin::start().await;
    let answer = json!({"success": true, "data": {"publicKey": pem}}).to_string();
    origin.serve("/keys", answer, Behaviour::default());
    let folder = tempfile::tempdir().unwrap();
    let sources = format!(
        "[sources.dyte]\naccount = [\"org\"]\npublic_key = \"{}\"\n",
        origin.url("/keys")
    );
    let config = binary::configure(folder.path(), &sources);
    let running = Running::start(&config, &[]).await;
    let signed = |body: &str| {
        let mut signature = vec![0; key.public_modulus_len()];
        let random = SystemRandom::new();
        key.sign(&RSA_PKCS1_SHA256, &random, body.as_bytes(), &mut signature)
            .unwrap();
        [("dyte-signature", BASE64_STANDARD.encode(&signature))]
    };
    let body = r#"{"event":"meeting.started","meeting":{"id":"m1","organizedBy":{"id":"org"}}}"#;
    let headers = signed(body);
    for _ in 0..2 {
        assert_eq!(post(&running, "dyte", body, &headers).await.0, 200);
    }
    assert_eq!(post(&running, "dyte", "{}", &headers).await.0, 401);
    // S3: the key is one for all customers.
    let foreign = body.replace("\"org\"", "\"another\"");
    let answer = post(&running, "dyte", &foreign, &signed(&foreign)).await;
    assert_eq!(answer.0, 401);
    assert_eq!(origin.requests("/keys").len(), 1);
    assert_eq!(running.terminate().await, Some(0));
}
