//! The paths below an object: scale, eviction, binding, resize, ephemeral containers, approval, proxies.

mod common;

use common::Cluster;
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/default/pods";

fn pod(name: &str) -> Value {
    json!({
        "metadata": { "name": name, "labels": { "app": "web" } },
        "spec": { "containers": [{ "name": "c", "image": "i", "resources": { "requests": { "cpu": "100m" } } }] },
    })
}

/// Makes a pod look as if it ran.
async fn run(cluster: &Cluster, name: &str, ready: bool) {
    let bind = json!({ "metadata": { "name": name }, "target": { "kind": "Node", "name": "n" } });
    cluster.post(&format!("{PODS}/{name}/binding"), &bind).await.ok();
    let ready = if ready { "True" } else { "False" };
    let status = json!({ "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": ready }] } });
    cluster
        .patch(&format!("{PODS}/{name}/status"), "merge", &status)
        .await
        .ok();
}

#[tokio::test]
async fn a_binding_is_refused_as_kubernetes_refuses_it() {
    let cluster = Cluster::start().await;
    cluster.post(PODS, &pod("a")).await.ok();
    let path = format!("{PODS}/a/binding");
    let other = json!({ "metadata": { "name": "b" }, "target": { "name": "n" } });
    assert_eq!(
        cluster.post(&path, &other).await.failure(),
        "400 BadRequest: name in URL does not match name in Binding object"
    );
    let bind = json!({ "metadata": { "name": "a" }, "target": { "name": "n" } });
    let collection = "/api/v1/namespaces/default/bindings";
    let done = cluster.post(collection, &bind).await;
    assert_eq!(done.code, 201);
    assert_eq!(done.json()["status"], "Success");
    assert_eq!(
        cluster.post(&path, &bind).await.failure(),
        "409 Conflict: Operation cannot be fulfilled on pods/binding \"a\": pod a is already assigned to node \"n\""
    );
    let bound = cluster.get(&format!("{PODS}/a")).await.ok();
    assert_eq!(bound["spec"]["nodeName"], "n");
}

#[tokio::test]
async fn containers_join_a_pod_and_stay_as_they_are() {
    let cluster = Cluster::start().await;
    let mut early = pod("early");
    early["spec"]["ephemeralContainers"] = json!([{ "name": "e", "image": "i" }]);
    let failure = cluster.post(PODS, &early).await.failure();
    assert!(
        failure.contains("spec.ephemeralContainers: Forbidden: cannot be set on create"),
        "{failure}"
    );
    cluster.post(PODS, &pod("a")).await.ok();
    let path = format!("{PODS}/a/ephemeralcontainers");
    let debug = json!({
        "metadata": { "labels": { "ignored": "yes" } },
        "spec": { "ephemeralContainers": [{ "name": "debug", "image": "busybox", "targetContainerName": "c" }] },
    });
    let with = cluster.patch(&path, "strategic-merge", &debug).await.ok();
    assert_eq!(with["spec"]["ephemeralContainers"][0]["imagePullPolicy"], "Always");
    assert_eq!(with["metadata"]["labels"], json!({ "app": "web" }));
    let wrong = json!({
        "spec": { "ephemeralContainers": [
            { "name": "debug", "image": "other" },
            { "name": "c", "image": "i", "ports": [{ "containerPort": 1, "protocol": "TCP" }], "targetContainerName": "x" },
        ] },
    });
    let failure = cluster.patch(&path, "strategic-merge", &wrong).await.failure();
    for part in [
        "spec.ephemeralContainers[0].name: Duplicate value: \"c\"",
        "targetContainerName: Not found: \"x\"",
        "ports: Forbidden: cannot be set for an Ephemeral Container",
        "spec.ephemeralContainers: Forbidden: existing ephemeral containers \"debug\" may not be changed",
    ] {
        let part = part.replace("[0]", "");
        let found = failure.replace("[0]", "").replace("[1]", "");
        assert!(found.contains(&part), "{part} in {failure}");
    }
    // The pod as a whole can still be written.
    let label = json!({ "metadata": { "labels": { "more": "yes" } } });
    cluster.patch(&format!("{PODS}/a"), "merge", &label).await.ok();
    assert_eq!(cluster.send("DELETE", &path, &[], "").await.code, 405);
}

