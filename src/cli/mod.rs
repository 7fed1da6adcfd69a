//! The commands, one file each; this room alone wires the parts together.
//!
//! Results go to stdout: text for people, or with `--json` one document, or one object a line for
//! streams. Notes, bars, logs and errors go to stderr. Exit codes: 0 everything asked for was done,
//! 1 something was not (and it says what), 2 usage or configuration.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{ArgAction, Parser, Subcommand};
use tracing::Level;

use crate::clock::SystemClock;
use crate::config::{self, Config, Layers};
use crate::error::Error;
pub use context::CommandContext;
use output::{Color, CommandFailure, CommandResult, Output};

mod admin_token;
mod archive;
mod archive_screen;
mod backfill;
mod cancel;
mod completions;
mod context;
mod descriptors;
mod doctor;
mod events;
mod failures;
mod input;
mod inspect;
mod learn;
mod list;
mod logging;
pub mod output;
mod reread;
mod retry;
mod run;
pub(crate) mod senders;
pub(crate) mod signals;
mod values;
mod watch;

/// Archives meeting recordings from expiring presigned URLs into your own S3 bucket, verified.
///
/// Settings come from ./harvester.toml or --config FILE. Environment variables HARVESTER_SECTION__KEY override the file,
/// and --set overrides both. Without settings, state and archive are kept under ./harvester-data.
#[derive(Parser, Debug)]
#[command(name = "harvester", version)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Args, Debug)]
struct Global {
    /// Configuration file [default: ./harvester.toml, if it exists]
    #[arg(long, global = true, value_name = "FILE", env = "HARVESTER_CONFIG")]
    config: Option<PathBuf>,
    /// Override a setting, such as archive.bucket=my-bucket; can be repeated
    #[arg(long = "set", global = true, value_name = "KEY=VALUE", value_parser = values::setting)]
    settings: Vec<(String, String)>,
    /// Print results as JSON
    #[arg(long, global = true)]
    json: bool,
    /// Log more; repeat for even more
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
    /// Log less, without notes
    #[arg(short, long, global = true, action = ArgAction::Count)]
    quiet: u8,
    /// When to use color
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto)]
    color: Color,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Receive webhooks and archive their recordings until a signal ends it
    Run(run::RunArgs),
    /// Archive events or URLs now, in the foreground
    Archive(archive::ArchiveArgs),
    /// Show the live progress of a running worker
    Watch(watch::WatchArgs),
    /// Show the files, deadlines and keys of events, URLs or playlists; no network, no writes
    Inspect(inspect::InspectArgs),
    /// List artifacts and their state
    List(list::ListArgs),
    /// List lost files, grouped by cause, with the remedy
    Failures(failures::FailuresArgs),
    /// List received webhook events, or only those that could not be understood
    Events(events::EventsArgs),
    /// Try failed, expired or cancelled artifacts again
    Retry(retry::RetryArgs),
    /// Give up artifacts that are not archived yet
    Cancel(cancel::CancelArgs),
    /// Ask a provider which recordings exist, and archive the missing ones
    Backfill(backfill::BackfillArgs),
    /// Check configuration, store, bucket, credentials, webhooks and clocks, and print the fix for each fault
    Doctor(doctor::DoctorArgs),
    /// Run the whole journey on this machine with made-up providers; needs no configuration
    Demo(crate::demo::DemoArgs),
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs),
    /// Print the manual page
    Man,
}

/// Runs the command that the process was started with, to its exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return explain(&error),
    };
    let mut output = Output::new(cli.global.json, cli.global.color, cli.global.quiet > 0);
    let own_level = match cli.command {
        Command::Run(_) => Level::INFO,
        _ => Level::WARN,
    };
    let level = logging::level(own_level, cli.global.verbose, cli.global.quiet);
    logging::init(level, output.stderr.clone(), output.stderr.is_colored());
    match dispatch(cli, &output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => ExitCode::from(output.fail(&failure)),
    }
}

/// Help and usage errors. An argument may be a signed URL in the wrong place: its query is not repeated.
fn explain(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        // Help or version was asked for; that nobody reads it is no failure.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let is_json = std::env::args_os().any(|argument| argument == "--json");
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text).trim_end();
    let mut output = Output::new(is_json, Color::Auto, false);
    ExitCode::from(output.misused(text))
}

fn dispatch(cli: Cli, output: &Output) -> CommandResult {
    let mut output = output.clone();
    match &cli.command {
        Command::Completions(args) => return completions::completions(args, &mut output),
        Command::Man => return completions::man(&mut output),
        _ => {}
    }
    let config = load_config(&cli.global)?;
    if let Some(file) = &config.implicit_file {
        output.note(&format!("using {file}"));
    }
    let context = CommandContext {
        config,
        output,
        clock: Arc::new(SystemClock),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::internal("start the runtime").with_source(error))?;
    runtime.block_on(perform(cli.command, context))
}

async fn perform(command: Command, context: CommandContext) -> CommandResult {
    match command {
        Command::Run(args) => run::run(args, context).await,
        Command::Archive(args) => archive::archive(args, context).await,
        Command::Watch(args) => watch::watch(args, context).await,
        Command::Inspect(args) => inspect::inspect(args, context),
        Command::List(args) => list::list(args, context).await,
        Command::Failures(args) => failures::failures(args, context).await,
        Command::Events(args) => events::events(args, context).await,
        Command::Retry(args) => retry::retry(args, context).await,
        Command::Cancel(args) => cancel::cancel(args, context).await,
        Command::Backfill(args) => backfill::backfill(args, context).await,
        Command::Doctor(args) => doctor::doctor(args, context).await,
        Command::Demo(args) => crate::demo::demo(args, context).await,
        Command::Completions(_) | Command::Man => Ok(()),
    }
}

fn load_config(global: &Global) -> CommandResult<Config> {
    let layers = Layers {
        file: global.config.clone(),
        environment: environment(),
        flags: global.settings.clone(),
    };
    config::load(&layers).map_err(|error| CommandFailure::Usage(error.full_message()))
}

/// What of the environment is text; our variables have to be.
fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_definition_of_the_commands_is_sound() {
        super::Cli::command().debug_assert();
    }
}
