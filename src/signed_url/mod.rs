//! A URL that may carry a secret in its query: kept byte for byte, shown without the secret, and asked
//! what its own signature says about its end.

use std::fmt;

use url::Url;

mod document;
mod identity;
mod path;
pub mod redact;
mod scheme;
mod schemes;
pub mod signature;

pub use document::{redact_body, write_redacted};
pub use identity::{earlier_path_identity, file_identity, path_identity};
pub use redact::{redact_json, redact_urls};
pub use scheme::UrlScheme;
pub use signature::{Signature, read_signature, url_deadline};

/// A URL exactly as it was received. It is sent byte for byte, and shown without its query.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SignedUrl {
    url: String,
    header: Option<Box<UrlHeader>>,
    has_secret_path: bool,
}

/// A header that a URL needs to be opened, such as a token that came with it. It is sent to the hosts that it is
/// meant for, over the scheme and to the port of the URL that it came with, and to no other, wherever a redirect
/// leads; it is never shown.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct UrlHeader {
    /// The header's name.
    pub name: String,
    value: String,
    /// Who may see it: `host`, or `*.domain` for every host below one. Over plain http it is sent only where the
    /// entry begins with `http://`.
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

    fn is_for(&self, scheme: &str, host: &str) -> bool {
        let host = host.trim_end_matches('.');
        self.hosts.iter().any(|entry| {
            let (allowed_scheme, allowed) = match entry.strip_prefix(PLAIN_HTTP) {
                Some(allowed) => ("http", allowed),
                None => ("https", entry.as_str()),
            };
            if scheme != allowed_scheme {
                return false;
            }
            match allowed.strip_prefix("*.") {
                Some(domain) => host
                    .len()
                    .checked_sub(domain.len() + 1)
                    .filter(|&at| at > 0)
                    .and_then(|at| host.get(at..))
                    .and_then(|end| end.strip_prefix('.'))
                    .is_some_and(|end| end.eq_ignore_ascii_case(domain)),
                None => host.eq_ignore_ascii_case(allowed),
            }
        })
    }
}

/// What a host's entry begins with where a header may go out in clear.
pub const PLAIN_HTTP: &str = "http://";

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
            has_secret_path: false,
        }
    }

    /// With a path that is a secret as a whole: nothing of it is shown.
    #[must_use]
    pub fn with_secret_path(mut self) -> Self {
        self.has_secret_path = true;
        self
    }

    /// Whether the path is a secret as a whole.
    pub fn has_secret_path(&self) -> bool {
        self.has_secret_path
    }

    /// Another URL that this one led to, which is shown as this one is.
    #[must_use]
    pub fn leading_to(&self, url: impl Into<String>) -> Self {
        SignedUrl {
            has_secret_path: self.has_secret_path,
            ..SignedUrl::new(url)
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

    /// The header to send with a request for `target`: none to a host that it is not meant for, and none over
    /// another scheme or to another port than this URL's own.
    pub fn header_for(&self, target: &Url) -> Option<&UrlHeader> {
        let header = self.header()?;
        let own = Url::parse(&self.url).ok()?;
        let is_same_way = own.scheme() == target.scheme()
            && own.port_or_known_default() == target.port_or_known_default();
        let host = target.host_str()?;
        (is_same_way && header.is_for(target.scheme(), host)).then_some(header)
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

    /// What a fresh signature of the same object leaves as it is: no query, no secret in the path. What may be either a
    /// secret or an id is there as its hash, so that two objects never look the same.
    pub fn stable(&self) -> String {
        if !self.has_secret_path {
            return redact::stable(&self.url);
        }
        let place = redact::without_query(&self.url);
        let path = path_of(&place);
        let name = path.rsplit('/').next().unwrap_or_default();
        let is_extension =
            |end: &&str| end.len() <= 5 && end.bytes().all(|b| b.is_ascii_alphanumeric());
        let extension = name.rsplit_once('.').map(|(_, end)| end);
        let extension = extension.filter(is_extension);
        let host = &place[..place.len() - path.len().min(place.len())];
        let hash = &hash(path.as_bytes())[..16];
        match extension {
            Some(extension) => format!("{host}/~{hash}.{extension}"),
            None => format!("{host}/~{hash}"),
        }
    }

    /// The path of [`stable`](SignedUrl::stable).
    pub fn path(&self) -> String {
        path_of(&self.stable()).to_owned()
    }

    /// The place as it was before secrets in paths were hidden: only to be hashed.
    pub fn unredacted_place(&self) -> String {
        redact::without_query(&self.url)
    }
}

/// The path of a URL without query; `/` where it has none.
fn path_of(url: &str) -> &str {
    let after_scheme = url.split_once("://").map_or("", |(_, rest)| rest);
    after_scheme.find('/').map_or("/", |at| &after_scheme[at..])
}

/// SHA-256 in hex.
fn hash(bytes: &[u8]) -> String {
    hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes))
}

