//! An archived recording in a real browser: hls.js in headless Chromium plays every layer of it to its end.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::process::Command;

use super::super::world::World;
use super::{index, play::archive, serve_fixture};
use crate::harness::{origin::Behaviour, skip};

/// A browser that takes longer to play some seconds of pictures has failed.
const PATIENCE: Duration = Duration::from_secs(120);

/// Plays each layer of each recording in turn, from its beginning to its end, then says what was seen of each recording.
const PAGE: &str = r#"<!doctype html><meta charset="utf-8"><body><script>
const tell = seen => fetch(REPORT + encodeURIComponent(JSON.stringify(seen)), {mode: "no-cors"});
const play = (entry, level) => new Promise((resolve, reject) => {
  const video = document.body.appendChild(document.createElement("video"));
  video.muted = true;
  video.defaultPlaybackRate = 4;
  const hls = new Hls({startLevel: level, enableWorker: false});
  hls.on(Hls.Events.MANIFEST_PARSED, () => { hls.currentLevel = level; video.play().catch(reject); });
  hls.on(Hls.Events.ERROR, (_, data) => data.fatal && reject(new Error(data.type + " " + data.details)));
  video.onerror = () => reject(new Error(video.error.message));
  video.onended = () => {
    const seen = {
      width: video.videoWidth, duration: Math.round(video.duration * 10) / 10,
      has_frames: video.getVideoPlaybackQuality().totalVideoFrames > 0,
      audio_tracks: hls.audioTracks.length, levels: hls.levels.length,
    };
    hls.destroy();
    video.remove();
    resolve(seen);
  };
  hls.loadSource(entry);
  hls.attachMedia(video);
});
(async () => {
  const all = [];
  for (const entry of ENTRIES) {
    const seen = [await play(entry, 0)];
    for (let level = 1; level < seen[0].levels; level++) seen.push(await play(entry, level));
    all.push(seen);
  }
  tell(all);
})().catch(error => tell({error: String(error)}));
</script>"#;

fn hls_js() -> Option<PathBuf> {
    let installed = "target/ci-tools/node_modules/hls.js/dist/hls.min.js";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(installed);
    path.exists().then_some(path)
}

fn is_installed(program: &str) -> bool {
    let mut command = std::process::Command::new(program);
    let command = command.arg("--version").stdout(Stdio::null());
    command.stderr(Stdio::null()).status().is_ok()
}

/// What the page told: the first request's query, as JSON.
async fn told(reports: TcpListener) -> Value {
    let (mut stream, _) = reports.accept().await.unwrap();
    let mut line = String::new();
    BufReader::new(&mut stream)
        .read_line(&mut line)
        .await
        .unwrap();
    let answer = "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
    stream.write_all(answer.as_bytes()).await.unwrap();
    let query = line.split([' ', '?']).nth(2).unwrap();
    let text = percent_encoding::percent_decode_str(query);
    serde_json::from_str(&text.decode_utf8().unwrap()).expect(&line)
}

#[tokio::test]
async fn every_layer_plays_to_its_end_in_a_browser() {
    let Some(hls_js) = hls_js() else {
        return skip("hls.js not found: npm install --prefix target/ci-tools hls.js@1");
    };
    if !is_installed("chromium") {
        return skip("chromium not found");
    }
    let world = World::new().await;
    let (shelf, archived) = archive(&world, "audio").await;
    serve_fixture(&shelf, "audio");
    let (original, copy) = ("/audio/master.m3u8", format!("/{}", archived.key));
    let reports = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let report = format!("http://{}/told?", reports.local_addr().unwrap());
    let page = PAGE
        .replace("REPORT", &format!("{report:?}"))
        .replace("ENTRIES", &json!([original, copy]).to_string());
    let player = std::fs::read_to_string(hls_js).unwrap();
    let html = Behaviour {
        headers: vec![("content-type", "text/html".to_owned())],
        ..Behaviour::default()
    };
    shelf.serve("/", format!("<script>{player}</script>{page}"), html);
    let profile = tempfile::tempdir().unwrap();
    let _browser = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu"])
        .args(["--disable-quic", "--disable-sync", "--mute-audio"])
        .args(["--no-first-run", "--disable-component-update"])
        .args(["--disable-background-networking", "--disable-dev-shm-usage"])
        .arg("--autoplay-policy=no-user-gesture-required")
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(shelf.url("/"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let seen = tokio::time::timeout(PATIENCE, told(reports)).await;
    let seen = seen.expect("the browser tells what it saw");

    let [original, copy] = seen.as_array().expect("no error").as_slice() else {
        panic!("the browser saw {seen}");
    };
    assert_eq!(copy, original);
    let described = &index()["audio"];
    let streams = described["streams"].as_array().unwrap();
    let mut widths: Vec<_> = streams
        .iter()
        .filter(|stream| stream["type"] == "video")
        .map(|stream| &stream["width"])
        .collect();
    // hls.js counts its levels from the one with the least bandwidth.
    widths.reverse();
    let played: Vec<_> = copy.as_array().unwrap().iter().collect();
    assert_eq!(played.len(), widths.len(), "{copy}");
    for (layer, width) in played.into_iter().zip(widths) {
        assert_eq!(&layer["width"], width, "{copy}");
        assert_eq!(layer["has_frames"], true, "{copy}");
        assert_eq!(layer["audio_tracks"], 1, "{copy}");
        let length = layer["duration"].as_f64().unwrap();
        let shortest = described["duration_s"].as_f64().unwrap();
        assert!(length >= shortest, "{copy}");
    }
}
