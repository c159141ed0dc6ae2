//! `RuntimeDefault`, as data to review.
//!
//! The policy is the one that containerd documents for its default profile: a list of calls every container may make, a
//! few with conditions on their arguments, and some that come with a capability. Everything else answers `EPERM`;
//! calls newer than the list answer `ENOSYS`, so that programs fall back instead of failing, and so does `clone3`,
//! whose flags a filter cannot see (glibc then uses `clone`).

use super::{Action, Compare, Condition, Policy, Rule, Width, syscalls};
use crate::privilege::CapabilitySet;

/// Address families no container needs: `AF_ALG` offers the kernel's ciphers, which were the way out of a container more
/// than once (containerd refuses it since 2026), `AF_VSOCK` reaches the hypervisor.
const REFUSED_FAMILIES: [u64; 2] = [38, 40];
/// The `CLONE_NEW*` flags: namespaces within a container widen the kernel's attack surface.
const NEW_NAMESPACES: u64 = 0x7e02_0000;

#[rustfmt::skip]
const ALWAYS: &[&str] = &[
    "accept", "accept4", "access", "adjtimex", "alarm", "bind", "brk", "cachestat", "capget", "capset", "chdir",
    "chmod", "chown", "clock_adjtime", "clock_getres", "clock_gettime", "clock_nanosleep", "close", "close_range",
    "connect", "copy_file_range", "creat", "dup", "dup2", "dup3", "epoll_create", "epoll_create1", "epoll_ctl",
    "epoll_ctl_old", "epoll_pwait", "epoll_pwait2", "epoll_wait", "epoll_wait_old", "eventfd", "eventfd2", "execve",
    "execveat", "exit", "exit_group", "faccessat", "faccessat2", "fadvise64", "fallocate", "fanotify_mark", "fchdir",
    "fchmod", "fchmodat", "fchmodat2", "fchown", "fchownat", "fcntl", "fdatasync", "fgetxattr", "flistxattr", "flock",
    "fork", "fremovexattr", "fsetxattr", "fstat", "fstatfs", "fsync", "ftruncate", "futex", "futex_requeue",
    "futex_wait", "futex_waitv", "futex_wake", "futimesat", "getcpu", "getcwd", "getdents", "getdents64", "getegid",
    "geteuid", "getgid", "getgroups", "getitimer", "getpeername", "getpgid", "getpgrp", "getpid", "getppid",
    "getpriority", "getrandom", "getresgid", "getresuid", "getrlimit", "get_robust_list", "getrusage", "getsid",
    "getsockname", "getsockopt", "get_thread_area", "gettid", "gettimeofday", "getuid", "getxattr", "getxattrat",
    "inotify_add_watch", "inotify_init", "inotify_init1", "inotify_rm_watch", "io_cancel", "ioctl", "io_destroy",
    "io_getevents", "io_pgetevents", "ioprio_get", "ioprio_set", "io_setup", "io_submit", "kill",
    "landlock_add_rule", "landlock_create_ruleset", "landlock_restrict_self", "lchown", "lgetxattr", "link",
    "linkat", "listen", "listmount", "listxattr", "listxattrat", "llistxattr", "lremovexattr", "lseek", "lsetxattr",
    "lsm_get_self_attr", "lsm_list_modules", "lsm_set_self_attr", "lstat", "madvise", "map_shadow_stack", "membarrier", "memfd_create", "memfd_secret", "mincore", "mkdir",
    "mkdirat", "mknod", "mknodat", "mlock", "mlock2", "mlockall", "mmap", "mprotect", "mq_getsetattr", "mq_notify",
    "mq_open", "mq_timedreceive", "mq_timedsend", "mq_unlink", "mremap", "mseal", "msgctl", "msgget", "msgrcv",
    "msgsnd", "msync", "munlock", "munlockall", "munmap", "name_to_handle_at", "nanosleep", "newfstatat", "open",
    "openat", "openat2", "pause", "pidfd_open", "pidfd_send_signal", "pipe", "pipe2", "pkey_alloc",
    "pkey_free", "pkey_mprotect", "poll", "ppoll", "prctl", "pread64", "preadv", "preadv2", "prlimit64",
    "process_mrelease", "process_vm_readv", "process_vm_writev", "pselect6", "ptrace", "pwrite64", "pwritev",
    "pwritev2", "read", "readahead", "readlink", "readlinkat", "readv", "recvfrom", "recvmmsg", "recvmsg",
    "remap_file_pages", "removexattr", "removexattrat", "rename", "renameat", "renameat2", "restart_syscall",
    "riscv_flush_icache", "riscv_hwprobe", "rmdir", "rseq", "rt_sigaction", "rt_sigpending", "rt_sigprocmask", "rt_sigqueueinfo",
    "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait", "rt_tgsigqueueinfo", "sched_getaffinity", "sched_getattr",
    "sched_getparam", "sched_get_priority_max", "sched_get_priority_min", "sched_getscheduler",
    "sched_rr_get_interval", "sched_setaffinity", "sched_setattr", "sched_setparam", "sched_setscheduler",
    "sched_yield", "seccomp", "select", "semctl", "semget", "semop", "semtimedop", "sendfile", "sendmmsg", "sendmsg",
    "sendto", "setfsgid", "setfsuid", "setgid", "setgroups", "setitimer", "setpgid", "setpriority", "setregid",
    "setresgid", "setresuid", "setreuid", "setrlimit", "set_robust_list", "setsid", "setsockopt", "set_thread_area",
    "set_tid_address", "setuid", "setxattr", "setxattrat", "shmat", "shmctl", "shmdt", "shmget", "shutdown",
    "sigaltstack", "signalfd", "signalfd4", "socketpair", "splice", "stat", "statfs", "statmount", "statx", "symlink",
    "symlinkat", "sync", "sync_file_range", "syncfs", "sysinfo", "tee", "tgkill", "time", "timer_create",
    "timer_delete", "timerfd_create", "timerfd_gettime", "timerfd_settime", "timer_getoverrun", "timer_gettime",
    "timer_settime", "times", "tkill", "truncate", "umask", "uname", "unlink", "unlinkat", "uretprobe", "utime",
    "utimensat", "utimes", "vfork", "vmsplice", "wait4", "waitid", "write", "writev",
    "arch_prctl", "modify_ldt",
];

