//! Leasing jobs, and writing under leases.

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Sqlite, SqliteConnection};

use super::{intake, rows, sql};
use crate::error::{Class, Error, Result};
use crate::model::artifact::is_small;
use crate::model::{Artifact, Checkpoint, JobId, Lease, Recording, RecordingId, State};
use crate::schedule::order::Urgency;
use crate::store::stored::{clean, count, damaged, from_origin, length, millis, to_json};
use crate::store::tx::{
    ArchivedJob, Candidate, DueJobs, DueTimes, FailureToCure, GiveUp, LeaseJobs, LeasedJob,
    QueueTx, Requeue, Settlement, UnreadableJob,
};
use crate::store::{Claimed, LeaseWrite};

#[async_trait]
impl QueueTx for SqliteConnection {
    async fn due_jobs(
        &mut self,
        wanted: &DueJobs<'_>,
    ) -> Result<Vec<Result<Candidate, UnreadableJob>>> {
        let statement = match wanted.only {
            None => sql::DUE,
            Some(_) => sql::DUE_OF,
        };
        let third = i64::from(wanted.limit);
        let leases = wanted.suspect_leases;
        let mut query = due(statement, wanted.is_small, &wanted.times, third, leases);
        if let Some(only) = wanted.only {
            query = query.bind(to_json(&only)?);
        }
        let found = rows::all(self, query).await?;
        found.iter().map(|row| read(row, candidate)).collect()
    }

    async fn lease_jobs(
        &mut self,
        order: &LeaseJobs<'_>,
    ) -> Result<Vec<Result<Claimed, UnreadableJob>>> {
        let third = millis(order.until);
        let (statement, leases) = (sql::LEASE_JOBS, order.below_leases);
        let query = due(statement, order.is_small, &order.times, third, leases)
            .bind(to_json(&order.jobs)?)
            .bind(order.worker);
        let leased = rows::all(self, query).await?;
        leased.iter().map(|row| read(row, rows::claimed)).collect()
    }

    async fn extend_leases(&mut self, leases: &[Lease], until: Timestamp) -> Result<Vec<Lease>> {
        let held: Vec<_> = leases
            .iter()
            .map(|lease| (lease.job, lease.token))
            .collect();
        let query = sqlx::query(sql::EXTEND_LEASES)
            .bind(to_json(&held)?)
            .bind(millis(until));
        let kept = rows::all(self, query).await?;
        kept.iter()
            .map(|row| {
                Ok(Lease {
                    job: rows::id(row, "id")?,
                    token: rows::get(row, "lease_token")?,
                })
            })
            .collect()
    }

    async fn is_suspect_running(&mut self, suspect_leases: i64, times: &DueTimes) -> Result<bool> {
        let (lapsed_by, lapsed_beyond) = lapses(times);
        let query = sqlx::query(sql::SUSPECT_IS_RUNNING)
            .bind(suspect_leases)
            .bind(lapsed_by)
            .bind(lapsed_beyond);
        rows::is_so(self, query, "is_running").await
    }

    async fn clear_suspects(&mut self, suspect_leases: i64) -> Result<()> {
        let query = sqlx::query(sql::CLEAR_SUSPECTS).bind(suspect_leases);
        rows::execute(self, query).await.map(drop)
    }

    async fn free_leases(&mut self, holder: &str) -> Result<u64> {
        let query = sqlx::query(sql::FREE_LEASES).bind(holder);
        Ok(rows::execute(self, query).await?.rows_affected())
    }

    async fn leased_job(&mut self, lease: &Lease) -> Result<Option<LeasedJob>> {
        let query = sqlx::query(sql::JOB_BY_LEASE)
            .bind(lease.job.to_string())
            .bind(lease.token);
        let found = rows::optional(self, query).await?;
        let job = found.map(|row| {
            Ok(LeasedJob {
                recording_id: rows::id(&row, "recording_id")?,
                identity: rows::get(&row, "identity")?,
                is_lookup: rows::get::<&str>(&row, "origin_kind")? == "lookup",
                announced_by: rows::optional_id(&row, "announced_by")?,
                announced_size: rows::get::<Option<i64>>(&row, "announced_size")?.map(count),
                has_fresh_origin: rows::get::<i64>(&row, "has_fresh_origin")? != 0,
            })
        });
        job.transpose()
    }

