//! 100ms: its events, its API and its lists.

pub(in crate::ingest::providers) mod api;
pub(in crate::ingest::providers) mod deliveries;
pub(in crate::ingest::providers) mod event;
mod files;
pub(in crate::ingest::providers) mod list;
