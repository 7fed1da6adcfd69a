//! Taking in events: recordings with their jobs and failures, from their rows onto shelves and back.

use std::collections::HashMap;

use async_trait::async_trait;
use jiff::Timestamp;
use jiff::civil::Date;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use super::rows::{self, NewRow, row};
use super::sql;
use crate::error::{Class, Result};
use crate::model::artifact::is_small;
use crate::model::{Deadline, DeadlineFrom, EventId, JobId, Kind, Provider, RecordingId, State};
use crate::schedule::order::Urgency;
use crate::store::intake::{JobSlot, LossSlot, PendingChange, RecordingChanges};
use crate::store::recovery::{AnnouncedFailure, RecoveredArtifact};
use crate::store::renewal::UnarchivedJob;
use crate::store::stored::{
    clean, count, damaged, from_origin, from_raw, json, length, millis, to_json, to_origin,
};
use crate::store::tx::{FailureRow, IntakeTx, JobRow, Pair, Receipt, SavedInRoom};
use crate::store::{NewEvent, Recorded};

#[async_trait]
impl IntakeTx for SqliteConnection {
    async fn receipts(&mut self, keys: &[Pair]) -> Result<HashMap<Pair, Receipt>> {
        let rows = rows::fetch_all(self, sql::RECEIPTS, &keys).await?;
        let mut receipts = HashMap::with_capacity(rows.len());
        for row in rows {
            let jobs: String = rows::get(&row, "job_ids")?;
            let receipt = Receipt {
                event_id: rows::id(&row, "id")?,
                recording_id: rows::optional_id(&row, "recording_id")?,
                jobs: json("the jobs of an event", &jobs)?,
            };
            let pair = (rows::get(&row, "source")?, rows::get(&row, "dedupe_key")?);
            receipts.insert(pair, receipt);
        }
        Ok(receipts)
    }

    async fn unsaved_files(&mut self, recordings: &[RecordingId]) -> Result<Vec<UnarchivedJob>> {
        let rows = rows::fetch_all(self, sql::UNSAVED_FILES, &recordings).await?;
        Ok(rows::readable(&rows, standing))
    }

    async fn recordings_by_key(&mut self, keys: &[Pair]) -> Result<Vec<RecordingChanges>> {
        let rows = rows::fetch_all(self, sql::RECORDINGS_BY_KEY, &keys).await?;
        load(self, rows).await
    }

    async fn recording(&mut self, id: RecordingId) -> Result<Option<RecordingChanges>> {
        let query = sqlx::query(sql::RECORDING_BY_ID).bind(id.to_string());
        let rows = rows::all(self, query).await?;
        Ok(load(self, rows).await?.pop())
    }

    async fn session_dates(&mut self, sessions: &[Pair]) -> Result<HashMap<Pair, Date>> {
        let mut dates = HashMap::new();
        for row in rows::fetch_all(self, sql::SESSION_DATES, &sessions).await? {
            let pair = (rows::get(&row, "source")?, rows::get(&row, "session_id")?);
            let date = rows::date(&row, "folder_date")?;
            // The oldest recording comes first: the session's first event has fixed its date.
            dates.entry(pair).or_insert(date);
        }
        Ok(dates)
    }

    async fn saved_in_room(&mut self, source: &str, room: &str) -> Result<Vec<SavedInRoom>> {
        let query = sqlx::query(sql::SAVED_IN_ROOM).bind(source).bind(room);
        let found = rows::all(self, query).await?;
        found
            .iter()
            .map(|row| {
                Ok(SavedInRoom {
                    recording: rows::facts(row)?,
                    saved: saved(row)?,
                    announced_at: rows::time(row, "announced_at")?,
                })
            })
            .collect()
    }

    async fn insert_recordings(&mut self, recordings: &[&RecordingChanges]) -> Result<()> {
        let rows: Vec<_> = recordings
            .iter()
            .map(|one| Ok(recording_row(one)))
            .collect();
        rows::insert(self, "recordings", rows.into_iter()).await
    }

