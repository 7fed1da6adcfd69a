//! `harvester demo`: the whole journey on loopback, with made-up events of every provider.
//!
//! The parts are the real ones: the webhook listener, the store, the worker, the embedded S3 server.
//! Only the providers are made up ([`origin`], [`events`]). At the end every object is read back over
//! the S3 API and compared with what the origin served ([`judge`]).

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use crate::app::{App, ArchiveTarget, Embedded};
use crate::cli::output::{CommandFailure, CommandResult};
use crate::cli::{CommandContext, signals};
use crate::clock::SharedClock;
use crate::config::{Config, SourceConfig};
use crate::demo::events::DemoEvent;
use crate::demo::judge::LeftBehind;
use crate::demo::media::Library;
use crate::demo::origin::{DemoOrigin, OriginSettings, SendPace};
use crate::demo::stage::Stage;
use crate::error::Error;
use crate::model::{ProgressEvent, Provider, Record, State};
use crate::report::terminal::Terminal;
use crate::store::Filter;

mod api;
pub mod events;
pub mod judge;
pub mod media;
pub mod origin;
pub mod presign;
mod samples;
mod stage;
mod tell;

/// Makes one recording large enough for several parts.
const PADDING_BYTES: u32 = 20 << 20;

/// A body takes about this long, so that there is something to see.
const BODY_TIME: Duration = Duration::from_secs(1);

/// When it has not ended by then, it never will.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// How often the store is asked whether all has settled.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Larger objects than any of the demo.
const OBJECT_MAX_BYTES: u64 = 64 << 20;

/// The header that the demo's providers show their secret in, and the secret.
const SECRET: (&str, &str) = ("x-demo-secret", "a secret between the demo and itself");

/// Arguments of `demo`.
#[derive(clap::Args, Debug)]
pub(crate) struct DemoArgs {
    /// Folder for state and archive; must be empty or missing [default: demo in data_dir, emptied first]
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

pub(crate) async fn demo(args: DemoArgs, context: CommandContext) -> CommandResult {
    let shutdown = CancellationToken::new();
    let output = context.output.clone();
    let work = play(args, context, shutdown.clone());
    signals::heeding(&output, &shutdown, work).await?
}

async fn play(
    args: DemoArgs,
    context: CommandContext,
    shutdown: CancellationToken,
) -> CommandResult {
    let CommandContext {
        config,
        mut output,
        clock,
    } = context;
    let folder = prepare_folder(args.folder, &config.data_dir)?;
    let origin = start_origin(&clock).await?;
    let config = demo_config(&folder, &origin)?;
    let house = App::open(config.clone(), clock.clone()).await?;
    let destination = house.destination(Embedded::Own).await?;
    let stage = Stage::start(&house, &destination, &shutdown).await?;
    tell::beginning(&output, &stage, &origin, &destination);

    let events = events::all(&origin, clock.now())?;
    let mut screen = (!output.is_json).then(|| Terminal::new(output.stderr.clone()));
    let progress = house.progress.subscribe();
    let mut wrong = tokio::select! {
        wrong = harvest(&stage, &events, &house, &shutdown) => wrong?,
        () = show(progress, screen.as_mut(), &clock) => Vec::new(),
    };
    if let Some(screen) = &mut screen {
        screen.finish(clock.now());
    }
    stage.end().await?;

    let seen = look(&house, &destination).await?;
    wrong.extend(judge::judge(&events, &seen));
    tell::outcome(&mut output, &seen, &wrong, &folder)?;
    destination.close().await;
    house.close().await;
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(CommandFailure::Told),
    }
}

/// Only the demo writes to its own folder, so what an earlier one left there may go. Another folder
/// is never emptied.
fn prepare_folder(given: Option<PathBuf>, data_dir: &Path) -> CommandResult<PathBuf> {
    let failed = |action: &str, folder: &Path, error| {
        Error::internal(format!("{action} the folder {}", folder.display())).with_source(error)
    };
    let folder = match given {
        Some(folder) => {
            let is_used = folder
                .read_dir()
                .is_ok_and(|mut entries| entries.next().is_some());
            if is_used {
                return Err(CommandFailure::Usage(format!(
                    "--folder {} is not empty",
                    folder.display()
                )));
            }
            folder
        }
        None => {
            let folder = data_dir.join("demo");
            if folder.exists() {
                std::fs::remove_dir_all(&folder)
                    .map_err(|error| failed("empty", &folder, error))?;
            }
            folder
        }
    };
    std::fs::create_dir_all(&folder).map_err(|error| failed("make", &folder, error))?;
    Ok(folder)
}

async fn start_origin(clock: &SharedClock) -> CommandResult<DemoOrigin> {
    let settings = OriginSettings {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        library: Library {
            padding_bytes: PADDING_BYTES,
        },
        pace: SendPace::Within(BODY_TIME),
        clock: clock.clone(),
        api_key: "demo-key".to_owned(),
    };
    Ok(DemoOrigin::start(settings).await?)
}

