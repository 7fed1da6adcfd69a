//! Line by line from text to a playlist: what a tag sets, and how long that lasts. Long: one state for all tags.

use std::ops::Range;
use std::sync::Arc;

use url::Url;

use super::attributes::{Attribute, TagAttributes, quoted};
use super::define::{DefineTag, Variables};
use super::playlist::{
    Kind, Map, MediaSegment, Playlist, Reference, SegmentKey, SubRange, UriRole,
};
use super::range::{WrittenRange, decimal, integer, is_iv};
use super::tags::{kind_of, speaks_of_the_whole};
use super::uri::{Resolver, written_without_secrets};
use super::{MAX_EXPANDED_BYTES, MAX_KEY_FORMATS, MAX_REFERENCES};
use crate::signed_url::redact::redact_urls;

/// What the next URI line is.
enum NextUri {
    Nothing,
    Segment { duration_secs: f64 },
    Variant,
}

/// One line and where it stands.
struct PlaylistLine<'a> {
    text: &'a str,
    start: usize,
    number: usize,
}

pub(super) struct MediaReader<'a> {
    base: &'a Url,
    resolver: Resolver<'a>,
    expanded_bytes: usize,
    imported: Option<&'a Variables>,
    playlist: Playlist,
    kind: Option<Kind>,
    next: NextUri,
    range: Option<WrittenRange>,
    is_gap: bool,
    has_sequence: bool,
    has_version: bool,
    map: Option<usize>,
    // The list is shared by all to which it applies, and made anew only when it changes.
    active_keys: Arc<[usize]>,
    block_start: usize,
    // Where the tag began whose URI comes on a line of its own.
    lead: usize,
    // The URL and end of the last range, from which an offset that is left out goes on.
    last_range: Option<(String, u64)>,
    last_part: Option<(String, u64)>,
    pending_parts: Vec<usize>,
}

