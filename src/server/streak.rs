//! Refusals in a row: the sign that a provider and we no longer agree, told before it costs.
//!
//! Anyone can post rubbish, so one refusal says little; that nothing good has come in between says more. Daily stops
//! every delivery of a domain after three failures, whatever the status was: of its sources the first one is told
//! already, while there is time to act. A streak that goes on is told again and again, but ever more seldom.

use std::sync::atomic::{AtomicU32, Ordering};

use super::rejection::Rejection;
use crate::model::Provider;
use crate::report::metrics::Metrics;

/// Refusals in a row after which a source counts as unhealthy: Daily's own number.
pub(super) const UNHEALTHY_AFTER: u32 = 3;

/// Deliveries that were not answered with 200 since the last one that was.
#[derive(Debug, Default)]
pub(super) struct Streak(AtomicU32);

/// How loud a refusal is told, by the number of those in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loudness {
    Silent,
    Warning,
    Error,
}

/// Counts a delivery that was not answered with 200, and says so when it is time to.
pub(super) fn refused(
    streak: &Streak,
    name: &str,
    provider: Provider,
    rejection: &Rejection,
    metrics: &Metrics,
) {
    let count = streak.0.fetch_add(1, Ordering::Relaxed).saturating_add(1);
    metrics.refused_in_a_row(name, count);
    let (refusals, reason) = (count, rejection.reason());
    match loudness(provider, count) {
        Loudness::Silent => {}
        Loudness::Warning => {
            let advice = rejection.advice();
            tracing::warn!(
                source = name,
                refusals,
                reason,
                advice,
                "a delivery was refused: Daily stops all deliveries of the domain after {UNHEALTHY_AFTER} in a row"
            );
        }
        Loudness::Error => {
            let advice = advice(provider, rejection);
            tracing::error!(
                source = name,
                refusals,
                reason,
                advice,
                "every delivery is refused, none of the last {count} was answered with 200"
            );
        }
    }
}

/// A delivery was answered with 200.
pub(super) fn accepted(streak: &Streak, name: &str, metrics: &Metrics) {
    let before = streak.0.swap(0, Ordering::Relaxed);
    if before > 0 {
        metrics.refused_in_a_row(name, 0);
    }
    if before >= UNHEALTHY_AFTER {
        tracing::info!(source = name, "deliveries are taken again");
    }
}

fn loudness(provider: Provider, count: u32) -> Loudness {
    match count {
        UNHEALTHY_AFTER => Loudness::Error,
        0..UNHEALTHY_AFTER if provider == Provider::Daily => Loudness::Warning,
        0..UNHEALTHY_AFTER => Loudness::Silent,
        _ if count.is_power_of_two() => Loudness::Error,
        _ => Loudness::Silent,
    }
}

fn advice(provider: Provider, rejection: &Rejection) -> String {
    let cause = rejection.advice();
    match provider {
        Provider::Daily => format!(
            "{cause}; Daily stops all deliveries of the domain after {UNHEALTHY_AFTER} failures: then activate the webhook \
             again and run `harvester backfill`"
        ),
        _ => format!("{cause}; deliveries may be lost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn daily_is_told_from_the_first_and_a_streak_ever_more_seldom() {
        let told = |provider, expected| {
            (1..=70)
                .filter(|count| loudness(provider, *count) == expected)
                .collect::<Vec<_>>()
        };
        assert_eq!(told(Provider::Daily, Loudness::Warning), [1, 2]);
        assert_eq!(
            told(Provider::Daily, Loudness::Error),
            [3, 4, 8, 16, 32, 64]
        );
        assert!(told(Provider::Hms, Loudness::Warning).is_empty());
        assert_eq!(told(Provider::Hms, Loudness::Error), [3, 4, 8, 16, 32, 64]);
    }
}
