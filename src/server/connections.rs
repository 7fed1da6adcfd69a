//! Which connections there are, whose they are, and since when each waits for a request.
//!
//! Anybody can open connections and say nothing. So one that waits has its time, each sender has so many, and when all
//! are taken the one that has waited for longest is closed, not the next one turned away: a provider's request is here
//! in milliseconds.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use http_body::{Frame, SizeHint};
use ipnet::{IpNet, Ipv6Net};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::told::Seldom;

/// What one listener grants to the other side.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpLimits {
    /// For a whole request header, counted from its first byte; for the first one, from the connection's start.
    pub header_timeout: Duration,
    /// How long a connection may be idle between two requests.
    pub idle_timeout: Duration,
    /// How long the other side may leave an answer unread.
    pub write_timeout: Duration,
    /// Bytes of a request header.
    pub max_header_bytes: usize,
    /// Connections at once. For one more the one that has waited longest for its request is closed; while all are being
    /// answered, it waits.
    pub max_connections: usize,
    /// Connections of one sender at once; this machine and the proxies may have all.
    pub max_per_peer: usize,
    /// Proxies before the listener, which speak for many senders.
    pub trusted_proxies: Vec<IpNet>,
    /// How long a shutdown waits for requests that are being answered.
    pub grace: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        HttpLimits {
            header_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(15),
            write_timeout: Duration::from_secs(20),
            max_header_bytes: 32 * 1024,
            max_connections: 1024,
            max_per_peer: 64,
            trusted_proxies: Vec::new(),
            grace: Duration::from_secs(10),
        }
    }
}

/// Who is at the other end, as far as one sender can be told from another: the address, or the network of 64 bits that
/// one site has. `None` for this machine and for proxies, which speak for many.
pub(super) fn network_of(peer: IpAddr, proxies: &[IpNet]) -> Option<IpAddr> {
    let peer = peer.to_canonical();
    if peer.is_loopback() || proxies.iter().any(|network| network.contains(&peer)) {
        return None;
    }
    match peer {
        IpAddr::V4(_) => Some(peer),
        IpAddr::V6(address) => {
            let network = Ipv6Net::new(address, 64).map(|network| network.network());
            Some(network.unwrap_or(address).into())
        }
    }
}

/// The open connections of a listener.
#[derive(Debug)]
pub(super) struct Connections {
    limits: HttpLimits,
    open: Mutex<OpenConnections>,
    /// Rung when one ends, or has nothing to do any more.
    freed: Arc<Notify>,
    told: Seldom,
}

#[derive(Debug, Default)]
struct OpenConnections {
    next_id: u64,
    connections: BTreeMap<u64, OpenConnection>,
}

#[derive(Debug)]
struct OpenConnection {
    network: Option<IpAddr>,
    activity: Arc<Activity>,
    closed: CancellationToken,
}

/// A connection's place, given back when it is dropped.
#[derive(Debug)]
pub(super) struct ConnectionPlace {
    connections: Arc<Connections>,
    id: u64,
    pub(super) activity: Arc<Activity>,
    /// Cancelled when another connection is to have the place.
    pub(super) closed: CancellationToken,
}

impl Connections {
    pub(super) fn new(limits: HttpLimits) -> Arc<Connections> {
        Arc::new(Connections {
            limits,
            open: Mutex::default(),
            freed: Arc::default(),
            told: Seldom::default(),
        })
    }

    /// A place for a connection of `peer`, waited for while all others are being answered; `None` when this sender has
    /// all that it may have.
    pub(super) async fn admit(self: &Arc<Self>, peer: IpAddr) -> Option<ConnectionPlace> {
        let network = network_of(peer, &self.limits.trusted_proxies);
        if network.is_some() && !self.has_room_for(network) {
            let limit = self.limits.max_per_peer;
            self.tell("sender", |more| {
                tracing::warn!(%peer, limit, more, "a sender has all the connections that one may have, further ones are closed; if it is a proxy, name it in trusted_proxies");
            });
            return None;
        }
        loop {
            let freed = self.freed.notified();
            {
                let mut open = self.open();
                let is_full = open.connections.len() >= self.limits.max_connections;
                if !is_full || open.close_longest_waiting(|_| true) {
                    if is_full {
                        let limit = self.limits.max_connections;
                        self.tell("all", |more| {
                            tracing::warn!(limit, more, "all connections are taken: closed the one that has waited longest for its request");
                        });
                    }
                    return Some(self.seat(&mut open, network));
                }
            }
            freed.await;
        }
    }

