//! All playlists of one recording.

use std::collections::HashMap;
use std::sync::Arc;

use futures::{FutureExt, StreamExt};
use url::Url;

use super::context::{Context, Token};
use super::follow::{self, Way};
use super::plan::Loss;
use crate::error::{Class, Error, Result};
use crate::signed_url::SignedUrl;
use crate::source::hls::{
    Kind, MAX_PLAYLIST_BYTES, MAX_PLAYLISTS, Playlist, Reference, Role, Variables, playlist_folder,
};
use crate::transfer::patience::{TRIES, wait_after};

/// One playlist and where its pieces go.
#[derive(Clone, Debug)]
pub(super) struct Sheet {
    /// The folder of its pieces within the ladder's; empty for the multivariant playlist.
    pub(super) folder: String,
    /// Its planned key.
    pub(super) key: String,
    /// What it is to the multivariant playlist; a variant when it stands alone.
    pub(super) role: Role,
    /// The URL that names it, as written there and resolved.
    pub(super) url: String,
    pub(super) playlist: Playlist,
    pub(super) token: Arc<Token>,
}

/// The playlists of one recording.
#[derive(Debug)]
pub(super) struct Ladder {
    /// The multivariant playlist, or the media playlist that stands alone.
    pub(super) entry: Sheet,
    /// The media playlists that it names, in order.
    pub(super) media: Vec<Sheet>,
    /// What could not be read of it.
    pub(super) losses: Vec<Loss>,
}

/// A playlist that was read, and what its URIs are relative to.
pub(super) struct Fetched {
    pub(super) playlist: Playlist,
    pub(super) base: Url,
    pub(super) token: Arc<Token>,
    text_bytes: u64,
}

impl Fetched {
    /// The playlist of a reading that is not kept.
    pub(super) fn into_passing(self, context: &Context) -> Playlist {
        context.forget_text(self.text_bytes);
        self.playlist
    }
}

impl Ladder {
    /// Reads the playlist at `url` and all that it names; follows those that are still growing.
    pub(super) async fn read(context: &Arc<Context>, url: &SignedUrl) -> Result<Ladder> {
        let fetched = fetch(context, url.expose(), false, &Token::default(), None).await?;
        let is_master = fetched.playlist.kind == Kind::Master;
        let folder = match is_master {
            true => String::new(),
            false => playlist_folder(&Role::Variant, 0),
        };
        let entry = Sheet {
            folder,
            key: context.entry_key.clone(),
            role: Role::Variant,
            url: url.expose().to_owned(),
            token: fetched.token.clone(),
            playlist: fetched.playlist.clone(),
        };
        if !is_master {
            let mut losses = Vec::new();
            let way = Way {
                url: url.expose(),
                is_relative: false,
                token: &Token::default(),
                imported: None,
            };
            let entry = follow::to_its_end(context, entry, fetched, way, &mut losses).await?;
            return Ok(Ladder {
                entry,
                media: Vec::new(),
                losses,
            });
        }
        let (media, losses) = read_media(context, &entry).await?;
        Ok(Ladder {
            entry,
            media,
            losses,
        })
    }

    /// The entry playlist and those that it names.
    pub(super) fn sheets(&self) -> impl Iterator<Item = &Sheet> {
        std::iter::once(&self.entry).chain(&self.media)
    }
}

