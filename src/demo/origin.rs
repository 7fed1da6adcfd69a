//! A provider on loopback: serves the media under URLs that are signed and that end, as S3's do, and
//! answers the API calls that lookups make.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use bytes::Bytes;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use jiff::Timestamp;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::api;
use super::media::{Library, MediaContent};
use super::presign::{PresignRefusal, Presigner};
use crate::clock::SharedClock;
use crate::error::{Error, Result};
use crate::model::Format;

/// When every file of the library was last changed, as the header says it.
const LAST_MODIFIED: &str = "Mon, 02 Mar 2026 10:33:20 GMT";

/// Connections at once; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 256;

/// How an origin behaves.
#[derive(Clone)]
pub struct OriginSettings {
    /// Where it listens; port 0 for any free one.
    pub listen: SocketAddr,
    /// What it has.
    pub library: Library,
    /// How fast a body is sent.
    pub pace: SendPace,
    /// What time it is.
    pub clock: SharedClock,
    /// The key that API calls must show.
    pub api_key: String,
}

/// How fast one body is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendPace {
    /// As fast as it goes.
    Unlimited,
    /// So many bytes a second.
    BytesPerSecond(u64),
    /// So fast that any larger body takes about this long.
    Within(Duration),
}

impl SendPace {
    /// Even a slow origin sends this much: small files pass at once.
    const SLOWEST_BYTES_PER_SECOND: u64 = 32 * 1024;

    fn bytes_per_second(self, size_bytes: u64) -> Option<u64> {
        let rate = match self {
            SendPace::Unlimited => return None,
            SendPace::BytesPerSecond(rate) => rate,
            SendPace::Within(time) => (size_bytes as f64 / time.as_secs_f64()) as u64,
        };
        Some(rate.max(Self::SLOWEST_BYTES_PER_SECOND))
    }
}

/// A running origin. It ends when it is dropped.
pub struct DemoOrigin {
    address: SocketAddr,
    state: Arc<OriginState>,
    _server: JoinSet<()>,
}

struct OriginState {
    presigner: Presigner,
    settings: OriginSettings,
}

