//! `harvester archive`: events or URLs, archived now in the foreground.
//!
//! They become jobs in the same store as those of the worker, so that what is interrupted goes on at the
//! next run, and a worker beside it shares the work instead of doing it twice.

use std::collections::HashSet;
use std::ffi::OsString;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{OptionFuture, join};
use futures::stream::{self, StreamExt as _};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::TryRecvError;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::archive_screen::ArchiveScreen;
use super::input::{self, Input};
use super::inspect::{self, Sender};
use super::output::{CommandFailure, CommandResult, Output};
use super::{CommandContext, learn, signals};
use crate::app::{App, ArchiveTarget, Embedded};
use crate::clock::SharedClock;
use crate::config::Config;
use crate::error::Error;
use crate::ingest::adhoc::{self, AdhocUrl};
use crate::model::{Event, EventClass, JobId, ProgressEvent, Provider, Record, State};
use crate::object::probe_key;
use crate::report::failure;
use crate::report::printable::printable;
use crate::store::{Filter, NewEvent, Recorded, Selection};
use crate::tls;
use crate::worker::Worker;

/// A person waits: parts on their way get this long after Ctrl-C.
const GRACE: Duration = Duration::from_secs(2);

/// How often it is looked what has happened: more often nobody can read it.
const SHOW_EVERY: Duration = Duration::from_millis(20);

/// Events that wait for one commit: each alone would cost the disk a sync.
const EVENTS_AT_ONCE: usize = 128;

/// Arguments of `archive`.
#[derive(clap::Args, Debug)]
pub(super) struct ArchiveArgs {
    /// Event files, URLs, or - for standard input
    #[arg(value_name = "EVENT.json | URL | -", required = true)]
    inputs: Vec<OsString>,
    #[command(flatten)]
    sender: Sender,
    /// Archive the URLs as one recording of this name [default: one recording per URL, named after its path]
    #[arg(long, value_name = "NAME")]
    recording: Option<String>,
}

pub(super) async fn archive(args: ArchiveArgs, context: CommandContext) -> CommandResult {
    let shutdown = CancellationToken::new();
    let output = context.output.clone();
    let work = carry(args, context, shutdown.clone());
    signals::heeding(&output, &shutdown, work).await?
}

async fn carry(
    args: ArchiveArgs,
    context: CommandContext,
    shutdown: CancellationToken,
) -> CommandResult {
    let CommandContext {
        config,
        mut output,
        clock,
    } = context;
    // The system's certificates are read while the inputs are.
    let mut beside = JoinSet::new();
    beside.spawn_blocking(|| tls::client_config(&[]).is_ok());
    let mut is_all_done = true;
    let mut understood = Vec::new();
    // The URLs of one recording, and which of what is understood comes after them.
    let mut urls = Vec::new();
    let mut place = 0;
    // Needed from the first input on that is understood, and opened while the others are read.
    let mut opening = JoinSet::new();
    for input in input::read_all(&args.inputs) {
        let read = input
            .map_err(CommandFailure::from)
            .and_then(|input| understand(input, &args, &config, &clock));
        if read.is_ok() && opening.is_empty() {
            opening.spawn(App::open(config.clone(), Arc::clone(&clock)));
        }
        match read {
            Ok(Read::Event(one)) => {
                is_all_done &= tell_of_losses(&one.event, &mut output)?;
                understood.push(one);
            }
            Ok(Read::Url(url)) if args.recording.is_some() => {
                if urls.is_empty() {
                    place = understood.len();
                }
                urls.push(url);
            }
            Ok(Read::Url(url)) => understood.extend(of_urls(vec![url], &clock)),
            Err(CommandFailure::Failed(error)) => {
                is_all_done = false;
                output.error(&error)?;
            }
            Err(other) => return Err(other),
        }
    }
    understood.splice(place..place, of_urls(urls, &clock));
    if let Some(opened) = opening.join_next().await {
        let house =
            opened.map_err(|error| Error::internal("open the store").with_source(error))??;
        is_all_done &= work(&house, understood, &mut output, &shutdown).await?;
        house.close().await;
    }
    if is_all_done {
        Ok(())
    } else {
        Err(CommandFailure::Told)
    }
}

/// An input, understood.
struct Understood {
    source: String,
    event: Event,
    raw: Bytes,
}

/// What an input was read as.
enum Read {
    Event(Understood),
    Url(AdhocUrl),
}

/// URLs as one event, if there are any.
fn of_urls(urls: Vec<AdhocUrl>, clock: &SharedClock) -> Option<Understood> {
    let event = adhoc::event_of(urls, clock.now())?;
    Some(Understood {
        source: Provider::Adhoc.as_str().to_owned(),
        raw: Bytes::from(event.redacted.clone().unwrap_or_default()),
        event,
    })
}

