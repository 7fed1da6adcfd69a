//! Recordings of which something is missing, and what counts as missing.

use recording_harvester::error::Class;
use recording_harvester::model::{Format, Job, Kind};

use super::super::world::World;
use super::{FOLDER, hls_job, keys_of, list, serve_all, serve_fixture, text};
use crate::harness::origin::{Behaviour, Fault, Framing};

const MASTER: &str = "/ts/master.m3u8";

#[tokio::test]
async fn layers_that_are_complete_can_be_played_before_the_rest_is_there() {
    let world = World::new().await;
    serve_fixture(&world.origin, "ts");
    world
        .origin
        .serve("/ts/ts-0-1.ts", "", Behaviour::status(404));
    let mut job = hls_job(&world.origin, MASTER);
    job.attempts = 3;
    let error = world.carry(&job).await.unwrap_err();
    assert_eq!(error.class(), Class::Partial);
    assert!(
        world.object(&job.key).await.is_none(),
        "nothing pretends to be whole"
    );
    let incomplete = format!("{FOLDER}/hls/v0/index.m3u8");
    assert!(world.object(&incomplete).await.is_none());
    let gaps = text(&world, "hls/v0/index.partial.m3u8").await;
    assert!(gaps.contains("\n#EXT-X-GAP\nseg-00001.ts\n"), "{gaps}");
    assert_eq!(gaps.matches("#EXT-X-GAP").count(), 1, "{gaps}");
    let layer = text(&world, "hls/v1/index.m3u8").await;
    assert!(layer.contains("\nseg-00003.ts\n"), "{layer}");
    let partial = text(&world, "hls/master.partial.m3u8").await;
    let named: Vec<_> = partial
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    assert_eq!(named, ["v1/index.m3u8"]);
    assert_eq!(partial.matches("#EXT-X-STREAM-INF").count(), 1, "{partial}");
    assert!(
        partial.contains("## not archived: EXT-X-STREAM-INF\n"),
        "{partial}"
    );
    let missing = keys_of(&list(&world, "missing.json").await);
    assert!(missing.contains(&format!("{FOLDER}/hls/v1/index.m3u8")));
    assert!(missing.contains(&format!("{FOLDER}/hls/master.partial.m3u8")));

    serve_fixture(&world.origin, "ts");
    world.carry(&job).await.unwrap();
    let whole = text(&world, "hls/master.m3u8").await;
    assert!(
        whole.contains("v0/index.m3u8") && whole.contains("v1/index.m3u8"),
        "{whole}"
    );
    for name in [
        "missing.json",
        "master.partial.m3u8",
        "v0/index.partial.m3u8",
    ] {
        let key = format!("{FOLDER}/hls/{name}");
        assert!(
            world.object(&key).await.is_none(),
            "{name} is true no longer"
        );
    }
}

#[tokio::test]
async fn a_recording_without_layers_can_be_played_around_what_is_missing() {
    let world = World::new().await;
    let playlist = "#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI=\"k\"\n#EXTINF:1,\na.ts\n#EXTINF:1,\nb.ts?sig=CANARY\n\
        #EXTINF:1,\nc.ts\n#EXT-X-ENDLIST\n";
    serve_all(
        &world.origin,
        &[
            ("/p.m3u8", playlist),
            ("/a.ts", "a"),
            ("/c.ts", "c"),
            ("/k", "0123456789abcdef"),
        ],
    );
    world.origin.serve("/b.ts", "", Behaviour::status(410));
    let job = hls_job(&world.origin, "/p.m3u8");
    world.carry(&job).await.unwrap_err();
    assert_eq!(
        text(&world, "hls/master.partial.m3u8").await,
        "#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI=\"v0/key-0.key\"\n#EXTINF:1,\nv0/seg-00000.ts\n#EXTINF:1,\n\
         #EXT-X-GAP\nv0/seg-00001.ts\n#EXTINF:1,\nv0/seg-00002.ts\n#EXT-X-ENDLIST\n"
    );
    // Without its key nothing of it can be played.
    let job = hls_job(&world.origin, "/p.m3u8");
    world.origin.serve("/k", "", Behaviour::status(410));
    world.carry(&job).await.unwrap_err();
    assert!(
        world
            .object(&format!("{FOLDER}/hls/master.partial-2.m3u8"))
            .await
            .is_none()
    );
}

