//! ZIPs of playlists and segments.

use std::sync::atomic::Ordering;

use recording_harvester::error::Class;
use recording_harvester::model::{Format, Job, Kind};
use recording_harvester::object::s3::S3Store;
use recording_harvester::transfer::hls::HlsSettings;

use super::super::world::World;
use super::{FOLDER, hls_job, keys_of, list};
use crate::harness::origin::Behaviour;
use crate::harness::s3::{Fault, Kind as FaultKind, Op as S3Op, TestS3};

pub fn zip_job(world: &World) -> Job {
    Job {
        key: format!("{FOLDER}/hls.zip"),
        kind: Kind::Hls,
        format: Format::Zip,
        ..hls_job(&world.origin, "/hls.zip")
    }
}

pub fn zip_fixture() -> Vec<u8> {
    std::fs::read(super::fixtures().join("../media/hls.zip")).unwrap()
}

#[tokio::test]
async fn a_zip_is_archived_as_it_is_and_unpacked_if_so_set() {
    let world = World::new().await;
    world
        .origin
        .serve("/hls.zip", zip_fixture(), Behaviour::default());
    let job = zip_job(&world);
    world.carry(&job).await.unwrap();
    assert!(
        world
            .object(&format!("{FOLDER}/hls/vod/master.m3u8"))
            .await
            .is_none()
    );

    let world = world.with_hls(HlsSettings {
        unpack: true,
        ..HlsSettings::default()
    });
    world.carry(&job).await.unwrap();
    let (zip, _) = world.object(&job.key).await.unwrap();
    assert_eq!(zip, zip_fixture());
    let keys = keys_of(&list(&world, "resources.json").await);
    let names = ["layer.m3u8", "layer.ts", "master.m3u8"];
    assert_eq!(keys, names.map(|name| format!("{FOLDER}/hls/vod/{name}")));
    let (media, _) = world
        .object(&format!("{FOLDER}/hls/vod/layer.ts"))
        .await
        .unwrap();
    assert_eq!(media.len(), 78_960);
    let before = world.origin.log().len();
    let again = Job {
        attempts: job.attempts + 1,
        ..job
    };
    world.carry(&again).await.unwrap();
    assert_eq!(world.origin.log().len(), before, "once is enough");
}

#[tokio::test]
async fn f53_a_damaged_zip_is_not_archived() {
    let world = World::new().await;
    let mut zip = zip_fixture();
    zip[5000] ^= 1;
    world.origin.serve("/hls.zip", zip, Behaviour::default());
    let job = zip_job(&world);
    let error = world.carry(&job).await.unwrap_err();
    assert_eq!(error.class(), Class::Corrupt);
    assert!(world.object(&job.key).await.is_none());
}

