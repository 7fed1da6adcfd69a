//! What many, large or odd files of one recording may cost.

use std::sync::Arc;
use std::time::Duration;

use recording_harvester::error::Class;
use recording_harvester::model::progress::Emit;
use recording_harvester::transfer::TransferSettings;
use tokio_util::sync::CancellationToken;

use super::super::world::{MIB, World, small_parts};
use super::{FOLDER, hls_job, keys_of, list, serve_all};
use crate::harness::origin::{Behaviour, Framing};

/// A playlist of this many segments, `s0.ts` and so on.
fn playlist(count: usize) -> String {
    let segments: String = (0..count)
        .map(|n| format!("#EXTINF:1,\ns{n}.ts\n"))
        .collect();
    format!("#EXTM3U\n{segments}#EXT-X-ENDLIST\n")
}

fn framed(framing: Framing) -> Behaviour {
    Behaviour {
        framing,
        ..Behaviour::default()
    }
}

#[tokio::test]
async fn large_pieces_do_not_wait_for_each_others_connections_for_ever() {
    let world = World::new().await.in_single_file();
    world
        .origin
        .serve("/p.m3u8", playlist(4), Behaviour::default());
    let bytes = vec![0x47; 6 * MIB as usize];
    for number in 0..4 {
        world.origin.serve(
            &format!("/s{number}.ts"),
            bytes.clone(),
            Behaviour::default(),
        );
    }
    world
        .carry(&hls_job(&world.origin, "/p.m3u8"))
        .await
        .unwrap();
    let list = list(&world, "resources.json").await;
    assert_eq!(list["resources"][3]["size_bytes"], bytes.len());
}

#[tokio::test]
async fn pieces_that_are_read_twice_do_not_hold_the_memory_that_others_wait_for() {
    let world = World::new().await.in_single_file();
    world
        .origin
        .serve("/p.m3u8", playlist(20), Behaviour::default());
    for number in 0..20 {
        let path = format!("/s{number}.ts");
        world
            .origin
            .serve(&path, vec![0x47; 1000], framed(Framing::Close));
    }
    world
        .carry(&hls_job(&world.origin, "/p.m3u8"))
        .await
        .unwrap();
    assert_eq!(keys_of(&list(&world, "resources.json").await).len(), 20);
}

fn with_memory(memory_bytes: u64) -> TransferSettings {
    TransferSettings {
        memory_bytes,
        ..small_parts()
    }
}

/// A multivariant playlist of `count` media playlists, `p0.m3u8` and so on.
fn master(count: usize) -> String {
    let layers: String = (0..count)
        .map(|n| format!("#EXT-X-STREAM-INF:BANDWIDTH={n}\np{n}.m3u8\n"))
        .collect();
    format!("#EXTM3U\n{layers}")
}

#[tokio::test]
async fn playlists_are_read_within_the_memory_and_a_few_at_a_time() {
    // S7: small files of which much is made.
    let world = World::with(with_memory(256 * MIB)).await;
    world
        .origin
        .serve("/m.m3u8", master(26), Behaviour::default());
    let text = format!(
        "#EXTM3U\n{}#EXT-X-ENDLIST\n",
        "#EXTINF:1,\n/\n".repeat(199_000)
    );
    for number in 0..26 {
        let path = format!("/p{number}.m3u8");
        world
            .origin
            .serve(&path, text.clone(), Behaviour::default());
    }
    let job = hls_job(&world.origin, "/m.m3u8");
    let error = world.carry(&job).await.unwrap_err();
    assert_eq!(error.class(), Class::Refused, "{}", error.full_message());
    assert!(!error.is_transient());
    let peak = world.engine.budget().peak_bytes();
    // One of them: its text, and 300 bytes for each reference.
    assert!((60_000_000..=128 * MIB).contains(&peak), "{peak}");
    let asked = world.origin.log().len();
    assert!(asked <= 1 + 4 + 4, "the rest is not asked for: {asked}");
    assert!(world.origin.requests("/").is_empty());
}

#[tokio::test]
async fn playlists_that_do_not_fit_into_the_memory_at_once_are_read_one_after_the_other() {
    let world = World::with(with_memory(32 * MIB)).await;
    // What is not there takes memory and no time.
    let gaps = "#EXT-X-GAP\n#EXTINF:1,\ngap.ts\n".repeat(25_000);
    let text = format!("#EXTM3U\n{gaps}#EXTINF:1,\ns.ts\n#EXT-X-ENDLIST\n");
    world.origin.serve("/s.ts", "media", Behaviour::default());
    let mut jobs = Vec::new();
    for number in 0..4 {
        let path = format!("/p{number}.m3u8");
        world
            .origin
            .serve(&path, text.clone(), Behaviour::default());
        let mut job = hls_job(&world.origin, &path);
        job.key = job.key.replace("/r/", &format!("/r{number}/"));
        jobs.push(job);
    }
    let (emit, cancel): (Emit, _) = (Arc::new(|_| {}), CancellationToken::new());
    let carrying = jobs.iter().map(|job| {
        let carried = world.engine.carry(job, &[], &world.ledger, &emit, &cancel);
        tokio::time::timeout(Duration::from_secs(120), carried)
    });
    for ended in futures::future::join_all(carrying).await {
        ended.expect("nobody waits for ever").unwrap();
    }
    let budget = world.engine.budget();
    assert!(budget.peak_bytes() <= 32 * MIB);
    assert_eq!(budget.held_bytes(), 0);
    // Two of them would not have fitted: who began again asked again.
    assert!(world.origin.log().len() > 8);

    // What fits into no memory says so.
    let text = format!(
        "#EXTM3U\n{}#EXT-X-ENDLIST\n",
        "#EXTINF:1,\n/\n".repeat(100_000)
    );
    world
        .origin
        .serve("/large.m3u8", text, Behaviour::default());
    let error = world.carry(&hls_job(&world.origin, "/large.m3u8")).await;
    let error = error.unwrap_err();
    assert_eq!(error.class(), Class::Refused);
    let message = error.full_message();
    assert!(message.contains("limits.memory"), "{message}");
}

