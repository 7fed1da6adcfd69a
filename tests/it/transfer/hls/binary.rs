//! The real program on HLS recordings: to the manifest, and through a kill.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::{fixtures, serve_fixture};
use crate::harness::archive::Archive;
use crate::harness::binary::configure;
use crate::harness::origin::{Behaviour, Fault, TestOrigin};

fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    let mut entries: Vec<_> = std::fs::read_dir(folder).ok()?.flatten().collect();
    entries.sort_by_key(std::fs::DirEntry::path);
    entries.into_iter().find_map(|entry| {
        let path = entry.path();
        match path.is_dir() {
            true => find(&path, name),
            false => (path.file_name()? == name).then_some(path),
        }
    })
}

/// Objects whose name begins so.
fn count(folder: &Path, start: &str) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.path().is_dir() {
            true => count(&entry.path(), start),
            false => usize::from(entry.file_name().to_string_lossy().starts_with(start)),
        })
        .sum()
}

fn manifest(archive: &Archive) -> Value {
    let path = find(&archive.objects(), "manifest.json").expect("a manifest");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[tokio::test]
async fn the_manifest_lists_every_file_of_an_hls_recording() {
    let origin = TestOrigin::start().await;
    serve_fixture(&origin, "subtitles");
    let folder = tempfile::tempdir().unwrap();
    let archive = Archive::of_this_run(&configure(folder.path(), "")).await;
    let url = origin.url("/subtitles/master.m3u8?sig=CANARY");
    let (printed, code) = archive.finish(&["--json", "archive", &url]).await;
    assert_eq!(code, Some(0), "{printed}");
    assert!(!printed.contains("CANARY"));
    let manifest = manifest(&archive);
    assert!(!manifest.to_string().contains("CANARY"));
    let artifacts = manifest["artifacts"].as_array().unwrap();
    let hls = artifacts
        .iter()
        .find(|artifact| artifact["kind"] == "hls")
        .unwrap();
    assert_eq!(hls["name"], "hls/master.m3u8");
    let resources = hls["resources"].as_array().unwrap();
    // Four segments of media and four of words, two playlists, and the words in one piece.
    assert_eq!(resources.len(), 11, "{resources:?}");
    for resource in resources {
        let path = archive.objects().join(resource["key"].as_str().unwrap());
        assert_eq!(
            resource["size_bytes"],
            std::fs::metadata(path).unwrap().len()
        );
        assert!(resource["crc64nvme"].is_string());
    }
    assert!(
        artifacts
            .iter()
            .all(|other| other == hls || other.get("resources").is_none())
    );
}

#[tokio::test]
async fn a_kill_in_the_middle_of_a_ladder_ends_complete() {
    let origin = TestOrigin::start().await;
    serve_fixture(&origin, "fmp4");
    let late = "/fmp4/fmp4-1-3.m4s";
    let bytes = std::fs::read(fixtures().join("fmp4/fmp4-1-3.m4s")).unwrap();
    origin.serve(late, bytes, Behaviour::fault_at_first(1, Fault::Hang));
    let folder = tempfile::tempdir().unwrap();
    let archive = Archive::of_this_run(&configure(folder.path(), "")).await;
    let url = origin.url("/fmp4/master.m3u8");
    let mut first = archive
        .harvester(&["--json", "archive", &url])
        .spawn()
        .unwrap();
    let objects = archive.objects();
    let before_the_kill = async {
        while origin.requests(late).is_empty() || count(&objects, "seg-") < 7 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), before_the_kill)
        .await
        .unwrap();
    first.kill().await.unwrap();
    assert!(find(&objects, "master.m3u8").is_none());

    let fetched = origin.log().len();
    let (printed, code) = archive.finish(&["--json", "archive", &url]).await;
    assert_eq!(code, Some(0), "{printed}");
    let log = origin.log();
    let again = log[fetched..]
        .iter()
        .filter(|seen| seen.path.ends_with(".m4s") && !seen.is_for_a_byte());
    assert!(again.count() <= 4, "a kill costs a few segments");
    let manifest = manifest(&archive);
    let resources = manifest["artifacts"][0]["resources"].as_array().cloned();
    let resources = resources.or_else(|| manifest["artifacts"][1]["resources"].as_array().cloned());
    // Eight segments, two initialization sections, two playlists.
    assert_eq!(resources.unwrap().len(), 12);
}

#[tokio::test]
async fn a_kill_in_the_middle_of_a_ladder_ends_partial_with_the_exact_list_if_a_piece_is_gone() {
    let origin = TestOrigin::start().await;
    serve_fixture(&origin, "fmp4");
    let late = "/fmp4/fmp4-1-3.m4s";
    let bytes = std::fs::read(fixtures().join("fmp4/fmp4-1-3.m4s")).unwrap();
    origin.serve(late, bytes, Behaviour::fault_at_first(1, Fault::Hang));
    let folder = tempfile::tempdir().unwrap();
    let archive = Archive::of_this_run(&configure(folder.path(), "")).await;
    let url = origin.url("/fmp4/master.m3u8");
    let mut first = archive
        .harvester(&["--json", "archive", &url])
        .spawn()
        .unwrap();
    let objects = archive.objects();
    let before_the_kill = async {
        while origin.requests(late).is_empty() || count(&objects, "seg-") < 7 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), before_the_kill)
        .await
        .unwrap();
    first.kill().await.unwrap();

    origin.serve(late, "", Behaviour::status(410));
    let (printed, code) = archive.finish(&["--json", "archive", &url]).await;
    assert_eq!(code, Some(1), "{printed}");
    assert!(printed.contains("partial"), "{printed}");
    assert!(find(&objects, "master.m3u8").is_none());
    let list = find(&objects, "missing.json").expect("a list of what is missing");
    let list: Value = serde_json::from_slice(&std::fs::read(list).unwrap()).unwrap();
    let missing = list["missing"].as_array().unwrap();
    assert_eq!(missing.len(), 1, "{missing:?}");
    assert!(
        missing[0]["key"]
            .as_str()
            .unwrap()
            .ends_with("/v1/seg-00003.m4s")
    );
    // Seven segments, two initialization sections; the playlists of both layers, and the one that names the complete.
    assert_eq!(list["resources"].as_array().unwrap().len(), 12);
    assert!(find(&objects, "master.partial.m3u8").is_some());
}
