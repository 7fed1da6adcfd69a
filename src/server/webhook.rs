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
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use super::body::{BODY_UNITS, check_announced_size, read_body};
use super::health::healthz;
use super::keys::{KeyRing, Renewal};
use super::listen::Peer;
use super::rate::{DEFAULT_EVENT_RATE, EventRate};
use super::rejection::Rejection;
use super::streak::{self, Streak};
use crate::clock::SharedClock;
use crate::error::{Error, Result};
use crate::ingest::signature::{Check, Claim, Presented, Proof, Refusal};
use crate::ingest::{Adapter, Delivery, Reply};
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

/// Longer bodies are parsed off the runtime's own threads: megabytes of JSON take tens of milliseconds.
const LONG_BODY_BYTES: usize = 128 * 1024;

/// An endpoint check is a few bytes; only that much is read of a request that carries no valid secret.
const HANDSHAKE_LIMIT_BYTES: usize = 256;

/// An id header that is longer is no id.
const ID_HEADER_LIMIT_BYTES: usize = 256;

/// A configured source, as the listener has to know it.
#[derive(Clone, Debug)]
pub struct WebhookSource {
    adapter: Adapter,
    check: Check,
    keys: Option<Arc<KeyRing>>,
    streak: Arc<Streak>,
    rate: Arc<EventRate>,
}

impl WebhookSource {
    /// A source whose deliveries `check` has to let in and `adapter` reads.
    pub fn new(adapter: Adapter, check: Check) -> WebhookSource {
        WebhookSource {
            adapter,
            check,
            keys: None,
            streak: Arc::default(),
            rate: Arc::new(EventRate::new(DEFAULT_EVENT_RATE)),
        }
    }

    /// Takes in so many deliveries of a second on average, and a minute's worth at once.
    #[must_use]
    pub fn with_event_rate(mut self, per_second: u32) -> WebhookSource {
        self.rate = Arc::new(EventRate::new(per_second));
        self
    }

    /// With `keys` to check signatures with, where the check asks for fetched ones
    /// ([`Check::key_url`]).
    #[must_use]
    pub fn with_keys(mut self, keys: Arc<KeyRing>) -> WebhookSource {
        self.keys = Some(keys);
        self
    }

    /// Daily checks a new endpoint before anyone can know its secret, and gives up the endpoint
    /// unless it gets its 200.
    fn has_unsigned_handshake(&self) -> bool {
        self.adapter.provider() == Provider::Daily
    }

    /// Whether the body proves what the headers claim. A wrong signature may be one of a key that the
    /// provider has just changed, so the key is fetched anew first, now and then.
    async fn prove<'a>(
        &'a self,
        claim: &Claim<'a>,
        body: &[u8],
        now: Timestamp,
    ) -> Result<Proof<'a>, Rejection> {
        let Some(ring) = &self.keys else {
            return claim.finish(body, &[]).map_err(Rejection::Unauthorized);
        };
        let keys = ring.current(now).await.ok_or(Rejection::NoKey)?;
        match claim.finish(body, &keys) {
            Err(Refusal::Wrong) => {}
            decided => return decided.map_err(Rejection::Unauthorized),
        }
        match ring.renewed(&keys, now).await {
            Renewal::Fresh(keys) => claim.finish(body, &keys).map_err(Rejection::Unauthorized),
            Renewal::Same => Err(Rejection::Unauthorized(Refusal::Wrong)),
            // It may be signed with a key that we can't see: a 401 would be the end of it at some providers.
            Renewal::Failed => Err(Rejection::NoKey),
        }
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
        Ok(taken) => {
            metrics.event_received(name, taken.class);
            taken.into_response()
        }
        Err(rejection) => {
            metrics.webhook_rejected(name, rejection.reason());
            rejection.log(name);
            // A provider that counts failures counts all of them, whatever the status.
            if let Some((_, source)) = known {
                let provider = source.adapter.provider();
                streak::refused(&source.streak, name, provider, &rejection, metrics);
            }
            rejection.into_response()
        }
    }
}

/// A delivery that was accepted, and what it is answered with.
struct Taken {
    class: EventClass,
    reply: Option<Reply>,
}

impl IntoResponse for Taken {
    fn into_response(self) -> Response {
        match self.reply {
            None => StatusCode::OK.into_response(),
            Some(reply) => {
                ([(header::CONTENT_TYPE, reply.content_type)], reply.body).into_response()
            }
        }
    }
}

