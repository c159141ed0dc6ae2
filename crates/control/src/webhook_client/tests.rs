//! Against servers of our own on loopback.

use super::*;
use k8s_openapi::api::core::v1::{Endpoints, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

struct Fixed(Result<Place, String>);

impl ServiceResolver for Fixed {
    fn resolve(&self, _: &str, _: &str, _: u16) -> Result<Place, String> {
        self.0.clone()
    }
}

/// A server that answers every request with `status` and the path it was asked for, and says how many connections it had.
struct Server {
    port: u16,
    ca_pem: String,
    connections: Arc<std::sync::atomic::AtomicUsize>,
    _tasks: JoinSet<()>,
}

async fn serve(names: &[&str], status: u16, authority: bool) -> Server {
    let mut params = rcgen::CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
    if authority {
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    }
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            rustls_pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let connections = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = Arc::clone(&connections);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut open = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let acceptor = acceptor.clone();
            open.spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else {
                    return;
                };
                let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| async move {
                    let path = request.uri().to_string();
                    let response = http::Response::builder()
                        .status(status)
                        .body(Full::new(Bytes::from(path)));
                    response.map_err(io::Error::other)
                });
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    Server {
        port,
        ca_pem: certificate.pem(),
        connections,
        _tasks: tasks,
    }
}

fn service_config(ca: &str) -> ClientConfig {
    ClientConfig {
        endpoint: Endpoint::Service {
            namespace: "ns".to_owned(),
            name: "hook".to_owned(),
            path: "/x".to_owned(),
            port: 443,
        },
        ca_bundle: ca.as_bytes().to_vec(),
    }
}

fn at(port: u16) -> WebhookClient {
    WebhookClient::new(Arc::new(Fixed(Ok(Place {
        host: "127.0.0.1".to_owned(),
        port,
    }))))
}

