//! A body that is watched: it fails when the origin stalls, trickles, or ends before its announced end.
//!
//! Only the time that we wait for the origin counts. While we ourselves do not read, because the
//! bucket is slow, the body waits in the socket and nothing is held against the origin.

use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::error::{Class, Error, Result};

/// When an origin counts as too slow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// The longest wait for one byte, and the window of the rate.
    pub(super) stall_timeout: Duration,
    /// The lowest rate over a window, in bytes per second.
    pub(super) min_rate: u64,
}

struct Watched<S> {
    stream: S,
    pace: Pace,
    announced: Option<u64>,
    received: u64,
    window_bytes: u64,
    window_waited: Duration,
    // Held as long as the body lives: a connection to the host is in use.
    _permit: OwnedSemaphorePermit,
}

/// Watches `stream`, which was announced to have `announced` bytes.
pub(super) fn watch<S>(
    stream: S,
    announced: Option<u64>,
    pace: Pace,
    permit: OwnedSemaphorePermit,
) -> BoxStream<'static, Result<Bytes>>
where
    S: Stream<Item = reqwest::Result<Bytes>> + Send + Unpin + 'static,
{
    let watched = Watched {
        stream,
        pace,
        announced,
        received: 0,
        window_bytes: 0,
        window_waited: Duration::ZERO,
        _permit: permit,
    };
    futures::stream::try_unfold(watched, |mut watched| async move {
        let chunk = watched.next().await?;
        Ok(chunk.map(|chunk| (chunk, watched)))
    })
    .boxed()
}

impl<S> Watched<S>
where
    S: Stream<Item = reqwest::Result<Bytes>> + Unpin,
{
    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            let begun = Instant::now();
            let item = tokio::time::timeout(self.pace.stall_timeout, self.stream.next())
                .await
                .map_err(|_| self.too_slow("no byte", self.pace.stall_timeout))?;
            let chunk = match item {
                None => return self.end(),
                Some(Err(error)) => {
                    return Err(Error::transient(
                        Class::Unreachable,
                        format!("the body was cut after {}", self.progress()),
                    )
                    .with_source(error.without_url()));
                }
                Some(Ok(chunk)) => chunk,
            };
            self.received += chunk.len() as u64;
            self.check_rate(chunk.len() as u64, begun.elapsed())?;
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
            if !chunk.is_empty() {
                return Ok(Some(chunk));
            }
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
        if (self.window_bytes as f64) < wanted {
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
