//! Statements about manifests: which are written, which wait, and what is forgotten of events that are in the bucket.

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;

use crate::error::{Class, Result};
use crate::model::{EventId, RecordingId};

#[async_trait]
pub(in crate::store) trait ManifestTx: Send {
    /// Notes that manifest and report of this generation are in the bucket; whether that was news. A generation that is
    /// older than one already sealed, or newer than there is, is none.
    async fn mark_sealed(
        &mut self,
        recording: RecordingId,
        generation: i64,
        manifest_etag: Option<&str>,
        report_etag: Option<&str>,
    ) -> Result<bool>;

    /// Notes a failure to write the manifest of `recording`, which is not tried again before `until`.
    async fn put_off_seal(
        &mut self,
        recording: RecordingId,
        class: Class,
        message: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<()>;

    /// Forgets the bodies of events of `recording`, but of those that are still to be archived themselves; how many.
    async fn forget_bodies_of(&mut self, recording: RecordingId) -> Result<u64>;

    /// The bodies that events of `recording` still have.
    async fn bodies_of(&mut self, recording: RecordingId) -> Result<Vec<(EventId, Bytes)>>;

    /// Puts these texts in the place of bodies that are still there; how many there were.
    async fn replace_bodies(&mut self, bodies: &[(EventId, String)]) -> Result<u64>;
}
