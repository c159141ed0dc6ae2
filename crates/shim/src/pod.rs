//! The pod shim: one small process per pod, parent of its containers, from the pod's first moment to its last.
//!
//! ```text
//!  launcher ─ fork ×2 ─▶ set_up ──▶ serve ◀──────────┐ one poll, then whatever is ready, a little of each
//!                          │          ├─ client      ─┤ request → dispatch → reply
//!                          │          ├─ SIGCHLD     ─┤ reap → clean up → drain → exit.json → event
//!                          ▼          ├─ output      ─┤ read → log, attached clients
//!                       "failed"      └─ stdin       ─┘ attached client → container
//!                                         shutdown ──▶ kill, remove, answer, exit
//! ```
//!
//! What it must never do: block on a client, on an attached reader or on a container's pipe; die of a message; tell of an
//! end before `exit.json` has it. What is polled is computed from the state each time, so there is no registration to
//! forget, and not asking for an event is how back-pressure is expressed. The one thing it does wait for is the log's file
//! system, like any writer; a pod whose disk hangs is alone with that.
//!
//! It stays small: no threads, no allocation that lasts, buffers only while something is in them.

mod clients;
mod container;
mod dispatch;
mod ending;
mod log;
mod setup;
mod sink;

use crate::cgroup::Birth;
use crate::message::FromShim;
use crate::runtime::{Runtime, Runtimes};
use crate::spec::{PodConfig, RuntimeKind};
use crate::{sys, wire};
use clients::Clients;
use container::{Container, READ_MAX};
use log::Stream;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{WaitOptions, WaitStatus};
pub(crate) use setup::shim_cgroup;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// How long the last answer may take to reach an agent that does not read.
const FAREWELL: Duration = Duration::from_secs(1);
/// Scratch buffers larger than this are given back.
const SCRATCH_KEPT: usize = 64 << 10;

/// Becomes the shim of a pod. `connection` is its first client's.
pub(crate) fn run(config: PodConfig, runtimes: Runtimes, connection: OwnedFd, netns: OwnedFd, birth: Birth) -> ! {
    // Nothing may unwind into the launcher's loop, of which this process is a copy.
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        setup::detach(&connection, &netns);
        match setup::set_up(&config, &netns, &connection, birth) {
            Ok(ready) => {
                drop(netns);
                Pod::new(config, runtimes, ready).serve(connection);
                0
            }
            Err(message) => {
                if let Ok(packet) = wire::encode(&FromShim::Failed { message }, Vec::new()) {
                    let _ = wire::send(&connection, &packet);
                }
                1
            }
        }
    }));
    sys::exit_now(outcome.unwrap_or(2))
}

/// Buffers that all streams share, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    input: Vec<u8>,
    batch: Vec<u8>,
}

impl Scratch {
    fn read(&mut self, fd: &OwnedFd) -> rustix::io::Result<&[u8]> {
        self.input.clear();
        // Reserved, not zeroed: pages that no read fills are never touched.
        self.input.reserve_exact(READ_MAX);
        rustix::io::retry_on_intr(|| rustix::io::read(fd, rustix::buffer::spare_capacity(&mut self.input)))?;
        Ok(&self.input)
    }

    fn trim(&mut self) {
        if self.batch.capacity() > SCRATCH_KEPT {
            self.batch = Vec::new();
        }
    }
}

/// A process of [`crate::client::PodShim::exec`].
#[derive(Debug)]
struct Exec {
    id: String,
    pid: i32,
    pidfd: OwnedFd,
    /// Who asked for it; when that connection ends, so does the process.
    client: u64,
    /// A slave side of its terminal, to set its size with. It does not keep the terminal alive: only masters do.
    terminal: Option<OwnedFd>,
    started_at: jiff::Timestamp,
}

struct Pod {
    config: PodConfig,
    runtimes: Runtimes,
    ready: setup::Ready,
    clients: Clients,
    containers: Vec<Container>,
    execs: Vec<Exec>,
    scratch: Scratch,
    /// Last number given to a container, an attachment or an exec.
    last_key: u64,
    /// The pod is to end, and this client's request asked for it.
    ending: Option<(u64, u64)>,
}

/// What a polled descriptor is.
#[derive(Clone, Copy, Debug)]
enum Source {
    Signals,
    Listener,
    Client(u64),
    Output(u64, Stream),
    Stdin(u64),
    AttachedInput(u64, u64),
    AttachedOutput(u64, u64, Stream),
}

impl Pod {
    fn new(config: PodConfig, runtimes: Runtimes, ready: setup::Ready) -> Pod {
        Pod {
            config,
            runtimes,
            ready,
            clients: Clients::default(),
            containers: Vec::new(),
            execs: Vec::new(),
            scratch: Scratch::default(),
            last_key: 0,
            ending: None,
        }
    }

    fn serve(mut self, first: OwnedFd) {
        let hello = self.hello();
        self.clients.add(first, &hello);
        loop {
            for (source, flags) in self.wait() {
                self.handle(source, flags);
            }
            self.scratch.trim();
            for gone in self.clients.sweep() {
                self.kill_execs_of(gone);
            }
            if let Some((client, request)) = self.ending {
                return self.end(client, request);
            }
        }
    }

    fn next_key(&mut self) -> u64 {
        self.last_key += 1;
        self.last_key
    }

