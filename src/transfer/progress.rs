//! Tells how far a transfer is, not more often than anybody can read.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::model::progress::Emit;
use crate::model::{JobId, ProgressEvent};

/// Five times a second.
const EMIT_EVERY: Duration = Duration::from_millis(200);

/// How often the store hears of it: a write under the lease costs a commit.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// The checkpoint of an upload with many parts is long, so it is written more rarely: ten thousand of
/// them every 20 s.
const SAVE_EVERY_PER_PART: Duration = Duration::from_millis(2);

/// The progress of one transfer.
pub(super) struct TransferProgress<'a> {
    id: JobId,
    emit: &'a Emit,
    last_emit: Mutex<Option<Instant>>,
    last_save: Mutex<Instant>,
}

impl<'a> TransferProgress<'a> {
    /// Of a transfer that begins.
    pub(super) fn new(id: JobId, emit: &'a Emit) -> TransferProgress<'a> {
        TransferProgress {
            id,
            emit,
            last_emit: Mutex::new(None),
            last_save: Mutex::new(Instant::now()),
        }
    }

    /// Tells it if it is time to.
    pub(super) fn tell(&self, done: u64, total: Option<u64>) {
        let mut last = self
            .last_emit
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| last.elapsed() >= EMIT_EVERY) {
            *last = Some(Instant::now());
            drop(last);
            self.tell_now(done, total);
        }
    }

    /// Tells it.
    pub(super) fn tell_now(&self, done: u64, total: Option<u64>) {
        let id = self.id;
        (self.emit)(ProgressEvent::Bytes { id, done, total });
    }

    /// Tells something else.
    pub(super) fn tell_event(&self, event: ProgressEvent) {
        (self.emit)(event);
    }

    /// Whether the store should hear now of an upload with so many parts.
    pub(super) fn is_save_due(&self, parts: usize) -> bool {
        let every = SAVE_EVERY.max(SAVE_EVERY_PER_PART * u32::try_from(parts).unwrap_or(u32::MAX));
        let mut last = self
            .last_save
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let is_due = last.elapsed() >= every;
        if is_due {
            *last = Instant::now();
        }
        is_due
    }
}
