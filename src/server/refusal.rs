//! Answers of the admin listener that are no success, and the waits that end in one.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, Limited};

use crate::error::{Class, Error};

/// Bytes of a request body.
const BODY_LIMIT_BYTES: usize = 64 * 1024;

/// For a whole request body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// For an answer of the store, before the operator is told that it does not answer.
const STORE_TIMEOUT: Duration = Duration::from_secs(10);

/// An answer that is no success.
#[derive(Debug)]
pub(super) struct HttpRefusal {
    status: StatusCode,
    class: Class,
    pub(super) message: String,
}

impl HttpRefusal {
    pub(super) fn new(status: StatusCode, class: Class, message: impl Into<String>) -> HttpRefusal {
        HttpRefusal {
            status,
            class,
            message: message.into(),
        }
    }

    pub(super) fn not_found(message: &str) -> HttpRefusal {
        HttpRefusal::new(StatusCode::NOT_FOUND, Class::Gone, message)
    }

    pub(super) fn invalid(message: String) -> HttpRefusal {
        HttpRefusal::new(StatusCode::BAD_REQUEST, Class::Invalid, message)
    }
}

impl IntoResponse for HttpRefusal {
    fn into_response(self) -> Response {
        let error = serde_json::json!({"error": {"class": self.class, "message": self.message}});
        (self.status, Json(error)).into_response()
    }
}

/// Reads a request's JSON, within its limits of size and time.
pub(super) async fn read_json<T: serde::de::DeserializeOwned>(
    body: Body,
) -> Result<T, HttpRefusal> {
    let read = Limited::new(body, BODY_LIMIT_BYTES).collect();
    let body = match tokio::time::timeout(BODY_TIMEOUT, read).await {
        Err(_) => {
            let message = format!("the body took longer than {BODY_TIMEOUT:?}");
            return Err(HttpRefusal::new(
                StatusCode::REQUEST_TIMEOUT,
                Class::Invalid,
                message,
            ));
        }
        Ok(Err(_)) => {
            let message = format!("the body is cut or longer than {BODY_LIMIT_BYTES} bytes");
            return Err(HttpRefusal::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                Class::Invalid,
                message,
            ));
        }
        Ok(Ok(body)) => body.to_bytes(),
    };
    serde_json::from_slice(&body)
        .map_err(|error| HttpRefusal::invalid(format!("the body is not understood: {error}")))
}

/// The store's answer, or a refusal when it does not come.
pub(super) async fn within_time<T>(
    answer: impl Future<Output = Result<T, Error>>,
) -> Result<T, HttpRefusal> {
    match tokio::time::timeout(STORE_TIMEOUT, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => {
            tracing::error!(error = %error.full_message(), "the store failed the admin listener");
            Err(HttpRefusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                error.class(),
                error.to_string(),
            ))
        }
        Err(_) => {
            let message = format!("the store did not answer within {STORE_TIMEOUT:?}");
            Err(HttpRefusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                Class::Internal,
                message,
            ))
        }
    }
}
