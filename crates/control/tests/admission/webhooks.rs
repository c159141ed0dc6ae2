use crate::common::Cluster;
use crate::server::{Webhook, allow, patch};
use serde_json::{Value, json};

const CONFIGURATIONS: &str = "/apis/admissionregistration.k8s.io/v1";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const MUTATING: &str = "MutatingWebhookConfiguration";
const VALIDATING: &str = "ValidatingWebhookConfiguration";

async fn configure(cluster: &Cluster, webhook: &Webhook, kind: &str, name: &str, fields: Value) {
    let plural = format!("{}s", kind.to_lowercase());
    let configuration = webhook.configuration(kind, name, &fields);
    cluster
        .post(&format!("{CONFIGURATIONS}/{plural}"), &configuration)
        .await
        .ok();
}

fn map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}})
}

#[tokio::test]
async fn a_validating_webhook_sees_every_operation_and_may_refuse() {
    let cluster = Cluster::start().await;
    let webhook = Webhook::start(|request| {
        let bad = request["object"]["data"]["bad"] == "yes";
        Some(json!({"allowed": !bad, "warnings": ["careful"], "status": {"code": 403, "message": "bad data"}}))
    })
    .await;
    configure(&cluster, &webhook, VALIDATING, "v", json!({})).await;

    let created = cluster.post(MAPS, &map("a")).await;
    created.ok();
    assert_eq!(created.warnings, ["299 - \"careful\""]);
    let path = format!("{MAPS}/a");
    let refused = cluster.patch(&path, "merge", &json!({"data": {"bad": "yes"}})).await;
    assert_eq!(
        refused.json(),
        json!({"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure", "code": 403,
            "message": "admission webhook \"v.example.org\" denied the request: bad data"})
    );
    cluster.delete(&path, &Value::Null).await.ok();

    let asked = webhook.asked();
    let operations: Vec<&str> = asked
        .iter()
        .map(|request| request["operation"].as_str().unwrap())
        .collect();
    assert_eq!(operations, ["CREATE", "UPDATE", "DELETE"]);
    let mut create = asked[0].clone();
    for volatile in ["uid", "object"] {
        create.as_object_mut().unwrap().remove(volatile);
    }
    assert_eq!(
        create,
        json!({
            "kind": {"group": "", "version": "v1", "kind": "ConfigMap"},
            "resource": {"group": "", "version": "v1", "resource": "configmaps"},
            "requestKind": {"group": "", "version": "v1", "kind": "ConfigMap"},
            "requestResource": {"group": "", "version": "v1", "resource": "configmaps"},
            "name": "a",
            "namespace": "default",
            "operation": "CREATE",
            "userInfo": {"username": "tester", "groups": ["system:masters", "system:authenticated"]},
            "oldObject": null,
            "dryRun": false,
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
        })
    );
    assert_eq!(asked[0]["object"]["kind"], "ConfigMap");
    assert_eq!(asked[1]["oldObject"]["metadata"]["name"], "a");
    assert_eq!(asked[1]["object"]["data"]["bad"], "yes");
    assert_eq!(
        (&asked[2]["object"], &asked[2]["oldObject"]["metadata"]["name"]),
        (&Value::Null, &json!("a"))
    );
    assert_eq!(asked[2]["options"]["kind"], "DeleteOptions");
}

#[tokio::test]
async fn collections_are_deleted_object_by_object() {
    let cluster = Cluster::start().await;
    let webhook = Webhook::start(|request| Some(json!({"allowed": request["name"] != "keep"}))).await;
    for name in ["a", "keep"] {
        cluster.post(MAPS, &map(name)).await.ok();
    }
    configure(&cluster, &webhook, VALIDATING, "v", json!({})).await;
    let selected = format!("{MAPS}?fieldSelector=metadata.name%3Da");
    cluster.delete(&selected, &Value::Null).await.ok();
    let refused = cluster
        .delete(&format!("{MAPS}?fieldSelector=metadata.name%3Dkeep"), &Value::Null)
        .await;
    assert_eq!(
        refused.json()["message"],
        "admission webhook \"v.example.org\" denied the request without explanation"
    );
    let names: Vec<Value> = webhook.asked().iter().map(|request| request["name"].clone()).collect();
    assert_eq!(names, ["a", "keep"]);
}

