//! What a playlist may name beside segments, and what of it an archived copy holds.

use serde_json::Value;

use super::super::world::World;
use super::{FOLDER, hls_job, keys_of, list, serve_all, text};
use crate::harness::origin::{Behaviour, Fault, TestOrigin};

const MEDIA: &str = "#EXTM3U\n#EXTINF:1,\ns.ts\n#EXT-X-ENDLIST\n";

/// The names of the files that were carried, within the ladder's folder.
async fn names(world: &World) -> Vec<String> {
    let keys = keys_of(&list(world, "resources.json").await);
    let start = format!("{FOLDER}/hls/");
    keys.into_iter()
        .map(|key| key.replace(&start, ""))
        .collect()
}

#[tokio::test]
async fn i_frame_playlists_and_session_data_belong_to_the_recording() {
    let world = World::new().await;
    let master = "#EXTM3U\n#EXT-X-SESSION-DATA:DATA-ID=\"a\",URI=\"a.json\"\n\
        #EXT-X-SESSION-DATA:DATA-ID=\"b\",FORMAT=RAW,URI=\"b.bin\"\n\
        #EXT-X-SESSION-DATA:DATA-ID=\"c\",VALUE=\"kept\"\n\
        #EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=1,URI=\"i.m3u8\"\n#EXT-X-STREAM-INF:BANDWIDTH=2\nv.m3u8\n";
    let frames = "#EXTM3U\n#EXT-X-I-FRAMES-ONLY\n#EXTINF:1,\n#EXT-X-BYTERANGE:2@0\ns.ts\n\
        #EXTINF:1,\n#EXT-X-BYTERANGE:3@2\ns.ts\n#EXT-X-ENDLIST\n";
    serve_all(
        &world.origin,
        &[
            ("/m.m3u8", master),
            ("/i.m3u8", frames),
            ("/v.m3u8", MEDIA),
            ("/s.ts", "GGGGG"),
            ("/a.json", "{\"a\":1}"),
            ("/b.bin", "no JSON at all"),
        ],
    );
    world
        .carry(&hls_job(&world.origin, "/m.m3u8"))
        .await
        .unwrap();
    assert_eq!(
        names(&world).await,
        [
            "iframes-0/index.m3u8",
            "iframes-0/seg-00000.ts",
            "session-data-0.json",
            "session-data-1.bin",
            "v0/index.m3u8",
        ]
    );
    let entry = text(&world, "hls/master.m3u8").await;
    let expected = master
        .replace("\"a.json\"", "\"session-data-0.json\"")
        .replace("\"b.bin\"", "\"session-data-1.bin\"")
        .replace("i.m3u8", "iframes-0/index.m3u8")
        .replace("v.m3u8", "v0/index.m3u8");
    assert_eq!(entry, expected);
    let layer = text(&world, "hls/v0/index.m3u8").await;
    assert!(
        layer.contains("\n../iframes-0/seg-00000.ts\n"),
        "one file: {layer}"
    );
    assert_eq!(world.origin.requests("/s.ts").len(), 1);

    world.origin.serve("/a.json", "cut {", Behaviour::default());
    let error = world
        .carry(&hls_job(&world.origin, "/m.m3u8?2"))
        .await
        .unwrap_err();
    assert!(
        error
            .full_message()
            .contains("session-data-0.json (corrupt"),
        "{}",
        error.full_message()
    );
}

