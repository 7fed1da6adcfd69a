//! `harvester inspect` on playlists.

use super::{lines, run, run_with};

#[test]
fn inspect_lists_what_a_playlist_names_and_the_guard_refuses() {
    // D8.
    let folder = tempfile::tempdir().unwrap();
    let refused = [
        ("file:///etc/passwd", "scheme `file`"),
        ("data:text/plain,x", "scheme `data`"),
        ("javascript:alert(1)", "scheme `javascript`"),
        ("concat:a|b", "scheme `concat`"),
        ("https://10.0.0.1/x", "a private address"),
        ("https://[::ffff:169.254.169.254]/x", "cloud metadata"),
    ];
    let media = |uri: &str| format!("#EXTM3U\n#EXTINF:1,\n{uri}\n#EXTINF:1,\ns.ts\n");
    let map = |uri: &str| format!("#EXTM3U\n#EXT-X-MAP:URI=\"{uri}\"\n#EXTINF:1,\ns.ts\n");
    let key =
        |uri: &str| format!("#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI=\"{uri}\"\n#EXTINF:1,\ns.ts\n");
    let variant = |uri: &str| format!("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{uri}\n");
    let base = [
        "--json",
        "inspect",
        "--base",
        "https://cdn.example/p.m3u8",
        "-",
    ];
    for (uri, reason) in refused {
        for text in [media(uri), map(uri), key(uri), variant(uri)] {
            let ended = run_with(folder.path(), &base, &[], &text);
            assert_eq!(ended.code, 1, "{text}: {}", ended.err);
            let told = &lines(&ended.out)[0]["refused"];
            assert_eq!(told.as_array().map(Vec::len), Some(1), "{text}: {told}");
            assert_eq!(told[0]["uri"], uri);
            let told = told[0]["reason"].as_str().unwrap();
            assert!(told.contains(reason), "{uri}: {told}");
        }
    }
    let ended = run_with(folder.path(), &base, &[], &media("a.ts"));
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert_eq!(lines(&ended.out)[0]["refused"], serde_json::json!([]));

    let file = folder.path().join("p.m3u8");
    std::fs::write(file, media("https://10.0.0.1/x")).unwrap();
    let ended = run(folder.path(), &["inspect", "--base", base[3], "p.m3u8"]);
    assert_eq!(ended.code, 1);
    let told = ended.out.lines().last().unwrap();
    assert!(told.starts_with("  refused https://10.0.0.1/x: "), "{told}");
}

#[test]
fn no_terminal_obeys_a_playlist_that_is_refused() {
    // S12, S14.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("esc.m3u8");
    for text in [
        "#EXTM3U\n#EXT-X-KEY:METHOD=\u{1b}[31mx\rFORGED\n",
        "#EXTM3U\n#EXT-X-KEY:METHOD=\u{202e}x\n",
        "#EXTM3U\n#EXT-X-DEFINE:IMPORT=\"\u{1b}]52;c;x\u{7}\"\n",
        "#EXTM3U\n#note\r#EXTINF:4,\rhttps://evil.example/beacon.ts\n#EXTINF:1,\nhttps://a.example/s.ts\n",
    ] {
        std::fs::write(&file, text).unwrap();
        for json in [
            &["inspect", "esc.m3u8"][..],
            &["--json", "inspect", "esc.m3u8"],
        ] {
            let ended = run(folder.path(), json);
            assert_eq!(ended.code, 1, "{text:?}: {}", ended.out);
            let said = format!("{}{}", ended.out, ended.err);
            let is_obeyed = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
            assert!(!said.contains(is_obeyed), "{said:?}");
        }
    }
}
