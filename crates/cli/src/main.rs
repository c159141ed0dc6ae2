//! The `cata` command.
//!
//! One binary plays every part: API server, scheduler, node agent, the launcher and the shims behind it, and a client
//! with kubectl's manners. `main` decides which part before anything else happens, because the launcher has to be forked
//! and shims have to be entered while the process is still single-threaded; that is why nothing here is `#[tokio::main]`.

#![deny(unsafe_code)]

mod apply;
mod assembly;
mod client;
mod cmd;
mod daemon;
mod data_dir;
mod demo;
mod follow;
mod manifest;
mod print;
#[allow(
    unsafe_code,
    reason = "restoring a signal's default disposition has no safe interface"
)]
mod sys;
mod terminal;

use clap::Parser;
use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if let Some(exit) = internal_role(&arguments) {
        return exit;
    }
    sys::restore_sigpipe();
    let cli = cmd::Cli::parse_from(arguments);
    match cmd::run(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", one_line(&error));
            ExitCode::FAILURE
        }
    }
}

/// Parts this binary plays for itself: entered before argument parsing, threads and signal handlers.
fn internal_role(arguments: &[OsString]) -> Option<ExitCode> {
    match arguments.get(1)?.to_str()? {
        "__launcher" => Some(catamaran_shim::launcher::main_from_exec(assembly::runtimes)),
        "__wasm-compile" => Some(catamaran_wasm_shim::compile_main()),
        "oci" => Some(catamaran_oci_shim::cli(arguments[2..].to_vec())),
        _ => None,
    }
}

/// The whole chain of causes on one line, without repeating what a cause already said.
fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let cause = match cause.downcast_ref::<kube::Error>() {
            // Its own Display spells out the whole Status.
            Some(kube::Error::Api(status)) => status.message.clone(),
            _ => cause.to_string(),
        };
        let cause = cause.trim().replace('\n', " ");
        if !line.contains(&cause) {
            if !line.is_empty() {
                line.push_str(": ");
            }
            line.push_str(&cause);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    #[test]
    fn errors_are_one_line_and_say_nothing_twice() {
        let error = anyhow!("no such file")
            .context("cannot read x: no such file")
            .context("cannot apply");
        assert_eq!(super::one_line(&error), "cannot apply: cannot read x: no such file");
        assert_eq!(super::one_line(&anyhow!("a\nb")), "a b");
    }
}
