//! What has to be carried, and what could not be: pure but for the names, which are given once.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::context::Context;
use super::ladder::{Ladder, Sheet};
use super::piece::{Landed, Piece};
use super::{HlsKeys, HlsSettings};
use crate::error::{Class, Error, Result};
use crate::signed_url::SignedUrl;
use crate::source::hls::{Playlist, Reference, Role};

/// Files that one ladder may have.
const MAX_PIECES: usize = 200_000;

/// The attempts in which a piece that is not there (404) may still appear.
const GONE_ATTEMPTS: u32 = 2;

/// Something that could not be had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Loss {
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

impl Loss {
    pub(super) fn of(piece: &Piece, error: Error) -> Loss {
        Loss::at(&piece.key, &piece.url, &error)
    }

    pub(super) fn at(key: &str, url: &str, error: &Error) -> Loss {
        Loss {
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
        self.class == Class::Denied && self.is_signed
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

/// Whether a reference's file belongs into the archive; `None` when it is not even asked for.
pub(super) fn is_wanted(playlist: &Playlist, index: usize, settings: HlsSettings) -> Option<bool> {
    let found = &playlist.references[index];
    match found.role {
        _ if found.is_gap => None,
        Role::Segment(_) | Role::Map | Role::SessionData => Some(true),
        Role::Part { is_needed } => Some(is_needed),
        Role::Key if settings.keys == HlsKeys::Omit => None,
        Role::Key => is_plain_key(playlist, index).then_some(true),
        Role::PreloadHint
        | Role::RenditionReport
        | Role::Variant
        | Role::IFrameVariant
        | Role::Rendition(..) => None,
    }
}

/// Keys of DRM systems are no files, and neither is a key that is written out (`data:`).
fn is_plain_key(playlist: &Playlist, index: usize) -> bool {
    let mut keys = playlist.keys.iter();
    let is_plain = keys.any(|key| key.reference == index && key.is_plain());
    is_plain && is_web(&playlist.references[index].url)
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
pub(super) fn pieces(context: &Context, ladder: &Ladder) -> Result<(Vec<Piece>, Vec<Loss>)> {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut by_url: HashMap<String, usize> = HashMap::new();
    let mut losses = ladder.losses.clone();
    for sheet in ladder.sheets() {
        for index in 0..sheet.playlist.references.len() {
            let Some(is_needed) = is_wanted(&sheet.playlist, index, context.settings) else {
                continue;
            };
            let found = &sheet.playlist.references[index];
            let end = found.range.map_or(0, |range| range.offset + range.length);
            if let Some(known) = by_url.get(&found.url) {
                let known = &mut pieces[*known];
                known.is_needed |= is_needed;
                known.range_end = known.range_end.max(end);
                continue;
            }
            let piece = piece(context, sheet, found, is_needed, end);
            if !is_web(&found.url) {
                let error = Error::new(
                    Class::Refused,
                    format!("line {}: its scheme is not http or https", found.line),
                );
                losses.push(Loss::of(&piece, error));
                continue;
            }
            by_url.insert(found.url.clone(), pieces.len());
            pieces.push(piece);
        }
        if pieces.len() > MAX_PIECES {
            return Err(Error::new(
                Class::Refused,
                format!("the playlists name more than {MAX_PIECES} files"),
            ));
        }
    }
    Ok((pieces, losses))
}

/// The piece that a reference of `sheet` leads to.
pub(super) fn piece(
    context: &Context,
    sheet: &Sheet,
    found: &Reference,
    is_needed: bool,
    range_end: u64,
) -> Piece {
    let has_map = sheet.playlist.segments.iter().any(|s| s.map.is_some());
    Piece {
        key: context.key_for(&sheet.folder, &found.role, &found.url, has_map),
        url: found.url.clone(),
        is_relative: found.is_relative,
        token: sheet.token.clone(),
        role: found.role.clone(),
        is_needed,
        range_end,
    }
}

/// Files that are shorter than the ranges that are asked of them.
pub(super) fn short_files(ladder: &Ladder, landed: &BTreeMap<String, Landed>) -> Vec<Loss> {
    let mut losses: Vec<Loss> = Vec::new();
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
                losses.push(Loss::at(&file.key, &found.url, &error));
            }
        }
    }
    losses
}
