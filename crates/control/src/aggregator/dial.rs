//! Connections to other servers: a service is looked up whenever one is opened, and kept open for the next request.

use super::Target;
use super::authentication::FrontProxy;
use crate::webhook_client::{self, RegistryServices, ServiceResolver as _};
use axum::body::Body;
use http::Uri;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

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
        let any = AnyCertificate::new(&tls);
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

/// A TLS stream as the HTTP client wants it.
pub(super) struct Secured(TlsStream<TcpStream>);

impl Connection for Secured {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Secured {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Secured {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// `insecureSkipTLSVerify`: whoever answers is believed, as the APIService's author asked for.
#[derive(Debug)]
struct AnyCertificate {
    provider: Arc<rustls::crypto::CryptoProvider>,
}

impl AnyCertificate {
    fn new(config: &ClientConfig) -> Self {
        AnyCertificate {
            provider: Arc::clone(config.crypto_provider()),
        }
    }
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
