//! What people are told: live progress, failures grouped by what to do, metrics.

pub mod metrics;
pub mod progress;
