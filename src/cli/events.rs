//! `harvester events`: what came in, and what of it nobody could make out.

use super::context::existing_store;
use super::output::{CommandResult, Output};
use super::values::{self, Since};
use crate::cli::CommandContext;
use crate::report::board::Severity;
use crate::report::printable::printable;
use crate::store::EventRecord;

/// Arguments of `events`.
#[derive(clap::Args, Debug)]
pub(super) struct EventsArgs {
    /// Only events that could not be understood: of an unknown type, of another provider, or damaged
    #[arg(long)]
    unknown: bool,
    /// Only events of this source
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Only events received since: a time such as 2026-03-02T10:00:00Z, or an age such as 7d, 12h, 30m
    #[arg(long, value_name = "TIME", value_parser = values::since)]
    since: Option<Since>,
    /// Maximum number of events, oldest first
    #[arg(long, value_name = "NUMBER", default_value_t = 1000)]
    limit: u32,
}

pub(super) async fn events(args: EventsArgs, mut context: CommandContext) -> CommandResult {
    let since = args.since.map(|since| since.from(context.clock.now()));
    let mut events = match existing_store(&context).await? {
        Some(store) if args.unknown => store.unknown_events(since, None, args.limit).await?,
        Some(store) => store.events(since, args.limit).await?,
        None => Vec::new(),
    };
    let is_full = events.len() >= usize::try_from(args.limit).unwrap_or(usize::MAX);
    if let Some(source) = &args.source {
        events.retain(|event| event.source == *source);
    }
    let output = &mut context.output;
    if output.is_json {
        output.json(&events)?;
    } else {
        events.iter().try_for_each(|event| tell(event, output))?;
    }
    if events.is_empty() {
        output.note("nothing to list");
    }
    if is_full {
        output.note("there may be more: raise --limit, or go on with --since");
    }
    Ok(())
}

fn tell(event: &EventRecord, output: &mut Output) -> CommandResult {
    let event_type = event.event_type.as_deref().unwrap_or("no type");
    let mut text = format!(
        "{}  {}  {}  {:<10}  {}",
        event.id,
        event.received_at,
        printable(&event.source),
        event.class.as_str(),
        printable(event_type)
    );
    let tone = match &event.alert {
        Some(alert) => {
            text.push_str(&format!("  {}", printable(alert)));
            Severity::Warning
        }
        None => Severity::Quiet,
    };
    output.toned(tone, &text)?;
    Ok(())
}
