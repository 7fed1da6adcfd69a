//! Everything a worker needs, on loopback and in a temporary folder.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use recording_harvester::clock::{Clock as _, SystemClock};
use recording_harvester::ingest;
use recording_harvester::model::api::Credentials;
use recording_harvester::model::{
    Archived, Artifact, Deadline, DeadlineFrom, Event, EventClass, Format, JobId, Kind, Layout,
    Lookup, Origin, Outcome, ProgressEvent, Provider, Record, Recording, key,
};
use recording_harvester::object::ObjectStore;
use recording_harvester::object::s3::{S3Settings, S3Store};
use recording_harvester::schedule::retry::RetrySettings;
use recording_harvester::signed_url::SignedUrl;
use recording_harvester::source::Source;
use recording_harvester::source::guard::{Guard, GuardSettings};
use recording_harvester::source::http::{HttpSettings, HttpSource};
use recording_harvester::store::sqlite::SqliteStore;
use recording_harvester::store::{ClaimRequest, Filter, JobStore, LeaseWrite, NewEvent};
use recording_harvester::transfer::{Engine, TransferSettings};
use recording_harvester::worker::{OnRemint, SourceAccess, Worker, WorkerSettings};
use serde_json::json;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::harness::api::{Answer, TestApi};
use crate::harness::s3::{self, BUCKET, Fault, Op, TestS3};
use crate::harness::stores::StoreKind;

pub const TRANSCRIPT: &str = "WEBVTT\n\n00:00.000 --> 00:01.000\nhello\n";

/// No wait in these tests is longer.
pub const PATIENCE: Duration = Duration::from_secs(20);

const MISSING_BUCKET: &str = "forgotten";

/// The source's name differs from the provider's, so that mixing them up shows.
const DAILY_SOURCE: &str = "daily-eu";

pub struct World {
    pub store: Arc<dyn JobStore>,
    pub objects: Arc<dyn ObjectStore>,
    pub api: TestApi,
    pub bell: Arc<Notify>,
    source: Arc<dyn Source>,
    watched: Arc<Watched>,
    pub s3: TestS3,
    _folder: tempfile::TempDir,
}

/// What the worker has told.
#[derive(Default)]
struct Watched {
    events: Mutex<Vec<ProgressEvent>>,
    bell: Notify,
}

/// A worker in the background.
#[must_use = "stop it"]
pub struct Running {
    tasks: JoinSet<()>,
    shutdown: CancellationToken,
}

impl Running {
    /// Asks it to drain and waits for that.
    pub async fn stop(mut self) {
        self.shutdown.cancel();
        let ended = tokio::time::timeout(PATIENCE, self.tasks.join_next()).await;
        ended
            .expect("the worker did not drain in time")
            .unwrap()
            .unwrap();
    }
}

impl Running {
    /// It dies without a word.
    pub fn kill(mut self) {
        self.tasks.abort_all();
    }
}

impl World {
    pub async fn start() -> World {
        let kind = StoreKind::of_this_run();
        let world = World::on(kind).await;
        kind.make_known(&*world.objects).await;
        world.s3.forget_requests();
        world
    }

    /// A world whose object store is of this kind.
    pub async fn on(kind: StoreKind) -> World {
        World::archiving_in(BUCKET, kind).await
    }

    /// All that a worker needs but the bucket that it archives in.
    pub async fn without_bucket() -> World {
        World::archiving_in(MISSING_BUCKET, StoreKind::of_this_run()).await
    }

