//! Requests for certificates: who they are from, who may approve them, and who may not.

mod common;

use common::Cluster;
use serde_json::{Value, json};

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

fn request(common_name: &str, organisation: &str) -> String {
    request_and_key(common_name, organisation).0
}

fn encoded(text: impl AsRef<[u8]>) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// A request, as objects have it, and the key it is for, PEM.
fn request_and_key(common_name: &str, organisation: &str) -> (String, String) {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, common_name);
    params
        .distinguished_name
        .push(rcgen::DnType::OrganizationName, organisation);
    let key = rcgen::KeyPair::generate().unwrap();
    let pem = params.serialize_request(&key).unwrap().pem().unwrap();
    (encoded(pem), key.serialize_pem())
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

/// Readers differ in what they take for the request in such a text, and for the group in such a subject.
#[tokio::test]
async fn a_request_that_can_be_read_in_two_ways_is_refused() {
    use base64::Engine as _;
    let cluster = Cluster::start().await;
    let pem = |request: String| {
        let pem = base64::engine::general_purpose::STANDARD.decode(request).unwrap();
        String::from_utf8(pem).unwrap()
    };
    let (good, evil) = (pem(request("ann", "team")), pem(request("ann", "system:masters")));
    let hidden = format!("x\r{}\r\n{good}", evil.trim_end().replace('\n', "\r"));
    let answer = cluster.post(REQUESTS, &object("hidden", &encoded(hidden))).await;
    assert_eq!(answer.code, 422, "{}", answer.text);

    let wide = rcgen::DnValue::BmpString("system:masters".try_into().unwrap());
    let foreign = rcgen::DnValue::UniversalString("system:masters".try_into().unwrap());
    for (name, group) in [("wide", wide), ("foreign", foreign)] {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::OrganizationName, group);
        let key = rcgen::KeyPair::generate().unwrap();
        let request = params.serialize_request(&key).unwrap().pem().unwrap();
        let answer = cluster.post(REQUESTS, &object(name, &encoded(request))).await;
        assert_eq!(answer.code, 403, "{name}: {}", answer.text);
    }
}

/// Somebody whom only a certificate knows.
async fn with_certificate(cluster: &Cluster, certificate: &str, key: &str) -> kube::Client {
    let mut config = kube::config::Kubeconfig::read_from(&cluster.control.kubeconfig).unwrap();
    let mut user = serde_json::to_value(&config.auth_infos[0]).unwrap();
    user["user"] = json!({"client-certificate-data": certificate, "client-key-data": encoded(key)});
    config.auth_infos = vec![serde_json::from_value(user).unwrap()];
    let options = kube::config::KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(config, &options).await.unwrap();
    kube::Client::try_from(config).unwrap()
}

#[tokio::test]
async fn an_approved_request_becomes_a_certificate_that_opens_the_api() {
    let cluster = Cluster::start_with_controllers().await;
    let (request, key) = request_and_key("ann", "team");
    let made = cluster.post(REQUESTS, &object("ann", &request)).await.ok();
    let mut approved = made.clone();
    approved["status"] = json!({"conditions": [
        {"type": "Approved", "status": "True", "reason": "KubectlApprove", "message": "by hand"},
    ]});
    let path = format!("{REQUESTS}/ann");
    cluster.put(&format!("{path}/approval"), &approved).await.ok();
    let issued = cluster
        .until(&path, |answer| answer.ok()["status"]["certificate"].is_string())
        .await;
    let issued = issued.ok();
    assert_eq!(issued["status"]["conditions"][0]["reason"], "KubectlApprove");

    let certificate = issued["status"]["certificate"].as_str().unwrap();
    let ann = with_certificate(&cluster, certificate, &key).await;
    let review = http::Request::post("/apis/authentication.k8s.io/v1/selfsubjectreviews")
        .header("content-type", "application/json")
        .body(
            json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"})
                .to_string()
                .into_bytes(),
        )
        .unwrap();
    let answer: Value = ann.request(review).await.unwrap();
    assert_eq!(answer["status"]["userInfo"]["username"], "ann");
    assert_eq!(
        answer["status"]["userInfo"]["groups"],
        json!(["team", "system:authenticated"])
    );
}

