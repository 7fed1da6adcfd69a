//! Playlists that still grow: what ends them, and what may change between two readings.

use std::time::Duration;

use recording_harvester::error::Class;
use recording_harvester::transfer::hls::HlsSettings;

use super::super::world::World;
use super::{FOLDER, hls_job, list, serve_all, text};
use crate::harness::origin::{Behaviour, TestOrigin};

/// A window of the playlist: segments `{name}{number}.ts{query}`.
fn window(name: &str, numbers: std::ops::Range<u64>, query: &str, end: &str) -> String {
    let mut text = format!(
        "#EXTM3U\n#EXT-X-TARGETDURATION:0.2\n#EXT-X-MEDIA-SEQUENCE:{}\n",
        numbers.start
    );
    for number in numbers {
        text.push_str(&format!("#EXTINF:0.2,\n{name}{number}.ts{query}\n"));
    }
    text + end
}

fn serve_segments(origin: &TestOrigin, name: &str, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let path = format!("/{name}{number}.ts");
        origin.serve(&path, format!("G{name}{number}"), Behaviour::default());
    }
}

async fn asked(origin: &TestOrigin, path: &str) {
    while origin.requests(path).is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn missing(world: &World) -> String {
    let list = list(world, "missing.json").await;
    list["missing"].to_string()
}

#[tokio::test]
async fn f52_a_playlist_that_begins_to_count_again_is_kept_and_told() {
    let world = World::new().await;
    let origin = &world.origin;
    serve_segments(origin, "a", 10..12);
    serve_segments(origin, "b", 0..2);
    origin.serve("/p.m3u8", window("a", 10..12, "", ""), Behaviour::default());
    let job = hls_job(origin, "/p.m3u8");
    let restart = async {
        asked(origin, "/a11.ts").await;
        let second = window("b", 0..2, "", "#EXT-X-ENDLIST\n");
        origin.serve("/p.m3u8", second, Behaviour::default());
    };
    let (ended, ()) = tokio::join!(world.carry(&job), restart);
    let error = ended.unwrap_err();
    assert_eq!(error.class(), Class::Partial);
    assert!(
        missing(&world)
            .await
            .contains("began to count again at 0 after 11")
    );
    for name in [
        "seg-00010.ts",
        "seg-00011.ts",
        "seg-00000.ts",
        "seg-00001.ts",
    ] {
        let key = format!("{FOLDER}/hls/v0/{name}");
        assert!(world.object(&key).await.is_some(), "{key}");
    }
}

#[tokio::test]
async fn f52_what_was_named_before_the_first_segment_was_seen_is_missing() {
    let world = World::new().await;
    let origin = &world.origin;
    serve_segments(origin, "a", 2..3);
    origin.serve("/p.m3u8", window("a", 0..0, "", ""), Behaviour::default());
    let job = hls_job(origin, "/p.m3u8");
    let begin = async {
        asked(origin, "/p.m3u8").await;
        let second = window("a", 2..3, "", "#EXT-X-ENDLIST\n");
        origin.serve("/p.m3u8", second, Behaviour::default());
    };
    let (ended, ()) = tokio::join!(world.carry(&job), begin);
    // The very first reading may have been the second window already.
    if let Err(error) = ended {
        assert_eq!(error.class(), Class::Partial);
        assert!(
            missing(&world)
                .await
                .contains("moved past the segments 0 to 1")
        );
    }
}

#[tokio::test]
async fn tokens_that_change_with_each_reading_do_not_fetch_everything_again() {
    let world = World::new().await;
    let origin = &world.origin;
    serve_segments(origin, "a", 0..4);
    let first = window("a", 0..3, "?t=CANARY1", "");
    origin.serve("/p.m3u8", first, Behaviour::default());
    let job = hls_job(origin, "/p.m3u8");
    let renew = async {
        asked(origin, "/a2.ts").await;
        let second = window("a", 1..4, "?t=CANARY2", "#EXT-X-ENDLIST\n");
        origin.serve("/p.m3u8", second, Behaviour::default());
    };
    let (archived, ()) = tokio::join!(world.carry(&job), renew);
    archived.unwrap();
    for number in 0..4 {
        assert_eq!(
            origin.requests(&format!("/a{number}.ts")).len(),
            1,
            "segment {number}"
        );
    }
    let entry = text(&world, "hls/master.m3u8").await;
    assert!(!entry.contains("CANARY"), "{entry}");
}

#[tokio::test]
async fn a_live_segment_that_was_refused_is_asked_for_as_the_next_reading_names_it() {
    let world = World::new().await;
    let origin = &world.origin;
    serve_segments(origin, "a", 0..2);
    let fresh = Behaviour {
        only_with_query: Some("CANARY2".to_owned()),
        ..Behaviour::default()
    };
    origin.serve("/a1.ts", "Ga1", fresh);
    let first = window("a", 0..2, "?t=CANARY1", "");
    origin.serve("/p.m3u8", first, Behaviour::default());
    let job = hls_job(origin, "/p.m3u8");
    let renew = async {
        asked(origin, "/a1.ts").await;
        let second = window("a", 1..2, "?t=CANARY2", "");
        origin.serve("/p.m3u8", second, Behaviour::default());
        while origin.requests("/a1.ts").last().unwrap().target != "/a1.ts?t=CANARY2" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let last = window("a", 1..2, "?t=CANARY3", "#EXT-X-ENDLIST\n");
        origin.serve("/p.m3u8", last, Behaviour::default());
    };
    let (archived, ()) = tokio::join!(world.carry(&job), renew);
    archived.unwrap();
    assert_eq!(text(&world, "hls/v0/seg-00001.ts").await, "Ga1");
}

#[tokio::test]
async fn a_query_that_tells_segments_apart_is_no_token() {
    let world = World::new().await;
    let playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:0.2\n#EXTINF:0.2,\ns?n=1\n#EXTINF:0.2,\ns?n=2\n";
    let ended = format!("{playlist}#EXT-X-ENDLIST\n");
    serve_all(&world.origin, &[("/p.m3u8", playlist), ("/s", "G")]);
    let job = hls_job(&world.origin, "/p.m3u8");
    let end = async {
        asked(&world.origin, "/s").await;
        world.origin.serve("/p.m3u8", ended, Behaviour::default());
    };
    let (archived, ()) = tokio::join!(world.carry(&job), end);
    archived.unwrap();
    let mut targets: Vec<_> = world
        .origin
        .requests("/s")
        .into_iter()
        .map(|seen| seen.target)
        .collect();
    targets.sort();
    assert_eq!(targets, ["/s?n=1", "/s?n=2"]);
}

#[tokio::test]
async fn f44_it_is_told_what_ended_the_following() {
    let grow = |world: &World| {
        serve_segments(&world.origin, "a", 0..1);
        let text = window("a", 0..1, "", "");
        world.origin.serve("/p.m3u8", text, Behaviour::default());
    };
    let short = Duration::from_millis(300);
    for (settings, why) in [
        (
            HlsSettings {
                stale_after: short,
                ..HlsSettings::default()
            },
            "stalled: it did not change for 0 s",
        ),
        (
            HlsSettings {
                follow_for: short,
                ..HlsSettings::default()
            },
            "it was followed for 0 s",
        ),
    ] {
        let world = World::new().await.with_hls(settings);
        grow(&world);
        let error = world
            .carry(&hls_job(&world.origin, "/p.m3u8"))
            .await
            .unwrap_err();
        assert_eq!(error.class(), Class::Partial);
        assert!(
            error.full_message().contains(why),
            "{}",
            error.full_message()
        );
    }
    let world = World::new().await;
    grow(&world);
    let job = hls_job(&world.origin, "/p.m3u8");
    let job = recording_harvester::model::Job {
        deadline: recording_harvester::model::Deadline::at(
            "2026-03-02T10:00:00Z".parse().unwrap(),
            recording_harvester::model::DeadlineFrom::Query,
        ),
        ..job
    };
    let refuse = async {
        asked(&world.origin, "/a0.ts").await;
        world.origin.serve("/p.m3u8", "", Behaviour::status(403));
    };
    let (ended, ()) = tokio::join!(world.carry(&job), refuse);
    let message = ended.unwrap_err().full_message();
    assert!(
        message.contains("followed to the deadline: it could not be read again"),
        "{message}"
    );
}

#[tokio::test]
async fn a_live_recording_can_be_archived_decrypted() {
    use recording_harvester::transfer::hls::HlsKeys;
    let world = World::new().await.with_hls(HlsSettings {
        keys: HlsKeys::Decrypt,
        ..HlsSettings::default()
    });
    let origin = &world.origin;
    let head = "#EXTM3U\n#EXT-X-TARGETDURATION:0.2\n#EXT-X-KEY:METHOD=AES-128,URI=\"k\"\n";
    let first = format!("{head}#EXTINF:0.2,\na.ts\n");
    // Only now something appears that can't be decrypted: all of it stays ciphertext.
    let second = format!(
        "{first}#EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"k\"\n#EXTINF:0.2,\nb.ts\n#EXT-X-ENDLIST\n"
    );
    serve_all(
        origin,
        &[
            ("/p.m3u8", &first),
            ("/k", "0123456789abcdef"),
            ("/b.ts", "sample"),
        ],
    );
    // `G` and its padding, by CBC with that key and a vector of zeros.
    let sealed = super::decrypt::encrypted(b"G", 0);
    origin.serve("/a.ts", sealed.clone(), Behaviour::default());
    let job = hls_job(origin, "/p.m3u8");
    let move_on = async {
        let key = format!("{FOLDER}/hls/v0/seg-00000.ts");
        while world.object(&key).await.is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        origin.serve("/p.m3u8", second, Behaviour::default());
    };
    let (archived, ()) = tokio::join!(world.carry(&job), move_on);
    archived.unwrap();
    let entry = text(&world, "hls/master.m3u8").await;
    let names: Vec<_> = entry
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect();
    assert_eq!(names, ["v0/seg-00000-2.ts", "v0/seg-00001.ts"]);
    let (kept, _) = world
        .object(&format!("{FOLDER}/hls/v0/seg-00000-2.ts"))
        .await
        .unwrap();
    assert_eq!(kept, sealed);
    assert!(
        entry.contains("METHOD=AES-128,URI=\"v0/key-0.key\""),
        "{entry}"
    );
}