async fn call(client: &WebhookClient, config: &ClientConfig) -> Result<String, String> {
    let answer = client
        .call(config, Bytes::from_static(b"{}"), Duration::from_millis(9500))
        .await;
    answer
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_service_is_called_by_its_name_over_one_connection() {
    for authority in [false, true] {
        let server = serve(&["hook.ns.svc"], 200, authority).await;
        let client = at(server.port);
        let config = service_config(&server.ca_pem);
        for _ in 0..3 {
            assert_eq!(call(&client, &config).await.unwrap(), "/x?timeout=10s");
        }
        assert_eq!(server.connections.load(std::sync::atomic::Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn a_url_keeps_its_path_and_port() {
    let server = serve(&["localhost", "127.0.0.1"], 200, false).await;
    for host in ["localhost", "127.0.0.1"] {
        let config = ClientConfig {
            endpoint: Endpoint::Url(format!("https://{host}:{}/a/b", server.port)),
            ca_bundle: server.ca_pem.clone().into_bytes(),
        };
        assert_eq!(call(&at(1), &config).await.unwrap(), "/a/b?timeout=10s");
    }
}

#[tokio::test]
async fn failures_read_as_users_know_them() {
    let server = serve(&["other.ns.svc"], 200, false).await;
    let stranger = serve(&["hook.ns.svc"], 200, false).await;
    let config = service_config(&server.ca_pem);
    let url = "Post \"https://hook.ns.svc:443/x?timeout=10s\"";

    let wrong_name = call(&at(server.port), &config).await.unwrap_err();
    assert_eq!(
        wrong_name,
        format!(
            "{url}: tls: failed to verify certificate: x509: certificate is valid for other.ns.svc, not hook.ns.svc"
        )
    );
    let unknown = call(&at(stranger.port), &config).await.unwrap_err();
    assert_eq!(
        unknown,
        format!("{url}: tls: failed to verify certificate: x509: certificate signed by unknown authority")
    );
    let missing = WebhookClient::new(Arc::new(Fixed(Err("service \"hook\" not found".to_owned()))));
    assert_eq!(
        call(&missing, &config).await.unwrap_err(),
        format!("{url}: service \"hook\" not found")
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    assert_eq!(
        call(&at(port), &config).await.unwrap_err(),
        format!("{url}: dial tcp 127.0.0.1:{port}: connect: connection refused")
    );
    let nonsense = service_config("nonsense");
    assert_eq!(
        call(&at(port), &nonsense).await.unwrap_err(),
        "unable to load root certificates: unable to parse bytes as PEM block"
    );
}

#[tokio::test]
async fn a_silent_server_times_out() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = at(listener.local_addr().unwrap().port());
    let server = serve(&["hook.ns.svc"], 200, false).await;
    let answer = client
        .call(&service_config(&server.ca_pem), Bytes::new(), Duration::from_millis(20))
        .await;
    assert_eq!(
        answer.unwrap_err().to_string(),
        "Post \"https://hook.ns.svc:443/x?timeout=1s\": context deadline exceeded"
    );
}

#[tokio::test]
async fn error_codes_have_their_texts() {
    for (code, expected) in [
        (404, "the server could not find the requested resource"),
        (
            500,
            "an error on the server (\"/x?timeout=10s\") has prevented the request from succeeding",
        ),
        (503, "the server is currently unable to handle the request"),
    ] {
        let server = serve(&["hook.ns.svc"], code, false).await;
        let config = service_config(&server.ca_pem);
        assert_eq!(call(&at(server.port), &config).await.unwrap_err(), expected);
    }
}

#[test]
fn services_resolve_to_pods_before_their_own_address() {
    let service = |spec: serde_json::Value| -> Service {
        serde_json::from_value(json!({"metadata": {"name": "s"}, "spec": spec})).unwrap()
    };
    let plain = service(json!({"clusterIP": "10.0.0.9", "ports": [{"name": "web", "port": 443, "targetPort": 8443}]}));
    let slice: EndpointSlice = serde_json::from_value(json!({
        "addressType": "IPv4",
        "ports": [{"name": "web", "port": 8443}],
        "endpoints": [
            {"addresses": ["10.1.0.1"], "conditions": {"ready": false}},
            {"addresses": ["10.1.0.2"], "conditions": {"ready": true}},
            {"addresses": ["10.1.0.3"]},
        ],
    }))
    .unwrap();
    let endpoints: Endpoints = serde_json::from_value(
        json!({"subsets": [{"addresses": [{"ip": "fd00::1"}], "ports": [{"name": "web", "port": 1}]}]}),
    )
    .unwrap();
    let show = |result: Result<Place, String>| result.map_or_else(|error| error, |place| place.to_string());
    let slices = std::slice::from_ref(&slice);
    assert_eq!(show(place_of(&plain, slices, None, 443, 0)), "10.1.0.2:8443");
    assert_eq!(show(place_of(&plain, slices, None, 443, 1)), "10.1.0.3:8443");
    assert_eq!(show(place_of(&plain, &[], Some(&endpoints), 443, 7)), "[fd00::1]:1");
    assert_eq!(show(place_of(&plain, &[], None, 443, 0)), "10.0.0.9:443");
    assert_eq!(
        show(place_of(&plain, &[], Some(&Endpoints::default()), 443, 0)),
        "no endpoints available for service \"s\""
    );
    assert_eq!(
        show(place_of(&plain, slices, None, 80, 0)),
        "no service port 80 found for service \"s\""
    );
    let headless = service(json!({"clusterIP": "None", "ports": [{"name": "web", "port": 443}]}));
    assert_eq!(
        show(place_of(&headless, &[], None, 443, 0)),
        "cannot route to service with ClusterIP \"None\""
    );
    let external = service(json!({"type": "ExternalName", "externalName": "example.org"}));
    assert_eq!(show(place_of(&external, &[], None, 443, 0)), "example.org:443");
}
