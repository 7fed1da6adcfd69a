//! The intake: what is known of the recordings concerned goes on shelves, the events of a batch are
//! taken in one after the other, and what changed is written by a handful of statements.

use std::collections::{HashMap, HashSet};

use jiff::civil::Date;

use super::ids::Ids;
use super::intake::{PendingChange, RecordingChanges};
use super::renewal::{self, UnarchivedJobs};
use super::stored;
use super::tx::{Pair, Receipt, StoreTx};
use super::{NewEvent, Recorded};
use crate::error::Result;
use crate::model::{Event, EventId, JobId, RecordingId};
use crate::store::recovery;

/// Makes what came from outside fit to be stored: takes NUL out of all its text.
pub(super) fn clean(new: &mut NewEvent) {
    fn tidy(text: &mut String) {
        if text.contains('\0') {
            *text = stored::clean(text).into_owned();
        }
    }
    let Event {
        event_id,
        event_type,
        dedupe_key,
        recording,
        artifacts,
        failures,
        alert,
        ..
    } = &mut new.event;
    tidy(dedupe_key);
    let optional = [
        event_id,
        event_type,
        alert,
        &mut recording.recording_id,
        &mut recording.bot_id,
        &mut recording.session_id,
        &mut recording.room_id,
        &mut recording.room_name,
    ];
    optional.into_iter().flatten().for_each(tidy);
    for artifact in artifacts {
        tidy(&mut artifact.identity);
        tidy(&mut artifact.name);
    }
    for failure in failures {
        tidy(&mut failure.loss_key);
        tidy(&mut failure.message);
        failure.code.iter_mut().for_each(tidy);
    }
}

/// Replaces an event that nobody could make out by what it is now.
pub(super) async fn reread(
    tx: &mut dyn StoreTx,
    event: EventId,
    mut new: NewEvent,
) -> Result<Option<Recorded>> {
    clean(&mut new);
    if !tx.forget_unknown_event(event).await? {
        return Ok(None);
    }
    let mut ids = Ids::default();
    let mut recorded = record_all(tx, &mut ids, std::slice::from_ref(&new)).await?;
    Ok(recorded.pop())
}

/// Records events that are [`clean`], in this order, all or none. After an error the transaction has to be rolled back.
pub(super) async fn record_all(
    tx: &mut dyn StoreTx,
    ids: &mut Ids,
    news: &[NewEvent],
) -> Result<Vec<Recorded>> {
    let keys: Vec<Pair> = news.iter().map(dedupe_pair).collect();
    let mut receipts = tx.receipts(&keys).await?;
    let standings = standings(tx, &receipts, news).await?;
    let (mut concerned, mut unknown) = (Vec::new(), Vec::new());
    for new in news {
        match receipts.get(&dedupe_pair(new)) {
            None => unknown.push(new),
            Some(receipt) if !standings.has_renewed(receipt.recording_id, new) => continue,
            Some(_) => {}
        }
        concerned.push(new);
    }
    let mut shelves = known_shelves(tx, &concerned).await?;
    let mut dates = session_dates(tx, &unknown).await?;

    let mut recorded = Vec::with_capacity(news.len());
    let mut events = Vec::new();
    for new in news {
        if let Some(receipt) = receipts.get(&dedupe_pair(new)) {
            let renewed = renew(new, receipt, ids, &mut shelves, &standings);
            recorded.push(duplicate(receipt, renewed));
            continue;
        }
        let event_id = EventId(ids.fresh(new.received_at));
        let taken = take_in(new, event_id, ids, &mut shelves, &mut dates);
        let receipt = Receipt {
            event_id,
            recording_id: taken.recording_id,
            jobs: taken.jobs.clone(),
        };
        receipts.insert(dedupe_pair(new), receipt);
        recorded.push(taken.clone());
        events.push((new, taken));
    }

    let mut changed: Vec<&mut RecordingChanges> = shelves
        .values_mut()
        .filter(|shelf| shelf.change != PendingChange::Kept)
        .collect();
    write_recordings(tx, &changed).await?;
    tx.insert_events(&events).await?;
    for shelf in &mut changed {
        find_cures_elsewhere(tx, shelf).await?;
    }
    write_contents(tx, &changed).await?;
    Ok(recorded)
}

