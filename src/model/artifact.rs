//! One file to archive: what it is, and where its bytes are.

use serde::{Deserialize, Serialize};

use super::deadline::Deadline;
use crate::error::Class;
use crate::signed_url::SignedUrl;

macro_rules! named {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $name { $($(#[$doc])* #[serde(rename = $text)] $variant),+ }

        impl $name {
            /// Every value.
            pub const ALL: &[$name] = &[$($name::$variant),+];

            /// The public name.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text),+ }
            }

            /// The value of that public name.
            pub fn parse(name: &str) -> Option<$name> {
                match name { $($text => Some($name::$variant),)+ _ => None }
            }
        }
    };
}

named! {
    /// What an artifact is to a person.
    Kind {
        /// A video, with or without sound.
        Video = "video",
        /// Sound alone.
        Audio = "audio",
        /// What was said.
        Transcript = "transcript",
        /// What it came to.
        Summary = "summary",
        /// What was typed.
        Chat = "chat",
        /// A playlist, or an archive of playlists and segments.
        Hls = "hls",
        /// A still picture.
        Thumbnail = "thumbnail",
        /// The raw event, its URL queries removed.
        Event = "event",
        /// Anything else.
        Other = "other",
    }
}

named! {
    /// How an artifact's bytes are written.
    Format {
        /// MPEG-4 container.
        Mp4 = "mp4",
        /// MPEG-4 container with sound alone.
        M4a = "m4a",
        /// WebM (Matroska).
        Webm = "webm",
        /// HLS playlist, RFC 8216.
        M3u8 = "m3u8",
        /// ZIP archive.
        Zip = "zip",
        /// tar archive.
        Tar = "tar",
        /// WebVTT.
        Vtt = "vtt",
        /// SubRip.
        Srt = "srt",
        /// Plain text.
        Txt = "txt",
        /// JSON.
        Json = "json",
        /// One JSON value a line.
        Jsonl = "jsonl",
        /// Comma-separated values, RFC 4180.
        Csv = "csv",
        /// PNG picture.
        Png = "png",
        /// JPEG picture.
        Jpg = "jpg",
        /// WAVE sound.
        Wav = "wav",
        /// MPEG layer 3 sound.
        Mp3 = "mp3",
        /// FLAC sound.
        Flac = "flac",
        /// Ogg container.
        Ogg = "ogg",
        /// Not known: kept as it is.
        Bin = "bin",
    }
}

impl Format {
    /// The file extension, without the dot.
    pub fn extension(self) -> &'static str {
        self.as_str()
    }

    /// The format that a file extension (no dot, any case) names, if it is one of ours.
    pub fn from_extension(extension: &str) -> Option<Format> {
        let lower = extension.to_ascii_lowercase();
        match lower.as_str() {
            "jpeg" => Some(Format::Jpg),
            "text" | "md" | "markdown" => Some(Format::Txt),
            "wave" => Some(Format::Wav),
            "oga" | "opus" => Some(Format::Ogg),
            "bin" => None,
            other => Format::parse(other),
        }
    }

    /// The name of an HLS recording in its recording's folder: a playlist comes with a folder of its own,
    /// which its segments are in.
    pub fn hls_name(self) -> String {
        match self {
            Format::M3u8 => "hls/master.m3u8".to_owned(),
            other => format!("hls.{}", other.extension()),
        }
    }

    /// The media type to store it under.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Mp4 => "video/mp4",
            Format::M4a => "audio/mp4",
            Format::Webm => "video/webm",
            Format::M3u8 => "application/vnd.apple.mpegurl",
            Format::Zip => "application/zip",
            Format::Tar => "application/x-tar",
            Format::Vtt => "text/vtt; charset=utf-8",
            Format::Srt => "application/x-subrip",
            Format::Txt => "text/plain; charset=utf-8",
            Format::Json => "application/json",
            Format::Jsonl => "application/jsonl",
            Format::Csv => "text/csv; charset=utf-8",
            Format::Png => "image/png",
            Format::Jpg => "image/jpeg",
            Format::Wav => "audio/wav",
            Format::Mp3 => "audio/mpeg",
            Format::Flac => "audio/flac",
            Format::Ogg => "audio/ogg",
            Format::Bin => "application/octet-stream",
        }
    }
}

/// A provider API call that gives a URL (or the data itself), as plain data:
/// `ingest` knows how to ask and how to read the answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Lookup {
    /// The call, by a name that the provider's adapter knows (`daily-recording`, `hms-asset`, ...).
    pub call: String,
    /// The id that it asks for.
    pub id: String,
}

impl Lookup {
    /// The call of a file that an event names without what is needed to open it, where there is no API that could
    /// be asked (user-defined providers).
    pub const NO_CALL: &str = "none";

