//! Reading a webhook's body: never more than its limit, never slower than a minimum, and never more memory for all of
//! them than there is.
//!
//! Nobody has to prove anything to make us hold a body, so what is not proven yet has half of the room only, and of
//! that so much for each sender and each source. Where it runs out, the body that has been on its way for longest makes
//! room: a provider's whole body is here in milliseconds, one that somebody holds back is the oldest.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::rejection::Rejection;

/// A body has to come this fast, after the time that every body has.
const BYTES_PER_SECOND: u64 = 64 * 1024;

/// The least that a body counts for.
const BODY_MIN_BYTES: usize = 1024;

/// A body that has been on its way for longer may have to make room.
const HELD_AFTER: Duration = Duration::from_millis(500);

/// How much there is room for, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct BodyLimits {
    /// All bodies, until they are in the store.
    pub(super) all: usize,
    /// Those of which nothing proves the sender yet.
    pub(super) unproven: usize,
    /// Of these, those of one sender, and those for one source.
    pub(super) share: usize,
}

impl Default for BodyLimits {
    fn default() -> Self {
        BodyLimits {
            all: 64 << 20,
            unproven: 32 << 20,
            share: 8 << 20,
        }
    }
}

impl BodyLimits {
    /// With room for bodies of `largest` bytes.
    pub(super) fn at_least(self, largest: usize) -> BodyLimits {
        BodyLimits {
            all: self.all.max(4 * largest),
            unproven: self.unproven.max(2 * largest),
            share: self.share.max(largest),
        }
    }
}

/// The bodies that are in memory.
#[derive(Debug)]
pub(super) struct BodyPool {
    limits: BodyLimits,
    held: Mutex<HeldBodies>,
}

#[derive(Debug, Default)]
struct HeldBodies {
    next_id: u64,
    all: usize,
    unproven: UnprovenRoom,
    /// In the order in which they came.
    bodies: BTreeMap<u64, HeldBody>,
}

/// What the bodies of unproven senders take.
#[derive(Debug, Default)]
struct UnprovenRoom {
    all: usize,
    of_peer: HashMap<IpAddr, usize>,
    of_source: HashMap<Arc<str>, usize>,
}

#[derive(Debug)]
struct HeldBody {
    bytes: usize,
    peer: Option<IpAddr>,
    source: Arc<str>,
    is_proven: bool,
    /// Since when it is on its way; `None` once it is here.
    begun: Option<Instant>,
    evicted: CancellationToken,
}

/// The memory of one body, given back when it is dropped.
#[derive(Debug)]
pub(super) struct BodyMemory {
    pool: Arc<BodyPool>,
    id: u64,
    evicted: CancellationToken,
}

impl BodyPool {
    pub(super) fn new(limits: BodyLimits) -> Arc<BodyPool> {
        Arc::new(BodyPool {
            limits,
            held: Mutex::default(),
        })
    }

    /// UnprovenRoom for a body that begins. `peer` is who sends it, if that tells one sender from another.
    pub(super) fn begin(
        self: &Arc<Self>,
        peer: Option<IpAddr>,
        source: &str,
        is_proven: bool,
        now: Instant,
    ) -> Result<BodyMemory, Rejection> {
        let evicted = CancellationToken::new();
        let mut held = self.held();
        let id = held.next_id;
        held.next_id += 1;
        held.bodies.insert(
            id,
            HeldBody {
                bytes: 0,
                peer,
                source: source.into(),
                is_proven,
                begun: Some(now),
                evicted: evicted.clone(),
            },
        );
        drop(held);
        let memory = BodyMemory {
            pool: Arc::clone(self),
            id,
            evicted,
        };
        memory.hold(BODY_MIN_BYTES, now)?;
        Ok(memory)
    }

    fn held(&self) -> MutexGuard<'_, HeldBodies> {
        // Nothing that holds the lock can leave it half-written.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BodyMemory {
    /// Counts the body as so many bytes from now on.
    ///
    /// # Errors
    /// `Overloaded` when there is no room, or this one had to make room for another.
    pub(super) fn hold(&self, bytes: usize, now: Instant) -> Result<(), Rejection> {
        let limits = self.pool.limits;
        let mut held = self.pool.held();
        loop {
            let Some(body) = held.bodies.get(&self.id) else {
                return Err(Rejection::Overloaded);
            };
            let more = bytes.saturating_sub(body.bytes);
            let Some(crowd) = held.crowd(body, more, limits) else {
                held.resize(self.id, bytes);
                return Ok(());
            };
            let Some(oldest) = held.oldest(&crowd, self.id, now) else {
                return Err(Rejection::Overloaded);
            };
            if let Some(body) = held.remove(oldest) {
                body.evicted.cancel();
            }
        }
    }

