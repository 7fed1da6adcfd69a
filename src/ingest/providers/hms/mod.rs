//! 100ms: its events, its API and its lists.

pub(crate) mod api;
pub(crate) mod deliveries;
pub(crate) mod event;
mod files;
pub(crate) mod list;
