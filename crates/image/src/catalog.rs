//! Which images there are and what they are called: one small JSON file, `catalog.json`.
//!
//! Readers take no lock: they `stat` the file and reread it only when a writer has renamed a new one into place. Writers
//! hold `catalog.lock`, read, change, and rename; so the CLI and the agent never lose each other's names.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::content::replace;
use crate::lock::FileLock;
use crate::{Digest, Error};

const VERSION: u32 = 1;

/// What is remembered of one image; all else is in its blobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) id: String,
    pub(crate) names: BTreeSet<String>,
    pub(crate) digests: BTreeSet<String>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Document {
    version: u32,
    images: BTreeMap<Digest, Entry>,
}

/// One state of the catalog, indexed for lookups.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) images: BTreeMap<Digest, Entry>,
    names: HashMap<String, Digest>,
    ids: HashMap<String, Digest>,
}

impl Snapshot {
    fn new(images: BTreeMap<Digest, Entry>) -> Snapshot {
        let mut snapshot = Snapshot {
            images,
            ..Snapshot::default()
        };
        for (manifest, entry) in &snapshot.images {
            for name in entry.names.iter().chain(&entry.digests) {
                snapshot.names.insert(name.clone(), manifest.clone());
            }
            snapshot.ids.insert(entry.id.clone(), manifest.clone());
        }
        snapshot
    }

    /// By canonical name, `repository@digest` or full ID.
    pub(crate) fn find(&self, name_or_id: &str) -> Option<&Digest> {
        self.names.get(name_or_id).or_else(|| self.ids.get(name_or_id))
    }

    /// By the beginning of the hex digits of an ID, if only one image has it.
    pub(crate) fn find_prefix(&self, hex: &str) -> Option<&Digest> {
        let mut found = self
            .ids
            .iter()
            .filter(|(id, _)| id.strip_prefix("sha256:").is_some_and(|id| id.starts_with(hex)));
        match (found.next(), found.next()) {
            (Some((_, manifest)), None) => Some(manifest),
            _ => None,
        }
    }
}

/// Identity of one version of the file; a rename changes the inode, and `ctime` guards against its reuse.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
struct Stamp {
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

#[derive(Debug)]
pub(crate) struct Catalog {
    path: PathBuf,
    lock: PathBuf,
    temporary: PathBuf,
    cache: Mutex<Option<(Stamp, Arc<Snapshot>)>>,
}

impl Catalog {
    pub(crate) fn new(dir: &Path, temporary: &Path) -> Catalog {
        Catalog {
            path: dir.join("catalog.json"),
            lock: dir.join("catalog.lock"),
            temporary: temporary.to_path_buf(),
            cache: Mutex::new(None),
        }
    }

    /// The present state; costs one `stat` when nothing changed.
    pub(crate) fn snapshot(&self) -> Result<Arc<Snapshot>, Error> {
        let Some(stamp) = self.stamp()? else {
            return Ok(Arc::default());
        };
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((cached, snapshot)) = &*cache
            && *cached == stamp
        {
            return Ok(snapshot.clone());
        }
        // The stamp is older than what is read now at worst, so a newer file is only ever read once too often.
        let snapshot = Arc::new(Snapshot::new(self.read()?.images));
        *cache = Some((stamp, snapshot.clone()));
        Ok(snapshot)
    }

    /// Changes the catalog under its lock. Nothing is written where nothing changed.
    pub(crate) fn update<T>(&self, change: impl FnOnce(&mut BTreeMap<Digest, Entry>) -> T) -> Result<T, Error> {
        let _lock = FileLock::exclusive(&self.lock)?;
        let mut document = self.read()?;
        let before = document.images.clone();
        let result = change(&mut document.images);
        if document.images != before {
            document.version = VERSION;
            let json = serde_json::to_vec(&document).map_err(|source| Error::Json {
                what: self.path.display().to_string(),
                source,
            })?;
            replace(&self.path, &self.temporary, &json)?;
        }
        Ok(result)
    }

    /// Gives an image its names; a name belongs to one image only, so others lose it.
    pub(crate) fn record(
        &self,
        manifest: &Digest,
        id: &str,
        name: Option<&str>,
        digest: Option<&str>,
    ) -> Result<(), Error> {
        self.update(|images| {
            for name in [name, digest].into_iter().flatten() {
                for entry in images.values_mut() {
                    entry.names.remove(name);
                    entry.digests.remove(name);
                }
            }
            let entry = images.entry(manifest.clone()).or_insert_with(|| Entry {
                id: id.to_owned(),
                names: BTreeSet::new(),
                digests: BTreeSet::new(),
            });
            entry.names.extend(name.map(str::to_owned));
            entry.digests.extend(digest.map(str::to_owned));
        })
    }

    fn stamp(&self) -> Result<Option<Stamp>, Error> {
        match fs::metadata(&self.path) {
            Ok(metadata) => Ok(Some(Stamp {
                inode: metadata.ino(),
                size: metadata.size(),
                changed: (metadata.ctime(), metadata.ctime_nsec()),
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::io("inspect", &self.path, source)),
        }
    }

    fn read(&self) -> Result<Document, Error> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Document::default()),
            Err(source) => return Err(Error::io("read", &self.path, source)),
        };
        let document: Document = serde_json::from_slice(&bytes).map_err(|source| Error::Json {
            what: self.path.display().to_string(),
            source,
        })?;
        if document.version > VERSION {
            let reason = format!(
                "written by a newer version (format {}, this one reads {VERSION})",
                document.version
            );
            return Err(Error::invalid(self.path.display().to_string(), reason));
        }
        Ok(document)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writers_of_several_handles_lose_nothing_and_readers_see_it() {
        let dir = tempfile::tempdir().unwrap();
        let reader = Catalog::new(dir.path(), dir.path());
        assert!(reader.snapshot().unwrap().images.is_empty());
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let dir = dir.path();
                scope.spawn(move || {
                    let catalog = Catalog::new(dir, dir);
                    for item in 0..25 {
                        let name = format!("r/{writer}:{item}");
                        let digest = Digest::of(name.as_bytes());
                        catalog.record(&digest, digest.as_str(), Some(&name), None).unwrap();
                        assert_eq!(
                            catalog.snapshot().unwrap().find(&name),
                            Some(&digest),
                            "own write is visible"
                        );
                    }
                });
            }
        });
        assert_eq!(reader.snapshot().unwrap().images.len(), 100);
    }

    #[test]
    fn a_name_moves_to_the_newest_image() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::new(dir.path(), dir.path());
        let (old, new) = (Digest::of(b"old"), Digest::of(b"new"));
        catalog
            .record(&old, old.as_str(), Some("r/a:1"), Some("r/a@old"))
            .unwrap();
        catalog.record(&new, new.as_str(), Some("r/a:1"), None).unwrap();
        let snapshot = catalog.snapshot().unwrap();
        assert_eq!(snapshot.find("r/a:1"), Some(&new));
        assert_eq!(snapshot.find("r/a@old"), Some(&old));
        assert_eq!(snapshot.find(old.as_str()), Some(&old));
        assert_eq!(snapshot.find_prefix(&new.hex()[..12]), Some(&new));
        assert_eq!(snapshot.find_prefix(""), None, "ambiguous");
    }
}
