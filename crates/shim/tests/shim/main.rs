//! Launcher and pod shim on a real kernel, with a small runtime of our own. Needs root.
//!
//! This binary is also the launcher (`__launcher`) and an agent that gets killed (`__agent`), so it has a main of its own
//! that speaks enough of libtest's command line for `cargo test` and nextest.

mod agent;
mod kernel;
mod lifecycle;
mod runtime;
mod streams;
mod survival;
mod world;

use std::process::ExitCode;

type Test = (&'static str, fn());

fn tests() -> Vec<Test> {
    [kernel::TESTS, lifecycle::TESTS, streams::TESTS, survival::TESTS].concat()
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some(catamaran_shim::launcher::ARGUMENT) => return catamaran_shim::launcher::main_from_exec(runtime::runtimes),
        Some("__agent") => return agent::main(&arguments[1..]),
        _ => {}
    }
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    // Options with a value of their own come as `--format terse`.
    let with_value = ["--format", "--test-threads", "--color", "--skip", "--logfile", "-Z"];
    let is_value = |index: usize| index > 0 && with_value.contains(&arguments[index - 1].as_str());
    let mut filters = arguments
        .iter()
        .enumerate()
        .filter(|(index, text)| !text.starts_with('-') && !is_value(*index));
    let filter = filters.next().map(|(_, text)| text.as_str());
    let wanted = |name: &str| match filter {
        Some(filter) if has("--exact") => name == filter,
        Some(filter) => name.contains(filter),
        None => true,
    };
    let selected: Vec<Test> = tests()
        .into_iter()
        .filter(|(name, _)| wanted(name) && !has("--ignored"))
        .collect();
    if has("--list") {
        selected.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    if !world::require_root() {
        return if std::env::var_os("CI").is_some() {
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
    println!(
        "{} passed, {} failed {failed:?}",
        selected.len() - failed.len(),
        failed.len()
    );
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
