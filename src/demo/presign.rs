//! URLs signed as S3 (Signature Version 4 in the query) and CloudFront sign them, and the check that
//! refuses them the moment their life is over.

use std::time::Duration;

use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use jiff::Timestamp;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const ACCESS_KEY: &str = "EXAMPLEKEY";
const REGION: &str = "us-east-1";

/// Signs URLs of one host and checks them. The secret dies with it.
#[derive(Debug)]
pub struct Presigner {
    host: String,
    secret: String,
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PresignRefusal {
    /// Nothing in the query is a signature.
    Unsigned,
    /// The URL's life is over.
    Expired {
        /// Its length in seconds, where the query tells it.
        lifetime_seconds: Option<i64>,
        /// When it ended.
        at: Timestamp,
    },
    /// The signature is not ours, or is for another method, host, path or query.
    WrongSignature,
    /// The query can't be read.
    Malformed(&'static str),
}

impl Presigner {
    /// A signer for URLs of `host` (with its port).
    pub fn new(host: String, secret: String) -> Presigner {
        Presigner { host, secret }
    }

    /// A URL that `signed_at` made and that can be opened for `lifetime`, as S3 signs it.
    pub fn sign(&self, path: &str, signed_at: Timestamp, lifetime: Duration) -> String {
        let date = signed_at.strftime("%Y%m%dT%H%M%SZ").to_string();
        let scope = format!("{}/{REGION}/s3/aws4_request", &date[..8]);
        let query = format!(
            "X-Amz-Algorithm={ALGORITHM}&X-Amz-Credential={ACCESS_KEY}%2F{}&X-Amz-Date={date}\
             &X-Amz-Expires={}&X-Amz-SignedHeaders=host",
            scope.replace('/', "%2F"),
            lifetime.as_secs(),
        );
        let signature = self.v4_signature("GET", &self.host, path, &query, &date, &scope);
        format!(
            "http://{}{path}?{query}&X-Amz-Signature={signature}",
            self.host
        )
    }

    /// A URL that can be opened until `expires`, in the form that CloudFront has. (CloudFront signs with
    /// RSA; whoever fetches can't tell.)
    pub fn sign_for_cdn(&self, path: &str, expires: Timestamp) -> String {
        let query = format!("dl=meeting.mp4&Expires={}", expires.as_second());
        let signature = self.cdn_signature(path, &query);
        format!(
            "http://{}{path}?{query}&Signature={signature}&Key-Pair-Id={ACCESS_KEY}",
            self.host
        )
    }

    /// Whether a request may be answered: checked when it begins, as S3 does, never while it runs.
    ///
    /// # Errors
    /// Why it may not.
    pub fn check(
        &self,
        method: &str,
        host: &str,
        path: &str,
        query: &str,
        now: Timestamp,
    ) -> Result<(), PresignRefusal> {
        if parameter(query, "X-Amz-Signature").is_some() {
            self.check_v4(method, host, path, query, now)
        } else if parameter(query, "Signature").is_some() {
            self.check_cdn(path, query, now)
        } else {
            Err(PresignRefusal::Unsigned)
        }
    }

    fn check_v4(
        &self,
        method: &str,
        host: &str,
        path: &str,
        query: &str,
        now: Timestamp,
    ) -> Result<(), PresignRefusal> {
        let date = parameter(query, "X-Amz-Date").ok_or(PresignRefusal::Malformed("X-Amz-Date"))?;
        let signed_at: Timestamp = date
            .parse()
            .or(Err(PresignRefusal::Malformed("X-Amz-Date")))?;
        let lifetime_seconds: i64 = parameter(query, "X-Amz-Expires")
            .and_then(|seconds| seconds.parse().ok())
            .filter(|seconds| (1..=604_800).contains(seconds))
            .ok_or(PresignRefusal::Malformed("X-Amz-Expires"))?;
        let at = signed_at
            .checked_add(Duration::from_secs(lifetime_seconds.unsigned_abs()))
            .or(Err(PresignRefusal::Malformed("X-Amz-Expires")))?;
        if now >= at {
            return Err(PresignRefusal::Expired {
                lifetime_seconds: Some(lifetime_seconds),
                at,
            });
        }
        let mut parameters: Vec<_> = query
            .split('&')
            .filter(|part| !part.starts_with("X-Amz-Signature="))
            .collect();
        parameters.sort_unstable();
        let day = date
            .get(..8)
            .ok_or(PresignRefusal::Malformed("X-Amz-Date"))?;
        let scope = format!("{day}/{REGION}/s3/aws4_request");
        let expected = self.v4_signature(method, host, path, &parameters.join("&"), date, &scope);
        is_same(parameter(query, "X-Amz-Signature"), &expected)
    }

    fn check_cdn(&self, path: &str, query: &str, now: Timestamp) -> Result<(), PresignRefusal> {
        let at = parameter(query, "Expires")
            .and_then(|seconds| seconds.parse().ok())
            .and_then(|seconds| Timestamp::from_second(seconds).ok())
            .ok_or(PresignRefusal::Malformed("Expires"))?;
        if now >= at {
            return Err(PresignRefusal::Expired {
                lifetime_seconds: None,
                at,
            });
        }
        let signed = query.split("&Signature=").next().unwrap_or_default();
        is_same(
            parameter(query, "Signature"),
            &self.cdn_signature(path, signed),
        )
    }

    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html>
    fn v4_signature(
        &self,
        method: &str,
        host: &str,
        path: &str,
        query: &str,
        date: &str,
        scope: &str,
    ) -> String {
        let request = format!("{method}\n{path}\n{query}\nhost:{host}\n\nhost\nUNSIGNED-PAYLOAD");
        let digest = digest::digest(&digest::SHA256, request.as_bytes());
        let text = format!("{ALGORITHM}\n{date}\n{scope}\n{}", hex::encode(digest));
        let mut key = format!("AWS4{}", self.secret).into_bytes();
        for part in scope.split('/') {
            key = sha256_hmac(&key, part);
        }
        hex::encode(sha256_hmac(&key, &text))
    }

    fn cdn_signature(&self, path: &str, query: &str) -> String {
        let tag = sha256_hmac(self.secret.as_bytes(), &format!("{path}?{query}"));
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(tag)
    }
}

fn sha256_hmac(key: &[u8], text: &str) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
}

fn is_same(presented: Option<&str>, expected: &str) -> Result<(), PresignRefusal> {
    let presented = presented.unwrap_or_default().as_bytes();
    aws_lc_rs::constant_time::verify_slices_are_equal(presented, expected.as_bytes())
        .or(Err(PresignRefusal::WrongSignature))
}

fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query
        .split('&')
        .filter_map(|part| part.split_once('='))
        .find_map(|(key, value)| (key == name).then_some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "examplebucket.s3.amazonaws.com";

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn presigner() -> Presigner {
        Presigner::new(HOST.to_owned(), "throwaway".to_owned())
    }

    fn check(url: &str, now: &str) -> Result<(), PresignRefusal> {
        check_method("GET", url, now)
    }

    fn check_method(method: &str, url: &str, now: &str) -> Result<(), PresignRefusal> {
        let rest = url.strip_prefix(&format!("http://{HOST}")).unwrap();
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        presigner().check(method, HOST, path, query, at(now))
    }

    #[test]
    fn the_signature_is_the_one_of_the_s3_documentation() {
        // The example of "Authenticating Requests: Using Query Parameters".
        let signer = Presigner::new(
            HOST.to_owned(),
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned(),
        );
        let query = "X-Amz-Algorithm=AWS4-HMAC-SHA256\
            &X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request\
            &X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host";
        let signature = signer.v4_signature(
            "GET",
            HOST,
            "/test.txt",
            query,
            "20130524T000000Z",
            "20130524/us-east-1/s3/aws4_request",
        );
        assert_eq!(
            signature,
            "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
        );
    }

    #[test]
    fn a_url_is_good_until_the_second_of_its_end() {
        let signer = presigner();
        let signed_at = at("2026-03-02T10:33:20Z");
        let v4 = signer.sign("/a/rec.mp4", signed_at, Duration::from_secs(3600));
        let cdn = signer.sign_for_cdn("/a/rec.mp4", at("2026-03-02T11:33:20Z"));
        for url in [v4, cdn] {
            assert_eq!(check(&url, "2026-03-02T11:33:19.9Z"), Ok(()), "{url}");
            let refusal = check(&url, "2026-03-02T11:33:20Z").unwrap_err();
            assert!(matches!(refusal, PresignRefusal::Expired { at: end, .. }
                if end == at("2026-03-02T11:33:20Z")));
        }
    }

    #[test]
    fn a_changed_url_is_refused() {
        let signer = presigner();
        let now = "2026-03-02T10:33:21Z";
        let url = signer.sign(
            "/a/rec.mp4",
            at("2026-03-02T10:33:20Z"),
            Duration::from_secs(60),
        );
        for changed in [
            url.replace("/a/rec", "/a/other"),
            url.replace("Expires=60", "Expires=61"),
            format!("{url}&more=1"),
            url.trim_end_matches(|c: char| c.is_ascii_hexdigit())
                .to_owned(),
        ] {
            assert_eq!(
                check(&changed, now),
                Err(PresignRefusal::WrongSignature),
                "{changed}"
            );
        }
        // Signed for GET: a HEAD is another request.
        assert_eq!(
            check_method("HEAD", &url, now),
            Err(PresignRefusal::WrongSignature)
        );
        assert_eq!(
            check(&url.replace("X-Amz-Date=2026", "X-Amz-Date=x"), now),
            Err(PresignRefusal::Malformed("X-Amz-Date"))
        );
        assert_eq!(
            check(&format!("http://{HOST}/a/rec.mp4"), now),
            Err(PresignRefusal::Unsigned)
        );
        let cdn = signer.sign_for_cdn("/a/rec.mp4", at("2026-03-02T11:00:00Z"));
        assert_eq!(
            check(&cdn.replace("/a/", "/b/"), now),
            Err(PresignRefusal::WrongSignature)
        );
    }
}
