//! One attempt at one job, under its lease, to one outcome.

use tokio_util::sync::CancellationToken;

use super::lease::{Hold, LeaseLedger, persist};
use super::{Worker, lookup};
use crate::error::{Class, Error, Result};
use crate::model::{
    Archived, Artifact, Deadline, Job, JobId, Lookup, Origin, Outcome, ProgressEvent, Record,
    RecordingId,
};
use crate::schedule;
use crate::schedule::retry::{self, Decision};
use crate::store::{Claimed, Filter, Written};

/// How an attempt ended, as far as the shift has to know.
#[derive(Debug)]
pub(super) enum Ended {
    /// The outcome is written, or the lease was lost and the job is another's.
    Done,
    /// A lookup was answered: its files are jobs of this recording now.
    Resolved(RecordingId),
    /// The destination refuses; the job is back to `pending` and the attempt is not counted.
    Refused(Error),
}

/// What an attempt needs beside its job.
pub(super) struct Attempt {
    worker: Worker,
    hold: Hold,
    job: Job,
    /// Cancelled when a shutdown's grace is over.
    abandon: CancellationToken,
    /// Whether somebody waits for it at a terminal.
    is_foreground: bool,
}

/// What an attempt came to, when not to an error.
enum Fruit {
    Archived(Archived),
    Found(Vec<Artifact>),
}

/// A failed attempt, with what was true for the origin that failed.
struct Failure {
    error: Error,
    deadline: Deadline,
    can_remint: bool,
}

impl Failure {
    /// Of something that has no deadline and no other place to ask.
    fn of(error: Error) -> Failure {
        Failure {
            error,
            deadline: Deadline::NONE,
            can_remint: false,
        }
    }
}

impl Attempt {
    /// An attempt at what was claimed.
    pub(super) fn new(
        worker: Worker,
        hold: Hold,
        job: Job,
        abandon: CancellationToken,
        is_foreground: bool,
    ) -> Attempt {
        Attempt {
            worker,
            hold,
            job,
            abandon,
            is_foreground,
        }
    }

    /// Makes the attempt and writes its outcome.
    pub(super) async fn run(mut self, record: Record) -> Ended {
        if retry::is_spent(self.job.attempts, &self.worker.settings.retry) {
            return self.settle(spent(self.job.attempts)).await;
        }
        match self.work(record).await {
            Ok(Fruit::Archived(archived)) => self.settle(Outcome::Archived(archived)).await,
            Ok(Fruit::Found(found)) => self.resolve(found).await,
            Err(_) if self.hold.is_lost() => self.let_go().await,
            Err(_) if self.abandon.is_cancelled() => self.settle(self.handed_back()).await,
            Err(failure) => self.fail(failure).await,
        }
    }

    async fn work(&mut self, record: Record) -> Result<Fruit, Failure> {
        match &self.job.origin {
            Origin::Unusable(class, message) => {
                Err(Failure::of(Error::new(*class, message.clone())))
            }
            // Its files start bars of their own; the lookup itself moves no bytes.
            Origin::Lookup(lookup) => match self.ask(lookup).await {
                Ok(found) => Ok(Fruit::Found(found)),
                Err(error) => Err(Failure::of(error)),
            },
            Origin::Url(_) | Origin::Inline(_) => {
                (self.worker.emit)(ProgressEvent::Started { record });
                self.carry().await.map(Fruit::Archived)
            }
        }
    }

