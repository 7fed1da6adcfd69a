//! 100ms's list of webhook deliveries: every event that it sent, or tried to, in the whole workspace.
//!
//! It goes back thirty days, and one request covers at most fourteen. So a longer window is asked for in spans, from the
//! latest to the earliest; the cursor is a span's number and its page's.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::ingest::Delivery;
use crate::ingest::providers::api::get;
use crate::ingest::providers::draft::{EventContent, lookup};
use crate::ingest::providers::fields::Fields;
use crate::ingest::providers::hms::api::{BASE, management_token};
use crate::ingest::providers::hms::event;
use crate::ingest::providers::list::page::ListPage;
use crate::ingest::providers::list::page::{Ask, Item, PAGE_ITEMS, page, query};
use crate::model::Provider;
use crate::model::api::{ApiRequest, Credentials};

/// The list's name.
pub(in crate::ingest::providers) const NAME: &str = "deliveries";

/// How far back the list goes; an hour less, since our clock and theirs differ.
const REACH: SignedDuration = SignedDuration::from_hours(30 * 24 - 1);

/// What one request covers at most; an hour less, too.
const SPAN: SignedDuration = SignedDuration::from_hours(14 * 24 - 1);

/// The request for a page.
pub(in crate::ingest::providers) fn request(
    ask: Ask<'_>,
    credentials: &Credentials,
    now: Timestamp,
) -> Result<ApiRequest> {
    let (number, page) = place(ask.cursor);
    let (since, until) = span(ask, number, now);
    let path = query(
        "/analytics/webhooks",
        &[
            // The documentation shows no example of a time; all others of 100ms's are RFC 3339.
            ("start_time", Some(since.to_string())),
            ("end_time", Some(until.to_string())),
            ("status", Some("all".to_owned())),
            ("limit", Some(PAGE_ITEMS.to_string())),
            ("page", Some(page.to_string())),
        ],
    );
    let token = management_token(&lookup(NAME, path.clone()), credentials, now)?;
    let headers = vec![("authorization", format!("Bearer {token}").into())];
    get(Provider::Hms, credentials, Some(BASE), &path, headers)
}

/// Span and page of a cursor.
fn place(cursor: Option<&str>) -> (u32, u64) {
    let place = cursor.and_then(|cursor| cursor.split_once('/'));
    let place = place.and_then(|(span, page)| Some((span.parse().ok()?, page.parse().ok()?)));
    place.unwrap_or((0, 1))
}

/// From when to when span `number` goes, in whole seconds; the latest is number 0.
fn span(ask: Ask<'_>, number: u32, now: Timestamp) -> (Timestamp, Timestamp) {
    let back = |from: Timestamp, by| from.saturating_sub(by).unwrap_or(Timestamp::MIN);
    let whole = |at: Timestamp| Timestamp::from_second(at.as_second()).unwrap_or(at);
    let since = ask.window.since.max(back(now, REACH));
    let mut until = ask.window.until.min(now).max(since);
    for _ in 0..number {
        until = back(until, SPAN).max(since);
    }
    (whole(back(until, SPAN).max(since)), whole(until))
}

/// What a page holds.
pub(in crate::ingest::providers) fn answer(
    ask: Ask<'_>,
    answer: Fields,
    now: Timestamp,
) -> Result<ListPage> {
    let (number, this_page) = place(ask.cursor);
    let (since, _) = span(ask, number, now);
    let deliveries: Vec<_> = answer.list("events").collect();
    let paging = answer.object("pagination");
    let is_last = match paging.flag("has_next") {
        Some(has_next) => !has_next,
        None => deliveries.is_empty(),
    };
    let earliest = span(ask, number + 1, now).0;
    let next = match is_last {
        false => Some(format!("{number}/{}", this_page + 1)),
        true if earliest < since => Some(format!("{}/1", number + 1)),
        true => None,
    };
    let items = deliveries.into_iter().map(delivery);
    let items: Result<Vec<_>> = items.filter_map(Result::transpose).collect();
    Ok(ListPage {
        next,
        // Its order is not documented.
        reached_since: false,
        ..page(Provider::Hms, ask, items?)
    })
}

/// An event as it was sent; `None` for one that is not about files.
fn delivery(delivery: Fields) -> Result<Option<Item>> {
    let Some((event, id)) = sent(delivery) else {
        return Ok(None);
    };
    let body = serde_json::to_vec(&event)
        .map_err(|error| Error::internal("write an event of a list").with_source(error))?;
    let sent_at = delivery
        .time("event_timestamp")
        .or_else(|| Fields::of(&event).time("timestamp"));
    let draft = event::read(
        Fields::of(&event),
        &Delivery {
            body: &body,
            id_header: None,
            received_at: sent_at.unwrap_or(Timestamp::UNIX_EPOCH),
        },
    );
    let is_about_files = matches!(draft.says, EventContent::Files(..));
    Ok(is_about_files.then_some(Item {
        began: sent_at,
        ended: sent_at,
        recording: draft.recording,
        says: Some(draft.says),
        is_certain: true,
        kept: event,
        id,
    }))
}

/// The body that was sent, and its id. It stands in the list as an object or as text, whole or without its envelope
/// (the documentation shows no example).
fn sent(delivery: Fields) -> Option<(Value, String)> {
    let payload = delivery.object("payload");
    let event = match payload.value("event_data")? {
        Value::String(text) => serde_json::from_str(text).ok()?,
        other => other.clone(),
    };
    let listed_id = delivery.text("event_id");
    let event = match event.get("data").is_some_and(Value::is_object) {
        true => event,
        false => json!({
            "version": "2.0",
            "id": listed_id,
            "type": payload.text("original_event_name"),
            "timestamp": delivery.text("event_timestamp"),
            "data": event,
        }),
    };
    let id = Fields::of(&event).text("id").or(listed_id)?;
    Some((event, id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::providers::list::page::Window;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    // D4
    #[test]
    fn a_long_window_is_asked_for_in_spans_that_the_api_takes() {
        let now = at("2026-03-31T00:00:00Z");
        let window = Window {
            since: at("2026-01-01T00:00:00Z"),
            until: now,
        };
        let empty = json!({"events": [], "pagination": {"has_next": false}});
        let mut cursor: Option<String> = None;
        let mut spans = Vec::new();
        loop {
            let ask = Ask {
                list: NAME,
                cursor: cursor.as_deref(),
                window: &window,
            };
            spans.push(span(ask, place(ask.cursor).0, now));
            let page = answer(ask, Fields::of(&empty), now).unwrap();
            match page.next {
                Some(next) => cursor = Some(next),
                None => break,
            }
        }
        assert_eq!(spans[0].1, now);
        assert!(spans.windows(2).all(|pair| pair[1].1 == pair[0].0));
        let all = spans[0].1.duration_since(spans.last().unwrap().0);
        assert_eq!(all, REACH);
        let longest = spans
            .iter()
            .map(|(since, until)| until.duration_since(*since));
        assert!(longest.max().unwrap() <= SignedDuration::from_hours(14 * 24));
    }
}
