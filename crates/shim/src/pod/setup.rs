//! Becoming a pod shim: from a fork of the launcher to a process that can serve.
//!
//! Order matters. The lock comes first, so that two shims never touch one state directory. The cgroup comes before the
//! namespaces, so that what those cost is the pod's. The pid namespace is last: from then on children live in it.
//! `sandbox.json` is written when the socket listens, so whoever reads it can connect.

use super::nonblocking;
use crate::cgroup::{Birth, Cgroup};
use crate::spec::PodConfig;
use crate::state_dir::{Sandbox, StateDir, start_time_ticks};
use crate::sys::{self, Fork};
use crate::{launcher, wire};
use oci_spec::runtime::LinuxResources;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fmt::Display;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Connections waiting to be accepted.
const BACKLOG: i32 = 16;
/// Only these live in namespaces that are the pod's own; any other would be written for the whole machine.
const NAMESPACED_SYSCTLS: &[&str] = &["fs.mqueue.", "kernel.msg", "kernel.sem", "kernel.shm", "net."];

/// What a set-up shim holds.
pub(super) struct Ready {
    pub(super) state_dir: StateDir,
    pub(super) listener: OwnedFd,
    pub(super) signals: OwnedFd,
    /// First process of the shared pid namespace.
    pub(super) pause: Option<i32>,
    /// Never dropped before the process ends: closing any descriptor of the file gives the lock up.
    _lock: OwnedFd,
}

/// First steps, which cannot fail in a way anyone could be told about.
pub(super) fn detach(connection: &OwnedFd, netns: &OwnedFd) {
    sys::close_all_except(&[connection.as_raw_fd(), netns.as_raw_fd()]);
    launcher::null_stdio(true);
    let _ = rustix::process::setsid();
    let _ = rustix::process::chdir(c"/");
    rustix::process::umask(Mode::from_raw_mode(0o022));
}

/// `connection` is the agent's that asked.
///
/// # Errors
/// One line for a user: which step failed and why. The cgroup stays until this process has ended; then whoever asked
/// removes it.
pub(super) fn set_up(config: &PodConfig, netns: &OwnedFd, connection: &OwnedFd, birth: Birth) -> Result<Ready, String> {
    let state_dir = StateDir::new(&config.state_dir);
    let lock = lock(&state_dir)?;
    report_panics(&state_dir);
    name_process(config);
    let pause = enter(config, netns, birth)?;
    let signals = sys::signalfd(&[libc::SIGCHLD, libc::SIGTERM, libc::SIGINT, libc::SIGHUP])
        .map_err(explain("watch for signals"))?;
    // Nobody knows of this shim yet but the agent that asked. The next one may be clearing up already.
    if is_abandoned(connection) {
        return Err("the agent that asked for it is gone".to_owned());
    }
    let listener = publish(config, &state_dir)?;
    Ok(Ready {
        state_dir,
        listener,
        signals,
        pause,
        _lock: lock,
    })
}

/// Whether a connection's other end is closed.
fn is_abandoned(connection: &OwnedFd) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut fds = [PollFd::new(connection, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&now)).is_ok() && fds[0].revents().contains(PollFlags::HUP)
}

fn explain<E: Display>(step: &str) -> impl Fn(E) -> String {
    move |error| format!("cannot {step}: {error}")
}

pub(crate) fn shim_cgroup(config: &PodConfig) -> String {
    format!("{}/shim", config.cgroup)
}

/// A record lock: unlike a `flock`, a forked child does not share it.
fn lock(state_dir: &StateDir) -> Result<OwnedFd, String> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
    let lock = rustix::fs::open(state_dir.lock(), flags, Mode::from_raw_mode(0o600))
        .map_err(explain("open its state directory"))?;
    match rustix::fs::fcntl_lock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(_) => Err(format!(
            "a pod shim is already running in {}",
            state_dir.path().display()
        )),
    }
}

/// There is no terminal to complain to: last words go beside the state.
fn report_panics(state_dir: &StateDir) {
    let path = state_dir.path().join("panic");
    std::panic::set_hook(Box::new(move |info| {
        let _ = fs::write(&path, format!("{} {info}\n", jiff::Timestamp::now()));
    }));
}