impl fmt::Debug for SignedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for SignedUrl {
    /// Without query, fragment and user info, and without secrets in the path.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&match self.has_secret_path {
            true => redact::host_only(&self.url),
            false => redact::shown(&self.url),
        })
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
    check_place(&parsed)
}

/// Whether two names of hosts are the same to DNS.
pub fn same_host(one: &str, other: &str) -> bool {
    let plain = |host: &str| host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    plain(one) == plain(other)
}

/// Whether there can be a server where `url` says: its host has a length that DNS allows (253 bytes, 63 a label), and
/// its port is not 0.
///
/// # Errors
/// Why not, free of secrets; fits after "since".
pub fn check_place(url: &Url) -> Result<(), &'static str> {
    let host = url.host_str().filter(|host| !host.is_empty());
    let Some(host) = host else {
        return Err("it names no host");
    };
    let name = host.strip_suffix('.').unwrap_or(host);
    if name.len() > 253 || name.split('.').any(|label| label.len() > 63) {
        return Err("its host is longer than a name of DNS can be");
    }
    if url.port() == Some(0) {
        return Err("its port is 0");
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

    // D8
    #[test]
    fn a_place_where_no_server_can_be_is_not_usable() {
        let label = "a".repeat(63);
        let longest = [label.as_str(); 4].join(".");
        let (longest, too_long) = (&longest[..253], &longest[..254]);
        for url in [
            format!("https://{label}.example/x"),
            format!("https://{longest}/x"),
            format!("https://{longest}./x"),
        ] {
            assert_eq!(SignedUrl::usable(&url).err(), None, "{url}");
        }
        for url in [
            format!("https://{label}a.example/x"),
            format!("https://example.{label}a/x"),
            format!("https://{too_long}/x"),
            "https://example.com:0/x".to_owned(),
            "http://127.0.0.1:00/x".to_owned(),
        ] {
            assert!(SignedUrl::usable(&url).is_err(), "{url}");
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
        let header = UrlHeader::new("authorization", "Bearer SECRET", hosts);
        let url = SignedUrl::new("https://a.zoom.us/f").with_header(header.clone());
        let is_sent =
            |url: &SignedUrl, target: &str| url.header_for(&Url::parse(target).unwrap()).is_some();
        for (target, is_for) in [
            ("https://zoom.us/", true),
            ("https://ZOOM.us./x", true),
            ("https://a.b.zoom.us:443/", true),
            ("https://evilzoom.us/", false),
            ("https://zoom.us.evil.example/", false),
            ("https://us/", false),
            ("https://\u{fc}\u{fc}.us/", false),
            // S19: the same host by another way.
            ("http://a.zoom.us/f", false),
            ("http://a.zoom.us:443/f", false),
            ("https://a.zoom.us:8443/f", false),
        ] {
            assert_eq!(is_sent(&url, target), is_for, "{target}");
        }
        assert!(!format!("{url:?} {:?} {url}", url.header()).contains("SECRET"));
        // A URL that itself is plain http does not carry it in clear, unless the operator wrote so.
        let plain = SignedUrl::new("http://zoom.us/f").with_header(header);
        assert!(!is_sent(&plain, "http://zoom.us/f"));
        let hosts = vec!["http://zoom.us".to_owned()];
        let plain = SignedUrl::new("http://zoom.us/f").with_header(UrlHeader::new(
            "authorization",
            "Bearer SECRET",
            hosts,
        ));
        assert!(is_sent(&plain, "http://zoom.us/f"));
    }

    #[test]
    fn the_path_survives_a_fresh_signature() {
        assert_eq!(SignedUrl::new("https://h/a/b.mp4?x=1").path(), "/a/b.mp4");
        assert_eq!(SignedUrl::new("https://h?x=1").path(), "/");
    }
}
