//! The bucket's side of a transfer: parts sent and repeated, the upload completed and proved.

pub(crate) mod complete;
mod concurrency;
pub(crate) mod in_flight;
mod invalid_part;
pub(crate) mod open;
pub(crate) mod retry;
pub(crate) mod single_put;
