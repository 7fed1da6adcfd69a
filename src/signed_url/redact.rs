//! Text and JSON without secrets: what is archived, logged and shown passes through here.
//!
//! Removing too much costs a few characters, removing too little costs a bucket, so in doubt it goes.

use serde_json::Value;

pub use super::path::is_jwt;
use super::path::{self, REMOVED};

/// Words that give a signed query away where no scheme marks it as a URL (a host without a scheme,
/// a query that a space has cut off, a URL that is percent-encoded as a whole).
const QUERY_MARKS: [&str; 11] = [
    "x-amz-",
    "x-goog-",
    "x-oss-",
    "signature=",
    "signature%3d",
    "sig=",
    "token=",
    "key-pair-id=",
    "hmac=",
    "hdnts=",
    "hdntl=",
];

/// Parts of a field's name (lower case, without `-` and `_`) that say that its value is a secret.
const SECRET_NAMES: [&str; 13] = [
    "password",
    "passcode",
    "passwd",
    "secret",
    "token",
    "apikey",
    "streamkey",
    "accesskey",
    "privatekey",
    "credential",
    "authorization",
    "signature",
    "cookie",
];

/// `text` in which every URL has lost query, fragment and user info, and tokens are gone.
pub fn redact_urls(text: &str) -> String {
    if !may_hold_secret(text) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    // What ends a URL in running text. Quotes are here for JSON and markup inside of strings.
    for piece in text.split_inclusive(|c: char| c.is_whitespace() || "\"<>".contains(c)) {
        let end = piece
            .char_indices()
            .next_back()
            .filter(|(_, c)| c.is_whitespace() || "\"<>".contains(*c))
            .map_or(piece.len(), |(at, _)| at);
        let (word, delimiter) = piece.split_at(end);
        out.push_str(&redact_word(word));
        out.push_str(delimiter);
    }
    out
}

/// Whether one look at the bytes leaves a URL, a token or a query possible: most text of an event is
/// names and ids, and searching it for each mark would be most of the time that an event takes.
fn may_hold_secret(text: &str) -> bool {
    let is_x_dash = |pair: &[u8]| pair[0].eq_ignore_ascii_case(&b'x') && pair[1] == b'-';
    text.bytes().any(|b| matches!(b, b':' | b'=' | b'%'))
        || text.as_bytes().windows(2).any(is_x_dash)
        || text.contains("eyJ")
}

