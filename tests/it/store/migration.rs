//! A store that an earlier version left goes on.

use std::path::Path;

use recording_harvester::error::Class;
use recording_harvester::model::State;
use recording_harvester::store::sqlite::SqliteStore;
use recording_harvester::store::*;

use super::Sqlite;
use super::contract::build::*;

fn states_of(
    records: &[recording_harvester::model::Record],
) -> Vec<(String, State, Option<Class>)> {
    let told = records.iter();
    told.filter(|record| record.state != State::Archived)
        .map(|record| (record.name.clone(), record.state, record.class))
        .collect()
}

/// As `fixtures/store/README.md` tells.
#[tokio::test]
async fn a_store_of_dc593bd_goes_on() {
    let backend = Sqlite::new();
    std::fs::create_dir_all(backend.path().parent().unwrap()).unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/store/dc593bd.db");
    std::fs::copy(fixture, backend.path()).unwrap();
    let store = SqliteStore::open(&backend.path()).await.unwrap();
    let all = records(&store).await;
    assert_eq!(all.len(), 12);
    let video = "recording.mp4".to_owned();
    assert_eq!(
        states_of(&all),
        [
            (video.clone(), State::Failed, Some(Class::Gone)),
            (video.clone(), State::Pending, Some(Class::Unreachable)),
            (video.clone(), State::Failed, Some(Class::Denied)),
        ]
    );
    let events = store.events(None, 99).await.unwrap();
    assert_eq!(events.len(), 6);
    let odd = events.iter().find(|event| event.recording_id.is_none());
    let raw = store.raw_event(odd.unwrap().id).await.unwrap().unwrap();
    assert!(raw.starts_with(b"{\"version\":\"1.0\",\"id\":\"odd\""));
    assert_eq!(store.unsealed(9).await.unwrap(), []);

    // The pending job and the two that were lost are worked on, and all is sealed anew.
    let now = all[0].archived_at.unwrap() + jiff::SignedDuration::from_hours(2);
    assert_eq!(store.retry(&Selection::All, now).await.unwrap().len(), 2);
    let claim = ClaimRequest {
        now,
        lease_until: now + jiff::SignedDuration::from_mins(1),
        ..claim_at(0, false, 9)
    };
    let mut claimed = store.claim(claim.clone()).await.unwrap();
    claimed.extend(
        store
            .claim(ClaimRequest {
                is_small: true,
                ..claim
            })
            .await
            .unwrap(),
    );
    assert_eq!(claimed.len(), 3);
    for one in claimed {
        let outcome = archived(&one.job.key);
        let written = store.settle(&one.lease, &outcome, now).await.unwrap();
        assert_eq!(written, LeaseWrite::Yes);
    }
    let due = store.sealable(now, 9).await.unwrap();
    assert_eq!(due.len(), 3);
    for one in due {
        let contents = store.contents(one.id).await.unwrap().unwrap();
        store
            .sealed(one.id, contents.generation, Some("m"), None)
            .await
            .unwrap();
    }
    assert_eq!(store.unsealed(9).await.unwrap(), []);
    store.close().await;
    SqliteStore::open(&backend.path()).await.unwrap();
}

/// What the events of recordings said that an earlier version has sealed goes as well, but for what is still to be worked on (S9).
#[tokio::test]
async fn of_recordings_that_an_earlier_version_sealed_no_webhook_is_left() {
    let backend = Sqlite::new();
    std::fs::create_dir_all(backend.path().parent().unwrap()).unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/store/dc593bd.db");
    std::fs::copy(fixture, backend.path()).unwrap();
    let store = SqliteStore::open(&backend.path()).await.unwrap();
    let now = records(&store).await[0].archived_at.unwrap();
    let purged = store.purge(now, None).await.unwrap();
    assert_eq!(purged.bodies, 4, "of the sealed ones");
    assert_eq!(store.purge(now, None).await.unwrap().bodies, 0);
    let mut told = Vec::new();
    for event in store.events(None, 99).await.unwrap() {
        if event.recording_id.is_some() && store.raw_event(event.id).await.unwrap().is_some() {
            told.push(event.event_id.unwrap());
        }
    }
    assert_eq!(told, ["waits"]);
}
