use super::*;
use crate::kinds::ALL;
use expect_test::expect;
use std::collections::BTreeSet;

fn made(kinds: impl Iterator<Item = KindRef>, before: Option<&Documents>) -> Documents {
    let kinds: Vec<_> = kinds.map(|kind| (kind.info(), kind)).collect();
    Documents::new(kinds.iter().map(|(info, kind)| (info, kind)), "v0", before)
}

fn documents() -> Documents {
    made(ALL.iter().map(|kind| KindRef::Builtin(*kind)), None)
}

fn read(path: &str) -> Value {
    serde_json::from_slice(&documents().document(path).unwrap()).unwrap()
}

fn all_paths() -> Vec<String> {
    documents().parts.keys().cloned().collect()
}

#[test]
fn the_index_names_every_group() {
    let other = ("apis/metrics.k8s.io/v1".to_owned(), "AB".to_owned());
    let index: Value = serde_json::from_slice(&documents().index(std::iter::once(other))).unwrap();
    let paths = index["paths"].as_object().unwrap();
    for kind in ALL {
        assert!(paths.contains_key(&root(&kind.info())), "{}", kind.info().kind);
    }
    assert!(paths.contains_key("apis/authorization.k8s.io/v1"));
    let url = index["paths"]["api/v1"]["serverRelativeURL"].as_str().unwrap();
    assert!(url.starts_with("/openapi/v3/api/v1?hash="));
    let url = &index["paths"]["apis/metrics.k8s.io/v1"]["serverRelativeURL"];
    assert_eq!(url, "/openapi/v3/apis/metrics.k8s.io/v1?hash=AB");
    assert!(documents().document("apis/nope/v1").is_none());
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
        get /api/v1/namespaces/{namespace}/pods/{name}/attach connectCoreV1GetNamespacedPodAttach
        post /api/v1/namespaces/{namespace}/pods/{name}/attach connectCoreV1PostNamespacedPodAttach
        post /api/v1/namespaces/{namespace}/pods/{name}/binding createCoreV1NamespacedPodBinding
        get /api/v1/namespaces/{namespace}/pods/{name}/ephemeralcontainers readCoreV1NamespacedPodEphemeralcontainers
        patch /api/v1/namespaces/{namespace}/pods/{name}/ephemeralcontainers patchCoreV1NamespacedPodEphemeralcontainers
        put /api/v1/namespaces/{namespace}/pods/{name}/ephemeralcontainers replaceCoreV1NamespacedPodEphemeralcontainers
        post /api/v1/namespaces/{namespace}/pods/{name}/eviction createCoreV1NamespacedPodEviction
        get /api/v1/namespaces/{namespace}/pods/{name}/exec connectCoreV1GetNamespacedPodExec
        post /api/v1/namespaces/{namespace}/pods/{name}/exec connectCoreV1PostNamespacedPodExec
        get /api/v1/namespaces/{namespace}/pods/{name}/log readCoreV1NamespacedPodLog
        get /api/v1/namespaces/{namespace}/pods/{name}/portforward connectCoreV1GetNamespacedPodPortforward
        post /api/v1/namespaces/{namespace}/pods/{name}/portforward connectCoreV1PostNamespacedPodPortforward
        delete /api/v1/namespaces/{namespace}/pods/{name}/proxy connectCoreV1DeleteNamespacedPodProxy
        get /api/v1/namespaces/{namespace}/pods/{name}/proxy connectCoreV1GetNamespacedPodProxy
        patch /api/v1/namespaces/{namespace}/pods/{name}/proxy connectCoreV1PatchNamespacedPodProxy
        post /api/v1/namespaces/{namespace}/pods/{name}/proxy connectCoreV1PostNamespacedPodProxy
        put /api/v1/namespaces/{namespace}/pods/{name}/proxy connectCoreV1PutNamespacedPodProxy
        get /api/v1/namespaces/{namespace}/pods/{name}/resize readCoreV1NamespacedPodResize
        patch /api/v1/namespaces/{namespace}/pods/{name}/resize patchCoreV1NamespacedPodResize
        put /api/v1/namespaces/{namespace}/pods/{name}/resize replaceCoreV1NamespacedPodResize
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
    for path in all_paths() {
        for (path, operations) in read(&path)["paths"].as_object().unwrap() {
            let Some(patch) = operations.get("patch") else { continue };
            assert!(patch["x-kubernetes-group-version-kind"]["kind"].is_string(), "{path}");
            if patch["x-kubernetes-action"] == "connect" {
                continue;
            }
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
    for path in all_paths() {
        let document = read(&path);
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

/// `kubectl explain` looks for a schema of the kind in the document of its version.
#[test]
fn every_kind_can_be_explained() {
    let documents: std::collections::BTreeMap<String, Value> = all_paths()
        .into_iter()
        .map(|path| (path.clone(), read(&path)))
        .collect();
    for kind in ALL {
        let info = kind.info();
        let document = &documents[&root(&info)];
        let wanted = group_version_kind(&info);
        let schemas = document["components"]["schemas"].as_object().unwrap();
        let found = schemas.values().any(|schema| {
            let kinds = schema["x-kubernetes-group-version-kind"].as_array();
            kinds.is_some_and(|kinds| kinds.contains(&wanted)) && schema["description"].is_string()
        });
        assert!(found, "{wanted}");
    }
}

/// A kind that is defined while the server runs, as far as documents go.
struct Defined(Value);

impl ErasedKind for Defined {
    fn info(&self) -> Info {
        Info {
            group: "example.com".into(),
            version: "v1".into(),
            kind: "Thing".into(),
            plural: "things".into(),
            singular: "thing".to_owned(),
            list_kind: "ThingList".into(),
            schema: "".into(),
            subresources: vec![crate::kinds::SCALE],
            ..ALL[0].info()
        }
    }
    fn openapi(&self) -> Option<Value> {
        Some(self.0.clone())
    }
    fn decode(&self, value: Value) -> Result<Box<dyn crate::kinds::Object>, serde_json::Error> {
        ALL[0].decode(value)
    }
    fn decode_slice(&self, json: &[u8]) -> Result<Box<dyn crate::kinds::Object>, serde_json::Error> {
        ALL[0].decode_slice(json)
    }
    fn default(&self, _: &mut dyn crate::kinds::Object) {}
    fn prepare_create(&self, _: &mut dyn crate::kinds::Object) {}
    fn prepare_update(&self, _: &mut dyn crate::kinds::Object, _: &dyn crate::kinds::Object) {}
    fn prepare_status(&self, _: &mut dyn crate::kinds::Object, _: &dyn crate::kinds::Object) {}
    fn spec_changed(&self, _: &dyn crate::kinds::Object, _: &dyn crate::kinds::Object) -> Option<bool> {
        None
    }
    fn validate(&self, _: &dyn crate::kinds::Object, _: &mut catamaran_api::Errors) {}
    fn validate_update(
        &self,
        _: &dyn crate::kinds::Object,
        _: &dyn crate::kinds::Object,
        _: &mut catamaran_api::Errors,
    ) {
    }
    fn validate_status(
        &self,
        _: &dyn crate::kinds::Object,
        _: &dyn crate::kinds::Object,
        _: &mut catamaran_api::Errors,
    ) {
    }
    fn warnings(&self, _: &dyn crate::kinds::Object, _: Option<&dyn crate::kinds::Object>) -> Vec<String> {
        Vec::new()
    }
    fn deletion_grace(&self, _: &dyn crate::kinds::Object, _: Option<i64>) -> Option<i64> {
        None
    }
    fn holds_deletion(&self, _: &dyn crate::kinds::Object) -> bool {
        false
    }
    fn mark_deleted(&self, _: &mut dyn crate::kinds::Object) {}
    fn columns(&self) -> &[catamaran_api::table::Column] {
        &[]
    }
    fn hub(&self) -> Option<crate::kinds::Hub> {
        None
    }
    fn row(&self, _: &dyn crate::kinds::Object, _: k8s_openapi::jiff::Timestamp) -> Vec<Value> {
        Vec::new()
    }
}

#[test]
fn defined_kinds_are_described_like_others() {
    let with = |description: &str, before: Option<&Documents>| {
        let schema = json!({ "description": description, "properties": { "spec": { "type": "object" } } });
        made(std::iter::once(KindRef::Defined(Arc::new(Defined(schema)))), before)
    };
    let documents = with("first", None);
    let document: Value = serde_json::from_slice(&documents.document("apis/example.com/v1").unwrap()).unwrap();
    let schema = &document["components"]["schemas"]["com.example.v1.Thing"];
    assert_eq!(schema["x-kubernetes-group-version-kind"][0]["kind"], "Thing");
    assert!(schema["properties"]["metadata"]["allOf"][0]["$ref"].is_string());
    let scale = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .find(|(path, _)| path.ends_with("/scale"));
    assert_eq!(
        scale.unwrap().1["get"]["x-kubernetes-group-version-kind"]["kind"],
        "Scale"
    );
    // A client that keeps a document sees that there is another one.
    let kept = with("first", Some(&documents));
    assert!(kept.parts["apis/example.com/v1"].document.get().is_some());
    let other = with("second", Some(&documents));
    assert!(other.parts["apis/example.com/v1"].document.get().is_none());
    // Of the very same kinds, not even the hash is made anew.
    let kinds = || documents.parts["apis/example.com/v1"].kinds.iter().cloned();
    let again = made(kinds(), Some(&documents));
    assert!(Arc::ptr_eq(
        &again.parts["apis/example.com/v1"],
        &documents.parts["apis/example.com/v1"]
    ));
}