/// Calls that come with a capability in the bounding set.
#[rustfmt::skip]
const WITH_CAPABILITY: &[(&str, &[&str])] = &[
    ("CAP_DAC_READ_SEARCH", &["open_by_handle_at"]),
    ("CAP_SYS_ADMIN", &[
        "bpf", "clone", "clone3", "fanotify_init", "fsconfig", "fsmount", "fsopen", "fspick", "lookup_dcookie",
        "mount", "mount_setattr", "move_mount", "open_tree", "open_tree_attr", "perf_event_open", "quotactl",
        "quotactl_fd", "setdomainname", "sethostname", "setns", "syslog", "umount2", "unshare",
    ]),
    ("CAP_SYS_BOOT", &["reboot"]),
    ("CAP_SYS_CHROOT", &["chroot"]),
    ("CAP_SYS_MODULE", &["delete_module", "finit_module", "init_module"]),
    ("CAP_SYS_PACCT", &["acct"]),
    ("CAP_SYS_PTRACE", &["kcmp", "pidfd_getfd", "process_madvise"]),
    ("CAP_SYS_RAWIO", &["ioperm", "iopl"]),
    ("CAP_SYS_TIME", &["clock_settime", "settimeofday"]),
    ("CAP_SYS_TTY_CONFIG", &["vhangup"]),
    ("CAP_SYS_NICE", &["get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"]),
    ("CAP_SYSLOG", &["syslog"]),
    ("CAP_BPF", &["bpf"]),
    ("CAP_PERFMON", &["perf_event_open"]),
];

