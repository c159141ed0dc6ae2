//! Types that no OpenAPI document describes, as nobody creates them: what servers say about themselves, and metadata alone.

use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use schemars::generate::SchemaGenerator;
use serde_json::{Map, Value, json};

use crate::DEFINITIONS;

/// Their definitions, and those they are made of.
pub(crate) fn definitions(mut generator: SchemaGenerator) -> Map<String, Value> {
    generator.subschema_for::<meta::APIGroupList>();
    generator.subschema_for::<meta::APIResourceList>();
    generator.subschema_for::<meta::APIVersions>();
    generator.subschema_for::<meta::ListMeta>();
    generator.subschema_for::<meta::ObjectMeta>();
    let mut definitions = generator.take_definitions(false);
    for (name, properties) in of_our_own() {
        definitions.insert(name, json!({ "type": "object", "properties": properties }));
    }
    definitions
}

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const DISCOVERY: &str = "io.k8s.api.apidiscovery.v2";

fn of_our_own() -> [(String, Value); 7] {
    let text = || json!({ "type": "string" });
    let list = |items: Value| json!({ "type": "array", "items": items });
    let of = |package: &str, kind: &str| json!({ "$ref": format!("#{DEFINITIONS}/{package}.{kind}") });
    let type_of = || of(META, "GroupVersionKind");
    [
        (
            format!("{META}.PartialObjectMetadata"),
            json!({ "apiVersion": text(), "kind": text(), "metadata": of(META, "ObjectMeta") }),
        ),
        (
            format!("{META}.GroupVersionKind"),
            json!({ "group": text(), "version": text(), "kind": text() }),
        ),
        (
            format!("{DISCOVERY}.APIGroupDiscoveryList"),
            json!({
                "apiVersion": text(),
                "kind": text(),
                "metadata": of(META, "ListMeta"),
                "items": list(of(DISCOVERY, "APIGroupDiscovery")),
            }),
        ),
        (
            format!("{DISCOVERY}.APIGroupDiscovery"),
            json!({ "metadata": of(META, "ObjectMeta"), "versions": list(of(DISCOVERY, "APIVersionDiscovery")) }),
        ),
        (
            format!("{DISCOVERY}.APIVersionDiscovery"),
            json!({
                "version": text(),
                "resources": list(of(DISCOVERY, "APIResourceDiscovery")),
                "freshness": text(),
            }),
        ),
        (
            format!("{DISCOVERY}.APIResourceDiscovery"),
            json!({
                "resource": text(),
                "responseKind": type_of(),
                "scope": text(),
                "singularResource": text(),
                "verbs": list(text()),
                "shortNames": list(text()),
                "categories": list(text()),
                "subresources": list(of(DISCOVERY, "APISubresourceDiscovery")),
            }),
        ),
        (
            format!("{DISCOVERY}.APISubresourceDiscovery"),
            json!({
                "subresource": text(),
                "responseKind": type_of(),
                "acceptedTypes": list(type_of()),
                "verbs": list(text()),
            }),
        ),
    ]
}
