//! The traits of the store, one for each of its users. See [the contract](super) that all of them keep.

use async_trait::async_trait;
use jiff::Timestamp;

use super::{
    ClaimRequest, Claimed, EventRecord, Filter, KeptBody, KnownArtifact, LeaseWrite, NewEvent,
    ProviderLoss, Recorded, Sealable, Selection, Stats, StoreLifecycle, UploadOwner, WalkTurn,
};
use crate::error::{Class, Result};
use crate::model::manifest::{OverdueManifest, RecordingContents};
use crate::model::{
    Artifact, Checkpoint, EventId, JobId, Lease, Outcome, Provider, Record, RecordingId,
};

/// All that a store does, in one object.
pub trait JobStore:
    EventIntake + JobQueue + ManifestQueue + OperatorAccess + ScanStore + StoreLifecycle
{
}

impl<S> JobStore for S where
    S: EventIntake + JobQueue + ManifestQueue + OperatorAccess + ScanStore + StoreLifecycle
{
}

/// Takes in events: the webhook listener, the scans and `archive`.
#[async_trait]
pub trait EventIntake: Send + Sync + 'static {
    /// Stores an event, its recording, its jobs and its provider failures; all or nothing.
    ///
    /// A known `(source, dedupe_key)` answers with the first receipt's ids. It makes no jobs; but where it brings an
    /// artifact of its recording that waits, is tried or was lost another URL than the known one, with a later expiry,
    /// or that lives where the known one was refused, that is announced as by a new event.
    /// The recording is found by `recording_key` or made; its folder is fixed then, on the date of the
    /// session's first event where the session is known already. An artifact whose `identity` the
    /// recording has already becomes no second job: a job that is not archived takes over the fresh
    /// origin, remint and deadline (keeping its checkpoint), and one that is `expired`, `failed` or
    /// `cancelled` goes back to `pending`; an event that is older (by its own time) than the one that announced the
    /// artifact last brings nothing fresh, nor does an unusable origin. A lookup that has been answered is asked
    /// again only when it found nothing or what it found was lost. A taken name gets a number (`recording-2.mp4`).
    /// An artifact with [`Origin::Unusable`](crate::model::Origin::Unusable) becomes a `failed` job.
    /// A provider failure with the `loss_key` of an earlier one of the recording is stored once; one that an
    /// archived artifact of a later event cures already is withdrawn at once.
    async fn record(&self, event: NewEvent) -> Result<Recorded>;
}

