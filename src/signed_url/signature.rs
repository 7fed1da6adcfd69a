//! What a URL's own signature says about its end: DESIGN's rule of the earliest known, for every scheme
//! that the providers' stores use.
//!
//! Nothing is verified here, only read. Names are matched in any case, values are percent-decoded,
//! and what can't be read (garbage, overflow, a year that nobody signs for) counts as absent, never as
//! "no end": the caller then falls back on what the provider documents.

use jiff::Timestamp;

use super::scheme::UrlScheme;
use super::schemes::{UrlQuery, has_session_credentials, readings};
use crate::model::{Deadline, DeadlineFrom};

/// What a URL's signature says, unverified. Times are whole seconds, rounded down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature {
    /// How it is signed; where several signatures meet, the store's before a front end's or a token's.
    pub scheme: UrlScheme,
    /// When it was signed or becomes valid, where it tells.
    pub signed_at: Option<Timestamp>,
    /// When it ends; the earliest where several signatures speak.
    pub expires_at: Option<Timestamp>,
    /// Signed with session credentials, which may end before `expires_at`.
    pub has_session_credentials: bool,
}

/// Reads the signature of `url`; one that can't be read says nothing.
pub fn read_signature(url: &str) -> Signature {
    let query = UrlQuery::of(url);
    let readings = readings(url, &query);
    Signature {
        scheme: readings.first().map_or(UrlScheme::None, |r| r.scheme),
        signed_at: readings.first().and_then(|r| r.signed_at),
        expires_at: readings.iter().filter_map(|r| r.expires_at).min(),
        has_session_credentials: has_session_credentials(&query),
    }
}

