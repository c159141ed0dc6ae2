//! Which system calls a wasm process may make.
//!
//! Tighter than a Linux container's list, since everything a guest can ask for goes through a few hundred lines of host
//! code: no `execve`, no new processes, no new executable memory, only internet sockets. What is not listed fails with
//! `EPERM`. Calls that no host function makes, but an attacker who broke out of the engine would try first, end the
//! process: there is nobody left to handle an error.

use catamaran_shim::seccomp::{Action, Compare, Condition, Policy, Program, Rule, Width};
use libc::c_long;

/// First number that did not exist when this list was written. From here on the answer is `ENOSYS`, which every caller
/// of a new call is prepared for.
const FIRST_UNKNOWN: u32 = 470;

/// Filter of a container's process, installed before its first thread.
pub(crate) fn container() -> Program {
    let mut list = List::new();
    list.allow(MEMORY)
        .allow(THREADS)
        .allow(TIME)
        .allow(STREAMS)
        .allow(FILES)
        .allow(EVENTS)
        .allow(NETWORK);
    list.memory_without_code().threads_without_processes().few_controls();
    for family in [libc::AF_INET, libc::AF_INET6] {
        list.when(libc::SYS_socket, vec![equal(0, family as u64)], Action::Allow);
    }
    list.when(libc::SYS_socket, Vec::new(), Action::Errno(libc::EAFNOSUPPORT as u16));
    // The event loop's own wake-up for signals.
    list.when(
        libc::SYS_socketpair,
        vec![equal(0, libc::AF_UNIX as u64)],
        Action::Allow,
    );
    list.compile()
}

/// Filter of the compiler: from one open file to another, nothing else.
pub(crate) fn compiler() -> Program {
    let mut list = List::new();
    list.allow(MEMORY).allow(THREADS).allow(TIME).allow(STREAMS);
    list.memory_without_code().threads_without_processes().few_controls();
    list.compile()
}

const MEMORY: &[c_long] = &[
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_mincore,
    libc::SYS_mremap,
    libc::SYS_munmap,
];

const THREADS: &[c_long] = &[
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getcpu,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_sigaltstack,
    libc::SYS_sysinfo,
    libc::SYS_uname,
];

const TIME: &[c_long] = &[
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_getitimer,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_gettimeofday,
    libc::SYS_nanosleep,
    libc::SYS_setitimer,
];

const STREAMS: &[c_long] = &[
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_fstat,
    libc::SYS_lseek,
    libc::SYS_newfstatat,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_statx,
    libc::SYS_write,
    libc::SYS_writev,
];

const FILES: &[c_long] = &[
    libc::SYS_copy_file_range,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fadvise64,
    libc::SYS_fallocate,
    libc::SYS_fdatasync,
    libc::SYS_flock,
    libc::SYS_fstatfs,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_linkat,
    libc::SYS_memfd_create,
    libc::SYS_mkdirat,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_preadv2,
    libc::SYS_pwritev2,
    libc::SYS_readlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_symlinkat,
    libc::SYS_sync_file_range,
    libc::SYS_unlinkat,
    libc::SYS_utimensat,
];

const EVENTS: &[c_long] = &[
    libc::SYS_dup3,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_fcntl,
    libc::SYS_pipe2,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
];

/// `socket` itself is restricted to internet families.
const NETWORK: &[c_long] = &[
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_listen,
    libc::SYS_recvfrom,
    libc::SYS_recvmmsg,
    libc::SYS_recvmsg,
    libc::SYS_sendmmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
];

/// Calls only made by someone who left the sandbox.
const BREAKOUT: &[c_long] = &[
    libc::SYS_bpf,
    libc::SYS_chroot,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_finit_module,
    libc::SYS_init_module,
    libc::SYS_io_uring_setup,
    libc::SYS_keyctl,
    libc::SYS_mount,
    libc::SYS_open_by_handle_at,
    libc::SYS_perf_event_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pivot_root,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_setns,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_fork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_vfork,
];

/// `ioctl` requests about the descriptor itself: non-blocking, close-on-exec, bytes to read, is it a terminal, its size.
const CONTROLS: &[libc::Ioctl] = &[
    libc::FIONBIO,
    libc::FIOCLEX,
    libc::FIONREAD,
    libc::TCGETS,
    libc::TIOCGWINSZ,
];

struct List {
    rules: Vec<Rule>,
}

impl List {
    fn new() -> List {
        let mut list = List { rules: Vec::new() };
        for call in BREAKOUT {
            list.when(*call, Vec::new(), Action::KillProcess);
        }
        list
    }

    fn allow(&mut self, calls: &[c_long]) -> &mut Self {
        for call in calls {
            self.when(*call, Vec::new(), Action::Allow);
        }
        self
    }

    /// First match wins among the rules of one call.
    fn when(&mut self, call: c_long, conditions: Vec<Condition>, action: Action) -> &mut Self {
        let syscall = u32::try_from(call).expect("system call numbers are small");
        self.rules.push(Rule {
            syscall,
            conditions,
            action,
        });
        self
    }

    /// Code was mapped before the filter; nothing becomes executable after it.
    fn memory_without_code(&mut self) -> &mut Self {
        for call in [libc::SYS_mmap, libc::SYS_mprotect] {
            self.when(call, vec![masked(2, libc::PROT_EXEC as u64, 0)], Action::Allow);
        }
        self
    }

