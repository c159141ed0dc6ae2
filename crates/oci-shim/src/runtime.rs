//! The runner as the pod shim sees it.

use crate::error::Error;
use crate::{exec, init, plan};
use catamaran_shim::privilege::CapabilitySet;
use catamaran_shim::runtime::{ExecRequest, Runtime, StartError, StartRequest, Started};
use catamaran_shim::seccomp::Program;
use std::path::Path;

/// Runs containers from bundles whose `config.json` follows the OCI runtime spec.
#[derive(Debug)]
pub struct OciRuntime(());

impl OciRuntime {
    /// To be called in the launcher: what is prepared here is shared by all pod shims forked from it.
    pub fn new() -> Self {
        let _ = Program::runtime_default(CapabilitySet::container_default());
        OciRuntime(())
    }
}

impl Default for OciRuntime {
    fn default() -> Self {
        Self::new()
    }
}

impl Runtime for OciRuntime {
    fn start(&mut self, request: StartRequest<'_>) -> Result<Started, StartError> {
        let mut plan =
            plan::load(request.id, request.bundle).map_err(|error| failed("CreateContainerError", &error))?;
        plan.process.terminal = request.terminal;
        if let Some(pid) = request.shared.processes {
            plan.namespaces.join_processes_of(pid);
        }
        plan.shared_memory_of = request.shared.memory;
        let running =
            init::start(&plan, &request.stdio, None, None).map_err(|error| failed("RunContainerError", &error))?;
        Ok(Started {
            pid: running.pid,
            pidfd: running.pidfd,
            console: running.console,
        })
    }

    fn exec(&mut self, request: ExecRequest<'_>) -> Result<Started, StartError> {
        let planned = plan::read_spec(request.bundle)
            .and_then(|spec| exec::plan(request.container_id, &spec, request.container_pid, request.process));
        let running = planned
            .and_then(|plan| exec::start(&plan, &request.stdio))
            .map_err(|error| failed("", &error))?;
        Ok(Started {
            pid: running.pid,
            pidfd: running.pidfd,
            console: running.console,
        })
    }

    fn cleanup(&mut self, id: &str, bundle: &Path) {
        match plan::load(id, bundle) {
            Ok(plan) => init::remove_cgroup(&plan.cgroup),
            Err(error) => tracing::debug!(id, error = error.line(), "nothing to clean up"),
        }
    }
}

fn failed(reason: &str, error: &Error) -> StartError {
    StartError {
        reason: reason.to_owned(),
        message: error.line(),
        exit_code: error.exit_code(),
    }
}
