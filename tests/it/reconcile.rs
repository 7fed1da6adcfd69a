//! What no webhook told: the real program asks a provider that behaves as its pages say.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use recording_harvester::source::client::local_client;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::binary::{self, Running};
use crate::harness::daily::{KEY, TestDaily, mp4};
use crate::harness::s3::{BUCKET, Op, TestS3};

mod alerts;
mod backfill;
mod doctor;
mod providers;

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(180);

/// The program with one Daily source and a bucket whose requests are counted.
struct World {
    folder: TempDir,
    daily: TestDaily,
    s3: TestS3,
    config: PathBuf,
}

impl World {
    async fn start(source_more: &str) -> World {
        let folder = tempfile::tempdir().unwrap();
        let daily = TestDaily::start().await;
        let s3 = TestS3::start().await;
        let proof = match source_more.contains("secrets") {
            true => "",
            false => "insecure = true\n",
        };
        let more = format!(
            "[sources.daily]\n{proof}api_key = \"{KEY}\"\nbase_url = \"{}\"\napi_rate = 10000\n{source_more}\n",
            daily.base_url()
        );
        let config = binary::configure(folder.path(), &more);
        let text = std::fs::read_to_string(&config).unwrap();
        let bucket = format!(
            "[archive]\nbucket = \"{BUCKET}\"\nregion = \"us-east-1\"\nendpoint = \"{}\"\n",
            s3.endpoint()
        );
        std::fs::write(&config, text.replace("[archive]\n", &bucket)).unwrap();
        World {
            folder,
            daily,
            s3,
            config,
        }
    }

    fn env(&self) -> [(&'static str, String); 2] {
        let credentials = self.s3.credentials();
        [
            ("AWS_ACCESS_KEY_ID", credentials.access_key.clone()),
            (
                "AWS_SECRET_ACCESS_KEY",
                credentials.secret_key.expose_secret().to_owned(),
            ),
        ]
    }

    async fn run(&self) -> Running {
        let env = self.env();
        Running::start_with(
            &self.config,
            &[],
            &env.each_ref().map(|(name, value)| (*name, value.as_str())),
        )
        .await
    }

    async fn finish(&self, arguments: &[&str]) -> (String, Option<i32>) {
        self.finish_in(arguments, &self.env()).await
    }

    async fn finish_in(
        &self,
        arguments: &[&str],
        env: &[(&str, String); 2],
    ) -> (String, Option<i32>) {
        let env = env.each_ref().map(|(name, value)| (*name, value.as_str()));
        binary::finish_with(&self.config, arguments, &env).await
    }

    /// What the program has said on stderr so far.
    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Waits until so many videos are archived; all records then.
    async fn archived(&self, videos: usize) -> Vec<Value> {
        let wait = async {
            loop {
                let records = binary::records(&self.config).await;
                let is_done =
                    |record: &&Value| record["state"] == "archived" && record["kind"] == "video";
                if records.iter().filter(is_done).count() >= videos {
                    return records;
                }
                // The next look is another process: it takes its time by itself.
            }
        };
        let done = tokio::time::timeout(PATIENCE, wait).await;
        done.unwrap_or_else(|_| panic!("not archived in time: {}", self.log()))
    }

    /// Waits until the program's metrics have all of these lines.
    async fn counted(&self, running: &Running, expected: &[&str]) {
        let client = local_client(Some(Duration::from_secs(20))).unwrap();
        let url = format!("http://{}/metrics", running.admin);
        let mut text = String::new();
        let wait = async {
            while !expected
                .iter()
                .all(|line| text.lines().any(|other| other == *line))
            {
                tokio::time::sleep(Duration::from_millis(50)).await;
                let response = client.get(&url).send().await.unwrap();
                text = response.text().await.unwrap();
            }
        };
        let counted = tokio::time::timeout(PATIENCE, wait).await;
        assert!(counted.is_ok(), "{expected:?} in {text}");
    }

    /// The content of every object that is not a manifest, by key; the manifests' number.
    fn bucket(&self) -> (BTreeMap<String, Vec<u8>>, usize) {
        let root = self.s3.root().join(BUCKET);
        let mut objects = BTreeMap::new();
        collect(&root, &root, &mut objects);
        // A command that is killed may leave the object that it tried the bucket with.
        objects.retain(|_, content| !content.starts_with(b"recording-harvester tries here"));
        let all = objects.len();
        objects.retain(|key, _| !key.ends_with("manifest.json"));
        let manifests = all - objects.len();
        (objects, manifests)
    }

    /// How often each key was put, and is there now.
    fn puts(&self) -> BTreeMap<String, usize> {
        let mut puts = BTreeMap::new();
        for seen in self.s3.requests() {
            if seen.op == Op::PutObject && seen.key.ends_with(".mp4") {
                *puts.entry(seen.key).or_default() += 1;
            }
        }
        puts
    }

    fn webhook(&self, number: usize) -> Value {
        self.daily.with(|world| world.recordings[number].event())
    }

    async fn post(&self, running: &Running, event: &Value) {
        let response = local_client(Some(Duration::from_secs(20)))
            .unwrap()
            .post(running.webhook("daily"))
            .body(event.to_string())
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 200);
    }
}

