//! Control groups, so that nobody else has to know which of the three layouts a machine has.
//!
//! A [`Cgroup`] is one path that exists in several hierarchies at once: one directory per v1 controller mount, one in the
//! unified (v2) tree, or both on a hybrid machine, where the unified tree has few controllers or none but still offers
//! `cgroup.kill` and `cgroup.events`. Those two make ending a container atomic and event-driven, so the unified tree is
//! used wherever it is mounted.
//!
//! A container joins a v1 hierarchy only if something there concerns it (accounting, a limit, devices, or its pod's
//! group being there): every join costs, and ten idle hierarchies would cost ten times.
//!
//! Children join themselves through a prepared [`Entry`], by writing `0` to `tasks` (v1) or `cgroup.procs` (v2). On v1
//! that moves one thread without the lock that stops every fork on the machine.
//!
//! Semantics follow the OCI runtime spec, "Linux control groups" (`config-linux.md`).

mod device_program;
mod ending;
mod layout;
mod v1;
mod v2;

pub(crate) use device_program::Instruction as DeviceInstruction;
pub use layout::{Hierarchy, Layout, Version};

use crate::sys;
use oci_spec::runtime::LinuxResources;
use rustix::fs::{Mode, OFlags};
use std::fs;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cgroup path {0:?} must be absolute and without `..`")]
    Path(String),
    #[error("cannot {step} {}", path.display())]
    File {
        step: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("cannot set {} to {value:?}", path.display())]
    Limit {
        path: PathBuf,
        value: String,
        source: io::Error,
    },
    #[error("this machine has no cgroup controller `{controller}`, needed for {file}")]
    NoController { controller: String, file: String },
    #[error("no cgroup file system is mounted")]
    NoHierarchy,
    #[error("cannot load the device rules into {}", path.display())]
    Devices { path: PathBuf, source: io::Error },
    #[error("processes remain in cgroup {path}")]
    Busy { path: String },
}

impl Error {
    /// The error with its cause, in one line.
    pub(crate) fn line(&self) -> String {
        match std::error::Error::source(self) {
            Some(source) => format!("{self}: {source}"),
            None => self.to_string(),
        }
    }
}

/// What a cgroup has used so far. Zero where the controller is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Stats {
    /// CPU time since creation, nanoseconds.
    pub cpu_usage_nanos: u64,
    /// Bytes, page cache included.
    pub memory_usage: u64,
    /// Bytes, without inactive page cache: what Kubernetes calls the working set.
    pub memory_working_set: u64,
    /// Bytes of anonymous memory.
    pub memory_rss: u64,
    pub pids: u64,
}

/// Where a child of [`Cgroup::fork`] begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Birth {
    /// In the group's unified directory; it still has to join the v1 directories.
    Inside,
    /// Where its parent is.
    Outside,
}

/// One control group, in every hierarchy where it exists.
#[derive(Clone, Debug)]
pub struct Cgroup {
    path: String,
    dirs: Vec<Dir>,
}

#[derive(Clone, Debug)]
struct Dir {
    path: PathBuf,
    version: Version,
    controllers: Vec<String>,
}

impl Dir {
    fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|own| own == controller)
    }

    fn read(&self, file: &str) -> io::Result<String> {
        fs::read_to_string(self.path.join(file))
    }
}

impl Cgroup {
    /// Makes the group (and its ancestors) where it is needed and applies `resources`. Idempotent: an existing group is
    /// updated. `path` is absolute below every hierarchy's root, for example `/catamaran-1a2b3c4d/pod<uid>/<id>`.
    ///
    /// # Errors
    /// A limit that cannot be set is an error that names file and value; then the group may exist without it.
    pub fn create(path: &str, resources: &LinuxResources) -> Result<Cgroup, Error> {
        Self::create_in(Layout::of_machine(), path, resources)
    }

    /// As [`Cgroup::create`], on a given layout.
    pub fn create_in(layout: &Layout, path: &str, resources: &LinuxResources) -> Result<Cgroup, Error> {
        let relative = relative(path)?;
        let mut dirs = Vec::new();
        for hierarchy in &layout.hierarchies {
            let wanted = match hierarchy.version {
                Version::V1 => v1::concerns(hierarchy, relative, resources, layout),
                Version::V2 => true,
            };
            if wanted {
                match hierarchy.version {
                    Version::V1 => v1::make(hierarchy, relative)?,
                    Version::V2 => v2::make(hierarchy, relative)?,
                }
                dirs.push(dir_in(hierarchy, relative));
            }
        }
        if dirs.is_empty() {
            return Err(Error::NoHierarchy);
        }
        let cgroup = Cgroup {
            path: path.to_owned(),
            dirs,
        };
        cgroup.apply(resources)?;
        Ok(cgroup)
    }

    /// The group at `path` wherever it exists now; possibly nowhere (then every operation is a no-op).
    ///
    /// # Errors
    /// Only for a malformed path.
    pub fn open(path: &str) -> Result<Cgroup, Error> {
        Self::open_in(Layout::of_machine(), path)
    }

