//! One attempt at one job, under its lease, to one outcome.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use self::failure::{AttemptFailure, is_refusal, without_fresh_url};
use super::clocks::{self, Clocks};
use super::destination::BucketTrust;
use super::document::event_document;
use super::hold::LeaseGuard;
use super::lease::{LeaseLedger, persist};
use super::settle::{self, Circumstances, JobFacts, again, settle, tell};
use super::{Worker, lookup};
use crate::error::{Class, Error, Result};
use crate::model::progress::Emit;
use crate::model::{
    Archived, Artifact, Deadline, Job, Lookup, Origin, Outcome, ProgressEvent, Record, RecordingId,
    State,
};
use crate::schedule;
use crate::schedule::retry::{self, Decision};
use crate::store::LeaseWrite;
use crate::worker::completing::Aside;

mod failure;

/// How long a fresh URL is waited for while the old one is near its end but alive.
const NEAR_PATIENCE: Duration = Duration::from_secs(30);

/// How an attempt ended, as far as the runner has to know.
#[derive(Debug)]
pub(super) enum Ended {
    /// It is in the bucket, and that is written; its record.
    Archived(Arc<Record>),
    /// It is given up, and that is written.
    Lost,
    /// It is to be tried again, not before this.
    Later(Timestamp),
    /// The lease was lost, and the job is another's; or how it ended could not be written.
    Done,
    /// A lookup was answered: its files are jobs of this recording now.
    Resolved(RecordingId),
    /// The destination refuses; the job is back to `pending` and the attempt is not counted.
    Refused(Error),
}

/// What an attempt needs beside its job.
pub(super) struct AttemptContext {
    worker: Worker,
    hold: LeaseGuard,
    job: Job,
    facts: JobFacts,
    /// As it was claimed, while nothing but its state has changed.
    record: Option<Arc<Record>>,
    around: Surroundings,
}

/// What all attempts of a run have in common, and the lane that this one has a place in.
#[derive(Clone)]
pub(super) struct Surroundings {
    /// Cancelled when a shutdown's grace is over.
    pub(super) abandon: CancellationToken,
    /// Whether somebody waits for it at a terminal.
    pub(super) is_foreground: bool,
    /// Where those go that only wait for the store.
    pub(super) aside: Arc<Aside>,
    /// What is known of the bucket.
    pub(super) bucket: Arc<BucketTrust>,
    /// Whose clocks are off.
    pub(super) clocks: Arc<Clocks>,
    pub(super) is_small: bool,
}

/// What an attempt came to, when not to an error.
enum AttemptResult {
    Archived(Archived),
    Found(Vec<Artifact>),
}

impl AttemptContext {
    /// An attempt at what was claimed.
    pub(super) fn new(
        worker: Worker,
        hold: LeaseGuard,
        job: Job,
        facts: JobFacts,
        around: Surroundings,
    ) -> AttemptContext {
        AttemptContext {
            worker,
            hold,
            job,
            facts,
            record: None,
            around,
        }
    }

    /// Makes the attempt and writes its outcome.
    pub(super) async fn run(mut self, record: Record) -> Ended {
        match self.work_unless_stuck(record).await {
            Ok(AttemptResult::Archived(archived)) => self.settle(Outcome::Archived(archived)).await,
            Ok(AttemptResult::Found(found)) => self.resolve(found).await,
            Err(_) if self.hold.is_lost() => self.let_go().await,
            Err(_) if self.hold.is_stuck() => self.fail(AttemptFailure::of(self.stuck())).await,
            Err(_) if self.around.abandon.is_cancelled() => self.settle(self.handed_back()).await,
            Err(failure) => self.fail(failure).await,
        }
    }

    /// One that is stuck is cancelled, and dropped where it is if it does not stop.
    async fn work_unless_stuck(&mut self, record: Record) -> Result<AttemptResult, AttemptFailure> {
        let stuck = self.hold.watch();
        tokio::select! {
            worked = self.work(record) => worked,
            () = stuck.is_stuck_for_good() => Err(AttemptFailure::of(Error::internal("stop in time"))),
        }
    }

