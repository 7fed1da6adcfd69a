//! One run of the worker: claim while there is room, start, listen, and in the end drain.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::aside::Aside;
use super::attempt::{Attempt, Ended, Lane};
use super::destination::Destination;
use super::lease::{self, Leases};
use super::settle::{Facts, settle_panicked};
use super::waiting::{Place, Waiting};
use super::{Worker, seal, sweep};
use crate::error::{Error, Result};
use crate::model::{JobId, Lease, Record, RecordingId};
use crate::schedule::{self, Lanes};
use crate::store::{Claim, Claimed, Filter};

/// After the grace period transfers are told to stop; one that has not stopped this long after is dropped.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// The first wait after a claim has failed; doubles up to the poll or a minute, whichever is longer.
const CLAIM_DELAY: Duration = Duration::from_millis(200);

/// A lane that is full but for a few places is filled this long after the last time.
const REST: Duration = Duration::from_millis(20);

/// In the foreground, a lane for which there was too little is looked after this often.
const DRY_REST: Duration = Duration::from_millis(200);

/// In the foreground somebody waits: the end of a job elsewhere is noticed this soon.
const FOREGROUND_POLL: Duration = Duration::from_millis(500);

/// Works on everything until `shutdown`, then drains and seals.
pub(super) async fn background(worker: &Worker, shutdown: &CancellationToken) {
    let stop_sealing = CancellationToken::new();
    let mut sealer = JoinSet::new();
    let mut shift = Shift::new(worker, None);
    sealer.spawn(seal::keep(
        worker.clone(),
        Arc::clone(&shift.settled),
        stop_sealing.clone(),
    ));
    sealer.spawn(sweep::keep(worker.clone(), shutdown.clone()));
    shift.work(shutdown).await;
    shift.drain().await;
    stop_sealing.cancel();
    if tokio::time::timeout(STOP_TIMEOUT, sealer.join_all())
        .await
        .is_err()
    {
        tracing::warn!("stopped before all manifests were written: the next start writes them");
    }
}

/// Works on the jobs of `records` until they have settled or `shutdown`, then seals their recordings.
pub(super) async fn foreground(
    worker: &Worker,
    records: Vec<Record>,
    shutdown: &CancellationToken,
) -> Result<Vec<Record>> {
    let jobs = records.iter().map(|record| record.id).collect();
    let mut shift = Shift::new(worker, Some(jobs));
    shift.queue(&records);
    drop(records);
    shift.work(shutdown).await;
    shift.drain().await;
    let records = shift.own_records().await?;
    let own = records.iter().map(|record| record.recording_id);
    seal::these(worker, shift.worked_on, own.collect()).await;
    Ok(records)
}

struct Shift<'a> {
    worker: &'a Worker,
    /// Only these, when it is an `archive` in the foreground.
    only: Option<BTreeSet<JobId>>,
    /// Those of them that may be claimed.
    waiting: Waiting,
    /// In the foreground: what is archived, as it was told.
    archived: BTreeMap<JobId, Arc<Record>>,
    /// In the foreground, with nothing on its way: when it was last read whether all have settled.
    all_read_at: Option<Instant>,
    /// When each lane was last filled: small ones, large ones.
    filled: [Option<Filled>; 2],
    /// In the foreground: whose jobs were worked on.
    worked_on: BTreeSet<RecordingId>,
    leases: Arc<Leases>,
    heartbeats: JoinSet<()>,
    stop_heartbeats: CancellationToken,
    attempts: JoinSet<Ended>,
    underway: HashMap<Id, Underway>,
    /// Those of them that have their bytes in the bucket.
    aside: Arc<Aside>,
    /// Rings when a recording may have become complete.
    settled: Arc<Notify>,
    /// Cancelled when a shutdown's grace is over.
    abandon: CancellationToken,
    destination: Destination,
    /// In the foreground: the destination refuses, which ends the run.
    is_refused: bool,
    failed_claims: u32,
}

