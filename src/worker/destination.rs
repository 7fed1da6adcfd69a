//! The bucket while it refuses: left alone, looked at again, and gone on with by itself.

use std::time::Duration;

use jiff::Timestamp;

use super::Worker;
use crate::error::Error;
use crate::schedule::retry;

/// Whether the destination lets us in.
#[derive(Debug, Default)]
pub(super) struct Destination {
    /// While it refuses: until when it is left alone.
    paused_until: Option<Timestamp>,
}

impl Destination {
    /// It refuses: nothing is claimed until it lets us in again.
    pub(super) async fn pause(&mut self, worker: &Worker, error: &Error) {
        // Of the transfers that were on their way each one ends here; the first one has said it.
        if self.paused_until.is_some() {
            return;
        }
        tracing::error!(
            class = %error.class(),
            "the bucket refuses, all jobs wait until it does not: {}. {}",
            error.full_message(),
            error.class().action()
        );
        self.extend(worker, error).await;
    }

    /// How long to wait for it; `None` when it lets us in, or does so again.
    pub(super) async fn wait(&mut self, worker: &Worker) -> Option<Duration> {
        let left = time_left(worker, self.paused_until?);
        if !left.is_zero() {
            return Some(left);
        }
        if let Err(error) = worker.objects.check_bucket().await {
            tracing::warn!("the bucket still refuses: {}", error.full_message());
            let until = self.extend(worker, &error).await;
            return Some(time_left(worker, until));
        }
        tracing::info!("the bucket lets us in again, going on");
        self.paused_until = None;
        None
    }

    async fn extend(&mut self, worker: &Worker, error: &Error) -> Timestamp {
        let until = retry::pause_until(worker.clock.now(), &worker.settings.retry);
        self.paused_until = Some(until);
        let message = error.full_message();
        if let Err(error) = worker.store.pause(until, error.class(), &message).await {
            tracing::error!("failed to move the waiting jobs: {}", error.full_message());
        }
        until
    }
}

fn time_left(worker: &Worker, until: Timestamp) -> Duration {
    Duration::try_from(until.duration_since(worker.clock.now())).unwrap_or_default()
}