    async fn update_recordings(&mut self, recordings: &[&RecordingChanges]) -> Result<()> {
        for shelf in recordings {
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
                .bind(shelf.open_jobs());
            rows::execute(self, query).await?;
        }
        Ok(())
    }

    async fn insert_events(&mut self, events: &[(&NewEvent, Recorded)]) -> Result<()> {
        let rows = events
            .iter()
            .map(|(new, recorded)| event_row(new, recorded));
        let rows: Vec<_> = rows.collect();
        rows::insert(self, "events", rows.into_iter()).await
    }

    async fn insert_jobs(&mut self, jobs: &[JobRow<'_>]) -> Result<()> {
        rows::insert(self, "jobs", jobs.iter().map(job_row)).await
    }

    async fn refresh_jobs(&mut self, jobs: &[JobRow<'_>]) -> Result<()> {
        for job in jobs {
            refresh(self, job).await?;
        }
        Ok(())
    }

    async fn announce_archived(&mut self, jobs: &[&JobSlot]) -> Result<()> {
        let told: Vec<_> = jobs
            .iter()
            .map(|job| {
                let at = millis(job.announced_at);
                (job.id, job.announced_by, at, job.found_by)
            })
            .collect();
        execute_unless_empty(self, sql::ANNOUNCE_ARCHIVED, &told).await
    }

    async fn insert_failures(&mut self, failures: &[FailureRow<'_>]) -> Result<()> {
        let rows = failures.iter().map(|failure| Ok(loss_row(failure)));
        rows::insert(self, "provider_failures", rows).await
    }

    async fn withdraw_failures(&mut self, failures: &[(Uuid, Timestamp)]) -> Result<()> {
        let withdrawn: Vec<_> = failures.iter().map(|(id, at)| (id, millis(*at))).collect();
        execute_unless_empty(self, sql::WITHDRAW_FAILURES, &withdrawn).await
    }

    async fn forget_answers(&mut self, lookups: &[(RecordingId, &str)]) -> Result<()> {
        execute_unless_empty(self, sql::FORGET_ANSWERS, lookups).await
    }

    async fn keep_answer(
        &mut self,
        recording: RecordingId,
        identity: &str,
        job: JobId,
        now: Timestamp,
    ) -> Result<()> {
        let query = sqlx::query(sql::KEEP_ANSWER)
            .bind(recording.to_string())
            .bind(identity)
            .bind(job.to_string())
            .bind(millis(now));
        rows::execute(self, query).await.map(drop)
    }

    async fn delete_job(&mut self, job: JobId) -> Result<()> {
        let query = sqlx::query(sql::DELETE_JOB).bind(job.to_string());
        rows::execute(self, query).await.map(drop)
    }

    async fn rename_job(&mut self, job: JobId, name: &str) -> Result<()> {
        let query = sqlx::query(sql::RENAME_JOB)
            .bind(job.to_string())
            .bind(name);
        rows::execute(self, query).await.map(drop)
    }
}

async fn execute_unless_empty<T: serde::Serialize>(
    conn: &mut SqliteConnection,
    statement: &'static str,
    list: &[T],
) -> Result<()> {
    if list.is_empty() {
        return Ok(());
    }
    let query = sqlx::query(statement).bind(to_json(&list)?);
    rows::execute(conn, query).await.map(drop)
}

/// The shelves of these rows of `recordings`.
async fn load(conn: &mut SqliteConnection, found: Vec<SqliteRow>) -> Result<Vec<RecordingChanges>> {
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
            change: PendingChange::Kept,
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

/// The loss in a row of `provider_failures`.
pub(super) fn loss(row: &SqliteRow) -> Result<AnnouncedFailure> {
    Ok(AnnouncedFailure {
        event: rows::id(row, "event_id")?,
        kind: match rows::get::<Option<&str>>(row, "kind")? {
            Some(_) => Some(rows::kind(row)?),
            None => None,
        },
        at: rows::time(row, "at")?,
    })
}

/// The artifact in a row of `jobs`, as far as it can cure a loss.
pub(super) fn saved(row: &SqliteRow) -> Result<RecoveredArtifact> {
    Ok(RecoveredArtifact {
        announced_by: rows::optional_id::<EventId>(row, "announced_by")?,
        kind: rows::kind(row)?,
        is_inline: rows::get::<String>(row, "origin_kind")? == "inline",
    })
}

fn standing(row: &SqliteRow) -> Result<UnarchivedJob> {
    let class: Option<String> = rows::get(row, "class")?;
    let origin: Option<String> = rows::get(row, "origin")?;
    Ok(UnarchivedJob {
        recording: rows::id(row, "recording_id")?,
        identity: rows::get(row, "identity")?,
        state: rows::named(row, "state", State::parse)?,
        class: class.as_deref().and_then(Class::parse),
        origin: origin.and_then(|text| to_origin(&text).ok()),
        deadline: Deadline {
            at: rows::optional_time(row, "deadline")?,
            from: rows::named(row, "deadline_from", DeadlineFrom::parse)?,
            is_upper_bound: false,
        },
    })
}

fn shelf_of<'a>(
    shelves: &'a mut [RecordingChanges],
    row: &SqliteRow,
) -> Result<&'a mut RecordingChanges> {
    let id: RecordingId = rows::id(row, "recording_id")?;
    shelves
        .iter_mut()
        .find(|shelf| shelf.id == id)
        .ok_or_else(|| damaged(format!("recording {id} is not there")))
}

fn empty_shelf(row: &SqliteRow) -> Result<RecordingChanges> {
    let created_at = rows::time(row, "created_at")?;
    Ok(RecordingChanges {
        id: rows::id(row, "id")?,
        source: rows::get(row, "source")?,
        provider: rows::named(row, "provider", Provider::named)?,
        recording_key: rows::get(row, "recording_key")?,
        facts: rows::facts(row)?,
        date: rows::date(row, "folder_date")?,
        folder: rows::get(row, "folder")?,
        created_at,
        changed_at: created_at,
        change: PendingChange::Kept,
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
        announced_size: rows::get::<Option<i64>>(row, "announced_size")?.map(count),
        change: PendingChange::Kept,
        fresh: None,
    })
}

fn recording_row(shelf: &RecordingChanges) -> NewRow {
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
        "open_jobs": shelf.open_jobs(),
        "created_at": millis(shelf.created_at),
    })
}

