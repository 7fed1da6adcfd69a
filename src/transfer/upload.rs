//! Parts on their way up, beside the reading of the next ones.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::memory::Cover;
use crate::error::{Error, Result};
use crate::model::job::FinishedPart;
use crate::object::{ObjectStore, Payload};

/// Times that a part, or a call about the whole upload, is sent.
pub(super) const TRIES: u32 = 4;

/// The first wait is drawn from zero to this; it doubles.
const FIRST_DELAY: Duration = Duration::from_millis(100);

/// The parts of one upload. Dropping it stops what is on its way.
pub(super) struct Uploads {
    objects: Arc<dyn ObjectStore>,
    key: String,
    upload_id: String,
    sending: JoinSet<Result<FinishedPart>>,
}

impl Uploads {
    /// No parts yet. How many are sent at once is bounded by the memory that they hold.
    pub(super) fn new(objects: Arc<dyn ObjectStore>, key: &str, upload_id: &str) -> Uploads {
        Uploads {
            objects,
            key: key.to_owned(),
            upload_id: upload_id.to_owned(),
            sending: JoinSet::new(),
        }
    }

    /// Sends a part. Its memory is given back when the bucket has it.
    pub(super) fn send(&mut self, number: u32, payload: Payload, cover: Cover) {
        let objects = self.objects.clone();
        let key = self.key.clone();
        let upload_id = self.upload_id.clone();
        self.sending.spawn(async move {
            let part = send_part(&*objects, &key, &upload_id, number, &payload).await;
            drop((payload, cover));
            part
        });
    }

    /// Whether nothing is on its way.
    pub(super) fn is_idle(&self) -> bool {
        self.sending.is_empty()
    }

    /// Waits for the next part that the bucket has; for ever while nothing is on its way.
    ///
    /// # Errors
    /// That of a part which failed for good.
    pub(super) async fn next(&mut self) -> Result<FinishedPart> {
        match self.sending.join_next().await {
            Some(ended) => ended.map_err(|e| Error::internal("send a part").with_source(e))?,
            None => std::future::pending().await,
        }
    }

    /// Stops what is on its way and waits until it has let go of its memory.
    pub(super) async fn stop(&mut self) {
        self.sending.shutdown().await;
    }
}

async fn send_part(
    objects: &dyn ObjectStore,
    key: &str,
    upload_id: &str,
    number: u32,
    payload: &Payload,
) -> Result<FinishedPart> {
    let mut tried = 0;
    loop {
        tried += 1;
        match objects.upload_part(key, upload_id, number, payload).await {
            Err(error) if error.is_transient() && tried < TRIES => {
                tracing::debug!(number, cause = %error.full_message(), "sending a part again");
                wait_after(tried).await;
            }
            result => return result,
        }
    }
}

/// Waits after the `tried`-th try.
pub(super) async fn wait_after(tried: u32) {
    let most = FIRST_DELAY * 2u32.pow(tried.min(10) - 1);
    tokio::time::sleep(most.mul_f64(fastrand::f64())).await;
}
