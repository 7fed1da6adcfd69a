//! Opening an origin over HTTP.
