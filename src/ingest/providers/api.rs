//! What the providers' APIs have in common: how to ask, and what a status means.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::error::{Class, Error, Result};
use crate::model::api::{ApiRequest, ApiResponse, Credentials, Method};
use crate::model::{JsonWeight, Lookup, Provider};

/// When files that are still being made are asked for again.
const UNFINISHED_WAIT: Duration = Duration::from_secs(300);

/// A GET of `path` under the provider's address, or under the one that the source is set to.
///
/// # Errors
/// `denied` when there is neither.
pub(super) fn get(
    provider: Provider,
    credentials: &Credentials,
    default_base: Option<&str>,
    path: &str,
    headers: Vec<(&'static str, SecretString)>,
) -> Result<ApiRequest> {
    let base = credentials
        .base_url
        .as_deref()
        .or(default_base)
        .ok_or_else(|| missing(provider, "base_url"))?;
    Ok(ApiRequest {
        method: Method::Get,
        url: format!("{}{path}", base.trim_end_matches('/')),
        headers,
        body: None,
    })
}

/// The source's API key.
///
/// # Errors
/// `denied`, saying which setting is missing.
pub(super) fn api_key(provider: Provider, credentials: &Credentials) -> Result<&str> {
    given(provider, "api_key", credentials.api_key.as_ref())
}

/// The second half of the source's credentials.
///
/// # Errors
/// `denied`, saying which setting is missing.
pub(super) fn api_secret(provider: Provider, credentials: &Credentials) -> Result<&str> {
    given(provider, "api_secret", credentials.api_secret.as_ref())
}

fn given<'a>(
    provider: Provider,
    setting: &str,
    secret: Option<&'a SecretString>,
) -> Result<&'a str> {
    secret
        .map(|secret| secret.expose_secret())
        .filter(|secret| !secret.is_empty())
        .ok_or_else(|| missing(provider, setting))
}

fn missing(provider: Provider, setting: &str) -> Error {
    Error::new(
        Class::Denied,
        format!("{provider}: no {setting} is set for this source; set sources.<name>.{setting}"),
    )
}

/// `id` as a path segment. Ids come from outside; one with other characters is nobody's, and could
/// turn the request to another path.
///
/// # Errors
/// `invalid`.
pub(super) fn segment(provider: Provider, id: &str) -> Result<&str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    let is_id = id.len() <= 200
        && id.chars().all(is_plain)
        && id.contains(|c: char| c.is_ascii_alphanumeric());
    if !is_id {
        return Err(Error::invalid(format!(
            "{provider}: the event's id is no id that its API could know"
        )));
    }
    Ok(id)
}

/// A lookup that `provider` does not have.
pub(super) fn unknown_call(provider: Provider, lookup: &Lookup) -> Error {
    Error::invalid(format!("{provider}: there is no API call {}", lookup.call))
}

/// An answer in which nothing can be fetched. An event is often faster than the list behind it, so it passes, as a 404
/// does.
pub(super) fn nothing_found(provider: Provider) -> Error {
    Error::transient(
        Class::Gone,
        format!("{provider}: the API names no file yet"),
    )
}

/// An answer some of whose files, `count`, are still being made. The wait is that of transcripts, which take minutes.
pub(super) fn unfinished(provider: Provider, count: usize) -> Error {
    let files = if count == 1 { "file is" } else { "files are" };
    Error::transient(
        Class::Unreachable,
        format!("{provider}: {count} {files} still being made, says the API"),
    )
    .with_retry_after(Some(UNFINISHED_WAIT))
}

/// The JSON of a good answer.
///
/// # Errors
/// By status, as [`lookup_answer`](crate::ingest::lookup_answer) says; the provider's text is left out, since
/// some answers hold secrets.
pub(super) fn read_answer(provider: Provider, response: &ApiResponse) -> Result<Value> {
    let status = response.status;
    let says = |what: &str| format!("{provider}: the API {what} (status {status})");
    let wait = response.retry_after;
    match status {
        200 => {}
        401 | 403 => return Err(Error::new(Class::Denied, says("refuses the api_key"))),
        // An event can be faster than the API behind it: the retry budget bounds the hope.
        404 => {
            return Err(Error::transient(
                Class::Gone,
                says("does not know the file"),
            ));
        }
        410 => return Err(Error::new(Class::Gone, says("has deleted the file"))),
        408 | 425 => {
            return Err(
                Error::transient(Class::Unreachable, says("is not ready")).with_retry_after(wait)
            );
        }
        // Daily answers 400 for a batch job that has not finished.
        400 if provider == Provider::Daily => {
            return Err(Error::transient(Class::Unreachable, says("is not ready")));
        }
        429 => {
            return Err(
                Error::transient(Class::Throttled, says("asks us to slow down"))
                    .with_retry_after(wait),
            );
        }
        500..=599 => {
            return Err(
                Error::transient(Class::Unreachable, says("is in trouble")).with_retry_after(wait)
            );
        }
        _ => return Err(Error::invalid(says("does not take our request"))),
    }
    JsonWeight::of(&response.body)
        .check(usize::MAX)
        .map_err(|error| Error::invalid(says(&format!("answers with too much, {error}"))))?;
    let answer: Value = serde_json::from_slice(&response.body)
        .map_err(|_| Error::invalid(says("answers with something that is not JSON")))?;
    if !answer.is_object() {
        return Err(Error::invalid(says(
            "answers with something that is not an object",
        )));
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_class() {
        let mut table = String::new();
        for status in [
            200, 204, 302, 400, 401, 403, 404, 408, 410, 422, 429, 500, 503,
        ] {
            let response = ApiResponse {
                status,
                retry_after: Some(Duration::from_secs(45)),
                date: None,
                body: "{}".into(),
            };
            let line = match read_answer(Provider::Hms, &response) {
                Ok(_) => "read".to_owned(),
                Err(error) => format!(
                    "{}{}{}",
                    error.class(),
                    if error.is_transient() {
                        " transient"
                    } else {
                        ""
                    },
                    error.retry_after().map_or("", |_| " retry-after")
                ),
            };
            table.push_str(&format!("{status} {line}\n"));
        }
        assert_eq!(
            table,
            "200 read\n204 invalid\n302 invalid\n400 invalid\n401 denied\n403 denied\n404 gone transient\n\
             408 unreachable transient retry-after\n410 gone\n422 invalid\n429 throttled transient retry-after\n\
             500 unreachable transient retry-after\n503 unreachable transient retry-after\n"
        );
    }

    #[test]
    fn an_id_can_not_leave_its_place_in_the_path() {
        for id in [
            "..",
            ".",
            "",
            "a/b",
            "a?b",
            "a#b",
            "%2e%2e",
            "a b",
            &"x".repeat(201),
        ] {
            assert!(segment(Provider::Daily, id).is_err(), "{id}");
        }
        assert!(segment(Provider::Daily, "1b9d6bcd-bbfd-4b2d").is_ok());
    }
}
