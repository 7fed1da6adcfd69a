//! When what can wait is written: at once, unless such a thing was written a moment ago.
//!
//! Thousands of small artifacts come to their ends one by one, faster than a commit each could be afforded. Nobody waits
//! for these notes: a transfer that has ended keeps no place, only its lease.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

/// Commits of nothing but notes are begun this far apart.
const APART: Duration = Duration::from_millis(16);

/// Nothing is waited for any longer when nothing has come for so long.
const SILENCE: Duration = Duration::from_millis(2);

/// So many are not waited for to become more.
const ENOUGH: usize = 64;

/// Holds up batches that can wait.
#[derive(Default)]
pub(super) struct Gather {
    last: Option<Instant>,
}

impl Gather {
    /// Waits for others while `batch` holds only what `can_wait`; takes in what comes, up to `limit` in all.
    pub(super) async fn fill<T>(
        &mut self,
        batch: &mut Vec<T>,
        commands: &mut mpsc::Receiver<T>,
        limit: usize,
        can_wait: impl Fn(&T) -> bool,
    ) {
        let mut looked_at = 0;
        while let Some(last) = self.last
            && batch.len() < ENOUGH.min(limit)
            && batch[looked_at..].iter().all(&can_wait)
        {
            looked_at = batch.len();
            let more = commands.recv_many(batch, limit - looked_at);
            let until = (last + APART).min(Instant::now() + SILENCE);
            if !matches!(timeout_at(until, more).await, Ok(1..)) {
                break;
            }
        }
        if batch.iter().any(can_wait) {
            self.last = Some(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers below 100 can wait.
    fn is_patient(number: &u32) -> bool {
        *number < 100
    }

    async fn filled(gather: &mut Gather, commands: &mut mpsc::Receiver<u32>) -> Vec<u32> {
        let mut batch = Vec::new();
        commands.recv_many(&mut batch, 1).await;
        gather.fill(&mut batch, commands, 80, is_patient).await;
        batch
    }

    #[tokio::test(start_paused = true)]
    async fn what_can_wait_is_written_at_once_and_then_together() {
        let (sender, mut commands) = mpsc::channel(200);
        let mut gather = Gather::default();
        let begun = Instant::now();
        let put = |numbers: &[u32]| {
            for number in numbers {
                sender.try_send(*number).unwrap();
            }
        };
        put(&[1]);
        assert_eq!(filled(&mut gather, &mut commands).await, [1]);
        assert_eq!(begun.elapsed(), Duration::ZERO);
        // One a millisecond, for as long as it takes.
        let more = async {
            for number in 2.. {
                put(&[number]);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let batch = tokio::select! {
            batch = filled(&mut gather, &mut commands) => batch,
            () = more => unreachable!("it has no end"),
        };
        assert!((16..=18).contains(&batch.len()), "{batch:?}");
        assert_eq!(begun.elapsed(), APART);
        // Who does not want to wait takes along those who do.
        while commands.try_recv().is_ok() {}
        put(&[3, 4, 100, 5]);
        assert_eq!(filled(&mut gather, &mut commands).await, [3, 4, 100, 5]);
        assert_eq!(begun.elapsed(), APART);
        put(&(0..90).collect::<Vec<_>>());
        assert_eq!(filled(&mut gather, &mut commands).await.len(), 80);
        assert_eq!(begun.elapsed(), APART);
        // When no more come, these wait no longer.
        assert_eq!(filled(&mut gather, &mut commands).await.len(), 10);
        assert_eq!(begun.elapsed(), APART + SILENCE);
        put(&[6]);
        drop(sender);
        assert_eq!(filled(&mut gather, &mut commands).await, [6]);
        assert!(filled(&mut gather, &mut commands).await.is_empty());
        assert_eq!(begun.elapsed(), APART + SILENCE);
    }
}
