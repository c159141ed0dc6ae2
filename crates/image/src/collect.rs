//! Throws away what no image and no container needs.
//!
//! Needed is what the catalog names, what a lease names, and what is mounted: containers outlive the agent and the CLI may
//! remove an image under them, so beside the leases (which the agent writes) every process's mount table is asked. Work in
//! progress is protected by a lock that it holds shared and the collector takes exclusively, without waiting: somebody
//! busy means another time. When anything cannot be read, nothing is deleted.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::form;
use crate::layers::chain_ids;
use crate::lock::FileLock;
use crate::store::{Inner, blocking};
use crate::{Digest, Error, Store};

/// A layer handed out this recently may be about to be mounted.
const MOUNT_GRACE: Duration = Duration::from_secs(120);

/// What a collection removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    pub blobs: usize,
    pub layers: usize,
    /// Size of the blobs; unpacked layers are not counted.
    pub bytes: u64,
    /// Somebody was pulling or unpacking: nothing was looked at.
    pub postponed: bool,
}

impl Store {
    /// Removes blobs, layers and leftovers that nothing needs.
    pub async fn collect(&self) -> Result<Collected, Error> {
        let store = self.clone();
        blocking(move || store.inner.collect(SystemTime::now())).await
    }
}

impl Inner {
    fn collect(&self, now: SystemTime) -> Result<Collected, Error> {
        let Some(_alone) = FileLock::try_exclusive(&self.collector_lock())? else {
            return Ok(Collected {
                postponed: true,
                ..Collected::default()
            });
        };
        let needed = self.needed()?;
        let mut collected = Collected::default();
        for path in entries(self.content.temporary_dir())? {
            remove_any(&path)?;
        }
        for path in entries(self.content.blobs_dir())? {
            if !needed.blobs.contains(name(&path)) {
                collected.bytes += fs::metadata(&path).map_or(0, |metadata| metadata.len());
                collected.blobs += 1;
                remove_any(&path)?;
            }
        }
        let unused: Vec<PathBuf> = entries(&self.layers)?
            .into_iter()
            .filter(|path| !needed.layers.contains(name(path)) && !self.recently_used(name(path), now))
            .collect();
        if !unused.is_empty() {
            let mounted = mounted_layers(Path::new("/proc"), &unused)?;
            for path in unused.iter().filter(|path| !mounted.contains(name(path))) {
                self.remove_layer(path)?;
                collected.layers += 1;
            }
        }
        Ok(collected)
    }

    /// Renames first: a half-deleted directory must not look like a layer.
    fn remove_layer(&self, path: &Path) -> Result<(), Error> {
        let doomed = self.content.temporary_dir().join(format!("gone-{}", name(path)));
        fs::rename(path, &doomed).map_err(|source| Error::io("rename", path, source))?;
        remove_any(&doomed)?;
        remove_any(&self.locks.join(name(path)))
    }

    fn recently_used(&self, chain: &str, now: SystemTime) -> bool {
        let modified = fs::metadata(self.locks.join(chain)).and_then(|metadata| metadata.modified());
        modified.is_ok_and(|modified| now.duration_since(modified).map_or(true, |age| age < MOUNT_GRACE))
    }

    fn needed(&self) -> Result<Needed, Error> {
        let snapshot = self.catalog.snapshot()?;
        let mut manifests: HashSet<Digest> = snapshot.images.keys().cloned().collect();
        manifests.extend(self.held_manifests()?);
        let mut needed = Needed::default();
        for digest in manifests {
            if !self.content.path(&digest).exists() {
                continue;
            }
            let (manifest, _) = self.manifest(&digest)?;
            needed.blobs.insert(digest.hex().to_owned());
            needed
                .blobs
                .extend(manifest.blobs().map(|blob| blob.digest.hex().to_owned()));
            if form::is_image_config(&manifest) && self.content.path(&manifest.config.digest).exists() {
                let config = self.config(&digest, &manifest)?;
                needed
                    .layers
                    .extend(chain_ids(config.diff_ids()).iter().map(|chain| chain.hex().to_owned()));
            }
        }
        Ok(needed)
    }
}

/// Hex digits of what must stay.
#[derive(Default)]
struct Needed {
    blobs: HashSet<String>,
    layers: HashSet<String>,
}

/// Which of the layers some process has mounted: their names, unlike their paths, are the same in every mount table.
fn mounted_layers(proc: &Path, layers: &[PathBuf]) -> Result<HashSet<String>, Error> {
    let mut mounted = HashSet::new();
    let mut namespaces = HashSet::new();
    for process in entries(proc)? {
        if !name(&process).bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        // One without a readable namespace link is looked at on its own.
        let namespace = fs::read_link(process.join("ns/mnt")).ok();
        if namespace
            .as_ref()
            .is_some_and(|namespace| namespaces.contains(namespace))
        {
            continue;
        }
        // Processes end while we look. Then another one of its namespace has to show what is mounted there.
        let table = match fs::read(process.join("mountinfo")) {
            Ok(table) if !table.is_empty() => table,
            _ => continue,
        };
        namespaces.extend(namespace);
        let table = String::from_utf8_lossy(&table);
        mounted.extend(
            layers
                .iter()
                .map(|layer| name(layer))
                .filter(|layer| table.contains(layer))
                .map(str::to_owned),
        );
    }
    Ok(mounted)
}

pub(crate) fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

pub(crate) fn entries(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let fail = |source| Error::io("list", dir, source);
    fs::read_dir(dir)
        .map_err(fail)?
        .map(|entry| entry.map(|entry| entry.path()).map_err(fail))
        .collect()
}

fn remove_any(path: &Path) -> Result<(), Error> {
    let result = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match result {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path, source)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_any_process_protect_layers() {
        let proc = tempfile::tempdir().unwrap();
        let (used, unused) = ("a".repeat(64), "b".repeat(64));
        for (pid, table) in [
            ("1", "1 0 8:1 / / rw - ext4 /dev/sda rw\n".to_owned()),
            (
                "77",
                format!("2 1 0:9 / / rw - overlay overlay rw,lowerdir=../{used}:x\n"),
            ),
        ] {
            fs::create_dir_all(proc.path().join(pid)).unwrap();
            fs::write(proc.path().join(pid).join("mountinfo"), table).unwrap();
        }
        fs::create_dir_all(proc.path().join("sys")).unwrap();
        // Most processes of the container are just ending; one that is not must be asked, whatever the order.
        for pid in 60..=77 {
            let process = proc.path().join(pid.to_string());
            fs::create_dir_all(process.join("ns")).unwrap();
            std::os::unix::fs::symlink("mnt:[4026532256]", process.join("ns/mnt")).unwrap();
            if pid != 77 {
                fs::write(process.join("mountinfo"), "").unwrap();
            }
        }
        let layers = [used.clone(), unused].map(PathBuf::from);
        assert_eq!(mounted_layers(proc.path(), &layers).unwrap(), HashSet::from([used]));
    }
}