    /// Carries the file; asks for a fresh URL at most once, before or after trying the one we have.
    async fn carry(&mut self) -> Result<Archived, Failure> {
        let mut call = lookup::remint_call(&self.worker, &self.job);
        let can_remint = call.is_some();
        let mut no_fresh_url = None;
        let now = self.worker.clock.now();
        if schedule::needs_fresh_url(self.job.deadline, now, can_remint)
            && let Some(call) = call.take()
        {
            no_fresh_url = self.remint(&call).await.err();
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
            None => Failure {
                // A fresh URL that is refused too will not get better by asking once more.
                can_remint: can_remint && !is_refusal(&error),
                deadline: self.job.deadline,
                error,
            },
        })
    }

    async fn carry_once(&mut self) -> Result<Archived> {
        let ledger = LeaseLedger::new(&self.worker, &self.hold, self.job.checkpoint.clone());
        let access = self.worker.access.get(&self.job.source);
        let allow_hosts = access.map_or(&[][..], |access| &access.allow_hosts);
        let (emit, cancel) = (&self.worker.emit, self.hold.cancel());
        let engine = &self.worker.engine;
        let carried = engine
            .carry(&self.job, allow_hosts, &ledger, emit, cancel)
            .await;
        self.job.checkpoint = ledger.into_last();
        carried
    }

    fn wants_fresh_url(&self, error: &Error) -> bool {
        let decision = self.decide(error, self.job.deadline, true);
        decision == Decision::Remint && !self.hold.cancel().is_cancelled()
    }

    /// Replaces the URL by a fresh one.
    async fn remint(&mut self, call: &Lookup) -> Result<()> {
        let found = self.ask(call).await?;
        let fresh = lookup::matching(&self.job, found)?;
        let (store, lease) = (&self.worker.store, self.hold.lease());
        if persist(&self.worker, || store.reorigin(lease, &fresh)).await? == Written::Stale {
            self.hold.lose();
            return Err(Error::internal("keep the fresh URL: the lease is lost"));
        }
        tracing::info!(job = %self.job.id, name = self.job.name, "got a fresh URL");
        self.job.origin = fresh.origin;
        self.job.deadline = fresh.deadline;
        self.job.size_bytes = fresh.size_bytes.or(self.job.size_bytes);
        Ok(())
    }

    async fn ask(&self, call: &Lookup) -> Result<Vec<Artifact>> {
        tokio::select! {
            () = self.hold.cancel().cancelled() => Err(Error::transient(
                Class::Internal,
                "ask the provider's API: the worker is stopping",
            )),
            answer = lookup::ask(&self.worker, &self.job, call) => answer,
        }
    }

    async fn resolve(&self, found: Vec<Artifact>) -> Ended {
        let (store, lease) = (&self.worker.store, self.hold.lease());
        let now = self.worker.clock.now();
        match persist(&self.worker, || store.resolve(lease, found.clone(), now)).await {
            Ok(Written::Yes) => {
                self.worker.bell.notify_one();
                Ended::Resolved(self.job.recording_id)
            }
            Ok(Written::Stale) => self.let_go().await,
            Err(error) => self.unsettled(&error),
        }
    }

    async fn fail(&self, failure: Failure) -> Ended {
        let Failure {
            error,
            deadline,
            can_remint,
        } = failure;
        match self.decide(&error, deadline, can_remint) {
            Decision::PauseDestination { until, .. } => self.give_back(error, until).await,
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
        !self.is_foreground
            && error.class() == Class::UploadFailed
            && error.is_transient()
            && self.worker.objects.check_bucket().await.is_err()
    }

    async fn give_back(&self, error: Error, until: jiff::Timestamp) -> Ended {
        // The next `archive` of the same event should not have to wait.
        let at = if self.is_foreground {
            self.worker.clock.now()
        } else {
            until
        };
        match self.settle(again(&error, at, false)).await {
            Ended::Done => Ended::Refused(error),
            ended => ended,
        }
    }

    fn handed_back(&self) -> Outcome {
        Outcome::Retry {
            at: self.worker.clock.now(),
            class: Class::Internal,
            message: "go on: the worker was stopped, the next one continues".to_owned(),
            is_counted: false,
        }
    }

    fn decide(&self, error: &Error, deadline: Deadline, can_remint: bool) -> Decision {
        let facts = Facts {
            deadline,
            ..Facts::of(&self.job)
        };
        facts.decide(&self.worker, error, can_remint)
    }

    async fn settle(&self, outcome: Outcome) -> Ended {
        settle(&self.worker, &self.hold, &outcome).await
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

    fn unsettled(&self, error: &Error) -> Ended {
        unsettled(self.job.id, error)
    }
}

/// What the retry decision needs of a job; outlives the attempt's task, which may panic.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    number: u32,
    first_at: jiff::Timestamp,
    deadline: Deadline,
}

impl Facts {
    fn of(job: &Job) -> Facts {
        Facts {
            number: job.attempts,
            first_at: job.first_attempt_at,
            deadline: job.deadline,
        }
    }

    /// Of what was claimed.
    pub(super) fn of_claimed(claimed: &Claimed) -> Facts {
        Facts::of(&claimed.job)
    }

    fn decide(&self, worker: &Worker, error: &Error, can_remint: bool) -> Decision {
        let attempt = retry::Attempt {
            number: self.number,
            first_at: self.first_at,
            deadline: self.deadline,
            can_remint,
            now: worker.clock.now(),
            jitter: fastrand::f64(),
        };
        retry::decide(error, &attempt, &worker.settings.retry)
    }
}

