//! Clocks that are off: measured by what origins and the bucket say that it is, and told.

use std::collections::HashMap;
use std::sync::Mutex;

use jiff::SignedDuration;

use super::Worker;
use crate::model::ProgressEvent;

/// Beyond this a clock that is off costs recordings: deadlines are taken for later or earlier than they are.
const FAR_OFF: SignedDuration = SignedDuration::from_secs(60);

/// A difference that is told anew. Answers tell whole seconds, and take their time.
const NEWS: SignedDuration = SignedDuration::from_secs(2);

/// The bucket, as a peer.
pub(super) const BUCKET: &str = "bucket";

/// The last told offset of each peer: a source, or the bucket.
#[derive(Debug, Default)]
pub(super) struct Clocks(Mutex<HashMap<String, SignedDuration>>);

impl Clocks {
    /// Our clock was found to be `ahead` of that of `peer`: tells it if that is news.
    pub(super) fn note(&self, worker: &Worker, peer: &str, ahead: SignedDuration) {
        let before = {
            let mut told = self.0.lock().expect("no holder of this lock panics");
            let before = told.get(peer).copied();
            if before.is_some_and(|before| (ahead - before).abs() <= NEWS) {
                return;
            }
            told.insert(peer.to_owned(), ahead);
            before
        };
        let is_far_off = |ahead: SignedDuration| ahead.abs() > FAR_OFF;
        let seconds = ahead.as_secs();
        if is_far_off(ahead) && !before.is_some_and(is_far_off) {
            tracing::warn!(
                peer,
                seconds,
                "this machine's clock and that of another differ: deadlines are compared with a wrong time; set the \
                 clock of this machine (NTP)"
            );
        }
        (worker.emit)(ProgressEvent::ClockOffset {
            peer: peer.to_owned(),
            seconds,
        });
    }
}
