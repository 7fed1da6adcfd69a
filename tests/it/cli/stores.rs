//! What an object store lacks is said once, in the same words by every command, and costs no recording.

use std::path::PathBuf;

use recording_harvester::object::{CHECKSUM_WARNING, CONDITIONS_WARNING};
use secrecy::ExposeSecret as _;
use serde_json::Value;

use crate::harness::binary::{self, Running};
use crate::harness::origin::{Behaviour, TestOrigin};
use crate::harness::s3::{BUCKET, Op, TestS3};
use crate::harness::stores::on_every_store;

struct World {
    s3: TestS3,
    folder: tempfile::TempDir,
    config: PathBuf,
}

impl World {
    async fn new(s3: TestS3) -> World {
        let folder = tempfile::tempdir().unwrap();
        let config = binary::configure(folder.path(), "");
        let text = std::fs::read_to_string(&config).unwrap();
        let bucket = format!(
            "[archive]\nbucket = \"{BUCKET}\"\nprefix = \"meetings\"\nregion = \"us-east-1\"\nendpoint = \"{}\"\n",
            s3.endpoint()
        );
        std::fs::write(&config, text.replace("[archive]\n", &bucket)).unwrap();
        World { s3, folder, config }
    }

    fn env(&self) -> [(&'static str, String); 2] {
        let credentials = self.s3.credentials();
        let secret = credentials.secret_key.expose_secret().to_owned();
        [
            ("AWS_ACCESS_KEY_ID", credentials.access_key.clone()),
            ("AWS_SECRET_ACCESS_KEY", secret),
        ]
    }

    async fn finish(&self, arguments: &[&str]) -> (String, Option<i32>) {
        let env = self.env();
        let env = env.each_ref().map(|(name, value)| (*name, value.as_str()));
        binary::finish_with(&self.config, arguments, &env).await
    }

    /// How often a sentence was said.
    fn times_said(&self, sentence: &str) -> usize {
        let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        log.matches(sentence).count()
    }

    fn forget_said(&self) {
        std::fs::write(self.folder.path().join("log"), "").unwrap();
    }
}

on_every_store! {
    // N11
    async fn run_archive_and_doctor_say_the_same(kind: StoreKind) {
        let world = World::new(TestS3::of_kind(kind).await).await;
        let origin = TestOrigin::start().await;
        origin.serve("/notes.txt", "notes", Behaviour::default());
        let lacks_conditions = !matches!(kind, StoreKind::Full | StoreKind::NoChecksums);
        let expected = [
            (CONDITIONS_WARNING, usize::from(lacks_conditions)),
            (CHECKSUM_WARNING, usize::from(!kind.abilities().checksums)),
        ];

        let (printed, code) = world.finish(&["archive", &origin.url("/notes.txt")]).await;
        assert_eq!(code, Some(0), "{printed}");
        for (sentence, times) in expected {
            assert_eq!(world.times_said(sentence), times, "archive: {sentence}");
        }

        world.forget_said();
        let env = world.env();
        let env = env.each_ref().map(|(name, value)| (*name, value.as_str()));
        let removed = world.s3.count(Op::DeleteObject);
        let running = Running::start_with(&world.config, &[], &env).await;
        world.s3.wait_for(Op::DeleteObject, removed + 1).await;
        assert_eq!(running.terminate().await, Some(0));
        for (sentence, times) in expected {
            assert_eq!(world.times_said(sentence), times, "run: {sentence}");
        }

        world.forget_said();
        let (printed, code) = world.finish(&["--json", "doctor"]).await;
        let document: Value = serde_json::from_str(&printed).unwrap();
        assert_eq!(code, Some(0), "what a store lacks is no fault: {document:#}");
        for (sentence, times) in expected {
            let checks = document["checks"].as_array().unwrap();
            let said = checks.iter().filter(|check| check["message"] == sentence);
            let said: Vec<_> = said.map(|check| check["status"].as_str().unwrap()).collect();
            assert_eq!(said, vec!["warning"; times], "doctor: {sentence}");
            assert_eq!(world.times_said(sentence), 0, "doctor says it once");
        }
        let keys = world.s3.keys().await;
        assert!(!keys.iter().any(|key| key.contains(".harvester")), "{keys:?}");
    }
}

// R4: as by hand.
#[tokio::test]
async fn a_playlist_is_archived_into_the_embedded_store_with_its_checksums_switched_off() {
    let folder = tempfile::tempdir().unwrap();
    let config = binary::configure(folder.path(), "");
    let origin = TestOrigin::start().await;
    let playlist = "#EXTM3U\n#EXTINF:1,\na.ts\n#EXTINF:1,\nb.ts\n#EXT-X-ENDLIST\n";
    for (path, content) in [("/p.m3u8", playlist), ("/a.ts", "GaGa"), ("/b.ts", "GbGb")] {
        origin.serve(path, content, Behaviour::default());
    }
    let url = origin.url("/p.m3u8");
    let off = "archive.embedded_checksums=false";
    let (printed, code) = binary::finish(&config, &["--set", off, "archive", &url]).await;
    let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
    assert_eq!(code, Some(0), "{printed}{log}");
    assert_eq!(log.matches(CHECKSUM_WARNING).count(), 1, "{log}");
    let records = binary::records(&config).await;
    let states: Vec<_> = records.iter().map(|record| &record["state"]).collect();
    assert_eq!(states, ["archived", "archived"], "{records:#?}");
}
