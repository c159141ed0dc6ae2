//! Watches over WebSockets, as browsers watch.

mod common;

use base64::Engine as _;
use catamaran_api::body::{Format, parse};
use common::Cluster;
use futures::StreamExt as _;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error, Message, client::IntoClientRequest as _};

/// A connection as the kubeconfig has it.
async fn connect(cluster: &Cluster) -> TlsStream<TcpStream> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let kubeconfig = std::fs::read(&cluster.control.kubeconfig).unwrap();
    let kubeconfig = parse(Format::Yaml, &kubeconfig).unwrap().value;
    let decode = |field: &str| {
        let data = kubeconfig["users"][0]["user"][field].as_str().unwrap();
        base64::engine::general_purpose::STANDARD.decode(data).unwrap()
    };
    let (certificate, key) = (decode("client-certificate-data"), decode("client-key-data"));
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(cluster.control.ca_pem.as_bytes()).unwrap())
        .unwrap();
    let config = rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_client_auth_cert(
            vec![CertificateDer::from_pem_slice(&certificate).unwrap()],
            PrivateKeyDer::from_pem_slice(&key).unwrap(),
        )
        .unwrap();
    let stream = TcpStream::connect(cluster.control.addr).await.unwrap();
    let name = ServerName::from(cluster.control.addr.ip());
    tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .unwrap()
}

/// Opens a watch. Returns the protocol that was agreed on, too.
async fn watch(
    cluster: &Cluster,
    path: &str,
    headers: &[(&'static str, &str)],
) -> Result<(WebSocketStream<TlsStream<TcpStream>>, Option<String>), Error> {
    let mut request = format!("wss://{}{path}", cluster.control.addr).into_client_request()?;
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    let (socket, answer) = tokio_tungstenite::client_async(request, connect(cluster).await).await?;
    let protocol = answer.headers().get("sec-websocket-protocol");
    let protocol = protocol.map(|value| value.to_str().unwrap().to_owned());
    Ok((socket, protocol))
}

#[tokio::test]
async fn each_event_is_a_message() {
    let cluster = Cluster::start().await;
    let maps = "/api/v1/namespaces/default/configmaps";
    let version = cluster.get(maps).await.ok()["metadata"]["resourceVersion"].clone();
    let path = format!("{maps}?watch=true&resourceVersion={}", version.as_str().unwrap());
    let (mut text, protocol) = watch(&cluster, &path, &[]).await.unwrap();
    assert_eq!(protocol, None);
    let accept = ("accept", "application/vnd.kubernetes.protobuf");
    let own = ("sec-websocket-protocol", "my.own");
    let (mut binary, protocol) = watch(&cluster, &path, &[accept, own]).await.unwrap();
    assert_eq!(protocol.as_deref(), Some("my.own"));
    for name in ["a", "b"] {
        cluster.post(maps, &json!({ "metadata": { "name": name } })).await.ok();
        let Message::Text(message) = text.next().await.unwrap().unwrap() else {
            panic!("JSON is text");
        };
        assert!(message.ends_with('\n'));
        let event: Value = serde_json::from_str(&message).unwrap();
        assert_eq!(
            (&event["type"], &event["object"]["metadata"]["name"]),
            (&json!("ADDED"), &json!(name))
        );
        let Message::Binary(message) = binary.next().await.unwrap().unwrap() else {
            panic!("protobuf is none");
        };
        assert!(message.starts_with(b"\n\x05ADDED\x12"), "{message:?}");
        let object = message.windows(4).position(|bytes| bytes == b"k8s\0").unwrap();
        let object = parse(Format::Protobuf, &message[object..]).unwrap().value;
        assert_eq!(object, event["object"]);
    }
    let short = format!("{path}&timeoutSeconds=1");
    let (mut ended, _) = watch(&cluster, &short, &[]).await.unwrap();
    let mut messages = Vec::new();
    while let Some(Ok(message)) = ended.next().await {
        messages.push(message);
    }
    assert!(matches!(messages.last(), Some(Message::Close(_))), "{messages:?}");
    assert_eq!(messages.len(), 3, "both that there are, and the end");

    let refused = |result: Result<_, Error>| match result {
        Err(Error::Http(response)) => response.status().as_u16(),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it is not refused"),
    };
    let several = ("sec-websocket-protocol", "a, b");
    assert_eq!(refused(watch(&cluster, &path, &[several]).await), 400);
    let accept = ("accept", "application/yaml");
    assert_eq!(refused(watch(&cluster, &path, &[accept]).await), 406);
    cluster.stop().await;
}
