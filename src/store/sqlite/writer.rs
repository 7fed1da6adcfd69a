//! Group commit: one task owns the only connection that writes.
//!
//! A commit costs a sync of the disk, whatever is in it, so what waits is written together: up to
//! [`BATCH`] commands become one transaction, and each caller hears of its own part when that is on the disk
//! ([`disk`](super::disk)). Nobody who waits is delayed: while transactions sync, the next one is written. Only what
//! is archived is [gathered](super::gather) a little. Events and all other writes share the batches, so that the intake
//! never stands behind them.
//!
//! A command that fails is rolled back alone. When the transaction itself fails, all its callers
//! get the error and nothing of it is stored. A full disk is asked again with every batch, so that work goes
//! on when there is space; after a failed sync nothing is certain, and the writer refuses all
//! that follows until the process starts anew.

use std::time::Duration;

use futures::future::BoxFuture;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinSet;

use super::batch::{Settlements, record_each, record_together};
use super::connection::{WriterConnection, renew};
use super::disk::Sync;
use super::durable::{BatchAnswer, BatchFailure, BatchWaiters, Durable, LostWriteFlag, gone};
use super::error;
use super::gather::Gather;
use super::lost_write::LostWriteNote;
use super::wal::Checkpoints;
use super::work::{CommandOutcome, Order, Work};
use crate::error::{Error, Result};
use crate::store::ids::Ids;
use crate::store::tx::Settlement;
use crate::store::{LeaseWrite, NewEvent, Recorded, record};

/// Commands in one transaction at most.
const BATCH: usize = 256;

/// Commands that wait at most; more callers wait for room.
const QUEUE: usize = 1024;

type EventBatch = Vec<(NewEvent, BatchAnswer<Recorded>)>;

enum WriteCommand {
    Record(Box<NewEvent>, BatchAnswer<Recorded>),
    Archive(Box<Settlement>, BatchAnswer<LeaseWrite>),
    Work(Box<dyn Work>),
}

impl WriteCommand {
    fn can_wait(&self) -> bool {
        matches!(self, WriteCommand::Archive(..))
    }
}

/// The way to the writer task.
#[derive(Debug)]
pub(super) struct WriterHandle {
    commands: Mutex<Option<mpsc::Sender<WriteCommand>>>,
    sender: mpsc::WeakSender<WriteCommand>,
    task: Mutex<JoinSet<()>>,
    refusal: LostWriteFlag,
    options: SqliteConnectOptions,
}

impl WriterHandle {
    /// Starts the task on `conn`; `options` make another connection like it, `syncs` put on the disk what it commits.
    pub(super) fn start(
        conn: SqliteConnection,
        options: SqliteConnectOptions,
        syncs: Vec<Sync>,
        note: LostWriteNote,
    ) -> WriterHandle {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let mut task = JoinSet::new();
        let durable = Durable::new(syncs, note);
        let refusal = durable.refusal().clone();
        task.spawn(run(conn, options.clone(), receiver, durable));
        WriterHandle {
            sender: sender.downgrade(),
            commands: Mutex::new(Some(sender)),
            task: Mutex::new(task),
            refusal,
            options,
        }
    }

    /// Waits until nothing is written any more because the disk has lost a write; for ever when it never does.
    pub(super) async fn lost(&self) -> Error {
        self.refusal.wait().await
    }

    /// Records an event in the next batch.
    pub(super) async fn record(&self, new: NewEvent) -> Result<Recorded> {
        let (answer, answered) = oneshot::channel();
        self.send(WriteCommand::Record(Box::new(new), answer))
            .await?;
        answered.await.map_err(|_| gone())?
    }

    /// Settles an artifact that is in the bucket, in the next batch and together with the others that are in it.
    pub(super) async fn archive(&self, settlement: Settlement) -> Result<LeaseWrite> {
        let (answer, answered) = oneshot::channel();
        self.send(WriteCommand::Archive(Box::new(settlement), answer))
            .await?;
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
        let order = Order::new(work, answer);
        self.send(WriteCommand::Work(Box::new(order))).await?;
        answered.await.map_err(|_| gone())?
    }

    /// Copies the WAL into the database and empties it, if nobody reads or writes just now.
    pub(super) async fn copy_wal(&self) -> Result<()> {
        let options = self.options.clone().busy_timeout(Duration::ZERO);
        let mut conn = options.connect().await.map_err(failed)?;
        let copied = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
            .execute(&mut conn)
            .await;
        match copied {
            Err(cause) if error::is_failed_sync(&cause) => {
                let failure = BatchFailure::of(failed(cause));
                self.refusal.set_if_final(&failure);
                Err(failure.to_error())
            }
            // Others are at it; the WAL is copied now and then in any case.
            _ => conn.close().await.map_err(failed),
        }
    }

    /// Writes what waits, closes the connection and ends the task.
    pub(super) async fn close(&self) {
        self.commands.lock().await.take();
        while self.task.lock().await.join_next().await.is_some() {}
    }

