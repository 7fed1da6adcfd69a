//! What an earlier attempt has left of a ladder, and what is believed of it.

use std::sync::atomic::Ordering;

use recording_harvester::error::Class;
use recording_harvester::model::Job;
use recording_harvester::transfer::hls;

use super::super::world::{MIB, World};
use super::{FOLDER, hls_job, serve_all, text};
use crate::harness::origin::{Behaviour, Validator};

const THREE: &str =
    "#EXTM3U\n#EXTINF:1,\na.ts\n#EXTINF:1,\nb.ts\n#EXTINF:1,\nc.ts\n#EXT-X-ENDLIST\n";

/// Served with this ETag.
fn version(etag: &str) -> Behaviour {
    Behaviour {
        validator: Validator::None,
        headers: vec![("ETag", format!("\"{etag}\""))],
        ..Behaviour::default()
    }
}

/// The job's next attempt.
fn again(job: &Job) -> Job {
    Job {
        attempts: job.attempts + 1,
        ..job.clone()
    }
}

#[tokio::test]
async fn a_recording_that_was_made_anew_between_two_attempts_is_no_mixture() {
    // R18.
    let large = |byte: u8| vec![byte; 6 * MIB as usize];
    for (old, new) in [
        (vec![b'1'; 1000], vec![b'2'; 1000]),
        (vec![b'1'; 1000], vec![b'2'; 2000]),
        (large(b'1'), large(b'2')),
    ] {
        let world = World::new().await;
        let origin = &world.origin;
        serve_all(origin, &[("/p.m3u8", THREE)]);
        for name in ["/a.ts", "/b.ts"] {
            origin.serve(name, old.clone(), version("old"));
        }
        origin.serve("/c.ts", "", Behaviour::status(404));
        let job = hls_job(origin, "/p.m3u8");
        let error = world.carry(&job).await.unwrap_err();
        assert_eq!(error.class(), Class::Partial, "{}", error.full_message());

        // The third is the same file for both.
        for name in ["/a.ts", "/c.ts"] {
            origin.serve(name, new.clone(), version("new"));
        }
        let before = origin.log().len();
        world.carry(&again(&job)).await.unwrap();
        let entry = text(&world, "hls/master.m3u8").await;
        let files = entry.lines().filter(|line| !line.starts_with('#'));
        let mut found = Vec::new();
        for file in files {
            let (bytes, _) = world.object(&format!("{FOLDER}/hls/{file}")).await.unwrap();
            found.push(bytes);
        }
        assert!(found == [&new[..], &old[..], &new[..]], "{entry}");
        let log = origin.log();
        let fetched = |path: &str| {
            let seen = log[before..].iter().filter(|seen| seen.path == path);
            seen.filter(|seen| !seen.is_for_a_byte()).count()
        };
        assert_eq!(fetched("/b.ts"), 0, "what is the same is not fetched again");
        assert!(fetched("/a.ts") > 0);
    }
}

#[tokio::test]
async fn what_has_landed_is_kept_when_the_origin_no_longer_answers() {
    let world = World::new().await;
    let origin = &world.origin;
    serve_all(
        origin,
        &[("/p.m3u8", THREE), ("/a.ts", "a"), ("/b.ts", "b")],
    );
    origin.serve("/c.ts", "", Behaviour::status(404));
    let job = hls_job(origin, "/p.m3u8");
    world.carry(&job).await.unwrap_err();
    for name in ["/a.ts", "/b.ts"] {
        origin.serve(name, "", Behaviour::status(403));
    }
    serve_all(origin, &[("/c.ts", "c")]);
    world.carry(&again(&job)).await.unwrap();
}

#[tokio::test]
async fn files_that_differ_by_their_query_alone_are_not_taken_for_each_other() {
    // R18: the second reading begins one later, and nothing but the query tells.
    let world = World::new().await;
    let origin = &world.origin;
    let playlist = |first: u32| {
        let segments: String = (first..first + 3)
            .map(|n| format!("#EXTINF:1,\ns.ts?n={n}\n"))
            .collect();
        format!("#EXTM3U\n{segments}#EXT-X-ENDLIST\n")
    };
    for n in 0..4 {
        origin.serve(
            &format!("/s.ts?n={n}"),
            format!("media {n}"),
            Behaviour::default(),
        );
    }
    origin.serve("/s.ts?n=2", "", Behaviour::status(404));
    serve_all(origin, &[("/p.m3u8", &playlist(0))]);
    let job = hls_job(origin, "/p.m3u8");
    world.carry(&job).await.unwrap_err();

    origin.serve("/s.ts?n=2", "media 2", Behaviour::default());
    serve_all(origin, &[("/p.m3u8", &playlist(1))]);
    world.carry(&again(&job)).await.unwrap();
    let entry = text(&world, "hls/master.m3u8").await;
    let mut found = Vec::new();
    for file in entry.lines().filter(|line| !line.starts_with('#')) {
        found.push(text(&world, &format!("hls/{file}")).await);
    }
    assert_eq!(found, ["media 1", "media 2", "media 3"]);
}

#[tokio::test]
async fn a_manifest_is_never_made_without_the_files_of_a_playlist() {
    // R18.
    let world = World::new().await;
    serve_all(
        &world.origin,
        &[
            ("/p.m3u8", THREE),
            ("/a.ts", "a"),
            ("/b.ts", "b"),
            ("/c.ts", "c"),
        ],
    );
    let job = hls_job(&world.origin, "/p.m3u8");
    world.carry(&job).await.unwrap();
    let list_key = format!("{FOLDER}/hls/resources.json");
    let listed = || hls::resources(&*world.store, job.id, &job.key);
    assert_eq!(listed().await.unwrap().len(), 3);

    world.delete(&list_key).await;
    let error = listed().await.unwrap_err();
    assert!(error.is_transient());
    assert!(
        error.full_message().contains("is not in the bucket"),
        "{}",
        error.full_message()
    );
    world.put_other(&list_key).await;
    let error = listed().await.unwrap_err();
    assert!(error.is_transient());
    assert!(
        error.full_message().contains("somebody else's"),
        "{}",
        error.full_message()
    );
    world.delete(&job.key).await;
    assert!(listed().await.unwrap_err().is_transient());

    // An archive that was not unpacked has none.
    let zip = format!("{FOLDER}/other.zip");
    let none = hls::resources(&*world.store, job.id, &zip).await.unwrap();
    assert!(none.is_empty());
}

#[tokio::test]
async fn a_large_file_of_a_playlist_is_not_completed_by_who_has_lost_the_lease() {
    // R18.
    let world = World::new().await;
    let playlist = "#EXTM3U\n#EXTINF:1,\na.ts\n#EXT-X-ENDLIST\n";
    serve_all(&world.origin, &[("/p.m3u8", playlist)]);
    let bytes = vec![0x47; 12 * MIB as usize];
    world.origin.serve("/a.ts", bytes, Behaviour::default());
    world.ledger.is_held.store(false, Ordering::SeqCst);
    let error = world
        .carry(&hls_job(&world.origin, "/p.m3u8"))
        .await
        .unwrap_err();
    assert_eq!(error.class(), Class::Internal, "{}", error.full_message());
    let key = format!("{FOLDER}/hls/v0/seg-00000.ts");
    assert!(world.object(&key).await.is_none());
}
