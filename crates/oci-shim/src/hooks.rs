//! Lifecycle hooks of the runtime spec: programs that are told the container's state on stdin.

use crate::error::{Error, Result};
use crate::plan::Plan;
use oci_spec::runtime::Hook;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::json;
use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The state that hooks and `state` show, see the runtime spec, "State".
pub(crate) fn state_json(plan: &Plan, status: &str, pid: i32) -> serde_json::Value {
    state_value(
        &plan.oci_version,
        &plan.id,
        status,
        pid,
        &plan.bundle,
        &plan.annotations,
    )
}

pub(crate) fn state_value(
    version: &str,
    id: &str,
    status: &str,
    pid: i32,
    bundle: &Path,
    annotations: &std::collections::HashMap<String, String>,
) -> serde_json::Value {
    let mut state = json!({"ociVersion": version, "id": id, "status": status, "pid": pid, "bundle": bundle});
    if !annotations.is_empty() {
        state["annotations"] = json!(annotations);
    }
    state
}

/// Runs the hooks of one kind in order.
///
/// # Errors
/// The first hook that fails, cannot be started or takes longer than its timeout.
pub(crate) fn run(kind: &'static str, hooks: Option<&Vec<Hook>>, state: &serde_json::Value) -> Result<()> {
    let text = state.to_string();
    for hook in hooks.into_iter().flatten() {
        run_one(kind, hook, text.as_bytes()).map_err(|problem| Error::Hook {
            kind,
            path: hook.path().clone(),
            problem,
        })?;
    }
    Ok(())
}

/// As [`run`] for hooks whose failure changes nothing any more: they are all run, failures are logged.
pub(crate) fn run_tolerant(kind: &'static str, hooks: Option<&Vec<Hook>>, state: &serde_json::Value) {
    let text = state.to_string();
    for hook in hooks.into_iter().flatten() {
        if let Err(problem) = run_one(kind, hook, text.as_bytes()) {
            tracing::warn!(kind, hook = %hook.path().display(), problem, "hook failed");
        }
    }
}

fn run_one(kind: &str, hook: &Hook, state: &[u8]) -> Result<(), String> {
    let mut command = Command::new(hook.path());
    if let Some((name, arguments)) = hook.args().as_ref().and_then(|args| args.split_first()) {
        command.arg0(name).args(arguments);
    }
    command.env_clear().envs(
        hook.env()
            .iter()
            .flatten()
            .filter_map(|variable| variable.split_once('=')),
    );
    // Files in memory, not pipes: neither side ever waits for the other, whatever a hook reads or writes.
    let files = memory_file(state).and_then(|input| Ok((input, memory_file(b"")?)));
    let (input, errors) = files.map_err(|error| format!("cannot be started: {error}"))?;
    let shared = errors
        .try_clone()
        .map_err(|error| format!("cannot be started: {error}"))?;
    command.stdin(input).stdout(Stdio::null()).stderr(shared);
    let mut child = command.spawn().map_err(|error| format!("cannot be started: {error}"))?;
    if let Some(seconds) = hook.timeout() {
        wait_at_most(&mut child, Duration::from_secs(seconds.unsigned_abs()))?;
    }
    let status = child.wait().map_err(|error| format!("cannot be waited for: {error}"))?;
    tracing::debug!(kind, hook = %hook.path().display(), %status, "hook ended");
    if status.success() {
        return Ok(());
    }
    let mut words = [0; WORDS_MAX];
    let length = errors.read_at(&mut words, 0).unwrap_or_default();
    let words = String::from_utf8_lossy(&words[..length]);
    Err(format!("failed with {status}: {}", words.trim()))
}

/// How much of what a hook complains about is passed on, in bytes.
const WORDS_MAX: usize = 200;

fn memory_file(content: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create(c"hook", MemfdFlags::CLOEXEC)?);
    file.write_all(content)?;
    file.rewind()?;
    Ok(file)
}

fn wait_at_most(child: &mut Child, limit: Duration) -> Result<(), String> {
    let pid = Pid::from_child(child);
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|error| format!("cannot be waited for: {error}"))?;
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: left.as_secs() as i64,
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("took longer than {} s", limit.as_secs()));
            }
            Err(rustix::io::Errno::INTR) => {}
            _ => return Ok(()),
        }
    }
}
