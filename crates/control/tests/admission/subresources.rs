//! Connections and what is posted below an object: webhooks see a body of its own kind, and may change it.

use crate::common::Cluster;
use crate::server::{Webhook, allow, patch};
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/default/pods";

async fn configure(cluster: &Cluster, webhook: &Webhook, kind: &str, operation: &str, resource: &str) {
    let rules = json!([
        {"operations": [operation], "apiGroups": [""], "apiVersions": ["v1"], "resources": [resource]},
    ]);
    let configuration = webhook.configuration(kind, "w", &json!({ "rules": rules }));
    let plural = format!("{}s", kind.to_lowercase());
    let path = format!("/apis/admissionregistration.k8s.io/v1/{plural}");
    cluster.post(&path, &configuration).await.ok();
}

async fn pod(cluster: &Cluster) {
    let pod = json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    cluster.post(PODS, &pod).await.ok();
}

const MUTATING: &str = "MutatingWebhookConfiguration";
const VALIDATING: &str = "ValidatingWebhookConfiguration";

/// The only question a webhook was asked, without what differs each time.
fn only(webhook: &Webhook) -> Value {
    let mut asked = webhook.asked();
    assert_eq!(asked.len(), 1, "{asked:?}");
    let mut request = asked.remove(0);
    for name in [
        "uid",
        "userInfo",
        "requestKind",
        "requestResource",
        "requestSubResource",
    ] {
        request.as_object_mut().unwrap().remove(name);
    }
    request
}

#[tokio::test]
async fn connections_are_asked_about_with_their_options() {
    let cluster = Cluster::start().await;
    pod(&cluster).await;
    let no = |_: &Value| Some(json!({"allowed": false, "status": {"code": 403, "message": "not here"}}));
    let webhook = Webhook::start(no).await;
    configure(&cluster, &webhook, VALIDATING, "CONNECT", "pods/*").await;
    let refused = cluster
        .post(
            &format!("{PODS}/a/exec?stdout=true&command=sh&command=-l"),
            &Value::Null,
        )
        .await;
    assert_eq!(refused.code, 403);
    assert_eq!(
        refused.json()["message"],
        "admission webhook \"w.example.org\" denied the request: not here"
    );
    assert_eq!(
        only(&webhook),
        json!({
            "kind": {"group": "", "version": "v1", "kind": "PodExecOptions"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "subResource": "exec",
            "name": "a",
            "namespace": "default",
            "operation": "CONNECT",
            "object": {"kind": "PodExecOptions", "apiVersion": "v1", "stdout": true, "command": ["sh", "-l"]},
            "oldObject": null,
            "dryRun": false,
            "options": null,
        })
    );
    for path in ["attach?stdout=true", "portforward?ports=80", "proxy/x/y?z=1"] {
        assert_eq!(cluster.get(&format!("{PODS}/a/{path}")).await.code, 403, "{path}");
    }
    let objects: Vec<Value> = webhook.asked()[1..]
        .iter()
        .map(|request| request["object"].clone())
        .collect();
    assert_eq!(
        objects,
        [
            json!({"kind": "PodAttachOptions", "apiVersion": "v1", "stdout": true}),
            json!({"kind": "PodPortForwardOptions", "apiVersion": "v1", "ports": [80]}),
            json!({"kind": "PodProxyOptions", "apiVersion": "v1", "path": "/x/y"}),
        ]
    );
}

#[tokio::test]
async fn a_webhook_changes_the_options_of_a_connection() {
    let cluster = Cluster::start().await;
    pod(&cluster).await;
    let operations = json!([{"op": "add", "path": "/container", "value": "other"}]);
    let webhook = Webhook::start(move |_| Some(patch(&operations))).await;
    configure(&cluster, &webhook, MUTATING, "CONNECT", "pods/exec").await;
    let answer = cluster
        .get(&format!("{PODS}/a/exec?stdout=true&command=sh&container=c"))
        .await;
    assert_eq!(
        answer.failure(),
        "400 BadRequest: container other is not valid for pod a"
    );
}

#[tokio::test]
async fn a_binding_goes_where_a_webhook_says() {
    let cluster = Cluster::start().await;
    pod(&cluster).await;
    let operations = json!([{"op": "replace", "path": "/target/name", "value": "better"}]);
    let webhook = Webhook::start(move |_| Some(patch(&operations))).await;
    configure(&cluster, &webhook, MUTATING, "CREATE", "pods/binding").await;
    let binding = json!({"metadata": {"name": "a"}, "target": {"kind": "Node", "name": "n"}});
    cluster.post(&format!("{PODS}/a/binding"), &binding).await.ok();
    let bound = cluster.get(&format!("{PODS}/a")).await.ok();
    assert_eq!(bound["spec"]["nodeName"], "better");
    assert_eq!(only(&webhook)["object"]["kind"], "Binding");
}

#[tokio::test]
async fn an_eviction_is_one_to_webhooks_even_if_they_change_it() {
    let cluster = Cluster::start().await;
    pod(&cluster).await;
    let operations = json!([{"op": "add", "path": "/deleteOptions", "value": {"dryRun": ["All"]}}]);
    let webhook = Webhook::start(move |_| Some(patch(&operations))).await;
    configure(&cluster, &webhook, MUTATING, "CREATE", "pods/eviction").await;
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "a"}});
    let evicted = cluster.post(&format!("{PODS}/a/eviction"), &eviction).await;
    assert_eq!(evicted.code, 201, "{}", evicted.text);
    let request = only(&webhook);
    assert_eq!(
        request["kind"],
        json!({"group": "policy", "version": "v1", "kind": "Eviction"})
    );
    assert_eq!(request["object"]["metadata"]["name"], "a");
    assert_eq!(cluster.get(&format!("{PODS}/a")).await.code, 200, "it was only a try");
}

#[tokio::test]
async fn tokens_are_asked_about() {
    let cluster = Cluster::start().await;
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    cluster
        .post(accounts, &json!({"metadata": {"name": "robot"}}))
        .await
        .ok();
    let webhook = Webhook::start(|request| match request["object"]["spec"]["audiences"][0].as_str() {
        Some("evil") => Some(json!({"allowed": false, "status": {"code": 403, "message": "not for them"}})),
        _ => allow(request),
    })
    .await;
    configure(&cluster, &webhook, VALIDATING, "CREATE", "serviceaccounts/token").await;
    let path = format!("{accounts}/robot/token");
    let ask = |audience: &str| json!({"spec": {"audiences": [audience]}});
    let issued = cluster.post(&path, &ask("good")).await.ok();
    assert!(!issued["status"]["token"].as_str().unwrap().is_empty());
    let request = only(&webhook);
    assert_eq!(
        request["kind"],
        json!({"group": "authentication.k8s.io", "version": "v1", "kind": "TokenRequest"})
    );
    assert_eq!(request["object"]["spec"]["expirationSeconds"], 3600);
    assert_eq!(request["object"]["status"]["token"], "", "webhooks never see tokens");
    assert_eq!(
        cluster.post(&path, &ask("evil")).await.json()["message"],
        "admission webhook \"w.example.org\" denied the request: not for them"
    );
}
