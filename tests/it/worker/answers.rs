//! What providers' APIs answer to lookups: all of it becomes jobs, whatever its length, and an answer that comes too
//! early is asked for again.

use std::collections::BTreeMap;
use std::sync::Arc;

use recording_harvester::clock::{Clock as _, SystemClock};
use recording_harvester::error::Class;
use recording_harvester::model::{
    Artifact, Deadline, Format, JobId, Kind, Lookup, Origin, Provider, Record, State,
};
use recording_harvester::store::{Filter, Selection};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::world::{TRANSCRIPT, World};
use crate::harness::api::Answer;

const SESSION: &str = "/recording-assets";

/// What is asked of the API, in place of a file called `name`.
fn question(call: &str, id: &str, name: &str) -> Artifact {
    Artifact {
        identity: format!("lookup:{call}:{id}"),
        name: name.to_owned(),
        kind: Kind::Video,
        format: Format::Mp4,
        origin: Origin::Lookup(Lookup {
            call: call.to_owned(),
            id: id.to_owned(),
        }),
        remint: None,
        deadline: Deadline::NONE,
        size_bytes: None,
    }
}

/// An asset that the list says has failed: known by its name, and nothing to fetch.
fn failed(id: &str) -> Value {
    json!({"id": id, "type": "track", "track_id": id, "status": "failed", "path": format!("s3://b/{id}.webm")})
}

/// A transcript that the API signs.
fn transcript(world: &World, id: &str) -> Value {
    let path = format!("s3://b/{id}.vtt");
    let signed = json!({"id": id, "path": path, "url": world.url(&format!("/{id}.vtt?sig=1")), "expiry": 3600});
    let call = format!("/recording-assets/{id}/presigned-url");
    world.api.script(&call, [Answer::json(200, signed)]);
    world
        .api
        .script(&format!("/{id}.vtt"), [Answer::file(TRANSCRIPT)]);
    json!({"id": id, "type": "transcript", "output_mode": "vtt", "status": "completed", "path": path})
}

fn page(assets: &[Value], last: Option<&str>) -> Answer {
    Answer::json(200, json!({"limit": 100, "last": last, "data": assets}))
}

async fn all(world: &World) -> Vec<Record> {
    world.store.list(&Filter::default()).await.unwrap()
}

async fn run(world: &World, jobs: Vec<JobId>) -> Vec<Record> {
    let (worker, _) = world.worker_with_hms_keys();
    worker.run_jobs(jobs, world.never()).await.unwrap();
    all(world).await
}

fn named<'a>(records: &'a [Record], name: &str) -> &'a Record {
    let found = records.iter().find(|record| record.name == name);
    found.unwrap_or_else(|| panic!("{name} is not among {records:#?}"))
}

// R9
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_of_many_pages_becomes_jobs_to_its_last_file() {
    let world = World::start().await;
    let id = |number: usize| format!("t{number}");
    let tracks: Vec<_> = (0..1_300).map(|number| failed(&id(number))).collect();
    let mut pages: Vec<_> = tracks
        .chunks(100)
        .enumerate()
        .map(|(number, assets)| page(assets, Some(&id(number))))
        .collect();
    // The last page is shorter than what was asked for, and so is one in the middle.
    pages.insert(5, page(&[failed("short")], Some("short")));
    pages.push(page(&[transcript(&world, "end")], None));
    let count = pages.len();
    world.api.script(SESSION, pages);
    let asked = question("hms-session", "S", "recording.mp4");
    let jobs = world.record("r9a", vec![asked]).await;
    let records = run(&world, jobs).await;
    let tracks = records
        .iter()
        .filter(|found| found.name.starts_with("track-"));
    assert_eq!(tracks.count(), 1_301);
    assert_eq!(named(&records, "transcript.vtt").state, State::Archived);
    assert!(
        records.iter().all(|found| found.state.is_settled()),
        "{records:#?}"
    );
    let asked = world.asked_paths();
    let asked: Vec<_> = asked
        .iter()
        .filter(|path| path.starts_with(&format!("{SESSION}?")))
        .collect();
    assert_eq!(asked.len(), count);
    assert!(
        asked[1].ends_with("&start=t0") && asked[6].ends_with("&start=short"),
        "{asked:?}"
    );
}

