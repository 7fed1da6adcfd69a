//! The public listener: `POST /webhooks/{source}`.
//!
//! 200 says that the event is committed, or that there is nothing in it to commit; it never says less.
//! Everything that can be refused cheaply is refused first: the source, the announced size, the
//! secret, and only then is a body read and parsed. What can't be stored is 503, so that the
//! provider sends it again (several take a 4xx, 429 included, as the end of the matter).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use jiff::Timestamp;
use secrecy::SecretString;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::health::healthz;
use super::rejection::Rejection;
use crate::clock::SharedClock;
use crate::error::{Error, Result};
use crate::ingest::{self, Delivery, signature};
use crate::model::{Event, EventClass, Layout, Provider};
use crate::report::metrics::{Metrics, UNKNOWN_SOURCE};
use crate::store::{JobStore, NewEvent, Recorded};

/// The largest body by default. Inline transcripts of MeetingBaaS come with a time for every word:
/// some 100 bytes each, so this is a meeting of about four hours.
pub const BODY_LIMIT_BYTES: usize = 4 * 1024 * 1024;

/// For a whole body, by default.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// For a commit, by default: below the patience of the providers (MeetingBaaS waits 10 s).
pub const COMMIT_TIMEOUT: Duration = Duration::from_secs(8);

/// All bodies that are in memory at once, in units of [`BODY_UNIT_BYTES`]: 64 MiB.
const BODY_UNITS: usize = 64 * 1024;
const BODY_UNIT_BYTES: usize = 1024;

/// Longer bodies are parsed off the runtime's own threads: megabytes of JSON take tens of milliseconds.
const LONG_BODY_BYTES: usize = 128 * 1024;

/// An endpoint check is a few bytes; only that much is read of a request that carries no valid secret.
const HANDSHAKE_LIMIT_BYTES: usize = 256;

/// An id header that is longer is no id.
const ID_HEADER_LIMIT_BYTES: usize = 256;

/// A configured source, as the listener has to know it.
#[derive(Clone, Debug)]
pub struct WebhookSource {
    /// Whose events come here.
    pub provider: Provider,
    /// Any of these in the header lets a delivery in. None: everyone is let in, which only a loopback
    /// listener may offer (see [`WebhookSource::check`]).
    pub secrets: Vec<SecretString>,
    /// The header that carries the secret, when not the provider's own.
    pub header: Option<String>,
}

impl WebhookSource {
    /// Whether deliveries to this source can be told from forged ones on such a listener.
    ///
    /// # Errors
    /// `invalid`, naming the setting, without secrets on an address that others can reach, and for secrets
    /// without a header where the provider has none of its own.
    pub fn check(&self, name: &str, is_loopback: bool) -> Result<()> {
        if self.secrets.is_empty() && !is_loopback {
            return Err(Error::invalid(format!(
                "listen on a public address: set sources.{name}.secrets, or anyone can post events to it"
            )));
        }
        if !self.secrets.is_empty() && self.headers().is_empty() {
            return Err(Error::invalid(format!(
                "check deliveries of {}: set sources.{name}.header to the header that carries the secret",
                self.provider
            )));
        }
        Ok(())
    }

    fn headers(&self) -> Vec<&str> {
        match (&self.header, self.provider) {
            (Some(header), _) => vec![header],
            (None, Provider::MeetingBaas) => vec!["x-meeting-baas-api-key", "x-mb-secret"],
            (None, _) => Vec::new(),
        }
    }

    fn is_authentic(&self, headers: &HeaderMap) -> bool {
        self.secrets.is_empty()
            || self
                .headers()
                .into_iter()
                .filter_map(|name| headers.get(name))
                .any(|value| signature::is_shared_secret(value.as_bytes(), &self.secrets))
    }

    /// Daily checks a new endpoint before anyone can know its secret, and gives up the endpoint
    /// unless it gets its 200.
    fn has_unsigned_handshake(&self) -> bool {
        self.provider == Provider::Daily
    }
}

/// Everything that taking in events needs.
pub struct Intake {
    /// Where events are committed.
    pub store: Arc<dyn JobStore>,
    /// How folders are named.
    pub layout: Layout,
    /// By the name in the URL.
    pub sources: HashMap<String, WebhookSource>,
    /// What time it is.
    pub clock: SharedClock,
    /// Rung when new jobs were recorded.
    pub bell: Arc<Notify>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The largest body; see [`BODY_LIMIT_BYTES`].
    pub body_limit_bytes: usize,
    /// For a whole body; see [`BODY_TIMEOUT`].
    pub body_timeout: Duration,
    /// For a commit; see [`COMMIT_TIMEOUT`].
    pub commit_timeout: Duration,
}

#[derive(Clone)]
struct Shared {
    intake: Arc<Intake>,
    bodies: Arc<Semaphore>,
}

