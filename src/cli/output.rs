//! What a command says: results on stdout, everything else on stderr, and how it ends.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::error::{Class, Error};
use crate::report::board::Severity;
use crate::report::printable::{printable, printable_lines, spelled_json};
use crate::report::terminal::{Stderr, paint};

/// Why a command ends with another exit code than 0.
#[derive(Debug)]
pub enum CommandFailure {
    /// It was asked for wrongly, or the configuration is wrong: exit code 2.
    Usage(String),
    /// It could not be done: exit code 1.
    Failed(Error),
    /// Something of it was not done, and that has been said: exit code 1.
    Told,
}

impl From<Error> for CommandFailure {
    fn from(error: Error) -> CommandFailure {
        CommandFailure::Failed(error)
    }
}

/// Result of a command.
pub type CommandResult<T = (), E = CommandFailure> = std::result::Result<T, E>;

/// Stdout and stderr of one command.
#[derive(Clone)]
pub struct Output {
    /// Whether results are JSON.
    pub is_json: bool,
    /// Where notes, bars and logs go.
    pub stderr: Stderr,
    is_colored: bool,
    is_closed: bool,
    is_quiet: bool,
}

/// When to use colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Color {
    fn is_on(self, is_terminal: bool) -> bool {
        // https://no-color.org: present and not empty.
        let is_refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        match self {
            Color::Auto => is_terminal && !is_refused,
            Color::Always => true,
            Color::Never => false,
        }
    }
}

impl Output {
    /// The process's own; a quiet one drops notes.
    pub fn new(is_json: bool, color: Color, is_quiet: bool) -> Output {
        Output {
            is_json,
            stderr: Stderr::new(color.is_on(io::stderr().is_terminal())),
            is_colored: color.is_on(io::stdout().is_terminal()),
            is_closed: false,
            is_quiet,
        }
    }

    /// A line of the result for a person, or several with their ends, without what a terminal would act on.
    ///
    /// # Errors
    /// When stdout can't be written. A reader that went away (`| head`) is none: the rest is dropped.
    pub fn line(&mut self, text: &str) -> CommandResult {
        self.write_line(&printable_lines(text))
    }

    fn write_line(&mut self, text: &str) -> CommandResult {
        if self.is_closed {
            return Ok(());
        }
        let mut stdout = io::stdout().lock();
        let written = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
        match written {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.is_closed = true;
                Ok(())
            }
            Err(error) => Err(Error::internal("write to standard output")
                .with_source(error)
                .into()),
        }
    }

    /// Whether nobody reads stdout any more.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// A line for a person in the colour of its tone.
    ///
    /// # Errors
    /// As [`line`](Output::line).
    pub fn toned(&mut self, tone: Severity, text: &str) -> CommandResult {
        let line = paint(tone, &printable(text), self.is_colored);
        self.write_line(&line)
    }

    /// A result as JSON on a line of its own.
    ///
    /// # Errors
    /// As [`line`](Output::line).
    pub fn json(&mut self, value: &impl Serialize) -> CommandResult {
        self.json_lines(std::slice::from_ref(value))
    }

    /// Values as JSON, a line each, in one write.
    ///
    /// # Errors
    /// As [`line`](Output::line).
    pub fn json_lines(&mut self, values: &[impl Serialize]) -> CommandResult {
        let lines = values
            .iter()
            .map(|value| serde_json::to_string(value).map(|json| spelled_json(&json)))
            .collect::<CommandResult<Vec<_>, _>>()
            .map_err(|error| Error::internal("write JSON").with_source(error))?;
        match lines.is_empty() {
            true => Ok(()),
            false => self.write_line(&lines.join("\n")),
        }
    }

    /// A note for a person, on stderr.
    pub fn note(&self, text: &str) {
        if self.is_quiet {
            return;
        }
        self.stderr.say(Severity::Quiet, text);
    }

    /// A warning for a person, on stderr.
    pub fn warn(&self, text: &str) {
        self.stderr.say(Severity::Warning, text);
    }

    /// Says why the command failed: to a person, and with `--json` to the program as well.
    /// Answers with the exit code.
    pub fn fail(&mut self, failure: &CommandFailure) -> u8 {
        match failure {
            CommandFailure::Told => 1,
            CommandFailure::Usage(message) => {
                // Of a wrong configuration each setting has its line.
                let (first, rest) = message.split_once('\n').unwrap_or((message, ""));
                self.tell_as(Class::Invalid, first, message, None);
                for line in rest.lines() {
                    self.stderr.say(Severity::Bad, &without_queries(line));
                }
                2
            }
            CommandFailure::Failed(error) => {
                let action = has_advice(error.class()).then(|| error.class().action());
                self.tell(error.class(), FAILED_TO, &error.full_message(), action);
                1
            }
        }
    }

    /// Says that one of several things failed; the command goes on.
    ///
    /// # Errors
    /// As [`line`](Output::line).
    pub fn error(&mut self, error: &Error) -> CommandResult {
        self.tell(error.class(), FAILED_TO, &error.full_message(), None);
        Ok(())
    }

    /// Says how the command has to be written, in lines of our own. Answers with the exit code.
    pub(super) fn misused(&mut self, text: &str) -> u8 {
        let text = without_queries(text);
        if self.is_json {
            let error = serde_json::json!({
                "error": {"class": Class::Invalid, "message": text, "action": null}
            });
            // What stdout does not take any more is still said on stderr.
            let _ = self.json(&error);
        }
        for (number, line) in text.lines().enumerate() {
            let intro = if number == 0 { "error: " } else { "" };
            self.stderr.say(Severity::Bad, &format!("{intro}{line}"));
        }
        2
    }

    fn tell(&mut self, class: Class, intro: &str, message: &str, action: Option<&str>) {
        self.tell_as(class, &format!("{intro}{message}"), message, action);
    }

    /// `shown` to a person, `message` to a program.
    fn tell_as(&mut self, class: Class, shown: &str, message: &str, action: Option<&str>) {
        let (shown, message) = (without_queries(shown), without_queries(message));
        if self.is_json {
            let error = serde_json::json!({
                "error": {"class": class, "message": message, "action": action}
            });
            // What stdout does not take any more is still said on stderr.
            let _ = self.json(&error);
        }
        self.stderr.say(Severity::Bad, &format!("error: {shown}"));
        if let Some(action) = action {
            self.stderr
                .say(Severity::Quiet, &format!("  {class}: {action}"));
        }
    }
}

/// What every error's message fits after.
const FAILED_TO: &str = "failed to ";

/// The advice of the other classes is about an artifact or the worker, not about a command.
fn has_advice(class: Class) -> bool {
    matches!(class, Class::UploadDenied | Class::UploadFailed)
}

/// `text` with the query of every URL in it removed: the last belt around what commands print.
pub(super) fn without_queries(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, url) = rest.split_at(at + 3);
        shown.push_str(before);
        let ends_url = |c: char| c.is_whitespace() || "\"'`<>".contains(c);
        let end = url.find(ends_url).unwrap_or(url.len());
        let (url, after) = url.split_at(end);
        let query = url.find(['?', '#']).unwrap_or(url.len());
        shown.push_str(&url[..query]);
        rest = after;
    }
    shown.push_str(rest);
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_of_every_url_is_removed() {
        assert_eq!(
            without_queries("get 'https://a/b?X-Amz-Signature=1' and http://c/d?e then f?g"),
            "get 'https://a/b' and http://c/d then f?g"
        );
        assert_eq!(without_queries("no url"), "no url");
    }
}