fn understand(
    input: Input,
    args: &ArchiveArgs,
    config: &Config,
    clock: &SharedClock,
) -> CommandResult<Read> {
    match input {
        Input::Event(body) => {
            let (source, adapter) = args.sender.of(&body, config)?;
            let event = inspect::parse(&body, &adapter, clock.now())?;
            Ok(Read::Event(Understood {
                source,
                event,
                raw: body,
            }))
        }
        Input::Url(url) => {
            let read = adhoc::read_url(url.expose(), args.recording.as_deref())?;
            Ok(Read::Url(read))
        }
        Input::Playlist(_, name) => Err(Error::invalid(format!(
            "archive {name}: give the URL of the playlist, its segments are found from there"
        ))
        .into()),
    }
}

/// Says what an event has lost before anything is carried. Whether nothing is.
fn tell_of_losses(event: &Event, output: &mut Output) -> CommandResult<bool> {
    let mut errors = Vec::new();
    for loss in &event.failures {
        let message = failure::words(loss.code.as_deref(), &loss.message);
        errors.push(Error::new(
            loss.class,
            format!("get the recording from {}: {message}", event.provider),
        ));
    }
    if event.class == EventClass::Unknown {
        let why = event.alert.as_deref().unwrap_or("its type is not known");
        let why = printable(why);
        errors.push(Error::invalid(format!(
            "understand the event: {why}; it is kept as it is"
        )));
    }
    if matches!(event.class, EventClass::Ignored | EventClass::Handshake) {
        let kind = event.event_type.as_deref().unwrap_or("this type");
        output.note(&format!(
            "events of {} carry nothing to archive",
            printable(kind)
        ));
    }
    for error in &errors {
        output.error(error)?;
    }
    Ok(errors.is_empty())
}

/// Records the events and works on their jobs. Whether all of them are archived in the end.
async fn work(
    house: &App,
    understood: Vec<Understood>,
    output: &mut Output,
    shutdown: &CancellationToken,
) -> CommandResult<bool> {
    let jobs = record(house, understood, output).await?;
    work_on(house, jobs, output, shutdown).await
}

/// What to work on.
pub(super) struct ArchiveJobs {
    pub(super) ids: Vec<JobId>,
    /// The records of those that were made just now.
    pub(super) made: Vec<Record>,
    /// Whether some of them are known not to be archived.
    pub(super) have_open: bool,
}

/// Works on jobs with bars. Whether all of them are archived in the end.
pub(super) async fn work_on(
    house: &App,
    jobs: ArchiveJobs,
    output: &mut Output,
    shutdown: &CancellationToken,
) -> CommandResult<bool> {
    if jobs.ids.is_empty() {
        return Ok(true);
    }
    let connect = || house.destination(Embedded::MayShare);
    // What will be needed in any case is connected to while the store reads.
    let early = OptionFuture::from(jobs.have_open.then(connect));
    let (records, early) = join(records_of(house, jobs), early).await;
    let (records, early) = (records?, early.transpose()?);
    let mut screen = ArchiveScreen::new(output, &house.clock);
    screen.expect(&records);
    let destination = match early {
        Some(destination) => Some(destination),
        None if is_all_there(house, &records).await? => None,
        None => Some(connect().await?),
    };
    let records = match destination {
        None => records,
        Some(destination) => {
            house.check_options(&destination).await?;
            let key = probe_key(&house.config.archive.prefix);
            let work = run(house, &destination, records, &mut screen, shutdown);
            let records = learn::beside(Arc::clone(&destination.objects), key, work).await;
            destination.close().await;
            records?
        }
    };
    screen.is_worker_running = house.store.lock_worker().await.is_err();
    screen.finish(&records)?;
    if records.iter().any(|record| !record.state.is_settled()) && shutdown.is_cancelled() {
        output.warn("interrupted; the same command goes on where this one stopped");
    }
    Ok(records.iter().all(|record| record.state == State::Archived))
}

/// Whether there is nothing to do. An earlier run may have ended between the last artifact and the manifest.
async fn is_all_there(house: &App, records: &[Record]) -> CommandResult<bool> {
    let is_sealed = house.store.unsealed(1).await?.is_empty();
    Ok(is_sealed && records.iter().all(|record| record.state == State::Archived))
}

