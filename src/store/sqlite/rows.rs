//! Running statements and reading rows.

use std::borrow::Cow;
use std::collections::HashMap;
use std::str::FromStr;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use bytes::Bytes;
use futures::TryStreamExt as _;
use futures::future::join;
use jiff::Timestamp;
use jiff::civil::Date;
use serde::Serialize;
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteQueryResult, SqliteRow};
use sqlx::{AssertSqlSafe, Decode, Row as _, Sqlite, SqliteConnection, Type};
use uuid::Uuid;

use super::{error, record_json};
use crate::error::{Class, Result};
use crate::model::manifest::{ProviderFailureRecord, Record, RecordingRecord};
use crate::model::{Checkpoint, EventId, JobId, Kind, Provider, Recording, RecordingId, State};
use crate::store::stored::{self, damaged, json, to_json};
use crate::store::{Claimed, UploadOwner};

type Statement<'q> = Query<'q, Sqlite, SqliteArguments>;

#[cfg(test)]
tokio::task_local! {
    /// How many statements were run, where a test counts them.
    pub(super) static STATEMENTS: std::cell::Cell<u64>;
}

fn count_statement() {
    #[cfg(test)]
    let _ = STATEMENTS.try_with(|count| count.set(count.get() + 1));
}

/// Runs a statement that changes rows.
pub(super) async fn execute(
    conn: &mut SqliteConnection,
    query: Statement<'_>,
) -> Result<SqliteQueryResult> {
    count_statement();
    query
        .execute(conn)
        .await
        .map_err(|cause| error::from("write to the store", cause))
}

/// All rows of a query.
pub(super) async fn all(
    conn: &mut SqliteConnection,
    query: Statement<'_>,
) -> Result<Vec<SqliteRow>> {
    count_statement();
    query
        .fetch_all(conn)
        .await
        .map_err(|cause| error::from("read the store", cause))
}

/// The row of a query, if there is one.
pub(super) async fn optional(
    conn: &mut SqliteConnection,
    query: Statement<'_>,
) -> Result<Option<SqliteRow>> {
    count_statement();
    query
        .fetch_optional(conn)
        .await
        .map_err(|cause| error::from("read the store", cause))
}

/// All rows of a query whose one argument is a list, as JSON.
pub(super) async fn fetch_all(
    conn: &mut SqliteConnection,
    statement: &'static str,
    list: &impl Serialize,
) -> Result<Vec<SqliteRow>> {
    all(conn, sqlx::query(statement).bind(to_json(list)?)).await
}

/// The ids that a query finds, as far as they can be read.
pub(super) async fn ids<T: FromStr>(
    conn: &mut SqliteConnection,
    query: Statement<'_>,
) -> Result<Vec<T>> {
    let found = all(conn, query).await?;
    Ok(readable(&found, |row| id(row, "id")))
}

/// Whether the query says so in `column`.
pub(super) async fn is_so(
    conn: &mut SqliteConnection,
    query: Statement<'_>,
    column: &'static str,
) -> Result<bool> {
    let row = optional(conn, query).await?;
    let is_so = row.map(|row| get::<i64>(&row, column));
    Ok(is_so.transpose()?.is_some_and(|is_so| is_so != 0))
}

/// A value to insert.
pub(super) enum Value {
    Null,
    Integer(i64),
    Text(String),
}

impl From<i64> for Value {
    fn from(number: i64) -> Value {
        Value::Integer(number)
    }
}

impl<T> From<Option<T>> for Value
where
    Value: From<T>,
{
    fn from(value: Option<T>) -> Value {
        value.map_or(Value::Null, Value::from)
    }
}

macro_rules! text_values {
    ($($text:ty),+) => {
        $(impl From<$text> for Value {
            fn from(text: $text) -> Value {
                Value::Text(text.to_string())
            }
        })+
    };
}
text_values!(&str, &String, EventId, JobId, RecordingId, Uuid, Date);

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::Text(text)
    }
}

impl From<Cow<'_, str>> for Value {
    fn from(text: Cow<'_, str>) -> Value {
        Value::Text(text.into_owned())
    }
}

/// A row to insert.
pub(super) struct NewRow {
    pub columns: &'static [&'static str],
    pub values: Vec<Value>,
}

/// A [`NewRow`] from what looks like `json!`.
macro_rules! row {
    ({ $($column:literal: $value:expr),+ $(,)? }) => {
        $crate::store::sqlite::rows::NewRow {
            columns: &[$($column),+],
            values: vec![$($crate::store::sqlite::rows::Value::from($value)),+],
        }
    };
}
pub(super) use row;

