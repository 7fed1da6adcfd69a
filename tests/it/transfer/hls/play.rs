//! Each fixture is archived, then every layer of the archive is decoded and compared with the original.

use std::process::Stdio;

use recording_harvester::model::Archived;
use recording_harvester::object::encode_crc64nvme;
use tokio::process::Command;

use super::super::world::World;
use super::{FOLDER, hls_job, index, keys_of, list, serve_fixture, text};
use crate::harness::origin::{Behaviour, TestOrigin};
use crate::harness::s3::payload;
use crate::harness::stores::StoreKind;

/// What a player found in one stream.
#[derive(Debug, PartialEq)]
struct Played {
    frames: usize,
    last_timestamp: Option<String>,
    decoded_md5: String,
}

/// `None`, loudly, when ffmpeg is not installed. With `REQUIRE_TEST_TOOLS=all` that fails instead.
async fn has_ffmpeg() -> bool {
    let found = Command::new("ffmpeg")
        .arg("-version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .await;
    if found.is_ok_and(|status| status.success()) {
        return true;
    }
    crate::harness::skip("ffmpeg not found");
    false
}

async fn ffmpeg(arguments: &[&str]) -> String {
    let output = Command::new("ffmpeg")
        .args([
            "-hide_banner",
            "-nostdin",
            "-v",
            "warning",
            "-allowed_extensions",
            "ALL",
        ])
        .args(arguments)
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let status = output.status;
    assert!(status.success(), "{arguments:?}: {status}: {said}");
    // A status is said as an error; its number alone may as well be part of an address that ffmpeg prints.
    for word in ["ailed", "rror", "issing", "skip", "nvalid data"] {
        assert!(!said.contains(word), "{arguments:?}: {said}");
    }
    String::from_utf8(output.stdout).unwrap()
}

async fn play(url: &str, stream: usize) -> Played {
    let map = format!("0:{stream}");
    let frames = ffmpeg(&["-i", url, "-map", &map, "-f", "framemd5", "-"]).await;
    let frames: Vec<_> = frames
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect();
    let md5 = ffmpeg(&["-i", url, "-map", &map, "-f", "md5", "-"]).await;
    Played {
        frames: frames.len(),
        last_timestamp: frames.last().map(|line| line.split(',').take(3).collect()),
        decoded_md5: md5.trim().trim_start_matches("MD5=").to_owned(),
    }
}

/// Archives a fixture and serves the archive from an origin of its own.
pub(super) async fn archive(world: &World, name: &str) -> (TestOrigin, Archived) {
    serve_fixture(&world.origin, name);
    let entry = index()[name]["entry"].as_str().unwrap().to_owned();
    let job = hls_job(
        &world.origin,
        &format!("/{name}/{entry}?X-Amz-Signature=CANARY"),
    );
    let archived = world.carry(&job).await.unwrap();
    assert_eq!(archived.key, format!("{FOLDER}/hls/master.m3u8"));
    let shelf = TestOrigin::start().await;
    let mut keys = keys_of(&list(world, "resources.json").await);
    keys.push(archived.key.clone());
    for key in keys {
        let (bytes, _) = world.object(&key).await.unwrap();
        shelf.serve(&format!("/{key}"), bytes.to_vec(), Behaviour::default());
    }
    (shelf, archived)
}

async fn check(name: &str) {
    check_in(&World::new().await, name).await;
}

/// Archives a fixture in `world` and plays the archive; without ffmpeg it is only archived.
pub(super) async fn check_in(world: &World, name: &str) {
    let (shelf, archived) = archive(world, name).await;
    if !has_ffmpeg().await {
        return;
    }
    let expected = &index()[name];
    let original = world
        .origin
        .url(&format!("/{name}/{}", expected["entry"].as_str().unwrap()));
    let copy = shelf.url(&format!("/{}", archived.key));
    ffmpeg(&["-i", &copy, "-f", "null", "-"]).await;
    let streams = expected["streams"].as_array().unwrap();
    for (stream, described) in streams.iter().enumerate() {
        let (from_origin, from_archive) =
            (play(&original, stream).await, play(&copy, stream).await);
        assert_eq!(from_archive, from_origin, "{name} stream {stream}");
        assert_eq!(
            from_archive.frames, described["frames"],
            "{name} stream {stream}"
        );
        // Sound is decoded in floating point, which may differ by machine.
        if described["type"] == "video" {
            assert_eq!(
                from_archive.decoded_md5, described["decoded_md5"],
                "{name} stream {stream}"
            );
        }
    }
}

#[tokio::test]
async fn a_transport_stream_ladder_plays_from_the_archive() {
    check("ts").await;
}

#[tokio::test]
async fn a_fragmented_mp4_ladder_plays_from_the_archive() {
    check("fmp4").await;
}

#[tokio::test]
async fn ranges_of_one_file_play_from_the_archive() {
    check("byterange").await;
    check("byterange-fmp4").await;
}

#[tokio::test]
async fn an_encrypted_recording_plays_from_the_archive() {
    check("aes128").await;
}

#[tokio::test]
async fn a_discontinuity_with_a_new_key_plays_from_the_archive() {
    check("discontinuity").await;
}

#[tokio::test]
async fn sound_of_its_own_plays_from_the_archive() {
    check("audio").await;
}

#[tokio::test]
async fn a_recording_with_subtitles_plays_and_they_become_a_transcript() {
    check("subtitles").await;
    let world = World::new().await;
    archive(&world, "subtitles").await;
    assert_eq!(
        text(&world, "transcript.en.vtt").await,
        "WEBVTT\n\n00:00:00.700 --> 00:00:01.700\nGood morning.\n\n\
         00:00:02.000 --> 00:00:02.800\nShall we begin?\n\n\
         00:00:03.200 --> 00:00:04.100\nYes.\n"
    );
}

#[tokio::test]
async fn a_file_is_fetched_once_however_often_it_is_named() {
    let world = World::new().await;
    archive(&world, "byterange").await;
    assert_eq!(
        world.origin.requests("/byterange/byterange-all.ts").len(),
        1
    );
    let playlist = text(&world, "hls/master.m3u8").await;
    assert!(
        playlist.matches("v0/seg-00000.ts\n").count() > 1,
        "{playlist}"
    );
}

#[tokio::test]
async fn the_archive_is_laid_out_by_place_and_listed_with_sizes_and_checksums() {
    let world = World::new().await;
    archive(&world, "audio").await;
    let list = list(&world, "resources.json").await;
    let mut keys = keys_of(&list);
    keys.retain(|key| !key.contains("seg-0000"));
    let expected = [
        "hls/audio-0/index.m3u8",
        "hls/audio-0/init-0.mp4",
        "hls/v0/index.m3u8",
        "hls/v0/init-0.mp4",
        "hls/v1/index.m3u8",
        "hls/v1/init-0.mp4",
    ];
    assert_eq!(keys, expected.map(|name| format!("{FOLDER}/{name}")));
    for resource in list["resources"].as_array().unwrap() {
        let key = resource["key"].as_str().unwrap();
        let (bytes, info) = world.object(key).await.unwrap();
        assert_eq!(resource["size_bytes"], bytes.len(), "{key}");
        let crc64nvme = encode_crc64nvme(payload(&bytes).crc64nvme);
        assert_eq!(resource["crc64nvme"], crc64nvme, "{key}");
        // Not every kind of store tells one.
        let told = StoreKind::of_this_run().tells_checksums();
        assert_eq!(info.crc64nvme, told.then_some(crc64nvme), "{key}");
    }
    let master = text(&world, "hls/master.m3u8").await;
    let original = std::fs::read_to_string(super::fixtures().join("audio/master.m3u8")).unwrap();
    let expected = original
        .replace("sheet-0.m3u8", "audio-0/index.m3u8")
        .replace("sheet-1.m3u8", "v0/index.m3u8")
        .replace("sheet-2.m3u8", "v1/index.m3u8");
    assert_eq!(master, expected);
}

#[test]
fn the_table_of_the_fixtures_is_what_a_player_finds() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/README.md");
    let readme = std::fs::read_to_string(path).unwrap();
    let index = index();
    let mut rows = 0;
    for (name, fixture) in index.as_object().unwrap() {
        for stream in fixture["streams"].as_array().unwrap() {
            let width = stream["width"]
                .as_u64()
                .map_or(String::new(), |width| format!(", {width} wide"));
            let row = format!(
                "\n| `{name}` | {:.1} s | {}{width} | {} | `{}` |\n",
                fixture["duration_s"].as_f64().unwrap(),
                stream["type"].as_str().unwrap(),
                stream["frames"],
                &stream["decoded_md5"].as_str().unwrap()[..8],
            );
            assert!(readme.contains(&row), "{row}");
            rows += 1;
        }
    }
    let table = readme.split("| fixture | duration |").nth(1).unwrap();
    let told = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .count();
    assert_eq!(told, rows);
}
