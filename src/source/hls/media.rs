//! Line by line from text to a playlist: what a tag sets, and how long that lasts.

use std::ops::Range;

use url::Url;

use super::MAX_REFERENCES;
use super::attributes::{Attribute, Attributes};
use super::define::Variables;
use super::playlist::{Key, Kind, Playlist, Reference, Role, Segment, SubRange};

/// Tags that speak of the whole playlist and not of the segment after them.
const WHOLE: [&str; 13] = [
    "EXTM3U",
    "EXT-X-VERSION",
    "EXT-X-TARGETDURATION",
    "EXT-X-MEDIA-SEQUENCE",
    "EXT-X-DISCONTINUITY-SEQUENCE",
    "EXT-X-PLAYLIST-TYPE",
    "EXT-X-INDEPENDENT-SEGMENTS",
    "EXT-X-START",
    "EXT-X-DEFINE",
    "EXT-X-I-FRAMES-ONLY",
    "EXT-X-SERVER-CONTROL",
    "EXT-X-PART-INF",
    "EXT-X-ENDLIST",
];

/// The tags that make a playlist a multivariant or a media playlist.
const MASTER: [&str; 6] = [
    "EXT-X-STREAM-INF",
    "EXT-X-MEDIA",
    "EXT-X-I-FRAME-STREAM-INF",
    "EXT-X-SESSION-DATA",
    "EXT-X-SESSION-KEY",
    "EXT-X-CONTENT-STEERING",
];
const MEDIA: [&str; 13] = [
    "EXTINF",
    "EXT-X-TARGETDURATION",
    "EXT-X-MEDIA-SEQUENCE",
    "EXT-X-DISCONTINUITY-SEQUENCE",
    "EXT-X-PLAYLIST-TYPE",
    "EXT-X-ENDLIST",
    "EXT-X-I-FRAMES-ONLY",
    "EXT-X-KEY",
    "EXT-X-MAP",
    "EXT-X-BYTERANGE",
    "EXT-X-DISCONTINUITY",
    "EXT-X-PART",
    "EXT-X-SKIP",
];

/// What the next URI line is.
enum Next {
    Nothing,
    Segment { duration_secs: f64 },
    Variant,
}

/// A range as written: the offset may have to be worked out.
#[derive(Clone, Copy)]
struct Written {
    length: u64,
    offset: Option<u64>,
}

/// One line and where it stands.
struct Line<'a> {
    text: &'a str,
    start: usize,
    number: usize,
}

