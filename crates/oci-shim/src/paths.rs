//! Paths of the container, resolved inside it.
//!
//! An image may contain any symbolic link; a mount target that follows one out of the container would change the host.
//! Every resolution therefore goes through `openat2` with the container's root as the root of the walk, and what is
//! missing is created one component at a time, relative to a directory that is already held open.

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// The container's root directory, before and after it becomes `/`.
#[derive(Debug)]
pub(crate) struct Root {
    fd: OwnedFd,
}

impl Root {
    pub(crate) fn open(path: &Path) -> io::Result<Root> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Root {
            fd: rustix::fs::open(path, flags, Mode::empty())?,
        })
    }

    pub(crate) fn from_fd(fd: OwnedFd) -> Root {
        Root { fd }
    }

    pub(crate) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// Resolves an existing path, symbolic links included, without leaving the root.
    pub(crate) fn resolve(&self, path: &Path) -> io::Result<OwnedFd> {
        self.open_at(path, OFlags::PATH)
    }

    /// As [`Root::resolve`], and opens what is there.
    pub(crate) fn open_at(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        resolve(&self.fd, &relative(path), flags, ResolveFlags::IN_ROOT)
    }

    /// Resolves a path in which nothing may be a symbolic link: where a file system must be at its well-known place.
    pub(crate) fn resolve_plain(&self, path: &Path) -> io::Result<OwnedFd> {
        resolve(
            &self.fd,
            &relative(path),
            OFlags::PATH,
            ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS,
        )
    }

    /// Resolves a directory; missing components are created with mode 0755.
    pub(crate) fn make_dir(&self, path: &Path) -> io::Result<OwnedFd> {
        match self.open_at(path, OFlags::PATH | OFlags::DIRECTORY) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.make_missing(path),
            other => other,
        }
    }

    /// Resolves a file; if it is missing, an empty one is created, with its directories.
    pub(crate) fn make_file(&self, path: &Path) -> io::Result<OwnedFd> {
        match self.resolve(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        let path = relative(path);
        let (parent, name) = split(&path)?;
        let parent = self.make_dir(parent)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::WRONLY;
        rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o644)).map_err(dangling)?;
        resolve(
            &parent,
            Path::new(name),
            OFlags::PATH | OFlags::NOFOLLOW,
            ResolveFlags::empty(),
        )
    }

    /// The directory that holds `path` (created if missing) and the last component.
    pub(crate) fn parent<'p>(&self, path: &'p Path) -> io::Result<(OwnedFd, &'p std::ffi::OsStr)> {
        let (parent, name) = split(path)?;
        Ok((self.make_dir(parent)?, name))
    }

    fn make_missing(&self, path: &Path) -> io::Result<OwnedFd> {
        let mut so_far = PathBuf::new();
        let mut current = resolve(&self.fd, Path::new("."), OFlags::PATH, ResolveFlags::IN_ROOT)?;
        for component in relative(path).components() {
            let Component::Normal(name) = component else { continue };
            so_far.push(name);
            let next = || self.open_at(&so_far, OFlags::PATH | OFlags::DIRECTORY);
            current = match next() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    rustix::fs::mkdirat(&current, name, Mode::from_raw_mode(0o755)).map_err(dangling)?;
                    next()?
                }
                other => other?,
            };
        }
        Ok(current)
    }
}

/// Something stands there, yet it could not be resolved: a link to nowhere.
fn dangling(errno: Errno) -> io::Error {
    match errno {
        Errno::EXIST => io::Error::other("a symbolic link on the way leads nowhere"),
        other => other.into(),
    }
}

fn split(path: &Path) -> io::Result<(&Path, &std::ffi::OsStr)> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok((parent, name)),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// Without the leading slash, `.` and `..` resolved by their names: `..` never climbs above the root.
pub(crate) fn relative(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => drop(clean.pop()),
            _ => {}
        }
    }
    if clean.as_os_str().is_empty() {
        ".".into()
    } else {
        clean
    }
}

fn resolve(dir: &OwnedFd, path: &Path, flags: OFlags, how: ResolveFlags) -> io::Result<OwnedFd> {
    let how = how | ResolveFlags::NO_MAGICLINKS;
    loop {
        match rustix::fs::openat2(
            dir.as_fd(),
            path.as_os_str().as_bytes(),
            flags | OFlags::CLOEXEC,
            Mode::empty(),
            how,
        ) {
            // A rename or mount somewhere raced with the walk; the kernel asks to try again.
            Err(Errno::AGAIN) => {}
            other => return Ok(other?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn root() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().expect("temporary directory");
        let root = Root::open(dir.path()).expect("opens");
        (dir, root)
    }

    #[test]
    fn absolute_and_climbing_links_stay_inside() {
        let (dir, root) = root();
        symlink("/etc", dir.path().join("a")).expect("link");
        symlink("../../../../..", dir.path().join("up")).expect("link");
        root.make_dir(Path::new("/a/x"))
            .expect_err("the link leads nowhere inside");
        std::fs::create_dir(dir.path().join("etc")).expect("etc");
        root.make_dir(Path::new("/a/x/y")).expect("created");
        assert!(dir.path().join("etc/x/y").is_dir());
        root.make_file(Path::new("/up/z/file")).expect("created");
        assert!(dir.path().join("z/file").is_file());
    }

    #[test]
    fn a_link_as_last_component_is_followed_inside_only() {
        let (dir, root) = root();
        symlink("/etc/passwd", dir.path().join("f")).expect("link");
        let error = root.make_file(Path::new("/f")).expect_err("dangling inside");
        assert!(error.to_string().contains("leads nowhere"), "{error}");
        root.resolve_plain(Path::new("/f")).expect_err("a link");
    }

    #[test]
    fn dots_are_resolved_by_name() {
        assert_eq!(relative(Path::new("/../a/./b/../c")), Path::new("a/c"));
        assert_eq!(relative(Path::new("/")), Path::new("."));
    }
}
