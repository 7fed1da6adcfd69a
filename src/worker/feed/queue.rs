//! The whole queue, for a worker in the background.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::{ClaimPause, EndedAttempt, Feed, LastFills, QueueRoom};
use crate::error::Result;
use crate::model::{Job, JobId};
use crate::schedule::order::Urgency;
use crate::schedule::{self, QueueSlots};
use crate::worker::Worker;
use crate::worker::attempt::Ended;
use crate::worker::destination::{Admission, BucketGate, BucketTrust};

/// All jobs that the store has, in its order. While the bucket refuses, they wait.
pub(in crate::worker) struct QueueFeed<'a> {
    worker: &'a Worker,
    gate: BucketGate,
    bucket: Arc<BucketTrust>,
    fills: LastFills,
}

impl<'a> QueueFeed<'a> {
    /// The queue of `worker`. `bucket` is what its attempts find out about the bucket.
    pub(in crate::worker) fn new(worker: &'a Worker, bucket: Arc<BucketTrust>) -> QueueFeed<'a> {
        QueueFeed {
            worker,
            gate: BucketGate::default(),
            bucket,
            fills: LastFills::default(),
        }
    }
}

#[async_trait]
impl Feed for QueueFeed<'_> {
    fn is_watched(&self) -> bool {
        false
    }

    async fn admission(&mut self) -> Admission {
        self.gate.admission(self.worker, &self.bucket).await
    }

    fn rest(&self, queue: QueueRoom) -> Option<Duration> {
        // A bell rings when there is something new, and the next look is made when something is due.
        self.fills.rest(queue, Duration::ZERO, Instant::now())
    }

    fn choices(&mut self, _: bool, _: usize) -> Vec<Option<Vec<JobId>>> {
        vec![None]
    }

    fn note_claimed(&mut self, _: &Job, _: Urgency) {}

    fn note_filled(&mut self, is_small: bool, is_dry: bool) {
        self.fills.note(is_small, is_dry, Instant::now());
    }

    async fn note_ended(&mut self, ended: EndedAttempt) {
        match ended.how {
            Some(Ended::Archived(_)) => self.bucket.note_written(),
            Some(Ended::Refused(error)) => self.gate.pause(self.worker, &error).await,
            _ => {}
        }
    }

    async fn next_look(&mut self, room: QueueSlots, _: bool) -> Result<ClaimPause> {
        let now = self.worker.clock.now();
        let next_due = self.worker.store.next_due().await?;
        let due_in = next_due.map(|due| schedule::time_until(due, now));
        let wait = schedule::next_look(due_in, room, self.worker.settings.poll);
        Ok(ClaimPause::Wait(wait))
    }
}
