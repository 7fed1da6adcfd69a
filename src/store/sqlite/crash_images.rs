//! What a power loss leaves on the disk after a sync that failed (R12).
//!
//! A failed sync is modeled as Linux has it: the blocks that it should have written stay in the page cache, count as
//! clean from then on, and reach the disk only if they are written again. A process that ends and starts anew reads
//! the page cache; after a power loss there is only the disk.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};

use super::disk::Sync;
use super::{SqliteOptions, SqliteStore};
use crate::error::Result;
use crate::store::{ScanStore as _, StoreLifecycle as _, WalkTurn};

const PAGE_BYTES: usize = 4096;
const WAL_HEADER_BYTES: usize = 32;
const WAL_FRAME_BYTES: usize = PAGE_BYTES + 24;

/// The files of a store at one moment.
#[derive(Clone)]
struct Image {
    database: Vec<u8>,
    wal: Vec<u8>,
}

impl Image {
    fn of(path: &Path) -> Image {
        Image {
            database: std::fs::read(path).unwrap(),
            wal: std::fs::read(wal(path)).unwrap_or_default(),
        }
    }

    /// Puts the files into a folder of their own, as a process that starts finds them: without the index of the WAL.
    fn put(&self, folder: &Path, name: &str) -> PathBuf {
        let path = folder.join(name).join("harvester.db");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &self.database).unwrap();
        std::fs::write(wal(&path), &self.wal).unwrap();
        path
    }
}

fn wal(path: &Path) -> PathBuf {
    super::open::beside(path, "-wal")
}

/// `after` without the blocks that were written between `before` and `cached` and not again since.
fn without_lost(
    before: &[u8],
    cached: &[u8],
    after: &[u8],
    header: usize,
    block: usize,
) -> Vec<u8> {
    let mut disk = after.to_vec();
    let mut from = header;
    while from + block <= after.len().min(cached.len()) {
        let there = from..from + block;
        let was = before.get(there.clone());
        let is_lost = was != Some(&cached[there.clone()]);
        let is_written_again = after[there.clone()] != cached[there.clone()];
        if is_lost && !is_written_again {
            disk[there].copy_from_slice(was.unwrap_or(&vec![0; block]));
        }
        from += block;
    }
    disk
}

/// A store whose syncs fail once that is said.
async fn store(path: &Path) -> (SqliteStore, Arc<AtomicBool>) {
    let fails = Arc::new(AtomicBool::new(false));
    let fail = Arc::clone(&fails);
    let sync: Sync = Box::new(move || match fail.load(Ordering::Relaxed) {
        true => Err(io::Error::other("the cable is out")),
        false => Ok(()),
    });
    let options = SqliteOptions::default();
    let store = SqliteStore::open_synced_by(path, &options, || Ok(vec![sync]))
        .await
        .unwrap();
    (store, fails)
}

async fn note(store: &SqliteStore, source: &str) -> Result<()> {
    let now = Timestamp::UNIX_EPOCH;
    let turn = store.begin_walk(source, "me", now, now).await?;
    assert!(matches!(turn, WalkTurn::Ours { .. }));
    store.end_walk(source, "me", Some(now)).await
}

async fn noted(path: &Path) -> Vec<String> {
    let (store, _) = store(path).await;
    let mut conn = raw(path).await;
    let noted = sqlx::query_scalar("SELECT source FROM walks ORDER BY source")
        .fetch_all(&mut conn)
        .await
        .unwrap();
    conn.close().await.unwrap();
    store.close().await;
    noted
}

async fn raw(path: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(path);
    options.connect().await.unwrap()
}

#[tokio::test]
async fn what_is_acknowledged_after_a_failed_sync_and_a_start_survives_a_power_loss() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("harvester.db");
    let (first, fails) = store(&path).await;
    note(&first, "before").await.unwrap();
    let on_disk = Image::of(&path);
    fails.store(true, Ordering::Relaxed);
    note(&first, "lost").await.unwrap_err();
    let cached = Image::of(&path);
    first.close().await;

    let again = cached.put(folder.path(), "again");
    let (second, _) = store(&again).await;
    note(&second, "after").await.unwrap();
    let after = Image::of(&again);
    let disk = Image {
        wal: without_lost(
            &on_disk.wal,
            &cached.wal,
            &after.wal,
            WAL_HEADER_BYTES,
            WAL_FRAME_BYTES,
        ),
        ..after
    };
    second.close().await;

    let noted = noted(&disk.put(folder.path(), "power-loss")).await;
    assert!(noted.contains(&"before".to_owned()), "{noted:?}");
    assert!(noted.contains(&"after".to_owned()), "{noted:?}");
}

#[tokio::test]
async fn leaving_after_a_failed_sync_keeps_the_wal_that_a_checkpoint_may_have_lost() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("harvester.db");
    let (store, fails) = store(&path).await;
    note(&store, "before").await.unwrap();
    let on_disk = Image::of(&path);
    // A reader of an old state lets a checkpoint copy a part of the WAL only, which is not synced then.
    let mut reader = raw(&path).await;
    let mut snapshot = reader.begin().await.unwrap();
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM walks")
        .fetch_one(&mut *snapshot)
        .await
        .unwrap();
    assert_eq!(count, 1);
    note(&store, "later").await.unwrap();
    let mut copier = raw(&path).await;
    let (_, all, copied): (i64, i64, i64) = sqlx::query_as("PRAGMA wal_checkpoint(PASSIVE)")
        .fetch_one(&mut copier)
        .await
        .unwrap();
    assert!(0 < copied && copied < all, "{copied} of {all}");
    let cached = Image::of(&path);
    assert!(cached.database != on_disk.database);
    snapshot.rollback().await.unwrap();
    reader.close().await.unwrap();
    copier.close().await.unwrap();

    fails.store(true, Ordering::Relaxed);
    note(&store, "lost").await.unwrap_err();
    store.close().await;
    let after = Image::of(&path);
    let disk = Image {
        database: without_lost(
            &on_disk.database,
            &cached.database,
            &after.database,
            0,
            PAGE_BYTES,
        ),
        ..after
    };
    let noted = noted(&disk.put(folder.path(), "power-loss")).await;
    assert!(noted.contains(&"before".to_owned()), "{noted:?}");
    assert!(noted.contains(&"later".to_owned()), "{noted:?}");
}

#[tokio::test]
async fn after_a_lost_write_a_start_wants_the_store_for_itself() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("harvester.db");
    let (first, fails) = store(&path).await;
    note(&first, "before").await.unwrap();
    let beside = path.with_extension("db.lost-write");
    assert!(!beside.exists());
    fails.store(true, Ordering::Relaxed);
    note(&first, "lost").await.unwrap_err();
    let why = std::fs::read_to_string(&beside).unwrap();
    assert!(why.contains("the cable is out"), "{why}");

    // The first still has it open, as a receiver beside a worker would.
    let error = SqliteStore::open(&path).await.unwrap_err().full_message();
    assert!(error.contains("stop all of them"), "{error}");
    assert!(error.contains("the cable is out"), "{error}");

    let alone = Image::of(&path).put(folder.path(), "alone");
    std::fs::copy(&beside, alone.with_extension("db.lost-write")).unwrap();
    let again = SqliteStore::open(&alone).await.unwrap();
    assert!(!alone.with_extension("db.lost-write").exists());
    again.close().await;
}
