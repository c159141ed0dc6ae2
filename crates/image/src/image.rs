//! What the rest of Catamaran knows about an image: plain values, no IO.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// An image in the local store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// `sha256:…` of the config, as `status.containerStatuses[].imageID` builds on it. Artifacts whose config is not an
    /// image config (and so may be shared by many) are identified by their manifest instead.
    pub id: String,
    /// `sha256:…` of the manifest for this platform.
    pub manifest: String,
    /// Canonical tagged names, sorted: `docker.io/library/nginx:1.27`.
    pub names: Vec<String>,
    /// `registry/repository@sha256:…`, as it was asked for (so of the index where there was one), sorted.
    pub digests: Vec<String>,
    /// Bytes of manifest, config and layers as stored (compressed).
    pub size: u64,
    pub os: String,
    pub architecture: String,
    /// RFC 3339 creation time from the config.
    pub created: Option<String>,
    pub config: Config,
    pub form: Form,
}

/// How an image runs; decided by what it declares, never by looking at its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// A root file system for this machine's kernel and architecture.
    Linux,
    /// A single wasm module or component; `module` is its path in the content store, `digest` the `sha256:…` of it.
    WasmArtifact { module: PathBuf, digest: String },
    /// A root file system that declares wasm; `entrypoint` is the path of the `.wasm` file in it.
    WasmRootfs { entrypoint: String },
}

impl Form {
    pub fn is_wasm(&self) -> bool {
        !matches!(self, Form::Linux)
    }
}

/// An image's defaults for its containers, normalised: absent, null and empty are the same
/// (OCI image-spec, config.md, and docker's v2 schema 2 config).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    /// `NAME=value`, in the image's order.
    pub env: Vec<String>,
    /// `user[:group]`, names or numbers; empty is root.
    pub user: String,
    /// Absolute path; `/` where the image says nothing.
    pub working_dir: String,
    /// Name or number; `None` is SIGTERM.
    pub stop_signal: Option<String>,
    /// Absolute paths, sorted.
    pub volumes: Vec<String>,
    /// `port/protocol`, sorted.
    pub exposed_ports: Vec<String>,
    pub labels: BTreeMap<String, String>,
}

/// The unpacked layers of an image, for an overlay mount.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Root {
    /// Topmost first; empty for a wasm artifact.
    pub lower_dirs: Vec<PathBuf>,
}

/// What `pack` builds an image from.
#[derive(Debug, Clone)]
pub enum PackSource {
    /// A directory that is a root file system.
    RootfsDir(PathBuf),
    /// Programs of this machine with everything their loader needs; the first is the image's command.
    FromHost(Vec<PathBuf>),
    /// A wasm module or component.
    Wasm(PathBuf),
}
