//! YAML as Kubernetes means it.
//!
//! Manifests are written for the YAML of Go's `sigs.k8s.io/yaml`, which decides what a plain scalar is by the rules of YAML 1.1:
//! `defaultMode: 0400` is 256 and `on` is true. The parsers of the Rust world follow 1.2, where both are strings. So this module
//! takes events from a parser that tells plain from quoted scalars, and resolves them itself; clients and the server read with the
//! same code. The writer quotes whatever either generation of readers would take for something else than a string.
//! <https://yaml.org/type/>, <https://kubernetes.io/docs/concepts/overview/working-with-objects/>

mod read;
mod scalar;
mod write;

#[cfg(test)]
mod tests;

pub use read::{Documents, documents};
pub use write::to_string;

/// Why a text is no YAML, or no object. One line, with its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} at line {line} column {column}")]
pub struct YamlError {
    reason: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
}
