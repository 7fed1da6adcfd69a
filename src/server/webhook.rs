//! The public listener: `POST /webhooks/{source}`.
//!
//! 200 says that the event is committed, or that there is nothing in it to commit; it never says less.
//! Everything that can be refused cheaply is refused first: the source, the announced size, the
//! secret, and only then is a body read; it is weighed before it is parsed. What can't be stored is 503, so that the
//! provider sends it again (several take a 4xx, 429 included, as the end of the matter).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Version, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use ipnet::IpNet;
use jiff::Timestamp;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use super::body::{BodyLimits, BodyMemory, BodyPool, check_announced_size, read_body};
use super::connections::network_of;
use super::health::healthz;
use super::listen::Peer;
use super::rejection::{RefusedWebhook, Rejection};
pub use super::source::{WebhookSource, usual_body_limit_bytes};
use super::streak;
use super::told::{Seldom, shown_path};
use crate::clock::SharedClock;
use crate::error::{Error, Result};
use crate::ingest::signature::{Presented, SenderRefusal};
use crate::ingest::{Adapter, Delivery, Reply, misdirected};
use crate::model;
use crate::model::json_weight::JSON_TREE_MAX_BYTES;
use crate::model::{Event, EventClass, JsonWeight, Layout};
use crate::report::metrics::{Metrics, UNKNOWN_SOURCE};
use crate::store::{EventIntake, NewEvent, Recorded};

/// For a body, by default; a longer one has as much more as it takes at the slowest rate that is borne.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// For a commit, by default: below the patience of the providers (MeetingBaaS waits 10 s).
pub const COMMIT_TIMEOUT: Duration = Duration::from_secs(8);

/// Events whose trees are larger are parsed off the runtime's own threads, and only as many at once as
/// [`JSON_TREE_MAX_BYTES`] holds: thousands of values take milliseconds.
const LARGE_TREE_BYTES: usize = 1 << 20;

/// For room to parse a large event.
const PARSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Trees of large events are counted in units of so many bytes.
const TREE_UNIT_BYTES: usize = 1024;

/// An endpoint check is a few bytes; only that much is read of a request that carries no valid secret.
const HANDSHAKE_LIMIT_BYTES: usize = 256;

/// An id header that is longer is no id.
const ID_HEADER_LIMIT_BYTES: usize = 256;

/// Everything that taking in events needs.
pub struct Intake {
    /// Where events are committed.
    pub store: Arc<dyn EventIntake>,
    /// How folders are named.
    pub layout: Layout,
    /// By the name in the URL.
    pub sources: HashMap<String, WebhookSource>,
    /// Proxies before the listener: their addresses tell no sender from another.
    pub trusted_proxies: Vec<IpNet>,
    /// What time it is.
    pub clock: SharedClock,
    /// Rung when new jobs were recorded.
    pub bell: Arc<Notify>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// For a body; see [`BODY_TIMEOUT`].
    pub body_timeout: Duration,
    /// For a commit; see [`COMMIT_TIMEOUT`].
    pub commit_timeout: Duration,
}

#[derive(Clone)]
struct WebhookState {
    intake: Arc<Intake>,
    bodies: Arc<BodyPool>,
    trees: Arc<Semaphore>,
    told: Arc<Seldom>,
}

/// The routes of the public listener.
pub fn router(intake: Arc<Intake>) -> Router {
    let largest = intake
        .sources
        .values()
        .map(|source| source.body_limit_bytes);
    let limits = BodyLimits::default().at_least(largest.max().unwrap_or(0));
    let shared = WebhookState {
        intake,
        bodies: BodyPool::new(limits),
        trees: Arc::new(Semaphore::new(JSON_TREE_MAX_BYTES / TREE_UNIT_BYTES)),
        told: Arc::default(),
    };
    // MeetingBaaS's callbacks may be configured as PUT.
    let webhook = post(receive).put(receive);
    Router::new()
        .route("/webhooks/{source}", webhook.clone())
        .route("/webhooks/{source}/", webhook)
        .route("/healthz", get(healthz))
        .fallback(nowhere)
        .with_state(shared)
}

