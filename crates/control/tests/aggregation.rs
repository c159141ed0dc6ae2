//! APIs that another server serves in the name of this one. The other server is a small one of the test's.

mod common;

use axum::Json;
use axum::body::Body;
use axum::extract::Request;
use axum::extract::ws::{Message, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::{any, get};
use common::{Answer, Cluster};
use futures::StreamExt as _;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use kube::config::{KubeConfigOptions, Kubeconfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const API: &str = "/apis/wardle.example.com/v1alpha1";

/// A server that lets nobody in but the aggregator.
struct Extension {
    port: u16,
    /// Of its certificate, base64 of PEM.
    ca_bundle: String,
    /// Paths it was asked for.
    asked: Arc<Mutex<Vec<String>>>,
    task: tokio::task::AbortHandle,
}

impl Drop for Extension {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Extension {
    /// `front_proxy_ca` signs the certificates of who may come in; `name` is what its own certificate is for.
    async fn start(front_proxy_ca: &str, name: &str, has_v3: bool) -> Self {
        use base64::Engine as _;
        let _ = rustls::crypto::ring::default_provider().install_default();
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(front_proxy_ca.as_bytes()).unwrap())
            .unwrap();
        let clients = rustls::server::WebPkiClientVerifier::builder(Arc::new(roots))
            .build()
            .unwrap();
        let config = rustls::ServerConfig::builder()
            .with_client_cert_verifier(clients)
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let seen = Arc::clone(&asked);
        let mut router = axum::Router::new();
        if has_v3 {
            router = router
                .route("/openapi/v3", get(openapi_index))
                .route("/openapi/v3/apis/wardle.example.com/v1alpha1", get(openapi_document));
        }
        let router = router
            .route("/openapi/v2", get(openapi_v2))
            .route(API, get(resource_list))
            .route(&format!("{API}/flunders"), any(flunders))
            .route(&format!("{API}/flunders/{{name}}/connect"), any(connect))
            .layer(axum::middleware::map_request(move |request: Request| {
                seen.lock().unwrap().push(request.uri().path().to_owned());
                std::future::ready(request)
            }));
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, router) = (acceptor.clone(), router.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let _ = Builder::new(TokioExecutor::new())
                        .serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(router))
                        .await;
                });
            }
        });
        Extension {
            port,
            ca_bundle: base64::engine::general_purpose::STANDARD.encode(certificate.pem()),
            asked,
            task: task.abort_handle(),
        }
    }

    /// How often it was asked for this.
    fn asked(&self, path: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|own| *own == path).count()
    }
}

async fn resource_list() -> Json<Value> {
    Json(
        json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "wardle.example.com/v1alpha1", "resources": [
        { "name": "flunders", "singularName": "flunder", "namespaced": false, "kind": "Flunder", "verbs": ["create", "list", "watch"], "shortNames": ["fl"] },
        { "name": "flunders/status", "singularName": "", "namespaced": false, "kind": "Flunder", "verbs": ["get"] },
    ] }),
    )
}

async fn openapi_index() -> Json<Value> {
    Json(json!({ "paths": { "apis/wardle.example.com/v1alpha1": {
        "serverRelativeURL": "/openapi/v3/apis/wardle.example.com/v1alpha1?hash=BEEF" } } }))
}

async fn openapi_v2() -> Json<Value> {
    let response = json!({ "200": { "schema": { "$ref": "#/definitions/Flunder" } } });
    Json(json!({
        "swagger": "2.0",
        "paths": { "/apis/": {}, (format!("{API}/flunders")): { "get": { "operationId": "listFlunders", "responses": response } } },
        "definitions": { "Flunder": { "type": "object" }, "Unused": {} },
    }))
}

async fn openapi_document() -> Json<Value> {
    Json(json!({ "openapi": "3.0.0", "info": { "title": "flunders" } }))
}

