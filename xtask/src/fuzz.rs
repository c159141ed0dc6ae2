//! `cargo xtask fuzz TARGET [SECONDS]`: lets libFuzzer look for inputs that break a parser. Wants cargo-fuzz and a C++ compiler.

use crate::root;
use anyhow::{Context, Result, bail};
use std::process::Command;

const TARGETS: &[&str] = &["definition", "manifest", "patch", "path", "selector", "spdy"];
/// Ten minutes: what a change to a parser is worth.
const SECONDS: &str = "600";

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let (target, seconds) = match arguments {
        [target] => (target, SECONDS),
        [target, seconds] => (target, seconds.as_str()),
        _ => bail!("fuzz takes a target ({}) and a number of seconds", TARGETS.join(", ")),
    };
    if !TARGETS.contains(&target.as_str()) {
        bail!("there is no target {target:?}; the targets are {}", TARGETS.join(", "));
    }
    let fuzz = root().join("fuzz");
    let corpus = fuzz.join("corpus").join(target);
    std::fs::create_dir_all(&corpus).context("cannot create the corpus")?;
    let status = Command::new("cargo")
        .args(["fuzz", "run", "--sanitizer", "none", target])
        .arg(&corpus)
        .arg(fuzz.join("seeds").join(target))
        .args(["--", "-timeout=20", "-rss_limit_mb=4096", &format!("-max_total_time={seconds}")])
        // Coverage is an unstable flag of a stable compiler.
        .env("RUSTC_BOOTSTRAP", "1")
        .current_dir(root())
        .status()
        .context("cannot run cargo fuzz (cargo install cargo-fuzz)")?;
    if !status.success() {
        bail!("{target} found something: see fuzz/artifacts/{target}");
    }
    Ok(())
}
