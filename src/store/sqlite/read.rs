//! What is only read: reports, lists, what is to be sealed. Readers have connections of their own.

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{Acquire as _, SqliteConnection, SqlitePool};

use super::purge::upkeep_name;
use super::{error, rows, sql};
use crate::error::{Class, Result};
use crate::model::manifest::{OverdueManifest, RecordingContents, event_name};
use crate::model::{EventClass, EventId, JobId, Provider, Record, RecordingId, State};
use crate::store::stored::{count, damaged, first_id, instant, millis, to_json};
use crate::store::tx::{StaleAges, StaleOrigin, StoreRead, Upkeep};
use crate::store::{
    EventRecord, Filter, KeptBody, KnownArtifact, ProviderLoss, Sealable, Selection, Stats,
    UploadOwner,
};

/// A connection that only reads.
pub(super) async fn reader(pool: &SqlitePool) -> Result<sqlx::pool::PoolConnection<sqlx::Sqlite>> {
    pool.acquire()
        .await
        .map_err(|cause| error::from("read the store", cause))
}

#[async_trait]
impl StoreRead for SqliteConnection {
    async fn list(&mut self, filter: &Filter) -> Result<Vec<Record>> {
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
        let (records, _) = rows::records(self, query).await?;
        Ok(records)
    }

    async fn contents(&mut self, recording: RecordingId) -> Result<Option<RecordingContents>> {
        let mut snapshot = self
            .begin()
            .await
            .map_err(|cause| error::from("read the store", cause))?;
        let contents = contents_in(&mut snapshot, recording).await?;
        // Nothing was written: there is nothing to commit.
        Ok(contents)
    }

    async fn provider_failures(
        &mut self,
        provider: Option<Provider>,
        since: Option<Timestamp>,
        limit: Option<u32>,
    ) -> Result<Vec<ProviderLoss>> {
        let query = sqlx::query(sql::FAILURES)
            .bind(since.map(millis))
            .bind(provider.map(Provider::as_str))
            .bind(limit.map_or(-1, i64::from));
        let found = rows::all(self, query).await?;
        Ok(rows::readable(&found, |row| {
            Ok(ProviderLoss {
                failure: rows::failure_record(row)?,
                recording: rows::recording_record(row)?,
            })
        }))
    }

    async fn events(&mut self, since: Option<Timestamp>, limit: u32) -> Result<Vec<EventRecord>> {
        let query = sqlx::query(sql::EVENTS)
            .bind(since.map(first_id).unwrap_or_default())
            .bind(i64::from(limit));
        let found = rows::all(self, query).await?;
        Ok(rows::readable(&found, event_record))
    }

    async fn unknown_events(
        &mut self,
        since: Option<Timestamp>,
        after: Option<EventId>,
        limit: u32,
    ) -> Result<Vec<EventRecord>> {
        let query = sqlx::query(sql::UNKNOWN_EVENTS)
            .bind(since.map(first_id).unwrap_or_default())
            .bind(after.map(|id| id.to_string()).unwrap_or_default())
            .bind(i64::from(limit));
        let found = rows::all(self, query).await?;
        Ok(rows::readable(&found, event_record))
    }

    async fn raw_event(&mut self, event: EventId) -> Result<Option<Bytes>> {
        body(self, sql::RAW_EVENT, event.to_string()).await
    }

    async fn announcing_event(&mut self, job: JobId) -> Result<Option<Bytes>> {
        body(self, sql::ANNOUNCING_EVENT, job.to_string()).await
    }

    async fn stats(&mut self) -> Result<Stats> {
        let mut jobs: Vec<(State, u64)> = State::ALL.into_iter().map(|state| (state, 0)).collect();
        for row in rows::all(self, sqlx::query(sql::COUNT_BY_STATE)).await? {
            let state = rows::named(&row, "state", State::parse)?;
            let number = count(rows::get(&row, "jobs")?);
            jobs.iter_mut()
                .filter(|(of, _)| *of == state)
                .for_each(|(_, count)| *count = number);
        }
        // What has no deadline waits at the end of time.
        let least: Option<i64> = sqlx::query_scalar(sql::LEAST_LATEST_START)
            .bind(millis(Timestamp::MAX))
            .fetch_one(&mut *self)
            .await
            .map_err(|cause| error::from("read the store", cause))?;
        Ok(Stats {
            jobs,
            least_latest_start: least.map(instant).transpose()?,
        })
    }

    async fn selected_jobs(&mut self, selection: &Selection) -> Result<Vec<JobId>> {
        let query = match selection {
            Selection::Ids(ids) => sqlx::query(sql::IDS_OF).bind(to_json(ids)?),
            Selection::Class(class) => sqlx::query(sql::LOST_IDS).bind(class.as_str()),
            Selection::All => sqlx::query(sql::LOST_IDS).bind(None::<&str>),
        };
        rows::ids(self, query).await
    }

    async fn next_due(&mut self) -> Result<Option<Timestamp>> {
        let query = sqlx::query(sql::NEXT_DUE);
        let Some(row) = rows::optional(self, query).await? else {
            return Ok(None);
        };
        let pending = rows::optional_time(&row, "pending")?;
        let running = rows::optional_time(&row, "running")?;
        Ok([pending, running].into_iter().flatten().min())
    }

