//! The intake: what is known of the recordings concerned goes on shelves, the events of a batch are
//! taken in one after the other, and what changed is written by a handful of statements.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

use jiff::Timestamp;
use jiff::civil::Date;
use sqlx::sqlite::SqliteRow;
use sqlx::{Connection as _, SqliteConnection};
use uuid::{ContextV7, Uuid};

use super::rows::{self, NewRow, row};
use super::{error, shelf};
use crate::error::{Class, Result};
use crate::model::{Event, EventId, JobId, RecordingId, State};
use crate::store::intake::{Change, Shelf};
use crate::store::renewal::{self, Standing, Standings};
use crate::store::stored::{self, from_raw, instant, json, millis, to_json, to_origin};
use crate::store::{NewEvent, Recorded, sql};

/// Bytes of events that are written together at most: bounds the memory that one statement takes.
const CHUNK_BYTES: usize = 8 << 20;

/// Makes ids whose order is the order in which they were made, also within a millisecond.
#[derive(Debug, Default)]
pub(super) struct Ids(Mutex<ContextV7>);

impl Ids {
    pub(super) fn fresh(&mut self, now: Timestamp) -> Uuid {
        let seconds = u64::try_from(now.as_second()).unwrap_or(0);
        let nanoseconds = u32::try_from(now.subsec_nanosecond()).unwrap_or(0);
        Uuid::new_v7(uuid::Timestamp::from_unix(&self.0, seconds, nanoseconds))
    }
}

/// Makes what came from outside fit to be stored.
pub(super) fn clean(news: &mut [NewEvent]) {
    news.iter_mut().for_each(clean_event);
}

/// Records `news` in this order. After an error the transaction has to be rolled back.
pub(super) async fn record_together(
    conn: &mut SqliteConnection,
    ids: &mut Ids,
    news: &[NewEvent],
) -> Result<Vec<Result<Recorded>>> {
    let mut results = Vec::with_capacity(news.len());
    let mut rest = news;
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(chunk_length(rest));
        rest = after;
        let recorded = record_chunk(conn, ids, chunk).await?;
        results.extend(recorded.into_iter().map(Ok));
    }
    Ok(results)
}

/// As [`record_together`], but an event that can't be stored fails alone. The savepoints for that cost a copy of
/// every page that changes.
pub(super) async fn record_each(
    conn: &mut SqliteConnection,
    ids: &mut Ids,
    news: &[NewEvent],
) -> Result<Vec<Result<Recorded>>> {
    let mut results = Vec::with_capacity(news.len());
    for new in news {
        let recorded = attempt(conn, ids, std::slice::from_ref(new)).await?;
        match recorded {
            Ok(recorded) => results.extend(recorded.into_iter().map(Ok)),
            Err(error) => results.push(Err(error)),
        }
    }
    Ok(results)
}

/// Replaces an event that nobody could make out by what it is now.
pub(super) async fn reread(
    conn: &mut SqliteConnection,
    event: EventId,
    mut new: NewEvent,
) -> Result<Option<Recorded>> {
    clean_event(&mut new);
    let forget = sqlx::query(sql::FORGET_UNKNOWN_EVENT).bind(event.to_string());
    if rows::execute(conn, forget).await?.rows_affected() == 0 {
        return Ok(None);
    }
    let mut ids = Ids::default();
    let mut recorded = record_chunk(conn, &mut ids, std::slice::from_ref(&new)).await?;
    Ok(recorded.pop())
}

/// Records `chunk` whole or not at all. The outer error ends the transaction.
async fn attempt(
    conn: &mut SqliteConnection,
    ids: &mut Ids,
    chunk: &[NewEvent],
) -> Result<Result<Vec<Recorded>>> {
    let failed = |cause| error::from("write to the store", cause);
    let mut savepoint = conn.begin().await.map_err(failed)?;
    match record_chunk(&mut savepoint, ids, chunk).await {
        Ok(recorded) => {
            savepoint.commit().await.map_err(failed)?;
            Ok(Ok(recorded))
        }
        // Of a full disk SQLite may have ended the whole transaction by itself; then there is no savepoint left.
        Err(error) if savepoint.rollback().await.is_err() => Err(error),
        Err(error) => Ok(Err(error)),
    }
}

fn chunk_length(news: &[NewEvent]) -> usize {
    let mut bytes = 0;
    let fitting = news.iter().take_while(|new| {
        bytes += new.size_bytes();
        bytes <= CHUNK_BYTES
    });
    fitting.count().max(1)
}

