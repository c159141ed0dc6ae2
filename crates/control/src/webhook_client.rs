//! Calls to other people's HTTPS servers that take part in a request: admission webhooks, conversion of custom resources.
//!
//! Every configuration (address and CA bundle) has an HTTP client of its own that keeps connections open, because a webhook is
//! called on every write that it matches. A service is looked up whenever a connection is opened; what its server has to prove
//! is always the name `<service>.<namespace>.svc`.
//!
//! Errors read as Kubernetes' do, for users search the web for them:
//! `Post "https://hook.ns.svc:443/x?timeout=10s": dial tcp 10.0.0.1:443: connect: connection refused`.

mod services;
mod trust;

#[cfg(test)]
use services::place_of;
pub(crate) use services::{Place, RegistryServices, ServiceResolver};
pub(crate) use trust::{client_config, detail, dial_failed};

use crate::tls::Secured;
use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use rustls_pki_types::ServerName;
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::error::Error as StdError;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// At most this many configurations keep connections.
const MAX_CLIENTS: usize = 200;
/// Idle connections kept per configuration.
const MAX_IDLE: usize = 25;
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);
/// The longest answer that is read.
const MAX_ANSWER: usize = 64 << 20;
const DIAL_TIMEOUT: Duration = Duration::from_secs(30);

/// Whom to call: `WebhookClientConfig` of the API, in its three places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientConfig {
    pub(crate) endpoint: Endpoint,
    /// PEM; empty means the roots this machine trusts.
    pub(crate) ca_bundle: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Url(String),
    Service {
        namespace: String,
        name: String,
        /// Empty, or starts with a slash.
        path: String,
        port: u16,
    },
}

/// Why a call brought no answer. `Display` is what comes behind `failed to call webhook: `.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// The configuration cannot be used at all; no request was made.
    #[error("{0}")]
    Config(String),
    #[error("Post \"{url}\": {detail}")]
    Transport { url: String, detail: String },
    #[error("Post \"{url}\": context deadline exceeded")]
    Timeout { url: String },
    /// The server answered, but with an error.
    #[error("{message}")]
    Answer { code: u16, message: String },
}

/// Calls webhooks. One for the server, shared.
pub(crate) struct WebhookClient {
    services: Arc<dyn ServiceResolver>,
    clients: Mutex<HashMap<[u8; 32], Arc<Pool>>>,
}

struct Pool {
    client: Client<Connector, Full<Bytes>>,
    /// Scheme, authority and path; the query is added per call.
    base: String,
}

impl WebhookClient {
    pub(crate) fn new(services: Arc<dyn ServiceResolver>) -> Self {
        WebhookClient {
            services,
            clients: Mutex::default(),
        }
    }

    /// Posts a JSON body and returns the body of the answer. `timeout` spans everything from dialling to the last byte.
    pub(crate) async fn call(&self, config: &ClientConfig, body: Bytes, timeout: Duration) -> Result<Bytes, CallError> {
        let pool = self.pool(config)?;
        let separator = if pool.base.contains('?') { '&' } else { '?' };
        let seconds = timeout.as_secs() + u64::from(timeout.subsec_nanos() > 0);
        let url = format!("{}{separator}timeout={seconds}s", pool.base);
        match tokio::time::timeout(timeout, pool.exchange(&url, body)).await {
            Ok(answer) => answer,
            Err(_) => Err(CallError::Timeout { url }),
        }
    }

    fn pool(&self, config: &ClientConfig) -> Result<Arc<Pool>, CallError> {
        let key = config.digest();
        if let Some(pool) = self.clients.lock().get(&key) {
            return Ok(Arc::clone(pool));
        }
        let pool = Arc::new(Pool::new(config, Arc::clone(&self.services))?);
        let mut clients = self.clients.lock();
        if clients.len() >= MAX_CLIENTS {
            // Configurations change rarely; whoever is still in use comes back with its next call.
            clients.clear();
        }
        clients.insert(key, Arc::clone(&pool));
        Ok(pool)
    }
}

impl std::fmt::Debug for WebhookClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebhookClient").finish_non_exhaustive()
    }
}

impl ClientConfig {
    fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        match &self.endpoint {
            Endpoint::Url(url) => hash.update(url),
            Endpoint::Service {
                namespace,
                name,
                path,
                port,
            } => hash.update(format!("{namespace}\0{name}\0{port}\0{path}")),
        }
        hash.update([0]);
        hash.update(&self.ca_bundle);
        hash.finalize().into()
    }
}

