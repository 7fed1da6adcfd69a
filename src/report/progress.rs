//! The live stream of progress, and what of it a late watcher needs to see bars at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::broadcast;

use crate::model::progress::Emit;
use crate::model::{JobId, ProgressEvent, Record};

/// Transfers whose state is kept for late watchers; more than any machine runs at once.
const MAX_ACTIVE: usize = 4096;

/// Hands progress to any number of watchers. Cheap to clone; clones share the stream.
///
/// Emitting never waits: a watcher that falls behind by more than the capacity loses the oldest
/// events and is told so ([`broadcast::error::RecvError::Lagged`]); a new [`snapshot`](Self::snapshot)
/// makes good for that.
#[derive(Clone, Debug)]
pub struct ProgressStream {
    events: broadcast::Sender<ProgressEvent>,
    active: Arc<Mutex<HashMap<JobId, Active>>>,
    /// While the bucket refuses: how that was told last.
    refusal: Arc<Mutex<Option<ProgressEvent>>>,
}

#[derive(Debug)]
struct Active {
    record: Arc<Record>,
    done: u64,
    total: Option<u64>,
}

impl ProgressStream {
    /// A stream that keeps the last `capacity` events for watchers that are slow.
    pub fn new(capacity: usize) -> ProgressStream {
        ProgressStream {
            events: broadcast::Sender::new(capacity.max(1)),
            active: Arc::default(),
            refusal: Arc::default(),
        }
    }

    /// Where the worker puts its events.
    pub fn emit(&self) -> Emit {
        let progress = self.clone();
        Arc::new(move |event| progress.publish(event))
    }

    /// All events from now on. Subscribe first and take the snapshot then: nothing is missed, and an
    /// event seen twice does no harm.
    pub fn subscribe(&self) -> broadcast::Receiver<ProgressEvent> {
        self.events.subscribe()
    }

    /// While the bucket refuses: how that was told last.
    pub fn bucket_refusal(&self) -> Option<ProgressEvent> {
        self.refusal().clone()
    }