async fn take(
    shared: &Shared,
    name: &str,
    source: &WebhookSource,
    request: Request,
) -> Result<Taken, Rejection> {
    let intake = &shared.intake;
    let (head, body) = request.into_parts();
    check_announced_size(&head.headers, intake.body_limit_bytes)?;
    let received_at = intake.clock.now();
    let headers: Vec<_> = plain(&head.headers).collect();
    let claim = source.check.begin(&Presented {
        headers: &headers,
        peer: head.extensions.get::<Peer>().map(|peer| peer.0.ip()),
        now: received_at,
    });
    let limit_bytes = match &claim {
        Ok(_) => intake.body_limit_bytes,
        Err(_) if source.has_unsigned_handshake() => HANDSHAKE_LIMIT_BYTES,
        Err(refusal) => return Err(Rejection::Unauthorized(*refusal)),
    };
    let read = read_body(body, limit_bytes, &shared.bodies);
    let read = match tokio::time::timeout(intake.body_timeout, read).await {
        Ok(read) => read,
        Err(_) => Err(Rejection::TooSlow),
    };
    // Every failed check looks the same from outside: without a proof there is no other answer.
    let ((raw, _memory), proof) = match (read, &claim) {
        (Ok(read), Ok(claim)) => {
            let proof = source.prove(claim, &read.0, received_at).await;
            (read, proof)
        }
        (Ok(read), Err(refusal)) => (read, Err(Rejection::Unauthorized(*refusal))),
        (Err(rejection), Ok(_)) => return Err(rejection),
        (Err(_), Err(refusal)) => return Err(Rejection::Unauthorized(*refusal)),
    };
    let secret = proof.as_ref().ok().and_then(|proof| proof.secret);
    let signed_id = proof.as_ref().ok().and_then(|proof| proof.id);
    let unproven = match proof {
        Ok(_) => None,
        Err(rejection) if raw.len() <= HANDSHAKE_LIMIT_BYTES && source.has_unsigned_handshake() => {
            Some(rejection)
        }
        Err(rejection) => return Err(rejection),
    };
    // Only what proves its sender counts: nobody else can use up what the provider may send.
    if unproven.is_none() && !source.rate.take(Instant::now()) {
        return Err(Rejection::TooMany);
    }
    // An id that nobody has signed can be changed by whoever sends a delivery again.
    let id_header = match signed_id {
        Some(id) => Some(id.to_owned()),
        None => id_header(&source.adapter, &head.headers),
    };
    let event = match (
        understand(&source.adapter, raw.clone(), id_header, received_at).await,
        unproven,
    ) {
        (Ok(event), None) => event,
        (Ok(event), Some(_)) if event.class == EventClass::Handshake => event,
        (_, Some(rejection)) => return Err(rejection),
        (Err(rejection), None) => return Err(rejection),
    };
    if event.class == EventClass::Handshake {
        tracing::info!(source = name, "answered an endpoint check");
        return Ok(Taken {
            class: event.class,
            reply: source.adapter.reply(&raw, secret),
        });
    }
    let class = commit(intake, name, event, raw, received_at).await?;
    streak::accepted(&source.streak, name, &intake.metrics);
    Ok(Taken { class, reply: None })
}

fn plain(headers: &HeaderMap) -> impl Iterator<Item = (&str, &[u8])> {
    headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
}

fn id_header(adapter: &Adapter, headers: &HeaderMap) -> Option<String> {
    adapter
        .id_headers()
        .into_iter()
        .filter_map(|name| headers.get(name)?.to_str().ok())
        .find(|id| !id.is_empty() && id.len() <= ID_HEADER_LIMIT_BYTES)
        .map(str::to_owned)
}

async fn understand(
    adapter: &Adapter,
    raw: Bytes,
    id_header: Option<String>,
    received_at: Timestamp,
) -> Result<Event, Rejection> {
    let is_long = raw.len() > LONG_BODY_BYTES;
    let adapter = adapter.clone();
    let parse = move || {
        let delivery = Delivery {
            body: &raw,
            id_header: id_header.as_deref(),
            received_at,
        };
        adapter.parse(&delivery).map_err(Rejection::Unparseable)
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
