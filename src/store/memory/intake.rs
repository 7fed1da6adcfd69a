//! Taking in events.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use jiff::Timestamp;
use jiff::civil::Date;
use uuid::Uuid;

use super::Rows;
use super::rows::{StoredEvent, StoredFailure, StoredJob, StoredRecording};
use crate::error::Result;
use crate::model::artifact::is_small;
use crate::model::manifest::ProviderFailureRecord;
use crate::model::{JobId, RecordingId, State};
use crate::store::intake::{JobSlot, LossSlot, PendingChange, RecordingChanges};
use crate::store::renewal::UnarchivedJob;
use crate::store::stored::kept;
use crate::store::tx::{FailureRow, IntakeTx, JobRow, Pair, Receipt, SavedInRoom};
use crate::store::{NewEvent, Recorded};

#[async_trait]
impl IntakeTx for Rows {
    async fn receipts(&mut self, keys: &[Pair]) -> Result<HashMap<Pair, Receipt>> {
        let keys: HashSet<&Pair> = keys.iter().collect();
        let receipt = |event: &StoredEvent| {
            let pair = (event.source.clone(), event.dedupe_key.clone());
            let receipt = Receipt {
                event_id: event.id,
                recording_id: event.recording_id,
                jobs: event.jobs.clone(),
            };
            keys.contains(&pair).then_some((pair, receipt))
        };
        Ok(self.events.rows().filter_map(receipt).collect())
    }

    async fn unsaved_files(&mut self, recordings: &[RecordingId]) -> Result<Vec<UnarchivedJob>> {
        let jobs = self.jobs.rows().filter(|job| {
            recordings.contains(&job.recording_id)
                && !matches!(job.state, State::Archived | State::Cancelled)
                && !job.is_inline
        });
        Ok(jobs
            .map(|job| UnarchivedJob {
                recording: job.recording_id,
                identity: job.identity.clone(),
                state: job.state,
                class: job.class,
                origin: job.origin.clone(),
                deadline: job.deadline,
            })
            .collect())
    }

    async fn recordings_by_key(&mut self, keys: &[Pair]) -> Result<Vec<RecordingChanges>> {
        let recordings = self.recordings.rows().filter(|recording| {
            keys.iter()
                .any(|(source, key)| *source == recording.source && *key == recording.recording_key)
        });
        Ok(recordings.map(|recording| self.shelf(recording)).collect())
    }

    async fn recording(&mut self, id: RecordingId) -> Result<Option<RecordingChanges>> {
        let recording = self.recordings.get(&id);
        Ok(recording.map(|recording| self.shelf(recording)))
    }

    async fn session_dates(&mut self, sessions: &[Pair]) -> Result<HashMap<Pair, Date>> {
        let mut dates = HashMap::new();
        for recording in self.recordings.rows() {
            let Some(session) = &recording.facts.session_id else {
                continue;
            };
            let pair = (recording.source.clone(), session.clone());
            if sessions.contains(&pair) {
                // Ids begin with the time, so that the oldest recording comes first.
                dates.entry(pair).or_insert(recording.date);
            }
        }
        Ok(dates)
    }

    async fn saved_in_room(&mut self, source: &str, room: &str) -> Result<Vec<SavedInRoom>> {
        let archived = self.jobs.rows().filter(|job| job.state == State::Archived);
        let saved = archived.filter_map(|job| {
            let recording = self.recordings.get(&job.recording_id)?;
            let is_there =
                recording.source == source && recording.facts.room_name.as_deref() == Some(room);
            is_there.then(|| SavedInRoom {
                recording: recording.facts.clone(),
                saved: job.saved(),
                announced_at: job.announced_at,
            })
        });
        Ok(saved.collect())
    }

    async fn insert_recordings(&mut self, recordings: &[&RecordingChanges]) -> Result<()> {
        for shelf in recordings {
            let recording = StoredRecording {
                id: shelf.id,
                source: shelf.source.clone(),
                provider: shelf.provider,
                recording_key: shelf.recording_key.clone(),
                facts: shelf.facts.clone(),
                date: shelf.date,
                folder: shelf.folder.clone(),
                created_at: kept(shelf.created_at),
                generation: 1,
                sealed_generation: 0,
                open_jobs: shelf.open_jobs(),
                manifest_etag: None,
                report_etag: None,
                next_seal_at: Timestamp::UNIX_EPOCH,
                seal_failure: None,
            };
            self.recordings.put(shelf.id, recording);
        }
        Ok(())
    }

    async fn update_recordings(&mut self, recordings: &[&RecordingChanges]) -> Result<()> {
        for shelf in recordings {
            let update = |recording: &mut StoredRecording| {
                recording.facts = shelf.facts.clone();
                recording.open_jobs = shelf.open_jobs();
                recording.generation += 1;
            };
            self.recordings.change(&shelf.id, |_| true, update);
        }
        Ok(())
    }

    async fn insert_events(&mut self, events: &[(&NewEvent, Recorded)]) -> Result<()> {
        for (new, recorded) in events {
            let event = StoredEvent {
                id: recorded.event_id,
                source: new.source.clone(),
                provider: new.event.provider,
                dedupe_key: new.event.dedupe_key.clone(),
                event_id: new.event.event_id.clone(),
                event_type: new.event.event_type.clone(),
                class: new.event.class,
                alert: new.event.alert.clone(),
                received_at: kept(new.received_at),
                recording_id: recorded.recording_id,
                jobs: recorded.jobs.clone(),
                raw: new.raw.clone(),
            };
            self.events.put(event.id, event);
        }
        Ok(())
    }

