//! Daily's API on loopback as its pages describe it, with recordings, their files, and faults.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Method, Response, Uri};
use jiff::{SignedDuration, Timestamp};
use recording_harvester::clock::{Clock as _, SystemClock};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

pub const KEY: &str = "daily-key-canary";

/// The most that a page holds, whatever is asked for, unless the world says otherwise.
pub const PAGE: usize = 100;

/// The API. Ends when it is dropped.
pub struct TestDaily {
    address: SocketAddr,
    pub state: Arc<Mutex<World>>,
    _server: JoinSet<()>,
}

/// One recording.
#[derive(Clone, Debug)]
pub struct Recording {
    pub id: String,
    pub start: Timestamp,
    pub seconds: i64,
    pub status: &'static str,
}

type Hook = Box<dyn FnMut(&mut World, usize) + Send>;

/// What the API answers from.
#[derive(Default)]
pub struct World {
    address: Option<SocketAddr>,
    /// Newest first.
    pub recordings: Vec<Recording>,
    pub transcripts: Vec<Value>,
    pub webhooks: Vec<Value>,
    /// Statuses that the next requests for an API path with this beginning get, with `Retry-After: 1`.
    pub faults: Vec<(String, u16)>,
    /// What a page holds instead of [`PAGE`].
    pub page_size: Option<usize>,
    /// Files are announced and never come.
    pub holds_files: bool,
    /// Answered instead of a link.
    pub error_text: Option<String>,
    /// Called after each page of recordings, with its number from 1.
    pub after_page: Option<Hook>,
    /// The `Date` of all answers; the server's own otherwise.
    pub date: Option<String>,
    /// Method, path and query of each request.
    pub asked: Vec<String>,
    pages: usize,
}

impl World {
    /// `count` finished recordings, the newest having ended an hour ago, a minute apart.
    pub fn add_recordings(&mut self, count: usize) {
        let now = SystemClock.now();
        for number in 0..count {
            let age =
                SignedDuration::from_mins(60 + number as i64) + SignedDuration::from_secs(600);
            self.recordings.push(Recording {
                id: format!("rec-{number:04}"),
                start: now - age,
                seconds: 600,
                status: "finished",
            });
        }
    }

    /// `count` finished transcripts, of which nothing tells when they were made.
    pub fn add_undated_transcripts(&mut self, count: usize) {
        let transcripts = (0..count).map(|number| {
            json!({
                "transcriptId": format!("tr-{number:04}"), "mtgSessionId": format!("session-{number}"),
                "status": "t_finished", "isVttAvailable": true, "duration": 60,
            })
        });
        self.transcripts.extend(transcripts);
    }

    /// How many requests had this beginning.
    pub fn count(&self, beginning: &str) -> usize {
        self.asked
            .iter()
            .filter(|asked| asked.starts_with(beginning))
            .count()
    }
}

impl Recording {
    fn json(&self) -> Value {
        json!({
            "id": self.id, "room_name": "standup", "start_ts": self.start.as_second(), "status": self.status,
            "max_participants": 2, "duration": self.seconds, "s3key": format!("acme/standup/{}", self.id),
            "mtgSessionId": format!("session-{}", self.id),
        })
    }

    /// The event that Daily sends of it.
    pub fn event(&self) -> Value {
        json!({
            "version": "1.0.0", "type": "recording.ready-to-download", "id": format!("rec-rtd-{}", self.id),
            "event_ts": self.start.as_second() + self.seconds + 60,
            "payload": {
                "type": "cloud", "recording_id": self.id, "room_name": "standup",
                "start_ts": self.start.as_second(), "status": "finished", "max_participants": 2,
                "duration": self.seconds, "s3_key": format!("acme/standup/{}", self.id),
            },
        })
    }
}

impl TestDaily {
    pub async fn start() -> TestDaily {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(World {
            address: Some(address),
            ..World::default()
        }));
        let router = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&state));
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, router).await.unwrap() });
        TestDaily {
            address,
            state,
            _server: server,
        }
    }

    /// `base_url` of the source.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    pub fn with<T>(&self, act: impl FnOnce(&mut World) -> T) -> T {
        act(&mut self.state.lock().unwrap())
    }
}

/// A file that passes for MPEG-4, different for each recording.
pub fn mp4(id: &str) -> Vec<u8> {
    let content = format!("content of {id}");
    let mut file = Vec::new();
    for (kind, body) in [
        ("ftyp", "isom0000"),
        ("moov", ""),
        ("mdat", content.as_str()),
    ] {
        file.extend_from_slice(&(8 + body.len() as u32).to_be_bytes());
        file.extend_from_slice(kind.as_bytes());
        file.extend_from_slice(body.as_bytes());
    }
    file
}

