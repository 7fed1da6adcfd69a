//! `harvester run`: the background worker. Takes in webhooks, archives what they announce, ends on a signal.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::admin_token::AdminToken;
use super::output::{CommandFailure, CommandResult, Output};
use super::{CommandContext, descriptors, learn, senders, signals};
use crate::app::{App, ArchiveTarget, Embedded};
use crate::clock::SharedClock;
use crate::config::Config;
use crate::error::Error;
use crate::object::probe_key;
use crate::server::admin::{self, Admin};
use crate::server::listen::{self, HttpLimits};
use crate::server::webhook::{self, BODY_TIMEOUT, COMMIT_TIMEOUT, Intake, WebhookSource};
use crate::worker::purge;

/// How long parts on their way may take after a signal: below the 30 s that Kubernetes waits.
const GRACE: Duration = Duration::from_secs(25);

/// Of the process's descriptors one in so many may be connections of the public listener, and of the operator's.
const PUBLIC_SHARE: u64 = 4;
const ADMIN_SHARE: u64 = 16;

/// How long requests that are being answered may take once the transfers have ended.
const LISTENER_GRACE: Duration = Duration::from_secs(3);

/// Arguments of `run`.
#[derive(clap::Args, Debug)]
pub(super) struct RunArgs {
    /// Which part of the work this process does
    #[arg(long, value_enum, default_value_t = Role::All)]
    role: Role,
}

/// Which of the two jobs of `run` a process has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Role {
    /// Receive webhooks and archive
    All,
    /// Receive webhooks only
    Receiver,
    /// Archive only
    Worker,
}

impl Role {
    fn receives(self) -> bool {
        self != Role::Worker
    }

    fn works(self) -> bool {
        self != Role::Receiver
    }
}

pub(super) async fn run(args: RunArgs, context: CommandContext) -> CommandResult {
    let shutdown = CancellationToken::new();
    let output = context.output.clone();
    let work = serve(args.role, context, shutdown.clone());
    signals::heeding(&output, &shutdown, work).await?
}

async fn serve(role: Role, context: CommandContext, shutdown: CancellationToken) -> CommandResult {
    let CommandContext {
        config,
        mut output,
        clock,
    } = context;
    // Ports first: one that is taken should end the start before anything is opened or made.
    let listeners = Listeners::bind(role, &config, &clock).await?;
    let house = App::open(config.clone(), clock).await?;
    // Held until the end: one worker on one file.
    let _lock = match role.works() {
        true => Some(house.store.lock_worker().await?),
        false => None,
    };
    let destination = match role.works() {
        true => Some(house.destination(Embedded::Own).await?),
        false => None,
    };
    // Its file is there as long as the worker is, and before anybody hears of it.
    let own_token = listeners.own_token(&house.config);
    announce(&listeners, destination.as_ref(), &mut output)?;
    listeners.warn(&config, &output);
    if let Some((one, other)) = config.sources_in_one_folder() {
        output.warn(&format!(
            "recordings of sources {one} and {other} may come into one folder, where each can put files beside the other's: \
             put {{source}} into archive.template"
        ));
    }
    let is_ready = Arc::new(AtomicBool::new(true));
    let mut tasks = JoinSet::new();
    if let Some(destination) = &destination {
        start_worker(&house, destination, &listeners, &shutdown, &mut tasks)?;
        tasks.spawn(learn::keep_trying(
            Arc::clone(&destination.objects),
            probe_key(&house.config.archive.prefix),
            shutdown.clone(),
        ));
    }
    let secret = own_token.as_ref().map(AdminToken::secret);
    // Webhooks are taken in while the transfers drain: what they announce is for the next start.
    let (mut listening, stop_listening) = (JoinSet::new(), CancellationToken::new());
    listeners.serve(&house, secret, &is_ready, &stop_listening, &mut listening);
    let store = Arc::clone(&house.store);
    // Only a new start helps then, so this one has to end.
    let lost = async move { Err(store.lost().await) };
    tasks.spawn(
        shutdown
            .clone()
            .run_until_cancelled_owned(lost)
            .map(|ended| ended.unwrap_or(Ok(()))),
    );
    if let Some(destination) = &destination {
        warn_of_refusal(destination, &output, &shutdown).await;
    }
    tokio::select! {
        () = shutdown.cancelled() => {}
        // None of them ends by itself, unless it fails.
        Some(ended) = tasks.join_next() => outcome(ended)?,
        Some(ended) = listening.join_next() => outcome(ended)?,
    }
    is_ready.store(false, Ordering::Release);
    shutdown.cancel();
    let mut all = Ok(());
    while let Some(ended) = tasks.join_next().await {
        all = all.and(outcome(ended));
    }
    stop_listening.cancel();
    while let Some(ended) = listening.join_next().await {
        all = all.and(outcome(ended));
    }
    all?;
    if let Some(destination) = destination {
        destination.close().await;
    }
    house.close().await;
    Ok(())
}

