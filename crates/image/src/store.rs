//! The store: one directory that the agent and the CLI share.
//!
//! ```text
//! <dir>/catalog.json       names → manifests           (catalog.rs)
//! <dir>/blobs/sha256/…     manifests, configs, layers  (content.rs)
//! <dir>/layers/<chain>/    unpacked layers, by chain ID (layers.rs)
//! <dir>/leases/<holder>    what a container needs       (lease.rs)
//! <dir>/locks/…  tmp/…     flocks; whatever is not finished
//! ```
//! Opening makes directories and reads nothing, so it costs the same with ten images and with ten thousand. Parsed images
//! stay in memory; they are immutable, only their names change, and those come from the catalog.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::catalog::{Catalog, Entry, Snapshot};
use crate::config::ImageConfig;
use crate::content::{Content, restrict};
use crate::digest::is_hex64;
use crate::form::{self, Declared};
use crate::lock::FileLock;
use crate::manifest::Manifest;
use crate::registry::Client;
use crate::{Digest, Error, ErrorKind, Form, Image, Options, Reference, Root};

/// A store of images in one directory; cheap to open, to clone and to share between processes.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    dir: PathBuf,
    pub(crate) layers: PathBuf,
    pub(crate) leases: PathBuf,
    pub(crate) locks: PathBuf,
    pub(crate) content: Content,
    pub(crate) catalog: Catalog,
    pub(crate) options: Options,
    images: Mutex<HashMap<Digest, Arc<Image>>>,
    /// Images whose layers this process has seen unpacked.
    pub(crate) roots: Mutex<HashMap<Digest, Root>>,
    client: Client,
    /// One pull per name and one unpack per image at a time; whoever waited finds the work done.
    pub(crate) busy: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

/// What `remove` did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// Names that are gone.
    pub untagged: Vec<String>,
    /// The image's ID if nothing has it any more.
    pub deleted: Option<String>,
}

const MIN_ID_PREFIX: usize = 6;

impl Store {
    /// Opens the store in `dir`, which is created if it is missing. Nothing is scanned.
    pub fn open(dir: PathBuf, options: Options) -> Result<Store, Error> {
        let content = Content::open(&dir)?;
        let catalog = Catalog::new(&dir, content.temporary_dir());
        let inner = Inner {
            layers: dir.join("layers"),
            leases: dir.join("leases"),
            locks: dir.join("locks"),
            content,
            catalog,
            client: Client::new(&options),
            options,
            images: Mutex::default(),
            dir,
            roots: Mutex::default(),
            busy: Mutex::default(),
        };
        for dir in [&inner.layers, &inner.leases, &inner.locks] {
            std::fs::create_dir_all(dir).map_err(|source| Error::io("create", dir, source))?;
        }
        restrict(&inner.layers, 0o700)?;
        // Whoever may open a lock for reading may hold it for ever.
        restrict(&inner.locks, 0o700)?;
        Ok(Store { inner: Arc::new(inner) })
    }

