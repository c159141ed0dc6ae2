//! `/dev` of a container: device nodes, the links every program expects, and nothing else.

use crate::error::{Result, Step};
use crate::paths::Root;
use crate::plan::DevicePlan;
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, FileType, Gid, Mode, Uid};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
use std::io;
use std::path::Path;

/// Links in `/dev` and their targets.
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

pub(crate) fn populate(root: &Root, devices: &[DevicePlan]) -> Result<()> {
    let dev = root.make_dir(Path::new("/dev")).step(|| "create /dev".into())?;
    for device in devices {
        let make = || match device.path.strip_prefix("/dev") {
            // Nearly always: saves walking the path again.
            Ok(name) if name.components().count() == 1 => create(&dev, name.as_os_str(), device),
            _ => {
                let (parent, name) = root.parent(&device.path)?;
                create(&parent, name, device)
            }
        };
        make().step(|| format!("create device {}", device.path.display()))?;
    }
    for (name, target) in LINKS {
        link(&dev, name, target).step(|| format!("link /dev/{name}"))?;
    }
    if Path::new("/proc/kcore").exists() {
        link(&dev, "core", "/proc/kcore").step(|| "link /dev/core".into())?;
    }
    Ok(())
}

fn link(dev: &OwnedFd, name: &str, target: &str) -> io::Result<()> {
    match rustix::fs::symlinkat(target, dev, name) {
        // The image brings its own. A ptmx that is a device would open ptys of another instance.
        Err(Errno::EXIST) if name == "ptmx" => {
            rustix::fs::unlinkat(dev, name, rustix::fs::AtFlags::empty())?;
            Ok(rustix::fs::symlinkat(target, dev, name)?)
        }
        Err(Errno::EXIST) => Ok(()),
        other => Ok(other?),
    }
}

fn create(parent: &OwnedFd, name: &std::ffi::OsStr, device: &DevicePlan) -> io::Result<()> {
    let mode = Mode::from_raw_mode(device.mode);
    match rustix::fs::mknodat(parent, name, device.kind, mode, device.device) {
        Ok(()) if device.uid == 0 && device.gid == 0 => Ok(()),
        Ok(()) => {
            let (uid, gid) = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
            Ok(rustix::fs::chownat(
                parent,
                name,
                Some(uid),
                Some(gid),
                rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
            )?)
        }
        Err(Errno::EXIST) => check_same(parent, name, device),
        // Not root on the host (a user namespace): only the host's own node can be shown.
        Err(Errno::PERM) if device.kind != FileType::Fifo => bind_host_node(parent, name, device),
        Err(errno) => Err(errno.into()),
    }
}

/// What stands there must be the device that was asked for, not a trap of the image.
fn check_same(parent: &OwnedFd, name: &std::ffi::OsStr, device: &DevicePlan) -> io::Result<()> {
    let stat = rustix::fs::statat(parent, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) == device.kind && stat.st_rdev == device.device {
        return Ok(());
    }
    Err(io::Error::other("something else of that name exists"))
}

fn bind_host_node(parent: &OwnedFd, name: &std::ffi::OsStr, device: &DevicePlan) -> io::Result<()> {
    use rustix::fs::OFlags;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(CWD, &device.path, flags)?;
    let create = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::WRONLY;
    rustix::fs::openat(parent, name, create, Mode::from_raw_mode(0o644))?;
    Ok(move_mount(
        &tree,
        "",
        parent,
        name,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )?)
}
