//! Walking over a provider's lists: what exists there and is not known here becomes jobs.
//!
//! A walk may be cut short anywhere and made again from the start: what is known is passed over. So a list that
//! changes while it is read costs at most a page read twice, and nothing is stored about the middle of a walk.

use std::sync::Arc;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::clock::SharedClock;
use crate::error::{Class, Error, Result};
use crate::ingest::hooks::{self, Hook};
use crate::ingest::list::{self, Window};
use crate::model::{Event, JobId, Layout, Provider};
use crate::source::Source;
use crate::store::JobStore;
use crate::worker::scan::pass::Walk;
use crate::worker::{SourceAccess, lookup, question};

mod absent;
mod ask;
mod known;
mod pass;

pub use crate::worker::scan::absent::Absent;

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
pub struct ScannedSource {
    /// The source's name.
    pub name: String,
    /// Its provider.
    pub provider: Provider,
    /// Its credentials and its budget.
    pub access: SourceAccess,
    /// What was asked for in vain lately.
    pub absent: Absent,
}

/// What a walk is for.
#[derive(Clone, Copy, Debug)]
pub struct Purpose {
    /// Which things.
    pub window: Window,
    /// Only look: nothing is recorded.
    pub is_dry_run: bool,
    /// Whether an operator asks: then all that was lost before is tried once more, and a list without dates is read to
    /// its end.
    pub is_thorough: bool,
}

/// How something that was found stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KnownRecording {
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
pub struct FoundRecording {
    /// What the list tells.
    pub event: Event,
    /// How it stands.
    pub standing: KnownRecording,
    /// The jobs that it led to, made or woken; none in a dry run.
    pub jobs: Vec<JobId>,
    /// Jobs of it that were known and have not settled: a walk that was interrupted may have left them.
    pub open: Vec<JobId>,
    /// Jobs of it that were known and are archived: their recording may still want its manifest.
    pub archived: Vec<JobId>,
    /// Whether something was stored.
    pub is_recorded: bool,
}

/// What a walk came to, also where it did not reach the end.
#[derive(Debug, Default)]
#[must_use = "a walk may have been cut short"]
pub struct Walked {
    /// Things inside the window.
    pub found: u64,
    /// Of those, not known before.
    pub new: u64,
    /// Known and lost before; tried once more where that may help or an operator asked.
    pub lost: u64,
    /// Known, and not archived yet.
    pub open: u64,
    /// Losses that the provider reports, not known before.
    pub failures: u64,
    /// Things without a date, which are taken whatever their age.
    pub undated: u64,
    /// Pages that were read.
    pub pages: u64,
    /// Why not all there is has been seen: the first reason of several. What was found is recorded all the same.
    pub trouble: Option<Error>,
}

impl Walked {
    /// Itself, if everything was seen.
    ///
    /// # Errors
    /// [`trouble`](Walked::trouble).
    pub fn whole(mut self) -> Result<Walked> {
        match self.trouble.take() {
            Some(trouble) => Err(trouble),
            None => Ok(self),
        }
    }
}

/// Hears of each thing as it is found.
pub type OnSighting<'a> = &'a mut (dyn FnMut(&FoundRecording) -> Result<()> + Send);

