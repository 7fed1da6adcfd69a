//! Several lanes for one object, and going on after a stop.

use std::time::Duration;

use recording_harvester::error::Class;
use recording_harvester::model::{Format, Job};
use recording_harvester::transfer::TransferSettings;
use tokio_util::sync::CancellationToken;

use super::world::{MIB, Op, Trouble, World, mp4, small_parts};
use crate::harness::origin::{Behaviour, Fault, Ranges, Validator};
use crate::harness::stores::StoreKind;

/// An origin that gives every connection about `mib` MiB a second.
pub fn throttled(mib: u64) -> Behaviour {
    Behaviour::fault(Fault::Trickle(
        64 * 1024,
        Duration::from_micros(1_000_000 / (16 * mib)),
    ))
}

fn many_lanes() -> TransferSettings {
    TransferSettings {
        lanes: 8,
        ..small_parts()
    }
}

/// An MP4 in fragments: boxes all over the file, none of them where a part begins.
fn fragmented(size: u64) -> Vec<u8> {
    let mut bytes = mp4(2 * MIB);
    let mut random = fastrand::Rng::with_seed(size);
    while (bytes.len() as u64) < size {
        bytes.extend_from_slice(b"\0\0\0\x10moofabcdefgh");
        let media = random.u32(50_000..400_000);
        bytes.extend_from_slice(&(media + 8).to_be_bytes());
        bytes.extend_from_slice(b"mdat");
        let at = random.usize(..bytes.len() / 2);
        bytes.extend_from_within(at..at + media as usize);
    }
    bytes
}

