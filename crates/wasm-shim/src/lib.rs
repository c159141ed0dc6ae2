//! Runs WebAssembly containers on wasmtime.
//!
//! A wasm container is a process like any other: forked by its pod shim, in the pod's namespaces and a cgroup of its own,
//! with volumes, stdio and exit codes. What differs is that nothing is executed: the launcher, ancestor of all pod shims,
//! builds the engine once, and every container is a copy-on-write fork of it that maps native code compiled beforehand.
//!
//! ```text
//!  node ── NativeCache ──fork+exec──▶ compile_main   nobody, seccomp, limits: untrusted wasm in, native code out by fd
//!                │ <cache>/<key>.<shape>.native
//!                ▼
//!  launcher: WasmRuntime::new()      engines and linkers, no thread
//!     └─ pod shim ── start() ──fork──▶ child          (child.rs, in this order, still one thread)
//!                                       stdio, cgroup, mounts (tree.rs), listening socket, user, capabilities,
//!                                       no_new_privs, map code, link, seccomp (filter.rs)
//!                                       ── only now threads: tokio, instance (command.rs, http.rs) ──▶ "started"
//! ```
//!
//! *Architecture invariants.* Native code comes from [`compile_main`] only, never from a registry or from a place a
//! container can write to. A child never returns into the pod shim's code. No thread exists before the seccomp filter.

#![deny(unsafe_code)]

mod cache;
mod child;
mod command;
mod compile;
mod engine;
mod exec;
mod filter;
mod guest;
mod http;
mod limits;
mod runtime;
mod shape;
mod stdio;
#[allow(
    unsafe_code,
    reason = "fork, signal dispositions, descriptors and mapping native code have no safe interface"
)]
mod sys;
mod tree;

pub use cache::{CacheError, Native, NativeCache};
pub use compile::compile_main;
pub use runtime::WasmRuntime;
pub use shape::{NotRunnable, Shape};
