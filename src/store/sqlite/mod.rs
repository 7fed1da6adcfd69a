//! The store in one SQLite file: WAL, synced at each commit, one connection that writes and a few that read.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use sqlx::SqlitePool;

use super::{
    Claim, Claimed, EventIntake, EventRecord, Filter, JobQueue, KeptBody, KnownArtifact,
    ManifestQueue, NewEvent, OperatorAccess, ProcessLock, ProviderLoss, Purged, Recorded,
    ScanStore, Sealable, Selection, Stats, StoreLifecycle, UploadOwner, WalkTurn, Written,
};
use crate::error::{Class, Error, Result};
use crate::model::manifest::{OverdueManifest, RecordingContents};
use crate::model::{
    Artifact, Checkpoint, EventId, JobId, Lease, Outcome, Provider, Record, RecordingId,
};
use archive::Settlement;
use writer::Writer;

mod archive;
mod connection;
#[cfg(test)]
mod crash_images;
mod disk;
mod durable;
mod error;
mod gather;
mod identities;
mod lease;
mod lock;
mod lost_write;
mod open;
mod operate;
#[cfg(test)]
mod plans;
mod purge;
mod read;
mod record;
mod rows;
mod seal;
mod settle;
mod shelf;
mod wal;
mod walk;
mod work;
mod writer;

/// What a commit waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// For the disk: what is acknowledged survives power loss.
    #[default]
    Full,
    /// For nothing: only to measure what durability costs.
    Off,
}

/// How a file is opened.
#[derive(Clone, Debug, Default)]
pub struct SqliteOptions {
    /// What a commit waits for.
    pub durability: Durability,
    /// How many pages of 4 KiB the file may have; by default SQLite's own limit.
    pub max_pages: Option<u32>,
}

/// The store in one SQLite file. Several processes may open it; one of them may be a worker, and
/// proves it by [`lock_worker`](StoreLifecycle::lock_worker).
#[derive(Debug)]
pub struct SqliteStore {
    path: PathBuf,
    writer: Writer,
    readers: SqlitePool,
}

impl SqliteStore {
    /// Opens the file, making it (0600) and its folder (0700) if they are missing. Refuses a file that is no
    /// database, is damaged, is another program's, or is of a newer schema.
    pub async fn open(path: &Path) -> Result<SqliteStore> {
        SqliteStore::open_with(path, &SqliteOptions::default()).await
    }

    /// As [`open`](SqliteStore::open), with options.
    pub async fn open_with(path: &Path, options: &SqliteOptions) -> Result<SqliteStore> {
        let syncs = || disk::syncs(path, options.durability);
        SqliteStore::open_synced_by(path, options, syncs).await
    }

    async fn open_synced_by(
        path: &Path,
        options: &SqliteOptions,
        syncs: impl FnOnce() -> std::io::Result<Vec<disk::Sync>>,
    ) -> Result<SqliteStore> {
        let (writer, readers) = open::open(path, options, syncs).await?;
        Ok(SqliteStore {
            path: path.to_owned(),
            writer,
            readers,
        })
    }

    fn seats(&self) -> PathBuf {
        open::beside(&self.path, ".seats")
    }
}

#[async_trait]
impl EventIntake for SqliteStore {
    async fn record(&self, event: NewEvent) -> Result<Recorded> {
        self.writer.record(event).await
    }
}

#[async_trait]
impl JobQueue for SqliteStore {
    async fn claim(&self, claim: Claim) -> Result<Vec<Claimed>> {
        self.writer
            .write(move |conn| Box::pin(lease::claim(conn, claim)))
            .await
    }

    async fn announcing_event(&self, job: JobId) -> Result<Option<Bytes>> {
        read::announcing_event(&self.readers, job).await
    }

    async fn heartbeat(&self, leases: &[Lease], until: Timestamp) -> Result<Vec<JobId>> {
        let leases = leases.to_vec();
        self.writer
            .write(move |conn| Box::pin(lease::heartbeat(conn, leases, until)))
            .await
    }

    async fn checkpoint(
        &self,
        lease: &Lease,
        checkpoint: Option<&Checkpoint>,
        bytes_done: u64,
    ) -> Result<Written> {
        let (lease, checkpoint) = (lease.clone(), checkpoint.cloned());
        self.writer
            .write(move |conn| Box::pin(lease::checkpoint(conn, lease, checkpoint, bytes_done)))
            .await
    }

