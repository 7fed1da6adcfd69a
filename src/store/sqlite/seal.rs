//! Which recordings wait for their manifest, and since when it can't be written.

use jiff::{SignedDuration, Timestamp};
use sqlx::{SqliteConnection, SqlitePool};

use super::read::reader;
use super::rows;
use crate::error::{Class, Result};
use crate::model::RecordingId;
use crate::model::manifest::OverdueManifest;
use crate::store::stored::{clean, millis, to_json};
use crate::store::{Sealable, sql};

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
