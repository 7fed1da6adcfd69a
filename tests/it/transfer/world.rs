//! Origin, object store and ledger for one test of the engine.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use recording_harvester::clock::SystemClock;
use recording_harvester::error::{Class, Error, Result};
use recording_harvester::model::job::FinishedPart;
use recording_harvester::model::progress::Emit;
use recording_harvester::model::{
    Archived, Checkpoint, Deadline, Format, Job, JobId, Kind, Origin, ProgressEvent, Provider,
    Recording, RecordingId,
};
use recording_harvester::object::embedded::{EmbeddedS3, EmbeddedSettings};
use recording_harvester::object::s3::{S3Settings, S3Store};
use recording_harvester::object::{
    Capabilities, Condition, ListedPart, ListedUpload, ObjectAttributes, ObjectInfo, ObjectStore,
    Payload, PutEnd, WriteEnd,
};
use recording_harvester::signed_url::SignedUrl;
use recording_harvester::source::Waits;
use recording_harvester::source::http::HttpSource;
use recording_harvester::transfer::hls::HlsSettings;
use recording_harvester::transfer::{Engine, JOB_METADATA_KEY, Ledger, TransferSettings};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{loopback_source, patient_source, single_file_source};
use crate::harness::origin::TestOrigin;
use crate::harness::s3::payload;
use crate::harness::stores::StoreKind;

pub const MIB: u64 = 1024 * 1024;

/// The smallest parts that S3 takes, so that tests can be small.
pub fn small_parts() -> TransferSettings {
    TransferSettings {
        memory_bytes: 64 * MIB,
        part_size_bytes: 5 * MIB,
        lanes: 3,
        upload_patience: Duration::from_millis(500),
        held_patience: Duration::from_secs(30),
        ..TransferSettings::default()
    }
}

/// Bytes done and in all, as progress told them.
type Told = Arc<Mutex<Vec<(u64, Option<u64>)>>>;

/// Bytes that need not be transferred again, or why none.
type Resumed = Arc<Mutex<Vec<(u64, Option<String>)>>>;

pub struct World {
    pub origin: TestOrigin,
    pub store: Arc<Scripted>,
    pub engine: Engine,
    pub ledger: TestLedger,
    pub told: Told,
    /// Bytes that an earlier attempt had left, or why none of them were of use.
    pub resumed: Resumed,
    source: Arc<HttpSource>,
    settings: TransferSettings,
    _s3: EmbeddedS3,
    _folder: tempfile::TempDir,
}

impl World {
    pub async fn new() -> World {
        World::with(small_parts()).await
    }

    pub async fn with(settings: TransferSettings) -> World {
        let kind = StoreKind::of_this_run();
        let world = World::over_store(kind, settings).await;
        kind.make_known(&*world.store).await;
        world
    }

    /// A world whose object store is of this kind.
    pub async fn on(kind: StoreKind) -> World {
        World::over_store(kind, small_parts()).await
    }

    async fn over_store(kind: StoreKind, settings: TransferSettings) -> World {
        let folder = tempfile::tempdir().unwrap();
        let s3 = EmbeddedS3::start(
            EmbeddedSettings {
                root: folder.path().to_owned(),
                listen: "127.0.0.1:0".parse().unwrap(),
                bucket: "archive".to_owned(),
                abilities: kind.abilities(),
            },
            Arc::new(SystemClock),
        )
        .await
        .unwrap();
        let store = S3Store::connect(S3Settings {
            bucket: "archive".to_owned(),
            region: Some("us-east-1".to_owned()),
            endpoint: Some(s3.endpoint()),
            path_style: true,
            credentials: Some(s3.credentials()),
            slowest_bytes_per_second: 1024,
        })
        .await
        .unwrap();
        let store = Arc::new(Scripted {
            store,
            script: Mutex::new(Vec::new()),
        });
        let source = Arc::new(patient_source(vec![s3.address()]));
        World {
            origin: TestOrigin::start().await,
            engine: Engine::new(source.clone(), store.clone(), settings.clone()),
            source,
            settings,
            store,
            ledger: TestLedger::default(),
            told: Arc::default(),
            resumed: Arc::default(),
            _s3: s3,
            _folder: folder,
        }
    }

