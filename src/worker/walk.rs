//! Walking over a provider's lists: what exists there and is not known here becomes jobs.
//!
//! A walk may be cut short anywhere and made again from the start: what is known is passed over. So a list that
//! changes while it is read costs at most a page read twice, and nothing is stored about the middle of a walk.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::{SourceAccess, lookup};
use crate::clock::SharedClock;
use crate::error::{Class, Error, Result};
use crate::ingest;
use crate::ingest::hooks::{self, Hook};
use crate::ingest::list::{self, Found, Page, Window};
use crate::model::{Event, JobId, Layout, Origin, Provider, State, key};
use crate::source::Source;
use crate::store::{JobStore, KnownArtifact, NewEvent, Recorded};

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

/// Everything that a walk needs.
#[derive(Clone)]
pub struct Walker {
    /// What is known, and where jobs go. Without one nothing is known, which does for a dry run.
    pub store: Option<Arc<dyn JobStore>>,
    /// For the calls.
    pub source: Arc<dyn Source>,
    /// What time it is.
    pub clock: SharedClock,
    /// How keys are made.
    pub layout: Layout,
}

/// Whose lists are walked.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The source's name.
    pub name: String,
    /// Its provider.
    pub provider: Provider,
    /// Its credentials and its budget.
    pub access: SourceAccess,
}

/// What a walk is for.
#[derive(Clone, Copy, Debug)]
pub struct Purpose {
    /// Which things.
    pub window: Window,
    /// Only look: nothing is recorded.
    pub is_dry_run: bool,
    /// Whether an operator asks, so that what was lost before is tried once more.
    pub retries_lost: bool,
}

/// How something that was found stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// Not known here, in whole or in part.
    New,
    /// Known, and lost here.
    Lost,
    /// Known.
    Known,
    /// The provider reports it as lost itself.
    Failure,
}

/// Something that was found.
#[derive(Clone, Debug)]
pub struct Sighting {
    /// What the list tells.
    pub event: Event,
    /// How it stands.
    pub standing: Standing,
    /// The jobs that it led to, made or woken; none in a dry run.
    pub jobs: Vec<JobId>,
    /// Whether something was stored.
    pub is_recorded: bool,
}

/// What a walk came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Walked {
    /// Things inside the window.
    pub found: u64,
    /// Of those, not known before.
    pub new: u64,
    /// Known and lost before; woken where an operator asked.
    pub lost: u64,
    /// Losses that the provider reports.
    pub failures: u64,
    /// Pages that were read.
    pub pages: u64,
}

/// Hears of each thing as it is found.
pub type OnSighting<'a> = &'a mut (dyn FnMut(&Sighting) -> Result<()> + Send);

impl Walker {
    /// Walks all lists of `subject`.
    ///
    /// # Errors
    /// When a list can't be read to its end (`denied` without credentials), the store fails, or `cancel`; what was
    /// found until then is recorded.
    pub async fn walk(
        &self,
        subject: &Subject,
        purpose: &Purpose,
        on_sighting: OnSighting<'_>,
        cancel: &CancellationToken,
    ) -> Result<Walked> {
        let lists = list::lists(subject.provider);
        if lists.is_empty() {
            return Err(Error::invalid(format!(
                "ask {} what exists: its API has no list",
                subject.provider
            )));
        }
        let mut walked = Walked::default();
        let mut refusal = None;
        let mut answered = 0;
        for name in lists {
            let mut walk = Walk {
                walker: self,
                subject,
                purpose,
                list: name,
                cancel,
                walked: &mut walked,
                seen: HashSet::new(),
            };
            match walk.whole(on_sighting).await {
                Ok(()) => answered += 1,
                // An account has lists of one version, or a product that is not switched on.
                Err(error) if is_refusal(&error) && walk.is_at_start() => {
                    refusal.get_or_insert(error);
                }
                Err(error) => return Err(name_the_source(error, &subject.name)),
            }
        }
        match refusal {
            Some(error) if answered == 0 => Err(name_the_source(error, &subject.name)),
            _ => Ok(walked),
        }
    }

    /// Asks for a page and forgets it: whether the API takes our credentials. The time that it says it is.
    ///
    /// # Errors
    /// As the first list's page, when none is answered.
    pub async fn probe(&self, subject: &Subject) -> Result<Option<Timestamp>> {
        let now = self.clock.now();
        let window = Window {
            since: now,
            until: now,
        };
        let (provider, access) = (subject.provider, &subject.access);
        let mut refusal = None;
        for name in list::lists(provider) {
            let request =
                list::list_request(provider, name, None, &window, &access.credentials, now)?;
            let response = lookup::call(self.source.as_ref(), access, &request).await?;
            match list::list_answer(provider, name, None, &window, &response, now) {
                Ok(_) => return Ok(response.date),
                Err(error) => {
                    refusal.get_or_insert(error);
                }
            }
        }
        Err(refusal.unwrap_or_else(|| Error::invalid("ask an API that has no list")))
    }

    /// The webhooks of `subject` as its provider sees them; `None` where it has no call for that.
    ///
    /// # Errors
    /// As the call and its answer.
    pub async fn hooks(&self, subject: &Subject) -> Result<Option<Vec<Hook>>> {
        let (provider, access) = (subject.provider, &subject.access);
        let Some(request) = hooks::hooks_request(provider, &access.credentials)? else {
            return Ok(None);
        };
        let response = lookup::call(self.source.as_ref(), access, &request).await?;
        hooks::hooks_answer(provider, &response).map(Some)
    }
}

