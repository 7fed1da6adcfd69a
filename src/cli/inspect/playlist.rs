//! What `inspect --json` shows of a playlist: every URI resolved.

use std::collections::HashSet;

use bytes::Bytes;
use serde::Serialize;
use url::Url;

use crate::error::{Error, Result};
use crate::format::hls::{Kind, Playlist, UriRole, without_secrets};

/// A playlist as `inspect --json` shows it; the fields are in the documented order.
#[derive(Debug, Serialize)]
pub(super) struct PlaylistDescription {
    kind: &'static str,
    endlist: bool,
    segments: Vec<SegmentDescription>,
    variants: Vec<String>,
    iframe_variants: Vec<String>,
    renditions: Vec<String>,
    session_keys: Vec<String>,
    refused: Vec<RefusedDescription>,
}

/// A URI that would not be fetched, and why.
#[derive(Debug, Serialize)]
struct RefusedDescription {
    uri: String,
    reason: String,
}

#[derive(Debug, Serialize)]
struct SegmentDescription {
    #[serde(flatten)]
    place: ResourcePlace,
    keys: Vec<KeyDescription>,
    map: Option<ResourcePlace>,
}

#[derive(Debug, Serialize)]
struct ResourcePlace {
    uri: String,
    offset: Option<u64>,
    length: Option<u64>,
}

#[derive(Debug, Serialize)]
struct KeyDescription {
    method: String,
    uri: String,
}

impl PlaylistDescription {
    /// Describes the playlist in `body`, which was read from `name`. Without `base` its URIs have to be
    /// absolute. `judge` is the guard: it gives why a URL would not be fetched.
    ///
    /// # Errors
    /// With the name, the line and the reason.
    pub(super) fn of(
        body: &Bytes,
        name: &str,
        base: Option<&Url>,
        judge: impl Fn(&str) -> Option<String>,
    ) -> Result<PlaylistDescription> {
        let unknown = Url::parse("unknown-base:/").map_err(|_| Error::internal("make a URL"))?;
        let read = Playlist::read(body, base.unwrap_or(&unknown), None);
        let playlist = read.map_err(|error| {
            let message = format!("read {name}: {}", error.full_message());
            Error::new(error.class(), message)
        })?;
        if base.is_none()
            && let Some(relative) = playlist.references.iter().find(|found| found.is_relative)
        {
            return Err(Error::invalid(format!(
                "read {name}: line {}: a relative URI needs --base URL",
                relative.line
            )));
        }
        if let Some(itself) = base.and_then(|base| playlist.names_itself(base)) {
            return Err(Error::invalid(format!(
                "read {name}: line {}: the playlist names itself",
                itself.line
            )));
        }
        Ok(describe(&playlist, judge))
    }

    /// Whether it names something that would not be fetched.
    pub(super) fn is_refused(&self) -> bool {
        !self.refused.is_empty()
    }
}

fn describe(playlist: &Playlist, judge: impl Fn(&str) -> Option<String>) -> PlaylistDescription {
    let place = |index: usize| {
        let found = &playlist.references[index];
        ResourcePlace {
            uri: shown(&found.url),
            offset: found.range.map(|range| range.offset),
            length: found.range.map(|range| range.length),
        }
    };
    let key = |index: &usize| {
        let key = &playlist.keys[*index];
        KeyDescription {
            method: key.method.clone(),
            uri: shown(&playlist.references[key.reference].url),
        }
    };
    let all = |is: fn(&UriRole) -> bool| {
        let found = playlist.having(is);
        found.map(|(_, found)| shown(&found.url)).collect()
    };
    let is_master = playlist.kind == Kind::Master;
    PlaylistDescription {
        kind: if is_master { "master" } else { "media" },
        endlist: playlist.is_ended,
        segments: (playlist.segments.iter())
            .map(|segment| SegmentDescription {
                place: place(segment.reference),
                keys: segment.keys.iter().map(key).collect(),
                map: segment.map.map(place),
            })
            .collect(),
        variants: all(|role| *role == UriRole::Variant),
        iframe_variants: all(|role| *role == UriRole::IFrameVariant),
        renditions: all(|role| matches!(role, UriRole::Rendition(..))),
        session_keys: all(|role| *role == UriRole::Key)
            .into_iter()
            .filter(|_| is_master)
            .collect(),
        refused: refused(playlist, judge),
    }
}

