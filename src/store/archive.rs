//! Artifacts that are in the bucket: many are settled by the statements that one takes.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;

use super::LeaseWrite;
use super::tx::{FailureToCure, Settlement, StoreTx, by_recording};
use crate::error::Result;
use crate::model::RecordingId;
use crate::store::recovery;
use crate::store::recovery::RecoveredArtifact;

/// Settles those whose lease is still the current one.
pub(super) async fn archive(
    tx: &mut dyn StoreTx,
    settlements: &[Settlement],
) -> Result<Vec<LeaseWrite>> {
    let mut saved: BTreeMap<RecordingId, Vec<RecoveredArtifact>> = BTreeMap::new();
    let mut jobs = HashSet::new();
    for job in tx.archive_jobs(settlements).await? {
        jobs.insert(job.id);
        saved.entry(job.recording_id).or_default().push(job.saved);
    }
    let counts: Vec<_> = saved
        .iter()
        .map(|(recording, saved)| (*recording, i64::try_from(saved.len()).unwrap_or(i64::MAX)))
        .collect();
    if tx.count_archived(&counts).await?
        && let Some(now) = settlements.iter().map(|settlement| settlement.now).max()
    {
        withdraw_cured(tx, &saved, now).await?;
    }
    // A job is settled once, also when it is named twice.
    Ok(settlements
        .iter()
        .map(|settlement| match jobs.remove(&settlement.lease.job) {
            true => LeaseWrite::Yes,
            false => LeaseWrite::Stale,
        })
        .collect())
}

/// Withdraws the losses that artifacts, just archived, cure.
async fn withdraw_cured(
    tx: &mut dyn StoreTx,
    saved: &BTreeMap<RecordingId, Vec<RecoveredArtifact>>,
    now: Timestamp,
) -> Result<()> {
    let cured_by: Vec<_> = saved
        .iter()
        .filter(|(_, saved)| !saved.iter().all(RecoveredArtifact::is_evidence_only))
        .map(|(recording, _)| *recording)
        .collect();
    if cured_by.is_empty() {
        return Ok(());
    }
    let (mut withdrawn, mut told_elsewhere) = (Vec::new(), Vec::new());
    for failure in tx.failures_to_cure(&cured_by).await? {
        let is_cured = match is_cured(tx, &failure, saved).await {
            Ok(is_cured) => is_cured,
            // What is archived is archived, whatever can't be read of a loss.
            Err(error) if !error.is_transient() => {
                tracing::warn!("passed over a loss: failed to {}", error.full_message());
                continue;
            }
            Err(error) => return Err(error),
        };
        if is_cured {
            withdrawn.push((failure.id, now));
            if failure.recording_id != failure.cured_by {
                told_elsewhere.push((failure.recording_id, 0));
            }
        }
    }
    tx.withdraw_failures(&withdrawn).await?;
    match told_elsewhere.is_empty() {
        true => Ok(()),
        false => {
            let told = by_recording(told_elsewhere.into_iter());
            tx.count_open_jobs(&told).await
        }
    }
}

/// Whether something that was saved withdraws the loss.
async fn is_cured(
    tx: &mut dyn StoreTx,
    failure: &FailureToCure,
    saved: &BTreeMap<RecordingId, Vec<RecoveredArtifact>>,
) -> Result<bool> {
    let here = failure.cured_by;
    if failure.recording_id != here {
        let here = tx.recording_facts(here).await?;
        if !recovery::is_about(&failure.recording, failure.loss.at, &here) {
            return Ok(false);
        }
    }
    let saved = saved.get(&here).map_or(&[][..], Vec::as_slice);
    Ok(saved
        .iter()
        .any(|saved| recovery::cures(saved, &failure.loss)))
}
