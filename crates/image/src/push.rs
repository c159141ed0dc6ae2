//! From the store to a registry.

use crate::manifest::{Descriptor, OCI_MANIFEST};
use crate::registry::Session;
use crate::store::blocking;
use crate::{Credential, Digest, Error, ErrorKind, Reference, Store};

impl Store {
    /// Uploads a local image as `destination`; returns the digest it has there. What the registry has already is not sent
    /// again; what it claims to have stored is compared with what was sent.
    pub async fn push(&self, reference: &str, destination: &str, credentials: &[Credential]) -> Result<String, Error> {
        let missing = || Error::NoSuchImage {
            reference: reference.to_owned(),
        };
        let image = self.get(reference).await?.ok_or_else(missing)?;
        let destination = Reference::parse(destination)?;
        let manifest = Digest::parse(&image.manifest)?;
        if destination.digest().is_some_and(|digest| *digest != manifest) {
            let reason = "the digest in the destination is not that of the image";
            return Err(Error::InvalidReference {
                reference: destination.to_string(),
                reason,
            });
        }
        let store = self.clone();
        let _in_flight = blocking(move || store.inner.in_flight()).await?;
        let sources: Vec<Reference> = image
            .names
            .iter()
            .chain(&image.digests)
            .filter_map(|name| Reference::parse(name).ok())
            .collect();
        let mut candidates: Vec<Option<&Credential>> = Credential::matching(credentials, &destination)
            .into_iter()
            .map(Some)
            .collect();
        if candidates.is_empty() {
            candidates.push(None);
        }
        let last = candidates.len() - 1;
        for (index, credential) in candidates.iter().enumerate() {
            match self.push_with(&manifest, &destination, *credential, &sources).await {
                Err(error) if error.kind() == ErrorKind::Unauthorized && index < last => {}
                result => return result.map(|()| manifest.to_string()),
            }
        }
        Ok(manifest.to_string())
    }

    async fn push_with(
        &self,
        digest: &Digest,
        destination: &Reference,
        credential: Option<&Credential>,
        sources: &[Reference],
    ) -> Result<(), Error> {
        let what = destination.to_string();
        let bytes = self
            .inner
            .content
            .read(digest, self.inner.options.limits.document_bytes)?;
        let (manifest, _) = self.inner.manifest(digest)?;
        let session = self
            .inner
            .client()
            .session(
                &what,
                destination.registry(),
                destination.repository(),
                credential,
                "pull,push",
            )
            .await?;
        let here = |source: &&Reference| {
            source.registry() == destination.registry() && source.repository() != destination.repository()
        };
        let from = sources.iter().find(here).map(Reference::repository);
        for blob in manifest.blobs() {
            self.push_blob(&session, blob, from, &what).await?;
        }
        let declared = serde_json::from_slice::<serde_json::Value>(&bytes).ok();
        let media_type = declared.and_then(|value| Some(value.get("mediaType")?.as_str()?.to_owned()));
        session
            .put_manifest(
                destination.selector(),
                media_type.as_deref().unwrap_or(OCI_MANIFEST),
                bytes,
            )
            .await
    }

    async fn push_blob(
        &self,
        session: &Session<'_>,
        blob: &Descriptor,
        from: Option<&str>,
        what: &str,
    ) -> Result<(), Error> {
        if session.has_blob(blob).await? {
            return Ok(());
        }
        if !self.inner.content.has(&blob.digest, blob.size) {
            return Err(Error::invalid(
                what,
                format!(
                    "blob {} is missing from the local store; pull the image again",
                    blob.digest
                ),
            ));
        }
        let file = self.inner.content.path(&blob.digest);
        match session.upload(blob, &file, from).await {
            // Who may push here need not be allowed to read where the blob could have come from.
            Err(error) if from.is_some() && error.kind() == ErrorKind::Unauthorized => {
                session.upload(blob, &file, None).await
            }
            result => result,
        }
    }
}
