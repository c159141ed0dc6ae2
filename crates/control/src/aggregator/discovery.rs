//! What another server serves, in the form of aggregated discovery.

use serde_json::{Map, Value, json};

/// `resources` of a version from its `APIResourceList`.
pub(super) fn resources(list: &[u8]) -> Option<Value> {
    let list: Value = serde_json::from_slice(list).ok()?;
    let entries = list.get("resources")?.as_array()?;
    let mut resources: Vec<Value> = Vec::new();
    for entry in entries {
        let name = entry["name"].as_str()?;
        match name.split_once('/') {
            None => resources.push(resource(name, entry)),
            Some((resource, below)) => {
                let own = json!({
                    "subresource": below,
                    "responseKind": response_kind(entry),
                    "verbs": entry["verbs"],
                });
                let of = resources.iter_mut().find(|other| other["resource"] == resource);
                if let Some(Value::Object(of)) = of {
                    let below = of.entry("subresources").or_insert_with(|| json!([]));
                    below.as_array_mut().into_iter().for_each(|list| list.push(own.clone()));
                }
            }
        }
    }
    Some(Value::Array(resources))
}

fn resource(name: &str, entry: &Value) -> Value {
    let namespaced = entry["namespaced"] == true;
    let mut resource = Map::new();
    resource.insert("resource".to_owned(), name.into());
    resource.insert("responseKind".to_owned(), response_kind(entry));
    resource.insert(
        "scope".to_owned(),
        if namespaced { "Namespaced" } else { "Cluster" }.into(),
    );
    resource.insert("singularResource".to_owned(), entry["singularName"].clone());
    resource.insert("verbs".to_owned(), entry["verbs"].clone());
    for field in ["shortNames", "categories"] {
        if let Some(value) = entry.get(field) {
            resource.insert(field.to_owned(), value.clone());
        }
    }
    Value::Object(resource)
}

fn response_kind(entry: &Value) -> Value {
    let text = |field: &str| entry[field].as_str().unwrap_or_default();
    json!({ "group": text("group"), "version": text("version"), "kind": text("kind") })
}

/// The hash of the document of a version in another server's OpenAPI index.
pub(super) fn openapi_hash(index: &[u8], path: &str) -> Option<String> {
    let index: Value = serde_json::from_slice(index).ok()?;
    let url = index["paths"][path]["serverRelativeURL"].as_str()?;
    let (_, hash) = url.split_once("hash=")?;
    Some(hash.split('&').next()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_become_resources() {
        let list = json!({"resources": [
            {"name": "things", "singularName": "thing", "namespaced": true, "kind": "Thing", "verbs": ["get"], "shortNames": ["th"]},
            {"name": "things/scale", "singularName": "", "namespaced": true, "kind": "Scale", "group": "autoscaling", "version": "v1", "verbs": ["get"]},
        ]});
        let resources = resources(list.to_string().as_bytes()).expect("resources");
        assert_eq!(
            resources,
            json!([{"resource": "things", "responseKind": {"group": "", "version": "", "kind": "Thing"}, "scope": "Namespaced",
                "singularResource": "thing", "verbs": ["get"], "shortNames": ["th"],
                "subresources": [{"subresource": "scale", "responseKind": {"group": "autoscaling", "version": "v1", "kind": "Scale"}, "verbs": ["get"]}]}])
        );
        assert_eq!(super::resources(b"no"), None);
        let index = json!({"paths": {"apis/a/v1": {"serverRelativeURL": "/openapi/v3/apis/a/v1?hash=AB"}}});
        assert_eq!(
            openapi_hash(index.to_string().as_bytes(), "apis/a/v1"),
            Some("AB".to_owned())
        );
        assert_eq!(openapi_hash(index.to_string().as_bytes(), "apis/b/v1"), None);
    }
}