    async fn settle(&self, lease: &Lease, outcome: &Outcome, now: Timestamp) -> Result<Written> {
        let (lease, outcome) = (lease.clone(), outcome.clone());
        if let Outcome::Archived(archived) = outcome {
            return self
                .writer
                .archive(Settlement {
                    lease,
                    archived,
                    now,
                })
                .await;
        }
        self.writer
            .write(move |conn| Box::pin(settle::settle(conn, lease, outcome, now)))
            .await
    }

    async fn resolve(
        &self,
        lease: &Lease,
        found: Vec<Artifact>,
        now: Timestamp,
    ) -> Result<Written> {
        let lease = lease.clone();
        self.writer
            .write(move |conn| Box::pin(settle::resolve(conn, lease, found, now)))
            .await
    }

    async fn add_found(
        &self,
        lease: &Lease,
        found: Vec<Artifact>,
        now: Timestamp,
    ) -> Result<Written> {
        let lease = lease.clone();
        self.writer
            .write(move |conn| Box::pin(settle::add_found(conn, lease, found, now)))
            .await
    }

    async fn reorigin(&self, lease: &Lease, artifact: &Artifact) -> Result<Written> {
        let (lease, artifact) = (lease.clone(), artifact.clone());
        self.writer
            .write(move |conn| Box::pin(lease::reorigin(conn, lease, artifact)))
            .await
    }

    async fn pause(&self, until: Timestamp, class: Class, message: &str) -> Result<u64> {
        let message = message.to_owned();
        self.writer
            .write(move |conn| {
                Box::pin(async move { lease::pause(conn, until, class, &message).await })
            })
            .await
    }

    async fn wake(&self, class: Class) -> Result<u64> {
        self.writer
            .write(move |conn| Box::pin(lease::wake(conn, class)))
            .await
    }

    async fn is_retry_asked(&self, class: Class) -> Result<bool> {
        read::is_retry_asked(&self.readers, class).await
    }

    async fn next_due(&self) -> Result<Option<Timestamp>> {
        read::next_due(&self.readers).await
    }

    async fn upload_owners(&self, keys: &[String]) -> Result<Vec<UploadOwner>> {
        read::upload_owners(&self.readers, keys).await
    }
}

#[async_trait]
impl ManifestQueue for SqliteStore {
    async fn unsealed(&self, limit: u32) -> Result<Vec<RecordingId>> {
        seal::unsealed(&self.readers, limit).await
    }

    async fn unsealed_of(&self, recordings: &[RecordingId]) -> Result<Vec<RecordingId>> {
        seal::unsealed_of(&self.readers, recordings).await
    }

    async fn sealable(&self, now: Timestamp, limit: u32) -> Result<Vec<Sealable>> {
        seal::sealable(&self.readers, now, limit).await
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
        self.writer
            .write(move |conn| {
                Box::pin(async move {
                    seal::put_off(conn, recording, class, &message, now, until).await
                })
            })
            .await
    }

    async fn kept_bodies(&self, recording: RecordingId) -> Result<Vec<KeptBody>> {
        seal::kept_bodies(&self.readers, recording).await
    }

