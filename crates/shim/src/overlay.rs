//! Root file systems: an overlay of image layers, with a writable layer on top or none.
//!
//! The option string of `mount(2)` is one page and gives `:`, `,` and `\` a meaning. So the layers are given one by one
//! through the new mount API (`lowerdir+`, since Linux 6.8). On older kernels they are named in the string where it can hold
//! their names, since that is what the mount table shows of them afterwards, and else by `/proc/self/fd/N`: a dozen bytes
//! each with nothing in them to escape. Either way the mount appears in the caller's mount namespace only.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, fsconfig_create, fsconfig_set_string,
    fsmount, fsopen, mount, mount_bind, mount_remount, move_mount,
};
use std::ffi::CString;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// Longest option string of `mount(2)`: a page, without its terminating zero.
const OPTIONS_MAX: usize = 4095;
/// Longest value `fsconfig(2)` takes, without its terminating zero.
const FSCONFIG_VALUE_MAX: usize = 255;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("an overlay needs at least one lower directory")]
    NoLayers,
    #[error("cannot open layer {}", path.display())]
    Layer { path: PathBuf, source: io::Error },
    #[error("cannot mount the overlay of {layers} layers at {}", target.display())]
    Mount {
        target: PathBuf,
        layers: usize,
        source: io::Error,
    },
}

/// The writable layer: two directories of one file system, the second one empty.
#[derive(Clone, Copy, Debug)]
pub struct Writable<'a> {
    pub upper: &'a Path,
    pub work: &'a Path,
}

/// Mounts `lower_dirs` (uppermost first) at `target`; read-only unless there is a writable layer.
///
/// # Errors
/// A layer that cannot be opened is named. Nothing stays mounted then.
pub fn mount_overlay(lower_dirs: &[PathBuf], writable: Option<Writable<'_>>, target: &Path) -> Result<(), Error> {
    let lower = lower_dirs
        .iter()
        .map(|path| Layer::open(path))
        .collect::<Result<Vec<_>, _>>()?;
    let top = match writable {
        Some(Writable { upper, work }) => Some((Layer::open(upper)?, Layer::open(work)?)),
        None => None,
    };
    let failed = |source| Error::Mount {
        target: target.to_owned(),
        layers: lower.len(),
        source,
    };
    match (lower.as_slice(), &top) {
        ([], _) => Err(Error::NoLayers),
        // The kernel refuses an overlay of one directory with nothing to lay over it.
        ([only], None) => bind_read_only(only, target).map_err(failed),
        _ => match mount_by_parts(&lower, top.as_ref(), target) {
            Err(error) if unsupported(&error) => mount_by_options(&lower, top.as_ref(), target).map_err(failed),
            done => done.map_err(failed),
        },
    }
}

/// A directory held open, and how the kernel may be told of it.
struct Layer<'a> {
    path: &'a Path,
    fd: OwnedFd,
}

impl<'a> Layer<'a> {
    fn open(path: &'a Path) -> Result<Layer<'a>, Error> {
        let fd = rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        fd.map(|fd| Layer { path, fd }).map_err(|error| Error::Layer {
            path: path.to_owned(),
            source: error.into(),
        })
    }

    fn by_descriptor(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.fd.as_raw_fd()))
    }

    /// The path itself where that is unambiguous: it is what `/proc/self/mountinfo` will show.
    fn name(&self) -> PathBuf {
        let bytes = self.path.as_os_str().as_encoded_bytes();
        let plain = bytes.len() <= FSCONFIG_VALUE_MAX && self.path.is_absolute() && !bytes.contains(&b'\\');
        if plain {
            self.path.to_owned()
        } else {
            self.by_descriptor()
        }
    }
}

/// What kernels answer that lack the new mount API (`ENOSYS`) or `lowerdir+` (`EINVAL`).
fn unsupported(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOSYS | libc::EINVAL | libc::EOPNOTSUPP)
    )
}

