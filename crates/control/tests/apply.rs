//! Server-side apply and the owners of fields, over HTTP.

mod common;

use common::{Answer, Cluster};
use expect_test::{Expect, expect};
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";

async fn apply(cluster: &Cluster, path: &str, body: impl Into<Vec<u8>>) -> Answer {
    let headers = [("content-type", "application/apply-patch+yaml")];
    cluster.send("PATCH", path, &headers, body).await
}

fn map(data: &Value) -> String {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data}).to_string()
}

/// `manager operation subresource fields`, one line for each entry.
fn owners(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let line = |entry: &Value| {
        let parts = [&entry["manager"], &entry["operation"], &entry["subresource"]].map(text);
        assert_eq!(entry["fieldsType"], "FieldsV1");
        format!("{} {}\n", parts.join(" "), entry["fieldsV1"])
    };
    object["metadata"]["managedFields"]
        .as_array()
        .into_iter()
        .flatten()
        .map(line)
        .collect()
}

#[allow(clippy::needless_pass_by_value, reason = "a golden reads best in place")]
fn check(object: &Value, expected: Expect) {
    expected.assert_eq(&owners(object));
}

/// An error, which may have no reason.
fn refusal(answer: &Answer) -> String {
    let json = answer.json();
    let text = |field: &str| json[field].as_str().unwrap_or("-").to_owned();
    assert_eq!(json["kind"], "Status");
    format!("{} {}: {}", answer.code, text("reason"), text("message"))
}

