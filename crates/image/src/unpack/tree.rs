//! Writes entries of one layer into its directory, in overlayfs form, and nowhere else.
//!
//! A layer's paths mean the merged tree: `lib/x` may go through a symlink `lib` that a lower layer made. So every parent is
//! walked here, component by component: first in this layer, then in the lower ones, symlinks resolved by us against the
//! merged root (as `chroot` would), `..` stopping at it. The kernel only ever sees one symlink-free path relative to the
//! layer's root, opened with `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS`; whatever an archive says, there is no path out.
//!
//! Whiteouts become overlayfs': `.wh.x` a character device 0/0 `x`, `.wh..wh..opq` the xattr `trusted.overlay.opaque`.
//! Those xattrs coming from an archive are dropped: they would let an image redirect paths.

use std::collections::{HashSet, VecDeque};
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{self as rfs, AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, XattrFlags};
use rustix::io::Errno;

use super::lower::{Found, Lowers};
use super::node::{copy_metadata, copy_up, create, mtime_of, set_metadata, special, symlink, times, write_data};
use super::tar::{Entry, Kind};

/// Deeper trees exhaust file descriptors of whoever has to remove them.
const MAX_DEPTH: usize = 256;
pub(super) const MAX_PATH: usize = 4095;
/// As the kernel's own.
const MAX_SYMLINKS: usize = 40;
const OPAQUE: &str = "trusted.overlay.opaque";

/// Why an entry was not written.
#[derive(Debug)]
pub(super) enum TreeError {
    Refused(String),
    Io(io::Error),
}

impl From<io::Error> for TreeError {
    fn from(error: io::Error) -> TreeError {
        TreeError::Io(error)
    }
}

impl From<Errno> for TreeError {
    fn from(error: Errno) -> TreeError {
        TreeError::Io(error.into())
    }
}

pub(super) fn refused<T>(reason: impl Into<String>) -> Result<T, TreeError> {
    Err(TreeError::Refused(reason.into()))
}

/// Path components without `.`, `..` and empty ones.
pub(super) type Components = Vec<Vec<u8>>;

pub(super) struct Tree {
    root: OwnedFd,
    lowers: Lowers,
    /// Directories of this layer that hide what is below them.
    opaque: HashSet<Components>,
    /// The parent last walked to, as the archive spelled it.
    cached: Option<(Components, Parent)>,
    /// Directory times, set at the end because filling a directory changes them.
    times: Vec<(Components, (i64, u32))>,
}

#[derive(Debug)]
struct Parent {
    fd: OwnedFd,
    /// Free of symlinks.
    path: Components,
}

impl Parent {
    fn try_clone(&self) -> io::Result<Parent> {
        Ok(Parent {
            fd: self.fd.try_clone()?,
            path: self.path.clone(),
        })
    }
}

