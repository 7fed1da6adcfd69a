//! What waits for the writer and is done together: events, and artifacts that are in the bucket.

use futures::future::BoxFuture;
use sqlx::{Connection as _, SqliteConnection};

use super::durable::{BatchAnswer, BatchFailure};
use super::error;
use super::work::{CommandOutcome, Work, tell};
use crate::error::Result;
use crate::store::archive::archive;
use crate::store::ids::Ids;
use crate::store::record::record_all;
use crate::store::tx::Settlement;
use crate::store::{LeaseWrite, NewEvent, Recorded};

/// Bytes of events that are written together at most: bounds the memory that one statement takes.
const CHUNK_BYTES: usize = 8 << 20;

/// Records `news` in this order. After an error the transaction has to be rolled back.
pub(super) async fn record_together(
    conn: &mut SqliteConnection,
    ids: &mut Ids,
    news: &[NewEvent],
) -> Result<Vec<Result<Recorded>>> {
    let mut results = Vec::with_capacity(news.len());
    let mut rest = news;
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(chunk_length(rest));
        rest = after;
        let recorded = record_all(conn, ids, chunk).await?;
        results.extend(recorded.into_iter().map(Ok));
    }
    Ok(results)
}

/// As [`record_together`], but an event that can't be stored fails alone. The savepoints for that cost a copy of
/// every page that changes.
pub(super) async fn record_each(
    conn: &mut SqliteConnection,
    ids: &mut Ids,
    news: &[NewEvent],
) -> Result<Vec<Result<Recorded>>> {
    let mut results = Vec::with_capacity(news.len());
    for new in news {
        let recorded = attempt(conn, ids, std::slice::from_ref(new)).await?;
        match recorded {
            Ok(recorded) => results.extend(recorded.into_iter().map(Ok)),
            Err(error) => results.push(Err(error)),
        }
    }
    Ok(results)
}

/// Records `chunk` whole or not at all. The outer error ends the transaction.
async fn attempt(
    conn: &mut SqliteConnection,
    ids: &mut Ids,
    chunk: &[NewEvent],
) -> Result<Result<Vec<Recorded>>> {
    let failed = |cause| error::from("write to the store", cause);
    let mut savepoint = conn.begin().await.map_err(failed)?;
    match record_all(&mut *savepoint, ids, chunk).await {
        Ok(recorded) => {
            savepoint.commit().await.map_err(failed)?;
            Ok(Ok(recorded))
        }
        // Of a full disk SQLite may have ended the whole transaction by itself; then there is no savepoint left.
        Err(error) if savepoint.rollback().await.is_err() => Err(error),
        Err(error) => Ok(Err(error)),
    }
}

fn chunk_length(news: &[NewEvent]) -> usize {
    let mut bytes = 0;
    let fitting = news.iter().take_while(|new| {
        bytes += new.size_bytes();
        bytes <= CHUNK_BYTES
    });
    fitting.count().max(1)
}

/// The settlements of one batch.
#[derive(Default)]
pub(super) struct Settlements {
    waiting: Vec<Settlement>,
    answers: Vec<BatchAnswer<LeaseWrite>>,
    results: Vec<Result<LeaseWrite>>,
}

impl Settlements {
    pub(super) fn push(&mut self, settlement: Settlement, answer: BatchAnswer<LeaseWrite>) {
        self.waiting.push(settlement);
        self.answers.push(answer);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

impl Work for Settlements {
    fn run<'c>(&'c mut self, conn: &'c mut SqliteConnection) -> BoxFuture<'c, CommandOutcome> {
        Box::pin(async move {
            let written = archive(conn, &self.waiting).await;
            let outcome = match &written {
                Ok(written) if written.contains(&LeaseWrite::Yes) => CommandOutcome::Changed,
                Ok(_) => CommandOutcome::Kept,
                Err(_) => CommandOutcome::Failed,
            };
            self.results = match written {
                Ok(written) => written.into_iter().map(Ok).collect(),
                Err(error) => {
                    let failure = BatchFailure::of(error);
                    let waiting = self.waiting.iter();
                    waiting.map(|_| Err(failure.to_error())).collect()
                }
            };
            outcome
        })
    }

    fn answer(self: Box<Self>, failure: Option<&BatchFailure>) {
        let mut results = self.results.into_iter();
        for answer in self.answers {
            tell(answer, results.next(), failure);
        }
    }
}