/// Says who asked for what; a watch is two events, and goes on.
async fn flunders(request: Request) -> Response {
    if request.uri().query().is_some_and(|query| query.contains("watch")) {
        let events =
            ["ADDED", "MODIFIED"].map(|kind| json!({ "type": kind, "object": { "metadata": { "name": "f" } } }));
        let lines =
            futures::stream::iter(events).map(|event| Ok::<String, std::convert::Infallible>(format!("{event}\n")));
        return Response::new(Body::from_stream(lines.chain(futures::stream::pending())));
    }
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let texts = |name: &str| -> Vec<String> {
        let values = head.headers.get_all(name).iter();
        values.map(|value| value.to_str().unwrap().to_owned()).collect()
    };
    let said = json!({
        "method": head.method.as_str(),
        "uri": head.uri.to_string(),
        "user": texts("x-remote-user"),
        "groups": texts("x-remote-group"),
        "extra": texts("x-remote-extra-forged"),
        "body": String::from_utf8_lossy(&body),
    });
    Response::builder()
        .status(if head.method == "POST" { 201 } else { 200 })
        .header("content-type", "application/json")
        .header("warning", "299 - \"from afar\"")
        .body(Body::from(said.to_string()))
        .unwrap()
}

async fn connect(upgrade: WebSocketUpgrade) -> Response {
    upgrade
        .protocols(["v5.channel.k8s.io"])
        .on_upgrade(async move |mut socket| {
            while let Some(Ok(Message::Binary(bytes))) = socket.recv().await {
                let _ = socket.send(Message::Binary(bytes)).await;
            }
        })
}

fn api_service(extension: &Extension, ca_bundle: &str) -> Value {
    json!({
        "metadata": { "name": "v1alpha1.wardle.example.com" },
        "spec": {
            "group": "wardle.example.com", "version": "v1alpha1", "groupPriorityMinimum": 1500, "versionPriority": 15,
            "caBundle": ca_bundle,
            "service": { "name": "wardle", "namespace": "default", "port": extension.port },
        },
    })
}

