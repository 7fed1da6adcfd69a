//! `harvester retry`: failed, expired and cancelled artifacts go back to work.

use uuid::Uuid;

use super::context::existing_store;
use super::output::{CommandFailure, CommandResult};
use crate::cli::{CommandContext, list, reread, values};
use crate::error::{Class, Error};
use crate::model::{Record, State};
use crate::store::{Filter, JobStore, Selection};

/// Arguments of `retry`.
#[derive(clap::Args, Debug)]
#[group(id = "selection", required = true, multiple = false)]
pub(super) struct RetryArgs {
    /// Ids of artifacts or recordings, as `list` shows them
    #[arg(value_name = "ID")]
    ids: Vec<Uuid>,
    /// All artifacts that failed with this class
    #[arg(long, value_parser = values::class)]
    class: Option<Class>,
    /// All artifacts that failed or expired
    #[arg(long)]
    all: bool,
    /// Read again the webhook events that could not be understood, for example after an upgrade
    #[arg(long)]
    unknown: bool,
}

pub(super) async fn retry(args: RetryArgs, mut context: CommandContext) -> CommandResult {
    let now = context.clock.now();
    let store = existing_store(&context).await?;
    if args.unknown {
        return reread::reread(store.as_deref(), context).await;
    }
    if !args.ids.is_empty() {
        check_ids(store.as_deref(), &args.ids).await?;
    }
    let selection = match args.class {
        Some(class) => Selection::Class(class),
        None if args.all => Selection::All,
        None => Selection::Ids(args.ids.clone()),
    };
    let records = match &store {
        Some(store) => store.retry(&selection, now).await?,
        None => Vec::new(),
    };
    if context.output.is_json {
        context.output.json(&records)?;
    } else {
        match records.len() {
            0 => context.output.note(&nothing_to_retry(&selection)),
            count => context.output.note(&format!(
                "{count} back to work; `harvester run` takes them up"
            )),
        }
        list::table(&records, now, &mut context.output)?;
    }
    let archived = match &store {
        Some(store) if !args.ids.is_empty() => named_and_archived(store.as_ref(), args.ids).await?,
        _ => Vec::new(),
    };
    for record in &archived {
        let id = record.id;
        context
            .output
            .warn(&format!("not retried: {id} is archived"));
    }
    if archived.is_empty() {
        Ok(())
    } else {
        Err(CommandFailure::Told)
    }
}

/// Why nothing goes back to work.
fn nothing_to_retry(selection: &Selection) -> String {
    match selection {
        Selection::All => "nothing to retry: nothing was lost".to_owned(),
        Selection::Class(class) => format!("nothing to retry: no artifact was lost as {class}"),
        Selection::Ids(_) => {
            "nothing to retry: what was named is archived or still open".to_owned()
        }
    }
}

/// Those of `ids` that are artifacts for which there is nothing left to do. Of a recording that was named, what is
/// archived stays so without a word.
async fn named_and_archived(
    store: &dyn JobStore,
    ids: Vec<Uuid>,
) -> CommandResult<Vec<Record>, Error> {
    let filter = Filter {
        ids,
        ..Filter::default()
    };
    let mut records = store.list(&filter).await?;
    records.retain(|record| record.state == State::Archived && filter.ids.contains(&record.id.0));
    Ok(records)
}

/// Whether each id names a job or a recording.
pub(super) async fn check_ids(store: Option<&dyn JobStore>, ids: &[Uuid]) -> CommandResult {
    let filter = Filter {
        ids: ids.to_vec(),
        ..Filter::default()
    };
    let records = match store {
        Some(store) => store.list(&filter).await?,
        None => Vec::new(),
    };
    let is_known = |id: &&Uuid| {
        records
            .iter()
            .any(|record| record.id.0 == **id || record.recording_id.0 == **id)
    };
    match ids.iter().find(|id| !is_known(id)) {
        None => Ok(()),
        Some(id) => Err(Error::invalid(format!(
            "find {id}: no artifact and no recording has this id; `harvester list` shows them"
        ))
        .into()),
    }
}
