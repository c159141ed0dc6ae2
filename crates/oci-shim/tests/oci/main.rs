//! Containers on a real kernel, as root.
//!
//! The program is three things: the tests; with `__oci` as first argument the runner itself (a test process has threads,
//! the runner must not); and with `__probe` the payload of containers, for what a shell cannot do. Root file systems
//! consist of the host's own `/usr`, bound read-only, so nothing is downloaded or copied.

mod lifecycle;
mod privileges;
mod probe;
mod resources;
mod rootfs;
mod runtime;
mod world;

use std::process::ExitCode;

type Test = (&'static str, fn());

fn tests() -> Vec<Test> {
    [
        lifecycle::TESTS,
        privileges::TESTS,
        resources::TESTS,
        rootfs::TESTS,
        runtime::TESTS,
    ]
    .concat()
}

fn main() -> ExitCode {
    let mut args: Vec<_> = std::env::args_os().skip(1).collect();
    match args.first().and_then(|first| first.to_str()) {
        Some("__oci") => catamaran_oci_shim::cli(args.split_off(1)),
        Some("__probe") => probe::main(&args.split_off(1)),
        Some("__runtime") => runtime::main(&args.split_off(1)),
        _ => harness(
            &args
                .iter()
                .map(|arg| arg.to_string_lossy().into_owned())
                .collect::<Vec<_>>(),
        ),
    }
}

/// The part of libtest's command line that cargo and nextest use.
fn harness(args: &[String]) -> ExitCode {
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    let mut selected = tests();
    let filters: Vec<&String> = args
        .iter()
        .filter(|arg| !arg.starts_with('-') && *arg != "terse")
        .collect();
    let wanted = |name: &str| {
        filters.iter().any(|f| {
            if has("--exact") {
                *f == name
            } else {
                name.contains(f.as_str())
            }
        })
    };
    selected.retain(|(name, _)| !has("--ignored") && (filters.is_empty() || wanted(name)));
    if has("--list") {
        selected.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    if !rustix::process::geteuid().is_root() {
        let in_ci = std::env::var("CI").is_ok_and(|value| value == "true");
        println!("skipped: needs root ({} tests)", selected.len());
        return if in_ci && !selected.is_empty() {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        };
    }
    let failed: Vec<&str> = selected
        .iter()
        .filter(|(name, test)| !passes(name, *test))
        .map(|(name, _)| *name)
        .collect();
    println!("{} tests, {} failed {failed:?}", selected.len(), failed.len());
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn passes(name: &str, test: fn()) -> bool {
    let passed = std::panic::catch_unwind(test).is_ok();
    println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
    passed
}
