//! What a sealed recording leaves in the store of what its events said.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use recording_harvester::clock::{Clock as _, SystemClock};
use recording_harvester::error::Class;
use recording_harvester::ingest::{Adapter, Delivery, ProviderDefinition};
use recording_harvester::model::{Layout, Outcome, State, key};
use recording_harvester::store::{ClaimRequest, LeaseWrite, NewEvent, Selection};
use recording_harvester::worker::{EventDocuments, SourceAccess, Worker};
use serde_json::json;

use super::world::World;
use crate::harness::api::Answer;

const SOURCE: &str = "acme-kept";

const CANARY: &str = "canary-by-the-window";

/// Only the definition knows that the seat is a secret.
const DEFINITION: &str = r#"
provider = "acme-kept"
hide = ["$.seat"]

[event]
type = "$.type"
id = "$.id"

[recording]
recording_id = "$.recording"

[[artifacts]]
types = ["ready"]
id = "$.id"
url = "$.url"
kind = "other"
format = "bin"
"#;

fn adapter() -> Adapter {
    let definition: ProviderDefinition = toml::from_str(DEFINITION).unwrap();
    Adapter::Custom(Arc::new(definition))
}

fn worker(world: &World) -> Worker {
    let access = SourceAccess {
        documents: EventDocuments::of(adapter()),
        ..SourceAccess::default()
    };
    let mut worker = world.worker();
    worker.access = Arc::new(HashMap::from([(SOURCE.to_owned(), access)]));
    worker
}

/// An event whose own document is lost, while its file can be had.
async fn record_and_lose_the_document(world: &World) -> recording_harvester::model::JobId {
    let now = SystemClock.now();
    let body = json!({
        "type": "ready", "id": "e1", "recording": "r1", "seat": CANARY, "topic": "standup",
        "url": world.url("/a.bin"),
    });
    let body = Bytes::from(body.to_string());
    let delivery = Delivery {
        body: &body,
        id_header: None,
        received_at: now,
    };
    let event = adapter().parse(&delivery).unwrap();
    let layout = Layout::new("", key::DEFAULT_TEMPLATE).unwrap();
    let event = NewEvent::new(SOURCE, event, body, &layout, now);
    world.store.record(event).await.unwrap();
    let claim = ClaimRequest {
        worker: "earlier".to_owned(),
        is_small: true,
        limit: 9,
        now,
        lease_until: now + jiff::SignedDuration::from_mins(1),
        only: None,
        held: Vec::new(),
        takes_lapsed: true,
    };
    let claimed = world.store.claim(claim).await.unwrap();
    let lost = Outcome::Failed {
        class: Class::UploadFailed,
        message: "planted by the test".to_owned(),
    };
    let document = claimed
        .iter()
        .find(|one| one.job.name.starts_with("event"))
        .unwrap();
    let settled = world.store.settle(&document.lease, &lost, now).await;
    assert_eq!(settled.unwrap(), LeaseWrite::Yes);
    document.job.id
}

/// S9
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_text_that_is_kept_for_a_retry_shows_nothing_that_the_definition_hides() {
    let world = World::start().await;
    world.api.script("/a.bin", [Answer::file(vec![7; 1000])]);
    let document = record_and_lose_the_document(&world).await;
    let running = world.run(worker(&world));
    world.wait_for_nothing_unsealed(2).await;
    running.stop().await;
    let kept = world.store.announcing_event(document).await.unwrap();
    let kept = String::from_utf8(kept.unwrap().to_vec()).unwrap();
    assert!(kept.contains("standup") && !kept.contains(CANARY), "{kept}");

    // It is still good for what it is kept for.
    let retried = world.store.retry(&Selection::All, SystemClock.now()).await;
    assert_eq!(retried.unwrap().len(), 1);
    let running = world.run(worker(&world));
    world.wait_for_nothing_unsealed(2).await;
    running.stop().await;
    let record = &world.records(&[document]).await[0];
    assert_eq!(record.state, State::Archived, "{record:#?}");
    let text = world.object(&record.key).await.unwrap();
    let text = String::from_utf8(text.to_vec()).unwrap();
    assert!(text.contains("standup") && !text.contains(CANARY), "{text}");
    let files = world.closed_store().await;
    let found = files
        .windows(CANARY.len())
        .any(|window| window == CANARY.as_bytes());
    assert!(!found, "the closed store shows the secret");
}

/// S9
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_closed_store_shows_nothing_that_the_definition_hides_though_the_document_is_lost() {
    let world = World::start().await;
    world.api.script("/a.bin", [Answer::file(vec![7; 1000])]);
    record_and_lose_the_document(&world).await;
    let running = world.run(worker(&world));
    world.wait_for_nothing_unsealed(2).await;
    running.stop().await;
    let files = world.closed_store().await;
    let shows = |text: &str| {
        files
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    };
    assert!(shows("standup"), "the test looks in the right place");
    assert!(!shows(CANARY));
}