/// Settles an attempt whose task has panicked: that attempt is lost, nothing else.
pub(super) async fn settle_panicked(worker: &Worker, hold: &Hold, facts: Facts) {
    let error = Error::transient(
        Class::Internal,
        "finish the attempt: it panicked (the log has the message)",
    );
    if let Decision::Settle(outcome) = facts.decide(worker, &error, false) {
        settle(worker, hold, &outcome).await;
    }
}

async fn settle(worker: &Worker, hold: &Hold, outcome: &Outcome) -> Ended {
    let (store, lease) = (&worker.store, hold.lease());
    let now = worker.clock.now();
    match persist(worker, || store.settle(lease, outcome, now)).await {
        Ok(Written::Yes) => log(lease.job, outcome),
        Ok(Written::Stale) => hold.lose(),
        Err(error) => return unsettled(lease.job, &error),
    }
    tell(worker, lease.job, outcome).await;
    Ended::Done
}

/// The lease runs out and the job is claimed again; what is in the bucket already is found there.
fn unsettled(job: JobId, error: &Error) -> Ended {
    tracing::error!(
        %job,
        "failed to store how the attempt ended, it will be made again: {}",
        error.full_message()
    );
    Ended::Done
}

fn log(job: JobId, outcome: &Outcome) {
    match outcome {
        Outcome::Archived(archived) => {
            tracing::info!(%job, key = archived.key, size_bytes = archived.size_bytes, "archived");
        }
        Outcome::Retry {
            at, class, message, ..
        } => {
            tracing::info!(%job, %class, next_attempt_at = %at, "attempt failed: {message}");
        }
        Outcome::Expired { message } => {
            tracing::warn!(%job, class = %Class::Expired, "artifact lost: {message}");
        }
        Outcome::Failed { class, message } => {
            tracing::warn!(%job, %class, "artifact lost: {message}");
        }
    }
}

/// Tells those who watch how the job stands after `outcome`, or after what overtook it.
async fn tell(worker: &Worker, id: JobId, outcome: &Outcome) {
    let filter = Filter {
        ids: vec![id.0],
        ..Filter::default()
    };
    let record = match persist(worker, || worker.store.list(&filter)).await {
        Ok(records) => records.into_iter().find(|record| record.id == id),
        Err(error) => {
            tracing::warn!(job = %id, "failed to read a record: {}", error.full_message());
            None
        }
    };
    let event = match (record, outcome) {
        (Some(record), _) if record.state.is_settled() => ProgressEvent::Settled { record },
        (
            _,
            Outcome::Retry {
                at, class, message, ..
            },
        ) => ProgressEvent::Retrying {
            id,
            class: *class,
            message: message.clone(),
            at: *at,
        },
        _ => return,
    };
    (worker.emit)(event);
}

fn again(error: &Error, at: jiff::Timestamp, is_counted: bool) -> Outcome {
    Outcome::Retry {
        at,
        class: error.class(),
        message: error.full_message(),
        is_counted,
    }
}

fn spent(attempts: u32) -> Outcome {
    Outcome::Failed {
        class: Class::Internal,
        message: format!(
            "finish any of {} attempts: each ended without a word, as when the process is killed",
            attempts.saturating_sub(1)
        ),
    }
}

fn is_refusal(error: &Error) -> bool {
    matches!(error.class(), Class::Denied | Class::Expired)
}

/// What a failure is when a fresh URL was asked for in vain. If asking may work later, that is what
/// the job waits for; otherwise the origin's own answer stands.
fn without_fresh_url(error: Error, refusal: Error, deadline: Deadline) -> Failure {
    let message = format!(
        "{}; failed to get a fresh URL: {}",
        error.full_message(),
        refusal.full_message()
    );
    let is_unopened =
        is_refusal(&error) || matches!(error.class(), Class::Unreachable | Class::Throttled);
    if is_unopened && refusal.is_transient() {
        let wait = refusal.retry_after();
        return Failure::of(Error::transient(refusal.class(), message).with_retry_after(wait));
    }
    let combined = if error.is_transient() {
        Error::transient(error.class(), message).with_retry_after(error.retry_after())
    } else {
        Error::new(error.class(), message)
    };
    Failure {
        error: combined,
        deadline,
        can_remint: false,
    }
}
