//! The world of the tests: an origin, an object store and providers' APIs that misbehave on script.

pub mod api;
pub mod binary;
pub mod daily;
pub mod origin;
pub mod s3;
