//! The bucket's side of a transfer: parts sent and repeated, the upload completed and proved.

pub(in crate::transfer) mod complete;
mod concurrency;
pub(in crate::transfer) mod in_flight;
mod invalid_part;
pub(in crate::transfer) mod open;
pub(in crate::transfer) mod retry;
pub(in crate::transfer) mod single_put;
