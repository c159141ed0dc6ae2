//! The launcher: a small single-threaded process from which pod shims are forked.
//!
//! ```text
//!  agent ── fork at the top of main ──▶ launcher ── fork ──▶ (ends at once) ── fork ──▶ pod shim, child of init
//! ```
//!
//! Forking it from the agent's first instruction makes it small, and keeps every later fork safe: a process with threads
//! must not fork without exec. It builds the container runtimes once, so that pod shims, and the wasm containers forked
//! from those, start warm. It owns nothing that matters: it keeps no child, no file and no state, ends when the agent's
//! end of its socket closes, and is replaced (by fork and exec of this program) when it dies first.
//!
//! *Architecture invariant:* the launcher never answers. A shim's first connection is a socket that the agent made; if
//! the launcher dies with it in hand, the agent sees it close.

use crate::cgroup::{Birth, Cgroup};
use crate::message::{CreatePod, FromShim};
use crate::runtime::Runtimes;
use crate::spec::PodConfig;
use crate::sys::{self, Fork};
use crate::{pod, wire};
use oci_spec::runtime::LinuxResources;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, socketpair};
use rustix::process::{PidfdFlags, WaitOptions, pidfd_open, waitpid};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// The first argument that makes `main` call [`main_from_exec`].
pub const ARGUMENT: &str = "__launcher";

/// The agent's end of a launcher. Dropping it ends the launcher.
#[derive(Debug)]
pub struct LauncherHandle {
    pub(crate) socket: OwnedFd,
    pub(crate) pidfd: OwnedFd,
    pid: i32,
    program: PathBuf,
}

impl LauncherHandle {
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Starts a launcher by fork and exec of this very program with [`ARGUMENT`]: from a process that has threads.
    pub fn spawn() -> io::Result<LauncherHandle> {
        Self::spawn_program(Path::new("/proc/self/exe"))
    }

    pub(crate) fn respawn(&self) -> io::Result<LauncherHandle> {
        Self::spawn_program(&self.program)
    }

    fn spawn_program(program: &Path) -> io::Result<LauncherHandle> {
        let (ours, theirs) = socket_pair()?;
        // The socket travels as standard input: no descriptor has to be inheritable, not even for a moment.
        let child = Command::new(program)
            .arg(ARGUMENT)
            .stdin(theirs)
            .stdout(Stdio::null())
            .spawn()?;
        let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
        Self::new(ours, pid, program.to_owned())
    }

    fn new(socket: OwnedFd, pid: i32, program: PathBuf) -> io::Result<LauncherHandle> {
        let process = rustix::process::Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
        let pidfd = pidfd_open(process, PidfdFlags::empty())?;
        Ok(LauncherHandle {
            socket,
            pidfd,
            pid,
            program,
        })
    }

    /// Ends a launcher that no longer listens and takes its exit status.
    pub(crate) fn reap(&self) {
        let _ = sys::pidfd_send_signal(std::os::fd::AsFd::as_fd(&self.pidfd), libc::SIGKILL);
        if let Some(pid) = rustix::process::Pid::from_raw(self.pid) {
            let _ = rustix::io::retry_on_intr(|| waitpid(Some(pid), WaitOptions::empty()));
        }
    }
}

fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// Forks the launcher. Call at the very top of `main`: the child becomes the launcher and never returns.
///
/// # Errors
/// `EBUSY` when the process already has threads.
pub fn fork(runtimes: fn() -> Runtimes) -> io::Result<LauncherHandle> {
    let (ours, theirs) = socket_pair()?;
    match sys::fork()? {
        Fork::Parent(pid) => LauncherHandle::new(ours, pid, PathBuf::from("/proc/self/exe")),
        Fork::Child => run(&theirs, runtimes),
    }
}

/// The body of `cata __launcher`, whose standard input is the agent's socket.
pub fn main_from_exec(runtimes: fn() -> Runtimes) -> ExitCode {
    match rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3) {
        Ok(socket) => run(&socket, runtimes),
        Err(_) => ExitCode::from(64),
    }
}

fn run(socket: &OwnedFd, runtimes: fn() -> Runtimes) -> ! {
    // Never returns into the agent's main, whatever happens here.
    let _ = std::panic::catch_unwind(|| {
        sys::close_all_except(&[socket.as_raw_fd()]);
        sys::reset_signals();
        let _ = rustix::process::setsid();
        null_stdio(false);
        let _ = rustix::thread::set_name(c"cata-launcher");
        sys::set_title("cata: launcher");
        serve(socket, runtimes());
    });
    sys::exit_now(0)
}

/// Standard streams to `/dev/null`; standard error may stay, for the launcher's own complaints while the agent lives.
pub(crate) fn null_stdio(stderr_too: bool) {
    use rustix::fs::{Mode, OFlags};
    let Ok(null) = rustix::fs::open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) else {
        return;
    };
    let _ = rustix::stdio::dup2_stdin(&null);
    let _ = rustix::stdio::dup2_stdout(&null);
    if stderr_too {
        let _ = rustix::stdio::dup2_stderr(&null);
    }
}

fn serve(socket: &OwnedFd, runtimes: Runtimes) {
    loop {
        let packet = match wire::receive(socket, RecvFlags::empty()) {
            Ok(Some(packet)) => packet,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => continue,
            Ok(None) | Err(_) => return,
        };
        let Ok((CreatePod { config }, fds)) = wire::decode::<CreatePod>(packet) else {
            continue;
        };
        let Ok([connection, netns]) = <[OwnedFd; 2]>::try_from(fds) else {
            continue;
        };
        match fork_shim(&config) {
            Ok(Forked::Shim(birth)) => pod::run(config, runtimes, connection, netns, birth),
            Ok(Forked::Launcher) => {}
            Err(error) => refuse(&connection, &error),
        }
    }
}

enum Forked {
    Shim(Birth),
    Launcher,
}

/// Forks twice: the first child ends at once, which makes the second one a child of init. Its status is taken here, so
/// that the launcher has no children whenever it waits. Already the first one is born in the shim's cgroup.
fn fork_shim(config: &PodConfig) -> io::Result<Forked> {
    let (forked, birth) = match Cgroup::create(&pod::shim_cgroup(config), &LinuxResources::default()) {
        Ok(cgroup) => cgroup.fork()?,
        // The shim will try again, and can say why it failed.
        Err(_) => (sys::fork()?, Birth::Outside),
    };
    match forked {
        Fork::Parent(pid) => {
            let pid = rustix::process::Pid::from_raw(pid);
            let status = rustix::io::retry_on_intr(|| waitpid(pid, WaitOptions::empty()))?;
            match status.and_then(|(_, status)| status.exit_status()) {
                Some(0) => Ok(Forked::Launcher),
                code => Err(io::Error::from_raw_os_error(code.unwrap_or(libc::EAGAIN))),
            }
        }
        Fork::Child => match sys::fork() {
            Ok(Fork::Child) => Ok(Forked::Shim(birth)),
            Ok(Fork::Parent(_)) => sys::exit_now(0),
            Err(error) => sys::exit_now(error.raw_os_error().unwrap_or(libc::EAGAIN)),
        },
    }
}

fn refuse(connection: &OwnedFd, error: &io::Error) {
    let message = FromShim::Failed {
        message: format!("cannot fork a pod shim: {error}"),
    };
    if let Ok(packet) = wire::encode(&message, Vec::new()) {
        let _ = wire::send(connection, &packet);
    }
}
