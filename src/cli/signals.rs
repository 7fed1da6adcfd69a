//! SIGINT and SIGTERM: the first asks for a clean end, the second ends at once.

use std::future::Future;
use std::process;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::output::{CommandResult, Output};
use crate::error::Error;

/// Exit code of a process that a second signal ended, as shells write it for SIGINT.
const INTERRUPTED: i32 = 130;

/// Runs `work` to its end. A first signal cancels `shutdown`, which `work` has to heed; a second one
/// ends the process: the store is consistent after every commit, so nothing acknowledged is lost.
pub(crate) async fn heeding<T>(
    output: &Output,
    shutdown: &CancellationToken,
    work: impl Future<Output = T>,
) -> CommandResult<T> {
    let listen = |kind| {
        signal(kind).map_err(|error| Error::internal("listen for signals").with_source(error))
    };
    let mut signals = (
        listen(SignalKind::interrupt())?,
        listen(SignalKind::terminate())?,
    );
    tokio::pin!(work);
    tokio::select! {
        result = &mut work => return Ok(result),
        () = any(&mut signals) => {}
    }
    output.warn("ending cleanly; a second signal ends at once");
    shutdown.cancel();
    tokio::select! {
        result = &mut work => Ok(result),
        () = any(&mut signals) => process::exit(INTERRUPTED),
    }
}

async fn any((interrupt, terminate): &mut (Signal, Signal)) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
