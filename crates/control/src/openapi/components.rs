//! The schemas of a document: those of `k8s-openapi`, in the dialect of Kubernetes' documents, with the merge keys they lack.

use super::group_version_kind;
use crate::kinds::{ErasedKind, Info};
use catamaran_api::schema::{self, DEFINITIONS};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, ListMeta, Patch, Status};
use serde_json::{Map, Value, json};

const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";

/// Every type the kinds use, by name.
pub(super) fn schemas(kinds: &[&dyn ErasedKind]) -> Map<String, Value> {
    let mut generator = schema::generator();
    for kind in kinds {
        kind.add_schema(&mut generator);
    }
    generator.subschema_for::<DeleteOptions>();
    generator.subschema_for::<ListMeta>();
    generator.subschema_for::<Patch>();
    generator.subschema_for::<Status>();
    let mut schemas = generator.take_definitions(false);
    for (name, schema) in &mut schemas {
        if let Some(schema) = schema.as_object_mut() {
            schema::topology::add_extensions(name, schema);
        }
        to_dialect(schema);
    }
    for kind in kinds {
        let info = kind.info();
        if let Some(schema) = schemas.get_mut(info.schema.as_ref()) {
            schema["x-kubernetes-group-version-kind"] = json!([group_version_kind(&info)]);
        }
        schemas.insert(list_name(&info), list(&info));
    }
    schemas
}

/// The name of the schema of a kind's list.
pub(super) fn list_name(info: &Info) -> String {
    format!("{}List", info.schema)
}

pub(super) fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#{DEFINITIONS}/{name}") })
}

fn list(info: &Info) -> Value {
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
                "items": { "allOf": [reference(&info.schema)], "default": {} },
            },
        },
        "x-kubernetes-group-version-kind": [{ "group": info.group, "version": info.version, "kind": kind }],
    })
}

/// A reference may have no neighbours in OpenAPI 3.0, so it moves into `allOf`; a port or percentage is a number or a text.
fn to_dialect(schema: &mut Value) {
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
