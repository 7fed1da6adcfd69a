//! By how much our clock is ahead of the origins', from the `Date` of their answers.

use std::collections::HashMap;
use std::sync::Mutex;

use http::HeaderMap;
use http::header::AGE;
use jiff::{SignedDuration, Timestamp};
use url::Url;

use super::answer;

/// Hosts that are remembered.
const REMEMBERED_HOSTS: usize = 1024;

/// The last known offset of each host.
#[derive(Debug, Default)]
pub(super) struct Offsets(Mutex<HashMap<String, SignedDuration>>);

impl Offsets {
    /// Takes in an answer that came from the host of `url` at `now`, by our clock.
    pub(super) fn note(&self, url: &Url, headers: &HeaderMap, now: Timestamp) {
        let (Some(host), Some(ahead)) = (url.host_str(), ahead(headers, now)) else {
            return;
        };
        let Ok(mut hosts) = self.0.lock() else { return };
        match hosts.get_mut(host) {
            Some(known) => *known = ahead,
            None => {
                if hosts.len() >= REMEMBERED_HOSTS {
                    hosts.clear();
                }
                hosts.insert(host.to_owned(), ahead);
            }
        }
    }

    /// That of the host of `url`.
    pub(super) fn of(&self, url: &Url) -> Option<SignedDuration> {
        let hosts = self.0.lock().ok()?;
        hosts.get(url.host_str()?).copied()
    }
}

/// By how much `now` is ahead of when an answer was made. One that a cache kept tells its age.
fn ahead(headers: &HeaderMap, now: Timestamp) -> Option<SignedDuration> {
    let date = answer::date(headers)?;
    let age = headers
        .get(AGE)
        .and_then(|age| age.to_str().ok()?.parse().ok());
    let age = SignedDuration::from_secs(age.unwrap_or(0_u32).into());
    Some(now.duration_since(date.saturating_add(age).ok()?))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn an_answers_date_and_age_tell_what_time_it_is_there() {
        let now: Timestamp = "2026-03-02T10:10:30Z".parse().unwrap();
        let mut headers = HeaderMap::new();
        assert_eq!(ahead(&headers, now), None);
        let date = HeaderValue::from_static("Mon, 02 Mar 2026 10:00:30 GMT");
        headers.insert("date", date);
        assert_eq!(ahead(&headers, now), Some(SignedDuration::from_mins(10)));
        headers.insert(AGE, HeaderValue::from_static("540"));
        assert_eq!(ahead(&headers, now), Some(SignedDuration::from_mins(1)));
        headers.insert(AGE, HeaderValue::from_static("old"));
        assert_eq!(ahead(&headers, now), Some(SignedDuration::from_mins(10)));
    }

    #[test]
    fn each_host_has_its_own_offset() {
        let now: Timestamp = "2026-03-02T10:10:30Z".parse().unwrap();
        let mut headers = HeaderMap::new();
        let date = HeaderValue::from_static("Mon, 02 Mar 2026 10:00:30 GMT");
        headers.insert("date", date);
        let url = |url| Url::parse(url).unwrap();
        let offsets = Offsets::default();
        offsets.note(&url("https://a.example/x?sig=1"), &headers, now);
        let of = |text| offsets.of(&url(text));
        assert_eq!(
            of("https://a.example/y"),
            Some(SignedDuration::from_mins(10))
        );
        assert_eq!(of("https://b.example/x"), None);
    }
}
