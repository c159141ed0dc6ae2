//! A kind as the registry uses it: its data looked up once, its place in the store, and the form of its stored bytes.
//!
//! What is stored is the object's JSON without `metadata.resourceVersion`, because the revision is known only after the
//! write. All stored objects of a kind start with the same bytes (`{"apiVersion":"v1","kind":"Pod","metadata":{`), so the
//! version is inserted at a known offset: one copy, no parsing, and the result can be served for ever after.

use super::convert::{BuiltinConverter, Converter};
use crate::kinds::{ErasedKind, Info, KindRef, Object};
use bytes::{BufMut, Bytes, BytesMut};
use catamaran_api::schema::{Node, Schemas};
use catamaran_api::{GroupKind, GroupResource, GroupVersionKind};
use catamaran_store::Revision;
use std::borrow::Cow;
use std::io::Write as _;
use std::ops::Range;
use std::sync::Arc;

/// The root of all keys.
pub(crate) const ROOT: &str = "/registry/";

/// A served resource: one version of one kind.
pub(crate) struct Resource {
    pub(crate) kind: KindRef,
    pub(crate) info: Info,
    pub(crate) api_version: String,
    /// For errors.
    pub(crate) group_resource: GroupResource,
    pub(crate) group_kind: GroupKind,
    pub(crate) gvk: GroupVersionKind,
    /// Where the type's schema is found; the built-in ones if `None`.
    schemas: Option<Arc<Schemas>>,
    /// The version in which objects are written to the store, if it is not this one.
    storage: Option<Arc<Resource>>,
    /// How objects get from version to version; `None` where there is only one.
    pub(crate) converter: Option<Arc<dyn Converter>>,
    /// `/registry/<group>/<plural>/`.
    prefix: String,
    /// How the stored JSON of an object starts, up to and including the brace that opens `metadata`: one for each version that
    /// was ever stored, that of this version first.
    heads: Vec<Head>,
    /// Paths of the field selectors, in their order.
    pub(crate) field_paths: Vec<Cow<'static, str>>,
}

/// The bytes with which all stored objects of one version start.
#[derive(Clone)]
pub(crate) struct Head {
    pub(crate) api_version: Arc<str>,
    bytes: Vec<u8>,
}

impl Head {
    fn new(api_version: &str, kind: &str) -> Self {
        Head {
            api_version: api_version.into(),
            bytes: format!(r#"{{"apiVersion":"{api_version}","kind":"{kind}","metadata":{{"#).into_bytes(),
        }
    }
}

/// A kind that was defined at run time, ready to be served.
pub(crate) struct Definition {
    pub(crate) kind: Arc<dyn ErasedKind>,
    /// The fields of its objects, if they are known.
    pub(crate) schemas: Option<Arc<Schemas>>,
    /// The version that is stored, if not this one. It need not be served itself.
    pub(crate) storage: Option<Arc<Resource>>,
    /// `None` if there is only one version.
    pub(crate) converter: Option<Arc<dyn Converter>>,
    /// All versions that may be found in the store (`example.com/v1`).
    pub(crate) stored_versions: Vec<String>,
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

/// A line of a watch.
pub(crate) struct Stamped {
    pub(crate) line: Bytes,
    /// Where the object is in it.
    pub(crate) json: Range<usize>,
    /// The version it is in.
    pub(crate) api_version: Arc<str>,
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
    /// A kind that is compiled in.
    pub(crate) fn builtin(kind: &'static dyn ErasedKind) -> Self {
        let hub = kind.hub();
        let storage = hub.map(|hub| Arc::new(Resource::builtin(hub.kind)));
        let converter = hub.map(|hub| Arc::new(BuiltinConverter::new(kind, hub)) as Arc<dyn Converter>);
        Self::new(KindRef::Builtin(kind), None, storage, converter, &[])
    }

    /// A kind that was defined at run time.
    pub(crate) fn defined(definition: Definition) -> Self {
        let kind = KindRef::Defined(definition.kind);
        Self::new(
            kind,
            definition.schemas,
            definition.storage,
            definition.converter,
            &definition.stored_versions,
        )
    }

    fn new(
        kind: KindRef,
        schemas: Option<Arc<Schemas>>,
        storage: Option<Arc<Resource>>,
        converter: Option<Arc<dyn Converter>>,
        stored_versions: &[String],
    ) -> Self {
        let info = kind.info();
        let group = if info.group.is_empty() { "core" } else { &info.group };
        let api_version = info.api_version();
        let mut heads = vec![Head::new(&api_version, &info.kind)];
        let others = stored_versions.iter().filter(|version| **version != api_version);
        heads.extend(others.map(|version| Head::new(version, &info.kind)));
        Resource {
            prefix: storage.as_ref().map_or_else(
                || format!("{ROOT}{group}/{}/", info.plural),
                |storage| storage.prefix.clone(),
            ),
            group_resource: info.group_resource(),
            group_kind: info.group_kind(),
            gvk: info.gvk(),
            api_version,
            heads,
            field_paths: info.field_selectors.iter().map(|field| field.path.clone()).collect(),
            schemas,
            storage,
            converter,
            kind,
            info,
        }
    }

    /// The version in which objects are written to the store.
    pub(crate) fn storage(&self) -> &Resource {
        self.storage.as_deref().unwrap_or(self)
    }

