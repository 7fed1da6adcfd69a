//! The memory of one recording's playlists: their texts, their URLs, and all that is made of each reference.
//!
//! It is counted before a playlist is read, and comes out of the process's one budget: of the half of it that may
//! be held for whole attempts. A recording begins with a little of it, for which it waits in line while it holds
//! nothing. More is only taken if it is free at once: two that held what the other waits for would wait for ever. One
//! that finds nothing free gives all back, and its playlists are read again with more from the start ([`wanted`]).

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::{Class, Error, Result};
use crate::format::hls::MAX_REFERENCES;
use crate::transfer::memory::budget::{Budget, Share};

/// What a recording begins with: the playlists of some thousand segments fit.
const FIRST_BYTES: u64 = 4 * 1024 * 1024;

/// The most for one recording: the texts and URLs of as many references as there may be.
const MOST_BYTES: u64 = 192 * 1024 * 1024;

/// By how much it grows at a time.
const STEP_BYTES: u64 = 256 * 1024;

/// What is made of one reference beside its URL.
pub(super) const REFERENCE_BYTES: u64 = 300;

/// What one file costs while it is carried: its names, and where it landed.
pub(super) const PIECE_BYTES: u64 = 300;

/// How long one that follows a growing playlist, and can't begin again, waits for more.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// No memory was free for the playlists; how much would have been needed.
#[derive(Debug, thiserror::Error)]
#[error("other transfers hold limits.memory")]
struct Crowded {
    bytes: u64,
}

/// How much memory the playlists need from the start, if `error` says that none was free.
pub(super) fn wanted(error: &Error) -> Option<u64> {
    let cause = std::error::Error::source(error)?;
    Some(cause.downcast_ref::<Crowded>()?.bytes)
}

/// The memory of one recording's playlists. It is given back on drop, or by [`Room::close`].
#[derive(Debug)]
pub(super) struct Room {
    budget: Budget,
    held: Mutex<HeldPlaylist>,
}

#[derive(Debug, Default)]
struct HeldPlaylist {
    share: Option<Share>,
    bytes: u64,
    used_bytes: u64,
    references: u64,
}

impl Room {
    /// The most that the playlists of one recording may take of `budget`.
    pub(super) fn most_bytes(budget: &Budget) -> u64 {
        budget.lasting_bytes().min(MOST_BYTES)
    }

    /// Nothing: for who reads no playlists.
    pub(super) fn empty(budget: &Budget) -> Room {
        Room {
            budget: budget.clone(),
            held: Mutex::default(),
        }
    }

    /// Waits in line for `bytes`, or for the usual beginning where that is more.
    pub(super) async fn open(budget: &Budget, bytes: u64) -> Result<Room> {
        let bytes = bytes.max(FIRST_BYTES).min(Room::most_bytes(budget));
        let share = budget.take_lasting(bytes).await?;
        Ok(Room {
            budget: budget.clone(),
            held: Mutex::new(HeldPlaylist {
                share: Some(share),
                bytes,
                ..HeldPlaylist::default()
            }),
        })
    }

    /// Takes `bytes` before they are needed.
    ///
    /// # Errors
    /// `refused` beyond what one recording may take; transient when they are not free now, see [`wanted`].
    pub(super) fn take(&self, bytes: u64) -> Result<()> {
        let mut held = self.held();
        let needed = held.used_bytes.saturating_add(bytes);
        if needed > held.bytes {
            let most = Room::most_bytes(&self.budget);
            if needed > most {
                return Err(Error::new(
                    Class::Refused,
                    format!(
                        "its playlists would take more memory than {most} bytes, of which half of limits.memory is the limit"
                    ),
                ));
            }
            let missing = needed - held.bytes;
            let step = missing.next_multiple_of(STEP_BYTES).min(most - held.bytes);
            let Some(more) = self.budget.try_take_lasting(step) else {
                let crowded = Crowded { bytes: needed };
                return Err(
                    Error::transient(Class::Throttled, "read the playlists").with_source(crowded)
                );
            };
            match &mut held.share {
                Some(share) => share.merge(more),
                None => held.share = Some(more),
            }
            held.bytes += step;
        }
        held.used_bytes = needed;
        Ok(())
    }

