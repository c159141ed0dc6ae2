//! Which system calls a container may make.
//!
//! A [`Policy`] is data: a default answer and rules per call number, with conditions on arguments. It comes from the
//! `RuntimeDefault` list (`policy.rs`) or from the `linux.seccomp` object of an OCI spec (so `Localhost` profiles work),
//! is compiled once (`bpf.rs`) into a [`Program`] of plain bytes, and installed as the last privileged step of a process.
//! `RuntimeDefault` for the usual capabilities is compiled once per process and shared by everything forked from it.

mod bpf;
mod policy;
mod syscalls;

pub use bpf::TooLong;

use crate::privilege::CapabilitySet;
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSeccompOperator,
};
use std::io;
use std::sync::OnceLock;

/// OCI annotation by which a spec without `linux.seccomp` asks for the built-in policy: value `RuntimeDefault`. It saves
/// writing, reading and compiling some four hundred names for every container.
pub const ANNOTATION: &str = "dev.catamaran.seccomp";

/// What the kernel does with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Allow,
    /// Fail with this `errno`, without running the call.
    Errno(u16),
    KillThread,
    KillProcess,
    Trap,
    Trace(u16),
    Log,
}

impl Action {
    /// The return value of a filter program (`SECCOMP_RET_*`).
    fn encode(self) -> u32 {
        match self {
            Action::KillProcess => 0x8000_0000,
            Action::KillThread => 0,
            Action::Trap => 0x0003_0000,
            Action::Errno(errno) => 0x0005_0000 | u32::from(errno),
            Action::Trace(message) => 0x7ff0_0000 | u32::from(message),
            Action::Log => 0x7ffc_0000,
            Action::Allow => 0x7fff_0000,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    NotEqual,
    Less,
    AtMost,
    Equal,
    AtLeast,
    Greater,
    /// Equal in the bits of `mask`.
    MaskedEqual {
        mask: u64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    Bits32,
    Bits64,
}

/// Holds if argument number `argument` (0–5) compares so with `value`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    pub argument: u8,
    pub compare: Compare,
    pub value: u64,
    pub width: Width,
}

/// Matches if every condition holds. The first matching rule of a call decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub syscall: u32,
    pub conditions: Vec<Condition>,
    pub action: Action,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    pub default: Action,
    /// The answer to calls from this number on: those that did not exist when the policy was written.
    pub unknown: Option<(u32, Action)>,
    pub rules: Vec<Rule>,
}

/// Why a profile cannot be used. Displays name the field of the OCI spec.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("linux.seccomp.{field}: {action} is not supported (there is no agent to notify)")]
    Notify {
        field: &'static str,
        action: LinuxSeccompAction,
    },
    #[error("linux.seccomp.architectures: this machine's architecture is not in the list")]
    Architecture,
    #[error("linux.seccomp.syscalls[].args[].index: {0} is not between 0 and 5")]
    ArgumentIndex(usize),
    #[error("linux.seccomp.{field}: errno {value} is larger than 4095")]
    Errno { field: &'static str, value: u32 },
    #[error("linux.seccomp.flags: {0} is not supported")]
    Flag(LinuxSeccompFilterFlag),
    #[error(transparent)]
    TooLong(#[from] TooLong),
}

impl Policy {
    /// The default policy of containers whose bounding set is `bounding`.
    pub fn runtime_default(bounding: CapabilitySet) -> Policy {
        policy::runtime_default(bounding)
    }

    /// From an OCI profile. Names that this architecture does not have are skipped, as the runtime spec demands.
    ///
    /// # Errors
    /// Actions and flags that need a supervising agent, and numbers out of range.
    pub fn from_oci(profile: &LinuxSeccomp) -> Result<Policy, Error> {
        check_architectures(profile)?;
        let default = action(profile.default_action(), profile.default_errno_ret(), "defaultAction")?;
        let mut rules = Vec::new();
        for entry in profile.syscalls().iter().flatten() {
            let action = action(entry.action(), entry.errno_ret(), "syscalls[].action")?;
            let alternatives = alternatives(entry.args().as_deref().unwrap_or_default())?;
            for syscall in entry.names().iter().filter_map(|name| syscalls::number(name)) {
                rules.extend(alternatives.iter().map(|all| Rule {
                    syscall,
                    conditions: all.clone(),
                    action,
                }));
            }
        }
        let mut policy = Policy {
            default,
            unknown: None,
            rules,
        };
        if matches!(default, Action::Errno(_)) {
            policy = policy.with_unknown_calls_missing();
            policy.hide_clone3();
        }
        Ok(policy)
    }

    /// Calls newer than any that the policy names answer `ENOSYS`. With `EPERM` the C library would take a missing
    /// optimisation for a refusal.
    fn with_unknown_calls_missing(mut self) -> Policy {
        let newest = self.rules.iter().map(|rule| rule.syscall).max();
        self.unknown = newest.map(|newest| (newest + 1, Action::Errno(libc::ENOSYS as u16)));
        self
    }

    /// A profile that predates `clone3` denies it, and glibc falls back to `clone` for `ENOSYS` only.
    fn hide_clone3(&mut self) {
        let syscall = u32::try_from(libc::SYS_clone3).expect("system call numbers are small");
        if !self.rules.iter().any(|rule| rule.syscall == syscall) {
            self.rules.push(Rule {
                syscall,
                conditions: Vec::new(),
                action: Action::Errno(libc::ENOSYS as u16),
            });
        }
    }
}

fn check_architectures(profile: &LinuxSeccomp) -> Result<(), Error> {
    let native = if cfg!(target_arch = "x86_64") {
        Arch::ScmpArchX86_64
    } else if cfg!(target_arch = "aarch64") {
        Arch::ScmpArchAarch64
    } else {
        Arch::ScmpArchRiscv64
    };
    match profile.architectures() {
        Some(list) if !list.is_empty() && !list.contains(&native) && !list.contains(&Arch::ScmpArchNative) => {
            Err(Error::Architecture)
        }
        _ => Ok(()),
    }
}

fn action(oci: LinuxSeccompAction, errno: Option<u32>, field: &'static str) -> Result<Action, Error> {
    let data = || match errno.unwrap_or(libc::EPERM as u32) {
        value @ 0..=4095 => Ok(value as u16),
        value => Err(Error::Errno { field, value }),
    };
    Ok(match oci {
        LinuxSeccompAction::ScmpActAllow => Action::Allow,
        LinuxSeccompAction::ScmpActErrno => Action::Errno(data()?),
        LinuxSeccompAction::ScmpActTrace => Action::Trace(data()?),
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => Action::KillThread,
        LinuxSeccompAction::ScmpActKillProcess => Action::KillProcess,
        LinuxSeccompAction::ScmpActTrap => Action::Trap,
        LinuxSeccompAction::ScmpActLog => Action::Log,
        LinuxSeccompAction::ScmpActNotify => return Err(Error::Notify { field, action: oci }),
    })
}

/// Conditions of one entry: all must hold, except that several on the same argument are alternatives (each then
/// stands alone): the meaning they have in runc, to which profiles are written.
fn alternatives(arguments: &[LinuxSeccompArg]) -> Result<Vec<Vec<Condition>>, Error> {
    let conditions = arguments.iter().map(condition).collect::<Result<Vec<_>, _>>()?;
    let repeated = (0..6).any(|index| conditions.iter().filter(|c| c.argument == index).count() > 1);
    Ok(if repeated {
        conditions.into_iter().map(|condition| vec![condition]).collect()
    } else {
        vec![conditions]
    })
}

fn condition(oci: &LinuxSeccompArg) -> Result<Condition, Error> {
    let argument = u8::try_from(oci.index()).ok().filter(|index| *index < 6);
    let argument = argument.ok_or(Error::ArgumentIndex(oci.index()))?;
    let (compare, value) = match oci.op() {
        LinuxSeccompOperator::ScmpCmpNe => (Compare::NotEqual, oci.value()),
        LinuxSeccompOperator::ScmpCmpLt => (Compare::Less, oci.value()),
        LinuxSeccompOperator::ScmpCmpLe => (Compare::AtMost, oci.value()),
        LinuxSeccompOperator::ScmpCmpEq => (Compare::Equal, oci.value()),
        LinuxSeccompOperator::ScmpCmpGe => (Compare::AtLeast, oci.value()),
        LinuxSeccompOperator::ScmpCmpGt => (Compare::Greater, oci.value()),
        LinuxSeccompOperator::ScmpCmpMaskedEq => (
            Compare::MaskedEqual { mask: oci.value() },
            oci.value_two().unwrap_or_default(),
        ),
    };
    Ok(Condition {
        argument,
        compare,
        value,
        width: Width::Bits64,
    })
}

/// A compiled policy, ready to install.
#[derive(Clone)]
pub struct Program {
    instructions: Vec<libc::sock_filter>,
    flags: libc::c_ulong,
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Program({} instructions)", self.instructions.len())
    }
}

impl Program {
    pub fn compile(policy: &Policy) -> Result<Program, TooLong> {
        Ok(Program {
            instructions: bpf::compile(policy)?,
            flags: 0,
        })
    }