impl Pool {
    fn new(config: &ClientConfig, services: Arc<dyn ServiceResolver>) -> Result<Pool, CallError> {
        let (base, server_name, service, http2) = match &config.endpoint {
            Endpoint::Service {
                namespace,
                name,
                path,
                port,
            } => {
                let host = format!("{name}.{namespace}.svc");
                let place = (namespace.clone(), name.clone(), *port);
                // Without HTTP/2: its one connection would send every call to the same backend.
                (
                    format!("https://{host}:{port}{}", rooted(path)),
                    host,
                    Some(place),
                    false,
                )
            }
            Endpoint::Url(url) => {
                let unparsable = |why: String| CallError::Config(format!("Unparsable URL: {why}"));
                let uri: Uri = url
                    .parse()
                    .map_err(|error: http::uri::InvalidUri| unparsable(error.to_string()))?;
                if uri.scheme_str() != Some("https") {
                    return Err(unparsable(format!("{url}: the scheme must be https")));
                }
                let host = uri
                    .host()
                    .ok_or_else(|| unparsable("no host".to_owned()))?
                    .trim_matches(['[', ']'])
                    .to_owned();
                let local = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
                (url.trim_end_matches('?').to_owned(), host, None, local)
            }
        };
        let name = ServerName::try_from(server_name).map_err(|error| CallError::Config(error.to_string()))?;
        let tls = trust::client_config(&config.ca_bundle, http2).map_err(CallError::Config)?;
        let connector = Connector {
            tls: TlsConnector::from(Arc::new(tls)),
            name,
            service,
            services,
        };
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(MAX_IDLE)
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .build(connector);
        Ok(Pool { client, base })
    }

    async fn exchange(&self, url: &str, body: Bytes) -> Result<Bytes, CallError> {
        let transport = |error: &(dyn StdError + 'static)| CallError::Transport {
            url: url.to_owned(),
            detail: trust::detail(error),
        };
        let request = Request::post(url)
            .header(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .header(header::ACCEPT, HeaderValue::from_static("application/json, */*"))
            .header(header::USER_AGENT, HeaderValue::from_static("kube-apiserver-admission"))
            .body(Full::new(body))
            .map_err(|error| CallError::Config(error.to_string()))?;
        let response = self.client.request(request).await.map_err(|error| transport(&error))?;
        let status = response.status();
        let mut incoming = response.into_body();
        let mut answer = BytesMut::new();
        while let Some(frame) = incoming.frame().await {
            let frame = frame.map_err(|error| transport(&error))?;
            if let Some(data) = frame.data_ref() {
                if answer.len() + data.len() > MAX_ANSWER {
                    return Err(CallError::Transport {
                        url: url.to_owned(),
                        detail: format!("the answer is longer than {MAX_ANSWER} bytes"),
                    });
                }
                answer.extend_from_slice(data);
            }
        }
        if (200..=206).contains(&status.as_u16()) {
            return Ok(answer.freeze());
        }
        Err(refused(status, &answer))
    }
}

/// The error of an answer that is none: the `Status` in it, or what Kubernetes' client says of such a code.
fn refused(status: StatusCode, body: &[u8]) -> CallError {
    let code = status.as_u16();
    if let Ok(value) = serde_json::from_slice::<serde_json::Value>(body)
        && value["kind"] == "Status"
        && let Some(message) = value["message"].as_str().filter(|message| !message.is_empty())
    {
        return CallError::Answer {
            code,
            message: message.to_owned(),
        };
    }
    let text = String::from_utf8_lossy(&body[..body.len().min(2048)]).trim().to_owned();
    let message = match code {
        400 => "the server rejected our request for an unknown reason".to_owned(),
        401 => "the server has asked for the client to provide credentials".to_owned(),
        403 if text.is_empty() => "forbidden".to_owned(),
        403 => text,
        404 => "the server could not find the requested resource".to_owned(),
        405 => "the server does not allow this method on the requested resource".to_owned(),
        409 => "the server reported a conflict".to_owned(),
        413 => format!("Request entity too large: {text}"),
        429 => "the server has received too many requests and has asked us to try again later".to_owned(),
        503 => "the server is currently unable to handle the request".to_owned(),
        504 => {
            "the server was unable to return a response in the time allotted, but may still be processing the request"
                .to_owned()
        }
        500.. => format!("an error on the server ({text:?}) has prevented the request from succeeding"),
        _ => format!("the server responded with the status code {code} but did not return more information"),
    };
    CallError::Answer { code, message }
}

fn rooted(path: &str) -> String {
    if path.is_empty() || path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    }
}

/// Opens TLS connections for one configuration.
#[derive(Clone)]
struct Connector {
    tls: TlsConnector,
    name: ServerName<'static>,
    /// Namespace, name and port of the service; the URL's own authority otherwise.
    service: Option<(String, String, u16)>,
    services: Arc<dyn ServiceResolver>,
}

impl Connector {
    async fn connect(self, uri: Uri) -> Result<TokioIo<Secured>, io::Error> {
        let place = match &self.service {
            Some((namespace, name, port)) => self
                .services
                .resolve(namespace, name, *port)
                .map_err(io::Error::other)?,
            None => Place {
                host: uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned(),
                port: uri.port_u16().unwrap_or(443),
            },
        };
        let dial = tokio::time::timeout(DIAL_TIMEOUT, TcpStream::connect((place.host.as_str(), place.port)));
        let stream = match dial.await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(io::Error::other(trust::dial_failed(&place, &error))),
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
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, io::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

#[cfg(test)]
mod tests;