#[tokio::test]
async fn a_request_that_does_not_fit_its_signer_fails() {
    let cluster = Cluster::start_with_controllers().await;
    let mut wrong = object("wrong", &request("ann", "team"));
    wrong["spec"]["usages"] = json!(["client auth", "server auth"]);
    let mut approved = cluster.post(REQUESTS, &wrong).await.ok();
    approved["status"] = json!({"conditions": [{"type": "Approved", "status": "True"}]});
    let path = format!("{REQUESTS}/wrong");
    cluster.put(&format!("{path}/approval"), &approved).await.ok();
    let failed = cluster
        .until(&path, |answer| !answer.ok()["status"]["conditions"][1].is_null())
        .await
        .ok();
    let condition = &failed["status"]["conditions"][1];
    assert_eq!(condition["type"], "Failed");
    assert_eq!(condition["reason"], "SignerValidationFailure");
    assert_eq!(
        condition["message"],
        "invalid usage for client certificate: server auth"
    );
    assert!(condition["lastTransitionTime"].is_string());
}

/// A node that has a token asks for its certificate, and gets it without anybody's help.
#[tokio::test]
async fn nodes_are_approved_by_what_they_may() {
    let cluster = Cluster::start_with_controllers().await;
    let group = "/apis/rbac.authorization.k8s.io/v1";
    let binding = json!({
        "metadata": {"name": "nodes-bootstrap"},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
            "name": "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
        },
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:masters"}],
    });
    let mut asked = object("node", &request("system:node:n1", "system:nodes"));
    asked["spec"]["signerName"] = json!("kubernetes.io/kube-apiserver-client-kubelet");
    asked["spec"]["usages"] = json!(["digital signature", "client auth"]);
    cluster
        .post(&format!("{group}/clusterrolebindings"), &binding)
        .await
        .ok();
    cluster.post(REQUESTS, &asked).await.ok();
    let path = format!("{REQUESTS}/node");
    let issued = cluster
        .until(&path, |answer| answer.ok()["status"]["certificate"].is_string())
        .await
        .ok();
    assert_eq!(issued["status"]["conditions"][0]["reason"], "AutoApproved");
    assert!(issued["status"]["conditions"][0]["lastUpdateTime"].is_string());
}

/// Tokens sign what whoever joins has to know, through the roles that Kubernetes gives these controllers.
#[tokio::test]
async fn bootstrap_tokens_sign_and_expire() {
    let cluster = Cluster::start_with_controllers().await;
    let token = |id: &str, expiration: &str| {
        json!({
            "metadata": {"name": format!("bootstrap-token-{id}")},
            "type": "bootstrap.kubernetes.io/token",
            "stringData": {
                "token-id": id, "token-secret": "0123456789abcdef", "expiration": expiration,
                "usage-bootstrap-signing": "true",
            },
        })
    };
    let secrets = "/api/v1/namespaces/kube-system/secrets";
    cluster
        .post(secrets, &token("aaaaaa", "2120-01-01T00:00:00Z"))
        .await
        .ok();
    cluster
        .post(secrets, &token("bbbbbb", "2020-01-01T00:00:00Z"))
        .await
        .ok();
    let maps = "/api/v1/namespaces/kube-public/configmaps";
    let info = json!({"metadata": {"name": "cluster-info"}, "data": {"kubeconfig": "apiVersion: v1"}});
    cluster.post(maps, &info).await.ok();
    cluster.until_gone(&format!("{secrets}/bootstrap-token-bbbbbb")).await;
    let signature = "jws-kubeconfig-aaaaaa";
    let signed = |answer: &common::Answer| answer.ok()["data"][signature].is_string();
    let map = cluster.until(&format!("{maps}/cluster-info"), signed).await.ok();
    let text = map["data"][signature].as_str().unwrap();
    assert!(text.starts_with("eyJhbGciOiJIUzI1NiIsImtpZCI6ImFhYWFhYSJ9.."), "{text}");
    cluster.get(&format!("{secrets}/bootstrap-token-aaaaaa")).await.ok();
}
