//! The media that the demo's origin serves: real, small, made by `fixtures/media/make.sh`.

use std::sync::LazyLock;

use bytes::Bytes;

/// The length of the padding's pattern: a prime, so that bytes that land at a wrong offset (always
/// a multiple of some power of two) differ from those that belong there.
const PATTERN_BYTES: usize = 65_521;

static PATTERN: LazyLock<Bytes> = LazyLock::new(|| {
    let mut random = fastrand::Rng::with_seed(1);
    (0..PATTERN_BYTES).map(|_| random.u8(..)).collect()
});

/// The bytes behind one path: a file of `fixtures/media`, perhaps made longer by an MP4 `free` box.
#[derive(Clone, Debug)]
pub struct MediaContent {
    file: &'static [u8],
    free_box: Option<FreeBox>,
}

/// An MP4 box that players skip (ISO/IEC 14496-12, 8.1.2): makes a valid file of any length.
#[derive(Clone, Debug)]
struct FreeBox {
    header: [u8; 8],
    size_bytes: u64,
}

impl MediaContent {
    /// The length in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.file.len() as u64 + self.free_box.as_ref().map_or(0, |free| free.size_bytes)
    }

    /// Some bytes from `start` on, at most `max`; empty only at the end.
    pub fn read(&self, start: u64, max: usize) -> Bytes {
        let Some(offset) = start.checked_sub(self.file.len() as u64) else {
            let rest = Bytes::from_static(self.file).split_off(start as usize);
            return cut(rest, max);
        };
        let Some(free) = &self.free_box else {
            return Bytes::new();
        };
        let header_bytes = free.header.len() as u64;
        if offset < header_bytes {
            return cut(Bytes::copy_from_slice(&free.header[offset as usize..]), max);
        }
        let left = usize::try_from(free.size_bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        let at = ((offset - header_bytes) % PATTERN_BYTES as u64) as usize;
        cut(PATTERN.slice(at..), max.min(left))
    }

    /// Whether `bytes` are exactly this content.
    pub fn is_equal_to(&self, bytes: &[u8]) -> bool {
        if bytes.len() as u64 != self.size_bytes() {
            return false;
        }
        let mut position = 0;
        while position < bytes.len() {
            let chunk = self.read(position as u64, usize::MAX);
            if bytes[position..position + chunk.len()] != chunk {
                return false;
            }
            position += chunk.len();
        }
        true
    }
}

fn cut(bytes: Bytes, max: usize) -> Bytes {
    bytes.slice(..bytes.len().min(max))
}

/// What is behind which path.
#[derive(Clone, Copy, Debug, Default)]
pub struct Library {
    /// The room composite of 100ms (`/100ms/sfu/...mp4`) is made longer by about this many bytes, so that
    /// there is something to see; 0 leaves it as it is.
    pub padding_bytes: u32,
}

impl Library {
    /// The content of a path such as `/100ms/hls/layer0.mp4`; `None` when nothing is there.
    pub fn content(&self, path: &str) -> Option<MediaContent> {
        let file = file(path)?;
        let is_padded = path.starts_with("/100ms/sfu/") && path.ends_with(".mp4");
        let free_box = (is_padded && self.padding_bytes > 0).then(|| {
            let size = self.padding_bytes.max(8);
            let mut header = *b"\0\0\0\0free";
            header[..4].copy_from_slice(&size.to_be_bytes());
            FreeBox {
                header,
                size_bytes: u64::from(size),
            }
        });
        Some(MediaContent { file, free_box })
    }
}

macro_rules! media {
    ($name:literal) => {
        include_bytes!(concat!("../../fixtures/media/", $name)).as_slice()
    };
}

/// Providers name files after rooms, bots and layers; the last part of the path tells what it is.
fn file(path: &str) -> Option<&'static [u8]> {
    let name = path.rsplit('/').next()?;
    let (stem, extension) = name.rsplit_once('.')?;
    Some(match (stem, extension) {
        ("layer0", "mp4") => media!("layer-0.mp4"),
        ("layer1", "mp4") => media!("layer-1.mp4"),
        ("layer2", "mp4") => media!("layer-2.mp4"),
        ("layer3", "mp4") => media!("layer-3.mp4"),
        (_, "mp4") => media!("recording.mp4"),
        (_, "mp3") => media!("audio.mp3"),
        (_, "wav") => media!("audio.wav"),
        (_, "flac") => media!("audio.flac"),
        ("rec", "webm") => media!("screen.webm"),
        (_, "webm") => media!("track.webm"),
        ("t60", "png") => media!("thumbnail-1.png"),
        (_, "png") => media!("thumbnail-2.png"),
        (_, "zip") => media!("hls.zip"),
        (_, "tar") => media!("interactive.tar"),
        ("transcript", "csv") => media!("transcript.csv"),
        (_, "csv") if path.starts_with("/100ms/") => media!("chat.csv"),
        (_, "csv") => media!("chat-dyte.csv"),
        ("chat" | "chat_messages", "json") => media!("chat.json"),
        ("summary_json", "json") => media!("summary.json"),
        ("raw_transcription", "json") => media!("transcript-raw.json"),
        (_, "json") => media!("transcript.json"),
        (_, "jsonl") => media!("diarization.jsonl"),
        ("summary", "txt") => media!("summary.txt"),
        (_, "txt") => media!("transcript.txt"),
        (_, "srt") => media!("transcript.srt"),
        (_, "vtt") => media!("transcript.vtt"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(content: &MediaContent, step: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            let chunk = content.read(bytes.len() as u64, step);
            if chunk.is_empty() {
                return bytes;
            }
            bytes.extend_from_slice(&chunk);
        }
    }

    #[test]
    fn a_padded_recording_is_its_boxes_up_to_the_end() {
        let library = Library {
            padding_bytes: 200_000,
        };
        let content = library.content("/100ms/sfu/rec.mp4").unwrap();
        let bytes = whole(&content, 4096);
        assert_eq!(bytes.len() as u64, content.size_bytes());

        let mut names = Vec::new();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let size = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
            names.push(String::from_utf8(rest[4..8].to_vec()).unwrap());
            rest = &rest[size..];
        }
        assert_eq!(names, ["ftyp", "moov", "free", "mdat", "free"]);
    }

    #[test]
    fn reading_gives_the_same_bytes_whatever_the_steps() {
        let library = Library {
            padding_bytes: 150_000,
        };
        let content = library.content("/100ms/sfu/rec.mp4").unwrap();
        let bytes = whole(&content, 1 << 20);
        for step in [1000, 65_521, 65_536] {
            assert!(whole(&content, step) == bytes, "steps of {step}");
        }
        assert!(content.is_equal_to(&bytes));
        assert!(!content.is_equal_to(&bytes[1..]));
        let mut damaged = bytes;
        damaged[200_000] ^= 1;
        assert!(!content.is_equal_to(&damaged));
    }

    #[test]
    fn a_path_without_media_is_nothing() {
        let library = Library::default();
        assert!(library.content("/100ms/hls/").is_none());
        assert!(library.content("/100ms/hls/vod.exe").is_none());
        assert!(library.content("/dyte/weekly.mp4").is_some());
    }
}
