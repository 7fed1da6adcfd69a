//! What `harvester archive` shows while it works.

use std::collections::HashSet;
use std::sync::Arc;

use super::output::{CommandResult, Output};
use crate::clock::SharedClock;
use crate::error::Class;
use crate::model::{JobId, ProgressEvent, Record, State};
use crate::report::board;
use crate::report::printable::printable;
use crate::report::terminal::Terminal;

/// Bars on stderr, and with `--json` a record a line on stdout as each settles.
pub(super) struct ArchiveScreen<'a> {
    terminal: Terminal,
    pub(super) output: &'a mut Output,
    clock: &'a SharedClock,
    told: HashSet<JobId>,
    /// Whether a worker goes on with what this run leaves.
    pub(super) is_worker_running: bool,
}

impl<'a> ArchiveScreen<'a> {
    pub(super) fn new(output: &'a mut Output, clock: &'a SharedClock) -> ArchiveScreen<'a> {
        ArchiveScreen {
            terminal: Terminal::new(output.stderr.clone()),
            output,
            clock,
            told: HashSet::new(),
            is_worker_running: false,
        }
    }

    pub(super) fn expect(&mut self, records: &[Record]) {
        self.terminal.expect(records, self.clock.now());
    }

    pub(super) fn show(&mut self, events: &[ProgressEvent]) -> CommandResult {
        if events.is_empty() {
            return Ok(());
        }
        self.terminal.show_all(events, self.clock.now());
        self.tell(events.iter().filter_map(|event| match event {
            ProgressEvent::Settled { record } => Some(&**record),
            _ => None,
        }))
    }

    /// Tells what no event told: what had been archived before, what another worker did, what is still open.
    pub(super) fn finish(&mut self, records: &[Record]) -> CommandResult {
        for record in records {
            match record.state.is_settled() {
                true if self.told.contains(&record.id) => {}
                true => {
                    let record = Arc::new(record.clone());
                    self.show(&[ProgressEvent::Settled { record }])?;
                }
                false => {
                    let (_, text) = board::settled(record);
                    self.output.warn(&text);
                    self.tell([record])?;
                }
            }
            if let Some(class) = record.class.filter(|class| needs_a_person(record, *class)) {
                self.advise(record, class);
            }
        }
        // A lookup that was answered is among the records no more, and no event has told its end.
        self.terminal.lost_stream(self.clock.now());
        self.expect(records);
        self.terminal.finish(self.clock.now());
        Ok(())
    }

    pub(super) fn tell<'r>(
        &mut self,
        records: impl IntoIterator<Item = &'r Record>,
    ) -> CommandResult {
        let mut news = Vec::new();
        for record in records {
            if self.told.insert(record.id) && self.output.is_json {
                news.push(record);
            }
        }
        self.output.json_lines(&news)
    }

    pub(super) fn advise(&self, record: &Record, class: Class) {
        let action = match (record.state, class) {
            (State::Pending | State::Running, Class::UploadDenied) => {
                refused_bucket_advice(self.is_worker_running)
            }
            _ => record.action.as_deref().unwrap_or(class.action()),
        };
        let label = board::label(record);
        self.output.warn(&format!("{label}: {}", printable(action)));
    }
}

/// What to do about a bucket that has refused what is still pending.
pub(super) fn refused_bucket_advice(is_worker_running: bool) -> &'static str {
    match is_worker_running {
        true => {
            "Check the bucket's name, credentials, rights and quota; the worker that is running goes on by itself."
        }
        false => {
            "Check the bucket's name, credentials, rights and quota, then give the same command again: no worker is running."
        }
    }
}

/// What is lost, and what waits for a bucket that refuses. An interrupted artifact only waits for a next run.
pub(super) fn needs_a_person(record: &Record, class: Class) -> bool {
    match record.state.is_settled() {
        true => record.state != State::Archived,
        false => class == Class::UploadDenied,
    }
}