    async fn insert_jobs(&mut self, jobs: &[JobRow<'_>]) -> Result<()> {
        for (shelf, slot, artifact) in jobs {
            let job = StoredJob::new(shelf, slot, artifact);
            self.jobs.put(job.id, job);
        }
        Ok(())
    }

    async fn refresh_jobs(&mut self, jobs: &[JobRow<'_>]) -> Result<()> {
        for (shelf, slot, artifact) in jobs {
            let refresh = |job: &mut StoredJob| {
                announce(job, slot);
                // The kind is the job's: only where its bytes are has changed.
                job.take_origin(artifact, is_small(slot.kind, &artifact.origin));
                job.next_attempt_at = Timestamp::UNIX_EPOCH;
                job.changed_at = kept(shelf.changed_at);
                job.has_fresh_origin = job.is_running();
                if job.state.is_settled() {
                    (job.class, job.message) = (None, None);
                    (job.unsettled_attempts, job.unsettled_leases) = (0, 0);
                }
                if !job.is_running() {
                    job.state = State::Pending;
                    (job.attempts, job.first_attempt_at) = (0, None);
                }
            };
            let is_meant = |job: &StoredJob| job.state != State::Archived;
            self.jobs.change(&slot.id, is_meant, refresh);
        }
        Ok(())
    }

    async fn announce_archived(&mut self, jobs: &[&JobSlot]) -> Result<()> {
        for slot in jobs {
            let is_meant = |job: &StoredJob| job.state == State::Archived;
            self.jobs
                .change(&slot.id, is_meant, |job| announce(job, slot));
        }
        Ok(())
    }

    async fn insert_failures(&mut self, failures: &[FailureRow<'_>]) -> Result<()> {
        for (shelf, slot) in failures {
            let report = slot.report.as_ref().expect("a new one is told of");
            let failure = StoredFailure {
                id: slot.id,
                recording_id: shelf.id,
                loss_key: slot.loss_key.clone(),
                loss: crate::store::recovery::AnnouncedFailure {
                    at: kept(slot.loss.at),
                    ..slot.loss
                },
                record: ProviderFailureRecord {
                    class: report.failure.class,
                    code: report.failure.code.clone(),
                    message: report.failure.message.clone(),
                    event_id: report.event_name.clone(),
                    at: kept(slot.loss.at),
                },
                received_at: kept(report.received_at),
                withdrawn_at: (!slot.is_open).then(|| kept(shelf.changed_at)),
            };
            self.failures.put(slot.id, failure);
        }
        Ok(())
    }

    async fn withdraw_failures(&mut self, failures: &[(Uuid, Timestamp)]) -> Result<()> {
        for (id, at) in failures {
            let is_open = |failure: &StoredFailure| failure.withdrawn_at.is_none();
            self.failures.change(id, is_open, |failure| {
                failure.withdrawn_at = Some(kept(*at))
            });
        }
        Ok(())
    }

    async fn forget_answers(&mut self, lookups: &[(RecordingId, &str)]) -> Result<()> {
        for (recording, identity) in lookups {
            self.answers.remove(&(*recording, (*identity).to_owned()));
        }
        Ok(())
    }

    async fn keep_answer(
        &mut self,
        recording: RecordingId,
        identity: &str,
        job: JobId,
        _now: Timestamp,
    ) -> Result<()> {
        self.answers.put((recording, identity.to_owned()), job);
        Ok(())
    }

    async fn delete_job(&mut self, job: JobId) -> Result<()> {
        self.jobs.remove(&job);
        Ok(())
    }

    async fn rename_job(&mut self, job: JobId, name: &str) -> Result<()> {
        self.jobs
            .change(&job, |_| true, |job| job.name = name.to_owned());
        Ok(())
    }
}

fn announce(job: &mut StoredJob, slot: &JobSlot) {
    job.announced_by = slot.announced_by;
    job.announced_at = kept(slot.announced_at);
    job.found_by = slot.found_by;
}

impl Rows {
    fn shelf(&self, recording: &StoredRecording) -> RecordingChanges {
        let jobs = self.jobs.rows();
        let losses = self.failures.rows();
        RecordingChanges {
            id: recording.id,
            source: recording.source.clone(),
            provider: recording.provider,
            recording_key: recording.recording_key.clone(),
            facts: recording.facts.clone(),
            date: recording.date,
            folder: recording.folder.clone(),
            created_at: recording.created_at,
            changed_at: recording.created_at,
            change: PendingChange::Kept,
            jobs: jobs
                .filter(|job| job.recording_id == recording.id)
                .map(slot)
                .collect(),
            losses: losses
                .filter(|failure| failure.recording_id == recording.id)
                .map(|failure| LossSlot {
                    id: failure.id,
                    loss_key: failure.loss_key.clone(),
                    loss: failure.loss,
                    is_open: failure.withdrawn_at.is_none(),
                    change: PendingChange::Kept,
                    report: None,
                })
                .collect(),
            answered: self.answered(recording.id).collect(),
            asked_again: Vec::new(),
            index: None,
        }
    }

    /// The identities of answered lookups of a recording, and the jobs that they were.
    pub(super) fn answered(
        &self,
        recording: RecordingId,
    ) -> impl Iterator<Item = (String, JobId)> + '_ {
        let answers = self.answers.entries();
        answers
            .filter(move |((of, _), _)| *of == recording)
            .map(|((_, identity), job)| (identity.clone(), *job))
    }
}

fn slot(job: &StoredJob) -> JobSlot {
    JobSlot {
        id: job.id,
        identity: job.identity.clone(),
        name: job.name.clone(),
        kind: job.kind,
        is_inline: job.is_inline,
        state: job.state,
        announced_by: job.announced_by,
        announced_at: job.announced_at,
        found_by: job.found_by,
        announced_size: job.announced_size,
        change: PendingChange::Kept,
        fresh: None,
    }
}
