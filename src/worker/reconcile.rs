//! Finds what no webhook told: regularly walks each source's lists, and looks whether its webhook still sends.
//!
//! The store hands the walk of a source to one worker at a time, and remembers up to when everything was seen: a
//! worker that was down for days looks back over those days.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::supervise::supervise;
use super::{lookup, question};
use crate::error::{Error, Result};
use crate::ingest::hooks::{self, Hook, HookState};
use crate::model::EventClass;
use crate::model::progress::Emit;
use crate::store::{ScanStore, WalkTurn};
use crate::worker::scan::{KnownRecording, Purpose, ScannedSource, Walked, Walker, sliding_window};

/// A walk that does not show up for this long has died with its worker.
const LEASE: SignedDuration = SignedDuration::from_mins(2);

/// How often the lease of a walk is renewed.
const RENEWAL: Duration = Duration::from_secs(30);

/// A source that is reconciled.
#[derive(Clone, Debug)]
pub struct Reconciled {
    /// Whose lists.
    pub subject: ScannedSource,
    /// How often.
    pub every: Duration,
    /// Whether a webhook that the provider has switched off may be switched on again.
    pub reactivate_webhook: bool,
    /// Rings when its lists are to be walked at once.
    pub alarm: Arc<Notify>,
}

/// The bells of the sources that may be rung for a walk, by the sources' names. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Alarms(Arc<Mutex<HashMap<String, Arc<Notify>>>>);

impl Alarms {
    /// The bell of `source`.
    pub fn of(&self, source: &str) -> Arc<Notify> {
        let mut bells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(bells.entry(source.to_owned()).or_default())
    }
}

/// What a reconciler has done, for whoever counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReconcileStep {
    /// Recorded something that no webhook had told.
    Found(EventClass),
    /// Walked over the lists: whether to their ends.
    Walked(bool),
    /// Asked for a webhook to be switched on again: whether it is.
    Reactivated(bool),
    /// Panicked, and begins again.
    Restarted,
}

/// Hears of what was done, with the source's name.
pub type OnDone = Arc<dyn Fn(&str, ReconcileStep) + Send + Sync>;

/// Reconciles sources until it is told to stop.
#[derive(Clone)]
pub struct Reconciler {
    /// Walks.
    pub walker: Walker,
    /// Whose turn it is, and how far the walks came.
    pub store: Arc<dyn ScanStore>,
    /// The name under which walks are held.
    pub name: String,
    /// The sources.
    pub sources: Vec<Reconciled>,
    /// Rings when jobs were recorded.
    pub bell: Arc<Notify>,
    /// Counts.
    pub on_done: OnDone,
}

impl Reconciler {
    /// Walks each source now and then every so often, until `shutdown`.
    ///
    /// # Errors
    /// `internal` when the walk of a source panics again and again. What else fails is logged and tried again at the
    /// next time.
    pub async fn run(self, shutdown: CancellationToken) -> Result<()> {
        let mut tasks = JoinSet::new();
        for source in self.sources.clone() {
            tasks.spawn(self.clone().keep_going(source, shutdown.clone()));
        }
        while let Some(ended) = tasks.join_next().await {
            ended.map_err(|error| Error::internal("reconcile a source").with_source(error))??;
        }
        Ok(())
    }

    /// Starts the walks of a source again after a panic.
    async fn keep_going(self, source: Reconciled, shutdown: CancellationToken) -> Result<()> {
        let name = source.subject.name.clone();
        let task = format!("reconciler of {name}");
        let on_done = Arc::clone(&self.on_done);
        let restarted: Emit = Arc::new(move |_| on_done(&name, ReconcileStep::Restarted));
        let stop = shutdown.clone();
        supervise(&task, &restarted, &stop, move || {
            self.clone().keep(source.clone(), shutdown.clone())
        })
        .await
    }

    async fn keep(self, source: Reconciled, shutdown: CancellationToken) {
        let name = &source.subject.name;
        while !shutdown.is_cancelled() {
            let trouble = match self.once(&source, &shutdown).await {
                Ok(None) => None,
                Ok(Some(walked)) => {
                    if walked.new + walked.failures > 0 {
                        tracing::info!(
                            source = name,
                            new = walked.new,
                            failures = walked.failures,
                            "found what no webhook told"
                        );
                    }
                    walked.trouble
                }
                Err(error) => Some(error),
            };
            if let Some(error) = trouble.filter(|_| !shutdown.is_cancelled()) {
                tracing::warn!(
                    source = name,
                    class = error.class().as_str(),
                    "failed to reconcile, trying again in {:?}: {}",
                    source.every,
                    error.full_message()
                );
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(source.every) => {}
                () = source.alarm.notified() => {
                    tracing::info!(source = name, "the provider alerts: looking at its lists now");
                }
            }
        }
    }

