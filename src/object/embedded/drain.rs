//! Reading what is left of a refused body.
//!
//! Most refusals (no such bucket, wrong key, condition not met) are known before the body is read. If the
//! connection were closed then, a client that is still sending would see a broken pipe and never the
//! refusal, and would take a lasting refusal for a passing fault.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::oneshot;

/// More than this is not read for the sake of a refusal.
const DRAIN_MAX_BYTES: usize = 64 << 20;

/// Nor longer than this.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// A body that comes back to its lender when the borrower drops it.
pub(super) struct Lent {
    body: Option<Incoming>,
    back: Option<oneshot::Sender<Incoming>>,
}

/// Lends `body`; what is left of it comes out of the receiver.
pub(super) fn lend(body: Incoming) -> (Lent, oneshot::Receiver<Incoming>) {
    let (back, rest) = oneshot::channel();
    let lent = Lent {
        body: Some(body),
        back: Some(back),
    };
    (lent, rest)
}

/// Reads to the end within the limits. A body that is still in use stays with its user.
pub(super) async fn drain(mut rest: oneshot::Receiver<Incoming>) {
    let Ok(mut body) = rest.try_recv() else {
        return;
    };
    let read = async {
        let mut bytes = 0;
        while let Some(Ok(frame)) = body.frame().await {
            bytes += frame.data_ref().map_or(0, Bytes::len);
            if bytes > DRAIN_MAX_BYTES {
                break;
            }
        }
    };
    // A client that doesn't end its body in time loses the connection, which is all that could be done.
    let _ = tokio::time::timeout(DRAIN_LIMIT, read).await;
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let (Some(body), Some(back)) = (self.body.take(), self.back.take()) {
            let _ = back.send(body);
        }
    }
}

impl Body for Lent {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map(Incoming::size_hint)
            .unwrap_or_default()
    }
}
