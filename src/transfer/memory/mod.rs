//! The memory of all transfers: one budget, its shares, and the buffers that parts are read into.

pub mod budget;
pub(in crate::transfer) mod pool;
pub(in crate::transfer) mod shares;