    /// The same world, which archives in another bucket.
    pub fn archiving_in(mut self, store: S3Store) -> World {
        self.store = Arc::new(Scripted {
            store,
            script: Mutex::new(Vec::new()),
        });
        self.set(small_parts());
        self
    }

    /// The same world, whose source soon gives up on an origin that hangs or stalls.
    pub fn impatient(self) -> World {
        let settings = self.settings.clone();
        self.over(loopback_source(Vec::new()), settings)
    }

    /// The same world, with one connection to a host at a time.
    pub fn in_single_file(self) -> World {
        self.over(single_file_source(), small_parts())
    }

    /// The same world, read through another source.
    pub fn over(mut self, source: HttpSource, settings: TransferSettings) -> World {
        self.source = Arc::new(source);
        self.set(settings);
        self
    }

    /// The same world, with these settings for the jobs' source.
    pub fn with_hls(mut self, hls: HlsSettings) -> World {
        self.set(TransferSettings {
            hls: [("100ms".to_owned(), hls)].into(),
            ..small_parts()
        });
        self
    }

    /// From now on with these settings.
    pub fn set(&mut self, settings: TransferSettings) {
        self.engine = Engine::new(self.source.clone(), self.store.clone(), settings.clone());
        self.settings = settings;
    }

    /// A job for what the origin serves under `path`.
    pub fn job(&self, path: &str, format: Format) -> Job {
        let url = format!("{}?X-Amz-Signature=CANARY", self.origin.url(path));
        job(Origin::Url(SignedUrl::new(url)), format)
    }

    pub async fn carry(&self, job: &Job) -> Result<Archived> {
        self.carry_until(job, &CancellationToken::new()).await
    }

    /// Carries, and checks what must hold however it ends.
    pub async fn carry_until(&self, job: &Job, cancel: &CancellationToken) -> Result<Archived> {
        let told = self.told.clone();
        let resumed = self.resumed.clone();
        let emit: Emit = Arc::new(move |event| match event {
            ProgressEvent::Bytes { done, total, .. } => told.lock().unwrap().push((done, total)),
            ProgressEvent::Resumed { done, message, .. } => {
                resumed.lock().unwrap().push((done, message));
            }
            _ => {}
        });
        let carrying = self.engine.carry(job, &[], &self.ledger, &emit, cancel);
        let result = tokio::time::timeout(Duration::from_secs(60), carrying)
            .await
            .expect("every wait ends");
        let noted = self.ledger.last.lock().unwrap().clone();
        let mut left = self.store.store.list_uploads("").await.unwrap();
        // What the ledger names is for the next attempt.
        left.retain(|upload| {
            noted
                .as_ref()
                .is_none_or(|noted| noted.upload_id != upload.upload_id)
        });
        assert!(left.is_empty(), "an upload was left behind: {left:?}");
        assert_eq!(self.engine.budget().held_bytes(), 0);
        if let Err(error) = &result {
            let text = format!("{error:?} {}", error.full_message());
            assert!(!text.contains("CANARY"), "{text}");
        }
        result
    }

    /// The job comes to its end: aborts what it left for another attempt.
    pub async fn abandon(&self, job: &Job) {
        let left = self.ledger.last.lock().unwrap().take();
        if let Some(checkpoint) = left {
            self.engine.abandon(job, &checkpoint).await;
        }
    }

    /// An upload for `job` that holds the parts `numbers` of `content`, and the note of it.
    pub async fn upload_parts(
        &self,
        job: &Job,
        key: &str,
        content: &[u8],
        numbers: &[u32],
    ) -> Checkpoint {
        let store = &self.store.store;
        let attributes = ObjectAttributes {
            metadata: vec![(JOB_METADATA_KEY.to_owned(), job.id.to_string())],
            ..ObjectAttributes::default()
        };
        let upload_id = store.create_upload(key, &attributes).await.unwrap();
        let mut parts = Vec::new();
        for number in numbers {
            let start = (number - 1) as usize * (5 << 20);
            let part = payload(&content[start..content.len().min(start + (5 << 20))]);
            let sent = store.upload_part(key, &upload_id, *number, &part).await;
            parts.push(sent.unwrap());
        }
        let checkpoint = Checkpoint {
            upload_id,
            part_size_bytes: 5 * MIB,
            length_bytes: Some(content.len() as u64),
            validator: Some("\"v1\"".to_owned()),
            parts,
            key: Some(key.to_owned()),
            check: None,
            sealed: None,
        };
        *self.ledger.last.lock().unwrap() = Some(checkpoint.clone());
        checkpoint
    }

