//! The smallest thing that is a container runtime: fork and exec in a cgroup.

use catamaran_shim::cgroup::Cgroup;
use catamaran_shim::runtime::{ExecRequest, Runtime, Runtimes, StartError, StartRequest, Started, Stdio};
use oci_spec::runtime::LinuxResources;
use rustix::process::{PidfdFlags, pidfd_open};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

/// `<bundle>/test.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Spec {
    pub(crate) args: Vec<String>,
    pub(crate) cgroup: String,
    pub(crate) resources: LinuxResources,
    pub(crate) marker: String,
}

pub(crate) const SPEC: &str = "test.json";
/// In every process that a test starts, to find what it leaks.
pub(crate) const MARKER: &str = "CATAMARAN_TEST_MARKER";

pub(crate) fn runtimes() -> Runtimes {
    Runtimes {
        linux: Box::new(Shell),
        wasm: Box::new(Shell),
    }
}

struct Shell;

impl Runtime for Shell {
    fn start(&mut self, request: StartRequest<'_>) -> Result<Started, StartError> {
        let spec = spec(request.bundle)?;
        if spec.args[0] == "panic" {
            panic!("asked to");
        }
        let cgroup = Cgroup::create(&spec.cgroup, &spec.resources).map_err(explain)?;
        let named = [
            ("PROCESSES_OF", request.shared.processes),
            ("MEMORY_OF", request.shared.memory),
        ];
        let env: Vec<_> = named
            .into_iter()
            .filter_map(|(name, pid)| Some(format!("{name}={}", pid?)))
            .collect();
        let started = run(&spec, &spec.args, &cgroup, request.stdio, request.terminal, &env);
        if started.is_err() {
            let _ = cgroup.remove();
        }
        started
    }

    fn exec(&mut self, request: ExecRequest<'_>) -> Result<Started, StartError> {
        let spec = spec(request.bundle)?;
        let cgroup = Cgroup::open(&spec.cgroup).map_err(explain)?;
        let args = request.process.args().clone().unwrap_or_default();
        let env = request.process.env().clone().unwrap_or_default();
        run(
            &spec,
            &args,
            &cgroup,
            request.stdio,
            request.process.terminal() == Some(true),
            &env,
        )
    }

    fn cleanup(&mut self, _id: &str, bundle: &Path) {
        if let Ok(spec) = spec(bundle)
            && let Ok(cgroup) = Cgroup::open(&spec.cgroup)
        {
            let _ = cgroup.kill_all().and_then(|()| cgroup.remove());
        }
    }
}

fn spec(bundle: &Path) -> Result<Spec, StartError> {
    let text = std::fs::read(bundle.join(SPEC)).map_err(explain)?;
    serde_json::from_slice(&text).map_err(explain)
}

fn explain(error: impl std::fmt::Display) -> StartError {
    StartError {
        reason: "StartError".to_owned(),
        message: error.to_string(),
        exit_code: 127,
    }
}

fn run(
    spec: &Spec,
    args: &[String],
    cgroup: &Cgroup,
    stdio: Stdio,
    terminal: bool,
    env: &[String],
) -> Result<Started, StartError> {
    let entry = cgroup.entry().map_err(explain)?;
    let mut command = Command::new(&args[0]);
    command.args(&args[1..]).env(MARKER, &spec.marker);
    command.envs(env.iter().filter_map(|pair| pair.split_once('=')));
    let (console, stdio) = if terminal {
        let (master, slave) = pty().map_err(explain)?;
        let copy = || slave.try_clone().map(Some).map_err(explain);
        (
            Some(master),
            Stdio {
                stdin: copy()?,
                stdout: copy()?,
                stderr: copy()?,
            },
        )
    } else {
        (None, stdio)
    };
    let stream = |fd: Option<OwnedFd>| fd.map_or_else(std::process::Stdio::null, std::process::Stdio::from);
    command
        .stdin(stream(stdio.stdin))
        .stdout(stream(stdio.stdout))
        .stderr(stream(stdio.stderr));
    let before_exec = move || -> io::Result<()> {
        entry.join_self()?;
        if terminal {
            rustix::process::setsid()?;
            rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
        }
        Ok(())
    };
    // SAFETY: only system calls; nothing allocates or locks.
    unsafe { command.pre_exec(before_exec) };
    let pid = i32::try_from(command.spawn().map_err(explain)?.id()).map_err(explain)?;
    let pidfd = pidfd_open(rustix::process::Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).map_err(explain)?;
    Ok(Started { pid, pidfd, console })
}

fn pty() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let slave = ioctl_tiocgptpeer(&master, flags)?;
    Ok((master, slave))
}
