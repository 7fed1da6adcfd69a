//! `harvester backfill`: asks a provider what exists and archives what is missing.
//!
//! What is archived is passed over and what is recorded and still open is worked on, so an interrupted backfill goes on
//! where it stopped by being run again. A worker that runs on the store does the archiving; without one it is done
//! here, in the foreground.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::context::existing_store;
use super::output::{CommandFailure, CommandResult, Output};
use super::values::{self, Since};
use super::{CommandContext, archive, signals};
use crate::app;
use crate::app::App;
use crate::config::Config;
use crate::ingest::list::Window;
use crate::model::{JobId, Layout};
use crate::report::board::Severity;
use crate::report::printable::printable;
use crate::worker::scan::{FoundRecording, KnownRecording, Purpose, ScannedSource, Walked, Walker};

/// Arguments of `backfill`.
#[derive(clap::Args, Debug)]
pub(super) struct BackfillArgs {
    /// Name of the source in the configuration
    #[arg(value_name = "SOURCE")]
    source: String,
    /// Recordings that ended since: a time such as 2026-03-02T10:00:00Z, or an age such as 7d, 12h, 30m
    #[arg(long, value_name = "TIME", value_parser = values::since)]
    since: Since,
    /// Recordings that ended before [default: now]
    #[arg(long, value_name = "TIME", value_parser = values::since)]
    until: Option<Since>,
    /// Only list the recordings and their state here; write nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn backfill(args: BackfillArgs, context: CommandContext) -> CommandResult {
    let shutdown = CancellationToken::new();
    let output = context.output.clone();
    let work = perform(args, context, shutdown.clone());
    signals::heeding(&output, &shutdown, work).await?
}

async fn perform(
    args: BackfillArgs,
    mut context: CommandContext,
    shutdown: CancellationToken,
) -> CommandResult {
    let subject = subject(&args.source, &context.config)?;
    let now = context.clock.now();
    let window = Window {
        since: args.since.from(now),
        until: args.until.map_or(now, |until| until.from(now)),
    };
    if window.since >= window.until {
        return Err(CommandFailure::Usage(
            "--since is not before --until: nothing lies between them".to_owned(),
        ));
    }
    match args.dry_run {
        true => look(&subject, window, &mut context, &shutdown).await,
        false => fill(&subject, window, context, &shutdown).await,
    }
}

fn subject(name: &str, config: &Config) -> CommandResult<ScannedSource> {
    let mut subjects = app::subjects(config);
    subjects.remove(name).ok_or_else(|| {
        let mut names: Vec<_> = subjects.into_keys().collect();
        names.sort_unstable();
        CommandFailure::Usage(format!(
            "there is no source {}; there are {}",
            name.escape_debug(),
            names.join(", ")
        ))
    })
}

/// Only looks. The store is read if there is one; none is made.
async fn look(
    subject: &ScannedSource,
    window: Window,
    context: &mut CommandContext,
    shutdown: &CancellationToken,
) -> CommandResult {
    let store = existing_store(context).await?;
    let config = &context.config;
    let walker = Walker {
        store: store.clone(),
        source: app::api_source(config, &context.clock)?,
        clock: Arc::clone(&context.clock),
        layout: Layout::new(&config.archive.prefix, &config.archive.template)?,
    };
    let purpose = Purpose {
        window,
        is_dry_run: true,
        is_thorough: true,
    };
    let (walked, _) = walk(&walker, subject, &purpose, &mut context.output, shutdown).await?;
    context.output.note(&summary(&walked, true));
    walked.whole().map(drop).map_err(CommandFailure::from)
}

async fn fill(
    subject: &ScannedSource,
    window: Window,
    context: CommandContext,
    shutdown: &CancellationToken,
) -> CommandResult {
    let CommandContext {
        config,
        mut output,
        clock,
    } = context;
    let house = App::open(config.clone(), clock).await?;
    let filled = fill_house(&house, subject, window, &mut output, shutdown).await;
    house.close().await;
    filled
}

async fn fill_house(
    house: &App,
    subject: &ScannedSource,
    window: Window,
    output: &mut Output,
    shutdown: &CancellationToken,
) -> CommandResult {
    let walker = Walker {
        store: Some(house.store.clone()),
        source: app::api_source(&house.config, &house.clock)?,
        clock: Arc::clone(&house.clock),
        layout: house.layout.clone(),
    };
    let purpose = Purpose {
        window,
        is_dry_run: false,
        is_thorough: true,
    };
    let (walked, jobs) = walk(&walker, subject, &purpose, output, shutdown).await?;
    output.note(&summary(&walked, false));
    if shutdown.is_cancelled() {
        output.warn("interrupted; the same command goes on where this one stopped");
        return Err(CommandFailure::Told);
    }
    if let Some(trouble) = &walked.trouble {
        output.error(trouble)?;
        output.warn("not all that exists was seen; what was found is archived, and the same command asks again");
    }
    let is_all_there = work_on(house, jobs, output, shutdown).await?;
    if output.is_json {
        output.json(&json!({ "summary": counts(&walked) }))?;
    }
    match is_all_there && walked.trouble.is_none() && walked.failures == 0 {
        true => Ok(()),
        false => Err(CommandFailure::Told),
    }
}

/// The jobs of what was found.
#[derive(Default)]
struct BackfillJobs {
    /// To be worked on: those of now, and those that an earlier run has left.
    open: Vec<JobId>,
    /// Done, unless an earlier run ended just before the manifest.
    archived: Vec<JobId>,
    known: HashSet<JobId>,
}

