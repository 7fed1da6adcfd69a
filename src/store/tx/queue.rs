//! Statements that lease jobs, and that write under leases.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use crate::error::{Class, Error, Result};
use crate::model::{
    Archived, Artifact, Checkpoint, EventId, JobId, Lease, Recording, RecordingId, State,
};
use crate::schedule::order::Urgency;
use crate::store::recovery::{AnnouncedFailure, RecoveredArtifact};
use crate::store::{Claimed, LeaseWrite};

/// When jobs are due and leases have lapsed.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct DueTimes {
    pub(in crate::store) now: Timestamp,
    /// Later than anything that is ever written now: what lies beyond was written before a clock was set back.
    pub(in crate::store) beyond: Timestamp,
    /// Whether leases lapse at all.
    pub(in crate::store) takes_lapsed: bool,
}

/// Which due jobs to find.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct DueJobs<'a> {
    pub(in crate::store) is_small: bool,
    pub(in crate::store) times: DueTimes,
    /// Only these.
    pub(in crate::store) only: Option<&'a [JobId]>,
    /// From so many unsettled leases on a running job is a suspect.
    pub(in crate::store) suspect_leases: i64,
    /// So many pending and so many running ones at most; suspects come besides.
    pub(in crate::store) limit: u32,
}

/// Which jobs to lease, and to whom.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct LeaseJobs<'a> {
    pub(in crate::store) jobs: &'a [JobId],
    pub(in crate::store) is_small: bool,
    pub(in crate::store) times: DueTimes,
    pub(in crate::store) until: Timestamp,
    pub(in crate::store) worker: &'a str,
    /// Only those with fewer unsettled leases.
    pub(in crate::store) below_leases: i64,
}

/// What the choice of jobs to lease needs.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Candidate {
    pub(in crate::store) id: JobId,
    pub(in crate::store) recording_id: RecordingId,
    pub(in crate::store) state: State,
    pub(in crate::store) urgency: Urgency,
    pub(in crate::store) unsettled_leases: i64,
    pub(in crate::store) token: i64,
}

/// A job that is stored in a form that can't be read.
#[derive(Debug)]
pub(in crate::store) struct UnreadableJob {
    /// As it stands there.
    pub(in crate::store) id: String,
    pub(in crate::store) why: Error,
}

/// What the end of an attempt needs to know of its job.
#[derive(Clone, Debug)]
pub(in crate::store) struct LeasedJob {
    pub(in crate::store) recording_id: RecordingId,
    pub(in crate::store) identity: String,
    /// Whether an API has to be asked for it, as far as is known by now.
    pub(in crate::store) is_lookup: bool,
    pub(in crate::store) announced_by: Option<EventId>,
    /// Its size in bytes, as far as it was ever told.
    pub(in crate::store) announced_size: Option<u64>,
    /// Whether a fresh origin came during the attempt.
    pub(in crate::store) has_fresh_origin: bool,
}

/// Back to `pending`. Of an attempt that is not counted the time does not count either, nor that until the next one.
/// Where a fresh origin came meanwhile, none of the attempts before counts.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Requeue<'a> {
    pub(in crate::store) at: Timestamp,
    /// What went wrong, if anything did.
    pub(in crate::store) why: Option<(Class, &'a str)>,
    pub(in crate::store) is_counted: bool,
    pub(in crate::store) now: Timestamp,
}

/// The end of a job without an object.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct GiveUp<'a> {
    pub(in crate::store) state: State,
    pub(in crate::store) class: Class,
    pub(in crate::store) message: &'a str,
    pub(in crate::store) now: Timestamp,
}

/// The end of one attempt that came well.
#[derive(Clone, Debug)]
pub(in crate::store) struct Settlement {
    pub(in crate::store) lease: Lease,
    pub(in crate::store) archived: Archived,
    pub(in crate::store) now: Timestamp,
}

/// A job that has just been archived.
#[derive(Clone, Debug)]
pub(in crate::store) struct ArchivedJob {
    pub(in crate::store) id: JobId,
    pub(in crate::store) recording_id: RecordingId,
    pub(in crate::store) saved: RecoveredArtifact,
}

/// An open provider failure that what is archived in the recording `cured_by` may cure.
#[derive(Clone, Debug)]
pub(in crate::store) struct FailureToCure {
    pub(in crate::store) cured_by: RecordingId,
    pub(in crate::store) id: Uuid,
    pub(in crate::store) loss: AnnouncedFailure,
    /// The recording that it was told of.
    pub(in crate::store) recording_id: RecordingId,
    pub(in crate::store) recording: Recording,
}

