//! What the bucket can do is found out beside the work: nothing waits for it, and until it is known nothing is written
//! without looking first. What a user should know of it is logged, once.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{Either, select};
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::object::ObjectStore;

/// The wait before a bucket that did not let us in is tried again.
const AGAIN: Duration = Duration::from_secs(15);

/// How long a command waits for the end of a probe, so that it does not leave its object.
const END: Duration = Duration::from_secs(2);

/// Tries until the bucket has let us in once, then waits for `shutdown`.
///
/// # Errors
/// None.
pub(super) async fn keep_trying(
    objects: Arc<dyn ObjectStore>,
    probe_key: String,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    while !objects.capabilities().are_known() && !shutdown.is_cancelled() {
        try_once(&*objects, &probe_key).await;
        let wait = match objects.capabilities().are_known() {
            true => Duration::ZERO,
            false => AGAIN,
        };
        shutdown.run_until_cancelled(tokio::time::sleep(wait)).await;
    }
    shutdown.cancelled().await;
    Ok(())
}

/// Tries once beside `work`.
pub(super) async fn beside<T>(
    objects: Arc<dyn ObjectStore>,
    probe_key: String,
    work: impl Future<Output = T>,
) -> T {
    let learning = pin!(try_once(&*objects, &probe_key));
    match select(pin!(work), learning).await {
        Either::Left((done, learning)) => {
            let _ = tokio::time::timeout(END, learning).await;
            done
        }
        Either::Right(((), work)) => work.await,
    }
}

/// A bucket that is down or refuses is the transfers' to tell of.
async fn try_once(objects: &dyn ObjectStore, probe_key: &str) {
    if let Err(error) = objects.probe(probe_key).await {
        tracing::debug!(
            "failed to find out what the bucket can do: {}",
            error.full_message()
        );
    }
}
