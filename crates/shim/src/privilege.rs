//! What a process may do, given up in an order that cannot be undone.
//!
//! Both runners end the same way: a root process turns into the user of the container. The steps depend on each other,
//! so they are one function per phase, called in this order:
//!
//! ```text
//!  set_rlimits            needs CAP_SYS_RESOURCE to raise a hard limit
//!  drop_bounding          needs CAP_SETPCAP, which the next steps take away
//!  set_identity           needs CAP_SETUID/SETGID; keeps permitted capabilities over the change of uid
//!  apply_capabilities     inheritable before ambient: ambient ⊆ permitted ∩ inheritable
//!  set_no_new_privs       last but for seccomp: an unprivileged process needs it to install a filter
//! ```
//!
//! Everything works on the calling thread: callers are single-threaded here. Defaults are those of containerd, which
//! Kubernetes users know: 14 capabilities, masked and read-only paths of `/proc` and `/sys`.

use oci_spec::runtime::{LinuxCapabilities, PosixRlimit, PosixRlimitType};
use rustix::process::{Gid, Resource, Rlimit, Uid};
use rustix::thread::{self, CapabilitySet as KernelSet};
use std::io;

/// Capabilities of a container that asks for none in particular.
pub const DEFAULT_CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// Hidden from containers that are not privileged (`procMount: Default`).
pub const MASKED_PATHS: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Visible, but not writable, in containers that are not privileged.
pub const READONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Every capability by its number, from `linux/capability.h`.
pub const CAPABILITY_NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// The number of a capability. The prefix `CAP_` and the case do not matter: Kubernetes writes `NET_ADMIN`, OCI
/// `CAP_NET_ADMIN`.
pub fn capability_number(name: &str) -> Option<u8> {
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    CAPABILITY_NAMES
        .iter()
        .position(|known| &known[4..] == bare)
        .and_then(|index| u8::try_from(index).ok())
}

/// A set of capabilities, one bit per number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapabilitySet(pub u64);

impl CapabilitySet {
    pub const EMPTY: CapabilitySet = CapabilitySet(0);

    /// The set of all capabilities this code knows by name.
    pub fn all() -> Self {
        CapabilitySet((1 << CAPABILITY_NAMES.len()) - 1)
    }

    /// containerd's default set, [`DEFAULT_CAPABILITIES`].
    pub fn container_default() -> Self {
        DEFAULT_CAPABILITIES
            .iter()
            .filter_map(|name| capability_number(name))
            .collect()
    }

    /// Parses names; the error is the first unknown one.
    pub fn from_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        names
            .into_iter()
            .map(|name| capability_number(name).ok_or_else(|| name.to_owned()))
            .collect()
    }

    pub fn contains(self, number: u8) -> bool {
        self.0 >> number & 1 == 1
    }

    pub fn contains_name(self, name: &str) -> bool {
        capability_number(name).is_some_and(|number| self.contains(number))
    }

    pub fn intersection(self, other: Self) -> Self {
        CapabilitySet(self.0 & other.0)
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The numbers in the set, ascending.
    pub fn numbers(self) -> impl Iterator<Item = u8> {
        (0..64).filter(move |number| self.contains(*number))
    }

    fn kernel(self) -> KernelSet {
        KernelSet::from_bits_retain(self.0)
    }
}

impl FromIterator<u8> for CapabilitySet {
    fn from_iter<I: IntoIterator<Item = u8>>(numbers: I) -> Self {
        CapabilitySet(numbers.into_iter().fold(0, |bits, number| bits | 1 << number))
    }
}

/// The five sets of a process, see `capabilities(7)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    pub bounding: CapabilitySet,
    pub effective: CapabilitySet,
    pub permitted: CapabilitySet,
    pub inheritable: CapabilitySet,
    pub ambient: CapabilitySet,
}

impl Capabilities {
    /// No capability at all, nor a way to get one back.
    pub const NONE: Capabilities = Capabilities {
        bounding: CapabilitySet::EMPTY,
        effective: CapabilitySet::EMPTY,
        permitted: CapabilitySet::EMPTY,
        inheritable: CapabilitySet::EMPTY,
        ambient: CapabilitySet::EMPTY,
    };

