//! A webhook: an HTTPS server whose answers a test chooses, and which remembers what it was asked.

use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

type Answer = dyn Fn(&Value) -> Option<Value> + Send + Sync;

/// Ends with the test.
pub(crate) struct Webhook {
    pub(crate) url: String,
    /// Base64 of PEM.
    pub(crate) ca_bundle: String,
    asked: Arc<Mutex<Vec<Value>>>,
    _tasks: JoinSet<()>,
}

impl Webhook {
    /// `answer` makes the `response` of a review from its `request`, without the uid unless it is to be a wrong one; `None` never answers.
    pub(crate) async fn start(answer: impl Fn(&Value) -> Option<Value> + Send + Sync + 'static) -> Webhook {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
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
        let asked = Arc::new(Mutex::new(Vec::new()));
        let answer: Arc<Answer> = Arc::new(answer);
        let mut tasks = JoinSet::new();
        let log = Arc::clone(&asked);
        tasks.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, answer, log) = (acceptor.clone(), Arc::clone(&answer), Arc::clone(&log));
                open.spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
                        let (answer, log) = (Arc::clone(&answer), Arc::clone(&log));
                        async move { reply(request, &*answer, &log).await }
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Webhook {
            url: format!("https://127.0.0.1:{port}/hook"),
            ca_bundle: base64::Engine::encode(&base64::engine::general_purpose::STANDARD, certificate.pem()),
            asked,
            _tasks: tasks,
        }
    }

    /// The `request`s it was asked, in order.
    pub(crate) fn asked(&self) -> Vec<Value> {
        self.asked.lock().unwrap().clone()
    }

    /// A configuration object with one webhook for writes of config maps, in the namespace `default`, changed by `fields`.
    pub(crate) fn configuration(&self, kind: &str, name: &str, fields: &Value) -> Value {
        let mut webhook = json!({
            "name": format!("{name}.example.org"),
            "clientConfig": {"url": self.url, "caBundle": self.ca_bundle},
            "rules": [{"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}},
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        });
        for (key, value) in fields.as_object().into_iter().flatten() {
            webhook[key] = value.clone();
        }
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": kind,
            "metadata": {"name": name},
            "webhooks": [webhook],
        })
    }
}

async fn reply(
    request: http::Request<hyper::body::Incoming>,
    answer: &Answer,
    log: &Mutex<Vec<Value>>,
) -> Result<http::Response<Full<bytes::Bytes>>, std::io::Error> {
    let body = request
        .into_body()
        .collect()
        .await
        .map_err(std::io::Error::other)?
        .to_bytes();
    let review: Value = serde_json::from_slice(&body)?;
    log.lock().unwrap().push(review["request"].clone());
    let Some(mut response) = answer(&review["request"]) else {
        return std::future::pending().await;
    };
    if response.get("uid").is_none() {
        response["uid"] = review["request"]["uid"].clone();
    }
    let review = json!({"apiVersion": review["apiVersion"], "kind": review["kind"], "response": response});
    Ok(http::Response::new(Full::from(review.to_string())))
}

/// Lets everything pass.
pub(crate) fn allow(_: &Value) -> Option<Value> {
    Some(json!({"allowed": true}))
}

/// Lets everything pass, changed by a JSON patch.
pub(crate) fn patch(operations: &Value) -> Value {
    let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, operations.to_string());
    json!({"allowed": true, "patchType": "JSONPatch", "patch": encoded})
}
