//! Real containers, forked as a pod shim forks them.
//!
//! libtest runs tests on threads, and a fork of a threaded process may hang. So this program has a `main` of its own,
//! which speaks enough of libtest's command line for `cargo test` and nextest, and runs each test on the main thread, in
//! a process of one thread, in a network namespace of its own. The same program plays the compiler and the node's cache.

mod cache;
mod commands;
mod exec;
mod harness;
mod services;
#[allow(
    unsafe_code,
    reason = "network namespaces and interface requests have no safe interface"
)]
mod sys;
mod world;

use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("__wasm-compile") => catamaran_wasm_shim::compile_main(),
        Some("__native") => world::native_role(),
        Some("__cache") => cache::role(),
        _ => harness::run(&[cache::TESTS, commands::TESTS, exec::TESTS, services::TESTS]),
    }
}
