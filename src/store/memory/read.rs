//! What is only read.

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;

use super::Rows;
use super::rows::{StoredEvent, StoredJob};
use super::upkeep::{is_lost, stored};
use crate::error::{Class, Result};
use crate::model::manifest::{OverdueManifest, RecordingContents, event_name};
use crate::model::{EventClass, EventId, JobId, Origin, Provider, Record, RecordingId, State};
use crate::store::stored::{instant, millis};
use crate::store::tx::{StaleAges, StaleOrigin, StoreRead, Upkeep};
use crate::store::{
    EventRecord, Filter, KeptBody, KnownArtifact, ProviderLoss, Sealable, Selection, Stats,
    UploadOwner,
};

#[async_trait]
impl StoreRead for Rows {
    async fn list(&mut self, filter: &Filter) -> Result<Vec<Record>> {
        let named = |job: &StoredJob| {
            filter.ids.is_empty()
                || filter.ids.contains(&job.id.0)
                || filter.ids.contains(&job.recording_id.0)
        };
        let jobs = self.jobs.rows().filter(|job| {
            named(job)
                && filter.after.is_none_or(|after| job.id.0 > after)
                && (filter.states.is_empty() || filter.states.contains(&job.state))
                && filter.since.is_none_or(|since| job.changed_at >= since)
        });
        let records = jobs.filter_map(|job| self.record(job));
        let records = records.filter(|record| {
            filter
                .provider
                .is_none_or(|provider| record.provider == provider)
        });
        Ok(records.take(limit(filter.limit)).collect())
    }

    async fn contents(&mut self, recording: RecordingId) -> Result<Option<RecordingContents>> {
        let Some(row) = self.recordings.get(&recording) else {
            return Ok(None);
        };
        let jobs = self.jobs.rows();
        let mut artifacts: Vec<Record> = jobs
            .filter(|job| job.recording_id == recording)
            .map(|job| job.record(row))
            .collect();
        artifacts.sort_by(|one, other| one.name.cmp(&other.name));
        let events = self.events.rows();
        let failures = self.failures.rows();
        Ok(Some(RecordingContents {
            recording: row.record(),
            folder: row.folder.clone(),
            event_ids: events
                .filter(|event| event.recording_id == Some(recording))
                .map(|event| event_name(event.event_id.as_deref(), event.id))
                .collect(),
            artifacts,
            provider_failures: failures
                .filter(|failure| {
                    failure.recording_id == recording && failure.withdrawn_at.is_none()
                })
                .map(|failure| failure.record.clone())
                .collect(),
            generation: row.generation,
            manifest_etag: row.manifest_etag.clone(),
            report_etag: row.report_etag.clone(),
        }))
    }

    async fn provider_failures(
        &mut self,
        provider: Option<Provider>,
        since: Option<Timestamp>,
        most: Option<u32>,
    ) -> Result<Vec<ProviderLoss>> {
        let open = self.failures.rows().filter(|failure| {
            failure.withdrawn_at.is_none() && since.is_none_or(|since| failure.received_at >= since)
        });
        let losses = open.filter_map(|failure| {
            let recording = self.recordings.get(&failure.recording_id)?.record();
            let is_meant = provider.is_none_or(|provider| recording.provider == provider);
            is_meant.then(|| ProviderLoss {
                failure: failure.record.clone(),
                recording,
            })
        });
        Ok(losses.take(limit(most)).collect())
    }

    async fn events(&mut self, since: Option<Timestamp>, limit: u32) -> Result<Vec<EventRecord>> {
        let came = |event: &&StoredEvent| since.is_none_or(|since| event.received_at >= since);
        let events = self.events.rows().filter(came).take(limit as usize);
        Ok(events.map(event_record).collect())
    }

    async fn unknown_events(
        &mut self,
        since: Option<Timestamp>,
        after: Option<EventId>,
        limit: u32,
    ) -> Result<Vec<EventRecord>> {
        let is_meant = |event: &&StoredEvent| {
            event.class == EventClass::Unknown
                && since.is_none_or(|since| event.received_at >= since)
                && after.is_none_or(|after| event.id > after)
        };
        let events = self.events.rows().filter(is_meant).take(limit as usize);
        Ok(events.map(event_record).collect())
    }

    async fn raw_event(&mut self, event: EventId) -> Result<Option<Bytes>> {
        let raw = self.events.get(&event).map(|event| event.raw.clone());
        Ok(raw.filter(|raw| !raw.is_empty()))
    }

