//! Secrets in the path of a URL: which of its segments open the file by themselves.
//!
//! Most stores sign in the query. Some do it in the path: Oracle's pre-authenticated requests, CDNs with path tokens,
//! anything with a token as a folder. What is known to be a secret goes; what only looks like one is not shown, but
//! still tells one file from another.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// Stands where a secret was.
pub(super) const REMOVED: &str = "[removed]";

/// A segment below this length is a name or an id. UUIDs have 36 characters.
const TOKEN_MIN_CHARS: usize = 40;

/// Names of parameters that hold a signature, with what stands behind them.
const MARKS: [&str; 6] = ["hmac=", "token=", "sig=", "signature=", "policy=", "hdnea="];

/// What a segment is.
enum PathSegment {
    Plain,
    /// A secret from this byte on.
    SecretFrom(usize),
    /// It looks like a token, and may be an id.
    MaybeSecret,
}

/// `path` of a URL at `host` without its secrets; `maybe` says what stands for what only looks like one.
pub(super) fn without_secrets(host: &str, path: &str, maybe: impl Fn(&str) -> String) -> String {
    let segments: Vec<&str> = path.split('/').collect();
    let shown: Vec<Cow<'_, str>> = (0..segments.len())
        .map(|at| match judge(host, &segments, at) {
            PathSegment::Plain => Cow::Borrowed(segments[at]),
            PathSegment::SecretFrom(byte) => format!("{}{REMOVED}", &segments[at][..byte]).into(),
            PathSegment::MaybeSecret => maybe(segments[at]).into(),
        })
        .collect();
    shown.join("/")
}

fn judge(host: &str, segments: &[&str], at: usize) -> PathSegment {
    let segment = segments[at];
    if is_jwt(segment) || is_preauthenticated(host, segments, at) {
        return PathSegment::SecretFrom(0);
    }
    let decoded = match segment.contains('%') {
        true => percent_decode_str(segment).decode_utf8_lossy(),
        false => Cow::Borrowed(segment),
    };
    if let Some(byte) = marked_from(segment, &decoded) {
        return PathSegment::SecretFrom(byte);
    }
    match looks_like_token(&decoded) {
        true => PathSegment::MaybeSecret,
        false => PathSegment::Plain,
    }
}

/// Oracle's pre-authenticated requests: `/p/<token>/n/<namespace>/b/<bucket>/o/<object>`.
fn is_preauthenticated(host: &str, segments: &[&str], at: usize) -> bool {
    if at == 0 || segments[at - 1] != "p" || segments[at].is_empty() {
        return false;
    }
    let is_oracle = ["oraclecloud.com", "customer-oci.com"]
        .iter()
        .any(|domain| {
            host.to_ascii_lowercase()
                .trim_end_matches('.')
                .ends_with(domain)
        });
    let names = [(1, "n"), (3, "b")];
    let is_shape = names
        .into_iter()
        .all(|(after, name)| segments.get(at + after) == Some(&name));
    is_oracle || is_shape
}

/// From which byte on a segment that holds a signature by name has to go: a file's name before a `;` stays.
fn marked_from(segment: &str, decoded: &str) -> Option<usize> {
    if !decoded.contains('=') {
        return None;
    }
    let lower = decoded.to_ascii_lowercase();
    let is_marked = lower.contains("hdnt") || MARKS.iter().any(|mark| lower.contains(mark));
    if !is_marked {
        return None;
    }
    let name = segment.find(';').filter(|&end| {
        let before = segment[..end].to_ascii_lowercase();
        !before.contains('=') && !before.contains('%')
    });
    Some(name.map_or(0, |end| end + 1))
}

