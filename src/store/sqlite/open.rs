//! Opening the file: who may read it, whether it is ours, undamaged and of a schema that we know.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, SqlSafeStr as _, SqliteConnection,
    SqlitePool,
};

use tokio::time::Instant;

use super::disk::Sync;
use super::lost_write::{LostWriteNote, copy_whole_wal};
use super::writer::WriterHandle;
use super::{Durability, SqliteOptions};
use super::{error, identities, wal};
use crate::error::{Error, Result};
use crate::store::stored::VOCABULARY;

/// Older libraries can corrupt a WAL database under two writers
/// (<https://sqlite.org/wal.html#walresetbug>).
const OLDEST_SQLITE: (u32, u32, u32) = (3, 51, 3);

/// How long a statement waits for another process's transaction; ours take milliseconds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Between two tries to open a file that another process has for itself.
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// Readers at once: reports and pages, never the intake.
const READERS: u32 = 4;

/// To what size the WAL is cut back after a burst.
const WAL_LIMIT_BYTES: &str = "67108864";

/// What the writer keeps of the file: new rows go into indexes at many places, and a page that it does not have must be
/// read again within the transaction.
const WRITER_CACHE_KIB: u32 = 16 * 1024;

const MAGIC: &[u8; 16] = b"SQLite format 3\0";

const MIGRATIONS: [(i64, &str, &str); 8] = [
    (
        1,
        "events recordings jobs",
        include_str!("../migrations/sqlite/0001_events_recordings_jobs.sql"),
    ),
    (
        5,
        "walks",
        include_str!("../migrations/sqlite/0005_walks.sql"),
    ),
    (
        6,
        "indexes",
        include_str!("../migrations/sqlite/0006_indexes.sql"),
    ),
    (
        7,
        "unsettled_attempts",
        include_str!("../migrations/sqlite/0007_unsettled_attempts.sql"),
    ),
    (
        8,
        "sealing waits",
        include_str!("../migrations/sqlite/0008_sealing_waits.sql"),
    ),
    (
        9,
        "identities",
        include_str!("../migrations/sqlite/0009_identities.sql"),
    ),
    (
        13,
        "purge",
        include_str!("../migrations/sqlite/0013_purge.sql"),
    ),
    (
        14,
        "sealed bodies",
        include_str!("../migrations/sqlite/0014_sealed_bodies.sql"),
    ),
];

/// Makes the file if it is missing, checks it if it is there, and brings its schema up to date. Gives the one
/// writer, whose commits the `syncs` put on the disk that are made once the file is open, and the readers.
pub(super) async fn open(
    path: &Path,
    options: &SqliteOptions,
    syncs: impl FnOnce() -> std::io::Result<Vec<Sync>>,
) -> Result<(WriterHandle, SqlitePool)> {
    create_private(path, sync_folder)?;
    check_header(path)?;
    let connect = connect_options(path, options);
    copy_whole_wal(path, &connect).await?;
    let connect_writer = connect
        .clone()
        .pragma("cache_size", format!("-{WRITER_CACHE_KIB}"));
    let mut writer = connect_patiently(path, &connect_writer).await?;
    check_library(&mut writer).await?;
    check_owner(path, &mut writer).await?;
    migrate(path, &mut writer).await?;
    identities::renew(&mut writer).await?;
    let syncs = syncs().map_err(|cause| {
        Error::internal(format!("open the store {}", path.display())).with_source(cause)
    })?;
    let note = LostWriteNote::beside(path);
    let writer = WriterHandle::start(writer, connect_writer, syncs, note);
    let readers = SqlitePoolOptions::new()
        .max_connections(READERS)
        .min_connections(0)
        .test_before_acquire(false)
        .connect_lazy_with(connect.pragma("query_only", "ON"));
    Ok((writer, readers))
}

/// Connects, also while another start has the file for itself for a moment: a switch to WAL mode does not wait by itself.
async fn connect_patiently(
    path: &Path,
    options: &SqliteConnectOptions,
) -> Result<SqliteConnection> {
    let begun = Instant::now();
    loop {
        let connected = match options.connect().await {
            Ok(mut conn) => {
                let query = sqlx::query_scalar("SELECT count(*) FROM sqlite_master");
                let read: std::result::Result<i64, _> = query.fetch_one(&mut conn).await;
                read.map(|_| conn)
            }
            Err(cause) => Err(cause),
        };
        match connected {
            Err(cause) if error::is_busy(&cause) && begun.elapsed() < BUSY_TIMEOUT => {
                tokio::time::sleep(BUSY_PAUSE).await;
            }
            connected => return connected.map_err(|cause| cannot_open(path, cause)),
        }
    }
}

