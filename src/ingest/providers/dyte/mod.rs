//! Dyte and RealtimeKit: their events, their API and their lists.

pub(crate) mod api;
pub(crate) mod event;
pub(crate) mod list;
