//! The store: what the agent and the CLI hold.

use std::path::{Path, PathBuf};

use crate::{Credential, Error, Image, Options, PackSource, Root};

/// A store of images in one directory; cheap to open, shared by processes.
#[derive(Debug)]
pub struct Store { dir: PathBuf, options: Options }

impl Store {
    pub fn open(dir: PathBuf, options: Options) -> Result<Store, Error> { Ok(Store { dir, options }) }
    pub async fn get(&self, reference: &str) -> Result<Option<Image>, Error> { let _ = (reference, &self.dir, &self.options); Ok(None) }
    pub async fn pull(&self, reference: &str, credentials: &[Credential]) -> Result<Image, Error> { let _ = credentials; Err(Error::NotFound { what: reference.into() }) }
    pub async fn root(&self, image: &Image) -> Result<Root, Error> { let _ = image; Ok(Root::default()) }
    pub async fn list(&self) -> Result<Vec<Image>, Error> { Ok(Vec::new()) }
    pub async fn remove(&self, reference: &str) -> Result<(), Error> { Err(Error::NotFound { what: reference.into() }) }
    pub async fn import(&self, path: &Path, tag: Option<&str>) -> Result<Vec<Image>, Error> { let _ = tag; Err(Error::NotFound { what: path.display().to_string() }) }
    pub async fn push(&self, reference: &str, destination: &str, credentials: &[Credential]) -> Result<String, Error> { let _ = (destination, credentials); Err(Error::NotFound { what: reference.into() }) }
    pub async fn pack(&self, source: &PackSource, tag: &str) -> Result<Image, Error> { let _ = source; Err(Error::NotFound { what: tag.into() }) }
    /// Marks an image as needed by `holder` (a container id), across restarts, until `release`.
    pub async fn hold(&self, image: &Image, holder: &str) -> Result<(), Error> { let _ = (image, holder); Ok(()) }
    pub async fn release(&self, holder: &str) -> Result<(), Error> { let _ = holder; Ok(()) }
}
