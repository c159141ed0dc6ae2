//! Raw system calls that neither std nor rustix offer safely. The single place to port, and to review for `unsafe`.

use crate::cgroup::DeviceInstruction;
use std::fs::File;
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Which side of a fork this is.
#[derive(Debug)]
pub enum Fork {
    Child,
    /// The child's pid.
    Parent(i32),
}

/// Forks a single-threaded process.
///
/// # Errors
/// `EBUSY` when the process has more than one thread: the child could then not even allocate.
pub(crate) fn fork() -> io::Result<Fork> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    // SAFETY: the process has one thread (checked above), so no lock can be held by another that the child lacks.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(pid)),
    }
}

/// Forks as [`fork`] does, the child born in a group of the unified hierarchy (its directory). Moving there afterwards takes
/// the lock that stops every fork on the machine, for a grace period of the kernel (20 ms and more).
///
/// For a process with one thread the C library's fork does one thing besides cloning: it has the kernel write the new
/// thread's id where the library keeps it. The kernel knows the place, so it is asked.
///
/// # Errors
/// As [`fork`]; also when kernel or group do not allow it: then nothing was forked, and [`fork`] will do.
pub(crate) fn fork_into(group: BorrowedFd<'_>) -> io::Result<Fork> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    const PR_GET_TID_ADDRESS: libc::c_int = 40;
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let mut id_place: u64 = 0;
    // SAFETY: writes one address to a place of that size.
    if unsafe { libc::prctl(PR_GET_TID_ADDRESS, &raw mut id_place, 0, 0, 0) } == -1 {
        return Err(io::Error::last_os_error());
    }
    if id_place == 0 {
        return Err(io::ErrorKind::Unsupported.into());
    }
    // SAFETY: a structure of integers; zero means "not used".
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = (libc::CLONE_CHILD_SETTID | libc::CLONE_CHILD_CLEARTID) as u64 | CLONE_INTO_CGROUP;
    args.child_tid = id_place;
    args.exit_signal = libc::SIGCHLD as u64;
    args.cgroup = group.as_raw_fd() as u64;
    // SAFETY: one thread (checked above), no shared memory or stack: this behaves like fork. The id's place is the one that
    // the C library gave the kernel for this thread.
    match unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(pid as i32)),
    }
}

/// Ends the process without running destructors or exit handlers inherited from the parent.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Sends a signal; a process that is gone already is fine.
pub(crate) fn kill(pid: i32, signal: i32) {
    if pid > 0 {
        // SAFETY: `kill` touches no memory of ours.
        unsafe { libc::kill(pid, signal) };
    }
}

/// Sends a signal through a pidfd, so that a recycled pid is never hit.
pub(crate) fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: the descriptor is open, and a null siginfo means "as kill(2) would".
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// The process that holds a record lock on a file (`fcntl_locking(2)`), if another one does.
pub(crate) fn lock_holder(file: &File) -> io::Result<Option<i32>> {
    // SAFETY: plain numbers, for which zero is valid; the call reads and overwrites them.
    let lock = unsafe {
        let mut lock: libc::flock = std::mem::zeroed();
        lock.l_type = libc::F_WRLCK as libc::c_short;
        lock.l_whence = libc::SEEK_SET as libc::c_short;
        if libc::fcntl(file.as_raw_fd(), libc::F_GETLK, &raw mut lock) == -1 {
            return Err(io::Error::last_os_error());
        }
        lock
    };
    Ok((i32::from(lock.l_type) != libc::F_UNLCK).then_some(lock.l_pid))
}

/// Closes every descriptor from 3 up, except those kept. Only right after a fork: nobody here may own a closed one.
pub(crate) fn close_all_except(keep: &[RawFd]) {
    let mut kept: Vec<libc::c_uint> = keep.iter().filter_map(|fd| libc::c_uint::try_from(*fd).ok()).collect();
    kept.sort_unstable();
    let mut first: libc::c_uint = 3;
    for fd in kept.into_iter().filter(|fd| *fd >= 3) {
        if fd > first {
            close_range(first, fd - 1);
        }
        first = fd + 1;
    }
    close_range(first, libc::c_uint::MAX);
}

fn close_range(first: libc::c_uint, last: libc::c_uint) {
    // SAFETY: closing descriptors touches no memory; the caller promises that nobody owns them.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
}

/// Every signal to its default action and none blocked, but SIGPIPE ignored as in any Rust program.
pub(crate) fn reset_signals() {
    for signal in 1..=64 {
        let action = if signal == libc::SIGPIPE {
            libc::SIG_IGN
        } else {
            libc::SIG_DFL
        };
        // SAFETY: both are valid dispositions; signals that cannot be changed answer with an error.
        unsafe { libc::signal(signal, action) };
    }
    set_mask(libc::SIG_SETMASK, &[]);
}