/// What Python makes of these (name, content).
fn python_zip(entries: &str, options: &str) -> Option<Vec<u8>> {
    let script = format!(
        "import io,os,sys,zipfile\n\
         class Pipe(io.RawIOBase):\n \
          def writable(self): return True\n \
          def write(self,b): return sys.stdout.buffer.write(b)\n\
         z=zipfile.ZipFile(Pipe(),'w'{options})\n\
         for n,c in {entries}: z.writestr(n,c)\n\
         z.close()"
    );
    let made = std::process::Command::new("python3")
        .args(["-c", &script])
        .output();
    let Ok(output) = made else {
        crate::harness::skip("python3 not found");
        return None;
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    Some(output.stdout)
}

#[tokio::test]
async fn f53_stored_entries_that_tell_their_length_behind_themselves_are_checked_and_unpacked() {
    let entries = "[('vod/p.m3u8',b'#EXTM3U'),('vod/s.ts',b'G'*70000),('vod/e.ts',b'')]";
    let Some(sound) = python_zip(entries, "") else {
        return;
    };
    let world = World::new().await.with_hls(HlsSettings {
        unpack: true,
        ..HlsSettings::default()
    });
    world
        .origin
        .serve("/hls.zip", sound.clone(), Behaviour::default());
    world.carry(&zip_job(&world)).await.unwrap();
    let (media, _) = world
        .object(&format!("{FOLDER}/hls/vod/s.ts"))
        .await
        .unwrap();
    assert_eq!(media.len(), 70_000);

    let mut damaged = sound;
    damaged[5000] ^= 1;
    let world = World::new().await;
    world
        .origin
        .serve("/hls.zip", damaged, Behaviour::default());
    let error = world.carry(&zip_job(&world)).await.unwrap_err();
    assert_eq!(error.class(), Class::Corrupt, "{}", error.full_message());
}

#[tokio::test]
async fn names_of_our_own_documents_are_not_taken_by_entries() {
    let entries =
        "[('p.m3u8',b'#EXTM3U'),('resources.json',b'no list of ours'),('Missing.json',b'{}')]";
    let Some(zip) = python_zip(entries, ",compression=zipfile.ZIP_DEFLATED") else {
        return;
    };
    let world = World::new().await.with_hls(HlsSettings {
        unpack: true,
        ..HlsSettings::default()
    });
    world.origin.serve("/hls.zip", zip, Behaviour::default());
    let job = zip_job(&world);
    world.carry(&job).await.unwrap();
    let list = list(&world, "resources.json").await;
    assert_eq!(keys_of(&list), [format!("{FOLDER}/hls/p.m3u8")]);
    let notes = list["notes"].as_array().unwrap();
    assert_eq!(notes.len(), 2, "{notes:?}");
    let found =
        recording_harvester::transfer::hls::resources(&*world.store, job.id, &job.key).await;
    assert_eq!(found.unwrap().len(), 1);
}

#[tokio::test]
async fn a_zip_is_unpacked_though_its_url_has_died() {
    // R18.
    let world = World::new().await.with_hls(HlsSettings {
        unpack: true,
        ..HlsSettings::default()
    });
    let once = Behaviour {
        valid_for_requests: Some(1),
        ..Behaviour::default()
    };
    world.origin.serve("/hls.zip", zip_fixture(), once);
    let job = zip_job(&world);
    world.carry(&job).await.unwrap();
    let keys = keys_of(&list(&world, "resources.json").await);
    assert_eq!(keys.len(), 3);
    assert_eq!(world.origin.requests("/hls.zip").len(), 1);
}

#[tokio::test]
async fn a_zip_of_very_many_entries_is_kept_as_it_is() {
    let world = World::new().await.with_hls(HlsSettings {
        unpack: true,
        ..HlsSettings::default()
    });
    let entries = "[(str(n),b'') for n in range(20001)]";
    let Some(zip) = python_zip(entries, "") else {
        return;
    };
    world
        .origin
        .serve("/hls.zip", zip.clone(), Behaviour::default());
    let job = zip_job(&world);
    let error = world.carry(&job).await.unwrap_err();
    assert_eq!(error.class(), Class::Partial);
    let message = error.full_message();
    assert!(message.contains("more than 20000 entries"), "{message}");
    let (kept, _) = world.object(&job.key).await.unwrap();
    assert_eq!(kept, zip);
}

// R18
#[tokio::test]
async fn a_large_entry_is_not_completed_by_who_has_lost_the_lease() {
    let s3 = TestS3::start().await;
    let world = World::new()
        .await
        .archiving_in(S3Store::connect(s3.settings()).await.unwrap())
        .with_hls(HlsSettings {
            unpack: true,
            ..HlsSettings::default()
        });
    // Small as an archive and of several parts without.
    let entries = "[('vod/a.ts', (os.urandom(200000) + bytes(800000)) * 7)]";
    let Some(zip) = python_zip(entries, ",compression=zipfile.ZIP_DEFLATED") else {
        return;
    };
    world.origin.serve("/hls.zip", zip, Behaviour::default());
    let job = zip_job(&world);
    s3.fail(Fault::always(S3Op::UploadPart, FaultKind::Held));
    let lost = async {
        s3.wait_for(S3Op::UploadPart, 1).await;
        assert!(world.object(&job.key).await.is_some(), "it is unpacked");
        world.ledger.is_held.store(false, Ordering::SeqCst);
        s3.heal();
    };
    let (carried, ()) = tokio::join!(world.carry(&job), lost);
    let error = carried.unwrap_err();
    assert_eq!(
        (error.class(), error.is_transient()),
        (Class::Internal, true)
    );
    assert_eq!(s3.count(S3Op::Complete), 0);
    let key = format!("{FOLDER}/hls/vod/a.ts");
    assert!(world.object(&key).await.is_none());
    assert!(s3.open_uploads().await.is_empty());
}

// R18
#[tokio::test]
async fn a_large_entry_whose_completion_fails_is_completed_again_only_under_the_lease() {
    let s3 = TestS3::start().await;
    let world = World::new()
        .await
        .archiving_in(S3Store::connect(s3.settings()).await.unwrap())
        .with_hls(HlsSettings {
            unpack: true,
            ..HlsSettings::default()
        });
    let entries = "[('vod/a.ts', (os.urandom(200000) + bytes(800000)) * 7)]";
    let Some(zip) = python_zip(entries, ",compression=zipfile.ZIP_DEFLATED") else {
        return;
    };
    world.origin.serve("/hls.zip", zip, Behaviour::default());
    let job = zip_job(&world);
    s3.fail(Fault::times(S3Op::Complete, 4, FaultKind::InternalError));
    let lost = async {
        s3.wait_for(S3Op::Complete, 1).await;
        world.ledger.is_held.store(false, Ordering::SeqCst);
    };
    let (carried, ()) = tokio::join!(world.carry(&job), lost);
    let error = carried.unwrap_err();
    assert_eq!(error.class(), Class::Internal, "{}", error.full_message());
    let key = format!("{FOLDER}/hls/vod/a.ts");
    assert!(world.object(&key).await.is_none());
}
