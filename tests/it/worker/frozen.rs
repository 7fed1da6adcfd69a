//! A process that stood still after it had claimed a job: it asks whether the job is still its
//! own before it writes.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::SignedDuration;
use recording_harvester::clock::{Clock as _, ManualClock, SystemClock};
use recording_harvester::error::{Class, Error, Result};
use recording_harvester::model::api::{ApiRequest, ApiResponse};
use recording_harvester::model::{Lookup, Provider, State};
use recording_harvester::source::{OpenRequest, Opened, Source};
use recording_harvester::store::{ClaimRequest, JobStore};
use recording_harvester::worker::Worker;

use super::world::{self, PATIENCE, TRANSCRIPT, World, transcript};
use crate::harness::api::Answer;

/// No heartbeat comes but that of the start, and what is under way has time to end by itself.
fn without_heartbeats(mut worker: Worker) -> Worker {
    worker.settings.heartbeat = Duration::from_secs(3600);
    worker.settings.grace = PATIENCE / 2;
    worker
}

/// A provider's API that has no fresh URL. While it is asked, this process stands still for a
/// minute, and another worker takes the job over.
struct LongWait {
    clock: Arc<ManualClock>,
    store: Arc<dyn JobStore>,
}

#[async_trait]
impl Source for LongWait {
    async fn open(&self, _: &OpenRequest) -> Result<Opened> {
        unreachable!("no file is opened")
    }

    async fn try_open(&self, _: &OpenRequest) -> Result<Option<Opened>> {
        unreachable!("no file is opened")
    }

    async fn call(&self, _: &ApiRequest) -> Result<ApiResponse> {
        let minute = SignedDuration::from_mins(1);
        let later = self.clock.now() + minute;
        let claim = ClaimRequest {
            worker: "other".to_owned(),
            is_small: true,
            limit: 99,
            now: later,
            lease_until: later + minute,
            only: None,
            held: Vec::new(),
            takes_lapsed: true,
        };
        let taken = self.store.claim(claim).await?;
        assert!(taken.iter().any(|taken| taken.job.name == "transcript.vtt"));
        self.clock.set(later);
        Err(Error::transient(Class::Unreachable, "ask the API"))
    }
}

// R20: the age of the lease was counted from when the transfer began.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f87_who_stood_still_before_the_transfer_began_writes_nothing_of_what_another_has() {
    let world = World::start().await;
    world.api.script("/t.vtt", [Answer::file(TRANSCRIPT)]);
    let mut transcript = transcript(&world.url("/t.vtt"));
    transcript.deadline = world::deadline_in(30);
    transcript.remint = Some(Lookup {
        call: "daily-recording".to_owned(),
        id: "r".to_owned(),
    });
    let clock = ManualClock::at(SystemClock.now());
    let mut worker = without_heartbeats(world.worker_with_key());
    worker.clock = clock.clone();
    worker.source = Arc::new(LongWait {
        clock,
        store: Arc::clone(&world.store),
    });
    let jobs = world
        .record_for("f1", Provider::Daily, vec![transcript])
        .await;
    let running = world.run(worker);
    world.api.wait_for(1).await;
    running.stop().await;
    let records = world.records(&jobs).await;
    let transcript = records.iter().find(|one| one.name == "transcript.vtt");
    let transcript = transcript.unwrap();
    let is_there = world.object(&transcript.key).await.is_some();
    assert!(!is_there, "it was written under a lease that is another's");
    assert_eq!((transcript.state, transcript.attempts), (State::Running, 2));
}

// R20: the same for the time in which the claim itself was under way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f87_a_lease_is_as_old_as_its_claim_and_not_as_the_answer_to_that() {
    let world = World::start().await;
    for statement in [
        // Takes far longer than a lease counts as young: a 60th of three seconds.
        "CREATE VIEW slow AS WITH RECURSIVE n(i) AS
         (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000000) SELECT i FROM n",
        "CREATE TRIGGER slow_claim BEFORE UPDATE OF lease_token ON jobs
         BEGIN SELECT count(*) FROM slow; END",
        "CREATE TABLE asked (token INTEGER)",
        "CREATE TRIGGER note_asked AFTER UPDATE OF lease_until ON jobs
         WHEN OLD.state = 'running' AND NEW.state = 'running' AND OLD.lease_token = NEW.lease_token
         BEGIN INSERT INTO asked VALUES (NEW.lease_token); END",
    ] {
        world.change_store(statement).await;
    }
    world.record("f2", Vec::new()).await;
    let mut worker = without_heartbeats(world.worker());
    worker.settings.lease = Duration::from_secs(3);
    let running = world.run(worker);
    world.wait_for_seal().await;
    running.stop().await;
    let asked = world.number_in_store("SELECT count(*) FROM asked").await;
    assert!(asked > 0, "it was written without asking for the lease");
}
