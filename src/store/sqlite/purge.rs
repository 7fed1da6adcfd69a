//! How secrets and old rows leave the file.

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::SqliteConnection;

use super::{rows, sql};
use crate::error::Result;
use crate::model::{Origin, RecordingId};
use crate::store::stored::{first_id, from_origin, millis, to_json};
use crate::store::tx::{PurgeTx, StaleOrigin, Upkeep};

#[async_trait]
impl PurgeTx for SqliteConnection {
    async fn replace_origins(&mut self, origins: &[(StaleOrigin, Origin)]) -> Result<u64> {
        let mut changed = 0;
        for (stale, left) in origins {
            let (kind, left) = from_origin(left)?;
            let query = sqlx::query(sql::REPLACE_ORIGIN)
                .bind(stale.job.to_string())
                .bind(kind)
                .bind(left)
                .bind(&stale.stored);
            changed += rows::execute(self, query).await?.rows_affected();
        }
        Ok(changed)
    }

    async fn upkeep_done(&mut self, work: Upkeep) -> Result<()> {
        let query = sqlx::query(sql::UPKEEP_DONE).bind(upkeep_name(work));
        rows::execute(self, query).await.map(drop)
    }

    async fn sealed_of(&mut self, recordings: &[RecordingId]) -> Result<Vec<RecordingId>> {
        let query = sqlx::query(sql::SEALED_OF).bind(to_json(&recordings)?);
        rows::ids(self, query).await
    }

    async fn forget_loose_bodies(
        &mut self,
        all: Option<Timestamp>,
        carried_nothing: Timestamp,
        limit: u32,
    ) -> Result<u64> {
        let query = sqlx::query(sql::FORGET_BODIES)
            .bind(all.map(first_id).unwrap_or_default())
            .bind(first_id(carried_nothing))
            .bind(i64::from(limit));
        Ok(rows::execute(self, query).await?.rows_affected())
    }

    async fn forget_events(&mut self, before: Timestamp, limit: u32) -> Result<u64> {
        let query = sqlx::query(sql::FORGET_EVENTS)
            .bind(first_id(before))
            .bind(i64::from(limit));
        Ok(rows::execute(self, query).await?.rows_affected())
    }

    async fn purgeable_of(
        &mut self,
        recordings: &[RecordingId],
        cutoff: Timestamp,
    ) -> Result<Vec<RecordingId>> {
        let query = sqlx::query(sql::PURGEABLE_OF)
            .bind(to_json(&recordings)?)
            .bind(millis(cutoff))
            .bind(first_id(cutoff))
            .bind(recordings.len() as i64);
        rows::ids(self, query).await
    }

    async fn remove_recordings(&mut self, recordings: &[RecordingId]) -> Result<()> {
        let ids = to_json(&recordings)?;
        for statement in sql::PURGE {
            rows::execute(self, sqlx::query(statement).bind(&ids)).await?;
        }
        Ok(())
    }
}

/// What work is called in the table of what is to be done.
pub(super) fn upkeep_name(work: Upkeep) -> &'static str {
    match work {
        Upkeep::SealedBodies => "sealed_bodies",
    }
}
