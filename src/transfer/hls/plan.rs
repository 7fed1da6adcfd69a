//! What has to be carried, and what could not be: pure but for the names, which are given once.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Serialize;

use super::cipher::Decryption;
use super::context::HlsAttempt;
use super::identity::FileIdentities;
use super::ladder::{MediaPlaylist, PlaylistSet};
use super::piece::{HlsFile, Landed};
use super::room::PIECE_BYTES;
use super::{HlsKeys, HlsSettings};
use crate::error::{Class, Error, Result};
use crate::format::hls::{MAX_REFERENCES, Playlist, Reference, UriRole};
use crate::signed_url::SignedUrl;

/// Files that one ladder may have.
pub(super) const MAX_PIECES: usize = MAX_REFERENCES;

/// The attempts in which a piece that is not there (404) may still appear.
const GONE_ATTEMPTS: u32 = 2;

/// Something that could not be had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct MissingFile {
    /// Where it would be in the archive.
    pub(super) key: String,
    /// Where it should have been, without a query.
    pub(super) url: String,
    pub(super) class: Class,
    pub(super) message: String,
    #[serde(skip)]
    is_transient: bool,
    #[serde(skip)]
    is_signed: bool,
}

impl MissingFile {
    pub(super) fn of(piece: &HlsFile, error: Error) -> MissingFile {
        // The query of its playlist is a signature that can expire like one of its own.
        let inherits = piece.token.applied(&piece.url, piece.is_relative).is_some();
        let loss = MissingFile::at(&piece.key, &piece.url, &error);
        MissingFile {
            is_signed: loss.is_signed || inherits,
            ..loss
        }
    }

    pub(super) fn at(key: &str, url: &str, error: &Error) -> MissingFile {
        MissingFile {
            key: key.to_owned(),
            url: SignedUrl::new(url).to_string(),
            class: error.class(),
            message: error.full_message(),
            is_transient: error.is_transient(),
            is_signed: url.contains('?'),
        }
    }

    /// Whether another attempt may have it.
    pub(super) fn may_come(&self, attempts: u32) -> bool {
        match self.class {
            Class::Gone => self.is_transient && attempts <= GONE_ATTEMPTS,
            _ => self.is_transient,
        }
    }

    /// Whether it was refused although its URL has a query, which may be a signature that has expired.
    pub(super) fn is_refused_signature(&self) -> bool {
        matches!(self.class, Class::Denied | Class::Expired) && self.is_signed
    }

    /// In a few words.
    pub(super) fn line(&self) -> String {
        let name = self
            .key
            .rsplit_once("hls/")
            .map_or(&*self.key, |(_, name)| name);
        format!("{name} ({}: {})", self.class, self.message)
    }
}

/// What is asked for of one playlist.
pub(super) struct Wants<'a> {
    playlist: &'a Playlist,
    settings: HlsSettings,
    /// Keys that are files of bytes, by index in the references.
    plain_keys: HashSet<usize>,
    has_map: bool,
}

