//! The event as a file of its recording: made of its body when it is carried. What a lost one leaves in the store is made the
//! same way.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Worker;
use super::hold::LeaseGuard;
use crate::error::{Class, Error, Result};
use crate::ingest::Adapter;
use crate::model::{Job, Provider, RecordingId};
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

    /// Whether nobody here knows what is secret in an event of `provider`.
    fn lack_definition(&self, provider: Provider) -> bool {
        self.adapter.is_none() && matches!(provider, Provider::Custom(_))
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
    hold: &LeaseGuard,
    job: &Job,
) -> Result<(String, Option<OwnedSemaphorePermit>)> {
    let access = worker.access.get(&job.source);
    let documents = access.map_or_else(EventDocuments::default, |access| access.documents.clone());
    let room = Arc::clone(&documents.room).acquire_owned();
    let waits = hold.pulse().waits();
    let room = waits
        .during(room)
        .await
        .map_err(|closed| Error::internal("wait for room for an event").with_source(closed))?;
    let body = worker.store.announcing_event(job.id).await?;
    let body =
        body.ok_or_else(|| Error::internal("archive an event: it is not in the store any more"))?;
    let room = (body.len() > LARGE_BYTES).then_some(room);
    Ok((documents.make(job.provider, body).await?, room))
}

/// Takes the secrets, as the sources' definitions know them, out of what the store keeps of a recording's events when it is
/// sealed. Before it is noted as sealed, so that a crash in between leaves nothing undone.
///
/// # Errors
/// When the store can't be read or written.
pub(super) async fn hide_secrets_of_kept(worker: &Worker, recording: RecordingId) -> Result<()> {
    let mut hidden = Vec::new();
    for kept in worker.store.kept_bodies(recording).await? {
        let access = worker.access.get(&kept.source);
        let documents =
            access.map_or_else(EventDocuments::default, |access| access.documents.clone());
        if documents.lack_definition(kept.provider) {
            // A retry after the definition was put back needs what was sent.
            tracing::warn!(
                source = kept.source,
                "an event that is not archived stays in the store, and no source of the configuration says what of it is secret"
            );
            continue;
        }
        match documents.make(kept.provider, kept.raw.clone()).await {
            Ok(text) if text.as_bytes() == &*kept.raw => {}
            Ok(text) => hidden.push((kept.event, text)),
            // It can't be archived later on either.
            Err(error) if error.class() != Class::Internal => {
                hidden.push((kept.event, String::new()));
            }
            Err(error) => return Err(error),
        }
    }
    match hidden.is_empty() {
        true => Ok(()),
        false => worker.store.replace_bodies(hidden).await,
    }
}
