//! Builds HTTP clients: the only place that does.
