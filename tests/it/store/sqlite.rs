//! What only the SQLite back end promises: its file, its locks, its CHECKs.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use recording_harvester::error::Class;
use recording_harvester::model::Origin;
use recording_harvester::store::sqlite::SqliteStore;
use recording_harvester::store::*;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, SqliteConnection};

use super::Sqlite;
use super::contract::build::*;

pub(super) async fn raw(path: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true);
    options.connect().await.unwrap()
}

pub(super) async fn run(
    conn: &mut SqliteConnection,
    statement: &'static str,
) -> Result<u64, sqlx::Error> {
    sqlx::query(statement)
        .execute(conn)
        .await
        .map(|done| done.rows_affected())
}

async fn refusal(path: &Path) -> String {
    let error = SqliteStore::open(path).await.expect_err("it must not open");
    assert_eq!(error.class(), Class::Internal);
    error.full_message()
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn the_file_and_its_companions_are_for_their_owner_only() {
    let backend = Sqlite::new();
    let store = SqliteStore::open(&backend.path()).await.unwrap();
    store.record(event("e1", "r1").received(0)).await.unwrap();
    let _lock = store.lock_worker().await.unwrap();
    assert_eq!(mode(backend.path().parent().unwrap()), 0o700);
    for suffix in ["", "-wal", "-shm", ".lock"] {
        let path = format!("{}{suffix}", backend.path().display());
        assert_eq!(mode(Path::new(&path)), 0o600, "{path}");
    }
}

#[tokio::test]
async fn what_a_killed_process_leaves_in_the_folder_counts_as_dead_and_goes() {
    let backend = Sqlite::new();
    let store = SqliteStore::open(&backend.path()).await.unwrap();
    let new = event("e1", "r1").with(video("v", None));
    store.record(new.received(0)).await.unwrap();
    let mut claim = claim_at(1, false, 1);
    claim.worker = "killed".to_owned();
    assert_eq!(store.claim(claim).await.unwrap().len(), 1);
    drop(store.show_alive("killed").await.unwrap());
    // Its file, without the lock.
    let file = backend.path().with_extension("db.seats").join("killed");
    std::fs::write(&file, "").unwrap();
    assert_eq!(store.free_leases_of_the_dead().await.unwrap(), 1);
    assert!(!file.exists());
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let backend = Sqlite::new();
    std::fs::create_dir_all(backend.path().parent().unwrap()).unwrap();
    for content in [&b"just some notes"[..], &[7; 8192]] {
        std::fs::write(backend.path(), content).unwrap();
        let message = refusal(&backend.path()).await;
        assert!(
            message.contains("damaged or not an SQLite database"),
            "{message}"
        );
        assert_eq!(std::fs::read(backend.path()).unwrap(), content);
    }
}

#[tokio::test]
async fn a_damaged_or_cut_file_is_refused() {
    let backend = Sqlite::new();
    let store = SqliteStore::open(&backend.path()).await.unwrap();
    store.record(event("e1", "r1").received(0)).await.unwrap();
    store.close().await;
    let whole = std::fs::read(backend.path()).unwrap();

    std::fs::write(backend.path(), &whole[..whole.len() / 2]).unwrap();
    let message = refusal(&backend.path()).await;
    assert!(message.contains("it is cut off"), "{message}");

    // The header is whole, the schema behind it is not.
    let mut damaged = whole.clone();
    damaged[100..4096].fill(0xa5);
    std::fs::write(backend.path(), &damaged).unwrap();
    let message = refusal(&backend.path()).await;
    assert!(message.contains("damaged"), "{message}");

    std::fs::write(backend.path(), &whole).unwrap();
    let store = SqliteStore::open(&backend.path()).await.unwrap();
    assert_eq!(store.events(None, 9).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_newer_schema_and_another_programs_database_are_refused() {
    let backend = Sqlite::new();
    SqliteStore::open(&backend.path())
        .await
        .unwrap()
        .close()
        .await;
    let mut conn = raw(&backend.path()).await;
    let newer =
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
        VALUES (4711, 'of the future', TRUE, x'00', 0)";
    run(&mut conn, newer).await.unwrap();
    let message = refusal(&backend.path()).await;
    assert!(message.contains("its schema is version 4711"), "{message}");
    assert!(message.contains("use a newer harvester"), "{message}");

    let other = backend.path().with_file_name("other.db");
    run(&mut raw(&other).await, "CREATE TABLE mine (x)")
        .await
        .unwrap();
    let message = refusal(&other).await;
    assert!(message.contains("another program's database"), "{message}");
}

#[tokio::test]
async fn two_processes_that_open_a_new_file_at_once_both_can() {
    let backend = Sqlite::new();
    let mut openers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let path = backend.path();
        openers.spawn(async move { SqliteStore::open(&path).await.unwrap() });
    }
    for (number, store) in openers.join_all().await.into_iter().enumerate() {
        store
            .record(event(&format!("e{number}"), "r1").received(0))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn checks_refuse_impossible_rows() {
    let backend = Sqlite::new();
    let store = SqliteStore::open(&backend.path()).await.unwrap();
    store
        .record(event("e1", "r1").with(video("v", Some(60))).received(0))
        .await
        .unwrap();
    archive_all(&store, 0).await;
    store
        .record(event("e2", "r1").with(transcript("t")).received(0))
        .await
        .unwrap();
    let mut conn = raw(&backend.path()).await;
    for statement in [
        "UPDATE jobs SET state = 'done' WHERE state = 'pending'",
        "UPDATE jobs SET state = 'running' WHERE state = 'pending'",
        "UPDATE jobs SET lease_until = 1, leased_by = 'w' WHERE state = 'pending'",
        "UPDATE jobs SET state = 'running', lease_until = 1, leased_by = 'w' WHERE state = 'pending'",
        "UPDATE jobs SET state = 'archived' WHERE state = 'pending'",
        "UPDATE jobs SET state = 'archived', archived_at = 1, size_bytes = 1, crc64nvme = 'x' WHERE state = 'pending'",
        "UPDATE jobs SET origin = '{}' WHERE state = 'archived'",
        "UPDATE jobs SET archived_at = NULL WHERE state = 'archived'",
        "UPDATE jobs SET class = 'gone' WHERE state = 'archived'",
        "UPDATE jobs SET state = 'failed' WHERE state = 'pending'",
        "UPDATE jobs SET state = 'expired', class = 'gone' WHERE state = 'pending'",
        "UPDATE jobs SET attempts = -1",
        "UPDATE jobs SET recording_id = 'nobody'",
        "UPDATE jobs SET name = 'same'",
        "UPDATE recordings SET sealed_generation = generation + 1",
    ] {
        let refused = run(&mut conn, statement).await;
        assert!(refused.is_err(), "{statement}");
        assert!(
            refused.unwrap_err().to_string().contains("constraint"),
            "{statement}"
        );
    }
}

#[tokio::test]
async fn the_event_that_announced_a_job_is_read_when_it_is_wanted() {
    let backend = Sqlite::new();
    let store = SqliteStore::open(&backend.path()).await.unwrap();
    for (event_id, recording) in [("gone", "r1"), ("whole", "r2")] {
        let new = event(event_id, recording).with(video(recording, Some(60)));
        store.record(new.received(0)).await.unwrap();
    }
    let mut conn = raw(&backend.path()).await;
    run(&mut conn, "DELETE FROM events WHERE dedupe_key = 'gone'")
        .await
        .unwrap();
    // S1: a row holds no text of the event, whatever that is.
    let texts = "SELECT count(*) FROM jobs WHERE kind = 'event' AND length(origin) > 9";
    let texts: i64 = sqlx::query_scalar(texts)
        .fetch_one(&mut conn)
        .await
        .unwrap();
    assert_eq!(texts, 0);
    let claimed = store.claim(claim_at(1, true, 9)).await.unwrap();
    for (name, body) in [
        ("event-gone.json", None),
        ("event-whole.json", Some("{\"id\":\"whole\"}")),
    ] {
        let mut jobs = claimed.iter().map(|claimed| &claimed.job);
        let job = jobs.find(|job| job.name == name).unwrap();
        assert_eq!(job.origin, Origin::Event);
        let read = store.announcing_event(job.id).await.unwrap();
        assert_eq!(read.as_deref(), body.map(str::as_bytes));
    }
}

#[tokio::test]
async fn the_origin_is_erased_when_its_job_is_archived() {
    let backend = Sqlite::new();
    let store = SqliteStore::open(&backend.path()).await.unwrap();
    store
        .record(event("e1", "r1").with(video("v", Some(60))).received(0))
        .await
        .unwrap();
    let mut conn = raw(&backend.path()).await;
    let held = "SELECT count(*) FROM jobs WHERE origin LIKE '%X-Amz-Signature%'";
    let count: i64 = sqlx::query_scalar(held).fetch_one(&mut conn).await.unwrap();
    assert_eq!(count, 1);
    archive_all(&store, 1).await;
    let count: i64 = sqlx::query_scalar(held).fetch_one(&mut conn).await.unwrap();
    assert_eq!(count, 0);
}

#[tokio::test]
async fn closing_writes_what_waits_and_later_calls_fail() {
    let backend = Sqlite::new();
    let store = Arc::new(SqliteStore::open(&backend.path()).await.unwrap());
    let mut senders = tokio::task::JoinSet::new();
    for number in 0..32 {
        let store = Arc::clone(&store);
        let new = event(&format!("e{number}"), "r1").received(0);
        senders.spawn(async move { store.record(new).await.is_ok() });
    }
    tokio::task::yield_now().await;
    store.close().await;
    let acknowledged = senders
        .join_all()
        .await
        .into_iter()
        .filter(|is_ok| *is_ok)
        .count();
    let error = store
        .record(event("late", "r1").received(0))
        .await
        .unwrap_err();
    assert!(error.is_transient(), "{error}");
    let again = SqliteStore::open(&backend.path()).await.unwrap();
    assert_eq!(again.events(None, 99).await.unwrap().len(), acknowledged);
}