/// The file's name with `suffix` behind it.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn connect_options(path: &Path, options: &SqliteOptions) -> SqliteConnectOptions {
    let synchronous = match options.durability {
        // With a sync of our own behind each commit: see `disk`.
        Durability::Full => SqliteSynchronous::Normal,
        Durability::Off => SqliteSynchronous::Off,
    };
    let mut connect = SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(synchronous)
        .busy_timeout(BUSY_TIMEOUT)
        .foreign_keys(true)
        .pragma("journal_size_limit", WAL_LIMIT_BYTES)
        .pragma("wal_autocheckpoint", wal::TOO_LONG_WAL_PAGES.to_string())
        // What a savepoint would roll back goes to a file in the temporary folder otherwise, once per batch.
        .pragma("temp_store", "MEMORY")
        // What is erased must not stay readable in a free page.
        .pragma("secure_delete", "ON")
        .row_buffer_size(1024)
        .disable_statement_logging();
    if let Some(pages) = options.max_pages {
        connect = connect.pragma("max_page_count", pages.to_string());
    }
    connect
}

/// Bodies and URLs are in this file, so that only its owner may read it; SQLite gives `-wal` and
/// `-shm` the file's own mode. `sync` puts the names in a folder on the disk.
fn create_private(path: &Path, sync: impl FnMut(&Path) -> std::io::Result<()>) -> Result<()> {
    let folder = folder_of(path);
    // The first that was there before holds the name of the first that is made.
    let made = folder.ancestors().take_while(|above| !is_there(above));
    let levels = made.count() + SYNCED_LEVELS;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|cause| {
            Error::internal(format!("create the folder {}", folder.display())).with_source(cause)
        })?;
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    let created = match made {
        Ok(_) => Ok(()),
        Err(cause) if cause.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(cause) => Err(cause),
    };
    created
        .and_then(|()| sync_folders(folder, levels, sync))
        .map_err(|cause| {
            Error::internal(format!("create the store {}", path.display())).with_source(cause)
        })
}

/// How many folders above the file are synced at each start: whoever has made them may have died before it could.
const SYNCED_LEVELS: usize = 2;

/// SQLite syncs what is in the file; that the file and its folders are there is ours to sync.
fn sync_folders(
    folder: &Path,
    levels: usize,
    mut sync: impl FnMut(&Path) -> std::io::Result<()>,
) -> std::io::Result<()> {
    for (level, folder) in folder.ancestors().take(levels).enumerate() {
        match sync(named(folder)) {
            // One above ours that we may pass through but not read was made by somebody else.
            Err(cause) if level > 0 && cause.kind() == ErrorKind::PermissionDenied => break,
            synced => synced?,
        }
    }
    Ok(())
}

fn sync_folder(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}

/// The folder of a file: of a bare name, the present one.
fn folder_of(path: &Path) -> &Path {
    named(path.parent().unwrap_or(path))
}

fn named(folder: &Path) -> &Path {
    match folder.as_os_str().is_empty() {
        true => Path::new("."),
        false => folder,
    }
}

fn is_there(folder: &Path) -> bool {
    named(folder).exists()
}

/// What the first bytes tell, before SQLite touches the file: that it is a database, and whole.
fn check_header(path: &Path) -> Result<()> {
    let unreadable =
        |cause| Error::internal(format!("read the store {}", path.display())).with_source(cause);
    let mut file = File::open(path).map_err(unreadable)?;
    let length = file.metadata().map_err(unreadable)?.len();
    if length == 0 {
        return Ok(());
    }
    let mut header = [0u8; 32];
    let is_database = file.read_exact(&mut header).is_ok() && header.starts_with(MAGIC);
    if !is_database {
        return Err(not_a_database(path));
    }
    let page_size = match u16::from_be_bytes([header[16], header[17]]) {
        1 => 65_536,
        size => u64::from(size),
    };
    let pages = u64::from(u32::from_be_bytes([
        header[28], header[29], header[30], header[31],
    ]));
    // A crash in mid-checkpoint may leave a short file beside a WAL that completes it.
    let has_wal = beside(path, "-wal")
        .metadata()
        .is_ok_and(|wal| wal.len() > 0);
    if length < pages * page_size && !has_wal {
        return Err(Error::internal(format!(
            "open the store {}: it is cut off, {length} bytes are left of {}; restore it from a backup or move it away",
            path.display(),
            pages * page_size
        )));
    }
    Ok(())
}

