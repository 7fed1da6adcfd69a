//! What leaves the store, and what must not (S9).

use recording_harvester::error::Class;
use recording_harvester::model::{Artifact, DeadlineFrom, Origin};
use recording_harvester::store::sqlite::SqliteStore;
use recording_harvester::store::*;

use super::Sqlite;
use super::contract::build::*;

const DAY: i64 = 86_400;
const CANARY: &str = "canary";

/// An event whose body and URL hold secrets.
fn secretive(key: &str, recording: &str) -> NewEvent {
    let artifact = Artifact {
        origin: url(recording, "canary-signature"),
        ..video(recording, Some(3600))
    };
    let mut new = event(key, recording).with(artifact).received(0);
    let filler = "x".repeat(20_000);
    new.raw = format!(
        "{{\"download_token\":\"canary-token\",\"url\":\"https://h/v?X-Amz-Signature=canary-signature\",\"of\":\"{filler}\"}}"
    )
    .into();
    new
}

async fn seal_all(store: &dyn JobStore) {
    for recording in store.unsealed(999).await.unwrap() {
        let contents = store.contents(recording).await.unwrap().unwrap();
        store
            .sealed(recording, contents.generation, Some("m"), None)
            .await
            .unwrap();
    }
}

/// How often a secret can be read in the files of the store.
fn canaries(backend: &Sqlite) -> usize {
    let folder = std::fs::read_dir(backend.path().parent().unwrap()).unwrap();
    let files = folder.map(|file| file.unwrap().path());
    files
        .filter(|path| path.is_file())
        .map(|path| {
            let bytes = std::fs::read(path).unwrap();
            let windows = bytes.windows(CANARY.len());
            windows.filter(|text| *text == CANARY.as_bytes()).count()
        })
        .sum()
}

#[tokio::test]
async fn of_a_sealed_recording_no_secret_is_left_in_the_closed_file() {
    let backend = Sqlite::new();
    let store = SqliteStore::open(&backend.path()).await.unwrap();
    for number in 0..20 {
        let name = format!("r{number}");
        store.record(secretive(&name, &name)).await.unwrap();
    }
    let mut conn_free = store.events(None, 99).await.unwrap();
    let first = conn_free.remove(0).id;
    assert!(store.raw_event(first).await.unwrap().is_some());
    archive_all(&store, 1).await;
    store.close().await;
    assert!(canaries(&backend) > 0, "the test looks in the right place");

    let store = SqliteStore::open(&backend.path()).await.unwrap();
    seal_all(&store).await;
    assert_eq!(store.raw_event(first).await.unwrap(), None);
    store.close().await;
    assert_eq!(canaries(&backend), 0);
}

/// A worker that nobody wakes or stops would keep them in its WAL.
#[tokio::test]
async fn a_purge_leaves_no_secret_of_a_sealed_recording_in_the_wal_although_it_finds_nothing() {
    let backend = Sqlite::new();
    let store = SqliteStore::open(&backend.path()).await.unwrap();
    store.record(secretive("e1", "r1")).await.unwrap();
    archive_all(&store, 1).await;
    seal_all(&store).await;
    assert!(canaries(&backend) > 0, "the test looks in the right place");
    store.purge(at(2), None).await.unwrap();
    // What was settled may still be on its way into the file.
    assert_eq!(store.purge(at(2), None).await.unwrap(), Purged::default());
    assert_eq!(canaries(&backend), 0);
    store.close().await;
}

#[tokio::test]
async fn an_event_that_could_not_be_archived_keeps_its_redacted_text_for_a_retry() {
    let backend = Sqlite::new();
    let store = SqliteStore::open(&backend.path()).await.unwrap();
    store.record(secretive("e1", "r1")).await.unwrap();
    let claimed = store.claim(claim_at(1, true, 9)).await.unwrap();
    let lost = failed(Class::UploadFailed);
    let settled = store.settle(&claimed[0].lease, &lost, at(1)).await.unwrap();
    assert_eq!(settled, LeaseWrite::Yes);
    archive_all(&store, 1).await;
    seal_all(&store).await;
    let job = claimed[0].job.id;
    let text = store.announcing_event(job).await.unwrap().unwrap();
    let text = String::from_utf8(text.to_vec()).unwrap();
    assert!(
        text.contains("https://h/v") && !text.contains(CANARY),
        "{text:.100}"
    );

    assert_eq!(store.retry(&Selection::All, at(2)).await.unwrap().len(), 1);
    archive_all(&store, 3).await;
    seal_all(&store).await;
    assert_eq!(store.announcing_event(job).await.unwrap(), None);
    store.close().await;
    assert_eq!(canaries(&backend), 0);
}

#[tokio::test]
async fn the_url_of_a_lost_job_is_kept_while_a_retry_can_use_it_and_then_erased() {
    let backend = Sqlite::new();
    let store = SqliteStore::open(&backend.path()).await.unwrap();
    let dead = store.record(secretive("e1", "r1")).await.unwrap().jobs[0];
    let endless = Artifact {
        origin: url("r2", "canary-endless"),
        ..video("r2", None)
    };
    let new = event("e2", "r2").with(endless).received(0);
    let endless = store.record(new).await.unwrap().jobs[0];
    let mut guessed = Artifact {
        origin: url("r4", "canary-guessed"),
        ..video("r4", Some(3600))
    };
    guessed.deadline.from = DeadlineFrom::Documented;
    let new = event("e4", "r4").with(guessed).received(0);
    let guessed = store.record(new).await.unwrap().jobs[0];
    let remint = Artifact {
        origin: url("r3", "canary-remint"),
        remint: lookup("r3").remint,
        ..video("r3", Some(3600))
    };
    let new = event("e3", "r3").with(remint).received(0);
    let minted = store.record(new).await.unwrap().jobs[0];
    for claimed in store.claim(claim_at(1, false, 9)).await.unwrap() {
        let lost = failed(Class::Gone);
        assert_eq!(
            store.settle(&claimed.lease, &lost, at(1)).await.unwrap(),
            LeaseWrite::Yes
        );
    }
    archive_all(&store, 1).await;
    seal_all(&store).await;
    assert_eq!(
        store.purge(at(6 * DAY), None).await.unwrap(),
        Purged::default()
    );
    let purged = store.purge(at(8 * DAY), None).await.unwrap();
    assert_eq!(purged.origins, 2);
    assert_eq!(store.purge(at(9 * DAY), None).await.unwrap().origins, 0);
    assert_eq!(store.purge(at(31 * DAY), None).await.unwrap().origins, 2);
    assert_eq!(store.purge(at(32 * DAY), None).await.unwrap().origins, 0);

    store.retry(&Selection::All, at(33 * DAY)).await.unwrap();
    for claimed in store.claim(claim_at(33 * DAY, false, 9)).await.unwrap() {
        let (id, origin) = (claimed.job.id, claimed.job.origin);
        if id == minted {
            assert!(claimed.job.remint.is_some());
            let Origin::Url(url) = origin else {
                panic!("{origin:?}")
            };
            assert_eq!(url.expose(), "https://cdn.example/r3");
        } else {
            assert!([dead, endless, guessed].contains(&id));
            let Origin::Unusable(class, why) = origin else {
                panic!("{origin:?}")
            };
            assert_eq!(class, Class::Expired);
            assert!(why.contains("send the event again"), "{why}");
        }
    }
    store.close().await;
    assert_eq!(canaries(&backend), 0);
}
