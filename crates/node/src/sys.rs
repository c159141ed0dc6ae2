//! The one place of this crate that is not safe Rust.

use std::io;
use std::os::fd::OwnedFd;
use tokio::io::unix::AsyncFd;

/// Registers a descriptor with the runtime. It must be non-blocking already.
pub(crate) fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open, always the same descriptor, and closed only when the `AsyncFd` drops it.
    Ok(unsafe { AsyncFd::register(fd) }?)
}