pub async fn archive(world: &World, job: &Job, content: &[u8]) {
    world
        .carry(job)
        .await
        .unwrap_or_else(|e| panic!("{}", e.full_message()));
    let (bytes, _) = world.object(&job.key).await.unwrap();
    assert!(bytes == content, "the bytes differ");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_throttled_origin_is_read_over_several_lanes() {
    let world = World::with(many_lanes()).await;
    for (path, content) in [
        ("/plain", mp4(60 * MIB)),
        ("/fragments", fragmented(60 * MIB)),
    ] {
        world.origin.serve(path, content.clone(), throttled(8));
        let mut job = world.job(path, Format::Mp4);
        job.key = format!("lanes{path}");
        archive(&world, &job, &content).await;
        let requests = world.origin.requests(path);
        assert!(
            (3..20).contains(&requests.len()),
            "{path}: {}",
            requests.len()
        );
        assert!(requests[1..].iter().all(|r| r.header("range").is_some()));
        assert!(
            requests[1..]
                .iter()
                .all(|r| r.header("if-range") == Some("\"v1\""))
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_lane_is_enough_where_more_are_not_to_be_had() {
    let world = World::with(many_lanes()).await;
    let cases = [
        ("/ignored", Ranges::Ignored, Validator::Strong),
        ("/unknown", Ranges::Unknown, Validator::Strong),
        ("/weak", Ranges::Honoured, Validator::Weak),
        ("/changing", Ranges::Honoured, Validator::Changing),
        ("/wrong", Ranges::WrongStart, Validator::Strong),
    ];
    for (path, ranges, validator) in cases {
        let content = mp4(24 * MIB);
        let behaviour = Behaviour {
            ranges,
            validator,
            ..throttled(20)
        };
        world.origin.serve(path, content.clone(), behaviour);
        let mut job = world.job(path, Format::Mp4);
        job.key = format!("one{path}");
        archive(&world, &job, &content).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lanes_that_break_lose_nothing() {
    let world = World::with(many_lanes()).await;
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    for number in 0..4 {
        let content = mp4(24 * MIB + random.u64(..MIB));
        let path = format!("/cut-{number}");
        let at = random.usize(1 << 20..8 << 20);
        let behaviour = // Fewer than the resumes that may bring nothing: a reset takes what was not read yet along.
            Behaviour::fault_at_first(
            4,
            match number % 2 {
                0 => Fault::CutAfter(at),
                _ => Fault::ResetAfter(at),
            },
        );
        world.origin.serve(&path, content.clone(), behaviour);
        let mut job = world.job(&path, Format::Mp4);
        job.key = format!("broken{path}");
        #[expect(clippy::print_stderr, reason = "a failure is replayed by its seed")]
        {
            eprintln!("seed {seed}, {path} breaks after {at} bytes");
        }
        archive(&world, &job, &content).await;
    }
}

/// Serves `content` up to `bytes`, carries until the bucket has that, then stops as a shutdown does. The
/// job has the checkpoint after, and `content` is served whole.
async fn stop_after(world: &World, job: &mut Job, path: &str, content: &[u8], bytes: usize) -> u64 {
    let stalls = Behaviour::fault(Fault::StallAfter(bytes));
    world.origin.serve(path, content.to_vec(), stalls);
    let cancel = CancellationToken::new();
    let key = job.key.clone();
    let watch = async {
        while world.landed_parts(&key).await < bytes / (5 << 20) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        cancel.cancel();
    };
    let (result, ()) = tokio::join!(world.carry_until(job, &cancel), watch);
    let error = result.unwrap_err();
    assert_eq!(
        (error.class(), error.is_transient()),
        (Class::Internal, true)
    );
    world
        .origin
        .serve(path, content.to_vec(), Behaviour::default());
    job.checkpoint = world.ledger.last.lock().unwrap().clone();
    let parts = &job.checkpoint.as_ref().expect("it is noted").parts;
    parts.iter().map(|part| part.size_bytes).sum()
}

/// The bytes that were told not to be needed again: what was noted, and what landed beyond that.
fn resumed_from(world: &World) -> u64 {
    match world.resumed.lock().unwrap()[..] {
        [(done, None)] => done,
        ref told => panic!("{told:?}"),
    }
}

fn bytes_asked(world: &World, path: &str, from: usize, size: u64) -> u64 {
    let requests = world.origin.requests(path);
    let ranges = requests[from..].iter().map(|request| {
        let range = request.header("range").expect("only ranges are asked for");
        let (start, last) = range["bytes=".len()..].split_once('-').unwrap();
        let end = last.parse::<u64>().map_or(size, |last| last + 1);
        end - start.parse::<u64>().unwrap()
    });
    ranges.sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f79_after_a_stop_only_what_is_missing_is_transferred() {
    for content in [mp4(32 * MIB), fragmented(32 * MIB)] {
        let size = content.len() as u64;
        let world = World::with(TransferSettings {
            lanes: 1,
            ..small_parts()
        })
        .await;
        let mut job = world.job("/file", Format::Mp4);
        let done = stop_after(&world, &mut job, "/file", &content, 22 << 20).await;
        assert!(done >= 5 * MIB, "{done}");
        let before = world.origin.requests("/file").len();
        archive(&world, &job, &content).await;
        let resumed = resumed_from(&world);
        assert!(resumed >= done, "{resumed} of {done}");
        assert_eq!(bytes_asked(&world, "/file", before, size), size - resumed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f79_parts_that_landed_before_they_were_noted_are_not_fetched_again() {
    let world = World::with(TransferSettings {
        lanes: 1,
        ..small_parts()
    })
    .await;
    let content = mp4(32 * MIB);
    let size = content.len() as u64;
    let mut job = world.job("/file", Format::Mp4);
    let done = stop_after(&world, &mut job, "/file", &content, 22 << 20).await;
    // As a kill leaves it: all that was noted is the first part.
    let checkpoint = job.checkpoint.as_mut().unwrap();
    assert!(checkpoint.parts.len() > 1);
    checkpoint.parts.truncate(1);
    let before = world.origin.requests("/file").len();
    archive(&world, &job, &content).await;
    let resumed = resumed_from(&world);
    // What nobody has noted is believed by the checksum that the store tells of it.
    let believed = match StoreKind::of_this_run().tells_checksums() {
        true => done,
        false => 5 * MIB,
    };
    assert!(resumed >= believed, "{resumed} of {done}");
    assert_eq!(bytes_asked(&world, "/file", before, size), size - resumed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f80_with_all_parts_there_nothing_is_asked_of_the_origin() {
    let world = World::new().await;
    let content = mp4(12 * MIB);
    world
        .origin
        .serve("/file", content.clone(), Behaviour::default());
    let mut job = world.job("/file", Format::Mp4);
    world.store.script(Op::Complete, Trouble::Fails, 50);
    let error = world.carry(&job).await.unwrap_err();
    assert_eq!(error.class(), Class::UploadFailed);
    world.store.forget_script();
    job.checkpoint = world.ledger.last.lock().unwrap().clone();
    archive(&world, &job, &content).await;
    assert_eq!(world.origin.requests("/file").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_be_resumed_begins_from_zero_and_says_so() {
    let world = World::with(TransferSettings {
        lanes: 1,
        ..small_parts()
    })
    .await;
    // The content changed at the origin.
    let mut job = world.job("/file", Format::Mp4);
    stop_after(&world, &mut job, "/file", &mp4(24 * MIB), 12 << 20).await;
    let changed = mp4(24 * MIB + 7);
    let behaviour = Behaviour {
        validator: Validator::Date,
        ..Behaviour::default()
    };
    world.origin.serve("/file", changed.clone(), behaviour);
    archive(&world, &job, &changed).await;
    let (done, why) = world.resumed.lock().unwrap().last().cloned().unwrap();
    assert_eq!(done, 0);
    assert!(why.unwrap().contains("changed"));

    // The upload is gone.
    let mut job = world.job("/gone", Format::Mp4);
    job.key = "gone".to_owned();
    stop_after(&world, &mut job, "/gone", &changed, 12 << 20).await;
    world.abandon(&job).await;
    archive(&world, &job, &changed).await;
    let (done, why) = world.resumed.lock().unwrap().last().cloned().unwrap();
    assert_eq!(done, 0);
    assert!(why.unwrap().contains("no longer knows the upload"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_an_archive_is_seen_again_after_a_stop() {
    let world = World::with(TransferSettings {
        lanes: 1,
        ..small_parts()
    })
    .await;
    let mut tar = vec![7; 30 << 20];
    tar[257..262].copy_from_slice(b"ustar");
    tar.extend_from_slice(&[0; 1024]);
    let mut job = world.job("/tar", Format::Tar);
    stop_after(&world, &mut job, "/tar", &tar, 22 << 20).await;
    archive(&world, &job, &tar).await;
    // One that lost its end is found out all the same.
    tar.truncate((29 << 20) + 100);
    let mut job = world.job("/cut", Format::Tar);
    job.key = "cut.tar".to_owned();
    stop_after(&world, &mut job, "/cut", &tar, 22 << 20).await;
    let error = world.carry(&job).await.unwrap_err();
    assert_eq!(error.class(), Class::Corrupt, "{error}");
    assert!(world.object("cut.tar").await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_url_that_died_while_it_was_read_is_resumed_with_a_fresh_one() {
    let world = World::with(TransferSettings {
        lanes: 1,
        ..small_parts()
    })
    .await;
    let content = mp4(30 * MIB);
    let dying = Behaviour {
        valid_for_requests: Some(1),
        ..Behaviour::fault(Fault::CutAfter(20 << 20))
    };
    world.origin.serve("/old", content.clone(), dying);
    let mut job = world.job("/old", Format::Mp4);
    let error = world.carry(&job).await.unwrap_err();
    assert_eq!(error.class(), Class::Denied);
    world
        .origin
        .serve("/fresh", content.clone(), Behaviour::default());
    job.origin = world.job("/fresh", Format::Mp4).origin;
    job.checkpoint = world.ledger.last.lock().unwrap().clone();
    archive(&world, &job, &content).await;
    let size = content.len() as u64;
    assert!(bytes_asked(&world, "/fresh", 0, size) <= 15 * MIB);
    let resumed = world.resumed.lock().unwrap().clone();
    assert!(matches!(resumed[..], [(15.., None)]), "{resumed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_further_lanes_meet_the_object_is_whole() {
    let world = World::with(many_lanes()).await.impatient();
    let status = |code, headers| Fault::Status(code, headers, String::new());
    let faults = [
        ("f22 cut", Fault::CutAfter(1 << 20)),
        ("reset", Fault::ResetAfter(1 << 20)),
        ("cut at once", Fault::CutAfter(0)),
        ("f34 stall", Fault::StallAfter(1 << 20)),
        (
            "f34 a trickle",
            Fault::Trickle(1, Duration::from_millis(50)),
        ),
        ("no answer", Fault::Hang),
        ("reset in the head", Fault::ResetInHead),
        ("f15", status(403, vec![])),
        ("f16", status(404, vec![])),
        ("f28", status(416, vec![])),
        ("f17", status(429, vec![("Retry-After", "3600".to_owned())])),
        ("f17 bare", status(429, vec![])),
        ("f18", status(503, vec![])),
        ("f36 a dead end", Fault::Redirect("/first-class".to_owned())),
        (
            "f36 metadata",
            Fault::Redirect("http://169.254.169.254/latest".to_owned()),
        ),
    ];
    let content = mp4(28 * MIB);
    let mut lanes = 0;
    for (number, (name, fault)) in faults.into_iter().enumerate() {
        let path = format!("/fault-{number}");
        let Fault::Trickle(piece, pause) = throttled(14).fault else {
            unreachable!()
        };
        let behaviour = Behaviour {
            first: Some(Fault::Trickle(piece, pause)),
            fault_times: 6,
            ..Behaviour::fault(fault)
        };
        world.origin.serve(&path, content.clone(), behaviour);
        let mut job = world.job(&path, Format::Mp4);
        job.key = format!("faults{path}");
        let archived = world.carry(&job).await;
        archived.unwrap_or_else(|e| panic!("{name}: {}", e.full_message()));
        let (bytes, _) = world.object(&job.key).await.unwrap();
        assert!(bytes == content, "{name}: the bytes differ");
        lanes += world.origin.requests(&path).len() - 1;
    }
    assert!(lanes >= 14, "further lanes were tried: {lanes}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_stream_that_lives_is_not_cut() {
    let world = World::new().await.impatient();
    // 64 kbit/s; the source of these tests asks for 2,000 bytes a second.
    let slow = Behaviour::fault(Fault::Trickle(400, Duration::from_millis(49)));
    world.origin.serve("/slow", mp4(16_000), slow);
    archive(&world, &world.job("/slow", Format::Mp4), &mp4(16_000)).await;
    assert_eq!(world.origin.requests("/slow").len(), 1);
}
/// Parts 3 and 4 of ten are in the bucket, as lanes that were stopped leave them: two gaps are left.
async fn with_two_gaps(world: &World, job: &mut Job, content: &[u8]) {
    let key = job.key.clone();
    let checkpoint = world.upload_parts(job, &key, content, &[3, 4]).await;
    job.checkpoint = Some(checkpoint);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_refused_lane_leaves_is_asked_for_once_more_over_one_connection() {
    let world = World::with(TransferSettings {
        lanes: 2,
        ..small_parts()
    })
    .await;
    let content = mp4(48 * MIB);
    // A limit of connections that answers as a dead URL does.
    let limited = Behaviour {
        most_at_once: Some(1),
        ..throttled(40)
    };
    world.origin.serve("/file", content.clone(), limited);
    let mut job = world.job("/file", Format::Mp4);
    with_two_gaps(&world, &mut job, &content).await;
    archive(&world, &job, &content).await;
    let asked = world.origin.requests("/file").len();
    assert!(asked >= 3, "a lane was refused in between: {asked}");

    // What stays refused fails with what the origin said, after one more request.
    let dead = Behaviour {
        valid_for_requests: Some(1),
        ..throttled(40)
    };
    world.origin.serve("/dead", content.clone(), dead);
    let mut job = world.job("/dead", Format::Mp4);
    job.key = "dead.mp4".to_owned();
    with_two_gaps(&world, &mut job, &content).await;
    let error = world.carry(&job).await.unwrap_err();
    assert_eq!(error.class(), Class::Denied, "{error}");
    assert_eq!(world.origin.requests("/dead").len(), 3);
    world.abandon(&job).await;
}
