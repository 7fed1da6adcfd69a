//! One HLS recording: every playlist of it, everything that they name, and then the playlists themselves.
//!
//! The order is what makes it safe. What playlists name goes first, each piece under a name that comes
//! from its place; then the media playlists, rewritten to those names; the entry playlist comes last, so
//! that under its key there is a whole recording or nothing. A piece carries the job's id and a hash of
//! where it came from in its metadata: after a crash what is there is not fetched again.
//!
//! *Partial.* What could not be had is listed in `missing.json` beside the pieces that could, the entry
//! playlist is not written, and the job fails with class `partial`. A retry carries only what is missing.

mod context;
mod documents;
mod follow;
mod ladder;
mod piece;
mod plan;
mod unpack;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::names::Names;
use super::progress::Progress;
use super::{Engine, JOB_METADATA_KEY, Ledger};
use crate::error::{Class, Error, Result};
use crate::model::manifest::Resource;
use crate::model::progress::Emit;
use crate::model::{Archived, Job, JobId};
use crate::object::ObjectStore;
use crate::signed_url::SignedUrl;
use context::{Context, Found};
use documents::{Documents, ResourceList};
use ladder::Ladder;
use piece::{Landed, Piece};
use plan::Loss;
pub(super) use unpack::unpack;

/// Resources of one ladder on their way at once: as many as connections to one host are the default.
const LANES: usize = 16;

/// Losses that the message names; the whole list is in `missing.json`.
const TOLD_LOSSES: usize = 5;

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
}

impl Default for HlsSettings {
    fn default() -> Self {
        HlsSettings {
            keys: HlsKeys::default(),
            unpack: false,
            stale_after: Duration::from_secs(300),
        }
    }
}

/// The keys of entry playlists, and of archives, whose files lie in `folder`.
pub fn entries_of(folder: &str) -> [String; 3] {
    context::entries_of(folder)
}

/// Where the list of a ladder's resources is: metadata of its entry playlist.
pub const RESOURCES_METADATA_KEY: &str = "harvester-resources";

/// The files of the archived recording of `job`, whose entry playlist is under `key`; none where no list of
/// ours is named there.
///
/// # Errors
/// As the object store's; `upload_failed` when the list can't be read.
pub async fn resources(objects: &dyn ObjectStore, job: JobId, key: &str) -> Result<Vec<Resource>> {
    let list_key = match key.strip_suffix(".zip") {
        Some(folder) => Some(format!("{folder}/resources.json")),
        None => objects
            .head(key)
            .await?
            .and_then(|entry| entry.metadata(RESOURCES_METADATA_KEY).map(str::to_owned)),
    };
    let Some(list_key) = list_key else {
        return Ok(Vec::new());
    };
    let Some((bytes, info)) = objects.get(&list_key, MAX_LIST_BYTES).await? else {
        return Ok(Vec::new());
    };
    if info.metadata(JOB_METADATA_KEY) != Some(job.to_string().as_str()) {
        return Ok(Vec::new());
    }
    let list: ResourceList = serde_json::from_slice(&bytes).map_err(|error| {
        Error::transient(Class::UploadFailed, format!("read {list_key}")).with_source(error)
    })?;
    match list.artifact == job {
        true => Ok(list.resources),
        false => Ok(Vec::new()),
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
    let mut names = Names::of(&job.key);
    loop {
        let context = Arc::new(Context::new(engine, job, allow_hosts, &names.key()));
        match context.find(&names.key(), None).await? {
            Found::Ours(archived) => return Ok(archived),
            Found::Others => {
                names.next()?;
                continue;
            }
            Found::Nothing => {}
        }
        let progress = Progress::new(job.id, emit);
        return carry_to(&context, url, ledger, &progress).await;
    }
}

async fn carry_to(
    context: &Arc<Context>,
    url: &SignedUrl,
    ledger: &dyn Ledger,
    progress: &Progress<'_>,
) -> Result<Archived> {
    let mut ladder = Ladder::read(context, url).await?;
    let (mut landed, mut losses) = carry_ladder(context, &ladder, ledger, progress).await?;
    // Segments may be signed for less time than their playlist: as long as that can be read, it may
    // name them with fresh signatures.
    if losses.iter().any(Loss::is_refused_signature) {
        context.begin_again();
        if let Ok(again) = Ladder::read(context, url).await {
            (landed, losses) = carry_ladder(context, &again, ledger, progress).await?;
            ladder = again;
        }
    }
    let documents = Documents::new(context, &ladder, &landed);
    if !losses.is_empty() {
        let list = documents.put_missing(&losses).await?;
        return Err(partial(context, &losses, &list));
    }
    if !ledger.is_held().await {
        return Err(lost_lease());
    }
    let archived = documents.put_all().await?;
    progress.tell_now(context.bytes(), Some(context.bytes()));
    Ok(archived)
}

/// Carries what the playlists of `ladder` name. Gives what has landed, by its URL, and what has not.
async fn carry_ladder(
    context: &Arc<Context>,
    ladder: &Ladder,
    ledger: &dyn Ledger,
    progress: &Progress<'_>,
) -> Result<(BTreeMap<String, Landed>, Vec<Loss>)> {
    let (pieces, mut losses) = plan::pieces(context, ladder)?;
    context.look_first(pieces.first()).await?;
    let mut landed = context.take_landed();
    let carried = carry_pieces(context, pieces, ledger, progress, &mut landed).await?;
    losses.extend(carried);
    losses.extend(plan::short_files(ladder, &landed));
    Ok((landed, losses))
}

/// Carries all pieces, a bounded number at once. Gives those that could not be had.
async fn carry_pieces(
    context: &Arc<Context>,
    pieces: Vec<Piece>,
    ledger: &dyn Ledger,
    progress: &Progress<'_>,
    landed: &mut BTreeMap<String, Landed>,
) -> Result<Vec<Loss>> {
    let mut losses = Vec::new();
    let mut waiting = pieces
        .into_iter()
        .filter(|piece| !landed.contains_key(&piece.url))
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
            Err(error) if is_ours_to_tell(&error) => return Err(error),
            Err(_) if !piece.is_needed => {}
            Err(error) => losses.push(Loss::of(&piece, error)),
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
fn partial(context: &Context, losses: &[Loss], list: &str) -> Error {
    let told: Vec<_> = losses.iter().take(TOLD_LOSSES).map(Loss::line).collect();
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
    if losses.iter().any(|loss| loss.may_come(context.attempts())) {
        Error::transient(class, message)
    } else {
        Error::new(class, message)
    }
}
