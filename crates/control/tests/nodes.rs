//! What a node may see and write: its own objects, and what the pods bound to it refer to.

mod common;

use common::{Answer, Cluster};
use expect_test::expect;
use serde_json::{Value, json};

const NS: &str = "/api/v1/namespaces/default";

/// Sends as the node `n1`.
async fn as_node(cluster: &Cluster, method: &str, path: &str, body: &Value) -> Answer {
    let kind = if method == "PATCH" {
        "application/merge-patch+json"
    } else {
        "application/json"
    };
    let headers = [
        ("content-type", kind),
        ("impersonate-user", "system:node:n1"),
        ("impersonate-group", "system:nodes"),
    ];
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    cluster.send(method, path, &headers, body).await
}

async fn get(cluster: &Cluster, path: &str) -> Answer {
    as_node(cluster, "GET", path, &Value::Null).await
}

async fn bound_pod(cluster: &Cluster, name: &str, node: &str, secret: &str) -> Value {
    let pod = json!({ "metadata": { "name": name }, "spec": {
        "nodeName": node,
        "containers": [{ "name": "c", "image": "x", "envFrom": [{ "secretRef": { "name": secret } }] }],
    } });
    cluster.post(&format!("{NS}/pods"), &pod).await.ok()
}

#[tokio::test]
async fn nodes_read_what_their_pods_refer_to() {
    let cluster = Cluster::start().await;
    for name in ["mine", "other"] {
        let secret = json!({ "metadata": { "name": name } });
        cluster.post(&format!("{NS}/secrets"), &secret).await.ok();
    }
    let secret = format!("{NS}/secrets/mine");
    assert_eq!(get(&cluster, &secret).await.code, 403);
    bound_pod(&cluster, "a", "n1", "mine").await;
    bound_pod(&cluster, "b", "n2", "other").await;
    assert_eq!(get(&cluster, &secret).await.code, 200);
    assert_eq!(
        get(&cluster, &format!("{NS}/secrets?fieldSelector=metadata.name%3Dmine"))
            .await
            .code,
        200
    );
    assert_eq!(get(&cluster, &format!("{NS}/pods/a")).await.code, 200);
    assert_eq!(
        get(&cluster, "/api/v1/pods?fieldSelector=spec.nodeName%3Dn1")
            .await
            .code,
        200
    );
    // Part of every pod that has a token.
    assert_eq!(
        get(&cluster, &format!("{NS}/configmaps/kube-root-ca.crt")).await.code,
        404
    );
    let refusals = [
        get(&cluster, &format!("{NS}/secrets/other")).await.failure(),
        get(&cluster, &format!("{NS}/secrets")).await.failure(),
        get(&cluster, "/api/v1/secrets").await.failure(),
        get(&cluster, &format!("{NS}/pods/b")).await.failure(),
        get(&cluster, "/api/v1/pods").await.failure(),
        get(&cluster, "/api/v1/pods?fieldSelector=spec.nodeName%3Dn2")
            .await
            .failure(),
        get(&cluster, "/api/v1/nodes").await.failure(),
        get(&cluster, "/api/v1/nodes/n2").await.failure(),
        as_node(&cluster, "DELETE", &secret, &Value::Null).await.failure(),
        get(
            &cluster,
            "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n2",
        )
        .await
        .failure(),
        get(&cluster, "/apis/apps/v1/deployments").await.failure(),
    ];
    expect![[r#"
        403 Forbidden: secrets "other" is forbidden: User "system:node:n1" cannot get resource "secrets" in API group "" in the namespace "default": no relationship found between node 'n1' and this object
        403 Forbidden: secrets is forbidden: User "system:node:n1" cannot list resource "secrets" in API group "" in the namespace "default": No Object name found
        403 Forbidden: secrets is forbidden: User "system:node:n1" cannot list resource "secrets" in API group "" at the cluster scope: can only read namespaced object of this type
        403 Forbidden: pods "b" is forbidden: User "system:node:n1" cannot get resource "pods" in API group "" in the namespace "default": no relationship found between node 'n1' and this object
        403 Forbidden: pods is forbidden: User "system:node:n1" cannot list resource "pods" in API group "" at the cluster scope: can only list/watch pods with spec.nodeName field selector
        403 Forbidden: pods is forbidden: User "system:node:n1" cannot list resource "pods" in API group "" at the cluster scope: can only list/watch pods with spec.nodeName field selector
        403 Forbidden: nodes is forbidden: User "system:node:n1" cannot list resource "nodes" in API group "" at the cluster scope: node 'n1' cannot read all nodes, only its own Node object
        403 Forbidden: nodes "n2" is forbidden: User "system:node:n1" cannot get resource "nodes" in API group "" at the cluster scope: node 'n1' cannot read 'n2', only its own Node object
        403 Forbidden: secrets "mine" is forbidden: User "system:node:n1" cannot delete resource "secrets" in API group "" in the namespace "default": can only read resources of this type
        403 Forbidden: leases.coordination.k8s.io "n2" is forbidden: User "system:node:n1" cannot get resource "leases" in API group "coordination.k8s.io" in the namespace "kube-node-lease": can only access node lease with the same name as the requesting node
        403 Forbidden: deployments.apps is forbidden: User "system:node:n1" cannot list resource "deployments" in API group "apps" at the cluster scope"#]]
    .assert_eq(&refusals.join("\n"));

    cluster
        .delete(&format!("{NS}/pods/a?gracePeriodSeconds=0"), &Value::Null)
        .await
        .ok();
    assert_eq!(get(&cluster, &secret).await.code, 403, "with the pod goes the right");
}

#[tokio::test]
async fn nodes_write_about_themselves() {
    let cluster = Cluster::start().await;
    let nodes = "/api/v1/nodes";
    let node = |name: &str, labels: Value| json!({ "metadata": { "name": name, "labels": labels } });
    let create = async |body: Value| as_node(&cluster, "POST", nodes, &body).await;
    assert_eq!(
        create(node("n1", json!({ "kubernetes.io/os": "linux" }))).await.code,
        201
    );
    cluster.post(nodes, &node("n2", json!({}))).await.ok();
    let lease = |name: &str| json!({ "metadata": { "name": name }, "spec": { "holderIdentity": name } });
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    assert_eq!(as_node(&cluster, "POST", leases, &lease("n1")).await.code, 201);
    bound_pod(&cluster, "a", "n1", "s").await;
    bound_pod(&cluster, "b", "n2", "s").await;
    let running = json!({ "status": { "phase": "Running" } });
    let status = async |pod: &str| as_node(&cluster, "PATCH", &format!("{NS}/pods/{pod}/status"), &running).await;
    assert_eq!(status("a").await.code, 200);
    let patch = async |name: &str, change: Value| as_node(&cluster, "PATCH", &format!("{nodes}/{name}"), &change).await;
    let plain = json!({ "metadata": { "name": "p" }, "spec": { "nodeName": "n1", "containers": [{ "name": "c", "image": "x" }] } });
    let refusals = [
        create(node("n3", json!({}))).await.failure(),
        create(node("n1", json!({ "node-restriction.kubernetes.io/a": "1" })))
            .await
            .failure(),
        patch(
            "n1",
            json!({ "metadata": { "labels": { "node-role.kubernetes.io/master": "" } } }),
        )
        .await
        .failure(),
        patch(
            "n1",
            json!({ "spec": { "taints": [{ "key": "a", "effect": "NoSchedule" }] } }),
        )
        .await
        .failure(),
        patch("n2", json!({ "metadata": { "labels": { "a": "b" } } }))
            .await
            .failure(),
        as_node(&cluster, "POST", leases, &lease("n2")).await.failure(),
        status("b").await.failure(),
        as_node(&cluster, "DELETE", &format!("{NS}/pods/b"), &Value::Null)
            .await
            .failure(),
        as_node(&cluster, "POST", &format!("{NS}/pods"), &plain).await.failure(),
    ];
    expect![[r#"
        403 Forbidden: nodes "n3" is forbidden: node "n1" is not allowed to modify node "n3"
        403 Forbidden: nodes "n1" is forbidden: node "n1" is not allowed to set the following labels: node-restriction.kubernetes.io/a
        403 Forbidden: nodes "n1" is forbidden: node "n1" is not allowed to modify labels: node-role.kubernetes.io/master
        403 Forbidden: nodes "n1" is forbidden: node "n1" is not allowed to modify taints
        403 Forbidden: nodes "n2" is forbidden: node "n1" is not allowed to modify node "n2"
        403 Forbidden: leases.coordination.k8s.io "n2" is forbidden: can only access node lease with the same name as the requesting node
        403 Forbidden: pods "b" is forbidden: node "n1" can only update pod status for pods with spec.nodeName set to itself
        403 Forbidden: pods "b" is forbidden: node "n1" can only delete pods with spec.nodeName set to itself
        403 Forbidden: pods "p" is forbidden: pod does not have "kubernetes.io/config.mirror" annotation, node "n1" can only create mirror pods"#]]
    .assert_eq(&refusals.join("\n"));
}

#[tokio::test]
async fn nodes_have_tokens_for_their_pods_only() {
    let cluster = Cluster::start().await;
    let mine = bound_pod(&cluster, "a", "n1", "s").await;
    let other = bound_pod(&cluster, "b", "n2", "s").await;
    let ask = async |pod: &Value, uid: bool, audiences: Value| {
        let mut reference = json!({ "apiVersion": "v1", "kind": "Pod", "name": pod["metadata"]["name"] });
        if uid {
            reference["uid"] = pod["metadata"]["uid"].clone();
        }
        let spec = json!({ "boundObjectRef": reference, "audiences": audiences, "expirationSeconds": 3607 });
        as_node(
            &cluster,
            "POST",
            &format!("{NS}/serviceaccounts/default/token"),
            &json!({ "spec": spec }),
        )
        .await
    };
    let token = ask(&mine, true, json!([])).await.ok();
    let review = json!({ "spec": { "token": token["status"]["token"] } });
    let review = cluster
        .post("/apis/authentication.k8s.io/v1/tokenreviews", &review)
        .await
        .ok();
    let extra = &review["status"]["user"]["extra"];
    assert_eq!(extra["authentication.kubernetes.io/pod-name"], json!(["a"]));
    assert_eq!(extra["authentication.kubernetes.io/node-name"], json!(["n1"]));
    let refusals = [
        ask(&other, true, json!([])).await.failure(),
        ask(&mine, false, json!([])).await.failure(),
        ask(&mine, true, json!(["vault"])).await.failure(),
    ];
    expect![[r#"
        403 Forbidden: serviceaccounts "default" is forbidden: node requested token bound to a pod scheduled on a different node
        403 Forbidden: serviceaccounts "default" is forbidden: node requested token with a pod binding without a uid
        403 Forbidden: serviceaccounts "default" is forbidden: audience "vault" not found in pod spec volume"#]]
    .assert_eq(&refusals.join("\n"));
}

#[tokio::test]
async fn pods_act_as_an_account_that_exists() {
    let cluster = Cluster::start().await;
    let pods = format!("{NS}/pods");
    let pod = |name: &str, spec: Value| {
        let mut object =
            json!({ "metadata": { "name": name }, "spec": { "containers": [{ "name": "c", "image": "x" }] } });
        for (key, value) in spec.as_object().unwrap() {
            object["spec"][key] = value.clone();
        }
        object
    };
    let plain = cluster.post(&pods, &pod("plain", json!({}))).await.ok();
    assert_eq!(plain["spec"]["serviceAccountName"], "default");
    let volume = &plain["spec"]["volumes"][0];
    let name = volume["name"].as_str().unwrap();
    assert!(name.starts_with("kube-api-access-"), "{name}");
    assert_eq!(
        volume["projected"],
        json!({ "defaultMode": 420, "sources": [
            { "serviceAccountToken": { "expirationSeconds": 3607, "path": "token" } },
            { "configMap": { "items": [{ "key": "ca.crt", "path": "ca.crt" }], "name": "kube-root-ca.crt" } },
            { "downwardAPI": { "items": [{ "fieldRef": { "apiVersion": "v1", "fieldPath": "metadata.namespace" }, "path": "namespace" }] } },
        ] })
    );
    assert_eq!(
        plain["spec"]["containers"][0]["volumeMounts"],
        json!([{ "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "name": name, "readOnly": true }])
    );
    let bare = pod("bare", json!({ "automountServiceAccountToken": false }));
    assert!(cluster.post(&pods, &bare).await.ok()["spec"]["volumes"].is_null());
    let stranger = pod("stranger", json!({ "serviceAccountName": "none" }));
    expect![[r#"403 Forbidden: pods "stranger" is forbidden: error looking up service account default/none: serviceaccount "none" not found"#]]
        .assert_eq(&cluster.post(&pods, &stranger).await.failure());
    let account = json!({ "metadata": { "name": "quiet" }, "automountServiceAccountToken": false, "imagePullSecrets": [{ "name": "pull" }] });
    cluster.post(&format!("{NS}/serviceaccounts"), &account).await.ok();
    let quiet = cluster
        .post(&pods, &pod("quiet", json!({ "serviceAccountName": "quiet" })))
        .await
        .ok();
    assert!(quiet["spec"]["volumes"].is_null());
    assert_eq!(quiet["spec"]["imagePullSecrets"], json!([{ "name": "pull" }]));
}