async fn check_library(conn: &mut SqliteConnection) -> Result<()> {
    let version: String = sqlx::query_scalar("SELECT sqlite_version()")
        .fetch_one(conn)
        .await
        .map_err(|cause| error::from("ask SQLite for its version", cause))?;
    let mut numbers = version.split('.').map(|part| part.parse().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    if (next(), next(), next()) < OLDEST_SQLITE {
        let (major, minor, patch) = OLDEST_SQLITE;
        return Err(Error::internal(format!(
            "use SQLite {version}: {major}.{minor}.{patch} is the oldest that does not damage a store under two writers"
        )));
    }
    Ok(())
}

/// Reads the schema, which finds most damage, and refuses another program's database.
pub(super) async fn check_owner(path: &Path, conn: &mut SqliteConnection) -> Result<()> {
    let tables: Vec<String> =
        sqlx::query_scalar("SELECT name FROM sqlite_master WHERE type = 'table'")
            .fetch_all(&mut *conn)
            .await
            .map_err(|cause| cannot_open(path, cause))?;
    let is_ours = tables.iter().any(|name| name == "_sqlx_migrations");
    if !tables.is_empty() && !is_ours {
        return Err(Error::internal(format!(
            "open the store {}: it is another program's database",
            path.display()
        )));
    }
    Ok(())
}

/// All migrations in one transaction: a kill half-way leaves the old schema.
async fn migrate(path: &Path, conn: &mut SqliteConnection) -> Result<()> {
    let migrations = MIGRATIONS.map(|(version, name, sql)| {
        let sql = sql.into_sql_str();
        Migration::new(version, name.into(), MigrationType::Simple, sql, false)
    });
    let newest = MIGRATIONS[MIGRATIONS.len() - 1].0;
    let failed = |cause| cannot_open(path, cause);
    let mut transaction = conn.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
    Migrator::with_migrations(migrations.into())
        .run_direct(None, &mut *transaction, false)
        .await
        .map_err(|cause| match cause {
            MigrateError::VersionMissing(version) => Error::internal(format!(
                "open the store {}: its schema is version {version}, this harvester knows up to {newest}; use a newer harvester",
                path.display()
            )),
            cause => Error::internal(format!("bring the store {} up to date", path.display()))
                .with_source(cause),
        })?;
    note_vocabulary(path, &mut transaction).await?;
    transaction.commit().await.map_err(failed)
}

/// Refuses a store whose rows may hold names that this harvester does not know, and notes which ones it may write itself.
async fn note_vocabulary(path: &Path, conn: &mut SqliteConnection) -> Result<()> {
    let failed = |cause| cannot_open(path, cause);
    let query = sqlx::query_scalar("PRAGMA user_version");
    let written: i64 = query.fetch_one(&mut *conn).await.map_err(failed)?;
    if written > VOCABULARY {
        return Err(Error::internal(format!(
            "open the store {}: a newer harvester has written to it (vocabulary {written}, this one knows up to \
             {VOCABULARY}); use a newer harvester",
            path.display()
        )));
    }
    if written < VOCABULARY {
        let statement = AssertSqlSafe(format!("PRAGMA user_version = {VOCABULARY}"));
        sqlx::query(statement).execute(conn).await.map_err(failed)?;
    }
    Ok(())
}

pub(super) fn cannot_open(path: &Path, cause: sqlx::Error) -> Error {
    if error::is_damage(&cause) {
        return not_a_database(path).with_source(cause);
    }
    error::from(&format!("open the store {}", path.display()), cause)
}

fn not_a_database(path: &Path) -> Error {
    Error::internal(format!(
        "open the store {}: it is damaged or not an SQLite database; restore it from a backup or move it away",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R22: the folder of `harvester-data/harvester.db` lies in the present one, whose name for it is synced too.
    #[test]
    fn the_folders_of_a_relative_path_end_in_the_present_one() {
        let folders = |path: &'static str| {
            let folders = folder_of(Path::new(path)).ancestors();
            folders.map(named).collect::<Vec<_>>()
        };
        assert_eq!(folders("harvester.db"), [Path::new("."), Path::new(".")]);
        let nested = [Path::new("data/state"), Path::new("data"), Path::new(".")];
        assert_eq!(folders("data/state/harvester.db"), nested);
    }

    /// R22: a power loss must not take away the folder that acknowledged events are in.
    #[test]
    fn every_folder_that_is_made_is_synced_and_by_the_next_start_again() {
        let there = tempfile::tempdir().unwrap();
        let synced_by_a_start = |path: &Path| {
            let mut synced = Vec::new();
            let sync = |folder: &Path| {
                synced.push(folder.to_owned());
                sync_folder(folder)
            };
            create_private(path, sync).unwrap();
            synced
        };
        let (first, second) = (there.path().join("a"), there.path().join("a/b"));
        let path = second.join("c/harvester.db");
        let made = [&second.join("c"), &second, &first, there.path()].map(Path::to_owned);
        let synced = synced_by_a_start(&path);
        assert!(synced.starts_with(&made), "{synced:?}");
        // Whoever made them may have died before it could.
        assert_eq!(synced_by_a_start(&path), made[..2]);
    }
}
