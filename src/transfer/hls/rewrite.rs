//! What becomes of each URI when a playlist is archived: pure.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::Carried;
use super::HlsKeys;
use super::context::HlsAttempt;
use super::ladder::{MediaPlaylist, PlaylistSet};
use super::piece::Landed;
use super::plan::{MissingFile, Wants};
use crate::format::hls::{Reference, UriChange, UriRole, without_secrets};
use crate::signed_url::SignedUrl;

/// Rewrites the playlists of one ladder.
pub(super) struct Rewriter<'a> {
    context: &'a HlsAttempt,
    carried: &'a Carried,
    /// The keys of the media playlists, by their URL.
    planned: HashMap<&'a str, &'a str>,
}

impl<'a> Rewriter<'a> {
    pub(super) fn new(
        context: &'a HlsAttempt,
        ladder: &'a PlaylistSet,
        carried: &'a Carried,
    ) -> Rewriter<'a> {
        let media = ladder.media.iter();
        Rewriter {
            context,
            carried,
            planned: media.map(|sheet| (&*sheet.url, &*sheet.key)).collect(),
        }
    }

    /// The text of `sheet` under `key`, every URI of it relative to there. `sheets` are the media playlists
    /// that were written, by their URL; another one is left out.
    pub(super) fn text(
        &self,
        sheet: &MediaPlaylist,
        key: &str,
        sheets: &BTreeMap<String, Landed>,
    ) -> String {
        let playlist = &sheet.playlist;
        let wants = Wants::of(playlist, self.context.settings);
        let planned = |found: &Reference| {
            let has_map = wants.has_map();
            self.context
                .key_for(&sheet.folder, &found.role, &found.url, has_map)
        };
        playlist.archived(|index| {
            let found = &playlist.references[index];
            let there = match found.role {
                UriRole::Variant | UriRole::IFrameVariant | UriRole::Rendition(..) => {
                    sheets.get(&found.url).map(|landed| landed.key.as_str())
                }
                // They lead to media playlists beside this one.
                UriRole::RenditionReport => self.planned.get(found.url.as_str()).copied(),
                UriRole::Key if self.carried.decryption.is_plain(sheet) => return UriChange::Drop,
                _ => {
                    let landed = self.carried.landed.get(&found.url);
                    landed.map(|landed| landed.key.as_str())
                }
            };
            if let Some(there) = there {
                return UriChange::Uri(relative(key, there));
            }
            match found.role {
                UriRole::Key => self.absent_key(found),
                _ if found.is_gap => UriChange::Uri(relative(key, &planned(found))),
                // What the playlist had promised and is lost: a player goes on behind it.
                UriRole::Segment(_) => {
                    let lost = relative(key, &planned(found));
                    UriChange::Uri(format!("#EXT-X-GAP\n{lost}"))
                }
                // Also what is lost: where it was may be signed, and here it leads nowhere.
                _ => UriChange::Drop,
            }
        })
    }

    /// As [`Rewriter::text`], for a playlist of which segments are missing: they are gaps, and it ends. `None` where
    /// that could not be played: nothing of it is there, or a key or an initialization section is lost.
    pub(super) fn partial_text(&self, sheet: &MediaPlaylist, key: &str) -> Option<String> {
        let playlist = &sheet.playlist;
        let landed = &self.carried.landed;
        let wants = Wants::of(playlist, self.context.settings);
        let is_plain = self.carried.decryption.is_plain(sheet);
        let mut has_segment = false;
        for (index, found) in playlist.references.iter().enumerate() {
            let is_there = landed.contains_key(&found.url);
            match found.role {
                UriRole::Segment(_) => has_segment |= is_there,
                UriRole::Key if is_plain => {}
                UriRole::Key | UriRole::Map
                    if wants.is_wanted(index) == Some(true) && !is_there =>
                {
                    return None;
                }
                _ => {}
            }
        }
        if !has_segment {
            return None;
        }
        let mut text = self.text(sheet, key, &BTreeMap::new());
        if !playlist.is_ended {
            let gap = if text.ends_with('\n') { "" } else { "\n" };
            text.push_str(&format!("{gap}#EXT-X-ENDLIST\n"));
        }
        Some(text)
    }

    /// A key that is not archived stays where it is, without a token.
    fn absent_key(&self, found: &Reference) -> UriChange {
        match self.context.settings.keys {
            HlsKeys::Omit => UriChange::Uri(SignedUrl::new(&found.url).to_string()),
            HlsKeys::Store | HlsKeys::Decrypt => {
                // Relative to here it would lead nowhere.
                let moved = || found.is_relative.then(|| found.url.clone());
                let there = without_secrets(&found.url).or_else(moved);
                there.map_or(UriChange::Keep, UriChange::Uri)
            }
        }
    }

    /// The media playlists of which nothing is missing.
    pub(super) fn complete<'l>(
        &self,
        ladder: &'l PlaylistSet,
        losses: &[MissingFile],
    ) -> Vec<&'l MediaPlaylist> {
        let lost: HashSet<&str> = losses.iter().map(|loss| loss.key.as_str()).collect();
        let is_complete = |sheet: &&MediaPlaylist| {
            let wants = Wants::of(&sheet.playlist, self.context.settings);
            let is_plain = self.carried.decryption.is_plain(sheet);
            let mut references = sheet.playlist.references.iter().enumerate();
            let has_all = references.all(|(index, found)| {
                let is_needed = wants.is_wanted(index) == Some(true);
                let is_dropped = found.role == UriRole::Key && is_plain;
                let landed = self.carried.landed.get(&found.url);
                let is_sound = |landed: &Landed| !lost.contains(&*landed.key);
                !is_needed || is_dropped || landed.is_some_and(is_sound)
            });
            has_all && !lost.contains(&*sheet.key)
        };
        ladder.media.iter().filter(is_complete).collect()
    }
}

/// The way from the object at `from` to the one at `to`.
pub(super) fn relative(from: &str, to: &str) -> String {
    let folder: Vec<_> = from.split('/').collect();
    let folder = &folder[..folder.len() - 1];
    let target: Vec<_> = to.split('/').collect();
    let common = folder
        .iter()
        .zip(&target[..target.len() - 1])
        .take_while(|(a, b)| a == b)
        .count();
    let mut steps = vec![".."; folder.len() - common];
    steps.extend(&target[common..]);
    steps.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_from_object_to_object() {
        assert_eq!(
            relative("a/hls/master.m3u8", "a/hls/v0/index.m3u8"),
            "v0/index.m3u8"
        );
        assert_eq!(
            relative("a/hls/v1/index.m3u8", "a/hls/v0/seg.ts"),
            "../v0/seg.ts"
        );
        assert_eq!(relative("a/hls/v1/index.m3u8", "a/hls/v1/seg.ts"), "seg.ts");
        assert_eq!(relative("a/hls/v1/index.m3u8", "a/hls/key"), "../key");
    }
}
