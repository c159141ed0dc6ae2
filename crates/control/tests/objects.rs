//! What happens to objects: every verb, through the whole stack, in-process.

mod common;

use common::Cluster;
use expect_test::expect;
use serde_json::{Value, json};

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";

fn config_map(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": { "k": "v" } })
}

fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
        "spec": { "containers": [{ "name": "c", "image": "i:1" }] },
    })
}

#[tokio::test]
async fn a_life() {
    let cluster = Cluster::start().await;
    let created = cluster.post(CONFIG_MAPS, &config_map("a")).await;
    assert_eq!(created.code, 201);
    let created = created.json();
    let meta = &created["metadata"];
    assert!(!meta["uid"].as_str().unwrap().is_empty());
    assert!(meta["creationTimestamp"].is_string());
    assert_eq!(meta["namespace"], "default");
    let path = format!("{CONFIG_MAPS}/a");
    assert_eq!(cluster.get(&path).await.ok(), created, "a read sees the write");

    let mut changed = created.clone();
    changed["data"]["k"] = json!("w");
    let updated = cluster.put(&path, &changed).await.ok();
    assert_ne!(updated["metadata"]["resourceVersion"], meta["resourceVersion"]);
    assert_eq!(
        cluster.put(&path, &updated).await.ok(),
        updated,
        "an update that changes nothing has no new version"
    );
    expect![[r#"409 Conflict: Operation cannot be fulfilled on configmaps "a": the object has been modified; please apply your changes to the latest version and try again"#]]
        .assert_eq(&cluster.put(&path, &changed).await.failure());
    changed["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    cluster.put(&path, &changed).await.ok();

    let patched = cluster
        .patch(&path, "merge", &json!({ "data": { "k": null, "l": "m" } }))
        .await
        .ok();
    assert_eq!(patched["data"], json!({ "l": "m" }));
    let patch =
        json!([{ "op": "test", "path": "/data/l", "value": "m" }, { "op": "add", "path": "/data/n", "value": "o" }]);
    assert_eq!(
        cluster.patch(&path, "json", &patch).await.ok()["data"],
        json!({ "l": "m", "n": "o" })
    );

    let deleted = cluster.delete(&path, &Value::Null).await.ok();
    assert_eq!(
        (&deleted["kind"], &deleted["status"]),
        (&json!("Status"), &json!("Success"))
    );
    assert_eq!(deleted["details"]["uid"], meta["uid"]);
    expect![[r#"404 NotFound: configmaps "a" not found"#]].assert_eq(&cluster.get(&path).await.failure());
}

#[tokio::test]
async fn refusals_are_worded_as_kubernetes_words_them() {
    let cluster = Cluster::start().await;
    cluster.post(CONFIG_MAPS, &config_map("a")).await.ok();
    let mut elsewhere = config_map("b");
    elsewhere["metadata"]["namespace"] = json!("other");
    let mut versioned = config_map("b");
    versioned["metadata"]["resourceVersion"] = json!("1");
    let mut wrong = config_map("b");
    wrong["data"]["k"] = json!(1);
    let answers = [
        cluster.post(CONFIG_MAPS, &config_map("a")).await,
        cluster.post(CONFIG_MAPS, &elsewhere).await,
        cluster.post(CONFIG_MAPS, &versioned).await,
        cluster.post(CONFIG_MAPS, &wrong).await,
        cluster.post(CONFIG_MAPS, &config_map("B_")).await,
        cluster.post(CONFIG_MAPS, &pod("b")).await,
        cluster
            .post("/api/v1/namespaces/nowhere/configmaps", &config_map("a"))
            .await,
        cluster.put(&format!("{CONFIG_MAPS}/z"), &config_map("z")).await,
        cluster.put(&format!("{CONFIG_MAPS}/a"), &config_map("b")).await,
        cluster
            .send(
                "POST",
                CONFIG_MAPS,
                &[("content-type", "application/vnd.kubernetes.protobuf")],
                "k8s",
            )
            .await,
        cluster
            .send(
                "PATCH",
                &format!("{CONFIG_MAPS}/a"),
                &[("content-type", "application/json")],
                "{}",
            )
            .await,
        cluster
            .send("POST", CONFIG_MAPS, &[("content-type", "application/json")], "{")
            .await,
        cluster.send("GET", CONFIG_MAPS, &[("accept", "text/plain")], "").await,
        cluster.send("POST", &format!("{CONFIG_MAPS}/a"), &[], "{}").await,
        cluster.get("/api/v1/namespaces/default/nosuch").await,
        cluster.get("/apis/apps/v1/nosuch").await,
        cluster.get(&format!("{CONFIG_MAPS}?fieldSelector=spec.x%3D1")).await,
        cluster.get(&format!("{CONFIG_MAPS}?labelSelector=%21%21")).await,
        cluster.get(&format!("{CONFIG_MAPS}?limit=x")).await,
        cluster.get(&format!("{CONFIG_MAPS}?continue=nonsense")).await,
        cluster.get(&format!("{CONFIG_MAPS}?resourceVersion=99999")).await,
        cluster.get(&format!("{CONFIG_MAPS}?resourceVersionMatch=Exact")).await,
        cluster.delete("/api/v1/namespaces/kube-system", &Value::Null).await,
        cluster.send("POST", CONFIG_MAPS, &[], vec![b' '; (3 << 20) + 1]).await,
    ];
    // How many objects a cluster starts with is not what this is about.
    let without_revision = |line: String| match line.split_once("current: ") {
        Some((text, _)) => format!("{text}current: _"),
        None => line,
    };
    let lines = answers.iter().map(|answer| without_revision(answer.failure()));
    let lines: Vec<String> = lines.collect();
    expect![[r#"
        409 AlreadyExists: configmaps "a" already exists
        400 BadRequest: the namespace of the provided object does not match the namespace sent on the request
        400 BadRequest: resourceVersion should not be set on objects to be created"#]]
    .assert_eq(&lines[..3].join("\n"));
    expect![[r#"
        400 BadRequest: ConfigMap in version "v1" cannot be handled as a ConfigMap: json: cannot unmarshal number into Go struct field ConfigMap.data.k of type string
        422 Invalid: ConfigMap "B_" is invalid: metadata.name: Invalid value: "B_": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
        400 BadRequest: the kind in the data (Pod) does not match the expected kind (ConfigMap)
        404 NotFound: namespaces "nowhere" not found
        404 NotFound: configmaps "z" not found
        400 BadRequest: the name of the object (b) does not match the name on the URL (a)
        400 BadRequest: the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; protobuf parse error: the body does not begin with the Kubernetes protobuf marker (6b3873)
        415 UnsupportedMediaType: the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml
        400 BadRequest: the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: unexpected end of JSON input ({)
        406 NotAcceptable: only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf
        405 MethodNotAllowed: the server does not allow this method on the requested resource
        404 NotFound: the server could not find the requested resource
        404 NotFound: the server could not find the requested resource
        400 BadRequest: "spec.x" is not a known field selector: only "metadata.name", "metadata.namespace"
        400 BadRequest: unable to parse requirement: found '!', expected: identifier
        400 BadRequest: strconv.ParseInt: parsing "x": invalid syntax
        400 BadRequest: invalid continue token: continue key is not valid: expected value at line 1 column 1
        504 Timeout: Timeout: Too large resource version: 99999, current: _
        422 Invalid: ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided
        403 Forbidden: namespaces "kube-system" is forbidden: this namespace may not be deleted
        413 RequestEntityTooLarge: Request entity too large: limit is 3145728"#]].assert_eq(&lines[3..].join("\n"));
}

#[tokio::test]
async fn names_are_generated() {
    let cluster = Cluster::start().await;
    let object = json!({ "metadata": { "generateName": "x-" } });
    let first = cluster.post(CONFIG_MAPS, &object).await.ok();
    let second = cluster.post(CONFIG_MAPS, &object).await.ok();
    let name = first["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("x-") && name.len() == 7, "{name}");
    assert_ne!(first["metadata"]["name"], second["metadata"]["name"]);
}

#[tokio::test]
async fn dry_runs_and_field_validation() {
    let cluster = Cluster::start().await;
    let dry = cluster
        .post(&format!("{CONFIG_MAPS}?dryRun=All"), &config_map("a"))
        .await;
    assert_eq!(dry.code, 201);
    assert_eq!(cluster.get(&format!("{CONFIG_MAPS}/a")).await.code, 404);
    let mut odd = config_map("a");
    odd["datum"] = json!(1);
    let strict = cluster
        .post(&format!("{CONFIG_MAPS}?fieldValidation=Strict"), &odd)
        .await;
    expect![[r#"400 BadRequest: ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: unknown field "datum""#]]
        .assert_eq(&strict.failure());
    let ignored = cluster
        .post(&format!("{CONFIG_MAPS}?fieldValidation=Ignore&dryRun=All"), &odd)
        .await;
    assert!(ignored.ok().get("datum").is_none() && ignored.warnings.is_empty());
    let warned = cluster.post(CONFIG_MAPS, &odd).await;
    assert_eq!(warned.warnings, [r#"299 - "unknown field \"datum\"""#]);
    let twice = r#"{"metadata":{"name":"b"},"data":{"k":"1","k":"2"}}"#;
    let warned = cluster
        .send("POST", CONFIG_MAPS, &[("content-type", "application/json")], twice)
        .await;
    assert_eq!(warned.warnings, [r#"299 - "duplicate field \"data.k\"""#]);
    let path = format!("{CONFIG_MAPS}/b?dryRun=All");
    let patched = cluster
        .patch(&path, "merge", &json!({ "data": { "k": "3" } }))
        .await
        .ok();
    assert_eq!(patched["data"]["k"], "3");
    cluster.delete(&path, &Value::Null).await.ok();
    assert_eq!(cluster.get(&format!("{CONFIG_MAPS}/b")).await.ok()["data"]["k"], "2");
}

#[tokio::test]
async fn yaml_goes_in_and_comes_out() {
    let cluster = Cluster::start().await;
    let yaml = "metadata:\n  name: a\ndata:\n  k: v\n";
    let headers = [("content-type", "application/yaml"), ("accept", "application/yaml")];
    let answer = cluster.send("POST", CONFIG_MAPS, &headers, yaml).await;
    assert_eq!(answer.code, 201);
    assert!(answer.text.contains("kind: ConfigMap\n"), "{}", answer.text);
}

#[tokio::test]
async fn secrets_take_plain_text() {
    let cluster = Cluster::start().await;
    let secret = json!({ "metadata": { "name": "s" }, "stringData": { "a": "b" } });
    let created = cluster.post("/api/v1/namespaces/default/secrets", &secret).await.ok();
    assert_eq!(created["data"], json!({ "a": "Yg==" }));
    assert!(created.get("stringData").is_none());
}

#[tokio::test]
async fn pods_are_bound_once_and_their_status_is_their_own() {
    let cluster = Cluster::start().await;
    let created = cluster.post(PODS, &pod("p")).await.ok();
    assert_eq!(created["status"]["phase"], "Pending");
    assert_eq!(created["metadata"]["generation"], 1);
    let binding = json!({ "metadata": { "name": "p" }, "target": { "kind": "Node", "name": "n1" } });
    let path = format!("{PODS}/p");
    assert_eq!(cluster.post(&format!("{path}/binding"), &binding).await.code, 201);
    let bound = cluster.get(&path).await.ok();
    assert_eq!(bound["spec"]["nodeName"], "n1");
    assert_eq!(bound["status"]["conditions"][0]["type"], "PodScheduled");
    expect![[
        r#"409 Conflict: Operation cannot be fulfilled on pods/binding "p": pod p is already assigned to node "n1""#
    ]]
    .assert_eq(&cluster.post(&format!("{path}/binding"), &binding).await.failure());

    // The status endpoint changes the status and what is the user's in the metadata; the others do not change it.
    let mut reported = bound.clone();
    reported["status"]["phase"] = json!("Running");
    reported["spec"]["containers"][0]["image"] = json!("i:2");
    reported["metadata"]["labels"] = json!({ "from": "status" });
    reported["metadata"]["ownerReferences"] = json!([{ "apiVersion": "v1", "kind": "Pod", "name": "o", "uid": "1" }]);
    let reported = cluster.put(&format!("{path}/status"), &reported).await.ok();
    assert_eq!(reported["status"]["phase"], "Running");
    assert_eq!(reported["spec"], bound["spec"]);
    assert_eq!(reported["metadata"]["labels"], json!({ "from": "status" }));
    assert!(
        reported["metadata"].get("ownerReferences").is_none(),
        "old kubelets damage these"
    );
    let patch = json!({ "status": { "phase": "Failed" }, "metadata": { "labels": { "x": "y" } } });
    let labelled = cluster.patch(&path, "strategic-merge", &patch).await.ok();
    assert_eq!(labelled["status"]["phase"], "Running");
    assert_eq!(labelled["metadata"]["labels"]["x"], "y");
    let patch = json!({ "status": { "conditions": [{ "type": "Ready", "status": "True" }] } });
    let ready = cluster
        .patch(&format!("{path}/status"), "strategic-merge", &patch)
        .await
        .ok();
    assert_eq!(
        ready["status"]["conditions"].as_array().unwrap().len(),
        2,
        "conditions are merged by their type"
    );
    for condition in ready["status"]["conditions"].as_array().unwrap() {
        assert_eq!(
            condition.get("lastProbeTime"),
            Some(&Value::Null),
            "Go writes what it cannot leave out"
        );
    }
    let image = json!({ "spec": { "containers": [{ "name": "c", "image": "i:3" }] } });
    assert_eq!(
        cluster.patch(&path, "strategic-merge", &image).await.ok()["metadata"]["generation"],
        2
    );
}

#[tokio::test]
async fn a_pod_on_a_node_is_deleted_by_its_node() {
    let cluster = Cluster::start().await;
    let path = format!("{PODS}/p");
    cluster.post(PODS, &pod("p")).await.ok();
    let gone = cluster.delete(&path, &Value::Null).await.ok();
    assert_eq!(gone["kind"], "Pod", "never scheduled: gone at once");
    assert_eq!(cluster.get(&path).await.code, 404);

    let mut placed = pod("p");
    placed["spec"]["nodeName"] = json!("n1");
    let created = cluster.post(PODS, &placed).await.ok();
    let wrong = json!({ "preconditions": { "uid": "other" } });
    assert_eq!(cluster.delete(&path, &wrong).await.code, 409);
    let begun = cluster.delete(&path, &Value::Null).await.ok();
    assert_eq!(begun["metadata"]["deletionGracePeriodSeconds"], 30);
    assert!(begun["metadata"]["deletionTimestamp"].is_string());
    let again = cluster.delete(&path, &Value::Null).await.ok();
    assert_eq!(
        again["metadata"]["deletionTimestamp"],
        begun["metadata"]["deletionTimestamp"]
    );
    let hurried = cluster
        .delete(&format!("{path}?gracePeriodSeconds=5"), &Value::Null)
        .await
        .ok();
    assert_eq!(hurried["metadata"]["deletionGracePeriodSeconds"], 5);
    let last = json!({ "gracePeriodSeconds": 0, "preconditions": { "uid": created["metadata"]["uid"] } });
    cluster.delete(&path, &last).await.ok();
    assert_eq!(cluster.get(&path).await.code, 404);
}

#[tokio::test]
async fn finalizers_hold_an_object() {
    let cluster = Cluster::start().await;
    let mut held = config_map("a");
    held["metadata"]["finalizers"] = json!(["example.org/hold"]);
    cluster.post(CONFIG_MAPS, &held).await.ok();
    let path = format!("{CONFIG_MAPS}/a");
    let marked = cluster.delete(&path, &Value::Null).await.ok();
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(cluster.get(&path).await.code, 200);
    let more = json!({ "metadata": { "finalizers": ["example.org/hold", "example.org/more"] } });
    assert_eq!(
        cluster.patch(&path, "merge", &more).await.code,
        422,
        "none may be added now"
    );
    cluster
        .patch(&path, "merge", &json!({ "metadata": { "finalizers": null } }))
        .await
        .ok();
    assert_eq!(cluster.get(&path).await.code, 404);
}

#[tokio::test]
async fn collections_are_deleted_by_selector() {
    let cluster = Cluster::start().await;
    for (name, app) in [("a", "x"), ("b", "x"), ("c", "y")] {
        let mut object = config_map(name);
        object["metadata"]["labels"] = json!({ "app": app });
        cluster.post(CONFIG_MAPS, &object).await.ok();
    }
    let deleted = cluster
        .delete(&format!("{CONFIG_MAPS}?labelSelector=app%3Dx"), &Value::Null)
        .await
        .ok();
    assert_eq!(deleted["items"].as_array().unwrap().len(), 2);
    let left = cluster.get(CONFIG_MAPS).await.ok();
    assert_eq!(left["items"][0]["metadata"]["name"], "c");
    assert_eq!(left["items"].as_array().unwrap().len(), 1);
    assert_eq!(cluster.delete("/api/v1/namespaces", &Value::Null).await.code, 405);
}

#[tokio::test]
async fn a_namespace_is_emptied_and_goes() {
    let cluster = Cluster::start_with_controllers().await;
    cluster
        .post("/api/v1/namespaces", &json!({ "metadata": { "name": "t" } }))
        .await
        .ok();
    let mut held = config_map("a");
    held["metadata"]["finalizers"] = json!(["example.org/hold"]);
    cluster.post("/api/v1/namespaces/t/configmaps", &held).await.ok();
    cluster.post("/api/v1/namespaces/t/pods", &pod("p")).await.ok();
    let mut events = cluster
        .watch("/api/v1/namespaces?watch=1&fieldSelector=metadata.name%3Dt")
        .await;
    assert_eq!(events.line().await, "ADDED t");
    let going = cluster.delete("/api/v1/namespaces/t", &Value::Null).await.ok();
    assert_eq!(going["status"]["phase"], "Terminating");
    let refused = cluster.post("/api/v1/namespaces/t/configmaps", &config_map("b")).await;
    expect![[r#"403 Forbidden: configmaps "b" is forbidden: unable to create new content in namespace t because it is being terminated"#]]
        .assert_eq(&refused.failure());
    let release = json!({ "metadata": { "finalizers": null } });
    cluster
        .patch("/api/v1/namespaces/t/configmaps/a", "merge", &release)
        .await
        .ok();
    while events.line().await != "DELETED t" {}
    assert_eq!(cluster.get("/api/v1/namespaces/t/pods").await.ok()["items"], json!([]));
}

#[tokio::test]
async fn racing_patches_all_land() {
    let cluster = std::sync::Arc::new(Cluster::start().await);
    cluster.post(CONFIG_MAPS, &config_map("a")).await.ok();
    let mut patches = tokio::task::JoinSet::new();
    for index in 0..6 {
        let cluster = std::sync::Arc::clone(&cluster);
        patches.spawn(async move {
            let patch = json!({ "data": { format!("k{index}"): "v" } });
            cluster.patch(&format!("{CONFIG_MAPS}/a"), "merge", &patch).await.code
        });
    }
    assert_eq!(patches.join_all().await, [200; 6]);
    assert_eq!(
        cluster.get(&format!("{CONFIG_MAPS}/a")).await.ok()["data"]
            .as_object()
            .unwrap()
            .len(),
        7
    );
}