#[tokio::test]
async fn failures_are_errors_unless_they_are_ignored() {
    let cluster = Cluster::start().await;
    let webhook = Webhook::start(|request| {
        let silent = request["name"] == "silent";
        (!silent).then(|| json!({"allowed": true, "patch": "W10="}))
    })
    .await;
    let fields = json!({"timeoutSeconds": 1, "objectSelector": {"matchLabels": {"strict": "yes"}}});
    configure(&cluster, &webhook, VALIDATING, "strict", fields).await;
    let fields = json!({"timeoutSeconds": 1, "failurePolicy": "Ignore"});
    configure(&cluster, &webhook, VALIDATING, "lax", fields).await;

    cluster.post(MAPS, &map("a")).await.ok();
    let mut strict = map("b");
    strict["metadata"]["labels"] = json!({"strict": "yes"});
    assert_eq!(
        cluster.post(MAPS, &strict).await.failure(),
        "500 InternalError: Internal error occurred: failed calling webhook \"strict.example.org\": received invalid webhook \
         response: validating webhook may not return response.patch"
    );
    strict["metadata"]["name"] = json!("silent");
    assert_eq!(
        cluster.post(MAPS, &strict).await.failure(),
        format!(
            "500 InternalError: Internal error occurred: failed calling webhook \"strict.example.org\": failed to call webhook: \
             Post \"{}?timeout=1s\": context deadline exceeded",
            webhook.url
        )
    );
}

#[tokio::test]
async fn dry_runs_reach_only_those_who_bear_them() {
    let cluster = Cluster::start().await;
    let webhook = Webhook::start(allow).await;
    configure(
        &cluster,
        &webhook,
        MUTATING,
        "m",
        json!({"sideEffects": "NoneOnDryRun"}),
    )
    .await;
    let dry = format!("{MAPS}?dryRun=All");
    cluster.post(&dry, &map("a")).await.ok();
    assert_eq!(webhook.asked()[0]["dryRun"], true);
    assert_eq!(webhook.asked()[0]["options"]["dryRun"], json!(["All"]));
    let fields = json!({"sideEffects": "Some", "failurePolicy": "Ignore"});
    let mut configuration = webhook.configuration(VALIDATING, "v", &fields);
    configuration["webhooks"][0]["sideEffects"] = json!("NoneOnDryRun");
    let path = format!("{CONFIGURATIONS}/validatingwebhookconfigurations");
    cluster.post(&path, &configuration).await.ok();
    cluster.post(&dry, &map("a")).await.ok();
}

#[tokio::test]
async fn mutating_webhooks_change_objects_and_look_again_if_they_ask_to() {
    let cluster = Cluster::start().await;
    let label = |name: &'static str| {
        move |request: &Value| {
            let labels = &request["object"]["metadata"]["labels"];
            if !labels[name].is_null() {
                return allow(request);
            }
            let at = format!("/metadata/labels/{name}");
            let operations = if labels.is_null() {
                json!([{"op": "add", "path": "/metadata/labels", "value": {}}, {"op": "add", "path": at, "value": "1"}])
            } else {
                json!([{"op": "add", "path": at, "value": "1"}])
            };
            Some(patch(&operations))
        }
    };
    let (first, second) = (
        Webhook::start(label("first")).await,
        Webhook::start(label("second")).await,
    );
    configure(
        &cluster,
        &first,
        MUTATING,
        "a-first",
        json!({"reinvocationPolicy": "IfNeeded"}),
    )
    .await;
    configure(&cluster, &second, MUTATING, "b-second", json!({})).await;

    let created = cluster.post(MAPS, &map("a")).await.ok();
    assert_eq!(created["metadata"]["labels"], json!({"first": "1", "second": "1"}));
    assert!(created["metadata"]["uid"].is_string());
    assert!(
        first.asked()[0]["object"]["metadata"]["uid"].is_null(),
        "the server decides that later"
    );
    assert_eq!(first.asked()[1]["object"]["metadata"]["labels"]["second"], "1");
    assert_eq!((first.asked().len(), second.asked().len()), (2, 1));
    let metrics = cluster.get("/metrics").await.text;
    for series in [
        r#"step_admission_duration_seconds_count{operation="CREATE",rejected="false",type="admit"} "#,
        r#"controller_admission_duration_seconds_count{name="MutatingAdmissionWebhook",operation="CREATE",rejected="false",type="admit"} "#,
        r#"webhook_request_total{code="200",name="#,
    ] {
        let series = format!("apiserver_admission_{series}");
        assert!(
            metrics.lines().any(|line| line.starts_with(&series)),
            "{series} is not in\n{metrics}"
        );
    }
}

