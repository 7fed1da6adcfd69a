//! The real binary against an origin on loopback and the embedded object store.

use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use recording_harvester::clock::{Clock, SystemClock};
use recording_harvester::demo::events;
use recording_harvester::demo::media::Library;
use recording_harvester::demo::origin::{DemoOrigin, OriginSettings, SendPace};
use recording_harvester::object::embedded::{Abilities, EmbeddedS3, EmbeddedSettings};
use rustix::process::{Pid, Signal, kill_process};
use secrecy::ExposeSecret;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::lines;

/// Far longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(60);

struct World {
    folder: TempDir,
    origin: DemoOrigin,
}

impl World {
    async fn new(pace: SendPace) -> World {
        let origin = DemoOrigin::start(OriginSettings {
            listen: ([127, 0, 0, 1], 0).into(),
            library: Library {
                padding_bytes: 20 << 20,
            },
            pace,
            clock: Arc::new(SystemClock),
            api_key: "key".to_owned(),
        });
        World {
            folder: tempfile::tempdir().unwrap(),
            origin: origin.await.unwrap(),
        }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The large recording, a chat and the event itself; written as `event.json`.
    fn event(&self) -> String {
        let event = events::by_name("100ms/recording.success", &self.origin, SystemClock.now());
        let body = event.unwrap().body;
        std::fs::write(self.path().join("event.json"), &body).unwrap();
        body
    }

    fn url(&self, lifetime: Duration, age: Duration) -> String {
        let signed_at = SystemClock.now() - age;
        self.origin.sign("/100ms/sfu/rec.mp4", signed_at, lifetime)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("harvester"));
        command
            .args(arguments)
            .current_dir(self.path())
            .env_clear()
            .env("HARVESTER_LISTEN", "127.0.0.1:0")
            .env("HARVESTER_ADMIN__LISTEN", "127.0.0.1:0")
            .env("HARVESTER_ARCHIVE__EMBEDDED_LISTEN", "127.0.0.1:0")
            .env("HARVESTER_GUARD__ALLOW_HTTP", "true")
            .env("HARVESTER_GUARD__ALLOW_NETWORKS", "127.0.0.0/8")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    async fn run(&self, arguments: &[&str]) -> Output {
        let output = self.command(arguments).output();
        tokio::time::timeout(LIMIT, output).await.unwrap().unwrap()
    }

    async fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(arguments).await;
        assert!(output.status.success(), "{}", err(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn signal(child: &Child, signal: Signal) {
    let id = child.id().expect("it runs").try_into().unwrap();
    kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
}

async fn ended(child: Child) -> Output {
    let output = child.wait_with_output();
    tokio::time::timeout(LIMIT, output).await.unwrap().unwrap()
}

/// Reads lines until one for which `is_it`; the rest of the pipe is read, so that nothing blocks.
async fn line_with(
    lines: &mut (impl AsyncBufReadExt + Unpin),
    is_it: impl Fn(&str) -> bool,
) -> String {
    let find = async {
        loop {
            let mut line = String::new();
            let read = lines.read_line(&mut line).await.unwrap();
            assert!(read > 0, "it ended before it said so");
            if is_it(&line) {
                return line;
            }
        }
    };
    tokio::time::timeout(LIMIT, find).await.unwrap()
}

fn states(records: &[Value]) -> Vec<(String, String)> {
    let field = |record: &Value, name: &str| record[name].as_str().unwrap().to_owned();
    let mut states: Vec<_> = records
        .iter()
        .map(|record| (field(record, "kind"), field(record, "state")))
        .collect();
    states.sort();
    states
}

fn archived(kinds: &[&str]) -> Vec<(String, String)> {
    let pair = |kind: &&str| ((*kind).to_owned(), "archived".to_owned());
    kinds.iter().map(pair).collect()
}

#[tokio::test]
async fn archive_writes_a_record_a_line_and_doing_it_again_changes_nothing() {
    let world = World::new(SendPace::Unlimited).await;
    world.event();
    let first = world.run(&["archive", "--json", "event.json"]).await;
    assert!(first.status.success(), "{}", err(&first));
    let records = lines(&out(&first));
    assert_eq!(states(&records), archived(&["chat", "event", "video"]));
    for record in &records {
        let file = Path::new("harvester-data/s3/archive").join(record["key"].as_str().unwrap());
        let length = std::fs::metadata(world.path().join(file)).unwrap().len();
        assert_eq!(record["size_bytes"], length);
    }

    let again = world.run(&["archive", "--json", "event.json"]).await;
    assert!(again.status.success(), "{}", err(&again));
    let listed = world.json(&["list", "--json"]).await;
    let mut repeated = lines(&out(&again));
    let mut records = records;
    let id = |record: &Value| record["id"].as_str().unwrap().to_owned();
    records.sort_by_key(id);
    repeated.sort_by_key(id);
    assert_eq!(repeated, records);
    assert_eq!(listed, Value::Array(records));
}

#[tokio::test]
async fn one_loss_among_several_ends_with_one_and_is_told_without_its_signature() {
    let world = World::new(SendPace::Unlimited).await;
    let hour = Duration::from_secs(3600);
    let good = world.url(hour, Duration::ZERO);
    let dead = world.url(hour, hour * 2);
    let mut command = world.command(&["archive", "--json", "-vvv", "--recording", "mine", &dead]);
    let lost = ended(command.env("RUST_LOG", "trace").spawn().unwrap()).await;
    assert_eq!(lost.status.code(), Some(1), "{}", err(&lost));
    let records = lines(&out(&lost));
    let loss = records
        .iter()
        .find(|record| record["state"] == "expired")
        .unwrap();
    assert_eq!(loss["class"], "expired");
    assert!(loss["action"].as_str().unwrap().contains("fresh URL"));

    let groups = world.json(&["failures", "--json"]).await;
    assert_eq!(groups["groups"][0]["class"], "expired");
    assert_eq!(groups["groups"][0]["artifacts"][0]["id"], loss["id"]);

    let id = loss["id"].as_str().unwrap();
    let retried = world.json(&["retry", "--json", id]).await;
    assert_eq!(retried[0]["state"], "pending");
    let cancelled = world.json(&["cancel", "--json", id]).await;
    assert_eq!(cancelled[0]["state"], "cancelled");

    // The same file under a fresh signature: what was lost is saved.
    let saved = world
        .run(&["archive", "--json", "--recording", "mine", &good])
        .await;
    assert!(saved.status.success(), "{}", err(&saved));
    let list = world.json(&["list", "--json", "--state", "archived"]).await;
    assert!(
        list.as_array()
            .unwrap()
            .iter()
            .any(|record| record["id"] == loss["id"])
    );

    let again = world.run(&["retry", id]).await;
    assert_eq!(again.status.code(), Some(1), "{}", err(&again));
    let told = err(&again);
    assert!(
        told.contains(&format!("not retried: {id} is archived")),
        "{told}"
    );

    for url in [&dead, &good] {
        let (_, signature) = url.rsplit_once("Signature=").unwrap();
        for text in [
            out(&lost),
            err(&lost),
            out(&saved),
            err(&saved),
            groups.to_string(),
        ] {
            assert!(!text.contains(signature), "{text}");
        }
    }
}

#[tokio::test]
async fn an_interrupted_archive_ends_cleanly_and_the_next_one_goes_on() {
    let world = World::new(SendPace::BytesPerSecond(3 << 20)).await;
    world.event();
    let mut child = world.command(&["archive", "event.json"]).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    line_with(&mut stderr, |line| {
        line.contains("started") && line.contains("recording.mp4")
    })
    .await;
    signal(&child, Signal::INT);
    line_with(&mut stderr, |line| line.contains("goes on where")).await;
    let output = ended(child).await;
    assert_eq!(output.status.code(), Some(1));
    let open = world.json(&["list", "--json", "--state", "pending"]).await;
    assert_eq!(open[0]["name"], "recording.mp4");

    let output = world.run(&["archive", "--json", "event.json"]).await;
    assert!(output.status.success(), "{}", err(&output));
    let records = lines(&out(&output));
    assert_eq!(states(&records), archived(&["chat", "event", "video"]));
}

async fn post(address: &str, path: &str, body: &str) -> String {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let answer = tokio::time::timeout(LIMIT, exchange).await.unwrap();
    answer.split("\r\n").next().unwrap().to_owned()
}

#[tokio::test]
async fn a_worker_takes_webhooks_is_watched_and_ends_on_a_signal() {
    let world = World::new(SendPace::Unlimited).await;
    let body = world.event();
    let mut worker = world.command(&["run", "--json"]).spawn().unwrap();
    let mut stdout = BufReader::new(worker.stdout.take().unwrap());
    let told = line_with(&mut stdout, |_| true).await;
    let told: Value = serde_json::from_str(&told).unwrap();
    let admin = format!("admin.listen={}", told["admin"].as_str().unwrap());

    let mut watch = world
        .command(&["watch", "--json", "--set", &admin])
        .spawn()
        .unwrap();
    let mut events = BufReader::new(watch.stdout.take().unwrap());
    let mut notes = BufReader::new(watch.stderr.take().unwrap());
    line_with(&mut notes, |line| line.contains("watching the worker")).await;
    let listen = told["listen"].as_str().unwrap();
    assert_eq!(
        post(listen, "/webhooks/100ms", &body).await,
        "HTTP/1.1 200 OK"
    );
    let sealed = line_with(&mut events, |line| line.contains("\"sealed\"")).await;
    let sealed: Value = serde_json::from_str(&sealed).unwrap();
    assert_eq!(sealed["archived"], 3);
    assert_eq!(
        post(listen, "/webhooks/100ms", &body).await,
        "HTTP/1.1 200 OK"
    );

    let second = world.run(&["run"]).await;
    assert_eq!(second.status.code(), Some(1));
    let refusal = err(&second);
    assert!(refusal.contains("another one runs"), "{refusal}");
    // N12: it promised a store that there is not.
    assert!(
        refusal.contains("`data_dir` of its own") && !refusal.contains("Postgres"),
        "{refusal}"
    );
    let list = world.json(&["list", "--json"]).await;
    assert_eq!(
        states(list.as_array().unwrap()),
        archived(&["chat", "event", "video"])
    );

    signal(&watch, Signal::INT);
    assert_eq!(ended(watch).await.status.code(), Some(0));
    signal(&worker, Signal::TERM);
    let output = ended(worker).await;
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
}

#[tokio::test]
async fn a_bucket_that_is_not_there_is_told_and_webhooks_are_still_taken() {
    let world = World::new(SendPace::Unlimited).await;
    let body = world.event();
    let settings = EmbeddedSettings {
        root: world.path().join("elsewhere"),
        listen: ([127, 0, 0, 1], 0).into(),
        bucket: "archive".to_owned(),
        abilities: Abilities::default(),
    };
    let server = EmbeddedS3::start(settings, Arc::new(SystemClock))
        .await
        .unwrap();
    let credentials = server.credentials();
    let endpoint = format!("archive.endpoint={}", server.endpoint());
    let bucket = ["--set", "archive.bucket=not-there", "--set", &endpoint];
    let mut worker = world.command(&["run", "--json"]);
    let mut worker = worker
        .args(bucket)
        .env("AWS_ACCESS_KEY_ID", &credentials.access_key)
        .env(
            "AWS_SECRET_ACCESS_KEY",
            credentials.secret_key.expose_secret(),
        )
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(worker.stdout.take().unwrap());
    let mut stderr = BufReader::new(worker.stderr.take().unwrap());
    let told = line_with(&mut stdout, |_| true).await;
    let told: Value = serde_json::from_str(&told).unwrap();
    line_with(&mut stderr, |line| line.contains("the archive refuses")).await;
    let listen = told["listen"].as_str().unwrap();
    assert_eq!(
        post(listen, "/webhooks/100ms", &body).await,
        "HTTP/1.1 200 OK"
    );

    let refused = async {
        loop {
            let groups = world.json(&["failures", "--json"]).await;
            if groups["groups"][0]["class"] == "upload_denied" {
                return groups;
            }
            // The next look is another process: it takes its time by itself.
        }
    };
    let groups = tokio::time::timeout(LIMIT, refused).await.unwrap();
    let waiting = &groups["groups"][0]["artifacts"][0];
    assert_eq!(waiting["state"], "pending");
    signal(&worker, Signal::TERM);
    assert_eq!(ended(worker).await.status.code(), Some(0));
    server.stop().await;
}
