//! The progress bars: a reader of the progress stream that draws on stderr.
//!
//! On a terminal one bar for each running artifact and one for all; elsewhere plain lines, with
//! progress at most every few seconds.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, IsTerminal, Write};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use jiff::{SignedDuration, Timestamp};

use super::board::{self, Board, Row, ScreenChange, Severity};
use super::printable::printable;
use crate::model::{JobId, ProgressEvent, Record};

/// More bars than this would scroll; the total still counts the rest.
const MAX_BARS: usize = 16;

/// How often a plain line tells of one artifact's bytes.
const LINE_EVERY: SignedDuration = SignedDuration::from_secs(5);

/// Stderr, shared by bars, log lines and notes so that none writes over another. Clones are the same.
#[derive(Clone)]
pub struct Stderr {
    bars: MultiProgress,
    is_terminal: bool,
    is_colored: bool,
}

impl Stderr {
    /// Stderr as it is; `is_colored` is the caller's decision.
    pub fn new(is_colored: bool) -> Stderr {
        Stderr {
            bars: MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10)),
            is_terminal: io::stderr().is_terminal(),
            is_colored,
        }
    }

    /// Whether colours are wanted.
    pub fn is_colored(&self) -> bool {
        self.is_colored
    }

    /// A line for a person, above the bars, without what a terminal would act on. That nobody reads it is no
    /// failure.
    pub fn say(&self, tone: Severity, text: &str) {
        self.say_all(&self.line(tone, text));
    }

    /// What [`say`](Stderr::say) says.
    fn line(&self, tone: Severity, text: &str) -> String {
        paint(tone, &printable(text), self.is_colored) + "\n"
    }

    /// Lines, each with its end, in one write.
    fn say_all(&self, lines: &str) {
        if !lines.is_empty() {
            let _ = self.clone().write_all(lines.as_bytes());
        }
    }
}

/// Shows that something of unknown length goes on; on a terminal only.
pub struct Spinner(Option<ProgressBar>);

impl Stderr {
    /// A spinner with that text.
    pub fn spinner(&self, text: &str) -> Spinner {
        if !self.is_terminal {
            return Spinner(None);
        }
        let bar = ProgressBar::new_spinner()
            .with_style(style("{spinner} {prefix}  {msg}"))
            .with_prefix(printable(text));
        let bar = self.bars.add(bar);
        bar.enable_steady_tick(std::time::Duration::from_millis(100));
        Spinner(Some(bar))
    }
}

impl Spinner {
    /// How far it is.
    pub fn tell(&self, text: &str) {
        if let Some(bar) = &self.0 {
            bar.set_message(printable(text));
        }
    }

    /// Takes it away.
    pub fn end(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bars.suspend(|| io::stderr().write_all(bytes))?;
        Ok(bytes.len())
    }

