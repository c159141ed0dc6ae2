//! Deletion with everything that follows from it, by the controllers that run beside the server.

mod common;

use common::Cluster;
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn at(name: &str) -> String {
    format!("{MAPS}/{name}")
}

/// A ConfigMap that belongs to others.
async fn create(cluster: &Cluster, name: &str, owners: &[&Value]) -> Value {
    let references: Vec<Value> = owners
        .iter()
        .map(|owner| {
            json!({
                "apiVersion": "v1", "kind": "ConfigMap", "name": owner["metadata"]["name"],
                "uid": owner["metadata"]["uid"], "blockOwnerDeletion": true,
            })
        })
        .collect();
    let map = json!({ "metadata": { "name": name, "ownerReferences": references } });
    cluster.post(MAPS, &map).await.ok()
}

#[tokio::test]
async fn dependents_follow_their_owner() {
    let cluster = Cluster::start_with_controllers().await;
    let top = create(&cluster, "top", &[]).await;
    let other = create(&cluster, "other", &[]).await;
    let middle = create(&cluster, "middle", &[&top]).await;
    create(&cluster, "bottom", &[&middle]).await;
    create(&cluster, "shared", &[&top, &other]).await;
    let gone = cluster
        .delete(&at("top"), &json!({ "propagationPolicy": "Background" }))
        .await
        .ok();
    assert_eq!(gone["status"], "Success");
    cluster.until_gone(&at("bottom")).await;
    cluster.until_gone(&at("middle")).await;
    let shared = cluster
        .until(&at("shared"), |answer| {
            answer.json()["metadata"]["ownerReferences"]
                .as_array()
                .is_some_and(|owners| owners.len() == 1)
        })
        .await
        .json();
    assert_eq!(shared["metadata"]["ownerReferences"][0]["name"], "other");
}

#[tokio::test]
async fn in_the_foreground_the_owner_goes_last() {
    let cluster = Cluster::start_with_controllers().await;
    let top = create(&cluster, "top", &[]).await;
    let middle = create(&cluster, "middle", &[&top]).await;
    let bottom = create(&cluster, "bottom", &[&middle]).await;
    let hold = json!({ "metadata": { "finalizers": ["example.org/hold"] } });
    cluster.patch(&at("bottom"), "merge", &hold).await.ok();
    let begun = cluster
        .delete(&at("top"), &json!({ "propagationPolicy": "Foreground" }))
        .await
        .ok();
    assert_eq!(begun["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    let dying = cluster
        .until(&at("bottom"), |answer| {
            answer.json()["metadata"]["deletionTimestamp"].is_string()
        })
        .await
        .json();
    assert_eq!(dying["metadata"]["uid"], bottom["metadata"]["uid"]);
    for name in ["middle", "top"] {
        let held = cluster.get(&at(name)).await.ok();
        assert_eq!(held["metadata"]["finalizers"], json!(["foregroundDeletion"]), "{name}");
    }
    let release = json!({ "metadata": { "finalizers": null } });
    cluster.patch(&at("bottom"), "merge", &release).await.ok();
    cluster.until_gone(&at("top")).await;
    assert_eq!(cluster.get(&at("middle")).await.code, 404);
    assert_eq!(cluster.get(&at("bottom")).await.code, 404);
}

#[tokio::test]
async fn orphans_stay_without_their_owner() {
    let cluster = Cluster::start_with_controllers().await;
    let top = create(&cluster, "top", &[]).await;
    create(&cluster, "child", &[&top]).await;
    let barrier = create(&cluster, "barrier", &[]).await;
    create(&cluster, "barrier-child", &[&barrier]).await;
    // The collector has seen all of them once it has dealt with the last.
    cluster.delete(&at("barrier"), &Value::Null).await.ok();
    cluster.until_gone(&at("barrier-child")).await;
    let begun = cluster
        .delete(&at("top"), &json!({ "orphanDependents": true }))
        .await
        .ok();
    assert_eq!(begun["metadata"]["finalizers"], json!(["orphan"]));
    cluster.until_gone(&at("top")).await;
    let child = cluster.get(&at("child")).await.ok();
    assert_eq!(child["metadata"]["ownerReferences"], Value::Null);
}

#[tokio::test]
async fn an_owner_that_never_was_is_no_owner() {
    let cluster = Cluster::start_with_controllers().await;
    let never = json!({ "metadata": { "name": "never", "uid": "00000000-0000-0000-0000-000000000000" } });
    create(&cluster, "lost", &[&never]).await;
    cluster.until_gone(&at("lost")).await;
}

#[tokio::test]
async fn an_owner_in_another_namespace_is_reported() {
    let cluster = Cluster::start_with_controllers().await;
    let namespaces = "/api/v1/namespaces";
    cluster
        .post(namespaces, &json!({ "metadata": { "name": "far" } }))
        .await
        .ok();
    let owner = create(&cluster, "owner", &[]).await;
    let reference = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"],
    });
    let map = json!({ "metadata": { "name": "lost", "ownerReferences": [reference] } });
    cluster.post("/api/v1/namespaces/far/configmaps", &map).await.ok();
    cluster.until_gone("/api/v1/namespaces/far/configmaps/lost").await;
    let events = cluster
        .until("/api/v1/namespaces/far/events", |answer| {
            answer.json()["items"].as_array().is_some_and(|items| !items.is_empty())
        })
        .await
        .json();
    let event = &events["items"][0];
    assert_eq!(event["reason"], "OwnerRefInvalidNamespace");
    let uid = owner["metadata"]["uid"].as_str().unwrap();
    let message =
        format!("ownerRef [v1/ConfigMap, namespace: far, name: owner, uid: {uid}] does not exist in namespace \"far\"");
    assert_eq!(event["message"], message);
}

