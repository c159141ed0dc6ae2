//! Requests, one after the other. Every operation may be asked again: an agent that died before it read the answer will.

use super::container::{ATTACHMENTS_MAX, Attachment, Container, console_ends, pipes};
use super::log::Log;
use super::sink::Sink;
use super::{Exec, Pod, setup};
use crate::cgroup::Cgroup;
use crate::message::{Answer, AnyRequest, FromShim, Operation, Refusal, Request, Streams};
use crate::runtime::{ExecRequest, SharedWith, StartError, StartRequest, Started, Stdio};
use crate::spec::{ContainerConfig, ContainerState, Shared};
use crate::sys;
use crate::wire::{self, Packet};
use oci_spec::runtime::Process;
use rustix::pty::OpenptFlags;
use rustix::termios::{Winsize, tcsetwinsize};
use std::fmt::Display;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

type Outcome = Result<(Answer, Vec<OwnedFd>), Refusal>;

fn refuse(message: impl Into<String>) -> Refusal {
    Refusal::Other {
        message: message.into(),
    }
}

fn failed<E: Display>(step: &str) -> impl Fn(E) -> Refusal {
    move |error| refuse(format!("cannot {step}: {error}"))
}

fn start_failed(message: String) -> Refusal {
    Refusal::Start(StartError {
        reason: "RunContainerError".to_owned(),
        message,
        exit_code: 128,
    })
}

impl Pod {
    pub(super) fn dispatch(&mut self, client: u64, packet: Packet) {
        let Ok((bytes, fds)) = wire::unpack(packet) else { return };
        let (id, outcome) = match serde_json::from_slice::<Request>(&bytes) {
            Ok(Request {
                id,
                operation: Operation::Shutdown,
            }) => {
                self.ending = Some((client, id));
                return;
            }
            Ok(Request { id, operation }) => (id, self.guarded(client, operation, fds)),
            Err(error) => match serde_json::from_slice::<AnyRequest>(&bytes) {
                Ok(AnyRequest { id }) => (id, Err(refuse(format!("this pod shim does not understand: {error}")))),
                Err(_) => return,
            },
        };
        self.reply(client, id, outcome);
    }

    fn reply(&mut self, client: u64, id: u64, outcome: Outcome) {
        let (outcome, fds) = match outcome {
            Ok((answer, fds)) => (Ok(answer), fds),
            Err(refusal) => (Err(refusal), Vec::new()),
        };
        if let Some(client) = self.clients.get(client) {
            client.send(&FromShim::Reply { id, outcome }, fds);
        }
    }

    /// A bug in a runtime must not cost the pod its shim.
    fn guarded(&mut self, client: u64, operation: Operation, fds: Vec<OwnedFd>) -> Outcome {
        let own_pid = rustix::process::getpid();
        let forks = matches!(operation, Operation::Start { .. } | Operation::Exec { .. });
        if forks {
            setup::set_oom_score(setup::CONTAINER_OOM_SCORE);
        }
        let outcome = catch_unwind(AssertUnwindSafe(|| self.perform(client, operation, fds)));
        if rustix::process::getpid() != own_pid {
            // A runtime's child came back from where it should have ended. There must not be two shims.
            sys::exit_now(70);
        }
        if forks {
            setup::set_oom_score(setup::SHIM_OOM_SCORE);
        }
        outcome.unwrap_or_else(|_| Err(refuse("internal error; see the file `panic` in the state directory")))
    }

    fn perform(&mut self, client: u64, operation: Operation, fds: Vec<OwnedFd>) -> Outcome {
        let done = |()| (Answer::Done, Vec::new());
        match operation {
            Operation::Start { config } => self.start(config),
            Operation::Signal { target, signal, all } => self.signal(&target, signal, all).map(done),
            Operation::Exec {
                container_id,
                process,
                streams,
            } => self.exec(client, &container_id, &process, stdio(streams, fds)?),
            Operation::Attach { container_id, streams } => self.attach(&container_id, stdio(streams, fds)?),
            Operation::Resize { target, rows, cols } => self.resize(&target, rows, cols).map(done),
            Operation::ReopenLog { container_id } => self.reopen_log(&container_id).map(done),
            Operation::Remove { container_id } => self.remove(&container_id).map(done),
            Operation::Shutdown => Ok(done(())),
        }
    }

    fn container(&mut self, id: &str) -> Result<&mut Container, Refusal> {
        let found = self
            .containers
            .iter_mut()
            .find(|container| container.state.config.id == id);
        found.ok_or_else(|| Refusal::NotFound {
            what: format!("container {id}"),
        })
    }

