//! The container's file system, built in its own mount namespace and entered last.
//!
//! Everything is done before `pivot_root`, while both the host's files (sources of binds) and the container's are in
//! reach, and all of it through descriptors: a mount is made detached, gets its attributes, and is then moved onto a
//! target that was resolved inside the container. Nothing is ever half mounted, and no path is looked up twice.

use crate::device;
use crate::error::{Error, Result, Step};
use crate::paths::{Root, relative};
use crate::plan::mount::READ_ONLY;
use crate::plan::{MountPlan, OverlayPlan, Parameter, Plan, What};
use crate::sys::{self, MountAttr};
use catamaran_shim::overlay::{Writable, mount_overlay};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount_change, move_mount, open_tree,
    unmount,
};
use std::io;
use std::path::{Path, PathBuf};

/// Builds everything below the new root. The process is in its new mount namespace, in its cgroup, and sees the host.
pub(crate) fn build(plan: &Plan) -> Result<Root> {
    isolate(plan)?;
    let shared_memory = plan.shared_memory_of.map(shared_memory_of).transpose();
    let shared_memory = shared_memory.step(|| "find the shared memory of the pod".into())?;
    let root = mount_root(plan)?;
    for mount in &plan.mounts {
        let step = || format!("mount {} at {}", describe(mount), mount.destination.display());
        match &shared_memory {
            Some(tree) if mount.destination == Path::new(SHARED_MEMORY) => {
                let target = root.make_dir(&mount.destination).step(step)?;
                attach(tree, target.as_fd()).step(step)?;
            }
            _ => perform(&root, mount, plan).step(step)?,
        }
    }
    if owns_dev(plan) {
        device::populate(&root, &plan.devices)?;
    }
    root.make_dir(&plan.process.cwd)
        .or_else(missing_is_fine)
        .step(|| "create process.cwd".into())?;
    Ok(root)
}

/// `process.cwd` may not be creatable (read-only root) or lie on something odd: then entering it fails with a clear error.
fn missing_is_fine(_: io::Error) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

fn describe(mount: &MountPlan) -> String {
    match &mount.what {
        What::Bind { source, .. } => source.display().to_string(),
        What::New { kind, .. } => kind.clone(),
        What::Cgroup => "cgroup".into(),
    }
}

/// Keeps what is mounted here from reaching the host.
fn isolate(plan: &Plan) -> Result<()> {
    let (flag, _) = plan.root_propagation;
    let propagation = if flag == libc::MS_SHARED {
        MountPropagationFlags::SHARED
    } else {
        propagation_flags(flag)
    };
    mount_change("/", propagation | MountPropagationFlags::REC).step(|| "change propagation of /".into())?;
    if flag == libc::MS_SHARED {
        // The new root must not appear on the host, whatever else is shared with it.
        let parent = mount_point_of(&plan.root).step(|| "find the mount point of the root".into())?;
        mount_change(&parent, MountPropagationFlags::PRIVATE).step(|| format!("make {} private", parent.display()))?;
    }
    Ok(())
}

fn propagation_flags(flag: u64) -> MountPropagationFlags {
    match flag {
        libc::MS_SHARED => MountPropagationFlags::SHARED,
        libc::MS_PRIVATE => MountPropagationFlags::PRIVATE,
        libc::MS_UNBINDABLE => MountPropagationFlags::UNBINDABLE,
        _ => MountPropagationFlags::DOWNSTREAM,
    }
}

/// The mount that holds `path`: the longest mount point it starts with.
fn mount_point_of(path: &Path) -> io::Result<PathBuf> {
    let path = path.canonicalize()?;
    let table = std::fs::read_to_string("/proc/self/mountinfo")?;
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape);
    Ok(points
        .filter(|point| path.starts_with(point))
        .max_by_key(|p| p.as_os_str().len())
        .unwrap_or_else(|| "/".into()))
}

/// `mountinfo` writes blanks as octal numbers.
fn unescape(text: &str) -> PathBuf {
    text.replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\012", "\n")
        .replace("\\134", "\\")
        .into()
}

