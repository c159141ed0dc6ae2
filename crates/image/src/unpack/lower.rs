//! Looks things up in the layers below, as overlayfs would show them merged.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{CWD, ResolveFlags, Stat};

use super::tree::{BENEATH, is_dir, is_whiteout, open_dir, stat};

pub(super) struct Lowers(Vec<OwnedFd>);

/// What the merged lower layers have at a path.
pub(super) enum Found {
    /// The topmost of the merged directories, whose metadata shows.
    Directory(OwnedFd, Stat),
    /// Anything else: the directory it is in, and what it is.
    Other(OwnedFd, Stat),
}

impl Lowers {
    pub(super) fn open(layers: &[impl AsRef<Path>]) -> io::Result<Lowers> {
        let open = |layer: &Path| open_dir(CWD, layer.as_os_str().as_bytes(), ResolveFlags::empty());
        Ok(Lowers(
            layers
                .iter()
                .map(|layer| open(layer.as_ref()))
                .collect::<Result<_, _>>()?,
        ))
    }

    /// The root that shows, if there are layers below.
    pub(super) fn root(&self) -> io::Result<Option<(&OwnedFd, Stat)>> {
        self.0
            .first()
            .map(|root| Ok((root, rustix::fs::fstat(root)?)))
            .transpose()
    }

    /// `path` must be free of symlinks and `..`.
    pub(super) fn find(&self, path: &[Vec<u8>]) -> io::Result<Option<Found>> {
        let Some((last, parents)) = path.split_last() else {
            return Ok(None);
        };
        let mut visible = self.0.iter().map(OwnedFd::try_clone).collect::<io::Result<Vec<_>>>()?;
        for name in parents {
            visible = merged(&visible, name)?.into_iter().map(|(fd, _)| fd).collect();
        }
        for parent in &visible {
            match stat(parent, last)? {
                None => {}
                Some(found) if is_whiteout(&found) => return Ok(None),
                Some(found) if is_dir(&found) => {
                    return Ok(Some(Found::Directory(open_dir(parent, last, BENEATH)?, found)));
                }
                Some(found) => return Ok(Some(Found::Other(parent.try_clone()?, found))),
            }
        }
        Ok(None)
    }
}

/// The directories called `name` that are merged: down to the first opaque one, deletion or non-directory.
fn merged(parents: &[OwnedFd], name: &[u8]) -> io::Result<Vec<(OwnedFd, Stat)>> {
    let mut directories = Vec::new();
    for parent in parents {
        match stat(parent, name)? {
            None => {}
            Some(found) if is_dir(&found) => {
                let fd = open_dir(parent, name, BENEATH)?;
                let opaque = is_opaque(&fd);
                directories.push((fd, found));
                if opaque {
                    break;
                }
            }
            Some(_) => break,
        }
    }
    Ok(directories)
}

fn is_opaque(directory: &OwnedFd) -> bool {
    let path = format!("/proc/self/fd/{}", directory.as_raw_fd());
    matches!(xattr::get_deref(path, "trusted.overlay.opaque"), Ok(Some(value)) if value == b"y")
}
