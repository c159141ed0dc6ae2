//! The one place of this crate with raw system calls.

/// Rust starts programs with SIGPIPE ignored; `cata get pods | head -1` should end quietly like any other tool.
/// Long-running parts ignore it again through their own handlers where they write to sockets.
pub(crate) fn restore_sigpipe() {
    // SAFETY: called at the top of `main`, before any thread; setting a default disposition touches no memory of ours.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

/// For daemons: a peer that hangs up must not end the process.
pub(crate) fn ignore_sigpipe() {
    // SAFETY: as above; ignoring a signal runs no code of ours.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}
