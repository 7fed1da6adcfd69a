//! `harvester cancel`: artifacts that are not archived yet are given up.

use uuid::Uuid;

use super::context::existing_store;
use super::output::{CommandFailure, CommandResult};
use crate::cli::{CommandContext, list, retry};
use crate::model::State;
use crate::store::Filter;

/// Arguments of `cancel`.
#[derive(clap::Args, Debug)]
pub(super) struct CancelArgs {
    /// Ids of artifacts or recordings, as `list` shows them
    #[arg(value_name = "ID", required = true)]
    ids: Vec<Uuid>,
}

pub(super) async fn cancel(args: CancelArgs, mut context: CommandContext) -> CommandResult {
    let now = context.clock.now();
    let store = existing_store(&context).await?;
    retry::check_ids(store.as_deref(), &args.ids).await?;
    let Some(store) = store else { return Ok(()) };
    let cancelled = store.cancel(&args.ids, now).await?;
    match context.output.is_json {
        true => context.output.json(&cancelled)?,
        false => list::table(&cancelled, now, &mut context.output)?,
    }
    let filter = Filter {
        ids: args.ids,
        ..Filter::default()
    };
    let mut missed = store.list(&filter).await?;
    missed.retain(|record| record.state != State::Cancelled && args_name(&filter.ids, record.id.0));
    for record in &missed {
        let state = record.state;
        let id = record.id;
        context
            .output
            .warn(&format!("not cancelled: {id} is {state}"));
    }
    if missed.is_empty() {
        Ok(())
    } else {
        Err(CommandFailure::Told)
    }
}

/// Of a recording that was named, what is archived stays so without a word.
fn args_name(ids: &[Uuid], job: Uuid) -> bool {
    ids.contains(&job)
}
