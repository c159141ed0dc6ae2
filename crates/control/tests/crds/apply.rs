//! Patches of defined kinds: lists are what their schema says, and there is no strategic merge.

use crate::common::{Answer, Cluster};
use crate::{DEFINITIONS, WIDGETS, with_spec};
use expect_test::expect;
use serde_json::{Value, json};

async fn cluster() -> Cluster {
    let cluster = Cluster::start().await;
    let port = json!({"type": "object", "required": ["port"], "properties": {
        "port": {"type": "integer"}, "name": {"type": "string"},
    }});
    let definition = with_spec(&json!({"type": "object", "properties": {
        "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port"], "items": port},
        "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "args": {"type": "array", "items": {"type": "string"}},
    }}));
    cluster.post(DEFINITIONS, &definition).await.ok();
    cluster
}

async fn apply(cluster: &Cluster, query: &str, spec: &Value) -> Answer {
    let object = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "a"}, "spec": spec});
    let headers = [("content-type", "application/apply-patch+yaml")];
    cluster
        .send("PATCH", &format!("{WIDGETS}/a?{query}"), &headers, object.to_string())
        .await
}

#[tokio::test]
async fn lists_merge_as_their_schema_says() {
    let cluster = cluster().await;
    let first = json!({"ports": [{"port": 80, "name": "web"}], "tags": ["x"], "args": ["1"]});
    let created = apply(&cluster, "fieldManager=one", &first).await;
    assert_eq!(created.code, 201, "{}", created.text);
    let managed = created.ok()["metadata"]["managedFields"].clone();
    expect![[r#"{"f:spec":{"f:args":{},"f:ports":{"k:{\"port\":80}":{".":{},"f:name":{},"f:port":{}}},"f:tags":{"v:\"x\"":{}}}}"#]]
        .assert_eq(&managed[0]["fieldsV1"].to_string());
    assert_eq!(
        (
            &managed[0]["manager"],
            &managed[0]["operation"],
            &managed[0]["apiVersion"]
        ),
        (&json!("one"), &json!("Apply"), &json!("example.com/v1"))
    );
    let second = json!({"ports": [{"port": 443}], "tags": ["y"]});
    let merged = apply(&cluster, "fieldManager=two", &second).await.ok();
    assert_eq!(
        merged["spec"],
        json!({"ports": [{"port": 80, "name": "web"}, {"port": 443}], "tags": ["x", "y"], "args": ["1"]})
    );
    // What one does not declare any more goes; what two declared stays.
    let rest = apply(&cluster, "fieldManager=one", &json!({"args": ["1"]})).await.ok();
    assert_eq!(
        rest["spec"],
        json!({"ports": [{"port": 443}], "tags": ["y"], "args": ["1"]})
    );
}

#[tokio::test]
async fn others_fields_are_taken_by_force_only() {
    let cluster = cluster().await;
    let spec = |name: &str| json!({"ports": [{"port": 80, "name": name}], "args": [name]});
    apply(&cluster, "fieldManager=one", &spec("a")).await.ok();
    let refused = apply(&cluster, "fieldManager=two", &spec("b")).await;
    expect![[r#"
        409 Conflict: Apply failed with 2 conflicts: conflicts with "one":
        - .spec.args
        - .spec.ports[port=80].name"#]]
    .assert_eq(&refused.failure());
    let forced = apply(&cluster, "fieldManager=two&force=true", &spec("b")).await.ok();
    assert_eq!(forced["spec"], spec("b"));
    // An update is a manager as well.
    let patched = cluster
        .patch(
            &format!("{WIDGETS}/a?fieldManager=three"),
            "merge",
            &json!({"spec": {"args": ["c"]}}),
        )
        .await
        .ok();
    let managers: Vec<String> = patched["metadata"]["managedFields"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| format!("{} {} {}", entry["manager"], entry["operation"], entry["fieldsV1"]))
        .collect();
    expect![[r#"
        "one" "Apply" {"f:spec":{"f:ports":{"k:{\"port\":80}":{".":{},"f:port":{}}}}}
        "two" "Apply" {"f:spec":{"f:ports":{"k:{\"port\":80}":{".":{},"f:name":{},"f:port":{}}}}}
        "three" "Update" {"f:spec":{"f:args":{}}}"#]]
    .assert_eq(&managers.join("\n"));
}

#[tokio::test]
async fn every_patch_but_the_strategic_one_works() {
    let cluster = cluster().await;
    apply(&cluster, "fieldManager=one", &json!({"args": ["a"], "tags": ["x"]}))
        .await
        .ok();
    let path = format!("{WIDGETS}/a");
    let merged = cluster
        .patch(&path, "merge", &json!({"spec": {"tags": null, "args": ["b", "c"]}}))
        .await
        .ok();
    assert_eq!(merged["spec"], json!({"args": ["b", "c"]}));
    let operations = json!([
        {"op": "test", "path": "/spec/args/0", "value": "b"},
        {"op": "remove", "path": "/spec/args/0"},
        {"op": "add", "path": "/spec/tags", "value": ["y"]},
    ]);
    let patched = cluster.patch(&path, "json", &operations).await.ok();
    assert_eq!(patched["spec"], json!({"args": ["c"], "tags": ["y"]}));
    let twice = cluster
        .patch(
            &path,
            "json",
            &json!([{"op": "add", "path": "/spec/tags/-", "value": "y"}]),
        )
        .await;
    let strategic = cluster.patch(&path, "strategic-merge", &json!({})).await;
    expect![[r#"
        422 Invalid: Widget.example.com "a" is invalid: spec.tags[1]: Duplicate value: "y"
        415 UnsupportedMediaType: the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml"#]].assert_eq(&format!("{}\n{}", twice.failure(), strategic.failure()));
}