async fn receive(
    State(shared): State<WebhookState>,
    name: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    let began = Instant::now();
    let metrics = &shared.intake.metrics;
    let known = name
        .ok()
        .and_then(|Path(name)| shared.intake.sources.get_key_value(&name));
    let Some((name, source)) = known else {
        return tell_stray(&shared, &request, Rejection::UnknownSource);
    };
    let peer = peer(&request);
    let answer = take(&shared, name, source, request).await;
    metrics.webhook_answered(began.elapsed());
    match answer {
        Ok(taken) => {
            metrics.event_received(name, taken.class);
            taken.into_response()
        }
        Err(rejection) => {
            metrics.webhook_rejected(name, rejection.reason());
            rejection.log(&RefusedWebhook {
                source: name,
                peer,
                expected: source.check.expected(),
                told: &source.told,
            });
            // A provider that counts failures counts all of them, whatever the status.
            let provider = source.adapter.provider();
            streak::refused(&source.streak, name, provider, &rejection, metrics);
            rejection.into_response()
        }
    }
}

/// Everything that is no page of this listener. A webhook that goes there has the wrong address.
async fn nowhere(State(shared): State<WebhookState>, request: Request) -> Response {
    if matches!(*request.method(), Method::POST | Method::PUT) {
        return tell_stray(&shared, &request, Rejection::UnknownPath);
    }
    Rejection::UnknownPath.into_response()
}

/// Tells of a webhook for which there is no source.
fn tell_stray(shared: &WebhookState, request: &Request, rejection: Rejection) -> Response {
    let reason = rejection.reason();
    shared
        .intake
        .metrics
        .webhook_rejected(UNKNOWN_SOURCE, reason);
    if let Some(more) = shared.told.turn(reason, Instant::now()) {
        let path = shown_path(request.uri().path());
        let peer = peer(request).map(tracing::field::display);
        let mut known: Vec<_> = shared.intake.sources.keys().map(String::as_str).collect();
        known.sort_unstable();
        let (known, advice) = (known.join(", "), rejection.advice());
        // The path came from outside: `?` escapes what a terminal would obey.
        tracing::warn!(
            reason,
            path = ?path,
            peer,
            known,
            more,
            advice,
            "a webhook came to an address that is none of ours: they are /webhooks/ and a source's name"
        );
    }
    rejection.into_response()
}

fn peer(request: &Request) -> Option<SocketAddr> {
    request.extensions().get::<Peer>().map(|peer| peer.0)
}

/// A delivery that was accepted, and what it is answered with.
struct AcceptedDelivery {
    class: EventClass,
    reply: Option<Reply>,
}

impl IntoResponse for AcceptedDelivery {
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
    shared: &WebhookState,
    name: &str,
    source: &WebhookSource,
    request: Request,
) -> Result<AcceptedDelivery, Rejection> {
    let intake = &shared.intake;
    let peer = peer(&request).map(|peer| peer.ip());
    let (head, body) = request.into_parts();
    check_announced_size(&head.headers, source.body_limit_bytes)?;
    // A proxy that adds nothing is known by what it speaks: nginx's own default, and nobody else's today.
    if source.check.is_local() && head.version == Version::HTTP_10 {
        return Err(Rejection::Unauthorized(SenderRefusal::Proxied));
    }
    let received_at = intake.clock.now();
    let headers: Vec<_> = plain(&head.headers).collect();
    let claim = source.check.begin(&Presented {
        headers: &headers,
        peer,
        now: received_at,
    });
    let (limit_bytes, is_proven) = match &claim {
        Ok(claim) => (source.body_limit_bytes, claim.is_proven()),
        Err(_) if source.has_unsigned_handshake() => (HANDSHAKE_LIMIT_BYTES, false),
        Err(refusal) => return Err(Rejection::Unauthorized(*refusal)),
    };
    let sender = peer.and_then(|peer| intake.sender(peer));
    let memory = shared
        .bodies
        .begin(sender, name, is_proven, Instant::now())?;
    let read = read_body(body, limit_bytes, intake.body_timeout, &memory).await;
    // Every failed check looks the same from outside: without a proof there is no other answer.
    let (raw, proof) = match (read, &claim) {
        (Ok(raw), Ok(claim)) => {
            let proof = source.prove(claim, &raw, received_at).await;
            (raw, proof)
        }
        (Ok(raw), Err(refusal)) => (raw, Err(Rejection::Unauthorized(*refusal))),
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
    if unproven.is_none() && !source.check.is_open() {
        memory.prove();
    }
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
        understand(shared, source, raw.clone(), id_header, received_at).await,
        unproven,
    ) {
        (Ok(event), None) => event,
        (Ok(event), Some(_)) if event.class == EventClass::Handshake => event,
        (_, Some(rejection)) => return Err(rejection),
        (Err(rejection), None) => return Err(rejection),
    };
    if event.class == EventClass::Handshake {
        tracing::info!(source = name, "answered an endpoint check");
        return Ok(AcceptedDelivery {
            class: event.class,
            reply: source.adapter.reply(&raw, secret),
        });
    }
    let event = with_advice(intake, name, &source.adapter, event, &raw);
    source.heed(name, &event);
    let class = commit(intake, name, event, (raw, memory), received_at).await?;
    streak::accepted(&source.streak, name, &intake.metrics);
    Ok(AcceptedDelivery { class, reply: None })
}

