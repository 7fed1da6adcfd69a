//! The memory of all transfers: one budget, its shares, and the buffers that parts are read into.

pub mod budget;
pub(crate) mod pool;
pub(crate) mod shares;
