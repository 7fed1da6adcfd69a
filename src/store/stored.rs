//! How plain data lies in a row, the same for every engine: times as milliseconds, origins as JSON,
//! names of states and kinds as text. What was written by us and can't be read back is damage, told as such.

use std::borrow::Cow;
use std::str::FromStr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::{Class, Error, Result};
use crate::model::{Lookup, Origin};
use crate::signed_url::{SignedUrl, UrlHeader};

/// The version of all names and forms that rows are written in: states, kinds, formats, classes, origins. It grows when one is added,
/// so that an older harvester, which can't read it, refuses the store instead of giving up its jobs.
pub(super) const VOCABULARY: i64 = 1;

/// An instant as milliseconds since 1970.
pub(super) fn millis(at: Timestamp) -> i64 {
    at.as_millisecond()
}

/// The instant of these milliseconds.
pub(super) fn instant(millis: i64) -> Result<Timestamp> {
    Timestamp::from_millisecond(millis)
        .map_err(|_| damaged(format!("{millis} is no instant in milliseconds")))
}

/// An instant as it comes back.
pub(super) fn kept(at: Timestamp) -> Timestamp {
    instant(millis(at)).unwrap_or(at)
}

/// A length as the store keeps it; what no file can have is cut to the greatest number.
pub(super) fn length(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// A count that the store keeps and that is never negative.
pub(super) fn count(stored: i64) -> u64 {
    u64::try_from(stored).unwrap_or(0)
}

/// Text from outside without NUL, which neither Postgres nor SQLite's JSON can hold in text.
pub(super) fn clean(text: &str) -> Cow<'_, str> {
    if text.contains('\0') {
        Cow::Owned(text.replace('\0', "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// A value of one of the closed sets (states, kinds, ...) by its name.
pub(super) fn named<T>(what: &str, name: &str, parse: impl Fn(&str) -> Option<T>) -> Result<T> {
    parse(name).ok_or_else(|| damaged(format!("`{name}` is no {what}")))
}

/// An id by its text.
pub(super) fn id<T: FromStr>(text: &str) -> Result<T> {
    text.parse()
        .map_err(|_| damaged(format!("`{text}` is no id")))
}

/// JSON that we wrote ourselves.
pub(super) fn json<T: for<'de> Deserialize<'de>>(what: &str, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| damaged(format!("{what}: {error}")))
}

/// `value` as the JSON to store.
pub(super) fn to_json<T: Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|error| Error::internal("write a value as JSON").with_source(error))
}

/// What the ids of all that was made at `at` or later are not less than (RFC 9562, UUID version 7: milliseconds first).
pub(super) fn first_id(at: Timestamp) -> String {
    let milliseconds = u128::try_from(millis(at)).unwrap_or(0);
    uuid::Uuid::from_u128(milliseconds << 80).to_string()
}

/// A stored value that is not what we write.
pub(super) fn damaged(what: String) -> Error {
    Error::internal(format!("read a row of the store: {what}"))
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredOrigin<'a> {
    Url(Cow<'a, str>),
    /// A URL, and name, value and hosts of the header that it needs.
    UrlWithHeader(Cow<'a, str>, Cow<'a, str>, Cow<'a, str>, Cow<'a, [String]>),
    /// A URL whose path is a secret.
    UrlWithSecretPath(Cow<'a, str>),
    /// Both.
    UrlWithSecretPathAndHeader(Cow<'a, str>, Cow<'a, str>, Cow<'a, str>, Cow<'a, [String]>),
    Lookup(Cow<'a, Lookup>),
    Inline(Cow<'a, str>),
    /// What `events` holds of the event that announced it.
    Event,
    Unusable(Class, Cow<'a, str>),
}

/// An origin as `(origin_kind, origin)`.
pub(super) fn from_origin(origin: &Origin) -> Result<(&'static str, String)> {
    let (kind, stored) = match origin {
        Origin::Url(url) => ("url", from_url(url)),
        Origin::Lookup(lookup) => ("lookup", StoredOrigin::Lookup(Cow::Borrowed(lookup))),
        Origin::Inline(text) => ("inline", StoredOrigin::Inline(Cow::Borrowed(text))),
        Origin::Event => ("inline", StoredOrigin::Event),
        Origin::Unusable(class, why) => ("unusable", StoredOrigin::Unusable(*class, clean(why))),
    };
    Ok((kind, to_json(&stored)?))
}

fn from_url(url: &SignedUrl) -> StoredOrigin<'_> {
    let text = clean(url.expose());
    let Some(header) = url.header() else {
        return match url.has_secret_path() {
            true => StoredOrigin::UrlWithSecretPath(text),
            false => StoredOrigin::Url(text),
        };
    };
    let (name, value) = (Cow::Borrowed(&*header.name), Cow::Borrowed(header.expose()));
    let hosts = Cow::Borrowed(&*header.hosts);
    match url.has_secret_path() {
        true => StoredOrigin::UrlWithSecretPathAndHeader(text, name, value, hosts),
        false => StoredOrigin::UrlWithHeader(text, name, value, hosts),
    }
}

/// The origin of that text.
pub(super) fn to_origin(text: &str) -> Result<Origin> {
    let stored = serde_json::from_str(text)
        // The text of an origin may be a secret: serde's message would quote from it.
        .map_err(|_| damaged("an origin can't be read".to_owned()))?;
    Ok(match stored {
        StoredOrigin::Url(url) => Origin::Url(SignedUrl::new(url.into_owned())),
        StoredOrigin::UrlWithHeader(url, name, value, hosts) => {
            let header = UrlHeader::new(name, value, hosts.into_owned());
            Origin::Url(SignedUrl::new(url.into_owned()).with_header(header))
        }
        StoredOrigin::UrlWithSecretPath(url) => {
            Origin::Url(SignedUrl::new(url.into_owned()).with_secret_path())
        }
        StoredOrigin::UrlWithSecretPathAndHeader(url, name, value, hosts) => {
            let header = UrlHeader::new(name, value, hosts.into_owned());
            let url = SignedUrl::new(url.into_owned()).with_header(header);
            Origin::Url(url.with_secret_path())
        }
        StoredOrigin::Lookup(lookup) => Origin::Lookup(lookup.into_owned()),
        StoredOrigin::Inline(text) => Origin::Inline(text.into_owned()),
        StoredOrigin::Event => Origin::Event,
        StoredOrigin::Unusable(class, why) => Origin::Unusable(class, why.into_owned()),
    })
}

/// A body as `(raw_encoding, raw)`: text where it is text, so that an operator can read it in place.
pub(super) fn from_raw(raw: &[u8]) -> (&'static str, Cow<'_, str>) {
    match std::str::from_utf8(raw) {
        Ok(text) if !text.contains('\0') => ("utf8", Cow::Borrowed(text)),
        _ => ("base64", Cow::Owned(BASE64_STANDARD.encode(raw))),
    }
}

/// The body of that encoding and text, byte for byte.
pub(super) fn to_raw(encoding: &str, text: String) -> Result<Bytes> {
    if encoding == "utf8" {
        return Ok(Bytes::from(text));
    }
    BASE64_STANDARD
        .decode(&text)
        .map(Bytes::from)
        .map_err(|error| damaged(format!("a raw event: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name that is added here needs a new version: see [`VOCABULARY`].
    #[test]
    fn the_vocabulary_is_that_of_its_version() {
        use crate::model::{Format, Kind, State};
        let names = [
            State::ALL
                .iter()
                .map(|name| name.as_str())
                .collect::<Vec<_>>(),
            Kind::ALL.iter().map(|name| name.as_str()).collect(),
            Format::ALL.iter().map(|name| name.as_str()).collect(),
            Class::ALL.iter().map(|name| name.as_str()).collect(),
        ]
        .map(|names| names.join(" "));
        let known = [
            "pending running archived expired failed cancelled",
            "video audio transcript summary chat hls thumbnail event other",
            "mp4 m4a webm m3u8 zip tar vtt srt txt json jsonl csv png jpg wav mp3 flac ogg bin",
            "provider_failed expired denied gone refused corrupt unreachable throttled upload_denied \
             upload_failed partial invalid internal",
        ];
        assert_eq!((VOCABULARY, names), (1, known.map(str::to_owned)));
    }

    #[test]
    fn origins_read_back() {
        for origin in [
            Origin::Url(SignedUrl::new("https://h/p?sig=%2F+x")),
            Origin::Url(SignedUrl::new("https://h/p").with_header(UrlHeader::new(
                "authorization",
                "Bearer a.b.c",
                vec!["h".into(), "*.h".into()],
            ))),
            Origin::Url(SignedUrl::new("https://h/secret").with_secret_path()),
            Origin::Url(
                SignedUrl::new("https://h/secret")
                    .with_header(UrlHeader::new("x", "y", vec!["h".into()]))
                    .with_secret_path(),
            ),
            Origin::Lookup(Lookup {
                call: "daily-recording".into(),
                id: "r1".into(),
            }),
            Origin::Inline("WEBVTT\n\u{0}\"\\".into()),
            Origin::Event,
            Origin::Unusable(Class::Invalid, "not an http(s) URL".into()),
        ] {
            let (_, text) = from_origin(&origin).unwrap();
            assert_eq!(to_origin(&text).unwrap(), origin);
        }
    }

    #[test]
    fn an_unreadable_origin_is_not_quoted() {
        let error = to_origin("{\"url\": secret").unwrap_err();
        assert!(!error.full_message().contains("secret"));
    }

    #[test]
    fn bodies_read_back_byte_for_byte() {
        for raw in [&b"{\"a\": 1}\r\n"[..], b"\xff\x00\x01", b"", b"a\0b"] {
            let (encoding, text) = from_raw(raw);
            assert_eq!(to_raw(encoding, text.into_owned()).unwrap(), raw);
        }
    }
}
