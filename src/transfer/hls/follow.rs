//! A playlist that still grows: read again by the reload rules (RFC 8216 section 6.3.4) until its end.
//!
//! Segments are carried while the window shows them. What ends the following without the playlist's own
//! end (the deadline, an origin that refuses, nothing that changes any more, a limit of time) is a loss with that
//! reason, never a silent half.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use url::Url;

use super::cipher::ciphers_of;
use super::context::HlsAttempt;
use super::identity::FileIdentities;
use super::ladder::{MediaPlaylist, fetch};
use super::piece::HlsFile;
use super::plan::{self, MAX_PIECES, MissingFile, Wants};
use super::room::REFERENCE_BYTES;
use super::token::InheritedQuery;
use super::{HlsKeys, LANES, is_ours_to_tell};
use crate::error::{Class, Error, Result};
use crate::format::hls::{Follower, MediaSegment, Playlist, UriRole, Variables, resource_name};
use crate::object::owned::UnderKey;

/// The target duration of a playlist that tells none.
const USUAL_TARGET: Duration = Duration::from_secs(6);

/// The shortest and longest wait between two readings.
const MIN_WAIT: Duration = Duration::from_millis(200);
const MAX_WAIT: Duration = Duration::from_secs(60);

/// Readings in a row that may fail.
const MAX_FAILURES: u32 = 5;

/// What a file takes that was begun while its playlist grew.
const BEGUN_BYTES: u64 = 3 * REFERENCE_BYTES;

/// How a playlist is asked for.
pub(super) struct PlaylistRequest<'a> {
    pub(super) url: &'a str,
    pub(super) is_relative: bool,
    pub(super) token: &'a InheritedQuery,
    pub(super) imported: Option<&'a Variables>,
}

/// Follows `sheet`, of which the first reading came from `base`; gives it with all that was seen.
pub(super) async fn to_its_end(
    context: &Arc<HlsAttempt>,
    mut sheet: MediaPlaylist,
    base: &Url,
    way: PlaylistRequest<'_>,
    losses: &mut Vec<MissingFile>,
) -> Result<MediaPlaylist> {
    let mut lose = |sheet: &MediaPlaylist, class: Class, why: String| {
        losses.push(MissingFile::at(
            &sheet.key,
            &sheet.url,
            &Error::new(class, why),
        ));
    };
    if !sheet.playlist.is_ended {
        let mut follower = Follower::new();
        follower.add(&sheet.playlist)?;
        let mut carriers = Carriers::default();
        let ended = match carriers.begin(context, &sheet) {
            Ok(()) => reload(context, &mut sheet, &way, &mut follower, &mut carriers).await,
            Err(error) => Err(error),
        };
        if ended.is_err() {
            context.stop.cancel();
        }
        let carried = carriers.finish().await;
        let why = ended?;
        carried?;
        // Text and references of the whole, which then stands for the readings.
        context.take_room_in_time(weight_of(&follower)).await?;
        sheet.playlist = follower.joined(base, way.imported)?;
        sheet.is_followed = true;
        if let Some(error) = why {
            lose(&sheet, error.class(), error.full_message());
        }
        for reset in follower.resets() {
            let why = format!(
                "the playlist began to count again at {} after {}: what was named between the two readings is unknown",
                reset.first, reset.last
            );
            lose(&sheet, Class::Partial, why);
        }
        for (first, last) in follower.gaps() {
            let why = format!(
                "the window moved past the segments {first} to {last} before they were seen"
            );
            lose(&sheet, Class::Partial, why);
        }
    }
    if was_seen_before(context, &sheet).await? {
        let why = "an earlier attempt saw segments that the playlist no longer names";
        lose(&sheet, Class::Partial, why.to_owned());
    }
    if first_there(&sheet.playlist).is_none() {
        let why = "the playlist names no segment that is there";
        lose(&sheet, Class::Corrupt, why.to_owned());
    }
    Ok(sheet)
}

/// What is held of all readings.
fn weight_of(follower: &Follower) -> u64 {
    follower.bytes() as u64 + follower.segments() as u64 * REFERENCE_BYTES
}

