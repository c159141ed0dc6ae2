//! Replaces all files of a volume at once.
//!
//! Readers follow `file → ..data/file → ..<time>/file`; an update writes a whole new directory and moves one symlink,
//! so that a container never sees half of it. The layout is Kubernetes' (programs watch `..data`).

use super::payload::Payload;
use rustix::fs::{AtFlags, Mode, OFlags};
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

const DATA: &str = "..data";
const DATA_TMP: &str = "..data_tmp";

/// Makes `directory` show exactly `payload`.
pub(super) fn write(directory: &Path, payload: &Payload) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755))?;
    let data = directory.join(DATA);
    let old = fs::read_link(&data).ok();
    if old.as_ref().is_some_and(|old| same(&directory.join(old), payload)) {
        return Ok(());
    }
    let new = write_generation(directory, payload)?;
    let temporary = directory.join(DATA_TMP);
    let _ = fs::remove_file(&temporary);
    symlink(&new, &temporary)?;
    fs::rename(&temporary, &data)?;
    link_names(directory, payload)?;
    if let Some(old) = old.filter(|old| old.as_path() != Path::new(&new)) {
        fs::remove_dir_all(directory.join(old)).or_else(|e| {
            if e.kind() == io::ErrorKind::NotFound {
                Ok(())
            } else {
                Err(e)
            }
        })?;
    }
    Ok(())
}

fn write_generation(directory: &Path, payload: &Payload) -> io::Result<String> {
    let stamp = jiff::Timestamp::now().strftime("..%Y_%m_%d_%H_%M_%S.").to_string();
    let name = format!("{stamp}{}", &uuid::Uuid::new_v4().simple().to_string()[..9]);
    let generation = directory.join(&name);
    fs::create_dir(&generation)?;
    fs::set_permissions(&generation, fs::Permissions::from_mode(0o755))?;
    for (path, file) in payload {
        let target = generation.join(path);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut handle = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(file.mode)
            .open(&target)?;
        handle.write_all(&file.bytes)?;
        // The mode given to open is subject to the umask.
        handle.set_permissions(fs::Permissions::from_mode(file.mode))?;
    }
    Ok(name)
}

/// Symlinks for the first path segments that users see, and none for those that are gone.
fn link_names(directory: &Path, payload: &Payload) -> io::Result<()> {
    let wanted: BTreeSet<&str> = payload.keys().filter_map(|path| path.split('/').next()).collect();
    for name in &wanted {
        let link = directory.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(PathBuf::from(DATA).join(name), &link)?;
        }
    }
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let visible = name.to_str().filter(|name| !name.starts_with(".."));
        if let Some(gone) = visible.filter(|name| !wanted.contains(name)) {
            fs::remove_file(directory.join(gone))?;
        }
    }
    Ok(())
}

fn same(generation: &Path, payload: &Payload) -> bool {
    let mut found = 0;
    let mut pending = vec![generation.to_path_buf()];
    while let Some(directory) = pending.pop() {
        let Ok(entries) = fs::read_dir(&directory) else {
            return false;
        };
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                pending.push(entry.path());
            } else {
                found += 1;
            }
        }
    }
    found == payload.len()
        && payload.iter().all(|(path, file)| {
            fs::read(generation.join(path)).is_ok_and(|bytes| bytes == file.bytes)
                && fs::metadata(generation.join(path))
                    .is_ok_and(|m| m.permissions().mode() & 0o700 == file.mode & 0o700)
        })
}

/// Opens a directory without following a link at its end.
pub(super) fn open_directory(path: &Path) -> io::Result<rustix::fd::OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
    let fd = rustix::fs::open(path, flags, Mode::empty())?;
    rustix::fs::statat(&fd, "", AtFlags::EMPTY_PATH)?;
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use super::super::payload::File;
    use super::*;

    fn payload(files: &[(&str, &str)]) -> Payload {
        let file = |text: &str| File {
            bytes: text.as_bytes().to_vec(),
            mode: 0o640,
        };
        files
            .iter()
            .map(|(path, text)| ((*path).to_owned(), file(text)))
            .collect()
    }

    #[test]
    fn shows_exactly_the_payload_after_each_update() {
        let directory = tempfile::tempdir().expect("a directory");
        let root = directory.path();
        write(root, &payload(&[("a", "1"), ("sub/b", "2")])).expect("first write");
        assert_eq!(fs::read_to_string(root.join("sub/b")).expect("readable"), "2");
        assert_eq!(
            fs::metadata(root.join("a")).expect("there").permissions().mode() & 0o777,
            0o640
        );
        let first = fs::read_link(root.join(DATA)).expect("a link");
        write(root, &payload(&[("a", "1"), ("sub/b", "2")])).expect("same again");
        assert_eq!(
            fs::read_link(root.join(DATA)).expect("a link"),
            first,
            "nothing changed, nothing moved"
        );
        write(root, &payload(&[("a", "9"), ("c", "3")])).expect("an update");
        assert_eq!(fs::read_to_string(root.join("a")).expect("readable"), "9");
        assert!(
            fs::symlink_metadata(root.join("sub")).is_err(),
            "removed keys disappear"
        );
        assert!(!root.join(first).exists(), "the old generation is removed");
        write(root, &Payload::new()).expect("emptied");
        assert!(fs::symlink_metadata(root.join("a")).is_err());
    }
}
