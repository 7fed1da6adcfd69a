//! What the pieces of one ladder share.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use futures::StreamExt;
use tokio::sync::{OnceCell, Semaphore};
use tokio_util::sync::CancellationToken;

use super::HlsSettings;
use super::decrypt::BLOCK_BYTES;
use super::lease::LeaseDesk;
use super::piece::{HlsFile, Landed};
use super::room::Room;
use super::token::InheritedQuery;
use crate::error::{Class, Error, Result};
use crate::format::hls::{UriRole, media_type, resource_name};
use crate::model::key::short_hash;
use crate::model::{Job, JobId};
use crate::object::ObjectAttributes;
use crate::object::owned::{Owner, UnderKey, find_owned};
use crate::signed_url::SignedUrl;
use crate::source::{ByteRange, OpenRequest, Opened, Waits};
use crate::transfer::Engine;
use crate::transfer::memory::budget::{Budget, Share};

/// Memory that the pieces of one ladder may take.
const LADDER_BYTES: u64 = 64 * 1024 * 1024;

/// Playlists of one ladder that are read at once.
const READERS: usize = 4;

/// One attempt at one ladder.
pub(super) struct HlsAttempt {
    pub(super) engine: Engine,
    pub(super) job: Job,
    pub(super) allow_hosts: Vec<String>,
    /// The key of the entry playlist.
    pub(super) entry_key: String,
    /// The folder of all pieces, without a slash at the end.
    pub(super) folder: String,
    pub(super) settings: HlsSettings,
    memory: Budget,
    is_resumed: AtomicBool,
    bytes: AtomicU64,
    promised_bytes: AtomicU64,
    /// The memory of its playlists.
    pub(super) room: Room,
    /// Turns to read a playlist.
    pub(super) readers: Semaphore,
    /// Ends everything that this attempt has begun.
    pub(super) stop: CancellationToken,
    ending: OnceLock<(Class, String)>,
    names: Mutex<GivenNames>,
    keys: Mutex<HashMap<String, Arc<OnceCell<[u8; BLOCK_BYTES]>>>>,
    landed: Mutex<BTreeMap<String, Landed>>,
    fresh: Mutex<HashSet<String>>,
    /// Who is asked for the job's lease.
    pub(super) lease: LeaseDesk,
    /// Where waits are declared, by the ladder and by its pieces.
    pub(super) waits: Waits,
}

/// The names that were given away.
#[derive(Default)]
struct GivenNames {
    by_url: HashMap<String, String>,
    counts: HashMap<(String, std::mem::Discriminant<UriRole>), usize>,
}

impl HlsAttempt {
    pub(super) fn new(
        engine: &Engine,
        job: &Job,
        allow_hosts: &[String],
        entry_key: &str,
        room: Room,
    ) -> HlsAttempt {
        let memory_bytes = engine.settings.memory_bytes.min(LADDER_BYTES);
        let settings = engine.settings.hls.get(&job.source);
        HlsAttempt {
            engine: engine.clone(),
            job: job.clone(),
            allow_hosts: allow_hosts.to_vec(),
            entry_key: entry_key.to_owned(),
            folder: folder_of(entry_key),
            settings: settings.copied().unwrap_or_default(),
            memory: Budget::new(memory_bytes),
            is_resumed: AtomicBool::new(!job.is_untouched()),
            bytes: AtomicU64::new(0),
            promised_bytes: AtomicU64::new(0),
            stop: CancellationToken::new(),
            ending: OnceLock::new(),
            room,
            readers: Semaphore::new(READERS),
            names: Mutex::default(),
            keys: Mutex::default(),
            landed: Mutex::default(),
            fresh: Mutex::default(),
            lease: LeaseDesk::new(),
            waits: Waits::default(),
        }
    }

    /// The same, which declares its waits there.
    pub(super) fn declaring(mut self, waits: Waits) -> HlsAttempt {
        self.waits = waits;
        self
    }

    pub(super) fn attempts(&self) -> u32 {
        self.job.attempts
    }

    /// Bytes of pieces so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Counts the bytes of a piece that has landed.
    pub(super) fn count(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts bytes before they are written. All pieces together are one object to limits.max_object.
    ///
    /// # Errors
    /// `refused` when they are more than that. It is no loss of one piece: the attempt has ended.
    pub(super) fn promise(&self, bytes: u64) -> Result<()> {
        let before = self.promised_bytes.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) <= self.engine.settings.max_object_bytes {
            return Ok(());
        }
        Err(self.refuse_size())
    }

