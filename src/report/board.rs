//! What is under way, told from the progress stream: plain state and plain words, for any screen.

pub use super::units::{bytes, bytes_of, duration, time_left};
use std::collections::HashMap;

use jiff::Timestamp;

use super::printable::printable;
use crate::model::{JobId, ProgressEvent, Record, State};

/// How a line is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Something is safe.
    Good,
    /// Something may still be saved.
    Warning,
    /// Something is lost.
    Bad,
    /// Worth knowing.
    Quiet,
}

/// What a screen has to do after an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScreenChange {
    /// Show or move the row of this artifact.
    Row(JobId),
    /// Take its row away and say this.
    Gone(JobId, Severity, String),
    /// Say this.
    Line(Severity, String),
    /// Nothing.
    Nothing,
}

/// One artifact on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// What to call it: safe to print.
    pub label: String,
    /// Bytes so far.
    pub done: u64,
    /// The length, once known.
    pub total: Option<u64>,
    /// Until when its origin can be opened.
    pub deadline: Option<Timestamp>,
}

/// Sums over everything that the board has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BoardTotals {
    /// Artifacts in the bucket.
    pub archived: usize,
    /// Artifacts that were not saved.
    pub lost: usize,
    /// Artifacts that have not settled.
    pub open: usize,
    /// Bytes so far.
    pub bytes_done: u64,
    /// Bytes in all, as far as lengths are known.
    pub bytes_total: u64,
    /// The earliest deadline among the open ones.
    pub next_deadline: Option<Timestamp>,
}

/// A clock that is off by less is not worth a line.
const CLOCK_WORTH_TELLING: u64 = 60;

/// How it is told that the bucket refuses, to follow "bucket"; `None` for any other event.
pub fn bucket_refusal(event: &ProgressEvent, now: Timestamp) -> Option<String> {
    let ProgressEvent::BucketRefuses {
        class,
        message,
        waiting,
        until,
    } = event
    else {
        return None;
    };
    let wait = duration(until.duration_since(now));
    let message = printable(message);
    Some(format!(
        "refuses ({message}): {waiting} waiting, next try in {wait} (at once: `harvester retry --class {class}`)"
    ))
}

fn clock_offset(peer: &str, seconds: i64) -> Option<String> {
    let side = if seconds > 0 { "ahead of" } else { "behind" };
    let far = seconds.unsigned_abs();
    (far > CLOCK_WORTH_TELLING).then(|| {
        format!(
            "clock     this machine is {far} s {side} {}",
            printable(peer)
        )
    })
}

/// The state of a screen.
#[derive(Debug, Default)]
pub struct Board {
    rows: HashMap<JobId, Row>,
    archived: usize,
    lost: usize,
    settled_bytes: u64,
}

impl Board {
    /// Artifacts that will come, so that the totals count them from the beginning.
    pub fn expect(&mut self, records: &[Record]) {
        for record in records.iter().filter(|record| !record.state.is_settled()) {
            self.rows.insert(record.id, row(record));
        }
    }

    /// Takes in what happened.
    pub fn apply(&mut self, event: &ProgressEvent, now: Timestamp) -> ScreenChange {
        match event {
            ProgressEvent::Started { record } => {
                self.rows.insert(record.id, row(record));
                ScreenChange::Row(record.id)
            }
            ProgressEvent::Bytes { id, done, total } => {
                // A screen that was attached late has not seen the start.
                let row = self.rows.entry(*id).or_insert_with(|| Row {
                    label: id.to_string(),
                    done: 0,
                    total: None,
                    deadline: None,
                });
                row.done = *done;
                row.total = total.or(row.total);
                ScreenChange::Row(*id)
            }
            ProgressEvent::Resumed {
                id,
                done,
                total,
                message,
            } => {
                let row = self.rows.get_mut(id);
                let label = row.map_or_else(
                    || id.to_string(),
                    |row| {
                        row.done = *done;
                        row.label.clone()
                    },
                );
                ScreenChange::Line(
                    Severity::Quiet,
                    resumed(&label, *done, *total, message.as_deref()),
                )
            }
            ProgressEvent::Retrying {
                id,
                class,
                message,
                at,
            } => {
                let row = self.rows.get(id);
                let label = row.map_or_else(|| id.to_string(), |row| row.label.clone());
                let wait = duration(at.duration_since(now));
                let message = printable(message);
                let text = format!("retrying  {label} in {wait}: {class}: {message}");
                ScreenChange::Gone(*id, Severity::Warning, text)
            }
            ProgressEvent::Settled { record } => {
                self.rows.remove(&record.id);
                if record.state == State::Archived {
                    self.archived += 1;
                    self.settled_bytes += record.size_bytes.unwrap_or(record.bytes_done);
                } else {
                    self.lost += 1;
                }
                let (tone, text) = settled(record);
                ScreenChange::Gone(record.id, tone, text)
            }
            ProgressEvent::Sealed {
                manifest_key,
                archived,
                lost,
                ..
            } => {
                let key = printable(manifest_key);
                let text = format!("sealed    {key} ({archived} archived, {lost} lost)");
                ScreenChange::Line(Severity::Quiet, text)
            }
            ProgressEvent::BucketRefuses { .. } => {
                let refusal = bucket_refusal(event, now).unwrap_or_default();
                ScreenChange::Line(Severity::Bad, format!("bucket    {refusal}"))
            }
            ProgressEvent::BucketAccepts => {
                let text = "bucket    takes objects again".to_owned();
                ScreenChange::Line(Severity::Good, text)
            }
            ProgressEvent::TaskRestarted { task } => {
                let text =
                    format!("worker    the {task} panicked and is started again: see the log");
                ScreenChange::Line(Severity::Bad, text)
            }
            ProgressEvent::ClockOffset { peer, seconds } => clock_offset(peer, *seconds)
                .map_or(ScreenChange::Nothing, |text| {
                    ScreenChange::Line(Severity::Warning, text)
                }),
        }
    }

