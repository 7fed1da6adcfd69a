//! One HLS recording: every playlist of it, everything that they name, and then the playlists themselves.
//!
//! The order is what makes it safe. What playlists name goes first, each piece under a name that comes
//! from its place; then the media playlists, rewritten to those names; the entry playlist comes last, so
//! that under its key there is a whole recording or nothing. A piece carries the job's id and a hash of
//! where it came from in its metadata: after a crash what is there is not fetched again.
//!
//! *Partial.* What could not be had is listed in `missing.json` beside the pieces that could, and the job fails
//! with class `partial`. The playlists of layers of which nothing is missing are written, and a
//! `master.partial.m3u8` that names only those; a layer that misses segments gets an `index.partial.m3u8`, in which they
//! are gaps. The entry playlist is not written. A retry carries only what is missing.

mod cipher;
mod context;
mod decrypt;
mod documents;
mod earlier;
mod follow;
mod identity;
mod ladder;
mod lease;
mod piece;
mod plan;
mod put;
mod rewrite;
mod room;
mod token;
mod transcript;
mod unpack;
mod unzip;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio::task::JoinSet;

use super::progress::TransferProgress;
use super::{Engine, Ledger};
use crate::error::{Class, Error, Result};
use crate::format::check::is_playlist;
use crate::model::manifest::Resource;
use crate::model::progress::Emit;
use crate::model::{Archived, Format, Job, JobId, Kind};
use crate::object::owned::{Owner, Ownership, RESOURCES_METADATA_KEY, UnderKey};
use crate::object::{ObjectInfo, ObjectStore};
use crate::signed_url::SignedUrl;
use crate::transfer::free_name::FreeNames;
use cipher::Decryption;
use context::HlsAttempt;
use documents::{Documents, ResourceList};
use ladder::PlaylistSet;
use piece::{HlsFile, Landed};
use plan::MissingFile;
use room::Room;
use token::InheritedQuery;
pub(super) use unpack::unpack;

/// Resources of one ladder on their way at once: as many as connections to one host are the default.
const LANES: usize = 16;

/// Readings of the playlists in one attempt, each of which must bring something.
const MAX_READINGS: u32 = 16;

/// Losses that the message names; the whole list is in `missing.json`.
const TOLD_LOSSES: usize = 5;

/// How much of a file tells whether it is a playlist.
const HEAD_BYTES: usize = 64;

/// The largest list of a ladder's files that is read back.
const MAX_LIST_BYTES: u64 = 128 * 1024 * 1024;

/// What is done with the keys of encrypted segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HlsKeys {
    /// They are archived with the segments.
    #[default]
    Store,
    /// They are left where they are; the archive is ciphertext.
    Omit,
    /// Segments are archived as their plain text, without keys; what can't be decrypted is kept with its key.
    Decrypt,
}

/// How the HLS recordings of one source are archived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HlsSettings {
    /// What is done with keys.
    pub keys: HlsKeys,
    /// Whether ZIPs of playlists and segments are unpacked as well.
    pub unpack: bool,
    /// How long a playlist without an end may stay as it is before it counts as abandoned.
    pub stale_after: Duration,
    /// How long a playlist without an end is followed, however much it changes.
    pub follow_for: Duration,
}

impl Default for HlsSettings {
    fn default() -> Self {
        HlsSettings {
            keys: HlsKeys::default(),
            unpack: false,
            stale_after: Duration::from_secs(300),
            follow_for: Duration::from_secs(24 * 3600),
        }
    }
}

/// The keys of entry playlists, and of archives, whose files lie in `folder`.
pub fn entries_of(folder: &str) -> [String; 3] {
    context::entries_of(folder)
}

