//! The records that people and programs read: one artifact, a recording's manifest, its report.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::artifact::{Format, Kind};
use super::deadline::DeadlineFrom;
use super::job::{Archived, EventId, JobId, RecordingId, State};
use super::recording::Provider;
use crate::error::Class;

/// One artifact, in the one form it has everywhere: manifest, `list`, `failures`,
/// `archive --json`, API. What is unknown is null.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The job's id.
    pub id: JobId,
    /// Our id of the recording.
    pub recording_id: RecordingId,
    /// The provider.
    pub provider: Provider,
    /// The source.
    pub source: String,
    /// The file name in the archive.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// How it is written.
    pub format: Format,
    /// Where the job stands.
    pub state: State,
    /// Why it is not archived.
    pub class: Option<Class>,
    /// In words.
    pub message: Option<String>,
    /// What to do about it.
    pub action: Option<String>,
    /// The object's key.
    pub key: String,
    /// The length in bytes: of the object, else as announced.
    pub size_bytes: Option<u64>,
    /// CRC64NVME as S3 writes it.
    pub crc64nvme: Option<String>,
    /// SHA-256 in hex.
    pub sha256: Option<String>,
    /// The object's ETag.
    pub etag: Option<String>,
    /// The object's version.
    pub version_id: Option<String>,
    /// Until when the origin can be opened.
    pub deadline: Option<Timestamp>,
    /// How that is known.
    pub deadline_from: DeadlineFrom,
    /// Whether the origin may die before the deadline. Only the order of the work needs it: it is shown to nobody.
    #[serde(skip)]
    pub is_upper_bound: bool,
    /// Attempts so far.
    pub attempts: u32,
    /// Bytes carried so far.
    pub bytes_done: u64,
    /// When it was archived.
    pub archived_at: Option<Timestamp>,
}

impl Record {
    /// The record of a running job after it was archived at `now`, as the store then tells it.
    #[must_use]
    pub fn archived(self, archived: &Archived, now: Timestamp) -> Record {
        Record {
            state: State::Archived,
            class: None,
            message: None,
            action: None,
            key: archived.key.clone(),
            size_bytes: Some(archived.size_bytes),
            bytes_done: archived.size_bytes,
            crc64nvme: Some(archived.crc64nvme.clone()),
            sha256: archived.sha256.clone(),
            etag: archived.etag.clone(),
            version_id: archived.version_id.clone(),
            // The store keeps milliseconds.
            archived_at: Some(Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)),
            ..self
        }
    }
}

/// A file that belongs to an artifact of several: a playlist or segment of an HLS recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resource {
    /// The object's key.
    pub key: String,
    /// The length in bytes.
    pub size_bytes: u64,
    /// CRC64NVME as S3 writes it.
    pub crc64nvme: String,
}

/// An archived artifact as the manifest lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedArtifact<'a> {
    /// The artifact.
    #[serde(flatten)]
    pub record: Cow<'a, Record>,
    /// The files that belong to it, of an artifact of several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<Resource>,
}

impl<'a> From<Cow<'a, Record>> for ListedArtifact<'a> {
    fn from(record: Cow<'a, Record>) -> ListedArtifact<'a> {
        ListedArtifact {
            record,
            resources: Vec::new(),
        }
    }
}

impl std::ops::Deref for ListedArtifact<'_> {
    type Target = Record;

    fn deref(&self) -> &Record {
        &self.record
    }
}

/// A recording, as manifest and report name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordingRecord {
    /// Our id.
    pub id: RecordingId,
    /// The provider.
    pub provider: Provider,
    /// The source.
    pub source: String,
    /// The provider's id of the recording.
    pub recording_id: Option<String>,
    /// The provider's id of the bot.
    pub bot_id: Option<String>,
    /// The provider's id of the session.
    pub session_id: Option<String>,
    /// The provider's id of the room.
    pub room_id: Option<String>,
    /// The room's name.
    pub room_name: Option<String>,
    /// When it began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