    fn write_fmt(&mut self, text: std::fmt::Arguments<'_>) -> io::Result<()> {
        // One write for a whole line: otherwise the bars would be drawn between its pieces.
        self.write_all(text.to_string().as_bytes())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// `text` in the colour of its tone.
pub fn paint(tone: Severity, text: &str, is_colored: bool) -> String {
    let code = match tone {
        Severity::Good => "32",
        Severity::Warning => "33",
        Severity::Bad => "31",
        Severity::Quiet => "2",
    };
    match is_colored {
        true => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
        false => text.to_owned(),
    }
}

/// The screen of `archive`, `watch` and `demo`.
pub struct Terminal {
    stderr: Stderr,
    board: Board,
    bars: HashMap<JobId, Bar>,
    total: Option<Bar>,
    told_at: HashMap<JobId, Timestamp>,
}

impl Terminal {
    /// An empty screen.
    pub fn new(stderr: Stderr) -> Terminal {
        Terminal {
            stderr,
            board: Board::default(),
            bars: HashMap::new(),
            total: None,
            told_at: HashMap::new(),
        }
    }

    /// Artifacts that will come.
    pub fn expect(&mut self, records: &[Record], now: Timestamp) {
        self.board.expect(records);
        self.draw_total(now);
    }

    /// Shows what happened.
    pub fn show(&mut self, event: &ProgressEvent, now: Timestamp) {
        self.show_all(std::slice::from_ref(event), now);
    }

    /// Shows what happened, all at once.
    pub fn show_all(&mut self, events: &[ProgressEvent], now: Timestamp) {
        let lines: String = events
            .iter()
            .filter_map(|event| self.apply(event, now))
            .collect();
        self.stderr.say_all(&lines);
        self.draw_total(now);
    }

    /// Draws what happened, or gives the line that tells it.
    fn apply(&mut self, event: &ProgressEvent, now: Timestamp) -> Option<String> {
        match self.board.apply(event, now) {
            ScreenChange::Row(id) if self.stderr.is_terminal => {
                self.draw_row(id, now);
                None
            }
            ScreenChange::Row(id) => self.tell_row(id, now),
            ScreenChange::Gone(id, tone, text) => {
                self.remove_bar(id);
                self.told_at.remove(&id);
                Some(self.stderr.line(tone, &text))
            }
            ScreenChange::Line(tone, text) => Some(self.stderr.line(tone, &text)),
            ScreenChange::Nothing => None,
        }
    }

    /// The stream was lost: what was under way may have ended unheard, and is told again if it has not.
    pub fn lost_stream(&mut self, now: Timestamp) {
        for (_, Bar { bar, .. }) in self.bars.drain() {
            bar.finish_and_clear();
            self.stderr.bars.remove(&bar);
        }
        self.told_at.clear();
        self.board.forget_open();
        self.draw_total(now);
    }

    /// Takes the bars away and leaves the totals as a line.
    pub fn finish(&mut self, now: Timestamp) {
        for bar in self
            .bars
            .drain()
            .map(|(_, bar)| bar)
            .chain(self.total.take())
        {
            bar.bar.finish_and_clear();
        }
        let totals = self.board.totals();
        let tone = if totals.lost > 0 {
            Severity::Bad
        } else {
            Severity::Good
        };
        self.stderr.say(tone, &board::totals_line(&totals, now));
    }

    fn draw_row(&mut self, id: JobId, now: Timestamp) {
        let Some(row) = self.board.row(id) else {
            return;
        };
        if !self.bars.contains_key(&id) {
            if self.bars.len() >= MAX_BARS {
                return;
            }
            // Dressed before it is shown: what is added is drawn at once.
            let template = template(row.total.is_some(), columns());
            let bar = ProgressBar::no_length()
                .with_style(style(template))
                .with_prefix(row.label.clone())
                .with_position(row.done);
            let bar = self.stderr.bars.insert(0, bar);
            // What an earlier attempt carried is not this one's speed.
            bar.reset_eta();
            self.bars.insert(id, Bar { bar, template });
        }
        let Some(bar) = self.bars.get_mut(&id) else {
            return;
        };
        bar.dress(row.total.is_some());
        if let Some(total) = row.total {
            bar.bar.set_length(total);
        }
        bar.bar.set_position(row.done);
        let left = board::time_left(row.deadline, now);
        bar.bar.set_message(left.unwrap_or_default());
    }

    fn tell_row(&mut self, id: JobId, now: Timestamp) -> Option<String> {
        let row = self.board.row(id)?;
        let verb = match self.told_at.get(&id) {
            None => "started",
            Some(at) if now.duration_since(*at) >= LINE_EVERY => "carrying",
            Some(_) => return None,
        };
        self.told_at.insert(id, now);
        Some(self.stderr.line(Severity::Quiet, &row_line(verb, row, now)))
    }

    fn remove_bar(&mut self, id: JobId) {
        if let Some(Bar { bar, .. }) = self.bars.remove(&id) {
            bar.finish_and_clear();
            self.stderr.bars.remove(&bar);
        }
    }

    fn draw_total(&mut self, now: Timestamp) {
        if !self.stderr.is_terminal {
            return;
        }
        let stderr = &self.stderr;
        let totals = self.board.totals();
        // Nothing of nothing would be drawn as a full bar.
        let has_length = totals.bytes_total > 0;
        let total = self.total.get_or_insert_with(|| {
            let template = template(has_length, columns());
            let bar = ProgressBar::new(0).with_style(style(template));
            let bar = stderr.bars.add(bar);
            Bar { bar, template }
        });
        total.dress(has_length);
        let bar = &total.bar;
        bar.set_length(totals.bytes_total);
        bar.set_position(totals.bytes_done);
        bar.set_prefix(board::counts(&totals));
        bar.set_message(board::time_left(totals.next_deadline, now).unwrap_or_default());
    }
}

/// A bar on the screen and what it is drawn with.
struct Bar {
    bar: ProgressBar,
    template: &'static str,
}

impl Bar {
    /// Follows a length that has become known, and a terminal that has become wider or narrower.
    fn dress(&mut self, has_length: bool) {
        let template = template(has_length, columns());
        if template != self.template {
            self.bar.set_style(style(template));
            self.template = template;
        }
    }
}

/// Fits into 80 columns with room for the bar.
const KNOWN_LENGTH: &str =
    "{prefix:<20!} {wide_bar} {size:>16} {binary_bytes_per_sec:>12} {eta:>4} {msg}";
const UNKNOWN_LENGTH: &str =
    "{prefix:<20!} {spinner} {binary_bytes:>10} {binary_bytes_per_sec:>12} {msg}";

/// The same for a narrow terminal, where a line that wraps would be drawn again below itself.
const NARROW_KNOWN_LENGTH: &str = "{prefix:<18!} {percent:>3}% {eta:>4} {msg:13!}";
const NARROW_UNKNOWN_LENGTH: &str = "{prefix:<18!} {binary_bytes:>10} {msg:13!}";

/// The narrowest terminal with room for everything and a bar.
const WIDE_COLUMNS: u16 = 76;

fn template(has_length: bool, columns: u16) -> &'static str {
    match (has_length, columns >= WIDE_COLUMNS) {
        (true, true) => KNOWN_LENGTH,
        (false, true) => UNKNOWN_LENGTH,
        (true, false) => NARROW_KNOWN_LENGTH,
        (false, false) => NARROW_UNKNOWN_LENGTH,
    }
}

/// How wide the terminal is now.
fn columns() -> u16 {
    console::Term::stderr().size().1
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .with_key(
            "size",
            |state: &ProgressState, text: &mut dyn fmt::Write| {
                let total = state.len().unwrap_or_default();
                // A bar has nobody to tell that it can't be drawn.
                let _ = text.write_str(&board::bytes_of(state.pos(), total));
            },
        )
        .progress_chars("=> ")
}

fn row_line(verb: &str, row: &Row, now: Timestamp) -> String {
    let mut line = format!("{verb:<9} {}", row.label);
    match row.total {
        Some(total) => line.push_str(&format!(" {}", board::bytes_of(row.done, total))),
        None => line.push_str(&format!(" {}", board::bytes(row.done))),
    }
    if let Some(left) = board::time_left(row.deadline, now) {
        line.push_str(&format!(", {left}"));
    }
    line
}

#[cfg(test)]
#[path = "terminal_tests.rs"]
mod tests;