#[tokio::test]
async fn parts_hints_gaps_and_changing_maps_end_in_a_playable_playlist() {
    let world = World::new().await;
    let playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:4\n#EXT-X-MAP:URI=\"one.mp4\"\n\
        #EXT-X-PART:DURATION=0.5,URI=\"p4.0.m4s\"\n#EXT-X-PART:DURATION=0.5,URI=\"p4.1.m4s\"\n#EXTINF:1,\ns4.m4s\n\
        #EXT-X-GAP\n#EXTINF:1,\ns5.m4s\n#EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI=\"two.mp4\"\n#EXTINF:1,\ns6.m4s\n\
        #EXT-X-PART:DURATION=0.5,URI=\"p7.0.m4s\"\n#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"p7.1.m4s\"\n\
        #EXT-X-RENDITION-REPORT:URI=\"../other.m3u8\",LAST-MSN=7\n#EXT-X-ENDLIST\n";
    let media = "\0\0\0\u{8}moof";
    let mut pages = vec![("/p.m3u8", playlist)];
    // The origin no longer has the parts of whole segments, which is usual.
    for path in ["/one.mp4", "/two.mp4", "/s4.m4s", "/s6.m4s", "/p7.0.m4s"] {
        pages.push((path, media));
    }
    serve_all(&world.origin, &pages);
    world
        .carry(&hls_job(&world.origin, "/p.m3u8"))
        .await
        .unwrap();
    let entry = text(&world, "hls/master.m3u8").await;
    assert_eq!(
        entry,
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:4\n#EXT-X-MAP:URI=\"v0/init-0.mp4\"\n\
         ## not archived: EXT-X-PART\n## not archived: EXT-X-PART\n#EXTINF:1,\nv0/seg-00004.m4s\n\
         #EXT-X-GAP\n#EXTINF:1,\nv0/seg-00005.m4s\n#EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI=\"v0/init-1.mp4\"\n#EXTINF:1,\n\
         v0/seg-00006.m4s\n#EXT-X-PART:DURATION=0.5,URI=\"v0/part-2.m4s\"\n## not archived: EXT-X-PRELOAD-HINT\n\
         ## not archived: EXT-X-RENDITION-REPORT\n#EXT-X-ENDLIST\n"
    );
    assert!(
        world.origin.requests("/s5.m4s").is_empty(),
        "the playlist says that it is not there"
    );
}

#[tokio::test]
async fn variables_are_put_in_and_their_values_are_not_kept() {
    let world = World::new().await;
    let master = "#EXTM3U\n#EXT-X-DEFINE:QUERYPARAM=\"token\"\n#EXT-X-DEFINE:NAME=\"dir\",VALUE=\"d\"\n\
        #EXT-X-DEFINE:NAME=\"label\",VALUE=\"Main\"\n\
        #EXT-X-SESSION-DATA:DATA-ID=\"t\",VALUE=\"{$label}\"\n\
        #EXT-X-STREAM-INF:BANDWIDTH=1\n{$dir}/v.m3u8?t={$token}\n";
    let media =
        "#EXTM3U\n#EXT-X-DEFINE:IMPORT=\"token\"\n#EXTINF:1,\n/s.ts?t={$token}\n#EXT-X-ENDLIST\n";
    serve_all(
        &world.origin,
        &[("/m.m3u8", master), ("/d/v.m3u8", media), ("/s.ts", "G")],
    );
    let job = hls_job(&world.origin, "/m.m3u8?x=1&token=CANARY+%2b");
    world.carry(&job).await.unwrap();
    assert_eq!(world.origin.requests("/s.ts")[0].target, "/s.ts?t=CANARY++");
    assert_eq!(
        text(&world, "hls/master.m3u8").await,
        "#EXTM3U\n#EXT-X-DEFINE:NAME=\"token\",VALUE=\"\"\n#EXT-X-DEFINE:NAME=\"dir\",VALUE=\"\"\n\
         #EXT-X-DEFINE:NAME=\"label\",VALUE=\"Main\"\n\
         #EXT-X-SESSION-DATA:DATA-ID=\"t\",VALUE=\"{$label}\"\n\
         #EXT-X-STREAM-INF:BANDWIDTH=1\nv0/index.m3u8\n"
    );
    assert_eq!(
        text(&world, "hls/v0/index.m3u8").await,
        "#EXTM3U\n#EXT-X-DEFINE:NAME=\"token\",VALUE=\"\"\n#EXTINF:1,\nseg-00000.ts\n#EXT-X-ENDLIST\n"
    );
}

