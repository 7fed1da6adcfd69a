//! What makes a file the same in the next reading of a playlist.

use std::collections::HashMap;

use crate::format::hls::{Reference, without_secrets};

/// The files of some playlists by their paths: their URLs without the query, which may be a token that each reading
/// has anew, unless several of them have one path, so that the query tells them apart.
pub(super) struct FileIdentities<'a> {
    by_path: HashMap<&'a str, Option<&'a str>>,
}

impl<'a> FileIdentities<'a> {
    pub(super) fn of(references: impl Iterator<Item = &'a Reference>) -> FileIdentities<'a> {
        let mut by_path: HashMap<&str, Option<&str>> = HashMap::new();
        for found in references {
            let known = by_path.entry(bare(&found.url)).or_insert(Some(&found.url));
            *known = known.filter(|known| *known == found.url);
        }
        FileIdentities { by_path }
    }

    /// Whether another file has the same path.
    pub(super) fn is_shared(&self, url: &str) -> bool {
        !matches!(self.by_path.get(bare(url)), Some(Some(_)))
    }

    pub(super) fn of_file(&self, found: &Reference) -> String {
        match self.is_shared(&found.url) {
            true => found.url.clone(),
            false => bare(&found.url).to_owned(),
        }
    }
}

/// Where a file came from, whatever signature it was asked with. `is_shared` says that its query tells it from
/// others of its path.
pub(super) fn lasting(url: &str, is_shared: bool) -> String {
    match is_shared {
        true => without_secrets(url).unwrap_or_else(|| url.to_owned()),
        false => bare(url).to_owned(),
    }
}

fn bare(url: &str) -> &str {
    url.split('?').next().unwrap_or_default()
}
