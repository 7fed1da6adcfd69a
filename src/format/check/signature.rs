//! What files of each format begin and end with.

use super::ContentProof;
use crate::model::Format;

/// Judges the first bytes of a file.
pub(super) fn judge_head(format: Format, head: &[u8]) -> Result<(), String> {
    let text = without_bom(head);
    if is_error_page(text) {
        return Err("it is an HTML or XML page".to_owned());
    }
    if format == Format::Bin && is_playlist(head) {
        return Err("it is an HLS playlist, which is nothing without what it names".to_owned());
    }
    let is_sound = match format {
        // These are walked from their first byte on.
        Format::Mp4 | Format::M4a | Format::Json => true,
        Format::Webm => head.starts_with(&[0x1a, 0x45, 0xdf, 0xa3]),
        Format::M3u8 => is_playlist(head),
        Format::Zip => head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06"),
        Format::Tar => is_tar(head),
        Format::Vtt => is_line_start(text, b"WEBVTT"),
        Format::Srt => is_srt(text),
        Format::Jsonl => matches!(
            text.trim_ascii_start().first(),
            Some(b'{' | b'[' | b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n')
        ),
        Format::Csv => !text.trim_ascii().is_empty(),
        Format::Txt | Format::Bin => true,
        Format::Png => head.starts_with(b"\x89PNG\r\n\x1a\n"),
        Format::Jpg => head.starts_with(&[0xff, 0xd8, 0xff]),
        Format::Wav => {
            (head.starts_with(b"RIFF") || head.starts_with(b"RF64"))
                && head.get(8..12) == Some(b"WAVE")
        }
        Format::Mp3 => head.starts_with(b"ID3") || matches!(head, [0xff, 0xe0..=0xff, ..]),
        Format::Flac => head.starts_with(b"fLaC") || head.starts_with(b"ID3"),
        Format::Ogg => head.starts_with(b"OggS"),
    };
    if is_sound {
        Ok(())
    } else {
        Err("it does not begin as one".to_owned())
    }
}

/// Whether a file that begins so is an HLS playlist.
pub(crate) fn is_playlist(head: &[u8]) -> bool {
    is_line_start(without_bom(head), b"#EXTM3U")
}

/// Judges the last bytes of a file of `total` bytes.
pub(super) fn judge_tail(format: Format, tail: &[u8], total: u64) -> Result<ContentProof, String> {
    match format {
        Format::Zip if zip_ends(tail) => Ok(ContentProof::Whole),
        Format::Zip => Err("its directory at the end is missing".to_owned()),
        Format::Png if tail.ends_with(PNG_END) => Ok(ContentProof::Whole),
        Format::Png if tail.windows(PNG_END.len()).any(|at| at == PNG_END) => {
            Ok(ContentProof::None)
        }
        Format::Png => Err("its end chunk is missing".to_owned()),
        Format::Jpg if tail.ends_with(&[0xff, 0xd9]) => Ok(ContentProof::Whole),
        Format::Tar if !total.is_multiple_of(512) => Err("it ends inside a block".to_owned()),
        Format::Tar if tail.len() >= 1024 && tail[tail.len() - 1024..].iter().all(|b| *b == 0) => {
            Ok(ContentProof::Whole)
        }
        _ => Ok(ContentProof::None),
    }
}

/// Whether a WAVE file of `total` bytes is as long as its header says. Writers that stream leave the
/// length open, so another one proves nothing.
pub(super) fn wav_end(head: &[u8], total: u64) -> ContentProof {
    let Some(&[a, b, c, d]) = head.get(4..8) else {
        return ContentProof::None;
    };
    if u64::from(u32::from_le_bytes([a, b, c, d])) + 8 == total {
        ContentProof::Whole
    } else {
        ContentProof::None
    }
}

const PNG_END: &[u8] = b"\0\0\0\0IEND\xaeB`\x82";

fn without_bom(head: &[u8]) -> &[u8] {
    head.strip_prefix(&[0xef, 0xbb, 0xbf]).unwrap_or(head)
}

fn is_error_page(text: &[u8]) -> bool {
    let text = text.trim_ascii_start();
    ["<!doctype", "<html", "<head", "<body", "<?xml", "<error"]
        .iter()
        .any(|mark| {
            text.get(..mark.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(mark.as_bytes()))
        })
}

fn is_line_start(text: &[u8], mark: &[u8]) -> bool {
    text.strip_prefix(mark)
        .is_some_and(|rest| matches!(rest.first(), None | Some(b' ' | b'\t' | b'\r' | b'\n')))
}

/// The number or the times of a first cue; nothing at all where nothing was said.
fn is_srt(text: &[u8]) -> bool {
    let text = text.trim_ascii_start();
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.trim_ascii();
    line.iter().all(u8::is_ascii_digit) || line.windows(3).any(|at| at == b"-->")
}

/// The magic of POSIX tar, or a first header whose checksum holds.
fn is_tar(head: &[u8]) -> bool {
    if head.get(257..262) == Some(b"ustar") {
        return true;
    }
    let Some(header) = head.get(..512) else {
        return false;
    };
    let stored = std::str::from_utf8(&header[148..156])
        .ok()
        .map(|text| text.trim_matches(['\0', ' ']))
        .and_then(|text| u32::from_str_radix(text, 8).ok());
    let sum: u32 = header
        .iter()
        .enumerate()
        .map(|(at, byte)| {
            if (148..156).contains(&at) {
                32
            } else {
                u32::from(*byte)
            }
        })
        .sum();
    stored == Some(sum)
}

/// Whether an end-of-central-directory record closes the file: its comment ends with the file.
fn zip_ends(tail: &[u8]) -> bool {
    (0..tail.len().saturating_sub(21)).rev().any(|at| {
        let record = &tail[at..];
        record.starts_with(b"PK\x05\x06")
            && usize::from(u16::from_le_bytes([record[20], record[21]])) + 22 == record.len()
    })
}
