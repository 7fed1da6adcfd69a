//! Made-up events of every provider, true to their documented shapes: the samples of `fixtures/events`
//! with fresh dates, fresh ids, URLs of the demo's origin and the real sizes. Each comes with
//! what must become of it, so that the demo can judge itself.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Number, Value};

use super::origin::DemoOrigin;
use super::samples::{EventSample, SAMPLES};
pub use super::samples::{ExpectedEnd, Fate};
use crate::error::{Error, Result};
use crate::model::Provider;

/// When every sample was sent (see its README).
const SAMPLE_SENT_AT: i64 = 1_772_447_600;

/// Numbers in this window are the samples' Unix times.
const SAMPLE_SECONDS: std::ops::Range<i64> = 1_772_000_000..1_773_000_000;

/// An event, ready to be posted.
#[derive(Clone, Debug)]
pub struct DemoEvent {
    /// By which people ask for it, such as `100ms/recording.success`.
    pub name: &'static str,
    /// Who sends it; also the name of the source.
    pub provider: Provider,
    /// The provider's id of it, in the body or in a header, where the provider has one.
    pub event_id: Option<String>,
    /// The provider's name of its type, where the body tells it.
    pub event_type: Option<String>,
    /// Headers beside `Content-Type`.
    pub headers: Vec<(&'static str, String)>,
    /// JSON, on one line.
    pub body: String,
    /// What must become of it.
    pub expected: ExpectedEnd,
}

/// Every event of the demo, dated `now`, in the order in which they are sent.
///
/// # Errors
/// `internal` when a sample can't be read: they are part of the program.
pub fn all(origin: &DemoOrigin, now: Timestamp) -> Result<Vec<DemoEvent>> {
    SAMPLES
        .iter()
        .map(|sample| make(sample, origin, now))
        .collect()
}

/// The event of that name, dated `now`.
///
/// # Errors
/// `invalid` when there is none of that name.
pub fn by_name(name: &str, origin: &DemoOrigin, now: Timestamp) -> Result<DemoEvent> {
    let sample = SAMPLES
        .iter()
        .find(|sample| sample.name == name)
        .ok_or_else(|| Error::invalid(format!("there is no event `{name}`")))?;
    make(sample, origin, now)
}

/// The names of all events.
pub fn names() -> impl Iterator<Item = &'static str> {
    SAMPLES.iter().map(|sample| sample.name)
}

fn make(sample: &EventSample, origin: &DemoOrigin, now: Timestamp) -> Result<DemoEvent> {
    let sent_at = now.saturating_sub(sample.age).unwrap_or(now);
    let run = u32::try_from(now.as_second()).unwrap_or(u32::MAX);
    let fresh_ids = |text: &str| fresh_ids(text, run, sample.meeting);
    let mut value: Value = serde_json::from_str(&fresh_ids(sample.text)).map_err(|error| {
        Error::internal(format!("read the sample {}", sample.name)).with_source(error)
    })?;
    Freshener { origin, sent_at }.freshen(&mut value);

    let header = match sample.provider {
        // Version 1 has no ids of events.
        Provider::MeetingBaas if sample.name.contains("/v1-") => None,
        Provider::MeetingBaas => Some("svix-id"),
        Provider::Dyte => Some("dyte-uuid"),
        Provider::RealtimeKit => Some("rtk-uuid"),
        _ => None,
    };
    let headers: Vec<_> = header
        .map(|header| {
            let id = format!("demo-{run:08x}-{}", sample.name.replace('/', "-"));
            (header, id)
        })
        .into_iter()
        .collect();
    let event_id = match headers.first() {
        Some((_, id)) => Some(id.clone()),
        None => value["id"].as_str().map(str::to_owned),
    };
    let event_type = [&value["type"], &value["event"]]
        .into_iter()
        .find_map(|name| name.as_str())
        .map(str::to_owned);

    let archived = sample.archived.iter().map(|(name, path)| {
        let content = origin.library().content(path).ok_or_else(|| {
            Error::internal(format!("the origin of the demo has nothing at {path}"))
        })?;
        Ok((fresh_ids(name), Fate::Archived(content)))
    });
    let made = sample
        .made
        .iter()
        .map(|name| Ok((fresh_ids(name), Fate::Made)));
    let lost = sample
        .lost
        .iter()
        .map(|(name, class)| Ok((fresh_ids(name), Fate::Lost(*class))));
    Ok(DemoEvent {
        name: sample.name,
        provider: sample.provider,
        event_id,
        event_type,
        headers,
        body: value.to_string(),
        expected: ExpectedEnd {
            class: sample.class,
            artifacts: archived.chain(made).chain(lost).collect::<Result<_>>()?,
        },
    })
}

