//! URIs as they are written, resolved (RFC 3986) and bounded; and what of them must not be shown.

use url::Url;

use super::MAX_URL_BYTES;
use crate::signed_url::redact::is_secret_name;
use crate::signed_url::{SignedUrl, UrlScheme, read_signature};

/// Resolves the URIs of one playlist. A short relative URI may stand for a long URL, many thousand times:
/// what they come to is bounded, and not only what was written.
pub(super) struct Resolver<'a> {
    base: &'a Url,
    url_bytes: usize,
}

impl<'a> Resolver<'a> {
    pub(super) fn new(base: &'a Url) -> Resolver<'a> {
        Resolver { base, url_bytes: 0 }
    }

    /// Bytes of all URLs so far.
    pub(super) fn url_bytes(&self) -> usize {
        self.url_bytes
    }

    /// The URL, and whether it was written without scheme and host. An absolute URI stays as written, since it
    /// may be signed.
    pub(super) fn resolve(&mut self, uri: &str) -> Result<(String, bool), String> {
        let resolved = resolve(self.base, uri)?;
        self.url_bytes += resolved.0.len();
        if self.url_bytes > MAX_URL_BYTES {
            return Err(format!(
                "the URIs come to more than {MAX_URL_BYTES} bytes when they are resolved"
            ));
        }
        Ok(resolved)
    }
}

fn resolve(base: &Url, uri: &str) -> Result<(String, bool), String> {
    if uri.is_empty() || uri.chars().any(char::is_control) {
        return Err("the URI is empty or holds a control character".to_owned());
    }
    let bare = uri.split('#').next().unwrap_or_default();
    let mut joined = base
        .join(uri)
        .map_err(|error| format!("the URI can't be resolved: {error}"))?;
    joined.set_fragment(None);
    if Url::parse(uri).is_err() {
        return Ok((joined.into(), true));
    }
    let path = bare.split('?').next().unwrap_or_default();
    let has_dots = path.split('/').any(|part| part == "." || part == "..");
    match has_dots {
        true => Ok((joined.into(), false)),
        false => Ok((bare.to_owned(), false)),
    }
}

/// The URL without its query, where that is a signature or holds a secret by name; `None` where nothing needs
/// to go.
pub fn without_secrets(url: &str) -> Option<String> {
    let Ok(parsed) = Url::parse(url) else {
        return Some(SignedUrl::new(url).to_string());
    };
    let is_web = ["http", "https"].contains(&parsed.scheme());
    let has_user = !parsed.username().is_empty() || parsed.password().is_some();
    let is_secret = read_signature(url).scheme != UrlScheme::None || has_secret_parameter(&parsed);
    (is_web && (is_secret || has_user)).then(|| SignedUrl::new(url).to_string())
}

/// As [`without_secrets`], for a reference as it was written in a playlist that came from `base`.
pub(super) fn written_without_secrets(base: &Url, uri: &str) -> Option<String> {
    if Url::parse(uri).is_ok() {
        return without_secrets(uri);
    }
    let (bare, _) = uri.split_once('?')?;
    let joined = base.join(uri).ok()?;
    let is_secret =
        read_signature(joined.as_str()).scheme != UrlScheme::None || has_secret_parameter(&joined);
    is_secret.then(|| bare.to_owned())
}

fn has_secret_parameter(url: &Url) -> bool {
    url.query_pairs().any(|(name, _)| {
        let is_short_one = [
            "sig", "key", "auth", "jwt", "policy", "hdnts", "hdnea", "hmac",
        ]
        .iter()
        .any(|secret| name.eq_ignore_ascii_case(secret));
        is_short_one || is_secret_name(&name)
    })
}
