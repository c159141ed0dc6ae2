//! One container, as its shim holds it: the ends of its streams, its log, who is attached.

use super::log::{Log, Stream};
use super::sink::{Finished, Sink};
use super::{Scratch, nonblocking};
use crate::runtime::Stdio;
use crate::spec::ContainerState;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Most bytes taken from one stream before others get their turn.
pub(super) const READ_MAX: usize = 32 << 10;
/// Most bytes still taken from a stream after its container ended: what a pipe holds, and some.
const DRAIN_MAX: usize = 4 << 20;

/// Attached clients of one container. Each costs up to three descriptors, of which a process has a limited number.
pub(super) const ATTACHMENTS_MAX: usize = 64;

/// Somebody who watches a container's output, and may type.
#[derive(Debug)]
pub(super) struct Attachment {
    pub(super) id: u64,
    pub(super) input: Option<OwnedFd>,
    pub(super) outputs: [Option<Sink>; 2],
}

impl Attachment {
    fn is_over(&self) -> bool {
        self.input.is_none() && self.outputs.iter().all(Option::is_none)
    }
}

#[derive(Debug)]
pub(super) struct Container {
    /// Names it in the poll loop.
    pub(super) key: u64,
    pub(super) state: ContainerState,
    pub(super) pidfd: OwnedFd,
    /// What it writes; with a terminal only the first, which is the console.
    pub(super) outputs: [Option<OwnedFd>; 2],
    pub(super) stdin: Option<Sink>,
    pub(super) log: Option<Log>,
    pub(super) attachments: Vec<Attachment>,
}

/// What one read gave.
enum Took {
    Bytes(usize),
    /// Not now.
    Nothing,
    /// Nothing will follow.
    End,
}

/// The shim's ends of a container's streams, before it has started.
#[derive(Debug, Default)]
pub(super) struct Ends {
    pub(super) outputs: [Option<OwnedFd>; 2],
    pub(super) stdin: Option<OwnedFd>,
}

/// Makes the pipes of a container without a terminal.
pub(super) fn pipes(with_stdin: bool) -> io::Result<(Ends, Stdio)> {
    let (stdout, stdout_writer) = pipe_with(PipeFlags::CLOEXEC)?;
    let (stderr, stderr_writer) = pipe_with(PipeFlags::CLOEXEC)?;
    nonblocking(&stdout)?;
    nonblocking(&stderr)?;
    let mut ends = Ends {
        outputs: [Some(stdout), Some(stderr)],
        stdin: None,
    };
    let mut stdio = Stdio {
        stdin: None,
        stdout: Some(stdout_writer),
        stderr: Some(stderr_writer),
    };
    if with_stdin {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        ends.stdin = Some(writer);
        stdio.stdin = Some(reader);
    }
    Ok((ends, stdio))
}

/// The same for one with a terminal, once the runtime has made it.
pub(super) fn console_ends(console: OwnedFd, with_stdin: bool) -> io::Result<Ends> {
    nonblocking(&console)?;
    let stdin = if with_stdin {
        Some(rustix::io::fcntl_dupfd_cloexec(&console, 3)?)
    } else {
        None
    };
    Ok(Ends {
        outputs: [Some(console), None],
        stdin,
    })
}

impl Container {
    pub(super) fn is_running(&self) -> bool {
        self.state.exit.is_none()
    }

    pub(super) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// The console, while it is open.
    pub(super) fn console(&self) -> Option<&OwnedFd> {
        self.outputs[0].as_ref().filter(|_| self.state.config.terminal)
    }

    /// Takes what one stream has now, at most [`READ_MAX`] bytes.
    pub(super) fn read(&mut self, stream: Stream, scratch: &mut Scratch) {
        if matches!(self.read_once(stream, scratch), Took::End) {
            self.end_output(stream, scratch);
        }
    }

    fn read_once(&mut self, stream: Stream, scratch: &mut Scratch) -> Took {
        let Some(output) = &self.outputs[stream.index()] else {
            return Took::Nothing;
        };
        let length = match scratch.read(output) {
            Err(Errno::AGAIN) => return Took::Nothing,
            // A terminal whose other side is closed answers EIO.
            Ok([]) | Err(_) => return Took::End,
            Ok(bytes) => bytes.len(),
        };
        let bytes = std::mem::take(&mut scratch.input);
        if let Some(log) = &mut self.log {
            log.push(stream, &bytes, &mut scratch.batch);
        }
        self.copy_to_attached(stream, &bytes);
        scratch.input = bytes;
        Took::Bytes(length)
    }

