//! The durable state: events, recordings and jobs, and the contract that every back end keeps.
//!
//! # The contract
//!
//! *Atomic.* Each call is one transaction: after an error nothing of it is stored, after `Ok` all of
//! it survives power loss.
//! *Deduplicated.* One `(source, dedupe_key)` is one event, however often and however concurrently it
//! is recorded. Within a recording one `identity` is one job.
//! *Fenced.* A write about a running job takes its [`Lease`]; when another claim has happened since,
//! or the job is not running any more, nothing is written and the answer is [`Written::Stale`].
//! *Time.* `now` is always an argument; the store has no clock.
//! *Missing.* A job, recording or event that is not there is an empty answer, not an error.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

use crate::error::{Class, Result};
use crate::model::manifest::{OverdueManifest, RecordingContents};
use crate::model::{
    Artifact, Checkpoint, Deadline, Event, EventClass, EventId, Folder, Format, Job, JobId, Kind,
    Layout, Lease, Origin, Outcome, Provider, Record, RecordingId, State, key,
};

pub mod sqlite;

mod body;
mod cure;
mod intake;
mod purge_sql;
mod records;
mod sql;
mod stored;

pub use body::KeptBody;

/// Keeps events and jobs. See the module's contract.
#[async_trait]
pub trait JobStore: Send + Sync + 'static {
    /// Stores an event, its recording, its jobs and its provider failures; all or nothing.
    ///
    /// A known `(source, dedupe_key)` changes nothing and answers with the first receipt's ids.
    /// The recording is found by `recording_key` or made; its folder is fixed then, on the date of the
    /// session's first event where the session is known already. An artifact whose `identity` the
    /// recording has already becomes no second job: a job that is not archived takes over the fresh
    /// origin, remint and deadline (keeping its checkpoint), and one that is `expired`, `failed` or
    /// `cancelled` goes back to `pending`; an event that is older (by its own time) than the one that announced the
    /// artifact last brings nothing fresh, nor does an unusable origin. A lookup that has been answered is asked
    /// again only when it found nothing or what it found was lost. A taken name gets a number (`recording-2.mp4`).
    /// An artifact with [`Origin::Unusable`] becomes a `failed` job.
    /// A provider failure with the `loss_key` of an earlier one of the recording is stored once; one that an
    /// archived artifact of a later event cures already is withdrawn at once.
    async fn record(&self, event: NewEvent) -> Result<Recorded>;

    /// Leases due jobs to `worker`, least slack first (earliest latest-start, session-signed
    /// ones first among equals, then oldest). Due is: `pending` with `next_attempt_at` not after now,
    /// or `running` with a lease that has run out, unless the caller holds it: such a lease is extended. What is due, or
    /// leased, for longer than [`LONGEST_WAIT`] from now was written before a clock was set back, and is due as well.
    /// Counts the attempt and gives a new fencing token.
    ///
    /// A job that was leased twice without a word from its worker is suspected of ending its workers. Of the suspects one
    /// is leased at a time, the least suspected first, so that an end is the fault of that one. One that was
    /// leased 20 times becomes `failed` (`internal`), which clears the others; a checkpoint with more bytes than ever
    /// clears the job itself.
    /// A job whose row can't be read (a newer harvester wrote it, or it is damaged) becomes `failed` (`internal`) too,
    /// and the others are leased.
    async fn claim(&self, claim: Claim) -> Result<Vec<Claimed>>;

    /// The body, byte for byte, of the event that announced `job` last: what [`Origin::Event`] stands for.
    async fn announcing_event(&self, job: JobId) -> Result<Option<bytes::Bytes>>;

    /// Extends leases to `until`; answers with the jobs whose lease is lost (stale or cancelled).
    async fn heartbeat(&self, leases: &[Lease], until: Timestamp) -> Result<Vec<JobId>>;

    /// Stores what the bucket has acknowledged so far; `None` forgets it.
    async fn checkpoint(
        &self,
        lease: &Lease,
        checkpoint: Option<&Checkpoint>,
        bytes_done: u64,
    ) -> Result<Written>;

    /// Ends the attempt. `Archived` also erases the origin (its secret is of no more use) and the
    /// checkpoint, and withdraws provider failures that it cures; `Retry` with `is_counted: false`
    /// gives the attempt back. A job that was given a fresh origin during the attempt does not end by the
    /// old one's failure: it goes back to `pending`, due at once.
    async fn settle(&self, lease: &Lease, outcome: &Outcome, now: Timestamp) -> Result<Written>;

    /// Ends a lookup job: the artifacts that the answer named become jobs of the same recording by
    /// the rules of [`record`](JobStore::record), and the lookup leaves the records. In one transaction.
    async fn resolve(&self, lease: &Lease, found: Vec<Artifact>, now: Timestamp)
    -> Result<Written>;

    /// Makes jobs of the artifacts that a part of a lookup's answer named, as [`resolve`](JobStore::resolve) does; the
    /// lookup goes on under its lease. Its name is left to what it finds: it is called `name.rest` from then on.
    async fn add_found(
        &self,
        lease: &Lease,
        found: Vec<Artifact>,
        now: Timestamp,
    ) -> Result<Written>;

    /// Replaces a running job's origin and deadline after a re-mint; the lease goes on.
    async fn reorigin(&self, lease: &Lease, artifact: &Artifact) -> Result<Written>;

    /// Moves `next_attempt_at` of all pending jobs that are due before `until` to `until`, counting
    /// no attempt: the destination refuses. Answers how many were moved.
    async fn pause(&self, until: Timestamp, class: Class, message: &str) -> Result<u64>;

    /// Makes the pending jobs due that wait because of a failure of `class`; how many.
    async fn wake(&self, class: Class) -> Result<u64>;

    /// Whether an operator has put pending jobs of `class` back since they were moved.
    async fn is_retry_asked(&self, class: Class) -> Result<bool>;

    /// Recordings whose jobs have all settled and that have changed since their manifest was
    /// written, those that wait for another try among them; at most `limit`.
    async fn unsealed(&self, limit: u32) -> Result<Vec<RecordingId>>;

    /// Those of `recordings` that are [`unsealed`](JobStore::unsealed).
    async fn unsealed_of(&self, recordings: &[RecordingId]) -> Result<Vec<RecordingId>>;

    /// The [`unsealed`](JobStore::unsealed) recordings whose manifest is to be written now; at most `limit`. Those that have
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

    /// Complete recordings whose manifest could not be written for an hour or longer, at most `limit`.
    async fn overdue_manifests(&self, now: Timestamp, limit: u32) -> Result<Vec<OverdueManifest>>;

    /// All that manifest and report of a recording are made from. Of a row that can't be read whole, what can be is told
    /// (kind `other`, format `bin`), so that no manifest gets shorter by it; an error when one can't be read at all.
    async fn contents(&self, recording: RecordingId) -> Result<Option<RecordingContents>>;

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

    /// The jobs that have a checkpoint or one of `keys`: whose multipart uploads those in the bucket may be.
    async fn upload_owners(&self, keys: &[String]) -> Result<Vec<UploadOwner>>;

    /// When the next pending job is due or the next lease runs out; `None` when there is nothing to wait for.
    async fn next_due(&self) -> Result<Option<Timestamp>>;

    /// Records that match, oldest first. Of a row that can't be read whole, what can be is told.
    async fn list(&self, filter: &Filter) -> Result<Vec<Record>>;

    /// Provider failures that match and that nothing has cured, oldest first.
    async fn provider_failures(&self, since: Option<Timestamp>) -> Result<Vec<ProviderLoss>> {
        self.provider_failures_of(None, since, None).await
    }

    /// As [`provider_failures`](JobStore::provider_failures), of `provider`, and at most `limit`.
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
    /// [`retry`](JobStore::retry).
    async fn cancel(&self, ids: &[uuid::Uuid], now: Timestamp) -> Result<Vec<Record>>;

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

    /// Erases what is of no more use: the URLs of lost jobs that are dead, or were given up a month ago, and what events that carried
    /// nothing said. With a `retention`, all rows of sealed recordings that have not changed for so long leave as well; of their
    /// events the keys stay for 90 days more, so that a repeated delivery is known.
    async fn purge(
        &self,
        now: Timestamp,
        retention: Option<jiff::SignedDuration>,
    ) -> Result<Purged>;

    /// How many jobs are in each state, and the earliest latest-start among the open ones.
    async fn stats(&self) -> Result<Stats>;
}

