//! The parts of one object, from the origin into an upload, over as many lanes as are worth it. Long: one loop over one state.
//!
//! A lane is one long request that is cut into parts as it flows; there are few requests, and all that
//! is left of the content is opened at any time. All lanes are driven by one task: what costs time (the
//! sockets, TLS, sending) has tasks of its own below and above it.
//!
//! A lane that breaks for good leaves its parts to the others; if they can't have them the transfer
//! fails when the others are done, so that the next attempt has less to do.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::FuturesUnordered;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, MissedTickBehavior};

use crate::error::{Class, Error, Result};
use crate::object::Payload;
use crate::schedule::lanes::{LaneProbe, RateSample};
use crate::schedule::surge;
use crate::schedule::surge::Surge;
use crate::transfer::attempt::TransferAttempt;
use crate::transfer::content::ObservedContent;
use crate::transfer::download::fill::{Meter, read_part};
use crate::transfer::download::ranges::{LaneId, LaneRange, RangeQueue};
use crate::transfer::download::reader;
use crate::transfer::download::reader::{ContentVersion, OriginReader, Remote, Stop};
use crate::transfer::memory::shares::{Cover, Memory};
use crate::transfer::plan::{MAX_PARTS, Plan};
use crate::transfer::upload::in_flight::PartsInFlight;

/// How often it is looked whether there should be more lanes.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The transfer of one object in parts.
pub(in crate::transfer) struct LaneTransfer<'a> {
    attempt: &'a TransferAttempt<'a>,
    remote: Remote<'a>,
    version: ContentVersion,
    is_end_certain: bool,
    plan: Plan,
    spans: RangeQueue,
    content: ObservedContent,
    memory: Memory,
    uploads: PartsInFlight,
    work: FuturesUnordered<BoxFuture<'a, LaneEvent<'a>>>,
    next_id: LaneId,
    open: u32,
    opening: u32,
    ramp: LaneProbe,
    meter: Arc<Meter>,
    sampled_at: Instant,
    rate: Option<f64>,
    /// Why a lane broke whose parts nobody has.
    broken: Option<Error>,
}

/// One open request.
struct Lane<'a> {
    id: LaneId,
    reader: OriginReader<'a>,
    // Given back when the lane ends; the first lane of a transfer needs none.
    _permit: Option<OwnedSemaphorePermit>,
}

enum LaneEvent<'a> {
    Opened {
        id: LaneId,
        /// `None`: the host has no connection to spare.
        reader: Result<Option<OriginReader<'a>>, Stop>,
        permit: Option<OwnedSemaphorePermit>,
    },
    Read {
        lane: Lane<'a>,
        number: u32,
        part: Result<(Payload, Cover), Stop>,
    },
}

/// What a transfer in parts begins with.
pub(in crate::transfer) struct Start<'a> {
    pub(in crate::transfer) remote: Remote<'a>,
    pub(in crate::transfer) version: ContentVersion,
    /// Whether the end that is read will be known to be the content's end.
    pub(in crate::transfer) is_end_certain: bool,
    pub(in crate::transfer) plan: Plan,
    pub(in crate::transfer) spans: RangeQueue,
    pub(in crate::transfer) content: ObservedContent,
    pub(in crate::transfer) memory: Memory,
    pub(in crate::transfer) uploads: PartsInFlight,
    /// Lanes that it may have.
    pub(in crate::transfer) most_lanes: u32,
    /// Bytes that the bucket has already.
    pub(in crate::transfer) done_bytes: u64,
}

