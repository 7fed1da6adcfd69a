//! The `harvester` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    recording_harvester::cli::main()
}
