//! The schemas of a document: those of `k8s-openapi`, in the dialect of Kubernetes' documents, with the merge keys they lack.

use super::{group_version_kind, schema_name};
use crate::kinds::{Info, KindRef};
use catamaran_api::schema::{self, DEFINITIONS, published};
use serde_json::{Map, Value, json};

const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";
const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// Types that every document mentions: what requests and answers are made of beside objects.
const META: &[&str] = &[
    "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions",
    LIST_META,
    OBJECT_META,
    "io.k8s.apimachinery.pkg.apis.meta.v1.Patch",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Status",
];

/// Types that are asked for below objects only: group, version and kind.
const BELOW: &[(&str, &str, &str)] = &[
    ("", "v1", "Binding"),
    ("authentication.k8s.io", "v1", "TokenRequest"),
    ("autoscaling", "v1", "Scale"),
    ("policy", "v1", "Eviction"),
];

/// Every type the kinds use, by name.
pub(super) fn schemas(kinds: &[KindRef]) -> Map<String, Value> {
    let mut names: Vec<String> = META.iter().map(|name| (*name).to_owned()).collect();
    for kind in kinds {
        let info = kind.info();
        let below = info.subresources.iter().filter_map(|subresource| {
            let (group, version, kind) = BELOW.iter().find(|(_, _, kind)| *kind == subresource.kind)?;
            Some(schema::name_of_kind(group, version, kind))
        });
        names.extend(below);
        if kind.openapi().is_none() {
            names.push(info.schema.into_owned());
        }
    }
    let mut schemas = published::with_references(names.iter().map(String::as_str));
    for (name, schema) in &mut schemas {
        if let Some(schema) = schema.as_object_mut() {
            schema::topology::add_extensions(name, schema);
        }
        to_dialect(schema);
    }
    for kind in kinds {
        let info = kind.info();
        let name = schema_name(&**kind);
        if let Some(schema) = kind.openapi() {
            schemas.insert(name.clone(), defined(schema));
        }
        if let Some(schema) = schemas.get_mut(&name) {
            schema["x-kubernetes-group-version-kind"] = json!([group_version_kind(&info)]);
        }
        schemas.insert(format!("{name}List"), list(&info, &name));
    }
    for (group, version, kind) in BELOW {
        add_type(
            &mut schemas,
            &schema::name_of_kind(group, version, kind),
            (group, version, kind),
        );
    }
    schemas
}

/// The name of the schema of a built-in type that is no kind of its own.
pub(super) fn type_name(group: &str, version: &str, kind: &str) -> Option<String> {
    let known = BELOW.iter().any(|(_, _, known)| *known == kind);
    known.then(|| schema::name_of_kind(group, version, kind))
}

/// Says of a schema which type it is.
pub(super) fn add_type(schemas: &mut Map<String, Value>, name: &str, (group, version, kind): (&str, &str, &str)) {
    if let Some(schema) = schemas.get_mut(name) {
        schema["x-kubernetes-group-version-kind"] = json!([{ "group": group, "version": version, "kind": kind }]);
    }
}

/// The schema of a defined kind with what all objects have.
fn defined(mut schema: Value) -> Value {
    if !schema.is_object() {
        schema = json!({});
    }
    schema["type"] = json!("object");
    if !schema["properties"].is_object() {
        schema["properties"] = json!({});
    }
    let properties = &mut schema["properties"];
    properties["apiVersion"] = json!({ "description": "The version of the schema of this object.", "type": "string" });
    properties["kind"] = json!({ "description": "The kind of this object.", "type": "string" });
    properties["metadata"] =
        json!({ "description": "Name, labels and what else all objects have.", "allOf": [reference(OBJECT_META)] });
    schema
}

pub(super) fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#{DEFINITIONS}/{name}") })
}

fn list(info: &Info, name: &str) -> Value {
    let kind = format!("{}List", info.kind);
    json!({
        "description": format!("A list of objects of kind {}.", info.kind),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": { "description": "The version of the schema of this list.", "type": "string" },
            "kind": { "description": format!("Always {kind}."), "type": "string" },
            "metadata": { "description": "Where the list stands.", "allOf": [reference(LIST_META)], "default": {} },
            "items": {
                "description": "The objects.",
                "type": "array",
                "items": { "allOf": [reference(name)], "default": {} },
            },
        },
        "x-kubernetes-group-version-kind": [{ "group": info.group, "version": info.version, "kind": kind }],
    })
}

/// A reference may have no neighbours in OpenAPI 3.0, so it moves into `allOf`; a port or percentage is a number or a text.
pub(super) fn to_dialect(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(to_dialect),
        Value::Object(fields) => {
            if fields.len() > 1
                && let Some(reference) = fields.remove("$ref")
            {
                fields.insert("allOf".to_owned(), json!([{ "$ref": reference }]));
            }
            if fields.remove("x-kubernetes-int-or-string").is_some() {
                fields.insert("oneOf".to_owned(), json!([{ "type": "string" }, { "type": "number" }]));
            }
            fields.values_mut().for_each(to_dialect);
        }
        _ => {}
    }
}
