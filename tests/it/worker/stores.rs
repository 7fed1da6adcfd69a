//! The worker on every kind of object store: every artifact whole, once, and in its manifest.

use std::collections::BTreeSet;

use recording_harvester::clock::{Clock as _, SystemClock};
use recording_harvester::error::Class;
use recording_harvester::model::{ProgressEvent, State};
use recording_harvester::store::Selection;
use serde_json::{Value, json};

use super::world::{TRANSCRIPT, World, file, transcript};
use crate::harness::api::Answer;
use crate::harness::s3::{Fault, Kind as FaultKind, Op};
use crate::harness::stores::on_every_store;

async fn sealed(world: &World) -> String {
    match world.wait_for_seal().await {
        ProgressEvent::Sealed { manifest_key, .. } => manifest_key,
        other => panic!("{other:?}"),
    }
}

fn states(manifest: &Value) -> Vec<&str> {
    let artifacts = manifest["artifacts"].as_array().unwrap().iter();
    artifacts
        .map(|artifact| artifact["state"].as_str().unwrap())
        .collect()
}

on_every_store! {
    // R6
    async fn a_second_manifest_replaces_the_first(kind: StoreKind) {
        let world = World::on(kind).await;
        world.api.script("/gone.vtt", [Answer::json(410, "{}")]);
        let url = world.url("/gone.vtt");
        world.record("m", vec![transcript(&url)]).await;
        let running = world.run(world.worker());
        let manifest_key = sealed(&world).await;
        let report_key = manifest_key.replace("manifest", "report");
        let report = world.document(&report_key).await.unwrap();
        assert_eq!(report["failures"][0]["class"], "gone");

        world.api.script("/gone.vtt", [Answer::file(TRANSCRIPT)]);
        world.forget_events();
        let gone = Selection::Class(Class::Gone);
        world.store.retry(&gone, SystemClock.now()).await.unwrap();
        world.bell.notify_one();
        assert_eq!(sealed(&world).await, manifest_key);
        running.stop().await;
        let report = world.document(&report_key).await.unwrap();
        assert_eq!(report["failures"], json!([]), "the loss is withdrawn");
        let manifest = world.document(&manifest_key).await.unwrap();
        assert_eq!(states(&manifest), ["archived", "archived"]);
    }

    // R22: the answer says that it is done, and the old document is still there.
    async fn a_200_is_no_proof_that_the_new_manifest_is_there(kind: StoreKind) {
        let world = World::on(kind).await;
        world.objects.probe(".harvester-probe").await.unwrap();
        world.api.script("/gone.vtt", [Answer::json(410, "{}")]);
        world.record("m", vec![transcript(&world.url("/gone.vtt"))]).await;
        let running = world.run(world.worker());
        let manifest_key = sealed(&world).await;

        world.api.script("/gone.vtt", [Answer::file(TRANSCRIPT)]);
        world.forget_events();
        // The file goes up, and then the manifest.
        world.s3.fail(Fault { after: 1, ..Fault::once(Op::PutObject, FaultKind::ErrorIn200) });
        let gone = Selection::Class(Class::Gone);
        world.store.retry(&gone, SystemClock.now()).await.unwrap();
        world.bell.notify_one();
        sealed(&world).await;
        running.stop().await;
        assert!(world.s3.is_script_played());
        let manifest = world.document(&manifest_key).await.unwrap();
        assert_eq!(states(&manifest), ["archived", "archived"]);
    }

    // R17
    async fn two_workers_neither_double_nor_damage_what_is_theirs(kind: StoreKind) {
        const EVENTS: usize = 12;
        let world = World::on(kind).await;
        for number in 0..EVENTS {
            let path = format!("/{number}.bin");
            world.api.script(&path, [Answer::file(format!("content {number}"))]);
            let files = vec![file("file.bin", &world.url(&path))];
            world.record(&format!("e{number}"), files).await;
        }
        let (first, second) = (world.worker(), world.worker());
        let running = [world.run(first), world.run(second)];
        world.wait_for_all_sealed(EVENTS).await;
        for worker in running {
            worker.stop().await;
        }
        let mut keys = BTreeSet::new();
        for record in world.store.list(&Default::default()).await.unwrap() {
            assert_eq!(record.state, State::Archived, "{record:?}");
            assert!(keys.insert(record.key.clone()), "{} twice", record.key);
            let there = world.object(&record.key).await.unwrap();
            assert_eq!(Some(there.len() as u64), record.size_bytes);
        }
        let in_bucket: BTreeSet<_> = world.s3.keys().await.into_iter().collect();
        let manifests: Vec<_> = in_bucket.difference(&keys).collect();
        assert_eq!(manifests.len(), EVENTS, "{manifests:?}");
        for key in manifests {
            let manifest = world.document(key).await.unwrap();
            assert_eq!(states(&manifest), ["archived", "archived"], "{key}");
        }
    }
}
