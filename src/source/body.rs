//! A body that is watched: it fails when the origin stalls, trickles, or ends before its announced end.
//!
//! Only the time that we wait for the origin counts. While we ourselves do not read, because the
//! bucket is slow, the body waits in the socket and nothing is held against the origin. Past the URL's
//! deadline, when it can't be opened again, a slow body is held and not cut.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep};

use crate::clock::SharedClock;
use crate::error::{Class, Error, Result};
use crate::model::Deadline;

/// When an origin counts as too slow.
#[derive(Clone, Copy, Debug)]
pub(super) struct LeastPace {
    /// The longest wait for one byte, and the window of the rate.
    pub(super) stall_timeout: Duration,
    /// The lowest rate over a window, in bytes per second.
    pub(super) min_rate: u64,
}

/// Until when the origin can be opened again, and who knows what time it is.
#[derive(Clone)]
pub(super) struct DoorHold {
    /// The URL's deadline.
    pub(super) deadline: Deadline,
    /// The clock.
    pub(super) clock: SharedClock,
}

impl DoorHold {
    /// Past the deadline a slow body is all there is: nothing is gained by cutting it.
    fn is_on(&self) -> bool {
        self.deadline.is_past(self.clock.now())
    }
}

/// How many times longer than the stall timeout a body that can't be opened again is waited for.
const HELD_TIMES: u32 = 10;

struct Watched<S> {
    stream: S,
    pace: LeastPace,
    hold: DoorHold,
    announced: Option<u64>,
    received: u64,
    window_bytes: u64,
    window_waited: Duration,
    waiting_since: Option<Instant>,
    // One timer for the whole body; it is set anew only when it rings.
    alarm: Pin<Box<Sleep>>,
    is_over: bool,
    // Held until the body is over: a connection to the host is in use.
    permit: Option<OwnedSemaphorePermit>,
}

/// Watches `stream`, which was announced to have `announced` bytes.
pub(super) fn watch<S>(
    stream: S,
    announced: Option<u64>,
    pace: LeastPace,
    hold: DoorHold,
    permit: OwnedSemaphorePermit,
) -> BoxStream<'static, Result<Bytes>>
where
    S: Stream<Item = Result<Bytes, hyper::Error>> + Send + Unpin + 'static,
{
    Watched {
        stream,
        pace,
        hold,
        announced,
        received: 0,
        window_bytes: 0,
        window_waited: Duration::ZERO,
        waiting_since: None,
        alarm: Box::pin(tokio::time::sleep(pace.stall_timeout)),
        is_over: false,
        permit: Some(permit),
    }
    .boxed()
}

impl<S> Stream for Watched<S>
where
    S: Stream<Item = Result<Bytes, hyper::Error>> + Unpin,
{
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.is_over {
            return Poll::Ready(None);
        }
        let next = loop {
            match this.stream.poll_next_unpin(cx) {
                Poll::Ready(item) => match this.take(item) {
                    Ok(Some(chunk)) if chunk.is_empty() => {}
                    next => break next,
                },
                Poll::Pending => match ready!(this.poll_stall(cx)) {
                    Ok(()) => {}
                    Err(error) => break Err(error),
                },
            }
        };
        this.is_over = !matches!(next, Ok(Some(_)));
        if this.is_over {
            this.permit = None;
        }
        Poll::Ready(next.transpose())
    }
}

impl<S> Watched<S> {
    fn take(&mut self, item: Option<Result<Bytes, hyper::Error>>) -> Result<Option<Bytes>> {
        let waited = self.waiting_since.take().map(|since| since.elapsed());
        let chunk = match item {
            None => return self.end(),
            Some(Err(error)) => {
                return Err(Error::transient(
                    Class::Unreachable,
                    format!("the body was cut after {}", self.progress()),
                )
                .with_source(error));
            }
            Some(Ok(chunk)) => chunk,
        };
        self.received += chunk.len() as u64;
        self.check_rate(chunk.len() as u64, waited.unwrap_or_default())?;
        if self
            .announced
            .is_some_and(|announced| self.received > announced)
        {
            return Err(Error::transient(
                Class::Corrupt,
                format!(
                    "the origin sent more than it announced: {}",
                    self.progress()
                ),
            ));
        }
        Ok(Some(chunk))
    }

    /// Ready when the origin has kept us waiting for too long.
    fn poll_stall(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let since = *self.waiting_since.get_or_insert_with(Instant::now);
        loop {
            ready!(self.alarm.as_mut().poll(cx));
            let waited = since.elapsed();
            let patience = match waited >= self.pace.stall_timeout && self.hold.is_on() {
                true => self.pace.stall_timeout * HELD_TIMES,
                false => self.pace.stall_timeout,
            };
            if waited >= patience {
                return Poll::Ready(Err(self.too_slow("no byte", waited)));
            }
            let again = (since + patience).min(Instant::now() + self.pace.stall_timeout);
            self.alarm.as_mut().reset(again);
        }
    }

    fn end(&self) -> Result<Option<Bytes>> {
        match self.announced {
            Some(announced) if announced != self.received => Err(Error::transient(
                Class::Unreachable,
                format!("the body was cut after {}", self.progress()),
            )),
            _ => Ok(None),
        }
    }

    fn check_rate(&mut self, bytes: u64, waited: Duration) -> Result<()> {
        self.window_bytes += bytes;
        self.window_waited += waited;
        if self.window_waited < self.pace.stall_timeout {
            return Ok(());
        }
        let wanted = self.pace.min_rate as f64 * self.window_waited.as_secs_f64();
        if (self.window_bytes as f64) < wanted && !self.hold.is_on() {
            let said = format!("only {} bytes", self.window_bytes);
            return Err(self.too_slow(&said, self.window_waited));
        }
        self.window_bytes = 0;
        self.window_waited = Duration::ZERO;
        Ok(())
    }

    fn too_slow(&self, what: &str, within: Duration) -> Error {
        Error::transient(
            Class::Unreachable,
            format!(
                "the origin sent {what} in {:.1} s, after {}",
                within.as_secs_f64(),
                self.progress()
            ),
        )
    }

    fn progress(&self) -> String {
        match self.announced {
            Some(announced) => format!("{} of {announced} bytes", self.received),
            None => format!("{} bytes", self.received),
        }
    }
}
