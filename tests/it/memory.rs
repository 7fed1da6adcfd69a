//! The real program under what senders who mean no good send: the memory that it takes, and whether good events still come
//! in within the patience of their providers. Inputs of S1, S5 and S6.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::harness::binary::{self, Running};

/// What may be resident at most, whatever comes.
const RESIDENT_MAX_KIB: u64 = 384 * 1024;

/// Dyte waits so long for an answer, and no provider shorter.
const PROVIDERS_PATIENCE: Duration = Duration::from_secs(3);

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

const SECRET: &str = "canary-webhook-secret";

const SOURCES: &str = r#"
[sources.trusting]
provider = "100ms"
insecure = true
max_body = "4 MiB"
[sources.signed]
provider = "100ms"
header = "x-passcode"
secrets = ["canary-webhook-secret"]
[sources.daily]
secrets = ["Y2FuYXJ5IGtleSBvZiBkYWlseQ=="]
"#;

fn hms_event(id: &str, more: &str) -> String {
    let event = json!({
        "version": "1.0", "id": id, "timestamp": "2026-03-02T10:33:20Z", "type": "recording.success",
        "data": {"room_id": "room-1", "session_id": format!("session-{id}"),
            "recording_presigned_url": "https://files.invalid/rec.mp4?X-Amz-Signature=x"},
    });
    let text = event.to_string();
    format!("{},\"z\":{more}}}", &text[..text.len() - 1])
}

