//! What goes wrong in the middle of a ladder.

use std::time::Duration;

use recording_harvester::error::Class;
use recording_harvester::transfer::hls::{HlsKeys, HlsSettings};
use tokio_util::sync::CancellationToken;

use super::super::world::World;
use super::{FOLDER, hls_job, keys_of, list, serve_fixture, text};
use crate::harness::origin::{Behaviour, Fault};

const MASTER: &str = "/ts/master.m3u8";

fn segment(name: &str) -> Vec<u8> {
    std::fs::read(super::fixtures().join("ts").join(name)).unwrap()
}

#[tokio::test]
async fn troubles_that_pass_are_outlived() {
    let world = World::new().await;
    serve_fixture(&world.origin, "ts");
    for (name, fault) in [
        ("ts-0-0.ts", Fault::CutAfter(100)),
        ("ts-0-1.ts", Fault::Status(503, Vec::new(), String::new())),
        ("ts-1-2.ts", Fault::ResetAfter(10)),
        ("ts-1-3.ts", Fault::Status(404, Vec::new(), String::new())),
        ("layer-1.m3u8", Fault::CutAfter(30)),
    ] {
        let behaviour = Behaviour::fault_at_first(1, fault);
        world
            .origin
            .serve(&format!("/ts/{name}"), segment(name), behaviour);
    }
    world.carry(&hls_job(&world.origin, MASTER)).await.unwrap();
    assert_eq!(keys_of(&list(&world, "resources.json").await).len(), 10);
}

#[tokio::test]
async fn f45_a_segment_that_is_missing_makes_it_partial_with_the_exact_list() {
    let world = World::new().await;
    serve_fixture(&world.origin, "ts");
    world
        .origin
        .serve("/ts/ts-0-1.ts", "", Behaviour::status(404));
    let page = "<html>no</html>";
    world
        .origin
        .serve("/ts/ts-1-2.ts", page, Behaviour::default());
    let mut job = hls_job(&world.origin, MASTER);
    job.attempts = 3;
    let error = world.carry(&job).await.unwrap_err();
    assert_eq!(error.class(), Class::Partial);
    assert!(!error.is_transient());
    let message = error.full_message();
    assert!(message.contains("2 of its pieces are missing"), "{message}");
    assert!(message.contains("v0/seg-00001.ts (gone"), "{message}");
    let missing = list(&world, "missing.json").await;
    let missing: Vec<_> = missing["missing"]
        .as_array()
        .unwrap()
        .iter()
        .map(|loss| {
            (
                loss["key"].as_str().unwrap(),
                loss["class"].as_str().unwrap(),
            )
        })
        .collect();
    let key = |name: &str| format!("{FOLDER}/hls/{name}");
    assert_eq!(
        missing,
        [
            (key("v0/seg-00001.ts").as_str(), "gone"),
            (key("v1/seg-00002.ts").as_str(), "corrupt")
        ]
    );
    assert!(world.object(&job.key).await.is_none(), "no entry playlist");

    // When they are there, only they are fetched.
    serve_fixture(&world.origin, "ts");
    let before = world.origin.log().len();
    world.carry(&job).await.unwrap();
    let log = world.origin.log();
    let segments: Vec<_> = log[before..]
        .iter()
        .filter(|seen| seen.path.ends_with(".ts") && !seen.is_for_a_byte())
        .collect();
    assert_eq!(segments.len(), 2, "{segments:?}");
}

