//! Manifests: which are written, which wait, and what is forgotten of events that are in the bucket.

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use sqlx::SqliteConnection;

use super::{rows, sql};
use crate::error::{Class, Result};
use crate::model::{EventId, RecordingId};
use crate::store::stored::{clean, millis};
use crate::store::tx::ManifestTx;

#[async_trait]
impl ManifestTx for SqliteConnection {
    async fn mark_sealed(
        &mut self,
        recording: RecordingId,
        generation: i64,
        manifest_etag: Option<&str>,
        report_etag: Option<&str>,
    ) -> Result<bool> {
        let query = sqlx::query(sql::SEALED)
            .bind(recording.to_string())
            .bind(generation)
            .bind(manifest_etag)
            .bind(report_etag);
        Ok(rows::execute(self, query).await?.rows_affected() > 0)
    }

    async fn put_off_seal(
        &mut self,
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
        rows::execute(self, query).await.map(drop)
    }

    async fn forget_bodies_of(&mut self, recording: RecordingId) -> Result<u64> {
        let query = sqlx::query(sql::FORGET_BODIES_OF).bind(recording.to_string());
        Ok(rows::execute(self, query).await?.rows_affected())
    }

    async fn bodies_of(&mut self, recording: RecordingId) -> Result<Vec<(EventId, Bytes)>> {
        let query = sqlx::query(sql::BODIES_OF).bind(recording.to_string());
        let found = rows::all(self, query).await?;
        found
            .iter()
            .map(|row| Ok((rows::id(row, "id")?, rows::raw(row)?)))
            .collect()
    }

    async fn replace_bodies(&mut self, bodies: &[(EventId, String)]) -> Result<u64> {
        let mut replaced = 0;
        for (event, text) in bodies {
            let query = sqlx::query(sql::REPLACE_BODY)
                .bind(event.to_string())
                .bind(text);
            replaced += rows::execute(self, query).await?.rows_affected();
        }
        Ok(replaced)
    }
}
