//! What a playlist says, and the place of every URI in it.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use url::Url;

use super::define::{DefineTag, Variables};

/// The two kinds of playlists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A multivariant playlist: it names playlists.
    Master,
    /// A media playlist: it names segments.
    Media,
}

/// What a URI in a playlist leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UriRole {
    /// A media segment, by its media sequence number.
    Segment(u64),
    /// A media initialization section.
    Map,
    /// A key; of a segment, or named early by a multivariant playlist.
    Key,
    /// A partial segment. It is needed only when no whole segment follows that holds it.
    Part {
        /// Whether no segment follows it.
        is_needed: bool,
    },
    /// What would have come next.
    PreloadHint,
    /// Where another rendition stood.
    RenditionReport,
    /// A variant's playlist.
    Variant,
    /// A variant's I-frame playlist.
    IFrameVariant,
    /// A rendition's playlist, with its TYPE in lower case, and its LANGUAGE.
    Rendition(String, Option<String>),
    /// Data about the session.
    SessionData {
        /// Whether it may be anything, and not only JSON (FORMAT=RAW).
        is_raw: bool,
    },
}

impl UriRole {
    /// Whether it is a playlist that belongs to the recording.
    pub fn is_playlist(&self) -> bool {
        matches!(
            self,
            UriRole::Variant | UriRole::IFrameVariant | UriRole::Rendition(..)
        )
    }
}

/// A byte range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubRange {
    /// The first byte.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
}

/// One URI in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// What it leads to.
    pub role: UriRole,
    /// Where: absolute, as it would be requested; without a fragment.
    pub url: String,
    /// Whether it was written without scheme and host.
    pub is_relative: bool,
    /// The bytes of it that are meant; `None` for all.
    pub range: Option<SubRange>,
    /// Whether the playlist itself says that it is not there (EXT-X-GAP).
    pub is_gap: bool,
    /// The line, from 1.
    pub line: usize,
    /// Where the first line begins that would be meaningless without it.
    pub(super) lead: usize,
    pub(super) span: Range<usize>,
}

/// A key that applies to segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentKey {
    /// METHOD, such as `AES-128`.
    pub method: String,
    /// KEYFORMAT; `identity` when there is none.
    pub format: String,
    /// IV, as written.
    pub iv: Option<String>,
    /// Its URI, by index in [`Playlist::references`].
    pub reference: usize,
}

impl Playlist {
    /// The first playlist that it names and that is itself, which came from `base`.
    pub fn names_itself(&self, base: &Url) -> Option<&Reference> {
        let base = base.as_str().split('#').next();
        let mut references = self.references.iter();
        references.find(|found| found.role.is_playlist() && base == Some(&found.url))
    }

    /// The references that are asked for, or would be: what is not there, and what belongs to a DRM system, is not.
    pub fn wanted(&self) -> impl Iterator<Item = &Reference> {
        let drm = self.keys.iter().filter(|key| !key.is_plain());
        let drm: HashSet<usize> = drm.map(|key| key.reference).collect();
        let references = self.references.iter().enumerate();
        references.filter_map(move |(index, found)| {
            let is_passing = matches!(
                found.role,
                UriRole::PreloadHint
                    | UriRole::RenditionReport
                    | UriRole::Part { is_needed: false }
            );
            let is_asked = !is_passing && !found.is_gap && !drm.contains(&index);
            is_asked.then_some(found)
        })
    }
}

impl SegmentKey {
    /// Whether the key is a file of bytes that anybody may be given; the others belong to a DRM system.
    pub fn is_plain(&self) -> bool {
        self.format.eq_ignore_ascii_case("identity")
    }
}

/// A media segment.
#[derive(Clone, Debug, PartialEq)]
pub struct MediaSegment {
    /// Its media sequence number.
    pub sequence: u64,
    /// Its length in seconds, as EXTINF tells it.
    pub duration_secs: f64,
    /// Its URI, by index in [`Playlist::references`].
    pub reference: usize,
    /// The initialization section that applies, by index in [`Playlist::references`].
    pub map: Option<usize>,
    /// The keys that apply, by index in [`Playlist::keys`].
    pub keys: Arc<[usize]>,
    /// The place in the text of everything since the segment before, its own URI included.
    pub(super) block: Range<usize>,
}

/// A media initialization section.
#[derive(Clone, Debug, PartialEq)]
pub struct Map {
    /// Its URI, by index in [`Playlist::references`].
    pub reference: usize,
    /// The keys that apply to it, by index in [`Playlist::keys`].
    pub keys: Arc<[usize]>,
}

