//! The purge: what is of no more use leaves the store, at start and every hour.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::clock::SharedClock;
use crate::error::Result;
use crate::store::{Purged, StoreLifecycle};

/// How often the store is looked through.
const EVERY: Duration = Duration::from_secs(3600);

/// Purges now and then until `stop`. `retention`: how long sealed recordings stay; `None`: for ever.
///
/// # Errors
/// None: what fails is logged and tried again.
pub async fn keep(
    store: Arc<dyn StoreLifecycle>,
    clock: SharedClock,
    retention: Option<Duration>,
    stop: CancellationToken,
) -> Result<()> {
    let retention =
        retention.map(|kept| SignedDuration::try_from(kept).unwrap_or(SignedDuration::MAX));
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = tick.tick() => {}
        }
        match store.purge(clock.now(), retention).await {
            Ok(purged) if purged == Purged::default() => {}
            Ok(purged) => tracing::info!(
                origins = purged.origins,
                bodies = purged.bodies,
                recordings = purged.recordings,
                events = purged.events,
                "removed from the store what is kept no longer"
            ),
            Err(error) => tracing::warn!(
                "failed to remove from the store what is kept no longer: {}",
                error.full_message()
            ),
        }
    }
}