    /// The body is here: it does not make room for others any more.
    fn is_here(&self) {
        if let Some(body) = self.pool.held().bodies.get_mut(&self.id) {
            body.begun = None;
        }
    }

    /// The sender is who it claims to be.
    pub(super) fn prove(&self) {
        let mut held = self.pool.held();
        if let Some(mut body) = held.remove(self.id) {
            body.is_proven = true;
            held.insert(self.id, body);
        }
    }
}

impl Drop for BodyMemory {
    fn drop(&mut self) {
        self.pool.held().remove(self.id);
    }
}

/// Where there is no room.
enum Crowd {
    Everywhere,
    Peer(IpAddr),
    Source(Arc<str>),
}

impl HeldBodies {
    fn crowd(&self, body: &HeldBody, more: usize, limits: BodyLimits) -> Option<Crowd> {
        let is_too_much = |held: usize, limit: usize| held + more > limit;
        if is_too_much(self.all, limits.all) {
            return Some(Crowd::Everywhere);
        }
        if body.is_proven {
            return None;
        }
        if is_too_much(self.unproven.all, limits.unproven) {
            return Some(Crowd::Everywhere);
        }
        // What is here is not held back by anybody but us.
        body.begun?;
        let of_source = self.unproven.of_source.get(&body.source);
        if is_too_much(of_source.copied().unwrap_or(0), limits.share) {
            return Some(Crowd::Source(Arc::clone(&body.source)));
        }
        let peer = body.peer?;
        let of_peer = self.unproven.of_peer.get(&peer);
        is_too_much(of_peer.copied().unwrap_or(0), limits.share).then_some(Crowd::Peer(peer))
    }

    /// The body in the crowd that has been on its way for longest.
    fn oldest(&self, crowd: &Crowd, but: u64, now: Instant) -> Option<u64> {
        let is_held = |body: &HeldBody| {
            let begun = body.begun.filter(|_| !body.is_proven && body.bytes > 0);
            begun.is_some_and(|begun| now.duration_since(begun) > HELD_AFTER)
        };
        let is_in_crowd = |body: &HeldBody| match crowd {
            Crowd::Everywhere => true,
            Crowd::Peer(peer) => body.peer == Some(*peer),
            Crowd::Source(source) => body.source == *source,
        };
        let mut bodies = self.bodies.iter();
        bodies
            .find(|(id, body)| **id != but && is_held(body) && is_in_crowd(body))
            .map(|(id, _)| *id)
    }

    fn insert(&mut self, id: u64, body: HeldBody) {
        let bytes = body.bytes;
        self.all += bytes;
        if !body.is_proven {
            self.unproven.all += bytes;
            *self
                .unproven
                .of_source
                .entry(Arc::clone(&body.source))
                .or_default() += bytes;
            if let Some(peer) = body.peer {
                *self.unproven.of_peer.entry(peer).or_default() += bytes;
            }
        }
        self.bodies.insert(id, body);
    }

    fn remove(&mut self, id: u64) -> Option<HeldBody> {
        let body = self.bodies.remove(&id)?;
        self.all -= body.bytes;
        if !body.is_proven {
            self.unproven.all -= body.bytes;
            give_back(&mut self.unproven.of_source, &body.source, body.bytes);
            if let Some(peer) = &body.peer {
                give_back(&mut self.unproven.of_peer, peer, body.bytes);
            }
        }
        Some(body)
    }

    fn resize(&mut self, id: u64, bytes: usize) {
        if let Some(mut body) = self.remove(id) {
            body.bytes = bytes;
            self.insert(id, body);
        }
    }
}

fn give_back<K: std::hash::Hash + Eq>(room: &mut HashMap<K, usize>, of: &K, bytes: usize) {
    if let Some(held) = room.get_mut(of) {
        *held -= bytes;
        if *held == 0 {
            room.remove(of);
        }
    }
}

/// Refuses a body that says itself that it is too large, before a byte of it is read.
pub(super) fn check_announced_size(
    headers: &HeaderMap,
    limit_bytes: usize,
) -> Result<(), Rejection> {
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<u64>().ok());
    match announced {
        Some(length) if length > limit_bytes as u64 => Err(Rejection::TooLarge {
            limit_bytes,
            announced,
        }),
        _ => Ok(()),
    }
}

