//! Recordings with their jobs and losses, from the store onto shelves and back.

use jiff::Timestamp;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::rows::{self, NewRow, row};
use crate::error::Result;
use crate::model::artifact::is_small;
use crate::model::{Artifact, EventId, Kind, Provider, RecordingId, State};
use crate::store::cure::{self, Loss, Saved};
use crate::store::intake::{Change, JobSlot, LossSlot, Shelf};
use crate::store::sql;
use crate::store::stored::{clean, from_origin, length, millis, to_json};

/// The shelves of these rows of `recordings`.
pub(super) async fn load(conn: &mut SqliteConnection, found: Vec<SqliteRow>) -> Result<Vec<Shelf>> {
    let mut shelves = found.iter().map(empty_shelf).collect::<Result<Vec<_>>>()?;
    if shelves.is_empty() {
        return Ok(shelves);
    }
    let ids: Vec<RecordingId> = shelves.iter().map(|shelf| shelf.id).collect();
    for row in rows::fetch_all(conn, sql::JOB_SLOTS, &ids).await? {
        shelf_of(&mut shelves, &row)?.jobs.push(job_slot(&row)?);
    }
    for row in rows::fetch_all(conn, sql::LOSS_SLOTS, &ids).await? {
        let slot = LossSlot {
            id: rows::id(&row, "id")?,
            loss_key: rows::get(&row, "loss_key")?,
            loss: loss(&row)?,
            is_open: rows::get::<Option<i64>>(&row, "withdrawn_at")?.is_none(),
            change: Change::Kept,
            report: None,
        };
        shelf_of(&mut shelves, &row)?.losses.push(slot);
    }
    for row in rows::fetch_all(conn, sql::ANSWERED, &ids).await? {
        let lookup = rows::id(&row, "lookup_id")?;
        let identity = rows::get(&row, "identity")?;
        shelf_of(&mut shelves, &row)?
            .answered
            .insert(identity, lookup);
    }
    Ok(shelves)
}

/// Writes what is new or different about the recordings themselves. Jobs and events refer to them,
/// so this comes first.
pub(super) async fn write_recordings(
    conn: &mut SqliteConnection,
    shelves: &[&mut Shelf],
) -> Result<()> {
    let made: Vec<_> = shelves
        .iter()
        .filter(|shelf| shelf.change == Change::Made)
        .map(|shelf| Ok(recording_row(shelf)))
        .collect();
    rows::insert(conn, "recordings", made.into_iter()).await?;
    let altered = shelves
        .iter()
        .filter(|shelf| shelf.change == Change::Altered);
    for shelf in altered {
        let facts = &shelf.facts;
        let query = sqlx::query(sql::UPDATE_RECORDING)
            .bind(shelf.id.to_string())
            .bind(facts.recording_id.as_deref())
            .bind(facts.bot_id.as_deref())
            .bind(facts.session_id.as_deref())
            .bind(facts.room_id.as_deref())
            .bind(facts.room_name.as_deref())
            .bind(facts.started_at.map(millis))
            .bind(facts.ended_at.map(millis))
            .bind(open_jobs(shelf));
        rows::execute(conn, query).await?;
    }
    Ok(())
}

/// Writes the jobs, losses and answers that are new or different.
pub(super) async fn write_contents(
    conn: &mut SqliteConnection,
    shelves: &[&mut Shelf],
) -> Result<()> {
    let (mut jobs, mut losses) = (Vec::new(), Vec::new());
    for shelf in shelves {
        for job in &shelf.jobs {
            match (job.change, &job.fresh) {
                (Change::Made, Some(artifact)) => jobs.push((&**shelf, job, artifact)),
                (Change::Altered, Some(artifact)) => refresh(conn, shelf, job, artifact).await?,
                (Change::Altered, None) => announce_archived(conn, job).await?,
                (Change::Made, None) | (Change::Kept, _) => {}
            }
        }
        for slot in &shelf.losses {
            match slot.change {
                Change::Made => losses.push(Ok(loss_row(shelf, slot))),
                Change::Altered => withdraw(conn, slot.id, shelf.changed_at).await?,
                Change::Kept => {}
            }
        }
        for identity in &shelf.asked_again {
            let query = sqlx::query(sql::FORGET_ANSWER)
                .bind(shelf.id.to_string())
                .bind(identity);
            rows::execute(conn, query).await?;
        }
    }
    let jobs = jobs.into_iter();
    let jobs = jobs.map(|(shelf, job, artifact)| job_row(shelf, job, artifact));
    rows::insert(conn, "jobs", jobs).await?;
    rows::insert(conn, "provider_failures", losses.into_iter()).await
}