    /// How many parts the bucket holds of the unfinished upload under `key`.
    pub async fn landed_parts(&self, key: &str) -> usize {
        let store = &self.store.store;
        let uploads = store.list_uploads(key).await.unwrap();
        let Some(upload) = uploads.first() else {
            return 0;
        };
        let parts = store.list_parts(key, &upload.upload_id).await.unwrap();
        parts.map_or(0, |parts| parts.len())
    }

    pub async fn delete(&self, key: &str) {
        self.store.store.delete(key).await.unwrap();
    }

    /// The object under `key`.
    pub async fn object(&self, key: &str) -> Option<(Bytes, ObjectInfo)> {
        self.store.store.get(key, 1 << 30).await.unwrap()
    }

    /// Puts an object of the job's under its key that holds something else.
    pub async fn put_wrong(&self, job: &Job) {
        let store = &self.store.store;
        store.delete(&job.key).await.unwrap();
        let attributes = ObjectAttributes {
            metadata: vec![(JOB_METADATA_KEY.to_owned(), job.id.to_string())],
            ..ObjectAttributes::default()
        };
        let wrong = payload(b"the job's, and not its recording");
        let end = store.put(&job.key, &wrong, &attributes, None).await;
        assert_eq!(end.unwrap(), WriteEnd::Done);
    }

    /// Puts somebody else's content under `key`.
    pub async fn put_other(&self, key: &str) {
        self.store.put_other(key).await;
    }
}

pub fn job(origin: Origin, format: Format) -> Job {
    Job {
        id: JobId(uuid::Uuid::now_v7()),
        recording_id: RecordingId(uuid::Uuid::now_v7()),
        recording: Recording::default(),
        provider: Provider::Hms,
        source: "100ms".to_owned(),
        name: format!("recording.{}", format.extension()),
        kind: Kind::Video,
        format,
        origin,
        remint: None,
        deadline: Deadline::NONE,
        size_bytes: None,
        key: format!("100ms/2026/03/02/s/r/recording.{}", format.extension()),
        attempts: 1,
        lease_token: 1,
        first_attempt_at: "2026-03-02T10:00:00Z".parse().unwrap(),
        checkpoint: None,
    }
}

/// A sound MP4 of exactly `size` bytes.
pub fn mp4(size: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size as usize);
    bytes.extend_from_slice(b"\0\0\0\x10ftypisom\0\0\0\0");
    bytes.extend_from_slice(b"\0\0\0\x10moovabcdefgh");
    let media = u32::try_from(size - 32).unwrap();
    bytes.extend_from_slice(&media.to_be_bytes());
    bytes.extend_from_slice(b"mdat");
    let mut random = fastrand::Rng::with_seed(size);
    while (bytes.len() as u64) < size {
        bytes.extend_from_slice(&random.u64(..).to_le_bytes());
    }
    bytes.truncate(size as usize);
    bytes
}

/// A ledger that remembers.
pub struct TestLedger {
    pub is_held: AtomicBool,
    /// The waits that were declared.
    pub heard: Arc<Mutex<Vec<Heard>>>,
    pub saves: Mutex<Vec<u64>>,
    pub last: Mutex<Option<Checkpoint>>,
}

impl Default for TestLedger {
    fn default() -> Self {
        TestLedger {
            is_held: AtomicBool::new(true),
            heard: Arc::default(),
            saves: Mutex::default(),
            last: Mutex::default(),
        }
    }
}

#[async_trait]
impl Ledger for TestLedger {
    async fn save(&self, checkpoint: Option<&Checkpoint>, bytes_done: u64) -> Result<()> {
        *self.last.lock().unwrap() = checkpoint.cloned();
        self.saves.lock().unwrap().push(bytes_done);
        Ok(())
    }

    async fn is_held(&self) -> bool {
        self.is_held.load(Ordering::SeqCst)
    }