/// A playlist that was understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Playlist {
    /// Which kind.
    pub kind: Kind,
    /// Whether nothing will be added (EXT-X-ENDLIST).
    pub is_ended: bool,
    /// EXT-X-TARGETDURATION in seconds.
    pub target_secs: Option<f64>,
    /// EXT-X-MEDIA-SEQUENCE, 0 when there is none.
    pub media_sequence: u64,
    /// Every URI, in order.
    pub references: Vec<Reference>,
    /// The segments, in order.
    pub segments: Vec<MediaSegment>,
    /// The initialization sections, in order.
    pub maps: Vec<Map>,
    /// The keys of segments, or, of a multivariant playlist, the session's.
    pub keys: Vec<SegmentKey>,
    /// What it defines, for the playlists that it names.
    pub variables: Variables,
    /// Bytes of all URIs when resolved.
    pub url_bytes: usize,
    pub(super) definitions: Vec<DefineTag>,
    /// Places that an archived copy must not hold as they are, and what it holds instead.
    pub(super) secrets: Vec<(Range<usize>, String)>,
    pub(super) text: String,
    /// The places in the text of tags that belong to the playlist as a whole.
    pub(super) head: Vec<Range<usize>>,
}

/// What becomes of a URI when its playlist is rewritten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UriChange {
    /// It stays as it is.
    Keep,
    /// This stands in its place.
    Uri(String),
    /// Its whole line becomes a comment: what it leads to is not in the archive.
    Drop,
}

impl Playlist {
    /// References, keys and places that were noted.
    pub fn notes(&self) -> u64 {
        (self.references.len() + self.keys.len() + self.secrets.len()) as u64
    }

    /// Bytes of the text.
    pub fn text_bytes(&self) -> u64 {
        self.text.len() as u64
    }

    /// The text with each URI replaced as `change` says, and nothing else touched.
    pub fn rewritten(&self, change: impl FnMut(usize) -> UriChange) -> String {
        self.edited(self.changes(change))
    }

    /// As [`Playlist::rewritten`], for a copy that is kept: without signatures of what stays where it is, and
    /// without the values of variables that are put in already.
    pub fn archived(&self, change: impl FnMut(usize) -> UriChange) -> String {
        let mut edits = self.changes(change);
        edits.extend(self.secrets.iter().cloned());
        if self.definitions.is_empty() {
            return self.edited(edits);
        }
        let blank = |definition: &DefineTag| (definition.span.clone(), String::new());
        let mut without = edits.clone();
        without.extend(self.definitions.iter().map(blank));
        let mut rest = self.edited(without);
        // From the last to the first: a value that is kept may need those before it.
        for definition in self.definitions.iter().rev() {
            match definition.archived(&rest) {
                Some(text) => edits.push((definition.span.clone(), text)),
                None => rest.push_str(&self.text[definition.span.clone()]),
            }
        }
        self.edited(edits)
    }

    fn changes(&self, mut change: impl FnMut(usize) -> UriChange) -> Vec<(Range<usize>, String)> {
        let mut edits = Vec::with_capacity(self.references.len());
        for (index, reference) in self.references.iter().enumerate() {
            match change(index) {
                UriChange::Keep => {}
                UriChange::Uri(uri) => edits.push((reference.span.clone(), uri)),
                UriChange::Drop => {
                    let line = &self.text[reference.lead..];
                    let tag = line.split([':', '\r', '\n']).next().unwrap_or_default();
                    let rest = &self.text[reference.span.end..];
                    let end = rest.find(['\r', '\n']).unwrap_or(rest.len());
                    edits.push((
                        reference.lead..reference.span.end + end,
                        format!("## not archived: {}", tag.trim_start_matches('#')),
                    ));
                }
            }
        }
        edits
    }

    fn edited(&self, mut edits: Vec<(Range<usize>, String)>) -> String {
        edits.sort_by_key(|(span, _)| span.start);
        let mut out = String::with_capacity(self.text.len());
        let mut done = 0;
        for (span, text) in edits {
            // Inside of a line that is gone already.
            if span.start < done {
                continue;
            }
            out.push_str(&self.text[done..span.start]);
            out.push_str(&text);
            done = span.end;
        }
        out.push_str(&self.text[done..]);
        out
    }

    /// The references whose role `is` fits.
    pub fn having<'a>(
        &'a self,
        mut is: impl FnMut(&UriRole) -> bool + 'a,
    ) -> impl Iterator<Item = (usize, &'a Reference)> {
        let references = self.references.iter().enumerate();
        references.filter(move |(_, reference)| is(&reference.role))
    }
}

#[cfg(test)]
#[path = "playlist_tests.rs"]
mod tests;