/// A failure without a recording's id may be about a recording that was saved from a later event already.
pub(super) async fn find_cures_elsewhere(
    conn: &mut SqliteConnection,
    shelf: &mut Shelf,
) -> Result<()> {
    let has_new = shelf
        .losses
        .iter()
        .any(|slot| slot.change == Change::Made && slot.is_open);
    let Some(room) = shelf.facts.room_name.as_deref().filter(|_| has_new) else {
        return Ok(());
    };
    if shelf.facts.identity().is_some() {
        return Ok(());
    }
    let query = sqlx::query(sql::SAVED_IN_ROOM)
        .bind(&shelf.source)
        .bind(room);
    for row in rows::all(conn, query).await? {
        let (there, saved) = (rows::facts(&row)?, saved(&row)?);
        let announced_at = rows::time(&row, "announced_at")?;
        for slot in &mut shelf.losses {
            let is_new = slot.change == Change::Made;
            let is_earlier = slot.loss.at <= announced_at;
            let is_its_cure = cure::is_about(&shelf.facts, slot.loss.at, &there)
                && cure::cures(&saved, &slot.loss);
            if is_new && is_earlier && is_its_cure {
                slot.is_open = false;
            }
        }
    }
    Ok(())
}

/// Notes that a loss is cured.
pub(super) async fn withdraw(
    conn: &mut SqliteConnection,
    failure: uuid::Uuid,
    now: Timestamp,
) -> Result<()> {
    let query = sqlx::query(sql::WITHDRAW_FAILURE)
        .bind(failure.to_string())
        .bind(millis(now));
    rows::execute(conn, query).await?;
    Ok(())
}

/// The loss in a row of `provider_failures`.
pub(super) fn loss(row: &SqliteRow) -> Result<Loss> {
    Ok(Loss {
        event: rows::id(row, "event_id")?,
        kind: match rows::get::<Option<&str>>(row, "kind")? {
            Some(_) => Some(rows::kind(row)?),
            None => None,
        },
        at: rows::time(row, "at")?,
    })
}

/// The artifact in a row of `jobs`, as far as it can cure a loss.
pub(super) fn saved(row: &SqliteRow) -> Result<Saved> {
    Ok(Saved {
        announced_by: rows::optional_id::<EventId>(row, "announced_by")?,
        kind: rows::kind(row)?,
        is_inline: rows::get::<String>(row, "origin_kind")? == "inline",
    })
}

fn shelf_of<'a>(shelves: &'a mut [Shelf], row: &SqliteRow) -> Result<&'a mut Shelf> {
    let id: RecordingId = rows::id(row, "recording_id")?;
    shelves
        .iter_mut()
        .find(|shelf| shelf.id == id)
        .ok_or_else(|| crate::store::stored::damaged(format!("recording {id} is not there")))
}

fn empty_shelf(row: &SqliteRow) -> Result<Shelf> {
    let created_at = rows::time(row, "created_at")?;
    Ok(Shelf {
        id: rows::id(row, "id")?,
        source: rows::get(row, "source")?,
        provider: rows::named(row, "provider", Provider::named)?,
        recording_key: rows::get(row, "recording_key")?,
        facts: rows::facts(row)?,
        date: rows::date(row, "folder_date")?,
        folder: rows::get(row, "folder")?,
        created_at,
        changed_at: created_at,
        change: Change::Kept,
        jobs: Vec::new(),
        losses: Vec::new(),
        answered: std::collections::HashMap::new(),
        asked_again: Vec::new(),
        index: None,
    })
}

fn job_slot(row: &SqliteRow) -> Result<JobSlot> {
    let saved = saved(row)?;
    Ok(JobSlot {
        id: rows::id(row, "id")?,
        identity: rows::get(row, "identity")?,
        name: rows::get(row, "name")?,
        kind: saved.kind,
        is_inline: saved.is_inline,
        state: rows::named(row, "state", State::parse)?,
        announced_by: saved.announced_by,
        announced_at: rows::time(row, "announced_at")?,
        found_by: rows::optional_id(row, "found_by")?,
        change: Change::Kept,
        fresh: None,
    })
}

fn open_jobs(shelf: &Shelf) -> i64 {
    let open = shelf.jobs.iter().filter(|job| !job.state.is_settled());
    length(open.count() as u64)
}

