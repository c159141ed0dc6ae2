//! Manifests and indexes, read leniently.
//!
//! Only the fields we act on are modelled: the bytes themselves are kept and passed on as they are (their digest is their
//! name), so nothing is lost by not knowing a field, and registries full of small deviations stay readable.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use crate::options::Limits;
use crate::platform::Platform;
use crate::{Digest, Error};

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub(crate) const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub(crate) const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const DOCKER_SCHEMA_1: &str = "application/vnd.docker.distribution.manifest.v1";

/// Points at content (OCI image-spec, descriptor.md).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    #[serde(default)]
    pub(crate) platform: Option<Platform>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub(crate) annotations: BTreeMap<String, String>,
}

/// An image manifest: OCI 1.x or docker's v2 schema 2, which differ in media types only.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    pub(crate) config: Descriptor,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) layers: Vec<Descriptor>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub(crate) annotations: BTreeMap<String, String>,
}

/// What a tag or digest may name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Document {
    Manifest(Manifest),
    Index(Vec<Descriptor>),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    #[serde(default)]
    schema_version: u32,
    #[serde(default, deserialize_with = "null_is_default")]
    media_type: String,
    manifests: Option<Vec<Descriptor>>,
    layers: Option<serde::de::IgnoredAny>,
    fs_layers: Option<serde::de::IgnoredAny>,
}

impl Document {
    /// Parses either kind. The document's own `mediaType` decides, then the declared one, then which list it has; one with
    /// both lists could be read two ways by two programs and is refused.
    pub(crate) fn parse(bytes: &[u8], declared: Option<&str>, what: &str) -> Result<Document, Error> {
        let json = |source| Error::Json {
            what: what.to_owned(),
            source,
        };
        let shape: Shape = serde_json::from_slice(bytes).map_err(json)?;
        let media_type = if shape.media_type.is_empty() {
            declared.unwrap_or_default()
        } else {
            &shape.media_type
        };
        if shape.schema_version == 1 || shape.fs_layers.is_some() || media_type.starts_with(DOCKER_SCHEMA_1) {
            return Err(Error::invalid(
                what,
                "docker schema 1 manifests are obsolete and unsupported; push the image anew",
            ));
        }
        if shape.manifests.is_some() && shape.layers.is_some() {
            return Err(Error::invalid(what, "the manifest is an index and an image at once"));
        }
        match (media_type, shape.manifests) {
            (OCI_MANIFEST | DOCKER_MANIFEST, Some(_)) => {
                Err(Error::invalid(what, "an index is declared as a manifest"))
            }
            (_, Some(manifests)) => Ok(Document::Index(manifests)),
            (OCI_INDEX | DOCKER_INDEX, None) => Err(Error::invalid(what, "a manifest is declared as an index")),
            (_, None) => Ok(Document::Manifest(serde_json::from_slice(bytes).map_err(json)?)),
        }
    }
}

impl Manifest {
    pub(crate) fn parse(bytes: &[u8], what: &str) -> Result<Manifest, Error> {
        match Document::parse(bytes, None, what)? {
            Document::Manifest(manifest) => Ok(manifest),
            Document::Index(_) => Err(Error::invalid(what, "expected a manifest, found an index")),
        }
    }

    /// Bytes to transfer for config and layers.
    pub(crate) fn content_size(&self) -> u64 {
        self.blobs().fold(0, |sum, blob| sum.saturating_add(blob.size))
    }

    pub(crate) fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        std::iter::once(&self.config).chain(&self.layers)
    }

    /// Refuses before anything is downloaded what would be refused afterwards.
    pub(crate) fn check(&self, what: &str, limits: &Limits) -> Result<(), Error> {
        if self.layers.len() > limits.layers {
            return Err(Error::invalid(
                what,
                format!("{} layers, the limit is {}", self.layers.len(), limits.layers),
            ));
        }
        for (actual, limit) in [
            (self.config.size, limits.document_bytes),
            (self.content_size(), limits.image_bytes),
        ] {
            if actual > limit {
                return Err(Error::TooLarge {
                    what: what.to_owned(),
                    actual,
                    limit,
                });
            }
        }
        Ok(())
    }
}

/// The manifest of an index that suits `platform` best. One without a platform is the last resort.
pub(crate) fn choose<'a>(
    manifests: &'a [Descriptor],
    platform: &Platform,
    reference: &str,
) -> Result<&'a Descriptor, Error> {
    const UNSAID: u32 = 1000;
    let rank = |manifest: &Descriptor| match &manifest.platform {
        Some(offered) if !offered.os.is_empty() => platform.preference(offered),
        _ => Some(UNSAID),
    };
    let best = manifests
        .iter()
        .filter_map(|manifest| Some((rank(manifest)?, manifest)))
        .min_by_key(|(rank, _)| *rank);
    best.map(|(_, manifest)| manifest).ok_or_else(|| {
        let offers = manifests.iter().filter_map(|manifest| manifest.platform.as_ref());
        let offers: Vec<String> = offers
            .filter(|offer| offer.os != "unknown")
            .map(ToString::to_string)
            .collect();
        Error::NoMatchingPlatform {
            reference: reference.to_owned(),
            wanted: platform.to_string(),
            available: if offers.is_empty() {
                "none".to_owned()
            } else {
                offers.join(", ")
            },
        }
    })
}

/// `null` means the same as absent in documents written by Go programs.
pub(crate) fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(platform: Option<(&str, &str)>) -> Descriptor {
        let platform = platform.map(|(os, arch)| Platform {
            os: os.into(),
            architecture: arch.into(),
            variant: String::new(),
        });
        Descriptor {
            media_type: OCI_MANIFEST.into(),
            digest: Digest::of(format!("{platform:?}").as_bytes()),
            size: 1,
            platform,
            annotations: BTreeMap::new(),
        }
    }

    #[test]
    fn the_choice_names_what_there_is() {
        let host = Platform {
            os: "linux".into(),
            architecture: "amd64".into(),
            variant: String::new(),
        };
        let offers = [
            Some(("linux", "arm64")),
            Some(("unknown", "unknown")),
            Some(("wasip1", "wasm")),
        ]
        .map(descriptor);
        assert_eq!(choose(&offers, &host, "r").unwrap(), &offers[2]);
        assert_eq!(choose(&[descriptor(None)], &host, "r").unwrap(), &descriptor(None));
        let error = choose(&offers[..2], &host, "r/a:1").unwrap_err().to_string();
        assert_eq!(
            error,
            "r/a:1: no image for platform linux/amd64; available: linux/arm64"
        );
    }

    #[test]
    fn ambiguous_and_obsolete_documents_are_refused() {
        let digest = Digest::of(b"");
        for text in [
            r#"{"schemaVersion":1,"fsLayers":[]}"#.to_owned(),
            format!(r#"{{"schemaVersion":2,"manifests":[],"layers":[],"config":{{"digest":"{digest}","size":0}}}}"#),
            format!(
                r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","layers":[],"config":{{"digest":"{digest}","size":0}}}}"#
            ),
            r#"{"schemaVersion":2,"layers":[],"config":{"digest":"sha256:../..","size":0}}"#.to_owned(),
            "[]".to_owned(),
        ] {
            assert!(Document::parse(text.as_bytes(), None, "x").is_err(), "{text}");
        }
        let text = format!(
            r#"{{"schemaVersion":2,"annotations":null,"layers":null,"config":{{"digest":"{digest}","size":0}}}}"#
        );
        assert!(matches!(
            Document::parse(text.as_bytes(), None, "x"),
            Ok(Document::Manifest(_))
        ));
    }
}
