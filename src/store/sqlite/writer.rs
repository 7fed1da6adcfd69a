//! Group commit: one task owns the only connection that writes.
//!
//! A commit costs an fsync, whatever is in it, so what waits is written together: up to
//! [`BATCH`] commands become one transaction, and each caller hears of its own part after the commit. There is no
//! artificial delay: while one transaction syncs, the next batch gathers. Events and all other
//! writes share the batches, so that the intake never stands behind them.
//!
//! A command that fails is rolled back alone. When the transaction itself fails, all its callers
//! get the error and nothing of it is stored. A full disk is asked again with every batch, so that work goes
//! on when there is space; after a failed fsync nothing is certain, and the writer refuses all
//! that follows until the process starts anew.

use futures::future::BoxFuture;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinSet;

use super::wal::Checkpoints;
use super::{error, record};
use crate::error::{Class, Error, Result};
use crate::store::{NewEvent, Recorded};

/// Commands in one transaction at most.
const BATCH: usize = 256;

/// Commands that wait at most; more callers wait for room.
const QUEUE: usize = 1024;

type Answer<T> = oneshot::Sender<Result<T>>;
type Events = Vec<(NewEvent, Answer<Recorded>)>;

enum Command {
    Record(Box<NewEvent>, Answer<Recorded>),
    Work(Box<dyn Work>),
}

/// What a failed transaction tells each of its callers.
#[derive(Clone, Debug)]
struct BatchFailure {
    message: String,
    is_final: bool,
}

/// A command of any sort but an event.
trait Work: Send {
    /// Does it; answers whether it is to be kept.
    fn run<'c>(&'c mut self, conn: &'c mut SqliteConnection) -> BoxFuture<'c, bool>;
    /// Tells the caller, once the transaction is committed or has failed.
    fn answer(self: Box<Self>, failure: Option<&BatchFailure>);
}

struct Order<T, F> {
    work: Option<F>,
    result: Option<Result<T>>,
    answer: Answer<T>,
}

impl<T, F> Work for Order<T, F>
where
    T: Send + 'static,
    F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T>> + Send + 'static,
{
    fn run<'c>(&'c mut self, conn: &'c mut SqliteConnection) -> BoxFuture<'c, bool> {
        Box::pin(async move {
            let Some(work) = self.work.take() else {
                return false;
            };
            let result = work(conn).await;
            let is_ok = result.is_ok();
            self.result = Some(result);
            is_ok
        })
    }

    fn answer(self: Box<Self>, failure: Option<&BatchFailure>) {
        let result = match (self.result, failure) {
            (Some(Err(own)), _) => Err(own),
            (_, Some(failure)) => Err(failure.to_error()),
            (Some(Ok(value)), None) => Ok(value),
            (None, None) => Err(gone()),
        };
        // A caller that has gone away wants no answer.
        let _ = self.answer.send(result);
    }
}

/// The way to the writer task.
#[derive(Debug)]
pub(super) struct Writer {
    commands: Mutex<Option<mpsc::Sender<Command>>>,
    sender: mpsc::WeakSender<Command>,
    task: Mutex<JoinSet<()>>,
}

impl Writer {
    /// Starts the task on `conn`; `options` make another connection like it.
    pub(super) fn start(conn: SqliteConnection, options: SqliteConnectOptions) -> Writer {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let mut task = JoinSet::new();
        task.spawn(run(conn, options, receiver));
        Writer {
            sender: sender.downgrade(),
            commands: Mutex::new(Some(sender)),
            task: Mutex::new(task),
        }
    }

    /// Records an event in the next batch.
    pub(super) async fn record(&self, new: NewEvent) -> Result<Recorded> {
        let (answer, answered) = oneshot::channel();
        self.send(Command::Record(Box::new(new), answer)).await?;
        answered.await.map_err(|_| gone())?
    }

    /// Does `work` in the next batch. It runs to its end even when the caller has gone away, so
    /// that no transaction is left half-done.
    pub(super) async fn write<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T>> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let order = Order {
            work: Some(work),
            result: None,
            answer,
        };
        self.send(Command::Work(Box::new(order))).await?;
        answered.await.map_err(|_| gone())?
    }

    /// Writes what waits, closes the connection and ends the task.
    pub(super) async fn close(&self) {
        self.commands.lock().await.take();
        while self.task.lock().await.join_next().await.is_some() {}
    }

    async fn send(&self, command: Command) -> Result<()> {
        let sender = self.sender.upgrade().ok_or_else(gone)?;
        sender.send(command).await.map_err(|_| gone())
    }
}

