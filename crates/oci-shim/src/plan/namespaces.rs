//! Namespaces of a container: which are new, which are joined, and what may be set in them.

use crate::error::{Error, Result};
use oci_spec::runtime::{Linux, LinuxIdMapping, LinuxNamespaceType, Spec};
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespaces {
    /// `CLONE_NEW*` of the namespaces to make, but for the cgroup namespace.
    pub new: u64,
    /// Made last, so that the container's cgroup is its root.
    pub new_cgroup: bool,
    /// Namespaces to join: flag and path. User first, mount last, as permissions and paths require.
    pub join: Vec<(i32, PathBuf)>,
}

impl Namespaces {
    pub fn has_new(&self, flag: i32) -> bool {
        self.new & flag as u64 != 0
    }

    /// Joins the pid namespace of a process, whatever the spec says of it.
    pub(crate) fn join_processes_of(&mut self, pid: i32) {
        self.new &= !(libc::CLONE_NEWPID as u64);
        self.join.retain(|(flag, _)| *flag != libc::CLONE_NEWPID);
        let path = format!("/proc/{pid}/ns/pid");
        self.join.push((libc::CLONE_NEWPID, path.into()));
    }

    fn joins(&self, flag: i32) -> bool {
        self.join.iter().any(|(joined, _)| *joined == flag)
    }

    fn has(&self, flag: i32) -> bool {
        self.has_new(flag) || self.joins(flag)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdMaps {
    pub uid: String,
    pub gid: String,
}

pub(super) fn namespaces(linux: &Linux) -> Result<Namespaces> {
    let mut plan = Namespaces::default();
    for (index, namespace) in linux.namespaces().iter().flatten().enumerate() {
        let field = |name| format!("linux.namespaces[{index}].{name}");
        let flag = match namespace.typ() {
            LinuxNamespaceType::Mount => libc::CLONE_NEWNS,
            LinuxNamespaceType::Cgroup => libc::CLONE_NEWCGROUP,
            LinuxNamespaceType::Uts => libc::CLONE_NEWUTS,
            LinuxNamespaceType::Ipc => libc::CLONE_NEWIPC,
            LinuxNamespaceType::User => libc::CLONE_NEWUSER,
            LinuxNamespaceType::Pid => libc::CLONE_NEWPID,
            LinuxNamespaceType::Network => libc::CLONE_NEWNET,
            LinuxNamespaceType::Time => return Err(Error::spec(field("type"), "time is not supported")),
        };
        let cgroup = flag == libc::CLONE_NEWCGROUP;
        if plan.has(flag) || cgroup && plan.new_cgroup {
            return Err(Error::spec(
                field("type"),
                format!("{} is given twice", namespace.typ()),
            ));
        }
        match namespace.path() {
            Some(path) if !path.is_absolute() => return Err(Error::spec(field("path"), "is not an absolute path")),
            Some(path) => plan.join.push((flag, path.clone())),
            None if cgroup => plan.new_cgroup = true,
            None => plan.new |= flag as u64,
        }
    }
    if plan.joins(libc::CLONE_NEWNS) {
        return Err(Error::spec(
            "linux.namespaces",
            "joining a mount namespace by path is not supported",
        ));
    }
    if !plan.has_new(libc::CLONE_NEWNS) {
        return Err(Error::spec("linux.namespaces", "must contain a mount namespace"));
    }
    if plan.has_new(libc::CLONE_NEWUSER) && !plan.join.is_empty() {
        return Err(Error::spec(
            "linux.namespaces",
            "a new user namespace cannot be combined with joined ones",
        ));
    }
    plan.join.sort_by_key(|(flag, _)| *flag != libc::CLONE_NEWUSER);
    Ok(plan)
}

/// Settings of a namespace that the container does not own would change the host or the pod.
pub(super) fn check_namespace_uses(spec: &Spec, linux: &Linux, namespaces: &Namespaces) -> Result<()> {
    let has_name = |name: &Option<String>| name.as_ref().is_some_and(|name| !name.is_empty());
    if !namespaces.has(libc::CLONE_NEWUTS) && (has_name(spec.hostname()) || has_name(spec.domainname())) {
        return Err(Error::spec("hostname", "needs a uts namespace in linux.namespaces"));
    }
    for name in linux.sysctl().iter().flatten().map(|(name, _)| name) {
        let dotted = name.replace('/', ".");
        let problem = match dotted.as_str() {
            "kernel.hostname" | "kernel.domainname" => {
                (!namespaces.has(libc::CLONE_NEWUTS)).then_some("needs a uts namespace")
            }
            _ if dotted.starts_with("net.") => {
                (!namespaces.has(libc::CLONE_NEWNET)).then_some("needs a network namespace")
            }
            _ if dotted.starts_with("fs.mqueue.") || IPC_SYSCTLS.contains(&dotted.as_str()) => {
                (!namespaces.has(libc::CLONE_NEWIPC)).then_some("needs an ipc namespace")
            }
            _ if dotted.starts_with("user.") => {
                (!namespaces.has(libc::CLONE_NEWUSER)).then_some("needs a user namespace")
            }
            _ => Some("is not in a separate kernel namespace"),
        };
        if let Some(problem) = problem {
            return Err(Error::spec(format!("linux.sysctl[{name:?}]"), problem));
        }
    }
    Ok(())
}

const IPC_SYSCTLS: [&str; 9] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
    "kernel.msg_next_id",
];

pub(super) fn sysctls(linux: &Linux) -> Result<Vec<(PathBuf, String)>> {
    let convert = |(name, value): (&String, &String)| {
        // With a slash in it, the name is already a path (interface names contain dots).
        let relative = if name.contains('/') {
            name.clone()
        } else {
            name.replace('.', "/")
        };
        if relative.split('/').any(|part| part.is_empty() || part == "..") {
            return Err(Error::spec(
                format!("linux.sysctl[{name:?}]"),
                "is not the name of a kernel parameter",
            ));
        }
        Ok((Path::new("/proc/sys").join(relative), value.clone()))
    };
    let mut list: Vec<_> = linux.sysctl().iter().flatten().map(convert).collect::<Result<_>>()?;
    list.sort();
    Ok(list)
}

pub(super) fn id_maps(linux: &Linux, namespaces: &Namespaces) -> Result<Option<IdMaps>> {
    let text = |list: &Option<Vec<LinuxIdMapping>>| {
        let line = |m: &LinuxIdMapping| format!("{} {} {}\n", m.container_id(), m.host_id(), m.size());
        list.iter().flatten().map(line).collect::<String>()
    };
    let maps = IdMaps {
        uid: text(linux.uid_mappings()),
        gid: text(linux.gid_mappings()),
    };
    let given = !maps.uid.is_empty() || !maps.gid.is_empty();
    match (namespaces.has_new(libc::CLONE_NEWUSER), given) {
        (true, true) => Ok(Some(maps)),
        (false, false) => Ok(None),
        (true, false) => Err(Error::spec(
            "linux.uidMappings",
            "a user namespace needs uid and gid mappings",
        )),
        (false, true) if namespaces.joins(libc::CLONE_NEWUSER) => Ok(None),
        (false, true) => Err(Error::spec(
            "linux.uidMappings",
            "needs a user namespace in linux.namespaces",
        )),
    }
}
