//! The part of libtest's command line that cargo and nextest use.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

/// Name and body.
pub(crate) type Test = (&'static str, fn());

pub(crate) fn run(groups: &[&[Test]]) -> ExitCode {
    let options = Options::read();
    let tests: Vec<Test> = groups
        .iter()
        .flat_map(|group| group.iter().copied())
        .filter(|(name, _)| options.wants(name))
        .collect();
    if options.list {
        for (name, _) in tests.iter().filter(|_| !options.ignored) {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    if options.ignored {
        return summary(0, &[]);
    }
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root: {} tests of wasm containers", tests.len());
        return if std::env::var("CI").is_ok_and(|ci| ci == "true") {
            ExitCode::FAILURE
        } else {
            summary(0, &[])
        };
    }
    crate::sys::own_network();
    println!("\nrunning {} tests", tests.len());
    let mut failed = Vec::new();
    for (name, body) in &tests {
        let passed = catch_unwind(AssertUnwindSafe(body)).is_ok();
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        if !passed {
            failed.push(*name);
        }
    }
    summary(tests.len() - failed.len(), &failed)
}

fn summary(passed: usize, failed: &[&str]) -> ExitCode {
    let word = if failed.is_empty() { "ok" } else { "FAILED" };
    for name in failed {
        println!("failed: {name}");
    }
    println!(
        "\ntest result: {word}. {passed} passed; {} failed; 0 ignored; 0 measured; 0 filtered out\n",
        failed.len()
    );
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

struct Options {
    list: bool,
    ignored: bool,
    exact: bool,
    filters: Vec<String>,
}

impl Options {
    fn read() -> Options {
        let mut options = Options {
            list: false,
            ignored: false,
            exact: false,
            filters: Vec::new(),
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--list" => options.list = true,
                "--ignored" => options.ignored = true,
                "--exact" => options.exact = true,
                "--format" | "--test-threads" | "--color" => drop(arguments.next()),
                flag if flag.starts_with('-') => {}
                filter => options.filters.push(filter.to_owned()),
            }
        }
        options
    }

    fn wants(&self, name: &str) -> bool {
        let matches = |filter: &String| {
            if self.exact {
                name == filter
            } else {
                name.contains(filter.as_str())
            }
        };
        self.filters.is_empty() || self.filters.iter().any(matches)
    }
}
