//! What an event or an API answer changes: decided here over plain data, written by an engine.
//!
//! An engine loads what it knows of the recordings concerned, lets [`RecordingChanges::record`] or
//! [`RecordingChanges::announce`] decide, and writes what has [`PendingChange`]d. Several events of one transaction
//! go over the same shelf, so that each sees what the ones before it did.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use jiff::civil::Date;
use uuid::Uuid;

use super::stored::{clean, kept, length};
use super::{NewEvent, Recorded};
use crate::error::Class;
use crate::model::artifact::free_name;
use crate::model::manifest::event_name;
use crate::model::{
    Artifact, EventId, JobId, Kind, Origin, Provider, ProviderFailure, Record, Recording,
    RecordingId, State,
};
use crate::store::recovery::{self, AnnouncedFailure, RecoveredArtifact};

/// What of a thing on the shelf is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PendingChange {
    /// Nothing.
    Kept,
    /// It is new.
    Made,
    /// It was there and is different now.
    Altered,
}

/// A recording with all that an event may change about it.
#[derive(Clone, Debug)]
pub(super) struct RecordingChanges {
    pub id: RecordingId,
    pub source: String,
    pub provider: Provider,
    pub recording_key: String,
    pub facts: Recording,
    pub date: Date,
    pub folder: String,
    pub created_at: Timestamp,
    /// When the latest of these changes came in.
    pub changed_at: Timestamp,
    pub change: PendingChange,
    pub jobs: Vec<JobSlot>,
    pub losses: Vec<LossSlot>,
    /// Identities of answered lookups and the ids that those had.
    pub answered: HashMap<String, JobId>,
    /// Those of them that are jobs again.
    pub asked_again: Vec<String>,
    /// Of the jobs, from the first announcement on.
    pub index: Option<Index>,
}

/// What of the jobs is looked up again and again.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    places: HashMap<String, usize>,
    names: HashSet<String>,
}

impl Index {
    fn of(jobs: &[JobSlot]) -> Index {
        let mut index = Index::default();
        for (place, job) in jobs.iter().enumerate() {
            index.add(place, job);
        }
        index
    }

    fn add(&mut self, place: usize, job: &JobSlot) {
        self.places.insert(job.identity.clone(), place);
        self.names.insert(job.name.clone());
    }
}

/// One job on the shelf.
#[derive(Clone, Debug)]
pub(super) struct JobSlot {
    pub id: JobId,
    pub identity: String,
    pub name: String,
    pub kind: Kind,
    pub is_inline: bool,
    pub state: State,
    pub announced_by: Option<EventId>,
    pub announced_at: Timestamp,
    pub found_by: Option<JobId>,
    /// Its size in bytes as last told: an announcement without one leaves it, and the place in the order, as it was.
    pub announced_size: Option<u64>,
    pub change: PendingChange,
    /// What to write about its origin, when that is new.
    pub fresh: Option<Artifact>,
}

/// One provider failure on the shelf.
#[derive(Clone, Debug)]
pub(super) struct LossSlot {
    pub id: Uuid,
    pub loss_key: String,
    pub loss: AnnouncedFailure,
    pub is_open: bool,
    pub change: PendingChange,
    /// The words of a new one.
    pub report: Option<LossReport>,
}

/// What a new provider failure says.
#[derive(Clone, Debug)]
pub(super) struct LossReport {
    pub failure: ProviderFailure,
    /// How people know the event.
    pub event_name: String,
    pub received_at: Timestamp,
}

/// Who announces an artifact.
#[derive(Clone, Copy, Debug)]
pub(super) struct Announcement {
    /// The event, or the one whose lookup was answered.
    pub event: Option<EventId>,
    /// The event's time, or that of the answer.
    pub at: Timestamp,
    /// The lookup that found it.
    pub found_by: Option<JobId>,
}

/// Ids of new rows.
pub(super) type FreshId<'a> = &'a mut dyn FnMut() -> Uuid;

impl RecordingChanges {
    /// An empty one for the recording of `new`, whose date is the session's when that is known.
    pub(super) fn made_for(
        new: &NewEvent,
        session_date: Option<Date>,
        id: RecordingId,
    ) -> RecordingChanges {
        let date = session_date.unwrap_or(new.folder.date);
        RecordingChanges {
            id,
            source: new.source.clone(),
            provider: new.event.provider,
            recording_key: new.recording_key.clone(),
            facts: new.event.recording.clone(),
            date,
            folder: new.folder.on(date),
            created_at: new.received_at,
            changed_at: new.received_at,
            change: PendingChange::Made,
            jobs: Vec::new(),
            losses: Vec::new(),
            answered: HashMap::new(),
            asked_again: Vec::new(),
            index: None,
        }
    }

