//! One number for the memory of all transfers.
//!
//! Shares are taken in line and held until the bucket has acknowledged what they cover. Who holds a
//! share waits for nothing else without a limit. What each transfer may wait for, and why nobody waits in
//! a circle, is told in `memory.rs`.

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
    peak_units: Arc<AtomicU64>,
}

/// Bytes taken from the budget, given back on drop.
#[derive(Debug)]
#[must_use = "the share is given back when this is dropped"]
pub struct Share {
    permit: OwnedSemaphorePermit,
}

impl Share {
    /// Makes one share of two of the same budget.
    pub(super) fn merge(&mut self, other: Share) {
        self.permit.merge(other.permit);
    }
}

impl Budget {
    /// A budget of `bytes`.
    pub fn new(bytes: u64) -> Budget {
        let total_units = u32::try_from(bytes / UNIT_BYTES).unwrap_or(u32::MAX).max(1);
        Budget {
            units: Arc::new(Semaphore::new(total_units as usize)),
            total_units,
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
        let permit = self
            .units
            .clone()
            .acquire_many_owned(units)
            .await
            .map_err(|_| Error::internal("take a share of the memory budget"))?;
        self.peak_units
            .fetch_max(self.held_units(), Ordering::Relaxed);
        Ok(Share { permit })
    }

    /// Takes `bytes` if they are free now and nobody waits for them.
    pub(super) fn try_take(&self, bytes: u64) -> Option<Share> {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES).max(1)).ok()?;
        let permit = self.units.clone().try_acquire_many_owned(units).ok()?;
        self.peak_units
            .fetch_max(self.held_units(), Ordering::Relaxed);
        Some(Share { permit })
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

#[cfg(test)]
mod tests {
    use super::*;

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
