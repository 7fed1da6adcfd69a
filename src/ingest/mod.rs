//! Webhook bytes become a recording with artifacts; provider API calls are written and read here.
//!
//! Pure: no clock, no I/O. Readers are tolerant (doubled keys, numbers as strings, missing and null
//! fields), and what a field can't be used for is that artifact's failure, not the event's.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use secrecy::SecretString;

use crate::error::{Error, Result};
use crate::model::api::{ApiRequest, ApiResponse, Credentials};
use crate::model::{Artifact, Event, Format, Kind, Lookup, Provider, Recording};
use crate::signed_url::redact_body;

pub mod adhoc;
pub mod hooks;
pub mod inspect;
pub mod list;
pub mod misdirected;
pub mod providers;
pub mod signature;

pub use providers::custom::{ProviderDefinition, Reply};

/// One delivery, as it came in. `Debug` leaves the body out: its URLs are signed.
#[derive(Clone, Copy)]
pub struct Delivery<'a> {
    /// The body, byte for byte.
    pub body: &'a [u8],
    /// The header that carries the provider's event id where the body has none
    /// (`svix-id`, `dyte-uuid`, `rtk-uuid`).
    pub id_header: Option<&'a str>,
    /// When it came in (UTC); stands in for an event time that the event does not tell.
    pub received_at: Timestamp,
}

impl fmt::Debug for Delivery<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("body_bytes", &self.body.len())
            .field("id_header", &self.id_header)
            .field("received_at", &self.received_at)
            .finish()
    }
}

/// Who reads a source's deliveries: a provider that we know, or one that the configuration defines.
#[derive(Clone, Debug)]
pub enum Adapter {
    /// A built-in provider's.
    BuiltIn(Provider),
    /// A definition's.
    Custom(Arc<ProviderDefinition>),
}

impl Adapter {
    /// Whose deliveries it reads.
    pub fn provider(&self) -> Provider {
        match self {
            Adapter::BuiltIn(provider) => *provider,
            Adapter::Custom(definition) => definition.provider,
        }
    }

    /// The names of the request headers that may carry the event's id.
    pub fn id_headers(&self) -> Vec<&str> {
        match self {
            Adapter::BuiltIn(provider) => id_headers(*provider).to_vec(),
            Adapter::Custom(definition) => definition.id_headers(),
        }
    }

    /// Reads a delivery.
    ///
    /// # Errors
    /// As [`parse`].
    pub fn parse(&self, delivery: &Delivery<'_>) -> Result<Event> {
        match self {
            Adapter::BuiltIn(provider) => parse(*provider, delivery),
            Adapter::Custom(definition) => definition.parse(delivery),
        }
    }

    /// The event in `body` as it is archived: compact JSON without its secrets.
    ///
    /// # Errors
    /// `invalid` when it is not JSON, nested too deep, or would become more than twice as long.
    pub fn document(&self, body: &[u8]) -> Result<String> {
        match self {
            Adapter::BuiltIn(_) => redact_body(body),
            Adapter::Custom(definition) => definition.document(body),
        }
    }

    /// The accounts at the provider that the event in `body` names, where it names any.
    pub fn accounts(&self, body: &[u8]) -> Vec<String> {
        signature::accounts_in(self.provider(), body)
    }

    /// What an endpoint check, of class [`Handshake`](crate::model::EventClass::Handshake), is answered with;
    /// `None` for the empty body. `secret` is the one that the check itself was signed with.
    pub fn reply(&self, body: &[u8], secret: Option<&SecretString>) -> Option<Reply> {
        match self {
            Adapter::BuiltIn(_) => None,
            Adapter::Custom(definition) => definition.reply(body, secret),
        }
    }
}

/// The name of the request header that may carry the provider's event id, per provider.
pub fn id_headers(provider: Provider) -> &'static [&'static str] {
    match provider {
        Provider::MeetingBaas => &["svix-id", "webhook-id"],
        Provider::Dyte => &["dyte-uuid"],
        Provider::RealtimeKit => &["rtk-uuid"],
        Provider::Hms | Provider::Daily | Provider::Adhoc | Provider::Custom(_) => &[],
    }
}