    fn copy_to_attached(&mut self, stream: Stream, bytes: &[u8]) {
        for attachment in &mut self.attachments {
            let output = &mut attachment.outputs[stream.index()];
            if output.as_mut().is_some_and(|sink| sink.write(bytes) == Err(Finished)) {
                *output = None;
            }
        }
        self.forget_detached();
    }

    fn end_output(&mut self, stream: Stream, scratch: &mut Scratch) {
        if self.outputs[stream.index()].take().is_none() {
            return;
        }
        if let Some(log) = &mut self.log {
            log.finish(stream, &mut scratch.batch);
        }
        for attachment in &mut self.attachments {
            let output = &mut attachment.outputs[stream.index()];
            if output.as_mut().is_some_and(|sink| sink.end() == Err(Finished)) {
                *output = None;
            }
        }
        self.forget_detached();
    }

    /// After the end: takes what is still in the pipes, then closes everything. Never waits: whoever could still write is
    /// outside the container.
    pub(super) fn finish(&mut self, scratch: &mut Scratch) {
        for stream in Stream::BOTH {
            let mut left = DRAIN_MAX;
            while let Took::Bytes(length) = self.read_once(stream, scratch) {
                left = left.saturating_sub(length);
                if left == 0 {
                    break;
                }
            }
            self.end_output(stream, scratch);
        }
        self.stdin = None;
        self.log = None;
        for attachment in &mut self.attachments {
            attachment.input = None;
        }
        self.forget_detached();
    }

    /// Copies what an attached client typed. Call only while [`Container::takes_input`].
    pub(super) fn type_in(&mut self, attachment: u64, scratch: &mut Scratch) {
        let Some(attached) = self.attachments.iter_mut().find(|attached| attached.id == attachment) else {
            return;
        };
        let Some(input) = &attached.input else { return };
        match scratch.read(input) {
            Err(Errno::AGAIN) => return,
            Ok([]) | Err(_) => {
                attached.input = None;
                // A terminal has no end of input to pass on: its clients only come and go.
                if self.state.config.stdin_once && !self.state.config.terminal {
                    self.close_stdin();
                }
            }
            Ok(bytes) => {
                if self
                    .stdin
                    .as_mut()
                    .is_none_or(|stdin| stdin.write(bytes) == Err(Finished))
                {
                    self.close_stdin();
                }
            }
        }
        self.forget_detached();
    }

    /// False while the container has not read what it was given before.
    pub(super) fn takes_input(&self) -> bool {
        self.stdin.as_ref().is_none_or(|stdin| !stdin.is_waiting())
    }

    /// Lets what is queued through, then closes; clients that type are told by their descriptor closing.
    fn close_stdin(&mut self) {
        if self.stdin.as_mut().is_some_and(|stdin| stdin.end() == Err(Finished)) {
            self.stdin = None;
        }
        for attachment in &mut self.attachments {
            attachment.input = None;
        }
    }

    pub(super) fn flush_stdin(&mut self) {
        if self.stdin.as_mut().is_some_and(|stdin| stdin.flush() == Err(Finished)) {
            self.stdin = None;
            self.close_stdin();
            self.forget_detached();
        }
    }

    /// The container closed its end, so nothing more can be typed.
    pub(super) fn stdin_hung_up(&mut self) {
        self.stdin = None;
        self.close_stdin();
        self.forget_detached();
    }

    /// An attached client's output descriptor can take more, or its reader is gone.
    pub(super) fn flush_attached(&mut self, attachment: u64, stream: Stream, hung_up: bool) {
        let Some(attached) = self.attachments.iter_mut().find(|attached| attached.id == attachment) else {
            return;
        };
        let output = &mut attached.outputs[stream.index()];
        if hung_up || output.as_mut().is_some_and(|sink| sink.flush() == Err(Finished)) {
            *output = None;
        }
        self.forget_detached();
    }

    fn forget_detached(&mut self) {
        self.attachments.retain(|attachment| !attachment.is_over());
    }
}
