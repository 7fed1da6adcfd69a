use crate::error::Class;
use crate::format::hls::playlist::*;
use crate::format::hls::{MAX_KEY_FORMATS, MAX_PLAYLIST_BYTES};

fn base() -> Url {
    Url::parse("https://cdn.example/a/b/master.m3u8?token=t").unwrap()
}

fn read(text: &str) -> Playlist {
    Playlist::read(text.as_bytes(), &base(), None).unwrap_or_else(|e| panic!("{e}: {text}"))
}

fn refusal(text: &str) -> String {
    let error = Playlist::read(text.as_bytes(), &base(), None).unwrap_err();
    error.full_message()
}

fn urls(playlist: &Playlist) -> Vec<&str> {
    let references = playlist.references.iter();
    references.map(|found| found.url.as_str()).collect()
}

#[test]
fn a_multivariant_playlist_names_its_playlists_and_keys() {
    let text = "\u{feff}#EXTM3U\r\n#EXT-X-VERSION:7\r\n\
        #EXT-X-DEFINE:NAME=\"host\",VALUE=\"https://other.example\"\r\n\
        #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"x, y\",LANGUAGE=\"en\",URI=\"audio/en.m3u8\"\r\n\
        #EXT-X-MEDIA:TYPE=CLOSED-CAPTIONS,GROUP-ID=\"c\",NAME=\"cc\",INSTREAM-ID=\"CC1\"\r\n\
        #EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO=\"a\",X-NEW=\"kept\"\r\n\
        # a comment between\r\n\
        {$host}/v0.m3u8\r\n\
        #EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=1,URI=\"/i.m3u8\"\r\n\
        #EXT-X-SESSION-KEY:METHOD=AES-128,URI=\"../k\"\r\n\
        #EXT-X-SESSION-DATA:DATA-ID=\"d\",URI=\"d.json\"\r\n\
        #EXT-X-STREAM-INF:BANDWIDTH=2\r\n\
        v1.m3u8";
    let playlist = read(text);
    assert_eq!(playlist.kind, Kind::Master);
    assert_eq!(
        urls(&playlist),
        [
            "https://cdn.example/a/b/audio/en.m3u8",
            "https://other.example/v0.m3u8",
            "https://cdn.example/i.m3u8",
            "https://cdn.example/a/k",
            "https://cdn.example/a/b/d.json",
            "https://cdn.example/a/b/v1.m3u8",
        ]
    );
    assert_eq!(playlist.references[1].role, UriRole::Variant);
    let out = playlist.rewritten(|index| UriChange::Uri(format!("n{index}")));
    let expected = text
        .trim_start_matches('\u{feff}')
        .replace("audio/en.m3u8", "n0")
        .replace("{$host}/v0.m3u8", "n1")
        .replace("/i.m3u8", "n2")
        .replace("../k", "n3")
        .replace("d.json", "n4")
        .replace("\r\nv1.m3u8", "\r\nn5");
    assert_eq!(out, expected);
    assert_eq!(
        playlist.rewritten(|_| UriChange::Keep),
        text.trim_start_matches('\u{feff}')
    );
}

#[test]
fn keys_and_maps_hold_until_the_next_of_their_kind() {
    let playlist = read(
        "#EXTM3U\n#EXT-X-TARGETDURATION:6.006\n#EXT-X-MEDIA-SEQUENCE:7\n\
         #EXTINF:6.006,a, b\ns7.ts\n\
         #EXT-X-KEY:METHOD=AES-128,URI=\"k1\",IV=0x1\n\
         #EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"skd://drm\",KEYFORMAT=\"com.apple.streamingkeydelivery\"\n\
         #EXT-X-MAP:URI=\"i.mp4\",BYTERANGE=\"720@0\"\n\
         #EXTINF:6,\ns8.ts\n\
         #EXT-X-KEY:METHOD=AES-128,URI=\"k2\"\n#EXT-X-DISCONTINUITY\n#EXTINF:6,\ns9.ts\n\
         #EXT-X-KEY:METHOD=NONE\n#EXT-X-MAP:URI=\"j.mp4\"\n#EXT-X-GAP\n#EXTINF:6,\ns10.ts\n\
         #EXT-X-UNKNOWN:x\n#EXT-X-ENDLIST\n",
    );
    assert!(playlist.is_ended);
    let described: Vec<_> = playlist
        .segments
        .iter()
        .map(|segment| {
            let keys = segment.keys.iter().map(|key| {
                let key = &playlist.keys[*key];
                playlist.references[key.reference]
                    .url
                    .rsplit('/')
                    .next()
                    .unwrap()
            });
            let map = segment.map.map(|map| &playlist.references[map]);
            (
                segment.sequence,
                keys.collect::<Vec<_>>(),
                map.map(|map| (map.url.rsplit('/').next().unwrap(), map.range.is_some())),
                playlist.references[segment.reference].is_gap,
            )
        })
        .collect();
    assert_eq!(
        described,
        [
            (7, vec![], None, false),
            (8, vec!["k1", "drm"], Some(("i.mp4", true)), false),
            (9, vec!["drm", "k2"], Some(("i.mp4", true)), false),
            (10, vec![], Some(("j.mp4", false)), true),
        ]
    );
    assert!(!playlist.keys[1].is_plain());
}