    async fn announcing_event(&mut self, job: JobId) -> Result<Option<Bytes>> {
        let event = self.jobs.get(&job).and_then(|job| job.announced_by);
        match event {
            Some(event) => self.raw_event(event).await,
            None => Ok(None),
        }
    }

    async fn stats(&mut self) -> Result<Stats> {
        let count = |state| self.jobs.rows().filter(|job| job.state == state).count();
        let open = self.jobs.rows().filter(|job| !job.state.is_settled());
        let least = open.map(|job| job.latest_start_ms).min();
        let least = least.filter(|least| *least < millis(Timestamp::MAX));
        Ok(Stats {
            jobs: State::ALL
                .into_iter()
                .map(|state| (state, count(state) as u64))
                .collect(),
            least_latest_start: least.map(instant).transpose()?,
        })
    }

    async fn selected_jobs(&mut self, selection: &Selection) -> Result<Vec<JobId>> {
        let is_failed = |job: &StoredJob| matches!(job.state, State::Failed | State::Expired);
        let jobs = self.jobs.rows().filter(|job| match selection {
            Selection::Ids(ids) => ids.contains(&job.id.0) || ids.contains(&job.recording_id.0),
            Selection::Class(class) => is_failed(job) && job.class == Some(*class),
            Selection::All => is_failed(job),
        });
        Ok(jobs.map(|job| job.id).collect())
    }

    async fn next_due(&mut self) -> Result<Option<Timestamp>> {
        let dues = self.jobs.rows().filter_map(|job| match job.state {
            State::Pending => Some(job.next_attempt_at),
            _ => job.lease.as_ref().map(|(until, _)| *until),
        });
        Ok(dues.min())
    }

    async fn is_retry_asked(&mut self, class: Class) -> Result<bool> {
        Ok(self.jobs.rows().any(|job| {
            job.state == State::Pending
                && job.class == Some(class)
                && job.next_attempt_at == Timestamp::UNIX_EPOCH
        }))
    }

    async fn upload_owners(&mut self, keys: &[String]) -> Result<Vec<UploadOwner>> {
        let jobs = self.jobs.rows();
        let owners = jobs.filter(|job| job.checkpoint.is_some() || keys.contains(&job.key));
        Ok(owners
            .map(|job| UploadOwner {
                job: job.id,
                key: job.key.clone(),
                state: job.state,
                upload_id: job.checkpoint.as_ref().map(|saved| saved.upload_id.clone()),
            })
            .collect())
    }

    async fn lease_holders(&mut self) -> Result<Vec<String>> {
        let leases = self.jobs.rows().filter_map(|job| job.lease.as_ref());
        let mut holders: Vec<String> = leases.map(|(_, holder)| holder.clone()).collect();
        holders.sort_unstable();
        holders.dedup();
        Ok(holders)
    }

    async fn unsealed(&mut self, limit: u32) -> Result<Vec<RecordingId>> {
        let rows = self.recordings.rows().filter(|row| row.is_unsealed());
        let mut rows: Vec<_> = rows.collect();
        rows.sort_by_key(|row| (row.next_seal_at, row.id));
        let first = rows.into_iter().take(limit as usize);
        Ok(first.map(|row| row.id).collect())
    }

    async fn unsealed_of(&mut self, recordings: &[RecordingId]) -> Result<Vec<RecordingId>> {
        let rows = self.recordings.rows().filter(|row| row.is_unsealed());
        let theirs = rows.filter(|row| recordings.contains(&row.id));
        Ok(theirs.map(|row| row.id).collect())
    }

    async fn sealable(
        &mut self,
        now: Timestamp,
        beyond: Timestamp,
        limit: u32,
    ) -> Result<Vec<Sealable>> {
        let rows = self.recordings.rows().filter(|row| row.is_unsealed());
        let mut rows: Vec<_> = rows.collect();
        rows.sort_by_key(|row| (row.next_seal_at, row.id));
        let (due, others): (Vec<_>, Vec<_>) =
            rows.into_iter().partition(|row| row.next_seal_at <= now);
        let beyond = others.into_iter().filter(|row| row.next_seal_at > beyond);
        let limit = limit as usize;
        let found = due.into_iter().take(limit).chain(beyond.take(limit));
        Ok(found
            .map(|row| Sealable {
                id: row.id,
                failures: row.seal_failure.as_ref().map_or(0, |failure| failure.count),
            })
            .collect())
    }