impl<'a> LaneTransfer<'a> {
    pub(in crate::transfer) fn new(
        attempt: &'a TransferAttempt<'a>,
        start: Start<'a>,
    ) -> LaneTransfer<'a> {
        let meter = Meter {
            done: AtomicU64::new(start.done_bytes),
            ..Meter::default()
        };
        LaneTransfer {
            attempt,
            remote: start.remote,
            version: start.version,
            is_end_certain: start.is_end_certain,
            plan: start.plan,
            spans: start.spans.far_reaching(start.remote.deadline.at.is_some()),
            content: start.content,
            memory: start.memory,
            uploads: start.uploads,
            work: FuturesUnordered::new(),
            next_id: 0,
            open: 0,
            opening: 0,
            ramp: LaneProbe::new(start.most_lanes),
            meter: Arc::new(meter),
            sampled_at: Instant::now(),
            rate: None,
            broken: None,
        }
    }

    /// Where the content comes from.
    pub(in crate::transfer) fn remote(&self) -> Remote<'a> {
        self.remote
    }

    /// Hands in the first part, which was read before.
    ///
    /// # Errors
    /// As [`ObservedContent::take`].
    pub(in crate::transfer) fn send_first(&mut self, payload: Payload, cover: Cover) -> Result<()> {
        self.content.take(0, &payload)?;
        let bytes = payload.size_bytes;
        self.meter.done.fetch_add(bytes, Ordering::Relaxed);
        self.uploads.send(1, payload, cover);
        self.spans = self
            .plan
            .spans(&BTreeSet::from([1]))
            .far_reaching(self.remote.deadline.at.is_some());
        Ok(())
    }

    /// Carries all parts; `reader` is where the first of them begins. Gives what was learnt of the content,
    /// of its version, and whether its end is certain.
    pub(in crate::transfer) async fn run(
        mut self,
        reader: Option<OriginReader<'a>>,
    ) -> Result<(ObservedContent, ContentVersion, bool), Stop> {
        let carried = self.carry(reader).await;
        if let Err(stop) = &carried {
            self.work.clear();
            if is_of_the_origin(stop) {
                self.send_the_rest().await;
            }
            self.uploads.stop().await;
        }
        carried.map(|()| (self.content, self.version, self.is_end_certain))
    }

    /// What was read of an origin that gives no more may be all that there will ever be of it, and is
    /// what the next attempt needs not ask for.
    async fn send_the_rest(&mut self) {
        while !self.uploads.is_idle() {
            let Ok(part) = self.uploads.next().await else {
                return;
            };
            let state = self.content.check.state();
            if self.attempt.note_part(part, state).await.is_err() {
                return;
            }
        }
    }

    async fn carry(&mut self, reader: Option<OriginReader<'a>>) -> Result<(), Stop> {
        if let Some(reader) = reader
            && let Some((id, _)) = self.take_lane()
        {
            self.start(id, reader, None);
        }
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if self.spans.is_empty() {
                // Lanes that are still being opened have come too late to help.
                self.work.clear();
                self.opening = 0;
            } else if self.work.is_empty() {
                self.open_more(1);
            }
            if self.work.is_empty() && self.uploads.is_idle() {
                return Ok(());
            }
            tokio::select! {
                Some(event) = self.work.next() => self.note(event).await?,
                part = self.uploads.next() => {
                    let part = match part {
                        Ok(part) => part,
                        Err(error) => return Err(self.attempt.judge_upload(error).await),
                    };
                    let state = self.content.check.state();
                    self.attempt.note_part(part, state).await?;
                }
                _ = look.tick() => self.look(),
            }
        }
    }

    async fn note(&mut self, event: LaneEvent<'a>) -> Result<(), Stop> {
        match event {
            LaneEvent::Opened { id, reader, permit } => {
                self.opening -= 1;
                match reader {
                    Ok(Some(reader)) => self.start(id, reader, permit),
                    Ok(None) => self.spans.give_back(id),
                    Err(stop) => self.note_unopened(id, stop)?,
                }
                Ok(())
            }
            LaneEvent::Read { lane, number, part } => {
                self.open -= 1;
                match part {
                    Ok((payload, cover)) => self.note_read(lane, number, payload, cover).await,
                    Err(stop) => self.note_broken(lane.id, stop),
                }
            }
        }
    }

    async fn note_read(
        &mut self,
        lane: Lane<'a>,
        number: u32,
        payload: Payload,
        cover: Cover,
    ) -> Result<(), Stop> {
        let target = self.plan.part_len(number);
        self.content.take(self.offset(number), &payload)?;
        let is_end = payload.size_bytes < target;
        self.is_end_certain = lane.reader.is_end_certain();
        if payload.size_bytes > 0 {
            self.uploads.send(number, payload, cover);
        }
        if is_end {
            // Only where the length is not known: the content has ended.
            self.spans.clear();
        } else if let Some(next) = self.spans.advance(lane.id) {
            self.grow_memory(next).await?;
            self.read(lane, next);
        }
        Ok(())
    }

    /// A lane more is a wish; one whose parts nobody else has is needed.
    fn note_unopened(&mut self, id: LaneId, stop: Stop) -> Result<(), Stop> {
        self.spans.give_back(id);
        self.ramp.cap(self.open);
        match stop {
            _ if !self.spans.has_free() => {
                tracing::debug!(job = %self.attempt.job.id, "the origin gives no further lane");
                Ok(())
            }
            Stop::Fail(error) if self.open > 0 => {
                self.broken.get_or_insert(error);
                Ok(())
            }
            stop => Err(stop),
        }
    }

    fn note_broken(&mut self, id: LaneId, stop: Stop) -> Result<(), Stop> {
        let Stop::Fail(error) = stop else {
            return Err(stop);
        };
        let is_of_origin = matches!(
            error.class(),
            Class::Denied | Class::Unreachable | Class::Throttled | Class::Gone
        );
        if !is_of_origin || self.open == 0 {
            return Err(error.into());
        }
        tracing::debug!(job = %self.attempt.job.id, cause = %error.full_message(), "a lane broke");
        self.spans.give_back(id);
        self.ramp.cap(self.open);
        self.broken.get_or_insert(error);
        Ok(())
    }

    /// Measures, and opens lanes where more are wanted.
    fn look(&mut self) {
        let done = self.meter.done.load(Ordering::Relaxed);
        self.attempt.progress.tell(done, self.version.length);
        let elapsed = self.sampled_at.elapsed();
        if elapsed >= self.ramp.window() && self.opening == 0 {
            let waited = Duration::from_micros(self.meter.waited.swap(0, Ordering::Relaxed));
            let sample = RateSample {
                elapsed,
                bytes: self.meter.fresh.swap(0, Ordering::Relaxed),
                lanes: self.open,
                starved: waited.as_secs_f64()
                    / (elapsed.as_secs_f64() * f64::from(self.open.max(1))),
            };
            self.sampled_at = Instant::now();
            self.rate = Some(sample.rate());
            self.ramp.decide(&sample);
        }
        let wanted = match self.door(done) {
            _ if self.broken.is_some() => 0,
            Surge::Closed => 0,
            Surge::Open => self.ramp.target(),
            Surge::Hold => self.ramp.most(),
        };
        let missing = wanted.saturating_sub(self.open + self.opening);
        self.open_more(missing);
    }

    fn door(&self, done: u64) -> Surge {
        surge::door(&surge::SurgeFacts {
            now: self.attempt.engine.clock.now(),
            deadline: self.remote.deadline,
            bytes_left: self.version.length.unwrap_or(0).saturating_sub(done),
            rate: self.rate,
        })
    }

    fn open_more(&mut self, lanes: u32) {
        for _ in 0..lanes {
            let is_needed = self.work.is_empty();
            let mut pause = Duration::ZERO;
            if is_needed && let Some(error) = self.broken.take() {
                // It may have been one connection too many for the origin: what is left is asked for once
                // more, over one. If that breaks, nobody else is open, and it fails.
                tracing::debug!(job = %self.attempt.job.id, cause = %error.full_message(), "asking over one lane");
                self.ramp.cap(1);
                pause = self.pause_after(&error);
            }
            let permit = match is_needed {
                true => None,
                false => match self.attempt.engine.spare_lane(self.is_urgent()) {
                    Some(permit) => Some(permit),
                    None => break,
                },
            };
            // What nobody has is worth waiting for, if it can't be asked for later.
            let waits = is_needed || (self.spans.has_free() && self.is_urgent());
            let Some((id, run)) = self.take_lane() else {
                break;
            };
            self.open_lane(id, run, permit, waits.then_some(pause));
        }
    }

    /// How long the origin is left alone after `error`: not at all when the URL is about to die.
    fn pause_after(&self, error: &Error) -> Duration {
        match self.door(self.meter.done.load(Ordering::Relaxed)) {
            Surge::Open => reader::capped_delay(error.retry_after()),
            Surge::Hold | Surge::Closed => Duration::ZERO,
        }
    }

    fn is_urgent(&self) -> bool {
        self.door(self.meter.done.load(Ordering::Relaxed)) == Surge::Hold
    }

    fn take_lane(&mut self) -> Option<(LaneId, LaneRange)> {
        let id = self.next_id;
        let run = self.spans.take(id)?;
        self.next_id += 1;
        Some((id, run))
    }

    /// `pause`: how long to wait before, and then for a connection; `None` not to wait for one at all.
    fn open_lane(
        &mut self,
        id: LaneId,
        run: LaneRange,
        permit: Option<OwnedSemaphorePermit>,
        pause: Option<Duration>,
    ) {
        let (start, end) = (self.offset(run.next), self.offset(run.reach));
        let (remote, version) = (self.remote, self.version.clone());
        self.opening += 1;
        let opening = async move {
            let reader = match pause {
                Some(pause) => {
                    tokio::time::sleep(pause).await;
                    let opened = OriginReader::open_range(remote, &version, start, end).await;
                    opened.map(Some)
                }
                None => OriginReader::try_open_range(remote, &version, start, end).await,
            };
            LaneEvent::Opened { id, reader, permit }
        };
        self.work.push(opening.boxed());
    }

    fn start(
        &mut self,
        id: LaneId,
        reader: OriginReader<'a>,
        permit: Option<OwnedSemaphorePermit>,
    ) {
        // None: those who have its parts were faster and need no help any more.
        if let Some(run) = self.spans.open(id) {
            let lane = Lane {
                id,
                reader,
                _permit: permit,
            };
            self.read(lane, run.next);
        }
    }

    fn read(&mut self, mut lane: Lane<'a>, number: u32) {
        self.open += 1;
        let target = self.plan.part_len(number);
        if self.version.length.is_some()
            && let Some(run) = self.spans.run(lane.id)
        {
            lane.reader.read_to(self.offset(run.end));
        }
        let is_last = self.plan.part_len(number + 1) == 0 || number == MAX_PARTS;
        let (memory, meter) = (self.memory.clone(), Arc::clone(&self.meter));
        let (progress, total) = (&self.attempt.progress, self.version.length);
        let reading = async move {
            let told = |done| progress.tell(done, total);
            let part = read_part(&mut lane.reader, target, is_last, &memory, &meter, told).await;
            LaneEvent::Read { lane, number, part }
        };
        self.work.push(reading.boxed());
    }

    /// Parts of an unknown length grow.
    async fn grow_memory(&mut self, number: u32) -> Result<()> {
        let part_bytes = self.plan.part_len(number);
        if part_bytes > self.memory.part_bytes() {
            self.memory.grow(part_bytes).await?;
        }
        Ok(())
    }

    /// Where a part begins, in content of a known length.
    fn offset(&self, number: u32) -> u64 {
        let length = self.version.length.unwrap_or(u64::MAX);
        (u64::from(number - 1) * self.plan.part_len(1)).min(length)
    }
}

/// Whether the origin is what failed, and what it gave so far is good.
fn is_of_the_origin(stop: &Stop) -> bool {
    use Class::*;
    match stop {
        Stop::Fail(error) => {
            matches!(
                error.class(),
                Denied | Expired | Gone | Unreachable | Throttled
            )
        }
        Stop::Restart { .. } | Stop::Resend(_) | Stop::Taken => false,
    }
}