#[tokio::test]
async fn plugins_run_again_after_a_webhook_and_defaults_are_filled_in() {
    let cluster = Cluster::start().await;
    let add = json!([{"op": "add", "path": "/spec/containers/-", "value": {"name": "side", "image": "side"}}]);
    let webhook = Webhook::start(move |_| Some(patch(&add))).await;
    let rules = json!([{"operations": ["CREATE"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["pods"]}]);
    configure(&cluster, &webhook, MUTATING, "m", json!({ "rules": rules })).await;
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": [{"name": "a", "image": "a"}]}});
    let created = cluster.post("/api/v1/namespaces/default/pods", &pod).await.ok();
    assert_eq!(created["spec"]["containers"][1]["imagePullPolicy"], "Always");
    assert_eq!(
        created["spec"]["containers"].as_array().unwrap().len(),
        2,
        "it is not called twice"
    );
}

#[tokio::test]
async fn match_conditions_decide_who_is_asked() {
    let cluster = Cluster::start().await;
    let webhook = Webhook::start(|_| Some(json!({"allowed": false}))).await;
    let conditions = json!([
        {"name": "not-exempt", "expression": "!('exempt' in request.userInfo.groups)"},
        {"name": "labelled", "expression": "has(object.metadata.labels) && object.metadata.labels['x'] == '1'"},
    ]);
    configure(
        &cluster,
        &webhook,
        VALIDATING,
        "v",
        json!({ "matchConditions": conditions }),
    )
    .await;
    cluster.post(MAPS, &map("a")).await.ok();
    let mut labelled = map("b");
    labelled["metadata"]["labels"] = json!({"x": "1"});
    assert_eq!(cluster.post(MAPS, &labelled).await.code, 400);
    labelled["metadata"]["labels"] = json!({"y": "1"});
    assert_eq!(
        cluster.post(MAPS, &labelled).await.failure(),
        "403 Forbidden: configmaps \"b\" is forbidden: expression 'has(object.metadata.labels) && object.metadata.labels['x'] == '1'' \
         resulted in error: no such key: x"
    );

    let bad = webhook.configuration(
        VALIDATING,
        "w",
        &json!({"matchConditions": [{"name": "a", "expression": "object.x ="}]}),
    );
    let refused = cluster
        .post(&format!("{CONFIGURATIONS}/validatingwebhookconfigurations"), &bad)
        .await;
    let message = refused.failure();
    assert!(
        message.starts_with(
            "422 Invalid: ValidatingWebhookConfiguration.admissionregistration.k8s.io \"w\" is invalid: \
             webhooks[0].matchConditions[0].expression: Invalid value: \"object.x =\": compilation failed: ERROR: <input>:1:"
        ),
        "{message}"
    );
}

#[tokio::test]
async fn other_versions_of_an_object_match_too() {
    let cluster = Cluster::start().await;
    let webhook = Webhook::start(allow).await;
    let rules = json!([{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["events"]}]);
    configure(&cluster, &webhook, VALIDATING, "equivalent", json!({ "rules": rules })).await;
    let fields = json!({"rules": rules, "matchPolicy": "Exact", "failurePolicy": "Fail"});
    let exact = Webhook::start(|_| Some(json!({"allowed": false}))).await;
    configure(&cluster, &exact, VALIDATING, "exact", fields).await;
    let event = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e", "namespace": "default"},
        "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "example.org/c", "reportingInstance": "i",
        "action": "Act", "reason": "Because", "type": "Normal", "note": "text",
        "regarding": {"kind": "Pod", "namespace": "default", "name": "p"},
    });
    cluster
        .post("/apis/events.k8s.io/v1/namespaces/default/events", &event)
        .await
        .ok();
    let asked = &webhook.asked()[0];
    assert_eq!(
        asked["resource"],
        json!({"group": "", "version": "v1", "resource": "events"})
    );
    assert_eq!(asked["requestResource"]["group"], "events.k8s.io");
    assert_eq!(asked["object"]["apiVersion"], "v1");
    assert_eq!(asked["object"]["message"], "text");
    assert!(exact.asked().is_empty());
}

#[tokio::test]
async fn configurations_of_webhooks_are_not_stopped_by_webhooks() {
    let cluster = Cluster::start().await;
    let webhook = Webhook::start(|_| Some(json!({"allowed": false}))).await;
    let rules = json!([{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"]}]);
    configure(
        &cluster,
        &webhook,
        VALIDATING,
        "v",
        json!({"rules": rules, "namespaceSelector": {}}),
    )
    .await;
    assert_eq!(cluster.post(MAPS, &map("a")).await.code, 400);
    let path = format!("{CONFIGURATIONS}/validatingwebhookconfigurations/v");
    cluster.delete(&path, &Value::Null).await.ok();
    cluster.post(MAPS, &map("a")).await.ok();
}