    /// Forgets what has not settled: a stream that begins again tells what is still under way.
    pub fn forget_open(&mut self) {
        self.rows.clear();
    }

    /// The row of an artifact that has not settled.
    pub fn row(&self, id: JobId) -> Option<&Row> {
        self.rows.get(&id)
    }

    /// The sums.
    pub fn totals(&self) -> BoardTotals {
        let open = self.rows.values();
        BoardTotals {
            archived: self.archived,
            lost: self.lost,
            open: self.rows.len(),
            bytes_done: self.settled_bytes + open.clone().map(|row| row.done).sum::<u64>(),
            bytes_total: self.settled_bytes
                + open
                    .clone()
                    .map(|row| row.total.unwrap_or(row.done))
                    .sum::<u64>(),
            next_deadline: open.filter_map(|row| row.deadline).min(),
        }
    }
}

fn row(record: &Record) -> Row {
    Row {
        label: label(record),
        done: record.bytes_done,
        total: record.size_bytes,
        deadline: record.deadline,
    }
}

/// What became of an earlier attempt's parts, in one line.
fn resumed(label: &str, done: u64, total: Option<u64>, why: Option<&str>) -> String {
    if let Some(why) = why {
        return format!("restarted {label} from zero: {}", printable(why));
    }
    let of = total.map_or_else(String::new, |total| format!(" of {}", bytes(total)));
    format!("resumed   {label} at {}{of}", bytes(done))
}

/// What to call an artifact.
pub fn label(record: &Record) -> String {
    printable(&format!("{}/{}", record.source, record.name))
}

/// How a job ended, in one line.
pub fn settled(record: &Record) -> (Severity, String) {
    let label = label(record);
    if record.state == State::Archived {
        let size = bytes(record.size_bytes.unwrap_or(record.bytes_done));
        let key = printable(&record.key);
        return (Severity::Good, format!("archived  {label} {size} {key}"));
    }
    let mut text = format!("{:<9} {label}", record.state.as_str());
    if let Some(class) = record.class {
        text.push_str(&format!(": {class}"));
    }
    if let Some(message) = &record.message {
        text.push_str(&format!(": {}", printable(message)));
    }
    let is_by_choice = record.state == State::Cancelled;
    let tone = if is_by_choice {
        Severity::Quiet
    } else {
        Severity::Bad
    };
    (tone, text)
}

/// How many of how many are safe: `2 of 3, 1 lost`.
pub fn counts(totals: &BoardTotals) -> String {
    let all = totals.archived + totals.lost + totals.open;
    let lost = match totals.lost {
        0 => String::new(),
        lost => format!(", {lost} lost"),
    };
    format!("{} of {all}{lost}", totals.archived)
}

/// The totals, in one line.
pub fn totals_line(totals: &BoardTotals, now: Timestamp) -> String {
    let mut text = format!("{} archived", totals.archived);
    if totals.lost > 0 {
        text.push_str(&format!(", {} lost", totals.lost));
    }
    if totals.open > 0 {
        text.push_str(&format!(", {} open", totals.open));
    }
    if let Some(left) = time_left(totals.next_deadline, now) {
        text.push_str(&format!(", {left}"));
    }
    text
}

#[cfg(test)]
#[path = "board_tests.rs"]
pub(crate) mod tests;