/// Each URI once, in the order of the playlist.
fn refused(playlist: &Playlist, judge: impl Fn(&str) -> Option<String>) -> Vec<RefusedDescription> {
    let mut seen = HashSet::new();
    let wanted = playlist.wanted().filter(|found| seen.insert(&found.url));
    wanted
        .filter_map(|found| {
            Some(RefusedDescription {
                reason: judge(&found.url)?,
                uri: shown(&found.url),
            })
        })
        .collect()
}

/// The URL with its query, unless that is a signature or holds a secret by name.
fn shown(url: &str) -> String {
    without_secrets(url).unwrap_or_else(|| url.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(text: &str) -> serde_json::Value {
        let base = Url::parse("https://h/a/p.m3u8").unwrap();
        let body = Bytes::copy_from_slice(text.as_bytes());
        let judge = |url: &str| url.contains("refused").then(|| "why".to_owned());
        let described = PlaylistDescription::of(&body, "p.m3u8", Some(&base), judge).unwrap();
        serde_json::to_value(described).unwrap()
    }

    #[test]
    fn a_media_playlist_in_the_documented_form() {
        let found = described(
            "#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI=\"k\"\n#EXT-X-MAP:URI=\"i.mp4\",BYTERANGE=\"720@0\"\n\
             #EXTINF:1,\n#EXT-X-BYTERANGE:5000@0\ns.mp4?part=1\n#EXT-X-ENDLIST\n",
        );
        assert_eq!(
            found,
            serde_json::json!({
                "kind": "media", "endlist": true,
                "segments": [{
                    "uri": "https://h/a/s.mp4?part=1", "offset": 0, "length": 5000,
                    "keys": [{"method": "AES-128", "uri": "https://h/a/k"}],
                    "map": {"uri": "https://h/a/i.mp4", "offset": 0, "length": 720},
                }],
                "variants": [], "iframe_variants": [], "renditions": [], "session_keys": [], "refused": [],
            })
        );
    }

    #[test]
    fn a_multivariant_playlist_in_the_documented_form() {
        let found = described(
            "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nv?sig=CANARY\n#EXT-X-I-FRAME-STREAM-INF:URI=\"i\"\n\
             #EXT-X-MEDIA:TYPE=AUDIO,URI=\"a?access_token=CANARY\"\n#EXT-X-SESSION-KEY:METHOD=AES-128,URI=\"k\"\n",
        );
        assert_eq!(
            found,
            serde_json::json!({
                "kind": "master", "endlist": false, "segments": [],
                "variants": ["https://h/a/v"], "iframe_variants": ["https://h/a/i"],
                "renditions": ["https://h/a/a"], "session_keys": ["https://h/a/k"], "refused": [],
            })
        );
    }

    #[test]
    fn what_the_guard_refuses_is_listed_once_and_without_its_secrets() {
        let found = described(
            "#EXTM3U\n#EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"skd://refused\",KEYFORMAT=\"com.drm\"\n\
             #EXT-X-KEY:METHOD=AES-128,URI=\"refused-key\"\n#EXT-X-MAP:URI=\"https://refused/i?sig=CANARY\"\n\
             #EXTINF:1,\nfile:///refused\n#EXTINF:1,\nfile:///refused\n#EXT-X-GAP\n#EXTINF:1,\nrefused-gap\n\
             #EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"refused-hint\"\n",
        );
        let of = |uri: &str| serde_json::json!({"uri": uri, "reason": "why"});
        let expected = [
            of("https://h/a/refused-key"),
            of("https://refused/i"),
            of("file:///refused"),
        ];
        assert_eq!(found["refused"], serde_json::json!(expected));
    }

    #[test]
    fn an_error_names_file_line_and_reason() {
        let of = |text: &'static str, base| {
            let body = Bytes::from_static(text.as_bytes());
            let error = PlaylistDescription::of(&body, "p.m3u8", base, |_| None).unwrap_err();
            error.full_message()
        };
        assert_eq!(
            of("#EXTM3U\n#EXTINF:1,\n", None),
            "read p.m3u8: line 2: it ends after #EXTINF, without a URI"
        );
        let base = Url::parse("https://h/a/m.m3u8?token=t").unwrap();
        let itself = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nm.m3u8?token=t#again\n";
        assert_eq!(
            of(itself, Some(&base)),
            "read p.m3u8: line 3: the playlist names itself"
        );
        assert_eq!(
            of("#EXTM3U\n#EXTINF:1,\na\n", None),
            "read p.m3u8: line 3: a relative URI needs --base URL"
        );
    }
}
