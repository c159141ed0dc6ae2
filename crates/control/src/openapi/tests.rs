use super::*;
use crate::kinds::ALL;
use expect_test::expect;
use std::collections::BTreeSet;

fn read(path: &str) -> Value {
    let documents = Documents::new(ALL, "v0");
    serde_json::from_slice(&documents.document(path).unwrap()).unwrap()
}

#[test]
fn the_index_names_every_group() {
    let index: Value = serde_json::from_slice(&Documents::new(ALL, "v0").index()).unwrap();
    let paths: Vec<&String> = index["paths"].as_object().unwrap().keys().collect();
    for path in ["api/v1", "apis/apps/v1", "apis/coordination.k8s.io/v1"] {
        assert!(paths.iter().any(|other| *other == path), "{paths:?}");
    }
    let url = index["paths"]["api/v1"]["serverRelativeURL"].as_str().unwrap();
    assert!(url.starts_with("/openapi/v3/api/v1?hash="));
    assert!(Documents::new(ALL, "v0").document("apis/nope/v1").is_none());
}

#[test]
fn paths_and_their_operations() {
    let mut lines = Vec::new();
    for path in ["api/v1", "apis/node.k8s.io/v1"] {
        for (path, operations) in read(path)["paths"].as_object().unwrap() {
            if !path.contains("pods") && !path.contains("runtimeclasses") {
                continue;
            }
            for (method, operation) in operations.as_object().unwrap() {
                if let Some(id) = operation.get("operationId") {
                    lines.push(format!("{method} {path} {}", id.as_str().unwrap()));
                }
            }
        }
    }
    expect![[r#"
        delete /api/v1/namespaces/{namespace}/pods deleteCoreV1CollectionNamespacedPod
        get /api/v1/namespaces/{namespace}/pods listCoreV1NamespacedPod
        post /api/v1/namespaces/{namespace}/pods createCoreV1NamespacedPod
        delete /api/v1/namespaces/{namespace}/pods/{name} deleteCoreV1NamespacedPod
        get /api/v1/namespaces/{namespace}/pods/{name} readCoreV1NamespacedPod
        patch /api/v1/namespaces/{namespace}/pods/{name} patchCoreV1NamespacedPod
        put /api/v1/namespaces/{namespace}/pods/{name} replaceCoreV1NamespacedPod
        get /api/v1/namespaces/{namespace}/pods/{name}/attach readCoreV1NamespacedPodAttach
        post /api/v1/namespaces/{namespace}/pods/{name}/attach createCoreV1NamespacedPodAttach
        post /api/v1/namespaces/{namespace}/pods/{name}/binding createCoreV1NamespacedPodBinding
        get /api/v1/namespaces/{namespace}/pods/{name}/exec readCoreV1NamespacedPodExec
        post /api/v1/namespaces/{namespace}/pods/{name}/exec createCoreV1NamespacedPodExec
        get /api/v1/namespaces/{namespace}/pods/{name}/log readCoreV1NamespacedPodLog
        get /api/v1/namespaces/{namespace}/pods/{name}/status readCoreV1NamespacedPodStatus
        patch /api/v1/namespaces/{namespace}/pods/{name}/status patchCoreV1NamespacedPodStatus
        put /api/v1/namespaces/{namespace}/pods/{name}/status replaceCoreV1NamespacedPodStatus
        get /api/v1/pods listCoreV1PodForAllNamespaces
        delete /apis/node.k8s.io/v1/runtimeclasses deleteNodeV1CollectionRuntimeClass
        get /apis/node.k8s.io/v1/runtimeclasses listNodeV1RuntimeClass
        post /apis/node.k8s.io/v1/runtimeclasses createNodeV1RuntimeClass
        delete /apis/node.k8s.io/v1/runtimeclasses/{name} deleteNodeV1RuntimeClass
        get /apis/node.k8s.io/v1/runtimeclasses/{name} readNodeV1RuntimeClass
        patch /apis/node.k8s.io/v1/runtimeclasses/{name} patchNodeV1RuntimeClass
        put /apis/node.k8s.io/v1/runtimeclasses/{name} replaceNodeV1RuntimeClass"#]]
    .assert_eq(&lines.join("\n"));
}

/// What `kubectl` looks for before it asks for strict validation or a dry run.
#[test]
fn every_patch_has_the_parameters_kubectl_looks_for() {
    for path in ["api/v1", "apis/coordination.k8s.io/v1", "apis/node.k8s.io/v1"] {
        for (path, operations) in read(path)["paths"].as_object().unwrap() {
            let Some(patch) = operations.get("patch") else { continue };
            assert!(patch["x-kubernetes-group-version-kind"]["kind"].is_string(), "{path}");
            let names: BTreeSet<&str> = patch["parameters"]
                .as_array()
                .unwrap()
                .iter()
                .map(|p| p["name"].as_str().unwrap())
                .collect();
            assert!(names.contains("fieldValidation") && names.contains("dryRun"), "{path}");
        }
    }
}

#[test]
fn references_lead_somewhere() {
    fn collect(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                if let Some(Value::String(reference)) = fields.get("$ref") {
                    found.insert(reference.clone());
                }
                fields.values().for_each(|value| collect(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| collect(value, found)),
            _ => {}
        }
    }
    for path in ["api/v1", "apis/coordination.k8s.io/v1", "apis/node.k8s.io/v1"] {
        let document = read(path);
        let mut references = BTreeSet::new();
        collect(&document, &mut references);
        for reference in references {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{path}: {reference}");
        }
    }
}

#[test]
fn schemas_say_how_lists_merge() {
    let schemas = read("api/v1")["components"]["schemas"].clone();
    let containers = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
    let volumes = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["volumes"];
    assert_eq!(volumes["x-kubernetes-patch-strategy"], "merge,retainKeys");
    let pod = &schemas["io.k8s.api.core.v1.Pod"];
    assert_eq!(pod["x-kubernetes-group-version-kind"][0]["kind"], "Pod");
    assert!(
        pod["properties"]["spec"]["allOf"][0]["$ref"].is_string()
            && pod["properties"]["spec"]["description"].is_string()
    );
}

/// The compiled schema, by which bodies are checked, is found under the name that each kind gives.
#[test]
fn every_kind_has_a_schema() {
    for kind in ALL {
        let info = kind.info();
        let node = catamaran_api::schema::Schemas::builtin().node(&info.schema);
        assert_eq!(
            node.and_then(catamaran_api::schema::Node::definition),
            Some(info.schema.as_ref()),
            "{}",
            info.kind
        );
    }
}
