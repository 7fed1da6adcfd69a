//! Jobs as people and workers see them, each out of one JSON text, as `sql` asks for them. Of a row's many columns each
//! would cost a way through the database driver of its own, several times what it costs here.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::Deserialize;

use crate::error::{Class, Error, Result};
use crate::model::{
    Checkpoint, Deadline, DeadlineFrom, Format, Job, Kind, Lease, Lookup, Provider, Record,
    Recording, State,
};
use crate::store::Claimed;
use crate::store::stored::{count, damaged, id, instant, json, named, to_origin};

/// The values of `record_json!`, in its order.
#[derive(Deserialize)]
struct RecordColumns<'r> {
    id: &'r str,
    recording_id: &'r str,
    name: String,
    kind: &'r str,
    format: &'r str,
    state: &'r str,
    class: Option<&'r str>,
    message: Option<String>,
    key: String,
    size_bytes: Option<i64>,
    announced_size: Option<i64>,
    crc64nvme: Option<String>,
    sha256: Option<String>,
    etag: Option<String>,
    version_id: Option<String>,
    deadline: Option<i64>,
    deadline_from: &'r str,
    is_upper_bound: i64,
    attempts: i64,
    bytes_done: i64,
    archived_at: Option<i64>,
    source: String,
    provider: &'r str,
}

/// The values of `work_json!`, in its order.
#[derive(Deserialize)]
struct WorkColumns<'r> {
    lease_token: i64,
    #[serde(borrow)]
    origin: Cow<'r, str>,
    remint: Option<String>,
    first_attempt_at: i64,
    checkpoint: Option<String>,
    provider_id: Option<String>,
    bot_id: Option<String>,
    session_id: Option<String>,
    room_id: Option<String>,
    room_name: Option<String>,
    started_at: Option<i64>,
    ended_at: Option<i64>,
    unsettled_attempts: i64,
}

/// A job with its recording as people see it.
pub(super) fn record(text: &str) -> Result<Record> {
    read(text)?.into_record()
}

/// As [`record`]; of one that can't be read whole (a newer harvester wrote it), what can be. People must hear of it, and
/// a manifest must not lose what is archived.
pub(super) fn record_or_rest(text: &str) -> Result<Record> {
    record(text).or_else(|error| rest(text, &error).ok_or(error))
}

fn rest(text: &str, why: &Error) -> Option<Record> {
    let columns = read(text).ok()?;
    let state = State::parse(columns.state)?;
    let is_lost = matches!(state, State::Failed | State::Expired);
    let class = columns.class.and_then(Class::parse);
    let class = class.or(is_lost.then_some(Class::Internal));
    let message = match state {
        State::Archived => None,
        _ => columns.message.or_else(|| Some(why.full_message())),
    };
    let at = |millis: Option<i64>| millis.and_then(|millis| instant(millis).ok());
    Some(Record {
        id: id(columns.id).ok()?,
        recording_id: id(columns.recording_id).ok()?,
        provider: Provider::named(columns.provider)?,
        source: columns.source,
        name: columns.name,
        kind: Kind::parse(columns.kind).unwrap_or(Kind::Other),
        format: Format::parse(columns.format).unwrap_or(Format::Bin),
        state,
        class,
        message,
        action: class.map(|class| class.action().to_owned()),
        key: columns.key,
        size_bytes: columns.size_bytes.or(columns.announced_size).map(count),
        crc64nvme: columns.crc64nvme,
        sha256: columns.sha256,
        etag: columns.etag,
        version_id: columns.version_id,
        deadline: at(columns.deadline),
        deadline_from: DeadlineFrom::parse(columns.deadline_from).unwrap_or(DeadlineFrom::None),
        is_upper_bound: columns.is_upper_bound != 0,
        attempts: u32::try_from(columns.attempts).unwrap_or(u32::MAX),
        bytes_done: count(columns.bytes_done),
        archived_at: at(columns.archived_at),
    })
}

/// A job that has just been leased, from its record and what its worker needs besides.
pub(super) fn claimed(record: &str, work: &str) -> Result<Claimed> {
    let columns = read(record)?;
    let announced_size = columns.announced_size.map(count);
    let record = columns.into_record()?;
    let work: WorkColumns<'_> = serde_json::from_str(work).map_err(unreadable)?;
    let job = Job {
        id: record.id,
        recording_id: record.recording_id,
        recording: Recording {
            recording_id: work.provider_id,
            bot_id: work.bot_id,
            session_id: work.session_id,
            room_id: work.room_id,
            room_name: work.room_name,
            started_at: optional_instant(work.started_at)?,
            ended_at: optional_instant(work.ended_at)?,
        },
        provider: record.provider,
        source: record.source.clone(),
        name: record.name.clone(),
        kind: record.kind,
        format: record.format,
        origin: to_origin(&work.origin)?,
        remint: work
            .remint
            .map(|text| json::<Lookup>("a re-mint", &text))
            .transpose()?,
        deadline: Deadline {
            at: record.deadline,
            from: record.deadline_from,
            is_upper_bound: record.is_upper_bound,
        },
        size_bytes: announced_size,
        key: record.key.clone(),
        attempts: record.attempts,
        lease_token: work.lease_token,
        first_attempt_at: instant(work.first_attempt_at)?,
        // One that can't be read costs no more than to begin anew.
        checkpoint: work
            .checkpoint
            .and_then(|text| json::<Checkpoint>("a checkpoint", &text).ok()),
    };
    let lease = Lease {
        job: job.id,
        token: work.lease_token,
    };
    Ok(Claimed {
        lease,
        unsettled_attempts: u32::try_from(work.unsettled_attempts).unwrap_or(u32::MAX),
        job,
        record,
    })
}

fn read(text: &str) -> Result<RecordColumns<'_>> {
    serde_json::from_str(text).map_err(unreadable)
}

fn unreadable(error: serde_json::Error) -> Error {
    damaged(format!("a job: {error}"))
}

impl RecordColumns<'_> {
    fn into_record(self) -> Result<Record> {
        let class = self.class;
        let class = class
            .map(|name| named("class", name, Class::parse))
            .transpose()?;
        Ok(Record {
            id: id(self.id)?,
            recording_id: id(self.recording_id)?,
            provider: named("provider", self.provider, Provider::named)?,
            source: self.source,
            name: self.name,
            kind: named("kind", self.kind, Kind::parse)?,
            format: named("format", self.format, Format::parse)?,
            state: named("state", self.state, State::parse)?,
            class,
            message: self.message,
            action: class.map(|class| class.action().to_owned()),
            key: self.key,
            size_bytes: self.size_bytes.or(self.announced_size).map(count),
            crc64nvme: self.crc64nvme,
            sha256: self.sha256,
            etag: self.etag,
            version_id: self.version_id,
            deadline: optional_instant(self.deadline)?,
            deadline_from: named("deadline_from", self.deadline_from, DeadlineFrom::parse)?,
            is_upper_bound: self.is_upper_bound != 0,
            attempts: u32::try_from(self.attempts).unwrap_or(u32::MAX),
            bytes_done: count(self.bytes_done),
            archived_at: optional_instant(self.archived_at)?,
        })
    }
}

fn optional_instant(millis: Option<i64>) -> Result<Option<Timestamp>> {
    millis.map(instant).transpose()
}
