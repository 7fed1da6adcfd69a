//! Why a webhook is not answered with 200: the status, the words, the label and the log line.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::error::Error;
use crate::ingest::signature::Refusal;

/// Seconds after which the provider may try again.
const RETRY_AFTER: &str = "5";

/// Why a delivery was not taken.
#[derive(Debug)]
pub(super) enum Rejection {
    UnknownSource,
    Unauthorized(Refusal),
    /// The provider's public key can't be had at the moment.
    NoKey,
    TooLarge,
    TooSlow,
    Cut,
    Unparseable(Error),
    Overloaded,
    /// The source sends more than it may.
    TooMany,
    NotStored(Error),
}

impl Rejection {
    /// The label in the metrics.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Rejection::UnknownSource => "unknown_source",
            Rejection::Unauthorized(refusal) => refusal.as_str(),
            Rejection::NoKey => "no_public_key",
            Rejection::TooLarge => "too_large",
            Rejection::TooSlow => "too_slow",
            Rejection::Cut => "cut",
            Rejection::Unparseable(_) => "unparseable",
            Rejection::Overloaded => "overloaded",
            Rejection::TooMany => "too_many",
            Rejection::NotStored(_) => "not_stored",
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Rejection::UnknownSource => StatusCode::NOT_FOUND,
            Rejection::Unauthorized(_) => StatusCode::UNAUTHORIZED,
            Rejection::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Rejection::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Rejection::Cut | Rejection::Unparseable(_) => StatusCode::BAD_REQUEST,
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
            Rejection::Unauthorized(_) => "not authorized\n",
            Rejection::TooLarge => "the body is too large\n",
            Rejection::TooSlow => "the body took too long\n",
            Rejection::Cut => "the body was cut short\n",
            Rejection::Unparseable(_) => "the body is not a JSON object\n",
            Rejection::NoKey
            | Rejection::Overloaded
            | Rejection::TooMany
            | Rejection::NotStored(_) => "the event can't be stored now, send it again\n",
        }
    }

    /// What an operator can do about it, where it happens again and again.
    pub(super) fn advice(&self) -> &'static str {
        match self {
            Rejection::UnknownSource => "set up a source of that name",
            Rejection::Unauthorized(_) => {
                "set the source's secrets (or public_key) to what the provider signs with"
            }
            Rejection::NoKey => {
                "let the harvester reach the provider's well-known address, or set public_key to the key itself"
            }
            Rejection::TooLarge => "look at what is sent: no provider's event is that large",
            Rejection::TooSlow | Rejection::Cut => {
                "check the network and the proxy before the listener"
            }
            Rejection::Unparseable(_) => "check that it is the provider who posts to this source",
            Rejection::Overloaded => "give the receiver more room, or run several",
            Rejection::TooMany => {
                "raise the source's event_rate, if it is the provider who sends so many"
            }
            Rejection::NotStored(_) => {
                "check the store: `harvester doctor` says what is wrong with it"
            }
        }
    }

    pub(super) fn log(&self, name: &str) {
        let reason = self.reason();
        match self {
            Rejection::NotStored(error) => {
                tracing::error!(source = name, reason, error = %error.full_message(), "an event was not stored, its sender was told to try again");
            }
            Rejection::Unparseable(error) => {
                tracing::info!(source = name, reason, error = %error.full_message(), "webhook refused");
            }
            Rejection::Overloaded | Rejection::TooMany | Rejection::NoKey => {
                tracing::warn!(source = name, reason, "webhook refused")
            }
            _ => tracing::info!(source = name, reason, "webhook refused"),
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
