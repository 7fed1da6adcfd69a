//! The end of an upload: an object is called archived only when it is there and is what was sent.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use jiff::Timestamp;
use recording_harvester::error::Class;
use recording_harvester::model::{Deadline, DeadlineFrom, Format, Job};
use recording_harvester::object::s3::S3Store;
use recording_harvester::transfer::TransferSettings;

use super::world::{MIB, Op, Trouble, World, mp4, small_parts};
use crate::harness::origin::Behaviour;
use crate::harness::s3::{Fault, Kind as FaultKind, Op as S3Op, TestS3};

fn good() -> Behaviour {
    Behaviour::default()
}

#[tokio::test]
async fn f58_unclear_endings_are_looked_at_before_they_are_judged() {
    for (op, size) in [(Op::Put, 90_000), (Op::Complete, 7 * MIB)] {
        for (trouble, times) in [
            (Trouble::AnswerLost, 1),
            (Trouble::DoneButUnclear, 1),
            (Trouble::Unclear, 2),
            (Trouble::Lies, 2),
            (Trouble::Fails, 2),
        ] {
            let world = World::new().await;
            world.origin.serve("/file", mp4(size), good());
            world.store.script(op, trouble, times);
            let job = world.job("/file", Format::Mp4);
            let archived = world.carry(&job).await;
            let archived = archived.unwrap_or_else(|e| panic!("{op:?} {trouble:?}: {e}"));
            assert_eq!((archived.key, archived.size_bytes), (job.key.clone(), size));
            assert!(world.store.is_script_played());
            assert_eq!(
                world.origin.requests("/file").len(),
                1,
                "{op:?} {trouble:?}"
            );
        }
    }
}

#[tokio::test]
async fn f58_an_upload_that_vanished_is_begun_again() {
    let world = World::new().await;
    world.origin.serve("/file", mp4(12 * MIB), good());
    world.store.script(Op::Complete, Trouble::UploadGone, 1);
    world.carry(&world.job("/file", Format::Mp4)).await.unwrap();
    assert_eq!(world.origin.requests("/file").len(), 2);
}

#[tokio::test]
async fn somebody_elses_object_is_never_overwritten() {
    for size in [90_000, 7 * MIB] {
        // There from the start, twice.
        let world = World::new().await;
        world.origin.serve("/file", mp4(size), good());
        let job = world.job("/file", Format::Mp4);
        let second = job.key.replace("recording.mp4", "recording-2.mp4");
        world.put_other(&job.key).await;
        world.put_other(&second).await;
        let archived = world.carry(&job).await.unwrap();
        assert_eq!(
            archived.key,
            job.key.replace("recording.mp4", "recording-3.mp4")
        );
        assert_eq!(
            &world.object(&job.key).await.unwrap().0[..],
            b"somebody else's"
        );
        assert_eq!(
            world.object(&archived.key).await.unwrap().1.size_bytes,
            size
        );

        // Appearing while we carry.
        let world = World::new().await;
        world.origin.serve("/file", mp4(size), good());
        let job = world.job("/file", Format::Mp4);
        world.store.script(Op::Put, Trouble::Overtaken, 1);
        world.store.script(Op::Complete, Trouble::Overtaken, 1);
        let archived = world.carry(&job).await.unwrap();
        assert_eq!(archived.key, second);
        assert_eq!(
            &world.object(&job.key).await.unwrap().0[..],
            b"somebody else's"
        );
    }
}

#[tokio::test]
async fn f81_an_object_that_is_there_already_is_not_fetched_again() {
    let world = World::new().await;
    world.origin.serve("/file", mp4(12 * MIB), good());
    let mut job = world.job("/file", Format::Mp4);
    let first = world.carry(&job).await.unwrap();
    // What is left of an attempt that was killed before it could settle.
    job.checkpoint = world.ledger.last.lock().unwrap().clone();
    assert_eq!(world.carry(&job).await.unwrap(), first);
    job.size_bytes = Some(12 * MIB);
    assert_eq!(world.carry(&job).await.unwrap(), first);
    assert_eq!(world.origin.requests("/file").len(), 1);
    // Without a note only its content tells, and nothing is written twice.
    job.checkpoint = None;
    *world.ledger.last.lock().unwrap() = None;
    assert_eq!(world.carry(&job).await.unwrap(), first);
    assert_eq!(world.origin.requests("/file").len(), 2);
}

#[tokio::test]
async fn f81_a_small_object_tells_itself_what_it_should_be() {
    let world = World::with(TransferSettings {
        sha256: true,
        ..small_parts()
    })
    .await;
    world.origin.serve("/file", mp4(90_000), good());
    let mut job = world.job("/file", Format::Mp4);
    let first = world.carry(&job).await.unwrap();
    assert!(first.sha256.is_some());
    job.attempts += 1;
    assert_eq!(world.carry(&job).await.unwrap(), first);
    assert_eq!(world.origin.requests("/file").len(), 1);
}

