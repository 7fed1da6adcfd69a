//! How many parts of one transfer are sent at once: fewer when the bucket asks to be spared, one more with
//! each part that it takes.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::error::{Error, Result};

/// More than this the memory of one transfer does not hold.
const MOST: usize = 16;

/// Parts that are refused together ask for less once.
const ONE_CUT: Duration = Duration::from_secs(1);

/// The slots of one transfer.
pub(in crate::transfer) struct AimdLimit {
    free: Semaphore,
    count: Mutex<Count>,
}

struct Count {
    all: usize,
    /// Slots that end when they are given back.
    owed: usize,
    cut_at: Option<Instant>,
}

/// A part may be sent while this lives.
#[must_use = "the slot is given back when this is dropped"]
pub(in crate::transfer) struct Slot<'a> {
    slots: &'a AimdLimit,
    permit: Option<SemaphorePermit<'a>>,
}

impl AimdLimit {
    pub(in crate::transfer) fn new() -> AimdLimit {
        AimdLimit {
            free: Semaphore::new(MOST),
            count: Mutex::new(Count {
                all: MOST,
                owed: 0,
                cut_at: None,
            }),
        }
    }

    /// Waits for a slot.
    pub(in crate::transfer) async fn take(&self) -> Result<Slot<'_>> {
        let permit = self.free.acquire().await;
        let permit = permit.map_err(|_| Error::internal("wait for a slot to send a part"))?;
        Ok(Slot {
            slots: self,
            permit: Some(permit),
        })
    }

    /// The bucket asks to be spared: half as many from now on, one at least.
    pub(in crate::transfer) fn cut(&self) {
        let mut count = self.count();
        if count.cut_at.is_some_and(|at| at.elapsed() < ONE_CUT) {
            return;
        }
        count.cut_at = Some(Instant::now());
        let ended = count.all / 2;
        count.all -= ended;
        count.owed += ended - self.free.forget_permits(ended);
    }

    /// The bucket has taken a part.
    pub(in crate::transfer) fn grow(&self) {
        let mut count = self.count();
        if count.all >= MOST {
            return;
        }
        count.all += 1;
        match count.owed {
            0 => self.free.add_permits(1),
            _ => count.owed -= 1,
        }
    }

    fn count(&self) -> MutexGuard<'_, Count> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let mut count = self.slots.count();
        if count.owed > 0
            && let Some(permit) = self.permit.take()
        {
            count.owed -= 1;
            permit.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn f55_a_bucket_that_asks_to_be_spared_gets_half_and_then_one_more_with_each_part() {
        let slots = AimdLimit::new();
        let mut held = Vec::new();
        for _ in 0..MOST {
            held.push(slots.take().await.unwrap());
        }
        slots.cut();
        // Refused in the same moment.
        slots.cut();
        held.truncate(MOST / 2);
        assert_eq!(slots.free.available_permits(), 0);
        tokio::time::advance(ONE_CUT).await;
        slots.cut();
        held.clear();
        assert_eq!(slots.free.available_permits(), MOST / 4);
        slots.grow();
        assert_eq!(slots.free.available_permits(), MOST / 4 + 1);
        for _ in 0..9 {
            tokio::time::advance(ONE_CUT).await;
            slots.cut();
        }
        assert_eq!(slots.free.available_permits(), 1);
        (0..100).for_each(|_| slots.grow());
        assert_eq!(slots.free.available_permits(), MOST);
    }
}
