//! A list of jobs that somebody waits for, and what its lookups lead to: an `archive` in the foreground.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use uuid::Uuid;

use super::waiting::WaitingJobs;
use super::{ClaimPause, EndedAttempt, Feed, LastFills, QueueRoom, REST};
use crate::error::Result;
use crate::model::{Job, JobId, Record, RecordingId};
use crate::schedule::order::Urgency;
use crate::schedule::{self, QueueSlots};
use crate::store::Filter;
use crate::worker::attempt::Ended;
use crate::worker::destination::Admission;
use crate::worker::{Worker, lease};

/// Somebody waits: the end of a job elsewhere is noticed this soon.
const WATCHED_POLL: Duration = Duration::from_millis(500);

/// A queue for which there was too little is looked after this often, while others are under way.
const DRY_REST: Duration = Duration::from_millis(200);

/// The jobs of a list until all have settled, or until the bucket refuses.
pub(in crate::worker) struct ListFeed<'a> {
    worker: &'a Worker,
    /// All of them, settled or not.
    all: BTreeSet<JobId>,
    /// Those that may be claimed.
    waiting: WaitingJobs,
    /// What is archived, as it was told.
    archived: BTreeMap<JobId, Arc<Record>>,
    /// With nothing under way: when it was last read whether all have settled.
    all_read_at: Option<Instant>,
    /// Whose jobs were worked on.
    worked_on: BTreeSet<RecordingId>,
    /// The bucket refuses, which ends the run.
    is_refused: bool,
    fills: LastFills,
}

impl<'a> ListFeed<'a> {
    /// The jobs of `records`, as they stand now.
    pub(in crate::worker) fn new(worker: &'a Worker, records: &[Record]) -> ListFeed<'a> {
        let mut feed = ListFeed {
            worker,
            all: records.iter().map(|record| record.id).collect(),
            waiting: WaitingJobs::default(),
            archived: BTreeMap::new(),
            all_read_at: None,
            worked_on: BTreeSet::new(),
            is_refused: false,
            fills: LastFills::default(),
        };
        feed.add(records);
        feed
    }

    /// The records of its jobs as they stand now, in their order, and the recordings whose jobs were worked on.
    ///
    /// # Errors
    /// When the store can't tell the records.
    pub(in crate::worker) async fn into_records(
        self,
    ) -> Result<(Vec<Record>, BTreeSet<RecordingId>)> {
        let archived = self.archived;
        let unknown = self.all.iter().copied();
        let unknown = unknown.filter(|job| !archived.contains_key(job));
        let mut records = records_of(self.worker, unknown).await?;
        records.extend(archived.into_values().map(Arc::unwrap_or_clone));
        records.sort_by_key(|record| record.id);
        Ok((records, self.worked_on))
    }

    fn add(&mut self, records: &[Record]) {
        let open = records.iter().filter(|record| !record.state.is_settled());
        self.waiting.add(open.map(Urgency::of_record));
    }

    /// What a lookup of the list led to is on the list too.
    async fn follow(&mut self, recording: RecordingId) {
        match self.worker.store.list(&by_ids(vec![recording.0])).await {
            Ok(mut records) => {
                records.retain(|record| !record.state.is_settled() && self.all.insert(record.id));
                self.add(&records);
                self.fills.forget();
            }
            Err(error) => tracing::error!(
                %recording,
                "failed to find what a lookup led to: {}",
                error.full_message()
            ),
        }
    }

    async fn all_settled(&mut self) -> Result<bool> {
        // What waits for its next attempt is open, unless somebody else has ended it.
        let has_open = self.waiting.next_due().is_some();
        let is_known = |at: Instant| at.elapsed() < WATCHED_POLL;
        if has_open && self.all_read_at.is_some_and(is_known) {
            return Ok(false);
        }
        self.all_read_at = Some(Instant::now());
        let records = records_of(self.worker, self.waiting.jobs()).await?;
        Ok(records.iter().all(|record| record.state.is_settled()))
    }
}

#[async_trait]
impl Feed for ListFeed<'_> {
    fn is_watched(&self) -> bool {
        true
    }

