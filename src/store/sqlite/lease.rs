//! Leases: taking them, keeping them, writing under them. Each function runs inside a transaction of the writer.

use jiff::Timestamp;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::rows;
use super::settle::give_up;
use crate::error::{Class, Error, Result};
use crate::model::artifact::is_small;
use crate::model::{Artifact, Checkpoint, JobId, Lease, RecordingId, State};
use crate::store::stored::{clean, from_origin, length, millis, to_json};
use crate::store::{Claim, Claimed, Written, sql};

/// A job whose lease was never given back this many times in a row takes its workers down with it
/// (or freezes them): it has had its chances.
pub(in crate::store) const MAX_UNSETTLED_LEASES: i64 = 20;

/// Leases what is due, least slack first.
pub(super) async fn claim(conn: &mut SqliteConnection, claim: Claim) -> Result<Vec<Claimed>> {
    let wanted = claim.limit as usize;
    let mut claimed = match &claim.only {
        // Of no more than are wanted none need be chosen, and mostly all of them can be leased.
        Some(only) if only.len() <= wanted => {
            let leased = lease(conn, only, &claim).await?;
            if leased.len() == only.len() {
                return Ok(leased);
            }
            leased
        }
        _ => Vec::new(),
    };
    while claimed.len() < wanted {
        let missing = wanted - claimed.len();
        let candidates = candidates(conn, &claim, missing).await?;
        if candidates.is_empty() {
            break;
        }
        let (deadly, sound): (Vec<_>, Vec<_>) = candidates
            .into_iter()
            .partition(|candidate| candidate.unsettled_leases >= MAX_UNSETTLED_LEASES);
        for candidate in deadly {
            give_up_deadly(conn, &candidate, claim.now).await?;
        }
        if !sound.is_empty() {
            let ids: Vec<_> = sound.iter().map(|candidate| candidate.id).collect();
            claimed.extend(lease(conn, &ids, &claim).await?);
        }
    }
    Ok(claimed)
}

struct Candidate {
    id: JobId,
    recording_id: RecordingId,
    state: State,
    /// Its place in the queue.
    order: (i64, bool, JobId),
    unsettled_leases: i64,
}

/// The first of the due and of the lapsed ones, in one order.
async fn candidates(
    conn: &mut SqliteConnection,
    claim: &Claim,
    limit: usize,
) -> Result<Vec<Candidate>> {
    let statement = match claim.only {
        None => sql::DUE,
        Some(_) => sql::DUE_OF,
    };
    let mut query = sqlx::query(statement)
        .bind(i64::from(claim.is_small))
        .bind(millis(claim.now))
        .bind(length(limit as u64));
    if let Some(only) = &claim.only {
        query = query.bind(to_json(only)?);
    }
    let found = rows::all(conn, query).await?;
    let mut candidates = Vec::with_capacity(found.len());
    for row in &found {
        match Candidate::of(row) {
            Ok(candidate) => candidates.push(candidate),
            Err(error) => give_up_unreadable(conn, row, &error, claim.now).await?,
        }
    }
    candidates.sort_by_key(|candidate| candidate.order);
    candidates.truncate(limit);
    Ok(candidates)
}

impl Candidate {
    fn of(row: &SqliteRow) -> Result<Candidate> {
        let id = rows::id(row, "id")?;
        let is_upper_bound = rows::get::<i64>(row, "is_upper_bound")? != 0;
        Ok(Candidate {
            id,
            recording_id: rows::id(row, "recording_id")?,
            state: rows::named(row, "state", State::parse)?,
            order: (rows::get(row, "latest_start")?, !is_upper_bound, id),
            unsettled_leases: rows::get(row, "unsettled_leases")?,
        })
    }
}

/// Leases those of `jobs` that are due, least slack first. All at once: each statement is a way to the connection's thread and
/// back.
async fn lease(conn: &mut SqliteConnection, jobs: &[JobId], claim: &Claim) -> Result<Vec<Claimed>> {
    let query = sqlx::query(sql::LEASE_JOBS)
        .bind(to_json(&jobs)?)
        .bind(millis(claim.now))
        .bind(millis(claim.lease_until))
        .bind(&claim.worker)
        .bind(i64::from(claim.is_small))
        .bind(MAX_UNSETTLED_LEASES);
    let leased = rows::all(conn, query).await?;
    let mut claimed = Vec::with_capacity(leased.len());
    for row in &leased {
        match rows::claimed(row) {
            Ok(one) => claimed.push(one),
            Err(error) => give_up_unreadable(conn, row, &error, claim.now).await?,
        }
    }
    claimed.sort_by_key(|claimed| {
        let job = &claimed.job;
        let latest_start = job.deadline.latest_start(job.size_bytes);
        (latest_start, !job.deadline.is_upper_bound, job.id)
    });
    Ok(claimed)
}

async fn give_up_deadly(
    conn: &mut SqliteConnection,
    candidate: &Candidate,
    now: Timestamp,
) -> Result<()> {
    check_move(candidate.state, State::Failed)?;
    let message =
        format!("{MAX_UNSETTLED_LEASES} workers in a row ended or froze while they worked on it");
    give_up(
        conn,
        candidate.id,
        State::Failed,
        Some(Class::Internal),
        &message,
        now,
    )
    .await?;
    touch(conn, candidate.recording_id, Open::OneLess).await
}