    fn waits(&self) -> Waits {
        let heard = Arc::clone(&self.heard);
        Waits::heard_by(move |end| {
            let at = Instant::now();
            heard.lock().unwrap().push(Heard { at, end });
        })
    }
}

/// A wait as it was declared.
#[derive(Clone, Copy, Debug)]
pub struct Heard {
    pub at: Instant,
    pub end: Instant,
}

/// An operation that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Put,
    /// A write over what is there, in one request or in parts.
    Replace,
    /// Of what has this name.
    PutOf(&'static str),
    Part,
    Complete,
    /// Of an object that is there.
    Head,
}

/// How it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Not done, transient.
    Fails,
    /// Not done, for good.
    Denied,
    /// Done, but the answer is lost.
    AnswerLost,
    /// Not done; the answer could mean anything.
    Unclear,
    /// Done, though the answer says otherwise.
    DoneButUnclear,
    /// Not done: another write was on its way.
    Conflict,
    /// Not done; acknowledged all the same. A HEAD tells a byte too many.
    Lies,
    /// A HEAD tells another checksum.
    Damages,
    /// Somebody else's object appears under the key just before.
    Overtaken,
    /// The upload vanishes just before.
    UploadGone,
}

/// The real store with a script of troubles in front.
pub struct Scripted {
    store: S3Store,
    script: Mutex<Vec<(Op, Trouble)>>,
}

impl Scripted {
    /// The next `times` calls of `op` meet `trouble`.
    pub fn script(&self, op: Op, trouble: Trouble, times: usize) {
        let mut script = self.script.lock().unwrap();
        script.extend(std::iter::repeat_n((op, trouble), times));
    }

    pub fn is_script_played(&self) -> bool {
        self.script.lock().unwrap().is_empty()
    }

    /// From now on all goes well. How much of the script was not played.
    pub fn forget_script(&self) -> usize {
        std::mem::take(&mut *self.script.lock().unwrap()).len()
    }

    /// The next call of `op` meets `trouble`, if any; what was scripted before is forgotten.
    pub fn script_next(&self, op: Op, trouble: Option<Trouble>) {
        self.forget_script();
        if let Some(trouble) = trouble {
            self.script(op, trouble, 1);
        }
    }

    pub async fn open_uploads(&self) -> Vec<ListedUpload> {
        self.store.list_uploads("").await.unwrap()
    }

    fn next_put(&self, key: &str) -> Option<Trouble> {
        let mut script = self.script.lock().unwrap();
        let at = script.iter().position(|(scripted, _)| match scripted {
            Op::Put => true,
            Op::PutOf(name) => key.rsplit('/').next() == Some(*name),
            _ => false,
        })?;
        Some(script.remove(at).1)
    }

    fn next(&self, op: Op) -> Option<Trouble> {
        let mut script = self.script.lock().unwrap();
        let at = script.iter().position(|(scripted, _)| *scripted == op)?;
        Some(script.remove(at).1)
    }

    async fn put_other(&self, key: &str) {
        let bytes = Bytes::from_static(b"somebody else's");
        let payload = Payload {
            size_bytes: bytes.len() as u64,
            crc64nvme: crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, &bytes),
            chunks: Arc::new(vec![bytes]),
        };
        let attributes = ObjectAttributes::default();
        let end = self.store.put(key, &payload, &attributes, None).await;
        assert_eq!(end.unwrap(), WriteEnd::Done);
    }

    async fn write(
        &self,
        trouble: Option<Trouble>,
        key: &str,
        upload_id: Option<&str>,
        write: impl Future<Output = Result<WriteEnd>> + Send,
    ) -> Result<WriteEnd> {
        let lost = || Error::transient(Class::UploadFailed, "scripted: no answer");
        match trouble {
            None => write.await,
            Some(Trouble::Fails) => Err(lost()),
            Some(Trouble::Denied) => Err(Error::new(Class::UploadDenied, "scripted: denied")),
            Some(Trouble::AnswerLost) => {
                assert_eq!(write.await?, WriteEnd::Done);
                Err(lost())
            }
            Some(Trouble::Unclear) => Ok(WriteEnd::Unclear),
            Some(Trouble::Conflict) => Ok(WriteEnd::Conflict),
            Some(Trouble::DoneButUnclear) => {
                assert_eq!(write.await?, WriteEnd::Done);
                Ok(WriteEnd::Unclear)
            }
            Some(Trouble::Lies | Trouble::Damages) => Ok(WriteEnd::Done),
            Some(Trouble::Overtaken) => {
                self.put_other(key).await;
                write.await
            }
            Some(Trouble::UploadGone) => {
                self.store.abort(key, upload_id.unwrap()).await?;
                write.await
            }
        }
    }
}