/// An event to record. `Debug` leaves the raw body out: its URLs are signed.
#[derive(Clone)]
pub struct NewEvent {
    /// The source it came through.
    pub source: String,
    /// What it says.
    pub event: Event,
    /// The body, byte for byte.
    pub raw: bytes::Bytes,
    /// `{recording}`: what joins it to a recording.
    pub recording_key: String,
    /// Where that recording would be archived.
    pub folder: Folder,
    /// When it came in.
    pub received_at: Timestamp,
    /// The memory that is counted for it, held until the event is dropped: that is, until it is written, however long
    /// the disk takes and whoever still waits for it.
    memory: Option<Arc<dyn Any + Send + Sync>>,
}

impl fmt::Debug for NewEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewEvent")
            .field("source", &self.source)
            .field("event", &self.event)
            .field("raw_bytes", &self.raw.len())
            .field("recording_key", &self.recording_key)
            .field("folder", &self.folder)
            .field("received_at", &self.received_at)
            .finish()
    }
}

impl NewEvent {
    /// An event as it came in. One that belongs to a recording gains an artifact: itself, redacted.
    pub fn new(
        source: impl Into<String>,
        mut event: Event,
        raw: bytes::Bytes,
        layout: &Layout,
        received_at: Timestamp,
    ) -> NewEvent {
        if event.class.has_recording() {
            event.artifacts.push(event_artifact(&event));
        }
        NewEvent::found(source, event, raw, layout, received_at)
    }