    /// Whether a sender may have one more, if need be for one of its own that waits.
    fn has_room_for(&self, network: Option<IpAddr>) -> bool {
        let is_its_own = |connection: &OpenConnection| connection.network == network;
        let mut open = self.open();
        let count = open.connections.values().filter(|c| is_its_own(c)).count();
        count < self.limits.max_per_peer || open.close_longest_waiting(is_its_own)
    }

    fn seat(
        self: &Arc<Self>,
        open: &mut OpenConnections,
        network: Option<IpAddr>,
    ) -> ConnectionPlace {
        let id = open.next_id;
        open.next_id += 1;
        let activity = Arc::new(Activity::new(&self.limits, Arc::clone(&self.freed)));
        let closed = CancellationToken::new();
        open.connections.insert(
            id,
            OpenConnection {
                network,
                activity: Arc::clone(&activity),
                closed: closed.clone(),
            },
        );
        ConnectionPlace {
            connections: Arc::clone(self),
            id,
            activity,
            closed,
        }
    }

    fn tell(&self, what_is_full: &'static str, tell: impl FnOnce(u64)) {
        if let Some(more) = self.told.turn(what_is_full, Instant::now()) {
            tell(more);
        }
    }

    fn open(&self) -> MutexGuard<'_, OpenConnections> {
        // Nothing that holds the lock can leave it half-written.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenConnections {
    /// Closes the connection that has waited longest for its request among `these`; says whether there was one.
    fn close_longest_waiting(&mut self, these: impl Fn(&OpenConnection) -> bool) -> bool {
        let waiting = self.connections.iter().filter(|(_, c)| these(c));
        let waiting = waiting.filter_map(|(id, c)| Some((c.activity.waiting_since()?, *id)));
        let Some((_, id)) = waiting.min() else {
            return false;
        };
        if let Some(connection) = self.connections.remove(&id) {
            connection.closed.cancel();
        }
        true
    }
}

impl Drop for ConnectionPlace {
    fn drop(&mut self) {
        self.connections.open().connections.remove(&self.id);
        self.connections.freed.notify_one();
    }
}

/// What a connection is doing.
#[derive(Debug)]
pub(super) struct Activity {
    phase: Mutex<ConnectionPhase>,
    /// An answer is on its way, and the other side does not take it at the moment.
    is_stalled: AtomicBool,
    header_timeout: Duration,
    idle_timeout: Duration,
    freed: Arc<Notify>,
}

#[derive(Clone, Copy, Debug)]
enum ConnectionPhase {
    /// It waits for a request, of which nothing or a part is here.
    Waiting {
        since: Instant,
        until: Instant,
        has_begun: bool,
    },
    /// A request is being answered.
    Answering,
}

impl Activity {
    fn new(limits: &HttpLimits, freed: Arc<Notify>) -> Activity {
        let now = Instant::now();
        Activity {
            phase: Mutex::new(ConnectionPhase::Waiting {
                since: now,
                until: now + limits.header_timeout,
                has_begun: true,
            }),
            is_stalled: AtomicBool::new(false),
            header_timeout: limits.header_timeout,
            idle_timeout: limits.idle_timeout,
            freed,
        }
    }

    fn phase(&self) -> MutexGuard<'_, ConnectionPhase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes have come: with the first one of a request its time begins.
    pub(super) fn has_read(&self) {
        let mut phase = self.phase();
        if let ConnectionPhase::Waiting {
            has_begun: false, ..
        } = *phase
        {
            let now = Instant::now();
            *phase = ConnectionPhase::Waiting {
                since: now,
                until: now + self.header_timeout,
                has_begun: true,
            };
        }
    }

    /// Whether the other side takes what is written.
    pub(super) fn has_written(&self, is_stalled: bool) {
        self.is_stalled.store(is_stalled, Ordering::Relaxed);
    }

    /// A whole header is here: the request is being answered until the guard is dropped.
    pub(super) fn answering(self: &Arc<Self>) -> Answering {
        *self.phase() = ConnectionPhase::Answering;
        Answering(Arc::clone(self))
    }

    fn waiting_since(&self) -> Option<Instant> {
        match *self.phase() {
            ConnectionPhase::Waiting { since, .. } if !self.is_stalled.load(Ordering::Relaxed) => {
                Some(since)
            }
            _ => None,
        }
    }

