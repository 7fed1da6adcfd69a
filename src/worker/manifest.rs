//! The last step of a recording: its manifest, then its report, written when all its jobs have settled.
//!
//! Both are ours to replace and nobody else's: they carry the recording's id in their metadata, the
//! first write demands an empty place and each later one the ETag of what we wrote before. When the
//! condition does not hold we look: after a crash between the write and its note the document is
//! there and ours, and is replaced; another's stays and ours gets a numbered name.
//!
//! Two workers may seal one recording at the same time. What is written is always read from the
//! store *after* the ETag that it replaces, so that an older state never replaces a newer one.

use std::collections::{BTreeSet, HashMap};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, checksum};
use futures::stream::{self, Stream, StreamExt as _};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::error::{Class, Error, Result};
use crate::model::artifact::free_name;
use crate::model::job::Fingerprint;
use crate::model::manifest::{RecordingContents, Report, Resource};
use crate::model::{Format, JobId, Kind, ProgressEvent, Record, RecordingId, State};
use crate::object::owned::{OwnedObject, Owner, Ownership, UnderKey, put_owned, replacing};
use crate::object::{Condition, ObjectAttributes, Payload};
use crate::transfer::hls;
use crate::worker::Worker;
use crate::worker::document::hide_secrets_of_kept;

/// Recordings that are sealed in one pass.
const BATCH: u32 = 256;

/// Recordings whose documents are on their way at the same time.
const AT_ONCE: usize = 16;

/// The wait after a recording could not be sealed; doubles up to the longest.
const DELAY: Duration = Duration::from_secs(2);
const MAX_DELAY: Duration = Duration::from_secs(300);

/// How often a write may find its condition broken before it counts as failed.
const TRIES: u32 = 8;

/// What an artifact takes in a document, so that a long one need not be moved again and again while it grows.
const LISTED_BYTES: usize = 1024;

/// Seals whatever is complete, at the start (a crash may have come in between), whenever `settled`
/// rings, and a last time after `stop`.
pub(super) async fn keep(worker: Worker, settled: Arc<Notify>, stop: CancellationToken) {
    loop {
        pass(&worker).await;
        tokio::select! {
            () = stop.cancelled() => break,
            () = settled.notified() => {}
            () = tokio::time::sleep(worker.settings.poll) => {}
        }
    }
    pass(&worker).await;
}

/// Seals those of the recordings `worked_on` that are complete, and those of `own` that an earlier
/// run left unsealed.
pub(super) async fn these(
    worker: &Worker,
    worked_on: BTreeSet<RecordingId>,
    own: BTreeSet<RecordingId>,
) {
    let own: Vec<_> = own.into_iter().collect();
    let left = worker.store.unsealed_of(&own).await;
    let left = left.unwrap_or_else(|error| {
        tracing::warn!(
            "failed to find complete recordings: {}",
            error.full_message()
        );
        Vec::new()
    });
    let recordings: BTreeSet<_> = worked_on.into_iter().chain(left).collect();
    let mut sealing = pin!(sealing(worker, recordings));
    while let Some((recording, sealed)) = sealing.next().await {
        if let Err(error) = sealed {
            complain(recording, &error);
        }
    }
}

async fn pass(worker: &Worker) {
    let due = match worker.store.sealable(worker.clock.now(), BATCH).await {
        Ok(due) => due,
        Err(error) => {
            tracing::warn!(
                "failed to find complete recordings: {}",
                error.full_message()
            );
            return;
        }
    };
    let failures: HashMap<_, _> = due.iter().map(|one| (one.id, one.failures)).collect();
    let mut sealing = pin!(sealing(worker, due.into_iter().map(|one| one.id)));
    while let Some((recording, sealed)) = sealing.next().await {
        if let Err(error) = sealed {
            complain(recording, &error);
            let failures = failures.get(&recording).copied().unwrap_or(0);
            put_off(worker, recording, failures, &error).await;
        }
    }
}

/// Lets a recording wait that has failed `failures` times before. The wait stands in the store, so that those that wait do not
/// stand before those that are due.
async fn put_off(worker: &Worker, recording: RecordingId, failures: u32, error: &Error) {
    let now = worker.clock.now();
    let wait = SignedDuration::try_from(delay_after(failures)).unwrap_or(SignedDuration::ZERO);
    let until = now.saturating_add(wait).unwrap_or(Timestamp::MAX);
    let message = error.full_message();
    let noted = worker
        .store
        .put_off_seal(recording, error.class(), &message, now, until)
        .await;
    if let Err(error) = noted {
        let why = error.full_message();
        tracing::warn!(%recording, "failed to note that its manifest waits: {why}");
    }
}

/// The wait after one more failure than `failures`.
fn delay_after(failures: u32) -> Duration {
    DELAY
        .saturating_mul(1 << failures.saturating_add(1).min(16))
        .min(MAX_DELAY)
}

