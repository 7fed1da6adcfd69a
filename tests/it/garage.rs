//! The real program on Garage, an S3 server that we did not write. It tells no CRC64NVME that nobody gave it, and
//! takes `If-None-Match` for nothing (2.5): still nothing of ours may be lost, doubled or damaged there.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::binary::{self, Running};
use crate::harness::garage::{ENVIRONMENT, Garage};
use crate::harness::origin::{Behaviour, TestOrigin};
use crate::harness::s3::BUCKET;
use recording_harvester::source::client::local_client;

/// How long the last life may take to finish what the kills have left, for each event.
const PATIENCE_PER_EVENT: Duration = Duration::from_secs(3);

/// Events of 100ms with a video and a chat, posted while the worker is killed with -9 at random moments.
///
/// The size of every run is small. The whole campaign takes some minutes and 15 GiB of disk:
///
/// ```text
/// GARAGE_EVENTS=200 GARAGE_KILLS=40 GARAGE_VIDEO_MIB=64 cargo test --test it garage::kills -- --nocapture
/// ```
///
/// `KILL_SEED` replays the moments of a run.
#[tokio::test(flavor = "multi_thread")]
async fn kills_at_random_moments_lose_and_double_nothing() {
    let Some(garage) = Garage::start().await else {
        return;
    };
    let campaign = Campaign::from_environment();
    #[expect(clippy::print_stderr, reason = "a failure is replayed by its seed")]
    {
        eprintln!("{campaign:?} (set KILL_SEED to replay)");
    }
    let seed = campaign.seed;
    let folder = tempfile::tempdir().unwrap();
    let config = configure(folder.path(), "data", &garage);
    let origin = TestOrigin::start().await;
    let videos = Videos::new(campaign.video_mib << 20);
    let events: Vec<_> = (0..campaign.events)
        .map(|number| videos.event(&origin, number))
        .collect();

    let mut random = fastrand::Rng::with_seed(seed);
    let mut waiting: Vec<&SentEvent> = events.iter().rev().collect();
    let per_life = campaign.events.div_ceil(campaign.kills.max(1)) as usize;
    for _ in 0..campaign.kills {
        let running = Running::start_with(&config, &[], &ENVIRONMENT).await;
        let url = running.webhook("100ms");
        let pause = Duration::from_millis(random.u64(5..campaign.longest_life_ms()));
        let posting = post_some(&url, &mut waiting, per_life);
        let ((), ()) = tokio::join!(posting, async {
            tokio::time::sleep(pause).await;
            running.kill().await;
        });
    }
    let last = Running::start_with(&config, &[], &ENVIRONMENT).await;
    let rest = waiting.len();
    post_some(&last.webhook("100ms"), &mut waiting, rest).await;
    assert!(
        waiting.is_empty(),
        "seed {seed}: the last life takes all in"
    );
    let begun = Instant::now();
    settled(
        &config,
        PATIENCE_PER_EVENT * campaign.events + Duration::from_secs(90),
    )
    .await;
    assert_eq!(last.terminate().await, Some(0), "seed {seed}");
    #[expect(clippy::print_stderr, reason = "the campaign's figures")]
    {
        eprintln!("settled {:?} after the last event", begun.elapsed());
    }

    let objects = contents(&garage).await;
    let records = binary::records(&config).await;
    let mut media = 0;
    for event in &events {
        for (name, bytes) in &event.files {
            let found: Vec<_> = records
                .iter()
                .filter(|record| is_of(record, &event.id) && record["name"] == *name)
                .collect();
            assert_eq!(
                found.len(),
                1,
                "seed {seed}: {}/{name}: {found:?}",
                event.id
            );
            let record = found[0];
            assert_eq!(record["state"], "archived", "seed {seed}: {record}");
            let key = record["key"].as_str().unwrap();
            assert_eq!(
                objects.get(key),
                Some(&(bytes.len() as u64)),
                "seed {seed}: {key}"
            );
            assert!(
                is_equal(&garage, key, bytes).await,
                "seed {seed}: {key} differs"
            );
            let manifest = manifest_beside(&garage, key).await;
            let listed = manifest["artifacts"].as_array().unwrap();
            let count = listed.iter().filter(|one| one["key"] == key).count();
            assert_eq!(count, 1, "seed {seed}: {key} in its manifest");
            media += 1;
        }
    }
    // What is there beside them are documents: nothing was carried twice under another name.
    let carried = objects
        .keys()
        .filter(|key| key.contains("/recording") || key.contains("/chat"))
        .count();
    assert_eq!(carried, media, "seed {seed}: {:#?}", objects.keys());
    assert_eq!(uploads(&garage).await, Vec::<String>::new(), "seed {seed}");
}

