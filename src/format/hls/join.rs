//! A live playlist over several readings: what the window showed, joined by media sequence number.

use std::collections::BTreeMap;

use url::Url;

use super::playlist::{Kind, MediaSegment, Playlist};
use super::{MAX_FOLLOWED_BYTES, MAX_PLAYLIST_BYTES, MAX_REFERENCES, Variables};
use crate::error::{Class, Error, Result};

/// What was seen of a live playlist so far.
#[derive(Clone, Debug, Default)]
pub struct Follower {
    head: String,
    blocks: BTreeMap<u64, Block>,
    tail: String,
    is_begun: bool,
    is_ended: bool,
    bytes: usize,
    /// What the first reading began with, also if it named no segment.
    first: u64,
    /// The numbers of the last reading's segments, in the playlist's own count.
    window: Option<(u64, u64)>,
    /// By how much numbers are moved since the playlist's own count began again.
    shift: u64,
    resets: Vec<Reset>,
}

/// One segment with all that stands before it.
#[derive(Clone, Debug)]
struct Block {
    text: String,
    path: String,
}

/// A place at which the playlist's count of segments began again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reset {
    /// The last number before.
    pub last: u64,
    /// The first number after, in the playlist's new count.
    pub first: u64,
}

impl Follower {
    /// Nothing yet.
    pub fn new() -> Follower {
        Follower::default()
    }

    /// Takes in a reading. Gives how many segments were new.
    ///
    /// An older reading than the last, as from another server of a CDN, changes nothing. One that gives a number to
    /// another file, or that begins again below all of the last, is the playlist after its origin was restarted:
    /// its segments come after all before.
    ///
    /// # Errors
    /// `invalid` for a playlist that names no segments; `refused` beyond a limit.
    pub fn add(&mut self, reading: &Playlist) -> Result<usize> {
        if reading.kind != Kind::Media {
            return Err(Error::invalid(
                "the media playlist became a multivariant one",
            ));
        }
        if !self.is_begun {
            self.is_begun = true;
            self.head = head_of(reading);
            self.first = reading.media_sequence;
        }
        self.note_reset(reading);
        let known = self.blocks.len();
        for segment in &reading.segments {
            let Some(number) = self.number(segment.sequence) else {
                continue;
            };
            if self.blocks.contains_key(&number) {
                continue;
            }
            let mut text = without_head(reading, segment.block.clone());
            let reset = self.resets.last();
            let is_first_of_reset = reset.is_some_and(|reset| segment.sequence == reset.first);
            if is_first_of_reset {
                text.insert_str(0, "#EXT-X-DISCONTINUITY\n");
            }
            let path = path_of(reading, segment);
            self.bytes += text.len() + path.len();
            self.blocks.insert(number, Block { text, path });
        }
        self.check_limits()?;
        if let (Some(first), Some(last)) = (reading.segments.first(), reading.segments.last()) {
            self.window = Some((first.sequence, last.sequence));
        }
        self.is_ended |= reading.is_ended;
        if reading.is_ended {
            let last = reading.segments.last().map_or(0, |last| last.block.end);
            self.tail = without_head(reading, last..reading.text.len());
        }
        Ok(self.blocks.len() - known)
    }

    fn check_limits(&self) -> Result<()> {
        let refused = |why: String| Err(Error::new(Class::Refused, why));
        if self.blocks.len() > MAX_REFERENCES {
            return refused(format!(
                "the playlist named more than {MAX_REFERENCES} segments"
            ));
        }
        if self.bytes > MAX_FOLLOWED_BYTES {
            return refused(format!(
                "the playlist has grown beyond {MAX_FOLLOWED_BYTES} bytes"
            ));
        }
        Ok(())
    }

    /// The number of a segment among all that were seen; `None` for one from before the count began again.
    fn number(&self, sequence: u64) -> Option<u64> {
        match self.resets.last() {
            Some(reset) => sequence.checked_sub(reset.first)?.checked_add(self.shift),
            None => Some(sequence),
        }
    }

    fn note_reset(&mut self, reading: &Playlist) {
        let (Some((window_first, _)), Some(first), Some(last)) = (
            self.window,
            reading.segments.first(),
            reading.segments.last(),
        ) else {
            return;
        };
        let is_other = |segment: &MediaSegment| {
            let known = self
                .number(segment.sequence)
                .and_then(|n| self.blocks.get(&n));
            known.is_some_and(|known| known.path != path_of(reading, segment))
        };
        let is_reset = last.sequence < window_first || reading.segments.iter().any(is_other);
        let Some((&newest, _)) = self.blocks.last_key_value().filter(|_| is_reset) else {
            return;
        };
        let Some(shift) = newest.checked_add(1) else {
            return;
        };
        self.resets.push(Reset {
            last: newest,
            first: first.sequence,
        });
        self.shift = shift;
    }

    /// Whether the end was seen.
    pub fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// Bytes of text that are held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Segments that were seen.
    pub fn segments(&self) -> usize {
        self.blocks.len()
    }

    /// Where the playlist's own count began again: nobody can tell whether something is missing there.
    pub fn resets(&self) -> &[Reset] {
        &self.resets
    }

