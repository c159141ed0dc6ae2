//! What a pod shim leaves on tmpfs, so that an agent which knows nothing can find it again.
//!
//! ```text
//! <run>/pods/<uid>/                 0700
//!   lock                            held (POSIX record lock) by the living pod shim
//!   shim.sock                       0600
//!   sandbox.json                    Sandbox
//!   containers/<id>/                the bundle, made by the agent
//!     config.json | wasm.json       for the runtime
//!     state.json                    ContainerState, from its start on
//!     exit.json                     Exit, before anybody is told of it
//! ```
//!
//! Every file appears whole, by rename. Nothing is synced: a tmpfs is gone when its machine is.

use crate::spec::{ContainerState, Exit, PodConfig};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

const SANDBOX: &str = "sandbox.json";
const STATE: &str = "state.json";
const EXIT: &str = "exit.json";
const CONTAINERS: &str = "containers";

/// A runtime may leave a process's last words here, in the bundle, before it ends; they become [`Exit::message`].
pub const EXIT_MESSAGE_FILE: &str = "exit-message";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {step} {}", path.display())]
    Io {
        step: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("{} is not understood", path.display())]
    Parse { path: PathBuf, source: serde_json::Error },
}

/// A pod shim's birth certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    pub pid: i32,
    /// Field 22 of `/proc/<pid>/stat`: with the pid it names one process for as long as the machine is up.
    pub start_time_ticks: u64,
    pub config: PodConfig,
}

impl Sandbox {
    /// Whether that very process still runs (a zombie does not).
    pub fn is_alive(&self) -> bool {
        start_time_ticks(self.pid) == Some(self.start_time_ticks)
    }

    /// Waits, inside tokio, for its end. False when it still runs after `patience`.
    pub(crate) async fn wait_end(&self, patience: Duration) -> bool {
        use rustix::process::{Pid, PidfdFlags, pidfd_open};
        let pidfd = Pid::from_raw(self.pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        // Asked while the descriptor is held: it is that process's, or the process is gone.
        let Some(pidfd) = pidfd.filter(|_| self.is_alive()) else {
            return true;
        };
        let Ok(pidfd) = crate::sys::watch(pidfd, tokio::io::Interest::READABLE) else {
            return false;
        };
        tokio::time::timeout(patience, pidfd.readable()).await.is_ok()
    }
}

/// Start time of a running process in clock ticks since boot; `None` when there is none, or a zombie.
pub fn start_time_ticks(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        None
    } else {
        fields.nth(18)?.parse().ok()
    }
}

/// One pod's state directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDir {
    path: PathBuf,
}

impl StateDir {
    pub fn new(path: impl Into<PathBuf>) -> StateDir {
        StateDir { path: path.into() }
    }

    /// The directory of a pod in an instance's run directory.
    pub fn of_pod(run_dir: &Path, uid: &str) -> StateDir {
        StateDir::new(run_dir.join("pods").join(uid))
    }

    /// Every pod's directory in a run directory, whether its shim lives or not. None is no error.
    pub fn list(run_dir: &Path) -> Result<Vec<StateDir>, Error> {
        Ok(subdirectories(&run_dir.join("pods"))?
            .into_iter()
            .map(StateDir::new)
            .collect())
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn socket(&self) -> PathBuf {
        self.path.join("shim.sock")
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.path.join("lock")
    }

    /// A container's bundle directory.
    pub fn container(&self, id: &str) -> PathBuf {
        self.path.join(CONTAINERS).join(id)
    }

    /// Ids of the containers that have a bundle directory.
    pub fn containers(&self) -> Result<Vec<String>, Error> {
        let found = subdirectories(&self.path.join(CONTAINERS))?;
        Ok(found
            .iter()
            .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
            .collect())
    }

    pub fn sandbox(&self) -> Result<Option<Sandbox>, Error> {
        read(&self.path.join(SANDBOX))
    }

    pub fn write_sandbox(&self, sandbox: &Sandbox) -> Result<(), Error> {
        write(&self.path, SANDBOX, sandbox)
    }

    pub fn state(&self, id: &str) -> Result<Option<ContainerState>, Error> {
        read(&self.container(id).join(STATE))
    }

    pub fn write_state(&self, state: &ContainerState) -> Result<(), Error> {
        write(&self.container(&state.config.id), STATE, state)
    }

    pub fn exit(&self, id: &str) -> Result<Option<Exit>, Error> {
        read(&self.container(id).join(EXIT))
    }

    pub fn write_exit(&self, id: &str, exit: &Exit) -> Result<(), Error> {
        write(&self.container(id), EXIT, exit)
    }

    pub(crate) fn remove_container(&self, id: &str) -> Result<(), Error> {
        remove_all(&self.container(id))
    }

    /// Removes everything below the directory, not the directory. `sandbox.json` goes last: as long as something is left,
    /// it says whose.
    pub fn remove_contents(&self) -> Result<(), Error> {
        let entries = match fs::read_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(|source| Error::Io {
                step: "read",
                path: self.path.clone(),
                source,
            })?,
        };
        let (sandbox, others): (Vec<_>, Vec<_>) = entries.flatten().partition(|entry| entry.file_name() == SANDBOX);
        let mut in_order = others.iter().chain(&sandbox);
        in_order.try_for_each(|entry| remove_all(&entry.path()))
    }