#[tokio::test]
async fn t15_signatures_of_what_is_not_archived_are_not_kept() {
    let world = World::new().await;
    let master = "#EXTM3U\n# made from https://o.example/p?sig=CANARY\n\
        #EXT-X-CONTENT-STEERING:SERVER-URI=\"/steer?token=CANARY&v=1\",PATHWAY-ID=\"a\"\n\
        #EXT-X-SESSION-KEY:METHOD=SAMPLE-AES,KEYFORMAT=\"x\",URI=\"https://drm.example/k?token=CANARY\"\n\
        #EXT-X-STREAM-INF:BANDWIDTH=1\nv.m3u8\n";
    let media = "#EXTM3U\n#EXT-X-KEY:METHOD=SAMPLE-AES,KEYFORMAT=\"com.apple.streamingkeydelivery\",URI=\"skd://k?id=7\"\n\
        #EXT-X-KEY:METHOD=SAMPLE-AES,KEYFORMAT=\"x\",URI=\"https://drm.example/k?X-Amz-Signature=CANARY\"\n\
        #EXT-X-DATERANGE:ID=\"ad\",X-ASSET-URI=\"https://ads.example/a.m3u8?sig=CANARY\",X-ASSET-LIST=\"/l.json?auth=CANARY\"\n\
        #EXT-X-DATERANGE:ID=\"b\",X-ASSET-URI=\"https://ads.example/b.m3u8?slot=2\"\n\
        #EXTINF:1,\ns.ts\n#EXT-X-ENDLIST\n";
    serve_all(
        &world.origin,
        &[("/m.m3u8", master), ("/v.m3u8", media), ("/s.ts", "G")],
    );
    world
        .carry(&hls_job(&world.origin, "/m.m3u8"))
        .await
        .unwrap();
    let entry = text(&world, "hls/master.m3u8").await;
    assert!(!entry.contains("CANARY"), "{entry}");
    assert!(
        entry.contains("SERVER-URI=\"/steer\",PATHWAY-ID=\"a\""),
        "{entry}"
    );
    let layer = text(&world, "hls/v0/index.m3u8").await;
    assert!(!layer.contains("CANARY"), "{layer}");
    assert!(
        layer.contains("URI=\"skd://k?id=7\""),
        "what is no signature stays: {layer}"
    );
    assert!(layer.contains("b.m3u8?slot=2"), "{layer}");
}

#[tokio::test]
async fn t03_a_playlists_query_is_not_sent_to_another_host() {
    let world = World::new().await;
    let other = TestOrigin::start().await;
    let address = other.address();
    let playlist = format!("#EXTM3U\n#EXTINF:1,\n//{address}/a.ts\n#EXT-X-ENDLIST\n");
    world
        .origin
        .serve("/p.m3u8", playlist, Behaviour::default());
    other.serve("/a.ts", "", Behaviour::status(403));
    world
        .carry(&hls_job(&world.origin, "/p.m3u8?token=CANARY"))
        .await
        .unwrap_err();
    // Also not when the playlist itself is served from elsewhere, and names its segments there.
    other.serve("/q.m3u8", MEDIA, Behaviour::default());
    other.serve("/s.ts", "", Behaviour::status(403));
    let redirect = Behaviour::fault(Fault::Redirect(other.url("/q.m3u8")));
    world.origin.serve("/p.m3u8", "", redirect);
    world
        .carry(&hls_job(&world.origin, "/p.m3u8?token=CANARY"))
        .await
        .unwrap_err();
    assert!(!other.log().is_empty());
    assert!(
        other
            .log()
            .iter()
            .all(|seen| !seen.target.contains("CANARY")),
        "{:?}",
        other.log()
    );
}

#[tokio::test]
async fn a_transcript_counts_from_the_media_s_first_instant() {
    let world = World::new().await;
    super::serve_fixture(&world.origin, "subtitles");
    // The media begin at 141120 ticks; these words were written for a clock that shows ten seconds then.
    let folder = super::fixtures().join("subtitles");
    let files = super::index()["subtitles"]["files"].clone();
    let mut moved = 0;
    for file in files.as_array().unwrap().iter().filter_map(Value::as_str) {
        if !file.ends_with(".vtt") {
            continue;
        }
        let words = std::fs::read_to_string(folder.join(file)).unwrap();
        let (head, cues) = words.split_once("\n\n").unwrap_or((&words, ""));
        assert!(head.starts_with("WEBVTT"), "{head}");
        let shifted =
            format!("WEBVTT\nX-TIMESTAMP-MAP=LOCAL:00:00:00.000,MPEGTS:1041120\n\n{cues}");
        world
            .origin
            .serve(&format!("/subtitles/{file}"), shifted, Behaviour::default());
        moved += 1;
    }
    assert!(moved > 1);
    world
        .carry(&hls_job(&world.origin, "/subtitles/master.m3u8"))
        .await
        .unwrap();
    let words = text(&world, "transcript.en.vtt").await;
    assert!(
        words.contains("00:00:10.700 --> 00:00:11.700\nGood morning."),
        "{words}"
    );
    assert!(
        words.contains("00:00:13.200 --> 00:00:14.100\nYes."),
        "{words}"
    );
}