/// Ends a job whose row can't be read, so that it does not stand before those that can: a newer harvester wrote it, or it is
/// damaged.
async fn give_up_unreadable(
    conn: &mut SqliteConnection,
    row: &SqliteRow,
    why: &Error,
    now: Timestamp,
) -> Result<()> {
    let id: &str = rows::get(row, "id")?;
    tracing::warn!(job = id, "gave a job up: failed to {}", why.full_message());
    let message = format!(
        "{}; a newer harvester may have written it, which can retry it",
        why.full_message()
    );
    let query = sqlx::query(sql::GIVE_UP_UNREADABLE)
        .bind(id)
        .bind(clean(&message))
        .bind(millis(now));
    let Some(given_up) = rows::optional(conn, query).await? else {
        return Ok(());
    };
    let recording: &str = rows::get(&given_up, "recording_id")?;
    let query = sqlx::query(sql::TOUCH_RECORDING).bind(recording).bind(-1);
    rows::execute(conn, query).await?;
    Ok(())
}

/// Extends leases; answers with those that are lost.
pub(super) async fn heartbeat(
    conn: &mut SqliteConnection,
    leases: Vec<Lease>,
    until: Timestamp,
) -> Result<Vec<JobId>> {
    let mut lost = Vec::new();
    for lease in leases {
        let query = sqlx::query(sql::EXTEND_LEASE)
            .bind(lease.job.to_string())
            .bind(lease.token)
            .bind(millis(until));
        if rows::execute(conn, query).await?.rows_affected() == 0 {
            lost.push(lease.job);
        }
    }
    Ok(lost)
}

/// Lets all leases of `holder` run out now.
pub(super) async fn free(conn: &mut SqliteConnection, holder: String) -> Result<u64> {
    let query = sqlx::query(sql::FREE_LEASES).bind(holder);
    Ok(rows::execute(conn, query).await?.rows_affected())
}

/// Stores or forgets what the bucket has acknowledged.
pub(super) async fn checkpoint(
    conn: &mut SqliteConnection,
    lease: Lease,
    checkpoint: Option<Checkpoint>,
    bytes_done: u64,
) -> Result<Written> {
    let query = sqlx::query(sql::CHECKPOINT)
        .bind(lease.job.to_string())
        .bind(lease.token)
        .bind(checkpoint.as_ref().map(to_json).transpose()?)
        .bind(length(bytes_done));
    Ok(written(rows::execute(conn, query).await?.rows_affected()))
}

/// Replaces a running job's origin.
pub(super) async fn reorigin(
    conn: &mut SqliteConnection,
    lease: Lease,
    artifact: Artifact,
) -> Result<Written> {
    let (origin_kind, origin) = from_origin(&artifact.origin)?;
    let deadline = &artifact.deadline;
    let query = sqlx::query(sql::REORIGIN)
        .bind(lease.job.to_string())
        .bind(lease.token)
        .bind(origin_kind)
        .bind(origin)
        .bind(artifact.remint.as_ref().map(to_json).transpose()?)
        .bind(deadline.at.map(millis))
        .bind(deadline.from.as_str())
        .bind(i64::from(deadline.is_upper_bound))
        .bind(millis(deadline.latest_start(artifact.size_bytes)))
        .bind(artifact.size_bytes.map(length))
        .bind(i64::from(is_small(artifact.kind, &artifact.origin)));
    Ok(written(rows::execute(conn, query).await?.rows_affected()))
}

/// Moves all pending jobs that are due before `until`.
pub(super) async fn pause(
    conn: &mut SqliteConnection,
    until: Timestamp,
    class: Class,
    message: &str,
) -> Result<u64> {
    let query = sqlx::query(sql::PAUSE)
        .bind(millis(until))
        .bind(class.as_str())
        .bind(clean(message));
    Ok(rows::execute(conn, query).await?.rows_affected())
}

/// What a change means for the number of a recording's open jobs.
#[derive(Clone, Copy, Debug)]
pub(super) enum Open {
    AsMany,
    OneLess,
}

/// Notes that a recording's jobs or losses have changed.
pub(super) async fn touch(
    conn: &mut SqliteConnection,
    recording: RecordingId,
    open: Open,
) -> Result<()> {
    let change: i64 = match open {
        Open::AsMany => 0,
        Open::OneLess => -1,
    };
    let query = sqlx::query(sql::TOUCH_RECORDING)
        .bind(recording.to_string())
        .bind(change);
    rows::execute(conn, query).await?;
    Ok(())
}

/// Refuses a move that the table of states does not have: a fault of ours, caught before it is stored.
pub(super) fn check_move(from: State, to: State) -> Result<()> {
    if from.can_become(to) {
        return Ok(());
    }
    Err(Error::internal(format!(
        "move a job from {from} to {to}: there is no such move"
    )))
}

/// The row of a running job under its current lease.
pub(super) async fn leased_row(
    conn: &mut SqliteConnection,
    lease: &Lease,
) -> Result<Option<SqliteRow>> {
    let query = sqlx::query(sql::JOB_BY_LEASE)
        .bind(lease.job.to_string())
        .bind(lease.token);
    rows::optional(conn, query).await
}

fn written(rows: u64) -> Written {
    if rows == 0 {
        Written::Stale
    } else {
        Written::Yes
    }
}
