//! What a pod shim asks of a container runtime.
//!
//! Implementations run inside the pod shim: single-threaded, already in the pod's net/ipc/uts namespaces, as root. They
//! may fork; they must not start threads in the shim itself (a forked child may).
//!
//! A child that is forked inherits from the shim, and must put right before it runs anything: blocked SIGCHLD, SIGTERM,
//! SIGINT and SIGHUP, ignored SIGPIPE, every descriptor of the shim (its listening socket would keep a dead shim
//! connectable), an `oom_score_adj` of 0, umask 022, working directory `/`, `/dev/null` as standard streams. It must
//! never return into the shim. A runtime may wait for the children it made on the way, by pid, but leaves the one it
//! returns unreaped. A container's cgroup is `<pod cgroup>/<id>`: the shim signals, and asks for OOM kills, there. Last
//! words for [`crate::spec::Exit::message`] go into the bundle's file [`crate::state_dir::EXIT_MESSAGE_FILE`].

use std::os::fd::OwnedFd;
use std::path::Path;

/// Standard streams of a process to start. `None` is `/dev/null`. With a terminal all three are `None`: the runtime
/// opens a pty in the container and returns its master as [`Started::console`].
#[derive(Debug, Default)]
pub struct Stdio {
    pub stdin: Option<OwnedFd>,
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
}

/// Start the container described by the bundle directory: `config.json` (OCI runtime spec) for Linux containers,
/// `wasm.json` ([`crate::spec::WasmSpec`]) for wasm.
#[derive(Debug)]
pub struct StartRequest<'a> {
    pub id: &'a str,
    pub bundle: &'a Path,
    pub stdio: Stdio,
    pub terminal: bool,
    pub shared: SharedWith,
}

/// First processes of running containers of which a new one has something. The shim has not reaped them, nor will it before the
/// start is over: the numbers are theirs.
#[derive(Clone, Copy, Debug, Default)]
pub struct SharedWith {
    /// Whose PID namespace it joins.
    pub processes: Option<i32>,
    /// Whose `/dev/shm` it has.
    pub memory: Option<i32>,
}

/// Start one more process inside a running container.
#[derive(Debug)]
pub struct ExecRequest<'a> {
    pub container_id: &'a str,
    pub bundle: &'a Path,
    /// The container's first process.
    pub container_pid: i32,
    pub process: &'a oci_spec::runtime::Process,
    pub stdio: Stdio,
}

/// A started process. The pod shim reaps it.
#[derive(Debug)]
pub struct Started {
    pub pid: i32,
    pub pidfd: OwnedFd,
    /// Master side of the pty, when a terminal was asked for.
    pub console: Option<OwnedFd>,
}

/// Why a process did not start. `reason` is Kubernetes' container waiting reason, or empty where the caller decides.
#[derive(Clone, Debug, thiserror::Error, serde::Serialize, serde::Deserialize)]
#[error("{message}")]
pub struct StartError {
    /// `RunContainerError`, `CreateContainerError`, `CreateContainerConfigError`, `StartError`.
    pub reason: String,
    /// One line, complete for a user: what was tried, what failed, why (the whole error chain).
    pub message: String,
    /// Exit code in the manner of a shell, where one is defined: 127 not found, 126 not executable, else 128.
    pub exit_code: i32,
}

/// One way of running containers. Chosen per container, from its image.
pub trait Runtime {
    /// Returns when the container's program runs (its `execve` succeeded, or the wasm instance is ready to run), or with
    /// the reason why it does not; then nothing of it is left.
    fn start(&mut self, request: StartRequest<'_>) -> Result<Started, StartError>;

    /// Runs one more process in a running container.
    fn exec(&mut self, request: ExecRequest<'_>) -> Result<Started, StartError>;

    /// Called once after the container's first process was reaped: kill what is left in its cgroup, remove the cgroup.
    /// Idempotent, and tolerant of a container that never started.
    fn cleanup(&mut self, id: &str, bundle: &Path);
}

/// The runtimes a pod shim can choose from.
pub struct Runtimes {
    pub linux: Box<dyn Runtime>,
    pub wasm: Box<dyn Runtime>,
}
