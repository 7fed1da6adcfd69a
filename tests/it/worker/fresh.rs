//! Fresh URLs: in two steps where the provider has it so, ahead of time, and in the middle of a queue.

use recording_harvester::model::{Format, Kind, Lookup, Provider, State};
use serde_json::json;

use super::world::{self, World};
use crate::harness::api::Answer;
use crate::harness::daily::mp4;

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
