//! The body of an event as it is archived: compact JSON without secrets.
//!
//! The body is rewritten field by field into a writer that counts, so that neither a tree nor a text larger than a
//! small multiple of the body ever exists, whatever somebody sends.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Write};

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde::{Deserialize, Serialize};

use super::path::REMOVED;
use super::redact::{is_secret_name, redact_urls};
use crate::error::{Error, Result};

/// A document is shorter than its event, but for what is escaped or written longer: names of headers with empty
/// values, numbers with exponents.
const GROWTH_MAX: usize = 2;

/// Beside that, so that short events never meet the limit.
const GROWTH_BYTES: usize = 64 * 1024;

/// The JSON in `body` as compact text without secrets: safe to show and archive. A byte order mark before it is passed
/// over.
///
/// # Errors
/// `invalid` when it is not JSON, is nested too deep, or would become more than twice as long.
pub fn redact_body(body: &[u8]) -> Result<String> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let mut text = BoundedText::for_body(body.len());
    let mut reader = serde_json::Deserializer::from_slice(body);
    let written = Rewrite::after("", &mut text)
        .deserialize(&mut reader)
        .and_then(|()| reader.end());
    text.finish(written)
}

/// `value` as compact text, as [`redact_body`] bounds it. It has to be redacted already.
///
/// # Errors
/// `invalid` when it would become more than twice as long as `body_bytes`.
pub fn write_redacted(value: &serde_json::Value, body_bytes: usize) -> Result<String> {
    let mut text = BoundedText::for_body(body_bytes);
    let written = serde_json::to_writer(&mut text, value);
    text.finish(written)
}

/// A text that refuses to become longer than its limit.
struct BoundedText {
    bytes: Vec<u8>,
    limit_bytes: usize,
    is_full: bool,
}

impl BoundedText {
    fn for_body(body_bytes: usize) -> BoundedText {
        BoundedText {
            bytes: Vec::new(),
            limit_bytes: body_bytes * GROWTH_MAX + GROWTH_BYTES,
            is_full: false,
        }
    }

    fn finish(self, written: serde_json::Result<()>) -> Result<String> {
        if self.is_full {
            let limit = self.limit_bytes;
            return Err(Error::invalid(format!(
                "write an event without its secrets: it would be longer than {limit} bytes"
            )));
        }
        written.map_err(|error| {
            // The message of serde may quote what it found.
            let (line, column) = (error.line(), error.column());
            Error::invalid(format!(
                "read an event: it is not JSON, or nested too deep (line {line}, column {column})"
            ))
        })?;
        String::from_utf8(self.bytes)
            .map_err(|error| Error::internal("write an event as text").with_source(error))
    }
}

impl Write for BoundedText {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.limit_bytes {
            self.is_full = true;
            return Err(io::Error::other("the text is too long"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes the value that comes next, after `before`.
struct Rewrite<'t> {
    before: &'static str,
    text: &'t mut BoundedText,
}

impl<'t> Rewrite<'t> {
    fn after(before: &'static str, text: &'t mut BoundedText) -> Rewrite<'t> {
        Rewrite { before, text }
    }

    fn put<E: serde::de::Error>(self, value: impl Serialize) -> Result<(), E> {
        let Rewrite { before, text } = self;
        text.write_all(before.as_bytes()).map_err(E::custom)?;
        serde_json::to_writer(text, &value).map_err(E::custom)
    }
}

impl<'de> DeserializeSeed<'de> for Rewrite<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Rewrite<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        self.put(())
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<(), E> {
        self.put(value)
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        self.put(value)
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        self.put(value)
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        self.put(value)
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<(), E> {
        self.put(redact_urls(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Rewrite { before, text } = self;
        let mut mark = "[";
        text.write_all(before.as_bytes())
            .map_err(A::Error::custom)?;
        while items
            .next_element_seed(Rewrite::after(mark, text))?
            .is_some()
        {
            mark = ",";
        }
        let end = if mark == "[" { "[]" } else { "]" };
        text.write_all(end.as_bytes()).map_err(A::Error::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        let Rewrite { before, text } = self;
        let mut mark = "{";
        text.write_all(before.as_bytes())
            .map_err(A::Error::custom)?;
        while let Some(FieldName(name)) = fields.next_key()? {
            let shown = redact_urls(&name);
            Rewrite::after(mark, text).put::<A::Error>(shown)?;
            if is_secret_name(&name) {
                let is_null = fields.next_value::<Option<IgnoredAny>>()?.is_none();
                let value = (!is_null).then_some(REMOVED);
                Rewrite::after(":", text).put::<A::Error>(value)?;
            } else {
                fields.next_value_seed(Rewrite::after(":", text))?;
            }
            mark = ",";
        }
        let end = if mark == "{" { "{}" } else { "}" };
        text.write_all(end.as_bytes()).map_err(A::Error::custom)
    }
}

/// The name of a field, borrowed where it holds no escapes.
#[derive(Deserialize)]
struct FieldName<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_keeps_all_but_its_secrets() {
        let body = br#"{"b": [1, -2, 2.5, true, null, "x\n\u00fc"], "a": {}, "l": [],
            "streamKey": "SECRET", "share_token": null, "tokens": [{"deep": "SECRET"}],
            "https://h/p?q=CANARY": {"deep": [["https://h/p?SECRET"]]}}"#;
        assert_eq!(
            redact_body(body).unwrap(),
            r#"{"b":[1,-2,2.5,true,null,"x\nü"],"a":{},"l":[],"streamKey":"[removed]","share_token":null,"tokens":"[removed]","https://h/p":{"deep":[["https://h/p"]]}}"#
        );
        assert_eq!(redact_body(b"\xef\xbb\xbf 7 ").unwrap(), "7");
        for broken in ["", "{", "[1,]", "{} {}", "{\"a\"}", "nul", "\"\\x\""] {
            assert!(redact_body(broken.as_bytes()).is_err(), "{broken}");
        }
    }

    // S1: each two bytes became 205 of indented text.
    #[test]
    fn deep_lists_do_not_grow_and_what_grows_is_refused() {
        let deep = format!(
            "{}{}0{}",
            "[".repeat(100),
            "0,".repeat(500_000),
            "]".repeat(100)
        );
        assert_eq!(redact_body(deep.as_bytes()).unwrap(), deep);
        let secrets = format!("[{}0]", r#"{"x-":0},"#.repeat(100_000));
        let error = redact_body(secrets.as_bytes()).unwrap_err().full_message();
        assert!(error.contains("longer than"), "{error}");
    }

    #[test]
    fn no_error_quotes_the_event() {
        let error = redact_body(br#"{"a": "SECRET" "b"}"#).unwrap_err();
        assert!(!error.full_message().contains("SECRET"), "{error}");
    }
}