impl Intake {
    /// Whose share of the memory a delivery from `peer` takes; `None` where everybody's come from there.
    fn sender(&self, peer: IpAddr) -> Option<IpAddr> {
        network_of(peer, &self.trusted_proxies)
    }
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

/// Weighs the body, then parses it. What is large waits for its room, and for a thread of its own.
async fn understand(
    shared: &WebhookState,
    source: &WebhookSource,
    raw: Bytes,
    id_header: Option<String>,
    received_at: Timestamp,
) -> Result<Event, Rejection> {
    let weight = JsonWeight::of(&raw);
    weight
        .check(source.tree_max_bytes())
        .map_err(|error| Rejection::of_weight(weight, error))?;
    let source = source.clone();
    let parse = move || {
        source.check_account(&raw)?;
        let delivery = Delivery {
            body: &raw,
            id_header: id_header.as_deref(),
            received_at,
        };
        source
            .adapter
            .parse(&delivery)
            .map_err(Rejection::Unparseable)
    };
    if weight.tree_bytes <= LARGE_TREE_BYTES {
        return parse();
    }
    let units = weight.tree_bytes.div_ceil(TREE_UNIT_BYTES);
    let units = u32::try_from(units).map_err(|_| Rejection::Overloaded)?;
    let room = Arc::clone(&shared.trees).acquire_many_owned(units);
    let Ok(Ok(room)) = tokio::time::timeout(PARSE_TIMEOUT, room).await else {
        return Err(Rejection::Overloaded);
    };
    let parsed = tokio::task::spawn_blocking(move || {
        let _room = room;
        parse()
    });
    match parsed.await {
        Ok(event) => event,
        Err(error) => Err(Rejection::NotStored(
            Error::internal("read a long event").with_source(error),
        )),
    }
}

/// An event that the source can't make out, with a word about where it belongs, if that shows.
fn with_advice(
    intake: &Intake,
    name: &str,
    adapter: &Adapter,
    mut event: Event,
    raw: &Bytes,
) -> Event {
    if event.class == EventClass::Unknown {
        let delivery = Delivery {
            body: raw,
            id_header: None,
            received_at: intake.clock.now(),
        };
        let sources = intake.sources.iter();
        let sources = sources.map(|(name, source)| (name.as_str(), &source.adapter));
        if let Some(advice) = misdirected::advice(&delivery, adapter, sources) {
            intake.metrics.event_misdirected(name);
            event.alert = Some(advice);
        }
    }
    event
}

async fn commit(
    intake: &Intake,
    name: &str,
    event: Event,
    (raw, memory): (Bytes, BodyMemory),
    received_at: Timestamp,
) -> Result<EventClass, Rejection> {
    let class = event.class;
    let event_type = event.event_type.clone();
    let alert = event.alert.clone();
    let new = NewEvent::new(name, event, raw, &intake.layout, received_at);
    // Whoever waits for the answer may give up sooner than the store does.
    memory.hold(new.size_bytes(), Instant::now())?;
    let new = new.holding(memory);
    let recorded = tokio::time::timeout(intake.commit_timeout, intake.store.record(new))
        .await
        .unwrap_or_else(|_| {
            let limit = intake.commit_timeout;
            Err(Error::internal(format!("commit within {limit:?}")))
        })
        .map_err(Rejection::NotStored)?;
    if recorded.has_work() {
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
    let is_loss = matches!(class, EventClass::Failure | EventClass::ArtifactsAndFailure);
    // Those whose URL can't be used.
    let made = recorded.made.iter();
    let lost = made
        .filter(|record| record.state == model::State::Failed)
        .count();
    let class = class.as_str();
    let event = recorded.event_id;
    let jobs = recorded.jobs.len();
    match alert {
        Some(alert) if !recorded.is_duplicate => {
            tracing::warn!(source = name, class, event_type, %event, alert, "kept an event that can't be read");
        }
        _ if (is_loss || lost > 0) && !recorded.is_duplicate => {
            tracing::warn!(source = name, class, event_type, %event, jobs, lost, "event recorded: something is lost already, `harvester failures` says what and why");
        }
        _ => {
            tracing::info!(source = name, class, event_type, %event, jobs, duplicate = recorded.is_duplicate, renewed = recorded.renewed.len(), "event recorded");
        }
    }
}
