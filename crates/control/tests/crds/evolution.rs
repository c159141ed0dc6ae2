//! Objects outlive schemas and owners: what becomes of them then.

use crate::common::Cluster;
use crate::{DEFINITIONS, WIDGETS, defined, widget, with_spec};
use serde_json::{Value, json};

#[tokio::test]
async fn a_new_default_shows_in_old_objects() {
    let cluster = Cluster::start().await;
    let schema = |color: Value| json!({"type": "object", "properties": {"size": {"type": "integer"}, "color": color}});
    let definition = with_spec(&schema(json!({"type": "string"})));
    cluster.post(DEFINITIONS, &definition).await.ok();
    let created = cluster.post(WIDGETS, &widget("a", 2)).await.ok();
    assert_eq!(created["spec"], json!({"size": 2}));
    let path = format!("{DEFINITIONS}/widgets.example.com");
    let mut present = cluster.get(&path).await.ok();
    let fields = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
    *present.pointer_mut(fields).unwrap() = schema(json!({"type": "string", "default": "red"}));
    cluster.put(&path, &present).await.ok();
    let read = cluster.get(&format!("{WIDGETS}/a")).await.ok();
    assert_eq!(read["spec"], json!({"size": 2, "color": "red"}));
    assert_eq!(
        read["metadata"]["resourceVersion"],
        created["metadata"]["resourceVersion"]
    );
    let listed = cluster.get(WIDGETS).await.ok();
    assert_eq!(listed["items"][0]["spec"]["color"], "red");
    // Written back, it is stored so: the default may change now, and the object stays.
    cluster.put(&format!("{WIDGETS}/a"), &read).await.ok();
    let mut present = cluster.get(&path).await.ok();
    *present.pointer_mut(fields).unwrap() = schema(json!({"type": "string", "default": "blue"}));
    cluster.put(&path, &present).await.ok();
    assert_eq!(cluster.get(&format!("{WIDGETS}/a")).await.ok()["spec"]["color"], "red");
    // What the schema names no more is not shown.
    let mut present = cluster.get(&path).await.ok();
    *present.pointer_mut(fields).unwrap() = json!({"type": "object", "properties": {"color": {"type": "string"}}});
    cluster.put(&path, &present).await.ok();
    assert_eq!(
        cluster.get(&format!("{WIDGETS}/a")).await.ok()["spec"],
        json!({"color": "red"})
    );
}

#[tokio::test]
async fn defined_objects_are_owners_and_dependents() {
    let cluster = Cluster::start_with_controllers().await;
    cluster.post(DEFINITIONS, &crate::definition()).await.ok();
    let owner = cluster.post(WIDGETS, &widget("owner", 2)).await.ok();
    let references = json!([{
        "apiVersion": "example.com/v1", "kind": "Widget", "name": "owner", "uid": owner["metadata"]["uid"],
    }]);
    let mut child = widget("child", 2);
    child["metadata"]["ownerReferences"] = references.clone();
    let child = cluster.post(WIDGETS, &child).await.ok();
    let map = json!({"metadata": {"name": "grandchild", "ownerReferences": [{
        "apiVersion": "example.com/v1", "kind": "Widget", "name": "child", "uid": child["metadata"]["uid"],
    }]}});
    let maps = "/api/v1/namespaces/default/configmaps";
    cluster.post(maps, &map).await.ok();
    cluster.delete(&format!("{WIDGETS}/owner"), &Value::Null).await.ok();
    cluster.until_gone(&format!("{WIDGETS}/child")).await;
    cluster.until_gone(&format!("{maps}/grandchild")).await;
}

#[tokio::test]
async fn in_the_foreground_a_defined_owner_goes_last() {
    let cluster = Cluster::start_with_controllers().await;
    cluster.post(DEFINITIONS, &crate::definition()).await.ok();
    let owner = cluster.post(WIDGETS, &widget("owner", 2)).await.ok();
    let map = json!({"metadata": {"name": "held", "finalizers": ["example.com/hold"], "ownerReferences": [{
        "apiVersion": "example.com/v1", "kind": "Widget", "name": "owner", "uid": owner["metadata"]["uid"],
        "blockOwnerDeletion": true,
    }]}});
    let held = "/api/v1/namespaces/default/configmaps/held";
    cluster.post("/api/v1/namespaces/default/configmaps", &map).await.ok();
    cluster
        .delete(&format!("{WIDGETS}/owner"), &json!({"propagationPolicy": "Foreground"}))
        .await
        .ok();
    cluster
        .until(held, |answer| !answer.json()["metadata"]["deletionTimestamp"].is_null())
        .await;
    let waiting = cluster.get(&format!("{WIDGETS}/owner")).await.ok();
    assert_eq!(waiting["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    cluster
        .patch(held, "merge", &json!({"metadata": {"finalizers": null}}))
        .await
        .ok();
    cluster.until_gone(&format!("{WIDGETS}/owner")).await;
}

#[tokio::test]
async fn a_namespace_goes_with_its_defined_objects() {
    let cluster = Cluster::start_with_controllers().await;
    cluster.post(DEFINITIONS, &crate::definition()).await.ok();
    cluster
        .post("/api/v1/namespaces", &json!({"metadata": {"name": "n"}}))
        .await
        .ok();
    let widgets = WIDGETS.replace("default", "n");
    let mut held = widget("held", 2);
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    cluster.post(&widgets, &held).await.ok();
    cluster.post(&widgets, &widget("free", 2)).await.ok();
    cluster.delete("/api/v1/namespaces/n", &Value::Null).await.ok();
    cluster.until_gone(&format!("{widgets}/free")).await;
    let told = |answer: &crate::common::Answer| {
        let conditions = answer.json()["status"]["conditions"].clone();
        let found = conditions
            .as_array()
            .into_iter()
            .flatten()
            .find(|one| one["type"] == "NamespaceContentRemaining");
        found.is_some_and(|one| {
            one["message"] == "Some resources are remaining: widgets.example.com has 1 resource instances"
        })
    };
    cluster.until("/api/v1/namespaces/n", told).await;
    cluster
        .patch(
            &format!("{widgets}/held"),
            "merge",
            &json!({"metadata": {"finalizers": null}}),
        )
        .await
        .ok();
    cluster.until_gone("/api/v1/namespaces/n").await;
}

#[tokio::test]
async fn a_change_of_the_definition_ends_watches() {
    let cluster = defined().await;
    let mut watch = cluster.watch(&format!("{WIDGETS}?watch=1")).await;
    let path = format!("{DEFINITIONS}/widgets.example.com");
    let change = json!([{"op": "add", "path": "/spec/versions/0/schema/openAPIV3Schema/properties/more", "value": {"type": "string"}}]);
    cluster.patch(&path, "json", &change).await.ok();
    assert_eq!(watch.next().await, None);
}
