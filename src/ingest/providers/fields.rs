//! The tolerant reader: fields as providers really send them.
//!
//! A field that is missing, null or blank is `None`; numbers come as text and text as numbers; times
//! come in five spellings. Nothing here fails: what can't be read is not there.

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::signed_url::{SignedUrl, redact_urls};

/// The fields of a JSON object; of anything else, none.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a>(Option<&'a Map<String, Value>>);

/// What stands in a field that should hold a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Location {
    /// Nothing: there is no such file.
    Missing,
    /// A URL that can be fetched.
    Url(SignedUrl),
    /// Something else; why, free of secrets.
    Unusable(String),
}

impl<'a> Fields<'a> {
    pub(super) fn of(value: &'a Value) -> Fields<'a> {
        Fields(value.as_object())
    }

    /// What stands there, unless it is null.
    pub(super) fn value(self, name: &str) -> Option<&'a Value> {
        self.0?.get(name).filter(|value| !value.is_null())
    }

    pub(super) fn is_object(self, name: &str) -> bool {
        self.value(name).is_some_and(Value::is_object)
    }

    pub(super) fn object(self, name: &str) -> Fields<'a> {
        Fields(self.value(name).and_then(Value::as_object))
    }

    /// The items of a list; of anything else, none.
    pub(super) fn list(self, name: &str) -> impl Iterator<Item = Fields<'a>> {
        let items = self.value(name).and_then(Value::as_array);
        items.into_iter().flatten().map(Fields::of)
    }

    /// Text, or a number as text; trimmed, and free of URL queries, since it is going to be shown.
    pub(super) fn text(self, name: &str) -> Option<String> {
        text(self.value(name)?)
    }

    /// The first of `names` that holds text.
    pub(super) fn first_text(self, names: &[&str]) -> Option<String> {
        names.iter().find_map(|name| self.text(name))
    }

    pub(super) fn number(self, name: &str) -> Option<f64> {
        let number = match self.value(name)? {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        number.filter(|number: &f64| number.is_finite())
    }

    /// A length in bytes. Zero is what providers send when they don't know.
    pub(super) fn size_bytes(self, name: &str) -> Option<u64> {
        size_bytes(self.value(name)?)
    }

    pub(super) fn flag(self, name: &str) -> Option<bool> {
        match self.value(name)? {
            Value::Bool(flag) => Some(*flag),
            Value::Number(number) => Some(number.as_f64() != Some(0.0)),
            Value::String(text) => match text.trim().to_ascii_lowercase().as_str() {
                "true" | "1" | "yes" => Some(true),
                "false" | "0" | "no" => Some(false),
                _ => None,
            },
            _ => None,
        }
    }

    pub(super) fn time(self, name: &str) -> Option<Timestamp> {
        time(self.value(name)?)
    }

    /// The first of `names` that holds a time.
    pub(super) fn first_time(self, names: &[&str]) -> Option<Timestamp> {
        names.iter().find_map(|name| self.time(name))
    }

    pub(super) fn location(self, name: &str) -> Location {
        location(self.value(name), name)
    }

    /// The first URL under `names`; else the first field's complaint. Later names are deprecated
    /// doubles of the first: what they hold besides a URL (a storage path) is no complaint.
    pub(super) fn first_location(self, names: &[&str]) -> Location {
        let mut locations = names.iter().map(|name| self.location(name));
        let Some(first) = locations.next() else {
            return Location::Missing;
        };
        if matches!(first, Location::Url(_)) {
            return first;
        }
        locations
            .find(|location| matches!(location, Location::Url(_)))
            .unwrap_or(first)
    }
}

/// See [`Fields::text`].
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => {
            let text = redact_urls(text.trim());
            (!text.is_empty()).then_some(text)
        }
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// See [`Fields::size_bytes`].
pub(super) fn size_bytes(value: &Value) -> Option<u64> {
    let size = match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    size.filter(|&size| size > 0)
}

/// What stands in the field `name` that should hold a URL.
pub(super) fn location(value: Option<&Value>, name: &str) -> Location {
    match value {
        None | Some(Value::Null) => Location::Missing,
        Some(Value::String(text)) if text.trim().is_empty() => Location::Missing,
        Some(Value::String(text)) => match SignedUrl::usable(text) {
            Ok(url) => Location::Url(url),
            Err(why) => Location::Unusable(format!("the event's {name} can't be used: {why}")),
        },
        Some(_) => Location::Unusable(format!("the event's {name} can't be used: it is not text")),
    }
}