    /// Takes in an event that belongs to this recording and is not known yet.
    pub(super) fn record(
        &mut self,
        new: &NewEvent,
        event_id: EventId,
        fresh_id: FreshId<'_>,
    ) -> Recorded {
        let at = new.event.event_time.unwrap_or(new.received_at);
        let announcement = Announcement {
            event: Some(event_id),
            at,
            found_by: None,
        };
        self.learn(&new.event.recording);
        // The manifest names the event, so a known recording has changed in any case.
        self.alter();
        self.changed_at = new.received_at;
        let known = self.jobs.len();
        self.expect(new.event.artifacts.len());
        let mut jobs = Vec::new();
        let mut told = HashSet::new();
        for artifact in new.event.artifacts.iter().cloned() {
            let job = self.announce(artifact, announcement, fresh_id);
            if let Some(id) = job.filter(|id| told.insert(*id)) {
                jobs.push(id);
            }
        }
        for failure in &new.event.failures {
            let report = LossReport {
                failure: failure.clone(),
                event_name: event_name(new.event.event_id.as_deref(), event_id),
                received_at: new.received_at,
            };
            self.lose(report, event_id, at, fresh_id);
        }
        Recorded {
            event_id,
            recording_id: Some(self.id),
            jobs,
            made: self.made_from(known),
            is_duplicate: false,
            renewed: Vec::new(),
        }
    }

    /// Makes room for so many jobs more.
    fn expect(&mut self, more: usize) {
        self.jobs.reserve(more);
        let index = self.index.get_or_insert_with(|| Index::of(&self.jobs));
        index.places.reserve(more);
        index.names.reserve(more);
    }

    /// Takes in one artifact; answers with its job if that was made, woken or given a fresh origin.
    pub(super) fn announce(
        &mut self,
        artifact: Artifact,
        by: Announcement,
        fresh_id: FreshId<'_>,
    ) -> Option<JobId> {
        self.alter();
        let index = self.index.take();
        let mut index = index.unwrap_or_else(|| Index::of(&self.jobs));
        let job = self.announce_in(&mut index, artifact, by, fresh_id);
        self.index = Some(index);
        job
    }

    fn announce_in(
        &mut self,
        index: &mut Index,
        artifact: Artifact,
        by: Announcement,
        fresh_id: FreshId<'_>,
    ) -> Option<JobId> {
        if let Some(place) = index.places.get(&artifact.identity) {
            return self.announce_again(*place, artifact, by);
        }
        if let Some(&lookup) = self.answered.get(&artifact.identity) {
            if !self.is_worth_asking_again(lookup) {
                return None;
            }
            self.answered.remove(&artifact.identity);
            self.asked_again.push(artifact.identity.clone());
        }
        let id = JobId(fresh_id());
        let name = free_name(&artifact.name, |name| index.names.contains(name));
        let state = match artifact.origin {
            Origin::Unusable(..) => State::Failed,
            _ => State::Pending,
        };
        let job = JobSlot {
            id,
            identity: artifact.identity.clone(),
            name,
            kind: artifact.kind,
            is_inline: artifact.origin.is_inline(),
            state,
            announced_by: by.event,
            announced_at: by.at,
            found_by: by.found_by,
            announced_size: artifact.size_bytes,
            change: PendingChange::Made,
            fresh: Some(artifact),
        };
        index.add(self.jobs.len(), &job);
        self.jobs.push(job);
        Some(id)
    }

    fn announce_again(
        &mut self,
        index: usize,
        mut artifact: Artifact,
        by: Announcement,
    ) -> Option<JobId> {
        let job = &mut self.jobs[index];
        // Events may come out of order: an older one, or one whose URL is no good, is nothing fresh.
        let is_older = by.at < job.announced_at;
        let is_no_good = match &artifact.origin {
            Origin::Unusable(..) => true,
            Origin::Lookup(lookup) => !lookup.has_call(),
            Origin::Url(_) | Origin::Inline(_) | Origin::Event => false,
        };
        // But of what is lost it may be the last URL that is still alive.
        let is_lost = matches!(job.state, State::Failed | State::Expired);
        let end = artifact.deadline.certain();
        let is_alive = end.is_none_or(|end| end > self.changed_at);
        if is_no_good || is_older && !(is_lost && is_alive) {
            return None;
        }
        job.announced_by = by.event.or(job.announced_by);
        job.announced_at = job.announced_at.max(by.at);
        job.found_by = by.found_by.or(job.found_by);
        if job.change == PendingChange::Kept {
            job.change = PendingChange::Altered;
        }
        if job.state == State::Archived {
            let saved = job.saved();
            self.withdraw_cured_by(&saved);
            return None;
        }
        if job.state.can_become(State::Pending) && job.state != State::Running {
            job.state = State::Pending;
        }
        job.is_inline = artifact.origin.is_inline();
        job.announced_size = artifact.size_bytes.or(job.announced_size);
        artifact.size_bytes = job.announced_size;
        job.fresh = Some(artifact);
        Some(job.id)
    }