/// The files of the archived recording of `job`, whose entry playlist is under `key`, or of an archive that is; none
/// of an archive that was not unpacked.
///
/// # Errors
/// As the object store's; `upload_failed`, transient, when a playlist names no list of ours, or it can't be read:
/// without it nobody knows what belongs to the recording.
pub async fn resources(objects: &dyn ObjectStore, job: JobId, key: &str) -> Result<Vec<Resource>> {
    let lost = |why: &str| {
        let message = format!("list the files of {key}: {why}");
        Error::transient(Class::UploadFailed, message)
    };
    if let Some(folder) = key.strip_suffix(".zip") {
        let mut names = FreeNames::of(&format!("{folder}/resources.json"));
        loop {
            match objects.get(&names.key(), MAX_LIST_BYTES).await? {
                None => return Ok(Vec::new()),
                Some((bytes, info)) if is_ours(job, &info) => return listed(job, &bytes, lost),
                // Somebody else's: ours would be under the next name.
                Some(_) => names.next()?,
            }
        }
    }
    let entry = objects.head(key).await?;
    let entry = entry.filter(|entry| is_ours(job, entry));
    let entry = entry.ok_or_else(|| lost("its entry playlist is not in the bucket"))?;
    let list_key = entry.metadata(RESOURCES_METADATA_KEY);
    let list_key = list_key.ok_or_else(|| lost("its entry playlist does not name them"))?;
    match objects.get(list_key, MAX_LIST_BYTES).await? {
        Some((bytes, info)) if is_ours(job, &info) => listed(job, &bytes, lost),
        Some(_) => Err(lost(&format!("{list_key} is somebody else's"))),
        None => Err(lost(&format!("{list_key} is not in the bucket"))),
    }
}

fn is_ours(job: JobId, info: &ObjectInfo) -> bool {
    Owner::of_job_id(job).ownership(info) == Ownership::Ours
}

fn listed(job: JobId, bytes: &[u8], lost: impl Fn(&str) -> Error) -> Result<Vec<Resource>> {
    let list: ResourceList = serde_json::from_slice(bytes)
        .map_err(|error| lost("the list can't be read").with_source(error))?;
    match list.artifact == job {
        true => Ok(list.resources),
        false => Err(lost("the list is another recording's")),
    }
}

/// Carries the recording behind the playlist at `url` to the job's key.
pub(super) async fn carry(
    engine: &Engine,
    job: &Job,
    url: &SignedUrl,
    allow_hosts: &[String],
    ledger: &dyn Ledger,
    emit: &Emit,
) -> Result<Archived> {
    let mut names = FreeNames::of(&job.key);
    let mut room_bytes = 0;
    loop {
        let waits = ledger.waits();
        let room = waits.during(Room::open(&engine.budget, room_bytes)).await?;
        let context = HlsAttempt::new(engine, job, allow_hosts, &names.key(), room);
        let context = Arc::new(context.declaring(waits));
        let _end = CloseRoom(&context);
        match context.find(&names.key(), None).await? {
            UnderKey::Whole(archived) => return Ok(archived),
            UnderKey::Others => {
                names.next()?;
                continue;
            }
            UnderKey::Nothing | UnderKey::Wrong(_) | UnderKey::Unproven(_) => {}
        }
        let progress = TransferProgress::new(job.id, emit);
        let carried = tokio::select! {
            carried = carry_to(&context, url, ledger, &progress) => carried,
            never = context.lease.answer(ledger) => match never {},
        };
        let wanted = carried.as_ref().err().and_then(room::wanted);
        if let Some(bytes) = wanted.filter(|_| room_bytes < Room::most_bytes(&engine.budget)) {
            tracing::debug!(job = %job.id, bytes, "waiting for memory for the playlists");
            room_bytes = bytes.saturating_mul(2).max(room_bytes.saturating_mul(2));
            continue;
        }
        // What ended the whole attempt is told, not what else it met while it ended.
        return carried.map_err(|error| context.verdict().unwrap_or(error));
    }
}

/// Pieces that are being dropped may know the room for a moment longer.
struct CloseRoom<'a>(&'a HlsAttempt);

