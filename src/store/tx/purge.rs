//! Statements by which secrets and old rows leave the store.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::error::Result;
use crate::model::{JobId, Origin, RecordingId};

/// What has to be done once to rows of an earlier version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Upkeep {
    /// Recordings that an earlier version has sealed still have the bodies of their events.
    SealedBodies,
}

/// From when on the URL of a lost job is stale: given up before `given_up`, and then either dead since before `dead` or given
/// up before `endless`.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct StaleAges {
    pub(in crate::store) given_up: Timestamp,
    pub(in crate::store) dead: Timestamp,
    pub(in crate::store) endless: Timestamp,
}

/// The origin of a lost job.
#[derive(Clone)]
pub(in crate::store) struct StaleOrigin {
    pub(in crate::store) job: JobId,
    /// As it is stored: a secret.
    pub(in crate::store) stored: String,
    pub(in crate::store) can_be_minted: bool,
}

#[async_trait]
pub(in crate::store) trait PurgeTx: Send {
    /// Puts what is left in the place of these origins, where they have not changed since; how many.
    async fn replace_origins(&mut self, origins: &[(StaleOrigin, Origin)]) -> Result<u64>;

    /// Notes that this was done.
    async fn upkeep_done(&mut self, work: Upkeep) -> Result<()>;

    /// Those of the recordings that are sealed.
    async fn sealed_of(&mut self, recordings: &[RecordingId]) -> Result<Vec<RecordingId>>;

    /// Forgets bodies of events without a recording that came in before `all`, and before `carried_nothing` if nobody will
    /// read them again; at most `limit`. How many.
    async fn forget_loose_bodies(
        &mut self,
        all: Option<Timestamp>,
        carried_nothing: Timestamp,
        limit: u32,
    ) -> Result<u64>;

    /// Removes at most `limit` events that came in before `before` and belong to no recording any more; how many.
    async fn forget_events(&mut self, before: Timestamp, limit: u32) -> Result<u64>;

    /// Those of the recordings that are sealed, and of which nothing has changed since `cutoff`.
    async fn purgeable_of(
        &mut self,
        recordings: &[RecordingId],
        cutoff: Timestamp,
    ) -> Result<Vec<RecordingId>>;

    /// Removes recordings with all that belongs to them. Their events stay without what they said, so that a
    /// delivery is known when it is repeated.
    async fn remove_recordings(&mut self, recordings: &[RecordingId]) -> Result<()>;
}
