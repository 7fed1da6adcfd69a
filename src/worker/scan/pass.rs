//! One list, page after page.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::known::{self, KnownRecordings, is_lost};
use super::{FoundRecording, KnownRecording, OnSighting, Purpose, ScannedSource, Walked, Walker};
use crate::error::{Class, Error, Result};
use crate::ingest::list::{self, ListPage, ListedThing};
use crate::model::{Event, JobId};
use crate::store::{JobStore, KnownArtifact, NewEvent, Recorded, Selection};
use crate::worker::question;

/// Pages of one list: a hundred thousand things. A list that goes on for longer goes in circles.
const PAGES_MAX: usize = 1_000;

/// Pages of a list whose things have no date, so that its end is all that would end it.
const UNDATED_PAGES_MAX: usize = 20;

/// A list from which something was deleted while its numbered pages were read is read again, so often.
const PASSES_MAX: usize = 3;

/// Tries at one page or question.
pub(super) const TRIES: u32 = 5;

/// The first wait after one that failed; doubles.
pub(super) const FIRST_WAIT: Duration = Duration::from_millis(500);

/// One list on its way.
pub(super) struct Walk<'a> {
    pub(super) walker: &'a Walker,
    pub(super) subject: &'a ScannedSource,
    purpose: &'a Purpose,
    pub(super) list: &'static str,
    cancel: &'a CancellationToken,
    pub(super) walked: &'a mut Walked,
    /// Dedupe keys of this list: pages may overlap.
    seen: HashSet<String>,
    pages: u64,
    /// Questions about single things that failed, since the last one that was answered.
    pub(super) failed_asks: u32,
    /// Calls that the API has denied, each told once.
    pub(super) denied: HashSet<String>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        walker: &'a Walker,
        subject: &'a ScannedSource,
        purpose: &'a Purpose,
        list: &'static str,
        cancel: &'a CancellationToken,
        walked: &'a mut Walked,
    ) -> Walk<'a> {
        Walk {
            walker,
            subject,
            purpose,
            list,
            cancel,
            walked,
            seen: HashSet::new(),
            pages: 0,
            failed_asks: 0,
            denied: HashSet::new(),
        }
    }

    /// Whether no page of it was answered.
    pub(super) fn is_at_start(&self) -> bool {
        self.pages == 0
    }

    /// Reads the list, again if it has lost something meanwhile.
    ///
    /// # Errors
    /// As [`Walker::walk`].
    pub(super) async fn whole(&mut self, on_sighting: OnSighting<'_>) -> Result<()> {
        for _ in 0..PASSES_MAX {
            if !self.pass(on_sighting).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Reads the list once; whether it has to be read again, since something went from it meanwhile.
    async fn pass(&mut self, on_sighting: OnSighting<'_>) -> Result<bool> {
        let mut cursor: Option<String> = None;
        let mut cursors = HashSet::new();
        let mut totals: Option<(u64, u64)> = None;
        for number in 1..=PAGES_MAX {
            let page = self.page(cursor.as_deref()).await?;
            self.walked.pages += 1;
            self.pages += 1;
            if let Some(total) = page.total {
                let (_, least) = totals.unwrap_or((total, total));
                totals = Some((totals.map_or(total, |(first, _)| first), least.min(total)));
            }
            let is_undated = page.is_undated;
            let (next, reached_since) = (page.next.clone(), page.reached_since);
            let news = self.take(page, on_sighting).await?;
            let is_bounded = is_undated && !self.purpose.is_thorough;
            if is_bounded && news > 0 && number >= UNDATED_PAGES_MAX && next.is_some() {
                self.warn_of_undated();
            }
            let is_far_enough = is_bounded && (news == 0 || number >= UNDATED_PAGES_MAX);
            let Some(next) = next.filter(|_| !reached_since && !is_far_enough) else {
                return Ok(totals.is_some_and(|(first, least)| least < first));
            };
            if !cursors.insert(next.clone()) {
                return Err(Error::invalid(format!(
                    "read the list of {}: its pages go in a circle",
                    self.list
                )));
            }
            cursor = Some(next);
        }
        Err(Error::invalid(format!(
            "read the list of {}: it has more than {PAGES_MAX} pages",
            self.list
        )))
    }

    fn warn_of_undated(&self) {
        let name = &self.subject.name;
        tracing::warn!(
            source = name,
            list = self.list,
            "things on this list have no dates, and {UNDATED_PAGES_MAX} pages of it were new: what comes after them was \
             not looked at; `harvester backfill {name} --since 30d` reads it to its end"
        );
    }

    async fn page(&self, cursor: Option<&str>) -> Result<ListPage> {
        let mut wait = FIRST_WAIT;
        for _ in 1..TRIES {
            match self.try_page(cursor).await {
                Err(error) if is_worth_a_retry(&error) => {
                    self.again_after(&mut wait, "a page", &error).await?;
                }
                other => return other,
            }
        }
        self.try_page(cursor).await
    }

    async fn try_page(&self, cursor: Option<&str>) -> Result<ListPage> {
        let (provider, window) = (self.subject.provider, &self.purpose.window);
        let credentials = &self.subject.access.credentials;
        let now = self.walker.clock.now();
        let request = list::list_request(provider, self.list, cursor, window, credentials, now)?;
        let source = self.walker.source.as_ref();
        let call = question::call(source, &self.subject.access, &request);
        let response = self.heeding(call).await?;
        let now = self.walker.clock.now();
        list::list_answer(provider, self.list, cursor, window, &response, now)
    }

    /// What `asked` comes to, unless the walk is told to stop.
    pub(super) async fn heeding<T>(&self, asked: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            () = self.cancel.cancelled() => Err(stopped()),
            answer = asked => answer,
        }
    }

    /// Waits, longer each time. A 429 holds the whole source back by itself.
    pub(super) async fn again_after(
        &self,
        wait: &mut Duration,
        what: &str,
        error: &Error,
    ) -> Result<()> {
        tracing::info!(
            source = self.subject.name,
            list = self.list,
            "{what} failed, trying again: {}",
            error.full_message()
        );
        self.pause(*wait).await?;
        *wait *= 2;
        Ok(())
    }

    async fn pause(&self, wait: Duration) -> Result<()> {
        tokio::select! {
            () = self.cancel.cancelled() => Err(stopped()),
            () = tokio::time::sleep(wait) => Ok(()),
        }
    }

    /// Judges and records what is on a page; how much of it was new.
    async fn take(&mut self, page: ListPage, on_sighting: OnSighting<'_>) -> Result<u64> {
        let found: Vec<ListedThing> = page
            .found
            .into_iter()
            .filter(|found| self.seen.insert(found.event.dedupe_key.clone()))
            .collect();
        let keys: Vec<String> = found
            .iter()
            .map(|found| known::recording_key(&found.event))
            .collect();
        let known = match &self.walker.store {
            Some(store) => store.known(&self.subject.name, &keys).await?,
            None => Vec::new(),
        };
        let known = KnownRecordings::of(known);
        let mut news = 0;
        for (found, recording_key) in found.into_iter().zip(&keys) {
            let known = known.recording(recording_key);
            let Some(sighting) = self.sight(found, known).await? else {
                continue;
            };
            self.walked.found += 1;
            self.walked.open += u64::from(!sighting.open.is_empty());
            self.walked.undated += u64::from(sighting.event.event_time.is_none());
            match sighting.standing {
                KnownRecording::New => {
                    self.walked.new += 1;
                    news += 1;
                }
                KnownRecording::Lost => self.walked.lost += 1,
                KnownRecording::Failure => self.walked.failures += 1,
                KnownRecording::Known => {}
            }
            on_sighting(&sighting)?;
        }
        Ok(news)
    }

    async fn sight(
        &mut self,
        found: ListedThing,
        known: &[KnownArtifact],
    ) -> Result<Option<FoundRecording>> {
        let mut event = found.event;
        if !found.is_certain {
            event = self.confirm(event, known).await?;
            if event.artifacts.is_empty() {
                return Ok(None);
            }
        }
        let standing = known::standing(&event, known);
        let (open, archived) = known::jobs(&event, known);
        let mut sighting = FoundRecording {
            open,
            archived,
            event,
            standing,
            jobs: Vec::new(),
            is_recorded: false,
        };
        if self.purpose.is_dry_run {
            return Ok(Some(sighting));
        }
        match standing {
            KnownRecording::New | KnownRecording::Failure => {
                let recorded = self.record(sighting.event.clone()).await?;
                sighting.is_recorded = !recorded.is_duplicate;
                sighting.jobs = recorded.jobs;
                // A loss is told once, and not at every walk that comes by.
                if standing == KnownRecording::Failure && recorded.is_duplicate {
                    sighting.standing = KnownRecording::Known;
                }
            }
            KnownRecording::Lost => {
                sighting.jobs = self.wake(&sighting.event, known).await?;
                sighting.is_recorded = !sighting.jobs.is_empty();
            }
            KnownRecording::Known => {}
        }
        Ok(Some(sighting))
    }

    async fn record(&self, event: Event) -> Result<Recorded> {
        let raw = Bytes::from(event.redacted.clone().unwrap_or_default());
        let now = self.walker.clock.now();
        let new = NewEvent::found(&self.subject.name, event, raw, &self.walker.layout, now);
        self.store()?.record(new).await
    }

    fn store(&self) -> Result<&Arc<dyn JobStore>> {
        let store = self.walker.store.as_ref();
        store.ok_or_else(|| Error::internal("record what was found: there is no store"))
    }

    /// Puts what was lost of `event` back to work: all of it where an operator asks, else what may have passed, and that
    /// ever more rarely.
    async fn wake(&self, event: &Event, known: &[KnownArtifact]) -> Result<Vec<JobId>> {
        let now = self.walker.clock.now();
        let is_due = |known: &KnownArtifact| match self.purpose.is_thorough {
            true => is_lost(known.state),
            false => {
                let woken = &self.subject.absent;
                let is_worth_it = known::is_worth_another_try(known);
                is_worth_it && known.job.is_some_and(|job| woken.may_wake(job, now))
            }
        };
        let due = known::concerned(event, known).filter(|known| is_due(known));
        let ids: Vec<_> = due.filter_map(|known| known.job.map(|job| job.0)).collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let woken = self.store()?.retry(&Selection::Ids(ids), now).await?;
        Ok(woken.iter().map(|record| record.id).collect())
    }
}

/// A 404 may be an event that is faster than the API behind it; of a list or of what may not be there it is an answer.
pub(super) fn is_worth_a_retry(error: &Error) -> bool {
    error.is_transient() && !matches!(error.class(), Class::Gone | Class::Internal)
}

fn stopped() -> Error {
    Error::transient(
        Class::Internal,
        "walk over the lists to their end: interrupted",
    )
}
