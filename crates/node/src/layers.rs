//! Reading single files out of an image without mounting it.
//!
//! The image's layers are hostile input: paths are resolved with `openat2(RESOLVE_IN_ROOT)`, so that no link leads out
//! of a layer, and only regular files of bounded size are read.

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Opens `path` of the merged tree of `lower_dirs` (uppermost first); `None` when it is not there.
///
/// # Errors
/// The layer cannot be read, or the path is no regular file.
pub(crate) fn open(lower_dirs: &[PathBuf], path: &str) -> io::Result<Option<(File, PathBuf)>> {
    let relative = path.trim_start_matches('/');
    if relative.is_empty() {
        return Ok(None);
    }
    for lower in lower_dirs {
        match open_below(lower, relative) {
            Ok(file) => {
                let metadata = file.metadata()?;
                if metadata.file_type().is_char_device() && metadata.rdev() == 0 {
                    return Ok(None);
                }
                if !metadata.is_file() {
                    return Err(io::Error::other(format!("{path} is not a regular file")));
                }
                let real = std::fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file)))?;
                return Ok(Some((file, real)));
            }
            Err(rustix::io::Errno::NOENT) => {}
            // A whiteout or file where a directory was: everything below is gone.
            Err(rustix::io::Errno::NOTDIR | rustix::io::Errno::NXIO) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

/// The first `limit` bytes of a file of the image as text; empty when it is not there.
pub(crate) fn read_text(lower_dirs: &[PathBuf], path: &str, limit: u64) -> io::Result<String> {
    let Some((file, _)) = open(lower_dirs, path)? else {
        return Ok(String::new());
    };
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn open_below(root: &Path, relative: &str) -> Result<File, rustix::io::Errno> {
    let root = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    // Whiteouts are character devices without a driver: opening one says ENXIO, which the caller understands.
    openat2(root, relative, flags, Mode::empty(), resolve).map(File::from)
}
