//! OpenAPI: what the API looks like, for machines.
//!
//! `kubectl` reads these documents before it does anything interesting: `explain` prints them, `apply` finds merge keys in them,
//! and every write looks whether the operation has a `fieldValidation` parameter before it dares to ask for strict validation.
//! <https://kubernetes.io/docs/concepts/overview/kubernetes-api/#openapi-v3>
//!
//! One document for each group and version, and an index that names them with a hash, so that clients may keep them for ever.
//! The hash is that of what a document is made of, so that the index costs next to nothing; a document is made when the first
//! client asks for it, and again when a definition changed.

mod components;
pub(crate) mod merge;
mod paths;
mod reviews;
mod v2;

use crate::aggregator::Remotes;
use crate::kinds::{ErasedKind, Info, KindRef};
use crate::registry::Table;
use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};

/// The documents of what is served at the moment.
pub(crate) struct Cache {
    /// What the documents say of the server.
    version: &'static str,
    current: Mutex<Option<Arc<Documents>>>,
}

/// The documents of one set of kinds.
pub(crate) struct Documents {
    generation: u64,
    version: &'static str,
    /// By the path below `/openapi/v3/`: `api/v1`, `apis/apps/v1`.
    parts: BTreeMap<String, Arc<Part>>,
    v2: OnceLock<V2>,
    /// The same with the parts of other servers, and which generation of them.
    merged: Mutex<Option<(u64, Arc<V2>)>>,
}

/// One group and version.
struct Part {
    hash: String,
    kinds: Vec<KindRef>,
    document: OnceLock<Bytes>,
}

/// The one document of v2, in both languages.
struct V2 {
    json: Bytes,
    protobuf: Bytes,
}

impl V2 {
    fn of(document: &Value) -> Self {
        V2 {
            json: Bytes::from(document.to_string()),
            protobuf: Bytes::from(v2::protobuf(document)),
        }
    }

    fn get(&self, protobuf: bool) -> Bytes {
        if protobuf {
            self.protobuf.clone()
        } else {
            self.json.clone()
        }
    }
}

impl Cache {
    pub(crate) fn new(version: &'static str) -> Self {
        Cache {
            version,
            current: Mutex::default(),
        }
    }

    pub(crate) fn documents(&self, table: &Table) -> Arc<Documents> {
        let mut current = self.current.lock();
        if let Some(documents) = current
            .as_ref()
            .filter(|documents| documents.generation == table.generation)
        {
            return Arc::clone(documents);
        }
        let kinds = table
            .resources()
            .iter()
            .map(|resource| (&resource.info, &resource.kind));
        let mut documents = Documents::new(kinds, self.version, current.as_deref());
        documents.generation = table.generation;
        let documents = Arc::new(documents);
        *current = Some(Arc::clone(&documents));
        documents
    }
}

impl Documents {
    /// Of these kinds; what was made `before` and is still right is taken over.
    fn new<'k>(
        kinds: impl Iterator<Item = (&'k Info, &'k KindRef)>,
        version: &'static str,
        before: Option<&Documents>,
    ) -> Self {
        let mut parts: BTreeMap<String, Vec<KindRef>> = BTreeMap::new();
        for path in reviews::PATHS {
            parts.insert((*path).to_owned(), Vec::new());
        }
        for (info, kind) in kinds {
            parts.entry(root(info)).or_default().push(kind.clone());
        }
        let part = |(path, kinds): (String, Vec<KindRef>)| {
            let old = before.and_then(|before| before.parts.get(&path));
            let part = match old.filter(|old| same(&old.kinds, &kinds)) {
                Some(old) => Arc::clone(old),
                None => Arc::new(Part::new(&path, kinds, version, old)),
            };
            (path, part)
        };
        Documents {
            generation: 0,
            version,
            parts: parts.into_iter().map(part).collect(),
            v2: OnceLock::new(),
            merged: Mutex::default(),
        }
    }

    /// Answers `GET /openapi/v3`. `others` are the documents of other servers: path and hash.
    pub(crate) fn index(&self, others: impl Iterator<Item = (String, String)>) -> Bytes {
        let own = self.parts.iter().map(|(path, part)| (path.clone(), part.hash.clone()));
        let entry = |(path, hash): (String, String)| {
            let url = format!("/openapi/v3/{path}?hash={hash}");
            (path, json!({ "serverRelativeURL": url }))
        };
        let paths: Map<String, Value> = others.chain(own).map(entry).collect();
        Bytes::from(json!({ "paths": paths }).to_string())
    }

    /// Answers `GET /openapi/v3/{path}`.
    pub(crate) fn document(&self, path: &str) -> Option<Bytes> {
        let part = self.parts.get(path)?;
        let make = || Bytes::from(document(path, &part.kinds, self.version).to_string());
        Some(part.document.get_or_init(make).clone())
    }

    /// Answers `GET /openapi/v2`, together with what other servers say of what they serve.
    pub(crate) fn v2(&self, protobuf: bool, remotes: &Remotes) -> Bytes {
        let own = self.own_v2();
        let parts: Vec<&Value> = remotes
            .versions
            .iter()
            .filter_map(|remote| remote.openapi_v2.as_deref())
            .collect();
        if parts.is_empty() {
            return own.get(protobuf);
        }
        let mut merged = self.merged.lock();
        if let Some((_, made)) = merged
            .as_ref()
            .filter(|(generation, _)| *generation == remotes.generation)
        {
            return made.get(protobuf);
        }
        // It is large, and kept in one form only.
        let mut document: Value = serde_json::from_slice(&own.json).unwrap_or_default();
        for part in parts {
            merge::add(&mut document, part);
        }
        let made = Arc::new(V2::of(&document));
        *merged = Some((remotes.generation, Arc::clone(&made)));
        made.get(protobuf)
    }

    fn own_v2(&self) -> &V2 {
        self.v2.get_or_init(|| {
            let kinds: Vec<KindRef> = self.parts.values().flat_map(|part| part.kinds.clone()).collect();
            let mut paths = Map::new();
            for kind in &kinds {
                paths::add(&**kind, &format!("/{}", root(&kind.info())), &mut paths);
            }
            let mut schemas = components::schemas(&kinds);
            for path in reviews::PATHS {
                reviews::add(path, &mut paths, &mut schemas);
            }
            let document = v2::document(paths, schemas, self.version);
            V2::of(&document)
        })
    }
}