/// Takes NUL out of all text that came from outside.
fn clean_event(new: &mut NewEvent) {
    fn tidy(text: &mut String) {
        if text.contains('\0') {
            *text = stored::clean(text).into_owned();
        }
    }
    let Event {
        event_id,
        event_type,
        dedupe_key,
        recording,
        artifacts,
        failures,
        alert,
        ..
    } = &mut new.event;
    tidy(dedupe_key);
    let optional = [
        event_id,
        event_type,
        alert,
        &mut recording.recording_id,
        &mut recording.bot_id,
        &mut recording.session_id,
        &mut recording.room_id,
        &mut recording.room_name,
    ];
    optional.into_iter().flatten().for_each(tidy);
    for artifact in artifacts {
        tidy(&mut artifact.identity);
        tidy(&mut artifact.name);
    }
    for failure in failures {
        tidy(&mut failure.loss_key);
        tidy(&mut failure.message);
        failure.code.iter_mut().for_each(tidy);
    }
}

struct Receipt {
    event_id: EventId,
    recording_id: Option<RecordingId>,
    jobs: Vec<JobId>,
}

async fn record_chunk(
    conn: &mut SqliteConnection,
    ids: &mut Ids,
    news: &[NewEvent],
) -> Result<Vec<Recorded>> {
    let mut receipts = receipts(conn, news).await?;
    let standings = standings(conn, &receipts, news).await?;
    let (mut concerned, mut unknown) = (Vec::new(), Vec::new());
    for new in news {
        match receipts.get(&dedupe_pair(new)) {
            None => unknown.push(new),
            Some(receipt) if !standings.has_renewed(receipt.recording_id, new) => continue,
            Some(_) => {}
        }
        concerned.push(new);
    }
    let mut shelves = known_shelves(conn, &concerned).await?;
    let mut dates = session_dates(conn, &unknown).await?;

    let mut recorded = Vec::with_capacity(news.len());
    let mut event_rows = Vec::new();
    for new in news {
        if let Some(receipt) = receipts.get(&dedupe_pair(new)) {
            let renewed = renew(new, receipt, ids, &mut shelves, &standings);
            recorded.push(receipt.duplicate(renewed));
            continue;
        }
        let event_id = EventId(ids.fresh(new.received_at));
        let taken = take_in(new, event_id, ids, &mut shelves, &mut dates);
        event_rows.push(event_row(new, &taken));
        let receipt = Receipt {
            event_id,
            recording_id: taken.recording_id,
            jobs: taken.jobs.clone(),
        };
        receipts.insert(dedupe_pair(new), receipt);
        recorded.push(taken);
    }

    let mut changed: Vec<&mut Shelf> = shelves
        .values_mut()
        .filter(|shelf| shelf.change != Change::Kept)
        .collect();
    shelf::write_recordings(conn, &changed).await?;
    rows::insert(conn, "events", event_rows.into_iter()).await?;
    for shelf in &mut changed {
        shelf::find_cures_elsewhere(conn, shelf).await?;
    }
    shelf::write_contents(conn, &changed).await?;
    Ok(recorded)
}

impl Receipt {
    fn duplicate(&self, renewed: Vec<JobId>) -> Recorded {
        Recorded {
            event_id: self.event_id,
            recording_id: self.recording_id,
            jobs: self.jobs.clone(),
            made: Vec::new(),
            is_duplicate: true,
            renewed,
        }
    }
}

type Pair = (String, String);

fn dedupe_pair(new: &NewEvent) -> Pair {
    (new.source.clone(), new.event.dedupe_key.clone())
}

/// Takes in one event that is not known, making its recording if need be.
fn take_in(
    new: &NewEvent,
    event_id: EventId,
    ids: &mut Ids,
    shelves: &mut HashMap<Pair, Shelf>,
    dates: &mut HashMap<Pair, Date>,
) -> Recorded {
    if !new.event.class.has_recording() {
        return Recorded {
            event_id,
            recording_id: None,
            jobs: Vec::new(),
            made: Vec::new(),
            is_duplicate: false,
            renewed: Vec::new(),
        };
    }
    let session = session_pair(new);
    let known_date = session.as_ref().and_then(|pair| dates.get(pair)).copied();
    let shelf = shelves
        .entry((new.source.clone(), new.recording_key.clone()))
        .or_insert_with(|| {
            Shelf::made_for(new, known_date, RecordingId(ids.fresh(new.received_at)))
        });
    if let Some(pair) = session {
        dates.entry(pair).or_insert(shelf.date);
    }
    shelf.record(new, event_id, &mut || ids.fresh(new.received_at))
}

