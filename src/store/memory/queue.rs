//! Leasing jobs, and writing under leases.

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

use super::Rows;
use super::rows::{StoredJob, StoredRecording};
use crate::error::{Class, Result};
use crate::model::artifact::is_small;
use crate::model::{Artifact, Checkpoint, JobId, Lease, Origin, Recording, RecordingId, State};
use crate::store::stored::{clean, damaged, kept};
use crate::store::tx::{
    ArchivedJob, Candidate, DueJobs, DueTimes, FailureToCure, GiveUp, LeaseJobs, LeasedJob,
    QueueTx, Requeue, Settlement, UnreadableJob,
};
use crate::store::{Claimed, LeaseWrite};

#[async_trait]
impl QueueTx for Rows {
    async fn due_jobs(
        &mut self,
        wanted: &DueJobs<'_>,
    ) -> Result<Vec<Result<Candidate, UnreadableJob>>> {
        let mut due: Vec<&StoredJob> = self
            .jobs
            .rows()
            .filter(|job| job.is_small == wanted.is_small && is_due(job, &wanted.times))
            .filter(|job| wanted.only.is_none_or(|only| only.contains(&job.id)))
            .collect();
        due.sort_by_key(|job| job.urgency());
        let is_suspect =
            |job: &StoredJob| job.is_running() && job.unsettled_leases >= wanted.suspect_leases;
        let mut left = [wanted.limit; 2];
        let found = due.into_iter().filter(|job| {
            if is_suspect(job) {
                return true;
            }
            let left = &mut left[usize::from(job.is_running())];
            let is_wanted = *left > 0;
            *left = left.saturating_sub(1);
            is_wanted
        });
        Ok(found.map(|job| Ok(candidate(job))).collect())
    }

    async fn lease_jobs(
        &mut self,
        order: &LeaseJobs<'_>,
    ) -> Result<Vec<Result<Claimed, UnreadableJob>>> {
        let now = kept(order.times.now);
        let mut leased = Vec::new();
        for id in order.jobs {
            let is_meant = |job: &StoredJob| {
                job.is_small == order.is_small
                    && job.unsettled_leases < order.below_leases
                    && is_due(job, &order.times)
            };
            let lease = |job: &mut StoredJob| {
                let lost = u32::from(job.is_running());
                let has_been_tried = job.attempts > job.unsettled_attempts + lost;
                let first = job.first_attempt_at.filter(|_| has_been_tried);
                job.first_attempt_at = Some(first.unwrap_or(now));
                job.unsettled_attempts += lost;
                job.attempts += 1;
                job.unsettled_leases += 1;
                job.lease_token += 1;
                job.lease = Some((kept(order.until), order.worker.to_owned()));
                job.state = State::Running;
                job.changed_at = now;
            };
            if let Some(job) = self.jobs.change(id, is_meant, lease) {
                let recording = self.recordings.get(&job.recording_id);
                let recording = recording.ok_or_else(|| missing(job.recording_id))?;
                leased.push(Ok(job.claimed(recording)));
            }
        }
        Ok(leased)
    }

    async fn extend_leases(&mut self, leases: &[Lease], until: Timestamp) -> Result<Vec<Lease>> {
        let mut extended = Vec::new();
        for lease in leases {
            let is_its = |job: &StoredJob| job.is_held_by(lease);
            let extend = |job: &mut StoredJob| {
                if let Some((end, _)) = &mut job.lease {
                    *end = kept(until);
                }
            };
            if self.jobs.change(&lease.job, is_its, extend).is_some() {
                extended.push(lease.clone());
            }
        }
        Ok(extended)
    }

    async fn is_suspect_running(&mut self, suspect_leases: i64, times: &DueTimes) -> Result<bool> {
        Ok(self.jobs.rows().any(|job| {
            job.is_running() && job.unsettled_leases > suspect_leases && !is_due(job, times)
        }))
    }

    async fn clear_suspects(&mut self, suspect_leases: i64) -> Result<()> {
        self.jobs.change_all(
            |job| job.is_running() && job.unsettled_leases >= suspect_leases,
            |job| job.unsettled_leases = 1,
        );
        Ok(())
    }

    async fn free_leases(&mut self, holder: &str) -> Result<u64> {
        let is_its = |job: &StoredJob| job.lease.as_ref().is_some_and(|(_, by)| by == holder);
        let freed = self.jobs.change_all(is_its, |job| {
            if let Some((end, _)) = &mut job.lease {
                *end = Timestamp::UNIX_EPOCH;
            }
        });
        Ok(freed.len() as u64)
    }

