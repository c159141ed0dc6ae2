//! A descriptor to write to that never makes anyone wait: what it does not take now is kept, up to a bound.

use crate::pod::nonblocking;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Most bytes kept for one reader. One that is further behind is dropped.
const QUEUE_MAX: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct Sink {
    fd: OwnedFd,
    queue: Vec<u8>,
    /// Nothing will be added: close when the queue is empty.
    ending: bool,
}

/// The reader is gone or too slow; or all is written after [`Sink::end`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Finished;

impl Sink {
    pub(super) fn new(fd: OwnedFd) -> io::Result<Sink> {
        nonblocking(&fd)?;
        Ok(Sink {
            fd,
            queue: Vec::new(),
            ending: false,
        })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.queue.is_empty()
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Finished> {
        let written = if self.queue.is_empty() {
            write_some(&self.fd, bytes)?
        } else {
            0
        };
        let rest = &bytes[written..];
        if self.queue.len() + rest.len() > QUEUE_MAX {
            return Err(Finished);
        }
        self.queue.extend_from_slice(rest);
        Ok(())
    }

    /// Call when the descriptor can take more.
    pub(super) fn flush(&mut self) -> Result<(), Finished> {
        let written = write_some(&self.fd, &self.queue)?;
        self.queue.drain(..written);
        if self.queue.is_empty() {
            self.queue = Vec::new();
            if self.ending {
                return Err(Finished);
            }
        }
        Ok(())
    }

    pub(super) fn end(&mut self) -> Result<(), Finished> {
        self.ending = true;
        if self.queue.is_empty() { Err(Finished) } else { Ok(()) }
    }
}

fn write_some(fd: &OwnedFd, bytes: &[u8]) -> Result<usize, Finished> {
    let mut written = 0;
    while written < bytes.len() {
        match rustix::io::retry_on_intr(|| rustix::io::write(fd, &bytes[written..])) {
            Ok(count) if count > 0 => written += count,
            Err(rustix::io::Errno::AGAIN) => break,
            Ok(_) | Err(_) => return Err(Finished),
        }
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pipe::{PipeFlags, pipe_with};

    fn pipe() -> (OwnedFd, Sink) {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        (reader, Sink::new(writer).unwrap())
    }

    #[test]
    fn a_slow_reader_gets_everything_until_it_is_too_slow() {
        let (reader, mut sink) = pipe();
        let chunk = vec![7; 100_000];
        sink.write(&chunk).unwrap();
        assert!(sink.is_waiting());
        assert_eq!(sink.end(), Ok(()));
        let mut got = 0;
        while got < chunk.len() {
            got += rustix::io::read(&reader, &mut [0_u8; 65_536][..]).unwrap();
            let _ = sink.flush();
        }
        assert_eq!(sink.flush(), Err(Finished));
        let (_reader, mut sink) = pipe();
        assert_eq!((0..20).try_for_each(|_| sink.write(&chunk)), Err(Finished));
    }

    #[test]
    fn a_reader_that_went_away_is_no_signal() {
        let (reader, mut sink) = pipe();
        drop(reader);
        assert_eq!(sink.write(b"x"), Err(Finished));
    }
}
