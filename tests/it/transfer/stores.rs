//! The engine on every kind of object store: what is archived is whole, once, and nobody else's is touched.

use recording_harvester::error::Class;
use recording_harvester::model::{Format, Job, Origin};
use recording_harvester::object::encode_crc64nvme;
use recording_harvester::signed_url::SignedUrl;
use recording_harvester::transfer::hls::HlsSettings;

use super::hls::{FOLDER, hls_job, keys_of, list, serve_all, text, zip_fixture, zip_job};
use super::world::{MIB, Op, Trouble, World, job, mp4};
use crate::harness::origin::{Behaviour, Validator};
use crate::harness::s3::payload;
use crate::harness::stores::on_every_store;

fn good() -> Behaviour {
    Behaviour::default()
}

/// The next attempt at a job, under a new lease.
fn again(world: &World, job: &Job) -> Job {
    Job {
        attempts: job.attempts + 1,
        lease_token: job.lease_token + 1,
        checkpoint: world.ledger.last.lock().unwrap().clone(),
        ..job.clone()
    }
}

const PLAYLIST: &str =
    "#EXTM3U\n#EXTINF:1,\na.ts\n#EXTINF:1,\nb.ts\n#EXTINF:1,\nc.ts\n#EXT-X-ENDLIST\n";