/// Hands out jobs under leases and takes in how attempts go and end: the worker.
#[async_trait]
pub trait JobQueue: Send + Sync + 'static {
    /// Leases due jobs to `worker`, least slack first (earliest latest-start, session-signed
    /// ones first among equals, then oldest). Due is: `pending` with `next_attempt_at` not after now,
    /// or `running` with a lease that has run out, unless the caller holds it: such a lease is extended. What is due, or
    /// leased, for longer than [`LONGEST_WAIT`](super::LONGEST_WAIT) from now was written before a clock was set back, and is due as well.
    /// Counts the attempt and gives a new fencing token.
    ///
    /// A job that was leased twice without a word from its worker is suspected of ending its workers. Of the suspects one
    /// is leased at a time, the least suspected first, so that an end is the fault of that one. One that was
    /// leased 20 times becomes `failed` (`internal`), which clears the others; a checkpoint with more bytes than ever
    /// clears the job itself.
    /// A job whose row can't be read (a newer harvester wrote it, or it is damaged) becomes `failed` (`internal`) too,
    /// and the others are leased.
    async fn claim(&self, claim: ClaimRequest) -> Result<Vec<Claimed>>;

    /// The body, byte for byte, of the event that announced `job` last: what [`Origin::Event`](crate::model::Origin::Event) stands for.
    async fn announcing_event(&self, job: JobId) -> Result<Option<bytes::Bytes>>;

    /// Extends leases to `until`; answers with the jobs whose lease is lost (stale or cancelled).
    async fn heartbeat(&self, leases: &[Lease], until: Timestamp) -> Result<Vec<JobId>>;

    /// Stores what the bucket has acknowledged so far; `None` forgets it.
    async fn checkpoint(
        &self,
        lease: &Lease,
        checkpoint: Option<&Checkpoint>,
        bytes_done: u64,
    ) -> Result<LeaseWrite>;

    /// Ends the attempt. `Archived` also erases the origin (its secret is of no more use) and the
    /// checkpoint, and withdraws provider failures that it cures; `Retry` with `is_counted: false`
    /// gives the attempt back. A job that was given a fresh origin during the attempt does not end by the
    /// old one's failure: it goes back to `pending`, due at once.
    async fn settle(&self, lease: &Lease, outcome: &Outcome, now: Timestamp) -> Result<LeaseWrite>;

    /// Ends a lookup job: the artifacts that the answer named become jobs of the same recording by
    /// the rules of [`record`](EventIntake::record), and the lookup leaves the records. In one transaction.
    /// One that another event announced during the attempt goes back to `pending` instead: the answer may be older.
    async fn resolve(
        &self,
        lease: &Lease,
        found: Vec<Artifact>,
        now: Timestamp,
    ) -> Result<LeaseWrite>;

    /// Makes jobs of the artifacts that a part of a lookup's answer named, as [`resolve`](JobQueue::resolve) does; the
    /// lookup goes on under its lease. Its name is left to what it finds: it is called `name.rest` from then on.
    async fn add_found(
        &self,
        lease: &Lease,
        found: Vec<Artifact>,
        now: Timestamp,
    ) -> Result<LeaseWrite>;

    /// Replaces a running job's origin and deadline after a re-mint; the lease goes on.
    async fn reorigin(&self, lease: &Lease, artifact: &Artifact) -> Result<LeaseWrite>;

    /// Moves `next_attempt_at` of all pending jobs that are due before `until` to `until`, counting
    /// no attempt: the destination refuses. Answers how many were moved.
    async fn pause(&self, until: Timestamp, class: Class, message: &str) -> Result<u64>;

    /// Makes the pending jobs due that wait because of a failure of `class`; how many.
    async fn wake(&self, class: Class) -> Result<u64>;

    /// Whether an operator has put pending jobs of `class` back since they were moved.
    async fn is_retry_asked(&self, class: Class) -> Result<bool>;

    /// When the next pending job is due or the next lease runs out; `None` when there is nothing to wait for.
    async fn next_due(&self) -> Result<Option<Timestamp>>;

    /// The jobs that have a checkpoint or one of `keys`: whose multipart uploads those in the bucket may be.
    async fn upload_owners(&self, keys: &[String]) -> Result<Vec<UploadOwner>>;
}

/// Tells which recordings wait for their manifest: the part of the worker that writes manifests.
#[async_trait]
pub trait ManifestQueue: Send + Sync + 'static {
    /// Recordings whose jobs have all settled and that have changed since their manifest was
    /// written, those that wait for another try among them; at most `limit`.
    async fn unsealed(&self, limit: u32) -> Result<Vec<RecordingId>>;

    /// Those of `recordings` that are [`unsealed`](ManifestQueue::unsealed).
    async fn unsealed_of(&self, recordings: &[RecordingId]) -> Result<Vec<RecordingId>>;

    /// The [`unsealed`](ManifestQueue::unsealed) recordings whose manifest is to be written now; at most `limit`. Those that have
    /// never failed come first.
    async fn sealable(&self, now: Timestamp, limit: u32) -> Result<Vec<Sealable>>;

    /// Notes that the manifest of `recording` could not be written, and that it is not tried again before `until`.
    async fn put_off_seal(
        &self,
        recording: RecordingId,
        class: Class,
        message: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<()>;

    /// What stays of the events of `recording` when it is sealed: the bodies of those that are not archived themselves.
    async fn kept_bodies(&self, recording: RecordingId) -> Result<Vec<KeptBody>>;

    /// Puts these texts in the place of bodies that are still there.
    async fn replace_bodies(&self, bodies: Vec<(EventId, String)>) -> Result<()>;

    /// Notes that manifest and report of `generation` are in the bucket under these ETags. If the recording has
    /// changed meanwhile it stays unsealed. What its events said is forgotten, since the bucket has it.
    async fn sealed(
        &self,
        recording: RecordingId,
        generation: i64,
        manifest_etag: Option<&str>,
        report_etag: Option<&str>,
    ) -> Result<()>;
}

