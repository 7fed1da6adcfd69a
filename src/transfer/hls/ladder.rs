//! All playlists of one recording.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use url::Url;

use super::context::HlsAttempt;
use super::follow::{self, PlaylistRequest};
use super::piece::stopped;
use super::plan::MissingFile;
use super::room::{REFERENCE_BYTES, wanted};
use super::token::InheritedQuery;
use crate::error::{Class, Error, Result};
use crate::format::hls::{
    Kind, MAX_PLAYLIST_BYTES, MAX_PLAYLISTS, Playlist, Reference, UriRole, Variables, Weight,
    playlist_folder,
};
use crate::signed_url::SignedUrl;
use crate::source::Opened;
use crate::transfer::upload::retry::{TRIES, wait_after};

/// A longer text is read beside the runtime's threads.
const LONG_BYTES: usize = 256 * 1024;

/// One playlist and where its pieces go.
#[derive(Clone, Debug)]
pub(super) struct MediaPlaylist {
    /// The folder of its pieces within the ladder's; empty for the multivariant playlist.
    pub(super) folder: String,
    /// Its planned key.
    pub(super) key: String,
    /// What it is to the multivariant playlist; a variant when it stands alone.
    pub(super) role: UriRole,
    /// The URL that names it, as written there and resolved.
    pub(super) url: String,
    pub(super) playlist: Playlist,
    pub(super) token: Arc<InheritedQuery>,
    /// Whether it is made of several readings, which no later one can repeat.
    pub(super) is_followed: bool,
}

/// The playlists of one recording.
#[derive(Debug)]
pub(super) struct PlaylistSet {
    /// The multivariant playlist, or the media playlist that stands alone.
    pub(super) entry: MediaPlaylist,
    /// The media playlists that it names, in order.
    pub(super) media: Vec<MediaPlaylist>,
    /// What could not be read of it.
    pub(super) losses: Vec<MissingFile>,
}

/// A playlist that was read, and what its URIs are relative to.
pub(super) struct Fetched {
    pub(super) playlist: Playlist,
    pub(super) base: Url,
    pub(super) token: Arc<InheritedQuery>,
    /// What it takes of the room.
    bytes: u64,
}

impl Fetched {
    /// The playlist of a reading that is not kept.
    pub(super) fn into_passing(self, context: &HlsAttempt) -> Playlist {
        context.room.give_back(self.bytes);
        let references = self.playlist.references.len() as u64;
        context.room.forget_references(references);
        self.playlist
    }
}

impl PlaylistSet {
    /// Reads the playlist at `url` and all that it names; follows those that are still growing.
    pub(super) async fn read(context: &Arc<HlsAttempt>, url: &SignedUrl) -> Result<PlaylistSet> {
        let fetched = fetch(
            context,
            url.expose(),
            false,
            &InheritedQuery::default(),
            None,
        )
        .await?;
        let is_master = fetched.playlist.kind == Kind::Master;
        let folder = match is_master {
            true => String::new(),
            false => playlist_folder(&UriRole::Variant, 0),
        };
        let base = fetched.base;
        let entry = MediaPlaylist {
            folder,
            key: context.entry_key.clone(),
            role: UriRole::Variant,
            url: url.expose().to_owned(),
            token: fetched.token,
            playlist: fetched.playlist,
            is_followed: false,
        };
        let (entry, media, losses) = match is_master {
            true => {
                let (media, losses) = read_media(context, &entry).await?;
                (entry, media, losses)
            }
            false => {
                let mut losses = Vec::new();
                let way = PlaylistRequest {
                    url: url.expose(),
                    is_relative: false,
                    token: &InheritedQuery::default(),
                    imported: None,
                };
                let entry = follow::to_its_end(context, entry, &base, way, &mut losses).await?;
                (entry, Vec::new(), losses)
            }
        };
        Ok(PlaylistSet {
            entry,
            media,
            losses,
        })
    }

