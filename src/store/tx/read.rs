//! Statements that only read. Outside of a transaction each answer is one snapshot.

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;

use super::purge::{StaleAges, StaleOrigin, Upkeep};
use crate::error::{Class, Result};
use crate::model::manifest::{OverdueManifest, RecordingContents};
use crate::model::{EventId, JobId, Provider, Record, RecordingId};
use crate::store::{
    EventRecord, Filter, KeptBody, KnownArtifact, ProviderLoss, Sealable, Selection, Stats,
    UploadOwner,
};

#[async_trait]
pub(in crate::store) trait StoreRead: Send {
    /// As [`OperatorAccess::list`](crate::store::OperatorAccess::list).
    async fn list(&mut self, filter: &Filter) -> Result<Vec<Record>>;

    /// As [`OperatorAccess::contents`](crate::store::OperatorAccess::contents).
    async fn contents(&mut self, recording: RecordingId) -> Result<Option<RecordingContents>>;

    /// As [`OperatorAccess::provider_failures_of`](crate::store::OperatorAccess::provider_failures_of).
    async fn provider_failures(
        &mut self,
        provider: Option<Provider>,
        since: Option<Timestamp>,
        limit: Option<u32>,
    ) -> Result<Vec<ProviderLoss>>;

    /// As [`OperatorAccess::events`](crate::store::OperatorAccess::events).
    async fn events(&mut self, since: Option<Timestamp>, limit: u32) -> Result<Vec<EventRecord>>;

    /// As [`OperatorAccess::unknown_events`](crate::store::OperatorAccess::unknown_events).
    async fn unknown_events(
        &mut self,
        since: Option<Timestamp>,
        after: Option<EventId>,
        limit: u32,
    ) -> Result<Vec<EventRecord>>;

    /// The body of an event; `None` when it is not kept any more.
    async fn raw_event(&mut self, event: EventId) -> Result<Option<Bytes>>;

    /// The body of the event that announced `job` last.
    async fn announcing_event(&mut self, job: JobId) -> Result<Option<Bytes>>;

    /// As [`OperatorAccess::stats`](crate::store::OperatorAccess::stats).
    async fn stats(&mut self) -> Result<Stats>;

    /// The jobs that `selection` names, whatever their state; of a class or of all, those that failed or expired. Oldest first.
    async fn selected_jobs(&mut self, selection: &Selection) -> Result<Vec<JobId>>;

    /// As [`JobQueue::next_due`](crate::store::JobQueue::next_due).
    async fn next_due(&mut self) -> Result<Option<Timestamp>>;

    /// As [`JobQueue::is_retry_asked`](crate::store::JobQueue::is_retry_asked).
    async fn is_retry_asked(&mut self, class: Class) -> Result<bool>;

    /// As [`JobQueue::upload_owners`](crate::store::JobQueue::upload_owners).
    async fn upload_owners(&mut self, keys: &[String]) -> Result<Vec<UploadOwner>>;

    /// Under which names leases are held.
    async fn lease_holders(&mut self) -> Result<Vec<String>>;

    /// As [`ManifestQueue::unsealed`](crate::store::ManifestQueue::unsealed).
    async fn unsealed(&mut self, limit: u32) -> Result<Vec<RecordingId>>;

    /// As [`ManifestQueue::unsealed_of`](crate::store::ManifestQueue::unsealed_of).
    async fn unsealed_of(&mut self, recordings: &[RecordingId]) -> Result<Vec<RecordingId>>;

    /// At most `limit` complete recordings whose manifest is due at `now`, and as many that are due after `beyond`.
    async fn sealable(
        &mut self,
        now: Timestamp,
        beyond: Timestamp,
        limit: u32,
    ) -> Result<Vec<Sealable>>;

    /// Complete recordings whose manifest could not be written since `since` or longer, at most `limit`.
    async fn overdue_manifests(
        &mut self,
        since: Timestamp,
        limit: u32,
    ) -> Result<Vec<OverdueManifest>>;

    /// As [`ManifestQueue::kept_bodies`](crate::store::ManifestQueue::kept_bodies).
    async fn kept_bodies(&mut self, recording: RecordingId) -> Result<Vec<KeptBody>>;

    /// As [`ScanStore::known`](crate::store::ScanStore::known).
    async fn known(&mut self, source: &str, keys: &[String]) -> Result<Vec<KnownArtifact>>;

    /// At most `limit` origins of lost jobs that can be of no more use. What is left of one that can be minted again is not
    /// found again.
    async fn stale_origins(&mut self, ages: &StaleAges, limit: u32) -> Result<Vec<StaleOrigin>>;

    /// Whether this has still to be done.
    async fn is_upkeep_due(&mut self, work: Upkeep) -> Result<bool>;

    /// `limit` sealed recordings after this one.
    async fn sealed_after(
        &mut self,
        after: Option<RecordingId>,
        limit: u32,
    ) -> Result<Vec<RecordingId>>;

    /// `limit` recordings after this one that are sealed, and of which nothing has changed since `cutoff`.
    async fn purgeable_after(
        &mut self,
        after: Option<RecordingId>,
        cutoff: Timestamp,
        limit: u32,
    ) -> Result<Vec<RecordingId>>;
}
