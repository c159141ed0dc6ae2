//! Single files of a layer: content, metadata, copies from below. Where they go was decided in tree.rs.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{self as rfs, AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::tar::{Entry, Kind};
use super::tree::{BENEATH, MAX_PATH, TreeError, os, read_link, refused};

const COPY_BUFFER: usize = 256 * 1024;

pub(super) fn create(parent: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rfs::openat2(parent, os(name), flags, Mode::from_raw_mode(0o600), BENEATH)
}

pub(super) fn write_data<E>(
    fd: &OwnedFd,
    entry: &Entry,
    data: &mut dyn FnMut(&mut [u8]) -> Result<usize, E>,
) -> Result<(), TreeError>
where
    TreeError: From<E>,
{
    let whole = [(0, entry.size)];
    let segments = entry.segments.as_deref().unwrap_or(&whole);
    let longest = segments.iter().map(|(_, length)| *length).max().unwrap_or(0);
    let mut buffer = vec![0; usize::try_from(longest).map_or(COPY_BUFFER, |longest| longest.min(COPY_BUFFER))];
    for (offset, length) in segments {
        let (mut at, end) = (*offset, offset + length);
        while at < end {
            let wanted = usize::try_from(end - at).map_or(buffer.len(), |left| left.min(buffer.len()));
            let read = data(&mut buffer[..wanted])?;
            if read == 0 {
                return refused("its data ends early");
            }
            write_all_at(fd, &buffer[..read], at)?;
            at += read as u64;
        }
    }
    if entry.segments.is_some() {
        rfs::ftruncate(fd, entry.size)?;
    }
    Ok(())
}

fn write_all_at(fd: &OwnedFd, mut bytes: &[u8], mut at: u64) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::pwrite(fd, bytes, at) {
            Ok(written) => {
                bytes = &bytes[written..];
                at += written as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Owner first: changing it clears setuid bits and file capabilities.
pub(super) fn set_metadata(fd: &OwnedFd, entry: &Entry) -> Result<(), TreeError> {
    rfs::fchown(fd, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))?;
    rfs::fchmod(fd, Mode::from_raw_mode(entry.mode))?;
    for (name, value) in &entry.xattrs {
        if keeps_xattr(name) {
            match rfs::fsetxattr(fd, os(name), value, XattrFlags::empty()) {
                // Not every file system has every namespace; none of them decides whether a container runs.
                Err(Errno::OPNOTSUPP) => {}
                result => result?,
            }
        }
    }
    rfs::futimens(fd, &times(entry.mtime))?;
    Ok(())
}

/// `trusted.*` and `user.overlay.*` steer overlayfs itself, `security.*` other than capabilities belongs to the host.
pub(crate) fn keeps_xattr(name: &[u8]) -> bool {
    name == b"security.capability"
        || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
        || name.starts_with(b"system.posix_acl_")
}

pub(super) fn symlink(parent: &OwnedFd, name: &[u8], entry: &Entry) -> Result<(), TreeError> {
    if entry.link.is_empty() || entry.link.contains(&0) || entry.link.len() > MAX_PATH {
        return refused("a symbolic link without a usable target");
    }
    rfs::symlinkat(os(&entry.link), parent, os(name))?;
    set_owner_and_time(parent, name, entry)
}

pub(super) fn special(parent: &OwnedFd, name: &[u8], kind: Kind, entry: &Entry) -> Result<(), TreeError> {
    let kind = match kind {
        Kind::CharDevice => FileType::CharacterDevice,
        Kind::BlockDevice => FileType::BlockDevice,
        _ => FileType::Fifo,
    };
    let (major, minor) = entry.device;
    if kind == FileType::CharacterDevice && (major, minor) == (0, 0) {
        return refused("a device 0/0, which overlayfs takes for a deletion");
    }
    rfs::mknodat(
        parent,
        os(name),
        kind,
        Mode::from_raw_mode(0o600),
        rfs::makedev(major, minor),
    )?;
    set_owner_and_time(parent, name, entry)?;
    rfs::chmodat(parent, os(name), Mode::from_raw_mode(entry.mode), AtFlags::empty())?;
    Ok(())
}

fn set_owner_and_time(parent: &OwnedFd, name: &[u8], entry: &Entry) -> Result<(), TreeError> {
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    rfs::chownat(parent, os(name), Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    rfs::utimensat(parent, os(name), &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

pub(super) fn times((seconds, nanoseconds): (i64, u32)) -> Timestamps {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

#[expect(clippy::useless_conversion, reason = "the field types differ between architectures")]
pub(super) fn mtime_of(stat: &Stat) -> (i64, u32) {
    (stat.st_mtime.into(), u32::try_from(stat.st_mtime_nsec).unwrap_or(0))
}

/// Copies one non-directory of a lower layer into this one, as overlayfs would on a hard link.
pub(super) fn copy_up(lower: &OwnedFd, name: &[u8], metadata: &Stat, target: &OwnedFd) -> Result<(), TreeError> {
    let mode = Mode::from_raw_mode(metadata.st_mode & 0o7777);
    let (uid, gid) = (Uid::from_raw(metadata.st_uid), Gid::from_raw(metadata.st_gid));
    match FileType::from_raw_mode(metadata.st_mode) {
        FileType::RegularFile => {
            let source = rfs::openat2(
                lower,
                os(name),
                OFlags::RDONLY | OFlags::CLOEXEC,
                Mode::empty(),
                BENEATH,
            )?;
            let copy = create(target, name)?;
            let (mut source, mut copy) = (std::fs::File::from(source), std::fs::File::from(copy));
            io::copy(&mut source, &mut copy)?;
            copy_metadata(&source.into(), metadata, &copy.into())?;
            return Ok(());
        }
        FileType::Symlink => rfs::symlinkat(os(&read_link(lower, name)?), target, os(name))?,
        kind => {
            rfs::mknodat(target, os(name), kind, mode, metadata.st_rdev)?;
            rfs::chmodat(target, os(name), mode, AtFlags::empty())?;
        }
    }
    rfs::chownat(target, os(name), Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    rfs::utimensat(target, os(name), &times(mtime_of(metadata)), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

pub(super) fn copy_metadata(from: &OwnedFd, metadata: &Stat, to: &OwnedFd) -> Result<(), TreeError> {
    rfs::fchown(
        to,
        Some(Uid::from_raw(metadata.st_uid)),
        Some(Gid::from_raw(metadata.st_gid)),
    )?;
    rfs::fchmod(to, Mode::from_raw_mode(metadata.st_mode & 0o7777))?;
    let from = format!("/proc/self/fd/{}", from.as_raw_fd());
    for name in xattr::list(&from)? {
        if keeps_xattr(name.as_bytes())
            && let Some(value) = xattr::get(&from, &name)?
        {
            match rfs::fsetxattr(to, &*name, &value, XattrFlags::empty()) {
                Err(Errno::OPNOTSUPP) => {}
                result => result?,
            }
        }
    }
    rfs::futimens(to, &times(mtime_of(metadata)))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_that_steer_the_host_are_dropped() {
        for (name, kept) in [
            ("security.capability", true),
            ("user.mime", true),
            ("user.overlay.redirect", false),
            ("trusted.overlay.redirect", false),
            ("security.selinux", false),
        ] {
            assert_eq!(keeps_xattr(name.as_bytes()), kept, "{name}");
        }
    }
}