pub(super) struct Reader<'a> {
    base: &'a Url,
    imported: Option<&'a Variables>,
    playlist: Playlist,
    kind: Option<Kind>,
    next: Next,
    range: Option<Written>,
    is_gap: bool,
    has_sequence: bool,
    map: Option<usize>,
    active_keys: Vec<usize>,
    block_start: usize,
    // The URL and end of the last range, from which an offset that is left out goes on.
    last_range: Option<(String, u64)>,
    last_part: Option<(String, u64)>,
    pending_parts: Vec<usize>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(base: &'a Url, imported: Option<&'a Variables>) -> Reader<'a> {
        Reader {
            base,
            imported,
            playlist: Playlist {
                kind: Kind::Media,
                is_ended: false,
                target_secs: None,
                media_sequence: 0,
                references: Vec::new(),
                segments: Vec::new(),
                keys: Vec::new(),
                variables: Variables::default(),
                text: String::new(),
                head: Vec::new(),
            },
            kind: None,
            next: Next::Nothing,
            range: None,
            is_gap: false,
            has_sequence: false,
            map: None,
            active_keys: Vec::new(),
            block_start: 0,
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
        let line = Line {
            text,
            start,
            number,
        };
        if !text.starts_with('#') {
            return self.uri_line(&line);
        }
        let Some(tag) = text.strip_prefix("#EXT").map(|_| &text[1..]) else {
            return Ok(());
        };
        let (name, value) = tag.split_once(':').unwrap_or((tag.trim_end(), ""));
        self.note_kind(name)?;
        if WHOLE.contains(&name) {
            self.playlist.head.push(start..start + text.len());
        }
        if number > 1 && name == "EXTM3U" {
            return Err("a second playlist begins here".to_owned());
        }
        self.tag(name, value, &line)
    }

    pub(super) fn finish(mut self) -> Result<Playlist, String> {
        match self.next {
            Next::Nothing => {}
            Next::Segment { .. } => return Err("it ends after #EXTINF, without a URI".to_owned()),
            Next::Variant => {
                return Err("it ends after #EXT-X-STREAM-INF, without a URI".to_owned());
            }
        }
        self.playlist.kind = self
            .kind
            .ok_or("it names neither segments nor other playlists")?;
        Ok(self.playlist)
    }

    fn note_kind(&mut self, name: &str) -> Result<(), String> {
        let kind = if MASTER.contains(&name) {
            Kind::Master
        } else if MEDIA.contains(&name) {
            Kind::Media
        } else {
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

    fn tag(&mut self, name: &str, value: &str, line: &Line<'_>) -> Result<(), String> {
        match name {
            "EXTINF" => {
                self.expect_no_uri()?;
                let number = value.split(',').next().unwrap_or_default();
                self.next = Next::Segment {
                    duration_secs: decimal(number, "#EXTINF has no duration")?,
                };
            }
            "EXT-X-STREAM-INF" => {
                self.expect_no_uri()?;
                attributes(line)?;
                self.next = Next::Variant;
            }
            "EXT-X-TARGETDURATION" => {
                let target = decimal(value, "#EXT-X-TARGETDURATION is no number")?;
                self.playlist.target_secs = Some(target);
            }
            "EXT-X-MEDIA-SEQUENCE" => self.media_sequence(value)?,
            "EXT-X-ENDLIST" => self.playlist.is_ended = true,
            "EXT-X-BYTERANGE" => self.range = Some(range(value)?),
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
                variables.define(&list, self.imported, self.base)?;
            }
            "EXT-X-MEDIA" => self.rendition(line)?,
            "EXT-X-I-FRAME-STREAM-INF" => {
                self.required(line, Role::IFrameVariant)?;
            }
            "EXT-X-PRELOAD-HINT" => {
                self.optional(line, Role::PreloadHint)?;
            }
            "EXT-X-RENDITION-REPORT" => {
                self.optional(line, Role::RenditionReport)?;
            }
            "EXT-X-SESSION-DATA" => {
                self.optional(line, Role::SessionData)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn expect_no_uri(&self) -> Result<(), String> {
        match self.next {
            Next::Nothing => Ok(()),
            Next::Segment { .. } => Err("the #EXTINF before has no URI".to_owned()),
            Next::Variant => Err("the #EXT-X-STREAM-INF before has no URI".to_owned()),
        }
    }

    fn uri_line(&mut self, line: &Line<'_>) -> Result<(), String> {
        let lead = line.text.len() - line.text.trim_start().len();
        let span = lead..lead + line.text.trim().len();
        match std::mem::replace(&mut self.next, Next::Nothing) {
            Next::Nothing => Err("a URI without #EXTINF or #EXT-X-STREAM-INF before it".to_owned()),
            Next::Variant => self.add(line, span, Role::Variant, None).map(|_| ()),
            Next::Segment { duration_secs } => self.segment(line, span, duration_secs),
        }
    }

    fn segment(
        &mut self,
        line: &Line<'_>,
        span: Range<usize>,
        duration_secs: f64,
    ) -> Result<(), String> {
        let sequence = (self.playlist.media_sequence)
            .checked_add(self.playlist.segments.len() as u64)
            .ok_or("the media sequence number is beyond 64 bits")?;
        let reference = self.add(line, span, Role::Segment(sequence), None)?;
        let written = self.range.take();
        let url = self.playlist.references[reference].url.clone();
        let range = match written {
            Some(written) => Some(settle_range(written, &url, self.last_range.as_ref())?),
            None => None,
        };
        self.last_range = range.map(|range| (url, range.offset + range.length));
        let found = &mut self.playlist.references[reference];
        found.range = range;
        found.is_gap = std::mem::take(&mut self.is_gap);
        for part in self.pending_parts.drain(..) {
            self.playlist.references[part].role = Role::Part { is_needed: false };
        }
        let end = line.start + line.text.len();
        self.playlist.segments.push(Segment {
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

    fn key(&mut self, name: &str, line: &Line<'_>) -> Result<(), String> {
        let list = attributes(line)?;
        let method = list
            .text("METHOD")
            .ok_or_else(|| format!("#{name} has no METHOD"))?;
        if method == "NONE" {
            self.active_keys.clear();
            return Ok(());
        }
        let uri = list
            .get("URI")
            .ok_or_else(|| format!("#{name} with METHOD={method} has no URI"))?;
        let format = list.text("KEYFORMAT").unwrap_or("identity").to_owned();
        let reference = self.add(line, uri.span.clone(), Role::Key, None)?;
        let key = Key {
            method: method.to_owned(),
            iv: list.text("IV").map(str::to_owned),
            reference,
            format,
        };
        let keys = &mut self.playlist.keys;
        self.active_keys
            .retain(|known| keys[*known].format != key.format);
        self.active_keys.push(keys.len());
        keys.push(key);
        Ok(())
    }

    fn map(&mut self, line: &Line<'_>) -> Result<(), String> {
        let list = attributes(line)?;
        let uri = list.get("URI").ok_or("#EXT-X-MAP has no URI")?;
        let range = match list.text("BYTERANGE") {
            Some(text) => {
                let written = range(text)?;
                let offset = Some(written.offset.unwrap_or(0));
                Some(settle_range(Written { offset, ..written }, "", None)?)
            }
            None => None,
        };
        self.map = Some(self.add(line, uri.span.clone(), Role::Map, range)?);
        Ok(())
    }

    fn part(&mut self, line: &Line<'_>) -> Result<(), String> {
        let list = attributes(line)?;
        let uri = list.get("URI").ok_or("#EXT-X-PART has no URI")?;
        let role = Role::Part { is_needed: true };
        let reference = self.add(line, uri.span.clone(), role, None)?;
        let url = self.playlist.references[reference].url.clone();
        let range = match list.text("BYTERANGE") {
            Some(text) => Some(settle_range(range(text)?, &url, self.last_part.as_ref())?),
            None => None,
        };
        self.last_part = range.map(|range| (url, range.offset + range.length));
        let found = &mut self.playlist.references[reference];
        found.range = range;
        found.is_gap = list.text("GAP") == Some("YES");
        self.pending_parts.push(reference);
        Ok(())
    }

    fn rendition(&mut self, line: &Line<'_>) -> Result<(), String> {
        let list = attributes(line)?;
        let kind = list.text("TYPE").ok_or("#EXT-X-MEDIA has no TYPE")?;
        let kind = kind.to_ascii_lowercase();
        // Closed captions are inside of the segments.
        if let Some(uri) = list.get("URI").filter(|_| kind != "closed-captions") {
            let language = list.text("LANGUAGE").map(str::to_owned);
            let role = Role::Rendition(kind, language);
            self.add(line, uri.span.clone(), role, None)?;
        }
        Ok(())
    }

    fn required(&mut self, line: &Line<'_>, role: Role) -> Result<usize, String> {
        self.optional(line, role)?
            .ok_or_else(|| "the tag has no URI".to_owned())
    }

    fn optional(&mut self, line: &Line<'_>, role: Role) -> Result<Option<usize>, String> {
        let list = attributes(line)?;
        match list.get("URI") {
            Some(Attribute { span, .. }) => self.add(line, span.clone(), role, None).map(Some),
            None => Ok(None),
        }
    }

    /// Notes the URI at `span` of `line`.
    fn add(
        &mut self,
        line: &Line<'_>,
        span: Range<usize>,
        role: Role,
        range: Option<SubRange>,
    ) -> Result<usize, String> {
        if self.playlist.references.len() >= MAX_REFERENCES {
            return Err(format!("there are more than {MAX_REFERENCES} URIs"));
        }
        let written = self.playlist.variables.expand(&line.text[span.clone()])?;
        let (url, is_relative) = resolve(self.base, &written)?;
        self.playlist.references.push(Reference {
            role,
            url,
            is_relative,
            range,
            is_gap: false,
            line: line.number,
            span: line.start + span.start..line.start + span.end,
        });
        Ok(self.playlist.references.len() - 1)
    }
}

fn attributes<'a>(line: &Line<'a>) -> Result<Attributes<'a>, String> {
    let start = line.text.find(':').map_or(line.text.len(), |at| at + 1);
    Attributes::read(line.text, start)
}

/// RFC 3986 section 5. An absolute URI stays as written, since it may be signed.
fn resolve(base: &Url, uri: &str) -> Result<(String, bool), String> {
    if uri.is_empty() || uri.chars().any(char::is_control) {
        return Err("the URI is empty or holds a control character".to_owned());
    }
    let bare = uri.split('#').next().unwrap_or_default();
    let mut joined = base
        .join(uri)
        .map_err(|error| format!("the URI can't be resolved: {error}"))?;
    joined.set_fragment(None);
    if Url::parse(uri).is_err() {
        return Ok((joined.into(), true));
    }
    let path = bare.split('?').next().unwrap_or_default();
    let has_dots = path.split('/').any(|part| part == "." || part == "..");
    match has_dots {
        true => Ok((joined.into(), false)),
        false => Ok((bare.to_owned(), false)),
    }
}

fn decimal(text: &str, why: &str) -> Result<f64, String> {
    let number: Option<f64> = text.trim().parse().ok();
    number
        .filter(|number| number.is_finite())
        .ok_or_else(|| why.to_owned())
}

fn integer(text: &str) -> Option<u64> {
    let is_digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    is_digits.then(|| text.parse().ok())?
}

/// `length` or `length@offset`.
fn range(text: &str) -> Result<Written, String> {
    let text = text.trim();
    let (length, offset) = match text.split_once('@') {
        Some((length, offset)) => (length, Some(offset)),
        None => (text, None),
    };
    let wrong = || "a byte range is no numbers of 64 bits".to_owned();
    let length = integer(length)
        .filter(|length| *length > 0)
        .ok_or_else(wrong)?;
    let offset = match offset {
        Some(offset) => Some(integer(offset).ok_or_else(wrong)?),
        None => None,
    };
    Ok(Written { length, offset })
}

/// Gives the range its offset: its own, else where the range before ended, if that was of the same file.
fn settle_range(
    written: Written,
    url: &str,
    before: Option<&(String, u64)>,
) -> Result<SubRange, String> {
    let offset = match (written.offset, before) {
        (Some(offset), _) => offset,
        (None, Some((same, end))) if same == url => *end,
        (None, _) => {
            return Err(
                "a byte range without an offset does not follow a range of the same resource"
                    .to_owned(),
            );
        }
    };
    offset
        .checked_add(written.length)
        .ok_or("a byte range ends beyond 64 bits")?;
    Ok(SubRange {
        offset,
        length: written.length,
    })
}
