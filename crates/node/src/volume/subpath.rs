//! `subPath`: a part of a volume, resolved so that nobody inside the pod can redirect it.
//!
//! The path is opened with `openat2(RESOLVE_IN_ROOT)` below the volume and what was opened is pinned by a mount below the
//! pod's directory. The container then gets the pinned mount: a link planted later changes nothing.

use super::atomic::open_directory;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, mkdirat, openat2, statat};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
use std::fs;
use std::io;
use std::path::{Component, Path};

/// What a pinned path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Directory,
    File,
}

/// Mounts `relative` of the volume at `volume` onto `pin_at`, making directories that are missing. Blocking.
///
/// # Errors
/// The path leaves the volume, or cannot be made or mounted.
pub(crate) fn pin(volume: &Path, relative: &str, pin_at: &Path) -> io::Result<Target> {
    let relative = Path::new(relative);
    if relative
        .components()
        .any(|component| !matches!(component, Component::Normal(_) | Component::CurDir))
    {
        return Err(io::Error::other(format!(
            "subPath {} must be relative and stay in the volume",
            relative.display()
        )));
    }
    let root = open_directory(volume)?;
    let opened = open_or_create(&root, relative)?;
    let directory = FileType::from_raw_mode(statat(&opened, "", AtFlags::EMPTY_PATH)?.st_mode) == FileType::Directory;
    if let Some(parent) = pin_at.parent() {
        fs::create_dir_all(parent)?;
    }
    if directory {
        fs::create_dir_all(pin_at)?;
    } else {
        fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(pin_at)?;
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = open_tree(&opened, "", flags)?;
    move_mount(
        &tree,
        "",
        rustix::fs::CWD,
        pin_at,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )?;
    Ok(if directory { Target::Directory } else { Target::File })
}

fn open_or_create(root: &OwnedFd, relative: &Path) -> io::Result<OwnedFd> {
    match resolve(root, relative) {
        Err(Errno::NOENT) => {}
        other => return Ok(other?),
    }
    // New directories are as open as the volume itself, so that the users the volume is for can use them.
    let mode = Mode::from_raw_mode(statat(root, "", AtFlags::EMPTY_PATH)?.st_mode & 0o7777);
    let mut made = std::path::PathBuf::new();
    for component in relative.components() {
        let parent = if made.as_os_str().is_empty() {
            None
        } else {
            Some(resolve(root, &made)?)
        };
        made.push(component);
        let parent = parent.as_ref().unwrap_or(root);
        match mkdirat(parent, component.as_os_str(), mode) {
            // The umask took bits away.
            Ok(()) => rustix::fs::chmodat(parent, component.as_os_str(), mode, AtFlags::empty())?,
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(resolve(root, relative)?)
}

fn resolve(root: &OwnedFd, relative: &Path) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    openat2(root, relative, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)
}
