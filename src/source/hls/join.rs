//! A live playlist over several readings: what the window showed, joined by media sequence number.

use std::collections::BTreeMap;

use url::Url;

use super::playlist::{Kind, Playlist};
use super::{MAX_PLAYLIST_BYTES, MAX_REFERENCES, Variables};
use crate::error::{Class, Error, Result};

/// What was seen of a live playlist so far.
#[derive(Clone, Debug, Default)]
pub struct Follower {
    head: String,
    blocks: BTreeMap<u64, String>,
    tail: String,
    is_ended: bool,
}

impl Follower {
    /// Nothing yet.
    pub fn new() -> Follower {
        Follower::default()
    }

    /// Takes in a reading. Gives how many segments were new.
    ///
    /// # Errors
    /// `invalid` for a playlist that names no segments; `refused` beyond the limit of segments.
    pub fn add(&mut self, reading: &Playlist) -> Result<usize> {
        if reading.kind != Kind::Media {
            return Err(Error::invalid(
                "the media playlist became a multivariant one",
            ));
        }
        if self.head.is_empty() {
            self.head = head_of(reading);
        }
        let known = self.blocks.len();
        for segment in &reading.segments {
            self.blocks
                .entry(segment.sequence)
                .or_insert_with(|| without_head(reading, segment.block.clone()));
        }
        if self.blocks.len() > MAX_REFERENCES {
            return Err(Error::new(
                Class::Refused,
                format!("the playlist named more than {MAX_REFERENCES} segments"),
            ));
        }
        self.is_ended |= reading.is_ended;
        if reading.is_ended {
            let last = reading.segments.last().map_or(0, |last| last.block.end);
            self.tail = without_head(reading, last..reading.text.len());
        }
        Ok(self.blocks.len() - known)
    }

    /// Whether the end was seen.
    pub fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// The media sequence numbers between the first and the last that no reading showed, as ranges
    /// (both ends inclusive).
    pub fn gaps(&self) -> Vec<(u64, u64)> {
        let numbers: Vec<_> = self.blocks.keys().copied().collect();
        numbers
            .windows(2)
            .filter(|pair| pair[1] > pair[0] + 1)
            .map(|pair| (pair[0] + 1, pair[1] - 1))
            .collect()
    }

    /// All of it as one playlist.
    ///
    /// # Errors
    /// `invalid` when the pieces do not fit together, as with byte ranges across a gap.
    pub fn joined(&self, base: &Url, imported: Option<&Variables>) -> Result<Playlist> {
        let mut text = self.head.clone();
        let mut next = None;
        for (number, block) in &self.blocks {
            // The numbers of what follows a gap stay right.
            for missing in next.unwrap_or(*number)..*number {
                if text.len() > MAX_PLAYLIST_BYTES {
                    return Err(Error::invalid("the playlist skips too many segments"));
                }
                text.push_str(&format!("#EXT-X-GAP\n#EXTINF:0,\nmissing-{missing}\n"));
            }
            next = number.checked_add(1);
            text.push_str(block);
        }
        text.push_str(&self.tail);
        if self.is_ended {
            text.push_str("#EXT-X-ENDLIST\n");
        }
        Playlist::read(text.as_bytes(), base, imported)
    }
}

fn head_of(reading: &Playlist) -> String {
    let lines = reading
        .head
        .iter()
        .map(|range| &reading.text[range.clone()]);
    lines
        .filter(|line| !line.starts_with("#EXT-X-ENDLIST"))
        .flat_map(|line| [line, "\n"])
        .collect()
}

/// The lines of `range` but those that belong to the playlist as a whole, and hints of what would come.
fn without_head(reading: &Playlist, range: std::ops::Range<usize>) -> String {
    let text = &reading.text[range.clone()];
    let mut start = range.start;
    let mut out = String::with_capacity(text.len() + 1);
    for line in text.split_inclusive('\n') {
        let is_head = reading.head.binary_search_by_key(&start, |head| head.start);
        let is_passing = ["#EXT-X-PRELOAD-HINT", "#EXT-X-RENDITION-REPORT"]
            .iter()
            .any(|tag| line.starts_with(tag));
        start += line.len();
        let content = line.trim_end_matches(['\r', '\n']);
        if is_head.is_err() && !is_passing && !content.is_empty() {
            out.push_str(content);
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(first: u64, numbers: std::ops::Range<u64>, is_ended: bool) -> Playlist {
        let mut text = format!("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:{first}\n");
        text.push_str("#EXT-X-MAP:URI=\"i.mp4\"\n");
        for number in numbers {
            text.push_str(&format!("#X-NOTE:{number}\n#EXTINF:1,\ns{number}.m4s\n"));
        }
        if is_ended {
            text.push_str("#EXT-X-ENDLIST\n");
        } else {
            text.push_str("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"next.m4s\"\n");
        }
        Playlist::read(text.as_bytes(), &base(), None).unwrap()
    }

    fn base() -> Url {
        Url::parse("https://h/live/p.m3u8").unwrap()
    }

    #[test]
    fn f52_a_moving_window_is_joined_by_media_sequence() {
        let mut follower = Follower::new();
        assert_eq!(follower.add(&reading(10, 10..13, false)).unwrap(), 3);
        assert_eq!(follower.add(&reading(11, 11..14, false)).unwrap(), 1);
        assert!(!follower.is_ended());
        assert_eq!(follower.add(&reading(13, 13..15, true)).unwrap(), 1);
        let whole = follower.joined(&base(), None).unwrap();
        assert!(whole.is_ended);
        assert_eq!(whole.media_sequence, 10);
        let urls: Vec<_> = whole
            .segments
            .iter()
            .map(|segment| whole.references[segment.reference].url.as_str())
            .collect();
        let expected: Vec<_> = (10..15)
            .map(|n| format!("https://h/live/s{n}.m4s"))
            .collect();
        assert_eq!(urls, expected);
        assert!(whole.segments.iter().all(|segment| segment.map.is_some()));
        assert_eq!(follower.gaps(), []);
        assert_eq!(whole.text.matches("#X-NOTE:12\n").count(), 1);
        assert!(!whole.text.contains("HINT"));
    }

    #[test]
    fn f52_what_the_window_skipped_is_recorded() {
        let mut follower = Follower::new();
        follower.add(&reading(10, 10..12, false)).unwrap();
        follower.add(&reading(15, 15..17, true)).unwrap();
        assert_eq!(follower.gaps(), [(12, 14)]);
        let whole = follower.joined(&base(), None).unwrap();
        assert_eq!(whole.segments.len(), 7);
        assert!(whole.references[whole.segments[2].reference].is_gap);
        assert_eq!(whole.segments[5].sequence, 15);
    }
}
