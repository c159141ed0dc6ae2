//! One error type for the whole crate, because its readers are pods.
//!
//! Every variant ends as a container's `waiting.message` or as one line of the CLI, so each names the image, registry or
//! file it is about; the cause is the `source`, never part of the text. [`Error::kind`] is what callers branch on.

use std::io;
use std::path::{Path, PathBuf};

/// What went wrong with an image, its store, or a registry.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("invalid image reference {reference:?}: {reason}")]
    InvalidReference { reference: String, reason: &'static str },
    #[error("invalid digest {digest:?}: expected sha256: and 64 lower-case hex digits")]
    InvalidDigest { digest: String },
    #[error("{what}: manifest unknown: no such repository, tag or digest")]
    NotFound { what: String },
    #[error("no image {reference:?} in the local store")]
    NoSuchImage { reference: String },
    #[error("{what}: unauthorized: {detail}")]
    Unauthorized { what: String, detail: String },
    #[error("{what}: registry {registry} is unreachable")]
    Unreachable {
        what: String,
        registry: String,
        #[source]
        source: reqwest::Error,
    },
    #[error("{what}: TLS with registry {registry} failed")]
    Tls {
        what: String,
        registry: String,
        #[source]
        source: reqwest::Error,
    },
    #[error("{what}: transfer from registry {registry} failed")]
    Transfer {
        what: String,
        registry: String,
        #[source]
        source: reqwest::Error,
    },
    #[error("{what}: registry {registry} is busy ({status}); tried {attempts} times")]
    Busy {
        what: String,
        registry: String,
        status: u16,
        attempts: u32,
    },
    #[error("{what}: registry {registry} answered {status}: {message}")]
    Registry {
        what: String,
        registry: String,
        status: u16,
        message: String,
    },
    #[error("{what}: content has digest {actual}, expected {expected}")]
    DigestMismatch {
        what: String,
        expected: String,
        actual: String,
    },
    #[error("{what}: content has {actual} bytes, expected {expected}")]
    SizeMismatch { what: String, expected: u64, actual: u64 },
    #[error("{reference}: no image for platform {wanted}; available: {available}")]
    NoMatchingPlatform {
        reference: String,
        wanted: String,
        available: String,
    },
    #[error("{reference}: the image is built for {actual}, this node runs {wanted}")]
    WrongArchitecture {
        reference: String,
        wanted: String,
        actual: String,
    },
    #[error(
        "{reference}: unknown artifact: config {config}, layers {layers}: neither a container image nor a wasm artifact"
    )]
    UnknownArtifact {
        reference: String,
        config: String,
        layers: String,
    },
    #[error("{what}: too large: {actual} bytes, the limit is {limit}")]
    TooLarge { what: String, actual: u64, limit: u64 },
    #[error("{what}: {reason}")]
    Invalid { what: String, reason: String },
    #[error("{what}: invalid JSON")]
    Json {
        what: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("layer {layer}: entry {entry:?}: {reason}")]
    LayerEntry {
        layer: String,
        entry: String,
        reason: String,
    },
    #[error("layer {layer}: cannot unpack entry {entry:?}")]
    LayerIo {
        layer: String,
        entry: String,
        #[source]
        source: io::Error,
    },
    #[error("layer {layer}: damaged archive: {reason}")]
    Archive { layer: String, reason: String },
    #[error("{path}: {reason}", path = path.display())]
    Pack { path: PathBuf, reason: String },
    #[error("{path} needs the shared library {library}, which is in none of the loader's directories", path = path.display())]
    MissingLibrary { path: PathBuf, library: String },
    #[error(
        "registry {registry}: credentials come from the helper {helper:?}, which is not supported; put them into `auths`"
    )]
    CredentialHelper { registry: String, helper: String },
    #[error("cannot {action} {path}", path = path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot set up the HTTP client")]
    HttpClient(#[source] reqwest::Error),
    #[error("the background task of an image operation failed")]
    Task(#[source] tokio::task::JoinError),
}

/// What a caller decides by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The reference itself is malformed: `InvalidImageName`, no retry helps.
    InvalidReference,
    /// The registry (or the local store) has no such image.
    NotFound,
    Unauthorized,
    /// Network, DNS or timeout: worth a retry.
    Unreachable,
    Tls,
    /// 429 or 5xx after all retries.
    Busy,
    /// Content does not hash to what names it.
    Digest,
    /// Neither the platform list nor the image itself fits this machine.
    Platform,
    /// Media types that are neither an image nor a wasm artifact.
    UnknownArtifact,
    TooLarge,
    /// Malformed or hostile content.
    Invalid,
    /// The local file system.
    Io,
}

impl Error {
    /// The class of this error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::InvalidReference { .. } | Error::InvalidDigest { .. } => ErrorKind::InvalidReference,
            Error::NotFound { .. } | Error::NoSuchImage { .. } => ErrorKind::NotFound,
            Error::Unauthorized { .. } | Error::CredentialHelper { .. } => ErrorKind::Unauthorized,
            Error::Unreachable { .. } | Error::Transfer { .. } => ErrorKind::Unreachable,
            Error::Tls { .. } => ErrorKind::Tls,
            Error::Busy { .. } => ErrorKind::Busy,
            Error::Registry { status, .. } if *status >= 500 => ErrorKind::Busy,
            Error::DigestMismatch { .. } | Error::SizeMismatch { .. } => ErrorKind::Digest,
            Error::NoMatchingPlatform { .. } | Error::WrongArchitecture { .. } => ErrorKind::Platform,
            Error::UnknownArtifact { .. } => ErrorKind::UnknownArtifact,
            Error::TooLarge { .. } => ErrorKind::TooLarge,
            Error::Registry { .. }
            | Error::Invalid { .. }
            | Error::Json { .. }
            | Error::LayerEntry { .. }
            | Error::Archive { .. }
            | Error::Pack { .. }
            | Error::MissingLibrary { .. } => ErrorKind::Invalid,
            Error::LayerIo { .. } | Error::Io { .. } | Error::HttpClient(_) | Error::Task(_) => ErrorKind::Io,
        }
    }

    /// The kubelet's reason for a container that waits because of this error while pulling.
    pub fn reason(&self) -> &'static str {
        match self.kind() {
            ErrorKind::InvalidReference => "InvalidImageName",
            ErrorKind::Unreachable => "RegistryUnavailable",
            _ => "ErrImagePull",
        }
    }

    pub(crate) fn io(action: &'static str, path: impl AsRef<Path>, source: impl Into<io::Error>) -> Error {
        Error::Io {
            action,
            path: path.as_ref().to_path_buf(),
            source: source.into(),
        }
    }

    pub(crate) fn invalid(what: impl Into<String>, reason: impl Into<String>) -> Error {
        Error::Invalid {
            what: what.into(),
            reason: reason.into(),
        }
    }
}
