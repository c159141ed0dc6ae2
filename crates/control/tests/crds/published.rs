//! Where clients learn of a kind: discovery and OpenAPI.

use crate::common::Cluster;
use crate::{DEFINITIONS, WIDGETS, defined};
use serde_json::{Value, json};

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// What each document says of the group.
async fn documents(cluster: &Cluster) -> Vec<bool> {
    let groups = cluster.get("/apis").await.ok();
    let aggregated = cluster.send("GET", "/apis", &[("accept", AGGREGATED)], "").await.ok();
    let v3 = cluster.get("/openapi/v3").await.ok();
    let v2 = cluster.get("/openapi/v2").await.ok();
    let has = |list: &Value, pointer: &str, name: &str| {
        list.as_array()
            .into_iter()
            .flatten()
            .any(|one| one.pointer(pointer).is_some_and(|own| own == name))
    };
    vec![
        has(&groups["groups"], "/name", "example.com"),
        has(&aggregated["items"], "/metadata/name", "example.com"),
        cluster.get("/apis/example.com/v1").await.code == 200,
        v3["paths"].get("apis/example.com/v1").is_some(),
        v2["definitions"].get("com.example.v1.Widget").is_some(),
        v2["paths"]
            .get("/apis/example.com/v1/namespaces/{namespace}/widgets")
            .is_some(),
    ]
}

#[tokio::test]
async fn a_kind_is_published_with_its_definition_and_no_longer() {
    let cluster = Cluster::start().await;
    assert_eq!(documents(&cluster).await, [false; 6]);
    cluster.post(DEFINITIONS, &crate::definition()).await.ok();
    assert_eq!(documents(&cluster).await, [true; 6]);
    cluster
        .delete(&format!("{DEFINITIONS}/widgets.example.com"), &Value::Null)
        .await
        .ok();
    cluster.until_gone(WIDGETS).await;
    assert_eq!(documents(&cluster).await, [false; 6]);
}

#[tokio::test]
async fn discovery_lists_names_and_subresources() {
    let cluster = defined().await;
    let list = cluster.get("/apis/example.com/v1").await.ok();
    assert_eq!(list["resources"][0]["name"], "widgets");
    assert_eq!(list["resources"][0]["singularName"], "widget");
    assert_eq!(list["resources"][0]["shortNames"], json!(["wi"]));
    assert_eq!(list["resources"][0]["categories"], json!(["all"]));
    assert_eq!(
        list["resources"][0]["verbs"],
        json!([
            "create",
            "delete",
            "deletecollection",
            "get",
            "list",
            "patch",
            "update",
            "watch"
        ])
    );
    assert_eq!(list["resources"][1]["name"], "widgets/status");
    assert_eq!(list["resources"][1]["verbs"], json!(["get", "patch", "update"]));
}

#[tokio::test]
async fn schemas_explain_themselves() {
    let cluster = defined().await;
    let index = cluster.get("/openapi/v3").await.ok();
    let url = index["paths"]["apis/example.com/v1"]["serverRelativeURL"]
        .as_str()
        .unwrap();
    let document = cluster.get(url).await.ok();
    let schema = &document["components"]["schemas"]["com.example.v1.Widget"];
    assert_eq!(schema["description"], "What a widget is.");
    assert_eq!(
        schema["x-kubernetes-group-version-kind"],
        json!([{"group": "example.com", "version": "v1", "kind": "Widget"}])
    );
    assert_eq!(schema["properties"]["spec"]["properties"]["size"]["type"], "integer");
    // `kubectl apply` and `diff` look here which patch they may send.
    for path in ["widgets/{name}", "widgets/{name}/status"] {
        let patch = &document["paths"][format!("/apis/example.com/v1/namespaces/{{namespace}}/{path}")]["patch"];
        let media_types: Vec<&String> = patch["requestBody"]["content"].as_object().unwrap().keys().collect();
        assert!(
            !media_types.iter().any(|one| one.contains("strategic")),
            "{media_types:?}"
        );
        assert_eq!(media_types.len(), 3);
    }
    let v2 = cluster.get("/openapi/v2").await.ok();
    let schema = &v2["definitions"]["com.example.v1.Widget"];
    assert_eq!(schema["description"], "What a widget is.");
    assert_eq!(schema["properties"]["spec"]["properties"]["color"]["type"], "string");
}