/// What is kept of a running attempt in case its task panics.
struct Underway {
    place: Place,
    lease: Lease,
    facts: Facts,
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
enum Next {
    Wait(Duration),
    Finished,
}

impl<'a> Shift<'a> {
    fn new(worker: &'a Worker, only: Option<BTreeSet<JobId>>) -> Shift<'a> {
        let leases = Arc::new(Leases::default());
        let stop_heartbeats = CancellationToken::new();
        let mut heartbeats = JoinSet::new();
        heartbeats.spawn(lease::keep(
            worker.clone(),
            Arc::clone(&leases),
            stop_heartbeats.clone(),
        ));
        Shift {
            worker,
            waiting: Waiting::default(),
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
            destination: Destination::default(),
            is_refused: false,
            failed_claims: 0,
        }
    }

    async fn work(&mut self, shutdown: &CancellationToken) {
        while !shutdown.is_cancelled() {
            // Registered before the queue is read, so that a ring in between is not missed.
            let mut bell = pin!(self.worker.bell.notified());
            bell.as_mut().enable();
            let Next::Wait(wait) = self.fill_lanes(shutdown).await else {
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
    async fn drain(&mut self) {
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
        while self.heartbeats.join_next().await.is_some() {}
    }

    async fn join_all(&mut self) {
        while let Some(ended) = self.attempts.join_next_with_id().await {
            self.note_all(ended).await;
        }
    }

    /// Claims for each lane what it has room for, and says when to look again.
    async fn fill_lanes(&mut self, shutdown: &CancellationToken) -> Next {
        if self.is_refused {
            return Next::Finished;
        }
        let pause = tokio::select! {
            pause = self.destination.wait(self.worker) => pause,
            () = shutdown.cancelled() => return Next::Finished,
        };
        if let Some(wait) = pause {
            return Next::Wait(wait);
        }
        match self.try_fill_lanes().await {
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
                Next::Wait(wait)
            }
        }
    }

    async fn try_fill_lanes(&mut self) -> Result<Next> {
        let settings = &self.worker.settings;
        let limits = limits(self.worker);
        let room = limits.room(self.running());
        let mut rest = None::<Duration>;
        for (is_small, room, limit) in [
            (true, room.small, limits.small),
            (false, room.large, limits.large),
        ] {
            if room == 0 {
                continue;
            }
            match self.rest_of(is_small, room, limit) {
                None => self.claim(is_small, room).await?,
                Some(of_lane) => rest = Some(rest.map_or(of_lane, |rest| rest.min(of_lane))),
            }
        }
        if let Some(rest) = rest {
            return Ok(Next::Wait(rest));
        }
        if self.is_foreground() && self.attempts.is_empty() && self.all_settled().await? {
            return Ok(Next::Finished);
        }
        let room = limits.room(self.running());
        let (next_due, poll) = match self.is_foreground() {
            true => (self.waiting.next_due(), settings.poll.min(FOREGROUND_POLL)),
            false => (self.worker.store.next_due().await?, settings.poll),
        };
        let now = self.worker.clock.now();
        let wait = schedule::next_look(now, next_due, room, poll);
        // Retries become due one by one, and each look costs something.
        Ok(Next::Wait(match self.is_foreground() {
            true => wait.max(REST),
            false => wait,
        }))
    }

    /// How long a lane waits before it is filled again; `None` when it is time. While others of it are on
    /// their way, the places that became free are filled together.
    fn rest_of(&self, is_small: bool, room: u32, limit: u32) -> Option<Duration> {
        let filled = self.filled[usize::from(is_small)]?;
        let rest = match filled.is_dry {
            true if self.is_foreground() && !self.attempts.is_empty() => DRY_REST,
            false if room < limit.div_ceil(4) => REST,
            _ => return None,
        };
        rest.checked_sub(filled.at.elapsed())
            .filter(|rest| !rest.is_zero())
    }

    async fn claim(&mut self, is_small: bool, room: u32) -> Result<()> {
        let wanted = room as usize;
        let mut started = 0;
        if self.only.is_none() {
            started = self.claim_of(None, is_small, room).await?;
        } else {
            let waiting = self.waiting.named(is_small, self.worker.clock.now());
            // Mostly the first of them will do, and a long list would be looked up again for every few of it.
            let (mut rest, mut count) = (&*waiting, wanted);
            while started < wanted && !rest.is_empty() {
                let (some, others) = rest.split_at(count.min(rest.len()));
                let missing = room.saturating_sub(u32::try_from(started).unwrap_or(room));
                let some = Some(some.to_vec());
                started += self.claim_of(some, is_small, missing).await?;
                (rest, count) = (others, count.saturating_mul(4));
            }
        }
        self.filled[usize::from(is_small)] = Some(Filled {
            at: Instant::now(),
            is_dry: started < wanted,
        });
        Ok(())
    }

    async fn claim_of(
        &mut self,
        only: Option<Vec<JobId>>,
        is_small: bool,
        limit: u32,
    ) -> Result<usize> {
        let claim = Claim {
            worker: self.worker.settings.name.clone(),
            is_small,
            limit,
            now: self.worker.clock.now(),
            lease_until: lease::lease_until(self.worker),
            only,
        };
        let claimed = self.worker.store.claim(claim).await?;
        let started = claimed.len();
        for claimed in claimed {
            self.start(claimed, is_small);
        }
        Ok(started)
    }

    fn start(&mut self, claimed: Claimed, is_small: bool) {
        if self.is_foreground() {
            self.worked_on.insert(claimed.job.recording_id);
        }
        let place = place_of(&claimed.record);
        self.waiting.remove(place);
        let underway = Underway {
            place,
            lease: claimed.lease.clone(),
            facts: Facts::of(&claimed.job),
            is_small,
        };
        let hold = self.leases.hold(claimed.lease, self.abandon.child_token());
        let attempt = Attempt::new(
            self.worker.clone(),
            hold,
            claimed.job,
            self.abandon.clone(),
            self.is_foreground(),
            Lane {
                aside: Arc::clone(&self.aside),
                is_small,
            },
        );
        let task = self.attempts.spawn(attempt.run(claimed.record));
        self.underway.insert(task.id(), underway);
    }

    fn running(&self) -> Lanes {
        let small = self.underway.values().filter(|one| one.is_small).count();
        let large = self.underway.len() - small;
        self.aside.left_of(Lanes {
            small: u32::try_from(small).unwrap_or(u32::MAX),
            large: u32::try_from(large).unwrap_or(u32::MAX),
        })
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
                Some(Ended::Lost) => self.waiting.lose(underway.place),
                Some(Ended::Later(until)) => self.waiting.rest(underway.place, until),
                _ => self.waiting.add([underway.place]),
            }
        }
        match ended {
            Some(Ended::Archived(record)) => {
                if self.only.is_some() {
                    self.archived.insert(record.id, record);
                }
            }
            Some(Ended::Lost | Ended::Later(_) | Ended::Done) => {
                if let Some(recording) = underway.facts.looked_up_for {
                    self.follow(recording).await;
                }
            }
            Some(Ended::Resolved(recording)) => self.follow(recording).await,
            Some(Ended::Refused(error)) => self.pause(&error).await,
            None => self.bury(underway).await,
        }
    }

    async fn bury(&self, underway: Underway) {
        tracing::error!(job = %underway.lease.job, "an attempt panicked");
        let hold = self.leases.hold(underway.lease, self.abandon.child_token());
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
        self.waiting.add(open.map(place_of));
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

    fn claim_backoff(&self) -> Duration {
        let doublings = self.failed_claims.saturating_sub(1).min(16);
        let longest = self.worker.settings.poll.max(Duration::from_secs(60));
        CLAIM_DELAY.saturating_mul(1 << doublings).min(longest)
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

fn limits(worker: &Worker) -> Lanes {
    Lanes {
        small: worker.settings.small_transfers,
        large: worker.settings.transfers,
    }
}

fn place_of(record: &Record) -> Place {
    (record.latest_start(), record.id)
}

fn by_id(id: uuid::Uuid) -> Filter {
    Filter {
        ids: vec![id],
        ..Filter::default()
    }
}
