//! What was lost here and the provider still lists.

use super::*;
use recording_harvester::error::Class;
use recording_harvester::model::{JobId, Outcome};

const RECORDING: &str = "1b9d6bcd-bbfd-4b2d-9b5d-000000000401";

async fn with_one_recording() -> World {
    let world = World::start(Provider::Daily).await;
    let script = |world: &World| {
        let empty = json!({"total_count": 1, "data": []});
        let list = world.sample("daily/api-list-recordings.json");
        world.script(
            "/recordings",
            [(200, list.clone()), (200, empty.clone())]
                .into_iter()
                .cycle()
                .take(20),
        );
        world.script("/transcript", [(200, empty)]);
    };
    script(&world);
    world
}

/// Ends the only job with `class`.
async fn lose(world: &World, class: Class) -> JobId {
    let now = SystemClock.now();
    for is_small in [true, false] {
        let claim = ClaimRequest {
            worker: "test".to_owned(),
            is_small,
            limit: 10,
            now,
            lease_until: now + SignedDuration::from_secs(60),
            only: None,
            held: Vec::new(),
            takes_lapsed: true,
        };
        if let Some(one) = world.store.claim(claim).await.unwrap().pop() {
            let lost = Outcome::Failed {
                class,
                message: "it was not there".to_owned(),
            };
            let written = world.store.settle(&one.lease, &lost, now).await.unwrap();
            assert_eq!(written, recording_harvester::store::LeaseWrite::Yes);
            return one.job.id;
        }
    }
    panic!("there is no job");
}

async fn sight(world: &World) -> Vec<FoundRecording> {
    let mut seen = Vec::new();
    let purpose = Purpose {
        window: Window {
            since: "2026-03-02T00:00:00Z".parse().unwrap(),
            until: "2026-03-03T00:00:00Z".parse().unwrap(),
        },
        is_dry_run: false,
        is_thorough: false,
    };
    let mut on_sighting = |sighting: &FoundRecording| {
        seen.push(sighting.clone());
        Ok(())
    };
    let never = CancellationToken::new();
    let walk = world
        .walker
        .walk(&world.subject, &purpose, &mut on_sighting, &never);
    let walked = walk.await.whole().unwrap();
    assert_eq!(walked.found, 1);
    seen
}

// R9
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_walk_tries_what_was_lost_and_is_still_listed_once_more() {
    let world = with_one_recording().await;
    let found = sight(&world).await;
    assert_eq!(found[0].standing, KnownRecording::New);
    let job = lose(&world, Class::Gone).await;
    let found = sight(&world).await;
    assert_eq!(found[0].standing, KnownRecording::Lost);
    assert_eq!(found[0].jobs, [job], "{RECORDING}");
    let records = world.store.list(&Filter::default()).await.unwrap();
    assert_eq!(records[0].state, State::Pending);

    // What is damaged would come down whole at every walk, and be damaged again.
    lose(&world, Class::Corrupt).await;
    let found = sight(&world).await;
    assert_eq!(
        (found[0].standing, &*found[0].jobs),
        (KnownRecording::Lost, &[][..])
    );
}
