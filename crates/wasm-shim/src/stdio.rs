//! The guest's standard streams, and the shim's own words among them.

use crate::sys;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use wasmtime_wasi::WasiCtxBuilder;

/// Which of the process's streams an instance gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Streams {
    All,
    /// A service's instances: standard input would be torn between requests.
    OutputOnly,
}

impl Streams {
    pub(crate) fn connect(self, builder: &mut WasiCtxBuilder) {
        builder.inherit_stdout().inherit_stderr();
        if self == Streams::All {
            builder.inherit_stdin();
        }
    }
}

/// Puts the three streams at descriptors 0, 1 and 2; an absent one becomes `/dev/null`.
pub(crate) fn install(streams: [Option<OwnedFd>; 3]) -> std::io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    let [stdin, stdout, stderr] = streams;
    // Out of the way first: a source at 0, 1 or 2 would be overwritten by its neighbour.
    let high = |stream: Option<OwnedFd>| -> std::io::Result<OwnedFd> {
        match stream {
            Some(fd) => Ok(rustix::io::fcntl_dupfd_cloexec(fd.as_fd(), sys::FIRST_FREE_FD)?),
            None => Ok(rustix::io::fcntl_dupfd_cloexec(null.as_fd(), sys::FIRST_FREE_FD)?),
        }
    };
    let (stdin, stdout, stderr) = (high(stdin)?, high(stdout)?, high(stderr)?);
    rustix::stdio::dup2_stdin(&stdin)?;
    rustix::stdio::dup2_stdout(&stdout)?;
    rustix::stdio::dup2_stderr(&stderr)?;
    Ok(())
}

/// Writes what is still buffered. Failure is of no interest: the reader is gone.
pub(crate) fn flush() {
    let _ = std::io::stdout().flush();
    let _ = std::io::stderr().flush();
}
