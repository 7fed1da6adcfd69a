use super::*;

#[test]
fn every_entry_is_found_from_the_folder_of_its_pieces() {
    for key in [
        "a/hls/master.m3u8",
        "a/hls/master-2.m3u8",
        "x.m3u8",
        "a/hls.zip",
    ] {
        assert!(
            entries_of(&folder_of(key)).contains(&key.to_owned()),
            "{key}"
        );
    }
}

#[test]
fn each_entry_playlist_has_a_folder_of_its_own() {
    assert_eq!(folder_of("a/hls/master.m3u8"), "a/hls");
    assert_eq!(folder_of("a/hls/master-2.m3u8"), "a/hls/master-2");
    assert_eq!(folder_of("x.m3u8"), "x");
}
