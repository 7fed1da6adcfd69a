//! `harvester retry --unknown`: events that could not be understood are read again, as this version and this
//! configuration read them.

use std::collections::HashMap;

use super::output::CommandResult;
use super::{CommandContext, list};
use crate::config::Config;
use crate::ingest::{Adapter, Delivery};
use crate::model::{EventClass, EventId, Layout, Record};
use crate::store::{EventRecord, Filter, JobStore, NewEvent};

/// Events that are read together.
const PAGE: u32 = 200;

/// What reading them again came to.
#[derive(Default)]
struct Reread {
    understood: u64,
    /// Not understood this time either, or of a source that the configuration does not have any more.
    left: u64,
    records: Vec<Record>,
}

pub(super) async fn reread(
    store: Option<&dyn JobStore>,
    mut context: CommandContext,
) -> CommandResult {
    let reread = match store {
        Some(store) => read_all(store, &context.config).await?,
        None => Reread::default(),
    };
    let now = context.clock.now();
    let output = &mut context.output;
    if output.is_json {
        output.json(&reread.records)?;
    } else {
        let count = reread.records.len();
        output.note(&match reread.understood {
            0 => "no event is understood now that was not before".to_owned(),
            1 => format!("1 event is understood now: {count} artifacts to archive"),
            more => format!("{more} events are understood now: {count} artifacts to archive"),
        });
        list::table(&reread.records, now, output)?;
    }
    if reread.left > 0 {
        let left = reread.left;
        output.note(&format!(
            "{left} are still not understood; `harvester events --unknown` lists them with the reason"
        ));
    }
    Ok(())
}

async fn read_all(store: &dyn JobStore, config: &Config) -> CommandResult<Reread> {
    let layout = Layout::new(&config.archive.prefix, &config.archive.template)?;
    let adapters: HashMap<String, Adapter> = config
        .resolved_sources()
        .into_iter()
        .map(|(name, (provider, source))| (name, source.adapter(provider)))
        .collect();
    let mut reread = Reread::default();
    let mut after: Option<EventId> = None;
    loop {
        let page = store.unknown_events(None, after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        for event in &page {
            let adapter = adapters.get(&event.source);
            let jobs = match adapter {
                Some(adapter) => read_one(store, event, adapter, &layout).await?,
                None => None,
            };
            let Some(jobs) = jobs else {
                reread.left += 1;
                continue;
            };
            reread.understood += 1;
            if !jobs.is_empty() {
                let filter = Filter {
                    ids: jobs,
                    ..Filter::default()
                };
                reread.records.extend(store.list(&filter).await?);
            }
        }
    }
    Ok(reread)
}

/// The jobs of an event that is understood now; `None` for one that still is not.
async fn read_one(
    store: &dyn JobStore,
    event: &EventRecord,
    adapter: &Adapter,
    layout: &Layout,
) -> CommandResult<Option<Vec<uuid::Uuid>>> {
    let Some(raw) = store.raw_event(event.id).await? else {
        return Ok(None);
    };
    let delivery = Delivery {
        body: &raw,
        // Where the id came in a header it was kept beside the body.
        id_header: event.event_id.as_deref(),
        received_at: event.received_at,
    };
    let Ok(read) = adapter.parse(&delivery) else {
        return Ok(None);
    };
    // An endpoint check can't be answered any more.
    if [EventClass::Unknown, EventClass::Handshake].contains(&read.class) {
        return Ok(None);
    }
    let new = NewEvent::new(&event.source, read, raw, layout, event.received_at);
    let recorded = store.reread(event.id, new).await?;
    Ok(recorded.map(|recorded| recorded.jobs.into_iter().map(|job| job.0).collect()))
}