#[tokio::test]
async fn t15_what_is_lost_leaves_no_signature_in_what_is_written() {
    let world = World::new().await;
    let master = "#EXTM3U\n#EXT-X-SESSION-DATA:DATA-ID=\"a\",URI=\"a.json?sig=CANARY\"\n\
        #EXT-X-SESSION-KEY:METHOD=AES-128,URI=\"k?sig=CANARY\"\n\
        #EXT-X-STREAM-INF:BANDWIDTH=1\nv.m3u8?sig=CANARY\n#EXT-X-STREAM-INF:BANDWIDTH=2\nw.m3u8?sig=CANARY\n";
    let media = "#EXTM3U\n#EXTINF:1,\ns.ts?sig=CANARY\n#EXT-X-ENDLIST\n";
    serve_all(
        &world.origin,
        &[("/m.m3u8", master), ("/v.m3u8", media), ("/s.ts", "G")],
    );
    for path in ["/a.json", "/k", "/w.m3u8"] {
        world.origin.serve(path, "", Behaviour::status(410));
    }
    let error = world
        .carry(&hls_job(&world.origin, "/m.m3u8"))
        .await
        .unwrap_err();
    assert!(
        error.full_message().contains("3 of its pieces"),
        "{}",
        error.full_message()
    );
    for name in [
        "hls/master.partial.m3u8",
        "hls/v0/index.m3u8",
        "hls/missing.json",
    ] {
        let written = text(&world, name).await;
        assert!(!written.contains("CANARY"), "{name}: {written}");
    }
}

#[tokio::test]
async fn f44_a_playlist_whose_end_is_not_marked_is_read_twice() {
    let world = World::new().await;
    let whole = "#EXTM3U\n#EXTINF:1,\na.ts\n#EXT-X-ENDLIST\n#EXTINF:1,\nb.ts\n";
    serve_all(&world.origin, &[("/a.ts", "G"), ("/b.ts", "G")]);
    let cut = whole.find("#EXTINF:1,\nb").unwrap();
    let behaviour = Behaviour {
        framing: Framing::Close,
        ..Behaviour::fault_at_first(1, Fault::CutAfter(cut))
    };
    world.origin.serve("/p.m3u8", whole, behaviour);
    world
        .carry(&hls_job(&world.origin, "/p.m3u8"))
        .await
        .unwrap();
    let archived = text(&world, "hls/master.m3u8").await;
    assert!(archived.contains("seg-00001.ts"), "{archived}");
}

#[tokio::test]
async fn f44_what_names_nothing_is_no_recording() {
    let world = World::new().await;
    let master = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\ngone.m3u8\n";
    for (playlist, class, why) in [
        (
            "#EXTM3U\n#EXT-X-SESSION-DATA:DATA-ID=\"x\",VALUE=\"y\"\n",
            Class::Invalid,
            "names no other playlist",
        ),
        (
            "#EXTM3U\n#EXT-X-ENDLIST\n",
            Class::Partial,
            "names no segment that is there",
        ),
        (
            "#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI=\"k\"\n#EXT-X-ENDLIST\n",
            Class::Partial,
            "names no segment",
        ),
        (
            "#EXTM3U\n#EXT-X-GAP\n#EXTINF:1,\na.ts\n#EXT-X-ENDLIST\n",
            Class::Partial,
            "names no segment",
        ),
        (master, Class::Partial, "v0/index.m3u8 (gone"),
    ] {
        world
            .origin
            .serve("/p.m3u8", playlist, Behaviour::default());
        world
            .origin
            .serve("/k", "0123456789abcdef", Behaviour::default());
        world.origin.serve("/gone.m3u8", "", Behaviour::status(410));
        let job = hls_job(&world.origin, "/p.m3u8");
        let error = world.carry(&job).await.unwrap_err();
        assert_eq!(error.class(), class, "{playlist}: {}", error.full_message());
        let missing = world.object(&format!("{FOLDER}/hls/missing.json")).await;
        let told = error.full_message()
            + &missing.map_or(String::new(), |(bytes, _)| {
                String::from_utf8_lossy(&bytes).into_owned()
            });
        assert!(told.contains(why), "{playlist}: {told}");
        assert!(world.object(&job.key).await.is_none());
    }
}