/// Takes in what another delivery of a known event renews. A shelf is there when there is any such thing, or when the event
/// first came in the same batch.
fn renew(
    new: &NewEvent,
    receipt: &Receipt,
    ids: &mut Ids,
    shelves: &mut HashMap<Pair, Shelf>,
    standings: &Standings,
) -> Vec<JobId> {
    let pair = (new.source.clone(), new.recording_key.clone());
    let shelf = shelves.get_mut(&pair);
    let Some(shelf) = shelf.filter(|shelf| receipt.recording_id == Some(shelf.id)) else {
        return Vec::new();
    };
    let mut fresh_id = || ids.fresh(new.received_at);
    shelf.renew(new, receipt.event_id, standings, &mut fresh_id)
}

fn session_pair(new: &NewEvent) -> Option<Pair> {
    let session = new.event.recording.session_id.as_ref()?;
    Some((new.source.clone(), session.clone()))
}

async fn receipts(
    conn: &mut SqliteConnection,
    news: &[NewEvent],
) -> Result<HashMap<Pair, Receipt>> {
    let pairs: Vec<Pair> = news.iter().map(dedupe_pair).collect();
    let rows = rows::fetch_all(conn, sql::RECEIPTS, &pairs).await?;
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

/// How the jobs stand that known events among `news` could renew: nothing is asked where none could.
async fn standings(
    conn: &mut SqliteConnection,
    receipts: &HashMap<Pair, Receipt>,
    news: &[NewEvent],
) -> Result<Standings> {
    if receipts.is_empty() {
        return Ok(Standings::default());
    }
    let known = news.iter().filter(|new| renewal::has_urls(new));
    let known: HashSet<RecordingId> = known
        .filter_map(|new| receipts.get(&dedupe_pair(new))?.recording_id)
        .collect();
    if known.is_empty() {
        return Ok(Standings::default());
    }
    let rows = rows::fetch_all(conn, sql::UNSAVED_FILES, &known).await?;
    // A row that can't be read is not renewed, and holds up none of the others.
    Ok(Standings::of(rows::readable(&rows, standing)))
}

fn standing(row: &SqliteRow) -> Result<Standing> {
    let class: Option<String> = rows::get(row, "class")?;
    let origin: Option<String> = rows::get(row, "origin")?;
    Ok(Standing {
        recording: rows::id(row, "recording_id")?,
        identity: rows::get(row, "identity")?,
        state: rows::named(row, "state", State::parse)?,
        class: class.as_deref().and_then(Class::parse),
        origin: origin.and_then(|text| to_origin(&text).ok()),
        deadline: rows::get::<Option<i64>>(row, "deadline")?
            .map(instant)
            .transpose()?,
    })
}

async fn known_shelves(
    conn: &mut SqliteConnection,
    news: &[&NewEvent],
) -> Result<HashMap<Pair, Shelf>> {
    let pairs: HashSet<(&str, &str)> = news
        .iter()
        .filter(|new| new.event.class.has_recording())
        .map(|new| (&*new.source, &*new.recording_key))
        .collect();
    let rows = rows::fetch_all(conn, sql::RECORDINGS_BY_KEY, &pairs).await?;
    let shelves = shelf::load(conn, rows).await?;
    Ok(shelves
        .into_iter()
        .map(|shelf| ((shelf.source.clone(), shelf.recording_key.clone()), shelf))
        .collect())
}

async fn session_dates(
    conn: &mut SqliteConnection,
    news: &[&NewEvent],
) -> Result<HashMap<Pair, Date>> {
    let pairs: HashSet<Pair> = news.iter().filter_map(|new| session_pair(new)).collect();
    let mut dates = HashMap::new();
    if pairs.is_empty() {
        return Ok(dates);
    }
    for row in rows::fetch_all(conn, sql::SESSION_DATES, &pairs).await? {
        let pair = (rows::get(&row, "source")?, rows::get(&row, "session_id")?);
        let date = rows::date(&row, "folder_date")?;
        // The oldest recording comes first: the session's first event has fixed its date.
        dates.entry(pair).or_insert(date);
    }
    Ok(dates)
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