/// An event that comes while the API answers has it asked again: in the foreground too, where the answer to that would have
/// been left to a worker that may not be there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_the_foreground_an_answer_to_what_is_asked_again_is_waited_for() {
    let world = World::start().await;
    let released = Arc::new(Notify::new());
    let (one, two) = (transcript(&world, "one"), transcript(&world, "two"));
    let early = page(std::slice::from_ref(&one), None).held_until(&released);
    world.api.script(SESSION, [early, page(&[one, two], None)]);
    let asked = || question("hms-session", "S", "transcript.vtt");
    let jobs = world.record("again", vec![asked()]).await;
    let meanwhile = async {
        world.api.wait_for(1).await;
        world.record_once_more("again", vec![asked()]).await;
        released.notify_one();
    };
    let (records, ()) = tokio::join!(run(&world, jobs), meanwhile);
    let of_files = records
        .iter()
        .filter(|found| found.kind == Kind::Transcript);
    let states: Vec<_> = of_files.map(|found| found.state).collect();
    assert_eq!(states, [State::Archived; 2], "{records:#?}");
}

// R9
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_before_an_answer_broke_off_is_there_and_the_rest_is_asked_for_again() {
    let world = World::start().await;
    let first = || page(&[transcript(&world, "one")], Some("one"));
    let broken = || Answer::json(500, "{}");
    world.api.script(
        SESSION,
        [
            first(),
            broken(),
            first(),
            page(&[transcript(&world, "two")], None),
        ],
    );
    let asked = question("hms-session", "S", "transcript.vtt");
    let jobs = world.record("r9b", vec![asked]).await;
    let records = run(&world, jobs).await;
    // Two that were found within one millisecond are listed in any order.
    let names: BTreeMap<_, _> = records
        .iter()
        .filter(|record| record.kind == Kind::Transcript)
        .map(|record| (record.name.as_str(), record.state))
        .collect();
    // The question itself, which had the first one's name, is gone.
    assert_eq!(
        names,
        BTreeMap::from([
            ("transcript.vtt", State::Archived),
            ("transcript-2.vtt", State::Archived)
        ])
    );

    // One that never gets further is a loss that says so, beside what there is.
    let world = World::start().await;
    let circle = || page(&[transcript(&world, "one")], Some("one"));
    world.api.script(SESSION, [circle()]);
    let asked = question("hms-session", "S", "transcript.vtt");
    let jobs = world.record("r9c", vec![asked]).await;
    let records = run(&world, jobs).await;
    assert_eq!(named(&records, "transcript.vtt").state, State::Archived);
    let rest = named(&records, "transcript.vtt.rest");
    assert_eq!(
        (rest.state, rest.class),
        (State::Failed, Some(Class::Partial))
    );
    assert!(
        rest.message.as_deref().unwrap().contains("in a circle"),
        "{rest:?}"
    );
}

// R9
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_names_nothing_yet_is_asked_for_again() {
    let world = World::start().await;
    world.api.script(
        SESSION,
        [
            page(&[], None),
            page(&[], None),
            page(&[transcript(&world, "late")], None),
        ],
    );
    let asked = question("hms-session", "S", "transcript.vtt");
    let jobs = world.record("r9d", vec![asked]).await;
    let records = run(&world, jobs).await;
    assert_eq!(named(&records, "transcript.vtt").state, State::Archived);

    let world = World::start().await;
    world.api.script(SESSION, [page(&[], None)]);
    let asked = question("hms-session", "S", "transcript.vtt");
    let jobs = world.record("r9e", vec![asked]).await;
    let records = run(&world, jobs).await;
    let lost = named(&records, "transcript.vtt");
    assert_eq!((lost.state, lost.class), (State::Failed, Some(Class::Gone)));
    assert_eq!(lost.attempts, 4, "{lost:?}");
}

// R9
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_asset_of_an_unknown_type_is_archived_as_it_is() {
    let world = World::start().await;
    let odd = json!({"id": "a9", "type": "whiteboard", "status": "completed", "path": "s3://b/board.mp4"});
    let signed = json!({"id": "a9", "path": "s3://b/board.mp4", "url": world.url("/board?sig=1"), "expiry": 3600});
    let call = "/recording-assets/a9/presigned-url";
    world.api.script(call, [Answer::json(200, signed)]);
    world
        .api
        .script("/board", [Answer::file("no container at all")]);
    world.api.script(SESSION, [page(&[odd], None)]);
    let asked = question("hms-session", "S", "recording.mp4");
    let jobs = world.record("r9f", vec![asked]).await;
    let records = run(&world, jobs).await;
    let kept = named(&records, "asset-a9.bin");
    assert_eq!(
        (kept.state, kept.kind, kept.format),
        (State::Archived, Kind::Other, Format::Bin)
    );
    let stored = world.object(&kept.key).await.unwrap();
    assert_eq!(stored, "no container at all");
}