/// The first segment that is no gap.
fn first_there(playlist: &Playlist) -> Option<&MediaSegment> {
    let mut segments = playlist.segments.iter();
    segments.find(|segment| !playlist.references[segment.reference].is_gap)
}

/// Whether what comes before all that the playlist has shown is in the archive: the window has moved since an
/// earlier attempt, whose readings are lost.
async fn was_seen_before(context: &HlsAttempt, sheet: &MediaPlaylist) -> Result<bool> {
    let playlist = &sheet.playlist;
    let before = playlist.media_sequence.checked_sub(1);
    let Some((before, like)) = before.zip(first_there(playlist)) else {
        return Ok(false);
    };
    let url = &playlist.references[like.reference].url;
    let name = resource_name(&UriRole::Segment(before), 0, url, like.map.is_some());
    let key = format!("{}/{}/{name}", context.folder, sheet.folder);
    let found = context.find(&key, None).await?;
    Ok(!matches!(found, UnderKey::Nothing | UnderKey::Others))
}

/// Reads again and again; gives why there was no end, if there was none.
async fn reload(
    context: &Arc<HlsAttempt>,
    sheet: &mut MediaPlaylist,
    way: &PlaylistRequest<'_>,
    follower: &mut Follower,
    carriers: &mut Carriers,
) -> Result<Option<Error>> {
    let begun = Instant::now();
    let mut changed_at = Instant::now();
    let mut is_changed = true;
    let mut failures = 0;
    let mut held_bytes = 0;
    while !follower.is_ended() {
        if let Some(why) = overdue(context, begun, changed_at) {
            return Ok(Some(Error::new(Class::Partial, why)));
        }
        let next = Instant::now() + wait(&sheet.playlist, is_changed);
        context.waits.until(next);
        tokio::select! {
            () = context.stop.cancelled() => return Err(Error::transient(
                Class::Internal,
                "the attempt at the whole ladder has ended",
            )),
            () = tokio::time::sleep_until(next) => {}
        }
        carriers.check()?;
        let read = fetch(context, way.url, way.is_relative, way.token, way.imported).await;
        let reading = match read {
            Ok(reading) => reading.into_passing(context),
            Err(error) if error.is_transient() && failures < MAX_FAILURES => {
                failures += 1;
                is_changed = false;
                continue;
            }
            Err(error) => {
                let is_late = context.job.deadline.is_past(context.engine.clock.now());
                let ending = match is_late {
                    true => "followed to the deadline: it",
                    false => "it",
                };
                return Ok(Some(Error::new(
                    error.class(),
                    format!(
                        "the playlist has no #EXT-X-ENDLIST; {ending} could not be read again: {}",
                        error.full_message()
                    ),
                )));
            }
        };
        failures = 0;
        is_changed = follower.add(&reading)? > 0;
        let held = weight_of(follower) + carriers.begun.len() as u64 * BEGUN_BYTES;
        // It can't begin again as others can: what it has seen may be seen no more.
        if let Err(error) = context.take_room_in_time(held - held_bytes).await {
            return match error.is_transient() {
                true => Ok(Some(error)),
                false => Err(error),
            };
        }
        held_bytes = held;
        if is_changed {
            changed_at = Instant::now();
        }
        sheet.playlist = reading;
        carriers.begin(context, sheet)?;
    }
    Ok(None)
}

/// Why a playlist that could still be read is followed no longer.
fn overdue(context: &HlsAttempt, begun: Instant, changed_at: Instant) -> Option<String> {
    let settings = context.settings;
    let (what, limit) = if changed_at.elapsed() > settings.stale_after {
        ("stalled: it did not change for", settings.stale_after)
    } else if begun.elapsed() > settings.follow_for {
        ("it was followed for", settings.follow_for)
    } else {
        return None;
    };
    Some(format!(
        "the playlist has no #EXT-X-ENDLIST; {what} {:.0} s",
        limit.as_secs_f64()
    ))
}

