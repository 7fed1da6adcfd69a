//! What tags there are, and what they speak of.

use super::playlist::Kind;

/// Tags that speak of the whole playlist and not of the segment after them.
const WHOLE: [&str; 13] = [
    "EXTM3U",
    "EXT-X-VERSION",
    "EXT-X-TARGETDURATION",
    "EXT-X-MEDIA-SEQUENCE",
    "EXT-X-DISCONTINUITY-SEQUENCE",
    "EXT-X-PLAYLIST-TYPE",
    "EXT-X-INDEPENDENT-SEGMENTS",
    "EXT-X-START",
    "EXT-X-DEFINE",
    "EXT-X-I-FRAMES-ONLY",
    "EXT-X-SERVER-CONTROL",
    "EXT-X-PART-INF",
    "EXT-X-ENDLIST",
];

/// The tags that make a playlist a multivariant or a media playlist.
const MASTER: [&str; 6] = [
    "EXT-X-STREAM-INF",
    "EXT-X-MEDIA",
    "EXT-X-I-FRAME-STREAM-INF",
    "EXT-X-SESSION-DATA",
    "EXT-X-SESSION-KEY",
    "EXT-X-CONTENT-STEERING",
];
const MEDIA: [&str; 13] = [
    "EXTINF",
    "EXT-X-TARGETDURATION",
    "EXT-X-MEDIA-SEQUENCE",
    "EXT-X-DISCONTINUITY-SEQUENCE",
    "EXT-X-PLAYLIST-TYPE",
    "EXT-X-ENDLIST",
    "EXT-X-I-FRAMES-ONLY",
    "EXT-X-KEY",
    "EXT-X-MAP",
    "EXT-X-BYTERANGE",
    "EXT-X-DISCONTINUITY",
    "EXT-X-PART",
    "EXT-X-SKIP",
];

/// Whether a tag speaks of the whole playlist.
pub(super) fn speaks_of_the_whole(name: &str) -> bool {
    WHOLE.contains(&name)
}

/// The kind of playlist that a tag belongs into; `None` for both.
pub(super) fn kind_of(name: &str) -> Option<Kind> {
    if MASTER.contains(&name) {
        Some(Kind::Master)
    } else if MEDIA.contains(&name) {
        Some(Kind::Media)
    } else {
        None
    }
}
