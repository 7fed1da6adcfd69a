//! A provider that the configuration defines: what its events say, by paths into them.
//!
//! Nothing here knows a provider. Definitions for some are in `deploy/sources`.

use std::borrow::Cow;

use aws_lc_rs::hmac;
use secrecy::SecretString;
use serde_json::Value;

mod definition;
mod files;
mod path;
mod signing;
mod span;
mod template;

pub use definition::ProviderDefinition;

use super::draft::{self, Draft, EventContent, body_key, header_id};
use super::{fields, read_object, shorten};
use crate::error::{Class, Error, Result};
use crate::ingest::Delivery;
use crate::ingest::providers::artifact_list::ArtifactList;
use crate::ingest::signature::{SignatureScheme, hmac_key};
use crate::model::{Event, Lookup, ProviderFailure, Recording};
use crate::signed_url::{redact_body, redact_json, write_redacted};
use definition::{ArtifactTable, HandshakeTable, TypePattern, is_one_of};
use path::{At, Path};

/// A token of an endpoint check that is longer is none.
const TOKEN_MAX_BYTES: usize = 256;

/// Stands where a secret was.
const REMOVED: &str = "[removed]";

/// The body that an endpoint check is answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Its media type.
    pub content_type: String,
    /// The body.
    pub body: String,
}

impl ProviderDefinition {
    /// The request headers that may carry the event's id.
    pub fn id_headers(&self) -> Vec<&str> {
        let own = self.tables.event.id_header.as_deref();
        let signed = match &self.scheme {
            SignatureScheme::StandardWebhooks => vec!["webhook-id", "svix-id"],
            SignatureScheme::Hmac(scheme, _) => scheme.id_header().into_iter().collect(),
            _ => Vec::new(),
        };
        own.into_iter().chain(signed).collect()
    }

    /// Reads a delivery.
    ///
    /// # Errors
    /// `invalid` when the body is not a JSON object.
    pub fn parse(&self, delivery: &Delivery<'_>) -> Result<Event> {
        let value = read_object(delivery.body)?;
        let mut draft = self.read(&value, delivery);
        shorten(&mut draft);
        Ok(draft.finish(self.provider, None))
    }

    /// The event in `body` as it is archived.
    ///
    /// # Errors
    /// As [`Adapter::document`](crate::ingest::Adapter::document).
    pub fn document(&self, body: &[u8]) -> Result<String> {
        if !self.hides() {
            return redact_body(body);
        }
        let mut value = read_object(body)?;
        self.hide(&mut value);
        redact_json(&mut value);
        write_redacted(&value, body.len())
    }

    /// Whether something is secret by its place.
    fn hides(&self) -> bool {
        let is_secret = |table: &ArtifactTable| {
            table.header.is_some() || table.token.is_some() || table.secret_path
        };
        !self.tables.hide.is_empty() || self.tables.artifacts.iter().any(is_secret)
    }

    /// What an endpoint check is answered with; `None` for the empty body. `secret` is the one that the
    /// check itself was signed with.
    pub fn reply(&self, body: &[u8], secret: Option<&SecretString>) -> Option<Reply> {
        let value = read_object(body).ok()?;
        let handshake = self.tables.handshake.as_ref()?;
        let answer = handshake.answer.as_ref()?;
        let token = token(handshake, &value);
        let word = |word: &str| match word {
            "token" => token.map(str::to_owned),
            _ => {
                let digest = hmac::sign(&hmac_key(secret?, self.key)?, token?.as_bytes());
                Some(handshake.encoding().write(digest.as_ref()))
            }
        };
        let body = answer.fill(At::event(&value), word, |_| None)?;
        Some(Reply {
            content_type: handshake.content_type.clone(),
            body,
        })
    }

    fn read(&self, event: &Value, delivery: &Delivery<'_>) -> Draft {
        let table = &self.tables.event;
        let text = |path: &Option<Path>| first(path, event).and_then(fields::text);
        let time = |path: &Option<Path>| first(path, event).and_then(fields::time);
        let event_type = text(&table.event_type);
        let event_id = text(&table.id).or_else(|| header_id(delivery));
        let event_time = time(&table.time);
        let recording = &self.tables.recording;
        let recording = Recording {
            recording_id: text(&recording.recording_id),
            bot_id: None,
            session_id: text(&recording.session_id),
            room_id: text(&recording.room_id),
            room_name: text(&recording.room_name),
            started_at: time(&recording.started_at),
            ended_at: time(&recording.ended_at),
        };
        let says = self.says(
            event_type.as_deref(),
            event,
            event_time.unwrap_or(delivery.received_at),
        );
        let dedupe_key = event_id
            .clone()
            .unwrap_or_else(|| body_key(&[event_type.as_deref()], delivery.body));
        Draft {
            event_id,
            event_type,
            dedupe_key,
            event_time,
            recording,
            says,
        }
    }

