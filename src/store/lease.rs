//! Leases: which due jobs a worker gets, and in which order. Each function runs inside a transaction.

use jiff::{SignedDuration, Timestamp};

use super::settle::check_move;
use super::tx::{
    Candidate, DueJobs, DueTimes, GiveUp, LeaseJobs, StoreTx, UnreadableJob, by_recording,
};
use super::{ClaimRequest, Claimed, LONGEST_WAIT, LeaseWrite};
use crate::error::{Class, Result};
use crate::model::{Artifact, JobId, Lease, State};
use crate::schedule::order::Urgency;

/// A job whose lease was never given back this many times in a row takes its workers down with it
/// (or freezes them): it has had its chances.
const MAX_UNSETTLED_LEASES: i64 = 20;

/// From this many unsettled leases on a job is a suspect.
const SUSPECT_LEASES: i64 = 2;

/// How far beyond the longest wait a time must lie to have been written by a clock that was set back since.
const BACKSTEP: SignedDuration = SignedDuration::from_secs(60);

/// Leases what is due, least slack first. A suspect comes before all others: no more than one has a place.
pub(super) async fn claim(tx: &mut dyn StoreTx, claim: ClaimRequest) -> Result<Vec<Claimed>> {
    let wanted = claim.limit as usize;
    let mut claimed = match &claim.only {
        // Of no more than are wanted none need be chosen, and mostly all of them can be leased.
        Some(only) if only.len() <= wanted => {
            let leased = lease(tx, only, &claim, SUSPECT_LEASES).await?;
            if leased.len() == only.len() {
                return Ok(leased);
            }
            leased
        }
        _ => Vec::new(),
    };
    while claimed.len() < wanted {
        let missing = wanted - claimed.len();
        let (found, mut is_short) = candidates(tx, &claim, missing).await?;
        let (ours, others): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|one| is_held(one, &claim));
        extend(tx, &ours, &claim).await?;
        let (suspects, sound): (Vec<_>, Vec<_>) = others
            .into_iter()
            .partition(|one| one.unsettled_leases >= SUSPECT_LEASES);
        if let Some(suspect) = next_suspect(tx, suspects, &claim).await? {
            claimed.extend(lease(tx, &[suspect], &claim, MAX_UNSETTLED_LEASES).await?);
        }
        let missing = wanted.saturating_sub(claimed.len());
        let ids: Vec<_> = sound.iter().map(|one| one.id).take(missing).collect();
        if !ids.is_empty() {
            let leased = lease(tx, &ids, &claim, SUSPECT_LEASES).await?;
            is_short |= leased.len() < ids.len();
            claimed.extend(leased);
        }
        // Only what can't be read, and what is ours and not due at all, may have kept others from being found.
        if ours.is_empty() && !is_short {
            break;
        }
    }
    Ok(claimed)
}

/// Extends leases; answers with those that are lost.
pub(super) async fn heartbeat(
    tx: &mut dyn StoreTx,
    leases: Vec<Lease>,
    until: Timestamp,
) -> Result<Vec<JobId>> {
    if leases.is_empty() {
        return Ok(Vec::new());
    }
    let kept = tx.extend_leases(&leases, until).await?;
    let lost = leases.into_iter().filter(|lease| !kept.contains(lease));
    Ok(lost.map(|lease| lease.job).collect())
}

/// Gives a leased job a fresh origin. What is known of its size stays, for its place in the order too, where the fresh
/// origin does not tell it.
pub(super) async fn replace_origin(
    tx: &mut dyn StoreTx,
    lease: Lease,
    mut artifact: Artifact,
) -> Result<LeaseWrite> {
    let Some(job) = tx.leased_job(&lease).await? else {
        return Ok(LeaseWrite::Stale);
    };
    artifact.size_bytes = artifact.size_bytes.or(job.announced_size);
    tx.replace_origin(&lease, &artifact).await
}

/// The first of the due and of the lapsed ones, in one order, and all suspects; and whether some could not be read.
async fn candidates(
    tx: &mut dyn StoreTx,
    claim: &ClaimRequest,
    limit: usize,
) -> Result<(Vec<Candidate>, bool)> {
    let wanted = DueJobs {
        is_small: claim.is_small,
        times: due_times(claim),
        only: claim.only.as_deref(),
        suspect_leases: SUSPECT_LEASES,
        limit: u32::try_from(limit).unwrap_or(u32::MAX),
    };
    let found = tx.due_jobs(&wanted).await?;
    let (mut candidates, is_short) = readable(tx, found, claim.now).await?;
    candidates.sort_by_key(|candidate| candidate.urgency);
    Ok((candidates, is_short))
}

