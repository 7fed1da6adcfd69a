//! One number for the memory of all transfers.
//!
//! Shares are taken in line and held until the bucket has acknowledged what they cover. Who holds a
//! share waits for nothing else without a limit. What each transfer may wait for, and why nobody waits in
//! a circle, is told in `memory.rs`.
//!
//! What is held for a whole attempt, as the playlists of a recording are, takes no more than half of it: the other
//! half is for what passes. A part that is larger than that half waits for the room of playlists too, and first,
//! so that it does not stand in the way of those whose playlists it waits for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Class, Error, Result};

/// Shares are counted in these, so that they fit the semaphore's 32-bit counts.
const UNIT_BYTES: u64 = 1024;

/// The bytes that all transfers together may hold. Clones share it.
#[derive(Clone, Debug)]
pub struct Budget {
    units: Arc<Semaphore>,
    total_units: u32,
    /// What of it may be held for whole attempts.
    lasting: Arc<Semaphore>,
    lasting_units: u32,
    peak_units: Arc<AtomicU64>,
}

/// Bytes taken from the budget, given back on drop.
#[derive(Debug)]
#[must_use = "the share is given back when this is dropped"]
pub struct Share {
    permit: OwnedSemaphorePermit,
    lasting: Option<OwnedSemaphorePermit>,
}

impl Share {
    /// Makes one share of two of the same budget.
    pub(in crate::transfer) fn merge(&mut self, other: Share) {
        self.permit.merge(other.permit);
        match (&mut self.lasting, other.lasting) {
            (Some(lasting), Some(more)) => lasting.merge(more),
            (lasting @ None, more) => *lasting = more,
            (Some(_), None) => {}
        }
    }

    /// Gives back `bytes` of it, in whole units.
    pub(in crate::transfer) fn give_back(&mut self, bytes: u64) {
        let units = usize::try_from(bytes / UNIT_BYTES).unwrap_or(usize::MAX);
        let units = units.min(self.permit.num_permits());
        drop(self.permit.split(units));
        if let Some(lasting) = &mut self.lasting {
            drop(lasting.split(units.min(lasting.num_permits())));
        }
    }
}

impl Budget {
    /// A budget of `bytes`.
    pub fn new(bytes: u64) -> Budget {
        let total_units = u32::try_from(bytes / UNIT_BYTES).unwrap_or(u32::MAX).max(1);
        Budget {
            units: Arc::new(Semaphore::new(total_units as usize)),
            total_units,
            lasting: Arc::new(Semaphore::new(total_units as usize / 2)),
            lasting_units: total_units / 2,
            peak_units: Arc::new(AtomicU64::new(0)),
        }
    }

    /// Takes `bytes`, waiting in line for them.
    ///
    /// # Errors
    /// `refused` when they are more than the whole budget.
    pub async fn take(&self, bytes: u64) -> Result<Share> {
        let units = bytes.div_ceil(UNIT_BYTES).max(1);
        let Some(units) = u32::try_from(units).ok().filter(|n| *n <= self.total_units) else {
            return Err(Error::new(
                Class::Refused,
                format!(
                    "a part of {bytes} bytes does not fit into limits.memory, {} bytes",
                    u64::from(self.total_units) * UNIT_BYTES
                ),
            ));
        };
        let beyond = units.saturating_sub(self.total_units - self.lasting_units);
        let lasting = match beyond {
            0 => None,
            beyond => Some(wait_for(&self.lasting, beyond).await?),
        };
        let permit = wait_for(&self.units, units).await?;
        self.note_peak();
        Ok(Share { permit, lasting })
    }

    /// The most that may be held for whole attempts.
    pub(in crate::transfer) fn lasting_bytes(&self) -> u64 {
        u64::from(self.lasting_units) * UNIT_BYTES
    }

