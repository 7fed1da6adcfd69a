//! The one place where the parts of the harvester are put together.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use uuid::Uuid;

use crate::clock::SharedClock;
use crate::config::{Config, HlsKeysConfig, LimitsConfig};
use crate::error::Result;
use crate::model::api::Credentials;
use crate::model::progress::Emit;
use crate::model::{Layout, key};
use crate::object::embedded::EmbeddedS3;
use crate::report::metrics::Metrics;
use crate::report::progress::ProgressStream;
use crate::schedule::retry::RetrySettings;
use crate::source::Source;
use crate::source::guard::{Guard, GuardSettings};
use crate::source::http::{HttpSettings, HttpSource};
use crate::source::throttle::{RateWindow, ThrottleSettings};
use crate::store::sqlite::SqliteStore;
use crate::store::{JobStore, ProcessLock};
use crate::transfer::hls::{HlsKeys, HlsSettings};
use crate::transfer::{Engine, TransferSettings};
use crate::worker::reconcile::{Alarms, ReconcileStep, Reconciled, Reconciler};
use crate::worker::scan::{Absent, ScannedSource, Walker};
use crate::worker::{
    ApiPace, EventDocuments, OnRemint, PaceSettings, SourceAccess, Worker, WorkerSettings,
};
pub(crate) use buckets::BucketConnector;
use buckets::upload_options;
pub use buckets::{ArchiveTarget, Embedded};

mod buckets;

/// Events that a slow watcher may be behind before it loses some.
const PROGRESS_CAPACITY: usize = 1024;

/// What the commands share: the state, and who hears of what happens to it.
pub struct App {
    /// The configuration that it was built from.
    pub config: Config,
    /// The durable state.
    pub store: Arc<dyn JobStore>,
    /// How keys are made.
    pub layout: Layout,
    /// What time it is.
    pub clock: SharedClock,
    /// The live stream.
    pub progress: ProgressStream,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Rings when jobs were recorded in this process.
    pub bell: Arc<Notify>,
    /// Ring when a source's lists are to be walked at once.
    pub alarms: Alarms,
    /// The name under which this process holds leases.
    name: String,
    /// Shows that it lives.
    _alive: ProcessLock,
}

impl App {
    /// Opens the store, making it if it is missing, and lets go what processes that died had leased.
    ///
    /// # Errors
    /// When it can't be opened, is damaged or of a newer version.
    pub async fn open(config: Config, clock: SharedClock) -> Result<App> {
        let store: Arc<dyn JobStore> = Arc::new(SqliteStore::open(&config.store_path()).await?);
        let name = process_name();
        let alive = store.show_alive(&name).await?;
        let freed = store.free_leases_of_the_dead().await?;
        if freed > 0 {
            tracing::warn!(jobs = freed, "went on with the jobs of a process that died");
        }
        Ok(App {
            name,
            _alive: alive,
            store,
            layout: Layout::new(&config.archive.prefix, &config.archive.template)?,
            config,
            clock,
            progress: ProgressStream::new(PROGRESS_CAPACITY),
            metrics: Arc::new(Metrics::new(env!("CARGO_PKG_VERSION"))),
            bell: Arc::new(Notify::new()),
            alarms: Alarms::default(),
        })
    }

    /// Connects to the configured bucket, or starts the embedded server.
    ///
    /// # Errors
    /// `upload_denied` without credentials or region; `invalid` when the embedded server's port is taken.
    pub async fn destination(&self, embedded: Embedded) -> Result<ArchiveTarget> {
        let places = BucketConnector {
            config: &self.config,
            clock: &self.clock,
        };
        places.destination(embedded).await
    }