    /// The type's fields; `None` for kinds whose fields are not known.
    pub(crate) fn schema(&self) -> Option<Node<'_>> {
        match &self.schemas {
            Some(schemas) => schemas.root().or_else(|| schemas.node(&self.info.schema)),
            None => Schemas::builtin().node(&self.info.schema),
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

    /// Stored bytes as they are to be read: see [`ErasedKind::as_read`].
    ///
    /// [`ErasedKind::as_read`]: crate::kinds::ErasedKind::as_read
    pub(crate) fn as_read<'s>(&self, stored: &'s [u8]) -> Cow<'s, [u8]> {
        match &self.kind {
            KindRef::Builtin(_) => Cow::Borrowed(stored),
            KindRef::Defined(kind) => kind.as_read(stored).map_or(Cow::Borrowed(stored), Cow::Owned),
        }
    }

    /// Inserts `metadata.resourceVersion` into stored JSON, as a complete line of a watch. The range is that of the
    /// object within the line.
    pub(crate) fn stamp(&self, stored: &[u8], revision: Revision, change: Change) -> Result<Stamped, Malformed> {
        let found = self
            .heads
            .iter()
            .find_map(|head| Some((head, stored.strip_prefix(head.bytes.as_slice())?)));
        let (head, rest) = found.ok_or_else(|| Malformed {
            kind: self.info.kind.to_string(),
        })?;
        let opening = change.opening();
        let mut line = BytesMut::with_capacity(opening.len() + stored.len() + 44 + CLOSING.len());
        line.put_slice(opening);
        line.put_slice(&head.bytes);
        let comma = if rest.first() == Some(&b'}') { "" } else { "," };
        write!((&mut line).writer(), r#""resourceVersion":"{revision}"{comma}"#).expect("memory can be written to");
        line.put_slice(rest);
        let json = opening.len()..line.len();
        line.put_slice(CLOSING);
        Ok(Stamped {
            line: line.freeze(),
            json,
            api_version: Arc::clone(&head.api_version),
        })
    }

    /// Only the object of [`stamp`](Self::stamp).
    pub(crate) fn served(&self, stored: &[u8], revision: Revision) -> Result<Bytes, Malformed> {
        let stamped = self.stamp(stored, revision, Change::Added)?;
        Ok(stamped.line.slice(stamped.json))
    }

    /// JSON to store: the object without its version.
    pub(crate) fn encode(&self, object: &mut dyn Object) -> Result<Bytes, serde_json::Error> {
        object.meta_mut().resource_version = None;
        let json = object.encode()?;
        let head = &self.heads[0].bytes;
        if json.starts_with(head) {
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
        let opening = self.heads[0].bytes.strip_suffix(br#""metadata":{"#)?;
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

/// The metadata of an object, as it stands in its JSON. Found early: it follows the type in everything that is served.
pub(crate) fn metadata_of(json: &[u8]) -> &[u8] {
    const KEY: &[u8] = br#""metadata":"#;
    match find_field(json, 1, KEY) {
        Some((key, end)) => &json[key + KEY.len()..end],
        None => b"{}",
    }
}

/// An object's JSON in two parts, between which its `metadata.managedFields` were; `None` if it has none.
pub(crate) fn around_owners(json: &[u8]) -> Option<(&[u8], &[u8])> {
    const METADATA: &[u8] = br#""metadata":{"#;
    const OWNERS: &[u8] = br#""managedFields":"#;
    let start = json.windows(METADATA.len()).position(|bytes| bytes == METADATA)? + METADATA.len();
    let (key, end) = find_field(json, start, OWNERS)?;
    let (before, after) = (&json[..key], &json[end..]);
    Some(match after.strip_prefix(b",") {
        Some(after) => (before, after),
        None => (before.strip_suffix(b",").unwrap_or(before), after),
    })
}

/// Where a field of an object is, from its key to behind its value. `from` is the start of some key of that object, `wanted`
/// the key with its quotes and colon.
fn find_field(json: &[u8], from: usize, wanted: &[u8]) -> Option<(usize, usize)> {
    let mut key = from;
    loop {
        if *json.get(key)? != b'"' {
            return None;
        }
        let found = json[key..].starts_with(wanted);
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
        if json[at] == b'}' {
            return None;
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
        Resource::builtin(*kind)
    }

    #[test]
    fn every_kind_encodes_with_its_head() {
        for kind in kinds::ALL {
            let resource = Resource::builtin(*kind);
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
    fn owners_are_cut_out_wherever_they_are() {
        let bare = |json: &str| {
            let (before, after) = around_owners(json.as_bytes())?;
            String::from_utf8([before, after].concat()).ok()
        };
        let owners = r#""managedFields":[{"manager":"a\"]","fieldsV1":{"f:x":{}}}]"#;
        let object = |metadata: &str| {
            format!(r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{{metadata}}},"spec":{{"managedFields":[1]}}}}"#)
        };
        let (first, last) = (r#""labels":{"managedFields":"[,"}"#, r#""name":"n""#);
        for (with, without) in [
            (format!("{first},{owners},{last}"), format!("{first},{last}")),
            (format!("{owners},{last}"), last.to_owned()),
            (format!("{first},{owners}"), first.to_owned()),
            (owners.to_owned(), String::new()),
        ] {
            assert_eq!(bare(&object(&with)), Some(object(&without)));
        }
        assert_eq!(bare(&object(&format!("{first},{last}"))), None);
        assert_eq!(bare(&object("")), None);
        assert_eq!(bare("{}"), None);
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