/// The media playlists that `master` names, each once.
async fn read_media(context: &Arc<Context>, master: &Sheet) -> Result<(Vec<Sheet>, Vec<Loss>)> {
    let mut named: Vec<(&Reference, String)> = Vec::new();
    let mut counts: HashMap<String, usize> = HashMap::new();
    for found in &master.playlist.references {
        let is_playlist = matches!(
            found.role,
            Role::Variant | Role::IFrameVariant | Role::Rendition(..)
        );
        if !is_playlist || named.iter().any(|(known, _)| known.url == found.url) {
            continue;
        }
        let kind = playlist_folder(&found.role, 0);
        let number = counts.entry(kind).or_default();
        named.push((found, playlist_folder(&found.role, *number)));
        *number += 1;
        if named.len() > MAX_PLAYLISTS {
            return Err(Error::new(
                Class::Refused,
                format!("the playlist names more than {MAX_PLAYLISTS} playlists"),
            ));
        }
    }
    // Those that grow are followed side by side; the source bounds the connections to a host.
    let mut reading = Vec::new();
    for (found, folder) in named {
        let variables = &master.playlist.variables;
        reading.push(read_one(context, found, folder, &master.token, variables).boxed());
    }
    let read = futures::future::join_all(reading).await;
    let mut media = Vec::new();
    let mut losses = Vec::new();
    for read in read {
        let (sheet, lost) = read?;
        media.extend(sheet);
        losses.extend(lost);
    }
    Ok((media, losses))
}

async fn read_one(
    context: &Arc<Context>,
    found: &Reference,
    folder: String,
    token: &Token,
    variables: &Variables,
) -> Result<(Option<Sheet>, Vec<Loss>)> {
    let key = format!("{}/{folder}/index.m3u8", context.folder);
    let mut losses = Vec::new();
    let fetched = match fetch(
        context,
        &found.url,
        found.is_relative,
        token,
        Some(variables),
    )
    .await
    {
        Ok(fetched) if fetched.playlist.kind == Kind::Media => fetched,
        Ok(_) => {
            return Err(Error::invalid(format!(
                "line {}: a multivariant playlist names another one",
                found.line
            )));
        }
        Err(error) => {
            return Ok((None, vec![Loss::at(&key, &found.url, &error)]));
        }
    };
    let sheet = Sheet {
        folder,
        key,
        role: found.role.clone(),
        url: found.url.clone(),
        token: fetched.token.clone(),
        playlist: fetched.playlist.clone(),
    };
    let way = Way {
        url: &found.url,
        is_relative: found.is_relative,
        token,
        imported: Some(variables),
    };
    let sheet = follow::to_its_end(context, sheet, fetched, way, &mut losses).await?;
    Ok((Some(sheet), losses))
}

/// Reads the playlist at `url`.
pub(super) async fn fetch(
    context: &Context,
    url: &str,
    is_relative: bool,
    token: &Token,
    imported: Option<&Variables>,
) -> Result<Fetched> {
    let mut tried = 0;
    loop {
        tried += 1;
        match fetch_once(context, url, is_relative, token, imported).await {
            Err(error)
                if error.is_transient() && tried < TRIES && error.retry_after().is_none() =>
            {
                wait_after(tried).await;
            }
            ended => return ended,
        }
    }
}

async fn fetch_once(
    context: &Context,
    url: &str,
    is_relative: bool,
    token: &Token,
    imported: Option<&Variables>,
) -> Result<Fetched> {
    let mut opened = context.open(url, is_relative, token).await?;
    let mut body = Vec::new();
    while let Some(chunk) = opened.body.next().await {
        let chunk = chunk?;
        context.count_text(chunk.len() as u64)?;
        body.extend_from_slice(&chunk);
        if body.len() > MAX_PLAYLIST_BYTES {
            break;
        }
    }
    let came_from = opened.url.expose();
    let base = Url::parse(came_from)
        .map_err(|_| Error::invalid("the playlist's own URL can't be read"))?;
    let playlist = Playlist::read(&body, &base, imported).map_err(|error| {
        let name = base
            .path()
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .to_owned();
        Error::new(
            error.class(),
            format!("read playlist {name}: {}", error.full_message()),
        )
    })?;
    Ok(Fetched {
        playlist,
        // A redirect may lead to where the query is no longer needed.
        token: Token::of(if came_from.contains('?') {
            came_from
        } else {
            url
        }),
        base,
        text_bytes: body.len() as u64,
    })
}