    /// From `process.capabilities`. An absent set is empty, as the runtime spec has it.
    pub fn from_oci(oci: &LinuxCapabilities) -> Self {
        let set = |names: &Option<oci_spec::runtime::Capabilities>| {
            names
                .iter()
                .flatten()
                .filter_map(|capability| capability_number(&capability.to_string()))
                .collect()
        };
        Capabilities {
            bounding: set(oci.bounding()),
            effective: set(oci.effective()),
            permitted: set(oci.permitted()),
            inheritable: set(oci.inheritable()),
            ambient: set(oci.ambient()),
        }
    }
}

/// Removes everything outside `keep` from the bounding set. Capabilities newer than this code are removed too.
///
/// # Errors
/// `EPERM` without `CAP_SETPCAP`.
pub fn drop_bounding(keep: CapabilitySet) -> io::Result<()> {
    for number in 0..64 {
        let one = KernelSet::from_bits_retain(1 << number);
        // EINVAL: past the last capability of this kernel.
        let Ok(present) = thread::capability_is_in_bounding_set(one) else {
            break;
        };
        if present && !keep.contains(number) {
            thread::remove_capability_from_bounding_set(one)?;
        }
    }
    Ok(())
}

/// Sets permitted, effective, inheritable and ambient. A capability that the kernel does not know, or that this process
/// does not have to give, is left out, as other runtimes do.
///
/// # Errors
/// What `capset(2)` says.
pub fn apply_capabilities(wanted: &Capabilities) -> io::Result<()> {
    let own = CapabilitySet(thread::capabilities(None)?.permitted.bits());
    let permitted = wanted.permitted.intersection(own);
    let inheritable = wanted.inheritable.intersection(own);
    let sets = thread::CapabilitySets {
        effective: wanted.effective.intersection(permitted).kernel(),
        permitted: permitted.kernel(),
        inheritable: inheritable.kernel(),
    };
    thread::set_capabilities(None, sets)?;
    thread::clear_ambient_capability_set().or_else(unsupported_is_fine)?;
    for number in wanted
        .ambient
        .intersection(permitted)
        .intersection(inheritable)
        .numbers()
    {
        thread::configure_capability_in_ambient_set(KernelSet::from_bits_retain(1 << number), true)?;
    }
    Ok(())
}

/// Makes every permitted capability effective again: a change of uid cleared the effective set.
pub fn raise_permitted() -> io::Result<()> {
    let own = thread::capabilities(None)?;
    Ok(thread::set_capabilities(
        None,
        thread::CapabilitySets {
            effective: own.permitted,
            ..own
        },
    )?)
}

fn unsupported_is_fine(error: rustix::io::Errno) -> rustix::io::Result<()> {
    if error == rustix::io::Errno::INVAL {
        Ok(())
    } else {
        Err(error)
    }
}

/// Who a process is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups; `gid` need not be among them.
    pub groups: Vec<u32>,
}

/// Becomes `identity`, and keeps the permitted capabilities for [`apply_capabilities`] to reduce.
///
/// # Errors
/// `EPERM` without `CAP_SETUID`/`CAP_SETGID`, `EINVAL` for an id that is not mapped in this user namespace.
pub fn set_identity(identity: &Identity) -> io::Result<()> {
    thread::set_keep_capabilities(true)?;
    let groups: Vec<Gid> = identity.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    match thread::set_thread_groups(&groups) {
        // A user namespace may deny setgroups for good; that matters only where groups were asked for.
        Err(rustix::io::Errno::PERM) if groups.is_empty() && setgroups_denied() => {}
        other => other?,
    }
    let gid = Gid::from_raw(identity.gid);
    thread::set_thread_res_gid(gid, gid, gid)?;
    let uid = Uid::from_raw(identity.uid);
    thread::set_thread_res_uid(uid, uid, uid)?;
    thread::set_keep_capabilities(false)?;
    Ok(())
}