    /// An event that nobody sent: what a provider's list tells. There is nothing of it to archive but its files.
    pub fn found(
        source: impl Into<String>,
        event: Event,
        raw: bytes::Bytes,
        layout: &Layout,
        received_at: Timestamp,
    ) -> NewEvent {
        let source = source.into();
        let folder = layout.folder(
            &source,
            event.provider,
            &event.recording,
            &event.dedupe_key,
            event.event_time,
            received_at,
        );
        let recording_key = key::recording_variable(&event.recording, &event.dedupe_key);
        NewEvent {
            source,
            event,
            raw,
            recording_key,
            folder,
            received_at,
            memory: None,
        }
    }

    /// With the memory that is counted for it.
    #[must_use]
    pub fn holding(mut self, memory: impl Any + Send + Sync) -> NewEvent {
        self.memory = Some(Arc::new(memory));
        self
    }

    /// Bytes of it that are in memory, as far as senders choose them.
    pub fn size_bytes(&self) -> usize {
        let content = |artifact: &Artifact| match &artifact.origin {
            Origin::Inline(text) => text.len(),
            _ => 0,
        };
        let files: usize = self.event.artifacts.iter().map(content).sum();
        self.raw.len() + files + self.event.redacted.as_ref().map_or(0, String::len)
    }
}

fn event_artifact(event: &Event) -> Artifact {
    let id = match &event.event_id {
        Some(id) => key::safe(id),
        None => key::short_hash(event.dedupe_key.as_bytes()),
    };
    Artifact {
        identity: format!("event:{}", event.dedupe_key),
        name: format!("event-{id}.json"),
        kind: Kind::Event,
        format: Format::Json,
        origin: Origin::Event,
        remint: None,
        deadline: Deadline::NONE,
        size_bytes: None,
    }
}