    async fn save_checkpoint(
        &mut self,
        lease: &Lease,
        checkpoint: Option<&Checkpoint>,
        bytes_done: u64,
    ) -> Result<LeaseWrite> {
        let query = sqlx::query(sql::CHECKPOINT)
            .bind(lease.job.to_string())
            .bind(lease.token)
            .bind(checkpoint.map(to_json).transpose()?)
            .bind(length(bytes_done));
        Ok(written(rows::execute(self, query).await?.rows_affected()))
    }

    async fn replace_origin(&mut self, lease: &Lease, artifact: &Artifact) -> Result<LeaseWrite> {
        let (origin_kind, origin) = from_origin(&artifact.origin)?;
        let deadline = &artifact.deadline;
        let urgency = Urgency::of(lease.job, *deadline, artifact.size_bytes);
        let query = sqlx::query(sql::REORIGIN)
            .bind(lease.job.to_string())
            .bind(lease.token)
            .bind(origin_kind)
            .bind(origin)
            .bind(artifact.remint.as_ref().map(to_json).transpose()?)
            .bind(deadline.at.map(millis))
            .bind(deadline.from.as_str())
            .bind(i64::from(deadline.is_upper_bound))
            .bind(urgency.latest_start_ms())
            .bind(artifact.size_bytes.map(length))
            .bind(i64::from(is_small(artifact.kind, &artifact.origin)));
        Ok(written(rows::execute(self, query).await?.rows_affected()))
    }

    async fn requeue_job(&mut self, job: JobId, requeue: &Requeue<'_>) -> Result<()> {
        let query = sqlx::query(sql::REQUEUE_JOB)
            .bind(job.to_string())
            .bind(millis(requeue.at))
            .bind(requeue.why.map(|(class, _)| class.as_str()))
            .bind(requeue.why.map(|(_, message)| clean(message)))
            .bind(i64::from(!requeue.is_counted))
            .bind(millis(requeue.now));
        rows::execute(self, query).await.map(drop)
    }

    async fn give_up_jobs(&mut self, jobs: &[JobId], end: &GiveUp<'_>) -> Result<()> {
        let query = sqlx::query(sql::GIVE_UP_JOBS)
            .bind(to_json(&jobs)?)
            .bind(end.state.as_str())
            .bind(end.class.as_str())
            .bind(clean(end.message))
            .bind(millis(end.now));
        rows::execute(self, query).await.map(drop)
    }

    async fn give_up_unreadable(&mut self, job: &str, message: &str, now: Timestamp) -> Result<()> {
        let query = sqlx::query(sql::GIVE_UP_UNREADABLE)
            .bind(job)
            .bind(clean(message))
            .bind(millis(now));
        let Some(given_up) = rows::optional(self, query).await? else {
            return Ok(());
        };
        let recording: &str = rows::get(&given_up, "recording_id")?;
        let query = sqlx::query(sql::COUNT_OPEN).bind(to_json(&[(recording, -1)])?);
        rows::execute(self, query).await.map(drop)
    }

    async fn archive_jobs(&mut self, settlements: &[Settlement]) -> Result<Vec<ArchivedJob>> {
        let told: Vec<_> = settlements.iter().map(told).collect();
        let archived = rows::fetch_all(self, sql::ARCHIVE_JOBS, &told).await?;
        archived
            .iter()
            .map(|row| {
                Ok(ArchivedJob {
                    id: rows::id(row, "id")?,
                    recording_id: rows::id(row, "recording_id")?,
                    saved: intake::saved(row)?,
                })
            })
            .collect()
    }

    async fn count_open_jobs(&mut self, changes: &[(RecordingId, i64)]) -> Result<()> {
        let query = sqlx::query(sql::COUNT_OPEN).bind(to_json(&changes)?);
        rows::execute(self, query).await.map(drop)
    }

    async fn count_archived(&mut self, archived: &[(RecordingId, i64)]) -> Result<bool> {
        let counted = rows::fetch_all(self, sql::COUNT_ARCHIVED, &archived).await?;
        let has_open_failures = counted
            .first()
            .map(|row| rows::get(row, "has_open_failures"));
        Ok(has_open_failures.transpose()? == Some(true))
    }

