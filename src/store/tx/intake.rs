//! Statements that take in events and what lookups found.

use std::collections::HashMap;

use async_trait::async_trait;
use jiff::Timestamp;
use jiff::civil::Date;
use uuid::Uuid;

use crate::error::Result;
use crate::model::{Artifact, EventId, JobId, Recording, RecordingId};
use crate::store::intake::{JobSlot, LossSlot, RecordingChanges};
use crate::store::recovery::RecoveredArtifact;
use crate::store::renewal::UnarchivedJob;
use crate::store::{NewEvent, Recorded};

/// A source and what is unique within it: a dedupe key, a recording key or a session id.
pub(in crate::store) type Pair = (String, String);

/// What is known of an event that came in before.
#[derive(Clone, Debug)]
pub(in crate::store) struct Receipt {
    pub(in crate::store) event_id: EventId,
    pub(in crate::store) recording_id: Option<RecordingId>,
    pub(in crate::store) jobs: Vec<JobId>,
}

/// An artifact in the bucket, of a recording in a room.
#[derive(Clone, Debug)]
pub(in crate::store) struct SavedInRoom {
    pub(in crate::store) recording: Recording,
    pub(in crate::store) saved: RecoveredArtifact,
    pub(in crate::store) announced_at: Timestamp,
}

/// A job to write: its recording, what it is, and its origin.
pub(in crate::store) type JobRow<'a> = (&'a RecordingChanges, &'a JobSlot, &'a Artifact);

/// A provider failure to write, with its recording.
pub(in crate::store) type FailureRow<'a> = (&'a RecordingChanges, &'a LossSlot);

#[async_trait]
pub(in crate::store) trait IntakeTx: Send {
    /// Earlier receipts of these `(source, dedupe_key)`.
    async fn receipts(&mut self, keys: &[Pair]) -> Result<HashMap<Pair, Receipt>>;

    /// How the jobs of these recordings stand whose files are neither in the bucket nor given up by an operator, but those
    /// whose bytes came with an event. One that can't be read is left out: it is not renewed, and holds up none of the others.
    async fn unsaved_files(&mut self, recordings: &[RecordingId]) -> Result<Vec<UnarchivedJob>>;

    /// The recordings with these `(source, recording_key)`, with their jobs, failures and answered lookups.
    async fn recordings_by_key(&mut self, keys: &[Pair]) -> Result<Vec<RecordingChanges>>;

    /// A recording, as [`recordings_by_key`](IntakeTx::recordings_by_key) gives it.
    async fn recording(&mut self, id: RecordingId) -> Result<Option<RecordingChanges>>;

    /// The folder date of the first recording of each of these `(source, session_id)`.
    async fn session_dates(&mut self, sessions: &[Pair]) -> Result<HashMap<Pair, Date>>;

    /// Artifacts that are in the bucket, of recordings of `source` in `room`.
    async fn saved_in_room(&mut self, source: &str, room: &str) -> Result<Vec<SavedInRoom>>;

    /// New recordings, with the number of their open jobs.
    async fn insert_recordings(&mut self, recordings: &[&RecordingChanges]) -> Result<()>;

    /// What is known of these recordings now, and the number of their open jobs; their generation grows.
    async fn update_recordings(&mut self, recordings: &[&RecordingChanges]) -> Result<()>;

    /// New events with their receipts. Their recordings are there.
    async fn insert_events(&mut self, events: &[(&NewEvent, Recorded)]) -> Result<()>;

    /// New jobs.
    async fn insert_jobs(&mut self, jobs: &[JobRow<'_>]) -> Result<()>;

    /// A fresh origin for a job that is not archived. One that has settled begins anew, and one that waits has all attempts
    /// again: those before were made at another URL. Of an attempt under way see [`Requeue`](super::Requeue).
    async fn refresh_jobs(&mut self, jobs: &[JobRow<'_>]) -> Result<()>;

    /// Archived jobs are announced again: nothing to do but to know it.
    async fn announce_archived(&mut self, jobs: &[&JobSlot]) -> Result<()>;

    /// New provider failures.
    async fn insert_failures(&mut self, failures: &[FailureRow<'_>]) -> Result<()>;

    /// Notes that open provider failures are cured, and when.
    async fn withdraw_failures(&mut self, failures: &[(Uuid, Timestamp)]) -> Result<()>;

    /// Forgets that these lookups, named by recording and identity, were answered.
    async fn forget_answers(&mut self, lookups: &[(RecordingId, &str)]) -> Result<()>;

    /// Notes that the lookup `job` was answered, which had this identity.
    async fn keep_answer(
        &mut self,
        recording: RecordingId,
        identity: &str,
        job: JobId,
        now: Timestamp,
    ) -> Result<()>;

    /// Removes a job.
    async fn delete_job(&mut self, job: JobId) -> Result<()>;

    /// Gives a job another name in the archive; its key stays.
    async fn rename_job(&mut self, job: JobId, name: &str) -> Result<()>;
}
