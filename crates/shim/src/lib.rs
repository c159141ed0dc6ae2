//! What the node agent and the shims agree on.
//!
//! ```text
//!  cata dev / cata agent ──fork at the top of main──▶ launcher            single-threaded, dies with the agent
//!        │                                               │ fork twice
//!        │ SOCK_SEQPACKET, one per agent life            ▼
//!        └──────────────────────────────────────────▶ pod shim            one per pod; the pause-equivalent
//!                                                        │ Runtime::start (clone / fork)
//!                                             ┌──────────┴──────────┐
//!                                             ▼                     ▼
//!                                       Linux container       wasm container
//! ```
//!
//! A pod shim is its own session and cgroup, a child of init (never of the launcher), a subreaper, poll-driven and
//! single-threaded to its end. It holds the pod's net, ipc and uts namespaces (pid too when the pod shares it), is the
//! parent of every container, drains their output into CRI log files and writes exit files. The agent may die and come
//! back: it finds pod shims by their state directories and connects again.
//!
//! *Architecture invariant:* this crate knows no Kubernetes type; it depends on no runtime. Runtimes depend on it.

#![deny(unsafe_code)]

pub mod cgroup;
pub mod client;
pub mod launcher;
pub mod leftovers;
mod message;
pub mod overlay;
mod pod;
pub mod privilege;
pub mod runtime;
pub mod seccomp;
pub mod spec;
pub mod state_dir;
#[allow(unsafe_code, reason = "the one place for raw system calls")]
mod sys;
mod wire;

pub use state_dir::{StateDir, run_base};
pub use sys::Fork;