#[async_trait]
pub(in crate::store) trait QueueTx: Send {
    /// The first due jobs of a lane, the first whose lease has lapsed, each in the order of slack, and all lapsed suspects.
    async fn due_jobs(
        &mut self,
        wanted: &DueJobs<'_>,
    ) -> Result<Vec<Result<Candidate, UnreadableJob>>>;

    /// Leases those of the jobs that are still due, and answers with them in any order. An attempt that nobody settled is
    /// noted as that, and does not begin the time that retries have.
    async fn lease_jobs(
        &mut self,
        order: &LeaseJobs<'_>,
    ) -> Result<Vec<Result<Claimed, UnreadableJob>>>;

    /// Extends those of the leases that are current; answers with these.
    async fn extend_leases(&mut self, leases: &[Lease], until: Timestamp) -> Result<Vec<Lease>>;

    /// Whether a suspect is on its way now: leased once more when it had this many unsettled leases or more.
    async fn is_suspect_running(&mut self, suspect_leases: i64, times: &DueTimes) -> Result<bool>;

    /// The one that ended its workers is found: running jobs with so many unsettled leases are suspects no more.
    async fn clear_suspects(&mut self, suspect_leases: i64) -> Result<()>;

    /// Lets all leases of `holder` run out now; how many.
    async fn free_leases(&mut self, holder: &str) -> Result<u64>;

    /// What is stored of a running job under its current lease.
    async fn leased_job(&mut self, lease: &Lease) -> Result<Option<LeasedJob>>;

    /// Stores what the bucket has acknowledged, or forgets it. More bytes than ever before clear a suspect.
    async fn save_checkpoint(
        &mut self,
        lease: &Lease,
        checkpoint: Option<&Checkpoint>,
        bytes_done: u64,
    ) -> Result<LeaseWrite>;

    /// Replaces origin and deadline of a running job.
    async fn replace_origin(&mut self, lease: &Lease, artifact: &Artifact) -> Result<LeaseWrite>;

    /// Puts a job back.
    async fn requeue_job(&mut self, job: JobId, requeue: &Requeue<'_>) -> Result<()>;

    /// Ends jobs without an object.
    async fn give_up_jobs(&mut self, jobs: &[JobId], end: &GiveUp<'_>) -> Result<()>;

    /// Ends a job that can't be read if it is open, and counts it as one open job less.
    async fn give_up_unreadable(&mut self, job: &str, message: &str, now: Timestamp) -> Result<()>;

    /// Notes those artifacts as archived whose lease is current; answers with their jobs.
    async fn archive_jobs(&mut self, settlements: &[Settlement]) -> Result<Vec<ArchivedJob>>;

    /// So many jobs more are open of each of these recordings, fewer when it is negative; their generation grows.
    /// Never below zero: a row that was changed by hand must not hold up the others of its batch. Each recording stands in
    /// it once: see [`by_recording`].
    async fn count_open_jobs(&mut self, changes: &[(RecordingId, i64)]) -> Result<()>;

    /// So many jobs of each of these recordings are archived and were open before; their generation grows. Answers whether
    /// there is any failure that they could cure.
    async fn count_archived(&mut self, archived: &[(RecordingId, i64)]) -> Result<bool>;

    /// Open failures of these recordings, and those in their rooms of recordings without the provider's ids. Those that
    /// can't be read are left out.
    async fn failures_to_cure(&mut self, by: &[RecordingId]) -> Result<Vec<FailureToCure>>;

    /// What the provider told of a recording.
    async fn recording_facts(&mut self, recording: RecordingId) -> Result<Recording>;

    /// Moves pending jobs that are due before `until`; how many. The wait does not count as time that retries have.
    async fn pause_jobs(&mut self, until: Timestamp, class: Class, message: &str) -> Result<u64>;

    /// Makes the pending jobs due that wait because of a failure of `class`.
    async fn wake_jobs(&mut self, class: Class) -> Result<Vec<JobId>>;
}

/// The sum for each recording.
pub(in crate::store) fn by_recording(
    changes: impl Iterator<Item = (RecordingId, i64)>,
) -> Vec<(RecordingId, i64)> {
    let mut sums: BTreeMap<RecordingId, i64> = BTreeMap::new();
    for (recording, change) in changes {
        *sums.entry(recording).or_default() += change;
    }
    sums.into_iter().collect()
}