    fn running(&mut self, id: &str) -> Result<&mut Container, Refusal> {
        let container = self.container(id)?;
        if container.is_running() {
            Ok(container)
        } else {
            Err(refuse(format!("container {id} is not running")))
        }
    }

    fn start(&mut self, config: ContainerConfig) -> Outcome {
        if let Ok(container) = self.container(&config.id) {
            return Ok((Answer::State(Box::new(container.state.clone())), Vec::new()));
        }
        if !is_plain(&config.id) {
            return Err(refuse(format!("container id {:?} is not a plain name", config.id)));
        }
        let shared = self.shared_with(&config.shared)?;
        let bundle = self.ready.state_dir.container(&config.id);
        let log = config
            .log_path
            .clone()
            .map(Log::open)
            .transpose()
            .map_err(Refusal::Start)?;
        let streams = if config.terminal {
            Ok(Default::default())
        } else {
            pipes(config.stdin)
        };
        let (mut ends, stdio) = streams.map_err(|error| start_failed(format!("cannot make pipes: {error}")))?;
        let request = StartRequest {
            id: &config.id,
            bundle: &bundle,
            stdio,
            terminal: config.terminal,
            shared,
        };
        let runtime = Self::runtime(&mut self.runtimes, config.runtime);
        let Started { pid, pidfd, console } = runtime.start(request).map_err(Refusal::Start)?;
        if let Some(console) = console {
            match console_ends(console, config.stdin) {
                Ok(made) => ends = made,
                // It runs, so it is kept; without a console it will soon end by itself.
                Err(_) => sys::kill(pid, libc::SIGKILL),
            }
        }
        let state = ContainerState {
            config,
            pid,
            started_at: jiff::Timestamp::now(),
            exit: None,
        };
        // It runs, whether the note of it can be written or not; this process is the authority.
        let _ = self.ready.state_dir.write_state(&state);
        let container = Container {
            key: self.next_key(),
            state: state.clone(),
            pidfd,
            outputs: ends.outputs,
            stdin: ends.stdin.and_then(|fd| Sink::new(fd).ok()),
            log,
            attachments: Vec::new(),
        };
        self.containers.push(container);
        Ok((Answer::State(Box::new(state)), Vec::new()))
    }

    fn shared_with(&mut self, shared: &Shared) -> Result<SharedWith, Refusal> {
        let mut pid = |id: &String| self.running(id).ok().map(|container| container.state.pid);
        let processes = shared.processes.as_ref().map(|id| {
            pid(id).ok_or_else(|| {
                Refusal::Start(StartError {
                    reason: "CreateContainerConfigError".to_owned(),
                    message: format!("unable to find target container: container {id} is not running"),
                    exit_code: 128,
                })
            })
        });
        Ok(SharedWith {
            processes: processes.transpose()?,
            memory: shared.memory.as_ref().and_then(pid),
        })
    }

    fn signal(&mut self, target: &str, signal: i32, all: bool) -> Result<(), Refusal> {
        if let Some(exec) = self.execs.iter().find(|exec| exec.id == target) {
            let _ = sys::pidfd_send_signal(exec.pidfd.as_fd(), signal);
            return Ok(());
        }
        if target.starts_with(EXEC_PREFIX) {
            return Ok(());
        }
        let cgroup = format!("{}/{target}", self.config.cgroup);
        let container = self.container(target)?;
        if !container.is_running() {
            return Ok(());
        }
        if all && let Ok(cgroup) = Cgroup::open(&cgroup) {
            cgroup.signal_all(signal);
        }
        match sys::pidfd_send_signal(container.pidfd(), signal) {
            Err(error) if error.raw_os_error() != Some(libc::ESRCH) => Err(failed("send the signal")(error)),
            _ => Ok(()),
        }
    }