/// The target duration after a change, half of it without one.
fn wait(playlist: &Playlist, is_changed: bool) -> Duration {
    let target = playlist
        .target_secs
        .and_then(|secs| Duration::try_from_secs_f64(secs).ok())
        .unwrap_or(USUAL_TARGET);
    let target = if is_changed { target } else { target / 2 };
    target.clamp(MIN_WAIT, MAX_WAIT)
}

/// What is on its way up while the playlist grows. One that fails is tried again as the next reading names it,
/// perhaps with a fresh token, and in the end with all the others.
#[derive(Default)]
struct Carriers {
    /// Each gives the identity of what has failed.
    running: JoinSet<Result<Option<String>>>,
    lanes: Option<Arc<Semaphore>>,
    begun: HashMap<String, Begun>,
}

struct Begun {
    /// As it was named first, which is how the joined playlist names it.
    url: String,
    is_failed: bool,
}

impl Carriers {
    /// Begins what `sheet` names and was not begun.
    fn begin(&mut self, context: &Arc<HlsAttempt>, sheet: &MediaPlaylist) -> Result<()> {
        let lanes = self
            .lanes
            .get_or_insert_with(|| Arc::new(Semaphore::new(LANES)))
            .clone();
        let wants = Wants::of(&sheet.playlist, context.settings);
        let names = FileIdentities::of(sheet.playlist.references.iter());
        // What can't be decrypted is told when all of the playlist is known.
        let ciphers = match context.settings.keys {
            HlsKeys::Decrypt => ciphers_of(&sheet.playlist).ok(),
            HlsKeys::Store | HlsKeys::Omit => None,
        };
        for (index, found) in sheet.playlist.references.iter().enumerate() {
            let wanted = wants.is_wanted(index);
            let Some(is_needed) = wanted.filter(|_| plan::is_web(&found.url)) else {
                continue;
            };
            let is_unused_key = found.role == UriRole::Key && ciphers.is_some();
            // A file that still grows by ranges is carried when the playlist has ended.
            if is_unused_key || found.range.is_some() {
                continue;
            }
            let identity = names.of_file(found);
            let url = match self.begun.get_mut(&identity) {
                Some(begun) if begun.is_failed => {
                    begun.is_failed = false;
                    begun.url.clone()
                }
                Some(_) => continue,
                None => {
                    let begun = Begun {
                        url: found.url.clone(),
                        is_failed: false,
                    };
                    self.begun.insert(identity.clone(), begun);
                    found.url.clone()
                }
            };
            if self.begun.len() > MAX_PIECES {
                return Err(Error::new(
                    Class::Refused,
                    format!("the playlist named more than {MAX_PIECES} files"),
                ));
            }
            let cipher = ciphers
                .as_ref()
                .and_then(|all| all.get(&found.url).cloned()?);
            let piece = HlsFile {
                is_needed,
                is_shared: names.is_shared(&found.url),
                cipher: cipher.map(|cipher| (cipher, sheet.token.clone())),
                ..plan::piece(context, sheet, found, wants.has_map())
            };
            let (context, lanes) = (context.clone(), lanes.clone());
            self.running.spawn(async move {
                let _lane = lanes.acquire().await;
                match piece.carry(&context).await {
                    Ok(landed) => {
                        context.note_landed(&url, landed);
                        Ok(None)
                    }
                    Err(error) if is_ours_to_tell(&error) || context.verdict().is_some() => {
                        context.stop.cancel();
                        Err(error)
                    }
                    Err(error) => {
                        tracing::debug!(key = piece.key, cause = %error.full_message(), "a live segment failed");
                        Ok(Some(identity))
                    }
                }
            });
        }
        self.check()
    }

    fn check(&mut self) -> Result<()> {
        while let Some(ended) = self.running.try_join_next() {
            let failed = ended.map_err(broken)??;
            let begun = failed.and_then(|identity| self.begun.get_mut(&identity));
            if let Some(begun) = begun {
                begun.is_failed = true;
            }
        }
        Ok(())
    }

    async fn finish(mut self) -> Result<()> {
        while let Some(ended) = self.running.join_next().await {
            ended.map_err(broken)??;
        }
        Ok(())
    }
}

fn broken(error: tokio::task::JoinError) -> Error {
    Error::internal("carry a segment").with_source(error)
}