#[tokio::test]
async fn f59_an_object_of_ours_that_is_not_what_was_sent_is_never_called_archived() {
    for (op, size) in [(Op::Put, 90_000), (Op::Complete, 7 * MIB)] {
        // The bucket shows another length than was sent.
        let world = World::new().await;
        world.origin.serve("/file", mp4(size), good());
        let mut job = world.job("/file", Format::Mp4);
        world.store.script(Op::Head, Trouble::Lies, 50);
        let error = world.carry(&job).await.unwrap_err();
        assert_eq!(error.class(), Class::UploadFailed, "{op:?}: {error}");
        assert!(error.is_transient());
        job.checkpoint = world.ledger.last.lock().unwrap().clone();
        job.attempts += 1;
        let lied = world.store.forget_script();
        assert!(lied < 50, "it was asked");

        // It is right after all: nothing is carried again.
        let archived = world.carry(&job).await.unwrap();
        assert_eq!((&archived.key, archived.size_bytes), (&job.key, size));
        assert_eq!(world.origin.requests("/file").len(), 1, "{op:?}");

        // It is wrong indeed, also when nobody has noted what it should be.
        for checkpoint in [job.checkpoint.clone(), None] {
            world.put_wrong(&job).await;
            job.checkpoint = checkpoint;
            let archived = world.carry(&job).await.unwrap();
            assert_eq!(archived.key, job.key, "{op:?}: it is replaced");
            assert!(world.object(&job.key).await.unwrap().0 == mp4(size));
        }
    }
}

#[tokio::test]
async fn f58_a_conflict_is_looked_at_and_then_begun_again_with_a_new_upload() {
    let world = World::new().await;
    world.origin.serve("/file", mp4(12 * MIB), good());
    world.store.script(Op::Complete, Trouble::Conflict, 2);
    world.carry(&world.job("/file", Format::Mp4)).await.unwrap();
    assert_eq!(world.origin.requests("/file").len(), 2);
    assert!(world.store.is_script_played());

    // One may have met our own request, whose answer was lost: nothing is carried again for that.
    let world = World::new().await;
    world.origin.serve("/file", mp4(12 * MIB), good());
    world.store.script(Op::Complete, Trouble::Conflict, 1);
    world.carry(&world.job("/file", Format::Mp4)).await.unwrap();
    assert_eq!(world.origin.requests("/file").len(), 1);

    // All parts can't be had again once the URL is dead: then the upload that there is may still do.
    let world = World::new().await;
    world.origin.serve("/file", mp4(12 * MIB), good());
    world.store.script(Op::Complete, Trouble::Conflict, 2);
    let dead = Job {
        deadline: Deadline::at(Timestamp::UNIX_EPOCH, DeadlineFrom::Query),
        ..world.job("/file", Format::Mp4)
    };
    world.carry(&dead).await.unwrap();
    assert_eq!(world.origin.requests("/file").len(), 1);

    // The other write was of the same content: it is found, and the upload that it made useless is aborted.
    let world = World::new().await;
    world.origin.serve("/file", mp4(12 * MIB), good());
    let job = world.job("/file", Format::Mp4);
    world.carry(&job).await.unwrap();
    *world.ledger.last.lock().unwrap() = None;
    for trouble in [None, Some(Trouble::Conflict), Some(Trouble::Fails)] {
        world.store.script_next(Op::Complete, trouble);
        world.carry(&job).await.unwrap();
        assert!(world.store.open_uploads().await.is_empty(), "{trouble:?}");
    }
}

#[tokio::test]
async fn f87_nothing_is_sealed_without_the_lease() {
    for size in [90_000, 7 * MIB] {
        let world = World::new().await;
        world.origin.serve("/file", mp4(size), good());
        world.ledger.is_held.store(false, Ordering::SeqCst);
        let job = world.job("/file", Format::Mp4);
        let error = world.carry(&job).await.unwrap_err();
        assert_eq!(
            (error.class(), error.is_transient()),
            (Class::Internal, true)
        );
        assert!(world.object(&job.key).await.is_none());
    }
}

// R16
#[tokio::test]
async fn f87_who_has_lost_the_lease_leaves_the_upload_to_its_new_holder() {
    let world = World::new().await;
    world.origin.serve("/file", mp4(12 * MIB), good());
    world.store.script(Op::Part, Trouble::Denied, 50);
    world.ledger.is_held.store(false, Ordering::SeqCst);
    let job = world.job("/file", Format::Mp4);
    world.carry(&job).await.unwrap_err();
    assert_eq!(world.store.open_uploads().await.len(), 1);
    // While it is ours, an upload without a part is nothing to go on with.
    world.abandon(&job).await;
    world.ledger.is_held.store(true, Ordering::SeqCst);
    world.carry(&job).await.unwrap_err();
    assert!(world.store.open_uploads().await.is_empty());
}

