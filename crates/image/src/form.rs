//! How an image runs, read off what it declares.
//!
//! ```text
//! one layer of a wasm media type ─────────────────────────────→ WasmArtifact
//! image config + tar layers ─┬─ platform or annotation is wasm → WasmRootfs
//!                            └─ linux on our architecture ─────→ Linux
//! anything else ──────────────────────────────────────────────→ error that names the media types
//! ```
//! No byte of a layer is looked at: what a file seems to be is the author's secret, what it declares is a contract.

use crate::config::ImageConfig;
use crate::manifest::{DOCKER_CONFIG, Manifest, OCI_CONFIG, OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD};
use crate::platform::Platform;
use crate::{Digest, Error};

pub(crate) const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";
pub(crate) const WASM_LAYER: &str = "application/wasm";
const WASM_LAYERS: [&str; 3] = [
    WASM_LAYER,
    "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm",
    "application/vnd.wasm.content.layer.v1+wasm",
];
const TAR_LAYERS: [&str; 9] = [
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_LAYER_ZSTD,
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
];
/// Set by buildah-style builders on root file systems with a wasm entrypoint; `compat-smart` promises nothing about it.
const VARIANT_ANNOTATION: &str = "module.wasm.image/variant";
const HANDLER_ANNOTATION: &str = "run.oci.handler";

/// [`crate::Form`] without paths of a particular store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Declared {
    Linux,
    WasmArtifact { layer: Digest },
    WasmRootfs { entrypoint: String },
}

/// Whether the config document is an image config, which has the fields of [`ImageConfig`] and one owner.
pub(crate) fn is_image_config(manifest: &Manifest) -> bool {
    [OCI_CONFIG, DOCKER_CONFIG].contains(&manifest.config.media_type.as_str())
}

/// What can be said before the config is fetched: artifacts that are certainly unknown.
pub(crate) fn check_media_types(reference: &str, manifest: &Manifest) -> Result<(), Error> {
    if wasm_layer(manifest).is_some() || is_rootfs(manifest) {
        return Ok(());
    }
    let mut layers: Vec<&str> = manifest.layers.iter().map(|layer| named(&layer.media_type)).collect();
    layers.dedup();
    Err(Error::UnknownArtifact {
        reference: reference.to_owned(),
        config: named(&manifest.config.media_type).to_owned(),
        layers: if layers.is_empty() {
            "(none)".to_owned()
        } else {
            layers.join(", ")
        },
    })
}

/// Decides the form, or says why this machine cannot run the image.
pub(crate) fn detect(
    reference: &str,
    manifest: &Manifest,
    config: &ImageConfig,
    host: &Platform,
) -> Result<Declared, Error> {
    check_media_types(reference, manifest)?;
    if let Some(layer) = wasm_layer(manifest) {
        return Ok(Declared::WasmArtifact { layer });
    }
    let program = config.program().unwrap_or_default();
    let offered = Platform {
        os: config.os.clone(),
        architecture: config.architecture.clone(),
        variant: String::new(),
    };
    let annotation = |name: &str| {
        manifest
            .annotations
            .get(name)
            .map(String::as_str)
            .or_else(|| config.label(name))
    };
    let variant = annotation(VARIANT_ANNOTATION);
    let declared = offered.is_wasm() || variant == Some("compat") || annotation(HANDLER_ANNOTATION) == Some("wasm");
    let is_wasm_file = program.ends_with(".wasm");
    if is_wasm_file && (declared || variant == Some("compat-smart")) {
        return Ok(Declared::WasmRootfs {
            entrypoint: program.to_owned(),
        });
    }
    if declared {
        let reason = format!("the image declares wasm, but its entrypoint {program:?} is not a .wasm file");
        return Err(Error::invalid(reference, reason));
    }
    let known = |text: &str, wanted: &str| text.is_empty() || text == wanted;
    if known(&offered.os, &host.os) && known(&offered.architecture, &host.architecture) {
        return Ok(Declared::Linux);
    }
    Err(Error::WrongArchitecture {
        reference: reference.to_owned(),
        wanted: format!("{}/{}", host.os, host.architecture),
        actual: offered.to_string(),
    })
}

fn wasm_layer(manifest: &Manifest) -> Option<Digest> {
    match manifest.layers.as_slice() {
        [layer] if WASM_LAYERS.contains(&layer.media_type.as_str()) => Some(layer.digest.clone()),
        _ => None,
    }
}

fn is_rootfs(manifest: &Manifest) -> bool {
    is_image_config(manifest)
        && manifest
            .layers
            .iter()
            .all(|layer| TAR_LAYERS.contains(&layer.media_type.as_str()))
}