    /// Removes the directory and everything below it. Idempotent.
    pub fn remove(&self) -> Result<(), Error> {
        remove_all(&self.path)
    }
}

fn remove_all(path: &Path) -> Result<(), Error> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done.map_err(|source| Error::Io {
            step: "remove",
            path: path.to_owned(),
            source,
        }),
    }
}

fn subdirectories(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|source| Error::Io {
            step: "read",
            path: dir.to_owned(),
            source,
        })?,
    };
    let is_dir = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    let mut found: Vec<PathBuf> = entries.flatten().filter(is_dir).map(|entry| entry.path()).collect();
    found.sort();
    Ok(found)
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        bytes => bytes.map_err(|source| Error::Io {
            step: "read",
            path: path.to_owned(),
            source,
        })?,
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|source| Error::Parse {
        path: path.to_owned(),
        source,
    })
}

fn write<T: Serialize>(dir: &Path, name: &str, value: &T) -> Result<(), Error> {
    let path = dir.join(name);
    let bytes = serde_json::to_vec(value).map_err(|source| Error::Parse {
        path: path.clone(),
        source,
    })?;
    let draft = dir.join(format!(".{name}.new"));
    let written = fs::write(&draft, bytes).and_then(|()| fs::rename(&draft, &path));
    written.map_err(|source| Error::Io {
        step: "write",
        path,
        source,
    })
}

/// Where run directories live: the first of `/run` and `/dev/shm` that is a tmpfs, else `/run`.
pub fn run_base() -> PathBuf {
    const TMPFS_MAGIC: libc::__fsword_t = 0x0102_1994;
    let is_tmpfs = |path: &&str| rustix::fs::statfs(*path).is_ok_and(|found| found.f_type == TMPFS_MAGIC);
    PathBuf::from(["/run", "/dev/shm"].into_iter().find(is_tmpfs).unwrap_or("/run"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_back_and_absence_is_none() {
        let run = tempfile::tempdir().unwrap();
        assert_eq!(StateDir::list(run.path()).unwrap(), []);
        let dir = StateDir::of_pod(run.path(), "u1");
        fs::create_dir_all(dir.container("c1")).unwrap();
        assert_eq!(StateDir::list(run.path()).unwrap(), std::slice::from_ref(&dir));
        assert_eq!(dir.containers().unwrap(), ["c1"]);
        assert_eq!(dir.exit("c1").unwrap(), None);
        let exit = Exit {
            code: 137,
            signal: Some(9),
            oom_killed: true,
            started_at: jiff::Timestamp::UNIX_EPOCH,
            finished_at: jiff::Timestamp::now(),
            message: String::new(),
        };
        dir.write_exit("c1", &exit).unwrap();
        assert_eq!(dir.exit("c1").unwrap(), Some(exit));
        fs::write(dir.path().join(SANDBOX), "{").unwrap();
        assert!(matches!(dir.sandbox(), Err(Error::Parse { .. })));
        dir.remove_contents().unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        dir.remove().unwrap();
        dir.remove().unwrap();
    }

    #[test]
    fn a_process_is_known_by_its_start() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(start_time_ticks(own).is_some());
        assert_eq!(start_time_ticks(i32::MAX), None);
    }
}
