//! What the walks over providers' lists need: what is known already, and how far they came.

use jiff::Timestamp;
use sqlx::{SqliteConnection, SqlitePool};

use super::{error, rows};
use crate::error::{Class, Result};
use crate::model::State;
use crate::store::stored::millis;
use crate::store::{KnownArtifact, WalkTurn, sql};

pub(super) async fn known(
    pool: &SqlitePool,
    source: &str,
    recording_keys: &[String],
) -> Result<Vec<KnownArtifact>> {
    let pairs: Vec<(&str, &String)> = recording_keys.iter().map(|key| (source, key)).collect();
    let mut conn = pool
        .acquire()
        .await
        .map_err(|cause| error::from("read the store", cause))?;
    let found = rows::fetch_all(&mut conn, sql::KNOWN, &pairs).await?;
    found
        .iter()
        .map(|row| {
            let state: Option<&str> = rows::get(row, "state")?;
            Ok(KnownArtifact {
                recording_key: rows::get(row, "recording_key")?,
                identity: rows::get(row, "identity")?,
                job: rows::optional_id(row, "job_id")?,
                state: state.and_then(State::parse),
                class: rows::get::<Option<&str>>(row, "class")?.and_then(Class::parse),
                has_origin: rows::get::<Option<&str>>(row, "origin_kind")? != Some("unusable"),
            })
        })
        .collect()
}

pub(super) async fn begin(
    conn: &mut SqliteConnection,
    source: &str,
    holder: &str,
    now: Timestamp,
    lease_until: Timestamp,
) -> Result<WalkTurn> {
    let query = sqlx::query(sql::BEGIN_WALK)
        .bind(source)
        .bind(holder)
        .bind(millis(now))
        .bind(millis(lease_until));
    match rows::optional(conn, query).await? {
        Some(row) => Ok(WalkTurn::Ours {
            reached: rows::optional_time(&row, "reached_at")?,
        }),
        None => Ok(WalkTurn::Others),
    }
}

pub(super) async fn end(
    conn: &mut SqliteConnection,
    source: &str,
    holder: &str,
    reached: Option<Timestamp>,
) -> Result<()> {
    let query = sqlx::query(sql::END_WALK)
        .bind(source)
        .bind(holder)
        .bind(reached.map(millis));
    rows::execute(conn, query).await.map(drop)
}
