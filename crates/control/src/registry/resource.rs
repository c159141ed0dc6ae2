//! A kind as the registry uses it: its data looked up once, its place in the store, and the form of its stored bytes.
//!
//! What is stored is the object's JSON without `metadata.resourceVersion`, because the revision is known only after the
//! write. All stored objects of a kind start with the same bytes (`{"apiVersion":"v1","kind":"Pod","metadata":{`), so the
//! version is inserted at a known offset: one copy, no parsing, and the result can be served for ever after.

use crate::kinds::{ErasedKind, Info, Object};
use bytes::{BufMut, Bytes, BytesMut};
use catamaran_api::schema::{Node, Schemas};
use catamaran_api::{GroupKind, GroupResource, GroupVersionKind};
use catamaran_store::Revision;
use std::borrow::Cow;
use std::io::Write as _;
use std::ops::Range;

/// The root of all keys.
pub(crate) const ROOT: &str = "/registry/";

/// A served resource.
pub(crate) struct Resource {
    pub(crate) kind: &'static dyn ErasedKind,
    pub(crate) info: Info,
    pub(crate) api_version: String,
    /// For errors.
    pub(crate) group_resource: GroupResource,
    pub(crate) group_kind: GroupKind,
    pub(crate) gvk: GroupVersionKind,
    /// The type's schema; `None` for kinds whose fields are not known.
    pub(crate) schema: Option<Node<'static>>,
    /// `/registry/<group>/<plural>/`.
    prefix: String,
    /// How the stored JSON of every object starts, up to and including the brace that opens `metadata`.
    head: Vec<u8>,
    /// Paths of the field selectors, in their order.
    pub(crate) field_paths: Vec<Cow<'static, str>>,
}

/// What happened to an object, as a watch tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Added,
    Modified,
    Deleted,
}

impl Change {
    /// The start of a line of a watch.
    pub(crate) const fn opening(self) -> &'static [u8] {
        match self {
            Change::Added => br#"{"type":"ADDED","object":"#,
            Change::Modified => br#"{"type":"MODIFIED","object":"#,
            Change::Deleted => br#"{"type":"DELETED","object":"#,
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Change::Added => "ADDED",
            Change::Modified => "MODIFIED",
            Change::Deleted => "DELETED",
        }
    }
}

/// The end of a line of a watch.
pub(crate) const CLOSING: &[u8] = b"}\n";

/// The bytes do not start like an object of this kind: written by something else, or damaged.
#[derive(Debug, thiserror::Error)]
#[error("a stored {kind} does not start as one")]
pub(crate) struct Malformed {
    kind: String,
}