/// Until when `url` can be opened by its own account: from its query, or from a token in it. An upper
/// bound when it is signed with session credentials.
pub fn url_deadline(url: &str) -> Deadline {
    let query = UrlQuery::of(url);
    let earliest = readings(url, &query)
        .into_iter()
        .filter_map(|reading| reading.expires_at.map(|at| (at, reading.scheme)))
        .min_by_key(|(at, _)| *at);
    let deadline = match earliest {
        Some((at, UrlScheme::Jwt)) => Deadline::at(at, DeadlineFrom::Token),
        Some((at, _)) => Deadline::at(at, DeadlineFrom::Query),
        None => Deadline::NONE,
    };
    Deadline {
        is_upper_bound: has_session_credentials(&query),
        ..deadline
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;

    use super::*;

    const JWT: &str =
        "eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjE3NzI1MzQwMDAuOSwiaWF0IjoxNzcyNDQ3NjAwfQ.c2ln";

    /// Each line: a URL, then scheme, signed_at, expires_at, session credentials.
    fn check(url: &str, scheme: &str, signed_at: &str, expires_at: &str, is_session: bool) {
        let signature = read_signature(url);
        let show = |at: Option<Timestamp>| at.map_or("-".to_owned(), |at| at.to_string());
        assert_eq!(signature.scheme.as_str(), scheme, "{url}");
        assert_eq!(show(signature.signed_at), signed_at, "{url}");
        assert_eq!(show(signature.expires_at), expires_at, "{url}");
        assert_eq!(signature.has_session_credentials, is_session, "{url}");
        assert_eq!(url_deadline(url).at, signature.expires_at, "{url}");
        assert_eq!(url_deadline(url).is_upper_bound, is_session, "{url}");
    }

    #[test]
    fn aws_signature_version_4() {
        let day = "https://b.s3.eu-west-3.amazonaws.com/k.mp4?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIA%2F20260302%2Feu-west-3%2Fs3%2Faws4_request&X-Amz-Date=20260302T103320Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=00";
        let (signed, ends) = ("2026-03-02T10:33:20Z", "2026-03-03T10:33:20Z");
        check(day, "aws-sigv4", signed, ends, false);
        check(
            &day.to_lowercase()
                .replace("20260302t103320z", "20260302T103320Z"),
            "aws-sigv4",
            signed,
            ends,
            false,
        );
        check(
            &format!("{day}&X-Amz-Security-Token=IQoJ"),
            "aws-sigv4",
            signed,
            ends,
            true,
        );
        check(
            &format!("{day}#X-Amz-Expires=1"),
            "aws-sigv4",
            signed,
            ends,
            false,
        );
        check(
            &format!("{day}&X-Amz-Expires=60"),
            "aws-sigv4",
            signed,
            "2026-03-02T10:34:20Z",
            false,
        );
        check(
            &day.replace("X-Amz-Date", "X%2DAmz%2DDate"),
            "aws-sigv4",
            signed,
            ends,
            false,
        );
        assert_eq!(url_deadline(day).from, DeadlineFrom::Query);
    }

    #[test]
    fn aws_signature_version_2() {
        let url = "https://h/t.vtt?AWSAccessKeyId=AKIA&Expires=1772451200&Signature=ZmFrZQ%3D%3D";
        check(url, "aws-sigv2", "-", "2026-03-02T11:33:20Z", false);
    }

    #[test]
    fn google_cloud_storage() {
        let v4 = "https://storage.googleapis.com/b/k?X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Date=20260302T103320Z&X-Goog-Expires=3600&X-Goog-Signature=00";
        check(
            v4,
            "gcs-v4",
            "2026-03-02T10:33:20Z",
            "2026-03-02T11:33:20Z",
            false,
        );
        let v2 = "https://storage.googleapis.com/b/k?GoogleAccessId=a%40b&Expires=1772451200&Signature=x";
        check(v2, "gcs-v2", "-", "2026-03-02T11:33:20Z", false);
    }

    #[test]
    fn cloudfront_canned_and_custom_policy() {
        let canned =
            "https://b.daily.co/r?dl=m.mp4&Expires=1772451200&Signature=Zm__&Key-Pair-Id=K";
        check(canned, "cloudfront", "-", "2026-03-02T11:33:20Z", false);
        let policy = r#"{"Statement":[{"Resource":"https://h/*?>~","Condition":{"DateLessThan":{"AWS:EpochTime":1772451200}}}]}"#;
        let base64 = base64::engine::general_purpose::STANDARD.encode(policy);
        assert!(
            base64.contains(['+', '/', '=']),
            "the vector uses the special alphabet"
        );
        let own = base64.replace('+', "-").replace('=', "_").replace('/', "~");
        let custom = format!("https://h/r?Policy={own}&Signature=x&Key-Pair-Id=K");
        check(&custom, "cloudfront", "-", "2026-03-02T11:33:20Z", false);
        check(
            "https://h/r?Policy=%21%21&Signature=x&Key-Pair-Id=K",
            "cloudfront",
            "-",
            "-",
            false,
        );
    }

    #[test]
    fn azure_shared_access_signature() {
        let sas = |se: &str| {
            format!(
                "https://a.blob.core.windows.net/c/b?sv=2022-11-02&sr=b&sp=r&st=2026-03-02T10%3A33%3A20Z&{se}&sig=Zm%3D"
            )
        };
        let signed = "2026-03-02T10:33:20Z";
        for (se, end) in [
            ("se=2026-03-02T22%3A33%3A20Z", "2026-03-02T22:33:20Z"),
            ("se=2026-03-02T22%3A33Z", "2026-03-02T22:33:00Z"),
            ("se=2026-03-03", "2026-03-03T00:00:00Z"),
            ("se=2026-03-02T22:33:20.9999999Z", "2026-03-02T22:33:20Z"),
            (
                "se=2026-03-02T22%3A33%3A20Z&ske=2026-03-02T12%3A00%3A00Z",
                "2026-03-02T12:00:00Z",
            ),
            ("si=stored-policy", "-"),
        ] {
            check(&sas(se), "azure-sas", signed, end, false);
        }
    }

    #[test]
    fn alibaba_cloud_oss() {
        let v1 =
            "https://b.oss-cn.aliyuncs.com/k?Expires=1772480000&OSSAccessKeyId=K&Signature=Zm%3D";
        check(v1, "oss", "-", "2026-03-02T19:33:20Z", false);
        check(
            &format!("{v1}&security-token=x"),
            "oss",
            "-",
            "2026-03-02T19:33:20Z",
            true,
        );
        let v4 = "https://b.oss-cn.aliyuncs.com/k?x-oss-signature-version=OSS4-HMAC-SHA256&x-oss-date=20260302T103320Z&x-oss-expires=3600&x-oss-signature=00";
        check(
            v4,
            "oss",
            "2026-03-02T10:33:20Z",
            "2026-03-02T11:33:20Z",
            false,
        );
    }

    // D7
    #[test]
    fn tencent_cloud_cos() {
        let url = "https://b-1250000000.cos.ap-shanghai.myqcloud.com/k?q-sign-algorithm=sha1&q-ak=AKID&q-sign-time=1772447600%3B1772451200&q-key-time=1772447600;1772480000&q-header-list=host&q-url-param-list=&q-signature=00";
        let (signed, ends) = ("2026-03-02T10:33:20Z", "2026-03-02T11:33:20Z");
        check(url, "tencent-cos", signed, ends, false);
        let session = format!("{url}&x-cos-security-token=x");
        check(&session, "tencent-cos", signed, ends, true);
        let key = url.replace("1772480000", "1772449400");
        check(&key, "tencent-cos", signed, "2026-03-02T11:03:20Z", false);
        let garbled = "https://h/k?q-sign-time=now&q-signature=00";
        check(garbled, "tencent-cos", "-", "-", false);
    }

    // D7
    #[test]
    fn akamai_and_bunny_tokens_in_query_or_path() {
        let ends = "2026-03-02T11:33:20Z";
        for url in [
            "https://h/v.mp4?hdnts=exp=1772451200~acl=/*~hmac=00",
            "https://h/hdntl=exp=1772451200~acl=%2f*~data=hdntl~hmac=00/v.ts",
            "https://h/exp=1772451200~acl=*~hmac=00/v.ts",
        ] {
            check(url, "akamai", "-", ends, false);
        }
        let since = "https://h/v.mp4?__token__=st=1772447600~exp=1772451200~acl=*~hmac=00";
        check(since, "akamai", "2026-03-02T10:33:20Z", ends, false);
        for url in [
            "https://v.b-cdn.net/v.mp4?token=HS256-x&expires=1772451200",
            "https://v.b-cdn.net/bcdn_token=x&expires=1772451200&token_path=%2F/v.mp4",
        ] {
            check(url, "bunny", "-", ends, false);
        }
        check("https://h/v.mp4?token=x", "none", "-", "-", false);
        check(
            "https://h/v~1.mp4?x=exp=1772451200~a",
            "none",
            "-",
            "-",
            false,
        );
    }

    // D7
    #[test]
    fn a_date_or_a_life_that_no_store_takes_tells_no_deadline() {
        for (date, life) in [
            ("20260302T103320", "3600"),
            ("20260302T103360Z", "3600"),
            ("2026-03-02T10:33:20Z", "3600"),
            ("20260302T103320Z", "604801"),
        ] {
            for prefix in ["X-Amz", "X-Goog", "x-oss"] {
                let url = format!(
                    "https://h/k?{prefix}-Date={date}&{prefix}-Expires={life}&{prefix}-Signature=0"
                );
                assert_eq!(url_deadline(&url), Deadline::NONE, "{url}");
            }
        }
        let week = "https://h/k?X-Amz-Date=20260302T103320Z&X-Amz-Expires=604800&X-Amz-Signature=0";
        assert!(url_deadline(week).at.is_some());
    }

    #[test]
    fn a_json_web_token_in_query_or_path() {
        for url in [
            format!("https://h/v.mp4?token={JWT}"),
            format!("https://h/{JWT}/v.mp4"),
        ] {
            check(
                &url,
                "jwt",
                "2026-03-02T10:33:20Z",
                "2026-03-03T10:33:20Z",
                false,
            );
            assert_eq!(url_deadline(&url).from, DeadlineFrom::Token);
        }
        check(
            "https://h/v.mp4?token=eyJub3Rq.c29u.eA",
            "none",
            "-",
            "-",
            false,
        );
    }

    #[test]
    fn of_two_signatures_the_earlier_end_counts() {
        let both = format!("https://h/v?Expires=1772451200&Signature=x&Key-Pair-Id=K&token={JWT}");
        check(&both, "cloudfront", "-", "2026-03-02T11:33:20Z", false);
        assert_eq!(url_deadline(&both).from, DeadlineFrom::Query);
    }

    #[test]
    fn f95_what_cannot_be_read_is_absent_and_never_unlimited() {
        for life in [
            "",
            "abc",
            "-5",
            "%2B60",
            "99999999999999999999",
            "9223372036854775807",
            "99999999999",
            "1e3",
        ] {
            let url = format!(
                "https://h/k?X-Amz-Date=20260302T103320Z&X-Amz-Expires={life}&X-Amz-Signature=0"
            );
            check(&url, "aws-sigv4", "2026-03-02T10:33:20Z", "-", false);
        }
        for date in ["", "20261302T103320Z", "yesterday", "20260302"] {
            let url = format!("https://h/k?X-Amz-Date={date}&X-Amz-Signature=0");
            assert_eq!(read_signature(&url).expires_at, None, "{date}");
        }
        for end in ["", "never", "-1", "1772451200000", "99999999999999999999"] {
            let url = format!("https://h/k?AWSAccessKeyId=a&Signature=b&Expires={end}");
            check(&url, "aws-sigv2", "-", "-", false);
        }
    }

    #[test]
    fn nothing_signed_is_no_deadline() {
        for url in [
            "https://h/v.m3u8",
            "https://h/v?Expires=1772451200",
            "",
            "?",
            "https://h/?&&=&%ff=%zz",
            "no url",
        ] {
            check(url, "none", "-", "-", false);
        }
    }

    proptest::proptest! {
        #[test]
        fn reading_never_panics(url in "\\PC*", tail in "(x-amz-date|expires|se|policy|sig|key-pair-id|=|&|[0-9]{0,25}|T|Z|%|[-.:~_])*") {
            read_signature(&url);
            url_deadline(&format!("https://h/p?{tail}"));
            crate::signed_url::redact_urls(&format!("{url}://{tail}"));
            let _ = crate::signed_url::SignedUrl::usable(&url);
        }
    }
}