    fn stuck(&self) -> Error {
        let minutes = self.hold.silence().as_secs_f64() / 60.0;
        Error::transient(
            Class::Internal,
            format!("go on: no progress for {minutes:.1} minutes, so the attempt was cancelled"),
        )
    }

    async fn work(&mut self, record: Record) -> Result<AttemptResult, AttemptFailure> {
        match &self.job.origin {
            Origin::Unusable(class, message) => {
                Err(AttemptFailure::of(Error::new(*class, message.clone())))
            }
            // Its files start bars of their own; the lookup itself moves no bytes.
            Origin::Lookup(lookup) => match self.look_up(lookup).await {
                Ok(found) => Ok(AttemptResult::Found(found)),
                Err(error) => Err(AttemptFailure::of(error)),
            },
            Origin::Url(_) | Origin::Inline(_) | Origin::Event => {
                let record = Arc::new(record);
                self.record = Some(Arc::clone(&record));
                (self.worker.emit)(ProgressEvent::Started { record });
                self.carry().await.map(AttemptResult::Archived)
            }
        }
    }

    /// Carries the file. A fresh URL is asked for at most once instead of one that is dead, and at most once more ahead
    /// of time.
    async fn carry(&mut self) -> Result<Archived, AttemptFailure> {
        let mut call = lookup::remint_call(&self.worker, &self.job);
        let can_remint = call.is_some();
        let mut no_fresh_url = None;
        let now = self.worker.clock.now();
        let (deadline, is_started) = (self.job.deadline, self.job.checkpoint.is_some());
        if schedule::needs_fresh_url(deadline, now, can_remint, is_started) {
            no_fresh_url = match deadline.is_past(now) {
                true => match call.take() {
                    Some(call) => self.remint(&call).await.err(),
                    None => None,
                },
                false => {
                    self.remint_in_time(call.as_ref()).await;
                    None
                }
            };
        }
        // Also past the deadline: our clock may be wrong, only the origin's answer says `expired`.
        let mut error = match self.carry_once().await {
            Ok(archived) => return Ok(archived),
            Err(error) => error,
        };
        if self.wants_fresh_url(&error)
            && let Some(call) = call.take()
        {
            match self.remint(&call).await {
                Ok(()) => match self.carry_once().await {
                    Ok(archived) => return Ok(archived),
                    Err(second) => error = second,
                },
                Err(refusal) => no_fresh_url = Some(refusal),
            }
        }
        Err(match no_fresh_url {
            Some(refusal) => without_fresh_url(error, refusal, self.job.deadline),
            None => AttemptFailure {
                // A fresh URL that is refused too will not get better by asking once more.
                can_remint: can_remint && !is_refusal(&error),
                deadline: self.job.deadline,
                error,
            },
        })
    }

    async fn carry_once(&mut self) -> Result<Archived> {
        let mut _room = None;
        if self.job.origin == Origin::Event {
            let document = event_document(&self.worker, &self.hold, &self.job);
            let (text, room) = document.await?;
            (self.job.origin, _room) = (Origin::Inline(text), room);
        }
        let ledger = LeaseLedger::new(&self.worker, &self.hold, self.job.checkpoint.clone());
        let access = self.worker.access.get(&self.job.source);
        let allow_hosts = access.map_or(&[][..], |access| &access.allow_hosts);
        // Whatever a transfer tells shows that it moves.
        let (pulse, inner) = (self.hold.pulse().clone(), Arc::clone(&self.worker.emit));
        let emit: Emit = Arc::new(move |event| {
            pulse.tell();
            inner(event);
        });
        let engine = &self.worker.engine;
        let carried = engine
            .carry(&self.job, allow_hosts, &ledger, &emit, self.hold.cancel())
            .await;
        self.job.checkpoint = ledger.into_last();
        self.note_clocks();
        carried
    }