    async fn overdue_manifests(
        &mut self,
        since: Timestamp,
        limit: u32,
    ) -> Result<Vec<OverdueManifest>> {
        let rows = self.recordings.rows().filter(|row| row.is_unsealed());
        let overdue = rows.filter_map(|row| {
            let failure = row.seal_failure.as_ref()?;
            (failure.since <= since).then(|| OverdueManifest {
                recording: row.record(),
                class: failure.class,
                message: failure.message.clone(),
                failing_since: failure.since,
            })
        });
        let mut overdue: Vec<_> = overdue.collect();
        overdue.sort_by_key(|manifest| manifest.failing_since);
        overdue.truncate(limit as usize);
        Ok(overdue)
    }

    async fn kept_bodies(&mut self, recording: RecordingId) -> Result<Vec<KeptBody>> {
        let announcing = self.announcing(recording);
        let events = self.events.rows();
        let kept = events.filter(|event| !event.raw.is_empty() && announcing.contains(&event.id));
        Ok(kept
            .map(|event| KeptBody {
                event: event.id,
                source: event.source.clone(),
                provider: event.provider,
                raw: event.raw.clone(),
            })
            .collect())
    }

    async fn known(&mut self, source: &str, keys: &[String]) -> Result<Vec<KnownArtifact>> {
        let rows = self.recordings.rows();
        let mut known = Vec::new();
        for row in rows.filter(|row| row.source == source && keys.contains(&row.recording_key)) {
            let jobs = self.jobs.rows();
            known.extend(
                jobs.filter(|job| job.recording_id == row.id)
                    .map(|job| KnownArtifact {
                        recording_key: row.recording_key.clone(),
                        identity: job.identity.clone(),
                        job: Some(job.id),
                        state: Some(job.state),
                        class: job.class,
                        has_origin: !matches!(job.origin, Some(Origin::Unusable(..))),
                    }),
            );
            known.extend(self.answered(row.id).map(|(identity, _)| KnownArtifact {
                recording_key: row.recording_key.clone(),
                identity,
                job: None,
                state: None,
                class: None,
                has_origin: true,
            }));
        }
        Ok(known)
    }

    async fn stale_origins(&mut self, ages: &StaleAges, limit: u32) -> Result<Vec<StaleOrigin>> {
        let is_stale = |job: &&StoredJob| {
            let Some(Origin::Url(url)) = &job.origin else {
                return false;
            };
            let is_dead = job.deadline.certain().is_some_and(|at| at < ages.dead);
            let has_secret = url.expose().contains('?') || url.header().is_some();
            is_lost(job)
                && job.changed_at < ages.given_up
                && (is_dead || job.changed_at < ages.endless)
                && (job.remint.is_none() || has_secret)
        };
        let stale = self.jobs.rows().filter(is_stale).take(limit as usize);
        Ok(stale
            .map(|job| StaleOrigin {
                job: job.id,
                stored: stored(job),
                can_be_minted: job.remint.is_some(),
            })
            .collect())
    }

    /// No earlier version has left anything here.
    async fn is_upkeep_due(&mut self, _: Upkeep) -> Result<bool> {
        Ok(false)
    }

    async fn sealed_after(
        &mut self,
        after: Option<RecordingId>,
        limit: u32,
    ) -> Result<Vec<RecordingId>> {
        let rows = self.recordings.rows().filter(|row| row.is_sealed());
        let later = rows.filter(|row| after.is_none_or(|after| row.id > after));
        Ok(later.map(|row| row.id).take(limit as usize).collect())
    }

    async fn purgeable_after(
        &mut self,
        after: Option<RecordingId>,
        cutoff: Timestamp,
        limit: u32,
    ) -> Result<Vec<RecordingId>> {
        let rows = self.recordings.rows();
        let later = rows.filter(|row| after.is_none_or(|after| row.id > after));
        let old = later.filter(|row| self.is_purgeable(row, cutoff));
        Ok(old.map(|row| row.id).take(limit as usize).collect())
    }
}

impl Rows {
    pub(super) fn record(&self, job: &StoredJob) -> Option<Record> {
        Some(job.record(self.recordings.get(&job.recording_id)?))
    }
}

fn limit(most: Option<u32>) -> usize {
    most.map_or(usize::MAX, |most| most as usize)
}

fn event_record(event: &StoredEvent) -> EventRecord {
    EventRecord {
        id: event.id,
        source: event.source.clone(),
        provider: event.provider,
        event_id: event.event_id.clone(),
        event_type: event.event_type.clone(),
        class: event.class,
        alert: event.alert.clone(),
        received_at: event.received_at,
        recording_id: event.recording_id,
    }
}
