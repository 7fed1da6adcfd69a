//! `harvester watch`: the live progress of a running worker, through its admin listener.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use futures::StreamExt;
use secrecy::ExposeSecret;
use tokio_util::sync::CancellationToken;

use super::output::{CommandFailure, CommandResult, Output};
use super::{CommandContext, admin_token, signals};
use crate::clock::SharedClock;
use crate::config::Config;
use crate::error::{Class, Error};
use crate::model::ProgressEvent;
use crate::report::terminal::Terminal;
use crate::source::client;

/// The first wait after a lost connection; it doubles up to [`MAX_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(250);

/// The longest wait between two attempts to connect again.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// A stream without a word for longer than this is dead: the worker says every 15 s that it lives.
const SILENCE: Duration = Duration::from_secs(45);

/// More than any event of ours has.
const MAX_LINE_BYTES: usize = 1024 * 1024;

/// Arguments of `watch`.
#[derive(clap::Args, Debug)]
pub(super) struct WatchArgs {}

pub(super) async fn watch(_args: WatchArgs, context: CommandContext) -> CommandResult {
    let CommandContext {
        config,
        mut output,
        clock,
    } = context;
    let client = client::local_client(None)?;
    let shutdown = CancellationToken::new();
    let signals_output = output.clone();
    let mut screen = WatchScreen {
        terminal: (!output.is_json).then(|| Terminal::new(output.stderr.clone())),
        output: &mut output,
        clock,
    };
    let followed = follow(&client, &config, &mut screen, &shutdown);
    let ended = signals::heeding(&signals_output, &shutdown, followed).await?;
    // Totals of nothing would stand above the reason.
    if ended.is_ok() {
        screen.finish();
    }
    ended
}

/// Follows the stream until `shutdown`, connecting again as often as it is lost. Only the first
/// connection has to work: later the worker may just be starting again.
async fn follow(
    client: &reqwest::Client,
    config: &Config,
    screen: &mut WatchScreen<'_>,
    shutdown: &CancellationToken,
) -> CommandResult {
    let mut was_connected = false;
    let mut is_missed = false;
    let mut wait = FIRST_WAIT;
    loop {
        let attempt = async {
            let response = connect(client, config).await?;
            let address = config.admin.listen;
            screen
                .output
                .note(&format!("watching the worker at {address}"));
            was_connected = true;
            is_missed = false;
            wait = FIRST_WAIT;
            read(response, screen).await
        };
        tokio::select! {
            ended = attempt => match ended {
                Err(CommandFailure::Failed(error)) if was_connected && error.is_transient() => {}
                Err(failure) => return Err(failure),
                Ok(()) => {}
            },
            () = shutdown.cancelled() => return Ok(()),
        }
        if screen.output.is_closed() {
            return Ok(());
        }
        if !is_missed {
            is_missed = true;
            screen.lost_stream();
            screen.output.note("the worker went away, waiting for it");
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => wait = (wait * 2).min(MAX_WAIT),
            () = shutdown.cancelled() => return Ok(()),
        }
    }
}

async fn connect(client: &reqwest::Client, config: &Config) -> CommandResult<reqwest::Response> {
    let address = config.admin.listen;
    let mut request = client
        .get(format!("http://{}/api/v1/progress", reachable(address)))
        .header(crate::server::admin::API_HEADER, "1");
    // Each time anew: the worker may have been started again. The configured token, which is kept, is shown only to
    // workers whose files we can't read.
    let own = admin_token::read(&config.data_dir, address);
    if let Some(token) = own.as_ref().or(config.admin.token.as_ref()) {
        request = request.bearer_auth(token.expose_secret());
    }
    let response = request.send().await.map_err(|error| {
        Error::transient(
            Class::Unreachable,
            format!(
                "reach a worker at {address}: is `harvester run` running with this admin.listen?"
            ),
        )
        .with_source(error.without_url())
    })?;
    match response.status().as_u16() {
        200 => Ok(response),
        401 | 403 => Err(Error::new(
            Class::Denied,
            format!(
                "watch the worker at {address}: it refuses our token (run this as the worker's user with its \
                 data_dir, or set admin.token for both)"
            ),
        )
        .into()),
        503 => Err(Error::transient(
            Class::Unreachable,
            format!("watch the worker at {address}: too many are watching"),
        )
        .into()),
        status => Err(Error::new(
            Class::Unreachable,
            format!("watch the worker at {address}: what listens there answered {status}, no harvester does"),
        )
        .into()),
    }
}