fn mount_by_parts(lower: &[Layer<'_>], top: Option<&(Layer<'_>, Layer<'_>)>, target: &Path) -> io::Result<()> {
    let context = fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for layer in lower {
        fsconfig_set_string(context.as_fd(), c"lowerdir+", layer.name())?;
    }
    if let Some((upper, work)) = top {
        fsconfig_set_string(context.as_fd(), c"upperdir", upper.name())?;
        fsconfig_set_string(context.as_fd(), c"workdir", work.name())?;
    }
    fsconfig_create(context.as_fd())?;
    let attributes = if top.is_none() {
        MountAttrFlags::MOUNT_ATTR_RDONLY
    } else {
        MountAttrFlags::empty()
    };
    let mounted = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    attach(mounted.as_fd(), target)
}

fn attach(mounted: BorrowedFd<'_>, target: &Path) -> io::Result<()> {
    Ok(move_mount(
        mounted,
        c"",
        CWD,
        target,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )?)
}

fn mount_by_options(lower: &[Layer<'_>], top: Option<&(Layer<'_>, Layer<'_>)>, target: &Path) -> io::Result<()> {
    let options = CString::new(option_string(lower, top)).map_err(io::Error::other)?;
    let flags = if top.is_none() {
        MountFlags::RDONLY
    } else {
        MountFlags::empty()
    };
    Ok(mount(c"overlay", target, c"overlay", flags, options.as_c_str())?)
}

fn option_string(lower: &[Layer<'_>], top: Option<&(Layer<'_>, Layer<'_>)>) -> String {
    let by_name = spell(lower, top, plain_name).filter(|options| options.len() <= OPTIONS_MAX);
    let by_descriptor = || spell(lower, top, |layer| Some(layer.by_descriptor().display().to_string()));
    by_name.or_else(by_descriptor).unwrap_or_default()
}

/// The path, if an option string can hold it as it is.
fn plain_name(layer: &Layer<'_>) -> Option<String> {
    let plain = |path: &&str| path.starts_with('/') && !path.contains([':', ',', '\\']);
    layer.path.to_str().filter(plain).map(str::to_owned)
}

/// The options with every layer called what `name` says; `None` if it has no name for one of them.
fn spell(
    lower: &[Layer<'_>],
    top: Option<&(Layer<'_>, Layer<'_>)>,
    name: impl Fn(&Layer<'_>) -> Option<String>,
) -> Option<String> {
    let names = lower.iter().map(&name).collect::<Option<Vec<_>>>()?;
    let mut options = format!("lowerdir={}", names.join(":"));
    if let Some((upper, work)) = top {
        options.push_str(&format!(",upperdir={},workdir={}", name(upper)?, name(work)?));
    }
    Some(options)
}

fn bind_read_only(layer: &Layer<'_>, target: &Path) -> io::Result<()> {
    mount_bind(layer.by_descriptor(), target)?;
    Ok(mount_remount(target, MountFlags::BIND | MountFlags::RDONLY, c"")?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn layers_are_checked_before_anything_is_mounted() {
        let missing = mount_overlay(&["/nonexistent/layer".into()], None, Path::new("/nonexistent"));
        assert_eq!(missing.unwrap_err().to_string(), "cannot open layer /nonexistent/layer");
        assert!(matches!(
            mount_overlay(&[], None, Path::new("/nonexistent")),
            Err(Error::NoLayers)
        ));
    }

    #[test]
    fn odd_paths_travel_as_descriptors() {
        let base = tempfile::tempdir().unwrap();
        let long = base.path().join("x".repeat(200)).join("y".repeat(100));
        let slashed = base.path().join("back\\slash");
        for path in [&long, &slashed] {
            fs::create_dir_all(path).unwrap();
            assert!(
                Layer::open(path).unwrap().name().starts_with("/proc/self/fd"),
                "{path:?}"
            );
        }
        let colons = base.path().join("a:b,c d");
        fs::create_dir(&colons).unwrap();
        assert_eq!(Layer::open(&colons).unwrap().name(), colons);
        let layers = [Layer::open(&colons).unwrap(), Layer::open(&long).unwrap()];
        assert!(!option_string(&layers, None).contains("a:b"));
        let (plain, long) = (Layer::open(base.path()).unwrap(), Layer::open(&long).unwrap());
        let shown = base.path().display();
        assert!(option_string(std::slice::from_ref(&plain), None).ends_with(&format!("={shown}")));
        let many: Vec<Layer<'_>> = (0..20).map(|_| Layer::open(long.path).unwrap()).collect();
        assert!(option_string(&many, None).starts_with("lowerdir=/proc/self/fd/"));
    }
}