/// What two workers on stores of their own do to one bucket: a backup that was restored and started beside the first.
#[tokio::test(flavor = "multi_thread")]
async fn two_workers_that_archive_the_same_event_damage_and_double_nothing() {
    let Some(garage) = Garage::start().await else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let origin = TestOrigin::start().await;
    let videos = Videos::new(24 << 20);
    let events: Vec<_> = (0..4).map(|number| videos.event(&origin, number)).collect();
    let configs = ["one", "two"].map(|data| configure(folder.path(), data, &garage));
    let [one, two] = &configs;
    let (one, two) = tokio::join!(
        Running::start_with(one, &[], &ENVIRONMENT),
        Running::start_with(two, &[], &ENVIRONMENT)
    );
    for running in [&one, &two] {
        let mut waiting: Vec<_> = events.iter().collect();
        post_some(&running.webhook("100ms"), &mut waiting, events.len()).await;
        assert!(waiting.is_empty());
    }
    for config in &configs {
        settled(config, Duration::from_secs(90)).await;
    }
    for running in [one, two] {
        assert_eq!(running.terminate().await, Some(0));
    }
    let mut expected = 0;
    for config in &configs {
        for record in binary::records(config).await {
            assert_eq!(record["state"], "archived", "{record}");
        }
    }
    let records = binary::records(&configs[0]).await;
    for event in &events {
        for (name, bytes) in &event.files {
            let record = records
                .iter()
                .find(|record| is_of(record, &event.id) && record["name"] == *name)
                .unwrap();
            let key = record["key"].as_str().unwrap();
            assert!(is_equal(&garage, key, bytes).await, "{key} differs");
            expected += 1;
        }
    }
    let objects = contents(&garage).await;
    let carried = objects
        .keys()
        .filter(|key| key.contains("/recording") || key.contains("/chat"))
        .count();
    assert_eq!(carried, expected, "{:#?}", objects.keys());
}

/// The same HLS recording, and then a second event of its recording, so that manifests are written over.
#[tokio::test(flavor = "multi_thread")]
async fn an_hls_recording_is_archived_and_a_manifest_is_written_over() {
    let Some(garage) = Garage::start().await else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let origin = TestOrigin::start().await;
    crate::transfer::hls::serve_fixture(&origin, "subtitles");
    origin.serve("/notes.txt", "said afterwards", Behaviour::default());
    let config = configure(folder.path(), "data", &garage);
    let url = origin.url("/subtitles/master.m3u8");
    let run = ["--json", "archive", "--recording", "talk", &url];
    let (printed, code) = binary::finish_with(&config, &run, &ENVIRONMENT).await;
    assert_eq!(code, Some(0), "{printed}");
    let notes = origin.url("/notes.txt");
    let run = ["--json", "archive", "--recording", "talk", &notes];
    let (printed, code) = binary::finish_with(&config, &run, &ENVIRONMENT).await;
    assert_eq!(code, Some(0), "{printed}");

    let objects = contents(&garage).await;
    let manifests: Vec<_> = objects
        .keys()
        .filter(|key| key.ends_with("manifest.json"))
        .collect();
    assert_eq!(manifests.len(), 1, "{:#?}", objects.keys());
    let manifest = manifest_beside(&garage, manifests[0]).await;
    let listed = manifest["artifacts"].as_array().unwrap();
    let hls = listed.iter().find(|one| one["kind"] == "hls").unwrap();
    assert!(
        listed.iter().any(|one| one["name"] == "notes.txt"),
        "{manifest}"
    );
    for resource in hls["resources"].as_array().unwrap() {
        let key = resource["key"].as_str().unwrap();
        assert_eq!(
            objects.get(key),
            resource["size_bytes"].as_u64().as_ref(),
            "{key}"
        );
    }
}

/// The size of a campaign.
#[derive(Debug)]
struct Campaign {
    seed: u64,
    events: u32,
    kills: u32,
    video_mib: usize,
}

impl Campaign {
    fn from_environment() -> Campaign {
        let number = |name: &str, default: u64| match std::env::var(name) {
            Ok(value) => value.parse().expect("a number"),
            Err(_) => default,
        };
        Campaign {
            seed: number("KILL_SEED", fastrand::u64(..)),
            events: u32::try_from(number("GARAGE_EVENTS", 12)).unwrap(),
            kills: u32::try_from(number("GARAGE_KILLS", 6)).unwrap(),
            video_mib: usize::try_from(number("GARAGE_VIDEO_MIB", 20)).unwrap(),
        }
    }

    /// Long enough for some uploads to complete, short enough for some to be cut.
    fn longest_life_ms(&self) -> u64 {
        500 + 40 * self.video_mib as u64
    }
}

/// An event with the bytes of its files.
struct SentEvent {
    id: String,
    body: Value,
    files: Vec<(&'static str, Arc<Vec<u8>>)>,
}

/// A few different videos, which the events share.
struct Videos(Vec<Arc<Vec<u8>>>);

impl Videos {
    fn new(size: usize) -> Videos {
        Videos((0..4).map(|number| Arc::new(mp4(size, number))).collect())
    }

