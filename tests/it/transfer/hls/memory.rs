//! The real program's memory on what was made to take much of it.

use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use crc_fast::CrcAlgorithm::Crc32IsoHdlc;
use serde_json::Value;
use tokio::io::AsyncReadExt as _;

use crate::harness::archive::Archive;
use crate::harness::binary::configure;
use crate::harness::origin::{Behaviour, TestOrigin};

/// What a worker may be given in all.
const LIMIT_KIB: u64 = 384 * 1024;

const PATIENCE: Duration = Duration::from_secs(180);

/// The most memory (resident, in KiB) that a process has had until now; `None` when it is gone.
fn peak_kib(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Runs a command to its end; gives what it printed, how it ended and the most memory that it had.
async fn watched(archive: &Archive, arguments: &[&str]) -> (String, ExitStatus, u64) {
    let mut child = archive.harvester(arguments).spawn().unwrap();
    let process = child.id().unwrap();
    let mut out = child.stdout.take().unwrap();
    let reading = async {
        let mut text = String::new();
        out.read_to_string(&mut text).await.unwrap();
        text
    };
    let mut peak = 0;
    let ended = async {
        loop {
            peak = peak_kib(process).unwrap_or(peak);
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let ending = tokio::time::timeout(PATIENCE, async { tokio::join!(ended, reading) });
    let (status, printed) = ending.await.expect("it ends in time");
    assert!(peak > 0, "it was too fast to be seen");
    (printed, status, peak)
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn a_recording_of_very_many_references_is_refused_in_bounded_memory() {
    // S7: it took 970 MB.
    let origin = TestOrigin::start().await;
    let text = format!(
        "#EXTM3U\n{}#EXT-X-ENDLIST\n",
        "#EXTINF:1,\n/\n".repeat(199_000)
    );
    let mut master = "#EXTM3U\n".to_owned();
    for number in 0..26 {
        master.push_str(&format!("#EXT-X-STREAM-INF:BANDWIDTH=1\np{number}.m3u8\n"));
        let path = format!("/p{number}.m3u8");
        origin.serve(&path, text.clone(), Behaviour::default());
    }
    origin.serve("/m.m3u8", master, Behaviour::default());
    let folder = tempfile::tempdir().unwrap();
    let archive = Archive::of_this_run(&configure(folder.path(), "")).await;
    let url = origin.url("/m.m3u8");
    let (printed, status, peak) = watched(&archive, &["--json", "archive", &url]).await;
    assert_eq!(status.code(), Some(1), "{printed}");
    assert!(printed.contains("\"refused\""), "{printed}");
    assert!(peak < LIMIT_KIB, "{peak} KiB");
}

/// A ZIP of a stored entry of `media` bytes, and of `count` deflated ones of 1 MiB of zeros.
fn bomb(media: usize, count: usize) -> Vec<u8> {
    let random: Vec<u8> = {
        let mut random = fastrand::Rng::with_seed(8);
        (0..media).map(|_| random.u8(..)).collect()
    };
    let zeros = vec![0u8; 1 << 20];
    let packed = miniz_oxide::deflate::compress_to_vec(&zeros, 6);
    let crc_of = |bytes: &[u8]| u32::try_from(crc_fast::checksum(Crc32IsoHdlc, bytes)).unwrap();
    let zeros_crc = crc_of(&zeros);
    let mut zip = Vec::new();
    let mut directory = Vec::new();
    let mut add = |name: &str, method: u8, packed: &[u8], crc: u32, bytes: usize| {
        let mut middle = vec![20, 0, 0, 0, method, 0, 0, 0, 0, 0];
        middle.extend_from_slice(&crc.to_le_bytes());
        middle.extend_from_slice(&u32::try_from(packed.len()).unwrap().to_le_bytes());
        middle.extend_from_slice(&u32::try_from(bytes).unwrap().to_le_bytes());
        middle.extend_from_slice(&u16::try_from(name.len()).unwrap().to_le_bytes());
        middle.extend_from_slice(&[0, 0]);
        directory.extend_from_slice(b"PK\x01\x02\x14\x00");
        directory.extend_from_slice(&middle);
        directory.extend_from_slice(&[0; 10]);
        directory.extend_from_slice(&u32::try_from(zip.len()).unwrap().to_le_bytes());
        directory.extend_from_slice(name.as_bytes());
        zip.extend_from_slice(b"PK\x03\x04");
        zip.extend_from_slice(&middle);
        zip.extend_from_slice(name.as_bytes());
        zip.extend_from_slice(packed);
    };
    if media > 0 {
        add("media.ts", 0, &random, crc_of(&random), media);
    }
    for number in 0..count {
        add(&format!("{number:05}.ts"), 8, &packed, zeros_crc, 1 << 20);
    }
    let entries = u16::try_from(count + usize::from(media > 0)).unwrap();
    let start = u32::try_from(zip.len()).unwrap();
    let size = u32::try_from(directory.len()).unwrap();
    zip.extend_from_slice(&directory);
    zip.extend_from_slice(b"PK\x05\x06\0\0\0\0");
    zip.extend_from_slice(&entries.to_le_bytes());
    zip.extend_from_slice(&entries.to_le_bytes());
    zip.extend_from_slice(&size.to_le_bytes());
    zip.extend_from_slice(&start.to_le_bytes());
    zip.extend_from_slice(&[0, 0]);
    zip
}

/// Archives and unpacks `zip` as a provider's event names it. Gives its record, the most memory, and how many files
/// of it are in the archive.
async fn unpacked(zip: Vec<u8>) -> (Value, u64, usize) {
    let origin = TestOrigin::start().await;
    origin.serve("/vod.zip", zip, Behaviour::default());
    let folder = tempfile::tempdir().unwrap();
    let event = serde_json::json!({
        "version": "2.0", "id": "e", "type": "hls.recording.success", "timestamp": "2026-03-02T10:33:20Z",
        "data": {"session_id": "s", "hls_vod_recording_presigned_url": origin.url("/vod.zip")},
    });
    let path = folder.path().join("event.json");
    std::fs::write(&path, event.to_string()).unwrap();
    let more = "[sources.\"100ms\"]\nprovider = \"100ms\"\nhls_unpack = true\ninsecure = true";
    let archive = Archive::of_this_run(&configure(folder.path(), more)).await;
    let path = path.to_str().unwrap();
    let (printed, _, peak) = watched(&archive, &["--json", "archive", path]).await;
    let mut lines = printed
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let record = lines.find(|record: &Value| record["name"] == "hls.zip");
    let files = unpacked_files(&archive.objects());
    (record.expect(&printed), peak, files)
}

fn unpacked_files(objects: &Path) -> usize {
    let mut found = 0;
    let mut folders = vec![objects.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            match entry.path() {
                path if path.is_dir() => folders.push(path),
                path => found += usize::from(path.extension().is_some_and(|ext| ext == "ts")),
            }
        }
    }
    found
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn a_bomb_of_many_small_entries_is_refused_in_bounded_memory() {
    // S8: it took 496 MB, and 2,400 objects were written.
    let (record, peak, files) = unpacked(bomb(0, 2400)).await;
    assert_eq!(record["state"], "failed", "{record}");
    let message = record["message"].as_str().unwrap();
    assert!(message.contains("100 times"), "{message}");
    assert!(peak < LIMIT_KIB, "{peak} KiB");
    assert_eq!(files, 0);
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn what_a_few_bytes_of_an_archive_become_is_never_held_at_once() {
    // S8: these 300 entries are 320 KiB together, and came in one piece.
    let (record, peak, files) = unpacked(bomb(8 << 20, 300)).await;
    assert_eq!(record["state"], "archived", "{record}");
    assert_eq!(files, 301);
    assert!(peak < 200 * 1024, "{peak} KiB");
}
