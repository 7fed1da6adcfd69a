//! The accept loop: HTTP/1.1 connections with limits on time, size and number (see `connections`).
//!
//! `axum::serve` has no time limit for a header, an idle connection or a reader that stops reading,
//! and a half-sent header blocks its graceful shutdown. This loop has them all, and a shutdown ends
//! within its grace period whatever the other sides do.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::http::{Request, Response};
use futures::future::poll_fn;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

pub use super::connections::HttpLimits;
use super::connections::{Activity, ConnectionPlace, Connections};
use crate::error::{Error, Result};

/// The first wait after a failed accept, doubled up to [`ACCEPT_PAUSE_MAX`]. Without a wait, running
/// out of file descriptors would turn the loop into a busy one.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);
const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);

/// How long bytes that nobody asked for are still read and thrown away after the last answer. Closing
/// at once would send a reset, and the sender of a body that is too large would often
/// see that instead of the 413.
const LINGER: Duration = Duration::from_secs(2);

/// Whose connection a request came on: an extension of every request.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// Listens on `address`. `setting` is the configuration's name for it, for the error.
///
/// # Errors
/// `invalid`, naming address and setting: the port is taken, or the address is not this machine's.
pub async fn bind(address: SocketAddr, setting: &str) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let reason = match error.kind() {
            io::ErrorKind::AddrInUse => {
                "the port is in use by another program (or another harvester)"
            }
            io::ErrorKind::AddrNotAvailable => "this machine does not have that address",
            io::ErrorKind::PermissionDenied => "ports below 1024 need privileges",
            _ => "the system refused",
        };
        Error::invalid(format!(
            "listen on {address}: {reason}; set `{setting}` to another address"
        ))
        .with_source(error)
    })
}

/// Serves `router` on `listener` until `shutdown`, then lets requests that are being answered finish
/// within the grace period and cuts what is left.
///
/// # Errors
/// None today: a failing accept is retried, a failing connection is its own end.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: HttpLimits,
    shutdown: CancellationToken,
) -> Result<()> {
    let places = Connections::new(limits.clone());
    let mut connections = JoinSet::new();
    let mut pause = ACCEPT_PAUSE;
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(ended) = connections.join_next() => {
                note_panic(ended);
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                pause = ACCEPT_PAUSE;
                let place = tokio::select! {
                    () = shutdown.cancelled() => break,
                    place = places.admit(peer.ip()) => place,
                };
                let Some(place) = place else { continue };
                let router = router.clone();
                let peer = Peer(peer);
                connections.spawn(serve_connection(
                    stream,
                    (peer, place),
                    router,
                    limits.clone(),
                    shutdown.clone(),
                ));
            }
            Err(error) if is_only_that_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "can't accept connections, trying again");
                tokio::select! {
                    () = shutdown.cancelled() => break,
                    () = tokio::time::sleep(pause) => {}
                }
                pause = (pause * 2).min(ACCEPT_PAUSE_MAX);
            }
        }
    }
    drop(listener);
    let drain = async {
        while let Some(ended) = connections.join_next().await {
            note_panic(ended);
        }
    };
    if tokio::time::timeout(limits.grace, drain).await.is_err() {
        tracing::warn!(
            connections = connections.len(),
            "cutting connections that did not end within the grace period"
        );
        connections.shutdown().await;
    }
    Ok(())
}

fn is_only_that_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}

fn note_panic(ended: std::result::Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!("a request's task panicked; its connection is closed");
    }
}

async fn serve_connection(
    stream: TcpStream,
    (peer, place): (Peer, ConnectionPlace),
    router: Router,
    limits: HttpLimits,
    shutdown: CancellationToken,
) {
    // Answers are small and whole: waiting to fill a packet would only delay them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "can't set TCP_NODELAY");
    }
    let activity = Arc::clone(&place.activity);
    let serving = Arc::clone(&activity);
    let stream = ImpatientWriter::new(stream, limits.write_timeout, Arc::clone(&activity));
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        let answering = serving.answering();
        let answer = router.clone().oneshot(request);
        // Boxed: hyper's connection wants a future that can be moved.
        Box::pin(async move {
            let answer: Response<_> = answer.await?;
            Ok::<_, Infallible>(answer.map(|body| answering.over(body)))
        })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // The times above are kept below; this one is for what they do not see.
        .header_read_timeout(limits.header_timeout + limits.idle_timeout)
        .max_buf_size(limits.max_header_bytes)
        .serve_connection(TokioIo::new(stream), service);
    let ended = tokio::select! {
        ended = poll_fn(|cx| connection.poll_without_shutdown(cx)) => ended,
        () = place.closed.cancelled() => return,
        () = activity.overdue() => return,
        () = shutdown.cancelled() => {
            Pin::new(&mut connection).graceful_shutdown();
            poll_fn(|cx| connection.poll_without_shutdown(cx)).await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
    let stream = connection.into_parts().io.into_inner();
    tokio::select! {
        () = linger(stream) => {}
        () = place.closed.cancelled() => {}
        () = shutdown.cancelled() => {}
    }
}

/// Closes our half and waits for the other side to close its own, throwing away what it still sends.
async fn linger(mut stream: ImpatientWriter) {
    // Either side may be gone by now; there is nobody left to tell.
    let _ = tokio::time::timeout(LINGER, async {
        stream.shutdown().await?;
        let mut waste = [0; 8 * 1024];
        while stream.read(&mut waste).await? > 0 {}
        io::Result::Ok(())
    })
    .await;
}

/// A stream that fails a write which the other side has not let through for too long. Someone who
/// asks and never reads would otherwise hold the connection for ever.
struct ImpatientWriter {
    stream: TcpStream,
    patience: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
    activity: Arc<Activity>,
}

impl ImpatientWriter {
    fn new(stream: TcpStream, patience: Duration, activity: Arc<Activity>) -> Self {
        ImpatientWriter {
            stream,
            patience,
            stalled: None,
            activity,
        }
    }

    fn judge(
        &mut self,
        written: Poll<io::Result<usize>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stalled = None;
            self.activity.has_written(false);
            return written;
        }
        self.activity.has_written(true);
        let patience = self.patience;
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the other side does not read",
        )))
    }
}

impl AsyncRead for ImpatientWriter {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.activity.has_read();
        }
        read
    }
}

impl AsyncWrite for ImpatientWriter {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.judge(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.judge(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
