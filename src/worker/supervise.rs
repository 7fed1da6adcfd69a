//! Tasks that live as long as the worker. One that panics is started again; when that does not help, the worker ends
//! with an error, since a worker that only seems to work is worse than none.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Worker;
use crate::error::{Error, Result};
use crate::model::ProgressEvent;
use crate::model::progress::Emit;

/// The wait before the first restart; doubles.
const RESTART_DELAY: Duration = Duration::from_millis(100);

/// No wait before a restart is longer.
const RESTART_DELAY_MAX: Duration = Duration::from_secs(60);

/// After this many panics in a row restarting does not help.
const PANICS_MAX: u32 = 6;

/// A task that has lived for this long since its last panic begins anew to count.
const SOUND_AFTER: Duration = Duration::from_secs(600);

/// Runs what `start` makes, again after each panic, until it ends by itself or `stop` is cancelled while it is down.
///
/// # Errors
/// `internal`, naming `task`, when it panics again and again.
pub(super) async fn supervise<Fut>(
    task: &str,
    emit: &Emit,
    stop: &CancellationToken,
    start: impl Fn() -> Fut,
) -> Result<()>
where
    Fut: Future<Output = ()> + Send + 'static,
{
    let mut panics = 0;
    loop {
        let began = Instant::now();
        let mut running = JoinSet::new();
        running.spawn(start());
        let Some(Err(panic)) = running.join_next().await else {
            return Ok(());
        };
        panics = if began.elapsed() < SOUND_AFTER {
            panics + 1
        } else {
            1
        };
        emit(ProgressEvent::TaskRestarted {
            task: task.to_owned(),
        });
        if panics >= PANICS_MAX {
            let message = format!("keep the {task} going: it panicked {panics} times in a row");
            return Err(Error::internal(message).with_source(panic));
        }
        let wait = RESTART_DELAY
            .saturating_mul(1 << (panics - 1).min(16))
            .min(RESTART_DELAY_MAX);
        tracing::error!(
            task,
            "a task of the worker panicked, starting it again in {wait:?}: {panic}"
        );
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Keeps a task of `worker` going until it ends by itself or `stop` is cancelled; ends the work when that is in vain.
pub(super) fn keep_going<Fut>(
    task: &'static str,
    worker: &Worker,
    stop: &CancellationToken,
    end_work: &CancellationToken,
    start: impl Fn() -> Fut + Send + Sync + 'static,
) -> impl Future<Output = Result<()>> + Send + 'static
where
    Fut: Future<Output = ()> + Send + 'static,
{
    let (emit, stop, end_work) = (Arc::clone(&worker.emit), stop.clone(), end_work.clone());
    async move {
        let kept = supervise(task, &emit, &stop, start).await;
        if let Err(error) = &kept {
            tracing::error!("the worker ends: failed to {}", error.full_message());
            end_work.cancel();
        }
        kept
    }
}

/// How a task ended, a panic included.
pub(super) fn flattened(ended: Result<Result<()>, JoinError>) -> Result<()> {
    ended.unwrap_or_else(|error| Err(Error::internal("end a task").with_source(error)))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    async fn supervised(panics: u32) -> (Result<()>, u32, u32) {
        let (starts, restarts) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let counted = Arc::clone(&restarts);
        let emit: Emit = Arc::new(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        let started = Arc::clone(&starts);
        let stop = CancellationToken::new();
        let ended = supervise("tester", &emit, &stop, || {
            let started = Arc::clone(&started);
            async move {
                let before = started.fetch_add(1, Ordering::Relaxed);
                assert!(before >= panics, "planted by the test");
            }
        });
        let ended = ended.await;
        let count = |of: &AtomicU32| of.load(Ordering::Relaxed);
        (ended, count(&starts), count(&restarts))
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_is_started_again_after_a_panic_and_given_up_after_many() {
        let (ended, starts, restarts) = supervised(3).await;
        assert!(ended.is_ok());
        assert_eq!((starts, restarts), (4, 3));
        let (ended, starts, _) = supervised(u32::MAX).await;
        let error = ended.unwrap_err();
        assert!(error.to_string().contains("tester"), "{error}");
        assert_eq!(starts, PANICS_MAX);
    }
}