    /// Takes back what was promised for a piece that did not land.
    pub(super) fn take_back(&self, bytes: u64) {
        self.promised_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Bytes that may still be promised.
    pub(super) fn room(&self) -> u64 {
        let promised = self.promised_bytes.load(Ordering::Relaxed);
        self.engine
            .settings
            .max_object_bytes
            .saturating_sub(promised)
    }

    /// Ends the attempt: all pieces together are too large.
    pub(super) fn refuse_size(&self) -> Error {
        let max_bytes = self.engine.settings.max_object_bytes;
        self.end(Error::new(
            Class::Refused,
            format!("all segments are more than limits.max_object, {max_bytes} bytes"),
        ))
    }

    /// Ends the attempt for `error`, which is about all of the ladder.
    pub(super) fn end(&self, error: Error) -> Error {
        let _ = self.ending.set((error.class(), error.full_message()));
        self.stop.cancel();
        error
    }

    /// What ends the whole attempt, whatever else went wrong.
    pub(super) fn verdict(&self) -> Option<Error> {
        let (class, message) = self.ending.get()?;
        Some(Error::new(*class, message.clone()))
    }

    /// Takes memory for playlists. What can't be had at all ends the attempt.
    ///
    /// # Errors
    /// As [`Room::take`].
    pub(super) fn take_room(&self, bytes: u64) -> Result<()> {
        self.room
            .take(bytes)
            .map_err(|error| self.judge_room(error))
    }

    /// The same with some patience: for who can't begin again.
    pub(super) async fn take_room_in_time(&self, bytes: u64) -> Result<()> {
        let taken = self.room.take_in_time(bytes).await;
        taken.map_err(|error| self.judge_room(error))
    }

    /// Ends the attempt where the room says that the playlists are too large; what may pass is only told.
    pub(super) fn judge_room(&self, error: Error) -> Error {
        match error.is_transient() {
            true => error,
            false => self.end(error),
        }
    }

    /// Memory for a piece of `bytes`: of the ladder's share, then of the process's.
    pub(super) async fn take(&self, bytes: u64) -> Result<(Share, Share)> {
        let own = self.memory.take(bytes).await?;
        Ok((own, self.engine.budget.take(bytes).await?))
    }

    /// Opens `url`; one that is refused is asked for once more with its playlist's query, and what
    /// worked comes first from then on.
    pub(super) async fn open(
        &self,
        url: &str,
        is_relative: bool,
        token: &InheritedQuery,
    ) -> Result<Opened> {
        self.open_range(url, is_relative, token, None).await
    }

    /// The same for its first byte.
    pub(super) async fn open_byte(
        &self,
        url: &str,
        is_relative: bool,
        token: &InheritedQuery,
    ) -> Result<Opened> {
        let first = ByteRange {
            start: 0,
            end: Some(1),
        };
        self.open_range(url, is_relative, token, Some(first)).await
    }

    async fn open_range(
        &self,
        url: &str,
        is_relative: bool,
        token: &InheritedQuery,
        range: Option<ByteRange>,
    ) -> Result<Opened> {
        let plain = url.to_owned();
        let Some(signed) = token.applied(url, is_relative) else {
            return self.open_once(plain, range).await;
        };
        let is_right = token.is_right();
        let (first, second) = match is_right {
            true => (signed, plain),
            false => (plain, signed),
        };
        match self.open_once(first, range).await {
            Err(refusal) if refusal.class() == Class::Denied => {
                let opened = self.open_once(second, range).await;
                // A passing trouble of the second says nothing about whether it would have been let in.
                let opened = opened.map_err(|error| match error.is_transient() {
                    true => error,
                    false => refusal,
                })?;
                token.note_right(!is_right);
                Ok(opened)
            }
            ended => ended,
        }
    }

    /// The key behind `url`, fetched once.
    pub(super) async fn secret_key(
        &self,
        url: &str,
        is_relative: bool,
        token: &InheritedQuery,
    ) -> Result<[u8; BLOCK_BYTES]> {
        let cell = {
            let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
            keys.entry(url.to_owned()).or_default().clone()
        };
        let fetched = cell.get_or_try_init(|| self.fetch_key(url, is_relative, token));
        fetched.await.copied()
    }

    async fn fetch_key(
        &self,
        url: &str,
        is_relative: bool,
        token: &InheritedQuery,
    ) -> Result<[u8; BLOCK_BYTES]> {
        let of_key = |error: Error| {
            let message = format!("get its key: {}", error.full_message());
            match error.is_transient() {
                true => {
                    Error::transient(error.class(), message).with_retry_after(error.retry_after())
                }
                false => Error::new(error.class(), message),
            }
        };
        let opened = self.open(url, is_relative, token).await;
        let mut body = opened.map_err(of_key)?.body;
        let mut bytes = Vec::new();
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(of_key)?;
            bytes.extend_from_slice(&chunk[..chunk.len().min(BLOCK_BYTES + 1)]);
            if bytes.len() > BLOCK_BYTES {
                break;
            }
        }
        <[u8; BLOCK_BYTES]>::try_from(bytes).map_err(|_| {
            let message = format!("get its key: it does not have {BLOCK_BYTES} bytes");
            Error::new(Class::Corrupt, message)
        })
    }

