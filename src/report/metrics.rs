//! Counters and gauges in the Prometheus text format, one registry for each app. Long: one table of metrics.
//!
//! Labels are names of ours or of the configuration, never anything that came in an event.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use tokio::time::Instant;

use crate::error::Class;
use crate::model::progress::Emit;
use crate::model::{EventClass, JobId, ProgressEvent, Record, State};

/// The media type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The source label for a webhook that names no source of ours.
pub const UNKNOWN_SOURCE: &str = "unknown";

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct SourceClass {
    source: String,
    class: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct SourceReason {
    source: String,
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfSource {
    source: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfTask {
    task: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfPeer {
    peer: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct SourceKind {
    source: String,
    kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct SourceResult {
    source: String,
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StageClass {
    stage: &'static str,
    class: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct InState {
    state: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Build {
    version: String,
}

/// A transfer that is going on.
struct Transfer {
    began: Instant,
    bytes_done: u64,
}

/// All metrics of one app.
pub struct Metrics {
    registry: Registry,
    events_received: Family<SourceClass, Counter>,
    events_misdirected: Family<OfSource, Counter>,
    webhook_duration_seconds: Histogram,
    webhooks_rejected: Family<SourceReason, Counter>,
    webhooks_refused_in_a_row: Family<OfSource, Gauge>,
    jobs: Family<InState, Gauge>,
    artifacts_archived: Family<SourceKind, Counter>,
    artifacts_failed: Family<SourceClass, Counter>,
    least_slack_seconds: Gauge<f64, AtomicU64>,
    manifests_overdue: Gauge,
    bytes_downloaded: Counter,
    bytes_uploaded: Counter,
    transfers_active: Gauge,
    transfer_duration_seconds: Histogram,
    retries: Family<StageClass, Counter>,
    remints: Family<SourceResult, Counter>,
    reconcile_found: Family<SourceClass, Counter>,
    reconcile_walks: Family<SourceResult, Counter>,
    webhook_reactivations: Family<SourceResult, Counter>,
    bucket_refuses: Gauge,
    task_restarts: Family<OfTask, Counter>,
    clock_offset_seconds: Family<OfPeer, Gauge>,
    transfers: Mutex<HashMap<JobId, Transfer>>,
}

impl Metrics {
    /// All metrics at zero; `version` goes into `build_info`.
    pub fn new(version: &str) -> Metrics {
        let mut metrics = Metrics {
            registry: Registry::with_prefix("harvester"),
            events_received: Family::default(),
            events_misdirected: Family::default(),
            webhook_duration_seconds: Histogram::new([
                0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
            ]),
            webhooks_rejected: Family::default(),
            webhooks_refused_in_a_row: Family::default(),
            jobs: Family::default(),
            artifacts_archived: Family::default(),
            artifacts_failed: Family::default(),
            least_slack_seconds: Gauge::default(),
            manifests_overdue: Gauge::default(),
            bytes_downloaded: Counter::default(),
            bytes_uploaded: Counter::default(),
            transfers_active: Gauge::default(),
            transfer_duration_seconds: Histogram::new([
                0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0,
            ]),
            retries: Family::default(),
            remints: Family::default(),
            reconcile_found: Family::default(),
            reconcile_walks: Family::default(),
            webhook_reactivations: Family::default(),
            bucket_refuses: Gauge::default(),
            task_restarts: Family::default(),
            clock_offset_seconds: Family::default(),
            transfers: Mutex::default(),
        };
        metrics.registry.register(
            "events_received",
            "Webhook events that were accepted, repeats included",
            metrics.events_received.clone(),
        );
        metrics.registry.register(
            "events_misdirected",
            "Webhook events that look like another provider's than their source's",
            metrics.events_misdirected.clone(),
        );
        metrics.registry.register(
            "webhook_duration_seconds",
            "From the header of a webhook to its answer",
            metrics.webhook_duration_seconds.clone(),
        );
        metrics.registry.register(
            "webhooks_rejected",
            "Webhooks that were not answered with 200",
            metrics.webhooks_rejected.clone(),
        );
        metrics.registry.register(
            "webhooks_refused_in_a_row",
            "Webhooks that were not answered with 200, since the last one that was",
            metrics.webhooks_refused_in_a_row.clone(),
        );
        metrics
            .registry
            .register("jobs", "Jobs in each state", metrics.jobs.clone());
        metrics.registry.register(
            "artifacts_archived",
            "Artifacts in the bucket and verified",
            metrics.artifacts_archived.clone(),
        );
        metrics.registry.register(
            "artifacts_failed",
            "Artifacts that were given up",
            metrics.artifacts_failed.clone(),
        );
        metrics.registry.register(
            "least_slack_seconds",
            "The smallest time left to begin an open job in time; NaN without one",
            metrics.least_slack_seconds.clone(),
        );
        metrics.registry.register(
            "manifests_overdue",
            "Complete recordings whose manifest could not be written for an hour",
            metrics.manifests_overdue.clone(),
        );
        metrics.registry.register(
            "bytes_downloaded",
            "Bytes read from origins",
            metrics.bytes_downloaded.clone(),
        );
        metrics.registry.register(
            "bytes_uploaded",
            "Bytes sent to the bucket",
            metrics.bytes_uploaded.clone(),
        );
        metrics.registry.register(
            "transfers_active",
            "Artifacts on their way",
            metrics.transfers_active.clone(),
        );
        metrics.registry.register(
            "transfer_duration_seconds",
            "From the start of the attempt that archived an artifact to its end",
            metrics.transfer_duration_seconds.clone(),
        );
        metrics.registry.register(
            "retries",
            "Attempts that failed and are followed by another",
            metrics.retries.clone(),
        );
        metrics.registry.register(
            "remints",
            "Fresh URLs that a provider was asked for",
            metrics.remints.clone(),
        );
        metrics.registry.register(
            "reconcile_found",
            "What a provider's lists told and no webhook had",
            metrics.reconcile_found.clone(),
        );
        metrics.registry.register(
            "reconcile_walks",
            "Walks over a provider's lists",
            metrics.reconcile_walks.clone(),
        );
        metrics.registry.register(
            "webhook_reactivations",
            "Webhooks that a provider had switched off and was asked to switch on again",
            metrics.webhook_reactivations.clone(),
        );
        metrics.registry.register(
            "bucket_refuses",
            "1 while the bucket refuses everything and the work is paused",
            metrics.bucket_refuses.clone(),
        );
        metrics.registry.register(
            "task_restarts",
            "Panics of the worker's long-lived tasks",
            metrics.task_restarts.clone(),
        );
        metrics.registry.register(
            "clock_offset_seconds",
            "By how much this machine's clock is ahead of a source's origins' or the bucket's",
            metrics.clock_offset_seconds.clone(),
        );
        metrics.registry.register(
            "build",
            "The running version",
            Info::new(Build {
                version: version.to_owned(),
            }),
        );
        metrics
    }

    /// An event of a configured source was accepted.
    pub fn event_received(&self, source: &str, class: EventClass) {
        self.events_received
            .get_or_create(&SourceClass {
                source: source.to_owned(),
                class: class.as_str(),
            })
            .inc();
    }

    /// An event came to a source of another provider.
    pub fn event_misdirected(&self, source: &str) {
        self.events_misdirected
            .get_or_create(&OfSource {
                source: source.to_owned(),
            })
            .inc();
    }

    /// A provider was asked for a fresh URL.
    pub fn reminted(&self, source: &str, is_fresh: bool) {
        self.remints
            .get_or_create(&SourceResult {
                source: source.to_owned(),
                result: if is_fresh { "fresh" } else { "failed" },
            })
            .inc();
    }

    /// Reconciling a source found something that no webhook had told.
    pub fn reconcile_found(&self, source: &str, class: EventClass) {
        self.reconcile_found
            .get_or_create(&SourceClass {
                source: source.to_owned(),
                class: class.as_str(),
            })
            .inc();
    }

    /// The lists of a source were walked, to their ends or not.
    pub fn reconcile_walked(&self, source: &str, is_whole: bool) {
        let result = of_result(source, is_whole);
        self.reconcile_walks.get_or_create(&result).inc();
    }

    /// A webhook was to be switched on again.
    pub fn webhook_reactivated(&self, source: &str, is_on: bool) {
        let result = of_result(source, is_on);
        self.webhook_reactivations.get_or_create(&result).inc();
    }

    /// A long-lived task panicked.
    pub fn task_restarted(&self, task: &str) {
        let task = OfTask {
            task: task.to_owned(),
        };
        self.task_restarts.get_or_create(&task).inc();
    }

    /// A webhook was refused; `source` is a configured one or [`UNKNOWN_SOURCE`].
    pub fn webhook_rejected(&self, source: &str, reason: &'static str) {
        self.webhooks_rejected
            .get_or_create(&SourceReason {
                source: source.to_owned(),
                reason,
            })
            .inc();
    }

    /// So many webhooks of a source were not answered with 200 since the last one that was.
    pub fn refused_in_a_row(&self, source: &str, count: u32) {
        self.webhooks_refused_in_a_row
            .get_or_create(&OfSource {
                source: source.to_owned(),
            })
            .set(i64::from(count));
    }

    /// A webhook was answered after that time.
    pub fn webhook_answered(&self, took: Duration) {
        self.webhook_duration_seconds.observe(took.as_secs_f64());
    }

    /// Hears of every event on its way to `next`. A subscriber of the progress stream may miss some,
    /// and counters that miss events are wrong for ever.
    pub fn before(self: &Arc<Self>, next: Emit) -> Emit {
        let metrics = Arc::clone(self);
        Arc::new(move |event| {
            metrics.observe(&event);
            next(event);
        })
    }

    /// Hears of progress.
    pub fn observe(&self, event: &ProgressEvent) {
        match event {
            ProgressEvent::Started { record } => self.started(record),
            ProgressEvent::Bytes { id, done, .. } => self.moved(*id, *done),
            ProgressEvent::Resumed { id, done, .. } => self.resumed(*id, *done),
            ProgressEvent::Retrying { id, class, .. } => {
                self.ended(*id);
                let stage = stage(*class);
                let class = class.as_str();
                self.retries
                    .get_or_create(&StageClass { stage, class })
                    .inc();
            }
            ProgressEvent::Settled { record } => self.settled(record),
            ProgressEvent::BucketRefuses { .. } => {
                self.bucket_refuses.set(1);
            }
            ProgressEvent::BucketAccepts => {
                self.bucket_refuses.set(0);
            }
            ProgressEvent::TaskRestarted { task } => {
                self.task_restarted(task);
            }
            ProgressEvent::ClockOffset { peer, seconds } => {
                let peer = OfPeer { peer: peer.clone() };
                self.clock_offset_seconds.get_or_create(&peer).set(*seconds);
            }
            ProgressEvent::Sealed { .. } => {}
        }
    }

    /// The text for a scraper, with the queue as it is now: jobs in each state, and the least slack among open
    /// ones in seconds.
    pub fn render(&self, jobs: &[(State, u64)], least_slack_seconds: Option<f64>) -> String {
        for state in State::ALL {
            let count = jobs.iter().find(|(of, _)| *of == state);
            self.jobs
                .get_or_create(&InState {
                    state: state.as_str(),
                })
                .set(count.map_or(0, |(_, count)| i64::try_from(*count).unwrap_or(i64::MAX)));
        }
        self.least_slack_seconds
            .set(least_slack_seconds.unwrap_or(f64::NAN));
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a String cannot fail");
        text
    }

    /// So many complete recordings could not be given their manifest for an hour.
    pub fn manifests_overdue(&self, count: usize) {
        self.manifests_overdue
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    fn started(&self, record: &Record) {
        let transfer = Transfer {
            began: Instant::now(),
            bytes_done: record.bytes_done,
        };
        let mut transfers = self.transfers();
        transfers.insert(record.id, transfer);
        self.show_active(&transfers);
    }

    fn moved(&self, id: JobId, done: u64) {
        let mut transfers = self.transfers();
        let Some(transfer) = transfers.get_mut(&id) else {
            return;
        };
        // Less than before: the transfer began anew.
        let gained = done.saturating_sub(transfer.bytes_done);
        transfer.bytes_done = done;
        // What is read goes straight on, so one number serves both.
        self.bytes_downloaded.inc_by(gained);
        self.bytes_uploaded.inc_by(gained);
    }

    /// What is in the bucket already does not move again.
    fn resumed(&self, id: JobId, done: u64) {
        if let Some(transfer) = self.transfers().get_mut(&id) {
            transfer.bytes_done = done;
        }
    }

    fn settled(&self, record: &Record) {
        if let Some(size_bytes) = record
            .size_bytes
            .filter(|_| record.state == State::Archived)
        {
            self.moved(record.id, size_bytes);
        }
        let transfer = self.ended(record.id);
        let source = record.source.clone();
        match record.state {
            State::Archived => {
                let kind = record.kind.as_str();
                self.artifacts_archived
                    .get_or_create(&SourceKind { source, kind })
                    .inc();
                if let Some(transfer) = transfer {
                    self.transfer_duration_seconds
                        .observe(transfer.began.elapsed().as_secs_f64());
                }
            }
            State::Expired | State::Failed => {
                let fallback = match record.state {
                    State::Expired => Class::Expired,
                    _ => Class::Internal,
                };
                let class = record.class.unwrap_or(fallback).as_str();
                self.artifacts_failed
                    .get_or_create(&SourceClass { source, class })
                    .inc();
            }
            State::Pending | State::Running | State::Cancelled => {}
        }
    }

    fn ended(&self, id: JobId) -> Option<Transfer> {
        let mut transfers = self.transfers();
        let transfer = transfers.remove(&id);
        self.show_active(&transfers);
        transfer
    }

    fn show_active(&self, transfers: &HashMap<JobId, Transfer>) {
        self.transfers_active
            .set(i64::try_from(transfers.len()).unwrap_or(i64::MAX));
    }

    fn transfers(&self) -> MutexGuard<'_, HashMap<JobId, Transfer>> {
        // Counts stay usable whatever happened to their last writer.
        self.transfers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The side on which a failure of this class happens.
fn stage(class: Class) -> &'static str {
    match class {
        Class::UploadDenied | Class::UploadFailed => "upload",
        Class::Internal => "internal",
        _ => "download",
    }
}

fn of_result(source: &str, is_ok: bool) -> SourceResult {
    SourceResult {
        source: source.to_owned(),
        result: if is_ok { "ok" } else { "failed" },
    }
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
