//! An operator's words, and how far scans of the providers' lists have come.

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::{rows, sql};
use crate::error::Result;
use crate::model::{EventId, JobId, Record, RecordingId, State};
use crate::store::WalkTurn;
use crate::store::stored::{clean, millis, to_json};
use crate::store::tx::{OperatorTx, ScanTx};

#[async_trait]
impl OperatorTx for SqliteConnection {
    async fn retry_jobs(
        &mut self,
        jobs: &[JobId],
        states: &[State],
        now: Timestamp,
    ) -> Result<Vec<(JobId, RecordingId)>> {
        let query = sqlx::query(sql::RETRY_JOBS)
            .bind(to_json(&jobs)?)
            .bind(millis(now))
            .bind(to_json(&states)?);
        changed(&rows::all(self, query).await?)
    }

    async fn cancel_jobs(
        &mut self,
        jobs: &[JobId],
        message: &str,
        now: Timestamp,
    ) -> Result<Vec<(JobId, RecordingId)>> {
        let query = sqlx::query(sql::CANCEL_JOBS)
            .bind(to_json(&jobs)?)
            .bind(millis(now))
            .bind(clean(message));
        changed(&rows::all(self, query).await?)
    }

    async fn records_of(&mut self, jobs: &[JobId]) -> Result<Vec<Record>> {
        let query = sqlx::query(sql::RECORDS_OF).bind(to_json(&jobs)?);
        let (records, _) = rows::records(self, query).await?;
        Ok(records)
    }

    async fn forget_unknown_event(&mut self, event: EventId) -> Result<bool> {
        let query = sqlx::query(sql::FORGET_UNKNOWN_EVENT).bind(event.to_string());
        Ok(rows::execute(self, query).await?.rows_affected() > 0)
    }
}

fn changed(changed: &[SqliteRow]) -> Result<Vec<(JobId, RecordingId)>> {
    changed
        .iter()
        .map(|row| Ok((rows::id(row, "id")?, rows::id(row, "recording_id")?)))
        .collect()
}

#[async_trait]
impl ScanTx for SqliteConnection {
    async fn begin_walk(
        &mut self,
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
        match rows::optional(self, query).await? {
            Some(row) => Ok(WalkTurn::Ours {
                reached: rows::optional_time(&row, "reached_at")?,
            }),
            None => Ok(WalkTurn::Others),
        }
    }

    async fn end_walk(
        &mut self,
        source: &str,
        holder: &str,
        reached: Option<Timestamp>,
    ) -> Result<()> {
        let query = sqlx::query(sql::END_WALK)
            .bind(source)
            .bind(holder)
            .bind(reached.map(millis));
        rows::execute(self, query).await.map(drop)
    }
}