/// Reads a delivery. A known type that can't be read is an `unknown` event with an alert.
///
/// # Errors
/// `invalid` when the body is not a JSON object.
pub fn parse(provider: Provider, delivery: &Delivery<'_>) -> Result<Event> {
    providers::parse(provider, delivery)
}

/// Whether `event` is the provider's alert that something may not have arrived, so that its lists are to be walked at
/// once.
pub fn calls_for_a_walk(event: &Event) -> bool {
    providers::calls_for_a_walk(event)
}

/// Whose event this is, by its shape; Dyte before RealtimeKit, whose shapes are the same.
/// `None` when it looks like nobody's, or is no JSON object.
pub fn recognise(body: &[u8]) -> Option<Provider> {
    providers::recognise(body)
}

/// One page of the answer to a lookup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LookupPage {
    /// The files that it names.
    pub found: Vec<Artifact>,
    /// How many files it names that are still being made.
    pub unfinished: usize,
    /// Whether the very file that the lookup names is among them, so that no other page matters.
    pub has_meant: bool,
    /// Where the next page begins; `None` after the last one.
    pub next: Option<String>,
}

/// The API request that answers `lookup`: for the first page, where the answer has several.
///
/// # Errors
/// `denied` when the source lacks the credentials that the call needs (the message says which
/// setting), `invalid` for a lookup that the provider does not have. `now` dates tokens that are made
/// here (100ms).
pub fn lookup_request(
    provider: Provider,
    lookup: &Lookup,
    credentials: &Credentials,
    now: Timestamp,
) -> Result<ApiRequest> {
    lookup_page_request(provider, lookup, None, credentials, now)
}

/// The API request for the page at `cursor`, the [`next`](LookupPage::next) of the page before; `None` for the first.
///
/// # Errors
/// As [`lookup_request`].
pub fn lookup_page_request(
    provider: Provider,
    lookup: &Lookup,
    cursor: Option<&str>,
    credentials: &Credentials,
    now: Timestamp,
) -> Result<ApiRequest> {
    providers::lookup_request(provider, lookup, cursor, credentials, now)
}

/// What a page of the API's answer to `lookup` names.
///
/// # Errors
/// By status (401 and 403 `denied`, 404 `gone`, 429 `throttled`, 5xx `unreachable`), `invalid` for an answer
/// that can't be read, `provider_failed` when it holds an error text where a URL should be.
pub fn lookup_page(
    provider: Provider,
    lookup: &Lookup,
    response: &ApiResponse,
    now: Timestamp,
) -> Result<LookupPage> {
    providers::lookup_page(provider, lookup, response, now)
}

/// What an answer of one page to `lookup` names.
///
/// # Errors
/// As [`lookup_page`], and [`nothing_found`].
pub fn lookup_answer(
    provider: Provider,
    lookup: &Lookup,
    response: &ApiResponse,
    _recording: &Recording,
    now: Timestamp,
) -> Result<Vec<Artifact>> {
    let page = lookup_page(provider, lookup, response, now)?;
    match page.found.is_empty() {
        true => Err(nothing_found(provider)),
        false => Ok(page.found),
    }
}

/// The error of an answer that names no file on any page: `gone`, and transient, since an event can be faster than the
/// list behind it.
pub fn nothing_found(provider: Provider) -> Error {
    providers::nothing_found(provider)
}

/// The error of an answer of which `count` files are still being made: `unreachable`, to be asked again in some minutes.
pub fn unfinished(provider: Provider, count: usize) -> Error {
    providers::unfinished(provider, count)
}

/// Whether `lookup` asks for one file by its own id or path, so that an answer with one file is about it.
pub fn names_one_file(lookup: &Lookup) -> bool {
    providers::names_one_file(lookup)
}

/// Which of the artifacts that a re-mint `found` is the one that a job called `name` is about: the same kind and
/// format, and the same name where several are. Its origin replaces the job's; it can be a
/// [`Lookup`](crate::model::Origin::Lookup) again (100ms lists assets before it signs one), which is then to be asked
/// in turn, once.
pub fn remint_match<'a>(
    found: &'a [Artifact],
    name: &str,
    kind: Kind,
    format: Format,
) -> Option<&'a Artifact> {
    providers::remint_match(found, name, kind, format)
}
