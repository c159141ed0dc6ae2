//! The agent's side: creating pod shims, finding them again, talking to them.
//!
//! One task owns each connection. Requests carry numbers, so many may be under way at once, and one whose caller lost
//! interest is simply answered to nobody; every operation is idempotent, so asking again is always right.
//!
//! A shim hangs up on an agent that does not read. The task then connects again, by itself, and reports the exits that
//! happened in between: [`Event::Gone`] is only said of a shim that is dead.

mod connection;

use crate::launcher::LauncherHandle;
use crate::message::{Answer, CreatePod, Operation, Refusal, Streams};
use crate::runtime::{StartError, Stdio};
use crate::spec::{ContainerConfig, ContainerState, Exit, PodConfig};
use crate::state_dir::StateDir;
use crate::{state_dir, sys, wire};
use connection::{Command, Connection, READ_WRITE};
use oci_spec::runtime::Process;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Mutex, mpsc, oneshot};

/// How often a launcher that dies under a request is replaced before the request fails.
const LAUNCH_ATTEMPTS: usize = 3;
/// Commands waiting for a connection's task.
const COMMANDS: usize = 64;
/// How long a shim may take to end after it said it would.
const ENDING: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The container did not start; nothing of it is left.
    #[error("{0}")]
    Start(StartError),
    /// The shim is dead (or never was).
    #[error("the pod shim in {} is gone", state_dir.display())]
    Gone { state_dir: PathBuf },
    /// The shim lives but cannot be spoken to now.
    #[error("cannot reach the pod shim in {}", state_dir.display())]
    Unreachable { state_dir: PathBuf, source: io::Error },
    #[error("the pod shim knows no {what}")]
    NotFound { what: String },
    #[error("the pod shim refused: {message}")]
    Refused { message: String },
    #[error("cannot create the pod shim: {message}")]
    Create { message: String },
    #[error("cannot use the launcher")]
    Launcher { source: io::Error },
    #[error("cannot send the request")]
    Send { source: io::Error },
    #[error(transparent)]
    State(#[from] state_dir::Error),
}

/// What happened in a pod without being asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A container's first process ended; `exit.json` is there.
    Exited { id: String, exit: Exit },
    /// A process of an exec whose session is no longer held here (after a reconnect) ended.
    ExecExited { exec_id: String, exit: Exit },
    /// The pod shim is dead. Nothing follows.
    Gone,
}

/// Events of one pod, in order. Few: at most one per container start, so the channel needs no bound.
pub type Events = mpsc::UnboundedReceiver<Event>;

/// A process started by [`PodShim::exec`].
#[derive(Debug)]
pub struct ExecSession {
    /// For [`PodShim::resize`] and [`PodShim::signal`].
    pub exec_id: String,
    pub pid: i32,
    /// Master side of its terminal, if it has one. Closing it hangs up on the process.
    pub console: Option<OwnedFd>,
    /// Its end; an error when the connection to the shim was lost (the shim kills the process then).
    pub exited: oneshot::Receiver<Exit>,
}

/// Output copied by the shim into the descriptors given. Ends when they are closed on either side; closing the caller's
/// ends is how to detach.
#[derive(Debug)]
pub struct AttachSession {
    pub attach_id: u64,
}

/// Creates pod shims. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Launcher {
    handle: Arc<Mutex<LauncherHandle>>,
}

impl Launcher {
    /// Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When the launcher's descriptors cannot be used.
    pub fn new(handle: LauncherHandle) -> io::Result<Launcher> {
        let _inside = tokio::runtime::Handle::try_current().map_err(io::Error::other)?;
        Ok(Launcher {
            handle: Arc::new(Mutex::new(handle)),
        })
    }