    /// The directory it was opened in.
    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }

    /// Finds a local image by name (`nginx`, `host/a:tag`, `a@sha256:…`), ID, or an unambiguous beginning of an ID. Asks no
    /// registry. An image whose manifest or config got lost counts as absent, so that it is pulled again.
    #[expect(clippy::unused_async, reason = "the interface may come to need it; a stat does not")]
    pub async fn get(&self, reference: &str) -> Result<Option<Image>, Error> {
        let snapshot = self.inner.catalog.snapshot()?;
        let Some(manifest) = find(&snapshot, reference)? else {
            return Ok(None);
        };
        match self.inner.image(&snapshot, manifest) {
            Ok(image) => Ok(Some(image)),
            Err(error) if is_lost(&error) => {
                tracing::warn!(reference, error = %error, "image content is lost or damaged");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// All images, by their first name. Damaged ones are left out.
    pub async fn list(&self) -> Result<Vec<Image>, Error> {
        let store = self.clone();
        blocking(move || {
            let snapshot = store.inner.catalog.snapshot()?;
            let images = snapshot
                .images
                .keys()
                .map(|manifest| store.inner.image(&snapshot, manifest));
            let mut images: Vec<Image> = images
                .filter(|image| !image.as_ref().is_err_and(is_lost))
                .collect::<Result<_, _>>()?;
            images.sort_by(|a, b| (&a.names, &a.digests).cmp(&(&b.names, &b.digests)));
            Ok(images)
        })
        .await
    }

    /// Removes a name, and the image with its last name; by ID, the image with all its names. Content that nothing needs
    /// any more is deleted, what a container needs stays until it is released.
    pub async fn remove(&self, reference: &str) -> Result<Removed, Error> {
        let missing = || Error::NoSuchImage {
            reference: reference.to_owned(),
        };
        let snapshot = self.inner.catalog.snapshot()?;
        let manifest = find(&snapshot, reference)?.cloned().ok_or_else(missing)?;
        let name = snapshot.images[&manifest].name_for(reference);
        let (store, missing) = (self.clone(), missing());
        let removed = blocking(move || {
            let removed = store.inner.catalog.update(|images| {
                let id = images.get(&manifest)?.id.clone();
                let mut untagged = Vec::new();
                // Differently compressed copies share an ID, so by ID all of them go.
                for (digest, entry) in images.iter_mut() {
                    if *digest == manifest || (name.is_none() && entry.id == id) {
                        untagged.extend(entry.untag(name.as_deref()));
                    }
                }
                images.retain(|digest, entry| {
                    if entry.is_nameless() {
                        store.inner.forget(digest);
                    }
                    !entry.is_nameless()
                });
                let deleted = images.values().all(|entry| entry.id != id).then_some(id);
                Some(Removed { untagged, deleted })
            })?;
            removed.ok_or(missing)
        })
        .await?;
        self.collect().await?;
        Ok(removed)
    }

    /// Gives a local image another name.
    pub async fn tag(&self, reference: &str, name: &str) -> Result<Image, Error> {
        let name = Reference::parse(name)?;
        let image = self.get(reference).await?.ok_or_else(|| Error::NoSuchImage {
            reference: reference.to_owned(),
        })?;
        let store = self.clone();
        blocking(move || store.inner.record(&Digest::parse(&image.manifest)?, Some(&name), None)).await
    }
}

impl Inner {
    /// The image of a manifest, with its names.
    pub(crate) fn image(&self, snapshot: &Snapshot, manifest: &Digest) -> Result<Image, Error> {
        let cached = self
            .images
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(manifest)
            .cloned();
        let template = match cached {
            Some(template) => template,
            None => {
                let template = Arc::new(self.load(manifest)?);
                self.images
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(manifest.clone(), template.clone());
                template
            }
        };
        let mut image = Image::clone(&template);
        if let Some(entry) = snapshot.images.get(manifest) {
            image.names = entry.names.iter().cloned().collect();
            image.digests = entry.digests.iter().cloned().collect();
        }
        Ok(image)
    }

    fn forget(&self, manifest: &Digest) {
        self.images
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(manifest);
        self.roots
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(manifest);
    }

    /// Reads and judges an image from its blobs.
    fn load(&self, digest: &Digest) -> Result<Image, Error> {
        let (manifest, size) = self.manifest(digest)?;
        let config = self.config(digest, &manifest)?;
        let declared = form::detect(digest.as_str(), &manifest, &config, &self.options.platform)?;
        let form = match declared {
            Declared::Linux => Form::Linux,
            Declared::WasmRootfs { entrypoint } => Form::WasmRootfs { entrypoint },
            Declared::WasmArtifact { layer } => Form::WasmArtifact {
                module: self.content.path(&layer),
                digest: layer.to_string(),
            },
        };
        Ok(Image {
            id: image_id(digest, &manifest, &form),
            manifest: digest.to_string(),
            names: Vec::new(),
            digests: Vec::new(),
            size: size.saturating_add(manifest.content_size()),
            os: config.os.clone(),
            architecture: config.architecture.clone(),
            created: config.created.clone(),
            config: config.into_config(),
            form,
        })
    }

    pub(crate) fn manifest(&self, digest: &Digest) -> Result<(Manifest, u64), Error> {
        let bytes = self.content.read(digest, self.options.limits.document_bytes)?;
        Ok((Manifest::parse(&bytes, digest.as_str())?, bytes.len() as u64))
    }

    /// The config; of an artifact whatever of it reads like one.
    pub(crate) fn config(&self, digest: &Digest, manifest: &Manifest) -> Result<ImageConfig, Error> {
        let bytes = self
            .content
            .read(&manifest.config.digest, self.options.limits.document_bytes)?;
        if form::is_image_config(manifest) {
            return ImageConfig::parse(&bytes, digest.as_str());
        }
        Ok(ImageConfig::parse(&bytes, digest.as_str()).unwrap_or_default())
    }

    /// Enters a complete image into the catalog. The caller holds [`Inner::in_flight`].
    pub(crate) fn record(
        &self,
        manifest: &Digest,
        name: Option<&Reference>,
        digest: Option<&str>,
    ) -> Result<Image, Error> {
        let id = self.image(&Snapshot::default(), manifest)?.id;
        let name = name.filter(|name| name.digest().is_none()).map(ToString::to_string);
        self.catalog.record(manifest, &id, name.as_deref(), digest)?;
        self.image(&*self.catalog.snapshot()?, manifest)
    }

    /// Held while content is written that no name protects yet; the collector takes it exclusively.
    pub(crate) fn in_flight(&self) -> Result<FileLock, Error> {
        FileLock::shared(&self.collector_lock())
    }

    pub(crate) fn collector_lock(&self) -> PathBuf {
        self.locks.join("collector")
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// The lock of one piece of work within this process.
    pub(crate) fn exclusive(&self, work: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        busy.retain(|_, lock| Arc::strong_count(lock) > 1);
        busy.entry(work.to_owned()).or_default().clone()
    }
}

impl Entry {
    /// Which of the entry's names `reference` means; `None` if it is an ID.
    fn name_for(&self, reference: &str) -> Option<String> {
        let keys = lookup_keys(reference).unwrap_or_default();
        keys.into_iter()
            .find(|key| self.names.contains(key) || self.digests.contains(key))
    }

    /// Removes one name (or all), and the digests of a repository that no name is left of.
    fn untag(&mut self, name: Option<&str>) -> Vec<String> {
        let repository = |name: &str| Reference::parse(name).map(|name| name.name()).unwrap_or_default();
        let Some(name) = name else {
            let names = std::mem::take(&mut self.names).into_iter();
            return names.chain(std::mem::take(&mut self.digests)).collect();
        };
        if self.digests.remove(name) {
            return vec![name.to_owned()];
        }
        self.names.remove(name);
        let gone = repository(name);
        if self.names.iter().all(|other| repository(other) != gone) {
            self.digests.retain(|digest| repository(digest) != gone);
        }
        vec![name.to_owned()]
    }

    fn is_nameless(&self) -> bool {
        self.names.is_empty() && self.digests.is_empty()
    }
}

fn image_id(digest: &Digest, manifest: &Manifest, form: &Form) -> String {
    match form {
        Form::WasmArtifact { .. } => digest.to_string(),
        _ => manifest.config.digest.to_string(),
    }
}

fn is_lost(error: &Error) -> bool {
    match error {
        Error::Io { source, .. } => source.kind() == std::io::ErrorKind::NotFound,
        error => error.kind() == ErrorKind::Digest,
    }
}

/// A name that cannot be parsed may still be the beginning of an ID.
pub(crate) fn find<'a>(snapshot: &'a Snapshot, reference: &str) -> Result<Option<&'a Digest>, Error> {
    let hex = reference.strip_prefix("sha256:").unwrap_or(reference);
    let is_prefix = hex.len() >= MIN_ID_PREFIX && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    match lookup_keys(reference) {
        Ok(keys) => {
            let found = keys.iter().find_map(|key| snapshot.find(key));
            Ok(found.or_else(|| if is_prefix { snapshot.find_prefix(hex) } else { None }))
        }
        Err(_) if is_prefix => Ok(snapshot.find_prefix(hex)),
        Err(error) => Err(error),
    }
}

/// The catalog keys that a reference may stand for.
fn lookup_keys(reference: &str) -> Result<Vec<String>, Error> {
    if is_hex64(reference) {
        return Ok(vec![format!("sha256:{reference}")]);
    }
    if Digest::parse(reference).is_ok() {
        return Ok(vec![reference.to_owned()]);
    }
    let parsed = Reference::parse(reference)?;
    Ok(match parsed.digest() {
        Some(digest) => vec![parsed.with_digest(digest)],
        None => vec![parsed.to_string()],
    })
}

/// Runs file work off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(Error::Task)?
}
