//! What is read outside of the writer: reports, lists, what is to be sealed. Each answer is one snapshot.

use bytes::Bytes;
use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{Acquire as _, SqliteConnection, SqlitePool};

use super::{error, rows};
use crate::error::{Class, Result};
use crate::model::manifest::{RecordingContents, event_name};
use crate::model::{EventClass, EventId, JobId, Provider, Record, RecordingId, State};
use crate::store::UploadOwner;
use crate::store::stored::{count, damaged, first_id, instant, millis, to_json};
use crate::store::{EventRecord, Filter, ProviderLoss, Stats, sql};

/// Under which names leases are held.
pub(super) async fn lease_holders(pool: &SqlitePool) -> Result<Vec<String>> {
    let found = rows::all(&mut *reader(pool).await?, sqlx::query(sql::LEASE_HOLDERS)).await?;
    found
        .iter()
        .map(|row| rows::get(row, "leased_by"))
        .collect()
}

pub(super) async fn contents(
    pool: &SqlitePool,
    recording: RecordingId,
) -> Result<Option<RecordingContents>> {
    let mut conn = reader(pool).await?;
    let mut snapshot = conn
        .begin()
        .await
        .map_err(|cause| error::from("read the store", cause))?;
    let contents = contents_in(&mut snapshot, recording).await?;
    // Nothing was written: there is nothing to commit.
    Ok(contents)
}

async fn contents_in(
    conn: &mut SqliteConnection,
    recording: RecordingId,
) -> Result<Option<RecordingContents>> {
    let of = |statement| sqlx::query(statement).bind(recording.to_string());
    let Some(row) = rows::optional(conn, of(sql::RECORDING_BY_ID)).await? else {
        return Ok(None);
    };
    let (artifacts, unreadable) = rows::records(conn, of(sql::JOBS_OF_RECORDING)).await?;
    if unreadable > 0 {
        // Whatever is left out here would vanish from the manifest.
        return Err(damaged(format!(
            "{unreadable} artifacts of recording {recording} can't be read at all"
        )));
    }
    let failures = rows::all(conn, of(sql::FAILURES_OF_RECORDING)).await?;
    let mut event_ids = Vec::new();
    for event in rows::all(conn, of(sql::EVENTS_OF_RECORDING)).await? {
        let theirs: Option<&str> = rows::get(&event, "event_id")?;
        event_ids.push(event_name(theirs, rows::id(&event, "id")?));
    }
    Ok(Some(RecordingContents {
        recording: rows::recording_record(&row)?,
        folder: rows::get(&row, "folder")?,
        event_ids,
        artifacts,
        provider_failures: failures
            .iter()
            .map(rows::failure_record)
            .collect::<Result<_>>()?,
        generation: rows::get(&row, "generation")?,
        manifest_etag: rows::get(&row, "manifest_etag")?,
        report_etag: rows::get(&row, "report_etag")?,
    }))
}

pub(super) async fn upload_owners(pool: &SqlitePool, keys: &[String]) -> Result<Vec<UploadOwner>> {
    let query = sqlx::query(sql::UPLOAD_OWNERS).bind(to_json(&keys)?);
    let found = rows::all(&mut *reader(pool).await?, query).await?;
    found.iter().map(rows::upload_owner).collect()
}

pub(super) async fn next_due(pool: &SqlitePool) -> Result<Option<Timestamp>> {
    let query = sqlx::query(sql::NEXT_DUE);
    let Some(row) = rows::optional(&mut *reader(pool).await?, query).await? else {
        return Ok(None);
    };
    let pending = rows::optional_time(&row, "pending")?;
    let running = rows::optional_time(&row, "running")?;
    Ok([pending, running].into_iter().flatten().min())
}

pub(super) async fn is_retry_asked(pool: &SqlitePool, class: Class) -> Result<bool> {
    let mut conn = reader(pool).await?;
    let query = sqlx::query(sql::IS_RETRY_ASKED).bind(class.as_str());
    let row = rows::optional(&mut conn, query).await?;
    let is_asked = row.map(|row| rows::get::<i64>(&row, "is_asked"));
    Ok(is_asked.transpose()?.is_some_and(|asked| asked != 0))
}

pub(super) async fn list(pool: &SqlitePool, filter: &Filter) -> Result<Vec<Record>> {
    let states = match &filter.states[..] {
        [] => None,
        states => Some(to_json(&states)?),
    };
    let statement = match filter.ids[..] {
        [] => sql::LIST,
        _ => sql::LIST_OF,
    };
    let mut query = sqlx::query(statement)
        .bind(states)
        .bind(filter.provider.map(Provider::as_str))
        .bind(filter.since.map(millis))
        .bind(filter.after.map(|id| id.to_string()).unwrap_or_default())
        .bind(filter.limit.map_or(-1, i64::from));
    if !filter.ids.is_empty() {
        query = query.bind(to_json(&filter.ids)?);
    }
    let (records, _) = rows::records(&mut *reader(pool).await?, query).await?;
    Ok(records)
}

