//! Manifests, an operator's words, scans, and what leaves the store.

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;

use super::Rows;
use super::queue::end_lease;
use super::rows::{SealFailure, StoredEvent, StoredJob, StoredRecording, StoredScan};
use crate::error::{Class, Result};
use crate::model::{EventClass, EventId, JobId, Origin, Record, RecordingId, State};
use crate::store::WalkTurn;
use crate::store::stored::{clean, from_origin, kept};
use crate::store::tx::{ManifestTx, OperatorTx, PurgeTx, ScanTx, StaleOrigin, Upkeep};

#[async_trait]
impl ManifestTx for Rows {
    async fn mark_sealed(
        &mut self,
        recording: RecordingId,
        generation: i64,
        manifest_etag: Option<&str>,
        report_etag: Option<&str>,
    ) -> Result<bool> {
        let is_news =
            |row: &StoredRecording| (row.sealed_generation..=row.generation).contains(&generation);
        let sealed = self.recordings.change(&recording, is_news, |row| {
            row.sealed_generation = generation;
            row.manifest_etag = manifest_etag.map(str::to_owned);
            row.report_etag = report_etag.map(str::to_owned);
            row.next_seal_at = Timestamp::UNIX_EPOCH;
            row.seal_failure = None;
        });
        Ok(sealed.is_some())
    }

    async fn put_off_seal(
        &mut self,
        recording: RecordingId,
        class: Class,
        message: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<()> {
        let put_off = |row: &mut StoredRecording| {
            let before = row.seal_failure.take();
            row.next_seal_at = kept(until);
            row.seal_failure = Some(SealFailure {
                count: before.as_ref().map_or(0, |failure| failure.count) + 1,
                since: before.map_or(kept(now), |failure| failure.since),
                class,
                message: clean(message).into_owned(),
            });
        };
        self.recordings.change(&recording, |_| true, put_off);
        Ok(())
    }

    async fn forget_bodies_of(&mut self, recording: RecordingId) -> Result<u64> {
        let kept = self.announcing(recording);
        let forgotten = self.events.change_all(
            |event| {
                event.recording_id == Some(recording)
                    && !event.raw.is_empty()
                    && !kept.contains(&event.id)
            },
            |event| event.raw = Bytes::new(),
        );
        Ok(forgotten.len() as u64)
    }

    async fn bodies_of(&mut self, recording: RecordingId) -> Result<Vec<(EventId, Bytes)>> {
        let events = self.events.rows();
        let with_body =
            events.filter(|event| event.recording_id == Some(recording) && !event.raw.is_empty());
        Ok(with_body
            .map(|event| (event.id, event.raw.clone()))
            .collect())
    }

    async fn replace_bodies(&mut self, bodies: &[(EventId, String)]) -> Result<u64> {
        let mut replaced = 0;
        for (id, text) in bodies {
            let has_body = |event: &StoredEvent| !event.raw.is_empty();
            let replace = |event: &mut StoredEvent| event.raw = Bytes::from(text.clone());
            replaced += u64::from(self.events.change(id, has_body, replace).is_some());
        }
        Ok(replaced)
    }
}

#[async_trait]
impl OperatorTx for Rows {
    async fn retry_jobs(
        &mut self,
        jobs: &[JobId],
        states: &[State],
        now: Timestamp,
    ) -> Result<Vec<(JobId, RecordingId)>> {
        let is_meant = |job: &StoredJob| states.contains(&job.state);
        Ok(self.change_jobs(jobs, is_meant, |job| {
            job.state = State::Pending;
            job.next_attempt_at = Timestamp::UNIX_EPOCH;
            (job.attempts, job.first_attempt_at) = (0, None);
            (job.unsettled_leases, job.unsettled_attempts) = (0, 0);
            job.has_fresh_origin = false;
            (job.class, job.message) = (None, None);
            job.changed_at = kept(now);
        }))
    }

