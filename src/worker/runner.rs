//! One run of the worker: claim while there is room, start, listen, and in the end drain.

mod queues;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::model::{JobId, Lease, Record, RecordingId};
use crate::schedule::order::Urgency;
use crate::schedule::{self, QueueSlots};
use crate::store::Filter;
use crate::worker::attempt::Ended;
use crate::worker::clocks::Clocks;
use crate::worker::completing::Aside;
use crate::worker::destination::{Admission, BucketGate, BucketTrust};
use crate::worker::hold::Leases;
use crate::worker::lease;
use crate::worker::settle::{JobFacts, settle_panicked};
use crate::worker::supervise::{flattened, keep_going};
use crate::worker::taken::ClaimTime;
use crate::worker::waiting::WaitingJobs;
use crate::worker::{Worker, manifest, sweep};

/// After the grace period transfers are told to stop; one that has not stopped this long after is dropped.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// In the foreground somebody waits: the end of a job elsewhere is noticed this soon.
const FOREGROUND_POLL: Duration = Duration::from_millis(500);

/// Works on everything until `shutdown`, then drains and seals.
///
/// # Errors
/// `internal`, after the drain, when one of the tasks that go on beside the work panics again and again.
pub(super) async fn background(worker: &Worker, shutdown: &CancellationToken) -> Result<()> {
    // Ended by a shutdown, and by a task that can't be kept going.
    let stop = shutdown.child_token();
    let stop_sealing = CancellationToken::new();
    let mut shift = Runner::new(worker, None, &stop);
    let settled = Arc::clone(&shift.settled);
    let (sealing, sealed) = (worker.clone(), stop_sealing.clone());
    let mut beside = JoinSet::new();
    beside.spawn(keep_going(
        "sealer",
        worker,
        &stop_sealing,
        &stop,
        move || manifest::keep(sealing.clone(), Arc::clone(&settled), sealed.clone()),
    ));
    let (sweeping, swept) = (worker.clone(), stop.clone());
    beside.spawn(keep_going("sweep", worker, &stop, &stop, move || {
        sweep::keep(sweeping.clone(), swept.clone())
    }));
    let (asking, bucket) = (worker.clone(), Arc::clone(&shift.bucket));
    beside.spawn(async move {
        bucket.refuses_all(&asking).await;
        Ok(())
    });
    shift.work(&stop).await;
    let mut ended = shift.drain().await;
    stop_sealing.cancel();
    let all = async {
        while let Some(one) = beside.join_next().await {
            ended = std::mem::replace(&mut ended, Ok(())).and(flattened(one));
        }
    };
    if tokio::time::timeout(STOP_TIMEOUT, all).await.is_err() {
        tracing::warn!("stopped before all manifests were written: the next start writes them");
    }
    ended
}

/// Works on the jobs of `records` until they have settled or `shutdown`, then seals their recordings.
pub(super) async fn foreground(
    worker: &Worker,
    records: Vec<Record>,
    shutdown: &CancellationToken,
) -> Result<Vec<Record>> {
    let jobs = records.iter().map(|record| record.id).collect();
    let stop = shutdown.child_token();
    let mut shift = Runner::new(worker, Some(jobs), &stop);
    shift.queue(&records);
    drop(records);
    shift.work(&stop).await;
    shift.drain().await?;
    let records = shift.own_records().await?;
    let own = records.iter().map(|record| record.recording_id);
    manifest::these(worker, shift.worked_on, own.collect()).await;
    Ok(records)
}

struct Runner<'a> {
    worker: &'a Worker,
    /// Only these, when it is an `archive` in the foreground.
    only: Option<BTreeSet<JobId>>,
    /// Those of them that may be claimed.
    waiting: WaitingJobs,
    /// In the foreground: what is archived, as it was told.
    archived: BTreeMap<JobId, Arc<Record>>,
    /// In the foreground, with nothing on its way: when it was last read whether all have settled.
    all_read_at: Option<Instant>,
    /// When each lane was last filled: small ones, large ones.
    filled: [Option<Filled>; 2],
    /// In the foreground: whose jobs were worked on.
    worked_on: BTreeSet<RecordingId>,
    leases: Arc<Leases>,
    heartbeats: JoinSet<Result<()>>,
    stop_heartbeats: CancellationToken,
    attempts: JoinSet<Ended>,
    underway: HashMap<Id, Underway>,
    /// Those of them that have their bytes in the bucket.
    aside: Arc<Aside>,
    /// Rings when a recording may have become complete.
    settled: Arc<Notify>,
    /// Cancelled when a shutdown's grace is over.
    abandon: CancellationToken,
    destination: BucketGate,
    bucket: Arc<BucketTrust>,
    clocks: Arc<Clocks>,
    /// When the queue was looked at last, by both clocks.
    last_look: ClaimTime,
    /// Before this the leases of others are left alone: after a jump of the clock they look older than they are.
    lapses_from: Instant,
    /// In the foreground: the destination refuses, which ends the run.
    is_refused: bool,
    failed_claims: u32,
}