#[test]
fn f47_a_range_goes_on_only_in_the_same_file() {
    let playlist = read(
        "#EXTM3U\n#EXTINF:1,\n#EXT-X-BYTERANGE:100@50\na.ts\n#EXT-X-BYTERANGE:30\n#EXTINF:1,\na.ts\n#EXT-X-ENDLIST",
    );
    let ranges: Vec<_> = playlist
        .references
        .iter()
        .map(|r| r.range.unwrap())
        .collect();
    assert_eq!((ranges[1].offset, ranges[1].length), (150, 30));
    for (text, why) in [
        (
            "#EXTM3U\n#EXTINF:1,\n#EXT-X-BYTERANGE:100\na.ts\n",
            "line 4: a byte range without an offset",
        ),
        (
            "#EXTM3U\n#EXTINF:1,\n#EXT-X-BYTERANGE:1@0\na\n#EXTINF:1,\n#EXT-X-BYTERANGE:1\nb\n",
            "line 7: a byte range without an offset",
        ),
        (
            "#EXTM3U\n#EXTINF:1,\n#EXT-X-BYTERANGE:1@0\na\n#EXTINF:1,\na\n#EXTINF:1,\n#EXT-X-BYTERANGE:1\na\n",
            "line 9: a byte range without an offset",
        ),
        (
            "#EXTM3U\n#EXTINF:1,\n#EXT-X-BYTERANGE:2@18446744073709551615\na\n",
            "line 4: a byte range ends beyond 64 bits",
        ),
        (
            "#EXTM3U\n#EXTINF:1,\n#EXT-X-BYTERANGE:1@18446744073709551616\na\n",
            "line 3: a byte range is no numbers",
        ),
    ] {
        assert!(refusal(text).starts_with(why), "{}", refusal(text));
    }
}

#[test]
fn parts_are_needed_only_where_no_segment_follows() {
    let playlist = read(
        "#EXTM3U\n#EXT-X-PART-INF:PART-TARGET=0.5\n#EXT-X-TARGETDURATION:1\n\
         #EXT-X-PART:DURATION=0.5,URI=\"p0\",BYTERANGE=\"10@0\"\n#EXT-X-PART:DURATION=0.5,URI=\"p0\",BYTERANGE=\"5\"\n\
         #EXTINF:1,\ns0\n#EXT-X-PART:DURATION=0.5,URI=\"p1\"\n#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"p2\"\n\
         #EXT-X-RENDITION-REPORT:URI=\"../r.m3u8\",LAST-MSN=1\n#EXT-X-ENDLIST\n",
    );
    let roles: Vec<_> = playlist.references.iter().map(|r| r.role.clone()).collect();
    assert_eq!(
        roles,
        [
            UriRole::Part { is_needed: false },
            UriRole::Part { is_needed: false },
            UriRole::Segment(0),
            UriRole::Part { is_needed: true },
            UriRole::PreloadHint,
            UriRole::RenditionReport,
        ]
    );
    assert_eq!(playlist.references[1].range.unwrap().offset, 10);
    let out = playlist.rewritten(|index| match index {
        4 => UriChange::Drop,
        _ => UriChange::Keep,
    });
    assert!(
        out.contains("\"p1\"\n## not archived: EXT-X-PRELOAD-HINT\n#EXT-X-RENDITION"),
        "{out}"
    );
}

