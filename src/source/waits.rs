//! Waiting that is no hang: who waits for a turn says so, and until when at the latest more will be heard.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

/// How often it is said again of a wait whose end nobody knows.
const SAID_EVERY: Duration = Duration::from_secs(30);

/// How long such a word holds: a task that is not run any more is missed after this.
const WORD_HOLDS: Duration = Duration::from_secs(60);

/// Where waits are declared. The default hears nothing.
#[derive(Clone, Default)]
pub struct Waits(Option<Arc<dyn Fn(Instant) + Send + Sync>>);

impl Waits {
    /// Waits that `hear` is told of: until when there may be silence.
    pub fn heard_by(hear: impl Fn(Instant) + Send + Sync + 'static) -> Waits {
        Waits(Some(Arc::new(hear)))
    }

    /// There may be silence until `end`.
    pub fn until(&self, end: Instant) {
        if let Some(hear) = &self.0 {
            hear(end);
        }
    }

    /// Something moves.
    pub fn end(&self) {
        self.until(Instant::now());
    }

    /// Waits for `turn`, which others hold who are watched themselves. Said again and again while this is polled, so
    /// that the wait may take as long as theirs.
    pub async fn during<T>(&self, turn: impl Future<Output = T>) -> T {
        let mut turn = pin!(turn);
        // What need not be waited for is no wait, and gives nobody time.
        tokio::select! {
            biased;
            got = &mut turn => return got,
            () = std::future::ready(()) => {}
        }
        loop {
            self.until(Instant::now() + WORD_HOLDS);
            tokio::select! {
                biased;
                got = &mut turn => return got,
                () = tokio::time::sleep(SAID_EVERY) => {}
            }
        }
    }
}

impl fmt::Debug for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waits")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_wait_for_a_turn_is_declared_until_it_comes_and_no_longer_than_it_is_polled() {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hear = Arc::clone(&heard);
        let begun = Instant::now();
        let waits = Waits::heard_by(move |end| {
            hear.lock().unwrap().push((end - begun).as_secs());
        });
        waits
            .during(tokio::time::sleep(Duration::from_secs(70)))
            .await;
        assert_eq!(*heard.lock().unwrap(), [60, 90, 120]);
        waits.during(std::future::ready(())).await;
        assert_eq!(heard.lock().unwrap().len(), 3, "that was no wait");
        let never = waits.during(std::future::pending::<()>());
        assert!(
            tokio::time::timeout(Duration::ZERO, never).await.is_err(),
            "it ends with who waits"
        );
        waits.end();
        assert_eq!(*heard.lock().unwrap(), [60, 90, 120, 130, 70]);
    }
}
