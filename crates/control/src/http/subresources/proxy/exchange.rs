//! One request and its answer, from connection to connection. Bodies pass as they come; an upgraded connection byte by byte.

use super::super::super::node_proxy::{Place, tunnel};
use super::super::super::resource::Call;
use super::super::super::session::Session;
use super::rewrite::{self, Split};
use crate::tls;
use crate::webhook_client;
use axum::body::Body;
use axum::response::Response;
use catamaran_api::Status;
use http::{HeaderValue, Method, Request, StatusCode, header};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long the connection may take.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// Where a request goes.
pub(super) enum Destination {
    Plain(Host),
    /// Whose certificate is not checked: pods have none that this server could know.
    Tls(Host),
    /// The agent of a node, which is known.
    Node(Place),
}

/// A machine or a pod: how it is called, and where it was found.
pub(super) struct Host {
    name: String,
    /// Checked: nothing else is dialled, whatever the name stands for.
    addresses: Vec<IpAddr>,
    port: u16,
}

impl Host {
    async fn dial(&self) -> Result<TcpStream, Failure> {
        let addresses: Vec<SocketAddr> = self
            .addresses
            .iter()
            .map(|address| (*address, self.port).into())
            .collect();
        let stream = TcpStream::connect(addresses.as_slice()).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

impl Destination {
    pub(super) fn new(https: bool, name: String, addresses: Vec<IpAddr>, port: i32) -> Result<Self, Status> {
        let port = u16::try_from(port).map_err(|_| Status::bad_request(format!("invalid port {port}")))?;
        let host = Host { name, addresses, port };
        Ok(if https {
            Destination::Tls(host)
        } else {
            Destination::Plain(host)
        })
    }

    fn authority(&self) -> String {
        let (host, port) = match self {
            Destination::Plain(host) | Destination::Tls(host) => (&host.name, host.port),
            Destination::Node(place) => (&place.address, place.port),
        };
        if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        }
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The path of the request: up to `proxy`, and what follows.
pub(super) fn path_of<'a>(call: &'a Call<'_>) -> rewrite::Split<'a> {
    let depth = if call.target.namespace.is_some() { 7 } else { 5 };
    rewrite::split(call.head.uri.path(), depth)
}

/// Passes the request on, and its answer back.
pub(super) async fn pass_on(
    call: &Call<'_>,
    destination: &Destination,
    path: &Split<'_>,
    body: Body,
) -> Result<Response, Status> {
    let head = &call.head;
    let upgrade = head
        .extensions
        .get::<OnUpgrade>()
        .cloned()
        .filter(|_| head.headers.contains_key(header::UPGRADE));
    if path.below.is_empty() && upgrade.is_none() && matches!(head.method, Method::GET | Method::HEAD) {
        return redirect(call);
    }
    let request = request(call, destination, path, upgrade.is_some(), body)?;
    let unreachable = |error: &Failure| {
        Status::service_unavailable(format!(
            "error trying to reach service: {}",
            webhook_client::detail(error.as_ref())
        ))
    };
    let mut sender = connect(call, destination).await.map_err(|error| unreachable(&error))?;
    let mut response = sender
        .send_request(request)
        .await
        .map_err(|error| unreachable(&error.into()))?;
    let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = response.status();
    *answer.headers_mut() = rewrite::response_headers(response.headers(), switched);
    if let Some(target) = answer
        .headers()
        .get(header::LOCATION)
        .and_then(|value| value.to_str().ok())
        && let Ok(target) = HeaderValue::from_str(&rewrite::location(target, &destination.authority(), path.prefix))
    {
        answer.headers_mut().insert(header::LOCATION, target);
    }
    match upgrade {
        Some(client) if switched => {
            let backend = hyper::upgrade::on(&mut response);
            let shutdown = call.app.registry.shutdown.clone();
            Session::of(&head.extensions).run(&mut answer, tunnel(client, backend), shutdown);
        }
        _ => *answer.body_mut() = Body::new(response.into_body()),
    }
    Ok(answer)
}

/// Relative links only work below a slash.
fn redirect(call: &Call<'_>) -> Result<Response, Status> {
    let uri = &call.head.uri;
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let target = format!("{}/{query}", uri.path());
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::MOVED_PERMANENTLY;
    let target = HeaderValue::from_str(&target).map_err(Status::internal)?;
    answer.headers_mut().insert(header::LOCATION, target);
    Ok(answer)
}

fn request(
    call: &Call<'_>,
    destination: &Destination,
    path: &Split<'_>,
    upgrades: bool,
    body: Body,
) -> Result<Request<Body>, Status> {
    let head = &call.head;
    let below = if path.below.is_empty() { "/" } else { path.below };
    let query = head.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut request = Request::new(body);
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = format!("{below}{query}")
        .parse()
        .map_err(|error| Status::bad_request(format!("the path cannot be passed on: {error}")))?;
    *request.headers_mut() = rewrite::request_headers(&head.headers, upgrades);
    let headers = request.headers_mut();
    let forwarded = format!("{}{}", path.prefix, path.below);
    if let Ok(forwarded) = HeaderValue::from_str(&forwarded) {
        headers.insert("x-forwarded-uri", forwarded);
    }
    if !headers.contains_key(header::HOST) {
        let host = head.uri.authority().map(ToString::to_string);
        let host = host.unwrap_or_else(|| destination.authority());
        headers.insert(header::HOST, HeaderValue::from_str(&host).map_err(Status::internal)?);
    }
    Ok(request)
}

async fn connect(call: &Call<'_>, destination: &Destination) -> Result<SendRequest<Body>, Failure> {
    let connecting = async {
        match destination {
            Destination::Node(place) => call.app.nodes.connect(place).await,
            Destination::Plain(host) => start(host.dial().await?).await,
            Destination::Tls(host) => {
                let stream = host.dial().await?;
                let name = ServerName::try_from(host.name.clone())?;
                start(TlsConnector::from(tls::trusting()?).connect(name, stream).await?).await
            }
        }
    };
    match tokio::time::timeout(CONNECT_PATIENCE, connecting).await {
        Ok(result) => result.map_err(|error| {
            format!(
                "dial tcp {}: {}",
                destination.authority(),
                webhook_client::detail(&*error)
            )
            .into()
        }),
        Err(_) => Err(format!("dial tcp {}: i/o timeout", destination.authority()).into()),
    }
}

async fn start<S>(stream: S) -> Result<SendRequest<Body>, Failure>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Lives as long as the exchange that uses it.
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "a proxied connection ended badly"
            );
        }
    });
    Ok(sender)
}
