//! The one place of this crate with raw system calls.

use rustix::thread::UnshareFlags;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

/// Moves the calling thread into a new network namespace and returns a handle to it. The namespace lives as long as the
/// handle, a process inside it or a link to it. The caller must be a thread that never serves anything else.
pub(crate) fn new_network_namespace() -> io::Result<OwnedFd> {
    // SAFETY: CLONE_NEWNET changes only which network the calling thread's later sockets belong to; no memory, file or
    // credential of any other thread is affected. The thread is dedicated to this work.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }?;
    Ok(File::open("/proc/thread-self/ns/net")?.into())
}

/// A handle to the namespace the calling thread is in.
pub(crate) fn own_network_namespace() -> io::Result<File> {
    File::open("/proc/thread-self/ns/net")
}