    /// One walk and one look at the webhooks; `None` while another worker walks.
    ///
    /// # Errors
    /// When the store fails; what the walk met with is in what it came to.
    pub async fn once(
        &self,
        source: &Reconciled,
        shutdown: &CancellationToken,
    ) -> Result<Option<Walked>> {
        let began = self.walker.clock.now();
        let WalkTurn::Ours { reached } = self.turn(source, began).await? else {
            return Ok(None);
        };
        let walked = tokio::select! {
            walked = self.walk(source, began, reached, shutdown) => walked,
            lost = self.renew(source) => Walked { trouble: Some(lost), ..Walked::default() },
        };
        let name = &source.subject.name;
        let is_whole = walked.trouble.is_none();
        if !shutdown.is_cancelled() {
            (self.on_done)(name, ReconcileStep::Walked(is_whole));
        }
        let reached = is_whole.then_some(began);
        self.store.end_walk(name, &self.name, reached).await?;
        if let Err(error) = self.look_at_hooks(source).await {
            tracing::warn!(
                source = name,
                "failed to look at the provider's webhooks: {}",
                error.full_message()
            );
        }
        Ok(Some(walked))
    }

    async fn walk(
        &self,
        source: &Reconciled,
        now: Timestamp,
        reached: Option<Timestamp>,
        shutdown: &CancellationToken,
    ) -> Walked {
        let purpose = Purpose {
            window: sliding_window(now, reached),
            is_dry_run: false,
            is_thorough: false,
        };
        let name = &source.subject.name;
        let mut on_sighting = |sighting: &super::scan::FoundRecording| {
            if sighting.is_recorded {
                match sighting.standing {
                    KnownRecording::Lost => tracing::info!(
                        source = name,
                        jobs = sighting.jobs.len(),
                        "the provider still lists what was lost here: trying it again"
                    ),
                    _ => (self.on_done)(name, ReconcileStep::Found(sighting.event.class)),
                }
                self.bell.notify_one();
            }
            Ok(())
        };
        self.walker
            .walk(&source.subject, &purpose, &mut on_sighting, shutdown)
            .await
    }

    async fn turn(&self, source: &Reconciled, now: Timestamp) -> Result<WalkTurn> {
        let until = now.saturating_add(LEASE).unwrap_or(Timestamp::MAX);
        let store = &self.store;
        store
            .begin_walk(&source.subject.name, &self.name, now, until)
            .await
    }

    /// Ends only when the walk is another's.
    async fn renew(&self, source: &Reconciled) -> Error {
        loop {
            tokio::time::sleep(RENEWAL).await;
            let now = self.walker.clock.now();
            match self.turn(source, now).await {
                Ok(WalkTurn::Others) => {
                    return Error::internal("walk over the lists: another worker has taken over");
                }
                Ok(WalkTurn::Ours { .. }) => {}
                Err(error) => tracing::warn!("failed to hold a walk: {}", error.full_message()),
            }
        }
    }

    /// Webhooks that lead here are switched on again where that is allowed; those that lead elsewhere are somebody
    /// else's, who may have meant it.
    async fn look_at_hooks(&self, source: &Reconciled) -> Result<()> {
        let Some(hooks) = self.walker.hooks(&source.subject).await? else {
            return Ok(());
        };
        let subject = &source.subject;
        let (name, provider) = (&subject.name, subject.provider);
        for hook in hooks {
            let url = &hook.shown_url;
            if hook.state != HookState::Failed {
                continue;
            }
            if !hook.leads_to(name) {
                tracing::warn!(
                    source = name,
                    "{provider} has switched off the webhook to {url}, which is not that of this source: it stays off"
                );
            } else if !source.reactivate_webhook {
                tracing::error!(
                    source = name,
                    "{provider} has switched off the webhook to {url} after failures and sends nothing any more: set \
                     sources.{name}.reactivate_webhook = true, or switch it on there"
                );
            } else {
                self.revive(subject, &hook).await;
            }
        }
        Ok(())
    }

    async fn revive(&self, subject: &ScannedSource, hook: &Hook) {
        let (name, provider, url) = (&subject.name, subject.provider, &hook.shown_url);
        let revived = self.reactivate(subject, hook).await;
        (self.on_done)(name, ReconcileStep::Reactivated(revived.is_ok()));
        match revived {
            Ok(()) => tracing::warn!(
                source = name,
                "{provider} had switched off the webhook to {url} after failures: it is on again"
            ),
            Err(error) => tracing::error!(
                source = name,
                class = error.class().as_str(),
                "{provider} has switched off the webhook to {url} after failures, and it could not be switched on \
                 again: {}",
                error.full_message()
            ),
        }
    }

    async fn reactivate(&self, subject: &ScannedSource, hook: &Hook) -> Result<()> {
        let (provider, access) = (subject.provider, &subject.access);
        let request = hooks::reactivate_request(provider, hook, &access.credentials)
            .map_err(|error| lookup::name_the_source(error, &subject.name))?;
        let response = question::call(self.walker.source.as_ref(), access, &request).await?;
        hooks::reactivate_answer(provider, &response)
    }
}
