//! `harvester completions` and `harvester man`: made from the same definition as the commands.

use clap::CommandFactory;

use super::Cli;
use super::output::{CommandResult, Output};
use crate::error::Error;

/// Arguments of `completions`.
#[derive(clap::Args, Debug)]
pub(super) struct CompletionsArgs {
    /// Shell
    shell: clap_complete::Shell,
}

pub(super) fn completions(args: &CompletionsArgs, output: &mut Output) -> CommandResult {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "harvester", &mut script);
    output.line(String::from_utf8_lossy(&script).trim_end())
}

pub(super) fn man(output: &mut Output) -> CommandResult {
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command())
        .render(&mut page)
        .map_err(|error| Error::internal("write the manual page").with_source(error))?;
    output.line(String::from_utf8_lossy(&page).trim_end())
}