impl Part {
    fn new(path: &str, kinds: Vec<KindRef>, version: &str, before: Option<&Arc<Part>>) -> Self {
        let hash = hash(path, &kinds, version);
        let before = before.filter(|before| before.hash == hash);
        Part {
            document: before.map(|before| before.document.clone()).unwrap_or_default(),
            hash,
            kinds,
        }
    }
}

/// Are these the very same kinds, and not only kinds of the same name? Schemas need not be looked at to know.
fn same(a: &[KindRef], b: &[KindRef]) -> bool {
    let same = |(a, b): (&KindRef, &KindRef)| std::ptr::addr_eq(&raw const **a, &raw const **b);
    a.len() == b.len() && a.iter().zip(b).all(same)
}

/// Where a kind's group and version live: `api/v1`, `apis/apps/v1`.
fn root(info: &Info) -> String {
    if info.group.is_empty() {
        format!("api/{}", info.version)
    } else {
        format!("apis/{}/{}", info.group, info.version)
    }
}

fn document(path: &str, kinds: &[KindRef], version: &str) -> Value {
    let mut paths = Map::new();
    for kind in kinds {
        paths::add(&**kind, &format!("/{path}"), &mut paths);
    }
    let mut schemas = components::schemas(kinds);
    reviews::add(path, &mut paths, &mut schemas);
    json!({
        "openapi": "3.0.0",
        "info": { "title": "Catamaran", "version": version },
        "paths": paths,
        "components": { "schemas": schemas },
    })
}

/// Of everything a document is made of.
fn hash(path: &str, kinds: &[KindRef], version: &str) -> String {
    let mut digest = Sha256::new();
    digest.update(format!("{version} {} {path}", env!("CARGO_PKG_VERSION")));
    for kind in kinds {
        let info = kind.info();
        let below: Vec<&str> = info.subresources.iter().map(|subresource| subresource.name).collect();
        digest.update(format!("\0{} {} {} {below:?}", info.plural, info.kind, info.namespaced));
        if let Some(schema) = kind.openapi() {
            digest.update(schema.to_string());
        }
    }
    let mut hash = String::new();
    for byte in digest.finalize() {
        let _ = write!(hash, "{byte:02X}");
    }
    hash
}

/// The name of a kind's schema: for defined kinds, the group from back to front (`com.example.v1.Thing`).
fn schema_name(kind: &dyn ErasedKind) -> String {
    let info = kind.info();
    if kind.openapi().is_none() {
        return info.schema.into_owned();
    }
    let group: Vec<&str> = info.group.rsplit('.').collect();
    format!("{}.{}.{}", group.join("."), info.version, info.kind)
}

/// The type of an operation or a schema.
fn group_version_kind(info: &Info) -> Value {
    json!({ "group": info.group, "version": info.version, "kind": info.kind })
}

#[cfg(test)]
mod tests;