// D10
#[tokio::test]
async fn what_a_store_shows_with_a_wrong_checksum_is_replaced_and_not_copied() {
    for (op, size) in [(Op::Put, 90_000), (Op::Complete, 7 * MIB)] {
        let world = World::new().await;
        world.origin.serve("/file", mp4(size), good());
        let mut job = world.job("/file", Format::Mp4);
        let mut last = String::new();
        for _ in 0..3 {
            world.store.script(Op::Head, Trouble::Damages, 50);
            let error = world.carry(&job).await.unwrap_err();
            assert_eq!(
                (error.class(), error.is_transient()),
                (Class::UploadFailed, true)
            );
            last = error.full_message();
            world.store.forget_script();
            job.checkpoint = world.ledger.last.lock().unwrap().clone();
            job.lease_token += 1;
            job.attempts += 1;
        }
        assert!(last.contains("not to be believed"), "{op:?}: {last}");
        let second = job.key.replace("recording.mp4", "recording-2.mp4");
        assert!(world.object(&second).await.is_none(), "{op:?}: no copies");
        // The store is mended.
        let archived = world.carry(&job).await.unwrap();
        assert_eq!(archived.key, job.key);
    }
}

// D10: the content that comes back is right, so what is wrong is what the store says of it.
#[tokio::test]
async fn a_store_whose_checksums_are_wrong_is_found_out_by_reading_back() {
    for size in [90_000, 7 * MIB] {
        let s3 = TestS3::start().await;
        let bogus = FaultKind::ShownCrc64(Some("AAAAAAAAAAE="));
        for op in [S3Op::HeadObject, S3Op::GetObject, S3Op::PutObject] {
            s3.fail(Fault::always(op, bogus));
        }
        let world = World::new()
            .await
            .archiving_in(S3Store::connect(s3.settings()).await.unwrap());
        world.origin.serve("/file", mp4(size), good());
        let mut job = world.job("/file", Format::Mp4);
        let mut tried = 0;
        let archived = loop {
            tried += 1;
            match world.carry(&job).await {
                Ok(archived) => break archived,
                Err(error) if tried < 3 => assert!(error.is_transient(), "{error}"),
                Err(error) => panic!("{}", error.full_message()),
            }
            job.checkpoint = world.ledger.last.lock().unwrap().clone();
            job.lease_token += 1;
        };
        assert_eq!((&archived.key, archived.size_bytes), (&job.key, size));
        assert!(s3.object(&job.key).await.unwrap() == mp4(size));
    }
}

// R5: the second transfer of one lease, after a fresh URL.
#[tokio::test]
async fn before_a_dead_url_is_a_loss_it_is_looked_once() {
    let world = World::new().await;
    world.origin.serve("/file", mp4(90_000), good());
    let job = world.job("/file", Format::Mp4);
    world.carry(&job).await.unwrap();
    world.origin.serve("/file", "", Behaviour::status(403));
    let archived = world.carry(&job).await.unwrap();
    assert_eq!((&archived.key, archived.size_bytes), (&job.key, 90_000));
}

/// As with `deploy/aws/bucket-policy.json`: what has no `If-None-Match` is denied.
#[tokio::test]
async fn where_nothing_may_be_replaced_ours_gets_the_next_name() {
    for (op, size) in [(Op::Put, 90_000), (Op::Complete, 7 * MIB)] {
        let world = World::new().await;
        world.origin.serve("/file", mp4(size), good());
        let job = Job {
            lease_token: 2,
            ..world.job("/file", Format::Mp4)
        };
        world.put_wrong(&job).await;
        world.store.script(Op::Replace, Trouble::Denied, 9);
        let archived = world.carry(&job).await.unwrap();
        let second = job.key.replace("recording.mp4", "recording-2.mp4");
        assert_eq!(archived.key, second, "{op:?}");
        assert!(world.object(&second).await.unwrap().0 == mp4(size));
    }
}

// D10: moto without its CRC library tells a CRC32 in the place of the CRC64NVME of what went up in parts.
#[tokio::test]
async fn a_store_that_tells_half_a_checksum_of_an_upload_gets_it_once() {
    let s3 = TestS3::start().await;
    let short = FaultKind::ShownCrc64(Some("Wv7AmA=="));
    s3.fail(Fault::always(S3Op::HeadObject, short));
    let world = World::new()
        .await
        .archiving_in(S3Store::connect(s3.settings()).await.unwrap());
    world.origin.serve("/file", mp4(7 * MIB), good());
    let job = world.job("/file", Format::Mp4);
    let archived = world.carry(&job).await.unwrap();
    assert_eq!((&archived.key, archived.size_bytes), (&job.key, 7 * MIB));
    let requests = s3.requests();
    let parts = requests.iter().filter(|seen| seen.op == S3Op::UploadPart);
    let uploads: HashSet<_> = parts.map(|seen| &seen.upload_id).collect();
    assert_eq!(uploads.len(), 1, "it is carried once");
    assert_eq!(world.origin.requests("/file").len(), 1);
    assert!(s3.object(&job.key).await.unwrap() == mp4(7 * MIB));
}