    fn says(&self, event_type: Option<&str>, event: &Value, at: jiff::Timestamp) -> EventContent {
        let tables = &self.tables;
        if let Some(handshake) = &tables.handshake
            && is_one_of(&handshake.types, event_type)
        {
            return match handshake.token.is_some() && token(handshake, event).is_none() {
                true => EventContent::unreadable(
                    "the endpoint check's token is not one that may be answered",
                ),
                false => EventContent::Handshake,
            };
        }
        if is_one_of(&tables.ignored, event_type) {
            return EventContent::Nothing;
        }
        let artifacts = tables.artifacts.iter().map(|table| &table.types);
        let failures = tables.failures.iter().map(|table| &table.types);
        if !artifacts
            .chain(failures)
            .any(|types| is_one_of(types, event_type))
        {
            return EventContent::Unknown(None);
        }
        let mut shelf = ArtifactList::default();
        files::put_all(self, event_type, event, at, &mut shelf);
        shelf.into_says(self.losses(event_type, event))
    }

    fn losses(&self, event_type: Option<&str>, event: &Value) -> Vec<ProviderFailure> {
        let tables = self.tables.failures.iter();
        let telling = tables.filter(|table| {
            is_one_of(&table.types, event_type) && files::holds(table.when.as_ref(), event)
        });
        telling
            .map(|table| {
                let text = |path: &Option<Path>| first(path, event).and_then(fields::text);
                let sort = table.kind.map_or("recording", |kind| kind.as_str());
                draft::loss(text(&table.code), text(&table.message), table.kind, sort)
            })
            .collect()
    }

    /// The types of events whose files are told apart by their URLs alone. Where such a URL has a query that is no
    /// signature, the query counts: one that changes with each event is another file each time.
    pub fn types_without_id(&self) -> Vec<String> {
        let tables = self.tables.artifacts.iter();
        let tables = tables.filter(|table| table.id.is_none() && !table.needs_lookup);
        let types = tables.flat_map(|table| table.types.iter().map(TypePattern::to_string));
        let unique: std::collections::BTreeSet<_> = types.collect();
        unique.into_iter().collect()
    }

    /// Takes out what is secret by its place: tokens that files are opened with, paths that open them by themselves, and
    /// what the definition wants hidden.
    fn hide(&self, event: &mut Value) {
        let mut pointers: Vec<_> = self
            .tables
            .hide
            .iter()
            .flat_map(|path| path.pointers(event))
            .collect();
        for table in &self.tables.artifacts {
            let header = table.header.iter().flat_map(|header| header.value.paths());
            let url = table.secret_path.then_some(&table.url);
            for path in header.chain(&table.token).chain(url) {
                pointers.extend(pointers_of(path, table.each.as_ref(), event));
            }
        }
        for pointer in pointers {
            if let Some(place) = event.pointer_mut(&pointer) {
                *place = Value::String(REMOVED.to_owned());
            }
        }
    }
}

fn first<'a>(path: &Option<Path>, event: &'a Value) -> Option<&'a Value> {
    path.as_ref()?.first(At::event(event))
}

fn pointers_of(path: &Path, each: Option<&Path>, event: &Value) -> Vec<String> {
    let (true, Some(each)) = (path.is_of_item(), each) else {
        return path.pointers(event);
    };
    let items = each.pointers(event).into_iter();
    items
        .flat_map(|item| {
            let inside = event.pointer(&item).map(|value| path.pointers(value));
            let inside = inside.into_iter().flatten();
            inside
                .map(move |rest| format!("{item}{rest}"))
                .collect::<Vec<_>>()
        })
        .collect()
}

/// The token of an endpoint check, if it can be nothing else. Its digest is made with the key that deliveries are
/// signed with, so it must not look like the beginning of one: without `:`, `.` and `{` it is no
/// `v0:time:body`, no `id.time.body` and no JSON object.
fn token<'a>(handshake: &HandshakeTable, event: &'a Value) -> Option<&'a str> {
    let token = handshake
        .token
        .as_ref()?
        .first(At::event(event))?
        .as_str()?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_+/=".contains(&byte);
    let is_token = (1..=TOKEN_MAX_BYTES).contains(&token.len()) && token.bytes().all(is_plain);
    is_token.then_some(token)
}

/// A definition names places in events, and no API that could be asked.
pub(super) fn no_api(provider: &str, lookup: &Lookup) -> Error {
    let id: Cow<'_, str> = crate::signed_url::redact_urls(&lookup.id).into();
    Error::new(
        Class::Denied,
        format!(
            "open {id}: the event of {provider} came without what is needed to open it, and its definition has no API to ask"
        ),
    )
}

#[cfg(test)]
mod tests;
