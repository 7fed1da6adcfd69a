//! Artifacts carried from an origin that misbehaves into a real S3 API: archived byte for byte, or
//! failed with the right class, and nothing left behind.

use std::time::Duration;

use recording_harvester::error::Class;
use recording_harvester::model::{Format, Origin};
use recording_harvester::object::encode_crc64nvme;
use recording_harvester::transfer::{JOB_METADATA_KEY, TransferSettings};
use tokio_util::sync::CancellationToken;

use super::world::{MIB, Op, Trouble, World, job, mp4, small_parts};
use crate::harness::origin::{Behaviour, Fault, Framing, Ranges, Validator};

/// What a case must end in.
enum End {
    Archived,
    Fails(Class, &'static str),
}

struct Case {
    name: &'static str,
    format: Format,
    content: Vec<u8>,
    behaviour: Behaviour,
    told: Option<u64>,
    end: End,
    /// Requests that the origin must have seen.
    requests: Option<usize>,
}

fn archives(name: &'static str, content: Vec<u8>, behaviour: Behaviour) -> Case {
    Case {
        name,
        format: Format::Mp4,
        content,
        behaviour,
        told: None,
        end: End::Archived,
        requests: None,
    }
}

fn fails(
    name: &'static str,
    content: Vec<u8>,
    behaviour: Behaviour,
    class: Class,
    words: &'static str,
) -> Case {
    Case {
        end: End::Fails(class, words),
        ..archives(name, content, behaviour)
    }
}

impl Case {
    fn told(mut self, size: u64) -> Case {
        self.told = Some(size);
        self
    }

    fn format(mut self, format: Format) -> Case {
        self.format = format;
        self
    }

    fn requests(mut self, count: usize) -> Case {
        self.requests = Some(count);
        self
    }
}

async fn play(cases: Vec<Case>) {
    play_in(World::new().await, cases).await;
}

async fn play_in(world: World, cases: Vec<Case>) {
    for (number, case) in cases.into_iter().enumerate() {
        let name = case.name;
        let path = format!("/case-{number}");
        world
            .origin
            .serve(&path, case.content.clone(), case.behaviour);
        let mut job = world.job(&path, case.format);
        job.key = format!("case-{number}/file");
        job.size_bytes = case.told;
        let result = world.carry(&job).await;
        match case.end {
            End::Archived => {
                let archived = result.unwrap_or_else(|e| panic!("{name}: {}", e.full_message()));
                assert_eq!(archived.key, job.key, "{name}");
                let (bytes, info) = world.object(&job.key).await.expect(name);
                assert!(bytes == case.content, "{name}: the bytes differ");
                let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, &case.content);
                assert_eq!(archived.crc64nvme, encode_crc64nvme(crc), "{name}");
                assert_eq!(archived.size_bytes, case.content.len() as u64, "{name}");
                assert_eq!(
                    info.metadata(JOB_METADATA_KEY),
                    Some(job.id.to_string().as_str()),
                    "{name}"
                );
            }
            End::Fails(class, words) => {
                let error = result.expect_err(name);
                let text = error.full_message();
                assert_eq!(error.class(), class, "{name}: {text}");
                assert!(text.contains(words), "{name}: {text}");
                assert!(
                    world.object(&job.key).await.is_none(),
                    "{name}: an object was left"
                );
                world.abandon(&job).await;
            }
        }
        if let Some(count) = case.requests {
            assert_eq!(world.origin.requests(&path).len(), count, "{name}");
        }
    }
}

fn good() -> Behaviour {
    Behaviour::default()
}

fn framed(framing: Framing) -> Behaviour {
    Behaviour { framing, ..good() }
}

fn cut_once(bytes: u64) -> Behaviour {
    Behaviour::fault_at_first(1, Fault::CutAfter(bytes as usize))
}

#[tokio::test]
async fn f42_objects_of_every_size_arrive_whole() {
    let binary = |name, size: u64| {
        archives(name, mp4(size.max(40))[..size as usize].to_vec(), good()).format(Format::Bin)
    };
    play(vec![
        binary("one byte", 1),
        binary("nothing, as announced", 0).told(0),
        binary("a part less one", 5 * MIB - 1),
        binary("a part", 5 * MIB).requests(1),
        binary("a part and one", 5 * MIB + 1).requests(1),
        binary("three parts", 15 * MIB),
        archives("a video, as told", mp4(12 * MIB + 7), good()).told(12 * MIB + 7),
    ])
    .await;
}

#[tokio::test]
async fn f34_a_body_that_stalls_goes_on_where_it_stopped() {
    let stalls = Behaviour::fault_at_first(1, Fault::StallAfter(6 << 20));
    let case = archives("stall", mp4(8 * MIB), stalls);
    play_in(World::new().await.impatient(), vec![case]).await;
}