/// Replaces the samples' made-up ids by those of this run and meeting; their forms stay (uuid, and
/// the 24 hex digits of 100ms, which begin with a time).
fn fresh_ids(text: &str, run: u32, meeting: u32) -> String {
    text.replace(
        "1b9d6bcd-bbfd-4b2d-9b5d-",
        &format!("{run:08x}-bbfd-4b2d-9{meeting:03x}-"),
    )
    .replace(
        "8f7a1b52-9c1e-4b43-8a55-",
        &format!("{run:08x}-9c1e-4b43-8{meeting:03x}-"),
    )
    .replace("69a56000000000000000", &format!("{run:08x}{meeting:012x}"))
    // Daily's losses are tied to recordings by the room alone.
    .replace("\"standup\"", &format!("\"standup-{meeting}\""))
}

/// Moves an event to the present: its dates, its URLs, its sizes.
struct Freshener<'a> {
    origin: &'a DemoOrigin,
    sent_at: Timestamp,
}

impl Freshener<'_> {
    fn freshen(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.fresh_text(text),
            Value::Number(number) => {
                if let Some(moved) = self.fresh_number(number) {
                    *number = moved;
                }
            }
            Value::Array(values) => values.iter_mut().for_each(|value| self.freshen(value)),
            Value::Object(fields) => {
                self.set_sizes(fields);
                fields.values_mut().for_each(|value| self.freshen(value));
            }
            Value::Null | Value::Bool(_) => {}
        }
    }

    fn fresh_text(&self, text: &str) -> String {
        if let Some(url) = text.strip_prefix("{{ORIGIN}}") {
            return self.fresh_url(url);
        }
        if let Some(seconds) = text.parse().ok().filter(|s| SAMPLE_SECONDS.contains(s)) {
            return (seconds + self.shift_seconds()).to_string();
        }
        self.fresh_time(text).unwrap_or_else(|| text.to_owned())
    }

    fn fresh_url(&self, url: &str) -> String {
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let lifetime = query
            .split('&')
            .find_map(|part| part.strip_prefix("X-Amz-Expires="))
            .and_then(|seconds| seconds.parse().ok())
            .map_or(Duration::from_secs(3600), Duration::from_secs);
        self.origin.sign(path, self.sent_at, lifetime)
    }

    /// The time in the same form: as many digits of a second, a space where there was one.
    fn fresh_time(&self, text: &str) -> Option<String> {
        let time: Timestamp = text.parse().ok()?;
        let moved = time
            .checked_add(SignedDuration::from_secs(self.shift_seconds()))
            .ok()?;
        let digits = text
            .split_once('.')
            .map_or(0, |(_, fraction)| fraction.trim_end_matches('Z').len());
        let written = format!("{moved:.digits$}");
        Some(if text.contains(' ') {
            written.replace('T', " ")
        } else {
            written
        })
    }

    fn fresh_number(&self, number: &Number) -> Option<Number> {
        if let Some(seconds) = number.as_i64() {
            return SAMPLE_SECONDS
                .contains(&seconds)
                .then(|| (seconds + self.shift_seconds()).into());
        }
        let seconds = number.as_f64()?;
        if !SAMPLE_SECONDS.contains(&(seconds as i64)) {
            return None;
        }
        Number::from_f64(seconds + self.shift_seconds() as f64)
    }

    fn shift_seconds(&self) -> i64 {
        self.sent_at.as_second() - SAMPLE_SENT_AT
    }

    /// Where an event tells the size of a file that it names, it tells the true one.
    fn set_sizes(&self, fields: &mut serde_json::Map<String, Value>) {
        for (url, size) in [
            ("recording_presigned_url", "size"),
            ("hls_vod_recording_presigned_url", "hls_vod_recording_size"),
            ("downloadUrl", "fileSize"),
        ] {
            let content = fields
                .get(url)
                .and_then(Value::as_str)
                .and_then(|url| url.strip_prefix("{{ORIGIN}}"))
                .and_then(|url| url.split('?').next())
                .and_then(|path| self.origin.library().content(path));
            let (Some(content), Some(size)) = (content, fields.get_mut(size)) else {
                continue;
            };
            *size = match size {
                Value::String(_) => Value::from(content.size_bytes().to_string()),
                _ => Value::from(content.size_bytes()),
            };
        }
    }
}

#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;
