//! How an attempt ends. Each function runs inside a transaction of the writer.

use jiff::Timestamp;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::archive::{Settlement, archive};
use super::lease::{Open, check_move, leased_row, touch};
use super::record::Ids;
use super::{rows, shelf};
use crate::error::{Class, Result};
use crate::model::{Artifact, JobId, Lease, Outcome, RecordingId, State};
use crate::store::intake::{Announcement, Change, Shelf};
use crate::store::stored::{clean, damaged, millis};
use crate::store::{LONGEST_WAIT, Written, sql};

/// Ends an attempt.
pub(super) async fn settle(
    conn: &mut SqliteConnection,
    lease: Lease,
    outcome: Outcome,
    now: Timestamp,
) -> Result<Written> {
    let Some(row) = leased_row(conn, &lease).await? else {
        return Ok(Written::Stale);
    };
    check_move(State::Running, outcome.state())?;
    let recording_id = rows::id(&row, "recording_id")?;
    // Its URL is dead, but a fresh one came meanwhile: it begins anew with that.
    let has_fresh_origin = rows::get::<i64>(&row, "has_fresh_origin")? != 0;
    let open = match &outcome {
        Outcome::Archived(archived) => {
            let archived = archived.clone();
            let settlement = Settlement {
                lease,
                archived,
                now,
            };
            archive(conn, &[settlement]).await?;
            return Ok(Written::Yes);
        }
        Outcome::Retry {
            at,
            class,
            message,
            is_counted,
        } => {
            let latest = now.saturating_add(LONGEST_WAIT).unwrap_or(Timestamp::MAX);
            let at = if has_fresh_origin { now } else { latest }.min(*at);
            requeue(conn, lease.job, at, *class, message, *is_counted, now).await?;
            Open::AsMany
        }
        Outcome::Expired { message } if has_fresh_origin => {
            requeue(conn, lease.job, now, Class::Expired, message, true, now).await?;
            Open::AsMany
        }
        Outcome::Failed { class, message } if has_fresh_origin => {
            requeue(conn, lease.job, now, *class, message, true, now).await?;
            Open::AsMany
        }
        Outcome::Expired { message } => {
            let class = Some(Class::Expired);
            give_up(conn, lease.job, State::Expired, class, message, now).await?;
            Open::OneLess
        }
        Outcome::Failed { class, message } => {
            give_up(conn, lease.job, State::Failed, Some(*class), message, now).await?;
            Open::OneLess
        }
    };
    touch(conn, recording_id, open).await?;
    Ok(Written::Yes)
}

async fn requeue(
    conn: &mut SqliteConnection,
    job: JobId,
    at: Timestamp,
    class: Class,
    message: &str,
    is_counted: bool,
    now: Timestamp,
) -> Result<()> {
    let query = sqlx::query(sql::REQUEUE_JOB)
        .bind(job.to_string())
        .bind(millis(at))
        .bind(class.as_str())
        .bind(clean(message))
        .bind(i64::from(!is_counted))
        .bind(millis(now));
    rows::execute(conn, query).await?;
    Ok(())
}

/// Ends a job without an object.
pub(super) async fn give_up(
    conn: &mut SqliteConnection,
    job: JobId,
    state: State,
    class: Option<Class>,
    message: &str,
    now: Timestamp,
) -> Result<()> {
    let query = sqlx::query(sql::GIVE_UP_JOB)
        .bind(job.to_string())
        .bind(state.as_str())
        .bind(class.map(Class::as_str))
        .bind(clean(message))
        .bind(millis(now));
    rows::execute(conn, query).await?;
    Ok(())
}

/// What the name of a lookup ends in that has led to jobs and goes on.
const REST: &str = ".rest";

/// Ends a lookup: what it found becomes jobs, and it is a job no more.
pub(super) async fn resolve(
    conn: &mut SqliteConnection,
    lease: Lease,
    found: Vec<Artifact>,
    now: Timestamp,
) -> Result<Written> {
    let Some(row) = leased_row(conn, &lease).await? else {
        return Ok(Written::Stale);
    };
    let recording_id: RecordingId = rows::id(&row, "recording_id")?;
    let identity: String = rows::get(&row, "identity")?;
    let mut shelf = shelf_of(conn, recording_id).await?;
    shelf.jobs.retain(|job| job.id != lease.job);
    announce(&mut shelf, &row, &lease, found, now)?;
    let delete = sqlx::query(sql::DELETE_JOB).bind(lease.job.to_string());
    rows::execute(conn, delete).await?;
    let keep = sqlx::query(sql::KEEP_ANSWER)
        .bind(recording_id.to_string())
        .bind(identity)
        .bind(lease.job.to_string())
        .bind(millis(now));
    rows::execute(conn, keep).await?;
    shelf::write_recordings(conn, &[&mut shelf]).await?;
    shelf::write_contents(conn, &[&mut shelf]).await?;
    Ok(Written::Yes)
}

/// Makes jobs of a part of what a lookup found.
pub(super) async fn add_found(
    conn: &mut SqliteConnection,
    lease: Lease,
    found: Vec<Artifact>,
    now: Timestamp,
) -> Result<Written> {
    let Some(row) = leased_row(conn, &lease).await? else {
        return Ok(Written::Stale);
    };
    let mut shelf = shelf_of(conn, rows::id(&row, "recording_id")?).await?;
    let lookup = shelf.jobs.iter_mut().find(|job| job.id == lease.job);
    let lookup = lookup.ok_or_else(|| damaged(format!("job {} is not there", lease.job)))?;
    if !lookup.name.ends_with(REST) {
        lookup.name.push_str(REST);
        let rename = sqlx::query(sql::RENAME_JOB)
            .bind(lease.job.to_string())
            .bind(&lookup.name);
        rows::execute(conn, rename).await?;
    }
    announce(&mut shelf, &row, &lease, found, now)?;
    shelf::write_recordings(conn, &[&mut shelf]).await?;
    shelf::write_contents(conn, &[&mut shelf]).await?;
    Ok(Written::Yes)
}

/// Announces what the lookup of `row` found.
fn announce(
    shelf: &mut Shelf,
    row: &SqliteRow,
    lease: &Lease,
    found: Vec<Artifact>,
    now: Timestamp,
) -> Result<()> {
    let announcement = Announcement {
        event: rows::optional_id(row, "announced_by")?,
        at: now,
        found_by: Some(lease.job),
    };
    shelf.change = Change::Altered;
    shelf.changed_at = now;
    let mut ids = Ids::default();
    for artifact in found {
        shelf.announce(artifact, announcement, &mut || ids.fresh(now));
    }
    Ok(())
}

async fn shelf_of(conn: &mut SqliteConnection, recording: RecordingId) -> Result<Shelf> {
    let query = sqlx::query(sql::RECORDING_BY_ID).bind(recording.to_string());
    let row = rows::all(conn, query).await?;
    let mut shelves = shelf::load(conn, row).await?;
    shelves
        .pop()
        .ok_or_else(|| damaged(format!("recording {recording} is not there")))
}
