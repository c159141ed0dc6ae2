//! What has no safe interface: fork, signal dispositions, wholesale closing of descriptors, mapping native code.

use crate::shape::Shape;
use catamaran_shim::Fork;
use catamaran_shim::cgroup::{Birth, Cgroup};
use std::ffi::{CStr, c_char, c_int};
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::OnceLock;
use wasmtime::{Engine, Module, component::Component};

/// Descriptors below this are standard streams.
pub(crate) const FIRST_FREE_FD: RawFd = 3;

/// CPU time between two epochs of a service, microseconds: how long one request may keep the thread to itself.
const EPOCH_CPU_MICROS: libc::suseconds_t = 10_000;

/// Exit code of a child that panicked: as if it had aborted.
const PANICKED: i32 = 134;

/// Forks through the C library, which keeps its own idea of the calling thread right in the child (a plain `clone3` does
/// not, and the child starts threads), and ends the child with the code that `life` returns. The pid cannot be reused
/// before the caller has reaped it, so opening a pidfd afterwards is without a race.
///
/// # Errors
/// `EAGAIN`, `ENOMEM`; `EBUSY` for a process with more than one thread, whose locks a child might wait for for ever.
pub(crate) fn fork(life: impl FnOnce() -> i32) -> io::Result<i32> {
    // Not visible inside a container's tree; who forks there has counted before.
    if std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() > 1) {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    // SAFETY: there is one thread, so no lock is held by another one, and the child never returns from here.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(life));
            let _ = io::stdout().flush();
            exit(code.unwrap_or(PANICKED))
        }
        pid => Ok(pid),
    }
}

/// As [`fork`], the child born in `cgroup` as far as the kernel can do that: `life` hears how far.
///
/// # Errors
/// As [`fork`].
pub(crate) fn fork_in(cgroup: &Cgroup, life: impl FnOnce(Birth) -> i32) -> io::Result<i32> {
    match cgroup.fork()? {
        (Fork::Parent(pid), _) => Ok(pid),
        (Fork::Child, birth) => {
            let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| life(birth)));
            let _ = io::stdout().flush();
            exit(code.unwrap_or(PANICKED))
        }
    }
}

/// Ends the process without running exit handlers, which belong to the process it was forked from.
fn exit(code: i32) -> ! {
    // SAFETY: ends the process; nothing is run.
    unsafe { libc::_exit(code) }
}

/// Default dispositions and an empty mask. `SIGPIPE` stays ignored, since guests are to see `EPIPE`, and the engine's own
/// handlers (memory faults become traps) stay in place.
pub(crate) fn reset_signals() {
    const KEPT: [c_int; 7] = [
        libc::SIGPIPE,
        libc::SIGSEGV,
        libc::SIGBUS,
        libc::SIGILL,
        libc::SIGFPE,
        libc::SIGKILL,
        libc::SIGSTOP,
    ];
    for signal in 1..=libc::SIGRTMAX() {
        if !KEPT.contains(&signal) {
            // SAFETY: SIG_DFL is a valid disposition; for the numbers the C library keeps to itself this fails unnoticed.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
    }
    // SAFETY: the set is initialised before it is read, and ours.
    unsafe {
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Moves `kept` to the descriptors from [`FIRST_FREE_FD`] on, in this order, and closes everything above. Values that own
/// other descriptors must not be used any more, and never be dropped.
///
/// # Errors
/// `EMFILE`, or where neither `close_range(2)` nor `/proc/self/fd` works.
pub(crate) fn keep_only<const N: usize>(kept: [OwnedFd; N]) -> io::Result<[OwnedFd; N]> {
    let above = FIRST_FREE_FD + N as RawFd;
    let parked = kept.map(|fd| rustix::io::fcntl_dupfd_cloexec(&fd, above).map(|fd| (fd.as_raw_fd(), fd)));
    let mut placed = Vec::with_capacity(N);
    for (target, fd) in (FIRST_FREE_FD..).zip(parked) {
        let (raw, fd) = fd?;
        // SAFETY: whatever stands at `target` is inherited and no longer used; the new descriptor is owned below.
        if unsafe { libc::dup3(raw, target, libc::O_CLOEXEC) } < 0 {
            return Err(io::Error::last_os_error());
        }
        std::mem::forget(fd);
        // SAFETY: just made, owned by nobody else.
        placed.push(unsafe { OwnedFd::from_raw_fd(target) });
    }
    close_from(above)?;
    Ok(placed
        .try_into()
        .unwrap_or_else(|_| unreachable!("as many as were given")))
}

fn close_from(first: RawFd) -> io::Result<()> {
    // SAFETY: closes descriptors nobody uses any more, see `keep_only`.
    if unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) } == 0 {
        return Ok(());
    }
    // Kernels before 5.9.
    let open: Vec<RawFd> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|fd| *fd >= first)
        .collect();
    for fd in open {
        // SAFETY: as above.
        unsafe { libc::close(fd) };
    }
    Ok(())
}