    /// Serves the files of an event, and makes it.
    fn event(&self, origin: &TestOrigin, number: u32) -> SentEvent {
        let id = format!("event{number}");
        let video = Arc::clone(&self.0[number as usize % self.0.len()]);
        let chat = Arc::new(format!("time,name,text\n0,ada,hello from {id}\n").into_bytes());
        let (video_path, chat_path) = (format!("/{id}.mp4"), format!("/{id}.csv"));
        origin.serve_shared(&video_path, Arc::clone(&video), Behaviour::default());
        origin.serve_shared(&chat_path, Arc::clone(&chat), Behaviour::default());
        let body = json!({
            "version": "2.0", "id": id, "type": "recording.success",
            "timestamp": "2026-03-02T10:33:20Z",
            "data": {
                "session_id": id,
                "recording_presigned_url": origin.url(&video_path),
                "chat_recording_presigned_url": origin.url(&chat_path),
            },
        });
        let files = vec![("recording.mp4", video), ("chat.csv", chat)];
        SentEvent { id, body, files }
    }
}

/// A box structure that passes as a recording, different for each `number`.
fn mp4(size: usize, number: u8) -> Vec<u8> {
    let mut bytes = include_bytes!("../../fixtures/media/recording.mp4").to_vec();
    let free = size.saturating_sub(bytes.len()).max(8);
    bytes.extend(u32::try_from(free).unwrap().to_be_bytes());
    bytes.extend(b"free");
    let mut random = fastrand::Rng::with_seed(u64::from(number));
    bytes.extend(std::iter::repeat_with(|| random.u8(..)).take(free - 8));
    bytes
}

fn configure(folder: &Path, data: &str, garage: &Garage) -> std::path::PathBuf {
    let folder = folder.join(data);
    std::fs::create_dir_all(&folder).unwrap();
    let config = format!(
        r#"
listen = "127.0.0.1:0"
data_dir = "{folder}/data"
[admin]
listen = "127.0.0.1:0"
[archive]
{archive}
[guard]
allow_http = true
allow_networks = ["127.0.0.0/8"]
"#,
        folder = folder.display(),
        archive = garage.archive_settings(),
    );
    let path = folder.join("harvester.toml");
    std::fs::write(&path, config).unwrap();
    path
}

/// Posts up to `count` of those that wait; one that was not answered 200 goes on waiting.
async fn post_some(url: &str, waiting: &mut Vec<&SentEvent>, count: usize) {
    let client = local_client(Some(Duration::from_secs(10))).unwrap();
    for _ in 0..count {
        let Some(event) = waiting.last() else { return };
        match client.post(url).body(event.body.to_string()).send().await {
            Ok(answer) if answer.status() == 200 => _ = waiting.pop(),
            Ok(answer) => panic!("{}: {}", event.id, answer.status()),
            Err(_) => return,
        }
    }
}

/// Waits until nothing is pending or running.
async fn settled(config: &Path, patience: Duration) {
    let waited = tokio::time::timeout(patience, async {
        loop {
            let records = binary::records(config).await;
            let is_open =
                |record: &Value| matches!(record["state"].as_str(), Some("pending" | "running"));
            if !records.iter().any(is_open) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    });
    if waited.await.is_err() {
        let mut open = binary::records(config).await;
        open.retain(|record| record["state"] != "archived");
        panic!("not settled within {patience:?}: {open:#?}");
    }
}

fn is_of(record: &Value, event: &str) -> bool {
    let key = record["key"].as_str().unwrap();
    key.contains(&format!("/{event}/"))
}

/// Every object with its size.
async fn contents(garage: &Garage) -> BTreeMap<String, u64> {
    let client = garage.client();
    let mut pages = client
        .list_objects_v2()
        .bucket(BUCKET)
        .into_paginator()
        .send();
    let mut found = BTreeMap::new();
    while let Some(page) = pages.next().await {
        for object in page.unwrap().contents() {
            let size = u64::try_from(object.size().unwrap()).unwrap();
            found.insert(object.key().unwrap().to_owned(), size);
        }
    }
    found
}

/// The keys of multipart uploads that have not ended.
async fn uploads(garage: &Garage) -> Vec<String> {
    let listed = garage.client().list_multipart_uploads().bucket(BUCKET);
    let listed = listed.send().await.unwrap();
    let uploads = listed.uploads().iter();
    uploads.map(|one| one.key().unwrap().to_owned()).collect()
}

async fn get(garage: &Garage, key: &str) -> bytes::Bytes {
    let object = garage.client().get_object().bucket(BUCKET).key(key);
    let body = object.send().await.unwrap().body;
    body.collect().await.unwrap().into_bytes()
}

async fn is_equal(garage: &Garage, key: &str, expected: &[u8]) -> bool {
    get(garage, key).await == expected
}

async fn manifest_beside(garage: &Garage, key: &str) -> Value {
    let (folder, _) = key.rsplit_once('/').unwrap();
    let bytes = get(garage, &format!("{folder}/manifest.json")).await;
    serde_json::from_slice(&bytes).unwrap()
}