    async fn replace_bodies(&self, bodies: Vec<(EventId, String)>) -> Result<()> {
        self.writer
            .write(move |conn| Box::pin(seal::replace_bodies(conn, bodies)))
            .await
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
        self.writer
            .write(move |conn| {
                Box::pin(seal::sealed(
                    conn,
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
impl OperatorAccess for SqliteStore {
    async fn list(&self, filter: &Filter) -> Result<Vec<Record>> {
        read::list(&self.readers, filter).await
    }

    async fn contents(&self, recording: RecordingId) -> Result<Option<RecordingContents>> {
        read::contents(&self.readers, recording).await
    }

    async fn overdue_manifests(&self, now: Timestamp, limit: u32) -> Result<Vec<OverdueManifest>> {
        seal::overdue(&self.readers, now, limit).await
    }

    async fn provider_failures_of(
        &self,
        provider: Option<Provider>,
        since: Option<Timestamp>,
        limit: Option<u32>,
    ) -> Result<Vec<ProviderLoss>> {
        read::provider_failures(&self.readers, provider, since, limit).await
    }

    async fn events(&self, since: Option<Timestamp>, limit: u32) -> Result<Vec<EventRecord>> {
        read::events(&self.readers, since, limit).await
    }

    async fn unknown_events(
        &self,
        since: Option<Timestamp>,
        after: Option<EventId>,
        limit: u32,
    ) -> Result<Vec<EventRecord>> {
        read::unknown_events(&self.readers, since, after, limit).await
    }

    async fn raw_event(&self, event: EventId) -> Result<Option<Bytes>> {
        read::raw_event(&self.readers, event).await
    }

    async fn reread(&self, event: EventId, new: NewEvent) -> Result<Option<Recorded>> {
        self.writer
            .write(move |conn| Box::pin(record::reread(conn, event, new)))
            .await
    }

    async fn retry(&self, selection: &Selection, now: Timestamp) -> Result<Vec<Record>> {
        let states = operate::woken_states(selection);
        let jobs = operate::selected(&self.readers, selection).await?;
        let mut records = Vec::new();
        for chunk in jobs.chunks(operate::CHUNK) {
            let chunk = chunk.to_vec();
            let woken = self
                .writer
                .write(move |conn| Box::pin(operate::retry(conn, chunk, states, now)));
            records.extend(woken.await?);
        }
        if let &Selection::Class(class) = selection {
            let woken = self
                .writer
                .write(move |conn| Box::pin(operate::wake(conn, class)));
            records.extend(woken.await?);
        }
        Ok(records)
    }

    async fn cancel(&self, ids: &[uuid::Uuid], now: Timestamp) -> Result<Vec<Record>> {
        let jobs = operate::named(&self.readers, ids).await?;
        let mut records = Vec::new();
        for chunk in jobs.chunks(operate::CHUNK) {
            let chunk = chunk.to_vec();
            let cancelled = self
                .writer
                .write(move |conn| Box::pin(operate::cancel(conn, chunk, now)));
            records.extend(cancelled.await?);
        }
        Ok(records)
    }

    async fn stats(&self) -> Result<Stats> {
        read::stats(&self.readers).await
    }
}

#[async_trait]
impl ScanStore for SqliteStore {
    async fn known(&self, source: &str, recording_keys: &[String]) -> Result<Vec<KnownArtifact>> {
        walk::known(&self.readers, source, recording_keys).await
    }

    async fn begin_walk(
        &self,
        source: &str,
        holder: &str,
        now: Timestamp,
        lease_until: Timestamp,
    ) -> Result<WalkTurn> {
        let (source, holder) = (source.to_owned(), holder.to_owned());
        self.writer
            .write(move |conn| {
                Box::pin(async move { walk::begin(conn, &source, &holder, now, lease_until).await })
            })
            .await
    }

    async fn end_walk(&self, source: &str, holder: &str, reached: Option<Timestamp>) -> Result<()> {
        let (source, holder) = (source.to_owned(), holder.to_owned());
        self.writer
            .write(move |conn| {
                Box::pin(async move { walk::end(conn, &source, &holder, reached).await })
            })
            .await
    }
}

#[async_trait]
impl StoreLifecycle for SqliteStore {
    async fn lock_worker(&self) -> Result<ProcessLock> {
        lock::lock(&open::beside(&self.path, ".lock")).map(ProcessLock::new)
    }

    async fn show_alive(&self, name: &str) -> Result<ProcessLock> {
        lock::take_seat(&self.seats(), name).map(ProcessLock::new)
    }

    async fn free_leases_of_the_dead(&self) -> Result<u64> {
        let mut freed = 0;
        for holder in read::lease_holders(&self.readers).await? {
            if !lock::is_vacant(&self.seats(), &holder) {
                continue;
            }
            lock::clear_seat(&self.seats(), &holder);
            freed += self
                .writer
                .write(move |conn| Box::pin(lease::free(conn, holder)))
                .await?;
        }
        Ok(freed)
    }

    async fn purge(&self, now: Timestamp, retention: Option<SignedDuration>) -> Result<Purged> {
        let purge = purge::Purge {
            readers: &self.readers,
            writer: &self.writer,
            now,
        };
        purge.run(retention).await
    }

    async fn lost(&self) -> Error {
        self.writer.lost().await
    }

    async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}