/// The routes of the public listener.
pub fn router(intake: Arc<Intake>) -> Router {
    let shared = Shared {
        intake,
        bodies: Arc::new(Semaphore::new(BODY_UNITS)),
    };
    Router::new()
        // MeetingBaaS's callbacks may be configured as PUT.
        .route("/webhooks/{source}", post(receive).put(receive))
        .with_state(shared)
        .route("/healthz", get(healthz))
}

async fn receive(
    State(shared): State<Shared>,
    name: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    let began = Instant::now();
    let metrics = &shared.intake.metrics;
    let known = name
        .ok()
        .and_then(|Path(name)| shared.intake.sources.get_key_value(&name));
    let answer = match known {
        None => Err(Rejection::UnknownSource),
        Some((name, source)) => take(&shared, name, source, request).await,
    };
    metrics.webhook_answered(began.elapsed());
    let name = known.map_or(UNKNOWN_SOURCE, |(name, _)| name);
    match answer {
        Ok(class) => {
            metrics.event_received(name, class);
            StatusCode::OK.into_response()
        }
        Err(rejection) => {
            metrics.webhook_rejected(name, rejection.reason());
            rejection.log(name);
            rejection.into_response()
        }
    }
}

async fn take(
    shared: &Shared,
    name: &str,
    source: &WebhookSource,
    request: Request,
) -> Result<EventClass, Rejection> {
    let intake = &shared.intake;
    let (head, body) = request.into_parts();
    check_announced_size(&head.headers, intake.body_limit_bytes)?;
    let is_authentic = source.is_authentic(&head.headers);
    let limit_bytes = match (is_authentic, source.has_unsigned_handshake()) {
        (true, _) => intake.body_limit_bytes,
        (false, true) => HANDSHAKE_LIMIT_BYTES,
        (false, false) => return Err(Rejection::Unauthorized),
    };
    let read = read_body(body, limit_bytes, &shared.bodies);
    let (raw, _memory) = match tokio::time::timeout(intake.body_timeout, read).await {
        Ok(read) => read,
        Err(_) => Err(Rejection::TooSlow),
    }
    .map_err(|rejection| rejection.unless_unauthorized(is_authentic))?;
    let id_header = id_header(source.provider, &head.headers);
    let received_at = intake.clock.now();
    let event = understand(source.provider, raw.clone(), id_header, received_at)
        .await
        .map_err(|rejection| rejection.unless_unauthorized(is_authentic))?;
    if event.class == EventClass::Handshake {
        tracing::info!(source = name, "answered an endpoint check");
        return Ok(event.class);
    }
    if !is_authentic {
        return Err(Rejection::Unauthorized);
    }
    commit(intake, name, event, raw, received_at).await
}

/// Refuses a body that says itself that it is too large, before a byte of it is read.
fn check_announced_size(headers: &HeaderMap, limit_bytes: usize) -> Result<(), Rejection> {
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<u64>().ok());
    match announced {
        Some(length) if length > limit_bytes as u64 => Err(Rejection::TooLarge),
        _ => Ok(()),
    }
}

/// Reads a body of at most `limit_bytes`. Its memory is counted in `bodies` until the permit is dropped.
async fn read_body(
    body: Body,
    limit_bytes: usize,
    bodies: &Arc<Semaphore>,
) -> Result<(Bytes, OwnedSemaphorePermit), Rejection> {
    let mut body = body;
    let mut raw = BytesMut::new();
    let mut memory = reserve(bodies, 1)?;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Rejection::Cut)?.into_data() else {
            continue;
        };
        let length_bytes = raw.len() + data.len();
        if length_bytes > limit_bytes {
            return Err(Rejection::TooLarge);
        }
        let units = length_bytes.div_ceil(BODY_UNIT_BYTES);
        if units > memory.num_permits() {
            memory.merge(reserve(bodies, units - memory.num_permits())?);
        }
        raw.extend_from_slice(&data);
    }
    Ok((raw.freeze(), memory))
}

/// Sheds load instead of waiting: a body that waits for memory would keep its sender waiting too.
fn reserve(bodies: &Arc<Semaphore>, units: usize) -> Result<OwnedSemaphorePermit, Rejection> {
    let units = u32::try_from(units).map_err(|_| Rejection::TooLarge)?;
    Arc::clone(bodies)
        .try_acquire_many_owned(units)
        .map_err(|_| Rejection::Overloaded)
}

fn id_header(provider: Provider, headers: &HeaderMap) -> Option<String> {
    ingest::id_headers(provider)
        .iter()
        .filter_map(|name| headers.get(*name)?.to_str().ok())
        .find(|id| !id.is_empty() && id.len() <= ID_HEADER_LIMIT_BYTES)
        .map(str::to_owned)
}

