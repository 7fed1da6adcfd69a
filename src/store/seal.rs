//! Which recordings wait for their manifest, and what is forgotten of their events when it is written.

use jiff::{SignedDuration, Timestamp};

use super::Sealable;
use super::tx::{StoreRead, StoreTx};
use crate::error::Result;
use crate::model::RecordingId;
use crate::model::manifest::OverdueManifest;
use crate::signed_url::redact_json;

/// Longer than any wait that is ever written: a manifest that is due later was put off by another clock.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_hours(1);

/// From when on people are told that a manifest can't be written.
const OVERDUE_AFTER: SignedDuration = SignedDuration::from_hours(1);

/// The recordings whose manifest is to be written now.
pub(super) async fn sealable(
    tx: &mut dyn StoreRead,
    now: Timestamp,
    limit: u32,
) -> Result<Vec<Sealable>> {
    let latest = now.saturating_add(LONGEST_WAIT).unwrap_or(Timestamp::MAX);
    let mut due = tx.sealable(now, latest, limit).await?;
    due.truncate(limit as usize);
    Ok(due)
}

/// Those whose manifest could not be written for so long that people are told.
pub(super) async fn overdue(
    tx: &mut dyn StoreRead,
    now: Timestamp,
    limit: u32,
) -> Result<Vec<OverdueManifest>> {
    let since = now.saturating_sub(OVERDUE_AFTER).unwrap_or(Timestamp::MIN);
    tx.overdue_manifests(since, limit).await
}

/// Notes that a recording is sealed, and forgets what its events said: that is in the bucket now. Of an event that is not (its
/// own artifact was lost, and may be retried) the redacted text is kept; what a definition hides is gone from it before.
pub(super) async fn sealed(
    tx: &mut dyn StoreTx,
    recording: RecordingId,
    generation: i64,
    manifest_etag: Option<String>,
    report_etag: Option<String>,
) -> Result<()> {
    let (manifest_etag, report_etag) = (manifest_etag.as_deref(), report_etag.as_deref());
    let is_news = tx
        .mark_sealed(recording, generation, manifest_etag, report_etag)
        .await?;
    match is_news {
        true => forget_bodies(tx, recording).await.map(drop),
        false => Ok(()),
    }
}

/// Forgets what the events of a sealed recording said; answers with how many bodies changed.
pub(super) async fn forget_bodies(tx: &mut dyn StoreTx, recording: RecordingId) -> Result<u64> {
    let forgotten = tx.forget_bodies_of(recording).await?;
    let mut left = Vec::new();
    for (event, raw) in tx.bodies_of(recording).await? {
        let redacted = serde_json::from_slice(&raw).ok().map(|mut value| {
            redact_json(&mut value);
            value.to_string()
        });
        // What is no JSON can't be archived either.
        let text = redacted.unwrap_or_default();
        if text.as_bytes() != &*raw {
            left.push((event, text));
        }
    }
    Ok(forgotten + tx.replace_bodies(&left).await?)
}
