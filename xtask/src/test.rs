//! `cargo xtask test`: everything that needs no download. Uses cargo-nextest when it is there, else `cargo test`.

use crate::root;
use anyhow::{Context, Result, bail};
use std::process::{Command, Stdio};

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let real = match arguments {
        [] => false,
        [flag] if flag == "--real" => true,
        _ => bail!("test takes no arguments but --real"),
    };
    if !is_root() {
        eprintln!("note: not root: tests that make namespaces, cgroups or mounts will say \"skipped: needs root\"");
    }
    let nextest = Command::new("cargo")
        .args(["nextest", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    // End-to-end tests drive the real binary; a test of another package does not make cargo build it.
    cargo(&["build", "--package", "catamaran-cli"], real)?;
    if nextest {
        let mut arguments = vec!["nextest", "run", "--workspace"];
        if std::env::var_os("CI").is_some() {
            arguments.extend(["--profile", "ci"]);
        }
        cargo(&arguments, real)?;
        cargo(&["test", "--workspace", "--doc", "--quiet"], real)
    } else {
        cargo(&["test", "--workspace", "--no-fail-fast"], real)
    }
}

fn cargo(arguments: &[&str], real: bool) -> Result<()> {
    let mut command = Command::new("cargo");
    command.args(arguments).current_dir(root());
    if real {
        command.env("CATA_TEST_REAL", "1");
    }
    let status = command.status().context("cannot run cargo")?;
    if !status.success() {
        bail!("cargo {} failed", arguments.join(" "));
    }
    Ok(())
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|metadata| std::os::unix::fs::MetadataExt::uid(&metadata) == 0)
}