async fn understand(
    provider: Provider,
    raw: Bytes,
    id_header: Option<String>,
    received_at: Timestamp,
) -> Result<Event, Rejection> {
    let is_long = raw.len() > LONG_BODY_BYTES;
    let parse = move || {
        let delivery = Delivery {
            body: &raw,
            id_header: id_header.as_deref(),
            received_at,
        };
        ingest::parse(provider, &delivery).map_err(Rejection::Unparseable)
    };
    if !is_long {
        return parse();
    }
    match tokio::task::spawn_blocking(parse).await {
        Ok(event) => event,
        Err(error) => Err(Rejection::NotStored(
            Error::internal("read a long event").with_source(error),
        )),
    }
}

async fn commit(
    intake: &Intake,
    name: &str,
    event: Event,
    raw: Bytes,
    received_at: Timestamp,
) -> Result<EventClass, Rejection> {
    let class = event.class;
    let event_type = event.event_type.clone();
    let alert = event.alert.clone();
    let new = NewEvent::new(name, event, raw, &intake.layout, received_at);
    let recorded = tokio::time::timeout(intake.commit_timeout, intake.store.record(new))
        .await
        .unwrap_or_else(|_| {
            let limit = intake.commit_timeout;
            Err(Error::internal(format!("commit within {limit:?}")))
        })
        .map_err(Rejection::NotStored)?;
    if !recorded.is_duplicate && !recorded.jobs.is_empty() {
        intake.bell.notify_one();
    }
    log_event(
        name,
        class,
        event_type.as_deref(),
        alert.as_deref(),
        &recorded,
    );
    Ok(class)
}

/// One line for each event. Types and alerts came from outside: `?` escapes what a terminal would obey.
fn log_event(
    name: &str,
    class: EventClass,
    event_type: Option<&str>,
    alert: Option<&str>,
    recorded: &Recorded,
) {
    let class = class.as_str();
    let event = recorded.event_id;
    let jobs = recorded.jobs.len();
    match alert {
        Some(alert) if !recorded.is_duplicate => {
            tracing::warn!(source = name, class, event_type, %event, alert, "kept an event that can't be read");
        }
        _ => {
            tracing::info!(source = name, class, event_type, %event, jobs, duplicate = recorded.is_duplicate, "event recorded");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(provider: Provider, secrets: &[&str], header: Option<&str>) -> WebhookSource {
        WebhookSource {
            provider,
            secrets: secrets.iter().map(|secret| (*secret).into()).collect(),
            header: header.map(str::to_owned),
        }
    }

    #[test]
    fn a_source_that_could_not_tell_forged_events_is_refused() {
        let open = source(Provider::Hms, &[], None);
        assert!(open.check("x", true).is_ok());
        let error = open.check("x", false).unwrap_err();
        assert!(error.to_string().contains("sources.x.secrets"), "{error}");
        let mute = source(Provider::Hms, &["s"], None);
        let error = mute.check("x", true).unwrap_err();
        assert!(error.to_string().contains("sources.x.header"), "{error}");
        assert!(
            source(Provider::Hms, &["s"], Some("x-key"))
                .check("x", false)
                .is_ok()
        );
        assert!(
            source(Provider::MeetingBaas, &["s"], None)
                .check("x", false)
                .is_ok()
        );
    }

    #[test]
    fn the_secret_counts_only_in_its_header() {
        let headers = |name: &'static str, value: &'static str| {
            HeaderMap::from_iter([(
                axum::http::HeaderName::from_static(name),
                axum::http::HeaderValue::from_static(value),
            )])
        };
        let baas = source(Provider::MeetingBaas, &["old", "new"], None);
        let own = source(Provider::MeetingBaas, &["old"], Some("X-Own"));
        for (source, headers, expected) in [
            (&baas, headers("x-meeting-baas-api-key", "old"), true),
            (&baas, headers("x-meeting-baas-api-key", "new"), true),
            (&baas, headers("x-mb-secret", "new"), true),
            (&baas, headers("x-mb-secret", "newer"), false),
            (&baas, headers("authorization", "new"), false),
            (&baas, HeaderMap::new(), false),
            (&own, headers("x-own", "old"), true),
            (&own, headers("x-mb-secret", "old"), false),
        ] {
            assert_eq!(source.is_authentic(&headers), expected, "{headers:?}");
        }
    }

    #[test]
    fn memory_for_bodies_runs_out_instead_of_growing() {
        let bodies = Arc::new(Semaphore::new(4));
        let first = reserve(&bodies, 3).unwrap();
        assert!(matches!(reserve(&bodies, 2), Err(Rejection::Overloaded)));
        drop(first);
        assert!(reserve(&bodies, 4).is_ok());
    }
}