/// Seals `recordings`, several at once, and tells of each when it has ended.
fn sealing(
    worker: &Worker,
    recordings: impl IntoIterator<Item = RecordingId>,
) -> impl Stream<Item = (RecordingId, Result<()>)> {
    stream::iter(recordings)
        .map(move |recording| async move { (recording, seal(worker, recording).await) })
        .buffer_unordered(AT_ONCE)
}

fn complain(recording: RecordingId, error: &Error) {
    tracing::warn!(
        %recording,
        class = %error.class(),
        "failed to write the manifest, trying again later: {}",
        error.full_message()
    );
}

/// Writes manifest and report of a recording whose jobs have all settled; does nothing for another.
async fn seal(worker: &Worker, recording: RecordingId) -> Result<()> {
    let sealer = Sealer { worker, recording };
    let Wrote::Document(manifest) = sealer.write(Document::Manifest, false).await? else {
        return Ok(());
    };
    let contents = manifest.contents;
    // If the note about an earlier manifest was lost, that about its report may be lost as well.
    let is_report_due = manifest.was_unknown || contents.report(worker.clock.now()).is_some();
    // What has changed since is sealed again: the note below is about these contents only.
    let report = match is_report_due {
        true => match sealer.write(Document::Report, manifest.was_unknown).await? {
            Wrote::Document(report) => Some(report),
            Wrote::Nothing => None,
            // An earlier report may be there, and must not be forgotten.
            Wrote::Reopened => return Ok(()),
        },
        false => None,
    };
    hide_secrets_of_kept(worker, recording).await?;
    worker
        .store
        .sealed(
            recording,
            contents.generation,
            Some(&manifest.etag),
            report.as_ref().map(|report| report.etag.as_str()),
        )
        .await?;
    let now = worker.clock.now();
    let lost = contents.report(now).map_or(0, |report| {
        report.failures.len() + report.provider_failures.len()
    });
    (worker.emit)(ProgressEvent::Sealed {
        recording_id: recording,
        manifest_key: manifest.key,
        archived: contents.archived().count(),
        lost,
    });
    Ok(())
}

/// What is written about a recording.
#[derive(Clone, Copy)]
enum Document {
    Manifest,
    Report,
}

impl Document {
    fn name(self) -> &'static str {
        match self {
            Document::Manifest => "manifest.json",
            Document::Report => "report.json",
        }
    }

    /// Under which ETag the store knows it.
    fn known_etag(self, contents: &RecordingContents) -> Option<&str> {
        match self {
            Document::Manifest => contents.manifest_etag.as_deref(),
            Document::Report => contents.report_etag.as_deref(),
        }
    }

    /// What it should say; `None` when it need not exist. A report that is there already is
    /// replaced by an empty one when nothing is missing any more.
    fn body(
        self,
        contents: &RecordingContents,
        there: Option<&str>,
        mut resources: HashMap<JobId, Vec<Resource>>,
        now: Timestamp,
    ) -> Result<Option<Vec<u8>>> {
        match self {
            Document::Manifest => {
                let mut manifest = contents.manifest(now);
                for artifact in &mut manifest.artifacts {
                    artifact.resources = resources.remove(&artifact.id).unwrap_or_default();
                }
                render(&manifest, contents.artifacts.len()).map(Some)
            }
            Document::Report => {
                let mut contents = contents.clone();
                contents.report_etag = there.map(str::to_owned);
                let report = contents.report(now);
                let render = |report: &Report| render(report, report.failures.len());
                report.as_ref().map(render).transpose()
            }
        }
    }
}

/// Whether an artifact may consist of several files.
fn has_resources(record: &Record) -> bool {
    let is_archive = record.kind == Kind::Hls && record.format == Format::Zip;
    // A playlist may turn out to be one only when it is fetched.
    record.format == Format::M3u8 || record.key.ends_with(".m3u8") || is_archive
}

/// As JSON that lists so many artifacts.
fn render(document: &impl Serialize, artifacts: usize) -> Result<Vec<u8>> {
    let mut text = Vec::with_capacity((artifacts + 1) * LISTED_BYTES);
    serde_json::to_writer_pretty(&mut text, document)
        .map_err(|error| Error::internal("write a document as JSON").with_source(error))?;
    Ok(text)
}

/// Writes the documents of one recording.
struct Sealer<'a> {
    worker: &'a Worker,
    recording: RecordingId,
}

/// A document that is in the bucket, confirmed by asking.
struct WrittenDocument {
    key: String,
    etag: String,
    contents: RecordingContents,
    /// Whether one of ours was there that the store did not know of.
    was_unknown: bool,
}

/// What came of writing a document.
enum Wrote {
    Document(Box<WrittenDocument>),
    /// It need not exist.
    Nothing,
    /// A job of the recording is open again, so that there is nothing final to say.
    Reopened,
}

/// What is under a key.
enum There {
    Nothing,
    Ours(String),
    Another,
}

