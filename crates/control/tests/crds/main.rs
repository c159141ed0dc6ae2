//! Kinds that users define, through the API: served at once, validated, versioned, and gone with their definition.
#![allow(clippy::needless_pass_by_value, reason = "tests write their JSON where they use it")]

mod answers;
mod apply;
mod basics;
#[path = "../common/mod.rs"]
mod common;
mod conversion;
mod evolution;
mod published;
mod rules;
mod scale;
#[path = "../admission/server.rs"]
#[allow(dead_code, reason = "every test binary uses a part of it")]
mod server;

use common::Cluster;
use serde_json::{Value, json};

pub(crate) const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
pub(crate) const WIDGETS: &str = "/apis/example.com/v1/namespaces/default/widgets";

pub(crate) fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget", "shortNames": ["wi"], "categories": ["all"]},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "subresources": {"status": {}},
                "additionalPrinterColumns": [
                    {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
                    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
                ],
                "selectableFields": [{"jsonPath": ".spec.color"}],
                "schema": {"openAPIV3Schema": {"type": "object", "description": "What a widget is.", "properties": {
                    "spec": {"type": "object", "required": ["size"],
                        "x-kubernetes-validations": [{"rule": "self.size % 2 == 0", "message": "sizes are even"}],
                        "properties": {
                            "size": {"type": "integer", "minimum": 0},
                            "color": {"type": "string", "default": "red", "enum": ["red", "blue"]},
                        }},
                    "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                }}},
            }],
        },
    })
}

pub(crate) fn widget(name: &str, size: i64) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name}, "spec": {"size": size}})
}

pub(crate) async fn defined() -> Cluster {
    let cluster = Cluster::start().await;
    let answer = cluster.post(DEFINITIONS, &definition()).await;
    assert_eq!(answer.code, 201, "{}", answer.text);
    cluster
}

/// A definition of `widgets` with this schema of `spec`, and nothing else.
pub(crate) fn with_spec(spec: &Value) -> Value {
    let mut definition = definition();
    definition["spec"]["versions"] = json!([{
        "name": "v1", "served": true, "storage": true,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}},
    }]);
    definition
}