fn named(media_type: &str) -> &str {
    if media_type.is_empty() {
        "(no media type)"
    } else {
        media_type
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Descriptor;

    fn manifest(config: &str, layers: &[&str], annotations: &[(&str, &str)]) -> Manifest {
        let descriptor = |media_type: &str| Descriptor {
            media_type: media_type.to_owned(),
            digest: Digest::of(media_type.as_bytes()),
            size: 1,
            platform: None,
            annotations: Default::default(),
        };
        Manifest {
            config: descriptor(config),
            layers: layers.iter().map(|layer| descriptor(layer)).collect(),
            annotations: annotations
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
        }
    }

    fn config(os: &str, architecture: &str, entrypoint: &str) -> ImageConfig {
        let json = serde_json::json!({"os": os, "architecture": architecture, "config": {"Entrypoint": [entrypoint]}});
        ImageConfig::parse(json.to_string().as_bytes(), "x").unwrap()
    }

    fn decide(manifest: &Manifest, config: &ImageConfig) -> String {
        let host = Platform {
            os: "linux".into(),
            architecture: "amd64".into(),
            variant: String::new(),
        };
        match detect("r/a:1", manifest, config, &host) {
            Ok(Declared::Linux) => "linux".into(),
            Ok(Declared::WasmArtifact { .. }) => "artifact".into(),
            Ok(Declared::WasmRootfs { entrypoint }) => format!("rootfs {entrypoint}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn every_declared_form_and_nothing_else() {
        let none = ImageConfig::default();
        for layer in WASM_LAYERS {
            for config_type in [
                WASM_CONFIG,
                "application/vnd.wasm.config.v1+json",
                OCI_CONFIG,
                "application/x",
            ] {
                assert_eq!(decide(&manifest(config_type, &[layer], &[]), &none), "artifact");
            }
        }
        let linux = config("linux", "amd64", "/bin/app");
        let module = config("linux", "amd64", "/app.wasm");
        for layer in TAR_LAYERS {
            assert_eq!(decide(&manifest(OCI_CONFIG, &[layer], &[]), &linux), "linux");
        }
        let plain = manifest(DOCKER_CONFIG, &[OCI_LAYER_GZIP, OCI_LAYER], &[]);
        let compat = manifest(OCI_CONFIG, &[OCI_LAYER_GZIP], &[(VARIANT_ANNOTATION, "compat")]);
        let smart = manifest(OCI_CONFIG, &[OCI_LAYER_GZIP], &[(VARIANT_ANNOTATION, "compat-smart")]);
        let handler = manifest(OCI_CONFIG, &[OCI_LAYER_GZIP], &[(HANDLER_ANNOTATION, "wasm")]);
        assert_eq!(decide(&plain, &linux), "linux");
        assert_eq!(decide(&plain, &module), "linux", "a name alone declares nothing");
        assert_eq!(decide(&plain, &config("wasi", "wasm", "/app.wasm")), "rootfs /app.wasm");
        assert_eq!(decide(&plain, &config("wasip1", "wasm", "app.wasm")), "rootfs app.wasm");
        for annotated in [&compat, &smart, &handler] {
            assert_eq!(decide(annotated, &module), "rootfs /app.wasm");
            assert_eq!(
                decide(annotated, &config("linux", "arm64", "/app.wasm")),
                "rootfs /app.wasm"
            );
        }
        assert_eq!(decide(&smart, &linux), "linux");
        assert_eq!(
            decide(&compat, &linux),
            "r/a:1: the image declares wasm, but its entrypoint \"/bin/app\" is not a .wasm file"
        );
        assert_eq!(
            decide(&plain, &config("linux", "arm64", "/bin/app")),
            "r/a:1: the image is built for linux/arm64, this node runs linux/amd64"
        );
        assert_eq!(
            decide(
                &manifest(
                    "application/vnd.cncf.helm.config.v1+json",
                    &["application/vnd.cncf.helm.chart"],
                    &[]
                ),
                &none
            ),
            "r/a:1: unknown artifact: config application/vnd.cncf.helm.config.v1+json, layers \
             application/vnd.cncf.helm.chart: neither a container image nor a wasm artifact"
        );
        for unknown in [
            manifest(WASM_CONFIG, &[], &[]),
            manifest(WASM_CONFIG, &[WASM_LAYER, WASM_LAYER], &[]),
            manifest(OCI_CONFIG, &[OCI_LAYER, WASM_LAYER], &[]),
            manifest(WASM_CONFIG, &[OCI_LAYER], &[]),
            manifest("", &[""], &[]),
        ] {
            assert!(decide(&unknown, &none).contains("unknown artifact"), "{unknown:?}");
        }
    }
}
