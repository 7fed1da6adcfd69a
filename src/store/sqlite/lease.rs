//! Leases: taking them, keeping them, writing under them. Each function runs inside a transaction of the writer.

use jiff::{SignedDuration, Timestamp};
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::rows;
use super::settle::give_up;
use crate::error::{Class, Error, Result};
use crate::model::artifact::is_small;
use crate::model::{Artifact, Checkpoint, JobId, Lease, RecordingId, State};
use crate::store::stored::{clean, from_origin, length, millis, to_json};
use crate::store::{Claim, Claimed, LONGEST_WAIT, Written, sql};

/// A job whose lease was never given back this many times in a row takes its workers down with it
/// (or freezes them): it has had its chances.
pub(in crate::store) const MAX_UNSETTLED_LEASES: i64 = 20;

/// From this many unsettled leases on a job is a suspect.
const SUSPECT_LEASES: i64 = 2;

/// How far beyond the longest wait a time must lie to have been written by a clock that was set back since.
const BACKSTEP: SignedDuration = SignedDuration::from_secs(60);

/// Leases what is due, least slack first. A suspect comes before all others: no more than one has a place.
pub(super) async fn claim(conn: &mut SqliteConnection, claim: Claim) -> Result<Vec<Claimed>> {
    let wanted = claim.limit as usize;
    let mut claimed = match &claim.only {
        // Of no more than are wanted none need be chosen, and mostly all of them can be leased.
        Some(only) if only.len() <= wanted => {
            let leased = lease(conn, only, &claim, SUSPECT_LEASES).await?;
            if leased.len() == only.len() {
                return Ok(leased);
            }
            leased
        }
        _ => Vec::new(),
    };
    while claimed.len() < wanted {
        let missing = wanted - claimed.len();
        let (found, mut is_short) = candidates(conn, &claim, missing).await?;
        let (ours, others): (Vec<_>, Vec<_>) = found
            .into_iter()
            .partition(|candidate| candidate.is_held(&claim));
        extend(conn, &ours, &claim).await?;
        let (suspects, sound): (Vec<_>, Vec<_>) =
            others.into_iter().partition(Candidate::is_suspect);
        if let Some(suspect) = next_suspect(conn, suspects, &claim).await? {
            claimed.extend(lease(conn, &[suspect], &claim, MAX_UNSETTLED_LEASES).await?);
        }
        let missing = wanted.saturating_sub(claimed.len());
        let ids: Vec<_> = sound.iter().map(|one| one.id).take(missing).collect();
        if !ids.is_empty() {
            let leased = lease(conn, &ids, &claim, SUSPECT_LEASES).await?;
            is_short |= leased.len() < ids.len();
            claimed.extend(leased);
        }
        // Only what can't be read, and what is ours and not due at all, may have kept others from being found.
        if ours.is_empty() && !is_short {
            break;
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
    token: i64,
}

/// The first of the due and of the lapsed ones, in one order, and all suspects; and whether some could not be read.
async fn candidates(
    conn: &mut SqliteConnection,
    claim: &Claim,
    limit: usize,
) -> Result<(Vec<Candidate>, bool)> {
    let statement = match claim.only {
        None => sql::DUE,
        Some(_) => sql::DUE_OF,
    };
    let mut query = due(statement, claim, length(limit as u64), SUSPECT_LEASES);
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
    let is_short = candidates.len() < found.len();
    candidates.sort_by_key(|candidate| candidate.order);
    Ok((candidates, is_short))
}

/// The arguments that all statements about due jobs have in common.
fn due<'q>(
    statement: &'static str,
    claim: &Claim,
    third: i64,
    unsettled_leases: i64,
) -> sqlx::query::Query<'q, sqlx::Sqlite, sqlx::sqlite::SqliteArguments> {
    let (lapsed_by, lapsed_beyond) = lapses(claim);
    sqlx::query(statement)
        .bind(i64::from(claim.is_small))
        .bind(millis(claim.now))
        .bind(third)
        .bind(beyond(claim))
        .bind(lapsed_by)
        .bind(lapsed_beyond)
        .bind(unsettled_leases)
}

