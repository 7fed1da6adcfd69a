//! Rows that can't be read, since a newer harvester wrote them or since they are damaged: each is its own trouble (R7).

use recording_harvester::error::Class;
use recording_harvester::model::{Format, Kind, State};
use recording_harvester::store::sqlite::SqliteStore;
use recording_harvester::store::*;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};

use super::Sqlite;
use super::contract::build::*;

/// Changes the file as a newer harvester, or a damage, would have.
async fn change(backend: &Sqlite, statement: &str) {
    let options = SqliteConnectOptions::new().filename(backend.path());
    let mut conn = options.connect().await.unwrap();
    let statement = AssertSqlSafe(statement.to_owned());
    let done = sqlx::query(statement).execute(&mut conn).await.unwrap();
    assert!(done.rows_affected() > 0);
    conn.close().await.unwrap();
}

#[tokio::test]
async fn a_job_that_cannot_be_read_fails_alone_and_the_others_are_leased() {
    let backend = Sqlite::new();
    let store = SqliteStore::open(&backend.path()).await.unwrap();
    let mut recordings = Vec::new();
    for (name, deadline) in [("odd", 60), ("b", 120), ("c", 180)] {
        let new = event(name, name).with(video(name, Some(deadline)));
        recordings.push(store.record(new.received(0)).await.unwrap());
    }
    change(
        &backend,
        "UPDATE jobs SET format = 'heic' WHERE identity = 'url:/odd'",
    )
    .await;

    let claimed = store.claim(claim_at(1, false, 9)).await.unwrap();
    let names: Vec<_> = claimed
        .iter()
        .map(|claimed| claimed.job.recording.recording_id.as_deref().unwrap())
        .collect();
    assert_eq!(names, ["b", "c"]);
    let odd = record_of(&store, recordings[0].jobs[0]).await;
    assert_eq!(odd.state, State::Failed);
    assert_eq!(odd.class, Some(Class::Internal));
    assert_eq!(odd.format, Format::Bin);
    let message = odd.message.unwrap();
    assert!(message.contains("`heic` is no format"), "{message}");

    // Its recording ends as any other: its own event is archived, its report names the loss.
    archive_all(&store, 2).await;
    let recording = recordings[0].recording_id.unwrap();
    assert_eq!(store.unsealed_of(&[recording]).await.unwrap(), [recording]);
    let contents = store.contents(recording).await.unwrap().unwrap();
    assert_eq!(contents.archived().count(), 1);
    assert_eq!(contents.report(at(3)).unwrap().failures.len(), 1);
}

#[tokio::test]
async fn a_job_whose_place_in_the_queue_cannot_be_read_fails_alone_too() {
    let backend = Sqlite::new();
    let store = SqliteStore::open(&backend.path()).await.unwrap();
    let mut jobs = Vec::new();
    for name in ["odd", "sound"] {
        let new = event(name, name).with(video(name, Some(60)));
        jobs.push(store.record(new.received(0)).await.unwrap().jobs[0]);
    }
    let statement = "UPDATE jobs SET latest_start = 'soon' WHERE identity = 'url:/odd'";
    change(&backend, statement).await;
    let claimed = store.claim(claim_at(1, false, 9)).await.unwrap();
    assert_eq!(claimed.len(), 1);
    assert_eq!(claimed[0].job.id, jobs[1]);
    let odd = record_of(&store, jobs[0]).await;
    assert_eq!(
        (odd.state, odd.class),
        (State::Failed, Some(Class::Internal))
    );
}

#[tokio::test]
async fn a_checkpoint_that_cannot_be_read_costs_no_more_than_to_begin_anew() {
    let backend = Sqlite::new();
    let store = SqliteStore::open(&backend.path()).await.unwrap();
    let new = event("e1", "r1").with(video("v", Some(60))).received(0);
    let job = store.record(new).await.unwrap().jobs[0];
    let statement = "UPDATE jobs SET checkpoint = '{\"resumed\": 1}' WHERE identity = 'url:/v'";
    change(&backend, statement).await;
    let owners = store.upload_owners(&[]).await.unwrap();
    assert_eq!((owners.len(), owners[0].job), (1, job));
    assert_eq!(owners[0].upload_id, None);
    let claimed = claim_one(&store, 1).await;
    assert_eq!((claimed.job.id, claimed.job.checkpoint), (job, None));
}

#[tokio::test]
async fn what_is_archived_stays_in_the_manifest_whatever_its_kind_is_called() {
    let backend = Sqlite::new();
    let store = SqliteStore::open(&backend.path()).await.unwrap();
    let new = event("e1", "r1").with(video("v", Some(60))).received(0);
    let recorded = store.record(new).await.unwrap();
    archive_all(&store, 1).await;
    change(
        &backend,
        "UPDATE jobs SET kind = 'hologram' WHERE identity = 'url:/v'",
    )
    .await;
    let contents = store.contents(recorded.recording_id.unwrap()).await;
    let contents = contents.unwrap().unwrap();
    let kinds: Vec<_> = contents.archived().map(|record| record.kind).collect();
    assert_eq!(kinds.len(), 2, "{kinds:?}");
    assert!(kinds.contains(&Kind::Other));
    assert_eq!(records(&store).await.len(), 2);

    // And a later event of the recording is taken in.
    let later = event("e2", "r1").with(transcript("t")).received(2);
    assert!(!store.record(later).await.unwrap().is_duplicate);
}

#[tokio::test]
async fn a_loss_that_cannot_be_read_does_not_hold_up_what_is_archived() {
    let backend = Sqlite::new();
    let store = SqliteStore::open(&backend.path()).await.unwrap();
    for name in ["r1", "r2"] {
        let lost = event(&format!("lost-{name}"), name).losing(Some(Kind::Video), "video");
        store.record(lost.received(0)).await.unwrap();
        let new = event(&format!("later-{name}"), name).with(video(name, Some(60)));
        store.record(new.received(1)).await.unwrap();
    }
    change(
        &backend,
        "UPDATE provider_failures SET at = 9223372036854775807
         WHERE recording_id = (SELECT id FROM recordings WHERE recording_key = 'r1')",
    )
    .await;
    archive_all(&store, 2).await;
    assert_eq!(open_jobs(&store).await, 0);
    let open = store.provider_failures(None).await.unwrap();
    assert_eq!(open.len(), 0, "r2's is withdrawn, r1's can't be read");
}

#[tokio::test]
async fn a_store_with_a_newer_vocabulary_is_refused() {
    let backend = Sqlite::new();
    SqliteStore::open(&backend.path())
        .await
        .unwrap()
        .close()
        .await;
    let options = SqliteConnectOptions::new().filename(backend.path());
    let mut conn = options.connect().await.unwrap();
    let written: i64 = sqlx::query_scalar("PRAGMA user_version")
        .fetch_one(&mut conn)
        .await
        .unwrap();
    assert!(written > 0);
    sqlx::query("PRAGMA user_version = 4711")
        .execute(&mut conn)
        .await
        .unwrap();
    conn.close().await.unwrap();
    let error = SqliteStore::open(&backend.path()).await.unwrap_err();
    let message = error.full_message();
    assert!(message.contains("vocabulary 4711"), "{message}");
    assert!(message.contains("use a newer harvester"), "{message}");
}
