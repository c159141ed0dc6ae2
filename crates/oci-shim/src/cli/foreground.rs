//! Waiting for a process in the foreground: its signals are ours, its terminal too.

use crate::error::{Result, Step};
use crate::init::Running;
use crate::sys;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

/// Holds back the runner's signals, so that those which arrive while the process is being started reach it too. To be
/// called before the start; the program itself begins with none blocked.
pub(super) fn hold_signals() -> Result<OwnedFd> {
    sys::signal_fd().step(|| "receive signals".into())
}

/// Blocks until the process ends and returns its exit code; signals that arrive are passed on to it.
pub(super) fn wait(running: &Running, signals: &OwnedFd) -> Result<i32> {
    let terminal = running.console.as_ref().map(Terminal::attach);
    loop {
        let mut watched = vec![
            PollFd::new(&running.pidfd, PollFlags::IN),
            PollFd::new(signals, PollFlags::IN),
        ];
        if let Some(terminal) = &terminal {
            terminal.watch(&mut watched);
        }
        match poll(&mut watched, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).step(|| "wait for the process".into()),
        }
        let ready: Vec<bool> = watched.iter().map(|fd| !fd.revents().is_empty()).collect();
        if ready[1] {
            pass_on_signals(running, signals, terminal.as_ref());
        }
        if let Some(terminal) = &terminal {
            terminal.copy(&ready[2..]);
        }
        if ready[0] {
            if let Some(terminal) = &terminal {
                terminal.drain();
            }
            let status = sys::wait(running.pid).step(|| "wait for the process".into())?;
            return Ok(sys::exit_code(status));
        }
    }
}

fn pass_on_signals(running: &Running, signals: &OwnedFd, terminal: Option<&Terminal<'_>>) {
    while let Ok(signal) = sys::read_signal(signals.as_fd()) {
        match signal {
            libc::SIGWINCH => {
                if let Some(terminal) = terminal {
                    terminal.resize();
                }
            }
            // Ours alone: of hooks, of reads from a background terminal.
            libc::SIGCHLD | libc::SIGPIPE | libc::SIGURG | libc::SIGTTIN | libc::SIGTTOU => {}
            other => drop(sys::send_signal(running.pidfd.as_fd(), other)),
        }
    }
}

/// The user's terminal connected to the container's.
struct Terminal<'a> {
    master: &'a OwnedFd,
    /// To be restored; `None` if stdin is no terminal.
    before: Option<Termios>,
    input_open: std::cell::Cell<bool>,
    output_open: std::cell::Cell<bool>,
}

impl<'a> Terminal<'a> {
    fn attach(master: &'a OwnedFd) -> Terminal<'a> {
        let stdin = rustix::stdio::stdin();
        let before = isatty(stdin).then(|| tcgetattr(stdin).ok()).flatten();
        if let Some(mut raw) = before.clone() {
            raw.make_raw();
            let _ = tcsetattr(stdin, OptionalActions::Flush, &raw);
        }
        let terminal = Terminal {
            master,
            before,
            input_open: true.into(),
            output_open: true.into(),
        };
        terminal.resize();
        terminal
    }

    fn resize(&self) {
        if let Ok(size) = tcgetwinsize(rustix::stdio::stdin()) {
            let _ = tcsetwinsize(self.master, size);
        }
    }

    fn watch<'f>(&'f self, watched: &mut Vec<PollFd<'f>>) {
        let interest = |open: bool| if open { PollFlags::IN } else { PollFlags::empty() };
        watched.push(PollFd::new(self.master, interest(self.output_open.get())));
        if self.input_open.get() {
            watched.push(PollFd::from_borrowed_fd(rustix::stdio::stdin(), PollFlags::IN));
        }
    }

    fn copy(&self, ready: &[bool]) {
        if ready[0] && self.output_open.get() {
            self.output_open
                .set(copy_once(self.master.as_fd(), rustix::stdio::stdout()));
        }
        if ready.get(1) == Some(&true) && !copy_once(rustix::stdio::stdin(), self.master.as_fd()) {
            self.input_open.set(false);
            // End of file, as a terminal says it.
            let _ = rustix::io::write(self.master, &[4]);
        }
    }

    /// What the process wrote before it ended.
    fn drain(&self) {
        let mut ready = [PollFd::new(self.master, PollFlags::IN)];
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        while self.output_open.get() && poll(&mut ready, Some(&now)).is_ok_and(|count| count > 0) {
            self.output_open
                .set(copy_once(self.master.as_fd(), rustix::stdio::stdout()));
        }
    }
}

impl Drop for Terminal<'_> {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Flush, before);
        }
    }
}

/// False at the end of the input. A pty without a process on its other side answers EIO.
fn copy_once(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> bool {
    let mut buffer = [0; 16 * 1024];
    let count = match rustix::io::read(from, &mut buffer) {
        Ok(0) => return false,
        Ok(count) => count,
        Err(Errno::INTR | Errno::AGAIN) => return true,
        Err(_) => return false,
    };
    let mut left = &buffer[..count];
    while !left.is_empty() {
        match rustix::io::write(to, left) {
            Ok(written) => left = &left[written..],
            Err(Errno::INTR) => {}
            Err(_) => return true,
        }
    }
    true
}
