//! What an origin's answer means: status, range, validator, Retry-After. Pure.

use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use jiff::Timestamp;

use crate::error::{Class, Error, Result};
use crate::source::ByteRange;

/// The range that a 206 says it carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ContentRange {
    /// The first byte.
    pub(super) start: u64,
    /// The last byte, inclusive.
    pub(super) last: u64,
    /// The length of the whole, when told.
    pub(super) total: Option<u64>,
}

/// The error that a status other than 200 and 206 stands for. `hint` is the beginning of the body.
pub(super) fn status_error(
    status: StatusCode,
    headers: &HeaderMap,
    hint: &str,
    now: Timestamp,
) -> Error {
    let code = status.as_u16();
    let wait = retry_after(headers, now);
    let said = format!("the origin answered {status}");
    match code {
        // Google Cloud Storage answers 400 where others answer 403.
        401 | 403 => Error::new(Class::Denied, with_expiry_hint(said, hint)),
        404 => Error::transient(Class::Gone, said),
        410 => Error::new(Class::Gone, said),
        429 => Error::transient(Class::Throttled, said).with_retry_after(wait),
        503 if wait.is_some() => Error::transient(Class::Throttled, said).with_retry_after(wait),
        408 | 416 | 425 | 500..=599 => {
            Error::transient(Class::Unreachable, said).with_retry_after(wait)
        }
        204 | 205 => Error::transient(Class::Corrupt, format!("{said}, which has no content")),
        301..=303 | 307 | 308 => {
            Error::transient(Class::Corrupt, format!("{said} without a Location"))
        }
        400..=499 => Error::new(Class::Denied, with_expiry_hint(said, hint)),
        _ => Error::transient(
            Class::Corrupt,
            format!("{said}, which is no answer to a GET"),
        ),
    }
}

/// The words by which S3, GCS, Azure and CloudFront say that a signed URL has ended. Only a hint for
/// people: what the failure leads to is decided by the deadline.
const EXPIRY_WORDS: [&str; 5] = [
    "Request has expired",
    "ExpiredToken",
    "token has expired",
    "Signature not valid in the specified time frame",
    "has expired",
];

fn with_expiry_hint(said: String, hint: &str) -> String {
    if EXPIRY_WORDS.iter().any(|words| hint.contains(words)) {
        format!("{said} and says that the URL has expired")
    } else {
        said
    }
}

/// `Retry-After`: seconds, or an HTTP date counted from `now`; a past date is no wait.
pub(super) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    Some(Duration::try_from(at.duration_since(now)).unwrap_or_default())
}

/// What time it is at the server.
pub(super) fn date(headers: &HeaderMap) -> Option<Timestamp> {
    let text = headers.get(header::DATE)?.to_str().ok()?;
    Some(jiff::fmt::rfc2822::parse(text.trim()).ok()?.timestamp())
}

/// The validator of a version of the content: a strong ETag, else Last-Modified.
pub(super) fn validator(headers: &HeaderMap) -> Option<String> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let etag = text(header::ETAG).filter(|etag| etag.starts_with('"') && etag.len() > 2);
    etag.or_else(|| text(header::LAST_MODIFIED))
        .map(str::to_owned)
}

/// Refuses an encoding that nobody asked for: length, ranges and checksum would be those of other bytes.
pub(super) fn check_encoding(headers: &HeaderMap) -> Result<()> {
    for value in headers.get_all(header::CONTENT_ENCODING) {
        let encoding = value.to_str().unwrap_or("unreadable").trim();
        if !encoding.is_empty() && !encoding.eq_ignore_ascii_case("identity") {
            return Err(Error::new(
                Class::Corrupt,
                format!(
                    "the origin sends Content-Encoding {encoding} although identity was asked for"
                ),
            ));
        }
    }
    Ok(())
}

/// Checks that a 206 carries exactly what was asked for.
pub(super) fn check_partial(headers: &HeaderMap, asked: Option<ByteRange>) -> Result<ContentRange> {
    let wrong = |what: String| Error::transient(Class::Corrupt, what);
    let Some(asked) = asked else {
        return Err(wrong(
            "the origin answered 206 although no range was asked for".to_owned(),
        ));
    };
    let text = headers
        .get(header::CONTENT_RANGE)
        .and_then(|value| value.to_str().ok());
    let Some(range) = text.and_then(parse_content_range) else {
        return Err(wrong(format!(
            "the origin answered 206 with {}",
            text.map_or("no single Content-Range".to_owned(), |text| format!(
                "the Content-Range `{text}`"
            )),
        )));
    };
    let last_asked = match (asked.end, range.total) {
        (Some(end), Some(total)) => Some(end.min(total).saturating_sub(1)),
        (Some(end), None) => Some(end.saturating_sub(1)),
        (None, total) => total.map(|total| total.saturating_sub(1)),
    };
    if range.start != asked.start || last_asked.is_some_and(|last| last != range.last) {
        return Err(wrong(format!(
            "the origin answered the range from byte {} with bytes {}-{} of {}",
            asked.start,
            range.start,
            range.last,
            range
                .total
                .map_or("?".to_owned(), |total| total.to_string()),
        )));
    }
    Ok(range)
}