    async fn cancel_jobs(
        &mut self,
        jobs: &[JobId],
        message: &str,
        now: Timestamp,
    ) -> Result<Vec<(JobId, RecordingId)>> {
        let is_open = |job: &StoredJob| !job.state.is_settled();
        Ok(self.change_jobs(jobs, is_open, |job| {
            end_lease(job);
            job.state = State::Cancelled;
            job.class = None;
            job.message = Some(clean(message).into_owned());
            job.changed_at = kept(now);
        }))
    }

    async fn records_of(&mut self, jobs: &[JobId]) -> Result<Vec<Record>> {
        let mut jobs = jobs.to_vec();
        jobs.sort_unstable();
        let rows = jobs.iter().filter_map(|id| self.jobs.get(id));
        Ok(rows.filter_map(|job| self.record(job)).collect())
    }

    async fn forget_unknown_event(&mut self, event: EventId) -> Result<bool> {
        let is_unknown = |event: &StoredEvent| event.class == EventClass::Unknown;
        let is_there = self.events.get(&event).is_some_and(is_unknown);
        if is_there {
            self.events.remove(&event);
        }
        Ok(is_there)
    }
}

#[async_trait]
impl ScanTx for Rows {
    async fn begin_walk(
        &mut self,
        source: &str,
        holder: &str,
        now: Timestamp,
        lease_until: Timestamp,
    ) -> Result<WalkTurn> {
        let mut scan = self.scan(source);
        let (now, lease_until) = (kept(now), kept(lease_until));
        let lease = lease_until.duration_since(now);
        let is_held = scan.held.as_ref().is_some_and(|(by, until)| {
            let left = until.duration_since(now);
            by != holder && !left.is_zero() && left.is_positive() && left <= lease + lease
        });
        if is_held {
            return Ok(WalkTurn::Others);
        }
        let reached = scan.reached;
        scan.held = Some((holder.to_owned(), lease_until));
        self.scans.put(source.to_owned(), scan);
        Ok(WalkTurn::Ours { reached })
    }

    async fn end_walk(
        &mut self,
        source: &str,
        holder: &str,
        reached: Option<Timestamp>,
    ) -> Result<()> {
        let mut scan = self.scan(source);
        if scan.held.as_ref().is_some_and(|(by, _)| by == holder) {
            scan.held = None;
            scan.reached = scan.reached.max(reached.map(kept));
            self.scans.put(source.to_owned(), scan);
        }
        Ok(())
    }
}

#[async_trait]
impl PurgeTx for Rows {
    async fn replace_origins(&mut self, origins: &[(StaleOrigin, Origin)]) -> Result<u64> {
        let mut replaced = 0;
        for (stale, left) in origins {
            let is_the_same = |job: &StoredJob| is_lost(job) && stored(job) == stale.stored;
            let replace = |job: &mut StoredJob| job.origin = Some(left.clone());
            let changed = self.jobs.change(&stale.job, is_the_same, replace);
            replaced += u64::from(changed.is_some());
        }
        Ok(replaced)
    }

    async fn upkeep_done(&mut self, _: Upkeep) -> Result<()> {
        Ok(())
    }

    async fn sealed_of(&mut self, recordings: &[RecordingId]) -> Result<Vec<RecordingId>> {
        let rows = self.recordings.rows();
        let sealed = rows.filter(|row| recordings.contains(&row.id) && row.is_sealed());
        Ok(sealed.map(|row| row.id).collect())
    }

    async fn forget_loose_bodies(
        &mut self,
        all: Option<Timestamp>,
        carried_nothing: Timestamp,
        limit: u32,
    ) -> Result<u64> {
        let is_stale = |event: &&StoredEvent| {
            let nobody_reads = matches!(event.class, EventClass::Ignored | EventClass::Handshake);
            event.recording_id.is_none()
                && !event.raw.is_empty()
                && (all.is_some_and(|all| event.received_at < all)
                    || nobody_reads && event.received_at < carried_nothing)
        };
        let stale = self.events.rows().filter(is_stale).take(limit as usize);
        let stale: Vec<EventId> = stale.map(|event| event.id).collect();
        for id in &stale {
            self.events
                .change(id, |_| true, |event| event.raw = Bytes::new());
        }
        Ok(stale.len() as u64)
    }

