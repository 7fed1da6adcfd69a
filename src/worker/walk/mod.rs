//! Walking over a provider's lists: what exists there and is not known here becomes jobs.
//!
//! A walk may be cut short anywhere and made again from the start: what is known is passed over. So a list that
//! changes while it is read costs at most a page read twice, and nothing is stored about the middle of a walk.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::{SourceAccess, lookup};
use crate::clock::SharedClock;
use crate::error::{Class, Error, Result};
use crate::ingest::hooks::{self, Hook};
use crate::ingest::list::{self, Window};
use crate::model::{Event, JobId, Layout, Provider};
use crate::source::Source;
use crate::store::JobStore;
use pass::Walk;

mod absent;
mod known;
mod pass;

pub use absent::Absent;

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