/// What became of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Our id of the event (of its first receipt).
    pub event_id: EventId,
    /// Our id of its recording; `None` for an event without one (`ignored`, `unknown`).
    pub recording_id: Option<RecordingId>,
    /// The jobs that it made or woke; on a duplicate, those of its first receipt.
    pub jobs: Vec<JobId>,
    /// The records of those that it made, as the store tells them from then on: who works on them at once need not ask.
    pub made: Vec<Record>,
    /// Whether it had been recorded before.
    pub is_duplicate: bool,
}

/// Nothing is due later than this from when it is written, and no lease lives longer.
pub const LONGEST_WAIT: SignedDuration = SignedDuration::from_secs(300);

/// What a worker asks for.
#[derive(Clone, Debug)]
pub struct Claim {
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
pub enum Written {
    /// It did.
    Yes,
    /// The lease is not the current one: nothing was written.
    Stale,
}

/// A recording whose manifest is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealable {
    /// The recording.
    pub id: RecordingId,
    /// How often in a row its manifest could not be written.
    pub failures: u32,
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

/// Which records to list. Empty: all.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only in these states.
    pub states: Vec<State>,
    /// Only of this provider.
    pub provider: Option<Provider>,
    /// Only made or changed since.
    pub since: Option<Timestamp>,
    /// Only these jobs or recordings.
    pub ids: Vec<uuid::Uuid>,
    /// Only jobs after this one, in the order of the list.
    pub after: Option<uuid::Uuid>,
    /// So many at most.
    pub limit: Option<u32>,
}

/// What has left the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// URLs of lost jobs.
    pub origins: u64,
    /// Bodies of events without a recording.
    pub bodies: u64,
    /// Recordings with all that belonged to them.
    pub recordings: u64,
    /// Keys of events.
    pub events: u64,
}

/// Which jobs to retry.
#[derive(Clone, Debug)]
pub enum Selection {
    /// Jobs, or all jobs of recordings, by id.
    Ids(Vec<uuid::Uuid>),
    /// All of a failure class.
    Class(Class),
    /// All that failed or expired (not those that an operator cancelled).
    All,
}

/// An artifact that the store knows of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownArtifact {
    /// Its recording.
    pub recording_key: String,
    /// What makes it the same.
    pub identity: String,
    /// Its job; `None` for a lookup that was answered.
    pub job: Option<JobId>,
    /// Where that stands.
    pub state: Option<State>,
    /// Why, where it is lost.
    pub class: Option<Class>,
    /// Whether there is anything to try again: not where the provider itself says that there is no file.
    pub has_origin: bool,
}

/// Whose turn it is to walk over a source's lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "another worker may be walking"]
pub enum WalkTurn {
    /// Ours.
    Ours {
        /// Up to when everything had been seen; `None` before the first whole walk.
        reached: Option<Timestamp>,
    },
    /// Another worker walks.
    Others,
}

/// A provider failure with its recording, for `failures`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ProviderLoss {
    /// The loss.
    #[serde(flatten)]
    pub failure: crate::model::manifest::ProviderFailureRecord,
    /// Its recording.
    pub recording: crate::model::manifest::RecordingRecord,
}

/// An event without its body.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct EventRecord {
    /// Our id.
    pub id: EventId,
    /// The source.
    pub source: String,
    /// The provider.
    pub provider: Provider,
    /// The provider's id.
    pub event_id: Option<String>,
    /// The provider's type.
    pub event_type: Option<String>,
    /// What it asked of us.
    pub class: EventClass,
    /// For `unknown`: why.
    pub alert: Option<String>,
    /// When it came in.
    pub received_at: Timestamp,
    /// Its recording.
    pub recording_id: Option<RecordingId>,
}

/// The state of the queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Jobs in each state.
    pub jobs: Vec<(State, u64)>,
    /// The earliest latest-start among open jobs that have a deadline: slack is this minus now.
    pub least_latest_start: Option<Timestamp>,
}

impl Stats {
    /// How many jobs are pending.
    pub fn pending(&self) -> u64 {
        let pending = self.jobs.iter().find(|(state, _)| *state == State::Pending);
        pending.map_or(0, |(_, count)| *count)
    }
}