fn mount_root(plan: &Plan) -> Result<Root> {
    let path = plan.root.display();
    if let Some(OverlayPlan { lower, upper, work }) = &plan.overlay {
        let writable = upper
            .as_deref()
            .zip(work.as_deref())
            .map(|(upper, work)| Writable { upper, work });
        mount_overlay(lower, writable, &plan.root)
            .map_err(io::Error::other)
            .step(|| "mount the root".into())?;
        return Root::open(&plan.root).step(|| format!("open root.path {path}"));
    }
    // A root must be a mount of its own to be pivoted to.
    let tree = open_tree(CWD, &plan.root, clone_flags(true)).step(|| format!("open root.path {path}"))?;
    if plan.root_propagation.0 == libc::MS_UNBINDABLE {
        let attr = MountAttr {
            propagation: libc::MS_PRIVATE,
            ..MountAttr::default()
        };
        sys::mount_setattr(&tree, true, &attr).step(|| "make the root private".into())?;
    }
    let target = rustix::fs::open(
        &plan.root,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .step(|| format!("open root.path {path}"))?;
    attach(&tree, target.as_fd()).step(|| format!("mount the root at {path}"))?;
    // The descriptor of the tree is the root of the mount, now attached.
    Ok(Root::from_fd(tree))
}

const SHARED_MEMORY: &str = "/dev/shm";

/// What a process has mounted at `/dev/shm`, as a detached mount. Only inside its namespace may it be copied.
fn shared_memory_of(pid: i32) -> io::Result<OwnedFd> {
    let namespace = |of: &str| rustix::fs::open(format!("/proc/{of}/ns/mnt"), OFlags::CLOEXEC, Mode::empty());
    let (own, theirs) = (namespace("self")?, namespace(&pid.to_string())?);
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open("/", directory, Mode::empty())?;
    sys::setns(&theirs, libc::CLONE_NEWNS)?;
    // The container may have put a link there.
    let found = rustix::fs::openat2(CWD, SHARED_MEMORY, directory, Mode::empty(), ResolveFlags::NO_SYMLINKS);
    let tree = found.and_then(|found| open_tree(&found, "", clone_flags(false)));
    sys::setns(&own, libc::CLONE_NEWNS)?;
    // Entering a namespace is entering its root.
    rustix::process::fchdir(&root)?;
    rustix::process::chroot(".")?;
    Ok(tree?)
}

fn clone_flags(recursive: bool) -> OpenTreeFlags {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags | OpenTreeFlags::AT_RECURSIVE
    } else {
        flags
    }
}

fn attach(tree: &OwnedFd, target: BorrowedFd<'_>) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(tree, "", target, "", flags)?)
}

fn perform(root: &Root, mount: &MountPlan, plan: &Plan) -> io::Result<()> {
    match &mount.what {
        What::Bind { source, recursive } => bind(root, mount, source, *recursive),
        What::New {
            kind,
            source,
            parameters,
            copy_up,
        } => {
            let tree = new_file_system(kind, source, parameters, mount.attr.set)?;
            let target = target_dir(root, mount, kind)?;
            keep_off_proc(&mount.destination, &tree, &target)?;
            if *copy_up {
                copy_up_into(&target, &tree)?;
            }
            finish(mount, &tree, &target)
        }
        What::Cgroup => cgroup(root, mount, plan),
    }
}

/// `proc` and `sysfs` carry files that only they may stand for; a link in the image must not move them.
fn target_dir(root: &Root, mount: &MountPlan, kind: &str) -> io::Result<OwnedFd> {
    let target = root.make_dir(&mount.destination)?;
    if matches!(kind, "proc" | "sysfs") {
        return match root.resolve_plain(&mount.destination) {
            Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
                Err(io::Error::other("the image has a symbolic link there"))
            }
            other => other,
        };
    }
    Ok(target)
}

fn bind(root: &Root, mount: &MountPlan, source: &Path, recursive: bool) -> io::Result<()> {
    let tree = open_tree(CWD, source, clone_flags(recursive))?;
    let is_dir = file_type(&tree)? == FileType::Directory;
    let target = if is_dir {
        root.make_dir(&mount.destination)?
    } else {
        root.make_file(&mount.destination)?
    };
    keep_off_proc(&mount.destination, &tree, &target)?;
    if mount.attr.set != 0 || mount.attr.clear != 0 {
        sys::mount_setattr(&tree, false, &mount.attr)?;
    }
    finish(mount, &tree, &target)
}

