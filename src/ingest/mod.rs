//! Webhook bytes become a recording with artifacts; provider API calls are written and read here.
//!
//! Pure: no clock, no I/O. Readers are tolerant (doubled keys, numbers as strings, missing and null
//! fields), and what a field can't be used for is that artifact's failure, not the event's.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use secrecy::SecretString;

use crate::error::Result;
use crate::model::api::{ApiRequest, ApiResponse, Credentials};
use crate::model::{Artifact, Event, Format, Kind, Lookup, Provider, Recording};
use crate::signed_url::redact_body;

pub mod adhoc;
pub mod hooks;
pub mod inspect;
pub mod list;
pub mod providers;
pub mod signature;

pub use providers::custom::{Definition, Reply};

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
    Custom(Arc<Definition>),
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

/// Whose event this is, by its shape; Dyte before RealtimeKit, whose shapes are the same.
/// `None` when it looks like nobody's, or is no JSON object.
pub fn recognise(body: &[u8]) -> Option<Provider> {
    providers::recognise(body)
}

/// The API request that answers `lookup`.
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
    providers::lookup_request(provider, lookup, credentials, now)
}

/// The request for what comes after `response`, where the answer to `lookup` has pages (100ms); its response is to be
/// joined to the one before by [`lookup_joined`].
///
/// # Errors
/// As [`lookup_request`] and [`lookup_answer`].
pub fn lookup_next(
    provider: Provider,
    lookup: &Lookup,
    response: &ApiResponse,
    credentials: &Credentials,
    now: Timestamp,
) -> Result<Option<ApiRequest>> {
    providers::lookup_next(provider, lookup, response, credentials, now)
}

/// One response for two pages.
pub fn lookup_joined(provider: Provider, first: &ApiResponse, next: ApiResponse) -> ApiResponse {
    providers::lookup_joined(provider, first, next)
}

/// What the API's answer to `lookup` names.
///
/// # Errors
/// By status (401 and 403 `denied`, 404 `gone`, 429 `throttled`, 5xx `unreachable`), `invalid` for an answer
/// that can't be read, `provider_failed` when it holds an error text where a URL should be.
pub fn lookup_answer(
    provider: Provider,
    lookup: &Lookup,
    response: &ApiResponse,
    recording: &Recording,
    now: Timestamp,
) -> Result<Vec<Artifact>> {
    providers::lookup_answer(provider, lookup, response, recording, now)
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