    async fn send(&self, command: WriteCommand) -> Result<()> {
        let sender = self.sender.upgrade().ok_or_else(gone)?;
        sender.send(command).await.map_err(|_| gone())
    }
}

async fn run(
    conn: SqliteConnection,
    options: SqliteConnectOptions,
    mut commands: mpsc::Receiver<WriteCommand>,
    mut durable: Durable,
) {
    let mut conn = WriterConnection::new(conn, durable.refusal().clone());
    let mut ids = Ids::default();
    // The first batch is synced whatever is in it, and with it the schema.
    let mut changes = -1;
    let mut checkpoints = Checkpoints::new(options.clone());
    let mut batch = Vec::with_capacity(BATCH);
    let mut gather = Gather::default();
    while let Some(sync) = durable.free_sync().await
        && commands.recv_many(&mut batch, BATCH).await > 0
    {
        gather
            .fill(&mut batch, &mut commands, BATCH, WriteCommand::can_wait)
            .await;
        let (events, mut works) = split(batch.drain(..));
        let (news, answers): (Vec<_>, Vec<_>) = events.into_iter().unzip();
        let written = match durable.refusal().get() {
            Some(failure) => Err(failure),
            None => match renew(conn.get(), &options).await {
                Ok(()) => write(conn.get(), &mut ids, news, &mut works).await,
                Err(cause) => Err(failed(cause)),
            }
            .map_err(BatchFailure::of),
        };
        let waiting = BatchWaiters { answers, works };
        match written {
            Err(failure) => {
                // The next one may be written by another connection, which counts from zero.
                changes = -1;
                durable.give_back(sync);
                durable.refuse_if_final(&failure);
                waiting.answer(Err(failure));
            }
            Ok(done) => {
                let is_changed = match done.changes {
                    Some(now) => std::mem::replace(&mut changes, now) != now,
                    None => {
                        changes = -1;
                        true
                    }
                };
                // A duplicate changes nothing, but its first receipt may still be on its way to the disk.
                if is_changed || !waiting.answers.is_empty() {
                    durable.sync_and_answer(sync, waiting, done.recorded);
                } else {
                    durable.give_back(sync);
                    waiting.answer(Ok(done.recorded));
                }
                if let Err(cause) = checkpoints.after_commit(conn.get()).await {
                    durable.refuse_if_final(&BatchFailure::of(failed(cause)));
                }
            }
        }
    }
    durable.finish().await;
    if let Err(cause) = checkpoints.finish().await {
        durable.refuse_if_final(&BatchFailure::of(failed(cause)));
    }
    conn.close().await;
}

/// Events are recorded together, and artifacts settled together.
fn split(batch: impl Iterator<Item = WriteCommand>) -> (EventBatch, Vec<Box<dyn Work>>) {
    let (mut events, mut works) = (Vec::new(), Vec::new());
    let mut settlements = Settlements::default();
    for command in batch {
        match command {
            WriteCommand::Record(new, answer) => events.push((*new, answer)),
            WriteCommand::Archive(settlement, answer) => settlements.push(*settlement, answer),
            WriteCommand::Work(work) => works.push(work),
        }
    }
    if !settlements.is_empty() {
        works.push(Box::new(settlements));
    }
    (events, works)
}

/// A transaction that is committed.
struct CommittedWrite {
    recorded: Vec<Result<Recorded>>,
    /// Rows that the connection has ever changed; `None` when it is known that these were some.
    changes: Option<i64>,
}

/// One transaction.
async fn write(
    conn: &mut SqliteConnection,
    ids: &mut Ids,
    mut news: Vec<NewEvent>,
    works: &mut [Box<dyn Work>],
) -> Result<CommittedWrite> {
    news.iter_mut().for_each(record::clean);
    let mut transaction = conn.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
    let recorded = match record_together(&mut transaction, ids, &news).await {
        Ok(recorded) => recorded,
        Err(cause) => {
            // Of a full disk SQLite may have ended the transaction by itself; then there is nothing left to roll back.
            if transaction.rollback().await.is_err() {
                return Err(cause);
            }
            transaction = conn.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
            record_each(&mut transaction, ids, &news).await?
        }
    };
    let mut is_changed = recorded
        .iter()
        .flatten()
        .any(|new| !new.is_duplicate || new.has_work());
    let mut is_kept = true;
    match works {
        // What is alone can be rolled back with the transaction: two statements less.
        [work] if news.is_empty() => {
            let outcome = work.run(&mut transaction).await;
            is_kept = outcome != CommandOutcome::Failed;
            is_changed = outcome == CommandOutcome::Changed;
        }
        works => {
            for work in works {
                let mut savepoint = transaction.begin().await.map_err(failed)?;
                let outcome = work.run(&mut savepoint).await;
                match outcome {
                    CommandOutcome::Failed => savepoint.rollback().await.map_err(failed)?,
                    CommandOutcome::Kept | CommandOutcome::Changed => {
                        savepoint.commit().await.map_err(failed)?
                    }
                }
                is_changed |= outcome == CommandOutcome::Changed;
            }
        }
    }
    let changes = match is_changed {
        true => None,
        false => Some(total_changes(&mut transaction).await?),
    };
    if is_kept {
        transaction.commit().await.map_err(failed)?;
    } else {
        transaction.rollback().await.map_err(failed)?;
    }
    Ok(CommittedWrite { recorded, changes })
}

