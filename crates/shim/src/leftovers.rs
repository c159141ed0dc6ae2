//! Cleaning up after processes that were killed: what `cata cleanup`, and an agent that finds a dead shim, do.
//!
//! Nothing here needs a shim to cooperate. A pod's processes are found by its cgroup, the shim itself by pid and start
//! time, so a recycled pid is never hit; one that its agent did not live to see set up, by the lock it took first.

use crate::cgroup::{self, Cgroup};
use crate::state_dir::{Sandbox, StateDir};
use crate::sys;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// How long a killed shim may take to end. Only uninterruptible sleep makes it long.
const ENDING: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };

/// What [`remove_instance`] found and could not remove.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Uids of pods whose state was removed.
    pub pods: Vec<String>,
    /// Cgroups removed.
    pub cgroups: Vec<String>,
    /// One line per thing that stayed.
    pub failures: Vec<String>,
}

/// Kills every pod shim and container of an instance and removes their cgroups (`/catamaran-<instance>*`) and state
/// directories. No agent of that instance may run. Blocking.
pub fn remove_instance(run_dir: &Path, instance: &str) -> Report {
    let mut report = Report::default();
    let pods = StateDir::list(run_dir).unwrap_or_else(|error| {
        report.failures.push(error.to_string());
        Vec::new()
    });
    for dir in pods {
        let uid = dir
            .path()
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let sandbox = dir.sandbox().ok().flatten();
        match remove_pod(&dir, sandbox.as_ref()).and_then(|()| dir.remove().map_err(|error| error.to_string())) {
            Ok(()) => report.pods.push(uid),
            Err(message) => report.failures.push(format!("pod {uid}: {message}")),
        }
    }
    for path in cgroup::top_level(&format!("catamaran-{instance}")) {
        match end_cgroup(&path) {
            Ok(()) => report.cgroups.push(path),
            Err(message) => report.failures.push(message),
        }
    }
    report
}

/// Kills what is left of one pod (its shim, if it lives, first), removes its cgroup and the content of its state
/// directory. Idempotent; blocking. For a pod whose shim is [`crate::client::Error::Gone`].
///
/// # Errors
/// One line.
pub fn remove_pod(dir: &StateDir, sandbox: Option<&Sandbox>) -> Result<(), String> {
    kill_lock_holder(dir);
    if let Some(sandbox) = sandbox {
        kill_shim(sandbox);
        end_cgroup(&sandbox.config.cgroup)?;
    }
    dir.remove_contents().map_err(|error| error.to_string())
}

fn kill_shim(sandbox: &Sandbox) {
    kill_if(sandbox.pid, || sandbox.is_alive());
}

/// A shim that is still setting itself up has published nothing, but it has its lock.
fn kill_lock_holder(dir: &StateDir) {
    let Ok(lock) = File::open(dir.lock()) else { return };
    let holder = || sys::lock_holder(&lock).ok().flatten();
    if let Some(pid) = holder() {
        kill_if(pid, || holder() == Some(pid));
    }
}

/// Ends a process, and waits until it has. `is_meant` is asked while a descriptor is held: then the number cannot have
/// become another process's.
fn kill_if(pid: i32, is_meant: impl FnOnce() -> bool) {
    let pidfd: Option<OwnedFd> = Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    let Some(pidfd) = pidfd.filter(|_| is_meant()) else {
        return;
    };
    if sys::pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL).is_ok() {
        let _ = rustix::io::retry_on_intr(|| poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&ENDING)));
    }
}

fn end_cgroup(path: &str) -> Result<(), String> {
    let ended = Cgroup::open(path).and_then(|cgroup| cgroup.kill_all().and_then(|()| cgroup.remove()));
    ended.map_err(|error| error.line())
}