struct Listeners {
    public: Option<Public>,
    admin: TcpListener,
    admin_address: SocketAddr,
    /// What the whole process may have.
    descriptors: u64,
}

struct Public {
    listener: TcpListener,
    address: SocketAddr,
    sources: HashMap<String, WebhookSource>,
}

impl Listeners {
    async fn bind(role: Role, config: &Config, clock: &SharedClock) -> CommandResult<Listeners> {
        let descriptors = descriptors::raise().map_err(usage)?;
        let public = match role.receives() {
            true => Some(Public::bind(config, clock).await?),
            false => None,
        };
        Admin::check(config.admin.listen, config.admin.token.as_ref()).map_err(usage)?;
        let admin = listen::bind(config.admin.listen, "admin.listen").await?;
        Ok(Listeners {
            public,
            admin_address: address(&admin)?,
            admin,
            descriptors,
        })
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        let public = self.public.as_ref().map(|public| public.address);
        public.into_iter().chain([self.admin_address]).collect()
    }

    /// The token for whoever may read our files; `None` where others reach the listener, who know the configured one.
    fn own_token(&self, config: &Config) -> Option<AdminToken> {
        if !self.admin_address.ip().is_loopback() {
            return None;
        }
        let made = AdminToken::make(&config.data_dir, self.admin_address);
        made.inspect_err(|error| {
            let cause = tracing::field::display(error);
            tracing::warn!(
                cause,
                "no token for `watch` and the API can be kept in data_dir: set admin.token"
            );
        })
        .ok()
    }

    fn warn(&self, config: &Config, output: &Output) {
        let Some(public) = &self.public else { return };
        for warning in senders::warnings(config, &public.sources) {
            output.warn(&warning);
        }
    }

    fn serve(
        self,
        house: &App,
        own_token: Option<SecretString>,
        is_ready: &Arc<AtomicBool>,
        shutdown: &CancellationToken,
        tasks: &mut JoinSet<CommandResult<(), Error>>,
    ) {
        let admin = admin::router(Arc::new(Admin {
            store: house.store.clone(),
            progress: house.progress.clone(),
            metrics: Arc::clone(&house.metrics),
            clock: Arc::clone(&house.clock),
            token: house.config.admin.token.clone(),
            own_token,
            address: self.admin_address,
            ready: Arc::clone(is_ready),
            bell: Arc::clone(&house.bell),
            shutdown: shutdown.clone(),
        }));
        tasks.spawn(listen::serve(
            self.admin,
            admin,
            HttpLimits {
                grace: LISTENER_GRACE,
                ..descriptors::http_limits(self.descriptors, ADMIN_SHARE)
            },
            shutdown.clone(),
        ));
        let Some(public) = self.public else { return };
        let sources = public.sources.into_iter().map(|(name, source)| {
            let alarm = house.alarms.of(&name);
            (name, source.with_alarm(alarm))
        });
        let intake = webhook::router(Arc::new(Intake {
            store: house.store.clone(),
            layout: house.layout.clone(),
            sources: sources.collect(),
            clock: Arc::clone(&house.clock),
            bell: Arc::clone(&house.bell),
            metrics: Arc::clone(&house.metrics),
            trusted_proxies: house.config.trusted_proxies.clone(),
            body_timeout: BODY_TIMEOUT,
            commit_timeout: COMMIT_TIMEOUT,
        }));
        let limits = HttpLimits {
            trusted_proxies: house.config.trusted_proxies.clone(),
            grace: LISTENER_GRACE,
            ..descriptors::http_limits(self.descriptors, PUBLIC_SHARE)
        };
        tasks.spawn(listen::serve(
            public.listener,
            intake,
            limits,
            shutdown.clone(),
        ));
    }
}

