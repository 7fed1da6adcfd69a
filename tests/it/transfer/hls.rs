//! HLS recordings: carried by the real engine, then played from the archive by ffmpeg.

mod binary;
mod browser;
mod carried;
mod decrypt;
mod limits;
mod live;
mod memory;
mod partial;
mod play;
mod resume;
mod troubles;
mod waits;
mod zip;

use std::path::{Path, PathBuf};

use recording_harvester::model::{Format, Job, Origin};
use recording_harvester::signed_url::SignedUrl;
use recording_harvester::transfer::TransferSettings;
use recording_harvester::transfer::hls::HlsSettings;
use serde_json::Value;

use super::world::{World, job, small_parts};
use crate::harness::origin::{Behaviour, TestOrigin};

/// The folder of the recording in the archive.
pub const FOLDER: &str = "100ms/2026/03/02/s/r";

pub use zip::{zip_fixture, zip_job};

/// A job for the playlist under `target` (path and query) of the origin.
pub fn hls_job(origin: &TestOrigin, target: &str) -> Job {
    let url = SignedUrl::new(origin.url(target));
    Job {
        key: format!("{FOLDER}/hls/master.m3u8"),
        name: "hls/master.m3u8".to_owned(),
        ..job(Origin::Url(url), Format::M3u8)
    }
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/hls")
}

/// What the fixtures' own script found in them.
fn index() -> Value {
    let text = std::fs::read_to_string(fixtures().join("INDEX.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Serves a fixture under `/{name}/`.
pub fn serve_fixture(origin: &TestOrigin, name: &str) {
    for file in index()[name]["files"].as_array().unwrap() {
        let file = file.as_str().unwrap();
        let bytes = std::fs::read(fixtures().join(name).join(file)).unwrap();
        origin.serve(&format!("/{name}/{file}"), bytes, Behaviour::default());
    }
}

/// Serves each (path, content).
pub fn serve_all(origin: &TestOrigin, pages: &[(&str, &str)]) {
    for (path, content) in pages {
        origin.serve(path, *content, Behaviour::default());
    }
}

/// Settings of the engine with these of HLS.
fn with_hls(hls: HlsSettings) -> TransferSettings {
    TransferSettings {
        hls: [("100ms".to_owned(), hls)].into(),
        ..small_parts()
    }
}

/// The list of files beside the entry playlist.
pub async fn list(world: &World, name: &str) -> Value {
    let key = format!("{FOLDER}/hls/{name}");
    let (bytes, _) = world
        .object(&key)
        .await
        .unwrap_or_else(|| panic!("no {key}"));
    serde_json::from_slice(&bytes).unwrap()
}

pub fn keys_of(list: &Value) -> Vec<String> {
    let resources = list["resources"].as_array().unwrap();
    let keys = resources
        .iter()
        .map(|found| found["key"].as_str().unwrap().to_owned());
    keys.collect()
}

pub async fn text(world: &World, key: &str) -> String {
    let key = format!("{FOLDER}/{key}");
    let (bytes, _) = world
        .object(&key)
        .await
        .unwrap_or_else(|| panic!("no {key}"));
    String::from_utf8(bytes.to_vec()).unwrap()
}