    /// As [`Cgroup::open`], on a given layout.
    pub fn open_in(layout: &Layout, path: &str) -> Result<Cgroup, Error> {
        let relative = relative(path)?;
        let dirs = layout.hierarchies.iter().map(|hierarchy| dir_in(hierarchy, relative));
        Ok(Cgroup {
            path: path.to_owned(),
            dirs: dirs.filter(|dir| dir.path.is_dir()).collect(),
        })
    }

    /// The path below every hierarchy's root.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// False when no hierarchy has the group.
    pub fn exists(&self) -> bool {
        self.dirs.iter().any(|dir| dir.path.is_dir())
    }

    /// Sets limits of a group. One that is gone, or goes meanwhile, has none.
    ///
    /// # Errors
    /// A limit that cannot be set is an error that names file and value.
    pub fn apply(&self, resources: &LinuxResources) -> Result<(), Error> {
        if self.dirs.is_empty() {
            return Ok(());
        }
        match self.apply_to_existing(resources) {
            Err(_) if !self.exists() => Ok(()),
            applied => applied,
        }
    }

    fn apply_to_existing(&self, resources: &LinuxResources) -> Result<(), Error> {
        let mut writes = Vec::new();
        let unified = |controller: &str| {
            self.dirs
                .iter()
                .find(|dir| dir.version == Version::V2 && dir.has(controller))
        };
        for (controller, setting) in v1::settings(resources) {
            if let Some(dir) = self
                .dirs
                .iter()
                .find(|dir| dir.version == Version::V1 && dir.has(&controller))
            {
                writes.push((dir, setting));
            } else if unified(&controller).is_none() && !setting.optional {
                return Err(Error::NoController {
                    controller,
                    file: setting.file,
                });
            }
        }
        for (controller, setting) in v2::settings(resources) {
            if let Some(dir) = unified(&controller) {
                writes.push((dir, setting));
            }
        }
        for (dir, setting) in v2::raw_settings(resources) {
            if let Some(found) = unified(&dir) {
                writes.push((found, setting));
            }
        }
        v1::order_memory(&mut writes);
        for (dir, setting) in writes {
            setting.write(&dir.path)?;
        }
        self.apply_devices(resources)
    }

    fn apply_devices(&self, resources: &LinuxResources) -> Result<(), Error> {
        let Some(rules) = resources.devices().as_ref().filter(|rules| !rules.is_empty()) else {
            return Ok(());
        };
        if let Some(dir) = self.dirs.iter().find(|dir| dir.has("devices")) {
            return v1::apply_devices(&dir.path, rules);
        }
        let Some(dir) = self.dirs.iter().find(|dir| dir.version == Version::V2) else {
            return Ok(());
        };
        device_program::attach(&dir.path, rules).map_err(|source| Error::Devices {
            path: dir.path.clone(),
            source,
        })
    }

    /// Forks the calling process, which must have one thread; the child is born in this group's unified directory if there
    /// is one and the kernel can do that. The child has to call [`Cgroup::join_after`] with what comes back here.
    ///
    /// # Errors
    /// Those of `fork(2)`; `EBUSY` with more than one thread.
    pub fn fork(&self) -> io::Result<(sys::Fork, Birth)> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let born = self
            .unified_dir()
            .and_then(|dir| rustix::fs::open(dir, flags, Mode::empty()).ok())
            .and_then(|group| sys::fork_into(group.as_fd()).ok());
        match born {
            Some(fork) => Ok((fork, Birth::Inside)),
            None => Ok((sys::fork()?, Birth::Outside)),
        }
    }

    /// Moves the calling process into the directories in which it was not born.
    pub fn join_after(&self, birth: Birth) -> Result<(), Error> {
        let missing = |dir: &Dir| birth == Birth::Outside || dir.version == Version::V1;
        self.entry_to(missing)?.join_self().map_err(|source| Error::File {
            step: "join",
            path: PathBuf::from(&self.path),
            source,
        })
    }

    /// File descriptors through which a child can join without allocating, after `clone`.
    pub fn entry(&self) -> Result<Entry, Error> {
        self.entry_to(|_| true)
    }

    fn entry_to(&self, wanted: impl Fn(&Dir) -> bool) -> Result<Entry, Error> {
        let mut files = Vec::with_capacity(self.dirs.len());
        for dir in self.dirs.iter().filter(|dir| wanted(dir)) {
            let path = dir.path.join(dir.version.own_entry_file());
            let file = fs::OpenOptions::new().write(true).open(&path);
            files.push(
                file.map_err(|source| Error::File {
                    step: "open",
                    path,
                    source,
                })?
                .into(),
            );
        }
        Ok(Entry { files })
    }

    /// Moves the calling thread (v1) or process (v2) here. Call while single-threaded.
    pub fn join_self(&self) -> Result<(), Error> {
        self.join_after(Birth::Outside)
    }

    /// Processes in this group and the groups below it, as the caller's pid namespace names them.
    pub fn pids(&self) -> Vec<i32> {
        ending::pids(self)
    }

    /// Sends a signal to every process here and below.
    pub fn signal_all(&self, signal: i32) {
        ending::signal_all(self, signal);
    }

    /// Kills every process here and below, and waits until they have ended (zombies do not count), for some seconds.
    ///
    /// # Errors
    /// [`Error::Busy`] when processes remain after that, for example in uninterruptible sleep.
    pub fn kill_all(&self) -> Result<(), Error> {
        ending::kill_all(self)
    }

    /// Removes this group and all below, in every hierarchy. Waits, bounded, for processes that are just ending.
    /// Idempotent.
    pub fn remove(&self) -> Result<(), Error> {
        ending::remove(self)
    }

    /// How many processes the kernel has killed here for want of memory.
    pub fn oom_kills(&self) -> u64 {
        self.dirs
            .iter()
            .filter(|dir| dir.has("memory"))
            .map(Dir::oom_kills)
            .sum()
    }

    /// What the group has used.
    pub fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        for dir in &self.dirs {
            match dir.version {
                Version::V1 => v1::add_stats(&dir.path, &dir.controllers, &mut stats),
                Version::V2 => v2::add_stats(&dir.path, &dir.controllers, &mut stats),
            }
        }
        if stats.pids == 0 {
            stats.pids = self.pids().len() as u64;
        }
        stats
    }

    /// The directory in the unified tree, where there is one: for `CLONE_INTO_CGROUP`, or to watch `cgroup.events`.
    pub fn unified_dir(&self) -> Option<&Path> {
        self.dirs
            .iter()
            .find(|dir| dir.version == Version::V2)
            .map(|dir| dir.path.as_path())
    }

    /// Every directory of the group.
    pub fn dirs(&self) -> impl Iterator<Item = &Path> {
        self.dirs.iter().map(|dir| dir.path.as_path())
    }
}

