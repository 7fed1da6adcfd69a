//! Daily: its events and its lists.

pub(crate) mod event;
pub(crate) mod list;
