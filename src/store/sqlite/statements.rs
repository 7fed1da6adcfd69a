//! How many statements the calls take: each is a way to the connection's thread and back, and must not come again for
//! every row.

use std::cell::Cell;

use jiff::Timestamp;
use sqlx::{ConnectOptions as _, SqliteConnection};

use super::SqliteStore;
use super::rows::STATEMENTS;
use crate::error::{Class, Result};
use crate::model::{Archived, JobId, Lease, State};
use crate::store::archive::archive;
use crate::store::cases::build::{at, claim_at, event, video};
use crate::store::ids::Ids;
use crate::store::tx::{GiveUp, OperatorTx as _, QueueTx as _, Settlement};
use crate::store::{NewEvent, StoreLifecycle as _, lease, record};

/// What a call answers, and how many statements it took.
async fn counted<T>(call: impl Future<Output = Result<T>>) -> (T, u64) {
    let counting = STATEMENTS.scope(Cell::new(0), async {
        let answer = call.await.unwrap();
        (answer, STATEMENTS.with(Cell::get))
    });
    counting.await
}

async fn connect(folder: &std::path::Path) -> SqliteConnection {
    let path = folder.join("store.db");
    SqliteStore::open(&path).await.unwrap().close().await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
    options.connect().await.unwrap()
}

/// Events of `count` recordings, each with a video.
fn news(count: usize) -> Vec<NewEvent> {
    let one = |number| {
        let name = format!("r{number}");
        let new = event(&name, &name).with(video(&name, Some(3600)));
        new.received(0)
    };
    (0..count).map(one).collect()
}

/// How many statements each call takes that is about `count` jobs.
async fn statements(count: usize) -> Vec<(&'static str, u64)> {
    let folder = tempfile::tempdir().unwrap();
    let mut conn = connect(folder.path()).await;
    let conn = &mut conn;
    let now: Timestamp = at(1);
    let mut ids = Ids::default();
    let news = news(count);
    let (_, recording) = counted(record::record_all(conn, &mut ids, &news)).await;
    let (_, again) = counted(record::record_all(conn, &mut ids, &news)).await;
    let most = u32::try_from(count).unwrap();
    let (claimed, claiming) = counted(lease::claim(conn, claim_at(1, false, most))).await;
    assert_eq!(claimed.len(), count);
    let leases: Vec<Lease> = claimed.iter().map(|one| one.lease.clone()).collect();
    let jobs: Vec<JobId> = leases.iter().map(|lease| lease.job).collect();
    let (lost, beating) = counted(lease::heartbeat(conn, leases.clone(), at(99))).await;
    assert_eq!(lost, []);
    let end = GiveUp {
        state: State::Failed,
        class: Class::Gone,
        message: "it is gone",
        now,
    };
    let (_, ending) = counted(conn.give_up_jobs(&jobs, &end)).await;
    let (woken, retrying) = counted(conn.retry_jobs(&jobs, &[State::Failed], now)).await;
    assert_eq!(woken.len(), count);
    let claimed = lease::claim(conn, claim_at(2, false, most)).await.unwrap();
    let settlements: Vec<_> = claimed
        .into_iter()
        .map(|one| Settlement {
            lease: one.lease,
            archived: Archived {
                key: one.job.key,
                size_bytes: 1,
                crc64nvme: "AAAAAAAAAAA=".to_owned(),
                sha256: None,
                etag: None,
                version_id: None,
            },
            now,
        })
        .collect();
    let (_, archiving) = counted(archive(conn, &settlements)).await;
    let (cancelled, cancelling) = counted(conn.cancel_jobs(&jobs, "no", now)).await;
    assert_eq!(cancelled, [], "they are archived");
    vec![
        ("record", recording),
        ("record duplicates", again),
        ("claim", claiming),
        ("heartbeat", beating),
        ("give up", ending),
        ("retry", retrying),
        ("archive", archiving),
        ("cancel", cancelling),
    ]
}

#[tokio::test]
async fn many_jobs_take_as_few_statements_as_one() {
    let few = statements(1).await;
    assert_eq!(
        few,
        [
            ("record", 5),
            ("record duplicates", 2),
            ("claim", 2),
            ("heartbeat", 1),
            ("give up", 1),
            ("retry", 1),
            ("archive", 2),
            ("cancel", 1),
        ]
    );
    // Rows are inserted 64 at a time: as many as there are recordings and events, and twice as many jobs.
    let mut many = few.clone();
    many[0].1 += 1;
    assert_eq!(statements(64).await, many);
}
