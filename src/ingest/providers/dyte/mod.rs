//! Dyte and RealtimeKit: their events, their API and their lists.

pub(in crate::ingest::providers) mod api;
pub(in crate::ingest::providers) mod event;
pub(in crate::ingest::providers) mod list;
