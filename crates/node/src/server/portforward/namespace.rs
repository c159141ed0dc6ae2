//! The network namespace of a pod, by the number of its shim.
//!
//! Numbers are used again: what `/proc/<pid>` shows may be another process by the time it is opened, perhaps this one's child, and
//! its namespace the machine's own. So what was opened counts only if that very shim was still there afterwards.

use super::GONE;
use catamaran_shim::state_dir::StateDir;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;

pub(super) fn path(pid: i32) -> String {
    format!("/proc/{pid}/ns/net")
}

/// Opens the namespace of a shim that has its state in `dir`.
///
/// # Errors
/// It is gone, or another has taken its place; or its namespace is the one this process is in, where no pod is.
pub(super) fn open(dir: &StateDir, pid: i32) -> io::Result<File> {
    let namespace = File::open(path(pid))?;
    let sandbox = dir.sandbox().map_err(io::Error::other)?;
    if !sandbox.is_some_and(|sandbox| sandbox.pid == pid && sandbox.is_alive()) {
        return Err(io::Error::other(GONE));
    }
    let own = std::fs::metadata("/proc/self/ns/net")?;
    if identity(&namespace.metadata()?) == identity(&own) {
        return Err(io::Error::other(
            "the pod's sandbox has no network namespace of its own",
        ));
    }
    Ok(namespace)
}

fn identity(namespace: &Metadata) -> (u64, u64) {
    (namespace.dev(), namespace.ino())
}
