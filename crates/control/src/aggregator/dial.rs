//! Connections to other servers: a service is looked up whenever one is opened, and kept open for the next request.

use super::Target;
use super::authentication::FrontProxy;
use crate::tls::{AnyCertificate, Secured};
use crate::webhook_client::{self, RegistryServices, ServiceResolver as _};
use axum::body::Body;
use http::Uri;
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls_pki_types::ServerName;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Idle connections kept per server.
const MAX_IDLE: usize = 25;
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);
const DIAL_TIMEOUT: Duration = Duration::from_secs(30);

/// Requests to one server; or why there can be none.
pub(super) type Client = Result<legacy::Client<Connector, Body>, String>;

/// HTTP/1.1, so that every connection can be upgraded and calls spread over the server's pods.
pub(super) fn client(target: &Target, front_proxy: &FrontProxy, services: &Arc<RegistryServices>) -> Client {
    let mut tls = webhook_client::client_config(&target.ca_bundle, false)?;
    tls.client_auth_cert_resolver = front_proxy.certificate();
    if target.insecure {
        // `insecureSkipTLSVerify`: whoever answers is believed, as the APIService's author asked for.
        let any = AnyCertificate::new(Arc::clone(tls.crypto_provider()));
        tls.dangerous().set_certificate_verifier(Arc::new(any));
    }
    let name = ServerName::try_from(target.host()).map_err(|error| error.to_string())?;
    let connector = Connector {
        tls: TlsConnector::from(Arc::new(tls)),
        name,
        service: (target.namespace.clone(), target.service.clone(), target.port),
        services: Arc::clone(services),
    };
    Ok(legacy::Client::builder(TokioExecutor::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(MAX_IDLE)
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .build(connector))
}

/// Opens connections to one service.
#[derive(Clone)]
pub(super) struct Connector {
    tls: TlsConnector,
    name: ServerName<'static>,
    /// Namespace, name and port.
    service: (String, String, u16),
    services: Arc<RegistryServices>,
}

impl Connector {
    async fn connect(self) -> io::Result<TokioIo<Secured>> {
        let (namespace, name, port) = &self.service;
        let place = self
            .services
            .resolve(namespace, name, *port)
            .map_err(io::Error::other)?;
        let dial = TcpStream::connect((place.host.as_str(), place.port));
        let stream = match tokio::time::timeout(DIAL_TIMEOUT, dial).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(io::Error::other(webhook_client::dial_failed(&place, &error))),
            Err(_) => return Err(io::Error::other(format!("dial tcp {place}: i/o timeout"))),
        };
        stream.set_nodelay(true)?;
        let stream = self.tls.connect(self.name, stream).await?;
        Ok(TokioIo::new(Secured(stream)))
    }
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<Secured>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        Box::pin(self.clone().connect())
    }
}