#[tokio::test]
async fn a_resize_changes_cpu_and_memory_and_nothing_else() {
    let cluster = Cluster::start().await;
    cluster.post(PODS, &pod("a")).await.ok();
    let path = format!("{PODS}/a/resize");
    let resources = |resources: Value| json!({ "spec": { "containers": [{ "name": "c", "resources": resources }] } });
    let more = resources(json!({ "requests": { "cpu": "200m" } }));
    let resized = cluster.patch(&path, "strategic-merge", &more).await.ok();
    assert_eq!(resized["spec"]["containers"][0]["resources"]["requests"]["cpu"], "200m");
    assert_eq!(resized["metadata"]["generation"], 2);
    let other = resources(json!({ "requests": { "ephemeral-storage": "1Gi" } }));
    let failure = cluster.patch(&path, "strategic-merge", &other).await.failure();
    assert!(
        failure.contains("spec: Forbidden: only cpu and memory resources are mutable"),
        "{failure}"
    );
    let none = resources(json!({ "requests": null }));
    let failure = cluster.patch(&path, "strategic-merge", &none).await.failure();
    assert!(
        failure.contains("spec: Invalid value: \"Burstable\": Pod QOS Class may not change as a result of resizing"),
        "{failure}"
    );
    assert!(
        failure.contains("spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed"),
        "{failure}"
    );
}

#[tokio::test]
async fn an_approval_changes_conditions_only() {
    let cluster = Cluster::start().await;
    let collection = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let params = rcgen_request();
    let request = json!({
        "metadata": { "name": "r" },
        "spec": { "request": params, "signerName": "example.com/signer", "usages": ["client auth"] },
    });
    let created = cluster.post(collection, &request).await.ok();
    let mut approved = created.clone();
    approved["spec"]["signerName"] = json!("example.com/other");
    approved["status"] = json!({
        "certificate": "eA==",
        "conditions": [{ "type": "Approved", "status": "True", "reason": "Because", "message": "ok" }],
    });
    let path = format!("{collection}/r/approval");
    let answer = cluster.put(&path, &approved).await.ok();
    assert_eq!(answer["spec"]["signerName"], "example.com/signer");
    assert_eq!(answer["status"]["certificate"], Value::Null);
    let condition = &answer["status"]["conditions"][0];
    assert!(condition["lastUpdateTime"].is_string() && condition["lastTransitionTime"].is_string());
    let mut without = answer.clone();
    without["status"] = json!({});
    let failure = cluster.put(&path, &without).await.failure();
    assert!(
        failure.contains("updates may not remove a condition of type \"Approved\""),
        "{failure}"
    );
}

/// A PEM request in base64, as it stands in the object.
fn rcgen_request() -> String {
    use base64::Engine as _;
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, "somebody");
    let pem = params.serialize_request(&key).unwrap().pem().unwrap();
    base64::engine::general_purpose::STANDARD.encode(pem)
}