impl<'a> Wants<'a> {
    pub(super) fn of(playlist: &'a Playlist, settings: HlsSettings) -> Wants<'a> {
        // Keys of DRM systems are no files, and neither is a key that is written out (`data:`).
        let plain = playlist.keys.iter().filter(|key| key.is_plain());
        let is_file = |at: &usize| is_web(&playlist.references[*at].url);
        Wants {
            playlist,
            settings,
            plain_keys: plain.map(|key| key.reference).filter(is_file).collect(),
            has_map: !playlist.maps.is_empty(),
        }
    }

    /// Whether a reference's file belongs into the archive; `None` when it is not even asked for.
    pub(super) fn is_wanted(&self, index: usize) -> Option<bool> {
        let found = &self.playlist.references[index];
        match found.role {
            _ if found.is_gap => None,
            UriRole::Segment(_) | UriRole::Map | UriRole::SessionData { .. } => Some(true),
            UriRole::Part { is_needed } => Some(is_needed),
            UriRole::Key if self.settings.keys == HlsKeys::Omit => None,
            UriRole::Key => self.plain_keys.contains(&index).then_some(true),
            UriRole::PreloadHint
            | UriRole::RenditionReport
            | UriRole::Variant
            | UriRole::IFrameVariant
            | UriRole::Rendition(..) => None,
        }
    }

    /// Whether segments have an initialization section.
    pub(super) fn has_map(&self) -> bool {
        self.has_map
    }
}

pub(super) fn is_web(url: &str) -> bool {
    let scheme = url.split(':').next().unwrap_or_default();
    ["http", "https"]
        .iter()
        .any(|web| scheme.eq_ignore_ascii_case(web))
}

/// Every file of the ladder, once, and what is lost before a request is made.
///
/// # Errors
/// `refused` when they are too many.
pub(super) fn pieces(
    context: &HlsAttempt,
    ladder: &PlaylistSet,
    decryption: &Decryption,
) -> Result<(Vec<HlsFile>, Vec<MissingFile>)> {
    let mut pieces: Vec<HlsFile> = Vec::new();
    let mut by_url: HashMap<String, usize> = HashMap::new();
    let mut losses = ladder.losses.clone();
    let references = ladder.sheets().flat_map(|sheet| &sheet.playlist.references);
    let identities = FileIdentities::of(references);
    for sheet in ladder.sheets() {
        let wants = Wants::of(&sheet.playlist, context.settings);
        for (index, found) in sheet.playlist.references.iter().enumerate() {
            let Some(is_needed) = wants.is_wanted(index) else {
                continue;
            };
            if found.role == UriRole::Key && decryption.is_plain(sheet) {
                continue;
            }
            let end = found.range.map_or(0, |range| range.offset + range.length);
            if let Some(known) = by_url.get(&found.url) {
                let known = &mut pieces[*known];
                known.is_needed |= is_needed;
                known.range_end = known.range_end.max(end);
                continue;
            }
            // Counted as they are found: the list itself is what has to stay small.
            if pieces.len() + losses.len() >= MAX_PIECES {
                return Err(Error::new(
                    Class::Refused,
                    format!("the playlists name more than {MAX_PIECES} files"),
                ));
            }
            context.take_room(PIECE_BYTES)?;
            let piece = HlsFile {
                is_needed,
                range_end: end,
                is_shared: identities.is_shared(&found.url),
                cipher: decryption.cipher(&found.url),
                ..piece(context, sheet, found, wants.has_map())
            };
            if !is_web(&found.url) {
                let error = Error::new(
                    Class::Refused,
                    format!("line {}: its scheme is not http or https", found.line),
                );
                losses.push(MissingFile::of(&piece, error));
                continue;
            }
            by_url.insert(found.url.clone(), pieces.len());
            pieces.push(piece);
        }
    }
    Ok((pieces, losses))
}

/// The piece that a reference of `sheet` leads to.
pub(super) fn piece(
    context: &HlsAttempt,
    sheet: &MediaPlaylist,
    found: &Reference,
    has_map: bool,
) -> HlsFile {
    HlsFile {
        key: context.key_for(&sheet.folder, &found.role, &found.url, has_map),
        url: found.url.clone(),
        is_relative: found.is_relative,
        token: sheet.token.clone(),
        role: found.role.clone(),
        is_needed: true,
        range_end: 0,
        is_shared: false,
        cipher: None,
    }
}

/// Files that are shorter than the ranges that are asked of them.
pub(super) fn short_files(
    ladder: &PlaylistSet,
    landed: &BTreeMap<String, Landed>,
) -> Vec<MissingFile> {
    let mut losses: Vec<MissingFile> = Vec::new();
    for sheet in ladder.sheets() {
        for found in &sheet.playlist.references {
            let (Some(range), Some(file)) = (found.range, landed.get(&found.url)) else {
                continue;
            };
            let is_short = range.offset + range.length > file.size_bytes;
            if is_short && losses.last().is_none_or(|last| last.key != file.key) {
                let error = Error::new(
                    Class::Corrupt,
                    format!(
                        "line {}: the range ends beyond the file's {} bytes",
                        found.line, file.size_bytes
                    ),
                );
                losses.push(MissingFile::at(&file.key, &found.url, &error));
            }
        }
    }
    losses
}
