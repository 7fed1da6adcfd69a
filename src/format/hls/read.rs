//! From the bytes of a playlist to what it says, line by line.

use url::Url;

use super::define::Variables;
use super::media::MediaReader;
use super::playlist::Playlist;
use super::{MAX_LINE_BYTES, MAX_PLAYLIST_BYTES};
use crate::error::{Class, Error, Result};

impl Playlist {
    /// Reads a playlist that came from `base`. `imported` are the variables of the multivariant playlist
    /// that named it.
    ///
    /// # Errors
    /// `invalid`, or `refused` beyond a limit, with line and reason.
    pub fn read(bytes: &[u8], base: &Url, imported: Option<&Variables>) -> Result<Playlist> {
        Playlist::read_owned(bytes.to_vec(), base, imported)
    }

    /// As [`Playlist::read`], without a copy of the text.
    ///
    /// # Errors
    /// The same.
    pub fn read_owned(
        bytes: Vec<u8>,
        base: &Url,
        imported: Option<&Variables>,
    ) -> Result<Playlist> {
        if bytes.len() > MAX_PLAYLIST_BYTES {
            return Err(Error::new(
                Class::Refused,
                format!("the playlist is larger than {MAX_PLAYLIST_BYTES} bytes"),
            ));
        }
        let text = decode(bytes)?;
        let mut reader = MediaReader::new(base, imported);
        let mut start = 0;
        for (index, line) in text.split_inclusive('\n').enumerate() {
            let content = line.strip_suffix('\n').unwrap_or(line);
            let content = content.strip_suffix('\r').unwrap_or(content);
            if content.len() > MAX_LINE_BYTES {
                return Err(Error::new(
                    Class::Refused,
                    format!(
                        "line {}: it is longer than {MAX_LINE_BYTES} bytes",
                        index + 1
                    ),
                ));
            }
            if content.chars().any(ends_a_line) {
                return Err(Error::invalid(format!(
                    "line {}: it holds a control character",
                    index + 1
                )));
            }
            reader
                .line(content, start, index + 1)
                .map_err(|why| Error::invalid(format!("line {}: {why}", index + 1)))?;
            start += line.len();
        }
        let lines = text.lines().count();
        let mut playlist = reader
            .finish()
            .map_err(|why| Error::invalid(format!("line {lines}: {why}")))?;
        playlist.text = text;
        Ok(playlist)
    }
}

/// Whether a character within a line is one that no line may have (RFC 8216 section 4.1), or at which some
/// player begins another line: it would take a part of a comment for a URI. A tab does no harm.
fn ends_a_line(character: char) -> bool {
    let is_control = character.is_control() && character != '\t';
    is_control || matches!(character, '\u{2028}' | '\u{2029}')
}

/// The text without a byte order mark, which would stand before the first tag.
fn decode(mut bytes: Vec<u8>) -> Result<String> {
    if bytes.starts_with(&[0xef, 0xbb, 0xbf]) {
        bytes.drain(..3);
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + valid.iter().filter(|byte| **byte == b'\n').count();
        Error::invalid(format!("line {line}: it is not UTF-8"))
    })?;
    let first = text.split(['\n', '\r', ' ', '\t']).next();
    if first != Some("#EXTM3U") {
        return Err(Error::invalid("line 1: a playlist begins with #EXTM3U"));
    }
    Ok(text)
}
