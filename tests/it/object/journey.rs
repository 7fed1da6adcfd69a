//! Whole recordings through the real program into moto, a server that we did not write: a plain transfer, a recording of
//! many files, and a manifest that is written again.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::moto::Moto;
use crate::harness::binary;
use crate::harness::origin::{Behaviour, Fault, TestOrigin};
use crate::harness::s3::{BUCKET, raw_client};

/// The program's environment: moto takes any key, and knows ours.
const KEYS: [(&str, &str); 2] = [
    ("AWS_ACCESS_KEY_ID", "moto"),
    ("AWS_SECRET_ACCESS_KEY", "moto"),
];

/// A part of the program's is 8 MiB: this has three.
const LARGE: usize = 20 << 20;

struct World {
    folder: tempfile::TempDir,
    moto: Moto,
    origin: TestOrigin,
}

impl World {
    /// `None`, loudly, without a moto that keeps checksums.
    async fn new() -> Option<World> {
        let moto = Moto::start_with_checksums().await?;
        Some(World {
            folder: tempfile::tempdir().unwrap(),
            moto,
            origin: TestOrigin::start().await,
        })
    }

    fn config(&self) -> PathBuf {
        let config = binary::configure(self.folder.path(), "");
        let text = std::fs::read_to_string(&config).unwrap();
        let bucket = format!(
            "[archive]\nbucket = \"{BUCKET}\"\nregion = \"us-east-1\"\nendpoint = \"{}\"\n",
            self.moto.endpoint()
        );
        std::fs::write(&config, text.replace("[archive]\n", &bucket)).unwrap();
        config
    }

    async fn archive(&self, urls: &[String]) -> (Vec<Value>, Option<i32>) {
        let mut arguments = vec!["--json", "archive", "--recording", "meeting"];
        arguments.extend(urls.iter().map(String::as_str));
        let (printed, code) = binary::finish_with(&self.config(), &arguments, &KEYS).await;
        let lines = printed
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        (lines.collect(), code)
    }

    async fn bytes(&self, key: &str) -> Vec<u8> {
        let credentials = self.moto.settings().credentials.unwrap();
        let client = raw_client(self.moto.endpoint(), &credentials);
        let object = client.get_object().bucket(BUCKET).key(key).send().await;
        let object = object.unwrap_or_else(|error| panic!("{key}: {error:?}"));
        object.body.collect().await.unwrap().to_vec()
    }

    /// The only manifest there is, after looking at everything that it lists.
    async fn manifest(&self) -> Value {
        let credentials = self.moto.settings().credentials.unwrap();
        let client = raw_client(self.moto.endpoint(), &credentials);
        let listed = client
            .list_objects_v2()
            .bucket(BUCKET)
            .send()
            .await
            .unwrap();
        let keys: Vec<_> = listed.contents().iter().filter_map(|o| o.key()).collect();
        let manifests: Vec<_> = keys
            .iter()
            .filter(|key| key.contains("/manifest"))
            .collect();
        let [key] = manifests.as_slice() else {
            panic!("one manifest: {keys:?}")
        };
        let manifest: Value = serde_json::from_slice(&self.bytes(key).await).unwrap();
        for listed in files(&manifest) {
            let bytes = self.bytes(listed["key"].as_str().unwrap()).await;
            assert_eq!(listed["size_bytes"], bytes.len(), "{listed}");
        }
        manifest
    }
}

/// The artifacts of a manifest and the files that they consist of.
fn files(manifest: &Value) -> Vec<&Value> {
    let artifacts = manifest["artifacts"].as_array().unwrap().iter();
    artifacts
        .flat_map(|artifact| {
            let resources = artifact["resources"].as_array().into_iter().flatten();
            std::iter::once(artifact).chain(resources)
        })
        .collect()
}

fn named<'a>(manifest: &'a Value, name: &str) -> &'a Value {
    let artifacts = manifest["artifacts"].as_array().unwrap();
    artifacts
        .iter()
        .find(|artifact| artifact["name"] == name)
        .unwrap_or_else(|| panic!("no {name}: {manifest}"))
}

/// An MP4 of `length` bytes.
fn mp4(length: usize) -> Vec<u8> {
    let mut file = Vec::with_capacity(length);
    for (kind, content) in [
        (b"ftyp", b"isom\0\0\0\0isom".to_vec()),
        (b"moov", vec![0; 100]),
        (b"mdat", Vec::new()),
    ] {
        let rest = match kind {
            b"mdat" => length - file.len() - 8,
            _ => content.len(),
        };
        file.extend(u32::try_from(rest + 8).unwrap().to_be_bytes());
        file.extend(kind);
        file.extend(content);
    }
    file.extend((file.len()..length).map(|at| (at % 251) as u8));
    file
}

#[tokio::test]
async fn a_recording_arrives_whole_and_its_manifest_is_written_again() {
    let Some(world) = World::new().await else {
        return;
    };
    let video = mp4(LARGE);
    // Cut once in the middle: the rest is fetched by range.
    let cut = Behaviour::fault_at_first(1, Fault::CutAfter(LARGE / 2));
    world.origin.serve("/video.mp4", video.clone(), cut);
    world
        .origin
        .serve("/chat.csv", "who,what\nme,hello\n", Behaviour::default());
    let video_url = world.origin.url("/video.mp4?sig=CANARY");
    let (told, code) = world.archive(std::slice::from_ref(&video_url)).await;
    assert_eq!(code, Some(0), "{told:?}");
    let first = world.manifest().await;
    let key = named(&first, "video.mp4")["key"].as_str().unwrap();
    assert!(world.bytes(key).await == video);

    // Another file of the same recording: what is there is not fetched again, the manifest is replaced.
    let requests = world.origin.requests("/video.mp4").len();
    let both = [video_url, world.origin.url("/chat.csv")];
    let (told, code) = world.archive(&both).await;
    assert_eq!(code, Some(0), "{told:?}");
    assert_eq!(world.origin.requests("/video.mp4").len(), requests);
    let second = world.manifest().await;
    assert_eq!(named(&second, "video.mp4")["key"], key);
    assert_eq!(named(&second, "chat.csv")["size_bytes"], 18);
    assert_ne!(first["written_at"], second["written_at"]);
    assert!(!second.to_string().contains("CANARY"));
}

// R4: moto tells no CRC64NVME of what it was given one for.
#[tokio::test]
async fn an_hls_recording_is_there_with_every_file() {
    let Some(world) = World::new().await else {
        return;
    };
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/hls/subtitles");
    for entry in std::fs::read_dir(fixture).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        world
            .origin
            .serve(&format!("/hls/{name}"), bytes, Behaviour::default());
    }
    let (told, code) = world.archive(&[world.origin.url("/hls/master.m3u8")]).await;
    assert_eq!(code, Some(0), "{told:?}");
    let manifest = world.manifest().await;
    let hls = named(&manifest, "hls/master.m3u8");
    // Four segments of media and four of words, two playlists, and the words in one piece.
    assert_eq!(hls["resources"].as_array().unwrap().len(), 11, "{hls}");
    let playlist = world.bytes(hls["key"].as_str().unwrap()).await;
    let playlist = String::from_utf8(playlist).unwrap();
    assert!(
        playlist.starts_with("#EXTM3U") && !playlist.contains("http"),
        "{playlist}"
    );
}
