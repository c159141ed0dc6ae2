//! How the fields of the built-in types merge.
//!
//! Kubernetes keeps this as tags and markers on its Go types, and the published schemas of `k8s-openapi` lack it. Here it is one
//! table (`topology.txt`) for both languages that need it: server-side apply asks which lists are sets or maps and which objects
//! are one value ([`ListType`], `!`), strategic merge patch asks for merge keys ([`Strategic`]).
//! <https://kubernetes.io/docs/reference/using-api/server-side-apply/#merge-strategy>

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::{Map, Value, json};

/// How a list's items are owned and merged by server-side apply.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum ListType {
    /// The list is one value.
    #[default]
    Atomic,
    /// A set of scalars.
    Set,
    /// A map, whose items are told apart by these of their fields.
    Map(Box<[MapKey]>),
}

/// A field that tells items of a list apart.
#[derive(Clone, Debug, PartialEq)]
pub struct MapKey {
    pub name: Box<str>,
    /// What an item without the field has there.
    pub default: Option<Value>,
}

impl ListType {
    /// The names of the keys of a map; empty for sets and atomic lists.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        let keys = match self {
            Self::Map(keys) => keys.as_ref(),
            Self::Atomic | Self::Set => &[],
        };
        keys.iter().map(|key| &*key.name)
    }
}

/// How a field merges in a strategic merge patch. The default: objects merge, lists are replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Strategic {
    /// The list is merged and not replaced.
    pub merge: bool,
    /// What tells items of a merged list of objects apart.
    pub merge_key: Option<Box<str>>,
    /// A patch may say with `$retainKeys` which fields of the object (or of the list's items) stay.
    pub retain_keys: bool,
    /// The object is replaced and not merged.
    pub replace: bool,
}

/// What the table says of a definition.
#[derive(Debug, Default)]
pub(super) struct Row {
    /// Objects of this type are one value.
    pub(super) atomic: bool,
    /// Objects, lists and maps that Kubernetes' encoder writes even if nobody has set them.
    pub(super) always: Vec<&'static str>,
    pub(super) fields: HashMap<&'static str, Cell>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Cell {
    pub(super) list: ListType,
    /// For maps and objects: `Some(true)` is one value, `Some(false)` is not although its type is.
    pub(super) atomic: Option<bool>,
    pub(super) strategic: Strategic,
}

static TABLE: LazyLock<HashMap<&'static str, Row>> = LazyLock::new(|| {
    let lines = include_str!("topology.txt").lines();
    lines
        .filter(|line| !line.starts_with('#'))
        .filter_map(read_row)
        .collect()
});

/// The row of a definition, `io.k8s.api.core.v1.PodSpec`.
pub(super) fn row(definition: &str) -> Option<&'static Row> {
    TABLE.get(definition.strip_prefix("io.k8s.")?)
}

fn read_row(line: &'static str) -> Option<(&'static str, Row)> {
    let mut words = line.split(' ');
    let definition = words.next().filter(|name| !name.is_empty())?;
    let mut row = Row::default();
    for word in words {
        match word.split_once('=') {
            Some((field, cell)) => {
                row.fields.insert(field, read_cell(cell));
            }
            None => match word.strip_prefix('^') {
                Some(always) => row.always = always.split(',').collect(),
                None => row.atomic = word == "!",
            },
        }
    }
    Some((definition, row))
}

fn read_cell(text: &str) -> Cell {
    let (server_side, strategic) = text.split_once('~').unwrap_or((text, ""));
    let list = match inside(server_side, "map") {
        Some(keys) => ListType::Map(keys.split(',').map(read_key).collect()),
        None if server_side == "set" => ListType::Set,
        None => ListType::Atomic,
    };
    let atomic = match server_side {
        "atomic" => Some(true),
        "granular" => Some(false),
        _ => None,
    };
    let mut how = Strategic::default();
    for word in strategic.split('+') {
        how.retain_keys |= word == "retain";
        how.replace |= word == "replace";
        how.merge |= word.starts_with("merge");
        how.merge_key = how.merge_key.take().or_else(|| inside(word, "merge").map(Into::into));
    }
    Cell {
        list,
        atomic,
        strategic: how,
    }
}

/// `a,b` of `word(a,b)`.
fn inside<'t>(text: &'t str, word: &str) -> Option<&'t str> {
    text.strip_prefix(word)?.strip_prefix('(')?.strip_suffix(')')
}

fn read_key(text: &str) -> MapKey {
    let (name, default) = text.split_once(':').map_or((text, None), |(name, default)| {
        (name, serde_json::from_str(default).ok())
    });
    MapKey {
        name: name.into(),
        default,
    }
}