impl Drop for CloseRoom<'_> {
    fn drop(&mut self) {
        self.0.room.close();
    }
}

/// Carries what is behind `url` if that is a playlist, although its job says nothing of the kind; `None` if it is
/// none. The entry playlist gets a playlist's extension.
pub(super) async fn carry_unnamed(
    engine: &Engine,
    job: &Job,
    url: &SignedUrl,
    allow_hosts: &[String],
    ledger: &dyn Ledger,
    emit: &Emit,
) -> Option<Result<Archived>> {
    let room = Room::empty(&engine.budget);
    let context = HlsAttempt::new(engine, job, allow_hosts, &job.key, room);
    let context = context.declaring(ledger.waits());
    let mut opened = context
        .open(url.expose(), false, &InheritedQuery::default())
        .await
        .ok()?;
    let mut head = Vec::new();
    while let Some(Ok(chunk)) = opened.body.next().await {
        head.extend_from_slice(&chunk[..chunk.len().min(HEAD_BYTES)]);
        if head.len() >= HEAD_BYTES {
            break;
        }
    }
    drop(opened);
    if !is_playlist(&head) {
        return None;
    }
    let (folder, name) = match job.key.rsplit_once('/') {
        Some((folder, name)) => (format!("{folder}/"), name),
        None => (String::new(), &*job.key),
    };
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let job = Job {
        key: match job.kind {
            Kind::Hls => folder + &Format::M3u8.hls_name(),
            _ => format!("{folder}{stem}.m3u8"),
        },
        format: Format::M3u8,
        // What was told is the length of the playlist alone.
        size_bytes: None,
        ..job.clone()
    };
    Some(carry(engine, &job, url, allow_hosts, ledger, emit).await)
}

async fn carry_to(
    context: &Arc<HlsAttempt>,
    url: &SignedUrl,
    ledger: &dyn Ledger,
    progress: &TransferProgress<'_>,
) -> Result<Archived> {
    let mut ladder = PlaylistSet::read(context, url).await?;
    let mut carried = carry_ladder(context, &ladder, ledger, progress).await?;
    // Segments may be signed for less time than their playlist: as long as that can be read, it may
    // name them with fresh signatures, and as long as each reading brings something, so may the next.
    for _ in 1..MAX_READINGS {
        let is_refused = carried.losses.iter().any(MissingFile::is_refused_signature);
        if !is_refused || !ladder.can_be_read_again() {
            break;
        }
        context.begin_again(carried.landed.values());
        let (bytes, references) = context.room.used();
        context.room.forget_references(references);
        let Ok(again) = PlaylistSet::read(context, url).await else {
            break;
        };
        let before = carried.landed.len();
        carried = carry_ladder(context, &again, ledger, progress).await?;
        ladder = again;
        context.room.give_back(bytes);
        if carried.landed.len() <= before {
            break;
        }
    }
    let documents = Documents::new(context, &ladder, &carried);
    if !ledger.is_held().await {
        return Err(lost_lease());
    }
    if !carried.losses.is_empty() {
        let list = documents.put_partial(&carried.losses).await?;
        return Err(partial(context, &carried.losses, &list));
    }
    let archived = documents.put_all().await?;
    progress.tell_now(context.bytes(), Some(context.bytes()));
    Ok(archived)
}

/// What came of the pieces of one ladder.
struct Carried {
    /// What has landed, by its URL.
    landed: BTreeMap<String, Landed>,
    losses: Vec<MissingFile>,
    decryption: Decryption,
}