/// What is due after this was written before a clock was set back.
fn beyond(claim: &Claim) -> i64 {
    let longest = LONGEST_WAIT.saturating_add(BACKSTEP);
    millis(claim.now.saturating_add(longest).unwrap_or(Timestamp::MAX))
}

/// Leases that ended by the first, or end after the second, have lapsed.
fn lapses(claim: &Claim) -> (i64, i64) {
    match claim.takes_lapsed {
        true => (millis(claim.now), beyond(claim)),
        false => (i64::MIN, i64::MAX),
    }
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
            token: rows::get(row, "lease_token")?,
        })
    }

    fn is_suspect(&self) -> bool {
        self.unsettled_leases >= SUSPECT_LEASES
    }

    fn is_held(&self, claim: &Claim) -> bool {
        self.state == State::Running
            && claim
                .held
                .iter()
                .any(|lease| lease.job == self.id && lease.token == self.token)
    }
}

/// Leases that their holder still has, though the clock says that they are over: it was set, or the machine stood still.
async fn extend(conn: &mut SqliteConnection, ours: &[Candidate], claim: &Claim) -> Result<()> {
    // Later than now in any case, so that they are not found again.
    let until = millis(claim.lease_until).max(millis(claim.now) + 1);
    for candidate in ours {
        let query = sqlx::query(sql::EXTEND_LEASE)
            .bind(candidate.id.to_string())
            .bind(candidate.token)
            .bind(until);
        rows::execute(conn, query).await?;
    }
    Ok(())
}

/// The suspect to lease now, if none is on its way. Those that have had their chances are given up.
async fn next_suspect(
    conn: &mut SqliteConnection,
    suspects: Vec<Candidate>,
    claim: &Claim,
) -> Result<Option<JobId>> {
    if suspects.is_empty() {
        return Ok(None);
    }
    let (deadly, suspects): (Vec<_>, Vec<_>) = suspects
        .into_iter()
        .partition(|candidate| candidate.unsettled_leases >= MAX_UNSETTLED_LEASES);
    for candidate in &deadly {
        give_up_deadly(conn, candidate, claim.now).await?;
    }
    if !deadly.is_empty() {
        let query = sqlx::query(sql::CLEAR_SUSPECTS).bind(SUSPECT_LEASES);
        rows::execute(conn, query).await?;
        // Found again, as jobs like all others, by the next claim.
        return Ok(None);
    }
    let (lapsed_by, lapsed_beyond) = lapses(claim);
    let query = sqlx::query(sql::SUSPECT_IS_RUNNING)
        .bind(SUSPECT_LEASES)
        .bind(lapsed_by)
        .bind(lapsed_beyond);
    let is_running = match rows::optional(conn, query).await? {
        Some(row) => rows::get::<i64>(&row, "is_running")? != 0,
        None => false,
    };
    let least = suspects
        .iter()
        .min_by_key(|suspect| (suspect.unsettled_leases, suspect.order));
    Ok(least.filter(|_| !is_running).map(|suspect| suspect.id))
}

/// Leases those of `jobs` that are due and were leased fewer than `unsettled_leases` times in a row, least slack first. All
/// at once: each statement is a way to the connection's thread and back.
async fn lease(
    conn: &mut SqliteConnection,
    jobs: &[JobId],
    claim: &Claim,
    unsettled_leases: i64,
) -> Result<Vec<Claimed>> {
    let until = millis(claim.lease_until);
    let query = due(sql::LEASE_JOBS, claim, until, unsettled_leases)
        .bind(to_json(&jobs)?)
        .bind(&claim.worker);
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

/// Makes the pending jobs of a class due.
pub(super) async fn wake(conn: &mut SqliteConnection, class: Class) -> Result<u64> {
    let query = sqlx::query(sql::WAKE).bind(class.as_str());
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
