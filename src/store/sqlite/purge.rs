//! What leaves the store: secrets that are of no more use, and what was archived longer ago than it is to be kept.
//!
//! A recording leaves only whole, when nothing of it has changed for all that time: were only its jobs to go, a later event
//! would rewrite its manifest without them. An event of a recording that has left begins a new one, whose documents get
//! numbered names beside the old ones, which stay as they are. The keys of its events stay behind for
//! [`RECEIPTS_KEPT`], so that a delivery that is repeated is known and makes no work.
//!
//! A few rows are taken at a time, so that webhooks get in between.

use jiff::{SignedDuration, Timestamp};
use sqlx::{SqliteConnection, SqlitePool};

use super::read::reader;
use super::writer::Writer;
use super::{rows, seal};
use crate::error::{Class, Result};
use crate::model::Origin;
use crate::signed_url::SignedUrl;
use crate::store::stored::{first_id, from_origin, millis, to_json, to_origin};
use crate::store::{Purged, purge_sql, sql};

/// The URL of a lost job is kept so long in any case: for a `retry`, and for a clock that is wrong.
const ORIGIN_KEPT: SignedDuration = SignedDuration::from_hours(7 * 24);

/// After its deadline a URL is of no use, whatever the clock says.
const DEAD_FOR: SignedDuration = SignedDuration::from_hours(24);

/// The URL of a lost job that has no deadline is kept so long.
const ENDLESS_ORIGIN_KEPT: SignedDuration = SignedDuration::from_hours(30 * 24);

/// What an event that carried nothing to archive said is kept so long.
const IGNORED_BODY_KEPT: SignedDuration = SignedDuration::from_hours(7 * 24);

/// How much longer than a recording the keys of its events are kept.
const RECEIPTS_KEPT: SignedDuration = SignedDuration::from_hours(90 * 24);

/// Rows in one transaction; recordings have several rows each.
const CHUNK: i64 = 256;
const RECORDINGS: i64 = 32;

/// What the one-time work is called in the table of what is to be done.
const SEALED_BODIES: &str = "sealed_bodies";

pub(super) struct Purge<'a> {
    pub(super) readers: &'a SqlitePool,
    pub(super) writer: &'a Writer,
    pub(super) now: Timestamp,
}

impl Purge<'_> {
    pub(super) async fn run(self, retention: Option<SignedDuration>) -> Result<Purged> {
        let cutoff = retention.map(|retention| self.before(retention));
        let mut purged = Purged {
            origins: self.forget_origins().await?,
            bodies: self.forget_sealed_bodies().await? + self.forget_bodies(cutoff).await?,
            ..Purged::default()
        };
        if let Some(cutoff) = cutoff {
            purged.recordings = self.remove_recordings(cutoff).await?;
            purged.events = self.forget_events(cutoff).await?;
        }
        // In the WAL all of it can still be read, and what was forgotten when recordings were sealed as well: where
        // nothing else happens it would stay there for ever.
        self.writer.copy_wal().await?;
        Ok(purged)
    }

    fn before(&self, age: SignedDuration) -> Timestamp {
        self.now.saturating_sub(age).unwrap_or(Timestamp::MIN)
    }

    async fn forget_origins(&self) -> Result<u64> {
        let mut forgotten = 0;
        loop {
            let query = sqlx::query(purge_sql::STALE_ORIGINS)
                .bind(millis(self.before(ORIGIN_KEPT)))
                .bind(millis(self.before(DEAD_FOR)))
                .bind(millis(self.before(ENDLESS_ORIGIN_KEPT)))
                .bind(CHUNK);
            let found = rows::all(&mut *reader(self.readers).await?, query).await?;
            let stale = rows::readable(&found, |row| {
                let can_be_minted = rows::get::<Option<&str>>(row, "remint")?.is_some();
                let origin: String = rows::get(row, "origin")?;
                let (kind, left) = from_origin(&what_is_left(&origin, can_be_minted))?;
                Ok((rows::get(row, "id")?, kind, left, origin))
            });
            let changed = self
                .writer
                .write(move |conn| Box::pin(replace_origins(conn, stale)))
                .await?;
            forgotten += changed;
            // What could not be changed would be found again for ever.
            if changed == 0 || (found.len() as i64) < CHUNK {
                return Ok(forgotten);
            }
        }
    }

    /// Once, after an upgrade: recordings that an earlier version has sealed still have the bodies of their events.
    async fn forget_sealed_bodies(&self) -> Result<u64> {
        let due = sqlx::query(sql::UPKEEP_DUE).bind(SEALED_BODIES);
        if rows::optional(&mut *reader(self.readers).await?, due)
            .await?
            .is_none()
        {
            return Ok(0);
        }
        let mut forgotten = 0;
        let mut after = String::new();
        loop {
            let query = sqlx::query(purge_sql::SEALED_AFTER)
                .bind(after)
                .bind(RECORDINGS);
            let found = rows::all(&mut *reader(self.readers).await?, query).await?;
            let found: Vec<String> = rows::readable(&found, |row| rows::get(row, "id"));
            let Some(last) = found.last() else { break };
            after = last.clone();
            let forget = self
                .writer
                .write(move |conn| Box::pin(forget_bodies_of(conn, found)));
            forgotten += forget.await?;
        }
        let done = self.writer.write(|conn| {
            Box::pin(async move {
                let done = sqlx::query(sql::UPKEEP_DONE).bind(SEALED_BODIES);
                rows::execute(conn, done).await.map(drop)
            })
        });
        done.await?;
        Ok(forgotten)
    }

    async fn forget_bodies(&self, cutoff: Option<Timestamp>) -> Result<u64> {
        let all = cutoff.map(first_id).unwrap_or_default();
        let ignored = first_id(self.before(IGNORED_BODY_KEPT));
        self.in_chunks(purge_sql::FORGET_BODIES, vec![all, ignored])
            .await
    }

    async fn forget_events(&self, cutoff: Timestamp) -> Result<u64> {
        let cutoff = cutoff.saturating_sub(RECEIPTS_KEPT);
        let cutoff = first_id(cutoff.unwrap_or(Timestamp::MIN));
        self.in_chunks(purge_sql::FORGET_EVENTS, vec![cutoff]).await
    }

    /// Runs a statement whose last argument is a number of rows until it finds fewer.
    async fn in_chunks(&self, statement: &'static str, arguments: Vec<String>) -> Result<u64> {
        let mut all = 0;
        loop {
            let arguments = arguments.clone();
            let changed = self.writer.write(move |conn| {
                Box::pin(async move {
                    let query = arguments
                        .into_iter()
                        .fold(sqlx::query(statement), |query, one| query.bind(one));
                    let done = rows::execute(conn, query.bind(CHUNK)).await?;
                    Ok(done.rows_affected())
                })
            });
            let changed = changed.await?;
            all += changed;
            if changed < CHUNK.unsigned_abs() {
                return Ok(all);
            }
        }
    }

    async fn remove_recordings(&self, cutoff: Timestamp) -> Result<u64> {
        let mut removed = 0;
        let mut after = String::new();
        loop {
            let query = sqlx::query(purge_sql::PURGEABLE)
                .bind(after)
                .bind(millis(cutoff))
                .bind(first_id(cutoff))
                .bind(RECORDINGS);
            let found = rows::all(&mut *reader(self.readers).await?, query).await?;
            let found: Vec<String> = rows::readable(&found, |row| rows::get(row, "id"));
            let Some(last) = found.last() else {
                return Ok(removed);
            };
            after = last.clone();
            removed += self
                .writer
                .write(move |conn| Box::pin(remove_recordings(conn, found, cutoff)))
                .await?;
        }
    }
}