    /// A worker that carries to `destination`. `listeners` are the addresses of this process that no
    /// origin may be at.
    ///
    /// # Errors
    /// `internal` when TLS can't be set up.
    pub fn worker(
        &self,
        destination: &ArchiveTarget,
        listeners: &[SocketAddr],
        grace: Duration,
    ) -> Result<Worker> {
        let limits = &self.config.limits;
        let source = self.source(destination, listeners)?;
        let transfer = TransferSettings {
            memory_bytes: limits.memory.0,
            lanes: limits.lanes,
            all_lanes: limits.all_lanes,
            surge: limits.surge,
            max_object_bytes: limits.max_object.0,
            prefix: self.config.archive.prefix.trim_matches('/').to_owned(),
            sha256: self.config.archive.sha256,
            disposition: self.config.archive.disposition.clone(),
            hls: self.hls(),
            ..TransferSettings::default()
        };
        let objects = Arc::clone(&destination.objects);
        Ok(Worker {
            store: self.store.clone(),
            engine: Engine::new(Arc::clone(&source), Arc::clone(&objects), transfer)
                .with_clock(Arc::clone(&self.clock)),
            source,
            objects,
            clock: Arc::clone(&self.clock),
            access: Arc::new(self.access()),
            emit: self.emit(),
            settings: WorkerSettings {
                name: self.name.clone(),
                transfers: limits.transfers,
                small_transfers: limits.small_transfers,
                lease: Duration::from_secs(60),
                heartbeat: Duration::from_secs(15),
                // The slowest part that an upload may have takes less.
                silence: Duration::from_secs(30 * 60),
                grace,
                poll: Duration::from_secs(2),
                retry: RetrySettings::default(),
            },
            bell: Arc::clone(&self.bell),
        })
    }

    /// What is allowed to be fetched.
    pub fn guard(config: &Config, listeners: &[SocketAddr]) -> Guard {
        let configured = [
            config.listen,
            config.admin.listen,
            config.archive.embedded_listen,
        ];
        let forbidden = configured.iter().chain(listeners);
        Guard::new(GuardSettings {
            allow_networks: config.guard.allow_networks.clone(),
            allow_http: config.guard.allow_http,
            forbidden: forbidden
                .copied()
                .filter(|address| address.port() != 0)
                .collect(),
        })
    }

    /// Whether the bucket takes the options that uploads are to have, if any.
    ///
    /// # Errors
    /// `upload_denied` when it does not. What may pass is the transfers' to meet.
    pub async fn check_options(&self, destination: &ArchiveTarget) -> Result<()> {
        if !upload_options(&self.config.archive).are_set() {
            return Ok(());
        }
        match destination.check().await {
            Err(error) if !error.is_transient() => Err(error),
            _ => Ok(()),
        }
    }

    /// Puts the store away. What was acknowledged is safe without it, too.
    pub async fn close(self) {
        self.store.close().await;
    }

    fn source(
        &self,
        destination: &ArchiveTarget,
        listeners: &[SocketAddr],
    ) -> Result<Arc<dyn Source>> {
        let mut listeners = listeners.to_vec();
        listeners.extend(destination.embedded.as_ref().map(EmbeddedS3::address));
        let mut guard = App::guard(&self.config, &listeners);
        if let Some(store) = &destination.own_store {
            guard = guard.with_own_store(store.clone());
        }
        let settings = HttpSettings {
            per_host: self.config.limits.per_host,
            throttle: throttle(&self.config.limits),
            clock: Arc::clone(&self.clock),
            ..HttpSettings::default()
        };
        Ok(Arc::new(HttpSource::new(Arc::new(guard), settings)?))
    }

    fn access(&self) -> HashMap<String, SourceAccess> {
        let subjects = subjects(&self.config).into_iter();
        subjects
            .map(|(name, subject)| {
                let (metrics, source) = (Arc::clone(&self.metrics), name.clone());
                let count = move |is_fresh| metrics.reminted(&source, is_fresh);
                let access = SourceAccess {
                    on_remint: OnRemint(Some(Arc::new(count))),
                    ..subject.access
                };
                (name, access)
            })
            .collect()
    }

