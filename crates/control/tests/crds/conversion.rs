//! Versions that differ: a webhook takes objects from one to another.

use crate::common::Cluster;
use crate::server::Webhook;
use crate::{DEFINITIONS, WIDGETS, widget, with_spec};
use expect_test::expect;
use serde_json::{Value, json};

const SECOND: &str = "/apis/example.com/v2/namespaces/default/widgets";
const DEFINITION: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/widgets.example.com";

/// `v1` says `spec.size`, `v2` says `spec.dimensions.size`.
fn convert(request: &Value) -> Value {
    let wanted = &request["desiredAPIVersion"];
    let objects = request["objects"].as_array().unwrap().iter().map(|object| {
        let mut object = object.clone();
        let spec = &object["spec"];
        object["spec"] = match wanted.as_str() {
            Some("example.com/v2") => json!({"dimensions": {"size": spec["size"]}}),
            _ => json!({"size": spec["dimensions"]["size"]}),
        };
        object["apiVersion"] = wanted.clone();
        object
    });
    json!({"result": {"status": "Success"}, "convertedObjects": objects.collect::<Vec<_>>()})
}

/// The annotation `fail` of an object says how its conversion goes wrong.
fn misbehave(request: &Value) -> Option<Value> {
    let mut response = convert(request);
    let first = &mut response["convertedObjects"][0];
    match request["objects"][0]["metadata"]["annotations"]["fail"].as_str() {
        None => {}
        Some("refused") => return Some(json!({"result": {"status": "Failure", "message": "too odd"}})),
        Some("silent") => return Some(json!({"result": {"status": "Failure"}})),
        Some("fewer") => response["convertedObjects"] = json!([]),
        Some("uid") => response["uid"] = json!("other"),
        Some("version") => first["apiVersion"] = json!("example.com/v3"),
        Some("name") => first["metadata"]["name"] = json!("b"),
        Some("metadata") => first["metadata"]["finalizers"] = json!(["example.com/hold"]),
        Some("label") => first["metadata"]["labels"] = json!({"converted": "yes"}),
        Some(other) => panic!("{other}"),
    }
    Some(response)
}

fn definition(webhook: &Webhook) -> Value {
    let mut definition = with_spec(&json!({"type": "object", "properties": {"size": {"type": "integer"}}}));
    let mut second = definition["spec"]["versions"][0].clone();
    second["name"] = json!("v2");
    second["storage"] = json!(false);
    second["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"] =
        json!({"dimensions": {"type": "object", "properties": {"size": {"type": "integer"}}}});
    definition["spec"]["versions"].as_array_mut().unwrap().push(second);
    definition["spec"]["conversion"] = json!({"strategy": "Webhook", "webhook": {
        "conversionReviewVersions": ["v1"],
        "clientConfig": {"url": webhook.url, "caBundle": webhook.ca_bundle},
    }});
    definition
}

async fn cluster() -> (Cluster, Webhook) {
    let cluster = Cluster::start().await;
    let webhook = Webhook::start(misbehave).await;
    cluster.post(DEFINITIONS, &definition(&webhook)).await.ok();
    (cluster, webhook)
}

#[tokio::test]
async fn a_webhook_converts_what_is_written_read_and_watched() {
    let (cluster, webhook) = cluster().await;
    cluster.post(WIDGETS, &widget("a", 2)).await.ok();
    assert!(webhook.asked().is_empty(), "the stored version needs no conversion");
    let mut second = cluster.get(&format!("{SECOND}/a")).await.ok();
    assert_eq!(
        (&second["apiVersion"], &second["spec"]),
        (&json!("example.com/v2"), &json!({"dimensions": {"size": 2}}))
    );
    second["spec"]["dimensions"]["size"] = json!(4);
    let put = cluster.put(&format!("{SECOND}/a"), &second).await.ok();
    assert_eq!(put["spec"], json!({"dimensions": {"size": 4}}));
    assert_eq!(
        cluster.get(&format!("{WIDGETS}/a")).await.ok()["spec"],
        json!({"size": 4})
    );
    cluster.post(WIDGETS, &widget("b", 6)).await.ok();
    let before = webhook.asked().len();
    let list = cluster.get(SECOND).await.ok();
    assert_eq!(list["items"][1]["spec"], json!({"dimensions": {"size": 6}}));
    let asked = webhook.asked();
    assert_eq!(asked.len(), before + 1, "a list is one question");
    assert_eq!(
        (
            &asked[before]["desiredAPIVersion"],
            asked[before]["objects"].as_array().unwrap().len()
        ),
        (&json!("example.com/v2"), 2)
    );
    let version = list["metadata"]["resourceVersion"].as_str().unwrap();
    let mut watch = cluster
        .watch(&format!("{SECOND}?watch=1&resourceVersion={version}"))
        .await;
    cluster
        .patch(&format!("{WIDGETS}/b"), "merge", &json!({"spec": {"size": 8}}))
        .await
        .ok();
    assert_eq!(
        watch.next().await.unwrap()["object"]["spec"],
        json!({"dimensions": {"size": 8}})
    );
}

