//! One more process in a running container: into its cgroup and namespaces, then as any other process of it.

use crate::console;
use crate::error::{Error, Result, Step};
use crate::init::{self, Doors, Link, Running};
use crate::paths::Root;
use crate::plan::{self, ProcessPlan};
use crate::process::{self, Streams};
use crate::sys::{self, Cloned};
use catamaran_shim::cgroup::Cgroup;
use catamaran_shim::runtime::Stdio;
use oci_spec::runtime::{Process, Spec};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::Mode;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Everything but the user namespace, which cannot be joined again when it is the same.
const NAMESPACES: i32 = libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;

/// What `exec` needs to know, decided before anything is done.
#[derive(Debug)]
pub struct ExecPlan {
    pub container_pid: i32,
    pub cgroup: String,
    pub process: ProcessPlan,
}

/// Plans a process for the container with this spec. What the process leaves open (capabilities, `noNewPrivileges`) it
/// takes from the container's own process; the seccomp filter always is the container's.
pub fn plan(id: &str, spec: &Spec, container_pid: i32, process: &Process) -> Result<ExecPlan> {
    let mut process = process.clone();
    if let Some(own) = spec.process() {
        if process.capabilities().is_none() {
            process.set_capabilities(own.capabilities().clone());
        }
        if process.no_new_privileges().is_none() {
            process.set_no_new_privileges(own.no_new_privileges());
        }
    }
    let container = plan::plan(id, Path::new("/"), spec)?;
    Ok(ExecPlan {
        container_pid,
        cgroup: container.cgroup,
        process: plan::process::plan(&process, container.process.seccomp)?,
    })
}

/// Starts the process; it is a child of the caller.
pub fn start(plan: &ExecPlan, stdio: &Stdio) -> Result<Running> {
    init::refuse_threads()?;
    let target = Target::open(plan.container_pid)?;
    let streams = Streams::of(stdio).step(|| "prepare stdio".into())?;
    let cgroup = Cgroup::open(&plan.cgroup)
        .map_err(io::Error::other)
        .step(|| "open the cgroup".into())?;
    let doors = Doors::open(&cgroup)?;
    let (parent_end, child_end) = init::socket_pair()?;
    let cloned = init::with_children_in(&target.pidfd, libc::CLONE_NEWPID, || {
        // SAFETY: single-threaded; the child goes to `run`, which never returns.
        unsafe { sys::clone3(0, doors.unified.as_ref().map(AsFd::as_fd)) }.step(|| "clone a process".into())
    })?;
    match cloned {
        Cloned::Child => {
            drop(parent_end);
            run(plan, &target, streams, &doors, Link::new(child_end, None, false))
        }
        Cloned::Parent { pid, pidfd } => {
            drop(child_end);
            let unexpected = |_| Err(Error::Refused("unexpected request of the process".into()));
            init::converse(&parent_end, pid, pidfd, false, unexpected)
        }
    }
}

/// The container to enter, held by its first process.
struct Target {
    pidfd: OwnedFd,
    user_namespace: bool,
}

impl Target {
    fn open(pid: i32) -> Result<Target> {
        let raw = Pid::from_raw(pid).filter(|_| pid > 0);
        let raw = raw.ok_or_else(|| Error::Refused(format!("{pid} is not a process id")))?;
        let pidfd = pidfd_open(raw, PidfdFlags::empty()).step(|| "find the container's process".into())?;
        let inode = |pid: &str| std::fs::metadata(format!("/proc/{pid}/ns/user")).map(|found| found.ino());
        let theirs = inode(&pid.to_string()).step(|| "inspect the container's process".into())?;
        let ours = inode("self").step(|| "inspect the own process".into())?;
        Ok(Target {
            pidfd,
            user_namespace: theirs != ours,
        })
    }

    fn enter(&self) -> Result<()> {
        let user = if self.user_namespace { libc::CLONE_NEWUSER } else { 0 };
        sys::setns(&self.pidfd, NAMESPACES | user).step(|| "join the container's namespaces".into())
    }
}

fn run(plan: &ExecPlan, target: &Target, streams: Streams, doors: &Doors, link: Link) -> ! {
    match set_up(plan, target, streams, doors, &link) {
        Ok(streams) => process::finish(&plan.process, &streams, link, || Ok(())),
        Err(error) => {
            link.fail(&error);
            sys::exit(error.exit_code());
        }
    }
}

fn set_up(plan: &ExecPlan, target: &Target, streams: Streams, doors: &Doors, link: &Link) -> Result<Streams> {
    rustix::process::umask(Mode::empty());
    doors.enter()?;
    rustix::process::setsid().step(|| "start a session".into())?;
    sys::new_session_keyring().step(|| "make a session keyring".into())?;
    // Not to be seen by the container's processes, which may trace their like, once its namespaces are joined.
    process::prepare(&plan.process)?;
    target.enter()?;
    if !plan.process.terminal {
        return Ok(streams);
    }
    let root = Root::open(Path::new("/")).step(|| "open the container's root".into())?;
    let console = console::open(&root, plan.process.console_size, plan.process.identity.uid)?;
    link.terminal(&console.master)
        .step(|| "hand over the terminal".into())?;
    Streams::of_terminal(&console.slave).step(|| "prepare stdio".into())
}
