//! `demo`: the main job in one command.

use std::process::ExitCode;

/// How the demo runs.
#[derive(clap::Args)]
pub(super) struct Args {
    /// End after the table, instead of staying up for you to try.
    #[arg(long)]
    once: bool,
}

pub(super) fn run(_: Args) -> ExitCode {
    ExitCode::SUCCESS
}
