//! Builds small images without a builder: from a directory, from this machine's programs, from a `.wasm` file.
//!
//! The output depends on the input's bytes only, so the same input has the same digest everywhere and at any time. Layers
//! are stored uncompressed: they are read back on the machine that packs them, and their digest is then their diff ID.

mod elf;
mod host;
mod layer;
mod loader;
mod rootfs;
mod wasm;

use std::fs::{self, File};
use std::io;
use std::path::Path;

use serde_json::{Value, json};

use self::host::{Closure, Node};
use self::layer::{Attributes, LayerWriter};
use self::wasm::WasmKind;
use crate::content::Content;
use crate::form::{WASM_CONFIG, WASM_LAYER};
use crate::manifest::{OCI_CONFIG, OCI_LAYER, OCI_MANIFEST};
use crate::options::Limits;
use crate::store::{Inner, blocking};
use crate::{Digest, Error, Image, PackSource, Reference, Store};

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Reproducible images have no birthday.
const CREATED: &str = "1970-01-01T00:00:00Z";

impl Store {
    /// Builds an image and calls it `tag`. Packing a root file system that has files of several owners takes root, all
    /// else does not.
    pub async fn pack(&self, source: &PackSource, tag: &str) -> Result<Image, Error> {
        let tag = Reference::parse(tag)?;
        if tag.digest().is_some() {
            return Err(Error::InvalidReference {
                reference: tag.to_string(),
                reason: "an image is packed under a tag",
            });
        }
        let (store, source) = (self.clone(), source.clone());
        blocking(move || store.inner.pack(&source, &tag)).await
    }
}

impl Inner {
    fn pack(&self, source: &PackSource, tag: &Reference) -> Result<Image, Error> {
        let _in_flight = self.in_flight()?;
        let manifest = match source {
            PackSource::RootfsDir(directory) => self.pack_rootfs(directory),
            PackSource::FromHost(programs) => self.pack_host(programs),
            PackSource::Wasm(file) => pack_wasm(&self.content, file, &self.options.limits),
        }?;
        self.record(&manifest, Some(tag), None)
    }

    fn pack_rootfs(&self, directory: &Path) -> Result<Digest, Error> {
        let writer = rootfs::archive(directory, self.content.writer()?)?;
        let layer = writer.commit("layer", None)?;
        let shell = ["bin/sh", "usr/bin/sh"]
            .iter()
            .any(|shell| fs::symlink_metadata(directory.join(shell)).is_ok());
        self.finish_rootfs(&layer, if shell { Some("/bin/sh") } else { None })
    }

    fn pack_host(&self, programs: &[std::path::PathBuf]) -> Result<Digest, Error> {
        let (closure, command) = host::collect(programs)?;
        let mut output = LayerWriter::new(self.content.writer()?);
        write_closure(&closure, &mut output)?;
        let writer = output
            .finish()
            .map_err(|source| Error::io("archive", &command, source))?;
        let layer = writer.commit("layer", None)?;
        let command = command.to_str().ok_or_else(|| Error::Pack {
            path: command.clone(),
            reason: "the path of the command is not UTF-8".to_owned(),
        })?;
        self.finish_rootfs(&layer, Some(command))
    }

    fn finish_rootfs(&self, layer: &(Digest, u64), command: Option<&str>) -> Result<Digest, Error> {
        let platform = &self.options.platform;
        let mut config = json!({
            "created": CREATED,
            "architecture": platform.architecture,
            "os": platform.os,
            "config": {"Env": [PATH], "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": [layer.0]},
            "history": [{"created": CREATED, "created_by": "cata image pack"}],
        });
        if !platform.variant.is_empty() {
            config["variant"] = json!(platform.variant);
        }
        if let Some(command) = command {
            config["config"]["Cmd"] = json!([command]);
        }
        put_manifest(&self.content, &config, OCI_CONFIG, &[(OCI_LAYER, layer.clone())])
    }
}

fn write_closure<W: io::Write>(closure: &Closure, output: &mut LayerWriter<W>) -> Result<(), Error> {
    for (path, node) in &closure.nodes {
        let name = path.strip_prefix("/").unwrap_or(path);
        let result = match node {
            Node::Directory { mode } => output.directory(name, &Attributes::mode(*mode)),
            Node::Symlink(target) => output.symlink(name, target, &Attributes::mode(0o777)),
            Node::Text(text) => output.file(name, &Attributes::mode(0o644), text.len() as u64, text.as_bytes()),
            Node::File { source, mode } => File::open(source).and_then(|file| {
                let size = file.metadata()?.len();
                output.file(name, &Attributes::mode(*mode), size, file)
            }),
        };
        result.map_err(|source| Error::io("archive", path, source))?;
    }
    Ok(())
}

fn pack_wasm(content: &Content, file: &Path, limits: &Limits) -> Result<Digest, Error> {
    let size = fs::metadata(file)
        .map_err(|source| Error::io("inspect", file, source))?
        .len();
    if size > limits.layer_bytes.min(u64::from(u32::MAX)) {
        return Err(Error::TooLarge {
            what: file.display().to_string(),
            actual: size,
            limit: u32::MAX.into(),
        });
    }
    let bytes = fs::read(file).map_err(|source| Error::io("read", file, source))?;
    let kind = WasmKind::of(&bytes).ok_or_else(|| Error::Pack {
        path: file.to_path_buf(),
        reason: "neither a WebAssembly module nor a component (text format must be assembled first)".to_owned(),
    })?;
    let layer = (content.put(&bytes)?, bytes.len() as u64);
    let mut config = json!({
        "created": CREATED,
        "architecture": "wasm",
        "os": kind.os(),
        "layerDigests": [layer.0],
    });
    if kind == WasmKind::Component {
        let (imports, exports) = wasm::interface(&bytes);
        config["component"] = json!({"imports": imports, "exports": exports});
    }
    put_manifest(content, &config, WASM_CONFIG, &[(WASM_LAYER, layer)])
}

/// Stores a config and a manifest over layers that are already there.
pub(crate) fn put_manifest(
    content: &Content,
    config: &Value,
    config_type: &str,
    layers: &[(&str, (Digest, u64))],
) -> Result<Digest, Error> {
    let config = config.to_string();
    let config = (content.put(config.as_bytes())?, config.len() as u64);
    put_manifest_over(content, &config, config_type, layers)
}

/// The same over a config that is there, too.
pub(crate) fn put_manifest_over(
    content: &Content,
    config: &(Digest, u64),
    config_type: &str,
    layers: &[(&str, (Digest, u64))],
) -> Result<Digest, Error> {
    let descriptor = |media_type: &str, (digest, size): &(Digest, u64)| json!({"mediaType": media_type, "digest": digest, "size": size});
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(config_type, config),
        "layers": layers.iter().map(|(media_type, layer)| descriptor(media_type, layer)).collect::<Vec<_>>(),
    });
    content.put(manifest.to_string().as_bytes())
}

#[cfg(test)]
mod tests;
