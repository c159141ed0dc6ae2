//! `fsGroup`: a volume belongs to a group that the pod's processes are in.

use rustix::fs::{AtFlags, Gid};
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

/// Gives everything below `directory` to `gid`: group read-write, set-gid directories. With `only_on_mismatch`, not if
/// the directory itself is right already.
pub(super) fn give(directory: &Path, gid: u32, only_on_mismatch: bool) -> io::Result<()> {
    let metadata = fs::symlink_metadata(directory)?;
    if only_on_mismatch && metadata.gid() == gid && metadata.mode() & 0o2770 == 0o2770 {
        return Ok(());
    }
    let mut pending = vec![directory.to_path_buf()];
    while let Some(path) = pending.pop() {
        let metadata = fs::symlink_metadata(&path)?;
        rustix::fs::chownat(
            rustix::fs::CWD,
            &path,
            None,
            Some(Gid::from_raw(gid)),
            AtFlags::SYMLINK_NOFOLLOW,
        )?;
        if metadata.is_symlink() {
            continue;
        }
        // The owner's rights decide what the group may: a read-only secret stays read-only.
        let mode = metadata.mode() & 0o7777;
        let group = if metadata.is_dir() { 0o2070 } else { (mode & 0o600) >> 3 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode | group))?;
        if metadata.is_dir() {
            for entry in fs::read_dir(&path)? {
                pending.push(entry?.path());
            }
        }
    }
    Ok(())
}