    /// What finds the recordings that no webhook told of; `None` when no source asks for it. Its calls and those of
    /// `worker` come out of one budget.
    pub fn reconciler(&self, worker: &Worker) -> Option<Reconciler> {
        let sources: Vec<_> = self
            .config
            .resolved_sources()
            .into_iter()
            .filter_map(|(name, (provider, source))| {
                let access = worker.access.get(&name).cloned().unwrap_or_default();
                Some(Reconciled {
                    every: source.reconcile?.0,
                    reactivate_webhook: source.reactivate_webhook,
                    alarm: self.alarms.of(&name),
                    subject: ScannedSource {
                        name,
                        provider,
                        access,
                        absent: Absent::default(),
                    },
                })
            })
            .collect();
        if sources.is_empty() {
            return None;
        }
        let metrics = Arc::clone(&self.metrics);
        Some(Reconciler {
            walker: Walker {
                store: Some(Arc::clone(&self.store)),
                source: Arc::clone(&worker.source),
                clock: Arc::clone(&self.clock),
                layout: self.layout.clone(),
            },
            store: self.store.clone(),
            name: worker.settings.name.clone(),
            sources,
            bell: Arc::clone(&self.bell),
            on_done: Arc::new(move |source, done| match done {
                ReconcileStep::Found(class) => metrics.reconcile_found(source, class),
                ReconcileStep::Walked(is_whole) => metrics.reconcile_walked(source, is_whole),
                ReconcileStep::Reactivated(is_on) => metrics.webhook_reactivated(source, is_on),
                ReconcileStep::Restarted => metrics.task_restarted("reconciler"),
            }),
        })
    }

    fn hls(&self) -> BTreeMap<String, HlsSettings> {
        let sources = self.config.resolved_sources().into_iter();
        sources
            .map(|(name, (_, source))| {
                let settings = HlsSettings {
                    keys: match source.hls_keys {
                        HlsKeysConfig::Store => HlsKeys::Store,
                        HlsKeysConfig::Omit => HlsKeys::Omit,
                        HlsKeysConfig::Decrypt => HlsKeys::Decrypt,
                    },
                    unpack: source.hls_unpack,
                    ..HlsSettings::default()
                };
                (name, settings)
            })
            .collect()
    }

    fn emit(&self) -> Emit {
        let stream = self.progress.emit();
        let metrics = Arc::clone(&self.metrics);
        Arc::new(move |event| {
            metrics.observe(&event);
            stream(event);
        })
    }
}

/// The sources by name, as those know them who ask their APIs.
pub(crate) fn subjects(config: &Config) -> HashMap<String, ScannedSource> {
    let sources = config.resolved_sources().into_iter();
    sources
        .map(|(name, (provider, source))| {
            let documents = EventDocuments::of(source.adapter(provider));
            let access = SourceAccess {
                credentials: Credentials {
                    api_key: source.api_key,
                    api_secret: source.api_secret,
                    base_url: source.base_url,
                },
                allow_hosts: source.allow_hosts,
                pace: Arc::new(ApiPace::new(pace(source.api_rate))),
                on_remint: OnRemint::default(),
                documents,
            };
            let subject = ScannedSource {
                name: name.clone(),
                provider,
                access,
                absent: Absent::default(),
            };
            (name, subject)
        })
        .collect()
}

fn pace(api_rate: Option<u32>) -> PaceSettings {
    let usual = PaceSettings::default();
    PaceSettings {
        spacing: api_rate.map_or(usual.spacing, |rate| Duration::from_secs(1) / rate.max(1)),
        ..usual
    }
}

/// For commands that only ask APIs.
///
/// # Errors
/// `internal` when TLS can't be set up.
pub(crate) fn api_source(config: &Config, clock: &SharedClock) -> Result<Arc<dyn Source>> {
    let guard = App::guard(config, &[]);
    let settings = HttpSettings {
        clock: Arc::clone(clock),
        ..HttpSettings::default()
    };
    Ok(Arc::new(HttpSource::new(Arc::new(guard), settings)?))
}

fn throttle(limits: &LimitsConfig) -> ThrottleSettings {
    let windows = limits.bandwidth.0.iter();
    ThrottleSettings {
        windows: windows
            .map(|window| RateWindow {
                from_minute: window.from_minute,
                to_minute: window.to_minute,
                bytes_per_second: window.rate.0,
            })
            .collect(),
        max_per_day: limits.max_per_day.map(|size| size.0),
    }
}

/// The name of this process: tells people where it runs, and is never the same again.
fn process_name() -> String {
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "worker".to_owned());
    let (process, unique) = (std::process::id(), Uuid::now_v7());
    key::safe(&format!("{host}-{process}-{unique}"))
}
