//! The connection that writes: renewed when a transaction is stuck, and kept open once the disk has lost a write.

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};

use super::durable::LostWriteFlag;

/// The writer's connection, which is never closed once the disk has lost a write: the last one that closes copies the WAL,
/// believes a second sync, and removes the WAL, which may be the only place where all is. Left open, it ends
/// with the process, and the next one reads the WAL anew.
pub(super) struct WriterConnection {
    conn: Option<SqliteConnection>,
    refusal: LostWriteFlag,
}

impl WriterConnection {
    pub(super) fn new(conn: SqliteConnection, refusal: LostWriteFlag) -> WriterConnection {
        WriterConnection {
            conn: Some(conn),
            refusal,
        }
    }

    pub(super) fn get(&mut self) -> &mut SqliteConnection {
        self.conn.as_mut().expect("only the end takes it")
    }

    pub(super) async fn close(mut self) {
        if self.refusal.is_set() {
            return;
        }
        if let Some(conn) = self.conn.take()
            && let Err(cause) = conn.close().await
        {
            tracing::warn!(%cause, "failed to close the store");
        }
    }
}

impl Drop for WriterConnection {
    fn drop(&mut self) {
        if self.refusal.is_set() {
            std::mem::forget(self.conn.take());
        }
    }
}

/// Replaces a connection that still counts a transaction as open. On a full disk SQLite rolls back by
/// itself; sqlx's own rollback then fails, and it would refuse every transaction after that.
pub(super) async fn renew(
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