fn job_row((shelf, job, artifact): &JobRow<'_>) -> Result<NewRow> {
    let (origin_kind, origin) = from_origin(&artifact.origin)?;
    let failure = job.failure();
    let urgency = Urgency::of(job.id, artifact.deadline, artifact.size_bytes);
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
        "latest_start": urgency.latest_start_ms(),
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

fn loss_row((shelf, slot): &FailureRow<'_>) -> NewRow {
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

async fn refresh(conn: &mut SqliteConnection, (shelf, job, artifact): &JobRow<'_>) -> Result<()> {
    let (origin_kind, origin) = from_origin(&artifact.origin)?;
    let deadline = &artifact.deadline;
    let urgency = Urgency::of(job.id, *deadline, artifact.size_bytes);
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
        .bind(urgency.latest_start_ms())
        .bind(i64::from(is_small))
        .bind(artifact.size_bytes.map(length))
        .bind(millis(shelf.changed_at));
    rows::execute(conn, query).await?;
    Ok(())
}

fn event_row(new: &NewEvent, recorded: &Recorded) -> Result<NewRow> {
    let event = &new.event;
    let (raw_encoding, raw) = from_raw(&new.raw);
    Ok(row!({
        "id": recorded.event_id,
        "source": &new.source,
        "provider": event.provider.as_str(),
        "dedupe_key": &event.dedupe_key,
        "event_id": event.event_id.as_deref(),
        "event_type": event.event_type.as_deref(),
        "class": event.class.as_str(),
        "alert": event.alert.as_deref(),
        "event_time": event.event_time.map(millis),
        "received_at": millis(new.received_at),
        "recording_id": recorded.recording_id,
        "job_ids": to_json(&recorded.jobs)?,
        "raw": raw,
        "raw_encoding": raw_encoding,
    }))
}