    /// The media sequence numbers from the first that could have been seen to the last that no reading showed, as
    /// ranges (both ends inclusive).
    pub fn gaps(&self) -> Vec<(u64, u64)> {
        let mut gaps = Vec::new();
        let mut next = Some(self.first);
        for number in self.blocks.keys() {
            if let Some(missing) = next.filter(|next| next < number) {
                gaps.push((missing, number - 1));
            }
            next = number.checked_add(1);
        }
        gaps
    }

    /// All of it as one playlist.
    ///
    /// # Errors
    /// `invalid` when the pieces do not fit together, as with byte ranges across a gap.
    pub fn joined(&self, base: &Url, imported: Option<&Variables>) -> Result<Playlist> {
        let mut text = self.head.clone();
        let mut next = Some(self.first);
        for (number, block) in &self.blocks {
            // The numbers of what follows a gap stay right.
            for missing in next.unwrap_or(*number)..*number {
                if text.len() > MAX_PLAYLIST_BYTES {
                    return Err(Error::invalid("the playlist skips too many segments"));
                }
                text.push_str(&format!("#EXT-X-GAP\n#EXTINF:0,\nmissing-{missing}\n"));
            }
            next = number.checked_add(1);
            text.push_str(&block.text);
        }
        text.push_str(&self.tail);
        if self.is_ended {
            text.push_str("#EXT-X-ENDLIST\n");
        }
        Playlist::read(text.as_bytes(), base, imported)
    }
}

/// The path of a segment's URL: its query may be a token that each reading has anew.
fn path_of(reading: &Playlist, segment: &MediaSegment) -> String {
    let url = &reading.references[segment.reference].url;
    let path = Url::parse(url).map(|url| url.path().to_owned());
    path.unwrap_or_else(|_| url.clone())
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

    fn window(first: u64, names: &[&str], is_ended: bool) -> Playlist {
        let mut text = format!("#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:{first}\n");
        for name in names {
            text.push_str(&format!("#EXTINF:1,\n{name}\n"));
        }
        text.push_str(if is_ended { "#EXT-X-ENDLIST\n" } else { "" });
        Playlist::read(text.as_bytes(), &base(), None).unwrap()
    }

    fn names(playlist: &Playlist) -> Vec<&str> {
        let segments = playlist.segments.iter();
        let urls = segments.map(|segment| playlist.references[segment.reference].url.as_str());
        urls.map(|url| url.rsplit('/').next().unwrap()).collect()
    }

    #[test]
    fn f52_a_count_that_begins_again_loses_nothing_silently() {
        // With the same names, and with a number that stands for another file.
        for (second, reset) in [
            (window(0, &["a", "b"], true), 0),
            (window(11, &["x", "y"], true), 11),
        ] {
            let mut follower = Follower::new();
            follower.add(&window(10, &["a", "b"], false)).unwrap();
            assert_eq!(follower.add(&second).unwrap(), 2);
            let expected = Reset {
                last: 11,
                first: reset,
            };
            assert_eq!(follower.resets(), [expected]);
            let whole = follower.joined(&base(), None).unwrap();
            assert_eq!(names(&whole)[..2], ["a", "b"]);
            assert_eq!(names(&whole).len(), 4);
            assert_eq!(whole.text.matches("#EXT-X-DISCONTINUITY\n").count(), 1);
        }
    }

    #[test]
    fn f52_an_older_reading_and_a_fresh_token_change_nothing() {
        let mut follower = Follower::new();
        follower
            .add(&window(10, &["a?t=1", "b?t=1"], false))
            .unwrap();
        follower
            .add(&window(11, &["b?t=2", "c?t=2"], false))
            .unwrap();
        assert_eq!(follower.add(&window(10, &["a", "b"], false)).unwrap(), 0);
        assert_eq!(follower.add(&window(12, &["c", "d"], true)).unwrap(), 1);
        assert!(follower.resets().is_empty());
        let whole = follower.joined(&base(), None).unwrap();
        assert_eq!(names(&whole), ["a?t=1", "b?t=1", "c?t=2", "d"]);
    }

    #[test]
    fn f52_a_first_reading_without_segments_does_not_hide_what_came_before_the_second() {
        let mut follower = Follower::new();
        follower
            .add(&Playlist::read(b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n", &base(), None).unwrap())
            .unwrap();
        follower.add(&window(2, &["c"], true)).unwrap();
        assert_eq!(follower.gaps(), [(0, 1)]);
        let whole = follower.joined(&base(), None).unwrap();
        assert_eq!(whole.segments[2].sequence, 2);
        assert_eq!(names(&whole), ["missing-0", "missing-1", "c"]);
    }

    #[test]
    fn t17_what_is_held_while_following_is_bounded() {
        let mut follower = Follower::new();
        let note = format!("#X{}\n", "x".repeat(60_000)).repeat(100);
        let ended = (0..).find_map(|number| {
            let text =
                format!("#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:{number}\n{note}#EXTINF:1,\ns{number}\n");
            follower
                .add(&Playlist::read(text.as_bytes(), &base(), None).unwrap())
                .err()
        });
        assert!(follower.bytes() < 2 * MAX_FOLLOWED_BYTES);
        assert_eq!(ended.unwrap().class(), Class::Refused);
    }
}