#[tokio::test]
async fn cut_bodies_go_on_where_they_stopped() {
    let video = || mp4(8 * MIB);
    let with = |ranges| Behaviour {
        ranges,
        ..cut_once(6 * MIB)
    };
    play(vec![
        archives("f22 cut", video(), cut_once(6 * MIB)).requests(2),
        archives("f22 cut at a part's border", video(), cut_once(5 * MIB)).requests(2),
        archives("f22 cut before the first byte", video(), cut_once(0)).requests(2),
        archives("f22 cut in a small file", mp4(90_000), cut_once(50_000)).requests(2),
        archives(
            "f22 reset",
            video(),
            Behaviour::fault_at_first(1, Fault::ResetAfter(6 << 20)),
        ),
        archives(
            "f35 closed every 3 MiB",
            video(),
            Behaviour::fault(Fault::CutAfter(3 << 20)),
        )
        .requests(3),
        archives(
            "f25 cut chunks",
            video(),
            Behaviour {
                framing: Framing::Chunked,
                ..cut_once(6 * MIB)
            },
        )
        .requests(2),
        archives(
            "f26 the whole instead of the range",
            video(),
            with(Ranges::Ignored),
        )
        .requests(2),
        archives(
            "dates are validators too",
            video(),
            Behaviour {
                validator: Validator::Date,
                ..cut_once(6 * MIB)
            },
        ),
        archives(
            "f29 changed once",
            video(),
            Behaviour {
                validator: Validator::Changing,
                ..cut_once(6 * MIB)
            },
        )
        .requests(3),
        fails(
            "f27 another range",
            video(),
            with(Ranges::WrongStart),
            Class::Corrupt,
            "answered the range",
        ),
        fails(
            "f27 another total",
            video(),
            with(Ranges::WrongTotal),
            Class::Corrupt,
            "-8388607 of 8388613",
        ),
        fails(
            "f27 several ranges",
            video(),
            with(Ranges::Multipart),
            Class::Corrupt,
            "no single Content-Range",
        ),
        fails(
            "f30 no validator",
            video(),
            Behaviour {
                validator: Validator::Weak,
                ..cut_once(6 * MIB)
            },
            Class::Unreachable,
            "cut after",
        )
        .requests(1),
        fails(
            "no ranges",
            video(),
            with(Ranges::Unknown),
            Class::Unreachable,
            "cut after",
        )
        .requests(1),
        fails(
            "f29 changes all the time",
            video(),
            Behaviour {
                validator: Validator::Changing,
                ..Behaviour::fault(Fault::CutAfter(6 << 20))
            },
            Class::Unreachable,
            "changed at the origin",
        ),
        fails(
            "f22 never gets on",
            video(),
            Behaviour::fault(Fault::CutAfter(0)),
            Class::Unreachable,
            "cut after 0",
        ),
        fails(
            "f14 expires before the resume",
            video(),
            Behaviour {
                valid_for_requests: Some(1),
                ..cut_once(6 * MIB)
            },
            Class::Denied,
            "says that the URL has expired",
        )
        .requests(2),
    ])
    .await;
}

#[tokio::test]
async fn what_is_not_the_recording_is_not_archived() {
    let page = || b"<!DOCTYPE html><html><body>Sign in</body></html>".to_vec();
    let xml = || b"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>".to_vec();
    let cut_video = || mp4(7 * MIB)[..6 << 20].to_vec();
    play(vec![
        fails(
            "f19 page",
            page(),
            good(),
            Class::Corrupt,
            "HTML or XML page",
        ),
        fails(
            "f19 page as text",
            page(),
            good(),
            Class::Corrupt,
            "HTML or XML page",
        )
        .format(Format::Txt),
        fails("f19 xml", xml(), good(), Class::Corrupt, "HTML or XML page").format(Format::Json),
        fails("f20 empty", Vec::new(), good(), Class::Corrupt, "empty").format(Format::Txt),
        fails(
            "f20 empty chunks",
            Vec::new(),
            framed(Framing::Chunked),
            Class::Corrupt,
            "empty",
        )
        .format(Format::Txt),
        fails(
            "small and cut at the provider",
            mp4(90_000)[..80_000].to_vec(),
            good(),
            Class::Corrupt,
            "ends inside",
        ),
        fails(
            "large and cut at the provider",
            cut_video(),
            good(),
            Class::Corrupt,
            "ends inside",
        ),
        fails(
            "f23 shorter than told",
            mp4(90_000),
            good(),
            Class::Corrupt,
            "the event tells",
        )
        .told(90_001),
        fails(
            "f23 longer than told",
            mp4(90_000),
            good(),
            Class::Corrupt,
            "the event tells",
        )
        .told(89_999),
        fails(
            "f23 chunks not as told",
            mp4(7 * MIB),
            framed(Framing::Chunked),
            Class::Corrupt,
            "the event tells",
        )
        .told(6 * MIB),
        fails(
            "f22 announced longer",
            mp4(90_000),
            framed(Framing::Lie(90_005)),
            Class::Corrupt,
            "for the same content",
        ),
        fails(
            "f23 announced shorter",
            mp4(90_000),
            framed(Framing::Lie(89_995)),
            Class::Corrupt,
            "ends inside",
        ),
        fails(
            "reset while the head is sent",
            mp4(90_000),
            Behaviour::fault(Fault::ResetInHead),
            Class::Unreachable,
            "get an answer",
        )
        .requests(1),
        fails(
            "f32 encoded",
            mp4(90_000),
            Behaviour {
                headers: vec![("Content-Encoding", "br".to_owned())],
                ..good()
            },
            Class::Corrupt,
            "br",
        ),
        fails(
            "f15 denied",
            mp4(90_000),
            Behaviour::status(403),
            Class::Denied,
            "403",
        ),
        fails(
            "f16 gone",
            mp4(90_000),
            Behaviour::status(410),
            Class::Gone,
            "410",
        ),
        fails(
            "f17 throttled",
            mp4(90_000),
            Behaviour::status(429),
            Class::Throttled,
            "429",
        ),
        fails(
            "f18 broken",
            mp4(90_000),
            Behaviour::status(502),
            Class::Unreachable,
            "502",
        ),
        fails(
            "a playlist",
            b"#EXTM3U\n".to_vec(),
            good(),
            Class::Invalid,
            "neither segments nor other playlists",
        )
        .format(Format::M3u8)
        .requests(1),
    ])
    .await;
}

