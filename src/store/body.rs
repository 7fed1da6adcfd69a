//! What events said, as it stays in the store when their recording is sealed.

use std::fmt;

use bytes::Bytes;

use crate::model::{EventId, Provider};

/// The body of an event that was not archived itself, which may be retried. `Debug` leaves the body out: it has secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct KeptBody {
    /// The event.
    pub event: EventId,
    /// The source it came through.
    pub source: String,
    /// Whose event it is.
    pub provider: Provider,
    /// The body.
    pub raw: Bytes,
}

impl fmt::Debug for KeptBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeptBody")
            .field("event", &self.event)
            .field("source", &self.source)
            .field("provider", &self.provider)
            .field("raw_bytes", &self.raw.len())
            .finish()
    }
}