fn recording_row(shelf: &Shelf) -> NewRow {
    let facts = &shelf.facts;
    row!({
        "id": shelf.id,
        "source": &shelf.source,
        "provider": shelf.provider.as_str(),
        "recording_key": &shelf.recording_key,
        "provider_id": facts.recording_id.as_deref(),
        "bot_id": facts.bot_id.as_deref(),
        "session_id": facts.session_id.as_deref(),
        "room_id": facts.room_id.as_deref(),
        "room_name": facts.room_name.as_deref(),
        "started_at": facts.started_at.map(millis),
        "ended_at": facts.ended_at.map(millis),
        "folder_date": shelf.date,
        "folder": &shelf.folder,
        "generation": 1,
        "open_jobs": open_jobs(shelf),
        "created_at": millis(shelf.created_at),
    })
}

fn job_row(shelf: &Shelf, job: &JobSlot, artifact: &Artifact) -> Result<NewRow> {
    let (origin_kind, origin) = from_origin(&artifact.origin)?;
    let failure = job.failure();
    let now = millis(shelf.changed_at);
    Ok(row!({
        "id": job.id,
        "recording_id": shelf.id,
        "identity": &job.identity,
        "name": &job.name,
        "kind": artifact.kind.as_str(),
        "format": artifact.format.as_str(),
        "key": shelf.key_of(job),
        "state": job.state.as_str(),
        "is_small": i64::from(artifact.is_small()),
        "origin_kind": origin_kind,
        "origin": origin,
        "remint": artifact.remint.as_ref().map(to_json).transpose()?,
        "deadline": artifact.deadline.at.map(millis),
        "deadline_from": artifact.deadline.from.as_str(),
        "is_upper_bound": i64::from(artifact.deadline.is_upper_bound),
        "latest_start": millis(artifact.deadline.latest_start(artifact.size_bytes)),
        "announced_size": artifact.size_bytes.map(length),
        "announced_by": job.announced_by,
        "announced_at": millis(job.announced_at),
        "found_by": job.found_by,
        // Not `now`: a clock that is set back would hide what was recorded before.
        "next_attempt_at": 0,
        "class": failure.map(|(class, _)| class.as_str()),
        "message": failure.map(|(_, why)| clean(why)),
        "created_at": now,
        "changed_at": now,
    }))
}

fn loss_row(shelf: &Shelf, slot: &LossSlot) -> NewRow {
    let report = slot.report.as_ref();
    let failure = report.map(|report| &report.failure);
    row!({
        "id": slot.id,
        "recording_id": shelf.id,
        "event_id": slot.loss.event,
        "event_name": report.map(|report| &report.event_name),
        "loss_key": &slot.loss_key,
        "class": failure.map(|failure| failure.class.as_str()),
        "code": failure.and_then(|failure| failure.code.as_deref()),
        "message": failure.map(|failure| &failure.message),
        "kind": slot.loss.kind.map(Kind::as_str),
        "at": millis(slot.loss.at),
        "received_at": report.map(|report| millis(report.received_at)),
        "withdrawn_at": (!slot.is_open).then(|| millis(shelf.changed_at)),
    })
}

async fn refresh(
    conn: &mut SqliteConnection,
    shelf: &Shelf,
    job: &JobSlot,
    artifact: &Artifact,
) -> Result<()> {
    let (origin_kind, origin) = from_origin(&artifact.origin)?;
    let deadline = &artifact.deadline;
    // The kind is the job's: only where its bytes are has changed.
    let is_small = is_small(job.kind, &artifact.origin);
    let query = sqlx::query(sql::REFRESH_JOB)
        .bind(job.id.to_string())
        .bind(job.announced_by.map(|id| id.to_string()))
        .bind(millis(job.announced_at))
        .bind(job.found_by.map(|id| id.to_string()))
        .bind(origin_kind)
        .bind(origin)
        .bind(artifact.remint.as_ref().map(to_json).transpose()?)
        .bind(deadline.at.map(millis))
        .bind(deadline.from.as_str())
        .bind(i64::from(deadline.is_upper_bound))
        .bind(millis(deadline.latest_start(artifact.size_bytes)))
        .bind(i64::from(is_small))
        .bind(artifact.size_bytes.map(length))
        .bind(millis(shelf.changed_at));
    rows::execute(conn, query).await?;
    Ok(())
}

async fn announce_archived(conn: &mut SqliteConnection, job: &JobSlot) -> Result<()> {
    let query = sqlx::query(sql::ANNOUNCE_ARCHIVED)
        .bind(job.id.to_string())
        .bind(job.announced_by.map(|id| id.to_string()))
        .bind(millis(job.announced_at))
        .bind(job.found_by.map(|id| id.to_string()));
    rows::execute(conn, query).await?;
    Ok(())
}
