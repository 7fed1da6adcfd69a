//! The memory of one transfer: shares of the process's budget that grow as its parts do.
//!
//! With many slow lanes most parts are half full most of the time, so memory is taken as bytes come, a
//! step at a time. That alone could end in a circle: every lane with half a part, nobody able to finish
//! one. So a transfer begins only with a reserve for one whole part, which is for the lane that gets no
//! further step; it gives back its own steps, finishes its part, and the reserve is free again when the
//! bucket has that part.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Error, Result};
use crate::transfer::memory::budget::{Budget, Share};

/// By how much a part's memory grows at a time.
const STEP_BYTES: u64 = 256 * 1024;

/// Memory that one transfer's parts may take, its reserve included.
const TRANSFER_BYTES: u64 = 64 * 1024 * 1024;

/// The memory of one transfer. Clones share it.
#[derive(Clone)]
pub(in crate::transfer) struct Memory {
    all: Budget,
    own: Budget,
    reserve: Arc<Reserve>,
}

struct Reserve {
    bytes: u64,
    /// `None` while a larger one is waited for.
    _share: Option<Share>,
    turn: Arc<Semaphore>,
}

/// What covers one part.
#[derive(Default)]
pub(in crate::transfer) struct Cover {
    bytes: u64,
    steps: Option<(Share, Share)>,
    reserved: Option<(Arc<Reserve>, OwnedSemaphorePermit)>,
}

impl Memory {
    /// Waits in line for the reserve: one part of at most `part_bytes`.
    pub(in crate::transfer) async fn begin(all: &Budget, part_bytes: u64) -> Result<Memory> {
        let share = all.take(part_bytes).await?;
        Ok(Memory {
            all: all.clone(),
            own: Budget::new(TRANSFER_BYTES.saturating_sub(part_bytes).max(part_bytes)),
            reserve: Reserve::of(part_bytes, Some(share)),
        })
    }

    /// Waits in line for the reserve of larger parts. The old one is given back before: who held it while
    /// waiting could wait for another who does the same, or for itself. What is on its way to the bucket
    /// keeps its memory until it is there.
    pub(in crate::transfer) async fn grow(&mut self, part_bytes: u64) -> Result<()> {
        self.reserve = Reserve::of(0, None);
        *self = Memory::begin(&self.all, part_bytes).await?;
        Ok(())
    }

    /// The largest part that it is for.
    pub(in crate::transfer) fn part_bytes(&self) -> u64 {
        self.reserve.bytes
    }

    /// Makes `cover` reach over `bytes` of one part, waiting if it must.
    pub(in crate::transfer) async fn extend(&self, cover: &mut Cover, bytes: u64) -> Result<()> {
        while cover.bytes < bytes {
            if let Some(step) = self.try_step() {
                cover.add(step);
                continue;
            }
            tokio::select! {
                biased;
                turn = self.reserve.turn.clone().acquire_owned() => {
                    let turn = turn.map_err(|_| Error::internal("take the memory reserve"))?;
                    cover.steps = None;
                    cover.bytes = self.reserve.bytes.max(bytes);
                    cover.reserved = Some((Arc::clone(&self.reserve), turn));
                }
                step = self.step() => cover.add(step?),
            }
        }
        Ok(())
    }

    fn try_step(&self) -> Option<(Share, Share)> {
        let own = self.own.try_take(STEP_BYTES)?;
        Some((own, self.all.try_take(STEP_BYTES)?))
    }

    async fn step(&self) -> Result<(Share, Share)> {
        let own = self.own.take(STEP_BYTES).await?;
        Ok((own, self.all.take(STEP_BYTES).await?))
    }
}

impl Reserve {
    fn of(bytes: u64, share: Option<Share>) -> Arc<Reserve> {
        Arc::new(Reserve {
            bytes,
            _share: share,
            turn: Arc::new(Semaphore::new(1)),
        })
    }
}

impl Cover {
    fn add(&mut self, step: (Share, Share)) {
        self.bytes += STEP_BYTES;
        match &mut self.steps {
            Some((own, all)) => {
                own.merge(step.0);
                all.merge(step.1);
            }
            None => self.steps = Some(step),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[tokio::test]
    async fn lanes_that_hold_half_a_part_each_finish_one_after_the_other() {
        let all = Budget::new(13 * MIB);
        let memory = Memory::begin(&all, 8 * MIB).await.unwrap();
        let mut covers: Vec<Cover> = (0..5).map(|_| Cover::default()).collect();
        for cover in &mut covers {
            memory.extend(cover, MIB).await.unwrap();
        }
        assert_eq!(all.held_bytes(), 13 * MIB);
        let mut first = covers.remove(0);
        memory.extend(&mut first, 8 * MIB).await.unwrap();
        assert!(first.reserved.is_some());
        let mut second = covers.remove(0);
        {
            // What the first gave back helps, but is not enough.
            let mut waiting = Box::pin(memory.extend(&mut second, 8 * MIB));
            assert!(futures::poll!(&mut waiting).is_pending());
            drop(first);
            waiting.await.unwrap();
        }
        drop((second, covers, memory));
        assert_eq!(all.held_bytes(), 0);
    }

    #[tokio::test]
    async fn parts_that_grow_wait_for_nobody_who_waits_for_them() {
        let all = Budget::new(14 * MIB);
        let mut first = Memory::begin(&all, 5 * MIB).await.unwrap();
        let mut second = Memory::begin(&all, 5 * MIB).await.unwrap();
        // A part on its way: its memory comes back when the bucket has it.
        let mut sent = Cover::default();
        first.extend(&mut sent, 4 * MIB).await.unwrap();
        let mut growing = Box::pin(first.grow(10 * MIB));
        assert!(futures::poll!(&mut growing).is_pending());
        let mut other = Box::pin(second.grow(10 * MIB));
        assert!(futures::poll!(&mut other).is_pending());
        drop(sent);
        growing.await.unwrap();
        assert!(futures::poll!(&mut other).is_pending());
        drop(first);
        other.await.unwrap();
        assert_eq!(second.part_bytes(), 10 * MIB);
    }

    #[tokio::test]
    async fn one_transfer_does_not_take_all() {
        let all = Budget::new(256 * MIB);
        let memory = Memory::begin(&all, 8 * MIB).await.unwrap();
        let mut covers: Vec<Cover> = (0..40).map(|_| Cover::default()).collect();
        for cover in &mut covers {
            let extended = memory.extend(cover, 4 * MIB);
            if tokio::time::timeout(std::time::Duration::from_millis(5), extended)
                .await
                .is_err()
            {
                break;
            }
        }
        assert!(all.held_bytes() <= 64 * MIB, "{}", all.held_bytes());
    }
}