async fn small_world(max_object_bytes: u64) -> World {
    World::with(TransferSettings {
        max_object_bytes,
        ..small_parts()
    })
    .await
}

#[tokio::test]
async fn t17_all_segments_together_are_one_object_to_the_limit_of_size() {
    let world = small_world(10_000).await;
    for ending in ["#EXT-X-ENDLIST\n", ""] {
        let text = playlist(200).replace("#EXT-X-ENDLIST\n", ending);
        world.origin.serve("/p.m3u8", text, Behaviour::default());
        for number in 0..200 {
            let path = format!("/s{number}.ts");
            world
                .origin
                .serve(&path, vec![0x47; 1000], Behaviour::default());
        }
        let before = world.origin.log().len();
        let error = world
            .carry(&hls_job(&world.origin, "/p.m3u8"))
            .await
            .unwrap_err();
        assert_eq!(error.class(), Class::Refused, "{}", error.full_message());
        assert!(!error.is_transient());
        let message = error.full_message();
        assert!(
            message.contains("limits.max_object, 10000 bytes"),
            "{message}"
        );
        // Those that were on their way when the limit was met.
        assert!(
            world.origin.log().len() - before < 60,
            "the rest is not asked for"
        );
        assert!(
            world
                .object(&format!("{FOLDER}/hls/missing.json"))
                .await
                .is_none()
        );
    }
    let mut written = 0;
    for number in 0..200 {
        let key = format!("{FOLDER}/hls/v0/seg-{number:05}.ts");
        written += world.object(&key).await.map_or(0, |(bytes, _)| bytes.len());
    }
    // Two attempts, each of which writes at most so much.
    assert!(written <= 20_000, "{written}");
}

#[tokio::test]
async fn t17_a_large_piece_beyond_the_limit_ends_the_whole_attempt() {
    let bytes = vec![0x47; 12 * MIB as usize];
    for framing in [Framing::Length, Framing::Chunked] {
        let world = small_world(8 * MIB).await;
        world
            .origin
            .serve("/p.m3u8", playlist(2), Behaviour::default());
        world
            .origin
            .serve("/s0.ts", vec![0x47; 1000], Behaviour::default());
        world.origin.serve("/s1.ts", bytes.clone(), framed(framing));
        let error = world
            .carry(&hls_job(&world.origin, "/p.m3u8"))
            .await
            .unwrap_err();
        assert_eq!(error.class(), Class::Refused);
        let message = error.full_message();
        assert!(
            message.contains("all segments are more than"),
            "{framing:?}: {message}"
        );
    }
}

#[tokio::test]
async fn f51_files_are_counted_over_all_playlists_before_one_is_fetched() {
    let world = World::with(with_memory(256 * MIB)).await;
    let master = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\na/p.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=2\nb/p.m3u8\n";
    serve_all(&world.origin, &[("/m.m3u8", master)]);
    for layer in ["a", "b"] {
        let path = format!("/{layer}/p.m3u8");
        world
            .origin
            .serve(&path, playlist(100_001), Behaviour::default());
    }
    let error = world
        .carry(&hls_job(&world.origin, "/m.m3u8"))
        .await
        .unwrap_err();
    assert_eq!(error.class(), Class::Refused);
    assert_eq!(
        error.full_message(),
        "the playlists name more than 200000 files"
    );
    assert_eq!(world.origin.log().len(), 3);
}

#[tokio::test]
async fn t17_subtitles_that_are_too_large_cost_the_transcript_and_not_the_recording() {
    let world = World::new().await;
    let master = "#EXTM3U\n#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID=\"s\",NAME=\"en\",LANGUAGE=\"en\",URI=\"sub.m3u8\"\n\
        #EXT-X-STREAM-INF:BANDWIDTH=1,SUBTITLES=\"s\"\nv.m3u8\n";
    let words = "#EXTM3U\n#EXTINF:1,\na.vtt\n#EXTINF:1,\nb.vtt\n#EXT-X-ENDLIST\n";
    serve_all(
        &world.origin,
        &[
            ("/m.m3u8", master),
            ("/sub.m3u8", words),
            ("/v.m3u8", &playlist(1)),
            ("/s0.ts", "G"),
            ("/a.vtt", "WEBVTT\n\n00:00.000 --> 00:01.000\nhi\n"),
        ],
    );
    let long = format!("WEBVTT\n\nNOTE {}\n", "x".repeat(9 * MIB as usize));
    world.origin.serve("/b.vtt", long, Behaviour::default());
    world
        .carry(&hls_job(&world.origin, "/m.m3u8"))
        .await
        .unwrap();
    assert!(
        world
            .object(&format!("{FOLDER}/transcript.en.vtt"))
            .await
            .is_none()
    );
    let list = list(&world, "resources.json").await;
    let note = list["notes"][0].as_str().unwrap();
    assert!(note.starts_with("transcript.en.vtt is not made"), "{note}");
}