fn due_times(claim: &ClaimRequest) -> DueTimes {
    let longest = LONGEST_WAIT.saturating_add(BACKSTEP);
    DueTimes {
        now: claim.now,
        beyond: claim.now.saturating_add(longest).unwrap_or(Timestamp::MAX),
        takes_lapsed: claim.takes_lapsed,
    }
}

fn is_held(candidate: &Candidate, claim: &ClaimRequest) -> bool {
    let is_its = |lease: &Lease| lease.job == candidate.id && lease.token == candidate.token;
    candidate.state == State::Running && claim.held.iter().any(is_its)
}

/// Leases that their holder still has, though the clock says that they are over: it was set, or the machine stood still.
async fn extend(tx: &mut dyn StoreTx, ours: &[Candidate], claim: &ClaimRequest) -> Result<()> {
    if ours.is_empty() {
        return Ok(());
    }
    let leases: Vec<_> = ours
        .iter()
        .map(|candidate| Lease {
            job: candidate.id,
            token: candidate.token,
        })
        .collect();
    // Later than now in any case, so that they are not found again.
    let at_least = claim.now.saturating_add(SignedDuration::from_millis(1));
    let until = claim.lease_until.max(at_least.unwrap_or(Timestamp::MAX));
    tx.extend_leases(&leases, until).await.map(drop)
}

/// The suspect to lease now, if none is on its way. Those that have had their chances are given up.
async fn next_suspect(
    tx: &mut dyn StoreTx,
    suspects: Vec<Candidate>,
    claim: &ClaimRequest,
) -> Result<Option<JobId>> {
    if suspects.is_empty() {
        return Ok(None);
    }
    let (deadly, suspects): (Vec<_>, Vec<_>) = suspects
        .into_iter()
        .partition(|candidate| candidate.unsettled_leases >= MAX_UNSETTLED_LEASES);
    if !deadly.is_empty() {
        give_up_deadly(tx, &deadly, claim.now).await?;
        tx.clear_suspects(SUSPECT_LEASES).await?;
        // Found again, as jobs like all others, by the next claim.
        return Ok(None);
    }
    let is_running = tx
        .is_suspect_running(SUSPECT_LEASES, &due_times(claim))
        .await?;
    let least = suspects
        .iter()
        .min_by_key(|suspect| (suspect.unsettled_leases, suspect.urgency));
    Ok(least.filter(|_| !is_running).map(|suspect| suspect.id))
}

/// Leases those of `jobs` that are due and were leased fewer than `below_leases` times in a row, least slack first.
async fn lease(
    tx: &mut dyn StoreTx,
    jobs: &[JobId],
    claim: &ClaimRequest,
    below_leases: i64,
) -> Result<Vec<Claimed>> {
    let order = LeaseJobs {
        jobs,
        is_small: claim.is_small,
        times: due_times(claim),
        until: claim.lease_until,
        worker: &claim.worker,
        below_leases,
    };
    let leased = tx.lease_jobs(&order).await?;
    let (mut claimed, _) = readable(tx, leased, claim.now).await?;
    claimed.sort_by_key(|claimed| Urgency::of_job(&claimed.job));
    Ok(claimed)
}

async fn give_up_deadly(tx: &mut dyn StoreTx, deadly: &[Candidate], now: Timestamp) -> Result<()> {
    for candidate in deadly {
        check_move(candidate.state, State::Failed)?;
    }
    let message =
        format!("{MAX_UNSETTLED_LEASES} workers in a row ended or froze while they worked on it");
    let end = GiveUp {
        state: State::Failed,
        class: Class::Internal,
        message: &message,
        now,
    };
    let jobs: Vec<_> = deadly.iter().map(|candidate| candidate.id).collect();
    tx.give_up_jobs(&jobs, &end).await?;
    let less = by_recording(deadly.iter().map(|candidate| (candidate.recording_id, -1)));
    tx.count_open_jobs(&less).await
}

/// Those of `found` that can be read, and whether some can't. These are ended, so that they do not stand before the
/// others: a newer harvester wrote them, or they are damaged.
async fn readable<T>(
    tx: &mut dyn StoreTx,
    found: Vec<Result<T, UnreadableJob>>,
    now: Timestamp,
) -> Result<(Vec<T>, bool)> {
    let mut read = Vec::with_capacity(found.len());
    let mut is_short = false;
    for one in found {
        match one {
            Ok(one) => read.push(one),
            Err(UnreadableJob { id, why }) => {
                is_short = true;
                let why = why.full_message();
                tracing::warn!(job = id, "gave a job up: failed to {why}");
                let message =
                    format!("{why}; a newer harvester may have written it, which can retry it");
                tx.give_up_unreadable(&id, &message, now).await?;
            }
        }
    }
    Ok((read, is_short))
}
