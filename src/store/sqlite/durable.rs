//! From the commit to the answer: a batch is on its way to the disk, and all who wait for it hear when it is there.
//!
//! A sync that failed may have lost what another batch has written, and asking again proves nothing. So after one nobody
//! is told of success any more, and nothing more is written.

use std::io;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::disk::Sync;
use super::error;
use super::lost_write::LostWriteNote;
use super::work::Work;
use crate::error::{Class, Error, Result};
use crate::store::Recorded;

/// Where one caller waits.
pub(super) type BatchAnswer<T> = oneshot::Sender<Result<T>>;

/// What a failed transaction tells each of its callers.
#[derive(Clone, Debug)]
pub(super) struct BatchFailure {
    message: String,
    is_final: bool,
}

impl BatchFailure {
    pub(super) fn of(error: Error) -> BatchFailure {
        let cause = std::error::Error::source(&error);
        let is_final = cause
            .and_then(|cause| cause.downcast_ref())
            .is_some_and(error::is_failed_sync);
        BatchFailure {
            message: error.full_message(),
            is_final,
        }
    }

    pub(super) fn of_sync(cause: &io::Error) -> BatchFailure {
        BatchFailure {
            message: format!("write the store to the disk: {cause}"),
            is_final: true,
        }
    }

    pub(super) fn to_error(&self) -> Error {
        if self.is_final {
            Error::internal(self.message.clone())
        } else {
            Error::transient(Class::Internal, self.message.clone())
        }
    }
}

/// Those who wait for a batch.
pub(super) struct BatchWaiters {
    pub(super) answers: Vec<BatchAnswer<Recorded>>,
    pub(super) works: Vec<Box<dyn Work>>,
}

impl BatchWaiters {
    pub(super) fn answer(self, written: Result<Vec<Result<Recorded>>, BatchFailure>) {
        let failure = written.as_ref().err().cloned();
        for work in self.works {
            work.answer(failure.as_ref());
        }
        let mut recorded = written.unwrap_or_default().into_iter();
        for answer in self.answers {
            let failed = || failure.as_ref().map_or_else(gone, BatchFailure::to_error);
            let result = recorded.next().unwrap_or_else(|| Err(failed()));
            // A sender that has hung up sends again; the store knows the event then.
            let _ = answer.send(result);
        }
    }
}

/// Batches on their way to the disk.
pub(super) struct Durable {
    free: mpsc::Receiver<Sync>,
    give: mpsc::Sender<Sync>,
    syncing: JoinSet<()>,
    /// Why nothing is written any more, once that is so.
    refusal: LostWriteFlag,
}

impl Durable {
    /// `note` is left beside the database once the disk has lost a write.
    pub(super) fn new(syncs: Vec<Sync>, note: LostWriteNote) -> Durable {
        let (give, free) = mpsc::channel(syncs.len().max(1));
        let durable = Durable {
            free,
            give,
            syncing: JoinSet::new(),
            refusal: LostWriteFlag(Arc::new((watch::Sender::default(), note))),
        };
        syncs.into_iter().for_each(|sync| durable.give_back(sync));
        durable
    }

    pub(super) async fn free_sync(&mut self) -> Option<Sync> {
        self.free.recv().await
    }

    pub(super) fn give_back(&self, sync: Sync) {
        // There is room for all that there are.
        let _ = self.give.try_send(sync);
    }

    /// Why nothing is written any more.
    pub(super) fn refusal(&self) -> &LostWriteFlag {
        &self.refusal
    }

    pub(super) fn refuse_if_final(&self, failure: &BatchFailure) {
        self.refusal.set_if_final(failure);
    }

    /// Lets those who wait know when what was committed is on the disk.
    pub(super) fn sync_and_answer(
        &mut self,
        mut sync: Sync,
        waiting: BatchWaiters,
        recorded: Vec<Result<Recorded>>,
    ) {
        while self.syncing.try_join_next().is_some() {}
        let (give, refusal) = (self.give.clone(), self.refusal.clone());
        self.syncing.spawn(async move {
            let synced = tokio::task::spawn_blocking(move || {
                let synced = sync();
                let _ = give.try_send(sync);
                synced
            });
            if let Err(cause) = synced
                .await
                .unwrap_or_else(|panic| Err(io::Error::other(panic)))
            {
                refusal.set_if_final(&BatchFailure::of_sync(&cause));
            }
            // What a failed sync has lost may have been another batch's, so none is told of success after it.
            match refusal.get() {
                Some(failure) => waiting.answer(Err(failure)),
                None => waiting.answer(Ok(recorded)),
            }
        });
    }

    pub(super) async fn finish(&mut self) {
        while self.syncing.join_next().await.is_some() {}
    }
}

/// Whether the disk has lost a write. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct LostWriteFlag(Arc<(watch::Sender<Option<BatchFailure>>, LostWriteNote)>);

impl LostWriteFlag {
    pub(super) fn get(&self) -> Option<BatchFailure> {
        self.0.0.borrow().clone()
    }

    pub(super) fn is_set(&self) -> bool {
        self.0.0.borrow().is_some()
    }

    /// Waits until it has; for ever when it never does.
    pub(super) async fn wait(&self) -> Error {
        let mut failures = self.0.0.subscribe();
        let failure = match failures.wait_for(Option::is_some).await {
            Ok(failure) => failure.clone(),
            Err(_) => None,
        };
        match failure {
            Some(failure) => failure.to_error(),
            // The sender is ours, so the wait has only the other end.
            None => std::future::pending().await,
        }
    }

    pub(super) fn set_if_final(&self, failure: &BatchFailure) {
        let (sender, note) = &*self.0;
        let is_first = failure.is_final && sender.borrow().is_none();
        if is_first {
            note.leave(&failure.message);
            sender.send_replace(Some(failure.clone()));
        }
    }
}

/// What callers hear of a writer that has ended.
pub(super) fn gone() -> Error {
    Error::transient(Class::Internal, "write to the store: it is closed")
}