/// Shows what is there and takes an operator's word: the commands, the API and the reports.
#[async_trait]
pub trait OperatorAccess: Send + Sync + 'static {
    /// Records that match, oldest first. Of a row that can't be read whole, what can be is told.
    async fn list(&self, filter: &Filter) -> Result<Vec<Record>>;

    /// All that manifest and report of a recording are made from. Of a row that can't be read whole, what can be is told
    /// (kind `other`, format `bin`), so that no manifest gets shorter by it; an error when one can't be read at all.
    async fn contents(&self, recording: RecordingId) -> Result<Option<RecordingContents>>;

    /// Complete recordings whose manifest could not be written for an hour or longer, at most `limit`.
    async fn overdue_manifests(&self, now: Timestamp, limit: u32) -> Result<Vec<OverdueManifest>>;

    /// Provider failures that match and that nothing has cured, oldest first.
    async fn provider_failures(&self, since: Option<Timestamp>) -> Result<Vec<ProviderLoss>> {
        self.provider_failures_of(None, since, None).await
    }

    /// As [`provider_failures`](OperatorAccess::provider_failures), of `provider`, and at most `limit`.
    async fn provider_failures_of(
        &self,
        provider: Option<Provider>,
        since: Option<Timestamp>,
        limit: Option<u32>,
    ) -> Result<Vec<ProviderLoss>>;

    /// Events that match, oldest first, at most `limit`: what came in, without bodies.
    async fn events(&self, since: Option<Timestamp>, limit: u32) -> Result<Vec<EventRecord>>;

    /// Events of class `unknown` that came in since then and after that one, oldest first, at most `limit`.
    async fn unknown_events(
        &self,
        since: Option<Timestamp>,
        after: Option<EventId>,
        limit: u32,
    ) -> Result<Vec<EventRecord>>;

    /// The body of an event, byte for byte.
    async fn raw_event(&self, event: EventId) -> Result<Option<bytes::Bytes>>;

    /// Replaces an event of class `unknown` by what it is read as now, as if it had come in then; `None` when there is
    /// no such event. One that turns out to be another delivery of an event that is known already only goes.
    async fn reread(&self, event: EventId, new: NewEvent) -> Result<Option<Recorded>>;

    /// Puts settled jobs that are not archived back to `pending`, due now, attempts from zero; of a class also the
    /// pending ones, whose attempts stay counted.
    /// Answers with their records as they are after. Many are woken a few at a time, each few in a transaction of their own: after an
    /// error some are awake, and the same call goes on.
    async fn retry(&self, selection: &Selection, now: Timestamp) -> Result<Vec<Record>>;

    /// Cancels jobs that have not settled; a running one's lease is lost to its worker. In several transactions, as
    /// [`retry`](OperatorAccess::retry).
    async fn cancel(&self, ids: &[uuid::Uuid], now: Timestamp) -> Result<Vec<Record>>;

    /// How many jobs are in each state, and the earliest latest-start among the open ones.
    async fn stats(&self) -> Result<Stats>;
}

/// Tells scans of the providers' lists what is known, and how far the last one came.
#[async_trait]
pub trait ScanStore: Send + Sync + 'static {
    /// What is known of the recordings of `source` with these keys: their jobs, and lookups that were answered.
    async fn known(&self, source: &str, recording_keys: &[String]) -> Result<Vec<KnownArtifact>>;

    /// Takes the walk over the lists of `source` for `holder` until `lease_until`, or goes on with it; one holder
    /// has it at a time.
    async fn begin_walk(
        &self,
        source: &str,
        holder: &str,
        now: Timestamp,
        lease_until: Timestamp,
    ) -> Result<WalkTurn>;

    /// Gives the walk back. After a whole one `reached` is up to when everything has been seen; it never goes back.
    async fn end_walk(&self, source: &str, holder: &str, reached: Option<Timestamp>) -> Result<()>;
}