/// Long, of the alphabet of base64url, and random: upper case, lower case and digits in turn. Words that are joined by
/// dashes are not.
fn looks_like_token(segment: &str) -> bool {
    let bytes = segment.trim_end_matches('=').as_bytes();
    let is_base64url = |b: &u8| b.is_ascii_alphanumeric() || b"-_".contains(b);
    if bytes.len() < TOKEN_MIN_CHARS || !bytes.iter().all(is_base64url) {
        return false;
    }
    let has = |is: fn(&u8) -> bool| bytes.iter().any(is);
    let is_mixed = has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase);
    if !is_mixed || !has(u8::is_ascii_digit) {
        return false;
    }
    let letters: Vec<u8> = bytes
        .iter()
        .copied()
        .filter(u8::is_ascii_alphanumeric)
        .collect();
    let class = |b: u8| (b.is_ascii_uppercase(), b.is_ascii_digit());
    let changes = letters
        .windows(2)
        .filter(|pair| class(pair[0]) != class(pair[1]))
        .count();
    // In random text about 0.6 of all neighbours differ in class, in joined words about a quarter.
    letters.len() == bytes.len() || changes * 3 >= letters.len()
}

/// Whether `text` looks like a JSON Web Token: three base64url parts, the first a JSON object.
pub fn is_jwt(text: &str) -> bool {
    let is_base64url = |part: &str| {
        part.bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_=".contains(&b))
    };
    // `{"` in base64.
    text.starts_with("eyJ") && text.split('.').count() == 3 && text.split('.').all(is_base64url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(host: &str, path: &str) -> String {
        without_secrets(host, path, |_| REMOVED.to_owned())
    }

    const TOKEN: &str = "Kx3f9-aQ2LmZ8vTn0_bWcR7yHs5uEd1GjPoI4kXqVtY6A";

    // S11
    #[test]
    fn secrets_in_paths_are_not_shown() {
        let oracle = "objectstorage.eu-frankfurt-1.oraclecloud.com";
        for (host, path, expected) in [
            (
                oracle,
                "/p/Sh0rt-token/n/ns/b/rec/o/a.mp4",
                "/p/[removed]/n/ns/b/rec/o/a.mp4",
            ),
            (oracle, "/p/Sh0rt-token/x", "/p/[removed]/x"),
            (
                "proxy.example",
                "/p/secret/n/ns/b/rec/o/a.mp4",
                "/p/[removed]/n/ns/b/rec/o/a.mp4",
            ),
            (
                "h",
                "/hdntl=exp=1772534000~acl=%2f*~data=hdntl~hmac=abc/v/a.mp4",
                "/[removed]/v/a.mp4",
            ),
            (
                "h",
                "/exp=1772534000~acl=*~hmac=abc/v/a.ts",
                "/[removed]/v/a.ts",
            ),
            (
                "h",
                "/bcdn_token=abc&expires=1772534000&token_path=%2Fv%2F/v/a.mp4",
                "/[removed]/v/a.mp4",
            ),
            ("h", "/v/a.mp4;sig=abc", "/v/a.mp4;[removed]"),
            ("h", "/token%3Dabc/a.mp4", "/[removed]/a.mp4"),
            ("h", &format!("/v/{TOKEN}/a.mp4")[..], "/v/[removed]/a.mp4"),
            (
                "h",
                &format!("/{}/a", "Ab3d".repeat(11))[..],
                "/[removed]/a",
            ),
        ] {
            assert_eq!(shown(host, path), expected);
        }
    }

    // S11
    #[test]
    fn names_and_ordinary_ids_in_paths_stay() {
        for path in [
            "/p/photo.png",
            "/1b9d6bcd-bbfd-4b2d-9b5d-000000000401/a.mp4",
            "/9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08/a.mp4",
            "/9F86D081884C7D659A2FEAA0C55AD015A3BF4F1B2B0B822CD15D6C15B0F00A08/a.mp4",
            "/69a560000000000000000007/rec.mp4",
            "/Weekly-Standup-2026-03-02-Marketing-Team-EMEA/a.mp4",
            "/GMT20260302-103320_Recording_1920x1080_TeamWeekly/a.mp4",
            "/speaker_user-1_peer-1_peer_audio_1772445600000/a.webm",
            "/year=2026/month=03/a.mp4",
            "/vpaas-magic-cookie-0123456789abcdef0123456789abcdef/x",
        ] {
            assert_eq!(shown("h", path), path);
        }
    }
}