    fn exec(&mut self, client: u64, container_id: &str, process: &Process, stdio: Stdio) -> Outcome {
        let bundle = self.ready.state_dir.container(container_id);
        let execs = self.execs.len();
        let container = self.running(container_id)?;
        if execs >= EXECS_MAX {
            return Err(refuse(format!(
                "{EXECS_MAX} processes are being executed in this pod already"
            )));
        }
        let (kind, container_pid) = (container.state.config.runtime, container.state.pid);
        let stdio = if process.terminal() == Some(true) {
            Stdio::default()
        } else {
            stdio
        };
        let request = ExecRequest {
            container_id,
            bundle: &bundle,
            container_pid,
            process,
            stdio,
        };
        let Started { pid, pidfd, console } = Self::runtime(&mut self.runtimes, kind)
            .exec(request)
            .map_err(Refusal::Start)?;
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let terminal = console
            .as_ref()
            .and_then(|console| rustix::pty::ioctl_tiocgptpeer(console, flags).ok());
        let id = format!("{EXEC_PREFIX}{}", self.next_key());
        let answer = Answer::Exec {
            exec_id: id.clone(),
            pid,
            console: console.is_some(),
        };
        self.execs.push(Exec {
            id,
            pid,
            pidfd,
            client,
            terminal,
            started_at: jiff::Timestamp::now(),
        });
        Ok((answer, console.into_iter().collect()))
    }

    fn attach(&mut self, container_id: &str, stdio: Stdio) -> Outcome {
        let attach_id = self.next_key();
        let container = self.running(container_id)?;
        if container.attachments.len() >= ATTACHMENTS_MAX {
            return Err(refuse(format!("{ATTACHMENTS_MAX} clients are attached already")));
        }
        let sink = |fd: Option<OwnedFd>| fd.map(Sink::new).transpose().map_err(failed("use the descriptor"));
        let mut outputs = [sink(stdio.stdout)?, sink(stdio.stderr)?];
        for (output, source) in outputs.iter_mut().zip(&container.outputs) {
            // What the container has closed, or never had, ends at once.
            if source.is_none() {
                *output = None;
            }
        }
        let input = stdio.stdin.filter(|_| container.stdin.is_some());
        if let Some(input) = &input {
            super::nonblocking(input).map_err(failed("use the descriptor"))?;
        }
        if input.is_some() || outputs.iter().any(Option::is_some) {
            container.attachments.push(Attachment {
                id: attach_id,
                input,
                outputs,
            });
        }
        Ok((Answer::Attached { attach_id }, Vec::new()))
    }

    fn resize(&mut self, target: &str, rows: u16, cols: u16) -> Result<(), Refusal> {
        let exec = self.execs.iter().find(|exec| exec.id == target);
        let terminal = match exec {
            Some(exec) => exec.terminal.as_ref(),
            // An exec that has ended has no size to set.
            None if target.starts_with(EXEC_PREFIX) => return Ok(()),
            None => self.container(target)?.console(),
        };
        let Some(terminal) = terminal else { return Ok(()) };
        let size = Winsize {
            ws_row: rows,
            ws_col: cols,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(terminal, size).map_err(failed("resize the terminal"))
    }

    fn reopen_log(&mut self, container_id: &str) -> Result<(), Refusal> {
        match &mut self.container(container_id)?.log {
            Some(log) => log.reopen().map_err(failed("open the log file again")),
            None => Ok(()),
        }
    }

    fn remove(&mut self, container_id: &str) -> Result<(), Refusal> {
        if !is_plain(container_id) {
            return Err(refuse(format!("container id {container_id:?} is not a plain name")));
        }
        if let Some(index) = self
            .containers
            .iter()
            .position(|found| found.state.config.id == container_id)
        {
            if self.containers[index].is_running() {
                return Err(refuse(format!("container {container_id} is running")));
            }
            let container = self.containers.remove(index);
            let bundle = self.ready.state_dir.container(container_id);
            Self::runtime(&mut self.runtimes, container.state.config.runtime).cleanup(container_id, &bundle);
        }
        self.ready
            .state_dir
            .remove_container(container_id)
            .map_err(failed("forget the container"))
    }
}

/// Processes of execs at once, in all containers of the pod: as many as descriptors allow.
const EXECS_MAX: usize = 256;

/// Tells execs from containers, whose ids are hexadecimal.
const EXEC_PREFIX: &str = "exec-";

/// An id becomes part of paths.
fn is_plain(id: &str) -> bool {
    !id.is_empty() && !id.starts_with('.') && !id.contains('/')
}

/// Descriptors back into their places.
fn stdio(streams: Streams, fds: Vec<OwnedFd>) -> Result<Stdio, Refusal> {
    let mut fds = fds.into_iter();
    let mut take = |wanted: bool| match wanted {
        true => fds.next().map(Some).ok_or_else(|| refuse("a descriptor is missing")),
        false => Ok(None),
    };
    Ok(Stdio {
        stdin: take(streams.stdin)?,
        stdout: take(streams.stdout)?,
        stderr: take(streams.stderr)?,
    })
}