/// The default policy for a container whose bounding set is `bounding`.
pub(super) fn runtime_default(bounding: CapabilitySet) -> Policy {
    let mut rules = Vec::with_capacity(ALWAYS.len() + 16);
    let mut add = |name: &str, conditions: Vec<Condition>, action: Action| {
        if let Some(syscall) = syscalls::number(name) {
            rules.push(Rule {
                syscall,
                conditions,
                action,
            });
        }
    };
    ALWAYS.iter().for_each(|name| add(name, Vec::new(), Action::Allow));
    // The kernel reads both as 32-bit numbers: comparing 64 bits could be evaded with garbage in the upper half.
    for family in REFUSED_FAMILIES {
        let refused = Action::Errno(libc::EPERM as u16);
        add("socket", vec![first_argument(Compare::Equal, family)], refused);
    }
    add("socket", Vec::new(), Action::Allow);
    // Linux, 32-bit uname, both with the 2.6 uname, and asking for the current one.
    for persona in [0, 0x0008, 0x0002_0000, 0x0002_0008, 0xffff_ffff] {
        add(
            "personality",
            vec![first_argument(Compare::Equal, persona)],
            Action::Allow,
        );
    }
    for (capability, names) in WITH_CAPABILITY.iter().filter(|(name, _)| bounding.contains_name(name)) {
        debug_assert!(crate::privilege::capability_number(capability).is_some());
        names.iter().for_each(|name| add(name, Vec::new(), Action::Allow));
    }
    if !bounding.contains_name("CAP_SYS_ADMIN") {
        let no_new_namespace = Condition {
            argument: 0,
            compare: Compare::MaskedEqual { mask: NEW_NAMESPACES },
            value: 0,
            width: Width::Bits64,
        };
        add("clone", vec![no_new_namespace], Action::Allow);
        add("clone3", Vec::new(), Action::Errno(libc::ENOSYS as u16));
    }
    Policy {
        default: Action::Errno(libc::EPERM as u16),
        unknown: None,
        rules,
    }
    .with_unknown_calls_missing()
}

fn first_argument(compare: Compare, value: u64) -> Condition {
    Condition {
        argument: 0,
        compare,
        value,
        width: Width::Bits32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_a_call_of_some_architecture() {
        let elsewhere = ["riscv_flush_icache", "riscv_hwprobe"];
        let names = ALWAYS
            .iter()
            .chain(WITH_CAPABILITY.iter().flat_map(|(_, names)| *names));
        #[cfg(target_arch = "x86_64")]
        {
            let unknown = names.filter(|name| syscalls::number(name).is_none() && !elsewhere.contains(name));
            assert_eq!(unknown.collect::<Vec<_>>(), Vec::<&&str>::new());
        }
    }

    #[test]
    fn capabilities_open_their_calls() {
        let allowed = |set: CapabilitySet, name: &str| {
            let number = syscalls::number(name).expect("known");
            runtime_default(set)
                .rules
                .iter()
                .any(|rule| rule.syscall == number && rule.action == Action::Allow)
        };
        let admin = CapabilitySet::from_names(["CAP_SYS_ADMIN"]).expect("known");
        assert!(!allowed(CapabilitySet::container_default(), "mount"));
        assert!(!allowed(CapabilitySet::container_default(), "clone3"));
        assert!(!allowed(CapabilitySet::container_default(), "io_uring_setup"));
        assert!(!allowed(CapabilitySet::container_default(), "keyctl"));
        assert!(!allowed(CapabilitySet::container_default(), "pidfd_getfd"));
        assert!(allowed(admin, "mount") && allowed(admin, "clone3"));
        let tracer = CapabilitySet::from_names(["CAP_SYS_PTRACE"]).expect("known");
        assert!(allowed(tracer, "pidfd_getfd"));
    }
}