/// No recording is older, and no clock of today younger: outside of it a time means "none"
/// (`0001-01-01T00:00:00Z`, 0, a slip of units).
const PLAUSIBLE_SECONDS: std::ops::Range<i64> = 31_536_000..4_102_444_800;

/// A time as RFC 3339 (also with a space for the `T`), or Unix seconds, milli-, micro- or
/// nanoseconds as integer, float or text.
pub(super) fn time(value: &Value) -> Option<Timestamp> {
    let at = match value {
        Value::Number(number) => unix_time(number.as_f64()?),
        Value::String(text) => text_time(text.trim()),
        _ => None,
    };
    at.filter(|at| PLAUSIBLE_SECONDS.contains(&at.as_second()))
}

fn text_time(text: &str) -> Option<Timestamp> {
    if let Ok(number) = text.parse::<f64>() {
        return unix_time(number);
    }
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at);
    }
    // Without an offset; everything that providers send is UTC.
    let civil: jiff::civil::DateTime = text.parse().ok()?;
    Some(civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
}

/// The unit follows from the size: seconds stay below 10^11 until the year 5138.
fn unix_time(number: f64) -> Option<Timestamp> {
    let seconds = match number.abs() {
        n if n < 1e11 => number,
        n if n < 1e14 => number / 1e3,
        n if n < 1e17 => number / 1e6,
        _ => number / 1e9,
    };
    if !seconds.is_finite() || seconds.abs() > 1e11 {
        return None;
    }
    // A double of this size is exact to about a microsecond; what is beyond is noise.
    Timestamp::from_microsecond((seconds * 1e6).round() as i64).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_spelling_of_a_time_is_read() {
        for (value, expected) in [
            (json!("2026-03-02T10:33:20Z"), "2026-03-02T10:33:20Z"),
            (
                json!("2026-03-02T10:33:20.123456789Z"),
                "2026-03-02T10:33:20.123456789Z",
            ),
            (json!("2026-03-02T12:33:20+02:00"), "2026-03-02T10:33:20Z"),
            (
                json!("2026-03-02 10:33:20.608944Z"),
                "2026-03-02T10:33:20.608944Z",
            ),
            (json!(" 2026-03-02T10:33:20 "), "2026-03-02T10:33:20Z"),
            (json!(1772447600), "2026-03-02T10:33:20Z"),
            (json!("1772447600"), "2026-03-02T10:33:20Z"),
            (json!(1772447600.25), "2026-03-02T10:33:20.25Z"),
            (json!(1772447600.203), "2026-03-02T10:33:20.203Z"),
            (json!("1772447600.25"), "2026-03-02T10:33:20.25Z"),
            (json!(1772447600250i64), "2026-03-02T10:33:20.25Z"),
        ] {
            assert_eq!(time(&value), Some(expected.parse().unwrap()), "{value}");
        }
        for value in [
            json!("0001-01-01T00:00:00Z"),
            json!(0),
            json!("0"),
            json!(""),
            json!("yesterday"),
            json!(-5),
            json!(true),
            json!([]),
            json!({}),
            json!(1e300),
            json!("inf"),
            json!("NaN"),
            json!(u64::MAX),
            json!("9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(time(&value), None, "{value}");
        }
    }

    #[test]
    fn missing_null_blank_and_odd_are_none() {
        let value = json!({
            "null": null, "blank": "  ", "list": [], "number": 7, "size": "2044680", "zero": 0,
            "negative": -1, "yes": "true", "url": "ftp://h/x", "object": {}, "good": "https://h/x?y"
        });
        let fields = Fields::of(&value);
        for name in ["nothing", "null", "blank", "list", "object"] {
            assert_eq!(fields.text(name), None, "{name}");
            assert_eq!(fields.size_bytes(name), None, "{name}");
            assert_eq!(fields.flag(name), None, "{name}");
        }
        assert_eq!(fields.text("number").as_deref(), Some("7"));
        assert_eq!(fields.size_bytes("size"), Some(2_044_680));
        assert_eq!(fields.size_bytes("zero"), None);
        assert_eq!(fields.size_bytes("negative"), None);
        assert_eq!(fields.flag("yes"), Some(true));
        assert_eq!(fields.location("blank"), Location::Missing);
        assert_eq!(fields.location("null"), Location::Missing);
        assert!(matches!(fields.location("url"), Location::Unusable(_)));
        assert!(matches!(fields.location("number"), Location::Unusable(_)));
        assert!(matches!(
            fields.first_location(&["url", "good"]),
            Location::Url(_)
        ));
        assert_eq!(
            fields.first_location(&["nothing", "url"]),
            Location::Missing
        );
        assert!(Fields::of(&json!([1])).value("x").is_none());
    }
}