async fn answer(
    State(state): State<Arc<Mutex<World>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: axum::body::Bytes,
) -> Response<Body> {
    let mut world = state.lock().unwrap();
    let target = uri.path_and_query().unwrap().as_str();
    world.asked.push(format!("{method} {target}"));
    let mut response = Response::builder();
    if let Some(date) = &world.date {
        response = response.header("date", date);
    }
    let path = uri.path();
    if let Some(id) = path.strip_prefix("/files/") {
        if world.holds_files {
            let nothing = futures::stream::pending::<Result<axum::body::Bytes, std::io::Error>>();
            let length = mp4(id.trim_end_matches(".mp4")).len();
            return response
                .header("content-length", length)
                .body(Body::from_stream(nothing))
                .unwrap();
        }
        return response
            .body(Body::from(mp4(id.trim_end_matches(".mp4"))))
            .unwrap();
    }
    let (status, answer) = api(&mut world, &method, path, &uri, &headers, &body);
    if status == 429 {
        response = response.header("retry-after", "1");
    }
    response
        .status(status)
        .header("content-type", "application/json")
        .body(Body::from(answer.to_string()))
        .unwrap()
}

fn api(
    world: &mut World,
    method: &Method,
    path: &str,
    uri: &Uri,
    headers: &HeaderMap,
    body: &[u8],
) -> (u16, Value) {
    let path = path.strip_prefix("/v1").unwrap_or(path);
    if let Some(at) = world
        .faults
        .iter()
        .position(|(begin, _)| path.starts_with(begin.as_str()))
    {
        let (_, status) = world.faults.remove(at);
        return (status, json!({"error": "scripted"}));
    }
    let authorization = headers
        .get("authorization")
        .map(|value| value.to_str().unwrap());
    if authorization != Some(&format!("Bearer {KEY}")) {
        return (401, json!({"error": "authentication-error"}));
    }
    let segments: Vec<_> = path.trim_matches('/').split('/').collect();
    match (method.as_str(), &segments[..]) {
        ("GET", ["recordings"]) => recordings(world, uri),
        ("GET", ["recordings", id, "access-link"]) => {
            if !world.recordings.iter().any(|recording| recording.id == *id) {
                return (404, json!({"error": "not-found"}));
            }
            let expires = SystemClock.now().as_second() + 3600;
            let link = match &world.error_text {
                Some(text) => text.clone(),
                None => format!(
                    "http://{}/files/{id}.mp4?Expires={expires}&Signature=canary&Key-Pair-Id=K",
                    world.address.unwrap()
                ),
            };
            (200, json!({"download_link": link, "expires": expires}))
        }
        ("GET", ["transcript"]) => {
            let after = parameter(uri, "starting_after");
            let rest = after_id(&world.transcripts, after, world.page_size, |item| {
                item["transcriptId"].as_str().unwrap()
            });
            (
                200,
                json!({"total_count": world.transcripts.len(), "data": rest}),
            )
        }
        ("GET", ["webhooks"]) => (200, json!(world.webhooks)),
        ("POST", ["webhooks", id]) => {
            let sent: Value = serde_json::from_slice(body).unwrap();
            let Some(hook) = world.webhooks.iter_mut().find(|hook| hook["uuid"] == *id) else {
                return (404, json!({"error": "not-found"}));
            };
            assert_eq!(sent["url"], hook["url"]);
            hook["state"] = json!("ACTIVE");
            (200, hook.clone())
        }
        _ => (404, json!({"error": "not-found"})),
    }
}

fn recordings(world: &mut World, uri: &Uri) -> (u16, Value) {
    let after = parameter(uri, "starting_after");
    if let Some(after) = &after
        && !world
            .recordings
            .iter()
            .any(|recording| recording.id == *after)
    {
        return (400, json!({"error": "invalid-request-error"}));
    }
    let page = after_id(&world.recordings, after, world.page_size, |recording| {
        &recording.id
    });
    let data: Vec<_> = page.iter().map(Recording::json).collect();
    let total = world.recordings.len();
    world.pages += 1;
    if let Some(mut hook) = world.after_page.take() {
        let number = world.pages;
        hook(world, number);
        world.after_page = Some(hook);
    }
    (200, json!({"total_count": total, "data": data}))
}

fn after_id<T: Clone>(
    all: &[T],
    after: Option<String>,
    page_size: Option<usize>,
    id: impl Fn(&T) -> &str,
) -> Vec<T> {
    let start = after.map_or(0, |after| {
        all.iter()
            .position(|item| id(item) == after)
            .map_or(all.len(), |at| at + 1)
    });
    let page_size = page_size.unwrap_or(PAGE);
    all[start..].iter().take(page_size).cloned().collect()
}

fn parameter(uri: &Uri, name: &str) -> Option<String> {
    let query = uri.query().unwrap_or_default();
    let mut pairs = url::form_urlencoded::parse(query.as_bytes());
    pairs
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}
