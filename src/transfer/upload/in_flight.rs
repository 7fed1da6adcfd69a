//! Parts on their way up, beside the reading of the next ones.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::error::{Error, Result};
use crate::model::job::FinishedPart;
use crate::object::{ObjectStore, Payload};
use crate::transfer::memory::shares::Cover;
use crate::transfer::upload::concurrency::AimdLimit;
use crate::transfer::upload::retry::{TRIES, UploadRetry};

/// The parts of one upload. Dropping it stops what is on its way.
pub(in crate::transfer) struct PartsInFlight {
    to: Arc<Target>,
    sending: JoinSet<Result<FinishedPart>>,
}

/// Where parts go.
struct Target {
    objects: Arc<dyn ObjectStore>,
    key: String,
    upload_id: String,
    patience: UploadRetry,
    slots: AimdLimit,
    /// Whose turn it is to send again: a bucket that fails is asked by one part, and the others wait for what comes of
    /// it. Closed when that part gives up, so that none of them asks in its place.
    again: Semaphore,
}

impl PartsInFlight {
    /// No parts yet. How many are sent at once is bounded by the memory that they hold, and by what
    /// the bucket likes.
    pub(in crate::transfer) fn new(
        objects: Arc<dyn ObjectStore>,
        key: &str,
        upload_id: &str,
        patience: UploadRetry,
    ) -> PartsInFlight {
        PartsInFlight {
            to: Arc::new(Target {
                objects,
                key: key.to_owned(),
                upload_id: upload_id.to_owned(),
                patience,
                slots: AimdLimit::new(),
                again: Semaphore::new(1),
            }),
            sending: JoinSet::new(),
        }
    }

    /// Sends a part. Its memory is given back when the bucket has it.
    pub(in crate::transfer) fn send(&mut self, number: u32, payload: Payload, cover: Cover) {
        let to = Arc::clone(&self.to);
        self.sending.spawn(async move {
            let part = to.send(number, &payload).await;
            drop((payload, cover));
            part
        });
    }

    /// Whether nothing is on its way.
    pub(in crate::transfer) fn is_idle(&self) -> bool {
        self.sending.is_empty()
    }

    /// Waits for the next part that the bucket has; for ever while nothing is on its way.
    ///
    /// # Errors
    /// That of a part which failed for good.
    pub(in crate::transfer) async fn next(&mut self) -> Result<FinishedPart> {
        match self.sending.join_next().await {
            Some(ended) => ended.map_err(|e| Error::internal("send a part").with_source(e))?,
            None => std::future::pending().await,
        }
    }

    /// Stops what is on its way and waits until it has let go of its memory.
    pub(in crate::transfer) async fn stop(&mut self) {
        self.sending.shutdown().await;
    }
}

impl Target {
    async fn send(&self, number: u32, payload: &Payload) -> Result<FinishedPart> {
        let (key, upload_id) = (&self.key, &self.upload_id);
        let mut tries = self.patience.tries();
        let mut turn = None;
        loop {
            let slot = self.slots.take().await?;
            let sent = self
                .objects
                .upload_part(key, upload_id, number, payload)
                .await;
            drop(slot);
            let error = match sent {
                Ok(part) => {
                    self.slots.grow();
                    return Ok(part);
                }
                Err(error) => error,
            };
            if error.retry_after().is_some() {
                self.slots.cut();
            }
            tracing::debug!(number, cause = %error.full_message(), "a part was not taken");
            if turn.is_none() {
                match self.again.acquire().await {
                    Ok(permit) => turn = Some(permit),
                    Err(_) => return Err(error),
                }
            }
            if !tries.wait_after(&error).await {
                self.again.close();
                return Err(error);
            }
            // An upload that has gone takes no part ever: the sooner that shows, the better the chance that
            // the origin still answers.
            let is_look_due = tries.count().is_multiple_of(TRIES);
            if is_look_due && matches!(self.objects.list_parts(key, upload_id).await, Ok(None)) {
                self.again.close();
                return Err(error);
            }
        }
    }
}