/// Rows in one statement at most. Values are bound as they are: as one JSON text, which SQLite takes apart again,
/// a row of forty columns costs several times as much.
const ROWS: usize = 64;

/// Inserts rows of the same columns.
pub(super) async fn insert(
    conn: &mut SqliteConnection,
    table: &'static str,
    mut rows: impl ExactSizeIterator<Item = Result<NewRow>>,
) -> Result<()> {
    let mut next = filled(table, &mut rows)?;
    while let Some(statement) = next {
        let written = execute(conn, statement);
        // While SQLite's thread writes the ones, the next ones are made.
        let (written, filled) = join(written, async { filled(table, &mut rows) }).await;
        written?;
        next = filled?;
    }
    Ok(())
}

/// The statement that inserts the next few rows; `None` when there are no more.
fn filled(
    table: &'static str,
    rows: &mut impl ExactSizeIterator<Item = Result<NewRow>>,
) -> Result<Option<Statement<'static>>> {
    let count = rows_at_once(rows.len());
    let some: Vec<_> = rows.take(count).collect::<Result<_>>()?;
    let Some(first) = some.first() else {
        return Ok(None);
    };
    // Of few lengths, so that each is prepared only once.
    let statement = known_statement(table, first.columns, some.len());
    let values = some.into_iter().flat_map(|row| row.values);
    let query = values.fold(
        sqlx::query(AssertSqlSafe(statement)),
        |query, value| match value {
            Value::Null => query.bind(None::<i64>),
            Value::Integer(number) => query.bind(number),
            Value::Text(text) => query.bind(text),
        },
    );
    Ok(Some(query))
}

/// The greatest power of two that is not more than `waiting`, nor than [`ROWS`].
fn rows_at_once(waiting: usize) -> usize {
    1 << waiting.clamp(1, ROWS).ilog2()
}

