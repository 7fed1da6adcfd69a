//! The event as a file of its recording: made of its body when it is carried, and never kept.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Worker;
use crate::error::{Error, Result};
use crate::ingest::Adapter;
use crate::model::{Job, Provider};
use crate::signed_url::redact_body;

/// Documents above [`LARGE_BYTES`] of one source that are in memory at once.
const LARGE_AT_ONCE: usize = 4;

/// From here on a document counts as large, and is made off the runtime's own threads.
const LARGE_BYTES: usize = 64 * 1024;

/// Makes the documents of one source's events.
#[derive(Clone, Debug)]
pub struct EventDocuments {
    adapter: Option<Adapter>,
    room: Arc<Semaphore>,
}

impl Default for EventDocuments {
    fn default() -> Self {
        EventDocuments {
            adapter: None,
            room: Arc::new(Semaphore::new(LARGE_AT_ONCE)),
        }
    }
}

impl EventDocuments {
    /// Those of a source whose deliveries `adapter` reads.
    pub fn of(adapter: Adapter) -> EventDocuments {
        EventDocuments {
            adapter: Some(adapter),
            ..EventDocuments::default()
        }
    }

    async fn make(&self, provider: Provider, body: Bytes) -> Result<String> {
        let adapter = self.adapter.clone();
        let is_large = body.len() > LARGE_BYTES;
        let make = move || match (adapter, provider) {
            (Some(adapter), _) => adapter.document(&body),
            // Only the definition knows what else is secret in it.
            (None, Provider::Custom(name)) => Err(Error::invalid(format!(
                "write the event of {name} without its secrets: no source of the configuration defines it; put it back"
            ))),
            (None, _) => redact_body(&body),
        };
        if !is_large {
            return make();
        }
        tokio::task::spawn_blocking(make)
            .await
            .map_err(|panic| Error::internal("write a long event").with_source(panic))?
    }
}

/// The event that announced `job`, as it is archived. A large one comes with its room, to be held while the text lives.
///
/// # Errors
/// Transient when the store can't be read; `internal` when the event is gone, `invalid` when it can't be written.
pub(super) async fn event_document(
    worker: &Worker,
    job: &Job,
) -> Result<(String, Option<OwnedSemaphorePermit>)> {
    let access = worker.access.get(&job.source);
    let documents = access.map_or_else(EventDocuments::default, |access| access.documents.clone());
    let room = Arc::clone(&documents.room)
        .acquire_owned()
        .await
        .map_err(|closed| Error::internal("wait for room for an event").with_source(closed))?;
    let body = worker.store.announcing_event(job.id).await?;
    let body =
        body.ok_or_else(|| Error::internal("archive an event: it is not in the store any more"))?;
    let room = (body.len() > LARGE_BYTES).then_some(room);
    Ok((documents.make(job.provider, body).await?, room))
}