#[tokio::test]
async fn a_page_of_the_past_is_one_question() {
    let (cluster, webhook) = cluster().await;
    for name in ["a", "b", "c", "d", "e"] {
        let mut object = widget(name, 2);
        object["metadata"]["labels"] = json!({"odd": if "ace".contains(name) { "yes" } else { "no" }});
        cluster.post(WIDGETS, &object).await.ok();
    }
    let names = |list: &Value| -> Vec<String> {
        let items = list["items"].as_array().unwrap().iter();
        items
            .map(|item| item["metadata"]["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let first = cluster.get(&format!("{SECOND}?limit=1")).await.ok();
    let odd = cluster
        .get(&format!("{SECOND}?limit=1&labelSelector=odd=yes"))
        .await
        .ok();
    cluster.delete(&format!("{WIDGETS}/c"), &Value::Null).await.ok();
    let before = webhook.asked().len();
    let token = first["metadata"]["continue"].as_str().unwrap();
    let page = cluster.get(&format!("{SECOND}?limit=3&continue={token}")).await.ok();
    assert_eq!(names(&page), ["b", "c", "d"]);
    assert_eq!(page["metadata"]["remainingItemCount"], 1);
    assert_eq!(page["items"][2]["spec"], json!({"dimensions": {"size": 2}}));
    let token = page["metadata"]["continue"].as_str().unwrap();
    let rest = cluster.get(&format!("{SECOND}?limit=3&continue={token}")).await.ok();
    assert_eq!(
        (names(&rest), &rest["metadata"]["continue"]),
        (vec!["e".to_owned()], &Value::Null)
    );
    let token = odd["metadata"]["continue"].as_str().unwrap();
    let rest = cluster
        .get(&format!("{SECOND}?limit=2&labelSelector=odd=yes&continue={token}"))
        .await
        .ok();
    assert_eq!(names(&rest), ["c", "e"]);
    let asked: Vec<usize> = webhook.asked()[before..]
        .iter()
        .map(|request| request["objects"].as_array().unwrap().len())
        .collect();
    assert_eq!(asked, [3, 1, 4], "one question for each page");
}

#[tokio::test]
async fn wrong_answers_are_told() {
    let (cluster, _webhook) = cluster().await;
    let mut texts = Vec::new();
    for fail in ["refused", "silent", "fewer", "version", "name", "metadata", "label"] {
        let mut object = widget("a", 2);
        object["metadata"]["name"] = json!(fail);
        object["metadata"]["annotations"] = json!({"fail": fail});
        cluster.post(WIDGETS, &object).await.ok();
        let answer = cluster.get(&format!("{SECOND}/{fail}")).await;
        texts.push(if answer.code == 200 {
            let metadata = answer.json()["metadata"].clone();
            format!("{fail}: {} {}", metadata["labels"], metadata["finalizers"])
        } else {
            answer.failure()
        });
    }
    expect![[r#"
        500 InternalError: Internal error occurred: conversion webhook for example.com/v1, Kind=Widget failed: too odd
        500 InternalError: Internal error occurred: conversion webhook for example.com/v1, Kind=Widget failed: response.result.status was 'Failure', not 'Success'
        500 InternalError: Internal error occurred: conversion webhook for example.com/v1, Kind=Widget returned 0 objects, expected 1
        500 InternalError: Internal error occurred: conversion webhook for example.com/v1, Kind=Widget returned invalid object at index 0: invalid groupVersion (expected example.com/v2, received example.com/v3)
        500 InternalError: Internal error occurred: conversion webhook for example.com/v1, Kind=Widget returned invalid object: must have the same name: name != b
        metadata: null null
        label: {"converted":"yes"} null"#]].assert_eq(&texts.join("\n"));
    let mut object = widget("uid", 2);
    object["metadata"]["annotations"] = json!({"fail": "uid"});
    cluster.post(WIDGETS, &object).await.ok();
    let answer = cluster.get(&format!("{SECOND}/uid")).await.failure();
    assert!(answer.ends_with(", got \"other\""), "{answer}");
}

#[tokio::test]
async fn a_webhook_that_is_not_there_fails_what_needs_it_only() {
    let (cluster, webhook) = cluster().await;
    cluster.post(WIDGETS, &widget("a", 2)).await.ok();
    drop(webhook);
    cluster.get(&format!("{WIDGETS}/a")).await.ok();
    let failed = cluster.get(&format!("{SECOND}/a")).await;
    let text = failed.failure();
    let start = "500 InternalError: Internal error occurred: conversion webhook for example.com/v1, Kind=Widget failed: Post \"";
    assert!(text.starts_with(start), "{text}");
}

#[tokio::test]
async fn old_objects_stay_readable_when_another_version_is_stored() {
    let (cluster, webhook) = cluster().await;
    cluster.post(WIDGETS, &widget("a", 2)).await.ok();
    let mut present = cluster.get(DEFINITION).await.ok();
    present["spec"]["versions"][0]["storage"] = json!(false);
    present["spec"]["versions"][1]["storage"] = json!(true);
    cluster.put(DEFINITION, &present).await.ok();
    assert_eq!(
        cluster.get(DEFINITION).await.ok()["status"]["storedVersions"],
        json!(["v1", "v2"])
    );
    let old = cluster.get(&format!("{WIDGETS}/a")).await.ok();
    assert_eq!(old["spec"], json!({"size": 2}));
    let new = cluster.get(&format!("{SECOND}/a")).await.ok();
    assert_eq!(new["spec"], json!({"dimensions": {"size": 2}}));
    // A write that changes nothing migrates it: from now on `v2` needs no conversion.
    let migrated = cluster.put(&format!("{SECOND}/a"), &new).await.ok();
    assert_ne!(
        migrated["metadata"]["resourceVersion"],
        new["metadata"]["resourceVersion"]
    );
    let asked = webhook.asked().len();
    assert_eq!(cluster.get(&format!("{SECOND}/a")).await.ok(), migrated);
    assert_eq!(webhook.asked().len(), asked);
    let again = cluster.put(&format!("{SECOND}/a"), &migrated).await.ok();
    assert_eq!(again, migrated, "nothing is left to migrate");
    assert_eq!(
        cluster.get(&format!("{WIDGETS}/a")).await.ok()["spec"],
        json!({"size": 2})
    );
}
