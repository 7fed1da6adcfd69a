//! The listeners over real sockets, spoken to byte by byte.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use recording_harvester::error::Result;
use recording_harvester::server::listen::{self, HttpLimits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

mod admin;
mod hostile;
mod intake;
mod listener;
mod rate;
mod trust;

/// Longer than anything here takes; a test that waits for it has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Stands in every secret of these tests, and may stand in no answer.
const CANARY: &str = "canary";

/// A listener that is served until it is told to stop.
struct Served {
    address: SocketAddr,
    shutdown: CancellationToken,
    task: JoinSet<Result<()>>,
}

impl Served {
    /// Serves what `router` makes of the listener's address.
    async fn start(limits: HttpLimits, router: impl FnOnce(SocketAddr) -> Router) -> Served {
        let shutdown = CancellationToken::new();
        Served::start_with(limits, shutdown, router).await
    }

    async fn start_with(
        limits: HttpLimits,
        shutdown: CancellationToken,
        router: impl FnOnce(SocketAddr) -> Router,
    ) -> Served {
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = listen::bind(any_port, "listen").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut task = JoinSet::new();
        task.spawn(listen::serve(
            listener,
            router(address),
            limits,
            shutdown.clone(),
        ));
        Served {
            address,
            shutdown,
            task,
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends `request` on a connection of its own and reads until the other side closes.
    async fn exchange(&self, request: impl AsRef<[u8]>) -> Answer {
        let mut stream = self.connect().await;
        // A server that refuses a body closes while we still write: what counts is what it said.
        let _ = stream.write_all(request.as_ref()).await;
        Answer::read(&mut stream).await
    }

    /// Waits until the served listener has ended.
    async fn ended(&mut self) {
        let ended = tokio::time::timeout(PATIENCE, self.task.join_next()).await;
        ended.unwrap().unwrap().unwrap().unwrap();
    }
}

/// An HTTP answer, taken apart as far as these tests need.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    async fn read(stream: &mut TcpStream) -> Answer {
        let mut bytes = Vec::new();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes));
        let ended = read.await.expect("the connection ends");
        assert!(
            !bytes.is_empty(),
            "the connection ended without an answer: {ended:?}"
        );
        let text = String::from_utf8(bytes).unwrap();
        assert!(!text.contains(CANARY), "a secret is in the answer: {text}");
        Answer::parse(&text)
    }

    /// Reads until the other side closes, or cuts.
    async fn read_rest(stream: &mut TcpStream) -> String {
        let mut rest = Vec::new();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
        // A cut is an end too, and what came before it counts.
        assert!(
            read.is_ok(),
            "the connection does not end after {} bytes",
            rest.len()
        );
        String::from_utf8_lossy(&rest).into_owned()
    }

    fn parse(text: &str) -> Answer {
        let (head, body) = text.split_once("\r\n\r\n").expect("a whole head");
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer {
            status,
            head: head.to_ascii_lowercase(),
            body: body.to_owned(),
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            (found == name).then_some(value)
        })
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }
}

/// A request with a body, on a connection that ends with it.
fn request(method: &str, path: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut head = format!(
        "{method} {path} HTTP/1.1\r\nconnection: close\r\ncontent-length: {}\r\n",
        body.len()
    );
    if !headers.iter().any(|(name, _)| *name == "host") {
        head.push_str("host: harvester.test\r\n");
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    [head.as_bytes(), body].concat()
}

/// Reads from `stream` until `wanted` has come; answers with all that was read.
async fn read_until(stream: &mut TcpStream, wanted: &str) -> String {
    let mut text = Vec::new();
    let mut buffer = vec![0; 256 * 1024];
    let read = async {
        let mut searched = 0;
        while !text[searched..]
            .windows(wanted.len())
            .any(|window| window == wanted.as_bytes())
        {
            searched = text.len().saturating_sub(wanted.len());
            let count = stream.read(&mut buffer).await.unwrap();
            assert!(count > 0, "the stream ended before {wanted:?} came");
            text.extend_from_slice(&buffer[..count]);
        }
    };
    tokio::time::timeout(PATIENCE, read)
        .await
        .unwrap_or_else(|_| panic!("{wanted:?} never came"));
    String::from_utf8_lossy(&text).into_owned()
}

/// Waits until `condition` holds, looking again and again.
async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait)
        .await
        .unwrap_or_else(|_| panic!("never happened: {what}"));
}