/// What a lost job keeps of its URL: its path where a fresh one can be asked for, else the reason for a `retry` to tell.
fn what_is_left(origin: &str, can_be_minted: bool) -> Origin {
    if can_be_minted && let Ok(Origin::Url(url)) = to_origin(origin) {
        let (path, _) = url.expose().split_once('?').unwrap_or((url.expose(), ""));
        return Origin::Url(SignedUrl::new(path));
    }
    Origin::Unusable(
        Class::Expired,
        "its URL was erased, since it had been given up long ago; have the provider send the event again".to_owned(),
    )
}

/// `[job, kind, what is left, what was there]`
type Replacement = (String, &'static str, String, String);

async fn replace_origins(conn: &mut SqliteConnection, stale: Vec<Replacement>) -> Result<u64> {
    let mut changed = 0;
    for (job, kind, left, origin) in stale {
        let query = sqlx::query(purge_sql::REPLACE_ORIGIN)
            .bind(job)
            .bind(kind)
            .bind(left)
            .bind(origin);
        changed += rows::execute(conn, query).await?.rows_affected();
    }
    Ok(changed)
}

/// Forgets the bodies of those of the recordings that are sealed still.
async fn forget_bodies_of(conn: &mut SqliteConnection, recordings: Vec<String>) -> Result<u64> {
    let query = sqlx::query(purge_sql::SEALED_OF).bind(to_json(&recordings)?);
    let found = rows::all(conn, query).await?;
    let still: Vec<String> = rows::readable(&found, |row| rows::get(row, "id"));
    let mut forgotten = 0;
    for recording in still {
        forgotten += seal::forget_bodies(conn, &recording).await?;
    }
    Ok(forgotten)
}

async fn remove_recordings(
    conn: &mut SqliteConnection,
    recordings: Vec<String>,
    cutoff: Timestamp,
) -> Result<u64> {
    // An event may have come since they were found.
    let query = sqlx::query(purge_sql::PURGEABLE_OF)
        .bind(to_json(&recordings)?)
        .bind(millis(cutoff))
        .bind(first_id(cutoff))
        .bind(RECORDINGS);
    let found = rows::all(conn, query).await?;
    let still: Vec<String> = rows::readable(&found, |row| rows::get(row, "id"));
    let ids = to_json(&still)?;
    for statement in purge_sql::PURGE {
        rows::execute(conn, sqlx::query(statement).bind(&ids)).await?;
    }
    Ok(still.len() as u64)
}
