//! `cata cleanup`: what a killed agent could not take away itself.

use crate::assembly;
use crate::data_dir::{DataDir, Part};
use anyhow::Result;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(super) fn run(_args: &Args, data_dir: &DataDir) -> Result<ExitCode> {
    assembly::require_root("cleanup")?;
    let Some(instance) = data_dir.known_instance()? else {
        println!(
            "nothing to clean up: no cluster ever ran on {}",
            data_dir.path.display()
        );
        return Ok(ExitCode::SUCCESS);
    };
    let _lock = data_dir.lock(Part::Agent)?;
    assembly::remove_leftovers(&instance, &data_dir.path)?;
    println!(
        "cleaned up instance {instance}; the API's state in {} was kept",
        data_dir.path.display()
    );
    Ok(ExitCode::SUCCESS)
}