    /// Takes `bytes`, no more than [`Budget::lasting_bytes`], for a whole attempt, waiting in line for them.
    /// Who waits here must hold nothing.
    ///
    /// # Errors
    /// `internal` when they are more.
    pub(in crate::transfer) async fn take_lasting(&self, bytes: u64) -> Result<Share> {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES).max(1)).unwrap_or(u32::MAX);
        if units > self.lasting_units {
            return Err(Error::internal("take more of the memory than may be held"));
        }
        let lasting = Some(wait_for(&self.lasting, units).await?);
        let permit = wait_for(&self.units, units).await?;
        self.note_peak();
        Ok(Share { permit, lasting })
    }

    /// The same if they are free now.
    pub(in crate::transfer) fn try_take_lasting(&self, bytes: u64) -> Option<Share> {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES).max(1)).ok()?;
        let lasting = self.lasting.clone().try_acquire_many_owned(units).ok()?;
        let permit = self.units.clone().try_acquire_many_owned(units).ok()?;
        self.note_peak();
        Some(Share {
            permit,
            lasting: Some(lasting),
        })
    }

    /// Takes `bytes` if they are free now and nobody waits for them.
    pub(in crate::transfer) fn try_take(&self, bytes: u64) -> Option<Share> {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES).max(1)).ok()?;
        let permit = self.units.clone().try_acquire_many_owned(units).ok()?;
        self.note_peak();
        Some(Share {
            permit,
            lasting: None,
        })
    }

    fn note_peak(&self) {
        self.peak_units
            .fetch_max(self.held_units(), Ordering::Relaxed);
    }

    /// The most bytes that were ever taken at once.
    pub fn peak_bytes(&self) -> u64 {
        self.peak_units.load(Ordering::Relaxed) * UNIT_BYTES
    }

    /// The bytes that are taken now.
    pub fn held_bytes(&self) -> u64 {
        self.held_units() * UNIT_BYTES
    }

    fn held_units(&self) -> u64 {
        u64::from(self.total_units) - self.units.available_permits() as u64
    }
}

async fn wait_for(units: &Arc<Semaphore>, count: u32) -> Result<OwnedSemaphorePermit> {
    let permit = units.clone().acquire_many_owned(count).await;
    permit.map_err(|_| Error::internal("take a share of the memory budget"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_lasts_takes_no_more_than_half_and_a_part_beyond_the_other_half_waits_for_it() {
        let budget = Budget::new(10 * 1024);
        let mut lasting = budget.take_lasting(3 * 1024).await.unwrap();
        lasting.merge(budget.try_take_lasting(2 * 1024).unwrap());
        assert!(budget.try_take_lasting(1024).is_none());
        assert!(budget.take_lasting(6 * 1024).await.is_err());
        let mut large = Box::pin(budget.take(6 * 1024));
        assert!(futures::poll!(&mut large).is_pending());
        // It waits, and is in nobody's way.
        drop(budget.take(5 * 1024).await.unwrap());
        lasting.give_back(1024);
        assert_eq!(budget.held_bytes(), 4 * 1024);
        drop(large.await.unwrap());
        drop(lasting);
        assert_eq!(budget.held_bytes(), 0);
    }

    #[tokio::test]
    async fn what_is_taken_gives_itself_back() {
        let budget = Budget::new(10 * 1024);
        let first = budget.take(6 * 1024).await.unwrap();
        let mut second = Box::pin(budget.take(5 * 1024));
        assert!(futures::poll!(&mut second).is_pending());
        drop(first);
        let second = second.await.unwrap();
        assert_eq!(budget.held_bytes(), 5 * 1024);
        drop(second);
        assert_eq!((budget.held_bytes(), budget.peak_bytes()), (0, 6 * 1024));
    }

    #[tokio::test]
    async fn more_than_the_whole_is_refused_at_once() {
        let error = Budget::new(1024).take(2048).await.unwrap_err();
        assert_eq!(error.class(), Class::Refused);
    }
}