fn name_process(config: &PodConfig) {
    let _ = rustix::thread::set_name(c"cata-pod");
    sys::set_title(&format!("cata: pod {}/{}", config.namespace, config.name));
    // Refused without CAP_SYS_RESOURCE; then the shim is merely as easy a victim as any process.
    set_oom_score(SHIM_OOM_SCORE);
}

/// The shim's: it is worth more than what runs below it, as the kubelet has it for sandboxes.
pub(super) const SHIM_OOM_SCORE: &str = "-998";
/// While it forks containers, which inherit it.
pub(super) const CONTAINER_OOM_SCORE: &str = "0";

pub(super) fn set_oom_score(score: &str) {
    let _ = fs::write("/proc/self/oom_score_adj", score);
}

fn enter(config: &PodConfig, netns: &OwnedFd, birth: Birth) -> Result<Option<i32>, String> {
    let cgroup = Cgroup::create(&shim_cgroup(config), &LinuxResources::default()).map_err(|error| error.line())?;
    cgroup.join_after(birth).map_err(|error| error.line())?;
    move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))
        .map_err(explain("enter the pod's network namespace"))?;
    sys::unshare(libc::CLONE_NEWIPC | libc::CLONE_NEWUTS).map_err(explain("make ipc and uts namespaces"))?;
    rustix::system::sethostname(config.hostname.as_bytes()).map_err(explain("set the host name"))?;
    sys::loopback_up().map_err(explain("bring the loopback link up"))?;
    set_sysctls(config)?;
    rustix::process::set_child_subreaper(rustix::process::Pid::from_raw(1)).map_err(explain("become a subreaper"))?;
    if config.share_process_namespace {
        share_pids().map(Some)
    } else {
        Ok(None)
    }
}

fn set_sysctls(config: &PodConfig) -> Result<(), String> {
    let unprivileged_ports = ("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned());
    // The pod's own come after, and win.
    let own = config.sysctls.iter().map(|(name, value)| (name.clone(), value.clone()));
    for (name, value) in std::iter::once(unprivileged_ports).chain(own) {
        let dotted = name.replace('/', ".");
        if !NAMESPACED_SYSCTLS.iter().any(|prefix| dotted.starts_with(prefix)) || name.contains("..") {
            return Err(format!("sysctl {name} is not namespaced"));
        }
        // A name with slashes may have dots in its parts, as network links can.
        let path = if name.contains('/') {
            name.clone()
        } else {
            name.replace('.', "/")
        };
        fs::write(format!("/proc/sys/{path}"), &value).map_err(|error| format!("cannot set sysctl {name}: {error}"))?;
    }
    Ok(())
}

/// Makes the pid namespace that all containers will share, with a first process that reaps.
fn share_pids() -> Result<i32, String> {
    sys::unshare(libc::CLONE_NEWPID).map_err(explain("make a pid namespace"))?;
    match sys::fork().map_err(explain("fork the pid namespace's first process"))? {
        Fork::Parent(pid) => Ok(pid),
        Fork::Child => {
            sys::close_all_except(&[]);
            let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
            let _ = rustix::thread::set_name(c"cata-pause");
            sys::set_title("cata: pause");
            sys::reap_forever()
        }
    }
}

fn publish(config: &PodConfig, state_dir: &StateDir) -> Result<OwnedFd, String> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(state_dir.path(), flags, Mode::empty()).map_err(explain("open its state directory"))?;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(explain("make its socket"))?;
    // The lock is ours, so a socket here belongs to the dead.
    let _ = fs::remove_file(state_dir.socket());
    let mask = rustix::process::umask(Mode::from_raw_mode(0o177));
    let bound = wire::short_address(&dir).and_then(|address| Ok(bind(&socket, &address)?));
    rustix::process::umask(mask);
    bound.map_err(explain("bind its socket"))?;
    listen(&socket, BACKLOG).map_err(explain("listen on its socket"))?;
    nonblocking(&socket).map_err(explain("use its socket"))?;
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    let start_time_ticks = start_time_ticks(pid).ok_or("cannot read its own start time")?;
    let sandbox = Sandbox {
        pid,
        start_time_ticks,
        config: config.clone(),
    };
    state_dir.write_sandbox(&sandbox).map_err(explain("publish itself"))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_that_is_gone_is_noticed() {
        let flags = SocketFlags::CLOEXEC;
        let pair = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None);
        let (agent, shim) = pair.unwrap();
        assert!(!is_abandoned(&shim));
        drop(agent);
        assert!(is_abandoned(&shim));
    }
}