impl<'a> MediaReader<'a> {
    pub(super) fn new(base: &'a Url, imported: Option<&'a Variables>) -> MediaReader<'a> {
        MediaReader {
            base,
            resolver: Resolver::new(base),
            expanded_bytes: 0,
            imported,
            playlist: Playlist {
                kind: Kind::Media,
                is_ended: false,
                target_secs: None,
                media_sequence: 0,
                references: Vec::new(),
                segments: Vec::new(),
                maps: Vec::new(),
                keys: Vec::new(),
                url_bytes: 0,
                definitions: Vec::new(),
                secrets: Vec::new(),
                variables: Variables::default(),
                text: String::new(),
                head: Vec::new(),
            },
            kind: None,
            next: NextUri::Nothing,
            range: None,
            is_gap: false,
            has_sequence: false,
            has_version: false,
            map: None,
            active_keys: Arc::default(),
            block_start: 0,
            lead: 0,
            last_range: None,
            last_part: None,
            pending_parts: Vec::new(),
        }
    }

    /// Takes in the line `text` (no line end), which begins at byte `start`.
    pub(super) fn line(&mut self, text: &str, start: usize, number: usize) -> Result<(), String> {
        if text.trim().is_empty() {
            return Ok(());
        }
        let line = PlaylistLine {
            text,
            start,
            number,
        };
        if !text.starts_with('#') {
            return self.uri_line(&line);
        }
        let Some(tag) = text.strip_prefix("#EXT").map(|_| &text[1..]) else {
            self.hide_in_comment(&line);
            return Ok(());
        };
        let (name, value) = tag.split_once(':').unwrap_or((tag.trim_end(), ""));
        self.note_kind(name)?;
        if speaks_of_the_whole(name) {
            self.playlist.head.push(start..start + text.len());
        }
        if number > 1 && name == "EXTM3U" {
            return Err("a second playlist begins here".to_owned());
        }
        self.tag(name, value, &line)
    }

    pub(super) fn finish(mut self) -> Result<Playlist, String> {
        match self.next {
            NextUri::Nothing => {}
            NextUri::Segment { .. } => {
                return Err("it ends after #EXTINF, without a URI".to_owned());
            }
            NextUri::Variant => {
                return Err("it ends after #EXT-X-STREAM-INF, without a URI".to_owned());
            }
        }
        self.playlist.kind = self
            .kind
            .ok_or("it names neither segments nor other playlists")?;
        self.playlist.url_bytes = self.resolver.url_bytes();
        Ok(self.playlist)
    }

    fn note_kind(&mut self, name: &str) -> Result<(), String> {
        let Some(kind) = kind_of(name) else {
            return Ok(());
        };
        match self.kind {
            Some(known) if known != kind => Err(format!(
                "#{name} stands beside tags of the other kind of playlist"
            )),
            _ => {
                self.kind = Some(kind);
                Ok(())
            }
        }
    }

    fn tag(&mut self, name: &str, value: &str, line: &PlaylistLine<'_>) -> Result<(), String> {
        match name {
            "EXTINF" => {
                self.expect_no_uri()?;
                let number = value.split(',').next().unwrap_or_default();
                self.next = NextUri::Segment {
                    duration_secs: decimal(number, "#EXTINF has no duration")?,
                };
            }
            "EXT-X-STREAM-INF" => {
                self.expect_no_uri()?;
                attributes(line)?;
                self.lead = line.start;
                self.next = NextUri::Variant;
            }
            "EXT-X-TARGETDURATION" => {
                let target = decimal(value, "#EXT-X-TARGETDURATION is no number")?;
                self.playlist.target_secs = Some(target);
            }
            "EXT-X-VERSION" => {
                if std::mem::replace(&mut self.has_version, true) {
                    return Err("#EXT-X-VERSION stands there twice".to_owned());
                }
            }
            "EXT-X-MEDIA-SEQUENCE" => self.media_sequence(value)?,
            "EXT-X-ENDLIST" => self.playlist.is_ended = true,
            "EXT-X-BYTERANGE" => self.range = Some(WrittenRange::read(value)?),
            "EXT-X-GAP" => self.is_gap = true,
            "EXT-X-SKIP" => {
                return Err("it is a delta update, which leaves out what came before".to_owned());
            }
            "EXT-X-KEY" | "EXT-X-SESSION-KEY" => self.key(name, line)?,
            "EXT-X-MAP" => self.map(line)?,
            "EXT-X-PART" => self.part(line)?,
            "EXT-X-DEFINE" => {
                let list = attributes(line)?;
                let variables = &mut self.playlist.variables;
                let name = variables.define(&list, self.imported, self.base)?;
                self.playlist.definitions.push(DefineTag {
                    name: name.to_owned(),
                    is_query: list.text("QUERYPARAM").is_some(),
                    span: line.start..line.start + line.text.len(),
                });
            }
            "EXT-X-MEDIA" => self.rendition(line)?,
            "EXT-X-I-FRAME-STREAM-INF" => {
                self.required(line, UriRole::IFrameVariant)?;
            }
            "EXT-X-PRELOAD-HINT" => {
                self.optional(line, UriRole::PreloadHint)?;
            }
            "EXT-X-RENDITION-REPORT" => {
                self.optional(line, UriRole::RenditionReport)?;
            }
            "EXT-X-SESSION-DATA" => {
                let is_raw = attributes(line)?.text("FORMAT") == Some("RAW");
                self.optional(line, UriRole::SessionData { is_raw })?;
                self.hide_in_attributes(line);
            }
            _ => self.hide_in_attributes(line),
        }
        Ok(())
    }

    fn expect_no_uri(&self) -> Result<(), String> {
        match self.next {
            NextUri::Nothing => Ok(()),
            NextUri::Segment { .. } => Err("the #EXTINF before has no URI".to_owned()),
            NextUri::Variant => Err("the #EXT-X-STREAM-INF before has no URI".to_owned()),
        }
    }

    fn uri_line(&mut self, line: &PlaylistLine<'_>) -> Result<(), String> {
        let lead = line.text.len() - line.text.trim_start().len();
        let span = lead..lead + line.text.trim().len();
        match std::mem::replace(&mut self.next, NextUri::Nothing) {
            NextUri::Nothing => {
                Err("a URI without #EXTINF or #EXT-X-STREAM-INF before it".to_owned())
            }
            NextUri::Variant => self.add(line, span, UriRole::Variant, None).map(|_| ()),
            NextUri::Segment { duration_secs } => self.segment(line, span, duration_secs),
        }
    }

    fn segment(
        &mut self,
        line: &PlaylistLine<'_>,
        span: Range<usize>,
        duration_secs: f64,
    ) -> Result<(), String> {
        let sequence = (self.playlist.media_sequence)
            .checked_add(self.playlist.segments.len() as u64)
            .ok_or("the media sequence number is beyond 64 bits")?;
        let reference = self.add(line, span, UriRole::Segment(sequence), None)?;
        let written = self.range.take();
        let url = self.playlist.references[reference].url.clone();
        let range = match written {
            Some(written) => Some(written.settle(&url, self.last_range.as_ref())?),
            None => None,
        };
        self.last_range = range.map(|range| (url, range.offset + range.length));
        let found = &mut self.playlist.references[reference];
        found.range = range;
        found.is_gap = std::mem::take(&mut self.is_gap);
        for part in self.pending_parts.drain(..) {
            self.playlist.references[part].role = UriRole::Part { is_needed: false };
        }
        let end = line.start + line.text.len();
        self.playlist.segments.push(MediaSegment {
            sequence,
            duration_secs,
            reference,
            map: self.map,
            keys: self.active_keys.clone(),
            block: self.block_start..end,
        });
        self.block_start = end;
        Ok(())
    }

    fn media_sequence(&mut self, value: &str) -> Result<(), String> {
        if self.has_sequence || !self.playlist.segments.is_empty() {
            return Err("#EXT-X-MEDIA-SEQUENCE stands after a segment or twice".to_owned());
        }
        self.has_sequence = true;
        self.playlist.media_sequence =
            integer(value.trim()).ok_or("#EXT-X-MEDIA-SEQUENCE is no number of 64 bits")?;
        Ok(())
    }

    fn key(&mut self, name: &str, line: &PlaylistLine<'_>) -> Result<(), String> {
        let list = attributes(line)?;
        let method = list
            .text("METHOD")
            .ok_or_else(|| format!("#{name} has no METHOD"))?;
        if method == "NONE" {
            self.active_keys = Arc::default();
            return Ok(());
        }
        let uri = list
            .get("URI")
            .ok_or_else(|| format!("#{name} with METHOD={} has no URI", quoted(method)))?;
        let format = list.text("KEYFORMAT").unwrap_or("identity").to_owned();
        let iv = list.text("IV");
        if iv.is_some_and(|iv| !is_iv(iv)) {
            return Err(format!(
                "the IV of #{name} is no hexadecimal number of 128 bits"
            ));
        }
        let reference = self.add(line, uri.span.clone(), UriRole::Key, None)?;
        let key = SegmentKey {
            method: method.to_owned(),
            iv: iv.map(str::to_owned),
            reference,
            format,
        };
        let keys = &mut self.playlist.keys;
        let others = self.active_keys.iter().copied();
        let others = others.filter(|known| keys[*known].format != key.format);
        let active: Arc<[usize]> = others.chain([keys.len()]).collect();
        keys.push(key);
        if active.len() > MAX_KEY_FORMATS {
            return Err(format!(
                "keys of more than {MAX_KEY_FORMATS} formats apply at once"
            ));
        }
        self.active_keys = active;
        Ok(())
    }

    fn map(&mut self, line: &PlaylistLine<'_>) -> Result<(), String> {
        let list = attributes(line)?;
        let uri = list.get("URI").ok_or("#EXT-X-MAP has no URI")?;
        let range = match list.text("BYTERANGE") {
            Some(text) => {
                let written = WrittenRange::read(text)?;
                let offset = Some(written.offset.unwrap_or(0));
                Some(WrittenRange { offset, ..written }.settle("", None)?)
            }
            None => None,
        };
        let reference = self.add(line, uri.span.clone(), UriRole::Map, range)?;
        self.playlist.maps.push(Map {
            reference,
            keys: self.active_keys.clone(),
        });
        self.map = Some(reference);
        Ok(())
    }

    fn part(&mut self, line: &PlaylistLine<'_>) -> Result<(), String> {
        let list = attributes(line)?;
        let uri = list.get("URI").ok_or("#EXT-X-PART has no URI")?;
        let role = UriRole::Part { is_needed: true };
        let reference = self.add(line, uri.span.clone(), role, None)?;
        let url = self.playlist.references[reference].url.clone();
        let range = match list.text("BYTERANGE") {
            Some(text) => Some(WrittenRange::read(text)?.settle(&url, self.last_part.as_ref())?),
            None => None,
        };
        self.last_part = range.map(|range| (url, range.offset + range.length));
        let found = &mut self.playlist.references[reference];
        found.range = range;
        found.is_gap = list.text("GAP") == Some("YES");
        self.pending_parts.push(reference);
        Ok(())
    }

    fn rendition(&mut self, line: &PlaylistLine<'_>) -> Result<(), String> {
        let list = attributes(line)?;
        let kind = list.text("TYPE").ok_or("#EXT-X-MEDIA has no TYPE")?;
        let kind = kind.to_ascii_lowercase();
        // Closed captions are inside of the segments.
        if let Some(uri) = list.get("URI").filter(|_| kind != "closed-captions") {
            let language = list.text("LANGUAGE").map(str::to_owned);
            let role = UriRole::Rendition(kind, language);
            self.add(line, uri.span.clone(), role, None)?;
        }
        Ok(())
    }

    fn required(&mut self, line: &PlaylistLine<'_>, role: UriRole) -> Result<usize, String> {
        self.optional(line, role)?
            .ok_or_else(|| "the tag has no URI".to_owned())
    }

    fn optional(
        &mut self,
        line: &PlaylistLine<'_>,
        role: UriRole,
    ) -> Result<Option<usize>, String> {
        let list = attributes(line)?;
        match list.get("URI") {
            Some(Attribute { span, .. }) => self.add(line, span.clone(), role, None).map(Some),
            None => Ok(None),
        }
    }

    /// Notes the URI at `span` of `line`.
    fn add(
        &mut self,
        line: &PlaylistLine<'_>,
        span: Range<usize>,
        role: UriRole,
        range: Option<SubRange>,
    ) -> Result<usize, String> {
        if self.playlist.references.len() >= MAX_REFERENCES {
            return Err(format!("there are more than {MAX_REFERENCES} URIs"));
        }
        let written = &line.text[span.clone()];
        let expanded = self.playlist.variables.expand(written)?;
        if expanded.len() != written.len() {
            self.expanded_bytes += expanded.len();
        }
        if self.expanded_bytes > MAX_EXPANDED_BYTES {
            return Err(format!(
                "with their variables the URIs are longer than {MAX_EXPANDED_BYTES} bytes"
            ));
        }
        let (url, is_relative) = self.resolver.resolve(&expanded)?;
        let lead = match role {
            UriRole::Variant => self.lead,
            _ => line.start,
        };
        self.playlist.references.push(Reference {
            role,
            url,
            is_relative,
            range,
            is_gap: false,
            line: line.number,
            lead,
            span: line.start + span.start..line.start + span.end,
        });
        Ok(self.playlist.references.len() - 1)
    }

    /// Notes what an archived copy must not hold of a tag whose URIs stay where they are.
    fn hide_in_attributes(&mut self, line: &PlaylistLine<'_>) {
        // A tag without an attribute list is kept as it is, whatever it says.
        let list = attributes(line).unwrap_or_default();
        for attribute in list.iter().filter(|found| found.value.contains(['?', '@'])) {
            if let Some(shown) = written_without_secrets(self.base, attribute.value) {
                let span = &attribute.span;
                let span = line.start + span.start..line.start + span.end;
                self.playlist.secrets.push((span, shown));
            }
        }
    }

    fn hide_in_comment(&mut self, line: &PlaylistLine<'_>) {
        if line.text.contains("://") && line.text.contains('?') {
            let span = line.start..line.start + line.text.len();
            let shown = redact_urls(line.text);
            self.playlist.secrets.push((span, shown));
        }
    }
}

fn attributes<'a>(line: &PlaylistLine<'a>) -> Result<TagAttributes<'a>, String> {
    let start = line.text.find(':').map_or(line.text.len(), |at| at + 1);
    TagAttributes::read(line.text, start)
}
