//! What an operator says about jobs: once more, or no more.

use jiff::Timestamp;
use sqlx::SqliteConnection;
use uuid::Uuid;

use super::lease::Open;
use super::{lease, rows, settle};
use crate::error::{Class, Result};
use crate::model::Record;
use crate::model::{JobId, RecordingId, State};
use crate::store::stored::{millis, to_json};
use crate::store::{Selection, sql};

/// Wakes settled jobs that are not archived.
pub(super) async fn retry(
    conn: &mut SqliteConnection,
    selection: Selection,
    now: Timestamp,
) -> Result<Vec<Record>> {
    let query = match selection {
        Selection::Ids(ids) => sqlx::query(sql::IDS_OF).bind(to_json(&ids)?),
        Selection::Class(class) => sqlx::query(sql::LOST_IDS).bind(class.as_str()),
        Selection::All => sqlx::query(sql::LOST_IDS).bind(None::<&str>),
    };
    let mut records = Vec::new();
    for (job, recording, state) in jobs(conn, query).await? {
        if !state.is_settled() || !state.can_become(State::Pending) {
            continue;
        }
        let query = sqlx::query(sql::RETRY_JOB)
            .bind(job.to_string())
            .bind(millis(now));
        rows::execute(conn, query).await?;
        lease::touch(conn, recording, Open::OneMore).await?;
        records.push(lease::record_of(conn, job).await?);
    }
    Ok(records)
}

/// Cancels jobs that have not settled.
pub(super) async fn cancel(
    conn: &mut SqliteConnection,
    ids: Vec<Uuid>,
    now: Timestamp,
) -> Result<Vec<Record>> {
    let query = sqlx::query(sql::IDS_OF).bind(to_json(&ids)?);
    let mut records = Vec::new();
    for (job, recording, state) in jobs(conn, query).await? {
        if !state.can_become(State::Cancelled) {
            continue;
        }
        let message = "cancelled by an operator";
        let class: Option<Class> = None;
        settle::give_up(conn, job, State::Cancelled, class, message, now).await?;
        lease::touch(conn, recording, Open::OneLess).await?;
        records.push(lease::record_of(conn, job).await?);
    }
    Ok(records)
}

async fn jobs(
    conn: &mut SqliteConnection,
    query: sqlx::query::Query<'_, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>,
) -> Result<Vec<(JobId, RecordingId, State)>> {
    let found = rows::all(conn, query).await?;
    found
        .iter()
        .map(|row| {
            Ok((
                rows::id(row, "id")?,
                rows::id(row, "recording_id")?,
                rows::named(row, "state", State::parse)?,
            ))
        })
        .collect()
}
