//! Pages of sorted things: a pure function of the keys and the query.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use s3s::{S3Result, s3_error};

/// The most that S3 puts on a page.
pub(super) const PAGE_MAX: usize = 1000;

/// What a listing asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ListingQuery {
    pub(super) prefix: String,
    pub(super) delimiter: Option<String>,
    pub(super) after: Option<After>,
    pub(super) max: usize,
}

/// Where the page before ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// At this key.
    Key(String),
    /// At this common prefix: every key that begins with it has been told.
    Prefix(String),
}

/// A line of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ListingLine<T> {
    Item(T),
    CommonPrefix(String),
}

/// A page and, when there is more, where it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ListingPage<T> {
    pub(super) lines: Vec<ListingLine<T>>,
    pub(super) next: Option<After>,
}

impl ListingQuery {
    /// The first key that can be on the page.
    pub(super) fn start(&self) -> &str {
        let after = match &self.after {
            Some(After::Key(key) | After::Prefix(key)) => key.as_str(),
            None => "",
        };
        after.max(self.prefix.as_str())
    }

    fn is_told(&self, key: &str) -> bool {
        match &self.after {
            None => false,
            Some(After::Key(after)) => key <= after.as_str(),
            Some(After::Prefix(prefix)) => {
                key.starts_with(prefix.as_str()) || key <= prefix.as_str()
            }
        }
    }

    fn common_prefix(&self, key: &str) -> Option<String> {
        let delimiter = self.delimiter.as_deref().filter(|d| !d.is_empty())?;
        let at = key[self.prefix.len()..].find(delimiter)?;
        Some(key[..self.prefix.len() + at + delimiter.len()].to_owned())
    }
}

/// Cuts the page out of `sorted` (ascending by key, from [`ListingQuery::start`] on).
pub(super) fn page<T>(
    query: &ListingQuery,
    sorted: impl Iterator<Item = (String, T)>,
) -> ListingPage<T> {
    let mut page = ListingPage {
        lines: Vec::new(),
        next: None,
    };
    let mut last: Option<After> = None;
    for (key, item) in sorted {
        if !key.starts_with(&query.prefix) {
            break;
        }
        let is_in_last =
            matches!(&last, Some(After::Prefix(prefix)) if key.starts_with(prefix.as_str()));
        if is_in_last || query.is_told(&key) {
            continue;
        }
        if page.lines.len() >= query.max {
            page.next = last;
            break;
        }
        match query.common_prefix(&key) {
            Some(prefix) => {
                page.lines.push(ListingLine::CommonPrefix(prefix.clone()));
                last = Some(After::Prefix(prefix));
            }
            None => {
                page.lines.push(ListingLine::Item(item));
                last = Some(After::Key(key));
            }
        }
    }
    page
}

/// The place as an opaque token.
pub(super) fn token(after: &After) -> String {
    let text = match after {
        After::Key(key) => format!("k{key}"),
        After::Prefix(prefix) => format!("p{prefix}"),
    };
    URL_SAFE_NO_PAD.encode(text)
}

/// Reads a token back.
pub(super) fn parse_token(token: &str) -> S3Result<After> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok();
    let text = bytes
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .unwrap_or_default();
    let after = if let Some(key) = text.strip_prefix('k') {
        Some(After::Key(key.to_owned()))
    } else {
        text.strip_prefix('p')
            .map(|prefix| After::Prefix(prefix.to_owned()))
    };
    after.ok_or_else(|| {
        s3_error!(
            InvalidArgument,
            "The continuation token provided is incorrect"
        )
    })
}

/// How many lines a page may have.
pub(super) fn page_size(asked: Option<i32>) -> S3Result<usize> {
    match asked.map(usize::try_from) {
        None => Ok(PAGE_MAX),
        Some(Ok(asked)) => Ok(asked.min(PAGE_MAX)),
        Some(Err(_)) => Err(s3_error!(
            InvalidArgument,
            "the page size must not be negative"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [&str; 7] = ["a", "b/1", "b/2", "b/c/3", "b0", "c", "é"];

    fn query(prefix: &str, delimiter: &str, max: usize) -> ListingQuery {
        ListingQuery {
            prefix: prefix.to_owned(),
            delimiter: Some(delimiter.to_owned()),
            after: None,
            max,
        }
    }

    /// All pages of a query, each line as text.
    fn walk(mut query: ListingQuery) -> Vec<Vec<String>> {
        let mut pages = Vec::new();
        loop {
            let start = query.start().to_owned();
            let sorted = KEYS.iter().filter(|key| **key >= start.as_str());
            let page = page(&query, sorted.map(|key| (key.to_string(), key.to_string())));
            let lines = page.lines.into_iter().map(|line| match line {
                ListingLine::Item(key) => key,
                ListingLine::CommonPrefix(prefix) => format!("{prefix}*"),
            });
            pages.push(lines.collect());
            match page.next {
                Some(after) => query.after = Some(parse_token(&token(&after)).unwrap()),
                None => return pages,
            }
        }
    }

    #[test]
    fn pages_are_in_byte_order_and_leave_nothing_out() {
        assert_eq!(walk(query("", "", 1000)), [KEYS.to_vec()]);
        assert_eq!(
            walk(query("", "", 3)),
            [vec!["a", "b/1", "b/2"], vec!["b/c/3", "b0", "c"], vec!["é"]]
        );
        assert_eq!(walk(query("zzz", "", 3)), [Vec::<String>::new()]);
    }

    #[test]
    fn a_folder_is_one_line_also_across_pages() {
        assert_eq!(
            walk(query("", "/", 2)),
            [vec!["a", "b/*"], vec!["b0", "c"], vec!["é"]]
        );
        assert_eq!(
            walk(query("b/", "/", 1)),
            [vec!["b/1"], vec!["b/2"], vec!["b/c/*"]]
        );
    }

    #[test]
    fn a_token_that_is_none_is_refused() {
        for text in ["", "!!", "AAAA"] {
            assert!(parse_token(text).is_err(), "{text}");
        }
    }
}