    async fn failures_to_cure(&mut self, by: &[RecordingId]) -> Result<Vec<FailureToCure>> {
        let found = rows::fetch_all(self, sql::LOSSES_TO_CURE, &by).await?;
        Ok(rows::readable(&found, |row| {
            Ok(FailureToCure {
                cured_by: rows::id(row, "cured_by")?,
                id: rows::id(row, "id")?,
                loss: intake::loss(row)?,
                recording_id: rows::id(row, "recording_id")?,
                recording: rows::facts(row)?,
            })
        }))
    }

    async fn recording_facts(&mut self, recording: RecordingId) -> Result<Recording> {
        let query = sqlx::query(sql::RECORDING_BY_ID).bind(recording.to_string());
        match rows::optional(self, query).await? {
            Some(row) => rows::facts(&row),
            None => Err(damaged(format!("recording {recording} is not there"))),
        }
    }

    async fn pause_jobs(&mut self, until: Timestamp, class: Class, message: &str) -> Result<u64> {
        let query = sqlx::query(sql::PAUSE)
            .bind(millis(until))
            .bind(class.as_str())
            .bind(clean(message));
        Ok(rows::execute(self, query).await?.rows_affected())
    }

    async fn wake_jobs(&mut self, class: Class) -> Result<Vec<JobId>> {
        let woken = rows::all(self, sqlx::query(sql::WAKE).bind(class.as_str())).await?;
        Ok(rows::readable(&woken, |row| rows::id(row, "id")))
    }
}

/// The arguments that all statements about due jobs have in common.
fn due(
    statement: &'static str,
    is_small: bool,
    times: &DueTimes,
    third: i64,
    unsettled_leases: i64,
) -> Query<'static, Sqlite, SqliteArguments> {
    let (lapsed_by, lapsed_beyond) = lapses(times);
    sqlx::query(statement)
        .bind(i64::from(is_small))
        .bind(millis(times.now))
        .bind(third)
        .bind(millis(times.beyond))
        .bind(lapsed_by)
        .bind(lapsed_beyond)
        .bind(unsettled_leases)
}

/// Leases that ended by the first, or end after the second, have lapsed.
fn lapses(times: &DueTimes) -> (i64, i64) {
    match times.takes_lapsed {
        true => (millis(times.now), millis(times.beyond)),
        false => (i64::MIN, i64::MAX),
    }
}

fn read<T>(
    row: &SqliteRow,
    read: impl Fn(&SqliteRow) -> Result<T>,
) -> Result<Result<T, UnreadableJob>> {
    let unreadable = |why: Error| {
        let id = rows::get(row, "id")?;
        Ok(Err(UnreadableJob { id, why }))
    };
    read(row).map(Ok).or_else(unreadable)
}

fn candidate(row: &SqliteRow) -> Result<Candidate> {
    let id = rows::id(row, "id")?;
    let latest_start = rows::get(row, "latest_start")?;
    let is_upper_bound = rows::get::<i64>(row, "is_upper_bound")? != 0;
    Ok(Candidate {
        id,
        recording_id: rows::id(row, "recording_id")?,
        state: rows::named(row, "state", State::parse)?,
        urgency: Urgency::stored(id, latest_start, is_upper_bound),
        unsettled_leases: rows::get(row, "unsettled_leases")?,
        token: rows::get(row, "lease_token")?,
    })
}

/// A settlement as [`sql::ARCHIVE_JOBS`] takes it apart.
fn told(settlement: &Settlement) -> impl serde::Serialize {
    let Settlement {
        lease,
        archived,
        now,
    } = settlement;
    (
        lease.job,
        lease.token,
        archived.key.clone(),
        length(archived.size_bytes),
        archived.crc64nvme.clone(),
        archived.sha256.clone(),
        archived.etag.clone(),
        archived.version_id.clone(),
        millis(*now),
    )
}

fn written(rows: u64) -> LeaseWrite {
    match rows {
        0 => LeaseWrite::Stale,
        _ => LeaseWrite::Yes,
    }
}
