//! `cata version`: this program's version; the cluster's is added by the client part when one answers.

use anyhow::Result;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(super) fn run(_args: &Args) -> Result<ExitCode> {
    println!("Client Version: v{}", env!("CARGO_PKG_VERSION"));
    Ok(ExitCode::SUCCESS)
}
