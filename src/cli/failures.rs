//! `harvester failures`: what was lost, grouped by what to do about it.

use super::context::existing_store;
use super::output::{CommandResult, Output};
use super::values::{self, Since};
use crate::cli::CommandContext;
use crate::error::Class;
use crate::model::{Record, State};
use crate::report::board::{self, Severity};
use crate::report::failure::{self, Group, ReportedLoss};
use crate::report::printable::printable;
use crate::store::{Filter, JobStore};

/// Recordings without a manifest that are told at most: they have one cause, mostly.
const MANIFESTS: u32 = 1000;

/// Arguments of `failures`.
#[derive(clap::Args, Debug)]
pub(super) struct FailuresArgs {
    /// Only losses created or changed since: a time such as 2026-03-02T10:00:00Z, or an age such as 7d, 12h, 30m
    #[arg(long, value_name = "TIME", value_parser = values::since)]
    since: Option<Since>,
}

pub(super) async fn failures(args: FailuresArgs, mut context: CommandContext) -> CommandResult {
    let since = args.since.map(|since| since.from(context.clock.now()));
    let now = context.clock.now();
    let groups = match existing_store(&context).await? {
        Some(store) => read(store.as_ref(), since, now).await?,
        None => Vec::new(),
    };
    if context.output.is_json {
        return context
            .output
            .json(&serde_json::json!({ "groups": groups }));
    }
    if groups.is_empty() {
        context.output.note("nothing was lost");
    }
    groups
        .iter()
        .try_for_each(|group| tell(group, &mut context.output))
}

async fn read(
    store: &dyn JobStore,
    since: Option<jiff::Timestamp>,
    now: jiff::Timestamp,
) -> CommandResult<Vec<Group>> {
    let filter = Filter {
        states: vec![State::Failed, State::Expired, State::Pending],
        since,
        ..Filter::default()
    };
    let mut records = store.list(&filter).await?;
    records.retain(needs_a_person);
    let losses = store.provider_failures(since).await?;
    let losses = losses.into_iter().map(|loss| ReportedLoss {
        failure: loss.failure,
        recording: loss.recording,
    });
    let manifests = store.overdue_manifests(now, MANIFESTS).await?;
    Ok(failure::group(records, losses.collect(), manifests))
}

/// A pending job is no loss, unless it waits for a bucket that refuses: only a person can change that.
fn needs_a_person(record: &Record) -> bool {
    record.state != State::Pending || record.class == Some(Class::UploadDenied)
}

fn tell(group: &Group, output: &mut Output) -> CommandResult {
    let plural = if group.count == 1 { "loss" } else { "losses" };
    output.toned(
        Severity::Bad,
        &format!("{}: {} {plural}", group.class, group.count),
    )?;
    output.toned(
        Severity::Warning,
        &format!("  {}", printable(&group.action)),
    )?;
    for record in &group.artifacts {
        let message = record.message.as_deref().unwrap_or_default();
        let label = board::label(record);
        let message = printable(message);
        output.line(&format!("  {}  {label}  {message}", record.id))?;
    }
    for loss in &group.provider_failures {
        let name = printable(&loss.recording.source);
        let message = failure::words(loss.failure.code.as_deref(), &loss.failure.message);
        let id = loss.recording.id;
        output.line(&format!("  recording {id}  {name}  {message}"))?;
    }
    for manifest in &group.manifests {
        let name = printable(&manifest.recording.source);
        let message = printable(&manifest.message);
        let id = manifest.recording.id;
        let since = manifest.failing_since;
        output.line(&format!(
            "  recording {id}  {name}  no manifest since {since:.0}: {message}"
        ))?;
    }
    Ok(())
}
