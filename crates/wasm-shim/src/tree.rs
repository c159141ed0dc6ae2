//! The files a wasm container sees: a mount namespace of its own with nothing in it but the image and the volumes.
//!
//! The guest only reaches directories it was handed, so the tree is not what keeps it in. It is there for what the
//! sandbox's rules cannot give: volumes inside an image's directories, single files, read-only mounts that hold whatever
//! the host code does, and `/etc/hosts` and `/etc/resolv.conf` for name lookups. Should the engine be broken out of,
//! there is no host file to be found.

use crate::guest::GuestDir;
use crate::sys::{self, Extent};
use catamaran_shim::overlay::{self, Writable};
use catamaran_shim::spec::{Preopen, WasmSpec};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

const ROOT_MODE: Mode = Mode::from_raw_mode(0o755);
const FILE_MODE: Mode = Mode::from_raw_mode(0o644);

/// Contents of the root of an artifact without files: mount points only.
const EMPTY_ROOT_OPTIONS: &std::ffi::CStr = c"mode=0755,size=64k,nr_inodes=4k";

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot {step}")]
    Step { step: &'static str, source: io::Error },
    #[error("cannot mount the root file system")]
    Root(#[source] overlay::Error),
    #[error("cannot make the mount point {path}")]
    MountPoint { path: String, source: io::Error },
    #[error("cannot mount {} at {path}", host.display())]
    Bind {
        host: PathBuf,
        path: String,
        source: io::Error,
    },
}

fn step(step: &'static str) -> impl Fn(rustix::io::Errno) -> Error {
    move |errno| Error::Step {
        step,
        source: errno.into(),
    }
}

/// Builds the tree below `<bundle>/rootfs` in a new mount namespace and makes it the root. Needs one thread and
/// `CAP_SYS_ADMIN`.
pub(crate) fn enter(spec: &WasmSpec, bundle: &Path) -> Result<(), Error> {
    sys::new_mount_namespace().map_err(|source| Error::Step {
        step: "make a mount namespace",
        source,
    })?;
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(step("make mounts private"))?;
    let root = bundle.join("rootfs");
    std::fs::create_dir_all(&root).map_err(|source| Error::Step {
        step: "make the root directory",
        source,
    })?;
    mount_root(spec, bundle, &root)?;
    let root_fd = rustix::fs::open(&root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(step("open the root directory"))?;
    for preopen in &spec.preopens {
        mount_preopen(root_fd.as_fd(), preopen)?;
    }
    if spec.writable_layer.is_none() {
        remount_read_only(root_fd.as_fd(), Extent::ThisMount).map_err(step("make the root read-only"))?;
    }
    rustix::process::fchdir(&root_fd).map_err(step("enter the root directory"))?;
    rustix::process::pivot_root(".", ".").map_err(step("change the root"))?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).map_err(step("detach the host's files"))?;
    rustix::process::chdir("/").map_err(step("enter the new root"))
}

fn mount_root(spec: &WasmSpec, bundle: &Path, root: &Path) -> Result<(), Error> {
    if spec.lower_dirs.is_empty() {
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        return rustix::mount::mount("tmpfs", root, "tmpfs", flags, EMPTY_ROOT_OPTIONS)
            .map_err(step("mount an empty root"));
    }
    // A read-only image still needs mount points: they go to a layer beside the bundle that is gone with it.
    let layer = spec
        .writable_layer
        .clone()
        .unwrap_or_else(|| bundle.join("mount-points"));
    let (upper, work) = (layer.join("upper"), layer.join("work"));
    for directory in [&upper, &work] {
        std::fs::create_dir_all(directory).map_err(|source| Error::Step {
            step: "make the writable layer",
            source,
        })?;
    }
    overlay::mount_overlay(
        &spec.lower_dirs,
        Some(Writable {
            upper: &upper,
            work: &work,
        }),
        root,
    )
    .map_err(Error::Root)
}

fn mount_preopen(root: BorrowedFd<'_>, preopen: &Preopen) -> Result<(), Error> {
    let failed = |source: io::Error| Error::Bind {
        host: preopen.host_path.clone(),
        path: preopen.guest_path.clone(),
        source,
    };
    let directory = std::fs::metadata(&preopen.host_path).map_err(failed)?.is_dir();
    let guest = relative(&preopen.guest_path);
    let target = make_mount_point(root, &guest, directory).map_err(|source| Error::MountPoint {
        path: preopen.guest_path.clone(),
        source,
    })?;
    let bind = || -> io::Result<()> {
        rustix::mount::mount_bind_recursive(&preopen.host_path, fd_path(target.as_fd()))?;
        if preopen.read_only {
            // A second look: the first descriptor is of what the mount has covered.
            remount_read_only(open_in(root, &guest)?.as_fd(), Extent::Recursive)?;
        }
        Ok(())
    };
    bind().map_err(failed)
}

/// Opens `path` below `root`, making what is missing. Symbolic links are followed inside the root only.
fn make_mount_point(root: BorrowedFd<'_>, path: &Path, directory: bool) -> io::Result<OwnedFd> {
    match open_in(root, path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        found => return found,
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let parent = make_mount_point(root, parent, true)?;
    if directory {
        rustix::fs::mkdirat(&parent, name, ROOT_MODE)?;
    } else {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        rustix::fs::openat(&parent, name, flags, FILE_MODE)?;
    }
    open_in(root, path)
}

fn open_in(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    Ok(rustix::fs::openat2(
        root,
        path,
        flags,
        Mode::empty(),
        ResolveFlags::IN_ROOT,
    )?)
}

/// `path` without its root and without `.` and `..`, which mean nothing in a mount point.
fn relative(path: &str) -> PathBuf {
    Path::new(path)
        .components()
        .filter(|component| matches!(component, Component::Normal(_)))
        .collect()
}

fn fd_path(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

fn remount_read_only(mount: BorrowedFd<'_>, extent: Extent) -> rustix::io::Result<()> {
    if sys::make_read_only(mount, extent).is_ok() {
        return Ok(());
    }
    // Before Linux 5.12: this mount only. Flags the mount already has must be repeated.
    let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount_remount(fd_path(mount), flags, c"")
}

/// The directories to hand to the guest, in the order of its descriptors. Call inside the tree.
///
/// An image's root comes first, as other runtimes have it. A bare artifact gets its volumes first, so that a program
/// with one volume finds it at descriptor 3, and the (read-only) root last, through which it finds single files. Where
/// directories overlap, the C library of the guest takes the longest matching one.
pub(crate) fn guest_dirs(spec: &WasmSpec) -> Vec<GuestDir> {
    let volumes = spec.preopens.iter().filter(|preopen| is_directory(&preopen.guest_path));
    let volumes = volumes.map(|preopen| GuestDir {
        path: preopen.guest_path.clone(),
        read_only: preopen.read_only,
    });
    let root = GuestDir {
        path: "/".to_owned(),
        read_only: spec.writable_layer.is_none(),
    };
    if spec.lower_dirs.is_empty() {
        volumes
            .chain([GuestDir {
                read_only: true,
                ..root
            }])
            .collect()
    } else {
        std::iter::once(root).chain(volumes).collect()
    }
}

fn is_directory(path: &str) -> bool {
    rustix::fs::statat(CWD, path, AtFlags::empty())
        .is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_never_climb() {
        assert_eq!(relative("/data"), Path::new("data"));
        assert_eq!(relative("/../../etc/./hosts"), Path::new("etc/hosts"));
        assert_eq!(relative("/"), Path::new(""));
    }

    #[test]
    fn missing_mount_points_are_made_inside_the_root() {
        let root = tempfile::tempdir().expect("temporary directory");
        std::fs::create_dir(root.path().join("run")).expect("directory");
        std::fs::create_dir(root.path().join("var")).expect("directory");
        std::os::unix::fs::symlink("/run", root.path().join("var/run")).expect("link");
        let fd = rustix::fs::open(root.path(), OFlags::PATH, Mode::empty()).expect("open");
        make_mount_point(fd.as_fd(), Path::new("var/run/secrets/token"), false).expect("made");
        assert!(root.path().join("run/secrets/token").is_file());
        make_mount_point(fd.as_fd(), Path::new("a/b/c"), true).expect("made");
        assert!(root.path().join("a/b/c").is_dir());
        std::fs::write(root.path().join("file"), "").expect("file");
        assert!(make_mount_point(fd.as_fd(), Path::new("file/below"), true).is_err());
    }
}