impl Dir {
    fn oom_kills(&self) -> u64 {
        let file = if self.version == Version::V1 {
            "memory.oom_control"
        } else {
            "memory.events"
        };
        self.read(file)
            .ok()
            .and_then(|text| keyed(&text, "oom_kill"))
            .unwrap_or(0)
    }
}

/// An open door into a [`Cgroup`].
#[derive(Debug)]
pub struct Entry {
    files: Vec<OwnedFd>,
}

impl Entry {
    /// Moves the caller. Does not allocate: usable between `clone` and `execve`.
    ///
    /// # Errors
    /// The first failing write; the caller may then be in some hierarchies and not in others.
    pub fn join_self(&self) -> io::Result<()> {
        for file in &self.files {
            rustix::io::write(file, b"0")?;
        }
        Ok(())
    }
}

/// Groups directly below the root of any hierarchy whose name starts with `prefix`, as absolute paths.
pub fn top_level(prefix: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for hierarchy in &Layout::of_machine().hierarchies {
        for entry in fs::read_dir(&hierarchy.mount).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| name.starts_with(prefix)) else {
                continue;
            };
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                found.push(format!("/{name}"));
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

/// One file to write.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Setting {
    file: String,
    value: String,
    /// A kernel without this file is no error.
    optional: bool,
}

impl Setting {
    fn new(file: impl Into<String>, value: impl std::fmt::Display) -> Setting {
        Setting {
            file: file.into(),
            value: value.to_string(),
            optional: false,
        }
    }

    fn optional(file: impl Into<String>, value: impl std::fmt::Display) -> Setting {
        Setting {
            optional: true,
            ..Setting::new(file, value)
        }
    }

    fn write(&self, dir: &Path) -> Result<(), Error> {
        let path = dir.join(&self.file);
        match write_value(&path, &self.value) {
            Ok(()) => Ok(()),
            Err(source) if self.optional && matches!(source.raw_os_error(), Some(libc::ENOENT | libc::EOPNOTSUPP)) => {
                Ok(())
            }
            Err(source) => Err(Error::Limit {
                path,
                value: self.value.clone(),
                source,
            }),
        }
    }
}

fn relative(path: &str) -> Result<&Path, Error> {
    let bad = || Error::Path(path.to_owned());
    let relative = Path::new(path.strip_prefix('/').ok_or_else(bad)?);
    let plain = relative
        .components()
        .all(|part| matches!(part, std::path::Component::Normal(_)));
    if plain && relative.components().next().is_some() {
        Ok(relative)
    } else {
        Err(bad())
    }
}

fn dir_in(hierarchy: &Hierarchy, relative: &Path) -> Dir {
    Dir {
        path: hierarchy.mount.join(relative),
        version: hierarchy.version,
        controllers: hierarchy.controllers.clone(),
    }
}

fn write_value(path: &Path, value: &str) -> io::Result<()> {
    fs::OpenOptions::new()
        .write(true)
        .open(path)?
        .write_all(value.as_bytes())
}

fn write_file(path: &Path, value: &str) -> Result<(), Error> {
    write_value(path, value).map_err(|source| Error::File {
        step: "write to",
        path: path.to_owned(),
        source,
    })
}

/// The number after `key ` in a file of `key value` lines.
fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}
