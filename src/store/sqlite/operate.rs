//! What an operator says about jobs: once more, or no more. A few at a time: webhooks that come meanwhile must not wait for all.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{SqliteConnection, SqlitePool};
use uuid::Uuid;

use super::read::reader;
use super::rows;
use crate::error::{Class, Result};
use crate::model::{Record, State};
use crate::store::stored::{clean, millis, to_json};
use crate::store::{Selection, sql};

/// Jobs in one transaction: a few milliseconds of work.
pub(super) const CHUNK: usize = 256;

/// The jobs that `selection` names, whatever their state.
pub(super) async fn selected(pool: &SqlitePool, selection: &Selection) -> Result<Vec<String>> {
    let query = match selection {
        Selection::Ids(ids) => sqlx::query(sql::IDS_OF).bind(to_json(ids)?),
        Selection::Class(class) => sqlx::query(sql::LOST_IDS).bind(class.as_str()),
        Selection::All => sqlx::query(sql::LOST_IDS).bind(None::<&str>),
    };
    ids(&rows::all(&mut *reader(pool).await?, query).await?)
}

/// The jobs that `ids` name, their own or their recordings'.
pub(super) async fn named(pool: &SqlitePool, ids: &[Uuid]) -> Result<Vec<String>> {
    selected(pool, &Selection::Ids(ids.to_vec())).await
}

fn ids(found: &[SqliteRow]) -> Result<Vec<String>> {
    found.iter().map(|row| rows::get(row, "id")).collect()
}

/// In which states a job is woken by `selection`.
pub(super) fn woken_states(selection: &Selection) -> &'static [State] {
    match selection {
        Selection::Ids(_) => &[State::Failed, State::Expired, State::Cancelled],
        Selection::Class(_) | Selection::All => &[State::Failed, State::Expired],
    }
}

/// Wakes those of `jobs` that are in one of `states`.
pub(super) async fn retry(
    conn: &mut SqliteConnection,
    jobs: Vec<String>,
    states: &[State],
    now: Timestamp,
) -> Result<Vec<Record>> {
    let query = sqlx::query(sql::RETRY_JOBS)
        .bind(to_json(&jobs)?)
        .bind(millis(now))
        .bind(to_json(&states)?);
    let woken = rows::all(conn, query).await?;
    changed(conn, &woken, 1).await
}

/// Makes the pending jobs due that wait because of a failure of `class`.
pub(super) async fn wake(conn: &mut SqliteConnection, class: Class) -> Result<Vec<Record>> {
    let woken = rows::all(conn, sqlx::query(sql::WAKE).bind(class.as_str())).await?;
    let query = sqlx::query(sql::RECORDS_OF).bind(to_json(&ids(&woken)?)?);
    let (records, _) = rows::records(conn, query).await?;
    Ok(records)
}

/// Cancels those of `jobs` that have not settled.
pub(super) async fn cancel(
    conn: &mut SqliteConnection,
    jobs: Vec<String>,
    now: Timestamp,
) -> Result<Vec<Record>> {
    let query = sqlx::query(sql::CANCEL_JOBS)
        .bind(to_json(&jobs)?)
        .bind(millis(now))
        .bind(clean("cancelled by an operator"));
    let cancelled = rows::all(conn, query).await?;
    changed(conn, &cancelled, -1).await
}

/// Counts each of the `changed` jobs as `open` more; answers with their records.
async fn changed(
    conn: &mut SqliteConnection,
    changed: &[SqliteRow],
    open: i64,
) -> Result<Vec<Record>> {
    if changed.is_empty() {
        return Ok(Vec::new());
    }
    let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
    for row in changed {
        *counts.entry(rows::get(row, "recording_id")?).or_default() += open;
    }
    let counts: Vec<_> = counts.into_iter().collect();
    let query = sqlx::query(sql::COUNT_OPEN).bind(to_json(&counts)?);
    rows::execute(conn, query).await?;
    let query = sqlx::query(sql::RECORDS_OF).bind(to_json(&ids(changed)?)?);
    let (records, _) = rows::records(conn, query).await?;
    Ok(records)
}