impl Walker {
    /// Walks all lists of `subject`: one that can't be read to its end is no reason not to read the others. What kept
    /// it from being a whole walk is its [`trouble`](Walked::trouble): a list (`denied` without credentials), the
    /// store, or `cancel`.
    pub async fn walk(
        &self,
        subject: &ScannedSource,
        purpose: &Purpose,
        on_sighting: OnSighting<'_>,
        cancel: &CancellationToken,
    ) -> Walked {
        let lists = list::lists(subject.provider);
        let mut walked = Walked::default();
        if lists.is_empty() {
            walked.trouble = Some(no_list(subject));
        }
        let mut refusals = Vec::new();
        let further = match purpose.is_thorough {
            true => list::thorough_lists(subject.provider),
            false => &[],
        };
        for name in lists.iter().chain(further) {
            let mut walk = Walk::new(self, subject, purpose, name, cancel, &mut walked);
            let Err(error) = walk.whole(on_sighting).await else {
                continue;
            };
            let is_at_start = walk.is_at_start();
            let is_hopeless = cancel.is_cancelled() || error.class() == Class::Internal;
            let error = name_the_source(error, &subject.name);
            if is_refusal(&error) && is_at_start && list::is_one_enough(subject.provider) {
                refusals.push(error);
                continue;
            }
            tracing::warn!(
                source = subject.name,
                list = name,
                class = error.class().as_str(),
                "a list was not read to its end: {}",
                error.full_message()
            );
            walked.trouble.get_or_insert(error);
            if is_hopeless {
                break;
            }
        }
        if refusals.len() == lists.len() {
            let first = refusals.into_iter().next();
            walked.trouble = walked.trouble.or(first);
        }
        walked
    }

    /// Asks for a page of each list and forgets it: whether the API takes our credentials. The time that it says it is.
    ///
    /// # Errors
    /// As the first page that is refused; where one list is enough, when none is answered.
    pub async fn probe(&self, subject: &ScannedSource) -> Result<Option<Timestamp>> {
        let mut refusal = None;
        let mut answered = None;
        let is_one_enough = list::is_one_enough(subject.provider);
        for name in list::lists(subject.provider) {
            match self.probe_list(subject, name).await {
                Ok(date) => answered = answered.or(Some(date)),
                Err(error) if is_one_enough && is_refusal(&error) => {
                    refusal.get_or_insert(error);
                }
                Err(error) => return Err(name_the_source(error, &subject.name)),
            }
        }
        answered.ok_or_else(|| match refusal {
            Some(error) => name_the_source(error, &subject.name),
            None => no_list(subject),
        })
    }

    async fn probe_list(&self, subject: &ScannedSource, name: &str) -> Result<Option<Timestamp>> {
        let now = self.clock.now();
        let window = Window {
            since: now,
            until: now,
        };
        let (provider, access) = (subject.provider, &subject.access);
        let request = list::list_request(provider, name, None, &window, &access.credentials, now)?;
        let response = question::call(self.source.as_ref(), access, &request).await?;
        list::list_answer(provider, name, None, &window, &response, now)?;
        Ok(response.date)
    }

    /// The webhooks of `subject` as its provider sees them; `None` where it has no call for that.
    ///
    /// # Errors
    /// As the call and its answer.
    pub async fn hooks(&self, subject: &ScannedSource) -> Result<Option<Vec<Hook>>> {
        let (provider, access) = (subject.provider, &subject.access);
        let named = |error| name_the_source(error, &subject.name);
        let request = hooks::hooks_request(provider, &access.credentials).map_err(named)?;
        let Some(request) = request else {
            return Ok(None);
        };
        let response = question::call(self.source.as_ref(), access, &request).await?;
        hooks::hooks_answer(provider, &response)
            .map(Some)
            .map_err(named)
    }
}

fn no_list(subject: &ScannedSource) -> Error {
    Error::invalid(format!(
        "ask {} what exists: its API has no list",
        subject.provider
    ))
}

fn is_refusal(error: &Error) -> bool {
    matches!(error.class(), Class::Denied | Class::Gone)
}

fn name_the_source(error: Error, source: &str) -> Error {
    lookup::name_the_source(error, source)
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

    #[test]
    fn the_window_begins_a_day_before_everything_was_seen() {
        let now: Timestamp = "2026-03-09T12:00:00Z".parse().unwrap();
        let reached: Timestamp = "2026-03-05T12:00:00Z".parse().unwrap();
        let since = |reached| sliding_window(now, reached).since.to_string();
        assert_eq!(since(Some(reached)), "2026-03-04T12:00:00Z");
        assert_eq!(since(None), "2026-03-08T12:00:00Z");
    }
}
