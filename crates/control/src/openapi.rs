//! OpenAPI: what the API looks like, for machines.
//!
//! `kubectl` reads these documents before it does anything interesting: `explain` prints them, `apply` finds merge keys in them,
//! and every write looks whether the operation has a `fieldValidation` parameter before it dares to ask for strict validation.
//! <https://kubernetes.io/docs/concepts/overview/kubernetes-api/#openapi-v3>
//!
//! One document for each group and version, and an index that names them with a hash of their content, so that clients may keep
//! them for ever. They are made when the first client asks: most clusters are never asked.

mod components;
mod paths;
mod v2;

use crate::kinds::{ErasedKind, Info};
use bytes::Bytes;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::OnceLock;

/// The documents of a set of kinds.
pub(crate) struct Documents {
    kinds: Vec<&'static dyn ErasedKind>,
    version: &'static str,
    made: OnceLock<Made>,
    v2: OnceLock<V2>,
}

/// The one document of v2, in both languages.
struct V2 {
    json: Bytes,
    protobuf: Bytes,
}

struct Made {
    index: Bytes,
    /// By the path below `/openapi/v3/`: `api/v1`, `apis/apps/v1`.
    documents: BTreeMap<String, Bytes>,
}

impl Documents {
    /// `version` is what the documents say of the server.
    pub(crate) fn new(kinds: &[&'static dyn ErasedKind], version: &'static str) -> Self {
        Documents {
            kinds: kinds.to_vec(),
            version,
            made: OnceLock::new(),
            v2: OnceLock::new(),
        }
    }

    /// Answers `GET /openapi/v3`.
    pub(crate) fn index(&self) -> Bytes {
        self.made().index.clone()
    }

    /// Answers `GET /openapi/v3/{path}`.
    pub(crate) fn document(&self, path: &str) -> Option<Bytes> {
        self.made().documents.get(path).cloned()
    }

    /// Answers `GET /openapi/v2`.
    pub(crate) fn v2(&self, protobuf: bool) -> Bytes {
        let made = self.v2.get_or_init(|| {
            let kinds: Vec<&dyn ErasedKind> = self.kinds.iter().map(|kind| *kind as &dyn ErasedKind).collect();
            let mut paths = Map::new();
            for kind in &kinds {
                let info = kind.info();
                paths::add(&info, &format!("/{}", root(&info)), &mut paths);
            }
            let document = v2::document(paths, components::schemas(&kinds), self.version);
            V2 {
                json: Bytes::from(document.to_string()),
                protobuf: Bytes::from(v2::protobuf(&document)),
            }
        });
        if protobuf {
            made.protobuf.clone()
        } else {
            made.json.clone()
        }
    }

    fn made(&self) -> &Made {
        self.made.get_or_init(|| make(&self.kinds, self.version))
    }
}

fn make(kinds: &[&'static dyn ErasedKind], version: &str) -> Made {
    let mut groups: BTreeMap<String, Vec<&dyn ErasedKind>> = BTreeMap::new();
    for kind in kinds {
        groups.entry(root(&kind.info())).or_default().push(*kind);
    }
    let mut index = Map::new();
    let mut documents = BTreeMap::new();
    for (path, kinds) in groups {
        let document = Bytes::from(document(&path, &kinds, version).to_string());
        let url = format!("/openapi/v3/{path}?hash={}", hash(&document));
        index.insert(path.clone(), json!({ "serverRelativeURL": url }));
        documents.insert(path, document);
    }
    Made {
        index: Bytes::from(json!({ "paths": index }).to_string()),
        documents,
    }
}

/// Where a kind's group and version live: `api/v1`, `apis/apps/v1`.
fn root(info: &Info) -> String {
    if info.group.is_empty() {
        format!("api/{}", info.version)
    } else {
        format!("apis/{}/{}", info.group, info.version)
    }
}

fn document(path: &str, kinds: &[&dyn ErasedKind], version: &str) -> Value {
    let mut paths = Map::new();
    for kind in kinds {
        paths::add(&kind.info(), &format!("/{path}"), &mut paths);
    }
    json!({
        "openapi": "3.0.0",
        "info": { "title": "Catamaran", "version": version },
        "paths": paths,
        "components": { "schemas": components::schemas(kinds) },
    })
}

fn hash(document: &[u8]) -> String {
    let mut hash = String::new();
    for byte in Sha256::digest(document) {
        let _ = write!(hash, "{byte:02X}");
    }
    hash
}

/// The type of an operation or a schema.
fn group_version_kind(info: &Info) -> Value {
    json!({ "group": info.group, "version": info.version, "kind": info.kind })
}

#[cfg(test)]
mod tests;