    /// An answered lookup is asked again only if it found nothing, or something that was lost since.
    fn is_worth_asking_again(&self, lookup: JobId) -> bool {
        let mut found = self
            .jobs
            .iter()
            .filter(|job| job.found_by == Some(lookup))
            .peekable();
        found.peek().is_none()
            || found.any(|job| job.state.is_settled() && job.state != State::Archived)
    }

    fn lose(&mut self, report: LossReport, event: EventId, at: Timestamp, fresh_id: FreshId<'_>) {
        let loss_key = report.failure.loss_key.clone();
        if self.losses.iter().any(|slot| slot.loss_key == loss_key) {
            return;
        }
        let loss = AnnouncedFailure {
            event,
            kind: report.failure.kind,
            at,
        };
        let is_cured_already = self.jobs.iter().any(|job| {
            job.state == State::Archived
                && job.announced_at >= at
                && recovery::cures(&job.saved(), &loss)
        });
        self.losses.push(LossSlot {
            id: fresh_id(),
            loss_key,
            loss,
            is_open: !is_cured_already,
            change: PendingChange::Made,
            report: Some(report),
        });
    }

    fn withdraw_cured_by(&mut self, saved: &RecoveredArtifact) {
        for slot in &mut self.losses {
            if slot.is_open && recovery::cures(saved, &slot.loss) {
                slot.is_open = false;
                if slot.change == PendingChange::Kept {
                    slot.change = PendingChange::Altered;
                }
            }
        }
    }

    /// Fills in what earlier events left open; what is known stays.
    fn learn(&mut self, facts: &Recording) {
        fill(&mut self.facts.recording_id, &facts.recording_id);
        fill(&mut self.facts.bot_id, &facts.bot_id);
        fill(&mut self.facts.session_id, &facts.session_id);
        fill(&mut self.facts.room_id, &facts.room_id);
        fill(&mut self.facts.room_name, &facts.room_name);
        fill(&mut self.facts.started_at, &facts.started_at);
        fill(&mut self.facts.ended_at, &facts.ended_at);
    }

    /// The records of the jobs from this place on, which were made now.
    fn made_from(&self, place: usize) -> Vec<Record> {
        let made = self.jobs.iter().skip(place);
        made.filter_map(|job| Some(self.record_of(job, job.fresh.as_ref()?)))
            .collect()
    }

    fn record_of(&self, job: &JobSlot, artifact: &Artifact) -> Record {
        let (class, message) = job.failure().unzip();
        Record {
            id: job.id,
            recording_id: self.id,
            provider: self.provider,
            source: self.source.clone(),
            name: job.name.clone(),
            kind: job.kind,
            format: artifact.format,
            state: job.state,
            class,
            message: message.map(|why| clean(why).into_owned()),
            action: class.map(|class| class.action().to_owned()),
            key: self.key_of(job),
            size_bytes: artifact.size_bytes,
            crc64nvme: None,
            sha256: None,
            etag: None,
            version_id: None,
            deadline: artifact.deadline.at.map(kept),
            deadline_from: artifact.deadline.from,
            is_upper_bound: artifact.deadline.is_upper_bound,
            attempts: 0,
            bytes_done: 0,
            archived_at: None,
        }
    }

    /// How many of its jobs have not settled.
    pub(super) fn open_jobs(&self) -> i64 {
        let open = self.jobs.iter().filter(|job| !job.state.is_settled());
        length(open.count() as u64)
    }

    /// The key of a job that is new on the shelf.
    pub(super) fn key_of(&self, job: &JobSlot) -> String {
        format!("{}/{}", self.folder, job.name)
    }

    fn alter(&mut self) {
        if self.change == PendingChange::Kept {
            self.change = PendingChange::Altered;
        }
    }
}

impl JobSlot {
    fn saved(&self) -> RecoveredArtifact {
        RecoveredArtifact {
            announced_by: self.announced_by,
            kind: self.kind,
            is_inline: self.is_inline,
        }
    }

    /// Why a job with an unusable origin has failed.
    pub(super) fn failure(&self) -> Option<(Class, &str)> {
        match self.fresh.as_ref().map(|artifact| &artifact.origin) {
            Some(Origin::Unusable(class, why)) if self.state == State::Failed => {
                Some((*class, why))
            }
            _ => None,
        }
    }
}

fn fill<T: Clone>(known: &mut Option<T>, told: &Option<T>) {
    if known.is_none() {
        known.clone_from(told);
    }
}
