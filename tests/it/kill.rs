//! The real program, killed at random moments: what was acknowledged ends archived or reported.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use recording_harvester::source::client::local_client;
use serde_json::{Value, json};

use crate::harness::archive::Archive;
use crate::harness::binary;
use crate::harness::origin::{Behaviour, Fault, TestOrigin};
use crate::harness::stores::StoreKind;

/// Kills, each after a random time.
const KILLS: u32 = 14;

/// And fewer for each other kind of object store.
const KILLS_ELSEWHERE: u32 = 4;

/// Events posted in each life.
const EVENTS_PER_LIFE: u32 = 6;

/// What one kill may leave half-done is finished within this.
const PATIENCE: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_kill_9_at_any_moment() {
    survives(StoreKind::Full, KILLS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_kill_9_without_checksums() {
    survives(StoreKind::NoChecksums, KILLS_ELSEWHERE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_kill_9_without_conditions() {
    survives(StoreKind::NoConditions, KILLS_ELSEWHERE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_kill_9_with_neither() {
    survives(StoreKind::Neither, KILLS_ELSEWHERE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_kill_9_where_conditions_are_ignored() {
    survives(StoreKind::IgnoresConditionsNoChecksums, KILLS_ELSEWHERE).await;
}

async fn survives(kind: StoreKind, kills: u32) {
    let seed = seed();
    #[expect(clippy::print_stderr, reason = "a failure is replayed by its seed")]
    {
        eprintln!("seed {seed} (set KILL_SEED to replay)");
    }
    let mut random = fastrand::Rng::with_seed(seed);
    let folder = tempfile::tempdir().unwrap();
    let config = binary::configure(folder.path(), "");
    let archive = Archive::of_kind(kind, &config).await;
    let origin = TestOrigin::start().await;
    let mut world = World::new(origin);
    let mut acknowledged = Vec::new();
    for life in 0..kills {
        let running = archive.start().await;
        let url = running.webhook("100ms");
        let posting = post_all(&url, world.events(life));
        let pause = Duration::from_millis(random.u64(5..700));
        let (posted, ()) = tokio::join!(posting, async {
            tokio::time::sleep(pause).await;
            running.kill().await;
        });
        acknowledged.extend(posted);
    }
    // One that nobody interrupts, so that every seed has something to look at.
    let last = archive.start().await;
    let posted = post_all(&last.webhook("100ms"), world.events(kills)).await;
    acknowledged.extend(posted);
    settled(&config, seed).await;
    assert_eq!(last.terminate().await, Some(0), "seed {seed}");

    let records = binary::records(&config).await;
    let bucket = archive.bucket().await;
    for event in &acknowledged {
        for (name, content) in &world.expected[event] {
            let record = find(&records, event, name);
            let state = record["state"].as_str().unwrap();
            match content {
                None => assert_eq!((state, &record["class"]), ("failed", &json!("corrupt"))),
                Some(content) => {
                    assert_eq!(state, "archived", "seed {seed}: {record}");
                    let key = record["key"].as_str().unwrap();
                    let bytes = bucket.get(key).await;
                    let is_whole = bytes.is_some_and(|bytes| bytes == content.as_slice());
                    assert!(is_whole, "seed {seed}: {key} differs");
                }
            }
        }
        let session = records_folder(&records, event);
        for document in ["manifest.json", "report.json"] {
            let key = format!("{session}/{document}");
            let found = bucket.get(&key).await;
            assert!(found.is_some(), "seed {seed}: {key} is missing");
        }
    }
    let keys = bucket.keys().await;
    let is_copy = |key: &&String| {
        let name = key.rsplit('/').next().unwrap_or_default();
        ["recording-", "chat-", "manifest-", "report-"]
            .iter()
            .any(|start| name.starts_with(start))
    };
    let copies: Vec<_> = keys.iter().filter(is_copy).collect();
    assert!(copies.is_empty(), "seed {seed}: {copies:?}");
}

/// An artifact's name and its bytes, or `None` for one that can't be saved.
type Expected = (&'static str, Option<Vec<u8>>);

/// What the origin serves, and what is expected of each event.
struct World {
    origin: TestOrigin,
    expected: HashMap<String, Vec<Expected>>,
}

impl World {
    fn new(origin: TestOrigin) -> World {
        World {
            origin,
            expected: HashMap::new(),
        }
    }

    /// Events with a large recording that takes a moment, and a chat that is an error page.
    fn events(&mut self, life: u32) -> Vec<(String, Value)> {
        (0..EVENTS_PER_LIFE)
            .map(|number| self.event(&format!("e{life}-{number}")))
            .collect()
    }

    fn event(&mut self, id: &str) -> (String, Value) {
        let large = id.ends_with("-0");
        let recording = mp4(if large { 14 << 20 } else { 300 << 10 }, id);
        let path = format!("/{id}.mp4");
        let trickle = Fault::Trickle(recording.len() / 8, Duration::from_millis(40));
        self.origin
            .serve(&path, recording.clone(), Behaviour::fault(trickle));
        let page = format!("/{id}.csv");
        self.origin
            .serve(&page, "<html>Sorry</html>", Behaviour::default());
        let event = json!({
            "version": "2.0", "id": id, "type": "recording.success",
            "timestamp": "2026-03-02T10:33:20Z",
            "data": {
                "session_id": id,
                "recording_presigned_url": self.origin.url(&path),
                "chat_recording_presigned_url": self.origin.url(&page),
            },
        });
        let expected = vec![("recording.mp4", Some(recording)), ("chat.csv", None)];
        self.expected.insert(id.to_owned(), expected);
        (id.to_owned(), event)
    }
}

/// A box structure that passes as a recording, different for each `id`.
fn mp4(size: usize, id: &str) -> Vec<u8> {
    let mut bytes = include_bytes!("../../fixtures/media/recording.mp4").to_vec();
    let free = size.saturating_sub(bytes.len()).max(id.len() + 8);
    bytes.extend(u32::try_from(free).unwrap().to_be_bytes());
    bytes.extend(b"free");
    bytes.extend(id.bytes());
    bytes.resize(bytes.len() + free - 8 - id.len(), 7);
    bytes
}

/// Posts until the program is gone; gives the events that were answered 200.
async fn post_all(url: &str, events: Vec<(String, Value)>) -> Vec<String> {
    let client = local_client(Some(Duration::from_secs(10))).unwrap();
    let mut acknowledged = Vec::new();
    for (id, event) in events {
        match client.post(url).body(event.to_string()).send().await {
            Ok(answer) if answer.status() == 200 => acknowledged.push(id),
            Ok(answer) => panic!("{id}: {}", answer.status()),
            Err(_) => break,
        }
    }
    acknowledged
}

/// Waits until nothing is pending or running.
async fn settled(config: &Path, seed: u64) {
    let waited = tokio::time::timeout(PATIENCE, async {
        loop {
            let records = binary::records(config).await;
            let is_open =
                |record: &Value| matches!(record["state"].as_str(), Some("pending" | "running"));
            if !records.iter().any(is_open) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    if waited.await.is_err() {
        let open: Vec<_> = binary::records(config).await;
        panic!("seed {seed}: not settled within {PATIENCE:?}: {open:#?}");
    }
}

fn find<'a>(records: &'a [Value], event: &str, name: &str) -> &'a Value {
    let matches = |record: &&Value| {
        record["name"] == name
            && record["key"]
                .as_str()
                .unwrap()
                .contains(&format!("/{event}/"))
    };
    records
        .iter()
        .find(matches)
        .unwrap_or_else(|| panic!("{event}/{name} was acknowledged and is gone"))
}

fn records_folder(records: &[Value], event: &str) -> String {
    let key = find(records, event, "recording.mp4")["key"]
        .as_str()
        .unwrap();
    key.rsplit_once('/').unwrap().0.to_owned()
}

fn seed() -> u64 {
    match std::env::var("KILL_SEED") {
        Ok(seed) => seed.parse().expect("KILL_SEED is a number"),
        Err(_) => fastrand::u64(..),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_killed_in_the_middle_transfers_only_what_was_missing() {
    let folder = tempfile::tempdir().unwrap();
    let config = binary::configure(folder.path(), "");
    let origin = TestOrigin::start().await;
    let size = 48 << 20;
    let mut random = fastrand::Rng::with_seed(size as u64);
    let content: Vec<u8> = std::iter::repeat_with(|| random.u8(..))
        .take(size)
        .collect();
    let slow = Behaviour::fault(Fault::Trickle(64 * 1024, Duration::from_millis(3)));
    origin.serve("/big.bin", content.clone(), slow);
    let url = origin.url("/big.bin");
    let archive = Archive::of_this_run(&config).await;
    let mut child = archive.harvester(&["archive", &url]).spawn().unwrap();
    let noted = tokio::time::timeout(PATIENCE, async {
        loop {
            let records = binary::records(&config).await;
            let big = records.iter().find(|record| record["name"] == "big.bin");
            if big.is_some_and(|big| big["bytes_done"].as_u64().unwrap_or(0) >= 16 << 20) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    noted.await.expect("a checkpoint is noted");
    child.kill().await.unwrap();
    let before = origin.requests("/big.bin").len();

    let (_, code) = archive.finish(&["archive", &url]).await;
    let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("resumed"), "{log}");
    let asked: usize = origin.requests("/big.bin")[before..]
        .iter()
        .map(|request| {
            let range = request.header("range").expect("only ranges are asked for");
            let (start, last) = range["bytes=".len()..].split_once('-').unwrap();
            let end = last.parse().map_or(size, |last: usize| last + 1);
            end - start.parse::<usize>().unwrap()
        })
        .sum();
    assert!(asked <= size - (16 << 20), "{asked} of {size} bytes again");
    let records = binary::records(&config).await;
    let big = records
        .iter()
        .find(|record| record["name"] == "big.bin")
        .unwrap();
    let key = big["key"].as_str().unwrap();
    let bytes = archive.bucket().await.get(key).await.unwrap();
    assert!(bytes == content.as_slice(), "{key} differs");
}