/// What is kept of a running attempt in case its task panics.
struct Underway {
    urgency: Urgency,
    lease: Lease,
    taken: ClaimTime,
    facts: JobFacts,
    is_small: bool,
}

/// The last time that a lane was filled.
#[derive(Clone, Copy)]
struct Filled {
    at: Instant,
    /// Whether there was less to claim than it had room for.
    is_dry: bool,
}

/// Why the claiming stops for a while, or for good.
enum ClaimPause {
    Wait(Duration),
    Finished,
}

impl<'a> Runner<'a> {
    /// `stop` ends the work; it is cancelled when the heartbeats can't be kept going.
    fn new(
        worker: &'a Worker,
        only: Option<BTreeSet<JobId>>,
        stop: &CancellationToken,
    ) -> Runner<'a> {
        let leases = Arc::new(Leases::new(worker.settings.silence));
        let stop_heartbeats = CancellationToken::new();
        let mut heartbeats = JoinSet::new();
        let (beating, kept, until) = (worker.clone(), Arc::clone(&leases), stop_heartbeats.clone());
        heartbeats.spawn(keep_going(
            "heartbeats",
            worker,
            &stop_heartbeats,
            stop,
            move || lease::keep(beating.clone(), Arc::clone(&kept), until.clone()),
        ));
        Runner {
            worker,
            waiting: WaitingJobs::default(),
            only,
            archived: BTreeMap::new(),
            all_read_at: None,
            filled: [None; 2],
            worked_on: BTreeSet::new(),
            leases,
            heartbeats,
            stop_heartbeats,
            attempts: JoinSet::new(),
            underway: HashMap::new(),
            aside: Arc::new(Aside::new(limits(worker))),
            settled: Arc::new(Notify::new()),
            abandon: CancellationToken::new(),
            destination: BucketGate::default(),
            bucket: Arc::default(),
            clocks: Arc::default(),
            last_look: ClaimTime::now(worker),
            lapses_from: Instant::now(),
            is_refused: false,
            failed_claims: 0,
        }
    }

    async fn work(&mut self, shutdown: &CancellationToken) {
        while !shutdown.is_cancelled() {
            // Registered before the queue is read, so that a ring in between is not missed.
            let mut bell = pin!(self.worker.bell.notified());
            bell.as_mut().enable();
            let ClaimPause::Wait(wait) = self.fill_lanes(shutdown).await else {
                return;
            };
            let ended = tokio::select! {
                () = shutdown.cancelled() => return,
                () = bell => None,
                () = self.aside.bell.notified() => None,
                () = tokio::time::sleep(wait) => None,
                Some(ended) = self.attempts.join_next_with_id() => Some(ended),
            };
            if let Some(ended) = ended {
                self.note_all(ended).await;
            }
        }
    }

    /// Stops claiming: transfers get the grace period to finish, then a moment to stop.
    ///
    /// # Errors
    /// When the heartbeats could not be kept going.
    async fn drain(&mut self) -> Result<()> {
        if !self.attempts.is_empty() {
            tracing::info!(transfers = self.attempts.len(), "draining");
        }
        let grace = self.worker.settings.grace;
        if tokio::time::timeout(grace, self.join_all()).await.is_err() {
            self.abandon.cancel();
            if tokio::time::timeout(STOP_TIMEOUT, self.join_all())
                .await
                .is_err()
            {
                tracing::warn!(
                    transfers = self.attempts.len(),
                    "dropped transfers that did not stop: their leases run out"
                );
                self.attempts.shutdown().await;
            }
        }
        self.stop_heartbeats.cancel();
        let mut kept = Ok(());
        while let Some(ended) = self.heartbeats.join_next().await {
            kept = kept.and(flattened(ended));
        }
        kept
    }

    async fn join_all(&mut self) {
        while let Some(ended) = self.attempts.join_next_with_id().await {
            self.note_all(ended).await;
        }
    }

    /// Claims for each lane what it has room for, and says when to look again.
    async fn fill_lanes(&mut self, shutdown: &CancellationToken) -> ClaimPause {
        if self.is_refused {
            return ClaimPause::Finished;
        }
        let admission = tokio::select! {
            admission = self.destination.admission(self.worker, &self.bucket) => admission,
            () = shutdown.cancelled() => return ClaimPause::Finished,
        };
        let filled = match admission {
            Admission::Open => self.try_fill_lanes().await,
            Admission::One => self.try_one().await,
            Admission::Closed(wait) => return ClaimPause::Wait(wait),
        };
        match filled {
            Ok(next) => {
                self.failed_claims = 0;
                next
            }
            Err(error) => {
                self.failed_claims = self.failed_claims.saturating_add(1);
                let wait = self.claim_backoff();
                tracing::error!(
                    "failed to read the queue, trying again in {wait:?}: {}",
                    error.full_message()
                );
                ClaimPause::Wait(wait)
            }
        }
    }

    /// Notes an ended attempt, and those that ended at the same time: one look at the queue serves all.
    async fn note_all(&mut self, ended: Result<(Id, Ended), JoinError>) {
        self.note(ended).await;
        while let Some(ended) = self.attempts.try_join_next_with_id() {
            self.note(ended).await;
        }
        self.settled.notify_one();
    }

    async fn note(&mut self, ended: Result<(Id, Ended), JoinError>) {
        let (id, ended) = match ended {
            Ok((id, ended)) => (id, Some(ended)),
            Err(error) => (error.id(), None),
        };
        let Some(underway) = self.underway.remove(&id) else {
            return;
        };
        if self.only.is_some() {
            match ended {
                // A lookup that was answered is a job no more.
                Some(Ended::Archived(_) | Ended::Resolved(_)) => {}
                Some(Ended::Lost) => self.waiting.lose(underway.urgency),
                Some(Ended::Later(until)) => {
                    let wait = schedule::time_until(until, self.worker.clock.now());
                    self.waiting.rest(underway.urgency, Instant::now() + wait);
                }
                _ => self.waiting.add([underway.urgency]),
            }
        }
        match ended {
            Some(Ended::Archived(record)) => {
                if self.only.is_some() {
                    self.archived.insert(record.id, record);
                } else {
                    self.bucket.note_written();
                }
            }
            Some(Ended::Lost | Ended::Later(_) | Ended::Done) => {
                if let Some(recording) = underway.facts.looked_up_for {
                    self.follow(recording).await;
                }
            }
            Some(Ended::Resolved(recording)) => {
                // Found again where it is to be asked again.
                if let Some(only) = &mut self.only {
                    only.remove(&underway.lease.job);
                }
                self.follow(recording).await;
            }
            Some(Ended::Refused(error)) => self.pause(&error).await,
            None => self.bury(underway).await,
        }
    }

    async fn bury(&self, underway: Underway) {
        tracing::error!(job = %underway.lease.job, "an attempt panicked");
        // Not held anew: a newer attempt of ours may be under way.
        let cancel = self.abandon.child_token();
        let hold = self
            .leases
            .unrenewed(underway.lease, underway.taken, cancel);
        settle_panicked(self.worker, &hold, underway.facts).await;
    }

    /// In the foreground: what a lookup of ours led to is ours too.
    async fn follow(&mut self, recording: RecordingId) {
        let Some(only) = &mut self.only else {
            return;
        };
        match self.worker.store.list(&by_id(recording.0)).await {
            Ok(mut records) => {
                records.retain(|record| !record.state.is_settled() && only.insert(record.id));
                self.queue(&records);
                self.filled = [None; 2];
            }
            Err(error) => tracing::error!(
                %recording,
                "failed to find what a lookup led to: {}",
                error.full_message()
            ),
        }
    }

    async fn pause(&mut self, error: &Error) {
        if self.is_foreground() {
            self.is_refused = true;
        } else {
            self.destination.pause(self.worker, error).await;
        }
    }

    fn queue(&mut self, records: &[Record]) {
        let open = records.iter().filter(|record| !record.state.is_settled());
        self.waiting.add(open.map(Urgency::of_record));
    }

    fn is_foreground(&self) -> bool {
        self.only.is_some()
    }

    async fn all_settled(&mut self) -> Result<bool> {
        // What waits for its next attempt is open, unless somebody else has ended it.
        let has_open = self.waiting.next_due().is_some();
        let is_known = |at: Instant| at.elapsed() < FOREGROUND_POLL;
        if has_open && self.all_read_at.is_some_and(is_known) {
            return Ok(false);
        }
        self.all_read_at = Some(Instant::now());
        let records = records_of(self.worker, self.waiting.jobs()).await?;
        Ok(records.iter().all(|record| record.state.is_settled()))
    }

    /// The records of our jobs, in their order.
    async fn own_records(&mut self) -> Result<Vec<Record>> {
        let known = std::mem::take(&mut self.archived);
        let unknown = self.only.iter().flatten().copied();
        let unknown = unknown.filter(|job| !known.contains_key(job));
        let mut records = records_of(self.worker, unknown).await?;
        records.extend(known.into_values().map(Arc::unwrap_or_clone));
        records.sort_by_key(|record| record.id);
        Ok(records)
    }
}

/// The records of `jobs`; of those that are none any more, as lookups that were answered, none.
pub(super) async fn records_of(
    worker: &Worker,
    jobs: impl Iterator<Item = JobId>,
) -> Result<Vec<Record>> {
    let ids: Vec<_> = jobs.map(|job| job.0).collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let filter = Filter {
        ids,
        ..Filter::default()
    };
    lease::persist(worker, || worker.store.list(&filter)).await
}

fn limits(worker: &Worker) -> QueueSlots {
    QueueSlots {
        small: worker.settings.small_transfers,
        large: worker.settings.transfers,
    }
}

fn by_id(id: uuid::Uuid) -> Filter {
    Filter {
        ids: vec![id],
        ..Filter::default()
    }
}
