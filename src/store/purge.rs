//! What leaves the store: secrets that are of no more use, and what was archived longer ago than it is to be kept.
//!
//! A recording leaves only whole, when nothing of it has changed for all that time: were only its jobs to go, a later event
//! would rewrite its manifest without them. An event of a recording that has left begins a new one, whose documents get
//! numbered names beside the old ones, which stay as they are. The keys of its events stay behind for
//! [`RECEIPTS_KEPT`], so that a delivery that is repeated is known and makes no work.
//!
//! A few rows are taken at a time, so that webhooks get in between.

use jiff::{SignedDuration, Timestamp};

use super::Purged;
use super::engine::StoreEngine;
use super::seal::forget_bodies;
use super::stored::to_origin;
use super::tx::{StaleAges, StaleOrigin, StoreTx, Upkeep};
use crate::error::{Class, Result};
use crate::model::{Origin, RecordingId};
use crate::signed_url::SignedUrl;

/// The URL of a lost job is kept so long in any case: for a `retry`, and for a clock that is wrong.
const ORIGIN_KEPT: SignedDuration = SignedDuration::from_hours(7 * 24);

/// After its deadline a URL is of no use, whatever the clock says.
const DEAD_FOR: SignedDuration = SignedDuration::from_hours(24);

/// The URL of a lost job that has no deadline, or a guessed one, is kept so long.
const ENDLESS_ORIGIN_KEPT: SignedDuration = SignedDuration::from_hours(30 * 24);

/// What an event that carried nothing to archive said is kept so long.
const IGNORED_BODY_KEPT: SignedDuration = SignedDuration::from_hours(7 * 24);

/// How much longer than a recording the keys of its events are kept.
const RECEIPTS_KEPT: SignedDuration = SignedDuration::from_hours(90 * 24);

/// Rows in one transaction; recordings have several rows each.
const CHUNK: u32 = 256;
const RECORDINGS: u32 = 32;

/// Erases what is of no more use, and with a `retention` what was archived before it.
pub(super) async fn purge(
    engine: &impl StoreEngine,
    now: Timestamp,
    retention: Option<SignedDuration>,
) -> Result<Purged> {
    let cutoff = retention.map(|retention| before(now, retention));
    let mut purged = Purged {
        origins: forget_origins(engine, now).await?,
        bodies: forget_sealed_bodies(engine).await?
            + forget_loose_bodies(engine, now, cutoff).await?,
        ..Purged::default()
    };
    if let Some(cutoff) = cutoff {
        purged.recordings = remove_recordings(engine, cutoff).await?;
        purged.events = forget_events(engine, cutoff).await?;
    }
    engine.scrub().await?;
    Ok(purged)
}

fn before(now: Timestamp, age: SignedDuration) -> Timestamp {
    now.saturating_sub(age).unwrap_or(Timestamp::MIN)
}

async fn forget_origins(engine: &impl StoreEngine, now: Timestamp) -> Result<u64> {
    let ages = StaleAges {
        given_up: before(now, ORIGIN_KEPT),
        dead: before(now, DEAD_FOR),
        endless: before(now, ENDLESS_ORIGIN_KEPT),
    };
    let mut forgotten = 0;
    loop {
        let find =
            engine.read(move |tx| Box::pin(async move { tx.stale_origins(&ages, CHUNK).await }));
        let found = find.await?;
        let is_last = found.len() < CHUNK as usize;
        let left: Vec<_> = found
            .into_iter()
            .map(|stale| {
                let left = what_is_left(&stale);
                (stale, left)
            })
            .collect();
        let replace =
            engine.write(move |tx| Box::pin(async move { tx.replace_origins(&left).await }));
        let changed = replace.await?;
        forgotten += changed;
        // What could not be changed would be found again for ever.
        if changed == 0 || is_last {
            return Ok(forgotten);
        }
    }
}