    async fn forget_events(&mut self, before: Timestamp, limit: u32) -> Result<u64> {
        let is_old =
            |event: &&StoredEvent| event.recording_id.is_none() && event.received_at < before;
        let old = self.events.rows().filter(is_old).take(limit as usize);
        let old: Vec<EventId> = old.map(|event| event.id).collect();
        for id in &old {
            self.events.remove(id);
        }
        Ok(old.len() as u64)
    }

    async fn purgeable_of(
        &mut self,
        recordings: &[RecordingId],
        cutoff: Timestamp,
    ) -> Result<Vec<RecordingId>> {
        let rows = self.recordings.rows();
        let meant = rows.filter(|row| recordings.contains(&row.id));
        let old = meant.filter(|row| self.is_purgeable(row, cutoff));
        Ok(old.map(|row| row.id).collect())
    }

    async fn remove_recordings(&mut self, recordings: &[RecordingId]) -> Result<()> {
        for recording in recordings {
            let failures = self.failures.rows();
            let failures = failures.filter(|failure| failure.recording_id == *recording);
            for id in failures.map(|failure| failure.id).collect::<Vec<_>>() {
                self.failures.remove(&id);
            }
            let answers = self.answered(*recording).collect::<Vec<_>>();
            for (identity, _) in answers {
                self.answers.remove(&(*recording, identity));
            }
            let jobs = self.jobs.rows();
            let jobs = jobs.filter(|job| job.recording_id == *recording);
            for id in jobs.map(|job| job.id).collect::<Vec<_>>() {
                self.jobs.remove(&id);
            }
            self.events.change_all(
                |event| event.recording_id == Some(*recording),
                |event| {
                    (event.recording_id, event.alert) = (None, None);
                    event.jobs = Vec::new();
                    event.raw = Bytes::new();
                },
            );
            self.recordings.remove(recording);
        }
        Ok(())
    }
}

impl Rows {
    fn scan(&self, source: &str) -> StoredScan {
        let scan = self.scans.get(&source.to_owned());
        scan.cloned().unwrap_or_default()
    }

    fn change_jobs(
        &mut self,
        jobs: &[JobId],
        is_meant: impl Fn(&StoredJob) -> bool,
        change: impl Fn(&mut StoredJob),
    ) -> Vec<(JobId, RecordingId)> {
        let changed = jobs.iter().filter_map(|id| {
            let job = self.jobs.change(id, &is_meant, &change)?;
            Some((job.id, job.recording_id))
        });
        changed.collect()
    }

    /// Whether nothing of a sealed recording has changed since `cutoff`.
    pub(super) fn is_purgeable(&self, row: &StoredRecording, cutoff: Timestamp) -> bool {
        let is_young = |job: &StoredJob| job.recording_id == row.id && job.changed_at >= cutoff;
        let is_news =
            |event: &StoredEvent| event.recording_id == Some(row.id) && event.received_at >= cutoff;
        row.is_sealed()
            && row.created_at < cutoff
            && !self.jobs.rows().any(is_young)
            && !self.events.rows().any(is_news)
    }

    /// The events of `recording` that are still to be archived themselves.
    pub(super) fn announcing(&self, recording: RecordingId) -> Vec<EventId> {
        let jobs = self.jobs.rows();
        let waiting =
            jobs.filter(|job| job.recording_id == recording && job.origin == Some(Origin::Event));
        waiting.filter_map(|job| job.announced_by).collect()
    }
}

pub(super) fn is_lost(job: &StoredJob) -> bool {
    matches!(job.state, State::Failed | State::Expired | State::Cancelled)
}

/// An origin as the other engines keep it.
pub(super) fn stored(job: &StoredJob) -> String {
    let origin = job.origin.as_ref().map(from_origin);
    origin
        .and_then(Result::ok)
        .map_or_else(String::new, |(_, text)| text)
}
