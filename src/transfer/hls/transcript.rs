//! Each rendition of segmented WebVTT joined into `transcript.<language>.vtt` beside the recording.

use futures::{FutureExt, StreamExt, TryStreamExt, stream};

use super::Carried;
use super::context::HlsAttempt;
use super::ladder::{MediaPlaylist, PlaylistSet};
use super::piece::Landed;
use super::put::{payload_of, put_over};
use crate::error::{Class, Error, Result};
use crate::format::hls::{MediaSegment, UriRole, first_timestamp, join_webvtt};

/// The largest segment of subtitles that is joined.
const MAX_SUBTITLES_BYTES: u64 = 8 * 1024 * 1024;

/// All segments of one rendition that are joined: a day of talk is about a tenth of it. They are held at once, and
/// so is what becomes of them.
const MAX_TRANSCRIPT_BYTES: u64 = 16 * 1024 * 1024;

/// The largest segment of media that is read back for its first timestamp.
const MAX_MEDIA_BYTES: u64 = 8 * 1024 * 1024;

/// Segments of subtitles that are read back at once.
const SUBTITLE_READERS: usize = 8;

/// Puts the transcripts of `ladder`. One that would be too large is left out, with a note: its segments are
/// archived all the same.
pub(super) async fn put_all(
    context: &HlsAttempt,
    ladder: &PlaylistSet,
    carried: &Carried,
    notes: &mut Vec<String>,
) -> Result<Vec<Landed>> {
    let transcripts = Transcripts {
        context,
        ladder,
        carried,
    };
    transcripts.put_all(notes).await
}

struct Transcripts<'a> {
    context: &'a HlsAttempt,
    ladder: &'a PlaylistSet,
    carried: &'a Carried,
}

impl Transcripts<'_> {
    async fn put_all(&self, notes: &mut Vec<String>) -> Result<Vec<Landed>> {
        let mut transcripts: Vec<Landed> = Vec::new();
        let mut media_start = None;
        for sheet in &self.ladder.media {
            let UriRole::Rendition(kind, language) = &sheet.role else {
                continue;
            };
            let segments = self.plain_segments(sheet);
            if kind != "subtitles" || segments.is_empty() {
                continue;
            }
            let mut name = format!("transcript.{}.vtt", language_name(language.as_deref()));
            let largest = segments.iter().map(|landed| landed.size_bytes).max();
            let total: u64 = segments.iter().map(|landed| landed.size_bytes).sum();
            if largest > Some(MAX_SUBTITLES_BYTES) || total > MAX_TRANSCRIPT_BYTES {
                let why = format!(
                    "{name} is not made: the segments of {} have {total} bytes, more than are joined",
                    sheet.folder
                );
                tracing::warn!(job = %self.context.job_id(), "{why}");
                notes.push(why);
                continue;
            }
            let mut reading = Vec::new();
            for landed in segments {
                reading.push(self.read_text(&landed.key).boxed());
            }
            let segments: Vec<String> = stream::iter(reading)
                .buffered(SUBTITLE_READERS)
                .try_collect()
                .await?;
            if !segments.iter().all(|text| is_webvtt(text)) {
                continue;
            }
            if media_start.is_none() {
                media_start = self.media_start().await?;
            }
            let joined = join_webvtt(segments.iter().map(String::as_str), media_start);
            // Two renditions of one language are two transcripts.
            let mut number = 1;
            while transcripts
                .iter()
                .any(|other| other.key == self.beside(&name))
            {
                number += 1;
                let language = language_name(language.as_deref());
                name = format!("transcript.{language}-{number}.vtt");
            }
            let payload = payload_of(joined.into_bytes());
            let landed = put_over(self.context, &self.beside(&name), &payload, None).await?;
            transcripts.push(landed);
        }
        Ok(transcripts)
    }

    /// What the media clock shows at the beginning, where the first variant is a plain transport stream.
    async fn media_start(&self) -> Result<Option<u64>> {
        let mut variants = self.ladder.media.iter();
        let Some(first) = variants.find(|sheet| sheet.role == UriRole::Variant) else {
            return Ok(None);
        };
        let segment = first.playlist.segments.first();
        let plain = segment.filter(|segment| self.is_plain(first, segment));
        let landed = plain.and_then(|segment| self.landed(first, segment));
        let Some(landed) = landed.filter(|landed| landed.size_bytes <= MAX_MEDIA_BYTES) else {
            return Ok(None);
        };
        let objects = &self.context.engine.objects;
        let found = objects.get(&landed.key, MAX_MEDIA_BYTES).await?;
        Ok(found.and_then(|(bytes, _)| first_timestamp(&bytes)))
    }

    fn plain_segments(&self, sheet: &MediaPlaylist) -> Vec<&Landed> {
        let segments = sheet.playlist.segments.iter();
        let plain = segments.filter(|segment| self.is_plain(sheet, segment));
        plain
            .filter_map(|segment| self.landed(sheet, segment))
            .collect()
    }

    fn is_plain(&self, sheet: &MediaPlaylist, segment: &MediaSegment) -> bool {
        let is_encrypted = !segment.keys.is_empty() && !self.carried.decryption.is_plain(sheet);
        segment.map.is_none() && !is_encrypted
    }

    fn landed(&self, sheet: &MediaPlaylist, segment: &MediaSegment) -> Option<&Landed> {
        let url = &sheet.playlist.references[segment.reference].url;
        self.carried.landed.get(url)
    }

    async fn read_text(&self, key: &str) -> Result<String> {
        let objects = &self.context.engine.objects;
        let found = objects.get(key, MAX_SUBTITLES_BYTES).await?;
        let (bytes, _) = found.ok_or_else(|| {
            Error::transient(
                Class::UploadFailed,
                format!("{key} is no longer in the bucket"),
            )
        })?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The key of `name` in the recording's own folder.
    fn beside(&self, name: &str) -> String {
        match self.context.folder.rsplit_once("/hls") {
            Some((recording, _)) => format!("{recording}/{name}"),
            None => format!("{}/{name}", self.context.folder),
        }
    }
}

fn is_webvtt(text: &str) -> bool {
    text.trim_start_matches('\u{feff}').starts_with("WEBVTT")
}

/// A language tag (RFC 5646) as part of a name.
fn language_name(language: Option<&str>) -> String {
    let safe: String = language
        .unwrap_or_default()
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '-')
        .take(35)
        .collect();
    if safe.is_empty() {
        "und".to_owned()
    } else {
        safe
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_language_is_safe_in_a_name() {
        assert_eq!(language_name(Some("pt-BR")), "pt-BR");
        assert_eq!(language_name(Some("../x")), "x");
        assert_eq!(language_name(None), "und");
    }
}
