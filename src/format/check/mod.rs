//! Whether content is what its name says, checked as the bytes pass, in constant memory.
//!
//! It is no decoder. It finds what goes wrong between a provider and us: an error page under the name
//! of a recording, a file cut in the middle, an empty one.

mod cues;
mod json;
mod mp4;
mod mp4_candidates;
mod signature;
mod tail;

pub(crate) use crate::format::check::signature::is_playlist;
use crate::format::check::tail::Tail;
use bytes::Bytes;

use crate::error::{Class, Error, Result};
use crate::format::zip::ZipWalk;
use crate::model::Format;

/// How much of the beginning is looked at.
const HEAD_BYTES: usize = 1024;

/// Whether the content itself tells that it is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentProof {
    /// Its end is marked, and is here.
    Whole,
    /// It could go on; only a length can tell.
    None,
}

/// A check of one file's content.
pub struct ContentCheck {
    format: Format,
    head: Vec<u8>,
    is_head_judged: bool,
    tail: Tail,
    total: u64,
    boxes: mp4::BoxWalk,
    json: json::JsonWalk,
    cues: cues::CueWalk,
    zip: ZipWalk,
}

impl ContentCheck {
    /// A check for content that is announced as `format` and comes in order.
    pub fn new(format: Format) -> ContentCheck {
        ContentCheck {
            format,
            head: Vec::with_capacity(HEAD_BYTES),
            is_head_judged: false,
            tail: Tail::new(format),
            total: 0,
            boxes: mp4::BoxWalk::default(),
            json: json::JsonWalk::default(),
            cues: cues::CueWalk::default(),
            zip: ZipWalk::default(),
        }
    }

    /// A check for content of `length` bytes whose parts may come in any order, the first one first.
    pub fn of_length(format: Format, length: u64) -> ContentCheck {
        ContentCheck {
            tail: Tail::of_length(format, length),
            total: length,
            ..ContentCheck::new(format)
        }
    }

    /// Whether content of `format` can only be checked in order.
    pub fn needs_order(format: Format) -> bool {
        matches!(
            format,
            Format::Json | Format::Vtt | Format::Srt | Format::Zip
        )
    }

    /// From which byte on content of `length` bytes must be seen again by a check that goes on from
    /// [`ContentCheck::state`]: the end is not in there.
    pub fn unstored_from(format: Format, length: u64) -> u64 {
        length.saturating_sub(tail::bytes_of(format) as u64)
    }

    /// What another process needs to go on with the check.
    pub fn state(&self) -> Option<String> {
        serde_json::to_string(&(self.is_head_judged, &self.boxes)).ok()
    }

    /// Goes on from a stored state. Without one, what it needs of a file's beginning is asked for at the end.
    pub fn restore(&mut self, state: Option<&str>) {
        if let Some((is_head_judged, boxes)) =
            state.and_then(|text| serde_json::from_str(text).ok())
        {
            self.is_head_judged = is_head_judged;
            self.boxes = boxes;
        }
    }

    /// Whether the beginning was seen, or need not be seen again.
    pub fn is_head_judged(&self) -> bool {
        self.is_head_judged
    }