impl BackfillJobs {
    fn take(&mut self, sighting: &FoundRecording) {
        for job in open_jobs(sighting) {
            if self.known.insert(*job) {
                self.open.push(*job);
            }
        }
        self.archived.extend(&sighting.archived);
    }
}

/// Those that something has to be worked on for.
fn open_jobs(sighting: &FoundRecording) -> impl Iterator<Item = &JobId> {
    sighting.jobs.iter().chain(&sighting.open)
}

/// Whether all of `jobs` are archived, or in the hands of a worker. With `--json` each has its line, as `archive`
/// writes them.
async fn work_on(
    house: &App,
    jobs: BackfillJobs,
    output: &mut Output,
    shutdown: &CancellationToken,
) -> CommandResult<bool> {
    let mut wanted = jobs.open;
    let is_sealed = house.store.unsealed(1).await?.is_empty();
    if wanted.is_empty() && is_sealed {
        return Ok(true);
    }
    // Not held: a worker may start at any time, and shares the work.
    if house.store.lock_worker().await.is_err() {
        output.note("the worker that runs on this store archives them");
        return Ok(true);
    }
    if !is_sealed {
        wanted.extend(jobs.archived);
    }
    let jobs = archive::ArchiveJobs {
        ids: wanted,
        made: Vec::new(),
        have_open: false,
    };
    archive::work_on(house, jobs, output, shutdown).await
}

async fn walk(
    walker: &Walker,
    subject: &ScannedSource,
    purpose: &Purpose,
    output: &mut Output,
    shutdown: &CancellationToken,
) -> CommandResult<(Walked, BackfillJobs)> {
    let spinner = output
        .stderr
        .spinner(&format!("asking {} what exists", printable(&subject.name)));
    let mut jobs = BackfillJobs::default();
    let mut found = 0u64;
    let mut printed = Ok(());
    let mut on_sighting = |sighting: &FoundRecording| {
        found += 1;
        spinner.tell(&format!("{found} found"));
        jobs.take(sighting);
        if printed.is_ok() {
            printed = tell(sighting, subject, purpose, output);
        }
        Ok(())
    };
    let walked = walker
        .walk(subject, purpose, &mut on_sighting, shutdown)
        .await;
    spinner.end();
    printed?;
    Ok((walked, jobs))
}

fn tell(
    sighting: &FoundRecording,
    subject: &ScannedSource,
    purpose: &Purpose,
    output: &mut Output,
) -> CommandResult {
    let event = &sighting.event;
    let recording = &event.recording;
    if output.is_json {
        let artifacts: Vec<_> = event
            .artifacts
            .iter()
            .map(|artifact| json!({"name": artifact.name, "kind": artifact.kind}))
            .collect();
        let failures: Vec<_> = event
            .failures
            .iter()
            .map(|failure| json!({"code": failure.code, "message": failure.message}))
            .collect();
        return output.json(&json!({
            "source": subject.name,
            "provider": subject.provider,
            "id": event.event_id,
            "type": event.event_type,
            "at": event.event_time,
            "recording": {
                "id": recording.recording_id.as_ref().or(recording.bot_id.as_ref()),
                "session_id": recording.session_id,
                "room_id": recording.room_id,
                "room_name": recording.room_name,
            },
            "artifacts": artifacts,
            "failures": failures,
            "status": sighting.standing,
            "recorded": sighting.is_recorded,
            "jobs": open_jobs(sighting).collect::<Vec<_>>(),
        }));
    }
    let (tone, word) = match sighting.standing {
        KnownRecording::New if purpose.is_dry_run => (Severity::Warning, "missing"),
        KnownRecording::New => (Severity::Good, "found"),
        KnownRecording::Lost => (Severity::Warning, "lost"),
        KnownRecording::Known if !sighting.open.is_empty() => (Severity::Warning, "open"),
        KnownRecording::Known => (Severity::Quiet, "known"),
        KnownRecording::Failure => (Severity::Bad, "failed"),
    };
    let id = recording.identity().unwrap_or_default();
    let mut line = format!("{word:<8} {}  {}", time(event.event_time), printable(id));
    if let Some(room) = &recording.room_name {
        line.push_str(&format!("  {}", printable(room)));
    }
    let names: Vec<_> = event.artifacts.iter().map(|a| printable(&a.name)).collect();
    line.push_str(&format!("  {}", names.join(", ")));
    for failure in &event.failures {
        line.push_str(&format!("  {}", printable(&failure.message)));
    }
    output.toned(tone, &line)
}

fn time(at: Option<Timestamp>) -> String {
    match at {
        Some(at) => at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        None => format!("{:20}", "no date"),
    }
}

fn counts(walked: &Walked) -> serde_json::Value {
    json!({
        "found": walked.found,
        "new": walked.new,
        "lost": walked.lost,
        "open": walked.open,
        "failures": walked.failures,
        "undated": walked.undated,
        "complete": walked.trouble.is_none(),
    })
}

fn summary(walked: &Walked, is_dry_run: bool) -> String {
    let Walked {
        found,
        new,
        lost,
        open,
        failures,
        undated,
        ..
    } = walked;
    let done = if is_dry_run {
        "nothing was recorded"
    } else {
        "the rest was known"
    };
    let undated = match undated {
        0 => String::new(),
        _ => format!("; {undated} without a date, which may be older than asked for"),
    };
    format!(
        "{found} found: {new} missing here, {lost} lost here, {open} recorded and not archived yet, {failures} failed \
         at the provider; {done}{undated}"
    )
}
