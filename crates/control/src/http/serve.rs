//! Connections: TLS, who is at the other end, HTTP/1.1 and HTTP/2, and an orderly end.

use super::Stack;
use super::activity::{self, Activity, Place};
use crate::authn::Peer;
use crate::pki::{self, Pair};
use axum::extract::Request;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::CertificateDer;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

/// Connections at a time; more wait in the kernel's queue.
const MOST_CONNECTIONS: usize = 10_000;
/// How long a client may take for the TLS handshake.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(10);
/// How long a request's head may take. hyper counts the wait for the next request on a kept connection as part of it, and
/// clients keep connections for 90 s (Go's default): they have to be the ones who hang up, or a request meets a closing door.
const HEAD_PATIENCE: Duration = Duration::from_secs(120);
/// How long a client may take from the handshake to its first request: a connection that asks nothing takes somebody's place.
const FIRST_PATIENCE: Duration = Duration::from_secs(32);
/// How long a connection may then do nothing. hyper sees to that with HTTP/1, but not with HTTP/2.
const IDLE_PATIENCE: Duration = HEAD_PATIENCE;
/// How long an idle connection may take to end in good order.
const END_PATIENCE: Duration = Duration::from_secs(10);
/// Requests at a time on one HTTP/2 connection. client-go keeps every watch of a process on one.
const MOST_STREAMS: u32 = 1000;
/// How often an HTTP/2 peer that says nothing is asked whether it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Pause after the kernel refused a connection (too many open files).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Why the server cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot listen on {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("the server's certificate or key cannot be used")]
    Certificate(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The TLS side: our certificate, and what we make of clients' certificates.
#[derive(Clone)]
pub(crate) struct Tls {
    acceptor: TlsAcceptor,
    front_proxy_ca: CertificateDer<'static>,
}

/// Makes it. Clients may show a certificate of either CA, or none.
pub(crate) fn tls(server: &Pair, ca_pem: &str, front_proxy_ca_pem: &str) -> Result<Tls, Error> {
    fn bad<E: std::error::Error + Send + Sync + 'static>(error: E) -> Error {
        Error::Certificate(Box::new(error))
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(pki::der(ca_pem).map_err(bad)?).map_err(bad)?;
    let front_proxy_ca = pki::der(front_proxy_ca_pem).map_err(bad)?;
    roots.add(front_proxy_ca.clone()).map_err(bad)?;
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .allow_unauthenticated()
        .build()
        .map_err(bad)?;
    let chain = vec![pki::der(&server.cert_pem).map_err(bad)?];
    let key = pki::key_der(&server.key_pem).map_err(bad)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(bad)?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)
        .map_err(bad)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Tls {
        acceptor: TlsAcceptor::from(Arc::new(config)),
        front_proxy_ca,
    })
}

/// Opens the socket. If any port will do (0) and the one before is free, it is that: those who know it find us again.
pub(crate) async fn listen(address: SocketAddr, before: Option<u16>) -> Result<TcpListener, Error> {
    if let (0, Some(port)) = (address.port(), before)
        && let Ok(listener) = TcpListener::bind(SocketAddr::new(address.ip(), port)).await
    {
        return Ok(listener);
    }
    TcpListener::bind(address)
        .await
        .map_err(|source| Error::Listen { address, source })
}

/// Accepts until `shutdown`; then every connection finishes the requests it has. Connections are counted by `tasks`.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Tls,
    stack: Stack,
    tasks: TaskTracker,
    shutdown: CancellationToken,
) {
    let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let accepted = async {
            let permit = Arc::clone(&room).acquire_owned().await;
            (listener.accept().await, permit)
        };
        let (accepted, permit) = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                // A token of its own: one that is shared would be a lock that all connections take whenever they do anything.
                let (tls, stack, shutdown) = (tls.clone(), stack.clone(), shutdown.child_token());
                let counted = tasks.token();
                tasks.spawn(async move {
                    let Ok(permit) = permit else { return };
                    let place = Place {
                        _permit: permit,
                        _counted: counted,
                    };
                    connection(stream, peer, place, tls, stack, shutdown)
                        .await
                        .unwrap_or_else(|error| tracing::debug!(%peer, error = &*error, "a connection ended badly"));
                });
            }
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(
    stream: TcpStream,
    address: SocketAddr,
    place: Place,
    tls: Tls,
    stack: Stack,
    shutdown: CancellationToken,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    // Answers are written whole; waiting for more to put into a packet only makes watches late.
    stream.set_nodelay(true)?;
    let stream = tokio::time::timeout(HANDSHAKE_PATIENCE, tls.acceptor.accept(stream)).await??;
    let peer = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|chain| Peer::of_certificate(chain.first()?, &tls.front_proxy_ca));
    let activity = Arc::new(Activity::new(place));
    let service = stack.map_request(move |mut request: Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(super::Peer(address));
        if let Some(peer) = &peer {
            request.extensions_mut().insert(peer.clone());
        }
        request
    });
    let service = activity::Counted::new(service, Arc::clone(&activity));
    let builder = builder();
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(service));
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        biased;
        result = connection.as_mut() => return result,
        () = shutdown.cancelled() => connection.as_mut().graceful_shutdown(),
        () = activity.ceased(FIRST_PATIENCE, IDLE_PATIENCE) => {
            // Whoever never asked, or does not even notice that it is over, is cut.
            if activity.was_used() {
                connection.as_mut().graceful_shutdown();
                let _ = tokio::time::timeout(END_PATIENCE, connection).await;
            }
            return Ok(());
        }
    }
    connection.await
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .max_concurrent_streams(MOST_STREAMS)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .max_send_buf_size(256 << 10);
    builder
}