fn head(source: &str, headers: &[(&str, &str)], length: usize) -> String {
    let mut head = format!(
        "POST /webhooks/{source} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\ncontent-length: {length}\r\n"
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head + "\r\n"
}

/// Posts and reads the status; `None` when the connection ended without one.
async fn post(at: SocketAddr, source: &str, headers: &[(&str, &str)], body: &str) -> Option<u16> {
    let exchange = async {
        let mut stream = TcpStream::connect(at).await.ok()?;
        let head = head(source, headers, body.len());
        // One that is refused is answered while it is still being sent.
        let _ = stream.write_all(head.as_bytes()).await;
        let _ = stream.write_all(body.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let text = String::from_utf8_lossy(&answer);
        text.split(' ').nth(1)?.parse().ok()
    };
    tokio::time::timeout(PATIENCE, exchange).await.unwrap()
}

/// A good event to a source with a secret, which has to be taken in time.
async fn assert_good_event_is_taken(at: SocketAddr, id: &str) {
    let began = Instant::now();
    let headers = [("x-passcode", SECRET)];
    let status = post(at, "signed", &headers, &hms_event(id, "0")).await;
    assert_eq!(status, Some(200), "{id}");
    let took = began.elapsed();
    assert!(took < PROVIDERS_PATIENCE, "{id} took {took:?}");
}

/// The most that has ever been resident of a process, in KiB.
fn peak_kib(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.unwrap().trim().split(' ').next().unwrap();
    number.parse().unwrap()
}

fn assert_small(process: u32, what: &str) {
    let peak = peak_kib(process);
    assert!(peak < RESIDENT_MAX_KIB, "{what}: {peak} KiB were resident");
}

fn configure(folder: &Path) -> std::path::PathBuf {
    // Its keys come first in the file, its tables after them.
    let config = binary::configure(folder, "");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{text}{SOURCES}")).unwrap();
    config
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_json_makes_the_worker_large_or_keeps_good_events_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let config = configure(folder.path());
    let running = Running::start(&config, &[]).await;
    let (at, process) = (running.webhooks, running.process());

    // 4 MiB of nested lists: each two bytes became 205.
    let deep = hms_event(
        "deep",
        &format!(
            "{}{}0{}",
            "[".repeat(100),
            "0,".repeat(2_000_000),
            "]".repeat(100)
        ),
    );
    let began = Instant::now();
    assert_eq!(post(at, "trusting", &[], &deep).await, Some(400));
    assert!(
        began.elapsed() < PROVIDERS_PATIENCE,
        "{:?}",
        began.elapsed()
    );
    assert_small(process, "nested lists");

    // Maps of seven bytes, each some 700 in memory: too many for one event, and as many as are allowed, at once.
    let maps =
        |id: &str, count: usize| hms_event(id, &format!("[{}0]", r#"{"":0},"#.repeat(count)));
    assert_eq!(
        post(at, "trusting", &[], &maps("maps", 550_000)).await,
        Some(400)
    );
    let many = futures::future::join_all((0..12).map(|n| {
        let body = maps(&format!("maps-{n}"), 70_000);
        async move { post(at, "trusting", &[], &body).await }
    }));
    let (statuses, ()) = futures::join!(many, assert_good_event_is_taken(at, "beside-maps"));
    assert!(statuses.contains(&Some(200)), "{statuses:?}");
    let is_answer = |status: &Option<u16>| matches!(status, Some(200 | 503));
    assert!(statuses.iter().all(is_answer), "{statuses:?}");
    assert_small(process, "small maps");

    // What is allowed is carried as it is, without growing.
    let allowed = hms_event(
        "allowed",
        &format!(
            "{}{}0{}",
            "[".repeat(28),
            "0,".repeat(300_000),
            "]".repeat(28)
        ),
    );
    assert_eq!(post(at, "trusting", &[], &allowed).await, Some(200));
    let size = archived_size(&config, "event-allowed.json").await;
    assert!(
        size < allowed.len() as u64,
        "{size} bytes of {}",
        allowed.len()
    );
    assert_small(process, "the document of a nested event");
    assert_eq!(running.terminate().await, Some(0));
}

async fn archived_size(config: &Path, name: &str) -> u64 {
    let look = async {
        loop {
            let records = binary::records(config).await;
            let mut named = records.iter().filter(|record| record["name"] == name);
            if let Some(size) = named.find_map(|record| {
                (record["state"] == "archived").then(|| record["size_bytes"].as_u64())?
            }) {
                return size;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, look)
        .await
        .unwrap_or_else(|_| panic!("{name} is not archived"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_held_back_with_garbage_signatures_cost_little_and_hold_up_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(&configure(folder.path()), &[]).await;
    let (at, process) = (running.webhooks, running.process());
    let second = binary::unix_seconds().to_string();
    let garbage = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
    let headers = [
        ("x-webhook-timestamp", second.as_str()),
        ("x-webhook-signature", garbage),
    ];
    let length = 1 << 20;
    let head = head("daily", &headers, length);
    let part = vec![b' '; length - 1];
    let mut held = Vec::new();
    for n in 0..200 {
        let mut stream = TcpStream::connect(at).await.unwrap();
        let _ = stream.write_all(head.as_bytes()).await;
        let _ = stream.write_all(&part).await;
        held.push(stream);
        if n % 50 == 49 {
            assert_good_event_is_taken(at, &format!("beside-{n}")).await;
        }
    }
    assert_small(process, "held bodies");
    drop(held);
    assert_eq!(running.terminate().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_half_open_connections_under_a_small_limit_hold_up_nobody() {
    let own = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit {
        current: own.maximum,
        maximum: own.maximum,
    };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start_with_descriptors(&configure(folder.path()), 1024).await;
    let at = running.webhooks;
    // Right after the start, when nothing of the store's own was opened late.
    let mut silent = Vec::new();
    for n in 0..1000 {
        let mut stream = TcpStream::connect(at).await.unwrap();
        let _ = stream.write_all(b"P").await;
        silent.push(stream);
        if n == 993 {
            assert_good_event_is_taken(at, "first").await;
        }
    }
    assert_good_event_is_taken(at, "last").await;
    assert_small(running.process(), "half-open connections");
    drop(silent);
    assert_eq!(running.terminate().await, Some(0));
}

// S5: nobody raised what a shell or a container gives.
#[tokio::test]
async fn the_descriptors_that_the_system_grants_are_taken() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start_with_few_descriptors(&configure(folder.path()), 300).await;
    let limits = format!("/proc/{}/limits", running.process());
    let limits = std::fs::read_to_string(limits).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let [soft, hard] = line
        .unwrap()
        .split_whitespace()
        .skip(3)
        .take(2)
        .collect::<Vec<_>>()[..]
    else {
        panic!("{line:?}")
    };
    assert!(
        hard.parse::<u64>().is_err() || hard.parse::<u64>().unwrap() > 300,
        "{line:?}"
    );
    // At most a million: some systems grant a billion.
    assert!(soft == hard || soft == "1048576", "{line:?}");
    assert_eq!(running.terminate().await, Some(0));
}

#[tokio::test]
async fn too_few_descriptors_end_the_start_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let config = configure(folder.path());
    let mut command = binary::with_descriptors(&config, 100, &["run"]);
    let ended = tokio::time::timeout(PATIENCE, command.status()).await;
    assert_eq!(ended.unwrap().unwrap().code(), Some(2));
    let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
    assert!(log.contains("ulimit -n"), "{log}");
}