fn collect(root: &Path, folder: &Path, objects: &mut BTreeMap<String, Vec<u8>>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.map(Result::unwrap) {
        let path = entry.path();
        match path.is_dir() {
            true => collect(root, &path, objects),
            false => {
                let key = path
                    .strip_prefix(root)
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned();
                objects.insert(key, std::fs::read(&path).unwrap());
            }
        }
    }
}

fn lines(printed: &str) -> Vec<Value> {
    printed
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The lines that tell what was found.
fn found(printed: &str) -> Vec<Value> {
    let mut all = lines(printed);
    all.retain(|line| line.get("recorded").is_some());
    all
}

/// The lines that tell what became of an artifact.
fn outcomes(printed: &str) -> Vec<Value> {
    let mut all = lines(printed);
    all.retain(|line| line.get("state").is_some());
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn f12_what_was_announced_while_the_worker_was_down_is_archived_once_each() {
    let world = World::start("reconcile = \"2s\"").await;
    // It had run before: what came last is known.
    let first = world.run().await;
    assert_eq!(first.terminate().await, Some(0));
    // 500 recordings, whose webhooks nobody took; Daily fails now and then while it is asked.
    world.daily.with(|daily| {
        daily.add_recordings(500);
        daily.faults = vec![
            ("/recordings?".to_owned(), 500),
            ("/recordings".to_owned(), 503),
            ("/recordings/rec-0100".to_owned(), 500),
        ];
    });
    let running = world.run().await;
    let records = world.archived(500).await;
    // And the last webhook comes after all, with the next walk on its heels.
    world.post(&running, &world.webhook(7)).await;
    let walks = world.daily.with(|daily| daily.count("GET /v1/transcript"));
    let again = async {
        while world.daily.with(|daily| daily.count("GET /v1/transcript")) < walks + 2 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, again).await.unwrap();
    // What a list told is no webhook.
    let counters = [
        "harvester_reconcile_found_total{source=\"daily\",class=\"lookup\"} 500",
        "harvester_events_received_total{source=\"daily\",class=\"lookup\"} 1",
    ];
    world.counted(&running, &counters).await;
    // Manifests come after the jobs: a stop in between would leave some to the next start.
    let sealed = async {
        while world.bucket().1 < 500 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, sealed).await.unwrap();
    assert_eq!(running.terminate().await, Some(0));

    let keys: BTreeSet<_> = records
        .iter()
        .map(|record| record["key"].to_string())
        .collect();
    assert_eq!(keys.len(), 500);
    let (objects, manifests) = world.bucket();
    let (videos, others): (Vec<_>, Vec<_>) =
        objects.iter().partition(|(key, _)| key.ends_with(".mp4"));
    assert_eq!(
        (videos.len(), others.len(), manifests),
        (500, 1, 500),
        "{others:?}"
    );
    for (key, content) in videos {
        let id = key.split('/').rev().nth(1).unwrap();
        assert_eq!(*content, mp4(id), "{key}");
    }
    let puts = world.puts();
    assert_eq!((puts.len(), puts.values().max()), (500, Some(&1)));
    let (files, links) = world.daily.with(|daily| {
        let links = daily
            .asked
            .iter()
            .filter(|asked| asked.contains("access-link"));
        (daily.count("GET /files/"), links.count())
    });
    assert_eq!(files, 500);
    // One of them failed and was asked for again.
    assert!((500..=502).contains(&links), "{links}");
    assert!(!world.log().contains(KEY));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_daily_switched_off_is_told_and_switched_on_only_if_allowed() {
    for is_allowed in [false, true] {
        let more = format!("reconcile = \"1s\"\nreactivate_webhook = {is_allowed}");
        let world = World::start(&more).await;
        world.daily.with(|daily| {
            daily.webhooks = vec![
                json!({"uuid": "w-1", "url": "https://me.example/webhooks/daily?k=canary", "state": "FAILED", "failedCount": 3}),
                json!({"uuid": "w-2", "url": "https://me.example/other", "state": "ACTIVE"}),
            ];
        });
        let running = world.run().await;
        let expected = if is_allowed {
            "it is on again"
        } else {
            "has switched off"
        };
        let told = async {
            while !world.log().contains(expected) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let told = tokio::time::timeout(PATIENCE, told).await;
        assert!(told.is_ok(), "{}", world.log());
        assert_eq!(running.terminate().await, Some(0));
        let (posts, state) = world.daily.with(|daily| {
            (
                daily.count("POST /v1/webhooks/"),
                daily.webhooks[0]["state"].clone(),
            )
        });
        let expected = if is_allowed {
            (1, json!("ACTIVE"))
        } else {
            (0, json!("FAILED"))
        };
        assert_eq!((posts, state), expected);
        assert!(!world.log().contains("canary"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_its_own_webhooks_are_switched_on_and_one_that_refuses_stops_no_other() {
    let world = World::start("reconcile = \"1h\"\nreactivate_webhook = true").await;
    let hook = |id: &str, url: &str| json!({"uuid": id, "url": url, "state": "FAILED"});
    world.daily.with(|daily| {
        daily.webhooks = vec![
            hook("w-1", "https://old.example/webhooks/daily"),
            hook("w-2", "https://crm.example/hooks?k=canary"),
            hook("w-3", "https://me.example/webhooks/daily"),
        ];
        daily.faults = vec![("/webhooks/w-1".to_owned(), 500)];
    });
    let running = world.run().await;
    let counters = [
        "harvester_webhook_reactivations_total{source=\"daily\",result=\"failed\"} 1",
        "harvester_webhook_reactivations_total{source=\"daily\",result=\"ok\"} 1",
        "harvester_reconcile_walks_total{source=\"daily\",result=\"ok\"} 1",
    ];
    world.counted(&running, &counters).await;
    assert_eq!(running.terminate().await, Some(0));
    let states = world.daily.with(|daily| {
        let states = daily.webhooks.iter().map(|hook| hook["state"].clone());
        states.collect::<Vec<_>>()
    });
    assert_eq!(states, ["FAILED", "FAILED", "ACTIVE"]);
    let log = world.log();
    assert!(log.contains("could not be switched on again"), "{log}");
    assert!(
        log.contains("https://crm.example/hooks, which is not that of this source"),
        "{log}"
    );
    assert!(!log.contains("canary"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_has_expired_is_told_and_the_walk_is_made_when_it_is_good_again() {
    let world = World::start("reconcile = \"1s\"").await;
    world.daily.with(|daily| {
        daily.add_recordings(3);
        // For the first walk the key is no good, whichever list is asked for.
        daily.faults = vec![
            ("/recordings".to_owned(), 401),
            ("/transcript".to_owned(), 401),
        ];
    });
    let running = world.run().await;
    world.archived(3).await;
    assert_eq!(running.terminate().await, Some(0));
    let log = world.log();
    assert!(
        log.contains("failed to reconcile") && log.contains("status 401"),
        "{log}"
    );
    assert!(!log.contains("canary"));
}
