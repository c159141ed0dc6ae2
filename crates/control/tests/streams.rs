//! Logs and exec: what the server asks a node for, and that it carries bytes both ways. The node is a stand-in that
//! says back what it was asked.

mod common;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use common::{Answer, Cluster};
use futures::StreamExt as _;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::{AttachParams, LogParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

/// Runs the stand-in, adds its Node and a pod on it.
async fn node(cluster: &Cluster) -> tokio::task::AbortHandle {
    let credentials = cluster
        .control
        .issue_node_credentials("n1", &[IpAddr::V4(Ipv4Addr::LOCALHOST)])
        .unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(credentials.ca_pem.as_bytes()).unwrap())
        .unwrap();
    // Nobody without a certificate gets in.
    let clients = rustls::server::WebPkiClientVerifier::builder(Arc::new(roots))
        .build()
        .unwrap();
    let config = rustls::ServerConfig::builder()
        .with_client_cert_verifier(clients)
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(credentials.serving_cert_pem.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(credentials.serving_key_pem.as_bytes()).unwrap(),
        )
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let router = axum::Router::new()
        .route("/containerLogs/{*rest}", axum::routing::get(logs))
        .route("/exec/{*rest}", axum::routing::any(exec));
    let server = tokio::spawn(async move {
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
    let object = json!({
        "metadata": { "name": "n1" },
        "status": {
            "addresses": [{ "type": "InternalIP", "address": "127.0.0.1" }],
            "daemonEndpoints": { "kubeletEndpoint": { "Port": port } },
        },
    });
    create::<Node>(&Api::all(cluster.client.clone()), object).await;
    let object = json!({
        "metadata": { "name": "p" },
        "spec": { "nodeName": "n1", "containers": [{ "name": "c", "image": "i" }] },
    });
    create::<Pod>(&Api::namespaced(cluster.client.clone(), "default"), object).await;
    server.abort_handle()
}

async fn create<K>(api: &Api<K>, object: serde_json::Value)
where
    K: Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    api.create(&PostParams::default(), &serde_json::from_value(object).unwrap())
        .await
        .unwrap();
}

async fn logs(request: Request) -> Response {
    let asked = request.uri().to_string();
    if asked.contains("previous") {
        return Response::builder()
            .status(400)
            .body(Body::from("no previous container"))
            .unwrap();
    }
    // In two pieces: it is a stream.
    let pieces = futures::stream::iter([asked, "\n".to_owned()]).map(Ok::<String, std::convert::Infallible>);
    Response::new(Body::from_stream(pieces))
}

async fn exec(upgrade: axum::extract::WebSocketUpgrade, request: Request) -> Response {
    let asked = request.uri().to_string();
    upgrade
        .protocols(["v5.channel.k8s.io"])
        .on_upgrade(async move |mut socket| {
            let mut answer = vec![1];
            answer.extend_from_slice(asked.as_bytes());
            let success = b"\x03{\"metadata\":{},\"status\":\"Success\"}".to_vec();
            for message in [answer, success] {
                let _ = socket.send(axum::extract::ws::Message::Binary(message.into())).await;
            }
            while let Some(Ok(_)) = socket.recv().await {}
        })
}

#[tokio::test]
async fn a_nodes_answers_come_through() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cluster = Cluster::start().await;
    let server = node(&cluster).await;
    let kubeconfig = Kubeconfig::read_from(&cluster.control.kubeconfig).unwrap();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .unwrap();
    let pods = Api::<Pod>::namespaced(kube::Client::try_from(config).unwrap(), "default");

    let params = LogParams {
        tail_lines: Some(5),
        timestamps: true,
        ..LogParams::default()
    };
    let text = pods.logs("p", &params).await.unwrap();
    assert_eq!(text, "/containerLogs/default/p/c?tailLines=5&timestamps=true\n");
    let refused = pods
        .logs(
            "p",
            &LogParams {
                previous: true,
                ..LogParams::default()
            },
        )
        .await
        .unwrap_err();
    assert!(
        matches!(&refused, kube::Error::Api(status) if status.code == 400 && status.message == "no previous container"),
        "{refused}"
    );

    let params = AttachParams::default().stdin(true).stderr(false);
    let mut process = pods.exec("p", ["echo", "a b"], &params).await.unwrap();
    // It is counted as long as it lasts, though the answer that upgraded is over.
    let sessions = |answer: &Answer| {
        let mut lines = answer.text.lines();
        let is_it =
            |line: &&str| line.starts_with("apiserver_longrunning_requests{") && line.contains("subresource=\"exec\"");
        let line = lines.find(is_it).expect("there was one");
        line.rsplit_once(' ').map(|(_, count)| count.to_owned())
    };
    assert_eq!(sessions(&cluster.get("/metrics").await).as_deref(), Some("1"));
    let status = process.take_status().unwrap();
    let mut output = process.stdout().unwrap();
    assert_eq!(status.await.unwrap().status.as_deref(), Some("Success"));
    drop(process);
    let mut text = String::new();
    output.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "/exec/default/p/c?input=1&output=1&command=echo&command=a%20b");
    cluster
        .until("/metrics", |answer| sessions(answer).as_deref() == Some("0"))
        .await;
    server.abort();
    cluster.stop().await;
}