fn pod() -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {"app": "x"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

#[tokio::test]
async fn every_write_has_an_owner() {
    let cluster = Cluster::start().await;
    let agent = [
        ("content-type", "application/json"),
        ("user-agent", "kubectl/v1.35.0 (linux/amd64)"),
    ];
    let created = cluster.send("POST", PODS, &agent, pod().to_string()).await.ok();
    check(
        &created,
        expect![[r#"
            kubectl Update - {"f:metadata":{"f:labels":{".":{},"f:app":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:image":{},"f:imagePullPolicy":{},"f:name":{},"f:resources":{},"f:terminationMessagePath":{},"f:terminationMessagePolicy":{}}},"f:dnsPolicy":{},"f:enableServiceLinks":{},"f:restartPolicy":{},"f:schedulerName":{},"f:securityContext":{},"f:terminationGracePeriodSeconds":{}}}
        "#]],
    );
    let entry = &created["metadata"]["managedFields"][0];
    assert_eq!(
        (&entry["apiVersion"], entry["time"].as_str().map(str::len)),
        (&json!("v1"), Some(20))
    );

    let status = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}, "spec": {"hostname": "x"}});
    let path = format!("{PODS}/p/status?fieldManager=kubelet");
    let changed = cluster.patch(&path, "strategic-merge", &status).await.ok();
    let path = format!("{PODS}/p?fieldManager=labeller");
    let changed_again = cluster
        .patch(
            &path,
            "merge",
            &json!({"metadata": {"labels": {"app": "y", "tier": "z"}}, "status": {"phase": "Failed"}}),
        )
        .await
        .ok();
    assert_eq!(changed["status"]["phase"], "Running");
    check(
        &changed_again,
        expect![[r#"
            kubectl Update - {"f:metadata":{"f:labels":{}},"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:image":{},"f:imagePullPolicy":{},"f:name":{},"f:resources":{},"f:terminationMessagePath":{},"f:terminationMessagePolicy":{}}},"f:dnsPolicy":{},"f:enableServiceLinks":{},"f:restartPolicy":{},"f:schedulerName":{},"f:securityContext":{},"f:terminationGracePeriodSeconds":{}}}
            kubelet Update status {"f:status":{"f:conditions":{".":{},"k:{\"type\":\"Ready\"}":{".":{},"f:status":{},"f:type":{}}},"f:phase":{}}}
            labeller Update - {"f:metadata":{"f:labels":{"f:app":{},"f:tier":{}}}}
        "#]],
    );
    // A write that changes nothing is none.
    let path = format!("{PODS}/p?fieldManager=somebody");
    let same = cluster
        .patch(&path, "merge", &json!({"metadata": {"labels": {"app": "y"}}}))
        .await
        .ok();
    assert_eq!(same["metadata"], changed_again["metadata"]);
}

#[tokio::test]
async fn applies_create_change_and_take_away() {
    let cluster = Cluster::start().await;
    let path = format!("{MAPS}/a?fieldManager=one");
    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  a: '1'\n  b: '1'\n";
    let created = apply(&cluster, &path, yaml).await;
    assert_eq!(created.code, 201, "{}", created.text);
    check(
        &created.ok(),
        expect![[r#"
        one Apply - {"f:data":{"f:a":{},"f:b":{}}}
    "#]],
    );
    let again = apply(&cluster, &path, yaml).await;
    assert_eq!(
        (again.code, again.ok()["metadata"].clone()),
        (200, created.ok()["metadata"].clone()),
        "nothing is written"
    );

    let other = format!("{MAPS}/a?fieldManager=two");
    let refused = apply(&cluster, &other, map(&json!({"b": "2", "c": "2"}))).await;
    expect![[r#"409 Conflict: Apply failed with 1 conflict: conflict with "one": .data.b"#]]
        .assert_eq(&refused.failure());
    expect![[r#"{"causes":[{"field":".data.b","message":"conflict with \"one\"","reason":"FieldManagerConflict"}]}"#]]
        .assert_eq(&refused.json()["details"].to_string());
    let forced = apply(
        &cluster,
        &format!("{other}&force=true"),
        map(&json!({"b": "2", "c": "2"})),
    )
    .await
    .ok();
    assert_eq!(forced["data"], json!({"a": "1", "b": "2", "c": "2"}));
    // What it took over it may take away; what it lost it leaves alone.
    let shrunk = apply(&cluster, &path, map(&json!({}))).await.ok();
    assert_eq!(shrunk["data"], json!({"b": "2", "c": "2"}));
    let shrunk = apply(&cluster, &other, map(&json!({"c": "2"}))).await.ok();
    assert_eq!(shrunk["data"], json!({"c": "2"}));
    check(
        &shrunk,
        expect![[r#"
        one Apply - {"f:data":{}}
        two Apply - {"f:data":{"f:c":{}}}
    "#]],
    );

    let dry = apply(&cluster, &format!("{other}&dryRun=All"), map(&json!({"d": "3"})))
        .await
        .ok();
    assert_eq!(dry["data"], json!({"d": "3"}));
    assert_eq!(cluster.get(&format!("{MAPS}/a")).await.ok()["data"], json!({"c": "2"}));
    let dry = apply(
        &cluster,
        &format!("{MAPS}/b?fieldManager=x&dryRun=All"),
        map(&json!({})).replace("\"a\"", "\"b\""),
    )
    .await;
    assert_eq!((dry.code, cluster.get(&format!("{MAPS}/b")).await.code), (201, 404));
}

#[tokio::test]
async fn declarations_are_checked() {
    let cluster = Cluster::start().await;
    let mut lines = Vec::new();
    let with = |change: fn(&mut Value)| {
        let mut object: Value = serde_json::from_str(&map(&json!({"a": "1"}))).unwrap();
        change(&mut object);
        object.to_string()
    };
    for (query, body) in [
        ("", map(&json!({}))),
        ("fieldManager=a&force=maybe", "a: [".to_owned()),
        ("fieldManager=a", "[]".to_owned()),
        ("fieldManager=a", with(|object| object["kind"] = "Secret".into())),
        (
            "fieldManager=a",
            with(|object| object["metadata"]["managedFields"] = json!([])),
        ),
        ("fieldManager=a", with(|object| object["metadata"]["name"] = "b".into())),
        ("fieldManager=a", with(|object| object["metadata"] = json!({}))),
        ("fieldManager=a", with(|object| object["metadata"]["uid"] = "1".into())),
        ("fieldManager=a", with(|object| object["dta"] = json!({}))),
        ("fieldManager=a", with(|object| object["data"]["a"] = json!(1))),
        (
            "fieldManager=a&fieldValidation=Strict",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {a: x}\ndata: {b: x}".to_owned(),
        ),
    ] {
        lines.push(refusal(&apply(&cluster, &format!("{MAPS}/a?{query}"), body).await));
    }
    let force = cluster
        .patch(&format!("{MAPS}/a?force=true"), "merge", &json!({}))
        .await;
    lines.push(force.failure());
    let long = "x".repeat(129);
    lines.push(
        cluster
            .post(
                &format!("{MAPS}?fieldManager={long}"),
                &json!({"metadata": {"name": "a"}}),
            )
            .await
            .failure(),
    );
    expect![[r#"
        422 Invalid: PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch
        400 BadRequest: error decoding YAML: error converting YAML to JSON: yaml: line 1: did not find expected node content
        400 BadRequest: error decoding YAML: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal array into Go value of type map[string]interface {}
        400 BadRequest: invalid object type: /v1, Kind=Secret
        400 BadRequest: metadata.managedFields must be nil
        400 BadRequest: the name of the object (b) does not match the name on the URL (a)
        400 BadRequest: the name of the object (a based on URL) was undeterminable: name must be provided
        409 Conflict: Operation cannot be fulfilled on configmaps "a": uid mismatch: the provided object specified uid 1, and no existing object was found
        500 -: failed to create typed patch object (/a; /v1, Kind=ConfigMap): .dta: field not declared in schema
        500 -: failed to create typed patch object (/a; /v1, Kind=ConfigMap): .data.a: expected string, got &value.valueUnstructured{Value:1}
        400 BadRequest: error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:
          key "data" already set in map
        422 Invalid: PatchOptions.meta.k8s.io "" is invalid: force: Forbidden: may not be specified for non-apply patch
        422 Invalid: CreateOptions.meta.k8s.io "" is invalid: fieldManager: Too long: may not be more than 128 bytes"#]].assert_eq(&lines.join("\n"));
}

#[tokio::test]
async fn users_may_edit_the_owners() {
    let cluster = Cluster::start().await;
    let path = format!("{MAPS}/a?fieldManager=one");
    apply(&cluster, &path, map(&json!({"a": "1"}))).await.ok();
    // As kubectl takes over from its client-side apply: an entry becomes another's.
    let renamed = json!([{"op": "replace", "path": "/metadata/managedFields/0/manager", "value": "two"}]);
    let object = cluster
        .patch(&format!("{MAPS}/a?fieldManager=editor"), "json", &renamed)
        .await
        .ok();
    check(
        &object,
        expect![[r#"
        two Apply - {"f:data":{"f:a":{}}}
    "#]],
    );
    // What cannot be read does not count.
    let broken = json!({"metadata": {"managedFields": [{"manager": "x", "operation": "Frob"}]}});
    let object = cluster.patch(&format!("{MAPS}/a"), "merge", &broken).await.ok();
    check(
        &object,
        expect![[r#"
        two Apply - {"f:data":{"f:a":{}}}
    "#]],
    );
    // An empty list forgets everybody, until somebody applies.
    let object = cluster
        .patch(
            &format!("{MAPS}/a"),
            "merge",
            &json!({"metadata": {"managedFields": [{}]}}),
        )
        .await
        .ok();
    check(&object, expect![""]);
    let object = cluster
        .patch(
            &format!("{MAPS}/a?fieldManager=x"),
            "merge",
            &json!({"data": {"b": "1"}}),
        )
        .await
        .ok();
    check(&object, expect![""]);
    let object = apply(&cluster, &path, map(&json!({"a": "1"}))).await.ok();
    check(
        &object,
        expect![[r#"
        one Apply - {"f:data":{"f:a":{}}}
        before-first-apply Update - {"f:data":{".":{},"f:a":{},"f:b":{}}}
    "#]],
    );
}

#[tokio::test]
async fn status_is_applied_through_its_own_path() {
    let cluster = Cluster::start().await;
    cluster.post(PODS, &pod()).await.ok();
    let status = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "status": {"phase": "Running"}, "spec": {"hostname": "h"}});
    let applied = apply(
        &cluster,
        &format!("{PODS}/p/status?fieldManager=agent"),
        status.to_string(),
    )
    .await
    .ok();
    assert_eq!(
        (&applied["status"]["phase"], applied["spec"].get("hostname")),
        (&json!("Running"), None)
    );
    assert!(
        owners(&applied).contains(r#"agent Apply status {"f:status":{"f:phase":{}}}"#),
        "{}",
        owners(&applied)
    );
    let absent = apply(
        &cluster,
        &format!("{PODS}/q/status?fieldManager=agent"),
        status.to_string().replace("\"p\"", "\"q\""),
    )
    .await;
    expect![[r#"404 NotFound: pods "q" not found"#]].assert_eq(&absent.failure());
}

#[tokio::test]
async fn applies_that_race_all_count() {
    let cluster = Cluster::start().await;
    let one = |index: usize| {
        let cluster = &cluster;
        async move {
            let path = format!("{MAPS}/a?fieldManager=m{index}");
            let body = map(&json!({ (format!("k{index}")): "x" }));
            apply(cluster, &path, body).await.ok();
        }
    };
    tokio::join!(one(0), one(1), one(2), one(3), one(4));
    let object = cluster.get(&format!("{MAPS}/a")).await.ok();
    assert_eq!(object["data"].as_object().unwrap().len(), 5);
    assert_eq!(object["metadata"]["managedFields"].as_array().unwrap().len(), 5);
}

#[tokio::test]
async fn patches_that_fit_nothing_are_refused_in_kubernetes_words() {
    let cluster = Cluster::start().await;
    cluster.post(PODS, &pod()).await.ok();
    let path = format!("{PODS}/p?fieldValidation=Strict");
    let mut lines = Vec::new();
    for (language, patch) in [
        ("merge", json!([])),
        ("strategic-merge", json!("x")),
        ("json", json!({})),
        ("json", json!([{"op": "frob", "path": "/a"}])),
        ("json", json!([{"op": "test", "path": "/metadata/name", "value": "q"}])),
        ("strategic-merge", json!({"spec": {"foo": 1}})),
        ("strategic-merge", json!({"spec": {"priority": "x"}})),
        ("strategic-merge", json!({"spec": {"containers": "x"}})),
        ("strategic-merge", json!({"spec": {"containers": [{"image": "x"}]}})),
        ("strategic-merge", json!({"spec": {"$patch": "merge"}})),
    ] {
        lines.push(refusal(&cluster.patch(&path, language, &patch).await));
    }
    let typed = cluster.patch(&path, "merge", &json!({"spec": {"priority": "x"}})).await;
    let message = refusal(&typed);
    lines.push(message.rsplit_once("}\": ").unwrap().1.to_owned());
    let headers = [("content-type", "application/merge-patch+json")];
    let twice = cluster
        .send("PATCH", &path, &headers, r#"{"metadata":{"labels":{"a":"1","a":"2"}}}"#)
        .await;
    lines.push(refusal(&twice).rsplit_once("}\": ").unwrap().1.to_owned());
    expect![[r#"
        400 BadRequest: error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}
        400 BadRequest: json: cannot unmarshal string into Go value of type map[string]interface {}
        400 BadRequest: error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp
        422 Invalid: the server rejected our request due to an error in our request
        422 Invalid: the server rejected our request due to an error in our request
        422 Invalid:  "" is invalid: patch: Invalid value: "map[spec:map[foo:1]]": strict decoding error: unknown field "spec.foo"
        422 Invalid:  "" is invalid: patch: Invalid value: "map[spec:map[priority:x]]": unrecognized type: int32
        422 Invalid:  "" is invalid: patch: Invalid value: "map[spec:map[containers:x]]": cannot restore slice from string
        500 -: map: map[image:x] does not contain declared merge key: name
        500 -: unknown patch type: merge in map: map[$patch:merge]
        json: cannot unmarshal string into Go struct field PodSpec.spec.priority of type int32
        strict decoding error: duplicate field "metadata.labels.a""#]].assert_eq(&lines.join("\n"));
}

#[tokio::test]
async fn an_apply_that_creates_needs_leave_to_create() {
    let cluster = Cluster::start().await;
    let role = json!({"metadata": {"name": "patcher"}, "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["patch"]}]});
    cluster
        .post("/apis/rbac.authorization.k8s.io/v1/clusterroles", &role)
        .await
        .ok();
    let binding = json!({"metadata": {"name": "patcher"}, "subjects": [{"kind": "User", "name": "pat", "apiGroup": "rbac.authorization.k8s.io"}],
        "roleRef": {"kind": "ClusterRole", "name": "patcher", "apiGroup": "rbac.authorization.k8s.io"}});
    cluster
        .post("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", &binding)
        .await
        .ok();
    let headers = [
        ("content-type", "application/apply-patch+yaml"),
        ("impersonate-user", "pat"),
    ];
    let path = format!("{MAPS}/a?fieldManager=pat");
    let refused = cluster.send("PATCH", &path, &headers, map(&json!({"a": "1"}))).await;
    expect![[r#"403 Forbidden: configmaps "a" is forbidden: User "pat" cannot create resource "configmaps" in API group "" in the namespace "default""#]]
        .assert_eq(&refused.failure());
    apply(
        &cluster,
        &format!("{MAPS}/a?fieldManager=admin"),
        map(&json!({"a": "1"})),
    )
    .await
    .ok();
    cluster
        .send("PATCH", &path, &headers, map(&json!({"b": "1"})))
        .await
        .ok();
}

/// Parts of the control plane see changes without who owns what; it is cut out of what everybody else sees.
#[tokio::test]
async fn watches_of_components_leave_owners_out() {
    use futures::TryStreamExt as _;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::api::{Api, WatchEvent, WatchParams};

    let cluster = Cluster::start().await;
    let component = cluster.control.component_client("tester", &["system:masters"]);
    let maps: Api<ConfigMap> = Api::default_namespaced(component);
    let version = cluster.get(MAPS).await.ok()["metadata"]["resourceVersion"].clone();
    let version = version.as_str().unwrap();
    let bare = maps.watch(&WatchParams::default(), version).await.unwrap();
    let partial = maps.watch_metadata(&WatchParams::default(), version).await.unwrap();
    let mut whole = cluster
        .watch(&format!("{MAPS}?watch=1&resourceVersion={version}"))
        .await;

    let path = format!("{MAPS}/a?fieldManager=me");
    apply(&cluster, &path, map(&json!({"k": "v"}))).await.ok();
    let Some(WatchEvent::Added(bare)) = std::pin::pin!(bare).try_next().await.unwrap() else {
        panic!("another event");
    };
    assert!(bare.metadata.managed_fields.is_none());
    assert_eq!(bare.metadata.name.as_deref(), Some("a"));
    assert_eq!(bare.data.unwrap()["k"], "v");
    let Some(WatchEvent::Added(partial)) = std::pin::pin!(partial).try_next().await.unwrap() else {
        panic!("another event");
    };
    assert!(partial.metadata.managed_fields.is_none() && partial.metadata.uid.is_some());
    assert!(owners(&whole.next().await.unwrap()["object"]).starts_with("me Apply"));
    assert!(owners(&cluster.get(&format!("{MAPS}/a")).await.ok()).starts_with("me Apply"));
}