/// A worker that listens on all addresses is reached over loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => (Ipv4Addr::LOCALHOST, address.port()).into(),
        IpAddr::V6(ip) if ip.is_unspecified() => (Ipv6Addr::LOCALHOST, address.port()).into(),
        _ => address,
    }
}

/// Reads until the stream ends; a worker that goes away ends it.
async fn read(response: reqwest::Response, screen: &mut WatchScreen<'_>) -> CommandResult {
    let lost = |message: &str| Error::transient(Class::Unreachable, message);
    let mut body = response.bytes_stream();
    let mut lines = Lines::default();
    loop {
        let chunk = match tokio::time::timeout(SILENCE, body.next()).await {
            Err(_) => return Err(lost("hear of the worker for 45 s").into()),
            Ok(None) => return Ok(()),
            Ok(Some(Err(error))) => {
                let error = lost("read the progress stream").with_source(error.without_url());
                return Err(error.into());
            }
            Ok(Some(Ok(chunk))) => chunk,
        };
        for line in lines.push(&chunk)? {
            if let Some(event) = event(&line) {
                screen.show(&event)?;
            }
        }
        if screen.output.is_closed() {
            return Ok(());
        }
    }
}

struct WatchScreen<'a> {
    terminal: Option<Terminal>,
    output: &'a mut Output,
    clock: SharedClock,
}

impl WatchScreen<'_> {
    fn show(&mut self, event: &ProgressEvent) -> CommandResult {
        match &mut self.terminal {
            Some(terminal) => {
                terminal.show(event, self.clock.now());
                Ok(())
            }
            None => self.output.json(event),
        }
    }

    fn lost_stream(&mut self) {
        if let Some(terminal) = &mut self.terminal {
            terminal.lost_stream(self.clock.now());
        }
    }

    fn finish(&mut self) {
        if let Some(terminal) = &mut self.terminal {
            terminal.finish(self.clock.now());
        }
    }
}

/// Cuts a byte stream into lines.
#[derive(Default)]
struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    fn push(&mut self, chunk: &[u8]) -> CommandResult<Vec<String>> {
        self.rest.extend_from_slice(chunk);
        let mut lines = Vec::new();
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            lines.push(String::from_utf8_lossy(&line).trim_end().to_owned());
        }
        if self.rest.len() > MAX_LINE_BYTES {
            return Err(
                Error::invalid("read the progress stream: a line is longer than 1 MiB").into(),
            );
        }
        Ok(lines)
    }
}

/// The event of a line of the stream (`data:` of server-sent events; we send one line an event). A
/// type that a newer worker knows is passed over.
fn event(line: &str) -> Option<ProgressEvent> {
    serde_json::from_str(line.strip_prefix("data:")?.trim_start()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_however_the_stream_is_cut() {
        let stream = b": alive\n\nevent: progress\ndata: {\"type\":\"bytes\",\"id\":\"00000000-0000-0000-0000-000000000001\",\"done\":1,\"total\":2}\n\ndata: {\"type\":\"new\"}\n\n";
        for size in [1, 7, stream.len()] {
            let mut lines = Lines::default();
            let events: Vec<_> = stream
                .chunks(size)
                .flat_map(|chunk| lines.push(chunk).unwrap())
                .filter_map(|line| event(&line))
                .collect();
            assert!(
                matches!(events.as_slice(), [ProgressEvent::Bytes { done: 1, .. }]),
                "{events:?}"
            );
        }
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut lines = Lines::default();
        assert!(lines.push(&vec![b'x'; MAX_LINE_BYTES + 1]).is_err());
    }
}