/// Statements by table and number of rows.
type Statements = HashMap<(&'static str, usize), Arc<str>>;

/// Written once for each table and number of rows: of many columns, writing it takes as long as filling it in.
fn known_statement(table: &'static str, columns: &[&str], rows: usize) -> Arc<str> {
    static KNOWN: LazyLock<Mutex<Statements>> = LazyLock::new(Mutex::default);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let statement = known
        .entry((table, rows))
        .or_insert_with(|| insert_statement(table, columns, rows).into());
    Arc::clone(statement)
}

fn insert_statement(table: &str, columns: &[&str], rows: usize) -> String {
    let row = format!("({})", vec!["?"; columns.len()].join(", "));
    let columns = columns.join(", ");
    let rows = vec![row; rows].join(", ");
    format!("INSERT INTO {table} ({columns}) VALUES {rows}")
}

/// A column.
pub(super) fn get<'r, T>(row: &'r SqliteRow, column: &'static str) -> Result<T>
where
    T: Decode<'r, Sqlite> + Type<Sqlite>,
{
    row.try_get(column)
        .map_err(|cause| damaged(format!("column {column}")).with_source(cause))
}

/// An id.
pub(super) fn id<T: FromStr>(row: &SqliteRow, column: &'static str) -> Result<T> {
    stored::id(get(row, column)?)
}

/// An id or nothing.
pub(super) fn optional_id<T: FromStr>(row: &SqliteRow, column: &'static str) -> Result<Option<T>> {
    get::<Option<&str>>(row, column)?
        .map(stored::id)
        .transpose()
}

/// An instant.
pub(super) fn time(row: &SqliteRow, column: &'static str) -> Result<Timestamp> {
    stored::instant(get(row, column)?)
}

/// An instant or nothing.
pub(super) fn optional_time(row: &SqliteRow, column: &'static str) -> Result<Option<Timestamp>> {
    get::<Option<i64>>(row, column)?
        .map(stored::instant)
        .transpose()
}

/// A day.
pub(super) fn date(row: &SqliteRow, column: &'static str) -> Result<Date> {
    let text: &str = get(row, column)?;
    text.parse()
        .map_err(|_| damaged(format!("`{text}` is no date")))
}

/// A value of a closed set.
pub(super) fn named<T>(
    row: &SqliteRow,
    column: &'static str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<T> {
    stored::named(column, get(row, column)?, parse)
}

/// What the provider told of a recording.
pub(super) fn facts(row: &SqliteRow) -> Result<Recording> {
    Ok(Recording {
        recording_id: get(row, "provider_id")?,
        bot_id: get(row, "bot_id")?,
        session_id: get(row, "session_id")?,
        room_id: get(row, "room_id")?,
        room_name: get(row, "room_name")?,
        started_at: optional_time(row, "started_at")?,
        ended_at: optional_time(row, "ended_at")?,
    })
}

/// A row of `recordings` as people see it.
pub(super) fn recording_record(row: &SqliteRow) -> Result<RecordingRecord> {
    let facts = facts(row)?;
    Ok(RecordingRecord {
        id: id(row, "id")?,
        provider: named(row, "provider", Provider::named)?,
        source: get(row, "source")?,
        recording_id: facts.recording_id,
        bot_id: facts.bot_id,
        session_id: facts.session_id,
        room_id: facts.room_id,
        room_name: facts.room_name,
        started_at: facts.started_at,
        ended_at: facts.ended_at,
    })
}

/// A provider failure as people see it.
pub(super) fn failure_record(row: &SqliteRow) -> Result<ProviderFailureRecord> {
    Ok(ProviderFailureRecord {
        class: Class::parse(get(row, "class")?).unwrap_or(Class::ProviderFailed),
        code: get(row, "code")?,
        message: get(row, "message")?,
        event_id: get(row, "event_name")?,
        at: time(row, "at")?,
    })
}

/// The jobs of a query as people see them, each read while SQLite looks for the next ones; and how many can't be read at
/// all. One row must not hide the others.
pub(super) async fn records(
    conn: &mut SqliteConnection,
    query: Statement<'_>,
) -> Result<(Vec<Record>, usize)> {
    count_statement();
    let mut rows = query.fetch(conn);
    let (mut records, mut unreadable) = (Vec::new(), 0);
    while let Some(row) = rows
        .try_next()
        .await
        .map_err(|cause| error::from("read the store", cause))?
    {
        match record(&row) {
            Ok(record) => records.push(record),
            Err(error) => {
                unreadable += 1;
                complain(&error);
            }
        }
    }
    Ok((records, unreadable))
}

/// What is in those of `found` that can be read.
pub(super) fn readable<T>(found: &[SqliteRow], read: impl Fn(&SqliteRow) -> Result<T>) -> Vec<T> {
    let read = found.iter().map(read);
    read.filter_map(|row| row.inspect_err(complain).ok())
        .collect()
}

fn complain(error: &crate::error::Error) {
    tracing::warn!("left a row out: failed to {}", error.full_message());
}

/// A job with its recording as people see it; of one that can't be read whole, what can be.
pub(super) fn record(row: &SqliteRow) -> Result<Record> {
    record_json::record_or_rest(get(row, "record")?)
}

/// What an artifact is. A kind that only a newer harvester knows is something else.
pub(super) fn kind(row: &SqliteRow) -> Result<Kind> {
    Ok(Kind::parse(get(row, "kind")?).unwrap_or(Kind::Other))
}

/// A job that has just been leased.
pub(super) fn claimed(row: &SqliteRow) -> Result<Claimed> {
    record_json::claimed(get(row, "record")?, get(row, "work")?)
}

/// The body of an event.
pub(super) fn raw(row: &SqliteRow) -> Result<Bytes> {
    stored::to_raw(get(row, "raw_encoding")?, get(row, "raw")?)
}

pub(super) fn upload_owner(row: &SqliteRow) -> Result<UploadOwner> {
    let checkpoint: Option<&str> = get(row, "checkpoint")?;
    // Without it the key tells whose an upload is.
    let checkpoint = checkpoint.and_then(|text| json::<Checkpoint>("a checkpoint", text).ok());
    Ok(UploadOwner {
        job: id(row, "id")?,
        key: get(row, "key")?,
        state: named(row, "state", State::parse)?,
        upload_id: checkpoint.map(|checkpoint| checkpoint.upload_id),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_rows_goes_in_with_few_statements() {
        for (waiting, at_once) in [(1, 1), (2, 2), (3, 2), (63, 32), (64, 64), (700, 64)] {
            assert_eq!(rows_at_once(waiting), at_once, "{waiting}");
        }
        assert_eq!(
            insert_statement("t", &["a", "b"], 2),
            "INSERT INTO t (a, b) VALUES (?, ?), (?, ?)"
        );
    }
}
