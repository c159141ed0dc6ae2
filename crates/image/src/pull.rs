//! From a registry into the store.
//!
//! ```text
//! reference → manifest or index → our platform's manifest → judge media types → config → judge platform → layers → name
//! ```
//! Judgement comes before bytes: an image that cannot run here costs two small requests. The name is written last, when
//! everything it needs is on disk.

use futures::stream::{StreamExt as _, TryStreamExt as _};

use crate::config::ImageConfig;
use crate::form;
use crate::manifest::{Descriptor, Document, Manifest, choose};
use crate::registry::{Fetched, Session};
use crate::store::blocking;
use crate::{Credential, Digest, Error, ErrorKind, Image, Reference, Store};

/// An index may point to an index; deeper nesting has no use.
const MAX_INDEX_DEPTH: usize = 3;

impl Store {
    /// Fetches an image and whatever of its content is missing, and gives it its name. Credentials that match are tried in
    /// the kubelet's order; with none, access is anonymous. Kinds of failure are told apart by [`Error::kind`].
    pub async fn pull(&self, reference: &str, credentials: &[Credential]) -> Result<Image, Error> {
        let reference = Reference::parse(reference)?;
        let store = self.clone();
        let _in_flight = blocking(move || store.inner.in_flight()).await?;
        let mut registries = self
            .inner
            .options
            .mirrors
            .get(reference.registry())
            .cloned()
            .unwrap_or_default();
        registries.push(reference.registry().to_owned());
        let last = registries.len() - 1;
        for (index, registry) in registries.iter().enumerate() {
            match self.pull_from(registry, &reference, credentials).await {
                Err(error) if index < last => {
                    tracing::debug!(mirror = registry, image = %reference, error = %error, "mirror cannot serve the image");
                }
                result => return result,
            }
        }
        Err(Error::NotFound {
            what: reference.to_string(),
        })
    }

    async fn pull_from(
        &self,
        registry: &str,
        reference: &Reference,
        credentials: &[Credential],
    ) -> Result<Image, Error> {
        let mut candidates: Vec<Option<&Credential>> =
            Credential::for_name(credentials, registry, reference.repository())
                .into_iter()
                .map(Some)
                .collect();
        // A helper we do not run must not hide an image that is public.
        let only_helpers = candidates
            .iter()
            .flatten()
            .all(|credential| credential.helper().is_some());
        if only_helpers {
            candidates.insert(0, None);
        }
        let last = candidates.len() - 1;
        for (index, credential) in candidates.iter().enumerate() {
            let what = reference.to_string();
            let client = self.inner.client();
            let opened = client
                .session(&what, registry, reference.repository(), *credential, "pull")
                .await;
            let result = match opened {
                Ok(session) => self.pull_with(&session, reference).await,
                Err(error) => Err(error),
            };
            match result {
                Err(error) if error.kind() == ErrorKind::Unauthorized && index < last => {}
                result => return result,
            }
        }
        Err(Error::NotFound {
            what: reference.to_string(),
        })
    }

    async fn pull_with(&self, session: &Session<'_>, reference: &Reference) -> Result<Image, Error> {
        let what = reference.to_string();
        let limits = &self.inner.options.limits;
        let (top, fetched, manifest) = self.resolve(session, reference).await?;
        manifest.check(&what, limits)?;
        form::check_media_types(&what, &manifest)?;
        self.fetch(session, &manifest.config, &what).await?;
        let config = self
            .inner
            .content
            .read(&manifest.config.digest, limits.document_bytes)?;
        let config = match ImageConfig::parse(&config, &what) {
            Err(_) if !form::is_image_config(&manifest) => ImageConfig::default(),
            config => config?,
        };
        form::detect(&what, &manifest, &config, &self.inner.options.platform)?;
        // Collected first: a closure inside the stream would keep this future from being `Send` for every lifetime.
        let fetches: Vec<_> = manifest
            .layers
            .iter()
            .map(|layer| self.fetch(session, layer, &what))
            .collect();
        futures::stream::iter(fetches)
            .buffer_unordered(self.inner.options.parallel_downloads.max(1))
            .try_collect::<()>()
            .await?;
        let (store, reference) = (self.clone(), reference.clone());
        blocking(move || {
            let digest = store.inner.content.put(&fetched.bytes)?;
            store
                .inner
                .record(&digest, Some(&reference), Some(&reference.with_digest(&top)))
        })
        .await
    }

    /// The digest that the reference stands for, and the manifest for this machine.
    async fn resolve(
        &self,
        session: &Session<'_>,
        reference: &Reference,
    ) -> Result<(Digest, Fetched, Manifest), Error> {
        let what = reference.to_string();
        let mut fetched = session.manifest(reference.selector()).await?;
        let top = fetched.digest.clone();
        for _ in 0..MAX_INDEX_DEPTH {
            match Document::parse(&fetched.bytes, fetched.media_type.as_deref(), &what)? {
                Document::Manifest(manifest) => return Ok((top, fetched, manifest)),
                Document::Index(manifests) => {
                    let chosen = choose(&manifests, &self.inner.options.platform, &what)?;
                    fetched = session.manifest(chosen.digest.as_str()).await?;
                }
            }
        }
        Err(Error::invalid(what, "indexes are nested too deeply"))
    }

    /// Makes sure that a blob is here. Pulls that share a layer wait for one download.
    async fn fetch(&self, session: &Session<'_>, blob: &Descriptor, what: &str) -> Result<(), Error> {
        let content = &self.inner.content;
        if content.has(&blob.digest, blob.size) {
            return Ok(());
        }
        let lock = self.inner.exclusive(blob.digest.as_str());
        let _guard = lock.lock().await;
        if content.has(&blob.digest, blob.size) {
            return Ok(());
        }
        let mut writer = content.writer()?;
        session.download(blob, &mut writer).await?;
        tracing::debug!(registry = session.registry(), digest = %blob.digest, bytes = blob.size, "downloaded a blob");
        let (digest, what) = (blob.digest.clone(), format!("{what}: blob {}", blob.digest));
        blocking(move || writer.commit(&what, Some(&digest)).map(drop)).await
    }
}
