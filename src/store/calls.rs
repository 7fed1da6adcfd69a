//! The calls of the store's users, as every engine answers them.

use async_trait::async_trait;
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};

use super::engine::StoreEngine;
use super::tx::Settlement;
use super::{
    ClaimRequest, Claimed, EventIntake, EventRecord, Filter, JobQueue, KeptBody, KnownArtifact,
    LeaseWrite, ManifestQueue, NewEvent, OperatorAccess, ProcessLock, ProviderLoss, Purged,
    Recorded, ScanStore, Sealable, Selection, Stats, StoreLifecycle, UploadOwner, WalkTurn, lease,
    operate, purge, record, seal, settle,
};
use crate::error::{Class, Error, Result};
use crate::model::manifest::{OverdueManifest, RecordingContents};
use crate::model::{
    Artifact, Checkpoint, EventId, JobId, Lease, Outcome, Provider, Record, RecordingId,
};

#[async_trait]
impl<E: StoreEngine> EventIntake for E {
    async fn record(&self, event: NewEvent) -> Result<Recorded> {
        StoreEngine::record(self, event).await
    }
}

#[async_trait]
impl<E: StoreEngine> JobQueue for E {
    async fn claim(&self, claim: ClaimRequest) -> Result<Vec<Claimed>> {
        self.write(move |tx| Box::pin(lease::claim(tx, claim)))
            .await
    }

    async fn announcing_event(&self, job: JobId) -> Result<Option<Bytes>> {
        self.read(move |tx| tx.announcing_event(job)).await
    }

    async fn heartbeat(&self, leases: &[Lease], until: Timestamp) -> Result<Vec<JobId>> {
        let leases = leases.to_vec();
        self.write(move |tx| Box::pin(lease::heartbeat(tx, leases, until)))
            .await
    }

    async fn checkpoint(
        &self,
        lease: &Lease,
        checkpoint: Option<&Checkpoint>,
        bytes_done: u64,
    ) -> Result<LeaseWrite> {
        let (lease, checkpoint) = (lease.clone(), checkpoint.cloned());
        self.write(move |tx| {
            Box::pin(async move {
                tx.save_checkpoint(&lease, checkpoint.as_ref(), bytes_done)
                    .await
            })
        })
        .await
    }

    async fn settle(&self, lease: &Lease, outcome: &Outcome, now: Timestamp) -> Result<LeaseWrite> {
        let (lease, outcome) = (lease.clone(), outcome.clone());
        if let Outcome::Archived(archived) = outcome {
            let settlement = Settlement {
                lease,
                archived,
                now,
            };
            return self.archive(settlement).await;
        }
        self.write(move |tx| Box::pin(settle::settle(tx, lease, outcome, now)))
            .await
    }

    async fn resolve(
        &self,
        lease: &Lease,
        found: Vec<Artifact>,
        now: Timestamp,
    ) -> Result<LeaseWrite> {
        let lease = lease.clone();
        self.write(move |tx| Box::pin(settle::resolve(tx, lease, found, now)))
            .await
    }

    async fn add_found(
        &self,
        lease: &Lease,
        found: Vec<Artifact>,
        now: Timestamp,
    ) -> Result<LeaseWrite> {
        let lease = lease.clone();
        self.write(move |tx| Box::pin(settle::add_found(tx, lease, found, now)))
            .await
    }

    async fn reorigin(&self, lease: &Lease, artifact: &Artifact) -> Result<LeaseWrite> {
        let (lease, artifact) = (lease.clone(), artifact.clone());
        self.write(move |tx| Box::pin(lease::replace_origin(tx, lease, artifact)))
            .await
    }

    async fn pause(&self, until: Timestamp, class: Class, message: &str) -> Result<u64> {
        let message = message.to_owned();
        self.write(move |tx| Box::pin(async move { tx.pause_jobs(until, class, &message).await }))
            .await
    }

    async fn wake(&self, class: Class) -> Result<u64> {
        let woken = self.write(move |tx| tx.wake_jobs(class)).await?;
        Ok(woken.len() as u64)
    }

    async fn is_retry_asked(&self, class: Class) -> Result<bool> {
        self.read(move |tx| tx.is_retry_asked(class)).await
    }

    async fn next_due(&self) -> Result<Option<Timestamp>> {
        self.read(|tx| tx.next_due()).await
    }

    async fn upload_owners(&self, keys: &[String]) -> Result<Vec<UploadOwner>> {
        let keys = keys.to_vec();
        self.read(move |tx| Box::pin(async move { tx.upload_owners(&keys).await }))
            .await
    }
}

#[async_trait]
impl<E: StoreEngine> ManifestQueue for E {
    async fn unsealed(&self, limit: u32) -> Result<Vec<RecordingId>> {
        self.read(move |tx| tx.unsealed(limit)).await
    }

    async fn unsealed_of(&self, recordings: &[RecordingId]) -> Result<Vec<RecordingId>> {
        let recordings = recordings.to_vec();
        self.read(move |tx| Box::pin(async move { tx.unsealed_of(&recordings).await }))
            .await
    }

    async fn sealable(&self, now: Timestamp, limit: u32) -> Result<Vec<Sealable>> {
        self.read(move |tx| Box::pin(seal::sealable(tx, now, limit)))
            .await
    }

