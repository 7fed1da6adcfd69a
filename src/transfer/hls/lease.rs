//! The lease of the job, for who carries one of its pieces elsewhere: asked for through the one who holds its ledger.

use std::convert::Infallible;

use tokio::sync::{Mutex, mpsc, oneshot};

use crate::transfer::Ledger;

/// Where pieces ask.
pub(super) struct LeaseDesk {
    ask: mpsc::Sender<oneshot::Sender<bool>>,
    asked: Mutex<mpsc::Receiver<oneshot::Sender<bool>>>,
}

impl LeaseDesk {
    pub(super) fn new() -> LeaseDesk {
        let (ask, asked) = mpsc::channel(1);
        LeaseDesk {
            ask,
            asked: Mutex::new(asked),
        }
    }

    /// Whether the lease is still ours. Not when nobody is there to tell.
    pub(super) async fn is_held(&self) -> bool {
        let (reply, told) = oneshot::channel();
        let is_asked = self.ask.send(reply).await.is_ok();
        is_asked && told.await.unwrap_or(false)
    }

    /// Answers all who ask, for as long as it is polled.
    pub(super) async fn answer(&self, ledger: &dyn Ledger) -> Infallible {
        let mut asked = self.asked.lock().await;
        loop {
            match asked.recv().await {
                // Who asked may be gone.
                Some(reply) => drop(reply.send(ledger.is_held().await)),
                None => std::future::pending().await,
            }
        }
    }
}