#[test]
fn uris_are_resolved_as_rfc_3986_says() {
    for (uri, url, is_relative) in [
        ("s.ts", "https://cdn.example/a/b/s.ts", true),
        ("../s.ts?x=1", "https://cdn.example/a/s.ts?x=1", true),
        ("/s.ts", "https://cdn.example/s.ts", true),
        ("//o.example/s.ts", "https://o.example/s.ts", true),
        ("?y", "https://cdn.example/a/b/master.m3u8?y", true),
        ("./c/./d/../s.ts", "https://cdn.example/a/b/c/s.ts", true),
        ("../../../../s.ts", "https://cdn.example/s.ts", true),
        ("s.ts#t=1", "https://cdn.example/a/b/s.ts", true),
        (
            "https://o/S%2f.ts?X-Amz-Signature=a%2Fb",
            "https://o/S%2f.ts?X-Amz-Signature=a%2Fb",
            false,
        ),
        ("https://o/a/../s.ts", "https://o/s.ts", false),
        ("file:///etc/passwd", "file:///etc/passwd", false),
    ] {
        let playlist = read(&format!("#EXTM3U\n#EXTINF:1,\n{uri}\n"));
        let found = &playlist.references[0];
        assert_eq!(
            (found.url.as_str(), found.is_relative),
            (url, is_relative),
            "{uri}"
        );
    }
}

/// Each is accepted with the right meaning elsewhere, or refused here with its line.
#[test]
fn malformed_playlists_are_refused_with_line_and_reason() {
    let long = format!("#EXTM3U\n#EXTINF:1,{}\na\n", "x".repeat(70_000));
    for (text, why) in [
        ("", "line 1: a playlist begins with #EXTM3U"),
        ("<html>", "line 1: a playlist begins"),
        ("#EXTM3U8\n", "line 1: a playlist begins"),
        ("\n#EXTM3U\n", "line 1: a playlist begins"),
        ("#EXTM3U\n", "line 1: it names neither"),
        ("#EXTM3U\na.ts\n", "line 2: a URI without"),
        ("#EXTM3U\n#EXTINF:1,\n", "line 2: it ends after #EXTINF"),
        (
            "#EXTM3U\n#EXTINF:x,\na\n",
            "line 2: #EXTINF has no duration",
        ),
        (
            "#EXTM3U\n#EXTINF:NaN,\na\n",
            "line 2: #EXTINF has no duration",
        ),
        (
            "#EXTM3U\n#EXTINF:1,\n#EXTINF:1,\na\n",
            "line 3: the #EXTINF before",
        ),
        (
            "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n",
            "line 2: it ends after",
        ),
        (
            "#EXTM3U\n#EXT-X-STREAM-INF:B=1,B=2\na\n",
            "line 2: attribute B stands there twice",
        ),
        (
            "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\na\n#EXTINF:1,\nb\n",
            "line 4: #EXTINF stands beside",
        ),
        (
            "#EXTM3U\n#EXTINF:1,\na\n#EXT-X-MEDIA:TYPE=AUDIO\n",
            "line 4: #EXT-X-MEDIA stands beside",
        ),
        (
            "#EXTM3U\n#EXT-X-KEY:URI=\"k\"\n",
            "line 2: #EXT-X-KEY has no METHOD",
        ),
        (
            "#EXTM3U\n#EXT-X-KEY:METHOD=AES-128\n",
            "line 2: #EXT-X-KEY with METHOD=AES-128 has no URI",
        ),
        ("#EXTM3U\n#EXT-X-MAP:X=1\n", "line 2: #EXT-X-MAP has no URI"),
        (
            "#EXTM3U\n#EXT-X-MAP:URI=\"\n",
            "line 2: a quoted value does not end",
        ),
        (
            "#EXTM3U\n#EXTINF:1,\na\n#EXT-X-MEDIA-SEQUENCE:3\n",
            "line 4: #EXT-X-MEDIA-SEQUENCE stands after",
        ),
        (
            "#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:-3\n",
            "line 2: #EXT-X-MEDIA-SEQUENCE is no number",
        ),
        (
            "#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:18446744073709551615\n#EXTINF:1,\na\n#EXTINF:1,\nb\n",
            "line 6: the media sequence number is beyond",
        ),
        (
            "#EXTM3U\n#EXT-X-SKIP:SKIPPED-SEGMENTS=3\n",
            "line 2: it is a delta update",
        ),
        (
            "#EXTM3U\n#EXTINF:1,\n{$x}.ts\n",
            "line 3: variable x is not defined",
        ),
        // S14: some players begin a new line at each of these, also within a comment.
        (
            "#EXTM3U\n#EXTINF:1,\na\u{1}b\n",
            "line 3: it holds a control character",
        ),
        (
            "#EXTM3U\n#note\r#EXTINF:4,\rhttps://evil/beacon.ts\n#EXTINF:1,\na\n",
            "line 2: it holds a control character",
        ),
        (
            "#EXTM3U\n#note\u{2028}#EXTINF:4,\u{2028}https://evil/beacon.ts\n",
            "line 2: it holds a control character",
        ),
        (
            "#EXTM3U\n#EXTINF:1,\u{1b}[31m\na\n",
            "line 2: it holds a control character",
        ),
        (
            "#EXTM3U\n#EXTINF:1,\u{85}\na\n",
            "line 2: it holds a control character",
        ),
        ("#EXTM3U\r#EXTINF:1,\ra\r", "line 1: it holds a control"),
        // D8.
        (
            "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-VERSION:3\n",
            "line 3: #EXT-X-VERSION stands there twice",
        ),
        (
            "#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI=\"k\",IV=7\n",
            "line 2: the IV of #EXT-X-KEY is no hexadecimal number",
        ),
        (
            "#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI=\"k\",IV=0xg\n",
            "line 2: the IV of #EXT-X-KEY is no hexadecimal number",
        ),
        (
            "#EXTM3U\n#EXT-X-KEY:METHOD=A\u{202e}\n",
            "line 2: #EXT-X-KEY with METHOD=A\\u{202e} has no URI",
        ),
        (
            "#EXTM3U\n#EXTINF:1,\nhttps://[::1\n",
            "line 3: the URI can't be resolved",
        ),
        (
            "#EXTM3U\n#EXTINF:1,\na\n#EXTM3U\n",
            "line 4: a second playlist",
        ),
        (&long, "line 2: it is longer than 65536 bytes"),
    ] {
        assert!(
            refusal(text).starts_with(why),
            "{text:?}: {}",
            refusal(text)
        );
    }
    let not_utf8 = Playlist::read(b"#EXTM3U\n#EXTINF:1,\n\xff\n", &base(), None);
    assert!(
        not_utf8
            .unwrap_err()
            .full_message()
            .starts_with("line 3: it is not UTF-8")
    );
    let large = vec![b'\n'; MAX_PLAYLIST_BYTES + 1];
    let too_large = Playlist::read(&large, &base(), None).unwrap_err();
    assert_eq!(too_large.class(), Class::Refused);
}