impl Public {
    async fn bind(config: &Config, clock: &SharedClock) -> CommandResult<Public> {
        let sources = senders::webhook_sources(config, clock).map_err(usage)?;
        let listener = listen::bind(config.listen, "listen").await?;
        Ok(Public {
            address: address(&listener)?,
            listener,
            sources,
        })
    }
}

fn address(listener: &TcpListener) -> CommandResult<SocketAddr, Error> {
    listener
        .local_addr()
        .map_err(|error| Error::internal("learn the address of a listener").with_source(error))
}

fn usage(error: Error) -> CommandFailure {
    CommandFailure::Usage(error.full_message())
}

fn announce(
    listeners: &Listeners,
    destination: Option<&ArchiveTarget>,
    output: &mut Output,
) -> CommandResult {
    let public = listeners.public.as_ref().map(|public| public.address);
    let admin = listeners.admin_address;
    let archive = destination.map(|destination| destination.description.as_str());
    if output.is_json {
        return output.json(&serde_json::json!({
            "type": "listening", "listen": public, "admin": admin, "archive": archive,
        }));
    }
    if let Some(public) = &listeners.public {
        let mut names: Vec<_> = public.sources.keys().map(String::as_str).collect();
        names.sort_unstable();
        let address = public.address;
        output.line(&format!(
            "webhooks  http://{address}/webhooks/{{source}}  ({})",
            names.join(", ")
        ))?;
    }
    output.line(&format!(
        "admin     http://{admin}  (metrics, health, `harvester watch`)"
    ))?;
    match archive {
        Some(archive) => output.line(&format!("archive   {archive}")),
        None => Ok(()),
    }
}

fn start_worker(
    house: &App,
    destination: &ArchiveTarget,
    listeners: &Listeners,
    shutdown: &CancellationToken,
    tasks: &mut JoinSet<CommandResult<(), Error>>,
) -> CommandResult {
    let worker = house.worker(destination, &listeners.addresses(), GRACE)?;
    if let Some(reconciler) = house.reconciler(&worker) {
        tasks.spawn(reconciler.run(shutdown.clone()));
    }
    tasks.spawn(purge::keep(
        house.store.clone(),
        Arc::clone(&house.clock),
        house.config.store.retention.map(|kept| kept.0),
        shutdown.clone(),
    ));
    let shutdown = shutdown.clone();
    tasks.spawn(async move { worker.run(shutdown).await });
    Ok(())
}

/// A bucket that refuses does not end the worker: webhooks are still taken in and their jobs wait.
async fn warn_of_refusal(
    destination: &ArchiveTarget,
    output: &Output,
    shutdown: &CancellationToken,
) {
    let checked = tokio::select! {
        checked = destination.check() => checked,
        () = shutdown.cancelled() => return,
    };
    if let Err(error) = checked {
        let class = error.class();
        let message = error.full_message();
        output.warn(&format!(
            "the archive refuses, jobs wait: failed to {message}"
        ));
        output.warn(&format!("  {class}: {}", class.action()));
    }
}

/// A panicked task is an error, not another panic.
fn outcome(ended: CommandResult<CommandResult<(), Error>, JoinError>) -> CommandResult {
    match ended {
        Ok(result) => Ok(result?),
        Err(error) => Err(Error::internal("keep a part of the worker alive")
            .with_source(error)
            .into()),
    }
}