    async fn put_off_seal(
        &self,
        recording: RecordingId,
        class: Class,
        message: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<()> {
        let message = message.to_owned();
        self.write(move |tx| {
            Box::pin(async move {
                tx.put_off_seal(recording, class, &message, now, until)
                    .await
            })
        })
        .await
    }

    async fn kept_bodies(&self, recording: RecordingId) -> Result<Vec<KeptBody>> {
        self.read(move |tx| tx.kept_bodies(recording)).await
    }

    async fn replace_bodies(&self, bodies: Vec<(EventId, String)>) -> Result<()> {
        let replaced =
            self.write(move |tx| Box::pin(async move { tx.replace_bodies(&bodies).await }));
        replaced.await.map(drop)
    }

    async fn sealed(
        &self,
        recording: RecordingId,
        generation: i64,
        manifest_etag: Option<&str>,
        report_etag: Option<&str>,
    ) -> Result<()> {
        let manifest_etag = manifest_etag.map(str::to_owned);
        let report_etag = report_etag.map(str::to_owned);
        self.write(move |tx| {
            Box::pin(seal::sealed(
                tx,
                recording,
                generation,
                manifest_etag,
                report_etag,
            ))
        })
        .await
    }
}

#[async_trait]
impl<E: StoreEngine> OperatorAccess for E {
    async fn list(&self, filter: &Filter) -> Result<Vec<Record>> {
        let filter = filter.clone();
        self.read(move |tx| Box::pin(async move { tx.list(&filter).await }))
            .await
    }

    async fn contents(&self, recording: RecordingId) -> Result<Option<RecordingContents>> {
        self.read(move |tx| tx.contents(recording)).await
    }

    async fn overdue_manifests(&self, now: Timestamp, limit: u32) -> Result<Vec<OverdueManifest>> {
        self.read(move |tx| Box::pin(seal::overdue(tx, now, limit)))
            .await
    }

    async fn provider_failures_of(
        &self,
        provider: Option<Provider>,
        since: Option<Timestamp>,
        limit: Option<u32>,
    ) -> Result<Vec<ProviderLoss>> {
        self.read(move |tx| tx.provider_failures(provider, since, limit))
            .await
    }

    async fn events(&self, since: Option<Timestamp>, limit: u32) -> Result<Vec<EventRecord>> {
        self.read(move |tx| tx.events(since, limit)).await
    }

    async fn unknown_events(
        &self,
        since: Option<Timestamp>,
        after: Option<EventId>,
        limit: u32,
    ) -> Result<Vec<EventRecord>> {
        self.read(move |tx| tx.unknown_events(since, after, limit))
            .await
    }

    async fn raw_event(&self, event: EventId) -> Result<Option<Bytes>> {
        self.read(move |tx| tx.raw_event(event)).await
    }

    async fn reread(&self, event: EventId, new: NewEvent) -> Result<Option<Recorded>> {
        self.write(move |tx| Box::pin(record::reread(tx, event, new)))
            .await
    }

    async fn retry(&self, selection: &Selection, now: Timestamp) -> Result<Vec<Record>> {
        operate::retry(self, selection.clone(), now).await
    }

    async fn cancel(&self, ids: &[uuid::Uuid], now: Timestamp) -> Result<Vec<Record>> {
        operate::cancel(self, ids.to_vec(), now).await
    }

    async fn stats(&self) -> Result<Stats> {
        self.read(|tx| tx.stats()).await
    }
}

#[async_trait]
impl<E: StoreEngine> ScanStore for E {
    async fn known(&self, source: &str, recording_keys: &[String]) -> Result<Vec<KnownArtifact>> {
        let (source, keys) = (source.to_owned(), recording_keys.to_vec());
        self.read(move |tx| Box::pin(async move { tx.known(&source, &keys).await }))
            .await
    }

    async fn begin_walk(
        &self,
        source: &str,
        holder: &str,
        now: Timestamp,
        lease_until: Timestamp,
    ) -> Result<WalkTurn> {
        let (source, holder) = (source.to_owned(), holder.to_owned());
        self.write(move |tx| {
            Box::pin(async move { tx.begin_walk(&source, &holder, now, lease_until).await })
        })
        .await
    }

    async fn end_walk(&self, source: &str, holder: &str, reached: Option<Timestamp>) -> Result<()> {
        let (source, holder) = (source.to_owned(), holder.to_owned());
        self.write(move |tx| Box::pin(async move { tx.end_walk(&source, &holder, reached).await }))
            .await
    }
}

#[async_trait]
impl<E: StoreEngine> StoreLifecycle for E {
    async fn lock_worker(&self) -> Result<ProcessLock> {
        StoreEngine::lock_worker(self).await
    }

    async fn show_alive(&self, name: &str) -> Result<ProcessLock> {
        StoreEngine::show_alive(self, name).await
    }

    async fn free_leases_of_the_dead(&self) -> Result<u64> {
        let mut freed = 0;
        for holder in self.read(|tx| tx.lease_holders()).await? {
            if self.bury(&holder).await {
                let free =
                    self.write(move |tx| Box::pin(async move { tx.free_leases(&holder).await }));
                freed += free.await?;
            }
        }
        Ok(freed)
    }

    async fn purge(&self, now: Timestamp, retention: Option<SignedDuration>) -> Result<Purged> {
        purge::purge(self, now, retention).await
    }

    async fn lost(&self) -> Error {
        StoreEngine::lost(self).await
    }

    async fn close(&self) {
        StoreEngine::close(self).await;
    }
}
