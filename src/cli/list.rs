//! `harvester list`: every artifact and where it stands.

use uuid::Uuid;

use super::context::existing_store;
use super::output::{CommandResult, Output};
use super::values::{self, Since};
use crate::cli::CommandContext;
use crate::model::{Provider, Record, State};
use crate::report::board::{self, Severity};
use crate::report::printable::printable;
use crate::store::Filter;

/// Arguments of `list`.
#[derive(clap::Args, Debug)]
pub(super) struct ListArgs {
    /// Only artifacts in this state; can be repeated
    #[arg(long = "state", value_name = "STATE", value_parser = values::state, value_delimiter = ',')]
    states: Vec<State>,
    /// Only artifacts of this provider
    #[arg(long, value_parser = values::provider)]
    provider: Option<Provider>,
    /// Only artifacts created or changed since: a time such as 2026-03-02T10:00:00Z, or an age such as 7d, 12h, 30m
    #[arg(long, value_name = "TIME", value_parser = values::since)]
    since: Option<Since>,
}

pub(super) async fn list(args: ListArgs, mut context: CommandContext) -> CommandResult {
    values::known_provider(args.provider, &context.config)?;
    let now = context.clock.now();
    let filter = Filter {
        states: args.states,
        provider: args.provider,
        since: args.since.map(|since| since.from(now)),
        ..Filter::default()
    };
    let records = match existing_store(&context).await? {
        Some(store) => store.list(&filter).await?,
        None => Vec::new(),
    };
    if context.output.is_json {
        return context.output.json(&records);
    }
    if records.is_empty() {
        context.output.note("nothing to list");
    }
    table(&records, now, &mut context.output)
}

/// Artifacts under their recordings, with the ids that other commands take.
pub(super) fn table(
    records: &[Record],
    now: jiff::Timestamp,
    output: &mut Output,
) -> CommandResult {
    for (recording, records) in by_recording(records) {
        let first = records.first().map(|record| printable(&record.source));
        output.line(&format!(
            "recording {recording}  {}",
            first.unwrap_or_default()
        ))?;
        for record in records {
            let (tone, text) = row(record, now);
            output.toned(tone, &text)?;
        }
    }
    Ok(())
}

fn by_recording(records: &[Record]) -> Vec<(Uuid, Vec<&Record>)> {
    let mut places = std::collections::HashMap::new();
    let mut groups: Vec<(Uuid, Vec<&Record>)> = Vec::new();
    for record in records {
        let id = record.recording_id.0;
        let at = *places.entry(id).or_insert_with(|| {
            groups.push((id, Vec::new()));
            groups.len() - 1
        });
        groups[at].1.push(record);
    }
    groups
}

fn row(record: &Record, now: jiff::Timestamp) -> (Severity, String) {
    let mut text = format!(
        "  {}  {:<9}  {}",
        record.id,
        record.state.as_str(),
        printable(&record.name)
    );
    if let Some(size) = record.size_bytes {
        text.push_str(&format!("  {}", board::bytes(size)));
    }
    let tone = match record.state {
        State::Archived => Severity::Good,
        State::Expired | State::Failed => Severity::Bad,
        State::Cancelled => Severity::Quiet,
        State::Pending | State::Running => Severity::Warning,
    };
    match record.state {
        State::Archived => text.push_str(&format!("  {}", printable(&record.key))),
        State::Pending | State::Running => {
            if let Some(left) = board::time_left(record.deadline, now) {
                text.push_str(&format!("  {left}"));
            }
        }
        _ => {}
    }
    if let Some(class) = record.class {
        text.push_str(&format!("  {class}"));
    }
    if let Some(message) = &record.message {
        text.push_str(&format!(": {}", printable(message)));
    }
    (tone, text)
}
