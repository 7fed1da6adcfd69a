//! That the statements which run all the time go by their indexes, however long the queue is.

use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, SqliteConnection};

use super::{SqliteStore, sql};
use crate::store::StoreLifecycle as _;

async fn plan(conn: &mut SqliteConnection, statement: &str) -> String {
    let explain = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}"));
    let steps: Vec<(i64, i64, i64, String)> =
        sqlx::query_as(explain).fetch_all(conn).await.unwrap();
    steps
        .into_iter()
        .map(|(_, _, _, step)| format!("{step}\n"))
        .collect()
}

#[tokio::test]
async fn frequent_statements_neither_scan_nor_sort() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    SqliteStore::open(&path).await.unwrap().close().await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
    let mut conn = options.connect().await.unwrap();
    for (statement, index) in [
        (sql::DUE, "jobs_to_claim"),
        (sql::NEXT_DUE, "jobs_due"),
        (sql::PAUSE, "jobs_due"),
        (sql::LEAST_LATEST_START, "jobs_to_claim"),
        (sql::UNSEALED, "recordings_unsealed"),
        (sql::SEALABLE, "recordings_unsealed"),
        (sql::UNSEALED_OF, "sqlite_autoindex_recordings_1"),
        (sql::OVERDUE_MANIFESTS, "recordings_seal_failing"),
        (sql::RECEIPTS, "sqlite_autoindex_events_2"),
        (sql::RECORDINGS_BY_KEY, "sqlite_autoindex_recordings_2"),
        (sql::SESSION_DATES, "recordings_by_session"),
        (sql::JOB_SLOTS, "sqlite_autoindex_jobs"),
        (sql::UNSAVED_FILES, "sqlite_autoindex_jobs"),
        (sql::LOSSES_TO_CURE, "provider_failures"),
        (sql::LOSSES_TO_CURE, "recordings_by_room"),
        (sql::EXTEND_LEASES, "sqlite_autoindex_jobs_1"),
        (sql::ANNOUNCE_ARCHIVED, "sqlite_autoindex_jobs_1"),
        (
            sql::WITHDRAW_FAILURES,
            "sqlite_autoindex_provider_failures_1",
        ),
        (sql::FORGET_ANSWERS, "sqlite_autoindex_answered_lookups_1"),
        (sql::GIVE_UP_JOBS, "sqlite_autoindex_jobs_1"),
        (sql::EVENTS_OF_RECORDING, "events_by_recording"),
        (sql::UNKNOWN_EVENTS, "events_unknown"),
        (sql::LIST_OF, "sqlite_autoindex_jobs_1"),
        (sql::LIST, "sqlite_autoindex_jobs_1"),
        (sql::RETRY_JOBS, "sqlite_autoindex_jobs_1"),
        (sql::CANCEL_JOBS, "sqlite_autoindex_jobs_1"),
        (sql::COUNT_OPEN, "sqlite_autoindex_recordings_1"),
        (sql::FORGET_BODIES_OF, "events_by_recording"),
        (sql::KEPT_BODIES_OF, "events_by_recording"),
        (sql::PURGEABLE, "sqlite_autoindex_recordings_1"),
        (sql::PURGEABLE_OF, "sqlite_autoindex_recordings_1"),
        (sql::FORGET_BODIES, "events_with_body"),
        (sql::FORGET_EVENTS, "sqlite_autoindex_events_1"),
        (sql::DUE_OF, "sqlite_autoindex_jobs_1"),
        (sql::LEASE_JOBS, "sqlite_autoindex_jobs_1"),
        (sql::LEASE_JOBS, "sqlite_autoindex_recordings_1"),
        (sql::ARCHIVE_JOBS, "sqlite_autoindex_jobs_1"),
        (sql::COUNT_ARCHIVED, "sqlite_autoindex_recordings_1"),
    ] {
        let plan = plan(&mut conn, statement).await;
        assert!(plan.contains(index), "{statement}\n{plan}");
        let is_whole_table = |step: &&str| {
            step.starts_with("SCAN")
                && ![
                    "VIRTUAL TABLE",
                    "CONSTANT ROW",
                    "recordings_unsealed",
                    "provider_failures_open",
                    "events_with_body",
                    "jobs_due",
                    "first_ones",
                    "SCAN due",
                    "SCAN lapsed",
                    "SCAN suspects",
                    "subquery",
                ]
                .iter()
                .any(|fine| step.contains(fine))
        };
        assert!(
            !plan.lines().any(|step| is_whole_table(&step)),
            "{statement}\n{plan}"
        );
    }
    for statement in [
        sql::DUE,
        sql::UNSEALED,
        sql::SEALABLE,
        sql::LIST,
        sql::NEXT_DUE,
        sql::LEAST_LATEST_START,
    ] {
        let plan = plan(&mut conn, statement).await;
        assert!(!plan.contains("TEMP B-TREE"), "{statement}\n{plan}");
    }
    conn.close().await.unwrap();
}
