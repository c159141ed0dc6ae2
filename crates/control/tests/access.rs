//! Who gets in, as whom, and what they may: through the real server.

mod common;

use base64::Engine as _;
use common::{Answer, Cluster};
use expect_test::expect;
use serde_json::{Value, json};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const JSON: (&str, &str) = ("content-type", "application/json");

/// Sends as somebody else.
async fn send_as(cluster: &Cluster, user: &str, groups: &[&str], method: &str, path: &str, body: &Value) -> Answer {
    let mut headers = vec![JSON, ("impersonate-user", user)];
    headers.extend(groups.iter().map(|group| ("impersonate-group", *group)));
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    cluster.send(method, path, &headers, body).await
}

async fn get_as(cluster: &Cluster, user: &str, path: &str) -> Answer {
    send_as(cluster, user, &[], "GET", path, &Value::Null).await
}

/// Sends over the socket, with a token or without.
async fn over_tls(cluster: &Cluster, token: Option<&str>, path: &str) -> Answer {
    let ca = rustls_pki_types::pem::PemObject::from_pem_slice(cluster.control.ca_pem.as_bytes()).unwrap();
    let ca: rustls_pki_types::CertificateDer<'_> = ca;
    let mut config = kube::Config::new(format!("https://{}", cluster.control.addr).parse().unwrap());
    config.root_cert = Some(vec![ca.to_vec()]);
    config.auth_info.token = token.map(|token| token.to_owned().into());
    let client = kube::Client::try_from(config).unwrap();
    let request = http::Request::get(path).body(kube::client::Body::empty()).unwrap();
    let response = client.send(request).await.unwrap();
    let code = response.status().as_u16();
    let bytes = http_body_util::BodyExt::collect(response.into_body())
        .await
        .unwrap()
        .to_bytes();
    Answer {
        code,
        warnings: Vec::new(),
        text: String::from_utf8(bytes.to_vec()).unwrap(),
    }
}

fn role(name: &str, rules: &Value) -> Value {
    json!({ "metadata": { "name": name }, "rules": rules })
}

fn binding(name: &str, kind: &str, role: &str, user: &str) -> Value {
    json!({
        "metadata": { "name": name },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user }],
    })
}