/// Nothing of the user's configuration is used: the demo touches neither their bucket nor their ports.
fn demo_config(folder: &Path, origin: &DemoOrigin) -> CommandResult<Config> {
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    let loopback: IpNet = "127.0.0.0/8"
        .parse()
        .map_err(|error| Error::internal("read a network").with_source(error))?;
    let mut config = Config {
        data_dir: folder.to_owned(),
        listen: any_port,
        ..Config::default()
    };
    config.admin.listen = any_port;
    config.archive.embedded_listen = any_port;
    config.guard.allow_networks = vec![loopback];
    config.guard.allow_http = true;
    for provider in Provider::ALL {
        let mut source = SourceConfig {
            provider: Some(provider),
            secrets: vec![SECRET.1.into()],
            header: Some(SECRET.0.to_owned()),
            ..SourceConfig::default()
        };
        // Their events can't do without the API, which the origin plays. The others have no key, so
        // that an expired URL stays expired.
        if matches!(provider, Provider::Daily | Provider::MeetingBaas) {
            source.api_key = Some(origin.api_key().into());
            source.base_url = Some(origin.base_url());
        }
        config.sources.insert(provider.as_str().to_owned(), source);
    }
    Ok(config)
}

/// Posts everything and waits until all that came of it has settled; says what went wrong on the way.
async fn harvest(
    stage: &Stage,
    events: &[DemoEvent],
    house: &App,
    shutdown: &CancellationToken,
) -> CommandResult<Vec<String>> {
    let mut wrong = stage.post_all(events).await?;
    let settled = tokio::time::timeout(TIME_LIMIT, settle(house, stage));
    tokio::select! {
        settled = settled => match settled {
            Ok(settled) => settled?,
            Err(_) => wrong.push(format!("not all has settled within {} s", TIME_LIMIT.as_secs())),
        },
        () = shutdown.cancelled() => wrong.push("interrupted".to_owned()),
    }
    Ok(wrong)
}

async fn settle(house: &App, stage: &Stage) -> CommandResult {
    loop {
        let records = house.store.list(&Filter::default()).await?;
        let is_settled = records.iter().all(|record| record.state.is_settled());
        if is_settled && house.store.unsealed(1).await?.is_empty() {
            return Ok(());
        }
        if stage.has_ended() {
            return Err(Error::internal("keep the worker running: it ended early").into());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Draws what happens, for as long as it is polled.
async fn show(
    mut progress: broadcast::Receiver<ProgressEvent>,
    mut screen: Option<&mut Terminal>,
    clock: &SharedClock,
) {
    loop {
        match progress.recv().await {
            Ok(event) => {
                if let Some(screen) = &mut screen {
                    screen.show(&event, clock.now());
                }
            }
            // A few drawings less.
            Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

/// What the store says, and what the bucket really holds.
async fn look(house: &App, destination: &ArchiveTarget) -> CommandResult<LeftBehind> {
    let records = house.store.list(&Filter::default()).await?;
    let mut keys: BTreeSet<String> = BTreeSet::new();
    for record in &records {
        let folder = judge::folder(record);
        keys.insert(format!("{folder}/manifest.json"));
        keys.insert(format!("{folder}/report.json"));
    }
    let archived = |record: &&Record| record.state == State::Archived;
    keys.extend(records.iter().filter(archived).map(|r| r.key.clone()));
    let mut seen = LeftBehind {
        events: house.store.events(None, u32::MAX).await?,
        losses: house.store.provider_failures(None).await?,
        open_uploads: destination.objects.list_uploads("").await?.len(),
        records,
        ..LeftBehind::default()
    };
    for key in keys {
        if let Some((bytes, _)) = destination.objects.get(&key, OBJECT_MAX_BYTES).await? {
            seen.objects.insert(key, bytes);
        }
    }
    Ok(seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_demos_own_folder_is_ever_emptied() {
        let data_dir = tempfile::tempdir().unwrap();
        let own = prepare_folder(None, data_dir.path()).unwrap();
        assert_eq!(own, data_dir.path().join("demo"));
        std::fs::write(own.join("old"), "x").unwrap();
        prepare_folder(None, data_dir.path()).unwrap();
        assert!(!own.join("old").exists());

        std::fs::write(own.join("mine"), "x").unwrap();
        let refused = prepare_folder(Some(own.clone()), data_dir.path()).unwrap_err();
        assert!(matches!(refused, CommandFailure::Usage(text) if text.ends_with("is not empty")));
        assert!(own.join("mine").exists());

        let fresh = data_dir.path().join("a/b");
        prepare_folder(Some(fresh.clone()), data_dir.path()).unwrap();
        assert!(fresh.is_dir());
    }
}
