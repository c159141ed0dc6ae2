//! The agent's server: logs, exec, attach and port-forward for the API server, by the kubelet's paths.
//!
//! TLS with a client certificate of the cluster's authority, and only that of the API server: it has asked whether the user may
//! before it comes here. Other holders of certificates, nodes among them, are turned away.

mod attach;
mod exec;
mod logs;
mod portforward;
mod streams;
mod upgrade;

use crate::agent::ServerTls;
use crate::layout::{Layout, PodKey};
use crate::local::{Sandboxed, Sandboxes};
use crate::pods::Known;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use catamaran_shim::spec::ContainerState;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use k8s_openapi::api::core::v1::Pod;
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Common name of the API server's certificate.
const API_SERVER: &str = "catamaran-apiserver";
/// How long a client may take for its handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Connections at once; more wait to be accepted.
const MAX_CONNECTIONS: usize = 512;
/// How long open streams may hold up the end.
const DRAIN: Duration = Duration::from_millis(500);

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    #[error("not PEM: {what}")]
    Pem {
        what: &'static str,
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    #[error("the client authority is not usable")]
    Verifier(#[source] rustls::server::VerifierBuilderError),
    #[error("certificate and key are not usable")]
    Certificate(#[source] rustls::Error),
}

/// Builds the TLS side: own certificate, client certificates required.
pub(crate) fn tls(pem: &ServerTls) -> Result<TlsAcceptor, TlsError> {
    let certificates = |text: &str, what: &'static str| -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
        parsed.map_err(|source| TlsError::Pem { what, source })
    };
    let key = PrivateKeyDer::from_pem_slice(pem.key_pem.as_bytes()).map_err(|source| TlsError::Pem {
        what: "server key",
        source,
    })?;
    let mut roots = RootCertStore::empty();
    for authority in certificates(&pem.client_ca_pem, "client authority")? {
        roots.add(authority).map_err(TlsError::Certificate)?;
    }
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots))
        .build()
        .map_err(TlsError::Verifier)?;
    let mut config = rustls::ServerConfig::builder()
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates(&pem.cert_pem, "server certificate")?, key)
        .map_err(TlsError::Certificate)?;
    // Upgrades need HTTP/1.1; nothing here needs HTTP/2.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// What requests are answered from.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) layout: Layout,
    pub(crate) sandboxes: Sandboxes,
    pub(crate) known: Known,
    pub(crate) dialer: Arc<catamaran_net::Dialer>,
}

/// Serves until shutdown.
pub(crate) async fn serve(listener: TcpListener, tls: TlsAcceptor, server: Server, shutdown: CancellationToken) {
    let router = router(server, shutdown.clone());
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => accepted,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            () = shutdown.cancelled() => break,
        };
        let Ok((stream, peer)) = accepted else {
            // Out of descriptors, most likely: let some close.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let (tls, router) = (tls.clone(), router.clone());
        connections.spawn(async move {
            let stream = match tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => return tracing::debug!(%peer, %error, "TLS handshake failed"),
                Err(_) => return tracing::debug!(%peer, "TLS handshake timed out"),
            };
            if !is_api_server(&stream) {
                return tracing::warn!(%peer, "a client that is not the API server was turned away");
            }
            let service = TowerToHyperService::new(router);
            let builder = auto::Builder::new(TokioExecutor::new());
            if let Err(error) = builder
                .serve_connection_with_upgrades(TokioIo::new(stream), service)
                .await
            {
                tracing::debug!(%peer, error, "a connection ended badly");
            }
        });
    }
    let drained = tokio::time::timeout(DRAIN, async { while connections.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        connections.shutdown().await;
    }
}

/// Does the certificate, which TLS has verified, name the API server?
fn is_api_server(stream: &tokio_rustls::server::TlsStream<tokio::net::TcpStream>) -> bool {
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    certificates.first().is_some_and(|certificate| {
        X509Certificate::from_der(certificate).is_ok_and(|(_, certificate)| {
            let mut names = certificate.subject().iter_common_name();
            names.any(|name| name.as_str().is_ok_and(|name| name == API_SERVER))
        })
    })
}

fn router(server: Server, shutdown: CancellationToken) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok"))
        .route("/pods", get(pods))
        .route("/containerLogs/{namespace}/{pod}/{container}", get(logs::logs))
        .route("/exec/{namespace}/{pod}/{container}", get(exec::exec).post(exec::exec))
        .route(
            "/attach/{namespace}/{pod}/{container}",
            get(attach::attach).post(attach::attach),
        )
        .route(
            "/portForward/{namespace}/{pod}",
            get(portforward::portforward).post(portforward::portforward),
        )
        .layer(axum::Extension(shutdown))
        .with_state(server)
}

async fn pods(State(server): State<Server>) -> Response {
    let items: Vec<Arc<Pod>> = server.known.lock().values().cloned().collect();
    let items: Vec<&Pod> = items.iter().map(|pod| &**pod).collect();
    Json(serde_json::json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})).into_response()
}

/// An answer that is not a stream: text, as the kubelet's.
#[derive(Debug)]
pub(crate) struct Refusal {
    code: StatusCode,
    message: String,
    /// What would have been accepted as `X-Stream-Protocol-Version`.
    accepts: &'static [&'static str],
}

impl Refusal {
    fn new(code: StatusCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            accepts: &[],
        }
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.code, self.message).into_response();
        for protocol in self.accepts {
            let headers = response.headers_mut();
            headers.append(upgrade::ACCEPTED_VERSIONS, HeaderValue::from_static(protocol));
        }
        response
    }
}

/// A container that was asked for.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) key: PodKey,
    pub(crate) pod: Arc<Pod>,
    pub(crate) container: String,
}

impl Server {
    /// Finds a pod on this node.
    fn pod(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        let named = |pod: &&Arc<Pod>| {
            pod.metadata.name.as_deref() == Some(name) && pod.metadata.namespace.as_deref() == Some(namespace)
        };
        self.known.lock().values().find(named).cloned()
    }

    /// Finds a container of a pod on this node.
    pub(crate) fn target(&self, namespace: &str, name: &str, container: &str) -> Result<Target, Refusal> {
        let pod = self.pod(namespace, name);
        let pod = pod.ok_or_else(|| Refusal::not_found(format!("pod \"{name}\" not found on this node")))?;
        if crate::find_container(&pod, container).is_none() {
            return Err(Refusal::not_found(format!(
                "container \"{container}\" not found in pod \"{name}_{namespace}\""
            )));
        }
        let key = PodKey::of(&pod).ok_or_else(|| Refusal::internal("the pod has no uid"))?;
        Ok(Target {
            key,
            pod,
            container: container.to_owned(),
        })
    }

    /// The running attempt of a container, with its pod's sandbox.
    pub(crate) async fn running(&self, target: &Target) -> Result<(Sandboxed, ContainerState), Refusal> {
        let missing = || Refusal::not_found(format!("container \"{}\" is not running", target.container));
        let sandboxed = self.sandboxes.get(&target.key.uid).ok_or_else(missing)?;
        let running = sandboxed.running(&target.container).await.ok_or_else(missing)?;
        Ok((sandboxed, running))
    }
}

#[cfg(test)]
mod tests;