/// Shows `title` as the process's name (its first 15 bytes) and command line, as far as the original one leaves room.
pub(crate) fn set_title(title: &str) {
    let name: Vec<u8> = title.bytes().filter(|byte| *byte != 0).take(15).chain([0]).collect();
    if let Ok(name) = CStr::from_bytes_with_nul(&name) {
        let _ = rustix::thread::set_name(name);
    }
    let Some((start, end)) = argument_area() else { return };
    let room = end - start;
    let bytes = title.as_bytes();
    let used = bytes.len().min(room.saturating_sub(1));
    // SAFETY: the kernel names this range as the process's argument strings: mapped, writable, and read by nobody in this
    // process after start-up. It is written whole, so it stays terminated.
    unsafe {
        let area = std::slice::from_raw_parts_mut(start as *mut u8, room);
        area.fill(0);
        area[..used].copy_from_slice(&bytes[..used]);
    }
}

/// `arg_start` and `arg_end` of `proc(5)`.
fn argument_area() -> Option<(usize, usize)> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The command name may hold anything, parentheses too: fields are counted after the last one.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<usize>().ok();
    let (start, end) = (field(48)?, field(49)?);
    (start != 0 && start < end).then_some((start, end))
}

/// Looks host names up in `/etc/hosts` first. Without an `nsswitch.conf` (a wasm container has none) glibc would ask DNS
/// first, for `localhost` too.
pub(crate) fn files_before_dns() {
    #[cfg(target_env = "gnu")]
    {
        unsafe extern "C" {
            fn __nss_configure_lookup(database: *const c_char, services: *const c_char) -> c_int;
        }
        // SAFETY: both strings are terminated and static; there is one thread.
        unsafe { __nss_configure_lookup(c"hosts".as_ptr(), c"files dns".as_ptr()) };
    }
}

/// Enters a mount namespace.
///
/// # Errors
/// As `setns(2)` says.
pub(crate) fn enter_mount_namespace(namespace: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: changes what paths mean, not memory; there is one thread.
    let result = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNS) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// A mount namespace of its own for the calling process.
///
/// # Errors
/// As `unshare(2)` says.
pub(crate) fn new_mount_namespace() -> io::Result<()> {
    // SAFETY: only CLONE_NEWNS, which copies the mount table and the file system information; there is one thread.
    let result = unsafe { libc::unshare(libc::CLONE_NEWNS) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// How far [`make_read_only`] goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    ThisMount,
    /// All mounts below too, which `mount(2)` cannot do.
    Recursive,
}

/// Makes a mount read-only.
///
/// # Errors
/// `ENOSYS` before Linux 5.12.
pub(crate) fn make_read_only(mount: BorrowedFd<'_>, extent: Extent) -> io::Result<()> {
    #[repr(C)]
    struct MountAttr {
        set: u64,
        clear: u64,
        propagation: u64,
        user_ns: u64,
    }
    const READ_ONLY: u64 = 1;
    const RECURSIVE: c_int = 0x8000;
    let recursive = if extent == Extent::Recursive { RECURSIVE } else { 0 };
    let attr = MountAttr {
        set: READ_ONLY,
        clear: 0,
        propagation: 0,
        user_ns: 0,
    };
    // SAFETY: path and structure are valid for the call, the size is the structure's.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            recursive | libc::AT_EMPTY_PATH,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Native code, mapped.
pub(crate) enum Code {
    Module(Module),
    Component(Component),
}

/// Maps native code. The engine cannot check it; that it is ours is this crate's invariant: a path handed in here leads
/// to the node-owned cache or to the output of a compiler this process has just run, in both cases unchanged output of
/// [`crate::compile_main`] that nobody else can write to and that is replaced, never modified.
///
/// # Errors
/// A file made by another version of wasmtime or with other options.
pub(crate) fn map_native(engine: &Engine, shape: Shape, path: &Path) -> wasmtime::Result<Code> {
    match shape {
        // SAFETY: see above.
        Shape::Command => Ok(Code::Module(unsafe { Module::deserialize_file(engine, path) }?)),
        Shape::ComponentCommand | Shape::HttpProxy => {
            // SAFETY: see above.
            Ok(Code::Component(unsafe { Component::deserialize_file(engine, path) }?))
        }
    }
}

/// Advances the engine's epoch with every [`EPOCH_CPU_MICROS`] of CPU time the process uses. A timer on CPU time wakes
/// nobody while the process is idle, and needs no thread.
///
/// # Errors
/// What `sigaction(2)` and `setitimer(2)` say.
pub(crate) fn advance_epochs_with_cpu_time(engine: &Engine) -> io::Result<()> {
    static ENGINE: OnceLock<Engine> = OnceLock::new();

    extern "C" fn tick(_signal: c_int) {
        // `OnceLock::get` and `increment_epoch` are plain atomic operations, so they may run in a handler.
        if let Some(engine) = ENGINE.get() {
            engine.increment_epoch();
        }
    }

    let _ = ENGINE.set(engine.clone());
    let interval = libc::timeval {
        tv_sec: 0,
        tv_usec: EPOCH_CPU_MICROS,
    };
    // SAFETY: the action is fully initialised; the handler is async-signal-safe (above), runs on the alternate stack where
    // there is one, and lets interrupted calls go on.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = tick as *const () as usize;
        action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
        libc::sigemptyset(&raw mut action.sa_mask);
        if libc::sigaction(libc::SIGPROF, &raw const action, std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        let timer = libc::itimerval {
            it_interval: interval,
            it_value: interval,
        };
        if libc::setitimer(libc::ITIMER_PROF, &raw const timer, std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