#[tokio::test]
async fn a_stop_in_the_middle_costs_a_few_segments() {
    let world = World::new().await;
    serve_fixture(&world.origin, "ts");
    let hang = Behaviour::fault_at_first(1, Fault::Hang);
    world
        .origin
        .serve("/ts/ts-1-3.ts", segment("ts-1-3.ts"), hang);
    let job = hls_job(&world.origin, MASTER);
    let cancel = CancellationToken::new();
    let stop = async {
        let layers = [0, 1].into_iter().flat_map(|layer| {
            (0..4).map(move |number| format!("{FOLDER}/hls/v{layer}/seg-0000{number}.ts"))
        });
        for key in layers.filter(|key| !key.ends_with("v1/seg-00003.ts")) {
            while world.object(&key).await.is_none() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        cancel.cancel();
    };
    let (ended, ()) = tokio::join!(world.carry_until(&job, &cancel), stop);
    assert_eq!(ended.unwrap_err().class(), Class::Internal);
    assert!(world.object(&job.key).await.is_none());

    let before = world.origin.log().len();
    world.carry(&job).await.unwrap();
    let log = world.origin.log();
    let fetched = log[before..]
        .iter()
        .filter(|seen| seen.path.ends_with(".ts") && !seen.is_for_a_byte());
    // What was in the bucket but not yet noted may be asked for again.
    assert!(fetched.count() <= 3);
    assert_eq!(keys_of(&list(&world, "resources.json").await).len(), 10);
    // And once more nothing happens at all.
    let before = world.origin.log().len();
    world.carry(&job).await.unwrap();
    assert_eq!(world.origin.log().len(), before);
}

#[tokio::test]
async fn unsigned_segments_are_asked_for_with_the_playlists_query() {
    let world = World::new().await;
    let origin = &world.origin;
    let key = "0123456789abcdef";
    let playlist = "#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI=\"k\"\n#EXTINF:1,\na.ts\n#EXTINF:1,\nb.ts\n#EXTINF:1,\nc.ts?own=1\n#EXT-X-ENDLIST\n";
    origin.serve("/p.m3u8", playlist, Behaviour::default());
    for name in ["k", "a.ts", "b.ts", "c.ts"] {
        let guarded = Behaviour {
            only_with_query: Some("CANARY".to_owned()),
            ..Behaviour::default()
        };
        let behaviour = if name == "c.ts" {
            Behaviour::default()
        } else {
            guarded
        };
        origin.serve(&format!("/{name}"), key, behaviour);
    }
    world
        .carry(&hls_job(origin, "/p.m3u8?token=CANARY"))
        .await
        .unwrap();
    let asked = |name: &str| {
        let seen = origin.requests(name);
        seen.into_iter().map(|seen| seen.target).collect::<Vec<_>>()
    };
    assert_eq!(asked("/c.ts"), ["/c.ts?own=1"]);
    assert!(asked("/a.ts").contains(&"/a.ts?token=CANARY".to_owned()));
    let archived = text(&world, "hls/master.m3u8").await;
    assert_eq!(
        archived,
        playlist
            .replace("\"k\"", "\"v0/key-0.key\"")
            .replace("a.ts", "v0/seg-00000.ts")
            .replace("b.ts", "v0/seg-00001.ts")
            .replace("c.ts?own=1", "v0/seg-00002.ts")
    );
}

#[tokio::test]
async fn segments_that_nobody_signed_are_told_with_what_can_be_done() {
    let world = World::new().await;
    serve_fixture(&world.origin, "ts");
    for layer in 0..2 {
        for number in 0..4 {
            let path = format!("/ts/ts-{layer}-{number}.ts");
            world.origin.serve(&path, "", Behaviour::status(403));
        }
    }
    let error = world
        .carry(&hls_job(&world.origin, MASTER))
        .await
        .unwrap_err();
    assert_eq!(error.class(), Class::Partial);
    let message = error.full_message();
    assert!(message.contains("8 of its pieces"), "{message}");
    assert!(message.contains("and 3 more"), "{message}");
    assert!(message.contains("make what it names readable"), "{message}");
}

#[tokio::test]
async fn t06_uris_in_playlists_pass_the_same_gate() {
    for uri in [
        "file:///etc/passwd",
        "https://10.0.0.1/x.ts",
        "concat:a|b",
        "data:text/plain,x",
    ] {
        let world = World::new().await;
        let playlist = format!("#EXTM3U\n#EXTINF:1,\n{uri}\n#EXT-X-ENDLIST\n");
        world
            .origin
            .serve("/p.m3u8", playlist, Behaviour::default());
        let error = world
            .carry(&hls_job(&world.origin, "/p.m3u8"))
            .await
            .unwrap_err();
        assert_eq!(
            error.class(),
            Class::Refused,
            "{uri}: {}",
            error.full_message()
        );
    }
}

#[tokio::test]
async fn f51_a_cycle_ends_at_once() {
    let world = World::new().await;
    let playlist = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\np.m3u8?again\n";
    world
        .origin
        .serve("/p.m3u8", playlist, Behaviour::default());
    let error = world
        .carry(&hls_job(&world.origin, "/p.m3u8"))
        .await
        .unwrap_err();
    assert_eq!(error.class(), Class::Invalid);
    assert!(
        error.full_message().contains("another one"),
        "{}",
        error.full_message()
    );
    assert_eq!(world.origin.log().len(), 2);
}

#[tokio::test]
async fn f44_a_playlist_that_never_ends_is_no_whole_recording() {
    let world = World::new().await.with_hls(HlsSettings {
        stale_after: Duration::from_millis(300),
        ..HlsSettings::default()
    });
    let playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\na.ts\n";
    world
        .origin
        .serve("/p.m3u8", playlist, Behaviour::default());
    world.origin.serve("/a.ts", "a", Behaviour::default());
    let job = hls_job(&world.origin, "/p.m3u8");
    let error = world.carry(&job).await.unwrap_err();
    assert_eq!(error.class(), Class::Partial);
    let message = error.full_message();
    assert!(message.contains("no #EXT-X-ENDLIST"), "{message}");
    let partial = text(&world, "hls/master.partial.m3u8").await;
    assert_eq!(
        partial,
        playlist.replace("a.ts", "v0/seg-00000.ts") + "#EXT-X-ENDLIST\n"
    );
    assert!(world.object(&job.key).await.is_none());
    assert!(
        world
            .object(&format!("{FOLDER}/hls/v0/seg-00000.ts"))
            .await
            .is_some()
    );
}

#[tokio::test]
async fn f52_a_live_playlist_is_followed_to_its_end() {
    let world = World::new().await;
    let window = |first: u64, last: u64, end: &str| {
        let mut text =
            format!("#EXTM3U\n#EXT-X-TARGETDURATION:0.2\n#EXT-X-MEDIA-SEQUENCE:{first}\n");
        for number in first..=last {
            text.push_str(&format!("#EXTINF:0.2,\ns{number}.ts\n"));
        }
        text + end
    };
    for number in 0..6 {
        world.origin.serve(
            &format!("/s{number}.ts"),
            format!("segment {number}"),
            Behaviour::default(),
        );
    }
    world
        .origin
        .serve("/p.m3u8", window(0, 2, ""), Behaviour::default());
    let job = hls_job(&world.origin, "/p.m3u8");
    let move_on = async {
        while world.origin.requests("/p.m3u8").len() < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        world
            .origin
            .serve("/p.m3u8", window(2, 4, ""), Behaviour::default());
        while world.origin.requests("/s4.ts").is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // The window has moved on: what it showed first is gone from the origin.
        world.origin.serve("/s0.ts", "", Behaviour::status(404));
        world.origin.serve(
            "/p.m3u8",
            window(4, 5, "#EXT-X-ENDLIST\n"),
            Behaviour::default(),
        );
    };
    let (archived, ()) = tokio::join!(world.carry(&job), move_on);
    archived.unwrap();
    let text = text(&world, "hls/master.m3u8").await;
    let segments: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let expected: Vec<_> = (0..6)
        .map(|number| format!("v0/seg-{number:05}.ts"))
        .collect();
    assert_eq!(segments, expected);
    assert!(text.ends_with("#EXT-X-ENDLIST\n"));
}

#[tokio::test]
async fn what_an_earlier_attempt_saw_and_the_window_lost_is_no_silent_half() {
    let world = World::new().await;
    let segment = |number: u64| format!("#EXTINF:0.2,\ns{number}.ts\n");
    let head =
        |first: u64| format!("#EXTM3U\n#EXT-X-TARGETDURATION:0.2\n#EXT-X-MEDIA-SEQUENCE:{first}\n");
    for number in 0..3 {
        world
            .origin
            .serve(&format!("/s{number}.ts"), "media", Behaviour::default());
    }
    let first = head(0) + &segment(0) + &segment(1);
    world.origin.serve("/p.m3u8", first, Behaviour::default());
    let job = hls_job(&world.origin, "/p.m3u8");
    let cancel = CancellationToken::new();
    let stop = async {
        let key = format!("{FOLDER}/hls/v0/seg-00001.ts");
        while world.object(&key).await.is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        cancel.cancel();
    };
    let (ended, ()) = tokio::join!(world.carry_until(&job, &cancel), stop);
    ended.unwrap_err();
    let second = head(2) + &segment(2) + "#EXT-X-ENDLIST\n";
    world.origin.serve("/p.m3u8", second, Behaviour::default());
    let error = world.carry(&job).await.unwrap_err();
    assert_eq!(error.class(), Class::Partial);
    assert!(
        error.full_message().contains("earlier attempt"),
        "{}",
        error.full_message()
    );
}

#[tokio::test]
async fn f49_keys_can_be_left_out_and_drm_is_never_asked() {
    let world = World::new().await.with_hls(HlsSettings {
        keys: HlsKeys::Omit,
        ..HlsSettings::default()
    });
    let playlist = "#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI=\"k?token=CANARY\"\n\
        #EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"skd://x\",KEYFORMAT=\"com.apple.streamingkeydelivery\"\n\
        #EXTINF:1,\na.ts\n#EXT-X-ENDLIST\n";
    world
        .origin
        .serve("/p.m3u8", playlist, Behaviour::default());
    world
        .origin
        .serve("/a.ts", "ciphertext", Behaviour::default());
    world
        .carry(&hls_job(&world.origin, "/p.m3u8"))
        .await
        .unwrap();
    assert!(world.origin.requests("/k").is_empty());
    let archived = text(&world, "hls/master.m3u8").await;
    assert!(
        archived.contains(&format!("URI=\"{}\"", world.origin.url("/k"))),
        "{archived}"
    );
    assert!(archived.contains("URI=\"skd://x\""), "{archived}");
    assert!(!archived.contains("CANARY"));
}

#[tokio::test]
async fn f46_segments_that_expire_before_their_playlist_are_named_afresh() {
    let world = World::new().await;
    let playlist = |signature: &str| {
        format!(
            "#EXTM3U\n#EXTINF:1,\na.ts?X-Amz-Signature=CANARY{signature}\n\
             #EXTINF:1,\nb.ts?X-Amz-Signature=CANARY{signature}\n#EXT-X-ENDLIST\n"
        )
    };
    let only = |query: &str| Behaviour {
        only_with_query: Some(query.to_owned()),
        ..Behaviour::default()
    };
    world
        .origin
        .serve("/p.m3u8", playlist("old"), Behaviour::default());
    world.origin.serve("/a.ts", "a", only("CANARY"));
    world.origin.serve("/b.ts", "b", only("fresh"));
    let renew = async {
        while world.origin.requests("/b.ts").is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        world
            .origin
            .serve("/p.m3u8", playlist("fresh"), Behaviour::default());
    };
    let job = hls_job(&world.origin, "/p.m3u8");
    let (archived, ()) = tokio::join!(world.carry(&job), renew);
    // The playlist may have been read again before it was renewed.
    if archived.is_err() {
        world.carry(&job).await.unwrap();
    }
    let mut fetched = world.origin.requests("/a.ts");
    fetched.retain(|seen| !seen.is_for_a_byte());
    assert_eq!(fetched.len(), 1, "what has landed is not fetched again");
    assert_eq!(keys_of(&list(&world, "resources.json").await).len(), 2);
}

#[tokio::test]
async fn large_files_go_up_part_by_part() {
    let world = World::new().await;
    let bytes = vec![7u8; 12 * 1024 * 1024];
    let playlist = "#EXTM3U\n#EXTINF:1,\n#EXT-X-BYTERANGE:100@0\nall.ts\n#EXT-X-BYTERANGE:200\n#EXTINF:1,\nall.ts\n#EXT-X-ENDLIST\n";
    world
        .origin
        .serve("/p.m3u8", playlist, Behaviour::default());
    world
        .origin
        .serve("/all.ts", bytes.clone(), Behaviour::default());
    let job = hls_job(&world.origin, "/p.m3u8");
    world.carry(&job).await.unwrap();
    let (found, _) = world
        .object(&format!("{FOLDER}/hls/v0/seg-00000.ts"))
        .await
        .unwrap();
    assert_eq!(found, bytes);
}

#[tokio::test]
async fn names_of_others_are_left_alone() {
    let world = World::new().await;
    serve_fixture(&world.origin, "ts");
    world
        .put_other(&format!("{FOLDER}/hls/v0/seg-00001.ts"))
        .await;
    world.carry(&hls_job(&world.origin, MASTER)).await.unwrap();
    let sheet = text(&world, "hls/v0/index.m3u8").await;
    assert!(sheet.contains("seg-00001-2.ts"), "{sheet}");
    let second = hls_job(&world.origin, MASTER);
    let archived = world.carry(&second).await.unwrap();
    assert_eq!(archived.key, format!("{FOLDER}/hls/master-2.m3u8"));
    let entry = text(&world, "hls/master-2.m3u8").await;
    assert!(entry.contains("master-2/v0/index.m3u8"), "{entry}");
}