    fn threads_without_processes(&mut self) -> &mut Self {
        let thread = libc::CLONE_THREAD as u64;
        self.when(libc::SYS_clone, vec![masked(0, thread, thread)], Action::Allow);
        self.when(libc::SYS_clone, Vec::new(), Action::KillProcess);
        // Its flags are in memory, out of a filter's reach; the C library then uses `clone`.
        self.when(libc::SYS_clone3, Vec::new(), Action::Errno(libc::ENOSYS as u16));
        // Signals to threads of this process only: `abort`, and the runtime's own.
        self.when(
            libc::SYS_tgkill,
            vec![equal(0, u64::from(std::process::id()))],
            Action::Allow,
        )
    }

    fn few_controls(&mut self) -> &mut Self {
        for request in CONTROLS {
            self.when(libc::SYS_ioctl, vec![equal(1, *request)], Action::Allow);
        }
        for option in [libc::PR_SET_NAME, libc::PR_SET_VMA] {
            self.when(libc::SYS_prctl, vec![equal(0, option as u64)], Action::Allow);
        }
        // Reading one's own limits; setting any needs a third argument.
        self.when(libc::SYS_prlimit64, vec![equal(0, 0), equal64(2, 0)], Action::Allow)
    }

    fn compile(self) -> Program {
        let policy = Policy {
            default: Action::Errno(libc::EPERM as u16),
            unknown: Some((FIRST_UNKNOWN, Action::Errno(libc::ENOSYS as u16))),
            rules: self.rules,
        };
        Program::compile(&policy).expect("the built-in lists are short")
    }
}

fn equal(argument: u8, value: u64) -> Condition {
    Condition {
        argument,
        compare: Compare::Equal,
        value,
        width: Width::Bits32,
    }
}

fn equal64(argument: u8, value: u64) -> Condition {
    Condition {
        argument,
        compare: Compare::Equal,
        value,
        width: Width::Bits64,
    }
}

fn masked(argument: u8, mask: u64, value: u64) -> Condition {
    Condition {
        argument,
        compare: Compare::MaskedEqual { mask },
        value,
        width: Width::Bits64,
    }
}

#[cfg(test)]
#[allow(
    unsafe_code,
    reason = "raw calls are what is tested; none of them touches memory of ours"
)]
mod tests {
    use super::*;

    /// The `errno` of a raw call, 0 for success.
    fn call(number: c_long, arguments: [c_long; 4]) -> i32 {
        let [a, b, c, d] = arguments;
        // SAFETY: callers pass no pointers into memory of ours.
        let result = unsafe { libc::syscall(number, a, b, c, d, -1, 0) };
        if result == -1 {
            std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
        } else {
            0
        }
    }

    /// Filters belong to threads: one of its own tests one.
    fn under(filter: &Program, test: impl FnOnce() + Send) {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                privilege_free();
                filter.install().expect("installed");
                test();
            });
        });
    }

    fn privilege_free() {
        catamaran_shim::privilege::set_no_new_privs().expect("always allowed");
    }

    fn socket(family: i32) -> i32 {
        call(libc::SYS_socket, [family.into(), libc::SOCK_STREAM.into(), 0, 0])
    }

    fn map(protection: i32) -> i32 {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        call(libc::SYS_mmap, [0, 4096, protection.into(), flags.into()])
    }

    #[test]
    fn a_container_has_internet_sockets_only() {
        under(&container(), || {
            assert_eq!((socket(libc::AF_INET), socket(libc::AF_INET6)), (0, 0));
            for family in [libc::AF_UNIX, libc::AF_NETLINK, libc::AF_PACKET, libc::AF_VSOCK] {
                assert_eq!(socket(family), libc::EAFNOSUPPORT);
            }
        });
    }

    #[test]
    fn nothing_becomes_executable() {
        for filter in [container(), compiler()] {
            under(&filter, || {
                assert_eq!(map(libc::PROT_READ | libc::PROT_WRITE), 0);
                assert_eq!(map(libc::PROT_READ | libc::PROT_EXEC), libc::EPERM);
            });
        }
    }

    #[test]
    fn threads_start_and_new_calls_are_unknown() {
        under(&container(), || {
            assert_eq!(std::thread::spawn(|| 7).join().expect("it ran"), 7);
            assert_eq!(call(libc::SYS_clone3, [0; 4]), libc::ENOSYS);
            assert_eq!(call(FIRST_UNKNOWN.into(), [0; 4]), libc::ENOSYS);
            assert_eq!(call(libc::SYS_setuid, [0; 4]), libc::EPERM);
            assert_eq!(call(libc::SYS_kill, [1, 0, 0, 0]), libc::EPERM);
        });
    }

    #[test]
    fn the_compiler_opens_nothing() {
        under(&compiler(), || {
            assert_eq!(
                std::fs::File::open("/dev/null")
                    .map(|_| ())
                    .expect_err("refused")
                    .raw_os_error(),
                Some(libc::EPERM)
            );
            assert_eq!(socket(libc::AF_INET), libc::EPERM);
        });
    }
}