    /// Waits until the connection has waited too long for a request.
    pub(super) async fn overdue(&self) {
        // A time that begins after a look ends after the next one: none is shorter than this.
        let pause = self.header_timeout.min(self.idle_timeout);
        loop {
            let now = Instant::now();
            let until = match *self.phase() {
                ConnectionPhase::Waiting { until, .. }
                    if !self.is_stalled.load(Ordering::Relaxed) =>
                {
                    until
                }
                _ => now + pause,
            };
            if until <= now {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }
}

/// Held while a request is being answered.
#[derive(Debug)]
pub(super) struct Answering(Arc<Activity>);

impl Drop for Answering {
    fn drop(&mut self) {
        let now = Instant::now();
        *self.0.phase() = ConnectionPhase::Waiting {
            since: now,
            until: now + self.0.idle_timeout,
            has_begun: false,
        };
        self.0.freed.notify_one();
    }
}

impl Answering {
    /// An answer's body that holds it to the body's end.
    pub(super) fn over(self, body: Body) -> Body {
        Body::new(AnsweringBody {
            body,
            _answering: self,
        })
    }
}

struct AnsweringBody {
    body: Body,
    _answering: Answering,
}

impl http_body::Body for AnsweringBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // S5: nothing was counted by sender.
    #[tokio::test]
    async fn a_sender_has_so_many_connections_and_gives_one_that_waits_for_the_next() {
        let connections = Connections::new(HttpLimits {
            max_connections: 5,
            max_per_peer: 2,
            ..HttpLimits::default()
        });
        let admit = async |peer: &str| {
            let admitted = connections.admit(peer.parse().unwrap());
            let limit = Duration::from_secs(20);
            tokio::time::timeout(limit, admitted)
                .await
                .expect("there is room")
        };
        let first = admit("192.0.2.1").await.unwrap();
        let second = admit("192.0.2.1").await.unwrap();
        let answering = [first.activity.answering(), second.activity.answering()];
        assert!(
            admit("192.0.2.1").await.is_none(),
            "both are being answered"
        );
        let other = admit("192.0.2.2").await.unwrap();
        drop(answering);
        let third = admit("192.0.2.1").await.unwrap();
        assert!(first.closed.is_cancelled() && !second.closed.is_cancelled());
        // This machine has no share: whoever is behind its proxy is somebody else each time.
        let local: Vec<_> = [admit("127.0.0.1").await, admit("127.0.0.1").await].into();
        assert!(!other.closed.is_cancelled());
        let one_more = admit("127.0.0.1").await;
        assert!(
            one_more.is_some() && other.closed.is_cancelled(),
            "it had waited longest"
        );
        drop((first, second, third, other, local, one_more));
        assert!(connections.open().connections.is_empty());
    }

    // S5: both times were 30 s, in which a thousand silent ones kept everybody out.
    #[tokio::test(start_paused = true)]
    async fn a_header_has_five_seconds_and_idling_fifteen() {
        let connections = Connections::new(HttpLimits::default());
        let peer = "192.0.2.1".parse().unwrap();
        let place = connections.admit(peer).await.unwrap();
        let lasts = async || {
            let began = Instant::now();
            place.activity.overdue().await;
            began.elapsed().as_secs()
        };
        assert_eq!(lasts().await, 5);
        drop(place.activity.answering());
        assert_eq!(lasts().await, 15);
        drop(place.activity.answering());
        place.activity.has_read();
        assert_eq!(lasts().await, 5);
    }

    #[test]
    fn a_sender_is_an_address_or_a_site_and_never_a_proxy() {
        let proxies = ["10.0.0.0/8".parse().unwrap()];
        let of = |peer: &str| {
            let network = network_of(peer.parse().unwrap(), &proxies);
            network.map(|network| network.to_string())
        };
        assert_eq!(of("192.0.2.7").as_deref(), Some("192.0.2.7"));
        assert_eq!(of("::ffff:192.0.2.7").as_deref(), Some("192.0.2.7"));
        assert_eq!(
            of("2001:db8:1:2:3:4:5:6").as_deref(),
            Some("2001:db8:1:2::")
        );
        for shared in ["127.0.0.1", "::1", "::ffff:127.0.0.1", "10.1.2.3"] {
            assert_eq!(of(shared), None, "{shared}");
        }
    }
}
