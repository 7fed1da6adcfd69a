//! Refusals in a row: the sign that a provider and we no longer agree on a secret, told before it costs.
//!
//! Anyone can post rubbish, so one refusal says nothing; that nothing good has come in between does. Daily
//! stops every delivery of a domain after three failures.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::model::Provider;
use crate::report::metrics::Metrics;

/// Refusals in a row after which a source counts as unhealthy: Daily's own number.
pub(super) const UNHEALTHY_AFTER: u32 = 3;

/// Refusals since the last delivery that was believed.
#[derive(Debug, Default)]
pub(super) struct Streak(AtomicU32);

/// Counts a refusal, and says so loudly when it is the one too many.
pub(super) fn refused(streak: &Streak, name: &str, provider: Provider, metrics: &Metrics) {
    let count = streak.0.fetch_add(1, Ordering::Relaxed).saturating_add(1);
    metrics.refused_in_a_row(name, count);
    if count == UNHEALTHY_AFTER {
        let advice = match provider {
            Provider::Daily => {
                "Daily stops all deliveries of the domain after three failures: set the webhook's hmac as the source's secret, then activate the webhook again"
            }
            _ => {
                "check the source's secrets against the provider's settings; deliveries may be lost"
            }
        };
        tracing::error!(
            source = name,
            refusals = count,
            advice,
            "every delivery is refused: the signature or secret is not the configured one"
        );
    }
}

/// A delivery was believed.
pub(super) fn accepted(streak: &Streak, name: &str, metrics: &Metrics) {
    let before = streak.0.swap(0, Ordering::Relaxed);
    if before > 0 {
        metrics.refused_in_a_row(name, 0);
    }
    if before >= UNHEALTHY_AFTER {
        tracing::info!(source = name, "deliveries are believed again");
    }
}