    /// By how much our clock is ahead of the origin's, as far as its answers told.
    fn ahead_of_origin(&self) -> Option<SignedDuration> {
        match &self.job.origin {
            Origin::Url(url) => self.worker.source.clock_offset(url),
            _ => None,
        }
    }

    fn note_clocks(&self) {
        let told = &self.around.clocks;
        if let Some(ahead) = self.ahead_of_origin() {
            told.note(&self.worker, &self.job.source, ahead);
        }
        if let Some(ahead) = self.worker.objects.clock_offset() {
            told.note(&self.worker, clocks::BUCKET, ahead);
        }
    }

    fn wants_fresh_url(&self, error: &Error) -> bool {
        let decision = self.decide(error, self.job.deadline, true);
        decision == Decision::Remint && !self.hold.cancel().is_cancelled()
    }

    /// Tries to replace a URL that is near its end. An API that keeps us waiting must not cost what still
    /// lives, and one that refuses now is asked again when the old URL is.
    async fn remint_in_time(&mut self, call: Option<&Lookup>) {
        let Some(call) = call else { return };
        let id = self.job.id;
        match tokio::time::timeout(NEAR_PATIENCE, self.remint(call)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::info!(job = %id, "no fresh URL yet: {}", error.full_message());
            }
            Err(_) => tracing::info!(job = %id, "no fresh URL yet: the API keeps us waiting"),
        }
    }

    /// Replaces the URL by a fresh one.
    async fn remint(&mut self, call: &Lookup) -> Result<()> {
        let reminted = self.try_remint(call).await;
        let access = self.worker.access.get(&self.job.source);
        if let Some(count) = access.and_then(|access| access.on_remint.0.as_ref()) {
            count(reminted.is_ok());
        }
        reminted
    }

    async fn try_remint(&mut self, call: &Lookup) -> Result<()> {
        let found = self.ask(call).await?;
        let mut fresh = lookup::matching(&self.job, call, found)?;
        // 100ms lists assets before it signs one: what was listed is asked for in turn, once.
        if let Origin::Lookup(next) = &fresh.origin {
            let next = next.clone();
            let found = self.ask(&next).await?;
            fresh = lookup::matching(&self.job, &next, found)?;
        }
        if matches!(fresh.origin, Origin::Lookup(_)) {
            return Err(Error::invalid(format!(
                "get a fresh URL of {}: the answers only name other lookups",
                self.job.name
            )));
        }
        let (store, lease) = (&self.worker.store, self.hold.lease());
        if persist(&self.worker, || store.reorigin(lease, &fresh)).await? == LeaseWrite::Stale {
            self.hold.lose();
            return Err(Error::internal("keep the fresh URL: the lease is lost"));
        }
        tracing::info!(job = %self.job.id, name = self.job.name, "got a fresh URL");
        self.job.origin = fresh.origin;
        self.record = None;
        self.job.deadline = fresh.deadline;
        self.job.size_bytes = fresh.size_bytes.or(self.job.size_bytes);
        Ok(())
    }

    async fn ask(&self, call: &Lookup) -> Result<Vec<Artifact>> {
        self.hold.pulse().tell();
        lookup::heeding(
            &self.hold,
            lookup::ask(&self.worker, &self.hold, &self.job, call),
        )
        .await
    }

    async fn look_up(&self, call: &Lookup) -> Result<Vec<Artifact>> {
        self.hold.pulse().tell();
        lookup::files(&self.worker, &self.hold, &self.job, call).await
    }

    async fn resolve(&self, found: Vec<Artifact>) -> Ended {
        let (store, lease) = (&self.worker.store, self.hold.lease());
        let now = self.worker.clock.now();
        match persist(&self.worker, || store.resolve(lease, found.clone(), now)).await {
            Ok(LeaseWrite::Yes) => {
                self.worker.bell.notify_one();
                Ended::Resolved(self.job.recording_id)
            }
            Ok(LeaseWrite::Stale) => self.let_go().await,
            Err(error) => {
                settle::complain(self.job.id, &error);
                Ended::Done
            }
        }
    }

    async fn fail(&mut self, failure: AttemptFailure) -> Ended {
        let AttemptFailure {
            error,
            deadline,
            can_remint,
        } = failure;
        match self.decide(&error, deadline, can_remint) {
            Decision::PauseDestination { until, .. } => {
                if self.around.bucket.refuses_all(&self.worker).await {
                    return self.give_back(error, until).await;
                }
                let own = self.facts.with_deadline(deadline);
                let outcome = own.decide_own_denial(&self.worker, &error);
                self.settle(outcome).await
            }
            Decision::Settle(_) if self.is_bucket_down(&error).await => {
                let until =
                    retry::pause_until(self.worker.clock.now(), &self.worker.settings.retry);
                self.give_back(error, until).await
            }
            Decision::Settle(outcome) => self.settle(outcome).await,
            // Asked for already in this attempt, so that only a change in between can lead here.
            Decision::Remint => {
                let at = self.worker.clock.now();
                self.settle(again(&error, at, true)).await
            }
        }
    }

    /// Whether the bucket as a whole does not answer, so that the failure is not this job's.
    async fn is_bucket_down(&self, error: &Error) -> bool {
        // At a terminal a bounded number of tries says more than a silent wait.
        !self.around.is_foreground
            && error.class() == Class::UploadFailed
            && error.is_transient()
            && self.worker.objects.check_bucket().await.is_err()
    }

    async fn give_back(&mut self, error: Error, until: Timestamp) -> Ended {
        // The next `archive` of the same event should not have to wait.
        let at = if self.around.is_foreground {
            self.worker.clock.now()
        } else {
            until
        };
        self.settle(again(&error, at, false)).await;
        Ended::Refused(error)
    }

    fn handed_back(&self) -> Outcome {
        Outcome::Retry {
            at: self.worker.clock.now(),
            class: Class::Internal,
            message: "stopped with the worker; the next start goes on with it".to_owned(),
            is_counted: false,
        }
    }

    fn decide(&self, error: &Error, deadline: Deadline, can_remint: bool) -> Decision {
        let circumstances = Circumstances {
            can_remint,
            ahead: self.ahead_of_origin().unwrap_or_default(),
        };
        let facts = self.facts.with_deadline(deadline);
        facts.decide(&self.worker, error, circumstances)
    }

    async fn settle(&mut self, outcome: Outcome) -> Ended {
        let Surroundings {
            aside, is_small, ..
        } = &self.around;
        let is_carried = outcome.state() == State::Archived;
        let _aside = is_carried.then(|| aside.step(*is_small));
        let record = self.record.take();
        let settled = settle(&self.worker, &self.hold, &outcome, record).await;
        // As it was written: a fresh event may have made another attempt of it, which goes on with the upload.
        let is_lost = settled
            .as_ref()
            .is_some_and(|record| matches!(record.state, State::Failed | State::Expired));
        if let Some(checkpoint) = self.job.checkpoint.as_ref().filter(|_| is_lost)
            && !self.hold.is_lost()
        {
            self.worker.engine.abandon(&self.job, checkpoint).await;
        }
        match settled {
            Some(record) if record.state == State::Archived => Ended::Archived(record),
            Some(_) => Ended::Lost,
            None => match outcome {
                Outcome::Retry { at, .. } => Ended::Later(at),
                _ => Ended::Done,
            },
        }
    }

    /// The job is another's: only those who watch have to hear of it.
    async fn let_go(&self) -> Ended {
        let id = self.job.id;
        tracing::info!(job = %id, name = self.job.name, "the lease is lost, the transfer stops");
        let outcome = again(
            &Error::internal("go on: another worker has taken over"),
            self.worker.clock.now(),
            false,
        );
        tell(&self.worker, id, &outcome).await;
        Ended::Done
    }
}