pub(super) async fn provider_failures(
    pool: &SqlitePool,
    provider: Option<Provider>,
    since: Option<Timestamp>,
    limit: Option<u32>,
) -> Result<Vec<ProviderLoss>> {
    let query = sqlx::query(sql::FAILURES)
        .bind(since.map(millis))
        .bind(provider.map(Provider::as_str))
        .bind(limit.map_or(-1, i64::from));
    let found = rows::all(&mut *reader(pool).await?, query).await?;
    Ok(rows::readable(&found, |row| {
        Ok(ProviderLoss {
            failure: rows::failure_record(row)?,
            recording: rows::recording_record(row)?,
        })
    }))
}

pub(super) async fn events(
    pool: &SqlitePool,
    since: Option<Timestamp>,
    limit: u32,
) -> Result<Vec<EventRecord>> {
    let query = sqlx::query(sql::EVENTS)
        .bind(since.map(first_id).unwrap_or_default())
        .bind(i64::from(limit));
    let found = rows::all(&mut *reader(pool).await?, query).await?;
    Ok(rows::readable(&found, event_record))
}

pub(super) async fn unknown_events(
    pool: &SqlitePool,
    since: Option<Timestamp>,
    after: Option<EventId>,
    limit: u32,
) -> Result<Vec<EventRecord>> {
    let query = sqlx::query(sql::UNKNOWN_EVENTS)
        .bind(since.map(first_id).unwrap_or_default())
        .bind(after.map(|id| id.to_string()).unwrap_or_default())
        .bind(i64::from(limit));
    let found = rows::all(&mut *reader(pool).await?, query).await?;
    Ok(rows::readable(&found, event_record))
}

fn event_record(row: &SqliteRow) -> Result<EventRecord> {
    Ok(EventRecord {
        id: rows::id(row, "id")?,
        source: rows::get(row, "source")?,
        provider: rows::named(row, "provider", Provider::named)?,
        event_id: rows::get(row, "event_id")?,
        event_type: rows::get(row, "event_type")?,
        class: rows::named(row, "class", EventClass::parse)?,
        alert: rows::get(row, "alert")?,
        received_at: rows::time(row, "received_at")?,
        recording_id: rows::optional_id(row, "recording_id")?,
    })
}

pub(super) async fn raw_event(pool: &SqlitePool, event: EventId) -> Result<Option<Bytes>> {
    let query = sqlx::query(sql::RAW_EVENT).bind(event.to_string());
    let row = rows::optional(&mut *reader(pool).await?, query).await?;
    let raw = row.map(|row| rows::raw(&row)).transpose()?;
    // A body is never empty: that one has been forgotten.
    Ok(raw.filter(|raw| !raw.is_empty()))
}

/// The body of the event that announced `job`.
pub(super) async fn announcing_event(pool: &SqlitePool, job: JobId) -> Result<Option<Bytes>> {
    let query = sqlx::query(sql::ANNOUNCING_EVENT).bind(job.to_string());
    let row = rows::optional(&mut *reader(pool).await?, query).await?;
    let raw = row.map(|row| rows::raw(&row)).transpose()?;
    // A body is never empty: that one has been forgotten.
    Ok(raw.filter(|raw| !raw.is_empty()))
}

pub(super) async fn stats(pool: &SqlitePool) -> Result<Stats> {
    let mut conn = reader(pool).await?;
    let mut jobs: Vec<(State, u64)> = State::ALL.into_iter().map(|state| (state, 0)).collect();
    for row in rows::all(&mut conn, sqlx::query(sql::COUNT_BY_STATE)).await? {
        let state = rows::named(&row, "state", State::parse)?;
        let number = count(rows::get(&row, "jobs")?);
        jobs.iter_mut()
            .filter(|(of, _)| *of == state)
            .for_each(|(_, count)| *count = number);
    }
    // What has no deadline waits at the end of time.
    let least: Option<i64> = sqlx::query_scalar(sql::LEAST_LATEST_START)
        .bind(millis(Timestamp::MAX))
        .fetch_one(&mut *conn)
        .await
        .map_err(|cause| error::from("read the store", cause))?;
    Ok(Stats {
        jobs,
        least_latest_start: least.map(instant).transpose()?,
    })
}

pub(super) async fn reader(pool: &SqlitePool) -> Result<sqlx::pool::PoolConnection<sqlx::Sqlite>> {
    pool.acquire()
        .await
        .map_err(|cause| error::from("read the store", cause))
}
