//! The task that owns a connection to a pod shim.

use super::{Error, Event};
use crate::message::{Answer, FromShim, Operation, Request};
use crate::spec::{ContainerState, Exit};
use crate::state_dir::StateDir;
use crate::sys;
use crate::wire::{self, Packet};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, connect, socket_with};
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};

/// How long a shim may take to say hello: it may be starting a container, one at a time.
const HELLO: Duration = Duration::from_secs(30);

pub(super) const READ_WRITE: Interest = Interest::READABLE.add(Interest::WRITABLE);

/// How long a shim whose socket is closed may take to be dead.
const DYING: Duration = Duration::from_secs(2);
/// Pauses between attempts to reach a shim that lives and does not answer.
const RECONNECT_FIRST: Duration = Duration::from_millis(50);
const RECONNECT_LAST: Duration = Duration::from_secs(5);

type Reply = Result<(Answer, Vec<OwnedFd>), Error>;

pub(super) struct Command {
    pub(super) operation: Operation,
    pub(super) fds: Vec<OwnedFd>,
    pub(super) reply: oneshot::Sender<Reply>,
    /// For an exec: who waits for its end.
    pub(super) exec_exit: Option<oneshot::Sender<Exit>>,
}

struct Pending {
    reply: oneshot::Sender<Reply>,
    exec_exit: Option<oneshot::Sender<Exit>>,
}

/// A shim's first words.
pub(super) struct Hello {
    pub(super) pid: i32,
    pub(super) containers: Vec<ContainerState>,
}

pub(super) struct Connection {
    socket: AsyncFd<OwnedFd>,
    state_dir: StateDir,
    next_id: u64,
    pending: HashMap<u64, Pending>,
    execs: HashMap<String, oneshot::Sender<Exit>>,
    /// Containers whose end has been told, so that a reconnect does not tell it twice.
    told: BTreeSet<String>,
}

impl Connection {
    /// Waits for the hello on a fresh socket.
    pub(super) async fn open(state_dir: StateDir, socket: AsyncFd<OwnedFd>) -> Result<(Connection, Hello), Error> {
        let unreachable = |source| Error::Unreachable {
            state_dir: state_dir.path().to_owned(),
            source,
        };
        let first = tokio::time::timeout(HELLO, receive(&socket)).await;
        let packet = first
            .map_err(|_| unreachable(io::ErrorKind::TimedOut.into()))?
            .map_err(unreachable)?;
        let packet = packet.ok_or_else(|| unreachable(io::ErrorKind::UnexpectedEof.into()))?;
        match wire::decode::<FromShim>(packet).map_err(unreachable)?.0 {
            FromShim::Hello { pid, containers } => {
                let ended = containers.iter().filter(|container| container.exit.is_some());
                let told = ended.map(|container| container.config.id.clone()).collect();
                let connection = Connection {
                    socket,
                    state_dir,
                    next_id: 0,
                    pending: HashMap::new(),
                    execs: HashMap::new(),
                    told,
                };
                Ok((connection, Hello { pid, containers }))
            }
            FromShim::Failed { message } => Err(Error::Create { message }),
            _ => Err(unreachable(io::ErrorKind::InvalidData.into())),
        }
    }

    /// Connects to the shim of a state directory.
    pub(super) async fn reopen(state_dir: StateDir) -> Result<(Connection, Hello), Error> {
        let gone = || Error::Gone {
            state_dir: state_dir.path().to_owned(),
        };
        let sandbox = state_dir.sandbox()?.ok_or_else(gone)?;
        if !sandbox.is_alive() {
            return Err(gone());
        }
        let opened = match dial(&state_dir).and_then(|socket| sys::watch(socket, READ_WRITE)) {
            Ok(socket) => Self::open(state_dir.clone(), socket).await,
            Err(source) => Err(Error::Unreachable {
                state_dir: state_dir.path().to_owned(),
                source,
            }),
        };
        match opened {
            // A living shim always listens; but sockets close a moment before their process counts as dead.
            Err(Error::Unreachable { .. }) if sandbox.wait_end(DYING).await => Err(gone()),
            done => done,
        }
    }

    pub(super) fn state_dir(&self) -> &StateDir {
        &self.state_dir
    }

