//! What a worker asks of the queue, and what it is given.

use jiff::{SignedDuration, Timestamp};

use crate::model::{Job, JobId, Lease, Record, State};

/// Nothing is due later than this from when it is written, and no lease lives longer.
pub const LONGEST_WAIT: SignedDuration = SignedDuration::from_secs(300);

/// What a worker asks for.
#[derive(Clone, Debug)]
pub struct ClaimRequest {
    /// Who asks; shown to people.
    pub worker: String,
    /// Whether from the lane of small artifacts or from the other.
    pub is_small: bool,
    /// How many at most.
    pub limit: u32,
    /// The present.
    pub now: Timestamp,
    /// When the leases run out without a heartbeat.
    pub lease_until: Timestamp,
    /// Only these jobs, when it is an `archive` in the foreground that asks.
    pub only: Option<Vec<JobId>>,
    /// The leases that the caller holds: never lapsed to it, whatever the clock says.
    pub held: Vec<Lease>,
    /// Whether to take over the jobs of workers whose leases have run out.
    pub takes_lapsed: bool,
}

/// A leased job.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// The proof.
    pub lease: Lease,
    /// How many of the job's earlier attempts ended with their worker, and don't count for the budget of retries.
    pub unsettled_attempts: u32,
    /// The work.
    pub job: Job,
    /// Its record as it stands now.
    pub record: Record,
}

/// Whether a write under a lease happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a stale lease means that the work belongs to another worker"]
pub enum LeaseWrite {
    /// It did.
    Yes,
    /// The lease is not the current one: nothing was written.
    Stale,
}

/// A job that may have begun a multipart upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadOwner {
    /// The job.
    pub job: JobId,
    /// Its key.
    pub key: String,
    /// Where it stands.
    pub state: State,
    /// The upload that its checkpoint names.
    pub upload_id: Option<String>,
}