on_every_store! {
    async fn files_of_every_size_are_archived_and_found_again(kind: StoreKind) {
        let world = World::on(kind).await;
        for (name, size) in [("/small", 90_000), ("/parts", 12 * MIB)] {
            world.origin.serve(name, mp4(size), good());
            let mut job = world.job(name, Format::Mp4);
            job.key = job.key.replace("recording", &name[1..]);
            let first = world.carry(&job).await.unwrap();
            assert_eq!((&first.key, first.size_bytes), (&job.key, size), "{name}");
            assert!(world.object(&job.key).await.unwrap().0 == mp4(size), "{name}");
            // Killed before it could be noted that it is archived.
            assert_eq!(world.carry(&again(&world, &job)).await.unwrap(), first);
            assert_eq!(world.origin.requests(name).len(), 1, "{name} is not fetched again");
            *world.ledger.last.lock().unwrap() = None;
        }
        let note = job(Origin::Inline("{\"an\":\"event\"}".into()), Format::Json);
        let archived = world.carry(&note).await.unwrap();
        assert_eq!(archived.size_bytes, 14);
    }

    // R17
    async fn what_somebody_else_put_there_stays_as_it_is(kind: StoreKind) {
        for size in [90_000, 7 * MIB] {
            let world = World::on(kind).await;
            world.origin.serve("/file", mp4(size), good());
            let job = world.job("/file", Format::Mp4);
            world.put_other(&job.key).await;
            let archived = world.carry(&job).await.unwrap();
            let second = job.key.replace("recording.mp4", "recording-2.mp4");
            assert_eq!(archived.key, second, "{size}");
            let theirs = world.object(&job.key).await.unwrap().0;
            assert_eq!(&theirs[..], b"somebody else's", "{size}");
            assert!(world.object(&second).await.unwrap().0 == mp4(size));
        }
    }

    async fn unclear_endings_are_looked_at(kind: StoreKind) {
        for (op, size) in [(Op::Put, 90_000), (Op::Complete, 7 * MIB)] {
            for trouble in [Trouble::AnswerLost, Trouble::DoneButUnclear, Trouble::Unclear, Trouble::Fails] {
                let world = World::on(kind).await;
                world.origin.serve("/file", mp4(size), good());
                world.store.script(op, trouble, 1);
                let job = world.job("/file", Format::Mp4);
                let archived = world.carry(&job).await;
                let archived = archived.unwrap_or_else(|e| panic!("{op:?} {trouble:?}: {e}"));
                assert_eq!((&archived.key, archived.size_bytes), (&job.key, size));
                assert_eq!(world.origin.requests("/file").len(), 1, "{op:?} {trouble:?}");
            }
        }
    }

    // R4
    async fn a_playlist_is_archived_whole_and_its_files_are_found_again(kind: StoreKind) {
        let world = World::on(kind).await;
        serve_all(&world.origin, &[("/p.m3u8", PLAYLIST), ("/a.ts", "GaGa"), ("/b.ts", "GbGb")]);
        let large = vec![b'G'; 6 * MIB as usize];
        world.origin.serve("/c.ts", large.clone(), good());
        let job = hls_job(&world.origin, "/p.m3u8");
        // The entry playlist is not taken: all else is there by then.
        world.store.script(Op::PutOf("master.m3u8"), Trouble::Fails, 4);
        let error = world.carry(&job).await.unwrap_err();
        assert_eq!(error.class(), Class::UploadFailed, "{}", error.full_message());

        let archived = world.carry(&again(&world, &job)).await.unwrap();
        assert_eq!(archived.key, job.key);
        let mut fetched = world.origin.requests("/a.ts");
        fetched.retain(|seen| !seen.is_for_a_byte());
        assert_eq!(fetched.len(), 1, "what is there is not fetched again");
        let names = keys_of(&list(&world, "resources.json").await);
        let expected = ["seg-00000.ts", "seg-00001.ts", "seg-00002.ts"];
        assert_eq!(names, expected.map(|name| format!("{FOLDER}/hls/v0/{name}")));
        let third = format!("{FOLDER}/hls/v0/seg-00002.ts");
        assert!(world.object(&third).await.unwrap().0 == large);
        assert!(text(&world, "hls/master.m3u8").await.contains("v0/seg-00001.ts"));

        let before = world.origin.log().len();
        assert_eq!(world.carry(&again(&world, &job)).await.unwrap(), archived);
        assert_eq!(world.origin.log().len(), before, "once is enough");
    }

    // R6
    async fn a_partial_recording_is_completed_by_a_later_attempt(kind: StoreKind) {
        let world = World::on(kind).await;
        serve_all(&world.origin, &[("/p.m3u8", PLAYLIST), ("/a.ts", "GaGa"), ("/b.ts", "GbGb")]);
        world.origin.serve("/c.ts", "", Behaviour::status(404));
        let job = hls_job(&world.origin, "/p.m3u8");
        for _ in 0..2 {
            let error = world.carry(&job).await.unwrap_err();
            assert_eq!(error.class(), Class::Partial, "{}", error.full_message());
            let missing = list(&world, "missing.json").await;
            assert_eq!(missing["missing"].as_array().unwrap().len(), 1);
        }
        // Another one is lost as well: the list says so.
        world.origin.serve("/b.ts", "", Behaviour::status(404));
        world.delete(&format!("{FOLDER}/hls/v0/seg-00001.ts")).await;
        world.carry(&job).await.unwrap_err();
        let missing = list(&world, "missing.json").await;
        assert_eq!(missing["missing"].as_array().unwrap().len(), 2);

        serve_all(&world.origin, &[("/b.ts", "GbGb"), ("/c.ts", "GcGc")]);
        world.carry(&again(&world, &job)).await.unwrap();
        let files = keys_of(&list(&world, "resources.json").await);
        assert_eq!(files.len(), 3);
        assert!(world.object(&format!("{FOLDER}/hls/missing.json")).await.is_none());
    }

    // R18: what went up in parts carries no checksum of its own, and some stores tell none.
    async fn a_large_file_of_a_playlist_is_kept_only_while_it_is_what_the_origin_has(kind: StoreKind) {
        let world = World::on(kind).await;
        let (old, new) = (vec![b'1'; 6 * MIB as usize], vec![b'2'; 6 * MIB as usize]);
        let version = |etag: &str| Behaviour {
            validator: Validator::None,
            headers: vec![("ETag", format!("\"{etag}\""))],
            ..good()
        };
        serve_all(&world.origin, &[("/p.m3u8", PLAYLIST)]);
        for name in ["/a.ts", "/b.ts"] {
            world.origin.serve(name, old.clone(), version("old"));
        }
        world.origin.serve("/c.ts", "", Behaviour::status(404));
        let job = hls_job(&world.origin, "/p.m3u8");
        let error = world.carry(&job).await.unwrap_err();
        assert_eq!(error.class(), Class::Partial, "{}", error.full_message());

        // The first was made anew, of the same size; the second is to be had no longer.
        world.origin.serve("/a.ts", new.clone(), version("new"));
        world.origin.serve("/b.ts", "", Behaviour::status(403));
        serve_all(&world.origin, &[("/c.ts", "GcGc")]);
        world.carry(&again(&world, &job)).await.unwrap_or_else(|e| panic!("{}", e.full_message()));
        let entry = text(&world, "hls/master.m3u8").await;
        let files: Vec<_> = entry.lines().filter(|line| !line.starts_with('#')).collect();
        for (file, content) in files.iter().zip([&new[..], &old, b"GcGc"]) {
            let (bytes, _) = world.object(&format!("{FOLDER}/hls/{file}")).await.unwrap();
            assert!(bytes == content, "{file} in {entry}");
        }
        let listed = list(&world, "resources.json").await;
        let crc = |content: &[u8]| encode_crc64nvme(payload(content).crc64nvme);
        let listed = listed["resources"].as_array().unwrap().iter();
        let found: Vec<_> = listed.map(|file| file["crc64nvme"].as_str().unwrap()).collect();
        assert_eq!(found.len(), 3);
        for content in [&new[..], &old, b"GcGc"] {
            assert!(found.contains(&&*crc(content)), "{found:?}");
        }
    }

    async fn a_zip_is_unpacked_once(kind: StoreKind) {
        let world = World::on(kind).await.with_hls(HlsSettings {
            unpack: true,
            ..HlsSettings::default()
        });
        world.origin.serve("/hls.zip", zip_fixture(), good());
        let job = zip_job(&world);
        world.carry(&job).await.unwrap();
        let keys = keys_of(&list(&world, "resources.json").await);
        let names = ["layer.m3u8", "layer.ts", "master.m3u8"];
        assert_eq!(keys, names.map(|name| format!("{FOLDER}/hls/vod/{name}")));
        let before = world.origin.log().len();
        world.carry(&again(&world, &job)).await.unwrap();
        assert_eq!(world.origin.log().len(), before, "once is enough");
    }

    // R5
    async fn what_landed_before_its_url_died_is_archived(kind: StoreKind) {
        let world = World::on(kind).await;
        world.origin.serve("/file", mp4(90_000), good());
        let job = world.job("/file", Format::Mp4);
        // The object is there, and the worker ends before it hears of that: the attempt is not counted.
        world.store.script(Op::Put, Trouble::AnswerLost, 1);
        world.store.script(Op::Put, Trouble::Fails, 3);
        world.store.script(Op::Head, Trouble::Fails, 8);
        world.carry(&job).await.unwrap_err();
        world.store.forget_script();
        assert!(world.object(&job.key).await.is_some());

        world.origin.serve("/file", "", Behaviour::status(403));
        let handed_back = Job {
            lease_token: 2,
            ..job
        };
        let archived = world.carry(&handed_back).await.unwrap();
        assert_eq!((&archived.key, archived.size_bytes), (&handed_back.key, 90_000));
    }
}

/// A second copy of the harvester, whose database is an older one, meets what the first has archived.
#[tokio::test]
async fn an_equal_object_of_another_job_is_taken_for_the_artifact() {
    let world = World::new().await;
    world.origin.serve("/file", mp4(90_000), good());
    let job = world.job("/file", Format::Mp4);
    let first = world.carry(&job).await.unwrap();
    let restored = Job {
        id: super::world::job(Origin::Url(SignedUrl::new(String::new())), Format::Mp4).id,
        ..job
    };
    assert_eq!(world.carry(&restored).await.unwrap(), first);
}
