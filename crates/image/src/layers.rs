//! Unpacked layers: each once, whoever asks.
//!
//! A layer directory is named by its chain ID (OCI image-spec, config.md "Layer ChainID"), not by its own digest: hard links
//! into lower layers and directories made on the way take content and metadata from below, so the same archive on another
//! base is another directory. It is unpacked under `tmp/` and renamed; the name is the proof that it is whole.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::{Duration, SystemTime};

use crate::content::sync_dir;
use crate::lock::FileLock;
use crate::store::{Inner, blocking};
use crate::unpack::{Layer, unpack};
use crate::{Digest, Error, Form, Image, Root, Store};

/// How old the use mark of a layer may get before it is renewed.
const MARK_RESOLUTION: Duration = Duration::from_secs(60);

impl Store {
    /// The root file system of an image as directories to stack, unpacked if need be (which takes root). A wasm artifact
    /// has none. Call [`Store::hold`] first: it keeps the directories from the collector.
    pub async fn root(&self, image: &Image) -> Result<Root, Error> {
        if matches!(image.form, Form::WasmArtifact { .. }) {
            return Ok(Root::default());
        }
        let digest = Digest::parse(&image.manifest)?;
        if let Some(root) = self.inner.unpacked(&digest)? {
            return Ok(root);
        }
        let lock = self.inner.exclusive(image.manifest.as_str());
        let _guard = lock.lock().await;
        let store = self.clone();
        blocking(move || store.inner.unpack_all(&digest)).await
    }
}

impl Inner {
    /// The root of an image that this process has seen unpacked, if it still is: a few system calls, no documents. Nothing
    /// waits here: while the collector works, the long way is taken.
    fn unpacked(&self, digest: &Digest) -> Result<Option<Root>, Error> {
        let known = self
            .roots
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(digest)
            .cloned();
        let Some(root) = known else { return Ok(None) };
        let Some(_in_flight) = FileLock::try_shared(&self.collector_lock())? else {
            return Ok(None);
        };
        for directory in &root.lower_dirs {
            let mark = self.locks.join(directory.file_name().unwrap_or_default());
            if !directory.is_dir() || !mark_used(&mark)? {
                return Ok(None);
            }
        }
        Ok(Some(root))
    }

    fn unpack_all(&self, digest: &Digest) -> Result<Root, Error> {
        let _in_flight = self.in_flight()?;
        let (manifest, _) = self.manifest(digest)?;
        let config = self.config(digest, &manifest)?;
        if manifest.layers.len() != config.diff_ids().len() {
            let reason = format!(
                "{} layers, but {} diff IDs in its config",
                manifest.layers.len(),
                config.diff_ids().len()
            );
            return Err(Error::invalid(digest.as_str(), reason));
        }
        let mut lower_dirs: Vec<PathBuf> = Vec::new();
        let chains = chain_ids(config.diff_ids());
        for ((layer, diff_id), chain) in manifest.layers.iter().zip(config.diff_ids()).zip(&chains) {
            let blob = self.content.path(&layer.digest);
            let layer = Layer {
                blob: &blob,
                diff_id,
                lowers: &lower_dirs,
            };
            let directory = self.unpack_one(&layer, chain)?;
            lower_dirs.insert(0, directory);
        }
        let root = Root { lower_dirs };
        self.roots
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(digest.clone(), root.clone());
        Ok(root)
    }

    fn unpack_one(&self, layer: &Layer<'_>, chain: &Digest) -> Result<PathBuf, Error> {
        let directory = self.layers.join(chain.hex());
        let mark = self.locks.join(chain.hex());
        if directory.is_dir() && mark_used(&mark)? {
            return Ok(directory);
        }
        let _lock = FileLock::exclusive(&mark)?;
        mark_used(&mark)?;
        if directory.is_dir() {
            return Ok(directory);
        }
        let temporary = self.content.temporary()?;
        unpack(layer, temporary.path(), &self.options.limits)?;
        let path = temporary.keep();
        fs::rename(&path, &directory).map_err(|source| Error::io("rename", &path, source))?;
        sync_dir(&self.layers)?;
        Ok(directory)
    }
}

/// Notes that somebody is about to use a layer; false if there was no mark yet.
fn mark_used(mark: &Path) -> Result<bool, Error> {
    let Ok(metadata) = fs::metadata(mark) else {
        return Ok(false);
    };
    let age = metadata
        .modified()
        .ok()
        .and_then(|modified| SystemTime::now().duration_since(modified).ok());
    if age.is_none_or(|age| age > MARK_RESOLUTION) {
        let file = fs::File::options()
            .write(true)
            .open(mark)
            .map_err(|source| Error::io("open", mark, source))?;
        file.set_modified(SystemTime::now())
            .map_err(|source| Error::io("mark", mark, source))?;
    }
    Ok(true)
}

/// The chain ID of every layer, bottom first.
pub(crate) fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chains: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        let chain = match chains.last() {
            Some(below) => Digest::of(format!("{below} {diff_id}").as_bytes()),
            None => diff_id.clone(),
        };
        chains.push(chain);
    }
    chains
}