    async fn is_retry_asked(&mut self, class: Class) -> Result<bool> {
        let query = sqlx::query(sql::IS_RETRY_ASKED).bind(class.as_str());
        rows::is_so(self, query, "is_asked").await
    }

    async fn upload_owners(&mut self, keys: &[String]) -> Result<Vec<UploadOwner>> {
        let found = rows::fetch_all(self, sql::UPLOAD_OWNERS, &keys).await?;
        found.iter().map(rows::upload_owner).collect()
    }

    async fn lease_holders(&mut self) -> Result<Vec<String>> {
        let found = rows::all(self, sqlx::query(sql::LEASE_HOLDERS)).await?;
        found
            .iter()
            .map(|row| rows::get(row, "leased_by"))
            .collect()
    }

    async fn unsealed(&mut self, limit: u32) -> Result<Vec<RecordingId>> {
        rows::ids(self, sqlx::query(sql::UNSEALED).bind(i64::from(limit))).await
    }

    async fn unsealed_of(&mut self, recordings: &[RecordingId]) -> Result<Vec<RecordingId>> {
        let query = sqlx::query(sql::UNSEALED_OF).bind(to_json(&recordings)?);
        rows::ids(self, query).await
    }

    async fn sealable(
        &mut self,
        now: Timestamp,
        beyond: Timestamp,
        limit: u32,
    ) -> Result<Vec<Sealable>> {
        let query = sqlx::query(sql::SEALABLE)
            .bind(millis(now))
            .bind(millis(beyond))
            .bind(i64::from(limit));
        let found = rows::all(self, query).await?;
        Ok(rows::readable(&found, |row| {
            let failures: i64 = rows::get(row, "seal_failures")?;
            Ok(Sealable {
                id: rows::id(row, "id")?,
                failures: u32::try_from(failures).unwrap_or(u32::MAX),
            })
        }))
    }

    async fn overdue_manifests(
        &mut self,
        since: Timestamp,
        limit: u32,
    ) -> Result<Vec<OverdueManifest>> {
        let query = sqlx::query(sql::OVERDUE_MANIFESTS)
            .bind(millis(since))
            .bind(i64::from(limit));
        let found = rows::all(self, query).await?;
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

    async fn kept_bodies(&mut self, recording: RecordingId) -> Result<Vec<KeptBody>> {
        let query = sqlx::query(sql::KEPT_BODIES_OF).bind(recording.to_string());
        let found = rows::all(self, query).await?;
        Ok(rows::readable(&found, |row| {
            Ok(KeptBody {
                event: rows::id(row, "id")?,
                source: rows::get(row, "source")?,
                provider: rows::named(row, "provider", Provider::named)?,
                raw: rows::raw(row)?,
            })
        }))
    }

    async fn known(&mut self, source: &str, keys: &[String]) -> Result<Vec<KnownArtifact>> {
        let pairs: Vec<(&str, &String)> = keys.iter().map(|key| (source, key)).collect();
        let found = rows::fetch_all(self, sql::KNOWN, &pairs).await?;
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

    async fn stale_origins(&mut self, ages: &StaleAges, limit: u32) -> Result<Vec<StaleOrigin>> {
        let query = sqlx::query(sql::STALE_ORIGINS)
            .bind(millis(ages.given_up))
            .bind(millis(ages.dead))
            .bind(millis(ages.endless))
            .bind(i64::from(limit));
        let found = rows::all(self, query).await?;
        Ok(rows::readable(&found, |row| {
            Ok(StaleOrigin {
                job: rows::id(row, "id")?,
                stored: rows::get(row, "origin")?,
                can_be_minted: rows::get::<Option<&str>>(row, "remint")?.is_some(),
            })
        }))
    }

    async fn is_upkeep_due(&mut self, work: Upkeep) -> Result<bool> {
        let query = sqlx::query(sql::UPKEEP_DUE).bind(upkeep_name(work));
        Ok(rows::optional(self, query).await?.is_some())
    }

    async fn sealed_after(
        &mut self,
        after: Option<RecordingId>,
        limit: u32,
    ) -> Result<Vec<RecordingId>> {
        let query = sqlx::query(sql::SEALED_AFTER)
            .bind(after.map(|id| id.to_string()).unwrap_or_default())
            .bind(i64::from(limit));
        rows::ids(self, query).await
    }

    async fn purgeable_after(
        &mut self,
        after: Option<RecordingId>,
        cutoff: Timestamp,
        limit: u32,
    ) -> Result<Vec<RecordingId>> {
        let query = sqlx::query(sql::PURGEABLE)
            .bind(after.map(|id| id.to_string()).unwrap_or_default())
            .bind(millis(cutoff))
            .bind(first_id(cutoff))
            .bind(i64::from(limit));
        rows::ids(self, query).await
    }
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

/// The body of an event. It is never empty: one that is has been forgotten.
async fn body(
    conn: &mut SqliteConnection,
    statement: &'static str,
    of: String,
) -> Result<Option<Bytes>> {
    let row = rows::optional(conn, sqlx::query(statement).bind(of)).await?;
    let raw = row.map(|row| rows::raw(&row)).transpose()?;
    Ok(raw.filter(|raw| !raw.is_empty()))
}
