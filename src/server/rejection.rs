//! Why a webhook is not answered with 200: the status, the words, the label and the log line.

use std::net::SocketAddr;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::time::Instant;

use super::told::Seldom;
use crate::error::Error;
use crate::ingest::signature::SenderRefusal;
use crate::model::JsonWeight;

/// Seconds after which the provider may try again.
const RETRY_AFTER: &str = "5";

/// Why a delivery was not taken.
#[derive(Debug)]
pub(super) enum Rejection {
    UnknownSource,
    UnknownPath,
    Unauthorized(SenderRefusal),
    /// The provider's public key can't be had at the moment.
    NoKey,
    TooLarge {
        limit_bytes: usize,
        announced: Option<u64>,
    },
    TooSlow,
    Cut,
    Unparseable(Error),
    /// It is nested too deep.
    TooDeep(Error),
    /// Its tree would take too much memory.
    TooComplex(Error),
    Overloaded,
    /// The source sends more than it may.
    TooMany,
    NotStored(Error),
}

/// Whose delivery was refused.
pub(super) struct RefusedWebhook<'a> {
    /// The source's name.
    pub(super) source: &'a str,
    pub(super) peer: Option<SocketAddr>,
    /// Headers of which one or all have to prove the sender.
    pub(super) expected: String,
    pub(super) told: &'a Seldom,
}

impl Rejection {
    /// Of a body of this weight, which is too much for the reason that `error` tells.
    pub(super) fn of_weight(weight: JsonWeight, error: Error) -> Rejection {
        match weight.is_too_deep() {
            true => Rejection::TooDeep(error),
            false => Rejection::TooComplex(error),
        }
    }

    /// The label in the metrics.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Rejection::UnknownSource => "unknown_source",
            Rejection::UnknownPath => "unknown_path",
            Rejection::Unauthorized(refusal) => refusal.as_str(),
            Rejection::NoKey => "no_public_key",
            Rejection::TooLarge { .. } => "too_large",
            Rejection::TooSlow => "too_slow",
            Rejection::Cut => "cut",
            Rejection::Unparseable(_) => "unparseable",
            Rejection::TooDeep(_) | Rejection::TooComplex(_) => "too_complex",
            Rejection::Overloaded => "overloaded",
            Rejection::TooMany => "too_many",
            Rejection::NotStored(_) => "not_stored",
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Rejection::UnknownSource | Rejection::UnknownPath => StatusCode::NOT_FOUND,
            Rejection::Unauthorized(_) => StatusCode::UNAUTHORIZED,
            Rejection::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Rejection::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Rejection::Cut
            | Rejection::Unparseable(_)
            | Rejection::TooDeep(_)
            | Rejection::TooComplex(_) => StatusCode::BAD_REQUEST,
            Rejection::NoKey
            | Rejection::Overloaded
            | Rejection::TooMany
            | Rejection::NotStored(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// What the sender is told. Nothing of what it sent, and nothing of what is inside.
    fn words(&self) -> &'static str {
        match self {
            Rejection::UnknownSource => "no such source\n",
            Rejection::UnknownPath => "no such page\n",
            Rejection::Unauthorized(_) => "not authorized\n",
            Rejection::TooLarge { .. } => "the body is too large\n",
            Rejection::TooSlow => "the body took too long\n",
            Rejection::Cut => "the body was cut short\n",
            Rejection::Unparseable(_) => "the body is not a JSON object\n",
            Rejection::TooDeep(_) => "the body is nested too deep\n",
            Rejection::TooComplex(_) => "the body is of too many parts\n",
            Rejection::NoKey
            | Rejection::Overloaded
            | Rejection::TooMany
            | Rejection::NotStored(_) => "the event can't be stored now, send it again\n",
        }
    }

    /// What an operator can do about it, where it happens again and again.
    pub(super) fn advice(&self) -> &'static str {
        match self {
            Rejection::UnknownSource | Rejection::UnknownPath => {
                "set up a source of that name, or correct the address at the provider"
            }
            Rejection::Unauthorized(refusal) => refusal.advice(),
            Rejection::NoKey => {
                "let the harvester reach the provider's well-known address, or set public_key to the key itself"
            }
            Rejection::TooLarge { .. } => {
                "if these are the provider's own events, raise the source's max_body"
            }
            Rejection::TooSlow | Rejection::Cut => {
                "check the network and the proxy before the listener"
            }
            Rejection::Unparseable(_) => "check that it is the provider who posts to this source",
            Rejection::TooDeep(_) => {
                "look at what is sent: 32 levels of lists and objects are allowed, no setting changes that, and no provider \
                 documents an event of more than seven"
            }
            Rejection::TooComplex(_) => {
                "look at what is sent; if these are the provider's own events, raise the source's max_body"
            }
            Rejection::Overloaded => {
                "look who holds the listener's memory (many or slow large bodies), or run several receivers"
            }
            Rejection::TooMany => {
                "raise the source's event_rate, if it is the provider who sends so many"
            }
            Rejection::NotStored(_) => {
                "check the store: `harvester doctor` says what is wrong with it"
            }
        }
    }

    /// Tells the operator; what anyone could cause again and again, seldom.
    pub(super) fn log(&self, refused: &RefusedWebhook<'_>) {
        let RefusedWebhook {
            source,
            peer,
            expected,
            told,
        } = refused;
        let reason = self.reason();
        let peer = peer.map(tracing::field::display);
        if let Rejection::NotStored(error) = self {
            tracing::error!(source, reason, error = %error.full_message(), "an event was not stored, its sender was told to try again");
            return;
        }
        let Some(more) = told.turn(reason, Instant::now()) else {
            tracing::debug!(source, peer, reason, "webhook refused");
            return;
        };
        let advice = self.advice();
        match self {
            Rejection::TooLarge {
                limit_bytes,
                announced,
            } => {
                tracing::error!(
                    source,
                    peer,
                    limit_bytes,
                    announced,
                    more,
                    advice,
                    "an event was refused with 413: it is larger than the source's max_body, and is lost"
                );
            }
            Rejection::Unauthorized(_) => {
                tracing::warn!(
                    source,
                    peer,
                    reason,
                    expected,
                    more,
                    advice,
                    "webhook refused with 401"
                );
            }
            Rejection::Unparseable(error)
            | Rejection::TooDeep(error)
            | Rejection::TooComplex(error) => {
                tracing::warn!(source, peer, reason, error = %error.full_message(), more, advice, "webhook refused");
            }
            _ => tracing::warn!(source, peer, reason, more, advice, "webhook refused"),
        }
    }
}

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        let status = self.status();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            return (status, [(header::RETRY_AFTER, RETRY_AFTER)], self.words()).into_response();
        }
        (status, self.words()).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::json_weight::JSON_DEPTH_MAX;

    #[test]
    fn the_advice_names_the_depth_that_is_allowed() {
        let text = "[".repeat(JSON_DEPTH_MAX + 1);
        let weight = JsonWeight::of(text.as_bytes());
        let rejection = Rejection::of_weight(weight, weight.check(usize::MAX).unwrap_err());
        assert!(matches!(rejection, Rejection::TooDeep(_)));
        let allowed = format!("{JSON_DEPTH_MAX} levels");
        assert!(rejection.advice().contains(&allowed));
    }
}
