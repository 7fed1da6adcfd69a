//! `harvester doctor`: whether everything that archiving needs is there, with the fix where it is not.
//!
//! What is tried is harmless: a small object under a name of its own that is removed afterwards, an upload that is
//! aborted, the first page of a provider's list.

use super::output::{CommandFailure, CommandResult, Output};
use super::{CommandContext, signals};
use crate::app;
use crate::report::board::Severity;
use checkup::{Checkup, Status};
use tokio_util::sync::CancellationToken;

mod bucket;
mod checkup;
mod deliveries;
mod sources;
mod store;

/// Arguments of `doctor`.
#[derive(clap::Args, Debug)]
pub(super) struct DoctorArgs {}

pub(super) async fn doctor(_: DoctorArgs, mut context: CommandContext) -> CommandResult {
    let shutdown = CancellationToken::new();
    let output = context.output.clone();
    let examined = signals::heeding(&output, &shutdown, async {
        tokio::select! {
            checkup = examine(&context) => Some(checkup),
            () = shutdown.cancelled() => None,
        }
    });
    let Some(checkup) = examined.await? else {
        return Err(CommandFailure::Told);
    };
    tell(&checkup, &mut context.output)
}

async fn examine(context: &CommandContext) -> Checkup {
    let mut checkup = Checkup::default();
    deliveries::examine(context, &mut checkup).await;
    store::examine(&context.config, &mut checkup).await;
    bucket::examine(&context.config, &context.clock, &mut checkup).await;
    match app::api_source(&context.config, &context.clock) {
        Ok(source) => sources::examine(context, source, &mut checkup).await,
        Err(error) => checkup.fault("sources", &error, "check the machine's TLS certificates"),
    }
    checkup
}

fn tell(checkup: &Checkup, output: &mut Output) -> CommandResult {
    if output.is_json {
        output.json(checkup)?;
    } else {
        for line in &checkup.checks {
            let (tone, word) = match line.status {
                Status::Ok => (Severity::Good, "ok"),
                Status::Warning => (Severity::Warning, "warning"),
                Status::Fault => (Severity::Bad, "fault"),
            };
            let fix = line.fix.as_deref().map(|fix| format!("; {fix}"));
            let (check, message) = (&line.check, &line.message);
            let text = format!("{word:<8} {check}: {message}{}", fix.unwrap_or_default());
            output.toned(tone, &super::output::without_queries(&text))?;
        }
    }
    match checkup.ok {
        true => Ok(()),
        false => Err(CommandFailure::Told),
    }
}
