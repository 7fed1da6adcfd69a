//! A playlist that still grows: read again by the reload rules (RFC 8216 section 6.3.4) until its end.
//!
//! Segments are carried while the window shows them. What ends the following without the playlist's own
//! end (the origin refuses, nothing changes any more) is a loss with that reason, never a silent half.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::context::{Context, Found, Token};
use super::ladder::{Fetched, Sheet, fetch};
use super::plan::{self, Loss};
use super::{LANES, is_ours_to_tell};
use crate::error::{Class, Error, Result};
use crate::source::hls::{Follower, Playlist, Role, Variables, resource_name};

/// The target duration of a playlist that tells none.
const USUAL_TARGET: Duration = Duration::from_secs(6);

/// The shortest and longest wait between two readings.
const MIN_WAIT: Duration = Duration::from_millis(200);
const MAX_WAIT: Duration = Duration::from_secs(60);

/// Readings in a row that may fail.
const MAX_FAILURES: u32 = 5;

/// How a playlist is asked for.
pub(super) struct Way<'a> {
    pub(super) url: &'a str,
    pub(super) is_relative: bool,
    pub(super) token: &'a Token,
    pub(super) imported: Option<&'a Variables>,
}

/// Follows `sheet`, of which `fetched` is the first reading; gives it with all that was seen.
pub(super) async fn to_its_end(
    context: &Arc<Context>,
    mut sheet: Sheet,
    fetched: Fetched,
    way: Way<'_>,
    losses: &mut Vec<Loss>,
) -> Result<Sheet> {
    if was_seen_before(context, &sheet).await? {
        let error = Error::new(
            Class::Partial,
            "an earlier attempt saw segments that the playlist no longer names",
        );
        losses.push(Loss::at(&sheet.key, &sheet.url, &error));
    }
    if sheet.playlist.is_ended {
        if sheet.playlist.references.is_empty() {
            let error = Error::new(Class::Corrupt, "the playlist names no segment");
            losses.push(Loss::at(&sheet.key, &sheet.url, &error));
        }
        return Ok(sheet);
    }
    let mut follower = Follower::new();
    follower.add(&sheet.playlist)?;
    let mut carriers = Carriers::default();
    carriers.begin(context, &sheet)?;
    let why = reload(context, &mut sheet, &way, &mut follower, &mut carriers).await?;
    carriers.finish().await?;
    sheet.playlist = follower.joined(&fetched.base, way.imported)?;
    if let Some(error) = why {
        losses.push(Loss::at(&sheet.key, &sheet.url, &error));
    }
    for (first, last) in follower.gaps() {
        let error = Error::new(
            Class::Partial,
            format!("the window moved past the segments {first} to {last} before they were seen"),
        );
        losses.push(Loss::at(&sheet.key, &sheet.url, &error));
    }
    Ok(sheet)
}

/// Whether what comes before the playlist's first segment is in the archive: the window has moved since an
/// earlier attempt, whose readings are lost.
async fn was_seen_before(context: &Context, sheet: &Sheet) -> Result<bool> {
    let first = sheet.playlist.segments.first();
    let Some((first, before)) = first.and_then(|s| Some((s, s.sequence.checked_sub(1)?))) else {
        return Ok(false);
    };
    let url = &sheet.playlist.references[first.reference].url;
    let name = resource_name(&Role::Segment(before), 0, url, first.map.is_some());
    let key = format!("{}/{}/{name}", context.folder, sheet.folder);
    Ok(matches!(context.find(&key, None).await?, Found::Ours(_)))
}

/// Reads again and again; gives why there was no end, if there was none.
async fn reload(
    context: &Arc<Context>,
    sheet: &mut Sheet,
    way: &Way<'_>,
    follower: &mut Follower,
    carriers: &mut Carriers,
) -> Result<Option<Error>> {
    let mut changed_at = Instant::now();
    let mut is_changed = true;
    let mut failures = 0;
    while !follower.is_ended() {
        let stale_after = context.settings.stale_after;
        if changed_at.elapsed() > stale_after {
            return Ok(Some(Error::new(
                Class::Partial,
                format!(
                    "the playlist has no #EXT-X-ENDLIST and did not change for {:.0} s",
                    stale_after.as_secs_f64()
                ),
            )));
        }
        tokio::time::sleep(wait(&sheet.playlist, is_changed)).await;
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
                return Ok(Some(Error::new(
                    error.class(),
                    format!(
                        "the playlist has no #EXT-X-ENDLIST and could not be read again: {}",
                        error.full_message()
                    ),
                )));
            }
        };
        failures = 0;
        is_changed = follower.add(&reading)? > 0;
        if is_changed {
            changed_at = Instant::now();
        }
        sheet.playlist = reading;
        carriers.begin(context, sheet)?;
    }
    Ok(None)
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

/// What is on its way up while the playlist grows. One that fails is tried again with all the others.
#[derive(Default)]
struct Carriers {
    running: JoinSet<Result<()>>,
    lanes: Option<Arc<Semaphore>>,
    begun: HashSet<String>,
}

impl Carriers {
    /// Begins what `sheet` names and was not begun.
    fn begin(&mut self, context: &Arc<Context>, sheet: &Sheet) -> Result<()> {
        let lanes = self
            .lanes
            .get_or_insert_with(|| Arc::new(Semaphore::new(LANES)))
            .clone();
        for (index, found) in sheet.playlist.references.iter().enumerate() {
            let wanted = plan::is_wanted(&sheet.playlist, index, context.settings);
            let Some(is_needed) = wanted.filter(|_| plan::is_web(&found.url)) else {
                continue;
            };
            // A file that still grows by ranges is carried when the playlist has ended.
            if found.range.is_some() || !self.begun.insert(found.url.clone()) {
                continue;
            }
            let piece = plan::piece(context, sheet, found, is_needed, 0);
            let (context, lanes) = (context.clone(), lanes.clone());
            self.running.spawn(async move {
                let _lane = lanes.acquire().await;
                match piece.carry(&context).await {
                    Ok(landed) => context.note_landed(&piece.url, landed),
                    Err(error) if is_ours_to_tell(&error) => return Err(error),
                    Err(error) => {
                        tracing::debug!(key = piece.key, cause = %error.full_message(), "a live segment failed");
                    }
                }
                Ok(())
            });
        }
        self.check()
    }

    fn check(&mut self) -> Result<()> {
        while let Some(ended) = self.running.try_join_next() {
            ended.map_err(|error| Error::internal("carry a segment").with_source(error))??;
        }
        Ok(())
    }

    async fn finish(mut self) -> Result<()> {
        while let Some(ended) = self.running.join_next().await {
            ended.map_err(|error| Error::internal("carry a segment").with_source(error))??;
        }
        Ok(())
    }
}