/// One list on its way.
struct Walk<'a> {
    walker: &'a Walker,
    subject: &'a Subject,
    purpose: &'a Purpose,
    list: &'static str,
    cancel: &'a CancellationToken,
    walked: &'a mut Walked,
    /// Dedupe keys of this list: pages may overlap.
    seen: HashSet<String>,
}

impl Walk<'_> {
    fn is_at_start(&self) -> bool {
        self.seen.is_empty()
    }

    async fn whole(&mut self, on_sighting: OnSighting<'_>) -> Result<()> {
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
            .map(|found| recording_key(&found.event))
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
        let standing = standing(&event, known);
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

    async fn ask(
        &self,
        call: &crate::model::Lookup,
        event: &Event,
    ) -> Result<Vec<crate::model::Artifact>> {
        let (provider, access) = (self.subject.provider, &self.subject.access);
        let now = self.walker.clock.now();
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
                Class::Gone | Class::ProviderFailed | Class::Invalid => Ok(Vec::new()),
                _ => Err(error),
            },
        }
    }

    async fn record(&self, event: Event) -> Result<Recorded> {
        let raw = Bytes::from(event.redacted.clone());
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
        let selection = crate::store::Selection::Ids(ids);
        let woken = self
            .store()?
            .retry(&selection, self.walker.clock.now())
            .await?;
        Ok(woken.iter().map(|record| record.id).collect())
    }
}

/// What is known, by recording.
struct Known(HashMap<String, Vec<KnownArtifact>>);

impl Known {
    fn of(all: Vec<KnownArtifact>) -> Known {
        let mut by_recording: HashMap<String, Vec<KnownArtifact>> = HashMap::new();
        for one in all {
            by_recording
                .entry(one.recording_key.clone())
                .or_default()
                .push(one);
        }
        Known(by_recording)
    }

    fn recording(&self, key: &str) -> &[KnownArtifact] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }
}

fn recording_key(event: &Event) -> String {
    key::recording_variable(&event.recording, &event.dedupe_key)
}

fn standing(event: &Event, known: &[KnownArtifact]) -> Standing {
    if event.artifacts.is_empty() {
        return Standing::Failure;
    }
    let is_known = |identity: &str| matches(identity, known).next().is_some();
    if !event
        .artifacts
        .iter()
        .all(|artifact| is_known(&artifact.identity))
    {
        return Standing::New;
    }
    let mut all = event
        .artifacts
        .iter()
        .flat_map(|a| matches(&a.identity, known));
    match all.any(|known| is_lost(known.state)) {
        true => Standing::Lost,
        false => Standing::Known,
    }
}

/// What is known of an artifact: itself, or for a question the files that its answer would name.
fn matches<'a>(
    identity: &'a str,
    known: &'a [KnownArtifact],
) -> impl Iterator<Item = &'a KnownArtifact> {
    let file = identity.strip_prefix("lookup:");
    known.iter().filter(move |known| {
        let of_question = |file: &str| {
            let rest = known.identity.strip_prefix(file);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
        };
        known.identity == identity || file.is_some_and(of_question)
    })
}

fn is_lost(state: Option<State>) -> bool {
    matches!(state, Some(State::Failed | State::Expired))
}

fn is_refusal(error: &Error) -> bool {
    matches!(error.class(), Class::Denied | Class::Gone)
}

fn name_the_source(error: Error, source: &str) -> Error {
    lookup::name_the_source(error, source)
}

fn stopped() -> Error {
    Error::transient(
        Class::Internal,
        "walk over the lists to their end: interrupted",
    )
}

/// The window that a regular walk looks at: from a day before everything was seen last, since a recording may be
/// worked on for long after it has ended, and what is known costs nothing but its page.
pub(super) fn sliding_window(now: Timestamp, reached: Option<Timestamp>) -> Window {
    let since = reached.unwrap_or(now).min(now);
    Window {
        since: since
            .saturating_sub(list::LONGEST_RECORDING)
            .unwrap_or(Timestamp::MIN),
        // Clocks differ: what ended in our near future has ended.
        until: now
            .saturating_add(list::LONGEST_RECORDING)
            .unwrap_or(Timestamp::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(identity: &str, state: Option<State>) -> KnownArtifact {
        KnownArtifact {
            recording_key: "r".to_owned(),
            identity: identity.to_owned(),
            job: None,
            state,
        }
    }

    #[test]
    fn a_question_is_known_by_itself_or_by_what_it_would_lead_to() {
        let all = [
            known("lookup:daily-recording:1", None),
            known("meetingbaas:video", Some(State::Archived)),
            known("daily-recording:22", Some(State::Failed)),
        ];
        for (identity, count) in [
            ("lookup:daily-recording:1", 1),
            ("lookup:meetingbaas", 1),
            ("lookup:daily-recording:22", 1),
            ("lookup:daily-recording:2", 0),
            ("meetingbaas:audio", 0),
        ] {
            assert_eq!(matches(identity, &all).count(), count, "{identity}");
        }
    }

    #[test]
    fn the_window_begins_a_day_before_everything_was_seen() {
        let now: Timestamp = "2026-03-09T12:00:00Z".parse().unwrap();
        let reached: Timestamp = "2026-03-05T12:00:00Z".parse().unwrap();
        let since = |reached| sliding_window(now, reached).since.to_string();
        assert_eq!(since(Some(reached)), "2026-03-04T12:00:00Z");
        assert_eq!(since(None), "2026-03-08T12:00:00Z");
    }
}
