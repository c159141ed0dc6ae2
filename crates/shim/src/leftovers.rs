//! Cleaning up after processes that were killed: what `cata cleanup`, and an agent that finds a dead shim, do.
//!
//! Nothing here needs a shim to cooperate. A pod's processes are found by its cgroup, the shim itself by pid and start
//! time, so a recycled pid is never hit.

use crate::cgroup::{self, Cgroup};
use crate::state_dir::{Sandbox, StateDir};
use std::path::Path;

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
    if let Some(sandbox) = sandbox {
        kill_shim(sandbox);
        end_cgroup(&sandbox.config.cgroup)?;
    }
    dir.remove_contents().map_err(|error| error.to_string())
}

fn kill_shim(sandbox: &Sandbox) {
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    let Some(pid) = Pid::from_raw(sandbox.pid) else { return };
    let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else {
        return;
    };
    // Asked after the descriptor is held: now it cannot become another process.
    if sandbox.is_alive() {
        let _ = crate::sys::pidfd_send_signal(std::os::fd::AsFd::as_fd(&pidfd), libc::SIGKILL);
    }
}

fn end_cgroup(path: &str) -> Result<(), String> {
    let explain = |error: cgroup::Error| match std::error::Error::source(&error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    let cgroup = Cgroup::open(path).map_err(explain)?;
    cgroup.kill_all().and_then(|()| cgroup.remove()).map_err(explain)
}