    async fn open_once(&self, url: String, range: Option<ByteRange>) -> Result<Opened> {
        let request = OpenRequest {
            url: SignedUrl::new(url),
            range,
            validator: None,
            allow_hosts: self.allow_hosts.clone(),
            deadline: self.job.deadline,
            waits: self.waits.clone(),
        };
        self.engine.source.open(&request).await
    }

    /// The key for what `url` leads to: the same for the same URL, whoever asks.
    pub(super) fn key_for(&self, folder: &str, role: &UriRole, url: &str, has_map: bool) -> String {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = names.by_url.get(url) {
            return key.clone();
        }
        let count = names
            .counts
            .entry((folder.to_owned(), std::mem::discriminant(role)))
            .or_default();
        let name = resource_name(role, *count, url, has_map);
        *count += 1;
        let key = match folder {
            "" => format!("{}/{name}", self.folder),
            folder => format!("{}/{folder}/{name}", self.folder),
        };
        names.by_url.insert(url.to_owned(), key.clone());
        key
    }

    /// Whether pieces may be there from an earlier attempt, so that each is looked for before it is
    /// fetched: the first one tells.
    pub(super) async fn look_first(&self, piece: Option<&HlsFile>) -> Result<()> {
        let Some(piece) = piece.filter(|_| !self.is_resumed()) else {
            return Ok(());
        };
        let found = self.find(&piece.key, Some(&piece.origin())).await?;
        if !matches!(found, UnderKey::Nothing | UnderKey::Others) {
            self.is_resumed.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Forgets the names that were given, so that fresh URLs get them, and looks for what has `landed`.
    pub(super) fn begin_again<'l>(&self, landed: impl Iterator<Item = &'l Landed>) {
        let mut fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        fresh.extend(landed.map(|landed| landed.key.clone()));
        drop(fresh);
        self.is_resumed.store(true, Ordering::Relaxed);
        self.bytes.store(0, Ordering::Relaxed);
        self.promised_bytes.store(0, Ordering::Relaxed);
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        *names = GivenNames::default();
    }

    /// Whether this very attempt has put or found what is under `key`.
    pub(super) fn is_of_this_attempt(&self, key: &str) -> bool {
        let fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        fresh.contains(key)
    }

    pub(super) fn is_resumed(&self) -> bool {
        self.is_resumed.load(Ordering::Relaxed)
    }

    /// Whose the pieces and documents are. With `origin` only what came from there.
    pub(super) fn owner(&self, origin: Option<&str>) -> Owner {
        Owner::of_job(&self.job).from_origin(origin.map(|origin| short_hash(origin.as_bytes())))
    }

    /// Looks at what is under `key`, which has to tell itself what it should be. With `origin` it is ours only if it
    /// came from there.
    pub(super) async fn find(&self, key: &str, origin: Option<&str>) -> Result<UnderKey> {
        find_owned(&*self.engine.objects, key, &self.owner(origin), None).await
    }

    /// What an object is stored with.
    pub(super) fn attributes(&self, key: &str, origin: Option<&str>) -> ObjectAttributes {
        ObjectAttributes {
            content_type: media_type(key).to_owned(),
            metadata: self.owner(origin).metadata(),
            // A file of a playlist is shown by a player, never saved by a browser under its own name.
            disposition: None,
            is_rewritten: false,
        }
    }

    /// Notes a piece that landed before all are known, as those of a live playlist do.
    pub(super) fn note_landed(&self, url: &str, landed: Landed) {
        let mut all = self.landed.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(url.to_owned(), landed);
    }

    /// Those pieces.
    pub(super) fn take_landed(&self) -> BTreeMap<String, Landed> {
        std::mem::take(&mut *self.landed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn job_id(&self) -> JobId {
        self.job.id
    }
}

/// The folder of an entry playlist's pieces: its own for `master`, one of that name for any other, so
/// that two recordings in one folder do not meet.
fn folder_of(entry_key: &str) -> String {
    let (folder, name) = entry_key.rsplit_once('/').unwrap_or(("", entry_key));
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    match (folder, stem) {
        (folder, "master") if !folder.is_empty() => folder.to_owned(),
        ("", stem) => stem.to_owned(),
        (folder, stem) => format!("{folder}/{stem}"),
    }
}

/// The keys of entry playlists, and of archives, whose pieces lie in `folder`.
pub(super) fn entries_of(folder: &str) -> [String; 3] {
    [
        format!("{folder}/master.m3u8"),
        format!("{folder}.m3u8"),
        format!("{folder}.zip"),
    ]
}

#[cfg(test)]
#[path = "context_tests.rs"]
mod tests;