/// Files of `/proc` that may be replaced, by LXCFS for example: they only tell what a container may use.
const REPLACEABLE: [&str; 11] = [
    "cpuinfo",
    "diskstats",
    "loadavg",
    "meminfo",
    "net/dev",
    "slabinfo",
    "stat",
    "swaps",
    "sys/crypto/fips_enabled",
    "sys/kernel/ns_last_pid",
    "uptime",
];

/// Whoever mounts over a part of `/proc` answers for the kernel there, to the runner too (CVE-2019-19921, CVE-2025-52881).
/// Asked of the place itself: links in the image lead there by other names.
fn keep_off_proc(destination: &Path, tree: &OwnedFd, target: &OwnedFd) -> io::Result<()> {
    if !is_proc(target)? {
        return Ok(());
    }
    let destination = relative(destination);
    let allowed = match destination.strip_prefix("proc") {
        Ok(whole) if whole.as_os_str().is_empty() => is_proc(tree)?,
        Ok(part) => REPLACEABLE.iter().any(|file| part == Path::new(file)),
        Err(_) => false,
    };
    if allowed {
        Ok(())
    } else {
        Err(io::Error::other("nothing can be mounted inside /proc"))
    }
}

fn is_proc(fd: &OwnedFd) -> io::Result<bool> {
    const PROC_MAGIC: i64 = 0x9fa0;
    Ok(rustix::fs::fstatfs(fd)?.f_type as i64 == PROC_MAGIC)
}

/// Opens a file of `/proc` for writing, whatever stands at `/proc` by now.
pub(crate) fn open_in_own_proc(path: &str) -> io::Result<std::fs::File> {
    let proc = new_file_system("proc", "proc", &[], 0)?;
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat2(&proc, path, flags, Mode::empty(), how)?.into())
}

fn file_type(fd: &OwnedFd) -> io::Result<FileType> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode))
}

/// Recursive attributes and propagation, then into place.
fn finish(mount: &MountPlan, tree: &OwnedFd, target: &OwnedFd) -> io::Result<()> {
    if mount.recursive.set != 0 || mount.recursive.clear != 0 {
        sys::mount_setattr(tree, true, &mount.recursive)?;
    }
    attach(tree, target.as_fd())?;
    for (flag, recursive) in &mount.propagation {
        sys::mount_setattr(
            tree,
            *recursive,
            &MountAttr {
                propagation: *flag,
                ..MountAttr::default()
            },
        )?;
    }
    Ok(())
}

/// A new file system instance as a detached mount.
pub(crate) fn new_file_system(kind: &str, source: &str, parameters: &[Parameter], attr: u64) -> io::Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "source", source)?;
    for parameter in parameters {
        let result = match parameter {
            Parameter::Flag(name) => fsconfig_set_flag(&context, name.as_str()),
            Parameter::Value(name, value) => fsconfig_set_string(&context, name.as_str(), value.as_str()),
        };
        result.map_err(|errno| parameter_error(parameter, errno))?;
    }
    fsconfig_create(&context)?;
    let attr = u32::try_from(attr).expect("mount attributes have 32 bits");
    Ok(fsmount(
        &context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::from_bits_retain(attr),
    )?)
}

fn parameter_error(parameter: &Parameter, errno: Errno) -> io::Error {
    let name = match parameter {
        Parameter::Flag(name) => name.clone(),
        Parameter::Value(name, value) => format!("{name}={value}"),
    };
    io::Error::other(format!("option {name:?}: {errno}"))
}

