//! What SQLite's writer promises where the disk is full, or is changed under it.

use std::sync::Arc;

use recording_harvester::store::sqlite::{Durability, SqliteOptions, SqliteStore};
use recording_harvester::store::*;

use super::Sqlite;
use super::contract::build::*;
use super::sqlite::{raw, run};

fn fat(key: &str) -> NewEvent {
    let mut new = event(key, key).with(video("v", Some(60))).received(0);
    new.raw = bytes::Bytes::from(format!("\"{}\"", "x".repeat(100_000)));
    new
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wal_begins_anew_while_events_keep_coming() {
    let backend = Sqlite::new();
    let store = SqliteStore::open(&backend.path()).await.unwrap();
    let wal = backend.path().with_extension("db-wal");
    let mut written_bytes = 0;
    for number in 0..400 {
        let mut new = fat(&format!("e{number}"));
        new.raw = vec![b'x'; 200_000].into();
        written_bytes += new.raw.len() as u64;
        store.record(new).await.unwrap();
    }
    // SQLite's own bound would be 64 MiB.
    let wal_bytes = std::fs::metadata(&wal).unwrap().len();
    assert!(
        wal_bytes < 48 << 20 && wal_bytes < written_bytes / 2,
        "{wal_bytes} of {written_bytes}"
    );
}

#[tokio::test]
async fn a_full_disk_refuses_stores_no_half_and_goes_on_when_there_is_space() {
    let backend = Sqlite::new();
    SqliteStore::open(&backend.path())
        .await
        .unwrap()
        .close()
        .await;
    let mut other = raw(&backend.path()).await;
    run(
        &mut other,
        "CREATE TABLE filler AS SELECT zeroblob(2000000) AS bytes",
    )
    .await
    .unwrap();
    // 4 KiB pages: room for about five fat events besides the filler.
    let options = SqliteOptions {
        max_pages: Some(700),
        ..SqliteOptions::default()
    };
    let store = SqliteStore::open_with(&backend.path(), &options)
        .await
        .unwrap();
    let mut stored = 0;
    let error = loop {
        match store.record(fat(&format!("e{stored}"))).await {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 100, "the disk is never full");
    };
    assert!(stored > 0);
    assert!(error.is_transient());
    assert!(
        error.full_message().contains("the disk is full"),
        "{}",
        error.full_message()
    );
    assert_eq!(store.events(None, 999).await.unwrap().len(), stored);
    assert_eq!(
        records(&store).await.len(),
        2 * stored,
        "nothing of the refused event"
    );
    assert_eq!(store.stats().await.unwrap().jobs[0].1, 2 * stored as u64);

    // A batch on a full disk: some fit, some don't, each is told the truth.
    let store = Arc::new(store);
    let mut senders = tokio::task::JoinSet::new();
    for number in 0..16 {
        let store = Arc::clone(&store);
        let new = fat(&format!("full-{number}"));
        senders.spawn(async move { store.record(new).await.is_ok() });
    }
    let accepted = senders
        .join_all()
        .await
        .into_iter()
        .filter(|is_ok| *is_ok)
        .count();
    assert_eq!(
        store.events(None, 999).await.unwrap().len(),
        stored + accepted
    );

    run(&mut other, "DROP TABLE filler").await.unwrap();
    store.record(fat("after")).await.unwrap();
    assert_eq!(
        store.events(None, 999).await.unwrap().len(),
        stored + accepted + 1
    );
    archive_all(&*store, 1).await;
    let count: String = sqlx::query_scalar("PRAGMA integrity_check")
        .fetch_one(&mut other)
        .await
        .unwrap();
    assert_eq!(count, "ok");
}

#[tokio::test]
async fn durability_off_is_an_option_of_its_own() {
    let backend = Sqlite::new();
    assert_eq!(SqliteOptions::default().durability, Durability::Full);
    let options = SqliteOptions {
        durability: Durability::Off,
        ..SqliteOptions::default()
    };
    let store = SqliteStore::open_with(&backend.path(), &options)
        .await
        .unwrap();
    store.record(event("e1", "r1").received(0)).await.unwrap();
}

#[tokio::test]
async fn one_event_that_cannot_be_stored_fails_alone() {
    let backend = Sqlite::new();
    let store = Arc::new(SqliteStore::open(&backend.path()).await.unwrap());
    let mut other = raw(&backend.path()).await;
    let trap = "CREATE TRIGGER trap BEFORE INSERT ON events WHEN NEW.dedupe_key = 'bad'
        BEGIN SELECT raise(ABORT, 'no such luck'); END";
    run(&mut other, trap).await.unwrap();
    let mut senders = tokio::task::JoinSet::new();
    for number in 0..20 {
        let store = Arc::clone(&store);
        let key = if number == 7 {
            "bad".to_owned()
        } else {
            format!("e{number}")
        };
        let new = event(&key, "r1").with(video(&key, Some(60))).received(0);
        senders.spawn(async move { store.record(new).await.is_err() });
    }
    let failed = senders
        .join_all()
        .await
        .into_iter()
        .filter(|is_err| *is_err)
        .count();
    assert_eq!(failed, 1);
    assert_eq!(store.events(None, 99).await.unwrap().len(), 19);
    assert_eq!(records(&*store).await.len(), 38, "no job of the failed one");
}

#[tokio::test]
async fn f68_the_writer_goes_on_after_sqlite_itself_rolled_a_transaction_back() {
    let backend = Sqlite::new();
    let store = SqliteStore::open(&backend.path()).await.unwrap();
    let mut other = raw(&backend.path()).await;
    // What a full disk does to a commit, without a full disk.
    let trap = "CREATE TRIGGER trap BEFORE INSERT ON events WHEN NEW.dedupe_key = 'bad'
        BEGIN SELECT raise(ROLLBACK, 'the disk is gone'); END";
    run(&mut other, trap).await.unwrap();
    let new = |key: &str| event(key, key).with(video(key, Some(60))).received(0);
    store.record(new("before")).await.unwrap();
    for _ in 0..3 {
        assert!(store.record(new("bad")).await.is_err());
    }
    store.record(new("after")).await.unwrap();
    archive_all(&store, 2).await;
    assert_eq!(store.events(None, 99).await.unwrap().len(), 2);
    run(&mut other, "DROP TRIGGER trap").await.unwrap();
    store.record(new("bad")).await.unwrap();
    store.close().await;
}

/// R19: what is committed to files that have lost their names is not acknowledged.
#[tokio::test]
async fn files_restored_under_a_running_store_end_its_acknowledgements_for_good() {
    for suffix in ["", "-wal"] {
        let backend = Sqlite::new();
        let store = SqliteStore::open(&backend.path()).await.unwrap();
        store
            .record(event("before", "r1").received(0))
            .await
            .unwrap();
        let there = format!("{}{suffix}", backend.path().display());
        let backup = backend.path().with_file_name("backup");
        std::fs::copy(&there, &backup).unwrap();
        std::fs::rename(&backup, &there).unwrap();
        for key in ["after", "again"] {
            let error = store
                .record(event(key, "r1").received(1))
                .await
                .unwrap_err();
            let message = error.full_message();
            assert!(message.contains("removed or replaced"), "{message}");
            assert!(!error.is_transient());
        }
        assert!(!store.lost().await.is_transient());
    }
}