    /// `RuntimeDefault` for this bounding set; for containerd's default capabilities it is compiled once per process.
    pub fn runtime_default(bounding: CapabilitySet) -> Program {
        static USUAL: OnceLock<Program> = OnceLock::new();
        let compile = || Program::compile(&Policy::runtime_default(bounding)).expect("the built-in policy is short");
        if bounding == CapabilitySet::container_default() {
            USUAL.get_or_init(compile).clone()
        } else {
            compile()
        }
    }

    /// Compiles the profile of an OCI spec, its flags included.
    pub fn from_oci(profile: &LinuxSeccomp) -> Result<Program, Error> {
        let mut program = Program::compile(&Policy::from_oci(profile)?)?;
        for flag in profile.flags().iter().flatten() {
            program.flags |= match flag {
                LinuxSeccompFilterFlag::SeccompFilterFlagLog => libc::SECCOMP_FILTER_FLAG_LOG,
                LinuxSeccompFilterFlag::SeccompFilterFlagTsync => libc::SECCOMP_FILTER_FLAG_TSYNC,
                LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
                LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => return Err(Error::Flag(*flag)),
            };
        }
        Ok(program)
    }

    /// Number of instructions.
    pub fn len(&self) -> usize {
        self.instructions.len()
    }

    pub fn is_empty(&self) -> bool {
        self.instructions.is_empty()
    }

