//! System calls without a safe wrapper, each behind one.
//!
//! The process that calls these is single-threaded: what a cloned child does between `clone3` and `execve` (allocate,
//! read files, format messages) would otherwise deadlock on locks that a vanished thread holds.

use rustix::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ffi::{CStr, CString};
use std::io;

/// `CLONE_INTO_CGROUP`; the C library's constant has too narrow a type.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Which side of [`clone3`] this is.
#[derive(Debug)]
pub(crate) enum Cloned {
    Child,
    Parent { pid: i32, pidfd: OwnedFd },
}

/// Splits the process with new namespaces as `flags` say, optionally straight into a v2 cgroup.
///
/// # Safety
/// The process must be single-threaded, and the child must end in `execve` or `_exit`, never unwind into its caller.
pub(crate) unsafe fn clone3(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Cloned> {
    let mut pidfd: libc::c_int = -1;
    // SAFETY: a structure of integers; zero means "not used".
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags | libc::CLONE_PIDFD as u64;
    args.pidfd = &raw mut pidfd as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    if let Some(cgroup) = &cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: no shared memory or stack is asked for, so this behaves like fork; the arguments outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) };
    match result {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Cloned::Child),
        pid => {
            // SAFETY: the kernel has just put a new descriptor there, which nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Cloned::Parent { pid: pid as i32, pidfd })
        }
    }
}

/// Ends the process without running destructors or exit handlers of its parent's memory.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: never returns, touches no memory.
    unsafe { libc::_exit(code) }
}

pub(crate) fn setns(namespace: impl AsFd, flags: i32) -> io::Result<()> {
    // SAFETY: a borrowed descriptor and flags.
    check(unsafe { libc::setns(namespace.as_fd().as_raw_fd(), flags) })
}

pub(crate) fn unshare(flags: i32) -> io::Result<()> {
    // SAFETY: descriptors are not unshared; the rest concerns this single-threaded process only.
    check(unsafe { libc::unshare(flags) })
}

/// Attributes of a mount, see `mount_setattr(2)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct MountAttr {
    pub set: u64,
    pub clear: u64,
    pub propagation: u64,
    pub userns_fd: u64,
}

/// Changes the mount at `tree` itself, or with `recursive` the whole tree below it. Attributes that are not named stay
/// as they are, so locked ones (`nosuid`, `nodev`, … inherited from the host) are never lost.
pub(crate) fn mount_setattr(tree: impl AsFd, recursive: bool, attr: &MountAttr) -> io::Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: an empty path with AT_EMPTY_PATH; `attr` has the kernel's layout and outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            size_of::<MountAttr>(),
        )
    };
    check(result as libc::c_int)
}

/// Closes all descriptors from `first` on.
pub(crate) fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: the caller hands over every descriptor from `first` on; see `process::finish`.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) } as libc::c_int)
}

/// Makes `fd` available as descriptor `number`, replacing what was there.
pub(crate) fn place(fd: i32, number: i32, close_on_exec: bool) -> io::Result<()> {
    let flags = if close_on_exec { libc::O_CLOEXEC } else { 0 };
    if fd == number {
        let flags = if close_on_exec { libc::FD_CLOEXEC } else { 0 };
        // SAFETY: changes a flag of a descriptor.
        return check(unsafe { libc::fcntl(fd, libc::F_SETFD, flags) });
    }
    // SAFETY: the caller decided that `number` is free to be replaced.
    check(unsafe { libc::dup3(fd, number, flags) })
}

/// Whether `number` is a descriptor that this program was started with.
pub(crate) fn is_inherited(number: i32) -> bool {
    // SAFETY: asks for a flag of a descriptor that may not exist. Our own all have it set.
    unsafe { libc::fcntl(number, libc::F_GETFD) == 0 }
}

/// Duplicates `fd` to a descriptor not below `floor`.
pub(crate) fn duplicate_above(fd: BorrowedFd<'_>, floor: i32) -> io::Result<OwnedFd> {
    // SAFETY: makes a new descriptor.
    let new = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, floor) };
    check(new)?;
    // SAFETY: just made, owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(new) })
}

/// Every signal back to its default action and none blocked: what a new program expects. Rust programs ignore SIGPIPE,
/// and the pod shim blocks what it reads from a signalfd.
pub(crate) fn reset_signals() -> io::Result<()> {
    // The kernel's `struct sigaction`: all zero is the default action. Past the C library, which keeps two numbers for
    // itself that may be ignored all the same.
    let default = [0_u64; 4];
    for signal in (1..=64).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP].contains(signal)) {
        // SAFETY: the action outlives the call and is not smaller than the kernel's structure.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null_mut::<u64>(),
                8,
            )
        };
    }
    // SAFETY: an initialised empty set.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        check(libc::sigprocmask(
            libc::SIG_SETMASK,
            &raw const none,
            std::ptr::null_mut(),
        ))
    }
}

