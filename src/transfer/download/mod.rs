//! The origin's bytes: read over one or several lanes, cut into parts.

pub(in crate::transfer) mod fill;
pub(in crate::transfer) mod lanes;
pub(in crate::transfer) mod part;
pub(in crate::transfer) mod ranges;
pub(in crate::transfer) mod reader;
