//! A page of a provider's list: what is asked for, what is on it, and what every adapter needs to read one.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::error::Error;
use crate::ingest::providers::draft::{Draft, EventContent, hash};
use crate::ingest::providers::fields::Fields;
use crate::model::{Event, Provider, Recording};
use crate::signed_url::redact_json;

/// No recording is longer: lists are sorted and cut by the start of things, and what counts is their end.
pub const LONGEST_RECORDING: SignedDuration = SignedDuration::from_hours(24);

/// The time in which things ended that are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// From here on.
    pub since: Timestamp,
    /// Up to here, exclusive.
    pub until: Timestamp,
}

impl Window {
    /// Whether something that ended `at` is inside; what has no date may always be.
    pub fn holds(&self, at: Option<Timestamp>) -> bool {
        at.is_none_or(|at| self.since <= at && at < self.until)
    }

    /// The earliest start of what may have ended inside.
    pub fn earliest_start(&self) -> Timestamp {
        self.since
            .saturating_sub(LONGEST_RECORDING)
            .unwrap_or(Timestamp::MIN)
    }
}

/// One thing on a list.
#[derive(Clone, Debug)]
pub struct ListedThing {
    /// The event that tells of it. Its time is that of the thing itself, so that it never counts as fresher than what
    /// the provider's own event said.
    pub event: Event,
    /// Whether its files exist. The chat of a session, say, may be there or not: that has to be asked first.
    pub is_certain: bool,
}

/// One page of a list.
#[derive(Clone, Debug, Default)]
pub struct ListPage {
    /// What is on it, inside the window, and finished.
    pub found: Vec<ListedThing>,
    /// Where the next page begins; `None` after the last one.
    pub next: Option<String>,
    /// The list is sorted from new to old, and everything after this page is too old.
    pub reached_since: bool,
    /// How many things the whole list has, where it is told: fewer than before means that some have moved up from a
    /// page to come to one that was read already.
    pub total: Option<u64>,
    /// Whether things on it have no date, so that only their being known says that the walk has gone far enough.
    pub is_undated: bool,
}

/// Things on a page. Daily and 100ms document it as the most; others have more.
pub(in crate::ingest::providers) const PAGE_ITEMS: usize = 100;

/// Which page is asked for.
#[derive(Clone, Copy)]
pub(in crate::ingest::providers) struct Ask<'a> {
    pub(in crate::ingest::providers) list: &'a str,
    pub(in crate::ingest::providers) cursor: Option<&'a str>,
    pub(in crate::ingest::providers) window: &'a Window,
}

pub(in crate::ingest::providers) fn no_list(provider: Provider, list: &str) -> Error {
    Error::invalid(format!("{provider}: there is no list of {list}"))
}

/// Query parameters, escaped.
pub(in crate::ingest::providers) fn query(
    path: &str,
    parameters: &[(&str, Option<String>)],
) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in parameters {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    format!("{path}?{}", query.finish())
}

/// One thing of a list as its adapter has read it.
pub(in crate::ingest::providers) struct Item {
    /// The provider's id of it.
    pub(in crate::ingest::providers) id: String,
    /// When it began.
    pub(in crate::ingest::providers) began: Option<Timestamp>,
    /// When it ended.
    pub(in crate::ingest::providers) ended: Option<Timestamp>,
    pub(in crate::ingest::providers) recording: Recording,
    /// `None` for what is not finished, or nothing to archive.
    pub(in crate::ingest::providers) says: Option<EventContent>,
    pub(in crate::ingest::providers) is_certain: bool,
    /// The parts of it that may be kept: lists also hold keys and addresses that are none of ours.
    pub(in crate::ingest::providers) kept: Value,
}