    /// Whether another reading may tell the same as this one, with fresh signatures.
    pub(super) fn can_be_read_again(&self) -> bool {
        !self.sheets().any(|sheet| sheet.is_followed)
    }

    /// The entry playlist and those that it names.
    pub(super) fn sheets(&self) -> impl Iterator<Item = &MediaPlaylist> {
        std::iter::once(&self.entry).chain(&self.media)
    }
}

/// The media playlists that `master` names, each once.
async fn read_media(
    context: &Arc<HlsAttempt>,
    master: &MediaPlaylist,
) -> Result<(Vec<MediaPlaylist>, Vec<MissingFile>)> {
    let mut named: Vec<(&Reference, String)> = Vec::new();
    let mut seen = HashSet::new();
    let mut counts: HashMap<String, usize> = HashMap::new();
    for found in &master.playlist.references {
        if !found.role.is_playlist() || !seen.insert(&found.url) {
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
    if named.is_empty() {
        return Err(Error::invalid("the playlist names no other playlist"));
    }
    // Those that grow are followed side by side; the source bounds the connections to a host.
    let mut reading = FuturesUnordered::new();
    for (at, (found, folder)) in named.into_iter().enumerate() {
        let variables = &master.playlist.variables;
        let read = read_one(context, found, folder, &master.token, variables);
        reading.push(read.map(move |read| (at, read)).boxed());
    }
    let mut read = BTreeMap::new();
    let mut failure = None;
    while let Some((at, ended)) = reading.next().await {
        match ended {
            Ok(found) => {
                read.insert(at, found);
            }
            // The others end by themselves and tidy up; the first to fail is why.
            Err(error) => {
                context.stop.cancel();
                failure.get_or_insert(error);
            }
        }
    }
    if let Some(failure) = failure {
        return Err(failure);
    }
    let mut media = Vec::new();
    let mut losses = Vec::new();
    for (sheet, lost) in read.into_values() {
        media.extend(sheet);
        losses.extend(lost);
    }
    Ok((media, losses))
}

async fn read_one(
    context: &Arc<HlsAttempt>,
    found: &Reference,
    folder: String,
    token: &InheritedQuery,
    variables: &Variables,
) -> Result<(Option<MediaPlaylist>, Vec<MissingFile>)> {
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
        Err(error) if context.verdict().is_some() || wanted(&error).is_some() => {
            return Err(error);
        }
        Err(error) => {
            return Ok((None, vec![MissingFile::at(&key, &found.url, &error)]));
        }
    };
    let sheet = MediaPlaylist {
        folder,
        key,
        role: found.role.clone(),
        url: found.url.clone(),
        token: fetched.token,
        playlist: fetched.playlist,
        is_followed: false,
    };
    let way = PlaylistRequest {
        url: &found.url,
        is_relative: found.is_relative,
        token,
        imported: Some(variables),
    };
    let sheet = follow::to_its_end(context, sheet, &fetched.base, way, &mut losses).await?;
    Ok((Some(sheet), losses))
}

/// Reads the playlist at `url`.
pub(super) async fn fetch(
    context: &HlsAttempt,
    url: &str,
    is_relative: bool,
    token: &InheritedQuery,
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
    context: &HlsAttempt,
    url: &str,
    is_relative: bool,
    token: &InheritedQuery,
    imported: Option<&Variables>,
) -> Result<Fetched> {
    let turn = context.readers.acquire().await;
    let _turn = turn.map_err(|_| Error::internal("take a turn to read a playlist"))?;
    if context.stop.is_cancelled() {
        return Err(stopped());
    }
    let opened = context.open(url, is_relative, token).await?;
    let answered = opened.url.clone();
    let came_from = answered.expose();
    let is_delimited = opened.is_delimited;
    let body = read_body(context, opened).await?;
    // A playlist whose end is not marked is a shorter playlist when it is cut: it is read a second time.
    if !is_delimited {
        let again = context.open(url, is_relative, token).await?;
        if read_body(context, again).await?.bytes != body.bytes {
            return Err(Error::transient(
                Class::Corrupt,
                "the origin tells no length of the playlist and sent something else the second time",
            ));
        }
    }
    let base = Url::parse(came_from)
        .map_err(|_| Error::invalid("the playlist's own URL can't be read"))?;
    let (playlist, bytes) = parse(context, body, &base, imported).await?;
    Ok(Fetched {
        playlist,
        // A redirect may lead to where the query is no longer needed.
        token: InheritedQuery::of(if came_from.contains('?') {
            came_from
        } else {
            url
        }),
        base,
        bytes,
    })
}

/// Reads the text, for which there is room; gives what it takes of that.
async fn parse(
    context: &HlsAttempt,
    mut body: Body<'_>,
    base: &Url,
    imported: Option<&Variables>,
) -> Result<(Playlist, u64)> {
    let weight = Weight::of(&body.bytes, base, imported);
    let expected = context.room.expect_references(weight.uri_lines);
    expected.map_err(|error| context.judge_room(error))?;
    body.take(weight.notes * REFERENCE_BYTES + weight.bytes)?;
    let bytes = std::mem::take(&mut body.bytes);
    let is_long = bytes.len() > LONG_BYTES;
    let read = if is_long {
        let (base, imported) = (base.clone(), imported.cloned());
        let reading = move || Playlist::read_owned(bytes, &base, imported.as_ref());
        let read = tokio::task::spawn_blocking(reading).await;
        read.map_err(|error| Error::internal("read a playlist").with_source(error))?
    } else {
        Playlist::read_owned(bytes, base, imported)
    };
    let playlist = read.map_err(|error| {
        let name = base.path().rsplit('/').next().unwrap_or_default();
        let message = format!("read playlist {name}: {}", error.full_message());
        Error::new(error.class(), message)
    })?;
    let counted = context
        .room
        .count_references(playlist.references.len() as u64);
    counted.map_err(|error| context.judge_room(error))?;
    let used =
        playlist.text_bytes() + playlist.notes() * REFERENCE_BYTES + playlist.url_bytes as u64;
    Ok((playlist, body.keep(used)))
}

/// The text of a playlist, and what it holds of the room until its playlist does.
struct Body<'a> {
    context: &'a HlsAttempt,
    bytes: Vec<u8>,
    held_bytes: u64,
}

