//! A playlist's own query, which may be what its pieces have to be asked with (CDN tokens).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use url::Url;

/// The query that a playlist was asked with.
#[derive(Debug, Default)]
pub(super) struct InheritedQuery {
    query: Option<String>,
    /// The beginning of every URL that it may be sent to: it was given to this host alone.
    origin: String,
    is_right: AtomicBool,
}

impl InheritedQuery {
    /// The query of the URL that a playlist came from.
    pub(super) fn of(url: &str) -> Arc<InheritedQuery> {
        let query = url.split('#').next().and_then(|url| url.split_once('?'));
        let origin = Url::parse(url).map(|url| url.origin());
        let origin = origin.ok().filter(url::Origin::is_tuple);
        Arc::new(InheritedQuery {
            query: query
                .filter(|_| origin.is_some())
                .map(|(_, query)| query.to_owned()),
            origin: origin.map_or(String::new(), |origin| origin.ascii_serialization() + "/"),
            is_right: AtomicBool::new(false),
        })
    }

    /// `url` with the query, where that can belong: the reference was written without a host and a query of
    /// its own, and leads to the playlist's own host.
    pub(super) fn applied(&self, url: &str, is_relative: bool) -> Option<String> {
        let query = self.query.as_deref().filter(|query| !query.is_empty())?;
        let is_its_own = is_relative && !url.contains('?') && url.starts_with(&self.origin);
        is_its_own.then(|| format!("{url}?{query}"))
    }

    /// Whether the query is what worked last.
    pub(super) fn is_right(&self) -> bool {
        self.is_right.load(Ordering::Relaxed)
    }

    pub(super) fn note_right(&self, is_right: bool) {
        self.is_right.store(is_right, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_playlists_query_goes_only_where_it_can_belong() {
        let token = InheritedQuery::of("https://h/p.m3u8?sig=1#f");
        let applied = token.applied("https://h/s.ts", true);
        assert_eq!(applied.as_deref(), Some("https://h/s.ts?sig=1"));
        assert_eq!(token.applied("https://h/s.ts?own=1", true), None);
        assert_eq!(token.applied("https://h/s.ts", false), None);
        assert_eq!(
            InheritedQuery::of("https://h/p").applied("https://h/s", true),
            None
        );
        assert_eq!(InheritedQuery::of("data:x?q").applied("data:x", true), None);
    }

    #[test]
    fn t03_a_playlists_query_does_not_reach_another_host() {
        let token = InheritedQuery::of("https://h/p.m3u8?sig=1");
        // Written as `//other/s.ts`, or relative to where a redirect has led.
        for url in [
            "https://other/s.ts",
            "http://h/s.ts",
            "https://h:8443/s.ts",
            "https://h.other/s.ts",
        ] {
            assert_eq!(token.applied(url, true), None, "{url}");
        }
    }
}