impl Sealer<'_> {
    /// Writes `document`, over an earlier one of ours.
    ///
    /// `look_first` is for a document that may be there without the store's knowledge.
    async fn write(&self, document: Document, look_first: bool) -> Result<Wrote> {
        let Some(contents) = self.contents().await? else {
            return Ok(Wrote::Reopened);
        };
        let folder = contents.folder.clone();
        let mut fresh = Some(contents);
        let mut foreign = BTreeSet::new();
        let mut must_look = look_first;
        let mut was_unknown = false;
        for _ in 0..TRIES {
            let name = free_name(document.name(), |name| foreign.contains(name));
            let key = format!("{folder}/{name}");
            // Looked at before the contents are read: see the notes on two workers above.
            let there = if must_look {
                fresh = None;
                Some(self.look(&key).await?)
            } else {
                None
            };
            let read = match fresh.take() {
                Some(contents) => Some(contents),
                None => self.contents().await?,
            };
            let Some(contents) = read else {
                return Ok(Wrote::Reopened);
            };
            let known = document.known_etag(&contents);
            let replaced = match there {
                None => known.map(str::to_owned),
                Some(There::Nothing) => None,
                Some(There::Ours(etag)) => {
                    was_unknown |= known != Some(&etag);
                    Some(etag)
                }
                Some(There::Another) => {
                    foreign.insert(name);
                    continue;
                }
            };
            let now = self.worker.clock.now();
            let resources = match document {
                Document::Manifest => self.resources(&contents).await?,
                Document::Report => HashMap::new(),
            };
            let Some(body) = document.body(&contents, replaced.as_deref(), resources, now)? else {
                return Ok(Wrote::Nothing);
            };
            let condition = replaced.map_or(Condition::Absent, Condition::Matches);
            match self.put(&key, body, &condition).await? {
                Some(etag) => {
                    return Ok(Wrote::Document(Box::new(WrittenDocument {
                        key,
                        etag,
                        contents,
                        was_unknown,
                    })));
                }
                None => must_look = true,
            }
        }
        Err(Error::transient(
            Class::UploadFailed,
            format!("write {}: what is there keeps changing", document.name()),
        ))
    }

    /// What the documents are made from; `None` while a job of the recording is still open.
    async fn contents(&self) -> Result<Option<RecordingContents>> {
        let contents = self.worker.store.contents(self.recording).await?;
        Ok(contents.filter(|contents| {
            let mut artifacts = contents.artifacts.iter();
            artifacts.all(|artifact| artifact.state.is_settled())
        }))
    }

    /// The files of those archived artifacts that consist of several. They are listed in the bucket, since
    /// what is many per recording does not pass through the store.
    async fn resources(
        &self,
        contents: &RecordingContents,
    ) -> Result<HashMap<JobId, Vec<Resource>>> {
        let mut resources = HashMap::new();
        for record in &contents.artifacts {
            if record.state == State::Archived && has_resources(record) {
                let objects = &*self.worker.objects;
                let found = hls::resources(objects, record.id, &record.key).await?;
                resources.insert(record.id, found);
            }
        }
        Ok(resources)
    }

    async fn look(&self, key: &str) -> Result<There> {
        let Some(object) = self.worker.objects.head(key).await? else {
            return Ok(There::Nothing);
        };
        if self.owner().ownership(&object) != Ownership::Ours {
            return Ok(There::Another);
        }
        match replacing(key, &object)? {
            Condition::Matches(etag) => Ok(There::Ours(etag)),
            Condition::Absent => Ok(There::Nothing),
        }
    }

    fn owner(&self) -> Owner {
        Owner::of_recording(self.recording)
    }

    /// Writes and confirms that the new document is there; `None` when something else is there now.
    async fn put(&self, key: &str, body: Vec<u8>, condition: &Condition) -> Result<Option<String>> {
        let payload = Payload {
            size_bytes: body.len() as u64,
            crc64nvme: checksum(CrcAlgorithm::Crc64Nvme, &body),
            chunks: Arc::new(vec![Bytes::from(body)]),
        };
        let (owner, expected) = (self.owner(), Fingerprint::of(&payload));
        let mut attributes = ObjectAttributes {
            content_type: Format::Json.content_type().to_owned(),
            metadata: owner.metadata(),
            is_rewritten: true,
            ..ObjectAttributes::default()
        };
        expected.add_to(&mut attributes);
        let object = OwnedObject {
            key,
            owner: &owner,
            expected: &expected,
            condition,
        };
        let written = put_owned(&*self.worker.objects, object, &payload, &attributes).await?;
        let archived = match (written.found, written.answer) {
            (UnderKey::Whole(archived), _) => archived,
            // The earlier one is still there, since this was not written.
            (UnderKey::Wrong(_) | UnderKey::Others, Err(error)) => return Err(error),
            _ => return Ok(None),
        };
        archived.etag.map(Some).ok_or_else(|| {
            Error::new(
                Class::UploadFailed,
                format!("note {key}: the object store tells no ETag of it"),
            )
        })
    }
}