    async fn leased_job(&mut self, lease: &Lease) -> Result<Option<LeasedJob>> {
        let job = self.jobs.get(&lease.job);
        Ok(job
            .filter(|job| job.is_held_by(lease))
            .map(|job| LeasedJob {
                recording_id: job.recording_id,
                identity: job.identity.clone(),
                is_lookup: matches!(job.origin, Some(Origin::Lookup(_))),
                announced_by: job.announced_by,
                announced_size: job.announced_size,
                has_fresh_origin: job.has_fresh_origin,
            }))
    }

    async fn save_checkpoint(
        &mut self,
        lease: &Lease,
        checkpoint: Option<&Checkpoint>,
        bytes_done: u64,
    ) -> Result<LeaseWrite> {
        Ok(self.under(lease, |job| {
            if bytes_done > job.bytes_done {
                job.unsettled_leases = 1;
            }
            job.checkpoint = checkpoint.cloned();
            job.bytes_done = bytes_done;
        }))
    }

    async fn replace_origin(&mut self, lease: &Lease, artifact: &Artifact) -> Result<LeaseWrite> {
        Ok(self.under(lease, |job| {
            job.take_origin(artifact, is_small(artifact.kind, &artifact.origin));
            job.has_fresh_origin = false;
        }))
    }

    async fn requeue_job(&mut self, job: JobId, requeue: &Requeue<'_>) -> Result<()> {
        let back = |job: &mut StoredJob| {
            let uncounted = u32::from(!requeue.is_counted);
            let is_tried_before = !job.has_fresh_origin && job.attempts > uncounted;
            let wait = match requeue.is_counted {
                true => SignedDuration::ZERO,
                false => wait(job.changed_at, kept(requeue.at)),
            };
            let first = job.first_attempt_at.filter(|_| is_tried_before);
            job.first_attempt_at = first.map(|first| first + wait);
            job.attempts = match job.has_fresh_origin {
                true => 0,
                false => job.attempts - uncounted,
            };
            end_lease(job);
            job.state = State::Pending;
            job.next_attempt_at = kept(requeue.at);
            job.class = requeue.why.map(|(class, _)| class);
            job.message = requeue.why.map(|(_, message)| clean(message).into_owned());
            job.has_fresh_origin = false;
            job.changed_at = kept(requeue.now);
        };
        self.jobs.change(&job, |_| true, back);
        Ok(())
    }

    async fn give_up_jobs(&mut self, jobs: &[JobId], end: &GiveUp<'_>) -> Result<()> {
        for id in jobs {
            self.jobs.change(
                id,
                |_| true,
                |job| {
                    end_lease(job);
                    job.state = end.state;
                    job.class = Some(end.class);
                    job.message = Some(clean(end.message).into_owned());
                    job.changed_at = kept(end.now);
                },
            );
        }
        Ok(())
    }

    async fn give_up_unreadable(&mut self, job: &str, _: &str, _: Timestamp) -> Result<()> {
        Err(damaged(format!(
            "job {job}, of which there is no text here"
        )))
    }

    async fn archive_jobs(&mut self, settlements: &[Settlement]) -> Result<Vec<ArchivedJob>> {
        let mut archived = Vec::new();
        for settlement in settlements {
            let now = kept(settlement.now);
            let lease = &settlement.lease;
            let is_its = |job: &StoredJob| job.is_held_by(lease);
            let archive = |job: &mut StoredJob| {
                end_lease(job);
                job.state = State::Archived;
                (job.origin, job.checkpoint) = (None, None);
                (job.class, job.message) = (None, None);
                job.has_fresh_origin = false;
                job.key.clone_from(&settlement.archived.key);
                job.bytes_done = settlement.archived.size_bytes;
                job.archived = Some((settlement.archived.clone(), now));
                job.changed_at = now;
            };
            if let Some(job) = self.jobs.change(&lease.job, is_its, archive) {
                archived.push(ArchivedJob {
                    id: job.id,
                    recording_id: job.recording_id,
                    saved: job.saved(),
                });
            }
        }
        Ok(archived)
    }