#[async_trait]
impl ObjectStore for Scripted {
    async fn delete(&self, key: &str) -> Result<()> {
        self.store.delete(key).await
    }

    /// Shows nothing, so that each end has to be looked at.
    async fn put_shown(
        &self,
        key: &str,
        payload: &Payload,
        attributes: &ObjectAttributes,
        condition: Option<&Condition>,
    ) -> Result<PutEnd> {
        let write = self.store.put(key, payload, attributes, condition);
        let is_over = matches!(condition, Some(Condition::Matches(_)));
        let trouble = match is_over.then(|| self.next(Op::Replace)).flatten() {
            None => self.next_put(key),
            trouble => trouble,
        };
        let end = self.write(trouble, key, None, write).await?;
        Ok(end.into())
    }

    async fn create_upload(&self, key: &str, attributes: &ObjectAttributes) -> Result<String> {
        self.store.create_upload(key, attributes).await
    }

    async fn upload_part(
        &self,
        key: &str,
        upload_id: &str,
        number: u32,
        payload: &Payload,
    ) -> Result<FinishedPart> {
        match self.next(Op::Part) {
            None => {
                self.store
                    .upload_part(key, upload_id, number, payload)
                    .await
            }
            Some(Trouble::Denied) => Err(Error::new(Class::UploadDenied, "scripted: denied")),
            Some(_) => Err(Error::transient(Class::UploadFailed, "scripted: no answer")),
        }
    }

    async fn list_parts(&self, key: &str, upload_id: &str) -> Result<Option<Vec<ListedPart>>> {
        self.store.list_parts(key, upload_id).await
    }

    async fn complete(
        &self,
        key: &str,
        upload_id: &str,
        parts: &[FinishedPart],
        size_bytes: u64,
        crc64nvme: u64,
        condition: Option<&Condition>,
    ) -> Result<WriteEnd> {
        let write = self
            .store
            .complete(key, upload_id, parts, size_bytes, crc64nvme, condition);
        let is_over = matches!(condition, Some(Condition::Matches(_)));
        let trouble = match is_over.then(|| self.next(Op::Replace)).flatten() {
            None => self.next(Op::Complete),
            trouble => trouble,
        };
        self.write(trouble, key, Some(upload_id), write).await
    }

    async fn abort(&self, key: &str, upload_id: &str) -> Result<()> {
        self.store.abort(key, upload_id).await
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectInfo>> {
        let mut info = self.store.head(key).await?;
        if let Some(info) = &mut info {
            match self.next(Op::Head) {
                None => {}
                Some(Trouble::Fails) => {
                    let lost = Error::transient(Class::UploadFailed, "scripted: no answer");
                    return Err(lost);
                }
                Some(Trouble::Damages) => info.crc64nvme = Some("AAAAAAAAAAE=".to_owned()),
                Some(_) => info.size_bytes += 1,
            }
        }
        Ok(info)
    }

    async fn get(&self, key: &str, max_bytes: u64) -> Result<Option<(Bytes, ObjectInfo)>> {
        self.store.get(key, max_bytes).await
    }

    async fn get_range(
        &self,
        key: &str,
        etag: Option<&str>,
        start: u64,
        length: u64,
    ) -> Result<Bytes> {
        self.store.get_range(key, etag, start, length).await
    }

    async fn list_uploads(&self, prefix: &str) -> Result<Vec<ListedUpload>> {
        self.store.list_uploads(prefix).await
    }

    async fn check_bucket(&self) -> Result<()> {
        self.store.check_bucket().await
    }

    fn capabilities(&self) -> Capabilities {
        self.store.capabilities()
    }

    async fn probe(&self, probe_key: &str) -> Result<Capabilities> {
        self.store.probe(probe_key).await
    }
}
