//! `process` of the spec: everything that makes the final program, for `run` and for `exec`.

use crate::error::{Error, Result};
use crate::sys::SchedAttr;
use catamaran_shim::privilege::{Capabilities, Identity, resource};
use catamaran_shim::seccomp::Program;
use oci_spec::runtime::{
    IOPriorityClass, LinuxIOPriority, LinuxSchedulerFlag, LinuxSchedulerPolicy, PosixRlimit, Process, Scheduler,
};
use std::ffi::CString;
use std::path::PathBuf;

/// Where programs are searched if the environment does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

#[derive(Clone, Debug)]
pub struct ProcessPlan {
    pub argv: Vec<CString>,
    pub env: Vec<CString>,
    pub path: String,
    /// `HOME` is looked up in the container's user database if the environment lacks it.
    pub home_missing: bool,
    pub cwd: PathBuf,
    pub identity: Identity,
    pub umask: u32,
    /// Empty sets where the spec names none.
    pub capabilities: Capabilities,
    pub rlimits: Vec<PosixRlimit>,
    pub no_new_privs: bool,
    pub oom_score_adj: Option<i32>,
    pub terminal: bool,
    /// Rows and columns.
    pub console_size: Option<(u16, u16)>,
    pub io_priority: Option<(u32, u32)>,
    pub scheduler: Option<SchedAttr>,
    pub apparmor: Option<String>,
    pub selinux: Option<String>,
    pub seccomp: Option<Program>,
    /// Descriptors 3 … 3+n-1 are handed to the program.
    pub preserve_fds: u32,
}

pub(crate) fn plan(process: &Process, seccomp: Option<Program>) -> Result<ProcessPlan> {
    let argv = strings("process.args", process.args().as_deref().unwrap_or_default())?;
    if argv.is_empty() {
        return Err(Error::spec("process.args", "must name a program"));
    }
    if argv[0].is_empty() {
        return Err(Error::spec("process.args", "the program's name must not be empty"));
    }
    let cwd = process.cwd().clone();
    if !cwd.is_absolute() {
        return Err(Error::spec(
            "process.cwd",
            format!("{:?} is not an absolute path", cwd.display().to_string()),
        ));
    }
    if process.exec_cpu_affinity().is_some() {
        return Err(Error::spec("process.execCPUAffinity", "is not supported"));
    }
    let variables = process.env().as_deref().unwrap_or_default();
    let value = |name: &str| {
        variables
            .iter()
            .rev()
            .find_map(|v| v.strip_prefix(name)?.strip_prefix('='))
    };
    Ok(ProcessPlan {
        argv,
        env: strings("process.env", variables)?,
        path: value("PATH").unwrap_or(DEFAULT_PATH).to_owned(),
        home_missing: value("HOME").is_none_or(str::is_empty),
        cwd,
        identity: identity(process),
        umask: process.user().umask().unwrap_or(0o022),
        capabilities: process
            .capabilities()
            .as_ref()
            .map_or(Capabilities::NONE, Capabilities::from_oci),
        rlimits: rlimits(process.rlimits().as_deref().unwrap_or_default())?,
        no_new_privs: process.no_new_privileges().unwrap_or(false),
        oom_score_adj: oom_score_adj(process.oom_score_adj())?,
        terminal: process.terminal().unwrap_or(false),
        console_size: process
            .console_size()
            .map(|size| (clamp(size.height()), clamp(size.width()))),
        io_priority: process.io_priority().as_ref().map(io_priority).transpose()?,
        scheduler: process.scheduler().as_ref().map(scheduler).transpose()?,
        apparmor: given(process.apparmor_profile()),
        selinux: given(process.selinux_label()),
        seccomp,
        preserve_fds: 0,
    })
}

fn given(text: &Option<String>) -> Option<String> {
    text.clone().filter(|text| !text.is_empty())
}

