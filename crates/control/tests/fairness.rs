//! Priority and fairness, and what is told about requests, through the real stack.

mod common;

use common::Cluster;
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::{Value, json};

const SCHEMAS: &str = "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas";
const LEVELS: &str = "/apis/flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations";

async fn names(cluster: &Cluster, path: &str) -> Vec<String> {
    let list = cluster.get(path).await.ok();
    let items = list["items"].as_array().unwrap().iter();
    items
        .map(|item| item["metadata"]["name"].as_str().unwrap().to_owned())
        .collect()
}

async fn until(cluster: &Cluster, path: &str, accept: impl Fn(&Value) -> bool) -> Value {
    let mut events = cluster.watch(&format!("{path}&watch=1")).await;
    loop {
        let event = events.next().await.expect("the watch goes on");
        if accept(&event) {
            return event["object"].clone();
        }
    }
}

#[tokio::test]
async fn every_cluster_has_the_suggested_configuration() {
    let cluster = Cluster::start().await;
    assert_eq!(
        names(&cluster, SCHEMAS).await,
        [
            "catch-all",
            "exempt",
            "global-default",
            "kube-controller-manager",
            "kube-scheduler",
            "kube-system-service-accounts",
            "probes",
            "service-accounts",
            "system-leader-election",
            "system-node-high",
            "system-nodes",
        ]
    );
    assert_eq!(
        names(&cluster, LEVELS).await,
        [
            "catch-all",
            "exempt",
            "global-default",
            "leader-election",
            "node-high",
            "system",
            "workload-high",
            "workload-low",
        ]
    );
    // What has to be there is put right, and a schema without its level says so.
    cluster.delete(&format!("{SCHEMAS}/catch-all"), &Value::Null).await.ok();
    let path = format!("{SCHEMAS}?fieldSelector=metadata.name%3Dcatch-all");
    until(&cluster, &path, |event| event["type"] == "ADDED").await;
    let lost = json!({
        "metadata": { "name": "lost" },
        "spec": { "priorityLevelConfiguration": { "name": "nowhere" }, "matchingPrecedence": 7 },
    });
    cluster.post(SCHEMAS, &lost).await.ok();
    let path = format!("{SCHEMAS}?fieldSelector=metadata.name%3Dlost");
    let object = until(&cluster, &path, |event| {
        !event["object"]["status"]["conditions"][0].is_null()
    })
    .await;
    let condition = &object["status"]["conditions"][0];
    assert_eq!(
        (&condition["type"], &condition["status"], &condition["reason"]),
        (&json!("Dangling"), &json!("True"), &json!("NotFound"))
    );
    assert_eq!(
        condition["message"],
        "This FlowSchema references the PriorityLevelConfiguration object named \"nowhere\" but there is no such object"
    );
}

#[tokio::test]
async fn answers_say_which_schema_and_level_they_belong_to() {
    let cluster = Cluster::start().await;
    let uid = async |path: &str| {
        cluster.get(path).await.ok()["metadata"]["uid"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let (schema, level) = (
        uid(&format!("{SCHEMAS}/global-default")).await,
        uid(&format!("{LEVELS}/global-default")).await,
    );
    let alice = cluster.control.client("alice", &[]);
    // The objects are taken up as soon as they are written; until then the same rules hold, without names.
    loop {
        let request = http::Request::get("/api/v1/namespaces/default/pods")
            .body(Body::empty())
            .unwrap();
        let response = alice.send(request).await.unwrap();
        let header = |name: &str| {
            response
                .headers()
                .get(name)
                .map(|value| value.to_str().unwrap().to_owned())
        };
        if let Some(found) = header("x-kubernetes-pf-flowschema-uid") {
            assert_eq!(found, schema);
            assert_eq!(header("x-kubernetes-pf-prioritylevel-uid"), Some(level));
            break;
        }
        drop(response.into_body().collect().await.unwrap());
    }
}

#[tokio::test]
async fn what_is_served_is_counted() {
    let cluster = Cluster::start().await;
    let path = "/api/v1/namespaces/default/configmaps";
    cluster.post(path, &json!({ "metadata": { "name": "a" } })).await.ok();
    cluster.get(path).await.ok();
    assert_eq!(cluster.get(&format!("{path}/b")).await.code, 404);
    assert_eq!(cluster.get("/apis/made.up/v1/whatevers/x").await.code, 404);
    let mut events = cluster.watch(&format!("{path}?watch=1")).await;
    assert_eq!(events.line().await, "ADDED a");
    let text = cluster.get("/metrics").await.text;
    for line in [
        "apiserver_request_total{code=\"201\",dry_run=\"\",component=\"apiserver\",group=\"\",resource=\"configmaps\",\
         scope=\"resource\",subresource=\"\",verb=\"POST\",version=\"v1\"} ",
        "apiserver_request_total{code=\"200\",dry_run=\"\",component=\"apiserver\",group=\"\",resource=\"configmaps\",\
         scope=\"namespace\",subresource=\"\",verb=\"LIST\",version=\"v1\"} ",
        "apiserver_request_total{code=\"404\",dry_run=\"\",component=\"apiserver\",group=\"\",resource=\"configmaps\",\
         scope=\"resource\",subresource=\"\",verb=\"GET\",version=\"v1\"} ",
        "apiserver_longrunning_requests{component=\"apiserver\",group=\"\",resource=\"configmaps\",scope=\"namespace\",\
         subresource=\"\",verb=\"WATCH\",version=\"v1\"} ",
        "apiserver_watch_events_total{group=\"\",resource=\"configmaps\",version=\"v1\"} ",
        "apiserver_storage_objects{resource=\"configmaps\"} ",
        "apiserver_current_inflight_requests{request_kind=\"readOnly\"} ",
        "apiserver_flowcontrol_nominal_limit_seats{priority_level=\"node-high\"} 98",
    ] {
        assert!(
            text.lines().any(|own| own.starts_with(line)),
            "{line} is not in\n{text}"
        );
    }
    assert!(!text.contains("made.up"), "what is not served is no label");
}