async fn run(
    mut conn: SqliteConnection,
    options: SqliteConnectOptions,
    mut commands: mpsc::Receiver<Command>,
) {
    let mut refusal: Option<BatchFailure> = None;
    let mut ids = record::Ids::default();
    let mut checkpoints = Checkpoints::new(options.clone());
    let mut batch = Vec::with_capacity(BATCH);
    while commands.recv_many(&mut batch, BATCH).await > 0 {
        let (events, mut works) = split(batch.drain(..));
        let (news, answers): (Vec<_>, Vec<_>) = events.into_iter().unzip();
        let written = match &refusal {
            Some(failure) => Err(failure.clone()),
            None => match renew(&mut conn, &options).await {
                Ok(()) => write(&mut conn, &mut ids, news, &mut works).await,
                Err(cause) => Err(failed(cause)),
            }
            .map_err(BatchFailure::of),
        };
        let failure = written.as_ref().err().cloned();
        for work in works {
            work.answer(failure.as_ref());
        }
        let mut recorded = written.unwrap_or_default().into_iter();
        for answer in answers {
            let failed = || failure.as_ref().map_or_else(gone, BatchFailure::to_error);
            let result = recorded.next().unwrap_or_else(|| Err(failed()));
            // A sender that has hung up sends again; the store knows the event then.
            let _ = answer.send(result);
        }
        let failure = match failure {
            Some(failure) => Some(failure),
            None => {
                let checked = checkpoints.after_commit(&mut conn).await;
                checked.err().map(|cause| BatchFailure::of(failed(cause)))
            }
        };
        if let Some(failure) = failure.filter(|failure| failure.is_final && refusal.is_none()) {
            tracing::error!(
                error = failure.message,
                "the disk lost a write: restart the harvester"
            );
            refusal = Some(failure);
        }
    }
    checkpoints.finish().await;
    if let Err(cause) = conn.close().await {
        tracing::warn!(%cause, "failed to close the store");
    }
}

fn split(batch: impl Iterator<Item = Command>) -> (Events, Vec<Box<dyn Work>>) {
    let (mut events, mut works) = (Vec::new(), Vec::new());
    for command in batch {
        match command {
            Command::Record(new, answer) => events.push((*new, answer)),
            Command::Work(work) => works.push(work),
        }
    }
    (events, works)
}

/// Replaces a connection that still counts a transaction as open. On a full disk SQLite rolls back by
/// itself; sqlx's own rollback then fails, and it would refuse every transaction after that.
async fn renew(
    conn: &mut SqliteConnection,
    options: &SqliteConnectOptions,
) -> Result<(), sqlx::Error> {
    if !conn.is_in_transaction() {
        return Ok(());
    }
    // A rollback that succeeds may still be on its way to the connection's thread.
    conn.ping().await?;
    if conn.is_in_transaction() {
        let broken = std::mem::replace(conn, options.connect().await?);
        if let Err(cause) = broken.close().await {
            tracing::debug!(%cause, "closed a connection that had failed");
        }
    }
    Ok(())
}

/// One transaction.
async fn write(
    conn: &mut SqliteConnection,
    ids: &mut record::Ids,
    news: Vec<NewEvent>,
    works: &mut [Box<dyn Work>],
) -> Result<Vec<Result<Recorded>>> {
    let mut transaction = conn.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
    let recorded = record::record_all(&mut transaction, ids, news).await?;
    for work in works {
        let mut savepoint = transaction.begin().await.map_err(failed)?;
        if work.run(&mut savepoint).await {
            savepoint.commit().await.map_err(failed)?;
        } else {
            savepoint.rollback().await.map_err(failed)?;
        }
    }
    transaction.commit().await.map_err(failed)?;
    Ok(recorded)
}

fn failed(cause: sqlx::Error) -> Error {
    error::from("write to the store", cause)
}

impl BatchFailure {
    fn of(error: Error) -> BatchFailure {
        let cause = std::error::Error::source(&error);
        let is_final = cause
            .and_then(|cause| cause.downcast_ref())
            .is_some_and(error::is_failed_sync);
        BatchFailure {
            message: error.full_message(),
            is_final,
        }
    }

    fn to_error(&self) -> Error {
        if self.is_final {
            Error::internal(self.message.clone())
        } else {
            Error::transient(Class::Internal, self.message.clone())
        }
    }
}

fn gone() -> Error {
    Error::transient(Class::Internal, "write to the store: it is closed")
}
