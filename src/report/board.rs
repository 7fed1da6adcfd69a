//! What is under way, told from the progress stream: plain state and plain words, for any screen.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

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

/// How long a deadline leaves, in words; `None` without one.
pub fn time_left(deadline: Option<Timestamp>, now: Timestamp) -> Option<String> {
    let left = deadline?.duration_since(now);
    if left.is_negative() {
        return Some("deadline passed".to_owned());
    }
    Some(format!("{} left", duration(left)))
}

/// A length of time in its two largest units: `6d 23h`, `4m 10s`, `0s`.
pub fn duration(length: SignedDuration) -> String {
    let seconds = length.as_secs().max(0);
    let units = [
        (seconds / 86_400, "d"),
        (seconds / 3_600 % 24, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
    ];
    let first = units.iter().position(|(n, _)| *n > 0).unwrap_or(3);
    let shown: Vec<_> = units[first..]
        .iter()
        .take(2)
        .enumerate()
        .filter(|(at, (n, _))| *at == 0 || *n > 0)
        .map(|(_, (n, unit))| format!("{n}{unit}"))
        .collect();
    shown.join(" ")
}

const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];

/// A number of bytes in a unit that people read: `13.3 MiB`.
pub fn bytes(count: u64) -> String {
    let unit = unit_of(count);
    format!("{} {}", in_unit(count, unit), UNITS[unit])
}

/// A part of a number of bytes, both in the unit of the whole: `1.5/13.3 MiB`.
pub fn bytes_of(done: u64, total: u64) -> String {
    let unit = unit_of(total.max(done));
    let (done, total) = (in_unit(done, unit), in_unit(total, unit));
    format!("{done}/{total} {}", UNITS[unit])
}

fn unit_of(count: u64) -> usize {
    let mut value = count as f64;
    let mut unit = 0;
    // What would be shown as 1024.0 is 1.0 of the next.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    unit
}

fn in_unit(count: u64, unit: usize) -> String {
    match unit {
        0 => count.to_string(),
        _ => format!("{:.1}", count as f64 / 1024f64.powi(unit as i32)),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::error::Class;
    use crate::model::{DeadlineFrom, Format, Kind, Provider, RecordingId};

    pub(crate) fn record(name: &str) -> Record {
        Record {
            id: JobId(uuid::Uuid::from_u128(1)),
            recording_id: RecordingId(uuid::Uuid::from_u128(2)),
            provider: Provider::Hms,
            source: "100ms".to_owned(),
            name: name.to_owned(),
            kind: Kind::Video,
            format: Format::Mp4,
            state: State::Pending,
            class: None,
            message: None,
            action: None,
            key: format!("100ms/2026/03/02/s/r/{name}"),
            size_bytes: None,
            crc64nvme: None,
            sha256: None,
            etag: None,
            version_id: None,
            deadline: None,
            deadline_from: DeadlineFrom::None,
            is_upper_bound: false,
            attempts: 0,
            bytes_done: 0,
            archived_at: None,
        }
    }

    fn now() -> Timestamp {
        "2026-03-02T10:00:00Z".parse().unwrap()
    }

    #[test]
    fn what_a_lost_stream_left_open_is_not_counted_twice() {
        let mut board = Board::default();
        let started = ProgressEvent::Started {
            record: record("recording.mp4").into(),
        };
        board.apply(&started, now());
        board.forget_open();
        assert_eq!(totals_line(&board.totals(), now()), "0 archived");
        board.apply(&started, now());
        assert_eq!(board.totals().open, 1);
    }

    #[test]
    fn a_recording_from_start_to_seal() {
        let mut board = Board::default();
        let expected = Record {
            size_bytes: Some(100),
            deadline: Some("2026-03-02T11:30:05Z".parse().unwrap()),
            ..record("recording.mp4")
        };
        board.expect(std::slice::from_ref(&expected));
        assert_eq!(
            totals_line(&board.totals(), now()),
            "0 archived, 1 open, 1h 30m left"
        );

        let id = expected.id;
        let started = ProgressEvent::Started {
            record: expected.clone().into(),
        };
        assert_eq!(board.apply(&started, now()), ScreenChange::Row(id));
        let bytes = ProgressEvent::Bytes {
            id,
            done: 40,
            total: None,
        };
        board.apply(&bytes, now());
        let totals = board.totals();
        assert_eq!((totals.bytes_done, totals.bytes_total), (40, 100));

        let retrying = ProgressEvent::Retrying {
            id,
            class: Class::Throttled,
            message: "slow\u{1b}[31m down".to_owned(),
            at: "2026-03-02T10:00:03Z".parse().unwrap(),
        };
        let text = "retrying  100ms/recording.mp4 in 3s: throttled: slow[31m down".to_owned();
        assert_eq!(
            board.apply(&retrying, now()),
            ScreenChange::Gone(id, Severity::Warning, text)
        );

        let settled = ProgressEvent::Settled {
            record: Arc::new(Record {
                state: State::Archived,
                ..expected
            }),
        };
        let text =
            "archived  100ms/recording.mp4 100 B 100ms/2026/03/02/s/r/recording.mp4".to_owned();
        assert_eq!(
            board.apply(&settled, now()),
            ScreenChange::Gone(id, Severity::Good, text)
        );
        let totals = board.totals();
        assert_eq!(
            (totals.archived, totals.open, totals.bytes_done),
            (1, 0, 100)
        );
    }

    #[test]
    fn a_loss_says_why() {
        let lost = Record {
            state: State::Expired,
            class: Some(Class::Expired),
            message: Some("the URL ended".to_owned()),
            ..record("chat.csv")
        };
        let (tone, text) = settled(&lost);
        assert_eq!(tone, Severity::Bad);
        assert_eq!(text, "expired   100ms/chat.csv: expired: the URL ended");
    }

    #[test]
    fn bytes_of_an_artifact_whose_start_was_missed_are_shown() {
        let mut board = Board::default();
        let id = record("x").id;
        let event = ProgressEvent::Bytes {
            id,
            done: 5,
            total: Some(10),
        };
        assert_eq!(board.apply(&event, now()), ScreenChange::Row(id));
        assert_eq!(board.row(id).unwrap().label, id.to_string());
    }

    #[test]
    fn lengths_and_sizes_as_people_read_them() {
        for (seconds, text) in [
            (-5, "0s"),
            (0, "0s"),
            (59, "59s"),
            (250, "4m 10s"),
            (3600, "1h"),
            (601_200, "6d 23h"),
        ] {
            assert_eq!(duration(SignedDuration::from_secs(seconds)), text);
        }
        for (count, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (13_933_649, "13.3 MiB"),
            ((1 << 20) - 1, "1.0 MiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
        assert_eq!(bytes_of(1_572_864, 13_933_649), "1.5/13.3 MiB");
        assert_eq!(bytes_of(7, 974), "7/974 B");
    }
}
