//! Leases: what a container needs stays, whatever becomes of its image's names.
//!
//! A lease is a file named by its holder with the manifest's digest in it. It is renamed into place but not synced: it has
//! to outlive the agent, not the machine, for after a power cut no container runs and whoever starts one holds anew. The
//! same file answers what a container was started from when the name is gone ([`Store::held`]), and what must not be
//! pruned when the disk is full ([`Store::prune`]).

use std::collections::HashSet;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::collect::{entries, name};
use crate::store::{Inner, blocking};
use crate::{Digest, Error, Image, Reference, Store};

const MAX_HOLDER_LENGTH: usize = 200;

impl Store {
    /// Keeps an image's content for `holder` (a container's name, say), through restarts, until [`Store::release`]. Holding
    /// again what is held costs one small read.
    pub async fn hold(&self, image: &Image, holder: &str) -> Result<(), Error> {
        let path = self.inner.lease(holder)?;
        // A collector that works just now has seen the lease, or will.
        if fs::read(&path).is_ok_and(|held| held == image.manifest.as_bytes()) {
            return Ok(());
        }
        let (store, manifest) = (self.clone(), image.manifest.clone());
        blocking(move || {
            let _in_flight = store.inner.in_flight()?;
            let fail = |source| Error::io("write", &path, source);
            let mut file = tempfile::NamedTempFile::new_in(store.inner.content.temporary_dir()).map_err(fail)?;
            file.write_all(manifest.as_bytes()).map_err(fail)?;
            file.persist(&path).map(drop).map_err(|error| fail(error.error))
        })
        .await
    }

    /// Ends what `hold` began. Releasing what is not held is fine. Collects nothing.
    #[expect(clippy::unused_async, reason = "symmetry with hold; unlink is quick")]
    pub async fn release(&self, holder: &str) -> Result<(), Error> {
        let path = self.inner.lease(holder)?;
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path, source)),
            _ => Ok(()),
        }
    }

    /// The image that `holder` holds, whether or not it still has a name.
    pub async fn held(&self, holder: &str) -> Result<Option<Image>, Error> {
        let path = self.inner.lease(holder)?;
        let store = self.clone();
        blocking(move || match store.inner.read_lease(&path)? {
            Some(manifest) => store
                .inner
                .image(&*store.inner.catalog.snapshot()?, &manifest)
                .map(Some),
            None => Ok(None),
        })
        .await
    }

    /// Everybody who holds something, in no order.
    pub async fn holders(&self) -> Result<Vec<String>, Error> {
        let store = self.clone();
        blocking(move || {
            let leases = entries(&store.inner.leases)?;
            Ok(leases.iter().map(|lease| name(lease).to_owned()).collect())
        })
        .await
    }

    /// Makes room: removes images, longest stored first, until `enough` says so. Spared is what somebody holds, what was
    /// stored less than `min_age` ago, and what no registry could give again under every name it has (packed or imported
    /// here). Returns the first name of each image that is gone.
    pub async fn prune(&self, min_age: Duration, enough: impl Fn() -> bool) -> Result<Vec<String>, Error> {
        let images = self.list().await?;
        let store = self.clone();
        let candidates = blocking(move || {
            let held = store.inner.held_manifests()?;
            let now = SystemTime::now();
            let stored = |image: &Image| {
                let manifest = Digest::parse(&image.manifest).ok()?;
                let path = store.inner.content.path(&manifest);
                let at = fs::metadata(path).and_then(|metadata| metadata.modified()).ok()?;
                let old = now.duration_since(at).is_ok_and(|age| age >= min_age);
                (old && !held.contains(&manifest) && can_be_pulled_again(image)).then_some(at)
            };
            let mut found: Vec<_> = images
                .into_iter()
                .filter_map(|image| Some((stored(&image)?, image)))
                .collect();
            found.sort_by_key(|(at, _)| *at);
            Ok(found)
        })
        .await?;
        let mut gone = Vec::new();
        for (_, image) in candidates {
            if enough() {
                break;
            }
            self.remove(&image.id).await?;
            gone.extend(image.names.into_iter().chain(image.digests).next());
        }
        Ok(gone)
    }
}

impl Inner {
    /// What all leases together name.
    pub(crate) fn held_manifests(&self) -> Result<HashSet<Digest>, Error> {
        let mut held = HashSet::new();
        for lease in entries(&self.leases)? {
            held.extend(self.read_lease(&lease)?);
        }
        Ok(held)
    }

    /// `None` when it is released, or empty after a power cut.
    fn read_lease(&self, path: &Path) -> Result<Option<Digest>, Error> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::io("read", path, source)),
        };
        match text.trim() {
            "" => Ok(None),
            digest => Digest::parse(digest).map(Some),
        }
    }

    fn lease(&self, holder: &str) -> Result<PathBuf, Error> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if holder.is_empty() || holder.len() > MAX_HOLDER_LENGTH || !holder.bytes().all(plain) {
            return Err(Error::invalid(
                format!("lease holder {holder:?}"),
                "not a plain identifier",
            ));
        }
        Ok(self.leases.join(holder))
    }
}

/// Whether every name is of a repository that the image was pulled from.
fn can_be_pulled_again(image: &Image) -> bool {
    let repository = |name: &String| Reference::parse(name).map(|name| name.name()).ok();
    let pulled: HashSet<_> = image.digests.iter().filter_map(repository).collect();
    !pulled.is_empty()
        && image
            .names
            .iter()
            .all(|name| repository(name).is_some_and(|repository| pulled.contains(&repository)))
}
