//! What makes a file behind a URL the same file, when it is told of again under a fresh signature.

use super::schemes::UrlQuery;
use super::{SignedUrl, UrlScheme, read_signature};

/// The path, which a fresh signature leaves as it is, behind `kind`. What of the query is no signature says which file
/// it is (`/download?id=1`), and counts. Free of secrets.
pub fn file_identity(kind: &str, url: &SignedUrl) -> String {
    let path = url.path();
    match plain_query(url.expose()) {
        Some(query) => format!("url:{kind}:{path}:{}", super::hash(query.as_bytes())),
        None => format!("url:{kind}:{path}"),
    }
}

/// The same for a URL by its path alone: for providers whose URLs are told apart by it.
pub fn path_identity(kind: &str, url: &SignedUrl) -> String {
    format!("url:{kind}:{}", url.path())
}

/// As [`path_identity`], as versions up to 0.1 wrote it: only JSON Web Tokens were hidden in paths.
pub fn earlier_path_identity(kind: &str, url: &SignedUrl) -> String {
    format!(
        "url:{kind}:{}",
        super::path_of(&super::redact::without_query(url.expose()))
    )
}

/// The query without what signs it; `None` when nothing is left, or when the whole of it is a store's signature.
fn plain_query(url: &str) -> Option<String> {
    let query = url.split('#').next()?.split_once('?')?.1;
    let is_plain = |part: &&str| !UrlQuery::is_token(part);
    let rest: Vec<&str> = match read_signature(url).scheme {
        UrlScheme::None => return Some(query.to_owned()),
        // Tokens are added to whatever query a URL has; stores sign the query as a whole.
        UrlScheme::Jwt | UrlScheme::Bunny | UrlScheme::Akamai => {
            query.split('&').filter(is_plain).collect()
        }
        _ => Vec::new(),
    };
    (!rest.is_empty()).then(|| rest.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(url: &str) -> String {
        file_identity("video", &SignedUrl::new(url))
    }

    // R8
    #[test]
    fn a_query_that_signs_is_no_part_of_a_file_and_any_other_is() {
        let jwt = "eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjF9.c2ln";
        for (one, other) in [
            (
                "https://h/a?X-Amz-Signature=1",
                "https://h/a?X-Amz-Signature=2",
            ),
            (
                "https://h/a?token=1&expires=1772534000",
                "https://h/a?token=2&expires=1772534001",
            ),
            (
                "https://h/a?id=1&token=1&expires=1772534000",
                "https://h/a?id=1&token=2&expires=1772534001",
            ),
            (
                "https://h/a?hdnts=exp=1~hmac=1",
                "https://h/a?hdnts=exp=2~hmac=2",
            ),
            (
                &format!("https://h/a?t={jwt}"),
                &format!("https://h/a?t={jwt}x"),
            ),
        ] {
            assert_eq!(of(one), of(other));
        }
        for (one, other) in [
            ("https://h/a?id=1", "https://h/a?id=2"),
            ("https://h/a", "https://h/a?id=2"),
            (
                "https://h/a?id=1&token=1&expires=1772534000",
                "https://h/a?id=2&token=1&expires=1772534000",
            ),
            (
                &format!("https://h/a?id=1&t={jwt}"),
                &format!("https://h/a?id=2&t={jwt}"),
            ),
        ] {
            assert_ne!(of(one), of(other), "{one}");
        }
    }

    // S11
    #[test]
    fn what_may_be_an_id_keeps_files_apart_and_is_not_shown() {
        let url = |token: &str| format!("https://h/v/{token}/a.mp4");
        let (one, other) = ("Kx3f9aQ2".repeat(6), "Kx3f9aQ3".repeat(6));
        assert_ne!(of(&url(&one)), of(&url(&other)));
        assert_eq!(
            of(&url(&one)),
            of(&format!("{}?X-Amz-Signature=1", url(&one)))
        );
        assert!(!of(&url(&one)).contains(&one));
        let oracle = |token: &str| {
            format!("https://objectstorage.x.oraclecloud.com/p/{token}/n/ns/b/b/o/a.mp4")
        };
        assert_eq!(of(&oracle("one")), of(&oracle("two")), "a fresh link");
    }

    // S11
    #[test]
    fn a_path_that_is_a_secret_tells_files_apart_by_its_hash() {
        let of = |path: &str| {
            let url = SignedUrl::new(format!("https://h{path}")).with_secret_path();
            assert_eq!(url.to_string(), "https://h/[removed]");
            assert!(!format!("{url:?}").contains("secret"));
            file_identity("video", &url)
        };
        assert_eq!(of("/secret/1.mp4"), of("/secret/1.mp4"));
        assert_ne!(of("/secret/1.mp4"), of("/secret/2.mp4"));
        assert!(of("/secret/1.mp4").ends_with(".mp4"));
        assert!(!of("/secret/1.mp4").contains("secret"));
    }
}