fn setgroups_denied() -> bool {
    std::fs::read("/proc/self/setgroups").is_ok_and(|text| text.starts_with(b"deny"))
}

/// Forbids `execve` to add privileges (set-uid bits, file capabilities). Cannot be undone.
pub fn set_no_new_privs() -> io::Result<()> {
    Ok(thread::set_no_new_privs(true)?)
}

/// The name of a limit as the runtime spec writes it, and the kernel's resource.
pub fn resource(kind: PosixRlimitType) -> Option<Resource> {
    Some(match kind {
        PosixRlimitType::RlimitCpu => Resource::Cpu,
        PosixRlimitType::RlimitFsize => Resource::Fsize,
        PosixRlimitType::RlimitData => Resource::Data,
        PosixRlimitType::RlimitStack => Resource::Stack,
        PosixRlimitType::RlimitCore => Resource::Core,
        PosixRlimitType::RlimitRss => Resource::Rss,
        PosixRlimitType::RlimitNproc => Resource::Nproc,
        PosixRlimitType::RlimitNofile => Resource::Nofile,
        PosixRlimitType::RlimitMemlock => Resource::Memlock,
        PosixRlimitType::RlimitAs => Resource::As,
        PosixRlimitType::RlimitLocks => Resource::Locks,
        PosixRlimitType::RlimitSigpending => Resource::Sigpending,
        PosixRlimitType::RlimitMsgqueue => Resource::Msgqueue,
        PosixRlimitType::RlimitNice => Resource::Nice,
        PosixRlimitType::RlimitRtprio => Resource::Rtprio,
        PosixRlimitType::RlimitRttime => Resource::Rttime,
    })
}

/// Sets the limits of `process.rlimits`; the largest 64-bit number means unlimited.
///
/// # Errors
/// The limit that was refused, and why: `EPERM` when a hard limit would be raised without `CAP_SYS_RESOURCE`.
pub fn set_rlimits(limits: &[PosixRlimit]) -> Result<(), (PosixRlimitType, io::Error)> {
    let bounded = |value: u64| (value != u64::MAX).then_some(value);
    for limit in limits {
        let Some(resource) = resource(limit.typ()) else {
            continue;
        };
        let wanted = Rlimit {
            current: bounded(limit.soft()),
            maximum: bounded(limit.hard()),
        };
        rustix::process::setrlimit(resource, wanted).map_err(|errno| (limit.typ(), errno.into()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_and_without_prefix_mean_the_same_number() {
        assert_eq!(capability_number("CAP_CHOWN"), Some(0));
        assert_eq!(capability_number("net_admin"), Some(12));
        assert_eq!(capability_number("CAP_CHECKPOINT_RESTORE"), Some(40));
        assert_eq!(capability_number("CAP_NONSENSE"), None);
        assert_eq!(capability_number(""), None);
    }

    #[test]
    fn every_oci_capability_has_a_number() {
        let names: Vec<String> = CAPABILITY_NAMES.iter().map(|name| format!("\"{name}\"")).collect();
        let json = format!("{{\"bounding\":[{}]}}", names.join(","));
        let oci: LinuxCapabilities = serde_json::from_str(&json).expect("all names are known to oci-spec");
        assert_eq!(Capabilities::from_oci(&oci).bounding, CapabilitySet::all());
    }

    #[test]
    fn the_default_set_is_the_documented_mask() {
        assert_eq!(CapabilitySet::container_default().0, 0xa804_25fb);
    }

    #[test]
    fn numbers_and_sets_round_trip() {
        let set = CapabilitySet::from_names(["KILL", "CAP_SYS_ADMIN"]).expect("known");
        assert_eq!(set.numbers().collect::<Vec<_>>(), [5, 21]);
        assert_eq!(CapabilitySet::from_names(["KILL", "BOGUS"]), Err("BOGUS".to_owned()));
        assert!(set.contains_name("kill") && !set.contains_name("chown"));
    }
}
