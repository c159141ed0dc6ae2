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
mod report;
mod server_side;
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
            report::print(&error);
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
