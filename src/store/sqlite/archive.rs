//! Artifacts that are in the bucket: many are settled by the statements that one takes.

use std::collections::{BTreeMap, HashSet};

use futures::future::BoxFuture;
use jiff::Timestamp;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::durable::{Answer, BatchFailure};
use super::lease::{Open, touch};
use super::work::{Outcome, Work, tell};
use super::{rows, shelf};
use crate::error::Result;
use crate::model::{Archived, JobId, Lease, Recording, RecordingId};
use crate::store::cure::{self, Saved};
use crate::store::stored::{damaged, length, millis};
use crate::store::{Written, sql};

/// The end of one attempt that came well.
#[derive(Clone, Debug)]
pub(super) struct Settlement {
    pub(super) lease: Lease,
    pub(super) archived: Archived,
    pub(super) now: Timestamp,
}

/// The settlements of one batch.
#[derive(Default)]
pub(super) struct Settlements {
    waiting: Vec<Settlement>,
    answers: Vec<Answer<Written>>,
    results: Vec<Result<Written>>,
}

impl Settlements {
    pub(super) fn push(&mut self, settlement: Settlement, answer: Answer<Written>) {
        self.waiting.push(settlement);
        self.answers.push(answer);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

impl Work for Settlements {
    fn run<'c>(&'c mut self, conn: &'c mut SqliteConnection) -> BoxFuture<'c, Outcome> {
        Box::pin(async move {
            let written = archive(conn, &self.waiting).await;
            let outcome = match &written {
                Ok(written) if written.contains(&Written::Yes) => Outcome::Changed,
                Ok(_) => Outcome::Kept,
                Err(_) => Outcome::Failed,
            };
            self.results = match written {
                Ok(written) => written.into_iter().map(Ok).collect(),
                Err(error) => {
                    let failure = BatchFailure::of(error);
                    let waiting = self.waiting.iter();
                    waiting.map(|_| Err(failure.to_error())).collect()
                }
            };
            outcome
        })
    }

    fn answer(self: Box<Self>, failure: Option<&BatchFailure>) {
        let mut results = self.results.into_iter();
        for answer in self.answers {
            tell(answer, results.next(), failure);
        }
    }
}

/// Settles those whose lease is still the current one.
pub(super) async fn archive(
    conn: &mut SqliteConnection,
    settlements: &[Settlement],
) -> Result<Vec<Written>> {
    let all_told: Vec<_> = settlements.iter().map(told).collect();
    let mut saved: BTreeMap<RecordingId, Vec<Saved>> = BTreeMap::new();
    let mut jobs = HashSet::new();
    for row in rows::fetch_all(conn, sql::ARCHIVE_JOBS, &all_told).await? {
        jobs.insert(rows::id::<JobId>(&row, "id")?);
        let recording = rows::id(&row, "recording_id")?;
        saved
            .entry(recording)
            .or_default()
            .push(shelf::saved(&row)?);
    }
    let counts: Vec<_> = saved
        .iter()
        .map(|(recording, saved)| (recording, saved.len()))
        .collect();
    let counted = rows::fetch_all(conn, sql::COUNT_ARCHIVED, &counts).await?;
    let has_open_failures = counted
        .first()
        .map(|row| rows::get(row, "has_open_failures"));
    if has_open_failures.transpose()? == Some(true)
        && let Some(now) = settlements.iter().map(|settlement| settlement.now).max()
    {
        withdraw_cured(conn, &saved, now).await?;
    }
    // A job is settled once, also when it is named twice.
    Ok(settlements
        .iter()
        .map(|settlement| match jobs.remove(&settlement.lease.job) {
            true => Written::Yes,
            false => Written::Stale,
        })
        .collect())
}

/// A settlement as [`sql::ARCHIVE_JOBS`] takes it apart.
fn told(settlement: &Settlement) -> impl serde::Serialize {
    let Settlement {
        lease,
        archived,
        now,
    } = settlement;
    (
        lease.job,
        lease.token,
        archived.key.clone(),
        length(archived.size_bytes),
        archived.crc64nvme.clone(),
        archived.sha256.clone(),
        archived.etag.clone(),
        archived.version_id.clone(),
        millis(*now),
    )
}

/// Withdraws the losses that artifacts, just archived, cure.
async fn withdraw_cured(
    conn: &mut SqliteConnection,
    saved: &BTreeMap<RecordingId, Vec<Saved>>,
    now: Timestamp,
) -> Result<()> {
    let cured_by: Vec<_> = saved
        .iter()
        .filter(|(_, saved)| !saved.iter().all(Saved::is_evidence_only))
        .map(|(recording, _)| recording)
        .collect();
    if cured_by.is_empty() {
        return Ok(());
    }
    for row in rows::fetch_all(conn, sql::LOSSES_TO_CURE, &cured_by).await? {
        let is_cured = match is_cured(conn, &row, saved).await {
            Ok(is_cured) => is_cured,
            // What is archived is archived, whatever can't be read of a loss.
            Err(error) if !error.is_transient() => {
                tracing::warn!("passed over a loss: failed to {}", error.full_message());
                continue;
            }
            Err(error) => return Err(error),
        };
        if is_cured {
            let of: RecordingId = rows::id(&row, "recording_id")?;
            shelf::withdraw(conn, rows::id(&row, "id")?, now).await?;
            if of != rows::id(&row, "cured_by")? {
                touch(conn, of, Open::AsMany).await?;
            }
        }
    }
    Ok(())
}

/// Whether something that was saved withdraws the loss of this row of [`sql::LOSSES_TO_CURE`].
async fn is_cured(
    conn: &mut SqliteConnection,
    row: &SqliteRow,
    saved: &BTreeMap<RecordingId, Vec<Saved>>,
) -> Result<bool> {
    let here: RecordingId = rows::id(row, "cured_by")?;
    let of: RecordingId = rows::id(row, "recording_id")?;
    let _: uuid::Uuid = rows::id(row, "id")?;
    let loss = shelf::loss(row)?;
    if of != here {
        let here = facts_of(conn, here).await?;
        if !cure::is_about(&rows::facts(row)?, loss.at, &here) {
            return Ok(false);
        }
    }
    let saved = saved.get(&here).map_or(&[][..], Vec::as_slice);
    Ok(saved.iter().any(|saved| cure::cures(saved, &loss)))
}

async fn facts_of(conn: &mut SqliteConnection, recording: RecordingId) -> Result<Recording> {
    let query = sqlx::query(sql::RECORDING_BY_ID).bind(recording.to_string());
    match rows::optional(conn, query).await? {
        Some(row) => rows::facts(&row),
        None => Err(damaged(format!("recording {recording} is not there"))),
    }
}