/// Copies what a tmpfs is about to hide (`tmpcopyup`).
fn copy_up_into(from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
    for entry in rustix::fs::Dir::read_from(open_dir(from)?)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let stat = rustix::fs::statat(from, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?;
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                rustix::fs::mkdirat(to, name, mode)?;
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let below = rustix::fs::openat(from, name, flags, Mode::empty())?;
                copy_up_into(&below, &rustix::fs::openat(to, name, flags, Mode::empty())?)?;
            }
            FileType::Symlink => {
                rustix::fs::symlinkat(rustix::fs::readlinkat(from, name, Vec::new())?, to, name)?;
            }
            FileType::RegularFile => {
                let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let write = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let mut source = std::fs::File::from(rustix::fs::openat(from, name, read, Mode::empty())?);
                let mut copy = std::fs::File::from(rustix::fs::openat(to, name, write, mode)?);
                io::copy(&mut source, &mut copy)?;
            }
            kind => rustix::fs::mknodat(to, name, kind, mode, stat.st_rdev)?,
        }
        let (uid, gid) = (
            rustix::fs::Uid::from_raw(stat.st_uid),
            rustix::fs::Gid::from_raw(stat.st_gid),
        );
        rustix::fs::chownat(to, name, Some(uid), Some(gid), rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}

fn open_dir(path_fd: &OwnedFd) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(
        path_fd,
        ".",
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

/// Shows the container its own cgroup. On v2 that is one mount; on v1 and hybrid one directory per hierarchy below a
/// small tmpfs, named after the controllers, as every tool expects it.
fn cgroup(root: &Root, mount: &MountPlan, plan: &Plan) -> io::Result<()> {
    let target = root.make_dir(&mount.destination)?;
    let group = catamaran_shim::cgroup::Cgroup::open(&plan.cgroup).map_err(io::Error::other)?;
    let dirs: Vec<&Path> = group.dirs().collect();
    if let [only] = dirs[..]
        && Some(only) == group.unified_dir()
    {
        let tree = open_tree(CWD, only, clone_flags(false))?;
        keep_off_proc(&mount.destination, &tree, &target)?;
        sys::mount_setattr(&tree, false, &mount.attr)?;
        return finish(mount, &tree, &target);
    }
    let mode = Parameter::Value("mode".into(), "755".into());
    let base = new_file_system("tmpfs", "tmpfs", &[mode], mount.attr.set & !READ_ONLY)?;
    keep_off_proc(&mount.destination, &base, &target)?;
    finish(mount, &base, &target)?;
    for dir in &dirs {
        let tree = open_tree(CWD, *dir, clone_flags(false))?;
        sys::mount_setattr(&tree, false, &mount.attr)?;
        let name = hierarchy_name(dir, &plan.cgroup);
        rustix::fs::mkdirat(&base, &name, Mode::from_raw_mode(0o755))?;
        let place = rustix::fs::openat(&base, &name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        attach(&tree, place.as_fd())?;
    }
    if mount.attr.set & READ_ONLY != 0 {
        sys::mount_setattr(
            &base,
            false,
            &MountAttr {
                set: READ_ONLY,
                ..MountAttr::default()
            },
        )?;
    }
    Ok(())
}

/// `/sys/fs/cgroup/cpu,cpuacct/pod/x` with cgroup `/pod/x` is `cpu,cpuacct`.
fn hierarchy_name(dir: &Path, cgroup: &str) -> PathBuf {
    let mount = relative(Path::new(cgroup))
        .components()
        .fold(dir, |path, _| path.parent().unwrap_or(path));
    mount.file_name().map_or_else(|| "cgroup".into(), PathBuf::from)
}

/// `/dev` is filled unless the spec binds a directory there whose content is its own affair.
pub(crate) fn owns_dev(plan: &Plan) -> bool {
    let binds_dev =
        |mount: &MountPlan| mount.destination == Path::new("/dev") && matches!(mount.what, What::Bind { .. });
    !plan.mounts.iter().any(binds_dev)
}

/// Hides and protects paths. Missing ones need no protection.
pub(crate) fn protect(root: &Root, plan: &Plan) -> Result<()> {
    for path in &plan.readonly_paths {
        make_read_only(root, path)
            .or_else(absent_is_fine)
            .step(|| format!("make {} read-only", path.display()))?;
    }
    for path in &plan.masked_paths {
        mask(root, path)
            .or_else(absent_is_fine)
            .step(|| format!("mask {}", path.display()))?;
    }
    Ok(())
}

fn absent_is_fine(error: io::Error) -> io::Result<()> {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR) => Ok(()),
        _ => Err(error),
    }
}

