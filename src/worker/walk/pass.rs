//! One list, page after page.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::known::{self, Known, is_lost, matches};
use super::{OnSighting, Purpose, Sighting, Standing, Subject, Walked, Walker};
use crate::error::{Class, Error, Result};
use crate::ingest;
use crate::ingest::list::{self, Found, Page};
use crate::model::{Artifact, Event, JobId, Lookup, Origin};
use crate::store::{JobStore, KnownArtifact, NewEvent, Recorded, Selection};
use crate::worker::lookup;

/// Pages of one list: a hundred thousand things. A list that goes on for longer goes in circles.
const PAGES_MAX: usize = 1_000;

/// Pages of a list whose things have no date, so that its end is all that would end it.
const UNDATED_PAGES_MAX: usize = 20;

/// A list from which something was deleted while its numbered pages were read is read again, so often.
const PASSES_MAX: usize = 3;

/// Tries at one page.
const TRIES: u32 = 5;

/// The first wait after a page that failed; doubles.
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// One list on its way.
pub(super) struct Walk<'a> {
    pub(super) walker: &'a Walker,
    pub(super) subject: &'a Subject,
    pub(super) purpose: &'a Purpose,
    pub(super) list: &'static str,
    pub(super) cancel: &'a CancellationToken,
    pub(super) walked: &'a mut Walked,
    /// Dedupe keys of this list: pages may overlap.
    pub(super) seen: HashSet<String>,
}

impl Walk<'_> {
    /// Whether nothing has been read of it.
    pub(super) fn is_at_start(&self) -> bool {
        self.seen.is_empty()
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
            if let Some(total) = page.total {
                let (_, least) = totals.unwrap_or((total, total));
                totals = Some((totals.map_or(total, |(first, _)| first), least.min(total)));
            }
            let is_undated = page.is_undated;
            let (next, reached_since) = (page.next.clone(), page.reached_since);
            let news = self.take(page, on_sighting).await?;
            let is_far_enough = is_undated && (news == 0 || number >= UNDATED_PAGES_MAX);
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

    async fn page(&self, cursor: Option<&str>) -> Result<Page> {
        let mut wait = FIRST_WAIT;
        for _ in 1..TRIES {
            match self.try_page(cursor).await {
                Err(error) if error.is_transient() && error.class() != Class::Gone => {
                    tracing::info!(
                        source = self.subject.name,
                        list = self.list,
                        "a page failed, trying again: {}",
                        error.full_message()
                    );
                    // A 429 holds the whole source back by itself.
                    self.pause(wait).await?;
                    wait *= 2;
                }
                other => return other,
            }
        }
        self.try_page(cursor).await
    }

    async fn try_page(&self, cursor: Option<&str>) -> Result<Page> {
        let (provider, window) = (self.subject.provider, &self.purpose.window);
        let credentials = &self.subject.access.credentials;
        let now = self.walker.clock.now();
        let request = list::list_request(provider, self.list, cursor, window, credentials, now)?;
        let response = tokio::select! {
            () = self.cancel.cancelled() => return Err(stopped()),
            response = lookup::call(self.walker.source.as_ref(), &self.subject.access, &request) => response?,
        };
        let now = self.walker.clock.now();
        list::list_answer(provider, self.list, cursor, window, &response, now)
    }

    async fn pause(&self, wait: Duration) -> Result<()> {
        tokio::select! {
            () = self.cancel.cancelled() => Err(stopped()),
            () = tokio::time::sleep(wait) => Ok(()),
        }
    }

    /// Judges and records what is on a page; how much of it was new.
    async fn take(&mut self, page: Page, on_sighting: OnSighting<'_>) -> Result<u64> {
        let found: Vec<Found> = page
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
        let known = Known::of(known);
        let mut news = 0;
        for (found, recording_key) in found.into_iter().zip(&keys) {
            let known = known.recording(recording_key);
            let Some(sighting) = self.sight(found, known).await? else {
                continue;
            };
            self.walked.found += 1;
            match sighting.standing {
                Standing::New => {
                    self.walked.new += 1;
                    news += 1;
                }
                Standing::Lost => self.walked.lost += 1,
                Standing::Failure => self.walked.failures += 1,
                Standing::Known => {}
            }
            on_sighting(&sighting)?;
        }
        Ok(news)
    }

    async fn sight(&self, found: Found, known: &[KnownArtifact]) -> Result<Option<Sighting>> {
        let mut event = found.event;
        if !found.is_certain {
            event = self.confirm(event, known).await?;
            if event.artifacts.is_empty() {
                return Ok(None);
            }
        }
        let standing = known::standing(&event, known);
        let mut sighting = Sighting {
            event,
            standing,
            jobs: Vec::new(),
            is_recorded: false,
        };
        if self.purpose.is_dry_run {
            return Ok(Some(sighting));
        }
        match standing {
            Standing::New | Standing::Failure => {
                let recorded = self.record(sighting.event.clone()).await?;
                sighting.is_recorded = !recorded.is_duplicate;
                sighting.jobs = recorded.jobs;
            }
            Standing::Lost if self.purpose.retries_lost => {
                sighting.jobs = self.wake(&sighting.event, known).await?;
                sighting.is_recorded = !sighting.jobs.is_empty();
            }
            Standing::Lost | Standing::Known => {}
        }
        Ok(Some(sighting))
    }

    /// Of files that may be there or not, asks for those that nobody knows; what there is stays.
    async fn confirm(&self, mut event: Event, known: &[KnownArtifact]) -> Result<Event> {
        let mut there = Vec::new();
        for artifact in std::mem::take(&mut event.artifacts) {
            let is_known = matches(&artifact.identity, known).next().is_some();
            match &artifact.origin {
                Origin::Lookup(call) if !is_known => {
                    there.extend(self.ask(call, &event).await?);
                }
                _ => there.push(artifact),
            }
        }
        event.artifacts = there;
        Ok(event)
    }

    async fn ask(&self, call: &Lookup, event: &Event) -> Result<Vec<Artifact>> {
        let (provider, access) = (self.subject.provider, &self.subject.access);
        let now = self.walker.clock.now();
        if self.subject.absent.is_fresh(call, now) {
            return Ok(Vec::new());
        }
        let request = ingest::lookup_request(provider, call, &access.credentials, now)?;
        let response = tokio::select! {
            () = self.cancel.cancelled() => return Err(stopped()),
            response = lookup::call(self.walker.source.as_ref(), access, &request) => response?,
        };
        let now = self.walker.clock.now();
        match ingest::lookup_answer(provider, call, &response, &event.recording, now) {
            Ok(found) => Ok(found),
            Err(error) => match error.class() {
                // There is none, or it can't be told: nothing was announced, so nothing is lost.
                Class::Gone | Class::ProviderFailed | Class::Invalid => {
                    self.subject.absent.note(call, now);
                    Ok(Vec::new())
                }
                _ => Err(error),
            },
        }
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

    async fn wake(&self, event: &Event, known: &[KnownArtifact]) -> Result<Vec<JobId>> {
        let lost = event
            .artifacts
            .iter()
            .flat_map(|a| matches(&a.identity, known));
        let ids: Vec<_> = lost
            .filter(|known| is_lost(known.state))
            .filter_map(|known| known.job.map(|job| job.0))
            .collect();
        let selection = Selection::Ids(ids);
        let woken = self
            .store()?
            .retry(&selection, self.walker.clock.now())
            .await?;
        Ok(woken.iter().map(|record| record.id).collect())
    }
}

fn stopped() -> Error {
    Error::transient(
        Class::Internal,
        "walk over the lists to their end: interrupted",
    )
}