    /// As [`Room::take`], waiting for a while for what is not free.
    pub(super) async fn take_in_time(&self, bytes: u64) -> Result<()> {
        let begun = tokio::time::Instant::now();
        loop {
            match self.take(bytes) {
                Err(error) if wanted(&error).is_some() && begun.elapsed() < PATIENCE => {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                ended => return ended,
            }
        }
    }

    /// Gives back what was taken; others may have what is far more than is used.
    pub(super) fn give_back(&self, bytes: u64) {
        let mut held = self.held();
        held.used_bytes = held.used_bytes.saturating_sub(bytes);
        let spare = held.bytes.saturating_sub(held.used_bytes.max(FIRST_BYTES));
        let spare = spare / STEP_BYTES * STEP_BYTES;
        if let Some(share) = held.share.as_mut().filter(|_| spare > 0) {
            share.give_back(spare);
            held.bytes -= spare;
        }
    }

    /// Counts references of all playlists together.
    ///
    /// # Errors
    /// `refused` when they are too many.
    pub(super) fn count_references(&self, count: u64) -> Result<()> {
        let mut held = self.held();
        check_references(held.references + count)?;
        held.references += count;
        Ok(())
    }

    /// Whether so many more references would be too many.
    ///
    /// # Errors
    /// `refused`.
    pub(super) fn expect_references(&self, count: u64) -> Result<()> {
        check_references(self.held().references + count)
    }

    /// Forgets references of playlists that are read anew.
    pub(super) fn forget_references(&self, count: u64) {
        let mut held = self.held();
        held.references = held.references.saturating_sub(count);
    }

    /// Bytes and references that are counted now.
    pub(super) fn used(&self) -> (u64, u64) {
        let held = self.held();
        (held.used_bytes, held.references)
    }

    /// Gives all back, whoever still knows the room.
    pub(super) fn close(&self) {
        *self.held() = HeldPlaylist::default();
    }

    fn held(&self) -> MutexGuard<'_, HeldPlaylist> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn check_references(count: u64) -> Result<()> {
    match count <= MAX_REFERENCES as u64 {
        true => Ok(()),
        false => Err(Error::new(
            Class::Refused,
            format!("the playlists name more than {MAX_REFERENCES} files"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[tokio::test]
    async fn what_is_not_free_is_told_with_how_much_would_be_needed() {
        let budget = Budget::new(32 * MIB);
        let first = Room::open(&budget, 0).await.unwrap();
        let second = Room::open(&budget, 0).await.unwrap();
        first.take(9 * MIB).unwrap();
        let error = second.take(8 * MIB).unwrap_err();
        assert_eq!(wanted(&error), Some(8 * MIB));
        assert!(error.is_transient());
        // What is waited for in line holds nothing meanwhile.
        drop(second);
        let mut again = Box::pin(Room::open(&budget, 8 * MIB));
        assert!(futures::poll!(&mut again).is_pending());
        first.give_back(6 * MIB);
        let again = again.await.unwrap();
        again.take(8 * MIB).unwrap();
        let error = again.take(9 * MIB).unwrap_err();
        assert_eq!((error.class(), wanted(&error)), (Class::Refused, None));
        first.close();
        drop(again);
        assert_eq!(budget.held_bytes(), 0);
    }

    #[tokio::test]
    async fn references_are_counted_over_all_playlists() {
        let room = Room::open(&Budget::new(32 * MIB), 0).await.unwrap();
        room.count_references(150_000).unwrap();
        room.expect_references(50_000).unwrap();
        let error = room.count_references(50_001).unwrap_err();
        assert_eq!(
            error.full_message(),
            "the playlists name more than 200000 files"
        );
        room.forget_references(1);
        room.count_references(50_001).unwrap();
    }
}