    async fn count_open_jobs(&mut self, changes: &[(RecordingId, i64)]) -> Result<()> {
        for (recording, change) in changes {
            let count = |recording: &mut StoredRecording| {
                recording.generation += 1;
                recording.open_jobs = (recording.open_jobs + change).max(0);
            };
            self.recordings.change(recording, |_| true, count);
        }
        Ok(())
    }

    async fn count_archived(&mut self, archived: &[(RecordingId, i64)]) -> Result<bool> {
        let less: Vec<_> = archived.iter().map(|(id, count)| (*id, -count)).collect();
        self.count_open_jobs(&less).await?;
        let mut failures = self.failures.rows();
        Ok(!archived.is_empty() && failures.any(|failure| failure.withdrawn_at.is_none()))
    }

    async fn failures_to_cure(&mut self, by: &[RecordingId]) -> Result<Vec<FailureToCure>> {
        let mut found = Vec::new();
        for cured_by in by {
            let here = self.recordings.get(cured_by);
            let here = here.ok_or_else(|| missing(*cured_by))?;
            let open = self.failures.rows();
            for failure in open.filter(|failure| failure.withdrawn_at.is_none()) {
                let there = self.recordings.get(&failure.recording_id);
                let there = there.ok_or_else(|| missing(failure.recording_id))?;
                let is_in_its_room = there.facts.identity().is_none()
                    && there.source == here.source
                    && there.facts.room_name.is_some()
                    && there.facts.room_name == here.facts.room_name;
                if there.id == here.id || is_in_its_room {
                    found.push(FailureToCure {
                        cured_by: *cured_by,
                        id: failure.id,
                        loss: failure.loss,
                        recording_id: there.id,
                        recording: there.facts.clone(),
                    });
                }
            }
        }
        Ok(found)
    }

    async fn recording_facts(&mut self, recording: RecordingId) -> Result<Recording> {
        let row = self.recordings.get(&recording);
        row.map(|row| row.facts.clone())
            .ok_or_else(|| missing(recording))
    }

    async fn pause_jobs(&mut self, until: Timestamp, class: Class, message: &str) -> Result<u64> {
        let until = kept(until);
        let moved = self.jobs.change_all(
            |job| job.state == State::Pending && job.next_attempt_at < until,
            |job| {
                let wait = wait(job.next_attempt_at.max(job.changed_at), until);
                job.first_attempt_at = job.first_attempt_at.map(|first| first + wait);
                job.next_attempt_at = until;
                job.class = Some(class);
                job.message = Some(clean(message).into_owned());
            },
        );
        Ok(moved.len() as u64)
    }

    async fn wake_jobs(&mut self, class: Class) -> Result<Vec<JobId>> {
        let is_waiting = |job: &StoredJob| {
            job.state == State::Pending
                && job.class == Some(class)
                && job.next_attempt_at > Timestamp::UNIX_EPOCH
        };
        Ok(self.jobs.change_all(is_waiting, |job| {
            job.next_attempt_at = Timestamp::UNIX_EPOCH;
        }))
    }
}

impl Rows {
    fn under(&mut self, lease: &Lease, change: impl FnOnce(&mut StoredJob)) -> LeaseWrite {
        let is_its = |job: &StoredJob| job.is_held_by(lease);
        match self.jobs.change(&lease.job, is_its, change) {
            Some(_) => LeaseWrite::Yes,
            None => LeaseWrite::Stale,
        }
    }
}

/// Whether a job is pending and due, or its lease has run out.
fn is_due(job: &StoredJob, times: &DueTimes) -> bool {
    let is_past = |at: Timestamp| at <= kept(times.now) || at > kept(times.beyond);
    match (job.state, &job.lease) {
        (State::Pending, _) => is_past(job.next_attempt_at),
        (State::Running, Some((until, _))) => times.takes_lapsed && is_past(*until),
        _ => false,
    }
}

fn candidate(job: &StoredJob) -> Candidate {
    Candidate {
        id: job.id,
        recording_id: job.recording_id,
        state: job.state,
        urgency: job.urgency(),
        unsettled_leases: job.unsettled_leases,
        token: job.lease_token,
    }
}

pub(super) fn end_lease(job: &mut StoredJob) {
    job.lease = None;
    job.unsettled_leases = 0;
}

fn wait(from: Timestamp, until: Timestamp) -> SignedDuration {
    until.duration_since(from).max(SignedDuration::ZERO)
}

fn missing(recording: RecordingId) -> crate::error::Error {
    damaged(format!("recording {recording} is not there"))
}