impl DemoOrigin {
    /// Starts to listen and to serve.
    ///
    /// # Errors
    /// `internal` when the address can't be listened on.
    pub async fn start(settings: OriginSettings) -> Result<DemoOrigin> {
        let listener = TcpListener::bind(settings.listen).await.map_err(|error| {
            Error::internal(format!("listen on {} for the origin", settings.listen))
                .with_source(error)
        })?;
        let address = listener
            .local_addr()
            .map_err(|error| Error::internal("learn the origin's address").with_source(error))?;
        let presigner = Presigner::new(address.to_string(), throwaway_secret()?);
        let state = Arc::new(OriginState {
            presigner,
            settings,
        });
        let mut server = JoinSet::new();
        server.spawn(serve(listener, state.clone()));
        Ok(DemoOrigin {
            address,
            state,
            _server: server,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What its URLs and the providers' APIs begin with, without a slash at the end.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A URL of `path`, signed at `signed_at` and good for `lifetime`.
    pub fn sign(&self, path: &str, signed_at: Timestamp, lifetime: Duration) -> String {
        self.state.presigner.sign(path, signed_at, lifetime)
    }

    /// What it serves.
    pub fn library(&self) -> Library {
        self.state.settings.library
    }

    /// The key that API calls must show.
    pub fn api_key(&self) -> &str {
        &self.state.settings.api_key
    }
}

fn throwaway_secret() -> Result<String> {
    let mut bytes = [0; 20];
    aws_lc_rs::rand::fill(&mut bytes).or(Err(Error::internal("draw a random secret")))?;
    Ok(hex::encode(bytes))
}

async fn serve(listener: TcpListener, state: Arc<OriginState>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= CONNECTIONS_MAX {
            connections.join_next().await;
        }
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve_connection(stream, state.clone()));
                }
                // Out of descriptors, most likely: those of ended connections come back.
                Err(error) => {
                    tracing::warn!(%error, "the origin could not accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve_connection(stream: TcpStream, state: Arc<OriginState>) {
    let service = tower::service_fn(move |request: Request<hyper::body::Incoming>| {
        let response = respond(&state, &request);
        async move { Ok::<_, std::convert::Infallible>(response) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(30))
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection to the origin ended early");
    }
}

fn respond<B>(state: &OriginState, request: &Request<B>) -> Response<Body> {
    let now = state.settings.clock.now();
    let path = request.uri().path();
    let query = request.uri().query().unwrap_or_default();
    let headers = request.headers();
    let key = &state.settings.api_key;
    if let Some((status, body)) = api::answer(path, query, headers, key, &state.presigner, now) {
        return text_response(status, "application/json", body.to_string());
    }
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default();
    let method = request.method();
    let checked = state
        .presigner
        .check(method.as_str(), host, path, query, now);
    if let Err(refusal) = checked {
        return s3_error(refusal_status(&refusal), &refusal_xml(&refusal, now));
    }
    match state.settings.library.content(path) {
        Some(content) if method == Method::GET => send(path, content, headers, state.settings.pace),
        Some(_) => s3_error(
            StatusCode::METHOD_NOT_ALLOWED,
            "<Code>MethodNotAllowed</Code><Message>The specified method is not allowed against this resource.</Message>",
        ),
        None => s3_error(
            StatusCode::NOT_FOUND,
            "<Code>NoSuchKey</Code><Message>The specified key does not exist.</Message>",
        ),
    }
}

fn refusal_status(refusal: &PresignRefusal) -> StatusCode {
    match refusal {
        PresignRefusal::Malformed(_) => StatusCode::BAD_REQUEST,
        _ => StatusCode::FORBIDDEN,
    }
}

/// In S3's own words: clients read them.
fn refusal_xml(refusal: &PresignRefusal, now: Timestamp) -> String {
    match refusal {
        PresignRefusal::Unsigned => {
            "<Code>AccessDenied</Code><Message>Access Denied</Message>".to_owned()
        }
        PresignRefusal::Expired { lifetime_seconds, at } => {
            let lifetime = lifetime_seconds.map_or(String::new(), |seconds| {
                format!("<X-Amz-Expires>{seconds}</X-Amz-Expires>")
            });
            format!(
                "<Code>AccessDenied</Code><Message>Request has expired</Message>{lifetime}\
                 <Expires>{at:.0}</Expires><ServerTime>{now:.0}</ServerTime>"
            )
        }
        PresignRefusal::WrongSignature => "<Code>SignatureDoesNotMatch</Code><Message>The request signature \
            we calculated does not match the signature you provided. Check your key and signing method.</Message>"
            .to_owned(),
        PresignRefusal::Malformed(parameter) => format!(
            "<Code>AuthorizationQueryParametersError</Code><Message>{parameter} is missing or can't be read</Message>"
        ),
    }
}

fn s3_error(status: StatusCode, inner: &str) -> Response<Body> {
    let xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error>{inner}<RequestId>DEMO</RequestId><HostId>demo</HostId></Error>"
    );
    text_response(status, "application/xml", xml)
}

fn text_response(status: StatusCode, content_type: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn send(path: &str, content: MediaContent, request: &HeaderMap, pace: SendPace) -> Response<Body> {
    let size = content.size_bytes();
    let etag = format!("\"{}\"", etag_of(&content));
    let text = |name| {
        request
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };

    if text(header::IF_MATCH).is_some_and(|wanted| wanted != "*" && wanted != etag) {
        return s3_error(
            StatusCode::PRECONDITION_FAILED,
            "<Code>PreconditionFailed</Code><Message>At least one of the pre-conditions you specified did not hold</Message>",
        );
    }
    // A range for another version of the content is answered with all of this one (RFC 9110, If-Range).
    let is_same_version =
        text(header::IF_RANGE).is_none_or(|wanted| wanted == etag || wanted == LAST_MODIFIED);
    let range = text(header::RANGE)
        .filter(|_| is_same_version)
        .map_or(Asked::All, |range| asked_range(range, size));

    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    let mut set = |name, value: String| {
        let value = HeaderValue::from_str(&value).expect("sizes and digests are ASCII");
        headers.insert(name, value);
    };
    set(header::ACCEPT_RANGES, "bytes".to_owned());
    set(header::ETAG, etag);
    set(header::LAST_MODIFIED, LAST_MODIFIED.to_owned());
    let (start, end, status) = match range {
        Asked::All => (0, size, StatusCode::OK),
        Asked::Range(start, end) => {
            set(
                header::CONTENT_RANGE,
                format!("bytes {start}-{}/{size}", end - 1),
            );
            (start, end, StatusCode::PARTIAL_CONTENT)
        }
        Asked::Impossible => {
            set(header::CONTENT_RANGE, format!("bytes */{size}"));
            *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            return response;
        }
    };
    set(header::CONTENT_TYPE, content_type(path).to_owned());
    set(header::CONTENT_LENGTH, (end - start).to_string());
    *response.status_mut() = status;
    *response.body_mut() = Body::from_stream(body(content, start, end, pace));
    response
}

fn content_type(path: &str) -> &'static str {
    let extension = path.rsplit('.').next().unwrap_or_default();
    Format::from_extension(extension)
        .unwrap_or(Format::Bin)
        .content_type()
}

fn etag_of(content: &MediaContent) -> String {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    // The first bytes and the length tell the library's files apart.
    context.update(&content.read(0, 1 << 20));
    context.update(&content.size_bytes().to_be_bytes());
    hex::encode(&context.finish().as_ref()[..16])
}

/// What a `Range` header asks for.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    All,
    /// From, to (exclusive).
    Range(u64, u64),
    Impossible,
}

fn asked_range(range: &str, size: u64) -> Asked {
    let Some((first, last)) = range
        .strip_prefix("bytes=")
        .and_then(|range| range.split_once('-'))
    else {
        return Asked::All;
    };
    match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(start), Ok(last)) if start <= last && start < size => {
            Asked::Range(start, size.min(last.saturating_add(1)))
        }
        (Ok(start), Err(_)) if last.is_empty() && start < size => Asked::Range(start, size),
        (Err(_), Ok(suffix)) if first.is_empty() && suffix > 0 && size > 0 => {
            Asked::Range(size.saturating_sub(suffix), size)
        }
        (Ok(start), _) if start >= size => Asked::Impossible,
        (Err(_), Ok(_)) if first.is_empty() => Asked::Impossible,
        // Not a range at all, or several: S3 sends everything.
        _ => Asked::All,
    }
}

fn body(
    content: MediaContent,
    start: u64,
    end: u64,
    pace: SendPace,
) -> impl futures::Stream<Item = std::io::Result<Bytes>> {
    let rate = pace.bytes_per_second(content.size_bytes());
    // Twenty chunks a second look smooth.
    let chunk = rate.map_or(1 << 16, |rate| (rate / 20).clamp(1024, 1 << 20)) as usize;
    futures::stream::unfold((content, start), move |(content, at)| async move {
        let left = usize::try_from(end - at).unwrap_or(usize::MAX);
        let bytes = content.read(at, chunk.min(left));
        if bytes.is_empty() {
            return None;
        }
        if let Some(rate) = rate {
            let time = Duration::from_secs_f64(bytes.len() as f64 / rate as f64);
            tokio::time::sleep(time).await;
        }
        let next = at + bytes.len() as u64;
        Some((Ok(bytes), (content, next)))
    })
}

#[cfg(test)]
#[path = "origin_tests.rs"]
mod tests;
