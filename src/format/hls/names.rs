//! The names of what a playlist leads to: from its place in the list, never from its URI.

use super::playlist::UriRole;

/// Extensions that are taken over from a URI; each with the media type to store it under.
const EXTENSIONS: [(&str, &str); 19] = [
    ("ts", "video/mp2t"),
    ("m2ts", "video/mp2t"),
    ("mp4", "video/mp4"),
    ("m4s", "video/iso.segment"),
    ("m4v", "video/mp4"),
    ("m4a", "audio/mp4"),
    ("cmfv", "video/mp4"),
    ("cmfa", "audio/mp4"),
    ("cmft", "application/mp4"),
    ("mov", "video/quicktime"),
    ("aac", "audio/aac"),
    ("ac3", "audio/ac3"),
    ("ec3", "audio/eac3"),
    ("eac3", "audio/eac3"),
    ("mp3", "audio/mpeg"),
    ("vtt", "text/vtt; charset=utf-8"),
    ("webvtt", "text/vtt; charset=utf-8"),
    ("json", "application/json"),
    ("m3u8", "application/vnd.apple.mpegurl"),
];

/// The folder, within the ladder's, of the `number`-th playlist of a role. Segments of a media playlist
/// that stands alone are in `v0` like those of a single variant.
pub fn playlist_folder(role: &UriRole, number: usize) -> String {
    match role {
        UriRole::IFrameVariant => format!("iframes-{number}"),
        UriRole::Rendition(kind, _) => {
            let kind = ["audio", "video", "subtitles"]
                .into_iter()
                .find(|known| known == kind)
                .unwrap_or("rendition");
            format!("{kind}-{number}")
        }
        _ => format!("v{number}"),
    }
}

/// The name, within its playlist's folder, of what the reference at `index` leads to. `has_map` says
/// whether segments have an initialization section, for a file whose own extension says nothing.
pub fn resource_name(role: &UriRole, index: usize, url: &str, has_map: bool) -> String {
    let extension = extension_of(url);
    match role {
        UriRole::Segment(sequence) => {
            let extension = extension.unwrap_or(if has_map { "m4s" } else { "ts" });
            format!("seg-{sequence:05}.{extension}")
        }
        UriRole::Map => format!("init-{index}.{}", extension.unwrap_or("mp4")),
        UriRole::Key => format!("key-{index}.key"),
        UriRole::SessionData { is_raw: false } => format!("session-data-{index}.json"),
        UriRole::SessionData { is_raw: true } => match extension {
            Some(extension) => format!("session-data-{index}.{extension}"),
            None => format!("session-data-{index}.bin"),
        },
        UriRole::Part { .. } | UriRole::PreloadHint => {
            let extension = extension.unwrap_or(if has_map { "m4s" } else { "ts" });
            format!("part-{index}.{extension}")
        }
        UriRole::RenditionReport
        | UriRole::Variant
        | UriRole::IFrameVariant
        | UriRole::Rendition(..) => {
            format!("playlist-{index}.m3u8")
        }
    }
}

/// The extension of a URL's path, in lower case, if it is one that segments have.
pub fn extension_of(url: &str) -> Option<&'static str> {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let (_, extension) = path.rsplit('/').next()?.rsplit_once('.')?;
    EXTENSIONS
        .iter()
        .map(|(known, _)| *known)
        .find(|known| known.eq_ignore_ascii_case(extension))
}

/// The media type of a name that [`resource_name`] made.
pub fn media_type(name: &str) -> &'static str {
    let extension = extension_of(name);
    EXTENSIONS
        .iter()
        .find(|(known, _)| Some(*known) == extension)
        .map_or("application/octet-stream", |(_, media_type)| media_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_places() {
        let name = |role, url| resource_name(&role, 7, url, false);
        let evil = "https://h/../../etc/passwd%00.TS?x=/.mp4";
        assert_eq!(name(UriRole::Segment(3), evil), "seg-00003.ts");
        assert_eq!(
            name(UriRole::Segment(123_456), "https://h/a.exe"),
            "seg-123456.ts"
        );
        assert_eq!(name(UriRole::Map, "https://h/i"), "init-7.mp4");
        assert_eq!(name(UriRole::Key, "https://h/k.m3u8"), "key-7.key");
        assert_eq!(
            resource_name(&UriRole::Segment(0), 1, "https://h/s", true),
            "seg-00000.m4s"
        );
        assert_eq!(media_type("seg-00003.ts"), "video/mp2t");
        assert_eq!(media_type("key-7.key"), "application/octet-stream");
        let subtitles = UriRole::Rendition("subtitles".to_owned(), None);
        assert_eq!(playlist_folder(&subtitles, 1), "subtitles-1");
        let odd = UriRole::Rendition("../x".to_owned(), None);
        assert_eq!(playlist_folder(&odd, 0), "rendition-0");
    }
}