    async fn archiving_in(bucket: &str, kind: StoreKind) -> World {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("harvester.db"))
            .await
            .unwrap();
        let s3 = TestS3::of_kind(kind).await;
        let settings = S3Settings {
            bucket: bucket.to_owned(),
            ..s3.settings()
        };
        let objects = S3Store::connect(settings).await.unwrap();
        let guard = Guard::new(GuardSettings {
            allow_networks: vec!["127.0.0.0/8".parse().unwrap()],
            allow_http: true,
            forbidden: Vec::new(),
        });
        let source = HttpSource::new(Arc::new(guard), HttpSettings::default()).unwrap();
        World {
            store: Arc::new(store),
            objects: Arc::new(objects),
            api: TestApi::start().await,
            bell: Arc::new(Notify::new()),
            source: Arc::new(source),
            watched: Arc::default(),
            s3,
            _folder: folder,
        }
    }

    /// Makes the bucket that was missing, as an operator would.
    pub async fn create_bucket(&self) {
        let create = self.s3.client().create_bucket();
        create.bucket(MISSING_BUCKET).send().await.unwrap();
    }

    /// The object store goes down.
    pub fn stop_s3(&self) {
        for op in [Op::PutObject, Op::HeadObject, Op::HeadBucket] {
            self.s3.fail(Fault::always(op, s3::Kind::ResetBefore));
        }
    }

    pub fn worker(&self) -> Worker {
        self.worker_with(HashMap::new())
    }

    /// A worker that has the Daily source's API key.
    pub fn worker_with_key(&self) -> Worker {
        self.worker_with_key_of(DAILY_SOURCE)
    }

    /// A worker that has the API key of `source`.
    pub fn worker_with_key_of(&self, source: &str) -> Worker {
        let access = SourceAccess {
            credentials: Credentials {
                api_key: Some("key-canary".into()),
                api_secret: None,
                base_url: Some(self.api.url()),
            },
            ..SourceAccess::default()
        };
        self.worker_with(HashMap::from([(source.to_owned(), access)]))
    }

    /// A worker that has both halves of the credentials of the source `100ms`; who counts its fresh URLs.
    pub fn worker_with_hms_keys(&self) -> (Worker, Arc<Mutex<Vec<bool>>>) {
        let counted: Arc<Mutex<Vec<bool>>> = Arc::default();
        let count = Arc::clone(&counted);
        let access = SourceAccess {
            credentials: Credentials {
                api_key: Some("key-canary".into()),
                api_secret: Some("secret-canary".into()),
                base_url: Some(self.api.url()),
            },
            on_remint: OnRemint(Some(Arc::new(move |is_fresh| {
                count.lock().unwrap().push(is_fresh);
            }))),
            ..SourceAccess::default()
        };
        let worker = self.worker_with(HashMap::from([("100ms".to_owned(), access)]));
        (worker, counted)
    }

    fn worker_with(&self, access: HashMap<String, SourceAccess>) -> Worker {
        let (source, objects) = (Arc::clone(&self.source), Arc::clone(&self.objects));
        let engine = Engine::new(
            Arc::clone(&source),
            Arc::clone(&objects),
            TransferSettings::default(),
        );
        let watched = Arc::clone(&self.watched);
        Worker {
            store: Arc::clone(&self.store),
            engine,
            source,
            objects,
            clock: Arc::new(SystemClock),
            access: Arc::new(access),
            emit: Arc::new(move |event| {
                watched.events.lock().unwrap().push(event);
                watched.bell.notify_waiters();
            }),
            settings: WorkerSettings {
                name: "worker".to_owned(),
                transfers: 2,
                small_transfers: 4,
                lease: Duration::from_secs(5),
                heartbeat: Duration::from_millis(100),
                silence: Duration::from_secs(600),
                grace: Duration::from_millis(200),
                poll: Duration::from_millis(200),
                retry: RetrySettings {
                    max_attempts: 4,
                    base_delay: Duration::from_millis(10),
                    max_delay: Duration::from_millis(100),
                    max_elapsed: Duration::from_secs(60),
                    destination_pause: Duration::from_millis(100),
                },
            },
            bell: Arc::clone(&self.bell),
        }
    }

    pub fn run(&self, worker: Worker) -> Running {
        let shutdown = CancellationToken::new();
        let token = shutdown.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { worker.run(token).await.unwrap() });
        Running { tasks, shutdown }
    }

    /// For a run in the foreground that nobody interrupts.
    pub fn never(&self) -> CancellationToken {
        CancellationToken::new()
    }

    pub fn url(&self, target: &str) -> String {
        format!("{}{target}", self.api.url())
    }

    /// Records an event with these artifacts, which gains itself as one, and rings the bell.
    pub async fn record(&self, id: &str, artifacts: Vec<Artifact>) -> Vec<JobId> {
        self.record_for(id, Provider::Hms, artifacts).await
    }

    /// Records another event about the recording of [`World::record`].
    pub async fn record_once_more(&self, id: &str, artifacts: Vec<Artifact>) -> Vec<JobId> {
        let event = event(id, &format!("{id}-once-more"), Provider::Hms, artifacts);
        let raw = json!({ "id": id }).to_string();
        self.store_event(event, raw.into()).await
    }

    pub async fn record_for(
        &self,
        id: &str,
        provider: Provider,
        artifacts: Vec<Artifact>,
    ) -> Vec<JobId> {
        let event = event(id, id, provider, artifacts);
        let raw = json!({ "id": id }).to_string();
        self.store_event(event, raw.into()).await
    }

    /// Records an event whose own text is made from what was sent when it is carried.
    pub async fn record_as_sent(&self, id: &str) -> Vec<JobId> {
        let event = Event {
            redacted: None,
            ..event(id, id, Provider::Hms, Vec::new())
        };
        self.store_event(event, Bytes::from_static(b"{}")).await
    }

    /// Records an event about the recording `id` that came through this source, while keys are made by `template`.
    pub async fn record_through(
        &self,
        source: &str,
        template: &str,
        id: &str,
        event_id: &str,
        artifacts: Vec<Artifact>,
    ) -> Vec<JobId> {
        let event = event(id, event_id, Provider::Hms, artifacts);
        self.store_from(source, template, event, Bytes::from_static(b"{}"))
            .await
    }

    async fn store_event(&self, event: Event, raw: Bytes) -> Vec<JobId> {
        let source = match event.provider {
            Provider::Daily => DAILY_SOURCE,
            other => other.as_str(),
        };
        self.store_from(source, key::DEFAULT_TEMPLATE, event, raw)
            .await
    }

    async fn store_from(
        &self,
        source: &str,
        template: &str,
        event: Event,
        raw: Bytes,
    ) -> Vec<JobId> {
        let layout = Layout::new("", template).unwrap();
        let now = SystemClock.now();
        let event = NewEvent::new(source, event, raw, &layout, now);
        let recorded = self.store.record(event).await.unwrap();
        self.bell.notify_one();
        recorded.jobs
    }

    pub async fn record_daily_transcript(&self) -> Vec<JobId> {
        let (event, raw) = daily_transcript();
        self.store_event(event, raw).await
    }

    /// The call that asks for the transcript of [`World::script_daily_transcript`].
    pub fn daily_transcript_lookup(&self) -> Lookup {
        let (event, _) = daily_transcript();
        match &event.artifacts[0].origin {
            Origin::Lookup(lookup) => lookup.clone(),
            other => panic!("{other:?}"),
        }
    }

    /// The path of the call that asks for the transcript.
    pub fn access_link_path(&self) -> String {
        "/transcript/T-1/access-link".to_owned()
    }

    /// Its answer.
    pub fn access_link(&self) -> Answer {
        let link = self.url("/t.vtt?sig=fresh");
        Answer::json(200, json!({ "transcriptId": "T-1", "download_link": link }))
    }

    /// The API gives a link to the transcript, and the link works.
    pub fn script_daily_transcript(&self) {
        let path = self.access_link_path();
        self.api.script(&path, [self.access_link()]);
        self.api.script("/t.vtt", [Answer::file(TRANSCRIPT)]);
    }

    /// Changes the store's file behind its back.
    pub async fn change_store(&self, statement: &'static str) {
        let path = self._folder.path().join("harvester.db");
        let options = sqlx::sqlite::SqliteConnectOptions::new()
            .filename(path)
            .foreign_keys(false);
        let mut conn = sqlx::ConnectOptions::connect(&options).await.unwrap();
        sqlx::query(statement).execute(&mut conn).await.unwrap();
        sqlx::Connection::close(conn).await.unwrap();
    }

    /// The number that a query answers with, as the store's file has it.
    pub async fn number_in_store(&self, query: &'static str) -> i64 {
        let path = self._folder.path().join("harvester.db");
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
        let mut conn = sqlx::ConnectOptions::connect(&options).await.unwrap();
        let number = sqlx::query_scalar(query).fetch_one(&mut conn).await;
        sqlx::Connection::close(conn).await.unwrap();
        number.unwrap()
    }

    /// Closes the store and gives all bytes of its files.
    pub async fn closed_store(&self) -> Vec<u8> {
        self.store.close().await;
        let files = std::fs::read_dir(self._folder.path()).unwrap();
        let files = files.map(|file| file.unwrap().path());
        let files = files.filter(|path| path.is_file());
        files
            .flat_map(|path| std::fs::read(path).unwrap())
            .collect()
    }

    /// Settles all small jobs as archived, though nothing is in the bucket.
    pub async fn archive_without_a_worker(&self) {
        let now = SystemClock.now();
        let claim = ClaimRequest {
            worker: "nobody".to_owned(),
            is_small: true,
            limit: 10_000,
            now,
            lease_until: now + jiff::SignedDuration::from_mins(1),
            only: None,
            held: Vec::new(),
            takes_lapsed: true,
        };
        for claimed in self.store.claim(claim).await.unwrap() {
            let outcome = Outcome::Archived(Archived {
                key: claimed.job.key.clone(),
                size_bytes: 1,
                crc64nvme: "AAAAAAAAAAA=".to_owned(),
                sha256: None,
                etag: None,
                version_id: None,
            });
            let settled = self.store.settle(&claimed.lease, &outcome, now).await;
            assert_eq!(settled.unwrap(), LeaseWrite::Yes);
        }
    }

    pub async fn records(&self, jobs: &[JobId]) -> Vec<Record> {
        let filter = Filter {
            ids: jobs.iter().map(|job| job.0).collect(),
            ..Filter::default()
        };
        self.store.list(&filter).await.unwrap()
    }

    pub async fn object(&self, key: &str) -> Option<Bytes> {
        let found = self.objects.get(key, 1 << 20).await.unwrap();
        found.map(|(bytes, _)| bytes)
    }

    pub async fn document(&self, key: &str) -> Option<serde_json::Value> {
        let bytes = self.object(key).await?;
        Some(serde_json::from_slice(&bytes).unwrap())
    }

    /// Path and query of every request to the API and the origin, oldest first.
    pub fn asked_paths(&self) -> Vec<String> {
        self.api
            .asked()
            .into_iter()
            .map(|asked| asked.target)
            .collect()
    }

    pub fn events(&self) -> Vec<ProgressEvent> {
        self.watched.events.lock().unwrap().clone()
    }

    pub fn forget_events(&self) {
        self.watched.events.lock().unwrap().clear();
    }

    /// The first event that fits, once it has come.
    pub async fn wait_for(&self, fits: impl Fn(&ProgressEvent) -> bool) -> ProgressEvent {
        let found = async {
            loop {
                let mut rung = std::pin::pin!(self.watched.bell.notified());
                rung.as_mut().enable();
                if let Some(event) = self.events().into_iter().find(|event| fits(event)) {
                    return event;
                }
                rung.await;
            }
        };
        match tokio::time::timeout(PATIENCE, found).await {
            Ok(event) => event,
            Err(_) => panic!("it never came; what came: {:#?}", self.events()),
        }
    }

    /// Waits until so many recordings are sealed.
    pub async fn wait_for_all_sealed(&self, count: usize) {
        let seen = Mutex::new(BTreeSet::new());
        self.wait_for(|event| {
            if let ProgressEvent::Sealed { recording_id, .. } = event {
                seen.lock().unwrap().insert(*recording_id);
            }
            seen.lock().unwrap().len() >= count
        })
        .await;
    }

    /// Waits until all of this many recordings are complete and sealed, as the store says it.
    pub async fn wait_for_nothing_unsealed(&self, recordings: usize) {
        let sealed = async {
            loop {
                let records = self.store.list(&Filter::default()).await.unwrap();
                let is_complete = records.iter().all(|record| record.state.is_settled());
                let unsealed = self.store.unsealed(10).await.unwrap();
                if records.len() >= recordings && is_complete && unsealed.is_empty() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let sealed = tokio::time::timeout(PATIENCE, sealed).await;
        sealed.expect("the recordings are sealed in time");
    }

    /// A worker leases all that is due in the lane and dies at once.
    pub async fn claim_and_die(&self, is_small: bool) {
        let now = SystemClock.now();
        let claim = ClaimRequest {
            worker: "killed".to_owned(),
            is_small,
            limit: 99,
            now,
            lease_until: now,
            only: None,
            held: Vec::new(),
            takes_lapsed: true,
        };
        self.store.claim(claim).await.unwrap();
    }

    pub async fn wait_for_seal(&self) -> ProgressEvent {
        self.wait_for(|event| kind_of(event) == "sealed").await
    }
}

/// An event about the recording `id`.
fn event(id: &str, event_id: &str, provider: Provider, artifacts: Vec<Artifact>) -> Event {
    Event {
        provider,
        event_id: Some(event_id.to_owned()),
        event_type: Some("test".to_owned()),
        dedupe_key: event_id.to_owned(),
        class: EventClass::Artifacts,
        event_time: None,
        recording: Recording {
            recording_id: Some(format!("recording-{id}")),
            ..Recording::default()
        },
        artifacts,
        failures: Vec::new(),
        alert: None,
        redacted: Some(json!({ "id": event_id }).to_string()),
    }
}

fn daily_transcript() -> (Event, Bytes) {
    let raw = json!({
        "version": "1.1.0",
        "type": "transcript.ready-to-download",
        "id": "tr-rtd-1",
        "payload": {
            "id": "T-1",
            "room_id": "R-1",
            "room_name": "standup",
            "mtg_session_id": "S-1",
            "status": "t_finished",
            "duration": 12.5,
        },
        "event_ts": 1_767_000_000,
    });
    let raw = Bytes::from(raw.to_string());
    let delivery = ingest::Delivery {
        body: &raw,
        id_header: None,
        received_at: SystemClock.now(),
    };
    (ingest::parse(Provider::Daily, &delivery).unwrap(), raw)
}

pub fn transcript(url: &str) -> Artifact {
    artifact("transcript.vtt", Kind::Transcript, Format::Vtt, url)
}

/// Of the lane for large ones, and of no format whose content would be judged.
pub fn file(name: &str, url: &str) -> Artifact {
    artifact(name, Kind::Other, Format::Bin, url)
}

pub fn artifact(name: &str, kind: Kind, format: Format, url: &str) -> Artifact {
    Artifact {
        identity: url.split('?').next().unwrap().to_owned() + name,
        name: name.to_owned(),
        kind,
        format,
        origin: Origin::Url(SignedUrl::new(url)),
        remint: None,
        deadline: Deadline::NONE,
        size_bytes: None,
    }
}

/// How long an attempt of the worker may tell no progress.
pub fn set_silence(worker: &mut Worker, silence: Duration) {
    worker.settings.silence = silence;
}

/// A deadline so many seconds from now, or before.
pub fn deadline_in(seconds: i64) -> Deadline {
    let at = SystemClock.now() + jiff::SignedDuration::from_secs(seconds);
    Deadline::at(at, DeadlineFrom::Query)
}

pub fn kind_of(event: &ProgressEvent) -> &'static str {
    match event {
        ProgressEvent::Started { .. } => "started",
        ProgressEvent::Bytes { .. } => "bytes",
        ProgressEvent::Retrying { .. } => "retrying",
        ProgressEvent::Settled { .. } => "settled",
        ProgressEvent::Sealed { .. } => "sealed",
        ProgressEvent::Resumed { .. } => "resumed",
        ProgressEvent::BucketRefuses { .. } => "bucket_refuses",
        ProgressEvent::BucketAccepts => "bucket_accepts",
        ProgressEvent::TaskRestarted { .. } => "task_restarted",
        ProgressEvent::ClockOffset { .. } => "clock_offset",
    }
}

pub fn count(paths: &[String], path: &str) -> usize {
    paths.iter().filter(|asked| *asked == path).count()
}
