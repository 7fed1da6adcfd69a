//! What an operator says about jobs: once more, or no more. A few at a time: webhooks that come meanwhile must not wait for all.

use jiff::Timestamp;

use super::Selection;
use super::engine::StoreEngine;
use super::tx::{StoreTx, by_recording};
use crate::error::{Class, Result};
use crate::model::{JobId, Record, RecordingId, State};

/// Jobs in one transaction: a few milliseconds of work.
const CHUNK: usize = 256;

/// Wakes what `selection` names.
pub(super) async fn retry(
    engine: &impl StoreEngine,
    selection: Selection,
    now: Timestamp,
) -> Result<Vec<Record>> {
    let states: &'static [State] = match &selection {
        Selection::Ids(_) => &[State::Failed, State::Expired, State::Cancelled],
        Selection::Class(_) | Selection::All => &[State::Failed, State::Expired],
    };
    let waiting = match &selection {
        Selection::Class(class) => Some(*class),
        Selection::Ids(_) | Selection::All => None,
    };
    let jobs = selected(engine, selection).await?;
    let mut records = Vec::new();
    for chunk in jobs.chunks(CHUNK) {
        let chunk = chunk.to_vec();
        let woken = engine.write(move |tx| Box::pin(retry_jobs(tx, chunk, states, now)));
        records.extend(woken.await?);
    }
    if let Some(class) = waiting {
        let woken = engine.write(move |tx| Box::pin(wake(tx, class)));
        records.extend(woken.await?);
    }
    Ok(records)
}

/// Cancels the open jobs that `ids` name, their own or their recordings'.
pub(super) async fn cancel(
    engine: &impl StoreEngine,
    ids: Vec<uuid::Uuid>,
    now: Timestamp,
) -> Result<Vec<Record>> {
    let jobs = selected(engine, Selection::Ids(ids)).await?;
    let mut records = Vec::new();
    for chunk in jobs.chunks(CHUNK) {
        let chunk = chunk.to_vec();
        let cancelled = engine.write(move |tx| Box::pin(cancel_jobs(tx, chunk, now)));
        records.extend(cancelled.await?);
    }
    Ok(records)
}

async fn selected(engine: &impl StoreEngine, selection: Selection) -> Result<Vec<JobId>> {
    let selected =
        engine.read(move |tx| Box::pin(async move { tx.selected_jobs(&selection).await }));
    selected.await
}

async fn retry_jobs(
    tx: &mut dyn StoreTx,
    jobs: Vec<JobId>,
    states: &[State],
    now: Timestamp,
) -> Result<Vec<Record>> {
    let woken = tx.retry_jobs(&jobs, states, now).await?;
    changed(tx, &woken, 1).await
}

/// Makes the pending jobs due that wait because of a failure of `class`.
async fn wake(tx: &mut dyn StoreTx, class: Class) -> Result<Vec<Record>> {
    let woken = tx.wake_jobs(class).await?;
    tx.records_of(&woken).await
}

async fn cancel_jobs(
    tx: &mut dyn StoreTx,
    jobs: Vec<JobId>,
    now: Timestamp,
) -> Result<Vec<Record>> {
    let cancelled = tx
        .cancel_jobs(&jobs, "cancelled by an operator", now)
        .await?;
    changed(tx, &cancelled, -1).await
}

/// Counts each of the `changed` jobs as `open` more; answers with their records.
async fn changed(
    tx: &mut dyn StoreTx,
    changed: &[(JobId, RecordingId)],
    open: i64,
) -> Result<Vec<Record>> {
    if changed.is_empty() {
        return Ok(Vec::new());
    }
    let counts = by_recording(changed.iter().map(|(_, recording)| (*recording, open)));
    tx.count_open_jobs(&counts).await?;
    let jobs: Vec<_> = changed.iter().map(|(job, _)| *job).collect();
    tx.records_of(&jobs).await
}