    /// Serves until the shim is dead, or nobody is left who could ask or listen.
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>, events: mpsc::UnboundedSender<Event>) {
        let mut asking = true;
        loop {
            let step = tokio::select! {
                command = commands.recv(), if asking => match command {
                    Some(command) => self.submit(command).await,
                    None => {
                        asking = false;
                        Ok(())
                    }
                },
                packet = receive(&self.socket) => match packet {
                    Ok(Some(packet)) => {
                        self.hear(packet, &events);
                        Ok(())
                    }
                    Ok(None) => Err(io::ErrorKind::UnexpectedEof.into()),
                    Err(error) => Err(error),
                },
                () = events.closed(), if !asking => return,
            };
            if step.is_err() && !self.recover(&mut commands, &events).await {
                let _ = events.send(Event::Gone);
                return;
            }
        }
    }

    async fn submit(&mut self, command: Command) -> io::Result<()> {
        let Command {
            operation,
            fds,
            reply,
            exec_exit,
        } = command;
        self.next_id += 1;
        let id = self.next_id;
        let packet = match wire::encode(&Request { id, operation }, fds) {
            Ok(packet) => packet,
            Err(source) => {
                let _ = reply.send(Err(Error::Send { source }));
                return Ok(());
            }
        };
        self.pending.insert(id, Pending { reply, exec_exit });
        send(&self.socket, &packet).await
    }

    fn hear(&mut self, packet: Packet, events: &mpsc::UnboundedSender<Event>) {
        // A message that this agent does not know comes from a newer shim; it can wait for a newer agent.
        let Ok((message, fds)) = wire::decode::<FromShim>(packet) else {
            return;
        };
        match message {
            FromShim::Reply { id, outcome } => self.answer(id, outcome.map_err(Error::from), fds),
            FromShim::Exited { id, exit } => self.report_exit(id, exit, events),
            FromShim::ExecExited { exec_id, exit } => match self.execs.remove(&exec_id) {
                Some(waiter) => drop(waiter.send(exit)),
                None => drop(events.send(Event::ExecExited { exec_id, exit })),
            },
            FromShim::Hello { .. } | FromShim::Failed { .. } => {}
        }
    }

    fn report_exit(&mut self, id: String, exit: Exit, events: &mpsc::UnboundedSender<Event>) {
        if self.told.insert(id.clone()) {
            let _ = events.send(Event::Exited { id, exit });
        }
    }

    fn answer(&mut self, id: u64, outcome: Result<Answer, Error>, fds: Vec<OwnedFd>) {
        let Some(Pending { reply, exec_exit }) = self.pending.remove(&id) else {
            return;
        };
        if let (Ok(Answer::Exec { exec_id, .. }), Some(waiter)) = (&outcome, exec_exit) {
            self.execs.insert(exec_id.clone(), waiter);
        }
        // Nobody may be waiting any more; a console then closes here, which hangs up on its process.
        let _ = reply.send(outcome.map(|answer| (answer, fds)));
    }

    /// After a lost connection: fails what was under way, connects again. False when the shim is dead.
    async fn recover(&mut self, commands: &mut mpsc::Receiver<Command>, events: &mpsc::UnboundedSender<Event>) -> bool {
        self.execs.clear();
        let mut delay = RECONNECT_FIRST;
        loop {
            let outcome = Self::reopen(self.state_dir.clone()).await;
            self.fail_waiting(
                outcome.as_ref().err().map(|_| &mut *commands),
                matches!(outcome, Err(Error::Gone { .. })),
            );
            match outcome {
                Ok((fresh, hello)) => {
                    self.socket = fresh.socket;
                    for container in hello.containers {
                        if let Some(exit) = container.exit {
                            self.report_exit(container.config.id, exit, events);
                        }
                    }
                    return true;
                }
                Err(Error::Gone { .. }) => return false,
                // Nobody is left to be told.
                Err(_) if events.is_closed() && commands.is_closed() => return false,
                Err(_) => tokio::time::sleep(delay).await,
            }
            delay = (delay * 2).min(RECONNECT_LAST);
        }
    }

    /// Answers everybody whose question went down with the old connection, and those in the queue if there is no new one.
    fn fail_waiting(&mut self, queue: Option<&mut mpsc::Receiver<Command>>, gone: bool) {
        let error = || {
            let state_dir = self.state_dir.path().to_owned();
            let source = io::ErrorKind::ConnectionReset.into();
            if gone {
                Error::Gone { state_dir }
            } else {
                Error::Unreachable { state_dir, source }
            }
        };
        for (_, pending) in std::mem::take(&mut self.pending) {
            let _ = pending.reply.send(Err(error()));
        }
        if let Some(queue) = queue {
            while let Ok(command) = queue.try_recv() {
                let _ = command.reply.send(Err(error()));
            }
        }
    }
}

fn dial(state_dir: &StateDir) -> io::Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(state_dir.path(), flags, Mode::empty())?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    connect(&socket, &wire::short_address(&dir)?)?;
    Ok(socket)
}

async fn send(socket: &AsyncFd<OwnedFd>, packet: &Packet) -> io::Result<()> {
    loop {
        let mut ready = socket.writable().await?;
        if let Ok(sent) = ready.try_io(|socket| wire::send(socket, packet)) {
            return sent;
        }
    }
}

/// Cancel-safe: nothing happens between the wake-up and the packet being in hand.
async fn receive(socket: &AsyncFd<OwnedFd>) -> io::Result<Option<Packet>> {
    loop {
        let mut ready = socket.readable().await?;
        if let Ok(received) = ready.try_io(|socket| wire::receive(socket, RecvFlags::DONTWAIT)) {
            return received;
        }
    }
}
