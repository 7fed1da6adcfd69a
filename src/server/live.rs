//! `GET /api/v1/progress`: the live stream, as server-sent events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::routing::get;
use futures::stream::{self, Stream, StreamExt};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::admin_state::Admin;
use super::refusal::HttpRefusal;
use crate::error::Class;
use crate::model::ProgressEvent;

/// Live streams at once.
const STREAMS_MAX: usize = 64;

/// How often a quiet stream says that it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

#[derive(Clone)]
struct Streams {
    admin: Arc<Admin>,
    room: Arc<Semaphore>,
}

/// The route, under `/api/v1`.
pub(super) fn router<S: Clone + Send + Sync + 'static>(admin: &Arc<Admin>) -> Router<S> {
    let streams = Streams {
        admin: Arc::clone(admin),
        room: Arc::new(Semaphore::new(STREAMS_MAX)),
    };
    Router::new()
        .route("/progress", get(progress))
        .with_state(streams)
}

/// Server-sent events: first what is going on, then what happens, as JSON of the progress events.
async fn progress(
    State(streams): State<Streams>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, HttpRefusal> {
    let permit = streams.room.try_acquire_owned().map_err(|_| {
        let message = format!("{STREAMS_MAX} live streams are open already");
        HttpRefusal::new(StatusCode::SERVICE_UNAVAILABLE, Class::Throttled, message)
    })?;
    // Subscribed before the snapshot: an event may come twice, but none is missed.
    let live = streams.admin.progress.subscribe();
    let snapshot = streams.admin.progress.snapshot();
    let events = stream::iter(snapshot).chain(follow(live, permit));
    let shutdown = streams.admin.shutdown.clone();
    let events = events
        .take_until(shutdown.cancelled_owned())
        .filter_map(async |event| Event::default().json_data(event).ok().map(Ok));
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

/// What happens from now on. A reader that falls behind by more than the channel holds is dropped: it may
/// come back and begin with a fresh snapshot, and the work never waits for it.
fn follow(
    live: Receiver<ProgressEvent>,
    permit: OwnedSemaphorePermit,
) -> impl Stream<Item = ProgressEvent> {
    stream::unfold((live, permit), async |(mut live, permit)| {
        match live.recv().await {
            Ok(event) => Some((event, (live, permit))),
            Err(RecvError::Lagged(missed)) => {
                tracing::debug!(missed, "dropped a slow reader of the progress stream");
                None
            }
            Err(RecvError::Closed) => None,
        }
    })
}
