//! What `cata oci` remembers of a container between commands: `<root>/<id>/` with `state.json`, a copy of the spec, and
//! while the container is created but not started, the fifo at which it waits.
//!
//! The root is on tmpfs: the state of containers must not outlive them over a reboot, and is written for every start.

use crate::error::{Error, Result, Step};
use crate::hooks;
use crate::plan::Plan;
use catamaran_shim::state_dir::start_time_ticks;
use oci_spec::runtime::Spec;
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, FileType, Mode, OFlags};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct State {
    #[serde(rename = "ociVersion")]
    pub oci_version: String,
    pub id: String,
    pub pid: i32,
    /// Start of the process, clock ticks after boot: tells it from a later one with the same pid.
    pub start_time: u64,
    pub bundle: PathBuf,
    pub rootfs: PathBuf,
    pub created: jiff::Timestamp,
    pub cgroup: String,
    #[serde(default)]
    pub annotations: HashMap<String, String>,
}

impl State {
    /// Whether that very process still runs.
    pub(super) fn is_alive(&self) -> bool {
        start_time_ticks(self.pid) == Some(self.start_time)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Created,
    Running,
    Stopped,
}

impl Status {
    pub(super) fn name(self) -> &'static str {
        match self {
            Status::Created => "created",
            Status::Running => "running",
            Status::Stopped => "stopped",
        }
    }
}

/// The directory of one container.
#[derive(Debug)]
pub(super) struct Dir(PathBuf);

impl Dir {
    pub(super) fn new(root: &Path, id: &str) -> Result<Dir> {
        crate::plan::check_id(id)?;
        Ok(Dir(root.join(id)))
    }

    /// Makes the directory of a new container.
    pub(super) fn create(root: &Path, id: &str) -> Result<Dir> {
        let dir = Dir::new(root, id)?;
        std::fs::create_dir_all(root).step(|| format!("create {}", root.display()))?;
        match std::fs::create_dir(&dir.0) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(Error::Refused(format!("a container with the id {id:?} already exists")))
            }
            other => other.step(|| format!("create {}", dir.0.display())).map(|()| dir),
        }
    }

    pub(super) fn remove(&self) -> Result<()> {
        match std::fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).step(|| format!("remove {}", self.0.display()))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn save(&self, plan: &Plan, pid: i32) -> Result<()> {
        let state = State {
            oci_version: plan.oci_version.clone(),
            id: plan.id.clone(),
            pid,
            start_time: start_time_ticks(pid).unwrap_or_default(),
            bundle: plan.bundle.clone(),
            rootfs: plan.root.clone(),
            created: jiff::Timestamp::now(),
            cgroup: plan.cgroup.clone(),
            annotations: plan.annotations.clone(),
        };
        let path = self.0.join("state.json");
        let text = serde_json::to_vec(&state).expect("plain values");
        // By rename: another command may be reading, or this one be killed here.
        let draft = self.0.join("state.json.new");
        std::fs::write(&draft, text)
            .and_then(|()| std::fs::rename(&draft, &path))
            .step(|| format!("write {}", path.display()))
    }

    /// The bundle may change or vanish while the container lives.
    pub(super) fn keep_spec(&self, bundle: &Path) -> Result<()> {
        let copy = std::fs::copy(bundle.join("config.json"), self.0.join("config.json"));
        copy.step(|| "copy config.json".into()).map(drop)
    }

    pub(super) fn spec(&self) -> Result<Spec> {
        crate::plan::read_spec(&self.0)
    }

    pub(super) fn load(&self) -> Result<State> {
        let path = self.0.join("state.json");
        let bytes = match std::fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let id = self.0.file_name().unwrap_or_default().display().to_string();
                return Err(Error::Refused(format!("container {id:?} does not exist")));
            }
            other => other.map_err(|source| Error::Read {
                path: path.clone(),
                source,
            })?,
        };
        serde_json::from_slice(&bytes).map_err(|source| Error::Parse { path, source })
    }

    pub(super) fn status(&self, state: &State) -> Status {
        if !state.is_alive() {
            Status::Stopped
        } else if self.gate().exists() {
            Status::Created
        } else {
            Status::Running
        }
    }

    /// `state` as the runtime spec defines it, with runc's additions.
    pub(super) fn show(&self, state: &State) -> serde_json::Value {
        let status = self.status(state);
        let pid = if status == Status::Stopped { 0 } else { state.pid };
        let mut shown = hooks::state_value(
            &state.oci_version,
            &state.id,
            status.name(),
            pid,
            &state.bundle,
            &state.annotations,
        );
        shown["rootfs"] = serde_json::json!(state.rootfs);
        shown["created"] = serde_json::json!(state.created.to_string());
        shown["owner"] = serde_json::json!("");
        shown
    }

    fn gate(&self) -> PathBuf {
        self.0.join("exec.fifo")
    }

    /// Makes the fifo at which a created container waits, and opens its read end.
    pub(super) fn make_gate(&self) -> Result<OwnedFd> {
        let path = self.gate();
        let step = || format!("create {}", path.display());
        rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).step(step)?;
        rustix::fs::open(
            &path,
            OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .step(step)
    }

    /// Lets the container through. Nobody reads the fifo any more when its process has ended.
    pub(super) fn open_gate(&self) -> Result<()> {
        let path = self.gate();
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fifo = rustix::fs::open(&path, flags, Mode::empty()).step(|| "wake the created container".into())?;
        rustix::io::write(&fifo, b"0").step(|| "wake the created container".into())?;
        std::fs::remove_file(&path).step(|| format!("remove {}", path.display()))
    }
}

/// The ids below a state root.
pub(super) fn ids(root: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    let mut ids: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    ids.sort();
    ids
}
