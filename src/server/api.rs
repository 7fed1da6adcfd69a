//! The operator's API, `/api/v1/*`: what is there, what went wrong, retry, cancel, live progress.
//!
//! Answers are JSON; a refusal is `{"error":{"class","message"}}`. Nothing changes by GET.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::admin_state::Admin;
use super::live;
use super::refusal::{HttpRefusal, read_json, within_time};
use crate::error::Class;
use crate::model::manifest::{OverdueManifest, ProviderFailureRecord, RecordingRecord};
use crate::model::{Provider, Record, RecordingId, State as JobState};
use crate::store::{EventRecord, Filter, ProviderLoss, Selection};

/// The header that every request to `/api/*` carries, with any value. A page of another origin can't send
/// it without a preflight, which is never answered.
pub const API_HEADER: &str = "x-harvester";

/// Rows of an answer, when the request does not say.
const PAGE_DEFAULT: usize = 1000;

/// Rows of an answer at most.
const PAGE_MAX: usize = 10_000;

pub(super) fn router(admin: &Arc<Admin>) -> Router<Arc<Admin>> {
    Router::new()
        .route("/events", get(events))
        .route("/recordings/{id}", get(recording))
        .route("/artifacts", get(artifacts))
        .route("/failures", get(failures))
        .route("/retry", post(retry))
        .route("/cancel", post(cancel))
        .merge(live::router(admin))
        .fallback(async || HttpRefusal::not_found("no such page"))
        .layer(from_fn(require_api_header))
}

/// Refuses requests to the API that a foreign page could have sent.
async fn require_api_header(request: Request, next: Next) -> Result<Response, HttpRefusal> {
    if request.headers().contains_key(API_HEADER) {
        return Ok(next.run(request).await);
    }
    Err(HttpRefusal::new(
        StatusCode::FORBIDDEN,
        Class::Refused,
        "the header `X-Harvester: 1` is needed",
    ))
}

/// Which rows are wanted.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Wanted {
    /// States, separated by commas.
    state: Option<String>,
    provider: Option<String>,
    /// Of events: only `unknown` can be asked for.
    class: Option<String>,
    /// RFC 3339.
    since: Option<String>,
    limit: Option<usize>,
    /// The id of the last row of the page before.
    after: Option<Uuid>,
}

impl Wanted {
    fn filter(&self) -> Result<Filter, HttpRefusal> {
        let states = self.state.iter().flat_map(|states| states.split(','));
        let states = states
            .map(|name| {
                JobState::parse(name).ok_or_else(|| {
                    let known = JobState::ALL.map(JobState::as_str).join(", ");
                    HttpRefusal::invalid(format!("unknown state, expected some of {known}"))
                })
            })
            .collect::<Result<_, _>>()?;
        let provider = self
            .provider
            .as_deref()
            .map(|name| {
                Provider::parse(name)
                    .ok_or_else(|| HttpRefusal::invalid("unknown provider".to_owned()))
            })
            .transpose()?;
        Ok(Filter {
            states,
            provider,
            since: self.since()?,
            after: self.after,
            // One more than the page tells whether there is another.
            limit: u32::try_from(self.limit() + 1).ok(),
            ids: Vec::new(),
        })
    }

    fn since(&self) -> Result<Option<Timestamp>, HttpRefusal> {
        self.since
            .as_deref()
            .map(|text| {
                text.parse().map_err(|_| {
                    HttpRefusal::invalid(
                        "since is not a time such as 2026-03-02T10:00:00Z".to_owned(),
                    )
                })
            })
            .transpose()
    }

    fn limit(&self) -> usize {
        self.limit.unwrap_or(PAGE_DEFAULT).clamp(1, PAGE_MAX)
    }

    /// Cuts `rows`, oldest first, down to the page, and says after which row the next one begins.
    fn page<T>(&self, rows: Vec<T>, id: impl Fn(&T) -> Uuid) -> (Vec<T>, Option<Uuid>) {
        // Ids are of version 7: they grow with time, so "after" needs no row to be still there.
        let mut rows: Vec<T> = rows
            .into_iter()
            .filter(|row| self.after.is_none_or(|after| id(row) > after))
            .collect();
        rows.sort_by_key(&id);
        let is_cut = rows.len() > self.limit();
        rows.truncate(self.limit());
        let next = rows.last().filter(|_| is_cut).map(id);
        (rows, next)
    }
}