async fn front_proxy_ca(cluster: &Cluster) -> String {
    let path = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication";
    let map = cluster.get(path).await.ok();
    assert_eq!(map["data"]["requestheader-username-headers"], r#"["X-Remote-User"]"#);
    assert_eq!(map["data"]["requestheader-allowed-names"], r#"["front-proxy-client"]"#);
    assert_eq!(map["data"]["client-ca-file"], cluster.control.ca_pem.as_str());
    map["data"]["requestheader-client-ca-file"].as_str().unwrap().to_owned()
}

/// The other server, its service and its APIService.
async fn extended(cluster: &Cluster) -> Extension {
    let extension = Extension::start(&front_proxy_ca(cluster).await, "wardle.default.svc", true).await;
    create_service(cluster).await;
    cluster
        .post(SERVICES, &api_service(&extension, &extension.ca_bundle))
        .await
        .ok();
    condition(cluster, "True Passed").await;
    extension
}

async fn create_service(cluster: &Cluster) {
    let service =
        json!({ "metadata": { "name": "wardle" }, "spec": { "type": "ExternalName", "externalName": "localhost" } });
    cluster.post("/api/v1/namespaces/default/services", &service).await.ok();
}

/// Waits until the condition says this, and returns its message.
async fn condition(cluster: &Cluster, expected: &str) -> String {
    let path = format!("{SERVICES}/v1alpha1.wardle.example.com");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let answer = cluster
        .until(&path, |answer| {
            let condition = &answer.json()["status"]["conditions"][0];
            format!("{} {}", text(&condition["status"]), text(&condition["reason"])) == expected
        })
        .await;
    text(&answer.json()["status"]["conditions"][0]["message"])
}

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

async fn discovered(cluster: &Cluster) -> Value {
    let list = cluster.send("GET", "/apis", &[("accept", AGGREGATED)], "").await.ok();
    let items = list["items"].as_array().unwrap().clone();
    let found = items
        .into_iter()
        .find(|item| item["metadata"]["name"] == "wardle.example.com");
    found.map_or(Value::Null, |item| item["versions"][0].clone())
}

#[tokio::test]
async fn what_is_served_here_has_api_services() {
    let cluster = Cluster::start().await;
    let list = cluster.get(SERVICES).await.ok();
    let names: Vec<&str> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["metadata"]["name"].as_str().unwrap())
        .collect();
    for name in [
        "v1.",
        "v1.apps",
        "v1.rbac.authorization.k8s.io",
        "v1.authorization.k8s.io",
    ] {
        assert!(names.contains(&name), "{names:?}");
    }
    let apps = cluster.get(&format!("{SERVICES}/v1.apps")).await.ok();
    assert_eq!(
        apps["metadata"]["labels"]["kube-aggregator.kubernetes.io/automanaged"],
        "onstart"
    );
    assert_eq!(
        apps["spec"],
        json!({ "group": "apps", "groupPriorityMinimum": 17800, "version": "v1", "versionPriority": 15 })
    );
    let condition = &apps["status"]["conditions"][0];
    assert_eq!(condition["reason"], "Local");
    assert!(condition["lastTransitionTime"].is_string());
    cluster.stop().await;
}

#[tokio::test]
async fn requests_go_there_and_answers_come_back() {
    let cluster = Cluster::start().await;
    let _extension = extended(&cluster).await;

    let headers = [
        ("x-remote-user", "root"),
        ("x-remote-extra-forged", "yes"),
        ("content-type", "application/json"),
    ];
    let answer = cluster
        .send("POST", &format!("{API}/flunders?dryRun=All"), &headers, r#"{"a":1}"#)
        .await;
    assert_eq!(answer.code, 201);
    assert_eq!(answer.warnings, ["299 - \"from afar\""]);
    assert_eq!(
        answer.json(),
        json!({ "method": "POST", "uri": format!("{API}/flunders?dryRun=All"), "user": ["tester"],
            "groups": ["system:masters", "system:authenticated"], "extra": [], "body": "{\"a\":1}" })
    );

    let mut events = cluster.watch(&format!("{API}/flunders?watch=true")).await;
    assert_eq!(events.line().await, "ADDED f");
    assert_eq!(events.line().await, "MODIFIED f");
    drop(events);

    let version = discovered(&cluster).await;
    assert_eq!(version["freshness"], "Current");
    assert_eq!(version["resources"][0]["subresources"][0]["subresource"], "status");
    let group = cluster.get("/apis/wardle.example.com").await.ok();
    assert_eq!(group["preferredVersion"]["groupVersion"], "wardle.example.com/v1alpha1");
    let list = cluster.get(API).await.ok();
    assert_eq!(list["resources"][0]["shortNames"], json!(["fl"]));
    // What objects look like is asked for when it is known that there is somebody to ask.
    let has_part = |answer: &Answer| answer.json()["paths"].get("apis/wardle.example.com/v1alpha1").is_some();
    let index = cluster.until("/openapi/v3", has_part).await.ok();
    let url = index["paths"]["apis/wardle.example.com/v1alpha1"]["serverRelativeURL"]
        .as_str()
        .unwrap();
    assert!(url.ends_with("?hash=BEEF"), "{url}");
    assert_eq!(cluster.get(url).await.ok()["info"]["title"], "flunders");
    let all = cluster.get("/openapi/v2").await.ok();
    assert_eq!(
        all["paths"][format!("{API}/flunders")]["get"]["operationId"],
        "listFlunders"
    );
    assert!(all["paths"]["/apis/apps/v1/deployments"].is_object());
    assert_eq!(all["definitions"]["Flunder"], json!({ "type": "object" }));
    assert!(all["definitions"].get("Unused").is_none());
    cluster.stop().await;
}

#[tokio::test]
async fn connections_are_upgraded_through() {
    let cluster = Cluster::start().await;
    let _extension = extended(&cluster).await;
    let kubeconfig = Kubeconfig::read_from(&cluster.control.kubeconfig).unwrap();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .unwrap();
    let client = kube::Client::try_from(config).unwrap();
    let request = http::Request::get(format!("{API}/flunders/f/connect"))
        .body(Vec::new())
        .unwrap();
    let mut socket = client.connect(request).await.unwrap().into_stream();
    use futures::SinkExt as _;
    socket.send(b"over there".to_vec().into()).await.unwrap();
    let answer = socket.next().await.unwrap().unwrap();
    assert_eq!(answer.into_data().as_ref(), b"over there");
    drop(socket);
    cluster.stop().await;
}

#[tokio::test]
async fn what_is_not_there_is_said_to_be_unavailable() {
    let cluster = Cluster::start().await;
    let extension = extended(&cluster).await;

    cluster
        .delete("/api/v1/namespaces/default/services/wardle", &Value::Null)
        .await
        .ok();
    let message = condition(&cluster, "False ServiceNotFound").await;
    assert_eq!(message, "service/wardle in \"default\" is not present");
    let refused = cluster.get(&format!("{API}/flunders")).await;
    assert_eq!((refused.code, refused.text.as_str()), (503, "service unavailable\n"));
    let version = discovered(&cluster).await;
    assert_eq!(version["freshness"], "Stale");
    assert_eq!(version["resources"][0]["resource"], "flunders");

    // A server that proves to be another one.
    let other = Extension::start(&front_proxy_ca(&cluster).await, "wardle.default.svc", true).await;
    create_service(&cluster).await;
    condition(&cluster, "True Passed").await;
    let path = format!("{SERVICES}/v1alpha1.wardle.example.com");
    let patch = json!({ "spec": { "caBundle": other.ca_bundle } });
    cluster.patch(&path, "merge", &patch).await.ok();
    let message = condition(&cluster, "False FailedDiscoveryCheck").await;
    let expected = format!(
        "failing or missing response from https://wardle.default.svc:{port}{API}: Get \"https://wardle.default.svc:{port}{API}\": \
         tls: failed to verify certificate: x509: certificate signed by unknown authority",
        port = extension.port
    );
    assert_eq!(message, expected);
    let patch = json!({ "spec": { "caBundle": null, "insecureSkipTLSVerify": true } });
    cluster.patch(&path, "merge", &patch).await.ok();
    condition(&cluster, "True Passed").await;

    cluster.delete(&path, &Value::Null).await.ok();
    cluster
        .until(&format!("{API}/flunders"), |answer| answer.code == 404)
        .await;
    assert_eq!(discovered(&cluster).await, Value::Null);
    assert_eq!(cluster.get("/apis/wardle.example.com").await.code, 404);
    cluster.stop().await;
}

/// A server that has no hashes of what it serves is not asked for the whole long document whenever anything happens.
#[tokio::test]
async fn long_documents_are_not_asked_for_again_and_again() {
    let cluster = Cluster::start().await;
    let extension = Extension::start(&front_proxy_ca(&cluster).await, "wardle.default.svc", false).await;
    create_service(&cluster).await;
    let service = api_service(&extension, &extension.ca_bundle);
    cluster.post(SERVICES, &service).await.ok();
    condition(&cluster, "True Passed").await;
    let path = format!("{API}/flunders");
    let listed = |answer: &Answer| answer.json()["paths"].get(&path).is_some();
    cluster.until("/openapi/v2", listed).await;
    let before = extension.asked(API);
    // Things happen, and each time all servers are looked at.
    for round in 1..=2 {
        let patch = json!({ "metadata": { "labels": { "round": round.to_string() } } });
        let service = "/api/v1/namespaces/default/services/wardle";
        cluster.patch(service, "merge", &patch).await.ok();
        let deadline = Instant::now() + Duration::from_secs(30);
        while extension.asked(API) < before + round {
            assert!(Instant::now() < deadline, "it is not looked at");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    assert_eq!(extension.asked("/openapi/v2"), 1);
    cluster.stop().await;
}