#[tokio::test]
async fn f24_a_body_that_just_ends_needs_another_proof() {
    let text = || b"what was said, line by line\n".repeat(4000);
    let close = || framed(Framing::Close);
    let cut = || Behaviour {
        framing: Framing::Close,
        ..cut_once(6 * MIB)
    };
    play(vec![
        archives("the container tells", mp4(7 * MIB), close()).requests(1),
        archives("the event tells", text(), close())
            .format(Format::Txt)
            .told(text().len() as u64)
            .requests(1),
        archives("chunks tell", text(), framed(Framing::Chunked))
            .format(Format::Txt)
            .requests(1),
        archives("read twice", text(), close())
            .format(Format::Txt)
            .requests(2),
        fails(
            "the container denies",
            mp4(7 * MIB),
            cut(),
            Class::Corrupt,
            "ends inside",
        )
        .requests(1),
        fails(
            "the event denies",
            text(),
            Behaviour {
                framing: Framing::Close,
                ..cut_once(1000)
            },
            Class::Corrupt,
            "the event tells",
        )
        .format(Format::Txt)
        .told(text().len() as u64),
        fails(
            "read twice and different",
            text(),
            Behaviour {
                framing: Framing::Close,
                ..cut_once(1000)
            },
            Class::Corrupt,
            "the second",
        )
        .format(Format::Txt)
        .requests(2),
    ])
    .await;
}

#[tokio::test]
async fn f41_an_object_over_the_limit_is_refused_declared_or_real() {
    let limited = || TransferSettings {
        max_object_bytes: 8 * MIB,
        ..small_parts()
    };
    for framing in [Framing::Length, Framing::Chunked] {
        let world = World::with(limited()).await;
        world.origin.serve("/file", mp4(12 * MIB), framed(framing));
        let error = world
            .carry(&world.job("/file", Format::Mp4))
            .await
            .unwrap_err();
        assert_eq!(error.class(), Class::Refused, "{error}");
        assert!(error.to_string().contains("limits.max_object"), "{error}");
    }
}

#[tokio::test]
async fn inline_content_is_put_as_it_is() {
    let world = World::with(TransferSettings {
        sha256: true,
        ..small_parts()
    })
    .await;
    let job = job(Origin::Inline("{\"a\":1}".to_owned()), Format::Json);
    let archived = world.carry(&job).await.unwrap();
    let (bytes, info) = world.object(&job.key).await.unwrap();
    assert_eq!(&bytes[..], b"{\"a\":1}");
    assert_eq!(archived.etag, info.etag);
    assert_eq!(
        archived.sha256.as_deref(),
        Some("015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862")
    );
}

#[tokio::test]
async fn sha256_is_that_of_the_whole_object() {
    let world = World::with(TransferSettings {
        sha256: true,
        ..small_parts()
    })
    .await;
    let content = mp4(11 * MIB);
    world.origin.serve("/file", content.clone(), good());
    let archived = world.carry(&world.job("/file", Format::Mp4)).await.unwrap();
    let expected = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &content);
    assert_eq!(archived.sha256, Some(hex::encode(expected)));
}