#[tokio::test]
async fn strangers_may_ask_how_the_server_is_and_nothing_else() {
    let cluster = Cluster::start().await;
    assert_eq!(over_tls(&cluster, None, "/readyz").await.code, 200);
    assert_eq!(over_tls(&cluster, None, "/version").await.code, 200);
    let answers = [
        over_tls(&cluster, None, "/api/v1/namespaces/default/pods")
            .await
            .failure(),
        over_tls(&cluster, None, "/api/v1/nodes/n1").await.failure(),
        over_tls(&cluster, None, "/metrics").await.failure(),
        over_tls(&cluster, Some("nonsense"), "/readyz").await.failure(),
        over_tls(&cluster, Some("a.b.c"), "/version").await.failure(),
        get_as(&cluster, "bob", "/apis/apps/v1/namespaces/a/deployments/x/status")
            .await
            .failure(),
        get_as(&cluster, "bob", "/api/v1/namespaces/a").await.failure(),
        get_as(&cluster, "<bob>", "/api/v1/pods?watch=true").await.failure(),
    ];
    expect![[r#"
        403 Forbidden: pods is forbidden: User "system:anonymous" cannot list resource "pods" in API group "" in the namespace "default"
        403 Forbidden: nodes "n1" is forbidden: User "system:anonymous" cannot get resource "nodes" in API group "" at the cluster scope
        403 Forbidden: forbidden: User "system:anonymous" cannot get path "/metrics"
        401 Unauthorized: Unauthorized
        401 Unauthorized: Unauthorized
        403 Forbidden: deployments.apps "x" is forbidden: User "bob" cannot get resource "deployments/status" in API group "apps" in the namespace "a"
        403 Forbidden: namespaces "a" is forbidden: User "bob" cannot get resource "namespaces" in API group "" in the namespace "a"
        403 Forbidden: pods is forbidden: User "&lt;bob&gt;" cannot watch resource "pods" in API group "" at the cluster scope"#]]
    .assert_eq(&answers.join("\n"));
}

#[tokio::test]
async fn roles_are_given_by_bindings() {
    let cluster = Cluster::start().await;
    let pods = "/api/v1/namespaces/default/pods";
    assert_eq!(get_as(&cluster, "jane", pods).await.code, 403);
    let role = role(
        "reader",
        &json!([{ "apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"] }]),
    );
    cluster
        .post(&format!("{RBAC}/namespaces/default/roles"), &role)
        .await
        .ok();
    let bindings = format!("{RBAC}/namespaces/default/rolebindings");
    cluster
        .post(&bindings, &binding("b", "Role", "reader", "jane"))
        .await
        .ok();
    assert_eq!(get_as(&cluster, "jane", pods).await.code, 200, "at once");
    assert_eq!(get_as(&cluster, "jane", "/api/v1/pods").await.code, 403);
    assert_eq!(
        get_as(&cluster, "jane", "/api/v1/namespaces/default/secrets")
            .await
            .code,
        403
    );
    cluster.delete(&format!("{bindings}/b"), &Value::Null).await.ok();
    assert_eq!(get_as(&cluster, "jane", pods).await.code, 403);

    // A binding may come before its role, and says so.
    cluster
        .post(&bindings, &binding("c", "Role", "later", "jane"))
        .await
        .ok();
    expect![[r#"403 Forbidden: pods is forbidden: User "jane" cannot list resource "pods" in API group "" in the namespace "default": RBAC: [role.rbac.authorization.k8s.io "later" not found]"#]]
        .assert_eq(&get_as(&cluster, "jane", pods).await.failure());
    let rules = json!([{ "apiGroups": [""], "resources": ["pods"], "resourceNames": ["one"], "verbs": ["*"] }]);
    let later = json!({ "metadata": { "name": "later" }, "rules": rules });
    cluster
        .post(&format!("{RBAC}/namespaces/default/roles"), &later)
        .await
        .ok();
    assert_eq!(get_as(&cluster, "jane", pods).await.code, 403);
    assert_eq!(get_as(&cluster, "jane", &format!("{pods}/one")).await.code, 404);
    let only = format!("{pods}?fieldSelector=metadata.name%3Done");
    assert_eq!(get_as(&cluster, "jane", &only).await.code, 200);
}

#[tokio::test]
async fn default_roles_are_there_and_mended() {
    let cluster = Cluster::start_in(tempfile::tempdir().unwrap(), None).await;
    let roles = cluster.get(&format!("{RBAC}/clusterroles")).await.ok();
    let names: Vec<&str> = roles["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|role| role["metadata"]["name"].as_str().unwrap())
        .collect();
    for name in [
        "admin",
        "cluster-admin",
        "system:node",
        "system:controller:job-controller",
        "system:monitoring",
    ] {
        assert!(names.contains(&name), "{name}");
    }
    let admin = cluster.get(&format!("{RBAC}/clusterroles/admin")).await.ok();
    assert!(admin["rules"].as_array().unwrap().len() > 20, "aggregated");
    assert_eq!(
        admin["metadata"]["annotations"]["rbac.authorization.kubernetes.io/autoupdate"],
        "true"
    );
    assert_eq!(
        cluster.get(&format!("{RBAC}/rolebindings")).await.ok()["items"]
            .as_array()
            .unwrap()
            .len(),
        7
    );

    let path = format!("{RBAC}/clusterrolebindings/system:discovery");
    cluster.patch(&path, "merge", &json!({ "subjects": null })).await.ok();
    let kept = format!("{RBAC}/clusterrolebindings/system:basic-user");
    let change = json!({ "subjects": null, "metadata": { "annotations": { "rbac.authorization.kubernetes.io/autoupdate": "false" } } });
    cluster.patch(&kept, "merge", &change).await.ok();
    let dir = cluster.stop().await;
    let cluster = Cluster::start_in(dir, None).await;
    assert_eq!(
        cluster.get(&path).await.ok()["subjects"][0]["name"],
        "system:authenticated"
    );
    assert!(cluster.get(&kept).await.ok()["subjects"].is_null());
}

#[tokio::test]
async fn nobody_gives_what_they_do_not_have() {
    let cluster = Cluster::start().await;
    let rules = json!([{ "apiGroups": [rbac_group()], "resources": ["roles", "rolebindings"], "verbs": ["create"] },
        { "apiGroups": [""], "resources": ["pods"], "verbs": ["get"] }]);
    cluster
        .post(&format!("{RBAC}/clusterroles"), &role("granter", &rules))
        .await
        .ok();
    cluster
        .post(
            &format!("{RBAC}/clusterrolebindings"),
            &binding("g", "ClusterRole", "granter", "eve"),
        )
        .await
        .ok();
    let roles = format!("{RBAC}/namespaces/default/roles");
    let own = role(
        "own",
        &json!([{ "apiGroups": [""], "resources": ["pods"], "verbs": ["get"] }]),
    );
    let more = role(
        "more",
        &json!([{ "apiGroups": [""], "resources": ["pods", "secrets"], "verbs": ["get", "list"] }]),
    );
    let bindings = format!("{RBAC}/namespaces/default/rolebindings");
    let post = async |path: &str, body: &Value| send_as(&cluster, "eve", &[], "POST", path, body).await;
    assert_eq!(post(&roles, &own).await.code, 201);
    let refusals = [
        post(&roles, &more).await.failure(),
        post(&bindings, &binding("b", "ClusterRole", "cluster-admin", "eve"))
            .await
            .failure(),
        post(&bindings, &binding("b", "ClusterRole", "none", "eve"))
            .await
            .failure(),
    ];
    expect![[r#"
        403 Forbidden: roles.rbac.authorization.k8s.io "more" is forbidden: user "eve" (groups=["system:authenticated"]) is attempting to grant RBAC permissions not currently held:
        {APIGroups:[""], Resources:["pods"], Verbs:["list"]}
        {APIGroups:[""], Resources:["secrets"], Verbs:["get" "list"]}
        403 Forbidden: rolebindings.rbac.authorization.k8s.io "b" is forbidden: user "eve" (groups=["system:authenticated"]) is attempting to grant RBAC permissions not currently held:
        {APIGroups:["*"], Resources:["*"], Verbs:["*"]}
        {NonResourceURLs:["*"], Verbs:["*"]}
        404 NotFound: clusterroles.rbac.authorization.k8s.io "none" not found"#]]
    .assert_eq(&refusals.join("\n"));
}

fn rbac_group() -> &'static str {
    "rbac.authorization.k8s.io"
}

#[tokio::test]
async fn reviews_answer_for_others() {
    let cluster = Cluster::start().await;
    let review = async |plural: &str, spec: Value| {
        let path = format!("/apis/authorization.k8s.io/v1/{plural}");
        cluster.post(&path, &json!({ "spec": spec })).await.ok()["status"].clone()
    };
    let node = json!({ "user": "system:node:n1", "groups": ["system:nodes"],
        "resourceAttributes": { "verb": "list", "resource": "pods", "fieldSelector": { "requirements": [
            { "key": "spec.nodeName", "operator": "In", "values": ["n1"] }] } } });
    let others = json!({ "user": "system:node:n1", "groups": ["system:nodes"],
        "resourceAttributes": { "verb": "list", "resource": "pods" } });
    let discovery = json!({ "user": "x", "groups": ["system:authenticated"],
        "nonResourceAttributes": { "verb": "get", "path": "/apis/apps" } });
    let scheduler = json!({ "user": "system:kube-scheduler",
        "resourceAttributes": { "verb": "create", "resource": "pods", "subresource": "binding", "namespace": "a" } });
    let answers = [
        review("subjectaccessreviews", node).await.to_string(),
        review("subjectaccessreviews", others).await.to_string(),
        review("subjectaccessreviews", discovery).await.to_string(),
        review("subjectaccessreviews", scheduler).await.to_string(),
    ];
    expect![[r#"
        {"allowed":true}
        {"allowed":false,"reason":"can only list/watch pods with spec.nodeName field selector"}
        {"allowed":true,"reason":"RBAC: allowed by ClusterRoleBinding \"system:discovery\" of ClusterRole \"system:discovery\" to Group \"system:authenticated\""}
        {"allowed":true,"reason":"RBAC: allowed by ClusterRoleBinding \"system:kube-scheduler\" of ClusterRole \"system:kube-scheduler\" to User \"system:kube-scheduler\""}"#]]
    .assert_eq(&answers.join("\n"));
}

#[tokio::test]
async fn impersonation_needs_the_right_to_every_part() {
    let cluster = Cluster::start().await;
    let rules = json!([
        { "apiGroups": [""], "resources": ["users"], "resourceNames": ["bob"], "verbs": ["impersonate"] },
        { "apiGroups": [""], "resources": ["groups"], "resourceNames": ["devs"], "verbs": ["impersonate"] },
        { "apiGroups": ["authentication.k8s.io"], "resources": ["userextras/scopes"], "verbs": ["impersonate"] },
    ]);
    cluster
        .post(&format!("{RBAC}/clusterroles"), &role("actor", &rules))
        .await
        .ok();
    cluster
        .post(
            &format!("{RBAC}/clusterrolebindings"),
            &binding("a", "ClusterRole", "actor", "jane"),
        )
        .await
        .ok();
    let jane = cluster.control.client("jane", &[]);
    let whoami = async |headers: &[(&str, &str)]| {
        let mut request =
            http::Request::post("/apis/authentication.k8s.io/v1/selfsubjectreviews").header(JSON.0, JSON.1);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = jane
            .send(request.body(kube::client::Body::from(b"{}".to_vec())).unwrap())
            .await
            .unwrap();
        let bytes = http_body_util::BodyExt::collect(response.into_body())
            .await
            .unwrap()
            .to_bytes();
        let value: Value = serde_json::from_slice(&bytes).unwrap();
        match value["status"].get("userInfo") {
            Some(info) => info.to_string(),
            None => value["message"].as_str().unwrap().to_owned(),
        }
    };
    let bob = ("impersonate-user", "bob");
    let answers = [
        whoami(&[]).await,
        whoami(&[bob, ("impersonate-group", "devs"), ("impersonate-extra-scopes", "view")]).await,
        whoami(&[("impersonate-user", "eve")]).await,
        whoami(&[bob, ("impersonate-group", "system:masters")]).await,
        whoami(&[bob, ("impersonate-extra-other", "x")]).await,
        whoami(&[bob, ("impersonate-uid", "1")]).await,
        whoami(&[("impersonate-user", "system:serviceaccount:ns:sa")]).await,
    ];
    expect![[r#"
        {"groups":["system:authenticated"],"username":"jane"}
        {"extra":{"scopes":["view"]},"groups":["devs","system:authenticated"],"username":"bob"}
        users "eve" is forbidden: User "jane" cannot impersonate resource "users" in API group "" at the cluster scope
        groups "system:masters" is forbidden: User "jane" cannot impersonate resource "groups" in API group "" at the cluster scope
        userextras.authentication.k8s.io "x" is forbidden: User "jane" cannot impersonate resource "userextras/other" in API group "authentication.k8s.io" at the cluster scope
        uids.authentication.k8s.io "1" is forbidden: User "jane" cannot impersonate resource "uids" in API group "authentication.k8s.io" at the cluster scope
        serviceaccounts "sa" is forbidden: User "jane" cannot impersonate resource "serviceaccounts" in API group "" in the namespace "ns""#]]
    .assert_eq(&answers.join("\n"));
}

async fn account(cluster: &Cluster, name: &str) -> Value {
    let path = "/api/v1/namespaces/default/serviceaccounts";
    cluster.post(path, &json!({ "metadata": { "name": name } })).await.ok()
}

fn token_path(name: &str) -> String {
    format!("/api/v1/namespaces/default/serviceaccounts/{name}/token")
}

fn claims(token: &str) -> Value {
    let part = token.split('.').nth(1).unwrap();
    let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    serde_json::from_slice(&engine.decode(part).unwrap()).unwrap()
}

#[tokio::test]
async fn tokens_live_and_die_with_what_they_are_bound_to() {
    let cluster = Cluster::start().await;
    let sa = account(&cluster, "app").await;
    let asked = cluster
        .post(&token_path("app"), &json!({ "spec": { "expirationSeconds": 1200 } }))
        .await;
    assert_eq!(asked.code, 201, "{}", asked.text);
    let asked = asked.json();
    assert_eq!(asked["kind"], "TokenRequest");
    assert_eq!(
        asked["spec"]["audiences"],
        json!(["https://kubernetes.default.svc.cluster.local"])
    );
    let token = asked["status"]["token"].as_str().unwrap();
    let said = claims(token);
    assert_eq!(said["sub"], "system:serviceaccount:default:app");
    assert_eq!(said["kubernetes.io"]["serviceaccount"]["uid"], sa["metadata"]["uid"]);
    assert_eq!(said["exp"].as_i64().unwrap() - said["iat"].as_i64().unwrap(), 1200);

    assert_eq!(over_tls(&cluster, Some(token), "/apis").await.code, 200);
    let denied = over_tls(&cluster, Some(token), "/api/v1/namespaces/default/pods")
        .await
        .failure();
    assert!(
        denied.contains("User \"system:serviceaccount:default:app\" cannot list"),
        "{denied}"
    );
    let review = async |spec: Value| {
        let path = "/apis/authentication.k8s.io/v1/tokenreviews";
        cluster.post(path, &json!({ "spec": spec })).await.ok()["status"].clone()
    };
    let known = review(json!({ "token": token })).await;
    assert_eq!(known["authenticated"], true);
    assert_eq!(known["user"]["uid"], sa["metadata"]["uid"]);
    assert_eq!(
        known["user"]["extra"]["authentication.kubernetes.io/credential-id"][0],
        format!("JTI={}", said["jti"].as_str().unwrap())
    );
    assert!(review(json!({ "token": token, "audiences": ["other"] })).await["authenticated"].is_null());

    // For somebody else's ears only.
    let vault = cluster
        .post(&token_path("app"), &json!({ "spec": { "audiences": ["vault"] } }))
        .await
        .ok();
    let vault = vault["status"]["token"].as_str().unwrap().to_owned();
    assert_eq!(over_tls(&cluster, Some(&vault), "/apis").await.code, 401);
    assert_eq!(
        review(json!({ "token": vault, "audiences": ["vault"] })).await["audiences"],
        json!(["vault"])
    );

    // Bound to a Secret.
    let secret = json!({ "metadata": { "name": "s" } });
    cluster.post("/api/v1/namespaces/default/secrets", &secret).await.ok();
    let reference = json!({ "apiVersion": "v1", "kind": "Secret", "name": "s" });
    let bound = cluster
        .post(&token_path("app"), &json!({ "spec": { "boundObjectRef": reference } }))
        .await
        .ok();
    let bound = bound["status"]["token"].as_str().unwrap().to_owned();
    assert_eq!(over_tls(&cluster, Some(&bound), "/apis").await.code, 200);
    cluster
        .delete("/api/v1/namespaces/default/secrets/s", &Value::Null)
        .await
        .ok();
    assert_eq!(over_tls(&cluster, Some(&bound), "/apis").await.code, 401);
    cluster.post("/api/v1/namespaces/default/secrets", &secret).await.ok();
    assert_eq!(
        over_tls(&cluster, Some(&bound), "/apis").await.code,
        401,
        "another of the same name"
    );

    cluster
        .delete("/api/v1/namespaces/default/serviceaccounts/app", &Value::Null)
        .await
        .ok();
    assert_eq!(over_tls(&cluster, Some(token), "/apis").await.code, 401);
    account(&cluster, "app").await;
    assert_eq!(over_tls(&cluster, Some(token), "/apis").await.code, 401);
}

#[tokio::test]
async fn token_requests_are_checked() {
    let cluster = Cluster::start().await;
    account(&cluster, "app").await;
    let ask = async |spec: Value| {
        cluster
            .post(&token_path("app"), &json!({ "spec": spec }))
            .await
            .failure()
    };
    let bound = |kind: &str, name: &str, uid: &str| json!({ "boundObjectRef": { "apiVersion": "v1", "kind": kind, "name": name, "uid": uid } });
    cluster
        .post(
            "/api/v1/namespaces/default/secrets",
            &json!({ "metadata": { "name": "s" } }),
        )
        .await
        .ok();
    let answers = [
        ask(json!({ "expirationSeconds": 10 })).await,
        ask(json!({ "expirationSeconds": 1_i64 << 33 })).await,
        ask(bound("Pod", "none", "")).await,
        ask(bound("Deployment", "none", "")).await,
        ask(bound("Secret", "s", "wrong")).await,
        cluster.post(&token_path("none"), &json!({})).await.failure(),
    ];
    expect![[r#"
        422 Invalid: TokenRequest.authentication.k8s.io "" is invalid: spec.expirationSeconds: Invalid value: 10: may not specify a duration less than 10 minutes
        422 Invalid: TokenRequest.authentication.k8s.io "" is invalid: spec.expirationSeconds: Invalid value: 8589934592: may not specify a duration larger than 2^32 seconds
        404 NotFound: pods "none" not found
        400 BadRequest: cannot bind token to object of type v1, Kind=Deployment
        409 Conflict: Operation cannot be fulfilled on secrets "s": the UID in the bound object reference (wrong) does not match the UID in record. The object might have been deleted and then recreated
        404 NotFound: serviceaccounts "none" not found"#]]
    .assert_eq(&answers.join("\n"));
}

#[tokio::test]
async fn bootstrap_tokens_are_secrets() {
    let cluster = Cluster::start().await;
    let secret = json!({ "metadata": { "name": "bootstrap-token-abcdef" }, "type": "bootstrap.kubernetes.io/token", "stringData": {
        "token-id": "abcdef", "token-secret": "0123456789abcdef", "usage-bootstrap-authentication": "true",
        "auth-extra-groups": "system:bootstrappers:workers" } });
    cluster
        .post("/api/v1/namespaces/kube-system/secrets", &secret)
        .await
        .ok();
    assert_eq!(
        over_tls(&cluster, Some("abcdef.0123456789abcdef"), "/apis").await.code,
        200
    );
    assert_eq!(
        over_tls(&cluster, Some("abcdef.0123456789abcdeg"), "/apis").await.code,
        401
    );
    cluster
        .delete(
            "/api/v1/namespaces/kube-system/secrets/bootstrap-token-abcdef",
            &Value::Null,
        )
        .await
        .ok();
    assert_eq!(
        over_tls(&cluster, Some("abcdef.0123456789abcdef"), "/apis").await.code,
        401
    );
}

#[tokio::test]
async fn others_find_the_key_of_tokens() {
    let cluster = Cluster::start().await;
    let document = cluster.get("/.well-known/openid-configuration").await.ok();
    assert_eq!(document["issuer"], "https://kubernetes.default.svc.cluster.local");
    assert_eq!(
        document["jwks_uri"],
        format!("https://{}/openid/v1/jwks", cluster.control.addr)
    );
    let keys = cluster.get("/openid/v1/jwks").await.ok();
    assert_eq!(keys["keys"][0]["alg"], "ES256");
    assert_eq!(over_tls(&cluster, None, "/openid/v1/jwks").await.code, 403);
}

#[tokio::test]
async fn secrets_carry_tokens_as_long_as_their_account_lives() {
    let cluster = Cluster::start().await;
    let sa = account(&cluster, "old").await;
    let path = "/api/v1/namespaces/default/secrets";
    let mut events = cluster
        .watch(&format!("{path}?watch=true&fieldSelector=metadata.name%3Dold-token"))
        .await;
    let secret = json!({ "metadata": { "name": "old-token", "annotations": { "kubernetes.io/service-account.name": "old" } },
        "type": "kubernetes.io/service-account-token" });
    cluster.post(path, &secret).await.ok();
    let filled = loop {
        let event = events.next().await.unwrap();
        if event["object"]["data"]["token"].is_string() {
            break event["object"].clone();
        }
    };
    assert_eq!(
        filled["metadata"]["annotations"]["kubernetes.io/service-account.uid"],
        sa["metadata"]["uid"]
    );
    let decode = |key: &str| {
        let bytes = base64::engine::general_purpose::STANDARD.decode(filled["data"][key].as_str().unwrap());
        String::from_utf8(bytes.unwrap()).unwrap()
    };
    assert_eq!(
        (decode("namespace").as_str(), decode("ca.crt")),
        ("default", cluster.control.ca_pem.clone())
    );
    let token = decode("token");
    assert_eq!(over_tls(&cluster, Some(&token), "/apis").await.code, 200);
    cluster
        .delete("/api/v1/namespaces/default/serviceaccounts/old", &Value::Null)
        .await
        .ok();
    while events.next().await.unwrap()["type"] != "DELETED" {}
    assert_eq!(over_tls(&cluster, Some(&token), "/apis").await.code, 401);
}

#[tokio::test]
async fn tokens_may_come_from_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tokens.csv");
    std::fs::write(&file, "s3cret,jane,42,\"devs,system:masters\"\n").unwrap();
    let cluster = Cluster::start_with(dir, Some("mem:"), |config| config.token_auth_file = Some(file)).await;
    assert_eq!(over_tls(&cluster, Some("s3cret"), "/api/v1/pods").await.code, 200);
    assert_eq!(over_tls(&cluster, Some("secret"), "/api/v1/pods").await.code, 401);
    let review = json!({ "spec": { "token": "s3cret" } });
    let review = cluster
        .post("/apis/authentication.k8s.io/v1/tokenreviews", &review)
        .await
        .ok();
    let user = json!({ "username": "jane", "uid": "42", "groups": ["devs", "system:masters", "system:authenticated"] });
    assert_eq!(review["status"]["user"], user);
}

#[tokio::test]
async fn front_proxies_speak_for_others_and_nobody_else_does() {
    let cluster = Cluster::start().await;
    let pki = cluster.dir.path().join("data/pki");
    let whoami = async |pair: &str| {
        let read = |extension: &str| std::fs::read_to_string(pki.join(format!("{pair}.{extension}"))).unwrap();
        let (cert, key) = (read("crt"), read("key"));
        let encode = |text: String| base64::engine::general_purpose::STANDARD.encode(text);
        let ca: rustls_pki_types::CertificateDer<'_> =
            rustls_pki_types::pem::PemObject::from_pem_slice(cluster.control.ca_pem.as_bytes()).unwrap();
        let mut config = kube::Config::new(format!("https://{}", cluster.control.addr).parse().unwrap());
        config.root_cert = Some(vec![ca.to_vec()]);
        config.auth_info.client_certificate_data = Some(encode(cert));
        config.auth_info.client_key_data = Some(encode(key).into());
        let client = kube::Client::try_from(config).unwrap();
        let request = http::Request::post("/apis/authentication.k8s.io/v1/selfsubjectreviews")
            .header(JSON.0, JSON.1)
            .header("x-remote-user", "jane")
            .header("x-remote-group", "devs")
            .header("x-remote-extra-scopes", "view")
            .body(kube::client::Body::from(b"{}".to_vec()))
            .unwrap();
        let response = client.send(request).await.unwrap();
        let bytes = http_body_util::BodyExt::collect(response.into_body())
            .await
            .unwrap()
            .to_bytes();
        serde_json::from_slice::<Value>(&bytes).unwrap()["status"]["userInfo"].clone()
    };
    let jane =
        json!({ "username": "jane", "groups": ["devs", "system:authenticated"], "extra": { "scopes": ["view"] } });
    assert_eq!(whoami("front-proxy-client").await, jane);
    let admin = whoami("admin").await;
    assert_eq!(admin["username"], "system:admin");
    let id = admin["extra"]["authentication.kubernetes.io/credential-id"][0]
        .as_str()
        .unwrap();
    assert!(id.starts_with("X509SHA256=") && id.len() == 75, "{id}");
}