/// What a lost job keeps of its URL: its path where a fresh one can be asked for, else the reason for a `retry` to tell.
fn what_is_left(stale: &StaleOrigin) -> Origin {
    if stale.can_be_minted
        && let Ok(Origin::Url(url)) = to_origin(&stale.stored)
    {
        let (path, _) = url.expose().split_once('?').unwrap_or((url.expose(), ""));
        return Origin::Url(SignedUrl::new(path));
    }
    Origin::Unusable(
        Class::Expired,
        "its URL was erased, since it had been given up long ago; have the provider send the event again".to_owned(),
    )
}

/// Once, after an upgrade: recordings that an earlier version has sealed still have the bodies of their events.
async fn forget_sealed_bodies(engine: &impl StoreEngine) -> Result<u64> {
    let work = Upkeep::SealedBodies;
    let due = engine.read(move |tx| Box::pin(async move { tx.is_upkeep_due(work).await }));
    if !due.await? {
        return Ok(0);
    }
    let mut forgotten = 0;
    let mut after = None;
    loop {
        let find = engine
            .read(move |tx| Box::pin(async move { tx.sealed_after(after, RECORDINGS).await }));
        let found = find.await?;
        let Some(last) = found.last() else { break };
        after = Some(*last);
        let forget = engine.write(move |tx| Box::pin(forget_bodies_of_all(tx, found)));
        forgotten += forget.await?;
    }
    let done = engine.write(move |tx| Box::pin(async move { tx.upkeep_done(work).await }));
    done.await?;
    Ok(forgotten)
}

/// Forgets the bodies of those of the recordings that are sealed still.
async fn forget_bodies_of_all(tx: &mut dyn StoreTx, recordings: Vec<RecordingId>) -> Result<u64> {
    let mut forgotten = 0;
    for recording in tx.sealed_of(&recordings).await? {
        forgotten += forget_bodies(tx, recording).await?;
    }
    Ok(forgotten)
}

async fn forget_loose_bodies(
    engine: &impl StoreEngine,
    now: Timestamp,
    cutoff: Option<Timestamp>,
) -> Result<u64> {
    let ignored = before(now, IGNORED_BODY_KEPT);
    let mut all = 0;
    loop {
        let forget = engine.write(move |tx| {
            Box::pin(async move { tx.forget_loose_bodies(cutoff, ignored, CHUNK).await })
        });
        let forgotten = forget.await?;
        all += forgotten;
        if forgotten < u64::from(CHUNK) {
            return Ok(all);
        }
    }
}

async fn forget_events(engine: &impl StoreEngine, cutoff: Timestamp) -> Result<u64> {
    let cutoff = before(cutoff, RECEIPTS_KEPT);
    let mut all = 0;
    loop {
        let forget =
            engine.write(move |tx| Box::pin(async move { tx.forget_events(cutoff, CHUNK).await }));
        let forgotten = forget.await?;
        all += forgotten;
        if forgotten < u64::from(CHUNK) {
            return Ok(all);
        }
    }
}

async fn remove_recordings(engine: &impl StoreEngine, cutoff: Timestamp) -> Result<u64> {
    let mut removed = 0;
    let mut after = None;
    loop {
        let find = engine.read(move |tx| {
            Box::pin(async move { tx.purgeable_after(after, cutoff, RECORDINGS).await })
        });
        let found = find.await?;
        let Some(last) = found.last() else {
            return Ok(removed);
        };
        after = Some(*last);
        let remove = engine.write(move |tx| Box::pin(remove_those_left(tx, found, cutoff)));
        removed += remove.await?;
    }
}

async fn remove_those_left(
    tx: &mut dyn StoreTx,
    recordings: Vec<RecordingId>,
    cutoff: Timestamp,
) -> Result<u64> {
    // An event may have come since they were found.
    let still = tx.purgeable_of(&recordings, cutoff).await?;
    tx.remove_recordings(&still).await?;
    Ok(still.len() as u64)
}
