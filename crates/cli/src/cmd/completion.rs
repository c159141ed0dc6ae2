//! `cata completion SHELL`.

use anyhow::Result;
use clap::CommandFactory;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Shell to print the script for
    shell: clap_complete::Shell,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    clap_complete::generate(args.shell, &mut super::Cli::command(), "cata", &mut std::io::stdout());
    Ok(ExitCode::SUCCESS)
}
