//! How long a bucket that fails is tried again while an origin is held open for it.
//!
//! A short outage ends an attempt, and the next one opens the origin again and goes on. That does not
//! help a URL that will be dead by then: its open bodies are all there is. So for as long as nothing
//! else can be done, they are held and the bucket is tried again. Meanwhile the memory fills, no more is
//! read, and the origin waits in its sockets.

use std::time::Duration;

use jiff::SignedDuration;
use tokio::time::Instant;

use crate::clock::SharedClock;
use crate::error::Error;
use crate::model::Deadline;
use crate::transfer::Engine;

/// Times that anything is sent at least.
pub(in crate::transfer) const TRIES: u32 = 4;

/// The first wait is drawn from zero to this; it doubles.
const FIRST_DELAY: Duration = Duration::from_millis(100);

/// No wait is longer, a Retry-After included: what is held open does not get younger.
const MAX_DELAY: Duration = Duration::from_secs(10);

/// What the scheduler may take until it comes back to a job whose bucket was down.
const RETURN: Duration = Duration::from_secs(120);

/// The patience of one transfer. Cheap to clone.
#[derive(Clone)]
pub(in crate::transfer) struct UploadRetry {
    clock: SharedClock,
    deadline: Deadline,
    /// Where the origin can be opened again.
    ordinary: Duration,
    /// Where it can't.
    held: Duration,
}

/// The tries of one call.
#[must_use]
pub(in crate::transfer) struct Tries<'a> {
    patience: &'a UploadRetry,
    tried: u32,
    begun: Instant,
}

impl UploadRetry {
    /// For what flows from an origin that can be opened until `deadline`.
    pub(in crate::transfer) fn new(engine: &Engine, deadline: Deadline) -> UploadRetry {
        UploadRetry {
            clock: engine.clock.clone(),
            deadline,
            ordinary: engine.settings.upload_patience,
            held: engine.settings.held_patience,
        }
    }

    /// The same where little is lost when it ends, because little would have to be fetched again.
    pub(in crate::transfer) fn brief(self) -> UploadRetry {
        UploadRetry {
            ordinary: Duration::ZERO,
            ..self
        }
    }

    /// A few tries and no more, whatever is lost: for what is one of many.
    pub(in crate::transfer) fn unheld(self) -> UploadRetry {
        UploadRetry {
            ordinary: Duration::ZERO,
            held: Duration::ZERO,
            ..self
        }
    }

    /// Begins to try.
    pub(in crate::transfer) fn tries(&self) -> Tries<'_> {
        Tries {
            patience: self,
            tried: 0,
            begun: Instant::now(),
        }
    }

    /// An outage that can be outlived by holding on ends after the URL's deadline, so that waiting for the
    /// scheduler would not do.
    fn limit(&self) -> Duration {
        let reach = SignedDuration::try_from(self.held + RETURN).unwrap_or(SignedDuration::MAX);
        match self.deadline.time_left(self.clock.now()) {
            Some(left) if left <= reach => self.held,
            _ => self.ordinary,
        }
    }
}

impl Tries<'_> {
    /// How often it was tried.
    pub(in crate::transfer) fn count(&self) -> u32 {
        self.tried
    }

    /// Waits for the next try after one that ended in `error`; false when there is to be none.
    pub(in crate::transfer) async fn wait_after(&mut self, error: &Error) -> bool {
        self.tried += 1;
        let is_over = self.tried >= TRIES && self.begun.elapsed() >= self.patience.limit();
        if is_over || !error.is_transient() {
            return false;
        }
        if self.tried == TRIES {
            tracing::warn!(
                cause = %error.full_message(),
                "the bucket keeps failing, what is open is held"
            );
        }
        let asked = error.retry_after().unwrap_or_default().min(MAX_DELAY);
        tokio::time::sleep(jittered(self.tried).max(asked)).await;
        true
    }
}

/// Waits after the `tried`-th try.
pub(in crate::transfer) async fn wait_after(tried: u32) {
    tokio::time::sleep(jittered(tried)).await;
}

fn jittered(tried: u32) -> Duration {
    let most = FIRST_DELAY * 2u32.pow(tried.clamp(1, 10) - 1);
    most.min(MAX_DELAY).mul_f64(fastrand::f64())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;

    use super::*;
    use crate::clock::SystemClock;
    use crate::error::Class;
    use crate::model::DeadlineFrom;

    fn patience(deadline: Option<i64>) -> UploadRetry {
        let clock: SharedClock = Arc::new(SystemClock);
        let at = |seconds| {
            let now = clock.now().as_second();
            let at = Timestamp::from_second(now + seconds).unwrap();
            Deadline::at(at, DeadlineFrom::Query)
        };
        UploadRetry {
            deadline: deadline.map_or(Deadline::NONE, at),
            clock,
            ordinary: Duration::from_secs(30),
            held: Duration::from_secs(600),
        }
    }

    async fn seconds_tried(patience: &UploadRetry, error: &Error) -> (u64, u32) {
        let begun = Instant::now();
        let mut tries = patience.tries();
        while tries.wait_after(error).await {}
        (begun.elapsed().as_secs(), tries.count())
    }

    #[tokio::test(start_paused = true)]
    async fn f62_what_can_not_be_opened_again_is_held_for_minutes() {
        let down = Error::transient(Class::UploadFailed, "send it: 503");
        for (deadline, least, most) in [
            (None, 30, 45),
            (Some(7200), 30, 45),
            (Some(60), 600, 625),
            (Some(-1), 600, 625),
        ] {
            let (seconds, tried) = seconds_tried(&patience(deadline), &down).await;
            assert!((least..most).contains(&seconds), "{deadline:?}: {seconds}");
            assert!(tried < 400, "{tried}");
        }
        let brief = patience(None).brief();
        assert_eq!(seconds_tried(&brief, &down).await.1, TRIES);
    }

    #[tokio::test(start_paused = true)]
    async fn what_refuses_for_good_is_not_tried_again() {
        let denied = Error::new(Class::UploadDenied, "send it: 403");
        assert_eq!(seconds_tried(&patience(Some(1)), &denied).await, (0, 1));
    }
}
