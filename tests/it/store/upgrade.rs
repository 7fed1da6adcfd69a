//! A database of an earlier version goes on: what is told of again is the same job.

use std::path::Path;

use bytes::Bytes;
use recording_harvester::ingest::{Delivery, ProviderDefinition};
use recording_harvester::model::{JobId, Layout, Record, State, key};
use recording_harvester::store::sqlite::SqliteStore;
use recording_harvester::store::*;
use serde_json::json;
use sqlx::{ConnectOptions as _, Connection as _};

use super::Sqlite;
use super::contract::build::{archive_all, at, records};

/// A provider whose files differ in nothing but the query, and whose definition names no `id`.
fn definition() -> ProviderDefinition {
    let text = r#"
        provider = "acme"
        [event]
        type = "$.type"
        id = "$.id"
        [recording]
        recording_id = "$.recording"
        [[artifacts]]
        types = ["file"]
        url = "$.url"
        kind = "video"
        format = "mp4"
    "#;
    toml::from_str(text).unwrap()
}

async fn tell(store: &dyn JobStore, id: &str, url: &str) -> Recorded {
    let body = json!({"type": "file", "id": id, "recording": "r", "url": url}).to_string();
    let raw = Bytes::from(body);
    let delivery = Delivery {
        body: &raw,
        id_header: None,
        received_at: at(0),
    };
    let event = definition().parse(&delivery).unwrap();
    let layout = Layout::new("", key::DEFAULT_TEMPLATE).unwrap();
    let new = NewEvent::new("acme", event, raw, &layout, at(0));
    store.record(new).await.unwrap()
}

fn videos(records: &[Record]) -> Vec<(JobId, &str, State)> {
    let videos = records
        .iter()
        .filter(|record| record.name.ends_with(".mp4"));
    videos
        .map(|record| (record.id, &*record.name, record.state))
        .collect()
}

// R8
#[tokio::test]
async fn files_of_a_user_defined_provider_that_differ_in_their_query_are_all_jobs() {
    let backend = Sqlite::new();
    let store = SqliteStore::open(&backend.path()).await.unwrap();
    tell(&store, "e1", "https://h/download?id=1").await;
    archive_all(&store, 1).await;
    // One comes after the first is archived, the other while the second is pending.
    tell(&store, "e2", "https://h/download?id=2").await;
    tell(&store, "e3", "https://h/download?id=3").await;
    let all = records(&store).await;
    let names: Vec<_> = videos(&all).iter().map(|(_, name, _)| *name).collect();
    assert_eq!(
        names,
        ["recording.mp4", "recording-2.mp4", "recording-3.mp4"]
    );
    // The same file under another event id.
    let again = tell(&store, "e4", "https://h/download?id=2").await;
    assert_eq!(again.jobs[0], videos(&all)[1].0);
    assert_eq!(videos(&records(&store).await).len(), 3);
}

/// Puts the database back to how the version before wrote identities.
async fn make_old(path: &Path, identities: &[(&str, &str)]) {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
    let mut conn = options.connect().await.unwrap();
    for (name, identity) in identities {
        let update = sqlx::query("UPDATE jobs SET identity = $2 WHERE name = $1");
        let done = update.bind(name).bind(identity).execute(&mut conn).await;
        assert_eq!(done.unwrap().rows_affected(), 1, "{name}");
    }
    let due = sqlx::query("INSERT INTO upkeep (name) VALUES ('identities')");
    due.execute(&mut conn).await.unwrap();
    conn.close().await.unwrap();
}

// R8
#[tokio::test]
async fn after_an_upgrade_a_file_that_is_told_of_again_is_the_job_that_it_was() {
    for is_archived in [true, false] {
        let backend = Sqlite::new();
        let store = SqliteStore::open(&backend.path()).await.unwrap();
        tell(&store, "e1", "https://h/download?id=1").await;
        if is_archived {
            archive_all(&store, 1).await;
        }
        let before = records(&store).await;
        store.close().await;
        make_old(&backend.path(), &[("recording.mp4", "url:video:/download")]).await;

        let store = SqliteStore::open(&backend.path()).await.unwrap();
        let resent = tell(&store, "e1", "https://h/download?id=1").await;
        assert!(resent.is_duplicate);
        tell(&store, "e2", "https://h/download?id=1").await;
        let after = records(&store).await;
        assert_eq!(videos(&after), videos(&before), "archived: {is_archived}");
        tell(&store, "e3", "https://h/download?id=2").await;
        assert_eq!(videos(&records(&store).await).len(), 2);
        store.close().await;
    }
}

// S11
#[tokio::test]
async fn an_upgrade_takes_secrets_of_paths_out_of_identities_and_doubles_nothing() {
    let backend = Sqlite::new();
    let store = SqliteStore::open(&backend.path()).await.unwrap();
    let link = |token: &str| {
        format!("https://objectstorage.eu-1.oraclecloud.com/p/{token}/n/ns/b/rec/o/a.mp4")
    };
    tell(&store, "e1", &link("CANARY-1")).await;
    archive_all(&store, 1).await;
    store.close().await;
    let old = "url:video:/p/CANARY-1/n/ns/b/rec/o/a.mp4";
    make_old(&backend.path(), &[("recording.mp4", old)]).await;

    let store = SqliteStore::open(&backend.path()).await.unwrap();
    tell(&store, "e2", &link("CANARY-2")).await;
    assert_eq!(videos(&records(&store).await).len(), 1, "a fresh link");
    store.close().await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(backend.path());
    let mut conn = options.connect().await.unwrap();
    let identities: Vec<(String,)> = sqlx::query_as("SELECT identity FROM jobs")
        .fetch_all(&mut conn)
        .await
        .unwrap();
    assert!(
        identities
            .iter()
            .all(|(identity,)| !identity.contains("CANARY")),
        "{identities:?}"
    );
}
