//! Log lines on stderr, and what may never be among them.

use tracing::Level;
use tracing_subscriber::filter::{EnvFilter, FilterExt, LevelFilter, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, registry};

use crate::report::terminal::Stderr;

/// Sends our log lines to `stderr`, from `level` on. `RUST_LOG` wins over `level`.
///
/// Libraries below us (HTTP, TLS, the AWS SDK, SQL) write requests, and with them signed queries and
/// keys, at `debug` and `trace`. So they are heard from `warn` on, whatever was asked for. The AWS libraries'
/// warnings print whole answers for what our own error then says in a line: they are heard from `error` on.
pub(super) fn init(level: Level, stderr: Stderr, is_colored: bool) {
    let wanted = EnvFilter::builder()
        .with_default_directive(LevelFilter::from_level(level).into())
        .from_env_lossy();
    let discreet = filter_fn(|metadata| *metadata.level() <= loudest(metadata.target()));
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(is_colored)
        .with_target(false)
        .with_writer(move || stderr.clone())
        .with_filter(wanted.and(discreet));
    // A second call in one process (tests) keeps the first.
    let _ = registry().with(lines).try_init();
}

/// The most verbose level that is heard of a target.
fn loudest(target: &str) -> Level {
    let root = target.split("::").next().unwrap_or_default();
    match root {
        "recording_harvester" | "harvester" => Level::TRACE,
        _ if root.starts_with("aws_") => Level::ERROR,
        _ => Level::WARN,
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
        assert_eq!(loudest("recording_harvester::worker"), Level::TRACE);
        for target in ["hyper::proto", "reqwest", "log", "sqlx::query"] {
            assert_eq!(loudest(target), Level::WARN, "{target}");
        }
        assert_eq!(loudest("aws_config::imds::region"), Level::ERROR);
    }

    #[test]
    fn verbose_and_quiet_move_the_level() {
        assert_eq!(level(Level::WARN, 0, 0), Level::WARN);
        assert_eq!(level(Level::WARN, 1, 0), Level::INFO);
        assert_eq!(level(Level::INFO, 9, 0), Level::TRACE);
        assert_eq!(level(Level::WARN, 0, 3), Level::ERROR);
    }
}
