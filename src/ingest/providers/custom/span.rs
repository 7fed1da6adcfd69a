//! A length of time in a definition.

use jiff::SignedDuration;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

/// A length of time such as `24h`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span(pub(super) SignedDuration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let span: Option<SignedDuration> = text.parse().ok();
        span.filter(SignedDuration::is_positive)
            .map(Span)
            .ok_or_else(|| D::Error::custom("expected a length of time such as \"24h\" or \"90m\""))
    }
}
