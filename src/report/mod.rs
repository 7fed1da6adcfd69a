//! What people are told: live progress, failures grouped by what to do, metrics.

pub mod board;
pub mod failure;
pub mod metrics;
pub mod printable;
pub mod progress;
pub mod terminal;
mod units;
