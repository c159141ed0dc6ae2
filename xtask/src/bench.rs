//! `cargo xtask bench [ROW…] [--json]`: builds what is measured and what measures, both optimised, and runs it.

use crate::root;
use anyhow::{Context, Result, bail};
use std::process::Command;

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let build = [
        "build",
        "--release",
        "--package",
        "catamaran-cli",
        "--package",
        "catamaran-bench",
    ];
    let status = Command::new("cargo")
        .args(build)
        .current_dir(root())
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        bail!("the build failed");
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), Into::into);
    let release = target.join("release");
    let status = Command::new(release.join("catamaran-bench"))
        .args(arguments)
        .arg("--cata")
        .arg(release.join("cata"))
        .current_dir(root())
        .status()
        .context("cannot run the benchmarks")?;
    if !status.success() {
        bail!("the benchmarks failed");
    }
    Ok(())
}