fn duplicate(receipt: &Receipt, renewed: Vec<JobId>) -> Recorded {
    Recorded {
        event_id: receipt.event_id,
        recording_id: receipt.recording_id,
        jobs: receipt.jobs.clone(),
        made: Vec::new(),
        is_duplicate: true,
        renewed,
    }
}

fn dedupe_pair(new: &NewEvent) -> Pair {
    (new.source.clone(), new.event.dedupe_key.clone())
}

/// Takes in one event that is not known, making its recording if need be.
fn take_in(
    new: &NewEvent,
    event_id: EventId,
    ids: &mut Ids,
    shelves: &mut HashMap<Pair, RecordingChanges>,
    dates: &mut HashMap<Pair, Date>,
) -> Recorded {
    if !new.event.class.has_recording() {
        return Recorded {
            event_id,
            recording_id: None,
            jobs: Vec::new(),
            made: Vec::new(),
            is_duplicate: false,
            renewed: Vec::new(),
        };
    }
    let session = session_pair(new);
    let known_date = session.as_ref().and_then(|pair| dates.get(pair)).copied();
    let shelf = shelves
        .entry((new.source.clone(), new.recording_key.clone()))
        .or_insert_with(|| {
            RecordingChanges::made_for(new, known_date, RecordingId(ids.fresh(new.received_at)))
        });
    if let Some(pair) = session {
        dates.entry(pair).or_insert(shelf.date);
    }
    shelf.record(new, event_id, &mut || ids.fresh(new.received_at))
}

/// Takes in what another delivery of a known event renews. A shelf is there when there is any such thing, or when the event
/// first came in the same batch.
fn renew(
    new: &NewEvent,
    receipt: &Receipt,
    ids: &mut Ids,
    shelves: &mut HashMap<Pair, RecordingChanges>,
    standings: &UnarchivedJobs,
) -> Vec<JobId> {
    let pair = (new.source.clone(), new.recording_key.clone());
    let shelf = shelves.get_mut(&pair);
    let Some(shelf) = shelf.filter(|shelf| receipt.recording_id == Some(shelf.id)) else {
        return Vec::new();
    };
    let mut fresh_id = || ids.fresh(new.received_at);
    shelf.renew(new, receipt.event_id, standings, &mut fresh_id)
}

/// How the jobs stand that known events among `news` could renew: nothing is asked where none could.
async fn standings(
    tx: &mut dyn StoreTx,
    receipts: &HashMap<Pair, Receipt>,
    news: &[NewEvent],
) -> Result<UnarchivedJobs> {
    if receipts.is_empty() {
        return Ok(UnarchivedJobs::default());
    }
    let known = news.iter().filter(|new| renewal::has_urls(new));
    let known: HashSet<RecordingId> = known
        .filter_map(|new| receipts.get(&dedupe_pair(new))?.recording_id)
        .collect();
    if known.is_empty() {
        return Ok(UnarchivedJobs::default());
    }
    let known: Vec<RecordingId> = known.into_iter().collect();
    Ok(UnarchivedJobs::of(tx.unsaved_files(&known).await?))
}

fn session_pair(new: &NewEvent) -> Option<Pair> {
    let session = new.event.recording.session_id.as_ref()?;
    Some((new.source.clone(), session.clone()))
}

async fn known_shelves(
    tx: &mut dyn StoreTx,
    news: &[&NewEvent],
) -> Result<HashMap<Pair, RecordingChanges>> {
    let with_recording = news.iter().filter(|new| new.event.class.has_recording());
    let keys = distinct(with_recording.map(|new| (new.source.clone(), new.recording_key.clone())));
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let shelves = tx.recordings_by_key(&keys).await?;
    Ok(shelves
        .into_iter()
        .map(|shelf| ((shelf.source.clone(), shelf.recording_key.clone()), shelf))
        .collect())
}

