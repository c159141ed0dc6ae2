//! Values that cross process borders: messages between agent, launcher and pod shim, and what stands in state
//! directories. Formats on disk are ours; fields are only ever added, and unknown ones ignored.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What a pod shim is told once, at its birth.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodConfig {
    pub uid: String,
    pub namespace: String,
    pub name: String,
    /// The pod's state directory, on tmpfs: `<run>/pods/<uid>`. The launcher's caller created it (0700).
    pub state_dir: PathBuf,
    pub hostname: String,
    /// The pod's cgroup below every hierarchy's root, for example `/catamaran-1a2b3c4d/pod<uid>`; it exists.
    /// The shim itself moves to the child `shim`.
    pub cgroup: String,
    pub share_process_namespace: bool,
    /// Namespaced sysctls (`kernel.shm_*`, `net.*`), written in the pod's namespaces.
    #[serde(default)]
    pub sysctls: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RuntimeKind {
    Linux,
    Wasm,
}

/// Start a container whose bundle directory is `<pod state dir>/containers/<id>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerConfig {
    /// Unique on the node: 64 lower-case hex digits.
    pub id: String,
    /// The name in the pod, for messages.
    pub name: String,
    pub runtime: RuntimeKind,
    /// CRI log file; its directory exists. `None`: output is dropped.
    pub log_path: Option<PathBuf>,
    pub terminal: bool,
    /// Keep a pipe open for the container's stdin, so that `attach` can write to it.
    pub stdin: bool,
    /// Close stdin when the first attached client closes it.
    pub stdin_once: bool,
    #[serde(default)]
    pub shared: Shared,
}

/// What a container has of others in its pod, by their ids. They are looked up when it starts, by who knows whether they run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shared {
    /// It joins that one's processes; if that does not run, the start fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes: Option<String>,
    /// It has that one's `/dev/shm`, if that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// 0–255; 128+n when killed by signal n.
    pub code: i32,
    pub signal: Option<i32>,
    pub oom_killed: bool,
    pub started_at: jiff::Timestamp,
    pub finished_at: jiff::Timestamp,
    /// Last words for the container status (a wasm trap, for instance); empty otherwise.
    #[serde(default)]
    pub message: String,
}

/// One container as its pod shim knows it (also `<bundle>/state.json`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerState {
    pub config: ContainerConfig,
    pub pid: i32,
    pub started_at: jiff::Timestamp,
    /// `Some` once it ended (also `<bundle>/exit.json`).
    pub exit: Option<Exit>,
}

/// `wasm.json`: everything a wasm container needs. The counterpart of an OCI runtime spec.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WasmSpec {
    /// The wasm file (module or component), inside the content store; shown in messages.
    pub module: PathBuf,
    /// Native code of it, made by the node's compiler.
    pub native: PathBuf,
    /// `argv`, including the program's name.
    pub args: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Root file system as overlay lower directories, uppermost first; empty for a bare artifact.
    #[serde(default)]
    pub lower_dirs: Vec<PathBuf>,
    /// Writable layer of the root file system (`upper` and `work` below it); `None` makes the root read-only.
    #[serde(default)]
    pub writable_layer: Option<PathBuf>,
    pub preopens: Vec<Preopen>,
    /// The container's cgroup below every hierarchy's root.
    pub cgroup: String,
    /// Limits of the container's cgroup, as the OCI runtime spec has them.
    pub resources: oci_spec::runtime::LinuxResources,
    /// Linear memory limit, bytes.
    pub memory_limit: Option<u64>,
    pub uid: u32,
    pub gid: u32,
    #[serde(default)]
    pub supplemental_gids: Vec<u32>,
    /// Where a `wasi:http/proxy` component is served.
    pub http_port: u16,
    /// False with `seccompProfile: Unconfined` or `privileged`.
    pub seccomp: bool,
    /// Written by name in errors and the process title.
    pub container_name: String,
}

/// A directory (or single file) a wasm container can see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preopen {
    pub host_path: PathBuf,
    pub guest_path: String,
    pub read_only: bool,
}