    /// Looks at the next bytes of content that comes in order.
    ///
    /// # Errors
    /// `corrupt` as soon as the content can't be what it should be.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<()> {
        let offset = self.total;
        self.total += bytes.len() as u64;
        self.feed_head(offset, bytes)?;
        let walked = match self.format {
            Format::Mp4 | Format::M4a => self.boxes.feed(offset, bytes),
            Format::Json => self.json.feed(bytes),
            Format::Vtt | Format::Srt => self.cues.feed(bytes),
            Format::Zip => self.zip.feed(bytes, &mut |_| {}),
            _ => Ok(()),
        };
        self.tail.keep(offset, bytes);
        walked.map_err(|why| self.explain(&why))
    }

    /// Looks at one part of content of a known length, which begins at `offset`.
    ///
    /// # Errors
    /// `corrupt` as soon as the content can't be what it should be.
    pub fn feed_part(&mut self, offset: u64, chunks: &[Bytes]) -> Result<()> {
        let mut start = offset;
        for chunk in chunks {
            self.feed_head(start, chunk)?;
            let walked = match self.format {
                Format::Json => self.json.feed(chunk),
                Format::Vtt | Format::Srt => self.cues.feed(chunk),
                Format::Zip => self.zip.feed(chunk, &mut |_| {}),
                _ => Ok(()),
            };
            walked.map_err(|why| self.explain(&why))?;
            self.tail.keep(start, chunk);
            start += chunk.len() as u64;
        }
        if matches!(self.format, Format::Mp4 | Format::M4a) {
            let walked = self.boxes.feed_part(offset, chunks);
            walked.map_err(|why| self.explain(&why))?;
        }
        Ok(())
    }

    /// Bytes (from, to) that must be looked at before [`ContentCheck::finish`] can judge: a part that held them came
    /// before it was known that they matter.
    pub fn wanted(&self) -> Option<(u64, u64)> {
        match self.format {
            Format::Mp4 | Format::M4a => self.boxes.wanted(self.total),
            _ => None,
        }
    }

    /// Looks at the content as a whole; not called for an empty one.
    ///
    /// # Errors
    /// `corrupt`.
    pub fn finish(&mut self) -> Result<ContentProof> {
        if !self.is_head_judged {
            self.judge_head()?;
        }
        let tail = self.tail.bytes();
        let verdict = match self.format {
            Format::Mp4 | Format::M4a => self.boxes.finish(self.total),
            Format::Json => self.json.finish(),
            Format::Vtt | Format::Srt => self.cues.finish().map(|()| ContentProof::None),
            Format::Zip => match self.zip.finish() {
                Ok(true) => Ok(ContentProof::Whole),
                Ok(false) => signature::judge_tail(Format::Zip, tail, self.total),
                Err(why) => Err(why),
            },
            Format::Wav => Ok(signature::wav_end(&self.head, self.total)),
            other => signature::judge_tail(other, tail, self.total),
        };
        verdict.map_err(|why| self.corrupt(&why))
    }

    fn feed_head(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        if self.is_head_judged || offset != self.head.len() as u64 {
            return Ok(());
        }
        let missing = HEAD_BYTES - self.head.len();
        self.head
            .extend_from_slice(&bytes[..missing.min(bytes.len())]);
        if self.head.len() == HEAD_BYTES {
            self.judge_head()?;
        }
        Ok(())
    }

    fn judge_head(&mut self) -> Result<()> {
        self.is_head_judged = true;
        signature::judge_head(self.format, &self.head).map_err(|why| self.corrupt(&why))
    }

    /// That it is an error page says more than where a walk failed.
    fn explain(&self, why: &str) -> Error {
        let page = signature::judge_head(self.format, &self.head).err();
        self.corrupt(page.as_deref().unwrap_or(why))
    }

    fn corrupt(&self, why: &str) -> Error {
        Error::new(
            Class::Corrupt,
            format!("the content is not a sound {}: {why}", self.format.as_str()),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `bytes` in pieces of several sizes; the verdict must not depend on them.
    fn verdict(format: Format, bytes: &[u8]) -> Result<ContentProof, String> {
        let verdicts = [1, 7, 1000, usize::MAX].map(|piece| {
            let mut check = ContentCheck::new(format);
            let fed = bytes
                .chunks(piece.min(bytes.len().max(1)))
                .try_for_each(|chunk| check.feed(chunk));
            fed.and_then(|()| check.finish()).map_err(|error| {
                assert_eq!(error.class(), Class::Corrupt);
                error.to_string()
            })
        });
        for other in &verdicts {
            assert_eq!(other.as_ref().ok(), verdicts[3].as_ref().ok());
        }
        // A first part holds the whole head.
        for part in [HEAD_BYTES, 3 * HEAD_BYTES] {
            let shuffled = verdict_of_parts(format, bytes, part);
            assert_eq!(shuffled.ok(), verdicts[3].clone().ok(), "parts of {part}");
        }
        verdicts[3].clone()
    }

    /// Feeds the first part, then the others in reverse, with a stop and a resume in the middle.
    fn verdict_of_parts(format: Format, bytes: &[u8], part: usize) -> Result<ContentProof, String> {
        if ContentCheck::needs_order(format) || bytes.is_empty() {
            let mut check = ContentCheck::new(format);
            let fed = check.feed(bytes);
            return fed.and_then(|()| check.finish()).map_err(|e| e.to_string());
        }
        let length = bytes.len() as u64;
        let parts: Vec<(u64, Bytes)> = bytes
            .chunks(part)
            .enumerate()
            .map(|(n, chunk)| ((n * part) as u64, Bytes::copy_from_slice(chunk)))
            .collect();
        let mut check = ContentCheck::of_length(format, length);
        let mut fed = check.feed_part(0, std::slice::from_ref(&parts[0].1));
        for (n, (offset, chunk)) in parts.iter().enumerate().skip(1).rev() {
            fed = fed.and_then(|()| check.feed_part(*offset, std::slice::from_ref(chunk)));
            if n == parts.len() / 2
                && length > HEAD_BYTES as u64 * 2
                && tail::bytes_of(format) == 0
                && format != Format::Wav
            {
                let state = check.state();
                check = ContentCheck::of_length(format, length);
                check.restore(state.as_deref());
            }
        }
        while let Some((from, to)) = check.wanted().filter(|_| fed.is_ok()) {
            let asked = Bytes::copy_from_slice(&bytes[from as usize..to as usize]);
            fed = check.feed_part(from, &[asked]);
        }
        fed.and_then(|()| check.finish()).map_err(|e| e.to_string())
    }

    fn boxed(kind: &[u8; 4], payload: &[u8]) -> Vec<u8> {
        let mut bytes = (payload.len() as u32 + 8).to_be_bytes().to_vec();
        bytes.extend_from_slice(kind);
        bytes.extend_from_slice(payload);
        bytes
    }

    fn mp4(boxes: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = boxed(b"ftyp", b"isom\0\0\0\0");
        bytes.extend(boxes.concat());
        bytes
    }

    #[test]
    fn an_mp4_that_is_walked_to_its_end_is_whole() {
        let media = vec![5u8; 5000];
        let fast_start = mp4(&[boxed(b"moov", b"x"), boxed(b"mdat", &media)]);
        let slow_start = mp4(&[
            boxed(b"mdat", &media),
            boxed(b"moov", b"x"),
            boxed(b"free", b""),
        ]);
        assert_eq!(verdict(Format::Mp4, &fast_start), Ok(ContentProof::Whole));
        assert_eq!(verdict(Format::M4a, &slow_start), Ok(ContentProof::Whole));
        let mut large = mp4(&[boxed(b"moov", b"x")]);
        large.extend_from_slice(&[0, 0, 0, 1, b'm', b'd', b'a', b't']);
        large.extend_from_slice(&(5016u64).to_be_bytes());
        large.extend_from_slice(&media);
        assert_eq!(verdict(Format::Mp4, &large), Ok(ContentProof::Whole));
        let mut open_end = mp4(&[boxed(b"moov", b"x")]);
        open_end.extend_from_slice(&[0, 0, 0, 0, b'm', b'd', b'a', b't', 1, 2, 3]);
        assert_eq!(verdict(Format::Mp4, &open_end), Ok(ContentProof::None));
        let fragmented = mp4(&[
            boxed(b"moov", b"x"),
            boxed(b"moof", b"x"),
            boxed(b"mdat", b"x"),
        ]);
        assert_eq!(verdict(Format::Mp4, &fragmented), Ok(ContentProof::None));
    }

    #[test]
    fn an_mp4_cut_anywhere_or_without_its_index_is_corrupt() {
        let whole = mp4(&[boxed(b"mdat", &[7; 500]), boxed(b"moov", &[1; 300])]);
        for cut in 1..whole.len() {
            assert!(verdict(Format::Mp4, &whole[..cut]).is_err(), "cut at {cut}");
        }
        let headless = mp4(&[boxed(b"mdat", &[7; 500])]);
        assert!(
            verdict(Format::Mp4, &headless)
                .unwrap_err()
                .contains("moov")
        );
        assert!(verdict(Format::Mp4, &[0u8; 4000]).is_err());
    }

    #[test]
    fn f19_an_error_page_is_corrupt_under_any_name() {
        let pages = [
            "<!DOCTYPE html><html><body>404</body></html>",
            "\u{feff}\n  <HTML>no</HTML>",
            "<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>",
            "<Error><Code>NoSuchKey</Code></Error>",
        ];
        for &format in Format::ALL {
            for page in pages {
                assert!(
                    verdict(format, page.as_bytes()).is_err(),
                    "{format:?} {page}"
                );
            }
        }
    }

    #[test]
    fn text_formats_are_recognised() {
        let good: [(Format, &str, ContentProof); 14] = [
            (
                Format::Vtt,
                "WEBVTT\n\n00:00.000 --> 00:01.000\nhi\n",
                ContentProof::None,
            ),
            (Format::Vtt, "\u{feff}WEBVTT - meeting", ContentProof::None),
            (
                Format::Srt,
                "1\r\n00:00:00,000 --> 00:00:01,000\r\nhi\r\n",
                ContentProof::None,
            ),
            (
                Format::Srt,
                "\u{feff}\n00:00:00,000 --> 00:00:01,000\nhi",
                ContentProof::None,
            ),
            (Format::Srt, "\n", ContentProof::None),
            (Format::Json, " {\"a\":[1,\"}\"]} \n", ContentProof::Whole),
            (Format::Json, "[]", ContentProof::Whole),
            (Format::Json, "\u{feff}\"text\"", ContentProof::Whole),
            (Format::Json, "12", ContentProof::None),
            (Format::Jsonl, "{\"a\":1}\n{\"a\":2}\n", ContentProof::None),
            (
                Format::Csv,
                "1700000000,id,user,hello\n",
                ContentProof::None,
            ),
            (Format::Txt, "Hello < world", ContentProof::None),
            (Format::Bin, "\0\0", ContentProof::None),
            (Format::Ogg, "OggS....", ContentProof::None),
        ];
        for (format, text, proof) in good {
            assert_eq!(
                verdict(format, text.as_bytes()),
                Ok(proof),
                "{format:?} {text:?}"
            );
        }
        let bad = [
            (Format::Vtt, "WEBVTTX\n"),
            (Format::Vtt, "1\n00:00 --> 00:01"),
            (Format::Srt, "WEBVTT\n"),
            (Format::Vtt, "WEBVTT\n\n00:00.000 --> \nhi"),
            (Format::Json, "{\"a\":[1,2"),
            (Format::Json, "{\"a\":1}}"),
            (Format::Json, "{\"a\" 1}"),
            (Format::Json, "not found"),
            (Format::Json, "  "),
            (Format::Jsonl, "a,b,c"),
            (Format::Csv, " \n"),
            (Format::Webm, "not a webm"),
            (Format::Mp3, "{\"error\":1}"),
            (Format::Flac, "RIFF"),
            (Format::Wav, "RIFFxxxxAVI "),
        ];
        for (format, text) in bad {
            assert!(
                verdict(format, text.as_bytes()).is_err(),
                "{format:?} {text:?}"
            );
        }
    }

    #[test]
    fn archives_and_pictures_show_their_end() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let zip = std::fs::read(root.join("fixtures/media/hls.zip")).unwrap();
        assert_eq!(verdict(Format::Zip, &zip), Ok(ContentProof::Whole));
        assert!(verdict(Format::Zip, &zip[..zip.len() - 1]).is_err());
        let mut damaged = zip.clone();
        damaged[1000] ^= 1;
        assert!(verdict(Format::Zip, &damaged).is_err());

        let mut png = b"\x89PNG\r\n\x1a\nsome pixels".to_vec();
        assert!(verdict(Format::Png, &png).is_err());
        png.extend_from_slice(b"\0\0\0\0IEND\xaeB`\x82");
        assert_eq!(verdict(Format::Png, &png), Ok(ContentProof::Whole));

        assert_eq!(
            verdict(Format::Jpg, b"\xff\xd8\xff\xe0..\xff\xd9"),
            Ok(ContentProof::Whole)
        );
        assert_eq!(
            verdict(Format::Jpg, b"\xff\xd8\xff\xe0.."),
            Ok(ContentProof::None)
        );

        let mut tar = vec![0u8; 2048];
        tar[..5].copy_from_slice(b"a.mp4");
        tar[257..262].copy_from_slice(b"ustar");
        assert_eq!(verdict(Format::Tar, &tar), Ok(ContentProof::Whole));
        assert!(verdict(Format::Tar, &tar[..700]).is_err());
        assert!(verdict(Format::Tar, &[1u8; 1024]).is_err());

        let mut wav = b"RIFF\x0c\0\0\0WAVEfmt \0\0\0\0".to_vec();
        assert_eq!(verdict(Format::Wav, &wav), Ok(ContentProof::Whole));
        wav[4..8].fill(0xff);
        assert_eq!(verdict(Format::Wav, &wav), Ok(ContentProof::None));
    }
}