impl Resource {
    pub(crate) fn new(kind: &'static dyn ErasedKind) -> Self {
        let info = kind.info();
        let group = if info.group.is_empty() { "core" } else { &info.group };
        let api_version = info.api_version();
        let head = format!(r#"{{"apiVersion":"{api_version}","kind":"{}","metadata":{{"#, info.kind).into_bytes();
        Resource {
            prefix: format!("{ROOT}{group}/{}/", info.plural),
            group_resource: info.group_resource(),
            group_kind: info.group_kind(),
            gvk: info.gvk(),
            schema: Schemas::builtin().node(&info.schema),
            api_version,
            head,
            field_paths: info.field_selectors.iter().map(|field| field.path.clone()).collect(),
            kind,
            info,
        }
    }

    /// Prefix of the keys of all objects, or of those of one namespace.
    pub(crate) fn prefix(&self, namespace: Option<&str>) -> String {
        match namespace {
            Some(namespace) => format!("{}{namespace}/", self.prefix),
            None => self.prefix.clone(),
        }
    }

    /// Key of one object.
    pub(crate) fn key(&self, namespace: Option<&str>, name: &str) -> String {
        match namespace {
            Some(namespace) => format!("{}{namespace}/{name}", self.prefix),
            None => format!("{}{name}", self.prefix),
        }
    }

    /// The `<group>/<plural>` part of a key, by which the resource is found again.
    pub(crate) fn segment(&self) -> &str {
        &self.prefix[ROOT.len()..self.prefix.len() - 1]
    }

    /// Inserts `metadata.resourceVersion` into stored JSON, as a complete line of a watch. The range is that of the
    /// object within the line.
    pub(crate) fn stamp(
        &self,
        stored: &[u8],
        revision: Revision,
        change: Change,
    ) -> Result<(Bytes, Range<usize>), Malformed> {
        let rest = stored.strip_prefix(self.head.as_slice()).ok_or_else(|| Malformed {
            kind: self.info.kind.to_string(),
        })?;
        let opening = change.opening();
        let mut line = BytesMut::with_capacity(opening.len() + stored.len() + 44 + CLOSING.len());
        line.put_slice(opening);
        line.put_slice(&self.head);
        let comma = if rest.first() == Some(&b'}') { "" } else { "," };
        write!((&mut line).writer(), r#""resourceVersion":"{revision}"{comma}"#).expect("memory can be written to");
        line.put_slice(rest);
        let json = opening.len()..line.len();
        line.put_slice(CLOSING);
        Ok((line.freeze(), json))
    }

    /// Only the object of [`stamp`](Self::stamp).
    pub(crate) fn served(&self, stored: &[u8], revision: Revision) -> Result<Bytes, Malformed> {
        let (line, json) = self.stamp(stored, revision, Change::Added)?;
        Ok(line.slice(json))
    }

    /// JSON to store: the object without its version.
    pub(crate) fn encode(&self, object: &mut dyn Object) -> Result<Bytes, serde_json::Error> {
        object.meta_mut().resource_version = None;
        let json = object.encode()?;
        if json.starts_with(&self.head) {
            return Ok(json.into());
        }
        Ok(self
            .metadata_first(&json)
            .map_or_else(|| Bytes::from(json), Bytes::from))
    }

    /// Typed objects have their fields in alphabetical order after the type: moves `metadata` before `data`, `handler`…
    /// `None` if this is no JSON of an object of this kind.
    fn metadata_first(&self, json: &[u8]) -> Option<Vec<u8>> {
        const KEY: &[u8] = br#""metadata":"#;
        let opening = self.head.strip_suffix(br#""metadata":{"#)?;
        json.strip_prefix(opening)?;
        let (key, end) = find_field(json, opening.len(), KEY)?;
        let before = json[opening.len()..key].strip_suffix(b",");
        let mut sorted = Vec::with_capacity(json.len());
        sorted.extend_from_slice(opening);
        sorted.extend_from_slice(&json[key..end]);
        if let Some(before) = before {
            sorted.push(b',');
            sorted.extend_from_slice(before);
        }
        sorted.extend_from_slice(&json[end..]);
        Some(sorted)
    }
}

/// Where a field of the outermost object is, from its key to behind its value. `from` is the start of some key, `wanted`
/// the key with its quotes and colon.
fn find_field(json: &[u8], from: usize, wanted: &[u8]) -> Option<(usize, usize)> {
    let mut key = from;
    loop {
        let found = json.get(key..)?.starts_with(wanted);
        let mut at = skip_string(json, key)?;
        let mut depth = 0_usize;
        // To the comma or brace that ends the value.
        loop {
            match *json.get(at)? {
                b'"' => {
                    at = skip_string(json, at)?;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' if depth > 0 => depth -= 1,
                b',' | b'}' if depth == 0 => break,
                _ => {}
            }
            at += 1;
        }
        if found {
            return Some((key, at));
        }
        key = at + 1;
    }
}

/// The position behind a string that starts at `at`.
fn skip_string(json: &[u8], at: usize) -> Option<usize> {
    let mut at = at + 1;
    loop {
        match *json.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

impl std::fmt::Debug for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.segment())
    }
}

/// Namespace and name of a key of a resource with this scope.
pub(crate) fn split_key(key: &str, namespaced: bool) -> (Option<&str>, &str) {
    let mut parts = key.rsplitn(3, '/');
    let name = parts.next().unwrap_or_default();
    (if namespaced { parts.next() } else { None }, name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds;

    fn resource(plural: &str) -> Resource {
        let kind = kinds::ALL
            .iter()
            .find(|kind| kind.info().plural == plural)
            .expect("a kind");
        Resource::new(*kind)
    }

    #[test]
    fn every_kind_encodes_with_its_head() {
        for kind in kinds::ALL {
            let resource = Resource::new(*kind);
            let value = serde_json::json!({"metadata": {"name": "a"}, "involvedObject": {}, "handler": "x"});
            let mut object = kind.decode(value).unwrap();
            let stored = resource.encode(object.as_mut()).unwrap();
            let served = resource.served(&stored, 7).unwrap();
            let value: serde_json::Value = serde_json::from_slice(&served).unwrap();
            assert_eq!(value["metadata"]["resourceVersion"], "7", "{}", resource.info.plural);
            assert_eq!(value["metadata"]["name"], "a");
        }
    }

    #[test]
    fn metadata_comes_first_whatever_is_before_it() {
        let config_maps = resource("configmaps");
        let value = serde_json::json!({
            "metadata": {"name": "a", "annotations": {"x": "}\"],{"}},
            "data": {"metadata": "\"metadata\":{", "b": "\\"},
            "immutable": true,
        });
        let mut object = config_maps.kind.decode(value.clone()).unwrap();
        let stored = config_maps.encode(object.as_mut()).unwrap();
        let mut served: serde_json::Value = serde_json::from_slice(&config_maps.served(&stored, 1).unwrap()).unwrap();
        served["metadata"].as_object_mut().unwrap().remove("resourceVersion");
        for field in ["metadata", "data", "immutable"] {
            assert_eq!(served[field], value[field]);
        }
    }

    #[test]
    fn keys_split_into_what_they_were_made_of() {
        let pods = resource("pods");
        assert_eq!(pods.key(Some("a"), "b"), "/registry/core/pods/a/b");
        assert_eq!(split_key(&pods.key(Some("a"), "b"), true), (Some("a"), "b"));
        let nodes = resource("nodes");
        assert_eq!(split_key(&nodes.key(None, "b"), false), (None, "b"));
        assert_eq!(nodes.segment(), "core/nodes");
    }
}
