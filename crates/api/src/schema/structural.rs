//! Schemas of custom resources, from the OpenAPI of their definition.
//!
//! Structural schemas are inline, so their objects become definitions without a name. What the definition says about merging
//! (`x-kubernetes-list-type`, `-list-map-keys`, `-map-type`), about unknown fields (`x-kubernetes-preserve-unknown-fields`) and
//! about embedded objects (`x-kubernetes-embedded-resource`) is kept. Values are not held against their types here, nor are nulls
//! dropped: that is validation's part, whose errors read differently.
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema>

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::topology::{ListType, MapKey};
use super::{Definition, Schemas, Type, Unknown};

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// `ObjectMeta` and what it needs: the start of the definitions of every custom resource.
static METADATA: LazyLock<Schemas> = LazyLock::new(|| Schemas::builtin().of_type(OBJECT_META));

pub(super) fn compile(root: &Value) -> Schemas {
    let mut compiler = Compiler {
        definitions: METADATA.definitions.clone(),
        metadata: METADATA.by_name.get(OBJECT_META).copied().unwrap_or(0),
    };
    let index = compiler.object(
        root,
        Open {
            resource: true,
            preserve: false,
        },
    );
    Schemas {
        definitions: compiler.definitions,
        by_name: METADATA.by_name.clone(),
        root: Some(index),
        lenient: true,
    }
}

struct Compiler {
    definitions: Vec<Definition>,
    metadata: usize,
}

#[derive(Clone, Copy)]
struct Open {
    /// The object has `apiVersion`, `kind` and `metadata`.
    resource: bool,
    /// Some object around it keeps what it does not know: server-side apply then knows no unknown fields below.
    preserve: bool,
}

impl Compiler {
    fn value(&mut self, schema: &Value, preserve: bool) -> Type {
        let is = |flag: &str| schema.get(flag) == Some(&Value::Bool(true));
        if is("x-kubernetes-int-or-string") {
            return Type::IntOrString;
        }
        let keeps = is("x-kubernetes-preserve-unknown-fields");
        let preserve = preserve || keeps;
        match schema.get("type").and_then(Value::as_str).unwrap_or_default() {
            "object" if is("x-kubernetes-embedded-resource") => Type::Object(self.object(
                schema,
                Open {
                    resource: true,
                    preserve,
                },
            )),
            "object" => self.map_or_object(schema, preserve, keeps),
            "array" => {
                let items = schema
                    .get("items")
                    .map_or(Type::Any, |items| self.value(items, preserve));
                Type::List(Box::new(items), list_type(schema))
            }
            "string" => Type::String,
            "integer" => Type::Int64,
            "number" => Type::Number,
            "boolean" => Type::Boolean,
            _ => Type::Any,
        }
    }

    fn map_or_object(&mut self, schema: &Value, preserve: bool, keeps: bool) -> Type {
        let atomic = is_atomic(schema);
        match schema.get("additionalProperties") {
            Some(values @ Value::Object(_)) => Type::Map(Box::new(self.value(values, preserve)), atomic),
            Some(Value::Bool(true)) => Type::Map(Box::new(Type::Any), atomic),
            _ if keeps && schema.get("properties").is_none() => Type::Map(Box::new(Type::Any), atomic),
            _ => Type::Object(self.object(
                schema,
                Open {
                    resource: false,
                    preserve,
                },
            )),
        }
    }

    fn object(&mut self, schema: &Value, open: Open) -> usize {
        let keeps = schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
        let preserve = open.preserve || keeps;
        let empty = Map::new();
        let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&empty);
        let mut fields: BTreeMap<Box<str>, Type> = properties
            .iter()
            .map(|(name, schema)| (name.as_str().into(), self.value(schema, preserve)))
            .collect();
        if open.resource {
            fields.insert("apiVersion".into(), Type::String);
            fields.insert("kind".into(), Type::String);
            fields.insert("metadata".into(), Type::Object(self.metadata));
        }
        let unknown = match (keeps, preserve || properties.is_empty()) {
            (true, _) => Unknown::Kept,
            (false, true) => Unknown::Pruned,
            (false, false) => Unknown::Refused,
        };
        self.definitions.push(Definition {
            fields,
            unknown,
            atomic: is_atomic(schema),
            ..Definition::default()
        });
        self.definitions.len() - 1
    }
}

fn is_atomic(schema: &Value) -> bool {
    schema.get("x-kubernetes-map-type").is_some_and(|word| word == "atomic")
}

fn list_type(schema: &Value) -> ListType {
    match schema.get("x-kubernetes-list-type").and_then(Value::as_str) {
        Some("set") => ListType::Set,
        Some("map") => {
            let names = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
            let keys = names.into_iter().flatten().filter_map(Value::as_str);
            let default = |name: &str| schema.pointer("/items/properties")?.get(name)?.get("default").cloned();
            ListType::Map(
                keys.map(|name| MapKey {
                    name: name.into(),
                    default: default(name),
                })
                .collect(),
            )
        }
        _ => ListType::Atomic,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schema::Shape;

    fn schemas() -> Schemas {
        Schemas::from_openapi(&json!({
            "type": "object",
            "properties": {
                "spec": {"type": "object", "properties": {
                    "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port", "protocol"],
                        "items": {"type": "object", "properties": {"port": {"type": "integer"}, "protocol": {"type": "string", "default": "TCP"}}}},
                    "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
                    "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                    "half": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"a": {"type": "integer"}}},
                    "labels": {"type": "object", "additionalProperties": {"type": "string"}, "x-kubernetes-map-type": "atomic"},
                    "size": {"x-kubernetes-int-or-string": true},
                    "template": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true},
                }},
            },
        }))
    }

    #[test]
    fn merging_is_as_the_definition_says() {
        let schemas = schemas();
        let spec = schemas.root().unwrap().field("spec").unwrap();
        let ports = spec.field("ports").unwrap();
        let ListType::Map(keys) = ports.list_type().unwrap() else {
            panic!()
        };
        assert_eq!((&*keys[0].name, &keys[0].default), ("port", &None));
        assert_eq!(keys[1].default, Some(json!("TCP")));
        assert_eq!(spec.field("tags").unwrap().list_type(), Some(&ListType::Set));
        assert!(spec.field("labels").unwrap().is_atomic() && !spec.is_atomic());
        assert!(matches!(
            spec.field("free").unwrap().field("x").unwrap().shape(),
            Shape::Any
        ));
        let metadata = schemas.root().unwrap().field("metadata").unwrap();
        assert_eq!(metadata.field("finalizers").unwrap().list_type(), Some(&ListType::Set));
        let template = spec.field("template").unwrap();
        assert!(template.field("metadata").unwrap().field("ownerReferences").is_some());
    }

    #[test]
    fn unknown_fields_are_pruned_unless_they_are_to_be_kept() {
        let schemas = schemas();
        let mut object = json!({"apiVersion": "g/v1", "kind": "K", "metadata": {"name": "a", "nme": "b"}, "x": 1,
            "spec": {"free": {"a": {"b": null}}, "half": {"b": 1}, "size": "10%", "ports": [{"port": 1, "prot": "x"}], "y": 1, "tags": null,
                "template": {"kind": "Pod", "spec": {"any": 1}}}});
        let unknown = schemas.root().unwrap().normalise(&mut object).unwrap();
        assert_eq!(unknown, ["x", "metadata.nme", "spec.y", "spec.ports[0].prot"]);
        assert_eq!(object["spec"]["half"]["b"], 1);
        assert_eq!(object["spec"]["template"]["spec"]["any"], 1);
        assert_eq!(object["spec"].get("tags"), Some(&Value::Null));
    }
}
