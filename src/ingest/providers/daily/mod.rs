//! Daily: its events and its lists.

pub(in crate::ingest::providers) mod event;
pub(in crate::ingest::providers) mod list;
