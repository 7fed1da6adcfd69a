//! Bytes in: opening an origin through the guard and streaming what it sends.
//!
//! Nothing is fetched that the guard has not allowed: the URL before the request, every address
//! that DNS gives in the resolver that the connection uses, and each redirect like a first request.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use jiff::SignedDuration;

use crate::error::Result;
use crate::model::Deadline;
use crate::model::api::{ApiRequest, ApiResponse};
use crate::signed_url::SignedUrl;

mod answer;
mod body;
pub mod client;
pub mod guard;
pub mod http;
mod offsets;
pub mod own_store;
mod request;
pub mod throttle;
pub mod waits;

pub use waits::Waits;

/// What to open.
#[derive(Clone, Debug)]
pub struct OpenRequest {
    /// The URL, sent byte for byte.
    pub url: SignedUrl,
    /// The bytes wanted, from `start` to `end` exclusive; `None` for all of it from 0.
    pub range: Option<ByteRange>,
    /// With a range: the validator that the origin's content must still have (`If-Range`).
    pub validator: Option<String>,
    /// Hosts that the source's configuration allows; empty means any public one.
    pub allow_hosts: Vec<String>,
    /// Until when the URL can be opened again: after that a slow body is held, not cut.
    pub deadline: Deadline,
    /// Who is told of waits for a turn at the host.
    pub waits: Waits,
}

/// A range of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    /// The first byte.
    pub start: u64,
    /// One past the last byte; `None` for "to the end".
    pub end: Option<u64>,
}

/// An origin that answered 200 or 206.
pub struct Opened {
    /// The URL that answered: another than was asked for after a redirect.
    pub url: SignedUrl,
    /// The length of the whole content in bytes, if told.
    pub length: Option<u64>,
    /// The first byte of the body: 0 for a 200, the asked-for start for a 206.
    pub start: u64,
    /// What identifies this version of the content: a strong ETag, else Last-Modified. `None` means
    /// that no range of it may be combined with another.
    pub validator: Option<String>,
    /// Whether ranges are worth trying (`Accept-Ranges: bytes`, or this is a 206).
    pub accepts_ranges: bool,
    /// Whether the protocol marks where the body ends (a length, chunks, HTTP/2 frames), so that a cut
    /// can't look like an end.
    pub is_delimited: bool,
    /// Content-Type, as sent.
    pub content_type: Option<String>,
    /// The body. It fails when the origin stalls, is cut before its announced end, or sends more.
    pub body: BoxStream<'static, Result<Bytes>>,
}

/// Opens origins and asks providers' APIs.
///
/// Errors are classified here: `expired` is not among them (only the caller knows the deadline):
/// 401 and 403 are `denied`, 404 and 410 `gone` (404 transient), 429 `throttled`, guard refusals
/// `refused`, everything that may pass `unreachable`.
#[async_trait]
pub trait Source: Send + Sync + 'static {
    /// GET, following at most five redirects by hand, each judged by the guard.
    async fn open(&self, request: &OpenRequest) -> Result<Opened>;

    /// As [`Source::open`], but `None` at once where `open` would wait for a connection to the host.
    async fn try_open(&self, request: &OpenRequest) -> Result<Option<Opened>>;

    /// One call of a provider's API; no redirects. Any HTTP status is an answer.
    async fn call(&self, request: &ApiRequest) -> Result<ApiResponse>;

    /// By how much our clock is ahead of the origin's of this URL, as the `Date` of its last answer told; `None` when
    /// it told nothing.
    fn clock_offset(&self, _url: &SignedUrl) -> Option<SignedDuration> {
        None
    }
}
