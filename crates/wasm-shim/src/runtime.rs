//! The pod shim's side: fork, wait for the word, clean up.

use crate::child::{self, Inheritance, STARTED};
use crate::engine::Engines;
use crate::exec;
use crate::sys;
use catamaran_shim::cgroup::{Birth, Cgroup};
use catamaran_shim::runtime::{ExecRequest, Runtime, StartError, StartRequest, Started, Stdio};
use catamaran_shim::spec::WasmSpec;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, WaitOptions};
use rustix::pty::OpenptFlags;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::path::Path;

/// How long a container may take to start. Nothing waits in there but, in the worst case, a volume on a dead server or an
/// endless start function; the pod shim has other containers to look after.
const START_DEADLINE: Timespec = Timespec { tv_sec: 60, tv_nsec: 0 };

/// The wasm runtime of pod shims.
pub struct WasmRuntime {
    /// The message is kept: a machine on which no engine can be built still runs Linux containers.
    engines: Result<Engines, String>,
}

impl Default for WasmRuntime {
    fn default() -> Self {
        Self::new()
    }
}

impl WasmRuntime {
    /// Builds the engines. Call it in the launcher, before any fork and any thread; it starts none.
    pub fn new() -> WasmRuntime {
        WasmRuntime {
            engines: Engines::new().map_err(|error| format!("{error:#}")),
        }
    }

    fn engines(&self) -> Result<&Engines, StartError> {
        self.engines
            .as_ref()
            .map_err(|message| failure(&format!("WebAssembly does not work on this machine: {message}")))
    }
}

impl Runtime for WasmRuntime {
    fn start(&mut self, request: StartRequest<'_>) -> Result<Started, StartError> {
        let engines = self.engines()?;
        let spec = read_spec(request.bundle)?;
        let cgroup = Cgroup::create(&spec.cgroup, &spec.resources)
            .map_err(|error| child::start_error("cannot make the container's cgroup", &error, 128))?;
        let started = start_process(request.terminal, request.stdio, &cgroup, |own, birth| {
            child::container(engines, &spec, request.bundle, &cgroup, own, birth)
        });
        if started.is_err() {
            remove(&cgroup);
        }
        started
    }

    fn exec(&mut self, request: ExecRequest<'_>) -> Result<Started, StartError> {
        let engines = self.engines()?;
        let spec = read_spec(request.bundle)?;
        let cgroup = Cgroup::open(&spec.cgroup)
            .map_err(|error| child::start_error("cannot open the container's cgroup", &error, 126))?;
        let terminal = request.process.terminal().unwrap_or(false);
        start_process(terminal, request.stdio, &cgroup, |own, birth| {
            let place = exec::Place {
                container_pid: request.container_pid,
                cgroup: &cgroup,
                birth,
            };
            exec::process(engines, &spec, request.process, &place, own)
        })
    }

    fn cleanup(&mut self, _id: &str, bundle: &Path) {
        if let Ok(spec) = read_spec(bundle)
            && let Ok(cgroup) = Cgroup::open(&spec.cgroup)
        {
            remove(&cgroup);
        }
    }
}

fn remove(cgroup: &Cgroup) {
    // What cannot be removed now is found again by the node's own sweep.
    if cgroup.kill_all().is_ok() {
        let _ = cgroup.remove();
    }
}

fn failure(message: &str) -> StartError {
    StartError {
        reason: "RunContainerError".to_owned(),
        message: message.to_owned(),
        exit_code: 128,
    }
}

fn read_spec(bundle: &Path) -> Result<WasmSpec, StartError> {
    let path = bundle.join("wasm.json");
    let text = std::fs::read(&path)
        .map_err(|error| child::start_error(&format!("cannot read {}", path.display()), &error, 128))?;
    serde_json::from_slice(&text)
        .map_err(|error| child::start_error(&format!("cannot understand {}", path.display()), &error, 128))
}

/// Forks, and waits until the child says that it runs or why it does not.
fn start_process(
    terminal: bool,
    stdio: Stdio,
    cgroup: &Cgroup,
    life: impl FnOnce(Inheritance, Birth) -> i32,
) -> Result<Started, StartError> {
    let failed = |error: std::io::Error| child::start_error("cannot start a process", &error, 128);
    let (word, report) = std::io::pipe().map_err(failed)?;
    let (console, slave) = if terminal {
        open_terminal().map_err(failed)?
    } else {
        (None, None)
    };
    let own = Inheritance {
        stdio: [stdio.stdin, stdio.stdout, stdio.stderr],
        terminal: slave,
        report: report.into(),
    };
    let mut own = Some(own);
    let pid = sys::fork_in(cgroup, |birth| own.take().map_or(0, |own| life(own, birth))).map_err(failed)?;
    drop(own);
    let pid = Pid::from_raw(pid).ok_or_else(|| failure("the kernel gave a process the number 0"))?;
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty());
    let said = read_word(word.into(), pid);
    match (said, pidfd) {
        (Ok(()), Ok(pidfd)) => Ok(Started {
            pid: pid.as_raw_nonzero().get(),
            pidfd,
            console,
        }),
        (Ok(()), Err(errno)) => {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            reap(pid);
            Err(failed(errno.into()))
        }
        (Err(reason), _) => {
            let died_of = reap(pid);
            Err(reason.unwrap_or_else(|| died_silently(died_of)))
        }
    }
}

/// Reads the report to its end: the child closes it once it runs, or by ending. `Err(None)` if it said nothing.
fn read_word(word: OwnedFd, pid: Pid) -> Result<(), Option<StartError>> {
    let mut text = Vec::new();
    if !spoken(&word) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        return Err(Some(failure(&format!(
            "the container did not start within {} s",
            START_DEADLINE.tv_sec
        ))));
    }
    if File::from(word).read_to_end(&mut text).is_err() {
        return Err(None);
    }
    if text == STARTED {
        return Ok(());
    }
    Err(serde_json::from_slice(&text).ok())
}

/// Waits until the report can be read, or has ended.
fn spoken(word: &OwnedFd) -> bool {
    loop {
        match rustix::event::poll(&mut [PollFd::new(word, PollFlags::IN)], Some(&START_DEADLINE)) {
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
            Ok(ready) => return ready > 0,
        }
    }
}

fn reap(pid: Pid) -> Option<i32> {
    loop {
        match rustix::process::waitpid(Some(pid), WaitOptions::empty()) {
            Ok(status) => return status.and_then(|(_, status)| status.terminating_signal()),
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return None,
        }
    }
}

fn died_silently(signal: Option<i32>) -> StartError {
    match signal {
        Some(libc::SIGKILL) => {
            let mut error =
                failure("the container was killed while it started, most likely for want of memory: raise its limit");
            error.exit_code = 137;
            error
        }
        Some(signal) => failure(&format!("the container ended by signal {signal} while it started")),
        None => failure("the container ended while it started; its log may say why"),
    }
}

/// Master and slave of a new terminal, both closed on exec.
fn open_terminal() -> std::io::Result<(Option<OwnedFd>, Option<OwnedFd>)> {
    let master = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    rustix::pty::grantpt(&master)?;
    rustix::pty::unlockpt(&master)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
    Ok((Some(master), Some(slave)))
}
