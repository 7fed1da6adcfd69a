//! The multipart upload of an attempt, until it is complete or aborted: what is noted of it, so that
//! another process can go on, and what becomes of it when the attempt fails.

use std::sync::PoisonError;
use std::time::Duration;

use crate::error::{Class, Error, Result};
use crate::model::Checkpoint;
use crate::model::job::{Fingerprint, FinishedPart};
use crate::object::ObjectStore;
use crate::transfer::attempt::TransferAttempt;
use crate::transfer::download::reader::{ContentVersion, Stop};
use crate::transfer::plan::Plan;

/// How long tidying up after a failure may take.
const ABORT_TIMEOUT: Duration = Duration::from_secs(20);

/// Aborts of one upload: parts that were on their way may land after the first.
const ABORT_TRIES: u32 = 3;

/// An upload that is neither complete nor aborted.
pub(in crate::transfer) struct OpenUpload {
    /// Its key.
    pub(in crate::transfer) key: String,
    /// What is stored of it.
    pub(in crate::transfer) checkpoint: Checkpoint,
}

impl OpenUpload {
    fn bytes_done(&self) -> u64 {
        let parts = self.checkpoint.parts.iter();
        parts.map(|part| part.size_bytes).sum()
    }
}

impl TransferAttempt<'_> {
    /// Begins an upload, and notes it at once: nobody else could find it after a kill.
    pub(in crate::transfer) async fn create_upload(
        &self,
        key: &str,
        plan: Plan,
        version: ContentVersion,
        can_resume: bool,
    ) -> Result<String> {
        let upload_id = self.begin_upload(key).await?;
        let checkpoint = Checkpoint {
            upload_id: upload_id.clone(),
            part_size_bytes: match plan {
                Plan::Equal { part_bytes, .. } => part_bytes,
                Plan::Single { .. } | Plan::Growing { .. } => 0,
            },
            length_bytes: version.length,
            validator: version.validator.filter(|_| can_resume),
            parts: Vec::new(),
            key: Some(key.to_owned()),
            check: None,
            sealed: None,
        };
        self.adopt_upload(OpenUpload {
            key: key.to_owned(),
            checkpoint: checkpoint.clone(),
        });
        self.ledger.save(Some(&checkpoint), 0).await?;
        Ok(upload_id)
    }

    async fn begin_upload(&self, key: &str) -> Result<String> {
        let attributes = self.attributes();
        let patience = self.patience().brief();
        let mut tries = patience.tries();
        loop {
            match self.engine.objects.create_upload(key, &attributes).await {
                Err(error) if tries.wait_after(&error).await => {}
                ended => return ended,
            }
        }
    }

    /// From now on this upload is the attempt's.
    pub(in crate::transfer) fn adopt_upload(&self, upload: OpenUpload) {
        *self.upload() = Some(upload);
    }

    /// The upload is no longer the attempt's to tidy up.
    pub(in crate::transfer) fn take_upload(&self) -> Option<OpenUpload> {
        self.upload().take()
    }

    /// The upload is what an earlier attempt might have left: it is looked again how much of it is there.
    pub(in crate::transfer) fn look_again_at_upload(&self) {
        let upload = self.take_upload();
        let mut earlier = self.earlier.lock().unwrap_or_else(PoisonError::into_inner);
        *earlier = upload.map(|upload| upload.checkpoint);
    }

    /// Notes a part that the bucket has, and how far the check of the content is.
    ///
    /// # Errors
    /// When the lease is lost.
    pub(in crate::transfer) async fn note_part(
        &self,
        part: FinishedPart,
        check: Option<String>,
    ) -> Result<()> {
        let due = {
            let mut upload = self.upload();
            let Some(upload) = upload.as_mut() else {
                return Ok(());
            };
            upload.checkpoint.parts.push(part);
            upload.checkpoint.check = check;
            let is_due = self.progress.is_save_due(upload.checkpoint.parts.len());
            is_due.then(|| (upload.checkpoint.clone(), upload.bytes_done()))
        };
        match due {
            Some((checkpoint, bytes)) => self.ledger.save(Some(&checkpoint), bytes).await,
            None => Ok(()),
        }
    }

    /// Notes what the upload is about to become, so that another attempt knows its object.
    ///
    /// # Errors
    /// When the lease is lost.
    pub(in crate::transfer) async fn note_sealed(&self, sealed: Fingerprint) -> Result<()> {
        let noted = {
            let mut upload = self.upload();
            upload.as_mut().map(|upload| {
                upload.checkpoint.sealed = Some(sealed);
                (upload.checkpoint.clone(), upload.bytes_done())
            })
        };
        match noted {
            Some((checkpoint, bytes)) => self.ledger.save(Some(&checkpoint), bytes).await,
            None => Ok(()),
        }
    }

    /// The upload's id and its parts in order.
    pub(in crate::transfer) fn finished_parts(&self) -> Result<(String, Vec<FinishedPart>)> {
        let upload = self.upload();
        let upload = upload
            .as_ref()
            .ok_or_else(|| Error::internal("complete an upload that was given up"))?;
        let mut parts = upload.checkpoint.parts.clone();
        parts.sort_by_key(|part| part.number);
        Ok((upload.checkpoint.upload_id.clone(), parts))
    }

    /// What a part that could not be sent means: an upload that has gone is begun again while the origin
    /// still answers.
    pub(in crate::transfer) async fn judge_upload(&self, error: Error) -> Stop {
        let upload = self.upload().as_ref().map(|upload| {
            let id = upload.checkpoint.upload_id.clone();
            (upload.key.clone(), id)
        });
        let Some((key, id)) = upload.filter(|_| error.is_transient()) else {
            return Stop::Fail(error);
        };
        match self.engine.objects.list_parts(&key, &id).await {
            Ok(None) => Stop::Restart {
                why: error,
                opened: None,
            },
            _ => Stop::Fail(error),
        }
    }

    /// After a failure: keeps the upload for the next attempt if that may go on with it, else aborts it.
    pub(in crate::transfer) async fn leave(&self, error: &Error) {
        let kept = {
            let upload = self.upload();
            let upload = upload.as_ref().filter(|upload| {
                upload.checkpoint.validator.is_some()
                    && !upload.checkpoint.parts.is_empty()
                    && may_go_on(error)
            });
            upload.map(|upload| (upload.checkpoint.clone(), upload.bytes_done()))
        };
        let Some((checkpoint, bytes)) = kept else {
            return self.abandon_upload().await;
        };
        // A lost lease is no news here: then the checkpoint is another worker's to write.
        if let Err(error) = self.ledger.save(Some(&checkpoint), bytes).await {
            tracing::debug!(job = %self.job.id, cause = %error.full_message(), "the last checkpoint was not noted");
        }
    }

    /// Aborts an upload that was not completed, unless it may be another worker's by now, which goes on with it. A failure
    /// is only logged: what led here is told.
    pub(in crate::transfer) async fn abandon_upload(&self) {
        let Some(upload) = self.take_upload() else {
            return;
        };
        let asked = tokio::time::timeout(ABORT_TIMEOUT, self.ledger.is_held());
        if !asked.await.unwrap_or(false) {
            let key = upload.key;
            tracing::debug!(job = %self.job.id, key, "an upload is left as it is: the lease is lost");
            return;
        }
        abort(
            &*self.engine.objects,
            &upload.key,
            &upload.checkpoint.upload_id,
        )
        .await;
        if let Err(error) = self.ledger.save(None, 0).await {
            tracing::debug!(job = %self.job.id, cause = %error.full_message(), "the end of an upload was not noted");
        }
    }

    fn upload(&self) -> std::sync::MutexGuard<'_, Option<OpenUpload>> {
        self.upload.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Aborts an upload until nothing of it is left; whether that is so. A failure is only logged: the sweep finds
/// the rest.
pub(in crate::transfer) async fn abort(
    objects: &dyn ObjectStore,
    key: &str,
    upload_id: &str,
) -> bool {
    let abort = async {
        for _ in 0..ABORT_TRIES {
            objects.abort(key, upload_id).await?;
            let parts = objects.list_parts(key, upload_id).await?;
            if parts.is_none_or(|parts| parts.is_empty()) {
                return Ok(());
            }
        }
        Err(Error::internal("parts keep arriving"))
    };
    let ended = tokio::time::timeout(ABORT_TIMEOUT, abort)
        .await
        .unwrap_or_else(|_| Err(Error::internal("the bucket does not answer")));
    if let Err(error) = &ended {
        tracing::warn!(key, cause = %error.full_message(), "an unfinished upload is left for the sweep");
    }
    ended.is_ok()
}

/// Whether another attempt may use the parts: not where the content itself is at fault.
fn may_go_on(error: &Error) -> bool {
    !matches!(
        error.class(),
        Class::Corrupt | Class::Refused | Class::Invalid | Class::Partial
    )
}
