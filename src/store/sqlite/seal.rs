//! Which recordings wait for their manifest, and since when it can't be written.

use jiff::{SignedDuration, Timestamp};
use sqlx::{SqliteConnection, SqlitePool};

use super::read::reader;
use super::rows;
use crate::error::{Class, Result};
use crate::model::manifest::OverdueManifest;
use crate::model::{EventId, Provider, RecordingId};
use crate::signed_url::redact_json;
use crate::store::stored::{clean, millis, to_json};
use crate::store::{KeptBody, Sealable, purge_sql, sql};

/// Longer than any wait that is ever written: a manifest that is due later was put off by another clock.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_hours(1);

/// From when on people are told that a manifest can't be written.
const OVERDUE_AFTER: SignedDuration = SignedDuration::from_hours(1);

pub(super) async fn unsealed(pool: &SqlitePool, limit: u32) -> Result<Vec<RecordingId>> {
    let query = sqlx::query(sql::UNSEALED).bind(i64::from(limit));
    let found = rows::all(&mut *reader(pool).await?, query).await?;
    Ok(rows::readable(&found, |row| rows::id(row, "id")))
}

pub(super) async fn unsealed_of(
    pool: &SqlitePool,
    recordings: &[RecordingId],
) -> Result<Vec<RecordingId>> {
    let query = sqlx::query(sql::UNSEALED_OF).bind(to_json(&recordings)?);
    let found = rows::all(&mut *reader(pool).await?, query).await?;
    Ok(rows::readable(&found, |row| rows::id(row, "id")))
}

pub(super) async fn sealable(
    pool: &SqlitePool,
    now: Timestamp,
    limit: u32,
) -> Result<Vec<Sealable>> {
    let latest = now.saturating_add(LONGEST_WAIT).unwrap_or(Timestamp::MAX);
    let query = sqlx::query(sql::SEALABLE)
        .bind(millis(now))
        .bind(millis(latest))
        .bind(i64::from(limit));
    let found = rows::all(&mut *reader(pool).await?, query).await?;
    let mut due = rows::readable(&found, |row| {
        let failures: i64 = rows::get(row, "seal_failures")?;
        Ok(Sealable {
            id: rows::id(row, "id")?,
            failures: u32::try_from(failures).unwrap_or(u32::MAX),
        })
    });
    due.truncate(limit as usize);
    Ok(due)
}

pub(super) async fn kept_bodies(
    pool: &SqlitePool,
    recording: RecordingId,
) -> Result<Vec<KeptBody>> {
    let query = sqlx::query(purge_sql::KEPT_BODIES_OF).bind(recording.to_string());
    let found = rows::all(&mut *reader(pool).await?, query).await?;
    Ok(rows::readable(&found, |row| {
        Ok(KeptBody {
            event: rows::id(row, "id")?,
            source: rows::get(row, "source")?,
            provider: rows::named(row, "provider", Provider::named)?,
            raw: rows::raw(row)?,
        })
    }))
}

pub(super) async fn replace_bodies(
    conn: &mut SqliteConnection,
    bodies: Vec<(EventId, String)>,
) -> Result<()> {
    for (event, text) in bodies {
        let query = sqlx::query(purge_sql::REPLACE_BODY)
            .bind(event.to_string())
            .bind(text);
        rows::execute(conn, query).await?;
    }
    Ok(())
}

/// Notes that a recording is sealed, and forgets what its events said: that is in the bucket now. Of an event that is not (its
/// own artifact was lost, and may be retried) the redacted text is kept; what a definition hides is gone from it before.
pub(super) async fn sealed(
    conn: &mut SqliteConnection,
    recording: RecordingId,
    generation: i64,
    manifest_etag: Option<String>,
    report_etag: Option<String>,
) -> Result<()> {
    let query = sqlx::query(sql::SEALED)
        .bind(recording.to_string())
        .bind(generation)
        .bind(manifest_etag)
        .bind(report_etag);
    if rows::execute(conn, query).await?.rows_affected() == 0 {
        return Ok(());
    }
    forget_bodies(conn, &recording.to_string()).await.map(drop)
}

/// Forgets what the events of a sealed recording said; answers with how many bodies changed.
pub(super) async fn forget_bodies(conn: &mut SqliteConnection, recording: &str) -> Result<u64> {
    let of = |statement| sqlx::query(statement).bind(recording.to_owned());
    let done = rows::execute(conn, of(purge_sql::FORGET_BODIES_OF)).await?;
    let mut changed = done.rows_affected();
    for row in rows::all(conn, of(purge_sql::BODIES_OF)).await? {
        let raw = rows::raw(&row)?;
        let redacted = serde_json::from_slice(&raw).ok().map(|mut value| {
            redact_json(&mut value);
            value.to_string()
        });
        // What is no JSON can't be archived either.
        let text = redacted.unwrap_or_default();
        if text.as_bytes() != &*raw {
            let id: &str = rows::get(&row, "id")?;
            let query = sqlx::query(purge_sql::REPLACE_BODY).bind(id).bind(text);
            changed += rows::execute(conn, query).await?.rows_affected();
        }
    }
    Ok(changed)
}

/// Notes a failure to write a manifest.
pub(super) async fn put_off(
    conn: &mut SqliteConnection,
    recording: RecordingId,
    class: Class,
    message: &str,
    now: Timestamp,
    until: Timestamp,
) -> Result<()> {
    let query = sqlx::query(sql::PUT_OFF_SEAL)
        .bind(recording.to_string())
        .bind(millis(now))
        .bind(millis(until))
        .bind(class.as_str())
        .bind(clean(message));
    rows::execute(conn, query).await.map(drop)
}

pub(super) async fn overdue(
    pool: &SqlitePool,
    now: Timestamp,
    limit: u32,
) -> Result<Vec<OverdueManifest>> {
    let since = now.saturating_sub(OVERDUE_AFTER).unwrap_or(Timestamp::MIN);
    let query = sqlx::query(sql::OVERDUE_MANIFESTS)
        .bind(millis(since))
        .bind(i64::from(limit));
    let found = rows::all(&mut *reader(pool).await?, query).await?;
    Ok(rows::readable(&found, |row| {
        let class: Option<&str> = rows::get(row, "seal_class")?;
        let message: Option<String> = rows::get(row, "seal_message")?;
        Ok(OverdueManifest {
            recording: rows::recording_record(row)?,
            class: class.and_then(Class::parse).unwrap_or(Class::Internal),
            message: message.unwrap_or_default(),
            failing_since: rows::time(row, "seal_failing_since")?,
        })
    }))
}
