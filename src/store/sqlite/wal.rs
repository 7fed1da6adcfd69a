//! Copying what is committed from the WAL into the file, out of the way of commits.
//!
//! That waits for the disk twice. Left alone, SQLite does it at the end of the commit that makes the WAL too long,
//! and all who wait for that commit wait for it too. Here another connection does it while commits go on. Only a WAL
//! that is copied whole begins anew, so the writer itself copies what came in meanwhile, which is little.

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};
use tokio::task::JoinSet;

use super::error;

/// From how many pages on the WAL is copied: 16 MiB.
const LONG_WAL_PAGES: i64 = 4096;

/// From how many pages on SQLite does it within a commit after all (64 MiB): the bound, whatever happens here.
pub(super) const TOO_LONG_WAL_PAGES: i64 = 16384;

/// After how many commits the WAL's length is asked for.
const COMMITS: u32 = 16;

pub(super) struct Checkpoints {
    options: SqliteConnectOptions,
    copying: JoinSet<Result<(), sqlx::Error>>,
    commits: u32,
}

impl Checkpoints {
    /// `options` make a connection like the writer's.
    pub(super) fn new(options: SqliteConnectOptions) -> Checkpoints {
        Checkpoints {
            options,
            copying: JoinSet::new(),
            commits: 0,
        }
    }

    /// To be called between transactions. The error is a failed sync, after which nothing is certain; any other
    /// failure is left to the next try.
    pub(super) async fn after_commit(
        &mut self,
        conn: &mut SqliteConnection,
    ) -> Result<(), sqlx::Error> {
        match self.go_on(conn).await {
            Err(cause) if error::is_failed_sync(&cause) => Err(cause),
            Err(cause) => {
                tracing::debug!(%cause, "can't copy the WAL into the store, trying again");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    async fn go_on(&mut self, conn: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        if let Some(Ok(copied)) = self.copying.try_join_next() {
            copied?;
            return copy(conn).await;
        }
        self.commits += 1;
        if self.commits < COMMITS || !self.copying.is_empty() {
            return Ok(());
        }
        self.commits = 0;
        if pages_to_copy(conn).await? >= LONG_WAL_PAGES {
            let options = self.options.clone();
            self.copying.spawn(async move {
                let mut conn = options.connect().await?;
                copy(&mut conn).await?;
                conn.close().await
            });
        }
        Ok(())
    }

    /// Waits for a copy that goes on. The error is a failed sync.
    pub(super) async fn finish(mut self) -> Result<(), sqlx::Error> {
        let mut failed = Ok(());
        while let Some(copied) = self.copying.join_next().await {
            if let Ok(Err(cause)) = copied
                && error::is_failed_sync(&cause)
            {
                failed = Err(cause);
            }
        }
        failed
    }
}

/// Copies what it can without making anyone wait.
async fn copy(conn: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    sqlx::query("PRAGMA wal_checkpoint(PASSIVE)")
        .execute(conn)
        .await?;
    Ok(())
}

/// The length of a WAL that is not copied whole.
async fn pages_to_copy(conn: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
    let (_, pages, copied): (i64, i64, i64) = sqlx::query_as("PRAGMA wal_checkpoint(NOOP)")
        .fetch_one(conn)
        .await?;
    Ok(if copied == pages { 0 } else { pages })
}