impl Body<'_> {
    fn take(&mut self, bytes: u64) -> Result<()> {
        self.context.take_room(bytes)?;
        self.held_bytes += bytes;
        Ok(())
    }

    /// Gives back all but `bytes`, which somebody else holds from now on.
    fn keep(mut self, bytes: u64) -> u64 {
        let kept = bytes.min(self.held_bytes);
        self.held_bytes -= kept;
        kept
    }
}

impl Drop for Body<'_> {
    fn drop(&mut self) {
        self.context.room.give_back(self.held_bytes);
    }
}

/// The whole body. Its memory is taken before it comes.
async fn read_body(context: &HlsAttempt, mut opened: Opened) -> Result<Body<'_>> {
    let mut body = Body {
        context,
        bytes: Vec::new(),
        held_bytes: 0,
    };
    let told = opened.length.unwrap_or(0);
    let mut wanted = usize::try_from(told).unwrap_or(usize::MAX);
    while let Some(chunk) = opened.body.next().await {
        let chunk = chunk?;
        let length = body.bytes.len() + chunk.len();
        if length > body.bytes.capacity() {
            // One byte more than it may have is enough to know that it is too large.
            wanted = wanted.max(length).min(MAX_PLAYLIST_BYTES + 1).max(length);
            let more = wanted - body.bytes.capacity();
            body.take(more as u64)?;
            body.bytes.reserve_exact(wanted - body.bytes.len());
            wanted = wanted.saturating_mul(2);
        }
        body.bytes.extend_from_slice(&chunk);
        if body.bytes.len() > MAX_PLAYLIST_BYTES {
            break;
        }
    }
    Ok(body)
}