// R9
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_are_still_being_made_are_waited_for_beside_those_that_are_there() {
    let world = World::start().await;
    let mut making = transcript(&world, "late");
    making["status"] = json!("in-progress");
    world.api.script(
        SESSION,
        [
            page(&[transcript(&world, "one"), making], None),
            page(
                &[transcript(&world, "one"), transcript(&world, "late")],
                None,
            ),
        ],
    );
    let asked = question("hms-session", "S", "recording.mp4");
    let jobs = world.record("r9g", vec![asked]).await;
    let records = run(&world, jobs).await;
    let states: Vec<_> = records
        .iter()
        .map(|record| (record.name.as_str(), record.state))
        .collect();
    assert!(
        states.contains(&("transcript.vtt", State::Archived))
            && states.contains(&("transcript-2.vtt", State::Archived)),
        "{states:?}"
    );
    assert!(
        !states.iter().any(|(name, _)| name.starts_with("recording")),
        "{states:?}"
    );
}

// R22, D1
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_uploaded_recording_without_a_url_is_asked_for_and_never_passed_over() {
    let asked = || question("dyte-recording", "R", "recording.mp4");
    let recording = |more: Value| {
        let mut data = json!({"id": "R", "status": "UPLOADED"});
        for (name, value) in more.as_object().unwrap() {
            data[name] = value.clone();
        }
        Answer::json(200, json!({"success": true, "data": data}))
    };
    let nowhere = || recording(json!({"download_url": null}));
    let settle = async |answers: Vec<Answer>| {
        let world = World::start().await;
        world.api.script("/recordings/R", answers);
        let jobs = world
            .record_for("d1", Provider::RealtimeKit, vec![asked()])
            .await;
        let worker = world.worker_with_key_of("realtimekit");
        worker.run_jobs(jobs, world.never()).await.unwrap();
        named(&all(&world).await, "recording.mp4").clone()
    };

    // A null at the wrong moment passes.
    let url = recording(json!({"download_url": "https://127.0.0.1:1/x.mp4"}));
    let later = settle(vec![nowhere(), url]).await;
    assert_ne!(later.class, Some(Class::ProviderFailed), "{later:?}");

    let lost = settle(vec![nowhere()]).await;
    assert_eq!(
        (lost.state, lost.class),
        (State::Failed, Some(Class::ProviderFailed))
    );
    let message = lost.message.unwrap();
    assert!(message.contains("kept nowhere"), "{message}");

    let own = json!({"storage_config": {"type": "aws", "bucket": "acme-recordings", "region": "eu-west-1",
                                        "access_key": "CANARY", "secret": "CANARY"}});
    let own = settle(vec![recording(own)]).await;
    assert_eq!((own.state, own.class), (State::Failed, Some(Class::Denied)));
    let message = own.message.unwrap();
    assert!(
        message.contains("your own storage") && message.contains("acme-recordings"),
        "{message}"
    );
    assert!(!message.contains("CANARY"), "{message}");
}

/// A retry by hand asks an answered question again only for what is still lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_that_had_found_a_part_goes_on_where_it_was_after_a_retry() {
    let world = World::start().await;
    let circle = page(&[transcript(&world, "one")], Some("one"));
    world.api.script(SESSION, [circle]);
    let asked = question("hms-session", "S", "transcript.vtt");
    let jobs = world.record("r9h", vec![asked]).await;
    run(&world, jobs.clone()).await;
    let whole = page(
        &[transcript(&world, "one"), transcript(&world, "two")],
        None,
    );
    world.api.script(SESSION, [whole]);
    let now = SystemClock.now();
    let partial = Selection::Class(Class::Partial);
    let woken = world.store.retry(&partial, now).await.unwrap();
    assert_eq!(woken.len(), 1);
    let records = run(&world, jobs).await;
    let names: Vec<_> = records.iter().map(|record| record.name.as_str()).collect();
    assert!(
        names.contains(&"transcript.vtt") && names.contains(&"transcript-2.vtt"),
        "{names:?}"
    );
    assert!(
        records.iter().all(|record| record.state == State::Archived),
        "{records:#?}"
    );
}
