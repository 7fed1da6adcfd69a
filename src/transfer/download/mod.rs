//! The origin's bytes: read over one or several lanes, cut into parts.

pub(crate) mod fill;
pub(crate) mod lanes;
pub(crate) mod part;
pub(crate) mod ranges;
pub(crate) mod reader;