/// Rows that the connection has ever changed.
async fn total_changes(conn: &mut SqliteConnection) -> Result<i64> {
    let query = sqlx::query_scalar("SELECT total_changes()");
    query.fetch_one(conn).await.map_err(failed)
}

fn failed(cause: sqlx::Error) -> Error {
    error::from("write to the store", cause)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::poll;
    use jiff::Timestamp;

    use super::*;
    use crate::model::{JobId, Lease};
    use crate::store::sqlite::{SqliteOptions, SqliteStore};
    use crate::store::{JobQueue as _, ScanStore as _, StoreLifecycle as _, WalkTurn};

    async fn store(folder: &Path, syncs: Vec<Sync>) -> SqliteStore {
        let path = folder.join("harvester.db");
        SqliteStore::open_synced_by(&path, &SqliteOptions::default(), || Ok(syncs))
            .await
            .unwrap()
    }

    async fn take_turn(store: &SqliteStore, source: &str) -> Result<WalkTurn> {
        let now = Timestamp::UNIX_EPOCH;
        store.begin_walk(source, "me", now, now).await
    }

    #[tokio::test]
    async fn nobody_is_answered_before_the_disk_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let (began, mut begun) = mpsc::channel(1);
        let (end, mut ending) = mpsc::channel::<io::Result<()>>(1);
        let sync = move || {
            began.blocking_send(()).unwrap();
            ending.blocking_recv().unwrap()
        };
        let store = store(folder.path(), vec![Box::new(sync)]).await;

        let mut first = Box::pin(take_turn(&store, "first"));
        assert!(poll!(&mut first).is_pending());
        begun.recv().await.unwrap();
        assert!(poll!(&mut first).is_pending());
        end.send(Ok(())).await.unwrap();
        let _turn = first.await.unwrap();

        let mut second = Box::pin(take_turn(&store, "second"));
        assert!(poll!(&mut second).is_pending());
        begun.recv().await.unwrap();
        end.send(Err(io::Error::other("the cable is out")))
            .await
            .unwrap();
        let error = second.await.unwrap_err().full_message();
        assert!(error.contains("the cable is out"), "{error}");

        // Another sync might succeed, but what was lost stays lost.
        let error = take_turn(&store, "third").await.unwrap_err();
        assert!(!error.is_transient());
        assert_eq!(store.lost().await.full_message(), error.full_message());
        store.close().await;
    }

    async fn mark(store: &SqliteStore, is_ok: bool) -> Result<()> {
        let marking = store.writer.write(move |conn| {
            Box::pin(async move {
                let query = sqlx::query("PRAGMA user_version = 77");
                query.execute(conn).await.map_err(failed)?;
                match is_ok {
                    true => Ok(()),
                    false => Err(Error::internal("fail after a change")),
                }
            })
        });
        marking.await
    }

    async fn version(store: &SqliteStore) -> i64 {
        let reading = store.writer.write(|conn| {
            Box::pin(async move {
                let query = sqlx::query_scalar("PRAGMA user_version");
                query.fetch_one(conn).await.map_err(failed)
            })
        });
        reading.await.unwrap()
    }

    #[tokio::test]
    async fn what_fails_leaves_nothing_behind_whether_it_is_alone_or_not() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path(), vec![Box::new(|| Ok(()))]).await;
        let before = version(&store).await;
        assert!(mark(&store, false).await.is_err());
        assert_eq!(version(&store).await, before);

        // Sent in one go, they share a transaction.
        let (failed, turn) = futures::join!(mark(&store, false), take_turn(&store, "beside"));
        assert!(failed.is_err());
        let _turn = turn.unwrap();
        assert_eq!(version(&store).await, before);

        mark(&store, true).await.unwrap();
        assert_eq!(version(&store).await, 77);
        store.close().await;
    }

    #[tokio::test]
    async fn what_changes_nothing_waits_for_no_disk() {
        let folder = tempfile::tempdir().unwrap();
        let counted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&counted);
        let sync = move || {
            count.fetch_add(1, Ordering::Relaxed);
            Ok(())
        };
        let store = store(folder.path(), vec![Box::new(sync)]).await;
        let syncs = || counted.load(Ordering::Relaxed);
        let _turn = take_turn(&store, "one").await.unwrap();
        assert_eq!(syncs(), 1);
        let lease = Lease {
            job: JobId(uuid::Uuid::nil()),
            token: 1,
        };
        let lost = store.heartbeat(&[lease], Timestamp::UNIX_EPOCH).await;
        assert_eq!(lost.unwrap().len(), 1);
        assert_eq!(syncs(), 1);
        let _turn = take_turn(&store, "two").await.unwrap();
        assert_eq!(syncs(), 2);
    }
}
