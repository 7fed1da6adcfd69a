//! Sources of one provider that have different owners: none gets into what is another's.

use recording_harvester::model::key::DEFAULT_TEMPLATE;
use recording_harvester::model::{Artifact, Format, JobId, Kind, Record, State};
use serde_json::Value;

use super::world::{self, World};
use crate::harness::api::Answer;
use crate::harness::daily::mp4;

/// The default of before, which may stand in a configuration.
const SHARED_TEMPLATE: &str = "{provider}/{yyyy}/{mm}/{dd}/{session}/{recording}/{name}";

fn file(world: &World, name: &str, kind: Kind, format: Format) -> Artifact {
    let path = format!("/{name}");
    world.api.script(&path, [Answer::file(mp4("the same"))]);
    world::artifact(name, kind, format, &world.url(&path))
}

fn video(world: &World) -> Artifact {
    file(world, "recording.mp4", Kind::Video, Format::Mp4)
}

/// Carries these jobs; the record of the one of this name, and its folder.
async fn work(world: &World, jobs: Vec<JobId>, name: &str) -> (Record, String) {
    let records = world.worker().run_jobs(jobs, world.never()).await.unwrap();
    let record = records.into_iter().find(|record| record.name == name);
    let record = record.unwrap();
    assert_eq!(record.state, State::Archived, "{record:#?}");
    let (folder, _) = record.key.rsplit_once('/').unwrap();
    let folder = folder.to_owned();
    (record, folder)
}

/// The keys that a manifest lists, in order.
fn listed(manifest: &Value) -> Vec<&str> {
    let artifacts = manifest["artifacts"].as_array().unwrap();
    let keys = artifacts.iter().map(|artifact| &artifact["key"]);
    keys.map(|key| key.as_str().unwrap()).collect()
}

// S10
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recording_that_another_source_has_claimed_first_gets_its_own_folder_and_manifest() {
    let world = World::start().await;
    let mut folders = Vec::new();
    for source in ["tenant-a", "tenant-b"] {
        let video = vec![video(&world)];
        let jobs = world.record_through(source, DEFAULT_TEMPLATE, "r", source, video);
        let (record, folder) = work(&world, jobs.await, "recording.mp4").await;
        assert!(folder.starts_with(&format!("{source}/")), "{folder}");
        assert_eq!(record.key, format!("{folder}/recording.mp4"));
        folders.push(folder);
    }
    for folder in &folders {
        let manifest = world.document(&format!("{folder}/manifest.json")).await;
        let manifest = manifest.unwrap();
        let keys = listed(&manifest);
        assert_eq!(keys.len(), 2, "{keys:?}");
        assert!(keys.iter().all(|key| key.starts_with(folder)), "{keys:?}");
    }
    let keys = world.s3.keys().await;
    assert_eq!(keys.len(), 6, "{keys:?}");
}

// S10
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recordings_that_have_met_in_one_folder_keep_it_and_are_kept_apart() {
    let world = World::start().await;
    let jobs = world.record_through("tenant-a", SHARED_TEMPLATE, "r", "a1", vec![video(&world)]);
    let (first, shared) = work(&world, jobs.await, "recording.mp4").await;
    assert!(shared.starts_with("100ms/"), "{shared}");
    let manifest_key = format!("{shared}/manifest.json");
    let manifest = world.object(&manifest_key).await.unwrap();

    let jobs = world.record_through("tenant-b", SHARED_TEMPLATE, "r", "b1", vec![video(&world)]);
    let (second, folder) = work(&world, jobs.await, "recording.mp4").await;
    assert_eq!(folder, shared);
    assert_ne!(
        second.key, first.key,
        "equal bytes of another source are not ours"
    );
    let own_key = format!("{shared}/manifest-2.json");
    let own = world.document(&own_key).await.unwrap();
    assert_eq!(own["recording"]["id"], second.recording_id.to_string());

    // The template of today changes nothing for them.
    let chat = file(&world, "chat.bin", Kind::Other, Format::Bin);
    let jobs = world.record_through("tenant-b", DEFAULT_TEMPLATE, "r", "b2", vec![chat]);
    let (chat, folder) = work(&world, jobs.await, "chat.bin").await;
    assert_eq!(folder, shared);
    assert_eq!(chat.recording_id, second.recording_id);
    let own = world.document(&own_key).await.unwrap();
    let keys = listed(&own);
    assert!(
        keys.contains(&&*chat.key) && keys.contains(&&*second.key),
        "{keys:?}"
    );
    assert!(!keys.contains(&&*first.key), "{keys:?}");
    assert_eq!(world.object(&manifest_key).await.unwrap(), manifest);
}