async fn session_dates(tx: &mut dyn StoreTx, news: &[&NewEvent]) -> Result<HashMap<Pair, Date>> {
    let sessions = distinct(news.iter().filter_map(|new| session_pair(new)));
    match sessions.is_empty() {
        true => Ok(HashMap::new()),
        false => tx.session_dates(&sessions).await,
    }
}

fn distinct(pairs: impl Iterator<Item = Pair>) -> Vec<Pair> {
    let mut pairs: Vec<Pair> = pairs.collect();
    pairs.sort_unstable();
    pairs.dedup();
    pairs
}

/// Writes what is new or different about the recordings themselves. Jobs and events refer to them,
/// so this comes first.
pub(super) async fn write_recordings(
    tx: &mut dyn StoreTx,
    shelves: &[&mut RecordingChanges],
) -> Result<()> {
    let with = |change| {
        let shelves = shelves.iter().filter(move |shelf| shelf.change == change);
        shelves.map(|shelf| &**shelf).collect::<Vec<_>>()
    };
    tx.insert_recordings(&with(PendingChange::Made)).await?;
    tx.update_recordings(&with(PendingChange::Altered)).await
}

/// Writes the jobs, losses and answers that are new or different.
pub(super) async fn write_contents(
    tx: &mut dyn StoreTx,
    shelves: &[&mut RecordingChanges],
) -> Result<()> {
    let (mut made, mut refreshed, mut announced) = (Vec::new(), Vec::new(), Vec::new());
    let (mut losses, mut withdrawn, mut asked_again) = (Vec::new(), Vec::new(), Vec::new());
    for shelf in shelves.iter().map(|shelf| &**shelf) {
        for job in &shelf.jobs {
            match (job.change, &job.fresh) {
                (PendingChange::Made, Some(artifact)) => made.push((shelf, job, artifact)),
                (PendingChange::Altered, Some(artifact)) => refreshed.push((shelf, job, artifact)),
                (PendingChange::Altered, None) => announced.push(job),
                (PendingChange::Made, None) | (PendingChange::Kept, _) => {}
            }
        }
        for slot in &shelf.losses {
            match slot.change {
                PendingChange::Made => losses.push((shelf, slot)),
                PendingChange::Altered => withdrawn.push((slot.id, shelf.changed_at)),
                PendingChange::Kept => {}
            }
        }
        let identities = shelf.asked_again.iter();
        asked_again.extend(identities.map(|identity| (shelf.id, identity.as_str())));
    }
    tx.refresh_jobs(&refreshed).await?;
    tx.announce_archived(&announced).await?;
    tx.withdraw_failures(&withdrawn).await?;
    tx.forget_answers(&asked_again).await?;
    tx.insert_jobs(&made).await?;
    tx.insert_failures(&losses).await
}

/// A failure without a recording's id may be about a recording that was saved from a later event already.
async fn find_cures_elsewhere(tx: &mut dyn StoreTx, shelf: &mut RecordingChanges) -> Result<()> {
    let has_new = shelf
        .losses
        .iter()
        .any(|slot| slot.change == PendingChange::Made && slot.is_open);
    let Some(room) = shelf.facts.room_name.as_deref().filter(|_| has_new) else {
        return Ok(());
    };
    if shelf.facts.identity().is_some() {
        return Ok(());
    }
    for there in tx.saved_in_room(&shelf.source, room).await? {
        for slot in &mut shelf.losses {
            let is_new = slot.change == PendingChange::Made;
            let is_earlier = slot.loss.at <= there.announced_at;
            let is_its_cure = recovery::is_about(&shelf.facts, slot.loss.at, &there.recording)
                && recovery::cures(&there.saved, &slot.loss);
            if is_new && is_earlier && is_its_cure {
                slot.is_open = false;
            }
        }
    }
    Ok(())
}
