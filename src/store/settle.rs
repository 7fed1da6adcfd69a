//! How an attempt ends. Each function runs inside a transaction.

use jiff::Timestamp;

use super::archive::archive;
use super::ids::Ids;
use super::intake::{Announcement, PendingChange, RecordingChanges};
use super::record::{write_contents, write_recordings};
use super::stored::damaged;
use super::tx::{GiveUp, LeasedJob, Requeue, Settlement, StoreTx};
use super::{LONGEST_WAIT, LeaseWrite};
use crate::error::{Class, Error, Result};
use crate::model::{Artifact, Lease, Outcome, RecordingId, State};

/// Ends an attempt.
pub(super) async fn settle(
    tx: &mut dyn StoreTx,
    lease: Lease,
    outcome: Outcome,
    now: Timestamp,
) -> Result<LeaseWrite> {
    let Some(job) = tx.leased_job(&lease).await? else {
        return Ok(LeaseWrite::Stale);
    };
    check_move(State::Running, outcome.state())?;
    let (class, message) = match &outcome {
        Outcome::Archived(archived) => {
            let archived = archived.clone();
            let settlement = Settlement {
                lease,
                archived,
                now,
            };
            archive(tx, &[settlement]).await?;
            return Ok(LeaseWrite::Yes);
        }
        Outcome::Retry { class, message, .. } | Outcome::Failed { class, message } => {
            (*class, message)
        }
        Outcome::Expired { message } => (Class::Expired, message),
    };
    let mut requeue = Requeue {
        at: now,
        why: Some((class, message)),
        is_counted: true,
        now,
    };
    let open = match &outcome {
        Outcome::Retry { at, is_counted, .. } => {
            // Its URL is dead, but a fresh one came meanwhile: it begins anew with that.
            let latest = match job.has_fresh_origin {
                true => now,
                false => now.saturating_add(LONGEST_WAIT).unwrap_or(Timestamp::MAX),
            };
            requeue.at = latest.min(*at);
            requeue.is_counted = *is_counted;
            tx.requeue_job(lease.job, &requeue).await?;
            0
        }
        _ if job.has_fresh_origin => {
            tx.requeue_job(lease.job, &requeue).await?;
            0
        }
        lost => {
            let end = GiveUp {
                state: lost.state(),
                class,
                message,
                now,
            };
            tx.give_up_jobs(&[lease.job], &end).await?;
            -1
        }
    };
    tx.count_open_jobs(&[(job.recording_id, open)]).await?;
    Ok(LeaseWrite::Yes)
}

/// What the name of a lookup ends in that has led to jobs and goes on.
const REST: &str = ".rest";

/// Ends a lookup: what it found becomes jobs, and it is a job no more.
pub(super) async fn resolve(
    tx: &mut dyn StoreTx,
    lease: Lease,
    found: Vec<Artifact>,
    now: Timestamp,
) -> Result<LeaseWrite> {
    let Some(job) = tx.leased_job(&lease).await? else {
        return Ok(LeaseWrite::Stale);
    };
    if job.has_fresh_origin {
        // An event that came meanwhile may know more than the answer, or have brought the URL itself.
        announce_part(tx, &job, &lease, found, now).await?;
        let again = Requeue {
            at: now,
            why: None,
            is_counted: true,
            now,
        };
        tx.requeue_job(lease.job, &again).await?;
        return Ok(LeaseWrite::Yes);
    }
    let recording = job.recording_id;
    let mut shelf = shelf_of(tx, recording).await?;
    shelf.jobs.retain(|other| other.id != lease.job);
    announce(&mut shelf, &job, &lease, found, now);
    tx.delete_job(lease.job).await?;
    tx.keep_answer(recording, &job.identity, lease.job, now)
        .await?;
    write_recordings(tx, &[&mut shelf]).await?;
    write_contents(tx, &[&mut shelf]).await?;
    Ok(LeaseWrite::Yes)
}

/// Makes jobs of a part of what a lookup found.
pub(super) async fn add_found(
    tx: &mut dyn StoreTx,
    lease: Lease,
    found: Vec<Artifact>,
    now: Timestamp,
) -> Result<LeaseWrite> {
    let Some(job) = tx.leased_job(&lease).await? else {
        return Ok(LeaseWrite::Stale);
    };
    announce_part(tx, &job, &lease, found, now).await?;
    Ok(LeaseWrite::Yes)
}

/// Announces what a job found that goes on. A lookup leaves its name to that; what has a URL of its own meanwhile keeps
/// it, and that URL.
async fn announce_part(
    tx: &mut dyn StoreTx,
    job: &LeasedJob,
    lease: &Lease,
    mut found: Vec<Artifact>,
    now: Timestamp,
) -> Result<()> {
    let mut shelf = shelf_of(tx, job.recording_id).await?;
    let slot = shelf.jobs.iter_mut().find(|slot| slot.id == lease.job);
    let slot = slot.ok_or_else(|| damaged(format!("job {} is not there", lease.job)))?;
    if job.has_fresh_origin {
        found.retain(|artifact| artifact.identity != job.identity);
    }
    if job.is_lookup && !slot.name.ends_with(REST) {
        slot.name.push_str(REST);
        tx.rename_job(lease.job, &slot.name).await?;
    }
    announce(&mut shelf, job, lease, found, now);
    write_recordings(tx, &[&mut shelf]).await?;
    write_contents(tx, &[&mut shelf]).await
}

/// Announces what the lookup `job` found.
fn announce(
    shelf: &mut RecordingChanges,
    job: &LeasedJob,
    lease: &Lease,
    found: Vec<Artifact>,
    now: Timestamp,
) {
    let announcement = Announcement {
        event: job.announced_by,
        at: now,
        found_by: Some(lease.job),
    };
    shelf.change = PendingChange::Altered;
    shelf.changed_at = now;
    let mut ids = Ids::default();
    for artifact in found {
        shelf.announce(artifact, announcement, &mut || ids.fresh(now));
    }
}

async fn shelf_of(tx: &mut dyn StoreTx, recording: RecordingId) -> Result<RecordingChanges> {
    tx.recording(recording)
        .await?
        .ok_or_else(|| damaged(format!("recording {recording} is not there")))
}

/// Refuses a move that the table of states does not have: a fault of ours, caught before it is stored.
pub(super) fn check_move(from: State, to: State) -> Result<()> {
    if from.can_become(to) {
        return Ok(());
    }
    Err(Error::internal(format!(
        "move a job from {from} to {to}: there is no such move"
    )))
}