/// The jobs of the events, all of them open or archived: asking again for what had failed is a retry.
async fn record(
    house: &App,
    understood: Vec<Understood>,
    output: &Output,
) -> CommandResult<ArchiveJobs> {
    let mut jobs = ArchiveJobs {
        ids: Vec::new(),
        made: Vec::new(),
        have_open: false,
    };
    let mut known = HashSet::new();
    let now = house.clock.now();
    let receipts = stream::iter(understood).map(|Understood { source, event, raw }| {
        let event = NewEvent::new(source, event, raw, &house.layout, now);
        let named = event.event.artifacts.len();
        async move { (named, house.store.record(event).await) }
    });
    // In their order; those that wait together are written together.
    let mut receipts = pin!(receipts.buffered(EVENTS_AT_ONCE));
    while let Some((named, recorded)) = receipts.next().await {
        let recorded = recorded?;
        if recorded.is_duplicate {
            output.note("this event was recorded before");
        }
        if recorded.is_duplicate && recorded.recording_id.is_none() && named > 0 {
            output.warn("what is known of it has left the store since (store.retention): the bucket has its manifest and report");
        }
        let found = known_before(house, &recorded, named).await?;
        if !found.is_empty() {
            let ids = found.iter().map(|job| job.0).collect::<Vec<_>>();
            house.store.retry(&Selection::Ids(ids), now).await?;
        }
        jobs.have_open |= !recorded.is_duplicate && !recorded.jobs.is_empty();
        for job in recorded.jobs.into_iter().chain(found) {
            if known.insert(job) {
                jobs.ids.push(job);
            }
        }
        jobs.made.extend(recorded.made);
    }
    Ok(jobs)
}

/// The records of the jobs, in the order of their ids.
async fn records_of(house: &App, jobs: ArchiveJobs) -> CommandResult<Vec<Record>> {
    let mut records = jobs.made;
    // What another of the events has woken since is not what it was when it was made.
    records.retain(|record| !record.state.is_settled());
    let made: HashSet<_> = records.iter().map(|record| record.id).collect();
    let mut others = jobs.ids;
    others.retain(|job| !made.contains(job));
    if !others.is_empty() {
        records.extend(of(house, &others).await?);
        records.sort_by_key(|record| record.id);
    }
    Ok(records)
}

/// What an event names that the store knew already. An artifact that an earlier event had brought, and what
/// an answered lookup has found, are not among the jobs of the receipt: then it is the whole recording.
async fn known_before(house: &App, recorded: &Recorded, named: usize) -> CommandResult<Vec<JobId>> {
    let there = match recorded.is_duplicate {
        true => of(house, &recorded.jobs).await?,
        false => Vec::new(),
    };
    let is_complete = match recorded.is_duplicate {
        true => there.len() >= named,
        false => recorded.jobs.len() >= named,
    };
    let records = match recorded.recording_id {
        Some(recording) if !is_complete => {
            let filter = Filter {
                ids: vec![recording.0],
                ..Filter::default()
            };
            house.store.list(&filter).await?
        }
        _ => there,
    };
    Ok(records.into_iter().map(|record| record.id).collect())
}

async fn of(house: &App, jobs: &[JobId]) -> CommandResult<Vec<Record>> {
    if jobs.is_empty() {
        return Ok(Vec::new());
    }
    let filter = Filter {
        ids: jobs.iter().map(|job| job.0).collect(),
        ..Filter::default()
    };
    Ok(house.store.list(&filter).await?)
}

async fn run(
    house: &App,
    destination: &ArchiveTarget,
    records: Vec<Record>,
    screen: &mut ArchiveScreen<'_>,
    shutdown: &CancellationToken,
) -> CommandResult<Vec<Record>> {
    screen
        .output
        .note(&format!("archiving to {}", destination.description));
    let mut events = house.progress.subscribe();
    let worker: Worker = house.worker(destination, &[], GRACE)?;
    let shutdown = shutdown.clone();
    // Among the transfers, so that each of them that ends wakes no other thread.
    let mut work = JoinSet::new();
    work.spawn(async move { worker.run_records(records, shutdown).await });
    let mut look = tokio::time::interval(SHOW_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let records = loop {
        tokio::select! {
            biased;
            _ = look.tick() => screen.show(&all_of(&mut events))?,
            Some(records) = work.join_next() => break records,
        }
    };
    screen.show(&all_of(&mut events))?;
    let records =
        records.map_err(|error| Error::internal("work on the jobs").with_source(error))?;
    Ok(records?)
}

/// What has happened; some events that a burst pushed out are no harm, since the records at the end tell all.
fn all_of(events: &mut Receiver<ProgressEvent>) -> Vec<ProgressEvent> {
    let mut happened = Vec::new();
    loop {
        match events.try_recv() {
            Ok(event) => happened.push(event),
            Err(TryRecvError::Lagged(_)) => {}
            Err(TryRecvError::Empty | TryRecvError::Closed) => return happened,
        }
    }
}
