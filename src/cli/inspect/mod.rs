//! `harvester inspect`: what would be done with events or URLs. No network, no writes.

use std::ffi::OsString;

use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;

use super::input::{self, Input};
use super::output::{CommandFailure, CommandResult, Output};
use super::{CommandContext, values};
use crate::app::App;
use crate::config::Config;
use crate::error::Error;
use crate::ingest::inspect::{self, EventDescription, UrlDescription};
use crate::ingest::{self, Adapter, Delivery};
use crate::model::{Event, Layout, Provider};
use crate::signed_url::SignedUrl;
use playlist::PlaylistDescription;

mod playlist;
mod words;

/// Arguments of `inspect`.
#[derive(clap::Args, Debug)]
pub(super) struct InspectArgs {
    /// Event files, playlists, URLs, or - for standard input
    #[arg(value_name = "EVENT.json | URL | PLAYLIST | -", required = true)]
    inputs: Vec<OsString>,
    /// URL of the playlist, to resolve its relative URIs
    #[arg(long, value_name = "URL", value_parser = values::web_url)]
    base: Option<url::Url>,
    #[command(flatten)]
    sender: Sender,
    /// Time at which deadlines are judged [default: now]
    #[arg(long, value_name = "RFC3339", value_parser = values::instant)]
    now: Option<Timestamp>,
}

/// Who sent the events, where their shape does not tell.
#[derive(clap::Args, Clone, Debug, Default)]
pub(super) struct Sender {
    /// Configured source of the events
    #[arg(long, value_name = "NAME", conflicts_with = "provider")]
    source: Option<String>,
    /// Provider of the events [default: recognized by their shape]
    #[arg(long, value_name = "NAME", value_parser = values::provider)]
    provider: Option<Provider>,
}

impl Sender {
    /// The source of an event, and who reads it. Without a source of the provider's, the provider's name stands
    /// for it.
    pub(super) fn of(&self, body: &[u8], config: &Config) -> CommandResult<(String, Adapter)> {
        let sources = config.resolved_sources();
        if let Some(name) = &self.source {
            let Some((provider, source)) = sources.get(name) else {
                let known: Vec<_> = sources.keys().map(String::as_str).collect();
                let known = known.join(", ");
                return Err(CommandFailure::Usage(format!(
                    "there is no source {name}, known are {known}"
                )));
            };
            return Ok((name.clone(), source.adapter(*provider)));
        }
        values::known_provider(self.provider, config)?;
        let recognised = self.provider.or_else(|| ingest::recognise(body));
        let Some(provider) = recognised else {
            let message = match serde_json::from_slice::<serde::de::IgnoredAny>(body) {
                Ok(_) => "recognise the event: no provider's events look like this; name it with --provider, or --source for one of your own".to_owned(),
                Err(error) => format!("read the event: it is not JSON: {error}"),
            };
            return Err(Error::invalid(message).into());
        };
        let mut sources = sources.into_iter();
        match sources.find(|(_, (its, _))| *its == provider) {
            Some((name, (_, source))) => Ok((name, source.adapter(provider))),
            None => Ok((provider.as_str().to_owned(), Adapter::BuiltIn(provider))),
        }
    }
}

/// Reads an event as it would be taken in at `now`.
pub(super) fn parse(body: &[u8], adapter: &Adapter, now: Timestamp) -> CommandResult<Event> {
    let delivery = Delivery {
        body,
        id_header: None,
        received_at: now,
    };
    Ok(adapter.parse(&delivery)?)
}

pub(super) fn inspect(args: InspectArgs, context: CommandContext) -> CommandResult {
    let CommandContext {
        config,
        mut output,
        clock,
    } = context;
    input::check_urls(&args.inputs)?;
    let now = args.now.unwrap_or_else(|| clock.now());
    let mut is_all_well = true;
    for input in input::read_all(&args.inputs) {
        let described = input
            .map_err(CommandFailure::from)
            .and_then(|input| describe(&input, &args, &config, now));
        match described {
            Ok(description) => {
                tell(&description, now, &mut output)?;
                if let InputDescription::Playlist(playlist) = &description {
                    is_all_well &= !playlist.is_refused();
                }
            }
            Err(CommandFailure::Failed(error)) => {
                is_all_well = false;
                output.error(&error)?;
            }
            Err(other) => return Err(other),
        }
    }
    if is_all_well {
        Ok(())
    } else {
        Err(CommandFailure::Told)
    }
}

/// What is said of one input; its JSON has the documented fields in the documented order.
#[derive(Serialize)]
#[serde(untagged)]
enum InputDescription {
    Event(EventDescription),
    Url(UrlDescription),
    Playlist(PlaylistDescription),
}

fn describe(
    input: &Input,
    args: &InspectArgs,
    config: &Config,
    now: Timestamp,
) -> CommandResult<InputDescription> {
    let sender = &args.sender;
    match input {
        // What is said to come from a URL is a playlist, whatever it looks like.
        Input::Event(body) if args.base.is_some() => {
            describe_playlist(body, "the playlist", args, config)
        }
        Input::Event(body) => {
            describe_event(body, sender, config, now).map(InputDescription::Event)
        }
        Input::Url(url) => Ok(InputDescription::Url(describe_url(url, sender, config))),
        Input::Playlist(body, name) => describe_playlist(body, name, args, config),
    }
}

fn describe_playlist(
    body: &Bytes,
    name: &str,
    args: &InspectArgs,
    config: &Config,
) -> CommandResult<InputDescription> {
    let judge = judge(&args.sender, config);
    let described = PlaylistDescription::of(body, name, args.base.as_ref(), judge)?;
    Ok(InputDescription::Playlist(described))
}

/// The guard without DNS, for the source of the events: gives why a URL would not be fetched.
fn judge(sender: &Sender, config: &Config) -> impl Fn(&str) -> Option<String> {
    let mut sources = config.resolved_sources();
    let source = sender.source.as_ref().and_then(|name| sources.remove(name));
    let allow_hosts = source.map_or(Vec::new(), |(_, source)| source.allow_hosts.clone());
    let guard = App::guard(config, &[]);
    move |url| {
        let verdict = guard.judge_url(url, &allow_hosts);
        verdict.err().map(|error| error.full_message())
    }
}

fn describe_event(
    body: &Bytes,
    sender: &Sender,
    config: &Config,
    now: Timestamp,
) -> CommandResult<EventDescription> {
    let (source, adapter) = sender.of(body, config)?;
    let event = parse(body, &adapter, now)?;
    let layout = Layout::new(&config.archive.prefix, &config.archive.template)?;
    let folder = layout.folder(
        &source,
        event.provider,
        &event.recording,
        &event.dedupe_key,
        event.event_time,
        now,
    );
    Ok(inspect::describe_event(&event, &folder.path()))
}

/// The verdict needs no DNS: it judges scheme, literal addresses and configured hosts.
fn describe_url(url: &SignedUrl, sender: &Sender, config: &Config) -> UrlDescription {
    let refusal = judge(sender, config)(url.expose());
    inspect::describe_url(url.expose(), refusal.as_deref())
}

fn tell(description: &InputDescription, now: Timestamp, output: &mut Output) -> CommandResult {
    if output.is_json {
        return output.json(description);
    }
    let fields = serde_json::to_value(description)
        .map_err(|error| Error::internal("describe the input").with_source(error))?;
    words::lines(&fields, now)
        .iter()
        .try_for_each(|line| output.line(line))
}