/// Reads a body of at most `limit_bytes`, which `memory` counts. It has `patience`, and longer only while it comes at
/// the minimum rate.
pub(super) async fn read_body(
    body: Body,
    limit_bytes: usize,
    patience: Duration,
    memory: &BodyMemory,
) -> Result<Bytes, Rejection> {
    let mut body = body;
    let mut raw = Vec::new();
    let began = Instant::now();
    loop {
        let earned = Duration::from_millis(raw.len() as u64 * 1000 / BYTES_PER_SECOND);
        let frame = tokio::select! {
            biased;
            () = memory.evicted.cancelled() => return Err(Rejection::Overloaded),
            frame = timeout_at(began + patience + earned, body.frame()) => frame,
        };
        let Some(frame) = frame.map_err(|_| Rejection::TooSlow)? else {
            break;
        };
        let Ok(data) = frame.map_err(|_| Rejection::Cut)?.into_data() else {
            continue;
        };
        let length_bytes = raw.len() + data.len();
        if length_bytes > limit_bytes {
            return Err(Rejection::TooLarge {
                limit_bytes,
                announced: None,
            });
        }
        if length_bytes > raw.capacity() {
            let room = length_bytes.next_power_of_two().min(limit_bytes);
            memory.hold(room.max(BODY_MIN_BYTES), Instant::now())?;
            raw.reserve_exact(room - raw.len());
        }
        raw.extend_from_slice(&data);
    }
    memory.is_here();
    Ok(Bytes::from(raw))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: BodyLimits = BodyLimits {
        all: 100_000,
        unproven: 50_000,
        share: 20_000,
    };

    fn peer(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([192, 0, 2, last]))
    }

    #[test]
    fn a_sender_and_a_source_have_a_share_and_the_proven_have_the_other_half() {
        let pool = BodyPool::new(LIMITS);
        let now = Instant::now();
        let hold = |peer, source: &str, is_proven, bytes| {
            let memory = pool.begin(peer, source, is_proven, now)?;
            memory.hold(bytes, now).map(|()| memory)
        };
        let first = hold(peer(1), "a", false, 20_000).unwrap();
        assert!(
            hold(peer(1), "b", false, 10_000).is_err(),
            "the sender's share"
        );
        assert!(
            hold(peer(2), "a", false, 10_000).is_err(),
            "the source's share"
        );
        let second = hold(peer(2), "b", false, 20_000).unwrap();
        let third = hold(peer(3), "c", false, 10_000).unwrap();
        assert!(
            hold(peer(4), "d", false, 10_000).is_err(),
            "unproven ones together"
        );
        let proven = hold(peer(1), "a", true, 50_000).unwrap();
        assert!(hold(peer(1), "a", true, 10_000).is_err(), "all together");
        drop((second, third, proven));
        first.prove();
        assert!(hold(peer(1), "a", false, 20_000).is_ok());
        drop(first);
        assert_eq!(pool.held().all, 0);
        assert!(pool.held().unproven.of_peer.is_empty());
        assert!(pool.held().unproven.of_source.is_empty());
    }

    // S6: sixteen bodies that somebody held back refused every other one.
    #[test]
    fn a_body_that_is_held_back_makes_room_and_one_that_is_here_does_not() {
        let pool = BodyPool::new(LIMITS);
        let began = Instant::now();
        let held_back = pool.begin(peer(1), "a", false, began).unwrap();
        held_back.hold(10_000, began).unwrap();
        let here = pool.begin(peer(2), "a", false, began).unwrap();
        here.hold(10_000, began).unwrap();
        here.is_here();

        let soon = began + HELD_AFTER / 2;
        assert!(
            pool.begin(peer(3), "a", false, soon).is_err(),
            "both may be quick"
        );
        let later = began + HELD_AFTER * 2;
        let fresh = pool.begin(peer(3), "a", false, later).unwrap();
        fresh.hold(10_000, later).unwrap();
        assert!(held_back.evicted.is_cancelled());
        assert!(held_back.hold(11_000, later).is_err());
        assert!(!here.evicted.is_cancelled());
        let another = pool.begin(peer(4), "a", false, later);
        assert!(
            another.is_err(),
            "who came last is young, who is here stays"
        );
        drop((held_back, here, fresh));
        assert_eq!(pool.held().all, 0);
    }
}
