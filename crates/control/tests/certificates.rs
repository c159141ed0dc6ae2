//! Requests for certificates: who they are from, who may approve them, and who may not.

mod common;

use common::Cluster;
use serde_json::{Value, json};

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

fn request(common_name: &str, organisation: &str) -> String {
    use base64::Engine as _;
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, common_name);
    params
        .distinguished_name
        .push(rcgen::DnType::OrganizationName, organisation);
    let key = rcgen::KeyPair::generate().unwrap();
    let pem = params.serialize_request(&key).unwrap().pem().unwrap();
    base64::engine::general_purpose::STANDARD.encode(pem)
}

fn object(name: &str, request: &str) -> Value {
    json!({
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": name},
        "spec": {
            "request": request,
            "signerName": "kubernetes.io/kube-apiserver-client",
            "usages": ["client auth"],
            "username": "somebody-else",
            "groups": ["system:masters"],
        },
    })
}

async fn as_user(cluster: &Cluster, user: &str, method: &str, path: &str, body: &Value) -> common::Answer {
    let headers = [
        ("content-type", "application/json"),
        ("impersonate-user", user),
        ("impersonate-group", "system:authenticated"),
    ];
    cluster.send(method, path, &headers, body.to_string()).await
}

async fn may_request_and_sign(cluster: &Cluster, user: &str, rules: Value) {
    let group = "/apis/rbac.authorization.k8s.io/v1";
    let role = json!({"metadata": {"name": user}, "rules": rules});
    cluster.post(&format!("{group}/clusterroles"), &role).await.ok();
    let binding = json!({
        "metadata": {"name": user},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": user},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    });
    cluster
        .post(&format!("{group}/clusterrolebindings"), &binding)
        .await
        .ok();
}

#[tokio::test]
async fn a_request_is_from_whoever_sent_it() {
    let cluster = Cluster::start().await;
    let resource = |plural: &str, verbs: Value| json!({"apiGroups": ["certificates.k8s.io"], "resources": [plural], "verbs": verbs});
    let create = resource("certificatesigningrequests", json!(["create", "get"]));
    let approve = resource("certificatesigningrequests/approval", json!(["update"]));
    let mut signer = resource("signers", json!(["approve"]));
    signer["resourceNames"] = json!(["kubernetes.io/kube-apiserver-client"]);
    may_request_and_sign(&cluster, "ann", json!([create])).await;
    may_request_and_sign(&cluster, "bob", json!([create, approve])).await;
    may_request_and_sign(&cluster, "eve", json!([create, approve, signer])).await;

    let made = as_user(
        &cluster,
        "ann",
        "POST",
        REQUESTS,
        &object("one", &request("ann", "team")),
    )
    .await
    .ok();
    assert_eq!(made["spec"]["username"], "ann");
    assert_eq!(made["spec"]["groups"], json!(["system:authenticated"]));

    // No certificate may make its holder this server's master.
    let masters = as_user(
        &cluster,
        "ann",
        "POST",
        REQUESTS,
        &object("two", &request("ann", "system:masters")),
    )
    .await;
    assert_eq!(masters.code, 403, "{}", masters.text);

    let mut approved = made.clone();
    approved["status"] =
        json!({"conditions": [{"type": "Approved", "status": "True", "reason": "Test", "message": ""}]});
    let path = format!("{REQUESTS}/one/approval");
    let without_signer = as_user(&cluster, "bob", "PUT", &path, &approved).await;
    assert_eq!(without_signer.code, 403);
    assert!(
        without_signer
            .failure()
            .contains("not permitted to approve requests with signerName"),
        "{}",
        without_signer.text
    );
    let done = as_user(&cluster, "eve", "PUT", &path, &approved).await.ok();
    assert_eq!(done["status"]["conditions"][0]["type"], "Approved");
}
