//! Development tasks: `cargo xtask test | bench | fuzz | tidy`.

mod bench;
mod fuzz;
mod test;
mod tidy;

use anyhow::{Result, bail};
use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask <task>

  test [--real]           pass the tests; --real adds the tier with real clients and registries
  bench [ROW…] [--json]   print the rows of the budgets, each beside its peer; `api` stands for those of the API server
  fuzz TARGET [SECONDS]   look for inputs that break a parser (wants cargo-fuzz)
  tidy                    check what the compiler does not: crate edges, sorted lists, the shape of the tree
";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (task, rest) = match arguments.split_first() {
        Some((task, rest)) => (task.as_str(), rest),
        None => bail!("no task given\n\n{USAGE}"),
    };
    match task {
        "test" => test::run(rest),
        "bench" => bench::run(rest),
        "fuzz" => fuzz::run(rest),
        "tidy" => tidy::run(),
        "help" | "--help" | "-h" => {
            print!("{USAGE}");
            Ok(())
        }
        other => bail!("there is no task {other:?}\n\n{USAGE}"),
    }
}

/// The repository's root: xtask is always run from inside the workspace.
fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().map_or(here.clone(), PathBuf::from)
}
