//! Runs Linux containers from OCI bundles, single-threaded from start to end.
//!
//! A container is started in two steps. [`plan`] turns the spec into values: it decides everything, touches nothing,
//! and refuses a bad spec with the name of the field. [`init`] then carries the plan out in a cloned process: cgroup,
//! namespaces, mounts ([`rootfs`]), devices, terminal, hooks, and at the end the privileges of the program
//! ([`process`]). [`exec`] adds a process to a container that runs.
//!
//! The same code is the pod shim's runtime ([`OciRuntime`]) and the command `cata oci` ([`cli`]), which takes runc's
//! arguments so that bundles can be run and compared.
//!
//! *Architecture invariant:* no thread is ever started here. A process is cloned and goes on in Rust, with allocation
//! and formatting; that is sound only while nobody else can hold a lock.
//!
//! Whoever runs containers should call [`shield_binary`] at the top of `main`: it keeps them from overwriting the runner.
//!
//! Needs Linux 5.12 (`mount_setattr`). Specifications: OCI runtime-spec 1.x.
#![deny(unsafe_code)]

pub mod cli;
mod console;
mod device;
mod error;
#[allow(unsafe_code, reason = "clones a process; see the invariant above")]
pub mod exec;
mod hooks;
#[allow(unsafe_code, reason = "clones a process; see the invariant above")]
pub mod init;
mod paths;
pub mod plan;
#[allow(unsafe_code, reason = "rearranges descriptors by number before exec")]
mod process;
mod rootfs;
mod runtime;
mod shield;
#[allow(unsafe_code, reason = "system calls without a safe wrapper")]
mod sys;

pub use cli::cli;
pub use error::{Error, Report};
pub use runtime::OciRuntime;
pub use shield::shield_binary;