#[tokio::test]
async fn f55_a_part_is_sent_again_from_its_own_buffer() {
    let world = World::new().await;
    world.origin.serve("/file", mp4(12 * MIB), good());
    world.store.script(Op::Part, Trouble::Fails, 3);
    world.carry(&world.job("/file", Format::Mp4)).await.unwrap();
    assert_eq!(world.origin.requests("/file").len(), 1);
}

#[tokio::test]
async fn a_bucket_that_keeps_failing_or_refuses_ends_the_attempt() {
    for (op, size) in [
        (Op::Put, 90_000),
        (Op::Part, 7 * MIB),
        (Op::Complete, 7 * MIB),
    ] {
        for (trouble, class) in [
            (Trouble::Fails, Class::UploadFailed),
            (Trouble::Denied, Class::UploadDenied),
        ] {
            let world = World::new().await;
            world.origin.serve("/file", mp4(size), good());
            world.store.script(op, trouble, 50);
            let job = world.job("/file", Format::Mp4);
            let error = world.carry(&job).await.unwrap_err();
            assert_eq!(error.class(), class, "{op:?} {trouble:?}: {error}");
            assert_eq!(error.is_transient(), class == Class::UploadFailed);
            assert!(world.object(&job.key).await.is_none());
        }
    }
}

#[tokio::test]
async fn cancelling_ends_at_once_and_leaves_nothing() {
    let world = World::new().await;
    let trickle = Fault::Trickle(64 * 1024, Duration::from_millis(5));
    world
        .origin
        .serve("/file", mp4(40 * MIB), Behaviour::fault(trickle));
    let job = world.job("/file", Format::Mp4);
    let cancel = CancellationToken::new();
    let watch = async {
        while !world
            .told
            .lock()
            .unwrap()
            .iter()
            .any(|(done, _)| *done > 6 * MIB)
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        cancel.cancel();
    };
    let (result, ()) = tokio::join!(world.carry_until(&job, &cancel), watch);
    let error = result.unwrap_err();
    assert_eq!(
        (error.class(), error.is_transient()),
        (Class::Internal, true)
    );
    assert!(world.object(&job.key).await.is_none());
}

#[tokio::test]
async fn memory_stays_within_its_number_however_many_transfers_there_are() {
    let memory_bytes = 12 * MIB;
    let world = World::with(TransferSettings {
        memory_bytes,
        ..small_parts()
    })
    .await;
    let jobs: Vec<_> = (0..6)
        .map(|number| {
            let path = format!("/file-{number}");
            let framing = if number % 2 == 0 {
                Framing::Length
            } else {
                Framing::Chunked
            };
            world
                .origin
                .serve(&path, mp4(11 * MIB + number), framed(framing));
            let mut job = world.job(&path, Format::Mp4);
            job.key = format!("many/{number}/recording.mp4");
            job
        })
        .collect();
    let emit: recording_harvester::model::progress::Emit = std::sync::Arc::new(|_| ());
    let cancel = CancellationToken::new();
    let carrying = jobs
        .iter()
        .map(|job| world.engine.carry(job, &[], &world.ledger, &emit, &cancel));
    let all = futures::future::join_all(carrying);
    let results = tokio::time::timeout(Duration::from_secs(60), all)
        .await
        .unwrap();
    for result in results {
        result.unwrap();
    }
    let budget = world.engine.budget();
    assert!(budget.peak_bytes() > 5 * MIB, "{}", budget.peak_bytes());
    assert!(
        budget.peak_bytes() <= memory_bytes,
        "{}",
        budget.peak_bytes()
    );
    assert_eq!(budget.held_bytes(), 0);
}

#[tokio::test]
async fn progress_begins_at_nothing_ends_at_all_and_is_not_a_flood() {
    let world = World::new().await;
    let size = 12 * MIB;
    world.origin.serve("/file", mp4(size), good());
    let begun = std::time::Instant::now();
    world.carry(&world.job("/file", Format::Mp4)).await.unwrap();
    let most = begun.elapsed().as_millis() as usize / 200 + 3;
    let told = world.told.lock().unwrap();
    assert_eq!(told.first(), Some(&(0, Some(size))));
    assert_eq!(told.last(), Some(&(size, Some(size))));
    assert!(told.windows(2).all(|pair| pair[0].0 <= pair[1].0));
    assert!(told.len() <= most, "{} of {most}", told.len());
}

#[tokio::test]
async fn one_connection_is_enough_to_resume_and_to_read_twice() {
    let world = World::new().await.in_single_file();
    world.origin.serve("/cut", mp4(8 * MIB), cut_once(6 * MIB));
    let closed = framed(Framing::Close);
    world.origin.serve("/text", "what was said\n", closed);
    world.carry(&world.job("/cut", Format::Mp4)).await.unwrap();
    world.carry(&world.job("/text", Format::Txt)).await.unwrap();
    assert_eq!(world.origin.log().len(), 4);
}
