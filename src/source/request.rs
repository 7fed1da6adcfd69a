//! The request for a file, and where a redirect leads.

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, HeaderName, HeaderValue, IF_RANGE, LOCATION, RANGE, USER_AGENT,
};
use http::{Request, Response, Uri};
use http_body_util::Empty;
use url::Url;

use super::OpenRequest;
use crate::error::{Class, Error, Result};
use crate::http1;
use crate::signed_url::SignedUrl;

/// What is sent to this very hop.
pub(super) fn asking(url: &Url, request: &OpenRequest) -> Result<Request<Empty<Bytes>>> {
    let mut get = Request::new(Empty::new());
    *get.uri_mut() =
        Uri::try_from(url.as_str()).map_err(|error| unsendable().with_source(error))?;
    let headers = get.headers_mut();
    headers.insert(USER_AGENT, HeaderValue::from_static(http1::USER_AGENT));
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert(ACCEPT_ENCODING, super::client::IDENTITY);
    // Looked up for this hop: a redirect elsewhere goes without.
    if let Some(own) = request.url.header_for(url) {
        let name =
            HeaderName::try_from(&*own.name).map_err(|error| unsendable().with_source(error))?;
        headers.insert(name, header_value(&own.name, own.expose())?);
    }
    if let Some(range) = request.range {
        let end = range
            .end
            .map_or(String::new(), |end| end.saturating_sub(1).to_string());
        let range = HeaderValue::try_from(format!("bytes={}-{end}", range.start));
        headers.insert(
            RANGE,
            range.map_err(|error| unsendable().with_source(error))?,
        );
        if let Some(validator) = &request.validator {
            let validator = HeaderValue::from_str(validator);
            headers.insert(
                IF_RANGE,
                validator.map_err(|error| unsendable().with_source(error))?,
            );
        }
    }
    Ok(get)
}

pub(super) fn unsendable() -> Error {
    Error::new(Class::Refused, "the URL can't be sent")
}

/// A secret as the value of a header that no log repeats.
pub(super) fn header_value(name: &str, secret: &str) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(secret).map_err(|_| {
        Error::new(
            Class::Denied,
            format!("the credential for header {name} holds characters that no header may carry"),
        )
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// Where a redirect leads; `None` for anything else.
pub(super) fn redirect_target<B>(
    from: &SignedUrl,
    response: &Response<B>,
) -> Result<Option<SignedUrl>> {
    if !matches!(response.status().as_u16(), 301..=303 | 307 | 308) {
        return Ok(None);
    }
    let Some(location) = response.headers().get(LOCATION) else {
        return Ok(None);
    };
    let refused =
        |what: &str| Error::new(Class::Refused, format!("the origin redirects to {what}"));
    let location = location
        .to_str()
        .map_err(|_| refused("an unreadable place"))?;
    let base = Url::parse(from.expose()).map_err(|_| refused("an unreadable place"))?;
    let target = base
        .join(location)
        .map_err(|_| refused("an unreadable place"))?;
    if base.scheme() == "https" && target.scheme() == "http" {
        return Err(refused("plain http"));
    }
    // An absolute Location is a URL as received: it must reach the wire unchanged like the first one.
    let is_absolute = Url::parse(location).is_ok();
    Ok(Some(from.leading_to(if is_absolute {
        location.to_owned()
    } else {
        target.to_string()
    })))
}
