//! What the engine in memory keeps of recordings, jobs, events and failures.

use bytes::Bytes;
use jiff::Timestamp;
use jiff::civil::Date;
use uuid::Uuid;

use crate::error::Class;
use crate::model::manifest::{ProviderFailureRecord, Record, RecordingRecord};
use crate::model::{
    Archived, Artifact, Checkpoint, Deadline, EventClass, EventId, Format, Job, JobId, Kind, Lease,
    Lookup, Origin, Provider, Recording, RecordingId, State,
};
use crate::schedule::order::Urgency;
use crate::store::Claimed;
use crate::store::intake::{JobSlot, RecordingChanges};
use crate::store::recovery::{AnnouncedFailure, RecoveredArtifact};
use crate::store::stored::{clean, kept};

#[derive(Clone, Debug)]
pub(super) struct StoredRecording {
    pub(super) id: RecordingId,
    pub(super) source: String,
    pub(super) provider: Provider,
    pub(super) recording_key: String,
    pub(super) facts: Recording,
    pub(super) date: Date,
    pub(super) folder: String,
    pub(super) created_at: Timestamp,
    pub(super) generation: i64,
    pub(super) sealed_generation: i64,
    pub(super) open_jobs: i64,
    pub(super) manifest_etag: Option<String>,
    pub(super) report_etag: Option<String>,
    pub(super) next_seal_at: Timestamp,
    pub(super) seal_failure: Option<SealFailure>,
}

/// That a manifest can't be written.
#[derive(Clone, Debug)]
pub(super) struct SealFailure {
    pub(super) count: u32,
    pub(super) since: Timestamp,
    pub(super) class: Class,
    pub(super) message: String,
}

#[derive(Clone, Debug)]
pub(super) struct StoredJob {
    pub(super) id: JobId,
    pub(super) recording_id: RecordingId,
    pub(super) identity: String,
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) format: Format,
    pub(super) key: String,
    pub(super) state: State,
    pub(super) is_small: bool,
    /// `None` once it is archived.
    pub(super) origin: Option<Origin>,
    /// Stays known when the origin is erased.
    pub(super) is_inline: bool,
    pub(super) remint: Option<Lookup>,
    pub(super) deadline: Deadline,
    pub(super) latest_start_ms: i64,
    pub(super) announced_size: Option<u64>,
    pub(super) announced_by: Option<EventId>,
    pub(super) announced_at: Timestamp,
    pub(super) found_by: Option<JobId>,
    pub(super) has_fresh_origin: bool,
    pub(super) attempts: u32,
    pub(super) unsettled_attempts: u32,
    pub(super) first_attempt_at: Option<Timestamp>,
    pub(super) next_attempt_at: Timestamp,
    pub(super) lease_token: i64,
    /// Until when and by whom it is leased, while it is running.
    pub(super) lease: Option<(Timestamp, String)>,
    pub(super) unsettled_leases: i64,
    pub(super) checkpoint: Option<Checkpoint>,
    pub(super) bytes_done: u64,
    pub(super) class: Option<Class>,
    pub(super) message: Option<String>,
    pub(super) archived: Option<(Archived, Timestamp)>,
    pub(super) changed_at: Timestamp,
}

#[derive(Clone, Debug)]
pub(super) struct StoredEvent {
    pub(super) id: EventId,
    pub(super) source: String,
    pub(super) provider: Provider,
    pub(super) dedupe_key: String,
    pub(super) event_id: Option<String>,
    pub(super) event_type: Option<String>,
    pub(super) class: EventClass,
    pub(super) alert: Option<String>,
    pub(super) received_at: Timestamp,
    pub(super) recording_id: Option<RecordingId>,
    pub(super) jobs: Vec<JobId>,
    /// Empty once it is forgotten.
    pub(super) raw: Bytes,
}

#[derive(Clone, Debug)]
pub(super) struct StoredFailure {
    pub(super) id: Uuid,
    pub(super) recording_id: RecordingId,
    pub(super) loss_key: String,
    pub(super) loss: AnnouncedFailure,
    pub(super) record: ProviderFailureRecord,
    pub(super) received_at: Timestamp,
    pub(super) withdrawn_at: Option<Timestamp>,
}

/// How far a source's lists have been scanned, and by whom they are being scanned now.
#[derive(Clone, Debug, Default)]
pub(super) struct StoredScan {
    pub(super) reached: Option<Timestamp>,
    pub(super) held: Option<(String, Timestamp)>,
}

impl StoredRecording {
    pub(super) fn is_complete(&self) -> bool {
        self.open_jobs == 0
    }

    pub(super) fn is_unsealed(&self) -> bool {
        self.is_complete() && self.generation > self.sealed_generation
    }

    pub(super) fn is_sealed(&self) -> bool {
        self.is_complete() && self.generation == self.sealed_generation
    }

