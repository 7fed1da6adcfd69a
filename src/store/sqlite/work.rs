//! Commands for the writer that are no events: each is done within a shared transaction and told what came of it.

use futures::future::BoxFuture;
use sqlx::SqliteConnection;

use super::durable::{BatchAnswer, BatchFailure, gone};
use crate::error::Result;

/// A command of any sort but an event.
pub(super) trait Work: Send {
    /// Does it; answers what came of it.
    fn run<'c>(&'c mut self, conn: &'c mut SqliteConnection) -> BoxFuture<'c, CommandOutcome>;
    /// Tells the caller, once the transaction is committed or has failed.
    fn answer(self: Box<Self>, failure: Option<&BatchFailure>);
}

/// What came of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CommandOutcome {
    /// It failed, and is to be rolled back.
    Failed,
    /// It is to be kept, whatever it is.
    Kept,
    /// It is to be kept, and has changed rows.
    Changed,
}

pub(super) struct Order<T, F> {
    work: Option<F>,
    result: Option<Result<T>>,
    answer: BatchAnswer<T>,
}

impl<T, F> Order<T, F> {
    pub(super) fn new(work: F, answer: BatchAnswer<T>) -> Order<T, F> {
        Order {
            work: Some(work),
            result: None,
            answer,
        }
    }
}

impl<T, F> Work for Order<T, F>
where
    T: Send + 'static,
    F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T>> + Send + 'static,
{
    fn run<'c>(&'c mut self, conn: &'c mut SqliteConnection) -> BoxFuture<'c, CommandOutcome> {
        Box::pin(async move {
            let Some(work) = self.work.take() else {
                return CommandOutcome::Failed;
            };
            let result = work(conn).await;
            let outcome = match result {
                Ok(_) => CommandOutcome::Kept,
                Err(_) => CommandOutcome::Failed,
            };
            self.result = Some(result);
            outcome
        })
    }

    fn answer(self: Box<Self>, failure: Option<&BatchFailure>) {
        tell(self.answer, self.result, failure);
    }
}

/// Tells a caller what came of its part: its own error, that of the transaction, or its result.
pub(super) fn tell<T>(
    answer: BatchAnswer<T>,
    own: Option<Result<T>>,
    failure: Option<&BatchFailure>,
) {
    let result = match (own, failure) {
        (Some(Err(own)), _) => Err(own),
        (_, Some(failure)) => Err(failure.to_error()),
        (Some(Ok(value)), None) => Ok(value),
        (None, None) => Err(gone()),
    };
    // A caller that has gone away wants no answer.
    let _ = answer.send(result);
}