/// `bytes 5-9/10` or `bytes 5-9/*`.
pub(super) fn parse_content_range(text: &str) -> Option<ContentRange> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (start, last) = range.split_once('-')?;
    let range = ContentRange {
        start: start.trim().parse().ok()?,
        last: last.trim().parse().ok()?,
        total: match total.trim() {
            "*" => None,
            number => Some(number.parse().ok()?),
        },
    };
    let is_sound = range.start <= range.last && range.total.is_none_or(|total| range.last < total);
    is_sound.then_some(range)
}

/// The total of an unsatisfied range's `bytes */10`.
pub(super) fn unsatisfied_total(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    text.trim().strip_prefix("bytes */")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (
                    name.parse::<http::HeaderName>().unwrap(),
                    value.parse().unwrap(),
                )
            })
            .collect()
    }

    #[test]
    fn the_whole_table_of_statuses() {
        let now = "2026-03-02T10:00:00Z".parse().unwrap();
        let codes = [
            201, 204, 205, 300, 302, 304, 400, 401, 403, 404, 408, 410, 416, 418, 425, 429, 451,
            500, 502, 503, 504,
        ];
        let mut table = String::new();
        for code in codes {
            let error = status_error(
                StatusCode::from_u16(code).unwrap(),
                &HeaderMap::new(),
                "",
                now,
            );
            let again = if error.is_transient() { " again" } else { "" };
            table.push_str(&format!("{code} {}{again}\n", error.class()));
        }
        assert_eq!(
            table,
            "201 corrupt again\n204 corrupt again\n205 corrupt again\n300 corrupt again\n302 corrupt again\n\
             304 corrupt again\n400 denied\n401 denied\n403 denied\n404 gone again\n408 unreachable again\n\
             410 gone\n416 unreachable again\n418 denied\n425 unreachable again\n429 throttled again\n\
             451 denied\n500 unreachable again\n502 unreachable again\n503 unreachable again\n\
             504 unreachable again\n"
        );
    }

    #[test]
    fn retry_after_reads_seconds_and_dates() {
        let now = "2026-03-02T10:00:00Z".parse().unwrap();
        let wait = |text: &str| retry_after(&headers(&[("retry-after", text)]), now);
        assert_eq!(wait("120"), Some(Duration::from_secs(120)));
        assert_eq!(
            wait("Mon, 02 Mar 2026 10:00:30 GMT"),
            Some(Duration::from_secs(30))
        );
        assert_eq!(wait("Mon, 02 Mar 2026 09:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(wait("soon"), None);
        let busy = status_error(
            StatusCode::SERVICE_UNAVAILABLE,
            &headers(&[("retry-after", "7")]),
            "",
            now,
        );
        assert_eq!(
            (busy.class(), busy.retry_after()),
            (Class::Throttled, Some(Duration::from_secs(7)))
        );
    }

    #[test]
    fn a_refusal_that_speaks_of_expiry_is_told_without_echo() {
        let body = "<Error><Code>AccessDenied</Code><Message>Request has expired</Message><Key>SECRET</Key></Error>";
        let error = status_error(
            StatusCode::FORBIDDEN,
            &HeaderMap::new(),
            body,
            Timestamp::UNIX_EPOCH,
        );
        assert_eq!(
            error.to_string(),
            "the origin answered 403 Forbidden and says that the URL has expired"
        );
    }

    #[test]
    fn only_the_range_that_was_asked_for_is_accepted() {
        let asked = Some(ByteRange {
            start: 5,
            end: None,
        });
        let check =
            |text: &str, asked| check_partial(&headers(&[("content-range", text)]), asked).is_ok();
        assert!(check("bytes 5-9/10", asked));
        assert!(check("bytes 5-9/*", asked));
        assert!(check(
            "bytes 5-7/10",
            Some(ByteRange {
                start: 5,
                end: Some(8)
            })
        ));
        assert!(check(
            "bytes 5-9/10",
            Some(ByteRange {
                start: 5,
                end: Some(99)
            })
        ));
        for wrong in [
            "bytes 4-9/10",
            "bytes 5-8/10",
            "bytes 5-10/10",
            "bytes 9-5/10",
            "bytes */10",
            "pages 5-9/10",
            "bytes 5-9",
        ] {
            assert!(!check(wrong, asked), "{wrong}");
        }
        assert!(!check("bytes 5-9/10", None));
        assert!(check_partial(&HeaderMap::new(), asked).is_err());
    }

    #[test]
    fn a_weak_etag_gives_way_to_the_date() {
        let date = "Mon, 02 Mar 2026 10:00:30 GMT";
        assert_eq!(
            validator(&headers(&[("etag", "\"a\""), ("last-modified", date)])).as_deref(),
            Some("\"a\"")
        );
        assert_eq!(
            validator(&headers(&[("etag", "W/\"a\""), ("last-modified", date)])).as_deref(),
            Some(date)
        );
        assert_eq!(validator(&headers(&[("etag", "W/\"a\"")])), None);
    }
}