    /// Installs the filter on the calling thread (all threads with the TSYNC flag). It cannot be removed and is inherited.
    ///
    /// # Errors
    /// `EACCES` without `CAP_SYS_ADMIN` and without `no_new_privs`; `EINVAL` where the kernel has no seccomp filters.
    #[allow(
        unsafe_code,
        reason = "there is no safe wrapper of seccomp(2) that leaves no_new_privs alone"
    )]
    pub fn install(&self) -> io::Result<()> {
        let program = libc::sock_fprog {
            len: u16::try_from(self.instructions.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
            filter: self.instructions.as_ptr().cast_mut(),
        };
        // SAFETY: the kernel copies the instructions, which live as long as `self`, and writes to nothing of ours.
        let result = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                self.flags,
                &raw const program,
            )
        };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(json: &str) -> LinuxSeccomp {
        serde_json::from_str(json).expect("valid profile")
    }

    #[test]
    fn a_profile_keeps_order_actions_and_errno() {
        let policy = Policy::from_oci(&profile(
            r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,"architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_AARCH64","SCMP_ARCH_RISCV64"],
                "syscalls":[{"names":["write","no_such_call"],"action":"SCMP_ACT_ALLOW"},
                            {"names":["kill"],"action":"SCMP_ACT_ERRNO","errnoRet":13,
                             "args":[{"index":1,"value":9,"op":"SCMP_CMP_EQ"}]}]}"#,
        ))
        .expect("supported");
        assert_eq!(policy.default, Action::Errno(38));
        assert_eq!(policy.rules.len(), 3, "two rules and the one for clone3");
        assert_eq!(policy.rules[1].action, Action::Errno(13));
        assert_eq!(policy.rules[1].conditions.len(), 1);
        assert!(policy.unknown.is_some());
    }

    #[test]
    fn an_allowing_profile_hides_nothing() {
        let policy = Policy::from_oci(&profile(
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_KILL_PROCESS"}]}"#,
        ))
        .expect("supported");
        assert_eq!(policy.unknown, None);
        assert!(policy.rules.iter().all(|rule| rule.action == Action::KillProcess));
    }

    #[test]
    fn several_conditions_on_one_argument_are_alternatives() {
        let policy = Policy::from_oci(&profile(
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["socket"],"action":"SCMP_ACT_ERRNO",
                "args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"},{"index":0,"value":2,"op":"SCMP_CMP_EQ"}]}]}"#,
        ))
        .expect("supported");
        assert_eq!(
            policy
                .rules
                .iter()
                .map(|rule| rule.conditions.len())
                .collect::<Vec<_>>(),
            [1, 1]
        );
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_name() {
        let error = |json: &str| Program::from_oci(&profile(json)).expect_err("unsupported").to_string();
        assert!(error(r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#).starts_with("linux.seccomp.defaultAction"));
        assert!(
            error(r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_S390X"]}"#)
                .contains("architectures")
        );
        assert!(
            error(
                r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_ERRNO",
                    "args":[{"index":6,"value":1,"op":"SCMP_CMP_EQ"}]}]}"#
            )
            .contains("index")
        );
        assert!(error(r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":70000}"#).contains("70000"));
    }

    #[test]
    fn the_usual_program_is_compiled_once() {
        let first = Program::runtime_default(CapabilitySet::container_default());
        assert_eq!(
            first.len(),
            Program::runtime_default(CapabilitySet::container_default()).len()
        );
        assert!(first.len() > 50);
    }
}