    /// Creates a pod's shim, which takes the network namespace as its own, and connects to it. The state directory and
    /// the pod's cgroup must exist. Every failure leaves no process behind.
    ///
    /// # Errors
    /// [`Error::Create`] says in one line what the shim could not do; a living shim on the same state directory is such
    /// a case: use [`PodShim::connect`].
    pub async fn create_pod(&self, config: &PodConfig, netns: OwnedFd) -> Result<(PodShim, Events), Error> {
        let mut source = io::Error::from(io::ErrorKind::BrokenPipe);
        for _ in 0..LAUNCH_ATTEMPTS {
            let netns = netns.try_clone().map_err(|source| Error::Send { source })?;
            let socket = match self.request(config, netns).await {
                Ok(socket) => socket,
                Err(error) => {
                    source = error;
                    continue;
                }
            };
            let dir = StateDir::new(&config.state_dir);
            match Connection::open(dir, socket).await {
                Ok((connection, hello)) => {
                    let (shim, events) = PodShim::new(connection, hello.pid);
                    return Ok((shim, events));
                }
                // The launcher died with our socket in its hands, or the shim at its first breath: try another.
                Err(Error::Unreachable { source: error, .. }) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    source = error;
                }
                Err(error) => return Err(error),
            }
        }
        Err(Error::Launcher { source })
    }

    async fn request(&self, config: &PodConfig, netns: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        let packet = wire::encode(&CreatePod { config: config.clone() }, vec![theirs, netns])?;
        let mut handle = self.handle.lock().await;
        if Self::has_ended(&handle) {
            Self::replace(&mut handle).await?;
        }
        loop {
            match wire::send(&handle.socket, &packet) {
                Ok(()) => break,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Self::writable(&handle).await?,
                Err(_) => Self::replace(&mut handle).await?,
            }
        }
        drop(handle);
        sys::watch(ours, READ_WRITE)
    }

    async fn writable(handle: &LauncherHandle) -> io::Result<()> {
        let socket = sys::watch(handle.socket.try_clone()?, Interest::WRITABLE)?;
        socket.writable().await.map(|_| ())
    }

    /// A pidfd is readable from its process's end on.
    fn has_ended(handle: &LauncherHandle) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut fds = [PollFd::new(&handle.pidfd, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
    }

    async fn replace(handle: &mut LauncherHandle) -> io::Result<()> {
        let fresh = handle.respawn()?;
        let old = std::mem::replace(handle, fresh);
        tokio::task::spawn_blocking(move || old.reap())
            .await
            .map_err(io::Error::other)
    }

    /// The launcher's pid now; for diagnostics and tests.
    pub async fn pid(&self) -> i32 {
        self.handle.lock().await.pid()
    }
}

/// A pod's shim. Cheap to clone; the connection closes when all clones and the [`Events`] are dropped.
#[derive(Clone, Debug)]
pub struct PodShim {
    pid: i32,
    state_dir: StateDir,
    commands: mpsc::Sender<Command>,
}

impl PodShim {
    /// Finds a living shim again by its state directory, with what it knows of its containers.
    ///
    /// # Errors
    /// [`Error::Gone`] when it is dead, [`Error::Unreachable`] when it lives and does not answer.
    pub async fn connect(state_dir: &Path) -> Result<(PodShim, Events, Vec<ContainerState>), Error> {
        let (connection, hello) = Connection::reopen(StateDir::new(state_dir)).await?;
        let (shim, events) = PodShim::new(connection, hello.pid);
        Ok((shim, events, hello.containers))
    }

    fn new(connection: Connection, pid: i32) -> (PodShim, Events) {
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let (events, event_receiver) = mpsc::unbounded_channel();
        let state_dir = connection.state_dir().clone();
        tokio::spawn(connection.run(receiver, events));
        (
            PodShim {
                pid,
                state_dir,
                commands,
            },
            event_receiver,
        )
    }

