//! The accept loop: HTTP/1.1 connections with limits on time, size and number.
//!
//! `axum::serve` has no time limit for a header, an idle connection or a reader that stops reading,
//! and a half-sent header blocks its graceful shutdown. This loop has them all, and a shutdown ends
//! within its grace period whatever the other sides do.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use futures::future::poll_fn;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

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

/// What one listener grants to the other side.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpLimits {
    /// For a whole request header, counted from the end of the request before: so it is also how long a
    /// connection may be idle.
    pub header_timeout: Duration,
    /// How long the other side may leave an answer unread.
    pub write_timeout: Duration,
    /// Bytes of a request header.
    pub max_header_bytes: usize,
    /// Connections at once; more wait in the kernel's queue until one ends.
    pub max_connections: usize,
    /// How long a shutdown waits for requests that are being answered.
    pub grace: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        HttpLimits {
            header_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(20),
            max_header_bytes: 32 * 1024,
            max_connections: 1024,
            grace: Duration::from_secs(10),
        }
    }
}

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
    let room = Arc::new(Semaphore::new(limits.max_connections));
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
            accepted = accept(&listener, &room) => accepted,
        };
        match accepted {
            Ok((stream, peer, permit)) => {
                pause = ACCEPT_PAUSE;
                let router = router.clone();
                let connection =
                    serve_connection(stream, peer, router, limits.clone(), shutdown.clone());
                connections.spawn(async move {
                    connection.await;
                    drop(permit);
                });
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

/// Room first, then the connection: one that would have to wait stays in the kernel's queue.
async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> io::Result<(TcpStream, Peer, OwnedSemaphorePermit)> {
    let permit = Arc::clone(room)
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, Peer(peer), permit))
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
    peer: Peer,
    router: Router,
    limits: HttpLimits,
    shutdown: CancellationToken,
) {
    // Answers are small and whole: waiting to fill a packet would only delay them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "can't set TCP_NODELAY");
    }
    let stream = ImpatientWriter::new(stream, limits.write_timeout);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        Box::pin(router.clone().oneshot(request))
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(limits.max_header_bytes)
        .serve_connection(TokioIo::new(stream), service);
    let ended = tokio::select! {
        ended = poll_fn(|cx| connection.poll_without_shutdown(cx)) => ended,
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
}

impl ImpatientWriter {
    fn new(stream: TcpStream, patience: Duration) -> Self {
        ImpatientWriter {
            stream,
            patience,
            stalled: None,
        }
    }

    fn judge(
        &mut self,
        written: Poll<io::Result<usize>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
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
        Pin::new(&mut self.stream).poll_read(cx, buffer)
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