/// `manifest.json`: what it lists is in the bucket and verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest<'a> {
    /// Always 1.
    pub version: u32,
    /// The recording.
    pub recording: RecordingRecord,
    /// The provider's ids of the events that made it, ours where the provider has none.
    pub event_ids: Vec<String>,
    /// The archived artifacts.
    pub artifacts: Vec<ListedArtifact<'a>>,
    /// When this was written.
    pub written_at: Timestamp,
}

/// A loss that the provider reported, as the report names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderFailureRecord {
    /// What kind of loss.
    pub class: Class,
    /// The provider's code.
    pub code: Option<String>,
    /// The provider's words.
    pub message: String,
    /// The event that said so: the provider's id, ours where it has none.
    pub event_id: String,
    /// When (the event's time, else its receipt).
    pub at: Timestamp,
}

/// A complete recording whose manifest can't be written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverdueManifest {
    /// The recording.
    pub recording: RecordingRecord,
    /// The class of the last failure.
    pub class: Class,
    /// The last failure.
    pub message: String,
    /// When it failed first.
    pub failing_since: Timestamp,
}

/// `report.json`: what is missing and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Always 1.
    pub version: u32,
    /// The recording.
    pub recording: RecordingRecord,
    /// Artifacts that were not saved.
    pub failures: Vec<Record>,
    /// Losses that the provider reported and that nothing has cured.
    pub provider_failures: Vec<ProviderFailureRecord>,
    /// When this was written.
    pub written_at: Timestamp,
}

/// Everything that manifest and report are made from, read from the store in one snapshot.
#[derive(Clone, Debug)]
pub struct RecordingContents {
    /// The recording.
    pub recording: RecordingRecord,
    /// The folder in the bucket, without a slash at the end.
    pub folder: String,
    /// The provider's ids of its events, ours where the provider has none, oldest first.
    pub event_ids: Vec<String>,
    /// All its artifacts, by name. Lookups that have been answered are not among them.
    pub artifacts: Vec<Record>,
    /// Its provider failures that nothing has cured.
    pub provider_failures: Vec<ProviderFailureRecord>,
    /// Grows with every change; given back when manifest and report are written.
    pub generation: i64,
    /// The ETag under which our manifest was last written, for `If-Match`.
    pub manifest_etag: Option<String>,
    /// The ETag under which our report was last written.
    pub report_etag: Option<String>,
}

impl RecordingContents {
    /// The manifest of these contents: only what is archived is in it.
    pub fn manifest(&self, now: Timestamp) -> Manifest<'_> {
        Manifest {
            version: 1,
            recording: self.recording.clone(),
            event_ids: self.event_ids.clone(),
            artifacts: self
                .archived()
                .map(|record| Cow::Borrowed(record).into())
                .collect(),
            written_at: now,
        }
    }

    /// What is in the bucket, and so in the manifest.
    pub fn archived(&self) -> impl Iterator<Item = &Record> {
        let artifacts = self.artifacts.iter();
        artifacts.filter(|record| record.state == State::Archived)
    }

    /// The report of these contents; `None` when nothing is missing and none was ever written
    /// (one that was written is replaced by an empty one: the loss is withdrawn).
    pub fn report(&self, now: Timestamp) -> Option<Report> {
        let failures: Vec<_> = self
            .artifacts
            .iter()
            .filter(|record| {
                matches!(
                    record.state,
                    State::Failed | State::Expired | State::Cancelled
                )
            })
            .cloned()
            .collect();
        let is_clean = failures.is_empty() && self.provider_failures.is_empty();
        if is_clean && self.report_etag.is_none() {
            return None;
        }
        Some(Report {
            version: 1,
            recording: self.recording.clone(),
            failures,
            provider_failures: self.provider_failures.clone(),
            written_at: now,
        })
    }
}

/// The id by which an event is named to people: the provider's, ours where it has none.
pub fn event_name(provider_event_id: Option<&str>, ours: EventId) -> String {
    provider_event_id.map_or_else(|| ours.to_string(), str::to_owned)
}