/// D8.
#[test]
fn a_variable_within_a_value_is_replaced_and_kept_with_it_in_an_archived_copy() {
    let text = "#EXTM3U\n#EXT-X-DEFINE:NAME=\"cdn\",VALUE=\"other.example\"\n\
        #EXT-X-DEFINE:NAME=\"path\",VALUE=\"https://{$cdn}/x\"\n#EXT-X-DEFINE:NAME=\"unused\",VALUE=\"{$cdn}\"\n\
        #EXT-X-DATERANGE:ID=\"{$path}\"\n#EXTINF:1,\n{$path}/s.ts\n";
    let playlist = read(text);
    assert_eq!(urls(&playlist), ["https://other.example/x/s.ts"]);
    let archived = playlist.archived(|_| UriChange::Uri("s.ts".to_owned()));
    let expected = text
        .replace("\"unused\",VALUE=\"{$cdn}\"", "\"unused\",VALUE=\"\"")
        .replace("{$path}/s.ts", "s.ts");
    assert_eq!(archived, expected);
}

#[test]
fn too_many_uris_are_refused() {
    let text = format!(
        "#EXTM3U\n{}",
        "#EXTINF:1,\na\n".repeat(crate::format::hls::MAX_REFERENCES + 1)
    );
    assert!(refusal(&text).contains("more than 200000 URIs"));
}

#[test]
fn odd_playlists_of_the_field_are_read() {
    let playlist = read(
        "#EXTM3U x-tvg-url=\"\"\n#EXT-X-TARGETDURATION:6.006\n#EXTINF:6.006\n  a.ts  \n\n#comment\n#EXTINF:-1,t\nb.ts",
    );
    assert_eq!(playlist.segments.len(), 2);
    assert_eq!(playlist.target_secs, Some(6.006));
    assert!(!playlist.is_ended);
    assert_eq!(
        playlist
            .rewritten(|_| UriChange::Uri("n".into()))
            .matches("  n  ")
            .count(),
        1
    );
    let empty = read("#EXTM3U\n#EXT-X-ENDLIST");
    assert!(empty.segments.is_empty());
}