#[tokio::test]
async fn a_scale_stands_for_its_object() {
    let cluster = Cluster::start().await;
    let collection = "/apis/apps/v1/namespaces/default/deployments";
    let deployment = json!({
        "metadata": { "name": "web" },
        "spec": {
            "replicas": 2,
            "selector": { "matchLabels": { "app": "web" }, "matchExpressions": [{ "key": "tier", "operator": "In", "values": ["a", "b"] }] },
            "template": { "metadata": { "labels": { "app": "web", "tier": "a" } }, "spec": { "containers": [{ "name": "c", "image": "i" }] } },
        },
    });
    let created = cluster.post(collection, &deployment).await.ok();
    let path = format!("{collection}/web/scale");
    let scale = cluster.get(&path).await.ok();
    assert_eq!(scale["kind"], "Scale");
    assert_eq!(scale["apiVersion"], "autoscaling/v1");
    assert_eq!(scale["spec"]["replicas"], 2);
    assert_eq!(
        scale["status"],
        json!({ "replicas": 0, "selector": "app=web,tier in (a,b)" })
    );
    assert_eq!(scale["metadata"]["uid"], created["metadata"]["uid"]);
    let patched = cluster
        .patch(&path, "merge", &json!({ "spec": { "replicas": 5 } }))
        .await
        .ok();
    assert_eq!(patched["spec"]["replicas"], 5);
    let mut stale = scale.clone();
    stale["spec"]["replicas"] = json!(1);
    assert_eq!(cluster.put(&path, &stale).await.code, 409);
    stale["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    cluster.put(&path, &stale).await.ok();
    let whole = cluster.get(&format!("{collection}/web")).await.ok();
    assert_eq!(whole["spec"]["replicas"], 1);
    assert_eq!(whole["metadata"]["generation"], 3);
    assert_eq!(
        cluster
            .patch(&path, "merge", &json!({ "spec": { "replicas": -1 } }))
            .await
            .failure(),
        "422 Invalid: Scale.autoscaling \"web\" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0"
    );
    let apply = "apiVersion: autoscaling/v1\nkind: Scale\nspec:\n  replicas: 7\n";
    let applied = cluster
        .send(
            "PATCH",
            &format!("{path}?fieldManager=me&force=true"),
            &[("content-type", "application/apply-patch+yaml")],
            apply,
        )
        .await
        .ok();
    assert_eq!(applied["spec"]["replicas"], 7);
    let whole = cluster.get(&format!("{collection}/web")).await.ok();
    let managers = whole["metadata"]["managedFields"].as_array().unwrap();
    let mine = managers.iter().find(|entry| entry["manager"] == "me").unwrap();
    assert_eq!(mine["subresource"], "scale");
    assert_eq!(mine["fieldsV1"], json!({ "f:spec": { "f:replicas": {} } }));
}

#[tokio::test]
async fn an_eviction_asks_the_budget() {
    let cluster = Cluster::start().await;
    for name in ["a", "b", "c", "pending"] {
        cluster.post(PODS, &pod(name)).await.ok();
    }
    run(&cluster, "a", true).await;
    run(&cluster, "b", true).await;
    run(&cluster, "c", false).await;
    let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    let budget = json!({
        "metadata": { "name": "b" },
        "spec": { "minAvailable": 2, "selector": { "matchLabels": { "app": "web" } } },
    });
    cluster.post(budgets, &budget).await.ok();
    let evict = async |name: &str| {
        let eviction = json!({ "apiVersion": "policy/v1", "kind": "Eviction", "metadata": { "name": name } });
        cluster.post(&format!("{PODS}/{name}/eviction"), &eviction).await
    };
    // Nobody has looked at the budget yet.
    let refused = evict("a").await;
    assert_eq!(
        refused.failure(),
        "429 TooManyRequests: Cannot evict pod as it would violate the pod's disruption budget."
    );
    assert_eq!(
        refused.json()["details"],
        json!({
            "causes": [{ "reason": "DisruptionBudget", "message": "The disruption budget b is still being processed by the server." }],
            "retryAfterSeconds": 10,
        })
    );
    // What no budget counts goes at once.
    let gone = evict("pending").await;
    assert_eq!(gone.code, 201);
    assert_eq!(gone.json()["status"], "Success");
    assert_eq!(cluster.get(&format!("{PODS}/pending")).await.code, 404);
    let status = async |allowed: i32, healthy: i32| {
        let status = json!({
            "observedGeneration": 1, "disruptionsAllowed": allowed, "currentHealthy": healthy, "desiredHealthy": 2,
            "expectedPods": 3,
        });
        cluster
            .patch(&format!("{budgets}/b/status"), "merge", &json!({ "status": status }))
            .await
            .ok();
    };
    status(0, 1).await;
    let refused = evict("a").await.json();
    assert_eq!(
        refused["details"]["causes"][0]["message"],
        "The disruption budget b needs 2 healthy pods and has 1 currently"
    );
    assert_eq!(refused["details"]["retryAfterSeconds"], Value::Null);
    status(1, 3).await;
    let dry = json!({ "metadata": { "name": "a" }, "deleteOptions": { "dryRun": ["All"] } });
    assert_eq!(cluster.post(&format!("{PODS}/a/eviction"), &dry).await.code, 201);
    assert_eq!(
        cluster.get(&format!("{budgets}/b")).await.ok()["status"]["disruptionsAllowed"],
        1
    );
    assert_eq!(evict("a").await.code, 201);
    let going = cluster.get(&format!("{PODS}/a")).await.ok();
    assert!(going["metadata"]["deletionTimestamp"].is_string());
    let conditions = going["status"]["conditions"].as_array().unwrap();
    let why = conditions
        .iter()
        .find(|condition| condition["type"] == "DisruptionTarget")
        .unwrap();
    assert_eq!(why["reason"], "EvictionByEvictionAPI");
    assert_eq!(why["message"], "Eviction API: evicting");
    let charged = cluster.get(&format!("{budgets}/b")).await.ok();
    assert_eq!(charged["status"]["disruptionsAllowed"], 0);
    assert!(charged["status"]["disruptedPods"]["a"].is_string());
    // One that is not ready harms nobody while enough others are.
    assert_eq!(evict("c").await.code, 201);
    assert_eq!(evict("b").await.code, 429);
    let second = json!({
        "metadata": { "name": "second" },
        "spec": { "minAvailable": 1, "selector": { "matchLabels": { "app": "web" } } },
    });
    cluster.post(budgets, &second).await.ok();
    let several = evict("b").await.json();
    assert_eq!(several["code"], 500);
    assert_eq!(
        several["message"],
        "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
    );
    let wrong = json!({ "metadata": { "name": "x" } });
    assert_eq!(
        cluster.post(&format!("{PODS}/b/eviction"), &wrong).await.failure(),
        "400 BadRequest: name in URL does not match name in Eviction object"
    );
}

#[tokio::test]
async fn requests_pass_through_to_pods_and_services() {
    let cluster = Cluster::start().await;
    // A pod has an address of this machine that is not loopback; without one there is nothing to connect to.
    let Some(address) = own_address() else { return };
    let listener = tokio::net::TcpListener::bind((address, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let backend = axum::Router::new().fallback(|request: axum::extract::Request| async move {
        let header = |name: &str| {
            request
                .headers()
                .get(name)
                .map(|value| value.to_str().unwrap().to_owned())
        };
        let seen = json!({
            "method": request.method().as_str(), "uri": request.uri().to_string(),
            "authorization": header("authorization"), "forwarded": header("x-forwarded-uri"),
        });
        let mut response = axum::Json(seen).into_response();
        response.headers_mut().insert("location", "/elsewhere".parse().unwrap());
        response
            .headers_mut()
            .insert("access-control-allow-origin", "*".parse().unwrap());
        response
    });
    use axum::response::IntoResponse as _;
    let serving = tokio::spawn(async move { axum::serve(listener, backend).await });
    cluster.post(PODS, &pod("a")).await.ok();
    run(&cluster, "a", true).await;
    let status = json!({ "status": { "podIP": address.to_string(), "podIPs": [{ "ip": address.to_string() }] } });
    cluster.patch(&format!("{PODS}/a/status"), "merge", &status).await.ok();
    let base = format!("{PODS}/a:{port}/proxy");
    let seen = cluster
        .send(
            "POST",
            &format!("{base}/x%2Fy/?q=1"),
            &[("authorization", "Bearer t")],
            "body",
        )
        .await
        .ok();
    assert_eq!(
        seen,
        json!({
            "method": "POST", "uri": "/x%2Fy/?q=1", "authorization": null,
            "forwarded": format!("{base}/x%2Fy/"),
        })
    );
    let moved = cluster.get(&format!("{base}?q=1")).await;
    assert_eq!(moved.code, 301);
    let service = json!({ "metadata": { "name": "s" }, "spec": { "ports": [{ "name": "web", "port": 80 }] } });
    cluster.post("/api/v1/namespaces/default/services", &service).await.ok();
    let services = "/api/v1/namespaces/default/services";
    assert_eq!(
        cluster.get(&format!("{services}/s:web/proxy/")).await.failure(),
        "503 ServiceUnavailable: no endpoints available for service \"s\""
    );
    assert_eq!(
        cluster.get(&format!("{services}/s:81/proxy/")).await.failure(),
        "503 ServiceUnavailable: no service port 81 found for service \"s\""
    );
    let slice = json!({
        "metadata": { "name": "s-1", "labels": { "kubernetes.io/service-name": "s" } },
        "addressType": "IPv4",
        "endpoints": [{
            "addresses": [address.to_string()], "conditions": { "ready": true },
            "targetRef": { "kind": "Pod", "name": "a", "namespace": "default" },
        }],
        "ports": [{ "name": "web", "port": port, "protocol": "TCP" }],
    });
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    cluster.post(slices, &slice).await.ok();
    for id in ["s:web", "s:80", "http:s:web"] {
        let seen = cluster.get(&format!("{services}/{id}/proxy/z")).await.ok();
        assert_eq!(seen["uri"], "/z", "{id}");
    }
    assert_eq!(
        cluster.get(&format!("{services}/ftp:s:web/proxy/z")).await.failure(),
        "400 BadRequest: invalid service request \"ftp:s:web\""
    );
    serving.abort();
    let failure = cluster.get(&format!("{PODS}/a:1/proxy/z")).await.failure();
    let refused = format!("dial tcp {address}:1: connect: connection refused");
    assert_eq!(
        failure,
        format!("503 ServiceUnavailable: error trying to reach service: {refused}")
    );
}

/// An address of this machine that is neither loopback nor link-local: where a route to the outside would start from. Nothing
/// is sent.
fn own_address() -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}