fn clamp(value: u64) -> u16 {
    u16::try_from(value).unwrap_or(u16::MAX)
}

fn strings(field: &str, list: &[String]) -> Result<Vec<CString>> {
    let convert = |(index, text): (usize, &String)| {
        CString::new(text.as_str()).map_err(|_| Error::spec(format!("{field}[{index}]"), "contains a null byte"))
    };
    list.iter().enumerate().map(convert).collect()
}

fn identity(process: &Process) -> Identity {
    let user = process.user();
    Identity {
        uid: user.uid(),
        gid: user.gid(),
        groups: user.additional_gids().clone().unwrap_or_default(),
    }
}

fn rlimits(limits: &[PosixRlimit]) -> Result<Vec<PosixRlimit>> {
    for (index, limit) in limits.iter().enumerate() {
        let field = |name| format!("process.rlimits[{index}].{name}");
        if resource(limit.typ()).is_none() {
            return Err(Error::spec(field("type"), format!("{} is unknown", limit.typ())));
        }
        if limit.soft() > limit.hard() {
            return Err(Error::spec(field("soft"), "is larger than hard"));
        }
        if limits[..index].iter().any(|earlier| earlier.typ() == limit.typ()) {
            return Err(Error::spec(field("type"), format!("{} is given twice", limit.typ())));
        }
    }
    Ok(limits.to_vec())
}

fn oom_score_adj(value: Option<i32>) -> Result<Option<i32>> {
    match value {
        Some(value) if !(-1000..=1000).contains(&value) => Err(Error::spec(
            "process.oomScoreAdj",
            format!("{value} is not between -1000 and 1000"),
        )),
        other => Ok(other),
    }
}

fn io_priority(priority: &LinuxIOPriority) -> Result<(u32, u32)> {
    let class = match priority.class() {
        IOPriorityClass::IoprioClassRt => 1,
        IOPriorityClass::IoprioClassBe => 2,
        IOPriorityClass::IoprioClassIdle => 3,
    };
    match u32::try_from(priority.priority()) {
        Ok(level @ 0..=7) => Ok((class, level)),
        _ => Err(Error::spec("process.ioPriority.priority", "is not between 0 and 7")),
    }
}

fn scheduler(scheduler: &Scheduler) -> Result<SchedAttr> {
    let policy = match scheduler.policy() {
        LinuxSchedulerPolicy::SchedOther => 0,
        LinuxSchedulerPolicy::SchedFifo => 1,
        LinuxSchedulerPolicy::SchedRr => 2,
        LinuxSchedulerPolicy::SchedBatch => 3,
        LinuxSchedulerPolicy::SchedIso => {
            return Err(Error::spec(
                "process.scheduler.policy",
                "SCHED_ISO is not implemented by Linux",
            ));
        }
        LinuxSchedulerPolicy::SchedIdle => 5,
        LinuxSchedulerPolicy::SchedDeadline => 6,
    };
    let flag = |flag: &LinuxSchedulerFlag| match flag {
        LinuxSchedulerFlag::SchedResetOnFork => 0x01,
        LinuxSchedulerFlag::SchedFlagReclaim => 0x02,
        LinuxSchedulerFlag::SchedFlagDLOverrun => 0x04,
        LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x08,
        LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
        LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
        LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
    };
    let priority = u32::try_from(scheduler.priority().unwrap_or_default())
        .map_err(|_| Error::spec("process.scheduler.priority", "must not be negative"))?;
    Ok(SchedAttr {
        size: size_of::<SchedAttr>() as u32,
        policy,
        flags: scheduler
            .flags()
            .iter()
            .flatten()
            .map(flag)
            .fold(0, |all, bit| all | bit),
        nice: scheduler.nice().unwrap_or_default(),
        priority,
        runtime: scheduler.runtime().unwrap_or_default(),
        deadline: scheduler.deadline().unwrap_or_default(),
        period: scheduler.period().unwrap_or_default(),
    })
}
