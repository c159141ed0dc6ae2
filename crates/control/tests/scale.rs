//! Lists and watches at scale: forms, compression, limits, and watches that outlive a restart of the server.

mod common;

use common::Cluster;
use flate2::read::GzDecoder;
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::{Value, json};
use std::io::Read as _;

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn create(cluster: &Cluster, name: &str, length: usize) -> Value {
    let object = json!({ "metadata": { "name": name }, "data": { "k": "v".repeat(length) } });
    cluster.post(CONFIG_MAPS, &object).await.ok()
}

async fn raw(cluster: &Cluster, path: &str, headers: &[(&str, &str)]) -> (http::response::Parts, Vec<u8>) {
    let mut request = http::Request::get(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = cluster.client.send(request.body(Body::empty()).unwrap()).await.unwrap();
    let (head, body) = response.into_parts();
    (head, body.collect().await.unwrap().to_bytes().to_vec())
}

#[tokio::test]
async fn long_lists_are_compressed_for_those_who_read_it() {
    let cluster = Cluster::start().await;
    for number in 0..40 {
        create(&cluster, &format!("m{number}"), 8_000).await;
    }
    let (head, plain) = raw(&cluster, CONFIG_MAPS, &[]).await;
    assert!(!head.headers.contains_key("content-encoding"));
    assert_eq!(head.headers["content-type"], "application/json");
    for accept in [
        "application/json",
        "application/json;as=Table;g=meta.k8s.io;v=v1",
        "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
        "application/yaml",
    ] {
        let (_, plain) = raw(&cluster, CONFIG_MAPS, &[("accept", accept)]).await;
        let (head, packed) = raw(
            &cluster,
            CONFIG_MAPS,
            &[("accept", accept), ("accept-encoding", "gzip")],
        )
        .await;
        assert_eq!(head.headers["content-encoding"], "gzip", "{accept}");
        let mut unpacked = Vec::new();
        GzDecoder::new(&packed[..]).read_to_end(&mut unpacked).unwrap();
        assert_eq!(unpacked, plain, "{accept}");
    }
    let short = format!("{CONFIG_MAPS}?limit=2");
    let (head, _) = raw(&cluster, &short, &[("accept-encoding", "gzip")]).await;
    assert!(
        !head.headers.contains_key("content-encoding"),
        "short answers are not worth it"
    );
    let list: Value = serde_json::from_slice(&plain).unwrap();
    assert_eq!(list["items"].as_array().unwrap().len(), 40);
}

#[tokio::test]
async fn metadata_and_tables_are_what_they_are_made_of() {
    let cluster = Cluster::start().await;
    create(&cluster, "a", 3).await;
    create(&cluster, "b", 3).await;
    let whole = cluster.get(&format!("{CONFIG_MAPS}/a")).await.ok();
    let partial = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
    let list = cluster.send("GET", CONFIG_MAPS, &[("accept", partial)], "").await.ok();
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert_eq!(list["apiVersion"], "meta.k8s.io/v1");
    let item = &list["items"][0];
    assert_eq!(item["kind"], "PartialObjectMetadata");
    assert_eq!(item["metadata"], whole["metadata"]);
    assert_eq!(item.as_object().unwrap().len(), 3);
    for (include, expected) in [
        ("None", Value::Null),
        ("Metadata", item.clone()),
        ("Object", whole.clone()),
    ] {
        let accept = "application/json;as=Table;g=meta.k8s.io;v=v1";
        let path = format!("{CONFIG_MAPS}?includeObject={include}");
        let table = cluster.send("GET", &path, &[("accept", accept)], "").await.ok();
        assert_eq!(table["kind"], "Table");
        assert_eq!(table["columnDefinitions"][0]["name"], "Name");
        assert_eq!(table["rows"].as_array().unwrap().len(), 2);
        assert_eq!(table["rows"][0]["cells"][0], "a");
        assert_eq!(table["rows"][0]["object"], expected, "{include}");
    }
    let empty = cluster
        .send(
            "GET",
            "/api/v1/namespaces/nobody/configmaps",
            &[("accept", "application/json;as=Table;g=meta.k8s.io;v=v1")],
            "",
        )
        .await
        .ok();
    assert_eq!(empty["rows"], json!([]));
}

#[tokio::test]
async fn bodies_objects_and_deadlines_have_limits() {
    let cluster = Cluster::start().await;
    let large = json!({ "metadata": { "name": "large" }, "data": { "k": "v".repeat(2 << 20) } });
    // The kind's own limit speaks first for a ConfigMap; a kind without one meets the store's.
    let refused = cluster.post(CONFIG_MAPS, &large).await;
    assert_eq!(refused.code, 422, "{}", refused.text);
    let annotated = json!({
        "metadata": { "name": "x" },
        "involvedObject": { "namespace": "default", "name": "x" },
        "message": "v".repeat(2 << 20),
    });
    let refused = cluster.post("/api/v1/namespaces/default/events", &annotated).await;
    assert_eq!(
        refused.failure(),
        "413 RequestEntityTooLarge: Request entity too large: etcdserver: request is too large"
    );
    let endless = format!("{{\"metadata\":{{\"name\":\"{}\"}}}}", "x".repeat(3 << 20));
    let refused = cluster
        .send("POST", CONFIG_MAPS, &[("content-type", "application/json")], endless)
        .await;
    assert_eq!(
        refused.failure(),
        "413 RequestEntityTooLarge: Request entity too large: limit is 3145728"
    );
    let refused = cluster.get(&format!("{CONFIG_MAPS}?timeout=tomorrow")).await;
    assert_eq!(
        refused.failure(),
        "400 BadRequest: invalid timeout specified in the request URL - time: invalid duration \"tomorrow\""
    );
    cluster.get(&format!("{CONFIG_MAPS}?timeout=32s")).await.ok();
    for (query, expected) in [
        (
            "continue=!",
            "400 BadRequest: invalid continue token: continue key is not valid: illegal base64 data",
        ),
        (
            "continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6NSwic3RhcnQiOiIuLi9zZWNyZXRzIn0",
            "400 BadRequest: invalid continue token: continue key is not valid: ../secrets",
        ),
        (
            "resourceVersion=x",
            "400 BadRequest: invalid resource version: resourceVersion: Invalid value: \"x\": strconv.ParseUint: parsing \
             \"x\": invalid syntax",
        ),
        (
            "sendInitialEvents=true",
            "422 Invalid: ListOptions.meta.k8s.io \"\" is invalid: sendInitialEvents: Forbidden: sendInitialEvents is \
             forbidden for list",
        ),
    ] {
        let answer = cluster.get(&format!("{CONFIG_MAPS}?{query}")).await.failure();
        assert!(answer.starts_with(expected), "{query}: {answer}");
    }
}

#[tokio::test]
async fn watches_and_pages_outlive_a_restart() {
    let cluster = Cluster::start_in(tempfile::tempdir().unwrap(), None).await;
    let first = create(&cluster, "a", 1).await;
    for name in ["b", "c", "d"] {
        create(&cluster, name, 1).await;
    }
    let page = cluster.get(&format!("{CONFIG_MAPS}?limit=2")).await.ok();
    let token = page["metadata"]["continue"].as_str().unwrap().to_owned();
    cluster.delete(&format!("{CONFIG_MAPS}/c"), &Value::Null).await.ok();
    let label = json!({ "metadata": { "labels": { "x": "y" } } });
    cluster.patch(&format!("{CONFIG_MAPS}/b"), "merge", &label).await.ok();

    let cluster = Cluster::start_in(cluster.stop().await, None).await;
    let version = first["metadata"]["resourceVersion"].as_str().unwrap();
    let mut events = cluster
        .watch(&format!("{CONFIG_MAPS}?watch=1&resourceVersion={version}"))
        .await;
    for expected in ["ADDED b", "ADDED c", "ADDED d", "DELETED c", "MODIFIED b"] {
        assert_eq!(events.line().await, expected);
    }
    // From the past into the present without a seam.
    create(&cluster, "e", 1).await;
    assert_eq!(events.line().await, "ADDED e");
    let mut selected = cluster
        .watch(&format!(
            "{CONFIG_MAPS}?watch=1&resourceVersion={version}&labelSelector=x%3Dy"
        ))
        .await;
    assert_eq!(selected.line().await, "ADDED b");

    let rest = cluster
        .get(&format!("{CONFIG_MAPS}?limit=2&continue={token}"))
        .await
        .ok();
    let names: Vec<_> = rest["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["metadata"]["name"].clone())
        .collect();
    assert_eq!(names, ["c", "d"], "as of the first page");
    assert_eq!(rest["metadata"]["resourceVersion"], page["metadata"]["resourceVersion"]);
}

#[tokio::test]
async fn a_planned_end_of_a_watch_tells_how_far_it_got() {
    let cluster = Cluster::start().await;
    create(&cluster, "a", 1).await;
    let mut events = cluster
        .watch(&format!(
            "{CONFIG_MAPS}?watch=1&resourceVersion=0&allowWatchBookmarks=true&timeoutSeconds=1"
        ))
        .await;
    assert_eq!(events.line().await, "ADDED a");
    let bookmark = events.next().await.unwrap();
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert!(events.next().await.is_none());
}