/// A page of these items, as they came.
pub(in crate::ingest::providers) fn page(
    provider: Provider,
    ask: Ask<'_>,
    items: Vec<Item>,
) -> ListPage {
    let began: Vec<_> = items.iter().map(|item| item.began).collect();
    let is_undated = items
        .iter()
        .any(|item| item.says.is_some() && item.ended.or(item.began).is_none());
    let found = items
        .into_iter()
        .filter_map(|item| found(provider, ask, item))
        .collect();
    ListPage {
        found,
        next: None,
        reached_since: is_all_too_old(&began, ask.window),
        total: None,
        is_undated,
    }
}

/// Whether a page, sorted from new to old, lies wholly before the window. Where the order is another, or a date is
/// missing, the walk goes on: a page too many costs one call.
fn is_all_too_old(began: &[Option<Timestamp>], window: &Window) -> bool {
    let earliest = window.earliest_start();
    let is_sorted = began.windows(2).all(|pair| pair[0] >= pair[1]);
    let is_old = |at: &Option<Timestamp>| at.is_some_and(|at| at < earliest);
    // One alone tells no order.
    let tells_order = began.first() != began.last();
    is_sorted && tells_order && began.iter().all(is_old)
}

fn found(provider: Provider, ask: Ask<'_>, item: Item) -> Option<ListedThing> {
    let says = item.says?;
    let at = item.ended.or(item.began);
    if !ask.window.holds(at) {
        return None;
    }
    let EventContent::Files(artifacts, failures) = &says else {
        return None;
    };
    if artifacts.is_empty() && failures.is_empty() {
        return None;
    }
    let (list, id) = (ask.list, &item.id);
    let mut kept = item.kept;
    redact_json(&mut kept);
    let draft = Draft {
        event_id: Some(format!("found-{list}-{id}")),
        event_type: Some(format!("found.{list}")),
        dedupe_key: String::new(),
        event_time: at,
        recording: item.recording,
        says,
    };
    let mut event = draft.finish(provider, Some(kept.to_string()));
    event.dedupe_key = dedupe_key(&event);
    Some(ListedThing {
        event,
        is_certain: item.is_certain,
    })
}

pub(in crate::ingest) fn dedupe_key(event: &Event) -> String {
    let mut content: Vec<_> = event
        .artifacts
        .iter()
        .map(|artifact| artifact.identity.as_str())
        .collect();
    content.extend(event.failures.iter().map(|f| f.loss_key.as_str()));
    let thing = event.event_id.as_deref().unwrap_or_default();
    format!("{thing}:{}", hash(content.join("\n").as_bytes()))
}

/// The fields of `names` as they stand in `item`.
pub(in crate::ingest::providers) fn keep(item: Fields, names: &[&str]) -> Value {
    let fields = names
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), item.value(name)?.clone())));
    Value::Object(fields.collect())
}

pub(in crate::ingest::providers) fn after(
    began: Option<Timestamp>,
    seconds: Option<f64>,
) -> Option<Timestamp> {
    let length = SignedDuration::try_from_secs_f64(seconds?).ok()?;
    began?.checked_add(length).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(second: i64) -> Option<Timestamp> {
        Some(Timestamp::from_second(second).unwrap())
    }

    #[test]
    fn only_a_page_that_is_sorted_and_wholly_old_ends_a_walk() {
        let day = 86_400;
        let window = Window {
            since: second(10 * day).unwrap(),
            until: second(11 * day).unwrap(),
        };
        for (began, expected) in [
            (vec![second(8 * day), second(7 * day)], true),
            (vec![second(9 * day + 1), second(7 * day)], false),
            (vec![second(7 * day), second(8 * day)], false),
            (vec![second(8 * day), None], false),
            (vec![second(7 * day), second(7 * day)], false),
            (vec![second(7 * day)], false),
            (vec![], false),
        ] {
            assert_eq!(is_all_too_old(&began, &window), expected, "{began:?}");
        }
    }

    #[test]
    fn parameters_can_not_break_out_of_the_query() {
        let path = query("/x", &[("a", Some("1&b=2#c".to_owned())), ("d", None)]);
        assert_eq!(path, "/x?a=1%26b%3D2%23c");
    }
}