    pub(super) fn record(&self) -> RecordingRecord {
        let facts = self.facts.clone();
        RecordingRecord {
            id: self.id,
            provider: self.provider,
            source: self.source.clone(),
            recording_id: facts.recording_id,
            bot_id: facts.bot_id,
            session_id: facts.session_id,
            room_id: facts.room_id,
            room_name: facts.room_name,
            started_at: facts.started_at.map(kept),
            ended_at: facts.ended_at.map(kept),
        }
    }
}

impl StoredJob {
    pub(super) fn new(shelf: &RecordingChanges, slot: &JobSlot, artifact: &Artifact) -> StoredJob {
        let failure = slot.failure();
        let urgency = Urgency::of(slot.id, artifact.deadline, artifact.size_bytes);
        StoredJob {
            id: slot.id,
            recording_id: shelf.id,
            identity: slot.identity.clone(),
            name: slot.name.clone(),
            kind: artifact.kind,
            format: artifact.format,
            key: shelf.key_of(slot),
            state: slot.state,
            is_small: artifact.is_small(),
            is_inline: artifact.origin.is_inline(),
            origin: Some(artifact.origin.clone()),
            remint: artifact.remint.clone(),
            deadline: kept_deadline(artifact.deadline),
            latest_start_ms: urgency.latest_start_ms(),
            announced_size: artifact.size_bytes,
            announced_by: slot.announced_by,
            announced_at: kept(slot.announced_at),
            found_by: slot.found_by,
            has_fresh_origin: false,
            attempts: 0,
            unsettled_attempts: 0,
            first_attempt_at: None,
            next_attempt_at: Timestamp::UNIX_EPOCH,
            lease_token: 0,
            lease: None,
            unsettled_leases: 0,
            checkpoint: None,
            bytes_done: 0,
            class: failure.map(|(class, _)| class),
            message: failure.map(|(_, why)| clean(why).into_owned()),
            archived: None,
            changed_at: kept(shelf.changed_at),
        }
    }

    /// Takes over origin and deadline; what is known of length and re-mint stays where nothing new is told.
    pub(super) fn take_origin(&mut self, artifact: &Artifact, is_small: bool) {
        let urgency = Urgency::of(self.id, artifact.deadline, artifact.size_bytes);
        self.is_inline = artifact.origin.is_inline();
        self.origin = Some(artifact.origin.clone());
        self.remint = artifact.remint.clone().or(self.remint.take());
        self.deadline = kept_deadline(artifact.deadline);
        self.latest_start_ms = urgency.latest_start_ms();
        self.announced_size = artifact.size_bytes.or(self.announced_size);
        self.is_small = is_small;
    }

    pub(super) fn is_running(&self) -> bool {
        self.state == State::Running
    }

    pub(super) fn is_held_by(&self, lease: &Lease) -> bool {
        self.is_running() && self.lease_token == lease.token
    }

    pub(super) fn urgency(&self) -> Urgency {
        Urgency::stored(self.id, self.latest_start_ms, self.deadline.is_upper_bound)
    }

    pub(super) fn saved(&self) -> RecoveredArtifact {
        RecoveredArtifact {
            announced_by: self.announced_by,
            kind: self.kind,
            is_inline: self.is_inline,
        }
    }

    pub(super) fn record(&self, recording: &StoredRecording) -> Record {
        let record = Record {
            id: self.id,
            recording_id: self.recording_id,
            provider: recording.provider,
            source: recording.source.clone(),
            name: self.name.clone(),
            kind: self.kind,
            format: self.format,
            state: self.state,
            class: self.class,
            message: self.message.clone(),
            action: self.class.map(|class| class.action().to_owned()),
            key: self.key.clone(),
            size_bytes: self.announced_size,
            crc64nvme: None,
            sha256: None,
            etag: None,
            version_id: None,
            deadline: self.deadline.at,
            deadline_from: self.deadline.from,
            is_upper_bound: self.deadline.is_upper_bound,
            attempts: self.attempts,
            bytes_done: self.bytes_done,
            archived_at: None,
        };
        match &self.archived {
            Some((archived, at)) => record.archived(archived, *at),
            None => record,
        }
    }

    pub(super) fn claimed(&self, recording: &StoredRecording) -> Claimed {
        let record = self.record(recording);
        let origin = self.origin.clone();
        Claimed {
            lease: Lease {
                job: self.id,
                token: self.lease_token,
            },
            unsettled_attempts: self.unsettled_attempts,
            job: Job {
                id: self.id,
                recording_id: self.recording_id,
                recording: recording.facts.clone(),
                provider: recording.provider,
                source: recording.source.clone(),
                name: self.name.clone(),
                kind: self.kind,
                format: self.format,
                origin: origin.expect("only what is archived has none"),
                remint: self.remint.clone(),
                deadline: self.deadline,
                size_bytes: self.announced_size,
                key: self.key.clone(),
                attempts: self.attempts,
                lease_token: self.lease_token,
                first_attempt_at: self.first_attempt_at.expect("it is being tried"),
                checkpoint: self.checkpoint.clone(),
            },
            record,
        }
    }
}

fn kept_deadline(deadline: Deadline) -> Deadline {
    Deadline {
        at: deadline.at.map(kept),
        ..deadline
    }
}