    async fn admission(&mut self) -> Admission {
        match self.is_refused {
            true => Admission::Over,
            false => Admission::Open,
        }
    }

    fn rest(&self, queue: QueueRoom) -> Option<Duration> {
        let dry_rest = match queue.is_idle {
            true => Duration::ZERO,
            false => DRY_REST,
        };
        self.fills.rest(queue, dry_rest, Instant::now())
    }

    fn choices(&mut self, is_small: bool, wanted: usize) -> Vec<Option<Vec<JobId>>> {
        let named = self.waiting.named(is_small, Instant::now());
        // Mostly the first of them will do, and a long list would be looked up again for every few of it.
        let (mut rest, mut count) = (&*named, wanted);
        let mut choices = Vec::new();
        while !rest.is_empty() {
            let (some, others) = rest.split_at(count.clamp(1, rest.len()));
            choices.push(Some(some.to_vec()));
            (rest, count) = (others, count.saturating_mul(4));
        }
        choices
    }

    fn note_claimed(&mut self, job: &Job, urgency: Urgency) {
        self.worked_on.insert(job.recording_id);
        self.waiting.remove(urgency);
    }

    fn note_filled(&mut self, is_small: bool, is_dry: bool) {
        self.fills.note(is_small, is_dry, Instant::now());
    }

    async fn note_ended(&mut self, ended: EndedAttempt) {
        let EndedAttempt {
            urgency,
            looked_up_for,
            how,
        } = ended;
        let follow = match how {
            Some(Ended::Archived(record)) => {
                self.archived.insert(record.id, record);
                None
            }
            Some(Ended::Resolved(recording)) => {
                // A lookup that was answered is a job no more. Found again where it is to be asked again.
                self.all.remove(&urgency.job());
                Some(recording)
            }
            Some(Ended::Lost) => {
                self.waiting.lose(urgency);
                looked_up_for
            }
            Some(Ended::Later(until)) => {
                let wait = schedule::time_until(until, self.worker.clock.now());
                self.waiting.rest(urgency, Instant::now() + wait);
                looked_up_for
            }
            Some(Ended::Done) => {
                self.waiting.add([urgency]);
                looked_up_for
            }
            Some(Ended::Refused(_)) => {
                self.waiting.add([urgency]);
                self.is_refused = true;
                None
            }
            None => {
                self.waiting.add([urgency]);
                None
            }
        };
        if let Some(recording) = follow {
            self.follow(recording).await;
        }
    }

    async fn next_look(&mut self, room: QueueSlots, is_idle: bool) -> Result<ClaimPause> {
        if is_idle && self.all_settled().await? {
            return Ok(ClaimPause::Finished);
        }
        let next_due = self.waiting.next_due();
        let due_in = next_due.map(|due| due.saturating_duration_since(Instant::now()));
        let poll = self.worker.settings.poll.min(WATCHED_POLL);
        // Retries become due one by one, and each look costs something.
        let wait = schedule::next_look(due_in, room, poll).max(REST);
        Ok(ClaimPause::Wait(wait))
    }
}

/// The records of `jobs`; of those that are none any more, as lookups that were answered, none.
///
/// # Errors
/// When the store can't tell them for as long as a lease lives.
pub(in crate::worker) async fn records_of(
    worker: &Worker,
    jobs: impl Iterator<Item = JobId>,
) -> Result<Vec<Record>> {
    let ids: Vec<_> = jobs.map(|job| job.0).collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let filter = by_ids(ids);
    lease::persist(worker, || worker.store.list(&filter)).await
}

fn by_ids(ids: Vec<Uuid>) -> Filter {
    Filter {
        ids,
        ..Filter::default()
    }
}