fn make_read_only(root: &Root, path: &Path) -> io::Result<()> {
    let target = root.resolve(path)?;
    let tree = open_tree(&target, "", clone_flags(true))?;
    sys::mount_setattr(
        &tree,
        true,
        &MountAttr {
            set: READ_ONLY,
            ..MountAttr::default()
        },
    )?;
    attach(&tree, target.as_fd())
}

/// A file becomes the host's null device, a directory an empty read-only one.
fn mask(root: &Root, path: &Path) -> io::Result<()> {
    let target = root.resolve(path)?;
    let cover = if file_type(&target)? == FileType::Directory {
        new_file_system(
            "tmpfs",
            "tmpfs",
            &[Parameter::Value("nr_inodes".into(), "2".into())],
            READ_ONLY,
        )?
    } else {
        open_tree(CWD, "/dev/null", clone_flags(false))?
    };
    attach(&cover, target.as_fd())
}

/// Makes the new root `/` and lets go of the host's files.
pub(crate) fn enter(root: &Root, plan: &Plan) -> Result<()> {
    if plan.no_pivot {
        move_over_root(root, plan)?;
    } else {
        pivot(root)?;
    }
    if matches!(plan.root_propagation.0, libc::MS_SHARED | libc::MS_UNBINDABLE) {
        let flags = propagation_flags(plan.root_propagation.0);
        let recursive = if plan.root_propagation.1 {
            MountPropagationFlags::REC
        } else {
            MountPropagationFlags::empty()
        };
        mount_change("/", flags | recursive).step(|| "set linux.rootfsPropagation".into())?;
    }
    if plan.read_only_root {
        let attr = MountAttr {
            set: READ_ONLY,
            ..MountAttr::default()
        };
        sys::mount_setattr(root.fd(), false, &attr).step(|| "make the root read-only".into())?;
    }
    Ok(())
}

fn pivot(root: &Root) -> Result<()> {
    rustix::process::fchdir(root.fd()).step(|| "enter the new root".into())?;
    rustix::process::pivot_root(".", ".").step(|| "pivot_root".into())?;
    // The old root now lies over the new one; nothing of its unmounting may reach the host.
    mount_change(".", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .step(|| "detach the old root".into())?;
    unmount(".", UnmountFlags::DETACH).step(|| "unmount the old root".into())?;
    rustix::process::chdir("/").step(|| "enter /".into())
}

fn move_over_root(root: &Root, plan: &Plan) -> Result<()> {
    // Whoever becomes root later could otherwise climb out of a chroot to file systems that were never covered.
    for path in ["/proc", "/sys"] {
        let _ = unmount(path, UnmountFlags::DETACH);
    }
    rustix::process::fchdir(root.fd()).step(|| "enter the new root".into())?;
    rustix::mount::mount_move(&plan.root, "/").step(|| "move the root over /".into())?;
    rustix::process::chroot(".").step(|| "chroot".into())?;
    rustix::process::chdir("/").step(|| "enter /".into())
}

/// Writes namespaced kernel parameters, through the host's `/proc`: the container's may be absent or read-only. Which
/// namespace they belong to is decided by the writer.
pub(crate) fn write_sysctls(plan: &Plan) -> Result<()> {
    for (path, value) in &plan.sysctls {
        std::fs::write(path, value).map_err(|source| Error::Step {
            step: format!("set {}", path.display()),
            source,
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn the_own_proc_is_the_kernels() {
        if !rustix::process::geteuid().is_root() {
            assert!(std::env::var_os("CI").is_none(), "needs root");
            println!("skipped: needs root");
            return;
        }
        let own = format!("/proc/self/task/{}/comm", rustix::process::getpid().as_raw_nonzero());
        let before = std::fs::read_to_string(&own).expect("a name");
        let mut comm = open_in_own_proc("self/comm").expect("opens");
        comm.write_all(b"tested").expect("written");
        assert_eq!(std::fs::read_to_string(&own).expect("a name").trim(), "tested");
        comm.write_all(before.trim().as_bytes()).expect("written");
        open_in_own_proc("self/root/dev/null").expect_err("a way out of it");
    }
}