/// Adds the extensions that clients read to the schema of a built-in definition in an OpenAPI document:
/// `x-kubernetes-list-type`, `x-kubernetes-list-map-keys`, `x-kubernetes-map-type`, `x-kubernetes-patch-strategy` and
/// `x-kubernetes-patch-merge-key`.
pub fn add_extensions(definition: &str, schema: &mut Map<String, Value>) {
    let row = row(definition);
    if row.is_some_and(|row| row.atomic) {
        schema.insert("x-kubernetes-map-type".to_owned(), "atomic".into());
    }
    let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else {
        return;
    };
    for (name, property) in properties {
        let Some(property) = property.as_object_mut() else {
            continue;
        };
        let cell = row.and_then(|row| row.fields.get(name.as_str()));
        if property.get("type").is_some_and(|ty| ty == "array") {
            let list = cell.map_or(&ListType::Atomic, |cell| &cell.list);
            let word = match list {
                ListType::Atomic => "atomic",
                ListType::Set => "set",
                ListType::Map(_) => "map",
            };
            property.insert("x-kubernetes-list-type".to_owned(), word.into());
            if let ListType::Map(_) = list {
                let keys: Value = list.keys().collect();
                property.insert("x-kubernetes-list-map-keys".to_owned(), keys);
            }
        }
        let Some(cell) = cell else { continue };
        if let Some(atomic) = cell.atomic {
            let word = if atomic { "atomic" } else { "granular" };
            property.insert("x-kubernetes-map-type".to_owned(), word.into());
        }
        add_strategy(&cell.strategic, property);
    }
}

fn add_strategy(how: &Strategic, property: &mut Map<String, Value>) {
    let words = [
        (how.merge, "merge"),
        (how.retain_keys, "retainKeys"),
        (how.replace, "replace"),
    ];
    let words: Vec<&str> = words.iter().filter(|(is, _)| *is).map(|(_, word)| *word).collect();
    if !words.is_empty() {
        property.insert("x-kubernetes-patch-strategy".to_owned(), words.join(",").into());
    }
    if let Some(key) = &how.merge_key {
        property.insert("x-kubernetes-patch-merge-key".to_owned(), json!(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Schemas;

    #[test]
    fn the_table_is_sorted_and_names_what_exists() {
        let lines: Vec<&str> = include_str!("topology.txt")
            .lines()
            .filter(|line| !line.starts_with('#'))
            .collect();
        assert!(lines.is_sorted(), "the table is not sorted");
        for line in lines {
            let (definition, row) = read_row(line).unwrap();
            let node = Schemas::builtin()
                .node(&format!("io.k8s.{definition}"))
                .unwrap_or_else(|| panic!("there is no {definition}"));
            for field in &row.always {
                assert!(node.field(field).is_some(), "{definition} has no {field}");
            }
            for (field, cell) in &row.fields {
                let at = node
                    .field(field)
                    .unwrap_or_else(|| panic!("{definition} has no {field}"));
                if let Some(key) = cell.list.keys().find(|key| at.items().unwrap().field(key).is_none()) {
                    panic!("{definition}.{field} has no {key}");
                }
                if let Some(key) = &cell.strategic.merge_key {
                    assert!(
                        at.items().unwrap().field(key).is_some(),
                        "{definition}.{field} has no {key}"
                    );
                }
                assert_eq!(
                    cell.list != ListType::Atomic || cell.strategic.merge,
                    at.items().is_some() && cell.atomic.is_none()
                );
            }
        }
    }

    #[test]
    fn documents_carry_the_extensions() {
        let mut schema = json!({"properties": {"volumes": {"type": "array"}, "tolerations": {"type": "array"},
            "topologySpreadConstraints": {"type": "array"}, "nodeSelector": {"type": "object"}, "hostname": {"type": "string"}}});
        add_extensions("io.k8s.api.core.v1.PodSpec", schema.as_object_mut().unwrap());
        expect_test::expect![[r#"{"properties":{"hostname":{"type":"string"},"nodeSelector":{"type":"object","x-kubernetes-map-type":"atomic"},"tolerations":{"type":"array","x-kubernetes-list-type":"atomic"},"topologySpreadConstraints":{"type":"array","x-kubernetes-list-map-keys":["topologyKey","whenUnsatisfiable"],"x-kubernetes-list-type":"map","x-kubernetes-patch-merge-key":"topologyKey","x-kubernetes-patch-strategy":"merge"},"volumes":{"type":"array","x-kubernetes-list-map-keys":["name"],"x-kubernetes-list-type":"map","x-kubernetes-patch-merge-key":"name","x-kubernetes-patch-strategy":"merge,retainKeys"}}}"#]]
            .assert_eq(&schema.to_string());
        let mut schema = Map::new();
        add_extensions("io.k8s.api.core.v1.ObjectReference", &mut schema);
        assert_eq!(schema["x-kubernetes-map-type"], "atomic");
    }
}
