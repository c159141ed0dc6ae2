//! Lists and watches: pages, versions, selectors, forms.

mod common;

use common::Cluster;
use serde_json::{Value, json};

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn create(cluster: &Cluster, name: &str, app: &str) -> Value {
    let object = json!({ "metadata": { "name": name, "labels": { "app": app } }, "data": { "k": "v" } });
    cluster.post(CONFIG_MAPS, &object).await.ok()
}

fn names(list: &Value) -> Vec<&str> {
    list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["metadata"]["name"].as_str().unwrap())
        .collect()
}

fn version(object: &Value) -> &str {
    object["metadata"]["resourceVersion"].as_str().unwrap()
}

#[tokio::test]
async fn pages_show_one_moment() {
    let cluster = Cluster::start().await;
    for name in ["a", "b", "c", "d", "e"] {
        create(&cluster, name, "x").await;
    }
    let first = cluster.get(&format!("{CONFIG_MAPS}?limit=2")).await.ok();
    assert_eq!(names(&first), ["a", "b"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 3);
    // What happens in between is not seen.
    cluster.delete(&format!("{CONFIG_MAPS}/c"), &Value::Null).await.ok();
    create(&cluster, "bb", "x").await;
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = cluster
        .get(&format!("{CONFIG_MAPS}?limit=2&continue={token}"))
        .await
        .ok();
    assert_eq!(names(&second), ["c", "d"]);
    assert_eq!(version(&second), version(&first));
    let token = second["metadata"]["continue"].as_str().unwrap();
    let third = cluster
        .get(&format!("{CONFIG_MAPS}?limit=2&continue={token}"))
        .await
        .ok();
    assert_eq!(names(&third), ["e"]);
    assert!(third["metadata"].get("continue").is_none());
    let exact = format!(
        "{CONFIG_MAPS}?resourceVersion={}&resourceVersionMatch=Exact",
        version(&first)
    );
    assert_eq!(names(&cluster.get(&exact).await.ok()), ["a", "b", "c", "d", "e"]);
    let filtered = cluster
        .get(&format!("{exact}&labelSelector=app%3Dx&limit=4"))
        .await
        .ok();
    assert_eq!(names(&filtered), ["a", "b", "c", "d"]);
    assert_eq!(names(&cluster.get(CONFIG_MAPS).await.ok()), ["a", "b", "bb", "d", "e"]);
}

#[tokio::test]
async fn selectors_choose() {
    let cluster = Cluster::start().await;
    create(&cluster, "a", "x").await;
    create(&cluster, "b", "y").await;
    for (query, expected) in [
        ("labelSelector=app%3Dx", vec!["a"]),
        ("labelSelector=app+in+(x,y)", vec!["a", "b"]),
        ("labelSelector=%21app", vec![]),
        ("fieldSelector=metadata.name%3Db", vec!["b"]),
        ("fieldSelector=metadata.name%21%3Db", vec!["a"]),
        ("fieldSelector=metadata.namespace%3Dother", vec![]),
    ] {
        assert_eq!(
            names(&cluster.get(&format!("{CONFIG_MAPS}?{query}")).await.ok()),
            expected,
            "{query}"
        );
    }
    let everywhere = cluster
        .get("/api/v1/configmaps?fieldSelector=metadata.name%3Db")
        .await
        .ok();
    assert_eq!(names(&everywhere), ["b"]);
}

#[tokio::test]
async fn a_watch_tells_what_its_selector_sees() {
    let cluster = Cluster::start().await;
    create(&cluster, "a", "x").await;
    create(&cluster, "b", "y").await;
    let mut events = cluster
        .watch(&format!("{CONFIG_MAPS}?watch=true&labelSelector=app%3Dx"))
        .await;
    assert_eq!(events.line().await, "ADDED a");
    let path = format!("{CONFIG_MAPS}/b");
    cluster
        .patch(&path, "merge", &json!({ "metadata": { "labels": { "app": "x" } } }))
        .await
        .ok();
    assert_eq!(events.line().await, "ADDED b");
    cluster
        .patch(&path, "merge", &json!({ "data": { "k": "w" } }))
        .await
        .ok();
    assert_eq!(events.line().await, "MODIFIED b");
    let left = cluster
        .patch(&path, "merge", &json!({ "metadata": { "labels": { "app": "z" } } }))
        .await
        .ok();
    let event = events.next().await.unwrap();
    assert_eq!(event["type"], "DELETED");
    assert_eq!(
        event["object"]["metadata"]["labels"]["app"], "x",
        "as it was when it was last seen"
    );
    assert_eq!(
        version(&event["object"]),
        version(&left),
        "with the version of the change"
    );
    cluster.delete(&path, &Value::Null).await.ok();
    cluster.delete(&format!("{CONFIG_MAPS}/a"), &Value::Null).await.ok();
    let event = events.next().await.unwrap();
    assert_eq!(
        (&event["type"], &event["object"]["metadata"]["name"]),
        (&json!("DELETED"), &json!("a"))
    );
}

#[tokio::test]
async fn a_watch_goes_on_from_a_version() {
    let cluster = Cluster::start().await;
    let first = create(&cluster, "a", "x").await;
    create(&cluster, "b", "x").await;
    let mut events = cluster
        .watch(&format!("{CONFIG_MAPS}?watch=1&resourceVersion={}", version(&first)))
        .await;
    assert_eq!(events.line().await, "ADDED b");
    let mut bounded = cluster
        .watch(&format!(
            "{CONFIG_MAPS}?watch=1&timeoutSeconds=1&resourceVersion={}",
            version(&first)
        ))
        .await;
    assert_eq!(bounded.line().await, "ADDED b");
    assert_eq!(bounded.next().await, None, "it ends when its time is over");
}

#[tokio::test]
async fn a_version_of_another_history_is_gone() {
    let cluster = Cluster::start().await;
    create(&cluster, "a", "x").await;
    // Clients look for this as an event; as an answer of its own some would ask for the same version for ever.
    let mut events = cluster
        .watch(&format!("{CONFIG_MAPS}?watch=1&resourceVersion=1000000"))
        .await;
    let event = events.next().await.unwrap();
    assert_eq!(event["type"], "ERROR");
    assert_eq!(
        (&event["object"]["code"], &event["object"]["reason"]),
        (&json!(410), &json!("Expired"))
    );
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn streaming_lists_say_where_they_end() {
    let cluster = Cluster::start().await;
    create(&cluster, "a", "x").await;
    let query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut events = cluster.watch(&format!("{CONFIG_MAPS}?{query}")).await;
    assert_eq!(events.line().await, "ADDED a");
    let bookmark = events.next().await.unwrap();
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(
        bookmark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"],
        "true"
    );
    let listed = cluster.get(CONFIG_MAPS).await.ok();
    assert_eq!(version(&bookmark["object"]), version(&listed));
    create(&cluster, "b", "x").await;
    assert_eq!(events.line().await, "ADDED b");
    let refused = cluster
        .get(&format!("{CONFIG_MAPS}?watch=1&sendInitialEvents=true"))
        .await;
    assert_eq!(refused.code, 422);
}

#[tokio::test]
async fn tables_and_partial_objects() {
    let cluster = Cluster::start().await;
    create(&cluster, "a", "x").await;
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let list = cluster.send("GET", CONFIG_MAPS, &[("accept", table)], "").await.ok();
    assert_eq!(list["kind"], "Table");
    assert_eq!(list["columnDefinitions"][0]["name"], "Name");
    assert_eq!(list["rows"][0]["cells"][0], "a");
    assert_eq!(list["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let whole = cluster
        .send(
            "GET",
            &format!("{CONFIG_MAPS}?includeObject=Object"),
            &[("accept", table)],
            "",
        )
        .await
        .ok();
    assert_eq!(whole["rows"][0]["object"]["data"]["k"], "v");
    let mut events = cluster.watch_as(&format!("{CONFIG_MAPS}?watch=1"), table).await;
    let event = events.next().await.unwrap();
    assert_eq!(event["object"]["rows"][0]["cells"][0], "a");
    assert!(!event["object"]["columnDefinitions"].as_array().unwrap().is_empty());
    let partial = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    let list = cluster.send("GET", CONFIG_MAPS, &[("accept", partial)], "").await.ok();
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert!(list["items"][0].get("data").is_none());
    assert_eq!(list["items"][0]["metadata"]["labels"]["app"], "x");
}

#[tokio::test]
async fn long_lists_arrive_whole() {
    let cluster = Cluster::start().await;
    for index in 0..40 {
        let object = json!({ "metadata": { "name": format!("big-{index:02}") }, "data": { "k": "x".repeat(10_000) } });
        cluster.post(CONFIG_MAPS, &object).await.ok();
    }
    let list = cluster.get(CONFIG_MAPS).await;
    assert!(list.text.len() > 400_000);
    assert_eq!(names(&list.json()).len(), 40);
}

#[tokio::test]
async fn discovery_lists_every_kind_in_both_forms() {
    let cluster = Cluster::start().await;
    let aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
    let core = cluster.send("GET", "/api", &[("accept", aggregated)], "").await.ok();
    assert_eq!(core["kind"], "APIGroupDiscoveryList");
    let resources: Vec<&str> = core["items"][0]["versions"][0]["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|resource| resource["resource"].as_str().unwrap())
        .collect();
    let expected = ["configmaps", "endpoints", "namespaces", "pods", "services"];
    assert!(expected.iter().all(|name| resources.contains(name)), "{resources:?}");
    assert_eq!(cluster.get("/api").await.ok()["versions"], json!(["v1"]));
    let groups = cluster.get("/apis").await.ok();
    let groups: Vec<&str> = groups["groups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|group| group["name"].as_str().unwrap())
        .collect();
    let expected = [
        "apps",
        "authentication.k8s.io",
        "authorization.k8s.io",
        "coordination.k8s.io",
    ];
    assert!(expected.iter().all(|name| groups.contains(name)), "{groups:?}");
    assert_eq!(
        cluster.get("/apis/node.k8s.io").await.ok()["preferredVersion"]["version"],
        "v1"
    );
    let list = cluster.get("/api/v1").await.ok();
    assert!(
        list["resources"]
            .as_array()
            .unwrap()
            .iter()
            .any(|resource| resource["name"] == "pods/exec")
    );
    assert_eq!(cluster.get("/version").await.ok()["gitVersion"], "v1.35.0+catamaran");
    let ready = cluster.get("/readyz?verbose").await;
    assert!(
        ready.text.starts_with("[+]ping ok\n") && ready.text.ends_with("readyz check passed\n"),
        "{}",
        ready.text
    );
    assert_eq!(cluster.get("/readyz/ping").await.text, "ok");
}
