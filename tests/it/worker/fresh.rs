//! Fresh URLs: in two steps where the provider has it so, ahead of time, and in the middle of a queue.

use recording_harvester::model::{Artifact, Format, Kind, Lookup, Provider, State};
use serde_json::json;

use super::world::{self, World};
use crate::harness::api::Answer;
use crate::harness::daily::mp4;
use crate::harness::origin::{Behaviour, Fault as OriginFault, Seen, TestOrigin};
use crate::harness::s3::{Fault, Kind as FaultKind, Op};

fn lookup(call: &str, id: &str) -> Option<Lookup> {
    Some(Lookup {
        call: call.to_owned(),
        id: id.to_owned(),
    })
}

/// 100ms lists a recording's assets, then signs one.
fn script_assets(world: &World) {
    let asset = |id: &str, sort: &str, path: &str| json!({"id": id, "type": sort, "path": path, "status": "completed"});
    let assets = json!({"recording_assets": [
        asset("a1", "track", "s3://b/other.webm"),
        asset("a2", "room-composite", "s3://b/rec.mp4"),
    ]});
    world
        .api
        .script("/recordings/R", [Answer::json(200, assets)]);
    let signed = json!({"id": "a2", "path": "s3://b/rec.mp4", "url": world.url("/fresh.mp4?sig=1"), "expiry": 3600});
    world.api.script(
        "/recording-assets/a2/presigned-url",
        [Answer::json(200, signed)],
    );
    world.api.script("/fresh.mp4", [Answer::file(mp4("R"))]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_of_100ms_without_an_asset_id_gets_its_fresh_url_in_two_steps() {
    let world = World::start().await;
    script_assets(&world);
    world.api.script("/dead.mp4", [Answer::json(403, "{}")]);
    let mut video = world::artifact(
        "recording-2.mp4",
        Kind::Video,
        Format::Mp4,
        &world.url("/dead.mp4?sig=0"),
    );
    video.remint = lookup("hms-recording", "R#s3://b/rec.mp4");
    let jobs = world.record_for("h1", Provider::Hms, vec![video]).await;
    let (worker, counted) = world.worker_with_hms_keys();
    let records = worker.run_jobs(jobs, world.never()).await.unwrap();
    let video = records.iter().find(|r| r.kind == Kind::Video).unwrap();
    assert_eq!(
        (video.state, video.attempts),
        (State::Archived, 1),
        "{video:#?}"
    );
    let paths = world.asked_paths();
    assert_eq!(
        paths,
        [
            "/dead.mp4?sig=0",
            "/recordings/R",
            "/recording-assets/a2/presigned-url",
            "/fresh.mp4?sig=1"
        ]
    );
    assert_eq!(*counted.lock().unwrap(), [true]);
}

/// A session with a track for each participant has more assets than a page holds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_asset_that_is_not_on_the_first_page_is_found_on_a_later_one() {
    let world = World::start().await;
    let page = |numbers: std::ops::Range<usize>| {
        let assets: Vec<_> = numbers
            .map(|number| {
                json!({"id": format!("a{number}"), "type": "room-composite-legacy", "status": "completed",
                       "path": format!("s3://b/{number}.mp4")})
            })
            .collect();
        let last = assets.last().map(|asset| asset["id"].clone());
        Answer::json(200, json!({"limit": 100, "data": assets, "last": last}))
    };
    world.api.script(
        "/recording-assets",
        [page(0..100), page(100..200), page(200..203)],
    );
    let signed = json!({"id": "a201", "path": "s3://b/201.mp4", "url": world.url("/fresh.mp4"), "expiry": 3600});
    world.api.script(
        "/recording-assets/a201/presigned-url",
        [Answer::json(200, signed)],
    );
    world.api.script("/fresh.mp4", [Answer::file(mp4("S"))]);
    world.api.script("/dead.mp4", [Answer::json(403, "{}")]);
    let mut video = world::artifact(
        "recording.mp4",
        Kind::Video,
        Format::Mp4,
        &world.url("/dead.mp4"),
    );
    video.remint = lookup("hms-session", "S#s3://b/201.mp4");
    let jobs = world.record_for("h3", Provider::Hms, vec![video]).await;
    let (worker, _) = world.worker_with_hms_keys();
    let records = worker.run_jobs(jobs, world.never()).await.unwrap();
    let video = records.iter().find(|r| r.kind == Kind::Video).unwrap();
    assert_eq!(video.state, State::Archived, "{video:#?}");
    assert_eq!(world.object(&video.key).await.unwrap(), mp4("S"));
    let paths = world.asked_paths();
    assert_eq!(
        paths[1..4],
        [
            "/recording-assets?session_id=S&limit=100",
            "/recording-assets?session_id=S&limit=100&start=a99",
            "/recording-assets?session_id=S&limit=100&start=a199",
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_url_near_its_end_is_replaced_before_it_is_opened_and_used_if_there_is_no_other() {
    for is_answered in [true, false] {
        let world = World::start().await;
        script_assets(&world);
        if !is_answered {
            world.api.script("/recordings/R", [Answer::json(503, "{}")]);
        }
        world.api.script("/old.mp4", [Answer::file(mp4("R"))]);
        let mut video = world::artifact(
            "recording.mp4",
            Kind::Video,
            Format::Mp4,
            &world.url("/old.mp4"),
        );
        video.remint = lookup("hms-recording", "R#s3://b/rec.mp4");
        video.deadline = world::deadline_in(30);
        let jobs = world.record_for("h2", Provider::Hms, vec![video]).await;
        let (worker, counted) = world.worker_with_hms_keys();
        let records = worker.run_jobs(jobs, world.never()).await.unwrap();
        assert!(
            records.iter().all(|record| record.state == State::Archived),
            "{records:#?}"
        );
        let old = world::count(&world.asked_paths(), "/old.mp4");
        assert_eq!(old, usize::from(!is_answered));
        assert_eq!(*counted.lock().unwrap(), [is_answered]);
    }
}

/// The playlist can be read, and what it names is refused: all of it is asked for by a fresh playlist.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f46_segments_that_are_refused_lead_to_a_fresh_playlist() {
    let world = World::start().await;
    let playlist = "#EXTM3U\n#EXTINF:1,\na.ts\n#EXT-X-ENDLIST\n";
    let served = |text: &str| Answer::file(text.as_bytes().to_vec());
    let asset =
        json!({"id": "a2", "type": "room-vod", "path": "s3://b/vod/m.m3u8", "status": "completed"});
    let assets = json!({"recording_assets": [asset]});
    world
        .api
        .script("/recordings/R", [Answer::json(200, assets)]);
    let signed = json!({"id": "a2", "path": "s3://b/vod/m.m3u8", "url": world.url("/fresh/m.m3u8?sig=1"), "expiry": 3600});
    world.api.script(
        "/recording-assets/a2/presigned-url",
        [Answer::json(200, signed)],
    );
    world.api.script("/old/m.m3u8", [served(playlist)]);
    world.api.script("/old/a.ts", [Answer::json(403, "{}")]);
    world.api.script("/fresh/m.m3u8", [served(playlist)]);
    world.api.script("/fresh/a.ts", [served("G")]);
    let url = world.url("/old/m.m3u8?sig=0");
    let mut vod = world::artifact("hls/master.m3u8", Kind::Hls, Format::M3u8, &url);
    vod.remint = lookup("hms-recording", "R#s3://b/vod/m.m3u8");
    let jobs = world.record_for("h9", Provider::Hms, vec![vod]).await;
    let (worker, counted) = world.worker_with_hms_keys();
    let records = worker.run_jobs(jobs, world.never()).await.unwrap();
    let vod = records.iter().find(|r| r.kind == Kind::Hls).unwrap();
    assert_eq!((vod.state, vod.attempts), (State::Archived, 1), "{vod:#?}");
    assert_eq!(*counted.lock().unwrap(), [true]);

    // One that is refused as well ends it: nobody asks for ever.
    world.api.script("/fresh/a.ts", [Answer::json(403, "{}")]);
    let mut again = world::artifact("hls/master.m3u8", Kind::Hls, Format::M3u8, &url);
    again.remint = lookup("hms-recording", "R#s3://b/vod/m.m3u8");
    let jobs = world.record_for("h10", Provider::Hms, vec![again]).await;
    let (worker, counted) = world.worker_with_hms_keys();
    let records = worker.run_jobs(jobs, world.never()).await.unwrap();
    let again = records.iter().find(|r| r.kind == Kind::Hls).unwrap();
    assert_eq!(
        (again.state, again.class),
        (
            State::Failed,
            Some(recording_harvester::error::Class::Partial)
        ),
        "{again:#?}"
    );
    assert_eq!(*counted.lock().unwrap(), [true]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn urls_that_die_in_the_middle_of_a_queue_are_replaced_and_the_queue_goes_on() {
    let world = World::start().await;
    let mut artifacts = Vec::new();
    for number in 0..12 {
        let old = format!("/old/{number}.mp4");
        // From here on the queue was too slow.
        let answer = match number {
            0..4 => Answer::file(mp4(&number.to_string())),
            _ => Answer::json(403, "{}"),
        };
        world.api.script(&old, [answer]);
        let id = format!("rec-{number}");
        let fresh = format!("/fresh/{number}.mp4");
        let link = json!({"download_link": world.url(&fresh), "expires": 4_000_000_000_i64});
        // The provider is busy as well: one answer of each is 429.
        let slow_down = Answer::json(429, "{}").retry_after(0);
        world.api.script(
            &format!("/recordings/{id}/access-link"),
            [slow_down, Answer::json(200, link)],
        );
        world
            .api
            .script(&fresh, [Answer::file(mp4(&number.to_string()))]);
        let name = format!("{number}.mp4");
        let mut video = world::artifact(&name, Kind::Video, Format::Mp4, &world.url(&old));
        video.remint = lookup("daily-recording", &id);
        video.deadline = world::deadline_in(3600);
        artifacts.push(video);
    }
    let jobs = world.record_for("q", Provider::Daily, artifacts).await;
    let records = world
        .worker_with_key()
        .run_jobs(jobs, world.never())
        .await
        .unwrap();
    assert!(
        records.iter().all(|record| record.state == State::Archived),
        "{records:#?}"
    );
    for record in records.iter().filter(|record| record.kind == Kind::Video) {
        let number = record.name.trim_end_matches(".mp4");
        assert_eq!(world.object(&record.key).await.unwrap(), mp4(number));
    }
    let paths = world.asked_paths();
    for number in 4..12 {
        assert!(world::count(&paths, &format!("/old/{number}.mp4")) <= 2);
        assert_eq!(world::count(&paths, &format!("/fresh/{number}.mp4")), 1);
    }
}

/// An MPEG-4 file of that size whose bytes tell where they stand.
fn large_mp4(number: usize, size: usize) -> Vec<u8> {
    let mut file = mp4("x");
    let head = file.len() - "content of x".len() - 8;
    file.truncate(head);
    file.extend_from_slice(&u32::try_from(size - head).unwrap().to_be_bytes());
    file.extend_from_slice(b"mdat");
    let mut random = fastrand::Rng::with_seed(number as u64);
    while file.len() < size {
        file.extend_from_slice(&random.u64(..).to_be_bytes());
    }
    file.truncate(size);
    file
}

/// Where a request's range begins.
fn start_of(seen: &Seen) -> u64 {
    let range = seen.header("range").expect("a range is asked for");
    let start = range.trim_start_matches("bytes=").split('-').next();
    start.unwrap().parse().unwrap()
}

/// URLs die while the files behind them are half-way into the bucket: the fresh ones bring the rest, and no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_url_that_dies_half_way_is_replaced_and_its_transfer_goes_on_from_the_checkpoint() {
    const SIZE: usize = 20 << 20;
    const PART: u64 = 5 << 20;
    const FILES: usize = 3;
    let world = World::start().await;
    let origin = TestOrigin::start().await;
    let mut artifacts = Vec::new();
    for number in 0..FILES {
        let (old, fresh) = (format!("/old/{number}.mp4"), format!("/fresh/{number}.mp4"));
        let content = large_mp4(number, SIZE);
        // One answer, which breaks off after the first part: from then on the URL has expired.
        let dying = Behaviour {
            valid_for_requests: Some(1),
            ..Behaviour::fault(OriginFault::CutAfter(10 << 20))
        };
        origin.serve(&old, content.clone(), dying);
        origin.serve(&fresh, content, Behaviour::default());
        let id = format!("rec-{number}");
        let link = json!({"download_link": origin.url(&format!("{fresh}?sig=new")), "expires": 4_000_000_000_i64});
        world.api.script(
            &format!("/recordings/{id}/access-link"),
            [Answer::json(200, link)],
        );
        let url = origin.url(&format!("{old}?sig=old"));
        let mut video = world::artifact(&format!("{number}.mp4"), Kind::Video, Format::Mp4, &url);
        video.remint = lookup("daily-recording", &id);
        video.deadline = world::deadline_in(3600);
        artifacts.push(video);
    }
    let jobs = world.record_for("half", Provider::Daily, artifacts).await;
    let worker = world.worker_with_key();
    let records = worker.run_jobs(jobs, world.never()).await.unwrap();
    let videos: Vec<_> = records.iter().filter(|r| r.kind == Kind::Video).collect();
    assert_eq!(videos.len(), FILES);
    for video in videos {
        assert_eq!(
            (video.state, video.attempts),
            (State::Archived, 1),
            "{video:#?}"
        );
        let number: usize = video.name.trim_end_matches(".mp4").parse().unwrap();
        let stored = world
            .objects
            .get(&video.key, 2 * SIZE as u64)
            .await
            .unwrap();
        assert!(stored.unwrap().0 == large_mp4(number, SIZE), "other bytes");
        let rest = origin.requests(&format!("/fresh/{number}.mp4"));
        assert!(!rest.is_empty());
        for seen in &rest {
            assert!(start_of(seen) >= PART, "{seen:?}");
        }
    }
    let made = |op: Op| {
        let requests = world.s3.requests();
        requests.iter().filter(|seen| seen.op == op).count()
    };
    assert_eq!(made(Op::CreateUpload), FILES, "one upload each");
    assert_eq!(made(Op::Complete), FILES);
    assert_eq!(made(Op::UploadPart), FILES * SIZE.div_ceil(PART as usize));
}

/// The URL dies half-way, and the provider has sent its event again before that shows.
// R16
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f79_a_fresh_event_that_comes_during_the_attempt_goes_on_with_what_that_has_carried() {
    const SIZE: usize = 20 << 20;
    const PART: u64 = 5 << 20;
    let world = World::start().await;
    let origin = TestOrigin::start().await;
    let content = large_mp4(1, SIZE);
    let dying = Behaviour {
        valid_for_requests: Some(1),
        ..Behaviour::fault(OriginFault::CutAfter(10 << 20))
    };
    origin.serve("/old.mp4", content.clone(), dying);
    origin.serve("/fresh.mp4", content.clone(), Behaviour::default());
    let video = |path: &str| Artifact {
        identity: "the video".to_owned(),
        ..world::artifact("recording.mp4", Kind::Video, Format::Mp4, &origin.url(path))
    };
    world.s3.fail(Fault {
        after: 1,
        ..Fault::once(Op::UploadPart, FaultKind::Held)
    });
    let jobs = world.record("again", vec![video("/old.mp4?sig=old")]).await;
    let running = world.run(world.worker());
    world.s3.wait_for(Op::UploadPart, 2).await;
    world
        .record_once_more("again", vec![video("/fresh.mp4?sig=new")])
        .await;
    world.s3.heal();
    world.wait_for_seal().await;
    running.stop().await;
    let records = world.records(&jobs).await;
    let video = records.iter().find(|r| r.kind == Kind::Video).unwrap();
    // What was tried at the old URL does not count any more.
    assert_eq!(
        (video.state, video.attempts),
        (State::Archived, 1),
        "{video:#?}"
    );
    let stored = world
        .objects
        .get(&video.key, 2 * SIZE as u64)
        .await
        .unwrap();
    assert!(stored.unwrap().0 == content, "other bytes");
    assert_eq!(world.s3.count(Op::CreateUpload), 1, "one upload");
    assert_eq!(world.s3.count(Op::Abort), 0);
    for seen in origin.requests("/fresh.mp4") {
        assert!(start_of(&seen) >= PART, "{seen:?}");
    }
}
