//! A URL that may carry a secret in its query: kept byte for byte, shown without the secret, and asked
//! what its own signature says about its end.

use std::fmt;

use url::Url;

pub mod redact;
mod schemes;
pub mod signature;

pub use redact::{redact_body, redact_json, redact_urls};
pub use signature::{Scheme, Signature, read_signature, url_deadline};

/// A URL exactly as it was received. It is sent byte for byte, and shown without its query.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SignedUrl {
    url: String,
    header: Option<Box<UrlHeader>>,
}

/// A header that a URL needs to be opened, such as a token that came with it. It is sent to the hosts that it is
/// meant for and to no other, wherever a redirect leads; it is never shown.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct UrlHeader {
    /// The header's name.
    pub name: String,
    value: String,
    /// Who may see it: `host`, or `*.domain` for every host below one.
    pub hosts: Vec<String>,
}

impl UrlHeader {
    /// A header for `hosts`.
    pub fn new(name: impl Into<String>, value: impl Into<String>, hosts: Vec<String>) -> UrlHeader {
        UrlHeader {
            name: name.into(),
            value: value.into(),
            hosts,
        }
    }

    /// The secret: for the request and the store only.
    pub fn expose(&self) -> &str {
        &self.value
    }

    fn is_for(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.');
        self.hosts
            .iter()
            .any(|allowed| match allowed.strip_prefix("*.") {
                Some(domain) => host
                    .len()
                    .checked_sub(domain.len() + 1)
                    .filter(|&at| at > 0)
                    .and_then(|at| host.get(at..))
                    .and_then(|end| end.strip_prefix('.'))
                    .is_some_and(|end| end.eq_ignore_ascii_case(domain)),
                None => host.eq_ignore_ascii_case(allowed),
            })
    }
}

impl fmt::Debug for UrlHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: [removed]", self.name)
    }
}

impl SignedUrl {
    /// Keeps `url` as it is; says nothing about whether it is a usable one.
    pub fn new(url: impl Into<String>) -> Self {
        SignedUrl {
            url: url.into(),
            header: None,
        }
    }

    /// With a header that opening it needs.
    #[must_use]
    pub fn with_header(mut self, header: UrlHeader) -> Self {
        self.header = Some(Box::new(header));
        self
    }

    /// The header that opening it needs, to be stored with it.
    pub fn header(&self) -> Option<&UrlHeader> {
        self.header.as_deref()
    }

    /// The header to send to `host`: none to a host that it is not meant for.
    pub fn header_for(&self, host: &str) -> Option<&UrlHeader> {
        self.header().filter(|header| header.is_for(host))
    }

    /// Keeps `url` as it is, if it can be fetched at all: absolute, http or https, with a host.
    ///
    /// # Errors
    /// Why it can't, free of secrets. Whether it *may* be fetched is the guard's to say, not ours.
    pub fn usable(url: &str) -> Result<SignedUrl, &'static str> {
        check_usable(url)?;
        Ok(SignedUrl::new(url))
    }

    /// The whole URL, secret included: for the request line and the store only.
    pub fn expose(&self) -> &str {
        &self.url
    }

    /// The path without query, where a token in a path segment is hidden as in [`fmt::Display`]: what a fresh
    /// signature of the same object leaves as it is.
    pub fn path(&self) -> String {
        let shown = self.to_string();
        let after_scheme = shown.split_once("://").map_or("", |(_, rest)| rest);
        after_scheme
            .find('/')
            .map_or("/", |at| &after_scheme[at..])
            .to_owned()
    }
}

impl fmt::Debug for SignedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for SignedUrl {
    /// Without query, fragment and user info, and without tokens in the path.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redact::shown(&self.url))
    }
}

fn check_usable(url: &str) -> Result<(), &'static str> {
    if url.chars().any(char::is_control) {
        return Err("it holds a control character");
    }
    // The parser forgives both, and what would be sent is then not what was received.
    if url.trim() != url {
        return Err("it begins or ends with a space");
    }
    let is_web = ["http://", "https://"].iter().any(|scheme| {
        url.get(..scheme.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    });
    if !is_web {
        return Err("it is not an absolute http or https URL");
    }
    // `http:///x` is read by the parser as the host `x`.
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    if rest.starts_with(['/', '\\', '?', '#']) || rest.is_empty() {
        return Err("it names no host");
    }
    let parsed = Url::parse(url).map_err(|_| "it is not a valid URL")?;
    if parsed.host_str().is_none_or(str::is_empty) {
        return Err("it names no host");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_absolute_web_url_with_a_host_is_usable() {
        for url in [
            "https://host/path?X-Amz-Signature=a%2Fb",
            "HTTP://127.0.0.1:8080/x",
            "https://host",
            "https://[::1]/x",
            "https://host?only=query",
        ] {
            assert!(SignedUrl::usable(url).is_ok(), "{url}");
        }
        for url in [
            "",
            "Unable to create access link for this recording",
            "s3://bucket/key",
            "file:///etc/passwd",
            "javascript:alert(1)",
            "//host/path",
            "/path",
            "https:/host/path",
            "https:host",
            "http:///path",
            "https://",
            "https://?a=b",
            "https://host/a\nb",
            "https://host/a\u{0}b",
            " https://host/a",
            "https://ho st/a",
            "https://host:99999/a",
            "https://[::1/a",
        ] {
            assert!(SignedUrl::usable(url).is_err(), "{url}");
        }
    }

    #[test]
    fn what_is_kept_is_what_came_byte_for_byte() {
        let raw = "https://host/a%2fb/../c?x=%7E&X-Amz-Signature=0f&&y";
        assert_eq!(SignedUrl::usable(raw).unwrap().expose(), raw);
    }

    #[test]
    fn a_signature_is_never_shown() {
        for (url, shown) in [
            ("https://h/p?sig=SECRET", "https://h/p"),
            ("https://h/p#SECRET", "https://h/p"),
            ("https://user:SECRET@h:8/p?x", "https://h:8/p"),
            ("https://h?SECRET", "https://h"),
            ("https:/user:SECRET@h/p", "https://h/p"),
            ("HTTPS://u:SECRET@h\\p", "HTTPS://h\\p"),
            (
                "https://h/eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjF9.SECRET/p",
                "https://h/[removed]/p",
            ),
            ("not a url", "not a url"),
        ] {
            let url = SignedUrl::new(url);
            assert_eq!(url.to_string(), shown);
            assert_eq!(format!("{url:?}"), shown);
        }
    }

    #[test]
    fn a_header_is_for_its_hosts_only_and_never_shown() {
        let hosts = vec!["zoom.us".to_owned(), "*.zoom.us".to_owned()];
        let url = SignedUrl::new("https://a.zoom.us/f");
        let url = url.with_header(UrlHeader::new("authorization", "Bearer SECRET", hosts));
        for (host, is_for) in [
            ("zoom.us", true),
            ("ZOOM.us.", true),
            ("a.b.zoom.us", true),
            ("evilzoom.us", false),
            (".zoom.us", false),
            ("zoom.us.evil.example", false),
            ("us", false),
            ("", false),
            ("\u{fc}\u{fc}.us", false),
        ] {
            assert_eq!(url.header_for(host).is_some(), is_for, "{host}");
        }
        assert!(!format!("{url:?} {:?} {url}", url.header()).contains("SECRET"));
    }

    #[test]
    fn the_path_survives_a_fresh_signature() {
        assert_eq!(SignedUrl::new("https://h/a/b.mp4?x=1").path(), "/a/b.mp4");
        assert_eq!(SignedUrl::new("https://h?x=1").path(), "/");
    }
}