fn set_mask(how: i32, signals: &[i32]) -> libc::sigset_t {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigemptyset` initialises the set before anything reads it.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in signals {
            libc::sigaddset(set.as_mut_ptr(), *signal);
        }
        libc::sigprocmask(how, set.as_ptr(), std::ptr::null_mut());
        set.assume_init()
    }
}

/// Blocks `signals` and makes them readable from a descriptor (non-blocking).
pub(crate) fn signalfd(signals: &[i32]) -> io::Result<OwnedFd> {
    let set = set_mask(libc::SIG_BLOCK, signals);
    // SAFETY: the set is initialised; a new descriptor is nobody else's.
    unsafe {
        match libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
            -1 => Err(io::Error::last_os_error()),
            fd => Ok(OwnedFd::from_raw_fd(fd)),
        }
    }
}

/// Waits for one of `signals`, which must be blocked.
fn wait_signal(signals: &libc::sigset_t) {
    let mut which = 0;
    // SAFETY: both point to valid, initialised memory.
    unsafe { libc::sigwait(signals, &raw mut which) };
}

/// The life of a shared pid namespace's first process: reap until killed.
pub(crate) fn reap_forever() -> ! {
    let set = set_mask(libc::SIG_BLOCK, &[libc::SIGCHLD]);
    loop {
        // SAFETY: a null status is allowed.
        while unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) } > 0 {}
        wait_signal(&set);
    }
}

/// `unshare(2)` of namespaces (never of the address space or the descriptor table).
pub(crate) fn unshare(namespaces: i32) -> io::Result<()> {
    // SAFETY: only namespace flags are passed by this crate; they change no memory.
    if unsafe { libc::unshare(namespaces) } == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Brings the loopback link of the current network namespace up (`netdevice(7)`).
pub(crate) fn loopback_up() -> io::Result<()> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: an all-zero ifreq is valid; the ioctls read the name and read or write the flags member.
    unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = libc::c_char::try_from(b'l').unwrap_or_default();
        request.ifr_name[1] = libc::c_char::try_from(b'o').unwrap_or_default();
        if libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request) == -1 {
            return Err(io::Error::last_os_error());
        }
        let up = libc::c_short::try_from(libc::IFF_UP).unwrap_or_default();
        if request.ifr_ifru.ifru_flags & up != 0 {
            return Ok(());
        }
        request.ifr_ifru.ifru_flags |= up;
        if libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw mut request) == -1 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Overwrites the argument area, so that `ps` shows what this process is. Cut to the space there is.
pub(crate) fn set_title(title: &str) {
    let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else {
        return;
    };
    // Fields 48 and 49 (`proc_pid_stat(5)`), counted after the command's closing parenthesis, which is field 2.
    let Some((_, fields)) = stat.rsplit_once(')') else {
        return;
    };
    let field = |number: usize| fields.split_whitespace().nth(number - 3)?.parse::<usize>().ok();
    let (Some(start), Some(end)) = (field(48), field(49)) else {
        return;
    };
    if start == 0 || end <= start {
        return;
    }
    let length = title.len().min(end - start - 1);
    // SAFETY: the kernel put the arguments at `start..end` on this process's stack, writable and never unmapped; nothing
    // in a forked shim reads its arguments again.
    unsafe {
        let area = std::ptr::with_exposed_provenance_mut::<u8>(start);
        std::ptr::write_bytes(area, 0, end - start);
        std::ptr::copy_nonoverlapping(title.as_ptr(), area, length);
    }
}

/// Hands a descriptor to tokio's reactor. Inside a tokio runtime only.
pub(crate) fn watch(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open, always the same descriptor, and closed only when the `AsyncFd` drops it.
    Ok(unsafe { AsyncFd::register_with_interest(fd, interest) }?)
}

/// The tail of `union bpf_attr` is zero for every command used here.
#[repr(C)]
#[derive(Default)]
struct LoadProgram {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct AttachProgram {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

const BPF_PROG_LOAD: i32 = 5;
const BPF_PROG_ATTACH: i32 = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;

/// Loads a device program and attaches it to a v2 group (`bpf(2)`). The group keeps it until it is removed.
pub(crate) fn attach_device_program(group: &File, program: &[DeviceInstruction]) -> io::Result<()> {
    let license = c"Apache-2.0";
    let load = LoadProgram {
        kind: BPF_PROG_TYPE_CGROUP_DEVICE,
        instruction_count: u32::try_from(program.len()).unwrap_or(u32::MAX),
        instructions: program.as_ptr().expose_provenance() as u64,
        license: license.as_ptr().expose_provenance() as u64,
        ..LoadProgram::default()
    };
    // SAFETY: the attribute has the layout the command wants, and its pointers outlive the call.
    let loaded = unsafe { bpf(BPF_PROG_LOAD, &load) }?;
    // SAFETY: loading returned a new descriptor that is nobody else's.
    let loaded = unsafe { OwnedFd::from_raw_fd(loaded) };
    let raw = |fd: RawFd| u32::try_from(fd).unwrap_or(u32::MAX);
    let attach = AttachProgram {
        target: raw(group.as_raw_fd()),
        program: raw(loaded.as_raw_fd()),
        kind: BPF_CGROUP_DEVICE,
        flags: BPF_F_ALLOW_MULTI,
    };
    // SAFETY: as above; it holds no pointers.
    unsafe { bpf(BPF_PROG_ATTACH, &attach) }.map(|_| ())
}

/// # Safety
/// `attribute` must be the part of `union bpf_attr` that `command` reads, with valid pointers.
unsafe fn bpf<T>(command: i32, attribute: &T) -> io::Result<RawFd> {
    // SAFETY: the caller's promise; the kernel is told the size and reads no further.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw const *attribute, size_of::<T>()) };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    RawFd::try_from(result).map_err(io::Error::other)
}