#[tokio::test]
async fn a_playlist_that_nobody_had_called_one_is_carried_as_one() {
    let world = World::new().await;
    serve_fixture(&world.origin, "ts");
    let behaviour = Behaviour::default();
    let master = std::fs::read(super::fixtures().join("ts/master.m3u8")).unwrap();
    world.origin.serve("/ts/vod", master, behaviour);
    for (kind, name, entry) in [
        (Kind::Hls, "hls.bin", "hls/master.m3u8"),
        (Kind::Other, "download", "download.m3u8"),
    ] {
        let job = Job {
            key: format!("{FOLDER}/{name}"),
            format: Format::Bin,
            kind,
            size_bytes: (kind == Kind::Hls).then_some(1),
            ..hls_job(&world.origin, "/ts/vod?X-Amz-Signature=CANARY")
        };
        let archived = world.carry(&job).await.unwrap();
        assert_eq!(archived.key, format!("{FOLDER}/{entry}"));
        assert!(world.object(&job.key).await.is_none(), "no bare playlist");
        let store = &*world.store;
        let resources = recording_harvester::transfer::hls::resources(store, job.id, &archived.key);
        assert_eq!(resources.await.unwrap().len(), 10);
        let again = world.carry(&job).await.unwrap();
        assert_eq!(again.key, archived.key);
    }
}

#[tokio::test]
async fn a_signed_request_that_fails_in_passing_is_tried_again_although_the_plain_one_is_refused() {
    let world = World::new().await;
    let playlist = "#EXTM3U\n#EXTINF:1,\na.ts\n#EXT-X-ENDLIST\n";
    serve_all(&world.origin, &[("/p.m3u8", playlist)]);
    // The second request is the first with the query.
    let behaviour = Behaviour {
        only_with_query: Some("CANARY".to_owned()),
        ..Behaviour::fault_at_first(2, Fault::Status(503, Vec::new(), String::new()))
    };
    world.origin.serve("/a.ts", "G", behaviour);
    world
        .carry(&hls_job(&world.origin, "/p.m3u8?t=CANARY"))
        .await
        .unwrap();

    let behaviour = Behaviour {
        only_with_query: Some("CANARY".to_owned()),
        ..Behaviour::fault(Fault::Status(503, Vec::new(), String::new()))
    };
    world.origin.serve("/a.ts", "G", behaviour);
    let error = world
        .carry(&hls_job(&world.origin, "/p.m3u8?t=CANARY"))
        .await
        .unwrap_err();
    assert!(error.is_transient(), "{}", error.full_message());
}

#[tokio::test]
async fn f46_a_playlist_is_read_again_as_long_as_that_brings_something() {
    let world = World::new().await;
    let origin = &world.origin;
    let playlist = |signature: u32| {
        let segments: String = (1..=4)
            .map(|n| format!("#EXTINF:1,\ns{n}.ts?sig=CANARY{signature}\n"))
            .collect();
        format!("#EXTM3U\n{segments}#EXT-X-ENDLIST\n")
    };
    // Each reading has signatures that open one segment more.
    origin.serve("/1.m3u8", playlist(1), Behaviour::default());
    origin.serve("/2.m3u8", playlist(2), Behaviour::default());
    let behaviour = Behaviour {
        first: Some(Fault::Redirect("/1.m3u8".to_owned())),
        ..Behaviour::fault_at_first(2, Fault::Redirect("/2.m3u8".to_owned()))
    };
    origin.serve("/p.m3u8", playlist(3), behaviour);
    for number in 1..=4 {
        let behaviour = Behaviour {
            only_with_query: Some(format!("CANARY{number}")),
            ..Behaviour::default()
        };
        origin.serve(&format!("/s{number}.ts"), "G", behaviour);
    }
    let error = world.carry(&hls_job(origin, "/p.m3u8")).await.unwrap_err();
    assert_eq!(error.class(), Class::Partial);
    assert!(error.has_stale_url(), "a fresh playlist may name it anew");
    let message = error.full_message();
    assert!(message.contains("1 of its pieces"), "{message}");
    assert_eq!(
        origin.requests("/p.m3u8").len(),
        4,
        "the fourth brought nothing"
    );
    // Three segments, and a playlist of them.
    assert_eq!(keys_of(&list(&world, "missing.json").await).len(), 4);
}

#[tokio::test]
async fn f46_a_refused_query_of_the_playlist_counts_as_a_stale_url() {
    let world = World::new().await;
    let playlist = "#EXTM3U\n#EXTINF:1,\na.ts\n#EXT-X-ENDLIST\n";
    serve_all(&world.origin, &[("/p.m3u8", playlist)]);
    world.origin.serve("/a.ts", "", Behaviour::status(403));
    let error = world
        .carry(&hls_job(&world.origin, "/p.m3u8?t=CANARY"))
        .await
        .unwrap_err();
    assert!(error.has_stale_url());
    let error = world
        .carry(&hls_job(&world.origin, "/p.m3u8"))
        .await
        .unwrap_err();
    assert!(!error.has_stale_url(), "nothing was signed");
}