#[tokio::test]
async fn a_namespace_tells_what_it_waits_for_and_goes() {
    let cluster = Cluster::start_with_controllers().await;
    let namespace = "/api/v1/namespaces/going";
    cluster
        .post("/api/v1/namespaces", &json!({ "metadata": { "name": "going" } }))
        .await
        .ok();
    let maps = "/api/v1/namespaces/going/configmaps";
    let held = json!({ "metadata": { "name": "held", "finalizers": ["example.org/hold"] } });
    cluster.post(maps, &held).await.ok();
    cluster
        .post(maps, &json!({ "metadata": { "name": "plain" } }))
        .await
        .ok();
    cluster
        .until("/api/v1/namespaces/going/serviceaccounts/default", |answer| {
            answer.code == 200
        })
        .await;
    cluster
        .until("/api/v1/namespaces/going/configmaps/kube-root-ca.crt", |answer| {
            answer.code == 200
        })
        .await;
    let begun = cluster.delete(namespace, &Value::Null).await.ok();
    assert_eq!(begun["status"]["phase"], "Terminating");
    let condition = |answer: &common::Answer, kind: &str| {
        let json = answer.json();
        let conditions = json["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let found = conditions.into_iter().find(|condition| condition["type"] == kind);
        found.map(|condition| {
            let text = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
            format!("{} {}: {}", text("status"), text("reason"), text("message"))
        })
    };
    let waiting = cluster
        .until(namespace, |answer| {
            condition(answer, "NamespaceContentRemaining").is_some()
        })
        .await;
    assert_eq!(
        condition(&waiting, "NamespaceContentRemaining").unwrap(),
        "True SomeResourcesRemain: Some resources are remaining: configmaps. has 1 resource instances"
    );
    assert_eq!(
        condition(&waiting, "NamespaceFinalizersRemaining").unwrap(),
        "True SomeFinalizerRemain: Some content in the namespace has finalizers remaining: example.org/hold in 1 resource instances"
    );
    assert_eq!(cluster.get(&format!("{maps}/plain")).await.code, 404);
    let release = json!({ "metadata": { "finalizers": null } });
    cluster.patch(&format!("{maps}/held"), "merge", &release).await.ok();
    cluster.until_gone(namespace).await;
}

#[tokio::test]
async fn options_that_contradict_each_other_are_refused() {
    let cluster = Cluster::start().await;
    create(&cluster, "a", &[]).await;
    let both = json!({ "propagationPolicy": "Orphan", "orphanDependents": true });
    assert_eq!(
        cluster.delete(&at("a"), &both).await.failure(),
        "422 Invalid: DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Invalid value: \"Orphan\": \
         orphanDependents and deletionPropagation cannot be both set"
    );
    let wrong = json!({ "preconditions": { "uid": "u" } });
    let failure = cluster.delete(&at("a"), &wrong).await.failure();
    assert!(
        failure.starts_with(
            "409 Conflict: Operation cannot be fulfilled on ConfigMap \"a\": the UID in the precondition (u) does not match"
        ),
        "{failure}"
    );
    let begun = cluster
        .send("DELETE", &format!("{}?orphanDependents=true", at("a")), &[], "")
        .await
        .ok();
    assert_eq!(begun["metadata"]["finalizers"], json!(["orphan"]));
}

#[tokio::test]
async fn a_collection_goes_page_by_page() {
    let cluster = Cluster::start().await;
    for name in ["a", "b", "c"] {
        create(&cluster, name, &[]).await;
    }
    let page = cluster.send("DELETE", &format!("{MAPS}?limit=2"), &[], "").await.ok();
    assert_eq!(page["items"].as_array().unwrap().len(), 2);
    let left = cluster.get(MAPS).await.ok();
    assert_eq!(left["items"].as_array().unwrap().len(), 1);
    assert_eq!(left["items"][0]["metadata"]["name"], "c");
}