/// What `execve` takes: valid for as long as the strings are.
fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
}

/// Replaces the program. Returns only the reason why it could not.
pub(crate) fn execve(path: &CStr, argv: &[CString], env: &[CString]) -> io::Error {
    let (argv, env) = (pointers(argv), pointers(env));
    // SAFETY: null-terminated arrays of null-terminated strings that outlive the call.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// Executes the file behind a descriptor with this process' own environment.
pub(crate) fn fexecve_self(file: BorrowedFd<'_>, argv: &[CString], env: &[CString]) -> io::Error {
    let (argv, env) = (pointers(argv), pointers(env));
    // SAFETY: as in `execve`, with an empty path that stands for the descriptor.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_raw_fd(),
            c"".as_ptr(),
            argv.as_ptr(),
            env.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}

pub(crate) fn personality(domain: u64) -> io::Result<()> {
    // SAFETY: a number.
    check(unsafe { libc::personality(domain) })
}

/// Sets the I/O priority of this process: `class` 1–3, `level` 0–7.
pub(crate) fn set_io_priority(class: u32, level: u32) -> io::Result<()> {
    const WHO_PROCESS: libc::c_int = 1;
    // SAFETY: numbers.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, class << 13 | level) } as libc::c_int)
}

/// `struct sched_attr` of `sched_setattr(2)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SchedAttr {
    pub size: u32,
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
}

pub(crate) fn set_scheduler(attr: &SchedAttr) -> io::Result<()> {
    // SAFETY: the structure has the kernel's layout, its size is in it, it outlives the call.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, std::ptr::from_ref(attr), 0) } as libc::c_int)
}

/// Leaves the caller's session keyring for a new, empty one. Kernels without keyrings have nothing to leave.
pub(crate) fn new_session_keyring() -> io::Result<()> {
    const JOIN_SESSION_KEYRING: libc::c_int = 1;
    // SAFETY: no name: an anonymous keyring.
    let result = unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>()) };
    match check(if result < 0 { -1 } else { 0 }) {
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => Ok(()),
        other => other,
    }
}

/// Waits for one child and returns its raw wait status.
pub(crate) fn wait(pid: i32) -> io::Result<i32> {
    let mut status = 0;
    loop {
        // SAFETY: `status` outlives the call.
        if unsafe { libc::waitpid(pid, &raw mut status, 0) } == pid {
            return Ok(status);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// The exit code of a wait status as shells count: 128+n for signal n.
pub(crate) fn exit_code(status: i32) -> i32 {
    if libc::WIFSIGNALED(status) {
        128 + libc::WTERMSIG(status)
    } else {
        libc::WEXITSTATUS(status)
    }
}

pub(crate) fn send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: a borrowed descriptor, a number, and no extra information.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    check(result as libc::c_int)
}

/// Sends the text and the descriptor over a socket.
pub(crate) fn send_fd(socket: BorrowedFd<'_>, text: &[u8], fd: BorrowedFd<'_>) -> io::Result<()> {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [fd];
    control.push(SendAncillaryMessage::ScmRights(&fds));
    sendmsg(socket, &[io::IoSlice::new(text)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives one message and at most one descriptor; an empty message is the end.
pub(crate) fn receive(socket: BorrowedFd<'_>) -> io::Result<(Vec<u8>, Option<OwnedFd>)> {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let mut bytes = vec![0; 16 * 1024];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        match recvmsg(
            socket,
            &mut [io::IoSliceMut::new(&mut bytes)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        ) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other?,
        }
    };
    bytes.truncate(received.bytes);
    let mut fds = control.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => fds.collect::<Vec<_>>(),
        _ => Vec::new(),
    });
    Ok((bytes, fds.next()))
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Blocks every signal and makes them readable from a descriptor.
pub(crate) fn signal_fd() -> io::Result<OwnedFd> {
    // SAFETY: an initialised full set; a new descriptor that is owned by nobody else.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        check(libc::sigprocmask(libc::SIG_BLOCK, &raw const all, std::ptr::null_mut()))?;
        let fd = libc::signalfd(-1, &raw const all, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        check(fd)?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// The number of the next signal; `WouldBlock` when there is none.
pub(crate) fn read_signal(signals: BorrowedFd<'_>) -> io::Result<i32> {
    let mut bytes = [0; size_of::<libc::signalfd_siginfo>()];
    rustix::io::read(signals, &mut bytes)?;
    // The number is the structure's first field.
    Ok(i32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}
