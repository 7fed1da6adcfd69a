//! What each provider sends and answers: one adapter a provider, over a shared tolerant reader.

use jiff::Timestamp;
use serde_json::Value;

use super::{Delivery, LookupPage};
use crate::error::{Error, Result};
use crate::model::api::{ApiRequest, ApiResponse, Credentials};
use crate::model::{Artifact, Event, Format, JsonWeight, Kind, Lookup, Provider};

mod api;
mod artifact_list;
pub mod custom;
pub mod daily;
mod draft;
pub mod dyte;
mod fields;
pub mod hms;
pub(super) mod hooks;
pub(super) mod list;
pub mod meetingbaas;
mod transcript;

use fields::Fields;

/// Longer ids are hashed: no provider's is, so it is somebody's attempt to fill the store's index.
const DEDUPE_KEY_MAX_BYTES: usize = 300;

pub(super) fn parse(provider: Provider, delivery: &Delivery<'_>) -> Result<Event> {
    let value = read_object(delivery.body)?;
    let event = Fields::of(&value);
    let mut draft = match provider {
        Provider::Hms => crate::ingest::providers::hms::event::read(event, delivery),
        Provider::MeetingBaas => {
            crate::ingest::providers::meetingbaas::event::read(event, delivery)
        }
        Provider::Daily => crate::ingest::providers::daily::event::read(event, delivery),
        Provider::Dyte => crate::ingest::providers::dyte::event::read(
            crate::ingest::providers::dyte::event::DYTE,
            event,
            delivery,
        ),
        Provider::RealtimeKit => crate::ingest::providers::dyte::event::read(
            crate::ingest::providers::dyte::event::REALTIMEKIT,
            event,
            delivery,
        ),
        Provider::Adhoc => return Err(Error::invalid("adhoc is no provider that sends events")),
        Provider::Custom(name) => {
            return Err(Error::invalid(format!(
                "read an event of {name}: no source of the configuration defines it"
            )));
        }
    };
    shorten(&mut draft);
    Ok(draft.finish(provider, None))
}

fn shorten(draft: &mut draft::Draft) {
    if draft.dedupe_key.len() > DEDUPE_KEY_MAX_BYTES {
        draft.dedupe_key = draft::hash(draft.dedupe_key.as_bytes());
    }
}

pub(super) fn calls_for_a_walk(event: &Event) -> bool {
    let event_type = event.event_type.as_deref().unwrap_or_default();
    event.provider == Provider::MeetingBaas
        && event_type.starts_with(crate::ingest::providers::meetingbaas::event::ALERT)
}

pub(super) fn recognise(body: &[u8]) -> Option<Provider> {
    let value = read_object(body).ok()?;
    let event = Fields::of(&value);
    let shapes = [
        (
            Provider::Daily,
            crate::ingest::providers::daily::event::is_shape(event),
        ),
        (
            Provider::Hms,
            crate::ingest::providers::hms::event::is_shape(event),
        ),
        (
            Provider::MeetingBaas,
            crate::ingest::providers::meetingbaas::event::is_shape(event),
        ),
        // RealtimeKit's events have the same shape; only their headers and hosts differ.
        (
            Provider::Dyte,
            crate::ingest::providers::dyte::event::is_shape(event),
        ),
    ];
    shapes
        .into_iter()
        .find_map(|(provider, is_shape)| is_shape.then_some(provider))
}

pub(super) fn lookup_request(
    provider: Provider,
    lookup: &Lookup,
    cursor: Option<&str>,
    credentials: &Credentials,
    now: Timestamp,
) -> Result<ApiRequest> {
    match provider {
        Provider::Hms => {
            crate::ingest::providers::hms::api::request(lookup, cursor, credentials, now)
        }
        Provider::MeetingBaas => {
            crate::ingest::providers::meetingbaas::api::request(lookup, credentials)
        }
        Provider::Daily => crate::ingest::providers::daily::event::request(lookup, credentials),
        Provider::Dyte => crate::ingest::providers::dyte::api::request(
            crate::ingest::providers::dyte::event::DYTE,
            lookup,
            credentials,
        ),
        Provider::RealtimeKit => crate::ingest::providers::dyte::api::request(
            crate::ingest::providers::dyte::event::REALTIMEKIT,
            lookup,
            credentials,
        ),
        Provider::Adhoc => Err(Error::invalid("a URL given by hand has no API to ask")),
        Provider::Custom(name) => Err(custom::no_api(name, lookup)),
    }
}

pub(super) fn lookup_page(
    provider: Provider,
    lookup: &Lookup,
    response: &ApiResponse,
    now: Timestamp,
) -> Result<LookupPage> {
    let answer = api::read_answer(provider, response)?;
    let fields = Fields::of(&answer);
    let whole = |found| LookupPage {
        found,
        ..LookupPage::default()
    };
    match provider {
        Provider::Hms => crate::ingest::providers::hms::api::answer(lookup, fields, now),
        Provider::MeetingBaas => {
            crate::ingest::providers::meetingbaas::api::answer(lookup, fields, now).map(whole)
        }
        Provider::Daily => {
            crate::ingest::providers::daily::event::answer(lookup, fields, now).map(whole)
        }
        Provider::Dyte => crate::ingest::providers::dyte::api::answer(
            crate::ingest::providers::dyte::event::DYTE,
            lookup,
            fields,
            now,
        )
        .map(whole),
        Provider::RealtimeKit => crate::ingest::providers::dyte::api::answer(
            crate::ingest::providers::dyte::event::REALTIMEKIT,
            lookup,
            fields,
            now,
        )
        .map(whole),
        Provider::Adhoc => Err(Error::invalid("a URL given by hand has no API to ask")),
        Provider::Custom(name) => Err(custom::no_api(name, lookup)),
    }
}

pub(super) fn nothing_found(provider: Provider) -> Error {
    api::nothing_found(provider)
}

pub(super) fn unfinished(provider: Provider, count: usize) -> Error {
    api::unfinished(provider, count)
}

pub(super) fn names_one_file(lookup: &Lookup) -> bool {
    lookup.call.starts_with("hms-") && lookup.id.contains('#')
}

pub(super) fn remint_match<'a>(
    found: &'a [Artifact],
    name: &str,
    kind: Kind,
    format: Format,
) -> Option<&'a Artifact> {
    let is_alike = |artifact: &&Artifact| artifact.kind == kind && artifact.format == format;
    if let Some(same) = found.iter().filter(is_alike).find(|a| a.name == name) {
        return Some(same);
    }
    // The archive may have numbered the name (`recording-2.mp4`), and an answer does not always know
    // a track's id: what is alone of its sort can't be mistaken.
    let mut alike = found.iter().filter(is_alike);
    alike.next().filter(|_| alike.next().is_none())
}

/// The JSON object in `body`. Of doubled keys the last counts.
fn read_object(body: &[u8]) -> Result<Value> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    JsonWeight::of(body)
        .check(usize::MAX)
        .map_err(|error| Error::invalid(format!("the event is not taken: {error}")))?;
    let value: Value = serde_json::from_slice(body).map_err(|error| {
        Error::invalid(format!(
            "the event is not JSON, or nested too deep (line {}, column {})",
            error.line(),
            error.column()
        ))
    })?;
    if !value.is_object() {
        return Err(Error::invalid("the event is not a JSON object"));
    }
    Ok(value)
}
