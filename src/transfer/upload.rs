//! Parts on their way up, beside the reading of the next ones.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::budget::Share;
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
    lanes: usize,
    sending: JoinSet<Result<FinishedPart>>,
    finished: Vec<FinishedPart>,
}

impl Uploads {
    /// No parts yet; at most `lanes` at once.
    pub(super) fn new(
        objects: Arc<dyn ObjectStore>,
        key: &str,
        upload_id: &str,
        lanes: usize,
    ) -> Uploads {
        Uploads {
            objects,
            key: key.to_owned(),
            upload_id: upload_id.to_owned(),
            lanes: lanes.max(1),
            sending: JoinSet::new(),
            finished: Vec::new(),
        }
    }

    /// Waits until another part may be sent.
    ///
    /// # Errors
    /// The first part that failed for good.
    pub(super) async fn make_room(&mut self) -> Result<()> {
        while let Some(ended) = self.sending.try_join_next() {
            self.note(ended)?;
        }
        while self.sending.len() >= self.lanes {
            match self.sending.join_next().await {
                Some(ended) => self.note(ended)?,
                None => break,
            }
        }
        Ok(())
    }

    /// Sends a part. Its share of the memory is given back when the bucket has it.
    pub(super) fn send(&mut self, number: u32, payload: Payload, share: Share) {
        let objects = self.objects.clone();
        let key = self.key.clone();
        let upload_id = self.upload_id.clone();
        self.sending.spawn(async move {
            let part = send_part(&*objects, &key, &upload_id, number, &payload).await;
            drop((payload, share));
            part
        });
    }

    /// Bytes that the bucket has acknowledged.
    pub(super) fn acknowledged_bytes(&self) -> u64 {
        self.finished.iter().map(|part| part.size_bytes).sum()
    }

    /// Waits for all parts; gives them in order.
    ///
    /// # Errors
    /// The first part that failed for good.
    pub(super) async fn finish(mut self) -> Result<Vec<FinishedPart>> {
        while let Some(ended) = self.sending.join_next().await {
            self.note(ended)?;
        }
        self.finished.sort_by_key(|part| part.number);
        Ok(self.finished)
    }

    fn note(&mut self, ended: Result<Result<FinishedPart>, tokio::task::JoinError>) -> Result<()> {
        let part = ended.map_err(|e| Error::internal("send a part").with_source(e))??;
        self.finished.push(part);
        Ok(())
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
