//! MeetingBaaS: its events, its API and its lists.

pub(in crate::ingest::providers) mod api;
pub(in crate::ingest::providers) mod event;
pub(in crate::ingest::providers) mod list;
