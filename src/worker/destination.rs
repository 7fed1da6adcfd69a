//! The bucket while it refuses: left alone, looked at again, and gone on with by itself.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::Worker;
use crate::error::{Class, Error};
use crate::model::ProgressEvent;
use crate::schedule::retry;

/// What the attempts find out about the bucket as a whole.
#[derive(Debug, Default)]
pub(super) struct BucketTrust {
    /// Whether its own check has ever let us in: then its refusal means all of it.
    has_let_in: AtomicBool,
    /// Objects were written while the check was refused: it needs a right that writing does not.
    is_check_wrong: AtomicBool,
    /// Whether an object was written in this run.
    has_written: AtomicBool,
}

impl BucketTrust {
    /// Whether the bucket refuses everybody, asked after one object was denied, and once at the start.
    pub(super) async fn refuses_all(&self, worker: &Worker) -> bool {
        if self.is_check_wrong.load(Ordering::Relaxed) {
            return false;
        }
        match worker.objects.check_bucket().await {
            Ok(()) => {
                self.has_let_in.store(true, Ordering::Relaxed);
                false
            }
            Err(error) => !self.is_contradicted(&error),
        }
    }

    /// Whether what was written shows that only the check is refused, as it was from the start.
    fn is_contradicted(&self, refusal: &Error) -> bool {
        let has_let_in = self.has_let_in.load(Ordering::Relaxed);
        if has_let_in || !self.has_written.load(Ordering::Relaxed) {
            return false;
        }
        if !self.is_check_wrong.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "objects are written though the check of the bucket is refused ({}): allow s3:ListBucket on it",
                refusal.full_message()
            );
        }
        true
    }

    /// An object is in the bucket.
    pub(super) fn note_written(&self) {
        self.has_written.store(true, Ordering::Relaxed);
    }
}

/// Whether the destination lets us in.
#[derive(Debug, Default)]
pub(super) struct BucketGate {
    /// While it refuses: until when it is left alone, on the clock that nobody sets.
    paused_until: Option<Instant>,
    /// How what waits for it is marked.
    class: Option<Class>,
}

/// What may be claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// All that there is room for.
    Open,
    /// One job, to see whether it is let in: the check itself may need a right that writing does not.
    One,
    /// Nothing for so long.
    Closed(Duration),
    /// Nothing any more: nobody waits at a terminal until a refusal ends.
    Over,
}

impl BucketGate {
    /// It refuses: nothing is claimed until it lets us in again.
    pub(super) async fn pause(&mut self, worker: &Worker, error: &Error) {
        // Of the transfers that were on their way each one ends here; the first one has said it.
        if self.paused_until.is_some() {
            return;
        }
        tracing::error!(
            class = %error.class(),
            "the bucket refuses, all jobs wait until it does not: {}. {} `harvester retry --class {}` tries at once",
            error.full_message(),
            error.class().action(),
            error.class()
        );
        let until = retry::pause_until(worker.clock.now(), &worker.settings.retry);
        self.extend(worker, error, until).await;
    }

    /// What may be claimed now. Asks the bucket when the pause is over, or when an operator wants to try at once.
    pub(super) async fn admission(&mut self, worker: &Worker, trust: &BucketTrust) -> Admission {
        let Some(until) = self.paused_until else {
            return Admission::Open;
        };
        let left = until.saturating_duration_since(Instant::now());
        if !left.is_zero() && !self.is_retry_asked(worker).await {
            return Admission::Closed(left.min(worker.settings.poll));
        }
        let Err(error) = worker.objects.check_bucket().await else {
            trust.has_let_in.store(true, Ordering::Relaxed);
            tracing::info!("the bucket lets us in again, going on");
            self.resume(worker).await;
            return Admission::Open;
        };
        if trust.is_contradicted(&error) {
            self.resume(worker).await;
            return Admission::Open;
        }
        let is_check_doubted = !trust.has_let_in.load(Ordering::Relaxed);
        tracing::warn!("the bucket still refuses: {}", error.full_message());
        let now = worker.clock.now();
        if is_check_doubted {
            // Due now, so that one of them can be claimed.
            self.extend(worker, &error, now).await;
            return Admission::One;
        }
        let until = retry::pause_until(now, &worker.settings.retry);
        self.extend(worker, &error, until).await;
        Admission::Closed(worker.settings.poll)
    }

    async fn resume(&mut self, worker: &Worker) {
        self.paused_until = None;
        (worker.emit)(ProgressEvent::BucketAccepts);
        self.wake(worker).await;
    }

    /// Those that wait for the pause's end need not wait any more.
    async fn wake(&self, worker: &Worker) {
        let Some(class) = self.class else { return };
        if let Err(error) = worker.store.wake(class).await {
            tracing::warn!("failed to wake the waiting jobs: {}", error.full_message());
        }
    }

    /// Pauses for another time. What waits is due at `due`.
    async fn extend(&mut self, worker: &Worker, error: &Error, due: Timestamp) {
        let retry = &worker.settings.retry;
        let until = retry::pause_until(worker.clock.now(), retry);
        self.paused_until = Some(Instant::now() + retry.destination_pause);
        self.class = Some(error.class());
        let message = error.full_message();
        let moved = worker.store.pause(due, error.class(), &message);
        if let Err(error) = moved.await {
            tracing::error!("failed to move the waiting jobs: {}", error.full_message());
        }
        let waiting = match worker.store.stats().await {
            Ok(stats) => stats.pending(),
            Err(_) => 0,
        };
        (worker.emit)(ProgressEvent::BucketRefuses {
            class: error.class(),
            message,
            waiting,
            until,
        });
    }

    /// Whether an operator has put back what waits for the bucket.
    async fn is_retry_asked(&self, worker: &Worker) -> bool {
        let Some(class) = self.class else {
            return false;
        };
        let asked = worker.store.is_retry_asked(class).await;
        asked.unwrap_or_else(|error| {
            tracing::warn!("failed to read the queue: {}", error.full_message());
            false
        })
    }
}