    /// The call of a file whose place the event names without a signature (user-defined providers): the id is the
    /// place itself, so that nobody has to be asked, and only trying it tells whether it can be read from here.
    pub const PLACE: &str = "place";

    /// The place that is to be tried.
    pub fn place(&self) -> Option<&str> {
        (self.call == Lookup::PLACE).then_some(&*self.id)
    }

    /// Whether there is anybody to ask.
    pub fn has_call(&self) -> bool {
        self.call != Lookup::NO_CALL
    }
}

/// Where an artifact's bytes are.
#[derive(Clone, PartialEq, Eq)]
pub enum Origin {
    /// Behind a URL, presigned or plain.
    Url(SignedUrl),
    /// A provider API call tells where; one answer may hold several artifacts.
    Lookup(Lookup),
    /// Here: the bytes came with the event.
    Inline(String),
    /// Here too: the event itself, without its secrets. Whoever keeps its body makes [`Inline`](Origin::Inline) of it
    /// when it is to be archived.
    Event,
    /// Nowhere: the event names a place that can't be used. Carries why, free of secrets.
    Unusable(Class, String),
}

impl std::fmt::Debug for Origin {
    /// Inline bytes are what people said or typed: counted, not shown.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Origin::Url(url) => f.debug_tuple("Url").field(url).finish(),
            Origin::Lookup(lookup) => f.debug_tuple("Lookup").field(lookup).finish(),
            Origin::Inline(text) => write!(f, "Inline({} bytes)", text.len()),
            Origin::Event => f.write_str("Event"),
            Origin::Unusable(class, why) => {
                f.debug_tuple("Unusable").field(class).field(why).finish()
            }
        }
    }
}

impl Origin {
    /// The public name of the sort of origin.
    pub fn as_str(&self) -> &'static str {
        match self {
            Origin::Url(_) | Origin::Unusable(..) => "url",
            Origin::Lookup(_) => "lookup",
            Origin::Inline(_) | Origin::Event => "inline",
        }
    }

    /// Whether the bytes came with the event.
    pub fn is_inline(&self) -> bool {
        matches!(self, Origin::Inline(_) | Origin::Event)
    }
}

/// One file to archive, as an event or an API answer announces it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// What makes it the same artifact in two events of one recording: survives a fresh signature
    /// (for a URL the path without query, for a lookup the call and id, for inline bytes their hash).
    pub identity: String,
    /// The file name in the archive, such as `recording.mp4`; unique within its event.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// How it is written.
    pub format: Format,
    /// Where its bytes are.
    pub origin: Origin,
    /// How a fresh URL can be had, where the provider has a call for it.
    pub remint: Option<Lookup>,
    /// Until when the origin can be opened.
    pub deadline: Deadline,
    /// The length in bytes, when the event tells it for this very file.
    pub size_bytes: Option<u64>,
}

impl Artifact {
    /// Whether it goes through the lane of the small ones, which never waits behind a video.
    pub fn is_small(&self) -> bool {
        is_small(self.kind, &self.origin)
    }
}

/// See [`Artifact::is_small`]: decided by kind, since the length is often unknown before the first byte.
pub fn is_small(kind: Kind, origin: &Origin) -> bool {
    !matches!(origin, Origin::Url(_))
        || !matches!(kind, Kind::Video | Kind::Audio | Kind::Hls | Kind::Other)
}

/// `name` if it is free, else the first of `stem-2.ext`, `stem-3.ext`, ... that is.
pub fn free_name(name: &str, is_taken: impl Fn(&str) -> bool) -> String {
    if !is_taken(name) {
        return name.to_owned();
    }
    let (stem, extension) = match name.rsplit_once('.') {
        Some((stem, extension)) if !stem.is_empty() => (stem, format!(".{extension}")),
        _ => (name, String::new()),
    };
    let mut number = 2u64;
    loop {
        let candidate = format!("{stem}-{number}{extension}");
        if !is_taken(&candidate) {
            return candidate;
        }
        number += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_artifact_of_one_name_gets_a_number() {
        let taken = ["recording.mp4", "recording-2.mp4"];
        assert_eq!(
            free_name("recording.mp4", |n| taken.contains(&n)),
            "recording-3.mp4"
        );
        assert_eq!(free_name("chat.csv", |n| taken.contains(&n)), "chat.csv");
        assert_eq!(free_name("noext", |n| n == "noext"), "noext-2");
    }

    #[test]
    fn public_names_read_back() {
        for &kind in Kind::ALL {
            assert_eq!(Kind::parse(kind.as_str()), Some(kind));
        }
        for &format in Format::ALL {
            assert_eq!(Format::parse(format.as_str()), Some(format));
        }
        assert_eq!(Format::from_extension("MP4"), Some(Format::Mp4));
        assert_eq!(Format::from_extension("exe"), None);
    }
}