/// Carries what the playlists of `ladder` name.
async fn carry_ladder(
    context: &Arc<HlsAttempt>,
    ladder: &PlaylistSet,
    ledger: &dyn Ledger,
    progress: &TransferProgress<'_>,
) -> Result<Carried> {
    let decryption = Decryption::of(ladder, context.settings.keys);
    for note in &decryption.notes {
        tracing::warn!(job = %context.job_id(), "{note}");
    }
    let (pieces, mut losses) = plan::pieces(context, ladder, &decryption)?;
    context.look_first(pieces.first()).await?;
    let mut landed = context.take_landed();
    let carried = carry_pieces(context, pieces, ledger, progress, &mut landed).await?;
    losses.extend(carried);
    losses.extend(plan::short_files(ladder, &landed));
    Ok(Carried {
        landed,
        losses,
        decryption,
    })
}

/// Carries all pieces, a bounded number at once. Gives those that could not be had.
async fn carry_pieces(
    context: &Arc<HlsAttempt>,
    pieces: Vec<HlsFile>,
    ledger: &dyn Ledger,
    progress: &TransferProgress<'_>,
    landed: &mut BTreeMap<String, Landed>,
) -> Result<Vec<MissingFile>> {
    let mut losses = Vec::new();
    let mut waiting = pieces
        .into_iter()
        .filter(|piece| {
            // What was carried while its playlist grew may be needed otherwise now that all of it is known.
            let is_decrypted = piece.cipher.is_some();
            let there = landed.get(&piece.url);
            there.is_none_or(|there| there.is_decrypted != is_decrypted)
        })
        .collect::<Vec<_>>()
        .into_iter();
    let mut running = JoinSet::new();
    loop {
        while running.len() < LANES
            && let Some(piece) = waiting.next()
        {
            let context = context.clone();
            running.spawn(async move {
                let ended = piece.carry(&context).await;
                (piece, ended)
            });
        }
        let Some(ended) = running.join_next().await else {
            break;
        };
        let (piece, ended) =
            ended.map_err(|error| Error::internal("carry a piece").with_source(error))?;
        match ended {
            Ok(found) => {
                landed.insert(piece.url, found);
            }
            Err(error) if is_ours_to_tell(&error) || context.verdict().is_some() => {
                context.stop.cancel();
                while running.join_next().await.is_some() {}
                return Err(error);
            }
            Err(_) if !piece.is_needed => {}
            Err(error) => losses.push(MissingFile::of(&piece, error)),
        }
        progress.tell(context.bytes(), None);
        if progress.is_save_due(0) {
            if !ledger.is_held().await {
                return Err(lost_lease());
            }
            ledger.save(None, context.bytes()).await?;
        }
    }
    losses.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(losses)
}

/// Whether the failure is no loss of a piece but one of the whole attempt.
fn is_ours_to_tell(error: &Error) -> bool {
    matches!(
        error.class(),
        Class::UploadDenied | Class::UploadFailed | Class::Internal
    )
}

fn lost_lease() -> Error {
    Error::transient(
        Class::Internal,
        "the lease is lost: the job belongs to another worker",
    )
}

/// What is told of losses: the first of them, where the rest is, and what can be done.
fn partial(context: &HlsAttempt, losses: &[MissingFile], list: &str) -> Error {
    let told: Vec<_> = losses
        .iter()
        .take(TOLD_LOSSES)
        .map(MissingFile::line)
        .collect();
    let more = losses.len() - told.len();
    let more = match more {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let hint = match losses.iter().any(|loss| loss.class == Class::Denied) {
        true => {
            "; if only the playlist is signed, make what it names readable (on your own bucket by its policy)"
        }
        false => "",
    };
    let message = format!(
        "archive all of the playlist: {} of its pieces are missing: {}{more}; the whole list is in {list}{hint}",
        losses.len(),
        told.join("; "),
    );
    let class = match losses.iter().all(|loss| loss.class == Class::Refused) {
        true => Class::Refused,
        false => Class::Partial,
    };
    let error = match losses.iter().any(|loss| loss.may_come(context.attempts())) {
        true => Error::transient(class, message),
        false => Error::new(class, message),
    };
    match losses.iter().any(MissingFile::is_refused_signature) {
        true => error.with_stale_url(),
        false => error,
    }
}