type WantedQuery = Result<Query<Wanted>, QueryRejection>;

fn wanted(query: WantedQuery) -> Result<Wanted, HttpRefusal> {
    match query {
        Ok(Query(wanted)) => Ok(wanted),
        Err(_) => Err(HttpRefusal::invalid(
            "the query is not understood, known are state, provider, class, since, limit and after"
                .to_owned(),
        )),
    }
}

#[derive(Serialize)]
struct Artifacts {
    artifacts: Vec<Record>,
    next: Option<Uuid>,
}

async fn artifacts(
    State(admin): State<Arc<Admin>>,
    query: WantedQuery,
) -> Result<Json<Artifacts>, HttpRefusal> {
    let wanted = wanted(query)?;
    let rows = within_time(admin.store.list(&wanted.filter()?)).await?;
    let (artifacts, next) = wanted.page(rows, |record| record.id.0);
    Ok(Json(Artifacts { artifacts, next }))
}

#[derive(Serialize)]
struct Failures {
    failures: Vec<Record>,
    provider_failures: Vec<ProviderLoss>,
    /// Complete recordings whose manifest could not be written for an hour.
    manifests: Vec<OverdueManifest>,
    next: Option<Uuid>,
}

/// What was lost: our own failures, and the providers'.
async fn failures(
    State(admin): State<Arc<Admin>>,
    query: WantedQuery,
) -> Result<Json<Failures>, HttpRefusal> {
    let wanted = wanted(query)?;
    let mut filter = wanted.filter()?;
    let lost = [JobState::Failed, JobState::Expired];
    filter.states = match filter.states.is_empty() {
        true => lost.to_vec(),
        false => filter
            .states
            .into_iter()
            .filter(|state| lost.contains(state))
            .collect(),
    };
    // An empty list of states would mean all of them.
    let rows = match filter.states.is_empty() {
        true => Vec::new(),
        false => within_time(admin.store.list(&filter)).await?,
    };
    let (failures, next) = wanted.page(rows, |record| record.id.0);
    let limit = u32::try_from(wanted.limit()).unwrap_or(u32::MAX);
    let losses = admin
        .store
        .provider_failures_of(filter.provider, wanted.since()?, Some(limit));
    let provider_failures = within_time(losses).await?;
    let manifests = admin.store.overdue_manifests(admin.clock.now(), limit);
    let mut manifests = within_time(manifests).await?;
    manifests.retain(|manifest| {
        filter
            .provider
            .is_none_or(|provider| manifest.recording.provider == provider)
    });
    Ok(Json(Failures {
        failures,
        provider_failures,
        manifests,
        next,
    }))
}

#[derive(Serialize)]
struct EventsPage {
    events: Vec<EventRecord>,
}

async fn events(
    State(admin): State<Arc<Admin>>,
    query: WantedQuery,
) -> Result<Json<EventsPage>, HttpRefusal> {
    let wanted = wanted(query)?;
    let limit = u32::try_from(wanted.limit()).unwrap_or(u32::MAX);
    let provider = wanted.filter()?.provider;
    let since = wanted.since()?;
    let mut events = match wanted.class.as_deref() {
        None => within_time(admin.store.events(since, limit)).await?,
        Some("unknown") => within_time(admin.store.unknown_events(since, None, limit)).await?,
        Some(_) => {
            return Err(HttpRefusal::invalid(
                "the only class that can be asked for is unknown".to_owned(),
            ));
        }
    };
    events.retain(|event| provider.is_none_or(|provider| event.provider == provider));
    Ok(Json(EventsPage { events }))
}

#[derive(Serialize)]
struct RecordingPage {
    recording: RecordingRecord,
    folder: String,
    event_ids: Vec<String>,
    artifacts: Vec<Record>,
    provider_failures: Vec<ProviderFailureRecord>,
}