    fn refusal(&self) -> std::sync::MutexGuard<'_, Option<ProgressEvent>> {
        self.refusal.lock().expect("no holder of this lock panics")
    }

    /// What is on its way now: for each transfer how it started and how far it is; first, whether the bucket refuses.
    pub fn snapshot(&self) -> Vec<ProgressEvent> {
        let active = self.active.lock().expect("no holder of this lock panics");
        let mut transfers: Vec<_> = active.values().collect();
        transfers.sort_by_key(|transfer| transfer.record.id);
        let refusal = self.bucket_refusal();
        let transfers = transfers.into_iter();
        let transfers = transfers.flat_map(|transfer| {
            let bytes = ProgressEvent::Bytes {
                id: transfer.record.id,
                done: transfer.done,
                total: transfer.total,
            };
            let record = Arc::clone(&transfer.record);
            [ProgressEvent::Started { record }, bytes]
        });
        refusal.into_iter().chain(transfers).collect()
    }

    fn publish(&self, event: ProgressEvent) {
        self.note(&event);
        // An error only says that nobody is watching.
        let _ = self.events.send(event);
    }

    fn note(&self, event: &ProgressEvent) {
        let mut active = self.active.lock().expect("no holder of this lock panics");
        match event {
            ProgressEvent::Started { record } => {
                if active.len() < MAX_ACTIVE || active.contains_key(&record.id) {
                    let transfer = Active {
                        done: record.bytes_done,
                        total: record.size_bytes,
                        record: Arc::clone(record),
                    };
                    active.insert(record.id, transfer);
                }
            }
            ProgressEvent::Bytes { id, done, total }
            | ProgressEvent::Resumed {
                id, done, total, ..
            } => {
                if let Some(transfer) = active.get_mut(id) {
                    transfer.done = *done;
                    transfer.total = total.or(transfer.total);
                }
            }
            ProgressEvent::Retrying { id, .. } => {
                active.remove(id);
            }
            ProgressEvent::Settled { record } => {
                active.remove(&record.id);
            }
            ProgressEvent::BucketRefuses { .. } => {
                *self.refusal() = Some(event.clone());
            }
            ProgressEvent::BucketAccepts => *self.refusal() = None,
            ProgressEvent::Sealed { .. }
            | ProgressEvent::TaskRestarted { .. }
            | ProgressEvent::ClockOffset { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::error::Class;
    use crate::model::State;
    use crate::report::board::{self, Board, ScreenChange, Severity};

    fn record(number: u128) -> Record {
        Record {
            id: JobId(Uuid::from_u128(number)),
            state: State::Running,
            size_bytes: Some(100),
            attempts: 1,
            ..board::tests::record("recording.mp4")
        }
    }

    fn bytes(number: u128, done: u64) -> ProgressEvent {
        ProgressEvent::Bytes {
            id: JobId(Uuid::from_u128(number)),
            done,
            total: None,
        }
    }

    #[test]
    fn a_late_watcher_sees_what_is_under_way_and_nothing_that_has_ended() {
        let progress = ProgressStream::new(8);
        let emit = progress.emit();
        for number in [3, 1, 2] {
            emit(ProgressEvent::Started {
                record: record(number).into(),
            });
        }
        emit(bytes(1, 40));
        emit(ProgressEvent::Settled {
            record: record(2).into(),
        });
        emit(ProgressEvent::Retrying {
            id: JobId(Uuid::from_u128(3)),
            class: Class::Unreachable,
            message: "connect".to_owned(),
            at: jiff::Timestamp::UNIX_EPOCH,
        });
        let expected = [
            ProgressEvent::Started {
                record: record(1).into(),
            },
            ProgressEvent::Bytes {
                id: JobId(Uuid::from_u128(1)),
                done: 40,
                total: Some(100),
            },
        ];
        assert_eq!(progress.snapshot(), expected);
    }

    // N4
    #[test]
    fn a_late_watcher_sees_that_the_bucket_refuses_until_it_does_not() {
        let progress = ProgressStream::new(8);
        let emit = progress.emit();
        let refuses = ProgressEvent::BucketRefuses {
            class: Class::UploadDenied,
            message: "check bucket b: NoSuchBucket".to_owned(),
            waiting: 3,
            until: jiff::Timestamp::UNIX_EPOCH,
        };
        emit(refuses.clone());
        assert_eq!(progress.snapshot(), std::slice::from_ref(&refuses));
        let mut board = Board::default();
        let ScreenChange::Line(Severity::Bad, line) =
            board.apply(&refuses, jiff::Timestamp::UNIX_EPOCH)
        else {
            panic!("it is a line of its own")
        };
        assert!(
            line.contains("NoSuchBucket") && line.contains("3 waiting"),
            "{line}"
        );
        emit(ProgressEvent::BucketAccepts);
        assert_eq!(progress.snapshot(), []);
        let over = board.apply(&ProgressEvent::BucketAccepts, jiff::Timestamp::UNIX_EPOCH);
        assert!(
            matches!(over, ScreenChange::Line(Severity::Good, _)),
            "{over:?}"
        );
    }

    #[test]
    fn f93_a_watcher_that_does_not_read_delays_nobody_and_is_told_what_it_missed() {
        let progress = ProgressStream::new(4);
        let mut watcher = progress.subscribe();
        let emit = progress.emit();
        for done in 0..100 {
            emit(bytes(1, done));
        }
        let Err(broadcast::error::TryRecvError::Lagged(missed)) = watcher.try_recv() else {
            panic!("a slow watcher must be told");
        };
        assert_eq!(missed, 96);
        assert_eq!(watcher.try_recv().unwrap(), bytes(1, 96));
    }

    #[test]
    fn the_snapshot_has_a_bound() {
        let progress = ProgressStream::new(1);
        let emit = progress.emit();
        for number in 0..MAX_ACTIVE as u128 + 10 {
            emit(ProgressEvent::Started {
                record: record(number).into(),
            });
        }
        assert_eq!(progress.snapshot().len(), 2 * MAX_ACTIVE);
    }
}