    /// The shim's pid: `/proc/<pid>/ns/{net,ipc,uts}` are the pod's.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    pub fn state_dir(&self) -> &StateDir {
        &self.state_dir
    }

    fn gone(&self) -> Error {
        Error::Gone {
            state_dir: self.state_dir.path().to_owned(),
        }
    }

    async fn ask(&self, operation: Operation, fds: Vec<OwnedFd>) -> Result<(Answer, Vec<OwnedFd>), Error> {
        let (reply, answer) = oneshot::channel();
        let command = Command {
            operation,
            fds,
            reply,
            exec_exit: None,
        };
        self.commands.send(command).await.map_err(|_| self.gone())?;
        answer.await.map_err(|_| self.gone())?
    }

    async fn tell(&self, operation: Operation) -> Result<(), Error> {
        self.ask(operation, Vec::new()).await.map(|_| ())
    }

    /// Starts a container whose bundle directory is complete. Starting one that the shim already has answers with its
    /// present state, running or not.
    ///
    /// # Errors
    /// [`Error::Start`] with the runtime's reason.
    pub async fn start(&self, config: &ContainerConfig) -> Result<ContainerState, Error> {
        match self
            .ask(Operation::Start { config: config.clone() }, Vec::new())
            .await?
        {
            (Answer::State(state), _) => Ok(*state),
            _ => Err(unexpected()),
        }
    }

    /// Signals a container's first process, or all of its processes; or, with an exec's id, that process. A target that
    /// has ended is no error.
    pub async fn signal(&self, id: &str, signal: i32, all: bool) -> Result<(), Error> {
        self.tell(Operation::Signal {
            target: id.to_owned(),
            signal,
            all,
        })
        .await
    }

    /// Runs one more process in a running container. Its streams are the descriptors given; with `process.terminal` they
    /// are ignored and the session has a console.
    pub async fn exec(&self, container_id: &str, process: &Process, stdio: Stdio) -> Result<ExecSession, Error> {
        let (streams, fds) = split(stdio);
        let process = Box::new(process.clone());
        let operation = Operation::Exec {
            container_id: container_id.to_owned(),
            process,
            streams,
        };
        let (reply, answer) = oneshot::channel();
        let (exit_sender, exited) = oneshot::channel();
        let command = Command {
            operation,
            fds,
            reply,
            exec_exit: Some(exit_sender),
        };
        self.commands.send(command).await.map_err(|_| self.gone())?;
        match answer.await.map_err(|_| self.gone())?? {
            (Answer::Exec { exec_id, pid, .. }, fds) => Ok(ExecSession {
                exec_id,
                pid,
                console: fds.into_iter().next(),
                exited,
            }),
            _ => Err(unexpected()),
        }
    }

    /// Copies a container's output, from now on, into `stdio.stdout` and `stdio.stderr` (a terminal has only the first),
    /// and `stdio.stdin` into its input. Pass pipe or socket ends and keep no copies; the shim makes them non-blocking.
    /// A reader that falls far behind is dropped.
    pub async fn attach(&self, id: &str, stdio: Stdio) -> Result<AttachSession, Error> {
        let (streams, fds) = split(stdio);
        match self
            .ask(
                Operation::Attach {
                    container_id: id.to_owned(),
                    streams,
                },
                fds,
            )
            .await?
        {
            (Answer::Attached { attach_id }, _) => Ok(AttachSession { attach_id }),
            _ => Err(unexpected()),
        }
    }

    /// Tells a container's or an exec's terminal its size.
    pub async fn resize(&self, id_or_exec: &str, rows: u16, cols: u16) -> Result<(), Error> {
        self.tell(Operation::Resize {
            target: id_or_exec.to_owned(),
            rows,
            cols,
        })
        .await
    }

    /// Opens the log path anew: call after the file was renamed away.
    pub async fn reopen_log(&self, id: &str) -> Result<(), Error> {
        self.tell(Operation::ReopenLog {
            container_id: id.to_owned(),
        })
        .await
    }

    /// Forgets a stopped container and deletes its bundle directory. Idempotent.
    ///
    /// # Errors
    /// [`Error::Refused`] while it runs.
    pub async fn remove(&self, id: &str) -> Result<(), Error> {
        self.tell(Operation::Remove {
            container_id: id.to_owned(),
        })
        .await
    }

    /// Kills every container, removes the pod's cgroup and the state directory's content, and ends the shim. Returns when
    /// its process is gone. Idempotent: a shim that is dead already is cleaned up after.
    pub async fn shutdown(&self) -> Result<(), Error> {
        let sandbox = self.state_dir.sandbox()?;
        match self.tell(Operation::Shutdown).await {
            Ok(()) | Err(Error::Gone { .. }) => {}
            Err(error) => return Err(error),
        }
        if let Some(sandbox) = sandbox {
            if !sandbox.wait_end(ENDING).await {
                let source = io::ErrorKind::TimedOut.into();
                return Err(Error::Unreachable {
                    state_dir: self.state_dir.path().to_owned(),
                    source,
                });
            }
            let finish =
                move || crate::leftovers::remove_pod(&StateDir::new(&sandbox.config.state_dir), Some(&sandbox));
            let finished = tokio::task::spawn_blocking(finish).await;
            finished
                .map_err(|_| self.gone())?
                .map_err(|message| Error::Refused { message })?;
        }
        Ok(())
    }
}

fn unexpected() -> Error {
    Error::Refused {
        message: "an answer to another question".to_owned(),
    }
}

fn split(stdio: Stdio) -> (Streams, Vec<OwnedFd>) {
    let Stdio { stdin, stdout, stderr } = stdio;
    let streams = Streams {
        stdin: stdin.is_some(),
        stdout: stdout.is_some(),
        stderr: stderr.is_some(),
    };
    (streams, [stdin, stdout, stderr].into_iter().flatten().collect())
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        match refusal {
            Refusal::Start(error) => Error::Start(error),
            Refusal::NotFound { what } => Error::NotFound { what },
            Refusal::Other { message } => Error::Refused { message },
        }
    }
}
