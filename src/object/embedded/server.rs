//! The listener: HTTP/1.1 on loopback, with a limit for everything that could wait.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use s3s::service::S3Service;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::drain;

/// A request's head has to come within this; a kept-alive connection may be silent as long.
const HEAD_LIMIT: Duration = Duration::from_secs(60);

/// Connections at once, where the process has descriptors for more than eight times as many.
const CONNECTIONS_MAX: usize = 512;
const CONNECTIONS_SHARE: u64 = 8;

fn connections_max() -> usize {
    let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let most = descriptors.map(|given| usize::try_from(given / CONNECTIONS_SHARE));
    match most {
        Some(Ok(most)) => most.clamp(1, CONNECTIONS_MAX),
        _ => CONNECTIONS_MAX,
    }
}

/// What waits before the next accept when the process has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts until `shutdown`; each connection is a task of `tasks`.
pub(super) async fn serve(
    listener: TcpListener,
    service: S3Service,
    tasks: TaskTracker,
    shutdown: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(connections_max()));
    loop {
        let accept = async {
            let slot = Arc::clone(&slots).acquire_owned().await;
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = accept => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = converse(stream, service.clone(), shutdown.clone());
                tasks.spawn(async move {
                    connection.await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the embedded object store can't accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, service: S3Service, shutdown: CancellationToken) {
    // Without it small answers wait for the client's delayed acknowledgement.
    let _ = stream.set_nodelay(true);
    let answer = service_fn(move |request| answer(service.clone(), request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .serve_connection(TokioIo::new(stream), answer);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection to the embedded object store broke");
    }
}

async fn answer(
    service: S3Service,
    request: Request<Incoming>,
) -> Result<Response<s3s::Body>, Infallible> {
    if let Some(reason) = stranger(request.headers()) {
        return Ok(plain(StatusCode::FORBIDDEN, reason));
    }
    let (parts, body) = request.into_parts();
    let (body, rest) = drain::lend(body);
    let request = Request::from_parts(parts, s3s::Body::http_body_unsync(body));
    let answered = service.call(request).await;
    drain::drain(rest).await;
    Ok(answered.unwrap_or_else(|_| plain(StatusCode::INTERNAL_SERVER_ERROR, "internal error")))
}

/// Any page in a browser on this machine can reach loopback, also under a name of its own that resolves
/// to it. Such requests carry a foreign `Host` or an `Origin`; S3 clients send neither.
fn stranger(headers: &HeaderMap) -> Option<&'static str> {
    let host = headers
        .get(header::HOST)
        .and_then(|value| value.to_str().ok());
    if !host.is_some_and(is_loopback_host) {
        return Some("this server answers to loopback addresses only");
    }
    headers
        .contains_key(header::ORIGIN)
        .then_some("this server does not answer browsers")
}

fn is_loopback_host(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => name,
        _ => host,
    };
    let address = name.trim_matches(['[', ']']).parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|ip| ip.is_loopback())
}

fn plain(status: StatusCode, text: &'static str) -> Response<s3s::Body> {
    let mut response = Response::new(s3s::Body::from(bytes::Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_hosts_are_answered() {
        for (host, expected) in [
            ("127.0.0.1:8082", true),
            ("127.0.0.1", true),
            ("localhost:1", true),
            ("[::1]:8082", true),
            ("evil.example", false),
            ("127.0.0.1.evil.example:8082", false),
            ("10.0.0.1:8082", false),
            ("", false),
        ] {
            assert_eq!(is_loopback_host(host), expected, "{host}");
        }
    }
}