async fn recording(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
) -> Result<Json<RecordingPage>, HttpRefusal> {
    let missing = || HttpRefusal::not_found("no such recording");
    let id: RecordingId = id.parse().map_err(|_| missing())?;
    let contents = within_time(admin.store.contents(id)).await?;
    let contents = contents.ok_or_else(missing)?;
    Ok(Json(RecordingPage {
        recording: contents.recording,
        folder: contents.folder,
        event_ids: contents.event_ids,
        artifacts: contents.artifacts,
        provider_failures: contents.provider_failures,
    }))
}

/// Exactly one of the three.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RetryRequest {
    ids: Option<Vec<Uuid>>,
    class: Option<Class>,
    #[serde(default)]
    all: bool,
}

#[derive(Serialize)]
struct Retried {
    retried: Vec<Record>,
}

async fn retry(State(admin): State<Arc<Admin>>, body: Body) -> Result<Json<Retried>, HttpRefusal> {
    let selection = match read_json::<RetryRequest>(body).await? {
        RetryRequest {
            ids: Some(ids),
            class: None,
            all: false,
        } => Selection::Ids(ids),
        RetryRequest {
            ids: None,
            class: Some(class),
            all: false,
        } => Selection::Class(class),
        RetryRequest {
            ids: None,
            class: None,
            all: true,
        } => Selection::All,
        _ => {
            return Err(HttpRefusal::invalid(
                r#"exactly one of "ids", "class" and "all": true is needed"#.to_owned(),
            ));
        }
    };
    let retried = within_time(admin.store.retry(&selection, admin.clock.now())).await?;
    tracing::info!(jobs = retried.len(), "retry by the operator");
    if !retried.is_empty() {
        admin.bell.notify_one();
    }
    Ok(Json(Retried { retried }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CancelRequest {
    ids: Vec<Uuid>,
}

#[derive(Serialize)]
struct Cancelled {
    cancelled: Vec<Record>,
}

async fn cancel(
    State(admin): State<Arc<Admin>>,
    body: Body,
) -> Result<Json<Cancelled>, HttpRefusal> {
    let CancelRequest { ids } = read_json(body).await?;
    let cancelled = within_time(admin.store.cancel(&ids, admin.clock.now())).await?;
    tracing::info!(jobs = cancelled.len(), "cancelled by the operator");
    Ok(Json(Cancelled { cancelled }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other_without_a_gap_even_when_a_row_has_gone() {
        let rows = |from: u128| (from..=5).map(Uuid::from_u128).collect::<Vec<_>>();
        let wanted = |after: Option<u128>| Wanted {
            limit: Some(2),
            after: after.map(Uuid::from_u128),
            ..Wanted::default()
        };
        let page = |after, rows| wanted(after).page(rows, |row: &Uuid| *row);
        let ids = |ids: &[u128]| ids.iter().copied().map(Uuid::from_u128).collect::<Vec<_>>();
        assert_eq!(
            page(None, rows(1)),
            (ids(&[1, 2]), Some(Uuid::from_u128(2)))
        );
        // Row 2 has left since.
        assert_eq!(
            page(Some(2), rows(3)),
            (ids(&[3, 4]), Some(Uuid::from_u128(4)))
        );
        assert_eq!(page(Some(4), rows(1)), (ids(&[5]), None));
    }

    #[test]
    fn filters_name_what_they_do_not_know() {
        let wanted = |state: Option<&str>, since: Option<&str>| Wanted {
            state: state.map(str::to_owned),
            since: since.map(str::to_owned),
            ..Wanted::default()
        };
        let filter = wanted(Some("failed,expired"), Some("2026-03-02T10:00:00Z"))
            .filter()
            .unwrap();
        assert_eq!(filter.states, [JobState::Failed, JobState::Expired]);
        assert!(filter.since.is_some());
        let refusal = wanted(Some("lost"), None).filter().unwrap_err();
        assert!(
            refusal.message.contains("pending, running"),
            "{}",
            refusal.message
        );
        assert!(wanted(None, Some("yesterday")).filter().is_err());
    }
}
