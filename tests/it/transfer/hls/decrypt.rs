//! `hls_keys = "decrypt"`: what is archived is plain text, or said not to be.

use aws_lc_rs::cipher::{AES_128, EncryptionContext, PaddedBlockEncryptingKey, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use recording_harvester::error::Class;
use recording_harvester::transfer::hls::{HlsKeys, HlsSettings};

use super::super::world::{MIB, World};
use super::play::check_in;
use super::{FOLDER, hls_job, keys_of, list, serve_all, text, with_hls};
use crate::harness::origin::Behaviour;

const KEY: &str = "0123456789abcdef";

fn decrypting() -> HlsSettings {
    HlsSettings {
        keys: HlsKeys::Decrypt,
        ..HlsSettings::default()
    }
}

/// As an origin encrypts `text` whose media sequence number or vector is `iv`.
pub(super) fn encrypted(text: &[u8], iv: u128) -> Vec<u8> {
    let key = UnboundCipherKey::new(&AES_128, KEY.as_bytes()).unwrap();
    let key = PaddedBlockEncryptingKey::cbc_pkcs7(key).unwrap();
    let mut bytes = text.to_vec();
    let iv = EncryptionContext::Iv128(FixedLength::from(iv.to_be_bytes()));
    key.less_safe_encrypt(&mut bytes, iv).unwrap();
    bytes
}

#[tokio::test]
async fn f49_decrypted_recordings_play_as_the_original() {
    for name in ["aes128", "discontinuity"] {
        let world = World::with(with_hls(decrypting())).await;
        check_in(&world, name).await;
        let keys = keys_of(&list(&world, "resources.json").await);
        assert!(
            !keys.is_empty() && keys.iter().all(|key| !key.ends_with(".key")),
            "{keys:?}"
        );
        let entry = text(&world, "hls/master.m3u8").await;
        assert!(!entry.contains("#EXT-X-KEY"), "{entry}");
    }
}

#[tokio::test]
async fn f49_a_large_segment_is_decrypted_while_it_flows() {
    let world = World::with(with_hls(decrypting())).await;
    let mut media = vec![0x47; 12 * MIB as usize + 5];
    media[188] = 0x47;
    let playlist = "#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:7\n#EXT-X-KEY:METHOD=AES-128,URI=\"k?sig=CANARY\"\n\
        #EXTINF:1,\na.ts\n#EXTINF:1,\nb.ts\n#EXT-X-ENDLIST\n";
    serve_all(&world.origin, &[("/p.m3u8", playlist), ("/k", KEY)]);
    world
        .origin
        .serve("/a.ts", encrypted(&media, 7), Behaviour::default());
    world
        .origin
        .serve("/b.ts", encrypted(b"G small", 8), Behaviour::default());
    world
        .carry(&hls_job(&world.origin, "/p.m3u8"))
        .await
        .unwrap();
    let (found, _) = world
        .object(&format!("{FOLDER}/hls/v0/seg-00007.ts"))
        .await
        .unwrap();
    assert!(found == media);
    let (found, _) = world
        .object(&format!("{FOLDER}/hls/v0/seg-00008.ts"))
        .await
        .unwrap();
    assert_eq!(found, b"G small"[..]);
    assert_eq!(
        world.origin.requests("/k").len(),
        1,
        "one key is asked for once"
    );
    let entry = text(&world, "hls/master.m3u8").await;
    assert!(entry.contains("## not archived: EXT-X-KEY\n"), "{entry}");
    assert!(!entry.contains("CANARY"));
}

#[tokio::test]
async fn f49_a_wrong_key_is_corrupt_and_nothing_of_it_is_archived() {
    let world = World::with(with_hls(decrypting())).await;
    let playlist =
        "#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI=\"k\"\n#EXTINF:1,\na.ts\n#EXT-X-ENDLIST\n";
    serve_all(
        &world.origin,
        &[("/p.m3u8", playlist), ("/k", "another key 123.")],
    );
    let large = vec![0x47; 6 * MIB as usize];
    for media in [&b"Gmedia"[..], &large] {
        world
            .origin
            .serve("/a.ts", encrypted(media, 0), Behaviour::default());
        let error = world
            .carry(&hls_job(&world.origin, "/p.m3u8"))
            .await
            .unwrap_err();
        assert_eq!(error.class(), Class::Partial);
        let message = error.full_message();
        assert!(
            message.contains("corrupt: it can't be decrypted with its key"),
            "{message}"
        );
        assert!(
            world
                .object(&format!("{FOLDER}/hls/v0/seg-00000.ts"))
                .await
                .is_none()
        );
    }
    // No key at all.
    world.origin.serve("/k", "", Behaviour::status(410));
    let error = world
        .carry(&hls_job(&world.origin, "/p.m3u8"))
        .await
        .unwrap_err();
    let message = error.full_message();
    assert!(message.contains("(gone: get its key"), "{message}");
    world.origin.serve("/k", "too short", Behaviour::default());
    let error = world
        .carry(&hls_job(&world.origin, "/p.m3u8"))
        .await
        .unwrap_err();
    let message = error.full_message();
    assert!(
        message.contains("(corrupt: get its key: it does not have 16 bytes"),
        "{message}"
    );
}

#[tokio::test]
async fn f49_what_can_not_be_decrypted_is_kept_with_its_key_and_that_is_said() {
    let world = World::with(with_hls(decrypting())).await;
    let master = "#EXTM3U\n#EXT-X-SESSION-KEY:METHOD=SAMPLE-AES,URI=\"k\"\n\
        #EXT-X-STREAM-INF:BANDWIDTH=1\nsample.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=2\nwhole.m3u8\n\
        #EXT-X-STREAM-INF:BANDWIDTH=3\nshared.m3u8\n#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=1,URI=\"i.m3u8\"\n";
    let sheet = |method: &str, range: &str, name: &str| {
        format!(
            "#EXTM3U\n#EXT-X-KEY:METHOD={method},URI=\"k\"\n#EXTINF:1,\n{range}{name}\n#EXT-X-ENDLIST\n"
        )
    };
    serve_all(
        &world.origin,
        &[
            ("/m.m3u8", master),
            ("/sample.m3u8", &sheet("SAMPLE-AES", "", "s.ts")),
            ("/whole.m3u8", &sheet("AES-128", "", "w.ts")),
            ("/shared.m3u8", &sheet("AES-128", "", "x.ts")),
            (
                "/i.m3u8",
                &sheet("AES-128", "#EXT-X-BYTERANGE:16@0\n", "x.ts"),
            ),
            ("/k", KEY),
            ("/s.ts", "not decrypted"),
        ],
    );
    for name in ["/w.ts", "/x.ts"] {
        world
            .origin
            .serve(name, encrypted(b"Gmedia", 0), Behaviour::default());
    }
    world
        .carry(&hls_job(&world.origin, "/m.m3u8"))
        .await
        .unwrap();
    let list = list(&world, "resources.json").await;
    let notes: Vec<_> = list["notes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|note| note.as_str().unwrap())
        .collect();
    assert_eq!(notes.len(), 3, "{notes:?}");
    assert_eq!(
        notes[0],
        "v0/index.m3u8 is stored encrypted: line 4: METHOD=SAMPLE-AES"
    );
    assert!(
        notes[1].starts_with("v2/index.m3u8 is stored encrypted: another playlist"),
        "{notes:?}"
    );
    assert!(
        notes[2].starts_with("iframes-0/index.m3u8 is stored encrypted: line 5: it is a range"),
        "{notes:?}"
    );
    let (whole, _) = world
        .object(&format!("{FOLDER}/hls/v1/seg-00000.ts"))
        .await
        .unwrap();
    assert_eq!(whole, b"Gmedia"[..]);
    let (shared, _) = world
        .object(&format!("{FOLDER}/hls/v2/seg-00000.ts"))
        .await
        .unwrap();
    assert_eq!(shared, encrypted(b"Gmedia", 0));
    assert!(
        !text(&world, "hls/v1/index.m3u8")
            .await
            .contains("#EXT-X-KEY")
    );
    // One key file, wherever it was named first.
    let kept = "hls/key-0.key";
    assert_eq!(text(&world, kept).await, KEY);
    for layer in ["v0", "v2", "iframes-0"] {
        let sheet = text(&world, &format!("hls/{layer}/index.m3u8")).await;
        assert!(sheet.contains("URI=\"../key-0.key\""), "{sheet}");
    }
}

#[tokio::test]
async fn f49_plain_text_is_not_taken_for_the_ciphertext_of_an_earlier_attempt() {
    let mut world = World::new().await;
    let playlist = "#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI=\"k\"\n#EXTINF:1,\na.ts\n#EXTINF:1,\nb.ts\n#EXT-X-ENDLIST\n";
    serve_all(&world.origin, &[("/p.m3u8", playlist), ("/k", KEY)]);
    world
        .origin
        .serve("/a.ts", encrypted(b"Gfirst", 0), Behaviour::default());
    world.origin.serve("/b.ts", "", Behaviour::status(404));
    let job = hls_job(&world.origin, "/p.m3u8");
    world.carry(&job).await.unwrap_err();
    world.set(with_hls(decrypting()));
    world
        .origin
        .serve("/b.ts", encrypted(b"Gsecond", 1), Behaviour::default());
    world.carry(&job).await.unwrap();
    let entry = text(&world, "hls/master.m3u8").await;
    let names: Vec<_> = entry
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect();
    assert_eq!(names, ["v0/seg-00000-2.ts", "v0/seg-00001.ts"]);
    assert_eq!(text(&world, "hls/v0/seg-00000-2.ts").await, "Gfirst");
}

#[tokio::test]
async fn f49_subtitles_that_were_encrypted_become_a_transcript() {
    let world = World::with(with_hls(decrypting())).await;
    let master = "#EXTM3U\n#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID=\"s\",NAME=\"de\",LANGUAGE=\"de\",URI=\"sub.m3u8\"\n\
        #EXT-X-STREAM-INF:BANDWIDTH=1,SUBTITLES=\"s\"\nv.m3u8\n";
    let words = "#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI=\"k\"\n#EXTINF:1,\na.vtt\n#EXT-X-ENDLIST\n";
    let video = "#EXTM3U\n#EXTINF:1,\nv.ts\n#EXT-X-ENDLIST\n";
    serve_all(
        &world.origin,
        &[
            ("/m.m3u8", master),
            ("/sub.m3u8", words),
            ("/v.m3u8", video),
            ("/v.ts", "G"),
            ("/k", KEY),
        ],
    );
    let cue = "WEBVTT\n\n00:00.000 --> 00:01.000\nhallo\n";
    world
        .origin
        .serve("/a.vtt", encrypted(cue.as_bytes(), 0), Behaviour::default());
    world
        .carry(&hls_job(&world.origin, "/m.m3u8"))
        .await
        .unwrap();
    assert!(text(&world, "transcript.de.vtt").await.ends_with("hallo\n"));
}

#[tokio::test]
async fn f49_an_encrypted_map_is_decrypted_with_its_own_vector() {
    let world = World::with(with_hls(decrypting())).await;
    let playlist = "#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI=\"k\",IV=0x0000000000000000000000000000000a\n\
        #EXT-X-MAP:URI=\"i.mp4\"\n#EXT-X-KEY:METHOD=AES-128,URI=\"k\"\n#EXTINF:1,\ns.m4s\n#EXT-X-ENDLIST\n";
    serve_all(&world.origin, &[("/p.m3u8", playlist), ("/k", KEY)]);
    let (map, media) = (b"\0\0\0\x08ftyp", b"\0\0\0\x08moof");
    world
        .origin
        .serve("/i.mp4", encrypted(map, 10), Behaviour::default());
    world
        .origin
        .serve("/s.m4s", encrypted(media, 0), Behaviour::default());
    world
        .carry(&hls_job(&world.origin, "/p.m3u8"))
        .await
        .unwrap();
    for (name, plain) in [("init-0.mp4", map), ("seg-00000.m4s", media)] {
        let (found, _) = world
            .object(&format!("{FOLDER}/hls/v0/{name}"))
            .await
            .unwrap();
        assert_eq!(found, plain[..], "{name}");
    }
}