/// Random mixes of real lines and noise: no panic, and what is read can be written back unchanged.
#[test]
#[expect(clippy::print_stderr, reason = "the seed replays the run")]
fn random_playlists_never_panic_and_are_kept() {
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let lines = [
        "#EXTM3U",
        "#EXTINF:6,",
        "#EXTINF:",
        "a.ts",
        "../é.ts?x",
        "#EXT-X-BYTERANGE:5@3",
        "#EXT-X-BYTERANGE:5",
        "#EXT-X-KEY:METHOD=AES-128,URI=\"k\"",
        "#EXT-X-KEY:METHOD=NONE",
        "#EXT-X-MAP:URI=\"{$v}\"",
        "#EXT-X-DEFINE:NAME=\"v\",VALUE=\"x\"",
        "#EXT-X-DEFINE:QUERYPARAM=\"token\"",
        "#EXT-X-DATERANGE:ID=\"{$v}\",X-ASSET-URI=\"https://h/a?token=s3\",X-A=\"a?b\"",
        "# https://h/a?token=s3",
        "#EXT-X-PART:URI=\"p\",DURATION=1",
        "#EXT-X-GAP",
        "#EXT-X-ENDLIST",
        "#EXT-X-STREAM-INF:BANDWIDTH=1",
        "#EXT-X-MEDIA:TYPE=AUDIO,URI=\"a\"",
        "",
        "#",
        "#EXT",
        "\u{0}",
        "http://[",
        "#EXT-X-MEDIA-SEQUENCE:18446744073709551610",
        "#EXT-X-MAP:URI=\"m\",BYTERANGE=\"1@1\"",
    ];
    let mut read = 0;
    for _ in 0..20_000 {
        let mut text = String::from("#EXTM3U\n");
        for _ in 0..random.usize(0..12) {
            let line = lines[random.usize(..lines.len())];
            let mut line: Vec<char> = line.chars().collect();
            if random.u8(..) < 30 && !line.is_empty() {
                let at = random.usize(..line.len());
                line[at] = char::from(random.u8(32..127));
            }
            text.extend(line);
            text.push_str(if random.bool() { "\n" } else { "\r\n" });
        }
        if let Ok(playlist) = Playlist::read(text.as_bytes(), &base(), None) {
            read += 1;
            assert_eq!(playlist.rewritten(|_| UriChange::Keep), text);
            let archived = playlist.archived(|_| UriChange::Uri("n".to_owned()));
            Playlist::read(archived.as_bytes(), &base(), None).unwrap();
            let renamed = playlist.rewritten(|_| UriChange::Uri("n".to_owned()));
            Playlist::read(renamed.as_bytes(), &base(), None).unwrap();
        }
        let mut bytes = text.into_bytes();
        for _ in 0..3 {
            let at = random.usize(..bytes.len());
            bytes[at] = random.u8(..);
        }
        let _ = Playlist::read(&bytes, &base(), None);
    }
    assert!(read > 100, "only {read} could be read");
}

#[test]
fn t17_short_text_does_not_become_long_urls_or_lists_of_keys() {
    let formats: String = (0..=MAX_KEY_FORMATS)
        .map(|n| format!("#EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"k\",KEYFORMAT=\"f{n}\"\n"))
        .collect();
    let why = refusal(&format!("#EXTM3U\n{formats}#EXTINF:1,\na\n"));
    assert_eq!(why, "line 18: keys of more than 16 formats apply at once");

    let fifteen: String = formats
        .lines()
        .take(15)
        .flat_map(|line| [line, "\n"])
        .collect();
    let playlist = read(&format!(
        "#EXTM3U\n{fifteen}{}",
        "#EXTINF:1,\na\n".repeat(1000)
    ));
    let lists = playlist
        .segments
        .iter()
        .map(|segment| segment.keys.as_ptr());
    let lists: std::collections::BTreeSet<_> = lists.collect();
    assert_eq!(lists.len(), 1, "the list of keys is shared");

    let long = "x".repeat(60_000);
    let segments = "#EXTINF:1,\n{$v}\n".repeat(2000);
    let why = refusal(&format!(
        "#EXTM3U\n#EXT-X-DEFINE:NAME=\"v\",VALUE=\"{long}\"\n{segments}"
    ));
    assert!(
        why.contains("with their variables the URIs are longer than 33554432 bytes"),
        "{why}"
    );

    let base = Url::parse(&format!("https://h/{long}/p.m3u8")).unwrap();
    let text = format!("#EXTM3U\n{}", "#EXTINF:1,\na\n".repeat(2000));
    let why = Playlist::read(text.as_bytes(), &base, None)
        .unwrap_err()
        .full_message();
    assert!(
        why.contains("come to more than 67108864 bytes when they are resolved"),
        "{why}"
    );
}
