//! A request body that hands out the chunks it was given, without copying them.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::object::Payload;

/// The payload as a body that the SDK can send again.
///
/// Without `retryable` the SDK never retries a streaming body: one 503 would fail the part.
pub(super) fn stream(payload: &Payload) -> ByteStream {
    let payload = payload.clone();
    ByteStream::new(SdkBody::retryable(move || {
        SdkBody::from_body_1_x(Chunks::of(&payload))
    }))
}

/// A payload on its way.
pub(super) struct Chunks {
    chunks: Arc<Vec<Bytes>>,
    next: usize,
    left: u64,
}

impl Chunks {
    /// Nothing.
    pub(super) fn none() -> Chunks {
        Chunks {
            chunks: Arc::default(),
            next: 0,
            left: 0,
        }
    }

    /// All of it.
    pub(super) fn of(payload: &Payload) -> Chunks {
        Chunks {
            chunks: Arc::clone(&payload.chunks),
            next: 0,
            left: payload.size_bytes,
        }
    }
}

impl Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        while let Some(chunk) = self.chunks.get(self.next).cloned() {
            self.next += 1;
            if !chunk.is_empty() {
                self.left = self.left.saturating_sub(chunk.len() as u64);
                return Poll::Ready(Some(Ok(Frame::data(chunk))));
            }
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;

    #[tokio::test]
    async fn chunks_come_out_whole_and_in_order_with_an_exact_length() {
        let chunks: Vec<Bytes> = ["re", "", "cord", "ing"].map(Bytes::from).into();
        let body = Chunks {
            chunks: Arc::new(chunks),
            next: 0,
            left: 9,
        };
        assert_eq!(body.size_hint().exact(), Some(9));
        let bytes = body.collect().await.unwrap().to_bytes();
        assert_eq!(bytes, "recording");
    }

    #[test]
    fn an_empty_body_ends_before_it_is_polled() {
        let body = Chunks::none();
        assert!(body.is_end_stream());
        assert_eq!(body.size_hint().exact(), Some(0));
    }
}
