//! MeetingBaaS: its events, its API and its lists.

pub(crate) mod api;
pub(crate) mod event;
pub(crate) mod list;