impl Tree {
    /// `lowers` are the unpacked layers below, topmost first.
    pub(super) fn new(root: &Path, lowers: &[impl AsRef<Path>]) -> Result<Tree, TreeError> {
        let root = open_dir(rfs::CWD, root.as_os_str().as_bytes(), ResolveFlags::empty())?;
        let lowers = Lowers::open(lowers)?;
        let writable = rfs::openat(
            &root,
            c".",
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        // Until an entry says otherwise, the root is what it was below.
        let mtime = match lowers.root()? {
            Some((below, metadata)) => {
                copy_metadata(below, &metadata, &writable)?;
                mtime_of(&metadata)
            }
            None => {
                rfs::fchmod(&writable, Mode::from_raw_mode(0o755))?;
                (0, 0)
            }
        };
        let times = vec![(Components::new(), mtime)];
        Ok(Tree {
            root,
            lowers,
            opaque: HashSet::new(),
            cached: None,
            times,
        })
    }

    /// Applies one entry. `data` gives a file's content: it fills the buffer and returns 0 at the end.
    pub(super) fn apply<E>(
        &mut self,
        entry: &Entry,
        data: &mut dyn FnMut(&mut [u8]) -> Result<usize, E>,
    ) -> Result<(), TreeError>
    where
        TreeError: From<E>,
    {
        let mut path = components(&entry.path)?;
        let Some(name) = path.pop() else {
            return match entry.kind {
                Kind::Directory => self.set_directory(
                    &Parent {
                        fd: self.root.try_clone()?,
                        path,
                    },
                    entry,
                ),
                _ => refused("the root must be a directory"),
            };
        };
        if let Some(hidden) = name.strip_prefix(b".wh.") {
            return self.whiteout(&path, hidden);
        }
        if let Kind::Other(flag) = entry.kind {
            return match flag {
                b'V' => Ok(()),
                flag => refused(format!("unsupported entry type {:?}", char::from(flag))),
            };
        }
        let parent = self.parent(&path)?;
        if entry.kind == Kind::Directory {
            return self.directory(&parent, &name, entry);
        }
        let source = if entry.kind == Kind::Hardlink {
            Some(self.link_source(&entry.link, &parent)?)
        } else {
            None
        };
        if let Some((source, source_name)) = &source
            && source.path == parent.path
            && *source_name == name
        {
            return Ok(());
        }
        self.clear(&parent, &name)?;
        match entry.kind {
            Kind::Hardlink => {
                let (source, source_name) = source.ok_or(Errno::NOENT)?;
                rfs::linkat(&source.fd, os(&source_name), &parent.fd, os(&name), AtFlags::empty())?;
                Ok(())
            }
            Kind::File => {
                let fd = create(&parent.fd, &name)?;
                write_data(&fd, entry, data)?;
                set_metadata(&fd, entry)
            }
            Kind::Symlink => symlink(&parent.fd, &name, entry),
            kind => special(&parent.fd, &name, kind, entry),
        }
    }

    /// Sets what had to wait until all entries were written.
    pub(super) fn finish(self) -> Result<(), TreeError> {
        for (path, mtime) in &self.times {
            // A later entry may have replaced the directory: then its time went with it.
            match self.open_beneath(path) {
                Ok(fd) => rfs::utimensat(&fd, c".", &times(*mtime), AtFlags::empty())?,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(error) => return Err(error.into()),
            }
        }
        rfs::syncfs(rfs::openat(
            &self.root,
            c".",
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )?)?;
        Ok(())
    }

    fn directory(&mut self, parent: &Parent, name: &[u8], entry: &Entry) -> Result<(), TreeError> {
        let mut path = parent.path.clone();
        path.push(name.to_vec());
        match stat(&parent.fd, name)? {
            Some(existing) if is_dir(&existing) => {}
            existing => {
                let was_whiteout = existing.as_ref().is_some_and(is_whiteout);
                if existing.is_some() {
                    self.clear(parent, name)?;
                }
                rfs::mkdirat(&parent.fd, os(name), Mode::from_raw_mode(0o700))?;
                if was_whiteout {
                    self.make_opaque(path.clone())?;
                }
            }
        }
        let fd = open_dir(&parent.fd, name, BENEATH)?;
        self.set_directory(&Parent { fd, path }, entry)
    }

    fn set_directory(&mut self, directory: &Parent, entry: &Entry) -> Result<(), TreeError> {
        let fd = rfs::openat(
            &directory.fd,
            c".",
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        set_metadata(&fd, entry)?;
        self.times.push((directory.path.clone(), entry.mtime));
        Ok(())
    }

    fn whiteout(&mut self, path: &[Vec<u8>], hidden: &[u8]) -> Result<(), TreeError> {
        match hidden {
            b"" | b"." | b".." => refused("a whiteout of nothing"),
            b".wh..opq" => {
                let parent = self.parent(path)?;
                self.make_opaque(parent.path)
            }
            // aufs' own bookkeeping, which some old images carry.
            _ if hidden.starts_with(b".wh.") => Ok(()),
            _ => {
                let parent = self.parent(path)?;
                match stat(&parent.fd, hidden)? {
                    // A whiteout concerns lower layers, wherever in the archive it stands.
                    Some(existing) if is_dir(&existing) => {
                        let mut path = parent.path;
                        path.push(hidden.to_vec());
                        self.make_opaque(path)
                    }
                    Some(_) => Ok(()),
                    None => {
                        rfs::mknodat(&parent.fd, os(hidden), FileType::CharacterDevice, Mode::empty(), 0)?;
                        Ok(())
                    }
                }
            }
        }
    }

    fn make_opaque(&mut self, path: Components) -> Result<(), TreeError> {
        let fd = self.open_beneath(&path)?;
        let fd = rfs::openat(
            &fd,
            c".",
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        rfs::fsetxattr(&fd, OPAQUE, b"y", XattrFlags::empty())?;
        self.opaque.insert(path);
        self.cached = None;
        Ok(())
    }

    /// Removes what stands where an entry goes.
    fn clear(&mut self, parent: &Parent, name: &[u8]) -> Result<(), TreeError> {
        let Some(existing) = stat(&parent.fd, name)? else {
            return Ok(());
        };
        self.cached = None;
        if is_dir(&existing) {
            // The path is below our own root and free of symlinks, and nobody else writes here.
            let path = format!("/proc/self/fd/{}", parent.fd.as_raw_fd());
            std::fs::remove_dir_all(Path::new(&path).join(os(name)))?;
            let mut gone = parent.path.clone();
            gone.push(name.to_vec());
            self.opaque.retain(|path| !path.starts_with(&gone));
        } else {
            rfs::unlinkat(&parent.fd, os(name), AtFlags::empty())?;
        }
        Ok(())
    }

    /// What a hard link points to, in this layer; copied up from a lower one if it is only there.
    fn link_source(&mut self, link: &[u8], parent: &Parent) -> Result<(Parent, Vec<u8>), TreeError> {
        let mut path = components(link)?;
        let Some(source_name) = path.pop() else {
            return refused("a hard link to the root");
        };
        let source = if path == parent.path {
            parent.try_clone()?
        } else {
            self.parent(&path)?
        };
        match stat(&source.fd, &source_name)? {
            Some(existing) if is_dir(&existing) => refused("a hard link to a directory"),
            Some(existing) if is_whiteout(&existing) => refused("a hard link to a deleted file"),
            Some(_) => Ok((source, source_name)),
            None => {
                let mut whole = source.path.clone();
                whole.push(source_name.clone());
                let Some(Found::Other(lower, lower_stat)) = self.find_lower(&whole)? else {
                    return refused(format!(
                        "the target {:?} of the hard link does not exist",
                        String::from_utf8_lossy(link)
                    ));
                };
                copy_up(&lower, &source_name, &lower_stat, &source.fd)?;
                Ok((source, source_name))
            }
        }
    }

    /// Looks below this layer, unless a directory of this layer hides it.
    fn find_lower(&self, path: &[Vec<u8>]) -> io::Result<Option<Found>> {
        let hidden = !self.opaque.is_empty() && (0..path.len()).any(|end| self.opaque.contains(&path[..end]));
        if hidden { Ok(None) } else { self.lowers.find(path) }
    }

    /// The directory that an entry goes into, made as far as it is missing.
    fn parent(&mut self, path: &[Vec<u8>]) -> Result<Parent, TreeError> {
        if let Some((cached, parent)) = &self.cached
            && cached.as_slice() == path
        {
            return Ok(parent.try_clone()?);
        }
        let parent = self.walk(path)?;
        self.cached = Some((path.to_vec(), parent.try_clone()?));
        Ok(parent)
    }

    fn walk(&mut self, path: &[Vec<u8>]) -> Result<Parent, TreeError> {
        let mut todo: VecDeque<Vec<u8>> = path.iter().cloned().collect();
        let mut here = Parent {
            fd: self.root.try_clone()?,
            path: Components::new(),
        };
        let mut symlinks = 0;
        while let Some(name) = todo.pop_front() {
            if name == b".." {
                here.path.pop();
                here.fd = self.open_beneath(&here.path)?;
                continue;
            }
            let Some(target) = self.step(&mut here, &name)? else {
                continue;
            };
            symlinks += 1;
            if symlinks > MAX_SYMLINKS {
                return refused("too many symbolic links");
            }
            if target.starts_with(b"/") {
                here = Parent {
                    fd: self.root.try_clone()?,
                    path: Components::new(),
                };
            }
            let parts = target
                .split(|byte| *byte == b'/')
                .filter(|part| !matches!(*part, b"" | b"."));
            for part in parts.rev() {
                todo.push_front(part.to_vec());
            }
            if todo.len() > MAX_DEPTH {
                return refused("the path is too deep");
            }
        }
        Ok(here)
    }

    /// Goes into the directory `name`, or returns the target of the symlink that it is.
    fn step(&mut self, here: &mut Parent, name: &[u8]) -> Result<Option<Vec<u8>>, TreeError> {
        let mut path = here.path.clone();
        path.push(name.to_vec());
        let mut deleted = false;
        match stat(&here.fd, name)? {
            Some(existing) if is_dir(&existing) => {
                *here = Parent {
                    fd: open_dir(&here.fd, name, BENEATH)?,
                    path,
                };
                return Ok(None);
            }
            Some(existing) if is_symlink(&existing) => return Ok(Some(read_link(&here.fd, name)?)),
            Some(existing) if is_whiteout(&existing) => {
                self.clear(here, name)?;
                deleted = true;
            }
            Some(_) => return refused("a parent of it is not a directory"),
            None => {}
        }
        let lower = if deleted { None } else { self.find_lower(&path)? };
        let metadata = match lower {
            None => None,
            Some(Found::Directory(fd, metadata)) => Some((fd, metadata)),
            Some(Found::Other(fd, metadata)) if is_symlink(&metadata) => return Ok(Some(read_link(&fd, name)?)),
            Some(Found::Other(..)) => return refused("a parent of it is not a directory"),
        };
        rfs::mkdirat(&here.fd, os(name), Mode::from_raw_mode(0o755))?;
        let fd = open_dir(&here.fd, name, BENEATH)?;
        let writable = rfs::openat(
            &fd,
            c".",
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        match metadata {
            // In an overlay the upper directory's metadata is what shows: it must not change by being passed through.
            Some((lower, metadata)) => {
                copy_metadata(&lower, &metadata, &writable)?;
                self.times.push((path.clone(), mtime_of(&metadata)));
            }
            None => rfs::fchmod(&writable, Mode::from_raw_mode(0o755))?,
        }
        *here = Parent { fd, path };
        if deleted {
            self.make_opaque(here.path.clone())?;
        }
        Ok(None)
    }

    fn open_beneath(&self, path: &[Vec<u8>]) -> Result<OwnedFd, Errno> {
        if path.is_empty() {
            return open_dir(&self.root, b".", BENEATH);
        }
        open_dir(&self.root, &path.join(&b'/'), BENEATH)
    }
}

pub(super) const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);

pub(super) fn open_dir(at: impl AsFd, path: &[u8], resolve: ResolveFlags) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    loop {
        match rfs::openat2(at.as_fd(), os(path), flags, Mode::empty(), resolve) {
            // openat2 asks for another try when a rename elsewhere raced with a path that has `..` in it.
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    }
}

pub(super) fn os(bytes: &[u8]) -> &OsStr {
    OsStr::from_bytes(bytes)
}

pub(super) fn stat(parent: &OwnedFd, name: &[u8]) -> Result<Option<Stat>, Errno> {
    match rfs::statat(parent, os(name), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn is_dir(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

fn is_symlink(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Symlink
}

pub(super) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

pub(super) fn read_link(parent: &OwnedFd, name: &[u8]) -> Result<Vec<u8>, Errno> {
    Ok(rfs::readlinkat(parent, os(name), Vec::new())?.into_bytes())
}

/// Splits an archive path; `..` is resolved here and must not lead above the root.
fn components(path: &[u8]) -> Result<Components, TreeError> {
    if path.len() > MAX_PATH {
        return refused("the path is longer than 4095 bytes");
    }
    if path.contains(&0) {
        return refused("the path contains a NUL");
    }
    let mut result = Components::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                if result.pop().is_none() {
                    return refused("the path leads out of the root");
                }
            }
            part => result.push(part.to_vec()),
        }
    }
    if result.len() > MAX_DEPTH {
        return refused("the path is too deep");
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below_the_root() {
        let good = |text: &str| components(text.as_bytes()).unwrap().join(&b'/');
        assert_eq!(good("/a//./b/../c/"), b"a/c");
        assert_eq!(good("./"), b"");
        for bad in ["..", "../x", "a/../../x", "a\0b", &"a/".repeat(300), &"a".repeat(5000)] {
            assert!(components(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