/// Redacts every string of `value`, names of fields included, and drops the values of fields that are
/// secrets by name (`streamKey`, `password`, `download_token`, `x-...`).
pub fn redact_json(value: &mut Value) {
    match value {
        Value::String(text) => *text = redact_urls(text),
        Value::Array(items) => items.iter_mut().for_each(redact_json),
        Value::Object(map) => {
            let fields = std::mem::take(map);
            for (name, mut field) in fields {
                if is_secret_name(&name) && !field.is_null() {
                    field = Value::String(REMOVED.to_owned());
                } else {
                    redact_json(&mut field);
                }
                map.insert(redact_urls(&name), field);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The URL `url` as it may be shown: without query, fragment, user info and secrets in its path.
pub(super) fn shown(url: &str) -> String {
    with_path(url, |host, path| {
        path::without_secrets(host, path, |_| REMOVED.to_owned())
    })
}

/// As [`shown`], where what may be a secret or an id in the path is replaced by its hash: so files stay apart.
pub(super) fn stable(url: &str) -> String {
    with_path(url, |host, path| {
        let hashed = |segment: &str| format!("~{}", &super::hash(segment.as_bytes())[..16]);
        path::without_secrets(host, path, hashed)
    })
}

/// As [`shown`], with nothing of the path.
pub(super) fn host_only(url: &str) -> String {
    with_path(url, |_, _| format!("/{REMOVED}"))
}

/// The URL without query, fragment, user info and JSON Web Tokens in its path. It may hold other secrets.
pub(super) fn without_query(url: &str) -> String {
    with_path(url, |_, path| {
        let hide = |segment| if is_jwt(segment) { REMOVED } else { segment };
        path.split('/').map(hide).collect::<Vec<_>>().join("/")
    })
}

/// `url` without query, fragment and user info, and what `change` makes of host and path.
fn with_path(url: &str, change: impl Fn(&str, &str) -> String) -> String {
    let bare = url.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = split_scheme(bare) else {
        return bare.to_owned();
    };
    // What has no host (`file:///path`) is not to look as if its first folder were one.
    let local = bare.strip_prefix("file://");
    let (authority, path) = match local.filter(|path| path.starts_with('/')) {
        Some(path) => ("", path),
        None => rest
            .find(['/', '\\'])
            .map_or((rest, ""), |at| rest.split_at(at)),
    };
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    // A publishing URL has its stream key in the path.
    if ["rtmp", "rtmps", "srt"].contains(&scheme.to_ascii_lowercase().as_str()) {
        return format!("{scheme}://{host}/{REMOVED}");
    }
    // A URL within the path (of a proxy, say) can have a user of its own.
    let (path, inner) = match path.find("://") {
        Some(at) => (&path[..at], format!("://{REMOVED}")),
        None => (path, String::new()),
    };
    let name = host.split(':').next().unwrap_or(host);
    format!("{scheme}://{host}{}{inner}", change(name, path))
}

/// Splits `scheme://rest`, and also what the URL parser takes for it (`https:/rest`, `https:\\rest`).
fn split_scheme(url: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = url.split_once(':')?;
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    let is_url = rest.starts_with('/') || rest.starts_with('\\');
    (is_scheme && is_url).then(|| (scheme, rest.trim_start_matches(['/', '\\'])))
}

fn redact_word(word: &str) -> String {
    if let Some(at) = scheme_start(word) {
        return format!("{}{}", redact_word(&word[..at]), shown(&word[at..]));
    }
    if is_jwt(word) {
        return REMOVED.to_owned();
    }
    let lower = word.to_ascii_lowercase();
    match QUERY_MARKS.iter().filter_map(|mark| lower.find(mark)).min() {
        None => word.to_owned(),
        // ASCII lower case keeps every byte's place, so the index holds in `word` too.
        Some(mark) => match word.find('?') {
            Some(query) if query < mark => word[..query].to_owned(),
            _ => format!("{}{REMOVED}", &word[..mark]),
        },
    }
}

/// Where in `word` the scheme of a URL begins.
fn scheme_start(word: &str) -> Option<usize> {
    let at = word.find("://")?;
    let scheme = word[..at]
        .bytes()
        .rev()
        .take_while(|b| b.is_ascii_alphanumeric() || b"+-.".contains(b))
        .count();
    (scheme > 0).then_some(at - scheme)
}

/// Whether a field or query parameter of that name holds a secret.
pub fn is_secret_name(name: &str) -> bool {
    let plain: String = name
        .chars()
        .filter(|c| !"-_".contains(*c))
        .map(|c| c.to_ascii_lowercase())
        .collect();
    plain == "hmac"
        || plain == "pwd"
        || name.to_ascii_lowercase().starts_with("x-")
        || plain.bytes().enumerate().any(|(at, first)| {
            // A search for each of them would cost more than all the rest of the event.
            let rest = &plain.as_bytes()[at..];
            let mut begun = SECRET_NAMES
                .iter()
                .filter(|secret| secret.as_bytes()[0] == first);
            begun.any(|secret| rest.starts_with(secret.as_bytes()))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn running_text_loses_the_secret_and_keeps_the_rest() {
        for (text, expected) in [
            ("nothing here", "nothing here"),
            ("what? no url", "what? no url"),
            (
                "GET https://h/p?sig=SECRET failed",
                "GET https://h/p failed",
            ),
            ("(https://u:SECRET@h/p#SECRET)", "(https://h/p"),
            ("url=https://h/p?SECRET end", "url=https://h/p end"),
            (
                r#"{"url":"https://h/p?SECRET","n":1}"#,
                r#"{"url":"https://h/p","n":1}"#,
            ),
            ("host/p?X-Amz-Signature=SECRET", "host/p"),
            ("X-Amz-Signature=SECRET", "[removed]"),
            (
                "a https://h/p?x=1 X-Amz-Signature=SECRET",
                "a https://h/p [removed]",
            ),
            (
                "https%3A%2F%2Fh%3FX-Amz-Signature%3DSECRET",
                "https%3A%2F%2Fh%3F[removed]",
            ),
            (r"https:\/\/h\/p?X-Amz-Signature=SECRET", r"https:\/\/h\/p"),
            (
                "https://proxy/https://u:SECRET@h/p",
                "https://proxy/https://[removed]",
            ),
            (
                "rtmp://live.example/app/SECRET",
                "rtmp://live.example/[removed]",
            ),
            ("eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjF9.SECRET", "[removed]"),
            ("ünïcode https://h/ü?SECRET ✓", "ünïcode https://h/ü ✓"),
        ] {
            assert_eq!(redact_urls(text), expected);
        }
    }

    #[test]
    fn every_mark_is_noticed_at_the_first_look() {
        for mark in QUERY_MARKS.into_iter().chain(["a://", "eyJh.b.c"]) {
            assert!(may_hold_secret(&format!("a{mark}b")), "{mark}");
            assert!(
                may_hold_secret(&mark.to_uppercase().replace("EYJH", "eyJh")),
                "{mark}"
            );
        }
        assert!(!may_hold_secret("69a560000000000000000001"));
        assert!(!may_hold_secret("00000000-0000-4000-8000-000000000000"));
        for secret in SECRET_NAMES {
            assert!(is_secret_name(&format!("my_{secret}_2")), "{secret}");
        }
    }

    #[test]
    fn json_loses_urls_secrets_and_nothing_else() {
        let mut value = json!({
            "streamKey": "SECRET", "download_token": "SECRET", "Password": 12345,
            "x-meeting-baas-api-key": "SECRET", "share_token": null,
            "https://h/p?q=CANARY": {"deep": [["https://h/p?SECRET", 1, true]]},
            "s3_key": "acme/standup/1772445600000",
        });
        redact_json(&mut value);
        assert_eq!(
            value,
            json!({
                "streamKey": "[removed]", "download_token": "[removed]", "Password": "[removed]",
                "x-meeting-baas-api-key": "[removed]", "share_token": null,
                "https://h/p": {"deep": [["https://h/p", 1, true]]},
                "s3_key": "acme/standup/1772445600000",
            })
        );
    }
}
