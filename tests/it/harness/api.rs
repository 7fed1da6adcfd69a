//! A provider's API on loopback that answers by script and remembers what it was asked.
//!
//! It will serve files as well, for tests that need no cleverer origin.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, Response, Uri};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// The API. Ends when it is dropped.
pub struct TestApi {
    address: SocketAddr,
    shared: Arc<Shared>,
    _server: JoinSet<()>,
}

/// One scripted answer.
#[derive(Clone, Debug)]
pub struct Answer {
    status: u16,
    body: Bytes,
    retry_after: Option<String>,
    stalls: bool,
    held: Option<Arc<Notify>>,
}

/// One request as it came in.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    /// Path and query.
    pub target: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

#[derive(Default)]
struct Shared {
    answers: Mutex<HashMap<String, VecDeque<Answer>>>,
    asked: Mutex<Vec<Asked>>,
    bell: Notify,
}

impl Answer {
    /// `status` with a JSON body.
    pub fn json(status: u16, body: impl ToString) -> Answer {
        Answer {
            status,
            body: body.to_string().into(),
            retry_after: None,
            stalls: false,
            held: None,
        }
    }

    /// 200 with a file.
    pub fn file(content: impl Into<Bytes>) -> Answer {
        Answer {
            status: 200,
            body: content.into(),
            retry_after: None,
            stalls: false,
            held: None,
        }
    }

    /// 200 and the length of a file whose bytes never come.
    pub fn stalled(content: impl Into<Bytes>) -> Answer {
        Answer {
            stalls: true,
            ..Answer::file(content)
        }
    }

    /// The same, kept back until it is released.
    pub fn held_until(mut self, released: &Arc<Notify>) -> Answer {
        self.held = Some(Arc::clone(released));
        self
    }

    /// The same with a `Retry-After` header.
    pub fn retry_after(mut self, value: impl ToString) -> Answer {
        self.retry_after = Some(value.to_string());
        self
    }
}

impl Asked {
    /// A header's value, empty when it was not sent.
    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |value| value.to_str().unwrap())
    }
}

impl TestApi {
    /// Listens; until it is told otherwise every path is a 404.
    pub async fn start() -> TestApi {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let router = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&shared));
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, router).await.unwrap() });
        TestApi {
            address,
            shared,
            _server: server,
        }
    }

    /// The base URL, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Requests for `path` (without query) get these answers in turn, and the last one for ever.
    pub fn script(&self, path: &str, answers: impl IntoIterator<Item = Answer>) {
        let answers: VecDeque<_> = answers.into_iter().collect();
        assert!(!answers.is_empty(), "a script needs an answer");
        let mut scripts = self.shared.answers.lock().unwrap();
        scripts.insert(path.to_owned(), answers);
    }

    /// All requests so far, oldest first.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// Waits until `count` requests have come in.
    pub async fn wait_for(&self, count: usize) {
        let enough = async {
            loop {
                let rung = self.shared.bell.notified();
                if self.shared.asked.lock().unwrap().len() >= count {
                    return;
                }
                rung.await;
            }
        };
        let limit = std::time::Duration::from_secs(20);
        let waited = tokio::time::timeout(limit, enough).await;
        assert!(waited.is_ok(), "the API was asked fewer than {count} times");
    }
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let target = uri
        .path_and_query()
        .map_or("/", |target| target.as_str())
        .to_owned();
    shared.asked.lock().unwrap().push(Asked {
        method: method.to_string(),
        target,
        headers,
        body,
    });
    shared.bell.notify_waiters();
    let answer = {
        let mut answers = shared.answers.lock().unwrap();
        match answers.get_mut(uri.path()) {
            Some(script) if script.len() > 1 => script.pop_front().unwrap(),
            Some(script) => script[0].clone(),
            None => Answer::json(404, r#"{"error":"not-found"}"#),
        }
    };
    if let Some(released) = &answer.held {
        released.notified().await;
    }
    let mut response = Response::builder()
        .status(answer.status)
        .header("content-type", "application/json");
    if let Some(wait) = &answer.retry_after {
        response = response.header("retry-after", wait);
    }
    if answer.stalls {
        let nothing = futures::stream::pending::<Result<Bytes, std::io::Error>>();
        return response
            .header("content-length", answer.body.len())
            .body(Body::from_stream(nothing))
            .unwrap();
    }
    response.body(Body::from(answer.body)).unwrap()
}
