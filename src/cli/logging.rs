//! Log lines on stderr, and what may never be among them.

use std::fmt::{self, Debug};

use tracing::Level;
use tracing::field::Field;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::filter::{EnvFilter, FilterExt, LevelFilter, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, registry};

use crate::report::printable::spelled;
use crate::report::terminal::Stderr;

/// Sends our log lines to `stderr`, from `level` on. `RUST_LOG` wins over `level`.
///
/// Libraries below us (HTTP, TLS, the AWS SDK, SQL) write requests, and with them signed queries and
/// keys, at `debug` and `trace`. So they are heard from `warn` on, whatever was asked for. The AWS libraries'
/// warnings print whole answers for what our own error then says in a line: they are heard from `error` on. The
/// embedded S3 server's library prints its whole answer to every refusal, which we log in our own words: it is not
/// heard.
pub(super) fn init(level: Level, stderr: Stderr, is_colored: bool) {
    let wanted = EnvFilter::builder()
        .with_default_directive(LevelFilter::from_level(level).into())
        .from_env_lossy();
    let discreet = filter_fn(|metadata| {
        loudest(metadata.target()).is_some_and(|loudest| *metadata.level() <= loudest)
    });
    let lines = lines(move || stderr.clone(), is_colored).with_filter(wanted.and(discreet));
    // A second call in one process (tests) keeps the first.
    let _ = registry().with(lines).try_init();
}

/// What writes a line for each event.
fn lines<S, W>(writer: W, is_colored: bool) -> impl Layer<S>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    tracing_subscriber::fmt::layer()
        .with_ansi(is_colored)
        .with_target(false)
        .fmt_fields(debug_fn(write_field).delimited(" "))
        .with_writer(writer)
}

/// Writes the message or a field of a line. Both may hold words of guests, providers and origins, which must neither
/// move the cursor nor begin a line of their own.
fn write_field(writer: &mut Writer<'_>, field: &Field, value: &dyn Debug) -> fmt::Result {
    let value = spelled(&format!("{value:?}"));
    match field.name() {
        "message" => writer.write_str(&value),
        name if writer.has_ansi_escapes() => {
            write!(writer, "\u{1b}[3m{name}\u{1b}[0m\u{1b}[2m=\u{1b}[0m{value}")
        }
        name => write!(writer, "{name}={value}"),
    }
}

/// The most verbose level that is heard of a target; `None` when none is.
fn loudest(target: &str) -> Option<Level> {
    let root = target.split("::").next().unwrap_or_default();
    match root {
        "recording_harvester" | "harvester" => Some(Level::TRACE),
        "s3s" => None,
        _ if root.starts_with("aws_") => Some(Level::ERROR),
        _ => Some(Level::WARN),
    }
}

/// The level that `-v` and `-q` ask for, from a command's own.
pub(super) fn level(own: Level, verbose: u8, quiet: u8) -> Level {
    const LEVELS: [Level; 5] = [
        Level::ERROR,
        Level::WARN,
        Level::INFO,
        Level::DEBUG,
        Level::TRACE,
    ];
    let own = LEVELS.iter().position(|level| *level == own).unwrap_or(1);
    let wanted = (own + usize::from(verbose)).saturating_sub(usize::from(quiet));
    LEVELS[wanted.min(LEVELS.len() - 1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_targets_speak_below_warn() {
        assert_eq!(loudest("recording_harvester::worker"), Some(Level::TRACE));
        for target in ["hyper::proto", "reqwest", "log", "sqlx::query"] {
            assert_eq!(loudest(target), Some(Level::WARN), "{target}");
        }
        assert_eq!(loudest("aws_config::imds::region"), Some(Level::ERROR));
        assert_eq!(loudest("s3s::service"), None);
    }

    /// What a line looks like that `log` writes.
    fn logged(is_colored: bool, log: impl FnOnce()) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        let writer = file.reopen().unwrap();
        let lines = lines(std::sync::Mutex::new(writer), is_colored);
        tracing::subscriber::with_default(registry().with(lines), log);
        std::fs::read_to_string(file.path()).unwrap()
    }

    // S12
    #[test]
    fn words_of_others_do_not_end_a_line_or_move_the_cursor() {
        let evil = "x\r2026 INFO archived job=FORGED\n\u{1b}[2K\u{9b}2J\u{2028}";
        let line = logged(false, || {
            tracing::info!(room = %evil, debugged = ?evil, text = evil, "said {evil}");
        });
        let body = line.strip_suffix('\n').unwrap();
        let acting = body.chars().find(|c| c.is_control() || *c == '\u{2028}');
        assert_eq!(acting, None, "{line:?}");
        assert!(
            body.contains(r"room=x\r2026 INFO archived job=FORGED\n\u{1b}[2K"),
            "{body}"
        );
        let colored = logged(true, || tracing::info!(room = %evil, "said {evil}"));
        assert!(
            !colored.contains("\u{1b}[2K") && !colored.contains('\r'),
            "{colored:?}"
        );
        assert_eq!(colored.matches('\n').count(), 1, "{colored:?}");
    }

    #[test]
    fn verbose_and_quiet_move_the_level() {
        assert_eq!(level(Level::WARN, 0, 0), Level::WARN);
        assert_eq!(level(Level::WARN, 1, 0), Level::INFO);
        assert_eq!(level(Level::INFO, 9, 0), Level::TRACE);
        assert_eq!(level(Level::WARN, 0, 3), Level::ERROR);
    }
}