    fn runtime(runtimes: &mut Runtimes, kind: RuntimeKind) -> &mut dyn Runtime {
        match kind {
            RuntimeKind::Linux => runtimes.linux.as_mut(),
            RuntimeKind::Wasm => runtimes.wasm.as_mut(),
        }
    }

    fn hello(&self) -> FromShim {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        let containers = self
            .containers
            .iter()
            .map(|container| container.state.clone())
            .collect();
        FromShim::Hello { pid, containers }
    }

    fn wait(&self) -> Vec<(Source, PollFlags)> {
        let mut sources = Vec::new();
        let mut fds = Vec::new();
        self.interests(|source, fd, flags| {
            sources.push(source);
            fds.push(PollFd::from_borrowed_fd(fd, flags));
        });
        if poll(&mut fds, None).is_err() {
            return Vec::new();
        }
        let ready = sources.into_iter().zip(fds.iter().map(PollFd::revents));
        ready.filter(|(_, flags)| !flags.is_empty()).collect()
    }

    /// Everything that is waited for now. Without flags a descriptor still reports its other side going away.
    fn interests<'a>(&'a self, mut add: impl FnMut(Source, BorrowedFd<'a>, PollFlags)) {
        let writing = |waiting| if waiting { PollFlags::OUT } else { PollFlags::empty() };
        add(Source::Signals, self.ready.signals.as_fd(), PollFlags::IN);
        add(Source::Listener, self.ready.listener.as_fd(), PollFlags::IN);
        for client in self.clients.iter() {
            add(
                Source::Client(client.key),
                client.fd(),
                PollFlags::IN | writing(client.is_waiting()),
            );
        }
        for container in &self.containers {
            let key = container.key;
            for stream in Stream::BOTH {
                if let Some(output) = &container.outputs[stream.index()] {
                    add(Source::Output(key, stream), output.as_fd(), PollFlags::IN);
                }
            }
            // A terminal's descriptor is the console's again: only its output tells that it ended.
            let terminal = container.state.config.terminal;
            if let Some(stdin) = container.stdin.as_ref().filter(|stdin| stdin.is_waiting() || !terminal) {
                add(Source::Stdin(key), stdin.fd(), writing(stdin.is_waiting()));
            }
            for attachment in &container.attachments {
                if let Some(input) = attachment.input.as_ref().filter(|_| container.takes_input()) {
                    add(Source::AttachedInput(key, attachment.id), input.as_fd(), PollFlags::IN);
                }
                for stream in Stream::BOTH {
                    if let Some(sink) = &attachment.outputs[stream.index()] {
                        let source = Source::AttachedOutput(key, attachment.id, stream);
                        add(source, sink.fd(), writing(sink.is_waiting()));
                    }
                }
            }
        }
    }

    fn handle(&mut self, source: Source, flags: PollFlags) {
        let hung_up = flags.intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL);
        match source {
            Source::Signals => self.reap(),
            Source::Listener => {
                if let Some(socket) = Clients::accept(&self.ready.listener) {
                    let hello = self.hello();
                    self.clients.add(socket, &hello);
                }
            }
            Source::Client(key) => self.hear(key, flags),
            Source::Output(key, stream) => {
                if let Some(container) = self.containers.iter_mut().find(|found| found.key == key) {
                    container.read(stream, &mut self.scratch);
                }
            }
            Source::Stdin(key) => self.with_container(key, |container, _| {
                if hung_up {
                    container.stdin_hung_up();
                } else {
                    container.flush_stdin();
                }
            }),
            Source::AttachedInput(key, id) => self.with_container(key, |container, scratch| {
                if container.takes_input() {
                    container.type_in(id, scratch);
                }
            }),
            Source::AttachedOutput(key, id, stream) => {
                self.with_container(key, |container, _| container.flush_attached(id, stream, hung_up));
            }
        }
    }

    fn with_container(&mut self, key: u64, act: impl FnOnce(&mut Container, &mut Scratch)) {
        if let Some(container) = self.containers.iter_mut().find(|found| found.key == key) {
            act(container, &mut self.scratch);
        }
    }

    fn hear(&mut self, key: u64, flags: PollFlags) {
        let Some(client) = self.clients.get(key) else { return };
        if flags.contains(PollFlags::OUT) {
            client.flush();
        }
        if flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR)
            && let Some(packet) = client.receive()
        {
            self.dispatch(key, packet);
        }
    }

    fn reap(&mut self) {
        // Signals arrive merged; what they mean is asked of the children themselves. SIGTERM and its like end a machine,
        // not a pod: they are read and ignored.
        let mut pending = [0_u8; 1024];
        while rustix::io::read(&self.ready.signals, &mut pending).is_ok_and(|length| length > 0) {}
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            self.ended(pid.as_raw_nonzero().get(), status);
        }
    }
}

/// How a process ended, in the manner of a shell.
fn exit_code(status: WaitStatus) -> (i32, Option<i32>) {
    match status.terminating_signal() {
        Some(signal) => (128 + signal, Some(signal)),
        None => (status.exit_status().unwrap_or(255), None),
    }
}

fn nonblocking(fd: &OwnedFd) -> io::Result<()> {
    Ok(rustix::io::ioctl_fionbio(fd, true)?)
}
